"""The corpus: about 1,100 subjects, each drawn in four openly licensed picture sets, with English names.

Everything comes from npm packages, pinned below, fetched once by the ordinary `npm` client into `training/.cache/npm`,
rasterised once and kept as one array file. Licences: Fluent Emoji MIT, Noto Emoji Apache-2.0, Twemoji CC-BY 4.0,
names MIT (`assets/models/sketchbook/NOTICE` has the attribution).
"""

from __future__ import annotations

import io
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CACHE = Path(__file__).parent / ".cache"
PACKAGES = {
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/twemoji": "1.2.5",
    "unicode-emoji-json": "0.9.0",
    "emojilib": "4.0.3",
}
STYLES = {  # the word in a caption → the package whose pictures look like that
    "3d render": "@lobehub/fluent-emoji-3d",
    "flat illustration": "@iconify-json/fluent-emoji-flat",
    "cartoon": "@iconify-json/noto",
    "sticker": "@iconify-json/twemoji",
}
PICTURE_SIZE = 128
"""Side in pixels of a stored subject; raise it with the model's picture size."""
LEFT_OUT_GROUPS = {"Flags", "Symbols", "Component"}
LEFT_OUT_NAMES = re.compile(
    r"o’clock|-thirty|^(man|woman|men|women)\b|skin tone|^(family|kiss|couple with heart)\b|facing right|holding hands"
)


@dataclass(frozen=True)
class Subject:
    """One thing that can be drawn. `words` are what a caption may call it, the usual one first."""

    emoji: str
    name: str
    words: tuple[str, ...]
    common: bool


@dataclass(frozen=True)
class Corpus:
    """`pictures[style]` is uint8 RGBA, (subjects, PICTURE_SIZE, PICTURE_SIZE, 4); all zero where a set lacks one."""

    subjects: list[Subject]
    pictures: dict[str, np.ndarray]

    def styles_of(self, index: int) -> list[str]:
        """The styles in which subject `index` has a picture."""
        return [style for style, pictures in self.pictures.items() if pictures[index, ..., 3].any()]


NAMED = Path(__file__).parent / "subjects.txt"
NEXT = "# === next"
"""The line of `subjects.txt` below which subjects are named, but not yet among the common ones."""


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
    """All subjects of the corpus, common ones marked, with names and those synonyms that mean no other subject."""
    names = json.loads((modules / "unicode-emoji-json/data-by-emoji.json").read_text())
    keywords = json.loads((modules / "emojilib/dist/emoji-en-US.json").read_text())
    text = NAMED.read_text()
    named, common = read_named(text), read_named(text.partition(NEXT)[0])
    kept = {}
    for emoji, entry in names.items():
        wanted = entry["group"] not in LEFT_OUT_GROUPS and not LEFT_OUT_NAMES.search(entry["name"])
        if wanted or entry["name"] in named:
            kept[emoji] = entry["name"]
    missing = set(named) - set(kept.values())
    if missing:
        raise ValueError(f"subjects.txt names what the corpus does not have: {sorted(missing)}")
    taken = {word for words in named.values() for word in words} | {name.lower() for name in kept.values()}
    uses: dict[str, int] = {}
    for emoji in kept:
        for word in keywords.get(emoji, []):
            uses[word] = uses.get(word, 0) + 1
    subjects = []
    for emoji, name in kept.items():
        words = named.get(name) or (
            name.lower(),
            *[w for w in keywords.get(emoji, []) if uses[w] == 1 and w not in taken and re.fullmatch("[a-z]{3,}", w)][
                :3
            ],
        )
        subjects.append(Subject(emoji, name, words, name in common))
    return subjects


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


def load_corpus(cache: Path = CACHE) -> Corpus:
    """The corpus from its cache, made first where there is none."""
    path = cache / f"corpus-{PICTURE_SIZE}.npz"
    subjects = list_subjects(fetch_packages(cache / "npm"))
    if not path.exists():
        np.savez_compressed(path, names=[s.name for s in subjects], **rasterise(cache / "npm/node_modules", subjects))
    stored = np.load(path)
    if stored["names"].tolist() != [s.name for s in subjects]:
        raise ValueError(f"{path} was made from another list of subjects: delete it, and it is made again")
    return Corpus(subjects, {style: stored[style] for style in STYLES})
