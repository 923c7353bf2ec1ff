"""LoRAs, embeddings and other files beside a model: what the prompt says of them, and what is on disk.

A prompt names LoRAs as stable-diffusion-webui does: `<lora:name>`, `<lora:name:0.8>`, `<lora:name:text:unet>` with a
weight for the text encoders and one for the denoiser, or `<lora:name:te=0.5:unet=0.8>`
(extensions-builtin/Lora there). An embedding is named by its file's name anywhere in the prompt, or as ComfyUI does it,
`embedding:name`.
"""

import contextlib
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from studio import disk
from studio.errors import ModelBroken, ModelUnsafe, RecipeError
from studio.models import headers
from studio.models.files import PICKLES, read_json

MAX_WEIGHT = 20.0

_TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>", re.IGNORECASE)
_NAMED = ("te", "unet", "dyn")
"""What can be named in a tag. The last is a rank, which nothing here makes use of."""
_ENDING = r"\.(?:safetensors|pt|bin|ckpt)"
_ASKED = re.compile(r"(?<![\w-])embedding:([^\s,:()\[\]<>]{1,200})", re.IGNORECASE)
_HEADER_LIMIT = 25_000_000

ENCODERS = {"clip_l": "", "clip_g": "_2"}
"""What the two encoders of SDXL are called in an embedding's file, and in the names of a model's parts."""


@dataclass(frozen=True, slots=True)
class File:
    """An add-on on disk. `changed` tells a file from another that came later under the same path."""

    name: str
    path: Path
    changed: int = 0

    @classmethod
    def of(cls, name: str, path: Path) -> "File":
        try:
            return cls(name, path, path.stat().st_mtime_ns)
        except OSError:
            raise RecipeError(f"{name} is not in the models folder any more. Put it back, or leave it out.") from None


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that a prompt asks for: its name, and its weights in the text encoders and in the denoiser.

    file: where it is, once it was looked up.
    """

    name: str
    text: float = 1.0
    denoiser: float = 1.0
    file: File | None = None


# What a prompt says


def split(text: str) -> tuple[str, tuple[Lora, ...]]:
    """The prompt without its LoRA tags, and the LoRAs in the order of their first tags. Raises RecipeError.

    What a tag stood between is left as it is, so that a prompt with a tag reads as the same prompt without. A LoRA that
    is named twice has the sum of its weights.
    """
    found: dict[str, Lora] = {}
    for match in _TAG.finditer(text):
        lora = _read(match[1], match[0])
        before = found.get(lora.name, Lora(lora.name, 0.0, 0.0))
        found[lora.name] = Lora(lora.name, before.text + lora.text, before.denoiser + lora.denoiser)
    if not found:
        return text, ()
    return re.sub(r"[ \t]*" + _TAG.pattern, "", text, flags=re.IGNORECASE).strip(), tuple(found.values())


def _read(inside: str, tag: str) -> Lora:
    name, *rest = (part.strip() for part in inside.split(":"))
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    if not name:
        raise RecipeError(f"{tag[:60]} names no LoRA. Write, say, <lora:name:0.8>.", "prompt")
    text = _weight(named.get("te", plain[0] if plain else "1"), tag)
    # A third number is a rank in webui's tags, which nothing here makes use of.
    return Lora(name, text, _weight(named.get("unet", plain[1] if len(plain) > 1 else str(text)), tag))


def with_hashes(text: str, hashes: Mapping[str, str]) -> str:
    """The prompt with the hash of each LoRA in its tag, `<lora:ink:0.8:hash=…>`, for `named_here`. hashes: by name."""

    def told(tag: re.Match[str]) -> str:
        digits = hashes.get(tag[1].partition(":")[0].strip())
        return f"{tag[0][:-1]}:hash={digits}>" if digits else tag[0]

    return _TAG.sub(told, text)


def named_here(text: str, name_of: Callable[[str, str], str]) -> str:
    """The prompt in which LoRAs that have a hash in their tags are called by what `name_of` a name and a hash is."""

    def anew(tag: re.Match[str]) -> str:
        name, *rest = tag[1].split(":")
        digits = next((each.removeprefix("hash=") for each in rest if each.startswith("hash=")), "")
        rest = [each for each in rest if not each.startswith("hash=")]
        return f"<lora:{':'.join([name_of(name.strip(), digits), *rest])}>" if digits else tag[0]

    return _TAG.sub(anew, text)


def _weight(text: str, tag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise RecipeError(f"{text[:40]!r} in {tag[:60]} is no weight. Write, say, <lora:name:0.8>.", "prompt") from None
    if not abs(value) <= MAX_WEIGHT:
        raise RecipeError(
            f"The weight {text[:40]} in {tag[:60]} is out of range. Use -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}.", "prompt"
        )
    return value


def remark(negative_prompt: str) -> str:
    """A sentence on tags that have no effect; empty if there are none."""
    _, loras = split(negative_prompt)
    names = ", ".join(lora.name for lora in loras)
    return f"In the negative prompt a LoRA has no effect: {names} is left out." if names else ""


def remarks(text: str) -> list[str]:
    """What is said in tags and is not read, as remarks under the prompt."""
    named = [part.partition("=") for tag in _TAG.finditer(text) for part in tag[1].split(":")[1:]]
    other = dict.fromkeys(name.strip() for name, sign, _ in named if sign and name.strip() not in _NAMED)
    return [f"{name[:40]}= in a LoRA's tag has no effect" for name in other]


def embeddings_in(
    texts: Iterable[str],
    found: Mapping[str, Path],
    allow_pickles: bool = False,
    fits: Callable[[Path], bool] = lambda path: True,
) -> tuple[File, ...]:
    """The embeddings that stand in the texts by the last part of their names, longest first, in any case.

    fits: whether one can belong to the model. What cannot is a word like any other, unless it says `embedding:`.
    Raises ModelUnsafe for a pickle.
    """
    files = []
    for name, is_asked in _named(texts, found):
        if is_asked or fits(found[name]):
            files.append(replace(chosen(name, found, "embedding", allow_pickles), name=Path(name).name))
    return tuple(files)


def embedding_remarks(text: str, found: Mapping[str, Path], fits: Callable[[Path], bool]) -> list[str]:
    """Which words of the prompt are embeddings, or only bear the name of one, as remarks under the prompt."""
    named = [(Path(name).name, is_asked or fits(found[name])) for name, is_asked in _named([text], found)]
    used, words = ([name for name, is_used in named if is_used is wanted] for wanted in (True, False))
    there = {Path(name).name.lower() for name in found}
    asked = (_last(_without_ending(match[1])) for match in _ASKED.finditer(text))
    missing = dict.fromkeys(name for name in asked if name.lower() not in there)
    return [
        *([f"with the embedding{'s' * (len(used) > 1)} {', '.join(used)}"] if used else []),
        *(f"{name} is a word: the embedding of that name is for other models" for name in words),
        *(f"there is no embedding {name[:40]}: it is read as words" for name in missing),
    ]


def _named(texts: Iterable[str], found: Mapping[str, Path]) -> Iterable[tuple[str, bool]]:
    """The names of embeddings that stand in the texts, longest first, and whether it says `embedding:` before one."""
    text = "\n".join(texts)
    for name in sorted(found, key=lambda name: (-len(Path(name).name), name)):
        if Path(name).name.lower() not in text.lower():
            continue  # of thousands most are not there, and a search for words is slow
        word = _as_word(Path(name).name)
        asked = [match["asked"] is not None for match in word.finditer(text)]
        if asked:
            text = word.sub(" ", text)
            yield name, any(asked)


def replaced(text: str, words: Mapping[str, str]) -> str:
    """The text with the names of embeddings replaced, longest first."""
    for name in sorted(words, key=lambda name: (-len(name), name)):
        text = _as_word(name).sub(lambda _, word=words[name]: word, text)  # type: ignore[misc]
    return text


def _as_word(name: str) -> re.Pattern[str]:
    asked = rf"(?P<asked>embedding:)(?:[^\s,:()\[\]]{{0,200}}[/\\])?{re.escape(name)}(?:{_ENDING})?"
    return re.compile(rf"(?<![\w-])(?:{asked}|{re.escape(name)})(?![\w-])", re.IGNORECASE)


def belongs(config: Path) -> Callable[[Path], bool]:
    """Whether an embedding can belong to the model whose configs lie in this folder, by the widths of its vectors.

    What cannot be told counts as belonging, and is refused with a reason when it is read.
    """
    widths = {}
    for number in ENCODERS.values():
        with contextlib.suppress(ModelBroken):
            widths[number] = read_json(config / f"text_encoder{number}" / "config.json").get("hidden_size")
    return lambda path: not widths or (found := _widths(path)) is None or found == widths


def _widths(path: Path) -> dict[str, int] | None:
    """The width of an embedding's vectors for a model's first text encoder, "", and its second, "_2"."""
    try:
        shapes = {name: tensor.shape for name, tensor in headers.read(path).tensors.items() if tensor.shape}
    except ModelBroken:
        return None
    if shapes.keys() <= ENCODERS.keys():
        return {ENCODERS[name]: shape[-1] for name, shape in shapes.items()}
    # One tensor may have any name. With several it is for text encoders that are none of CLIP's.
    return {"": next(iter(shapes.values()))[-1]} if len(shapes) == 1 else {}


# What is on disk


def chosen(name: str, found: Mapping[str, Path], what: str, allow_pickles: bool = False) -> File:
    """The add-on that is meant: by its name or the last part of it, in any case, or by its trainer's name for it.

    A name may be written with its file's ending, and as a path on Windows.
    Raises RecipeError with the names that there are, ModelUnsafe for a pickle.
    """
    match = next(_matching(name, found), None)
    if match is None:
        raise RecipeError(f"There is no {what} named {name[:80]!r}; there are: {_listing(found)}.")
    path = found[match]
    if path.suffix.lower() in PICKLES and not allow_pickles:
        raise ModelUnsafe(f"{path.name} is a pickle, which could run any code. Use a .safetensors version of it.")
    return File.of(match, path)


def located(loras: Iterable[Lora], found: Mapping[str, Path]) -> tuple[Lora, ...]:
    """The LoRAs with their files; those of no weight at all left out. Raises as `chosen` does.

    One that is named in two ways has the sum of its weights, as one that is named twice.
    """
    by_file: dict[File, Lora] = {}
    for lora in loras:
        file = chosen(lora.name, found, "LoRA")
        before = by_file.get(file, Lora(lora.name, 0.0, 0.0))
        by_file[file] = Lora(before.name, before.text + lora.text, before.denoiser + lora.denoiser, file)
    return tuple(lora for lora in by_file.values() if lora.text or lora.denoiser)


def _matching(name: str, found: Mapping[str, Path]) -> Iterator[str]:
    """The names in `found` that could be meant, the likeliest first. They are looked for one way after the other."""
    if name in found:
        yield name
    path = name.replace("\\", "/").lower()
    for asked in dict.fromkeys((path, _without_ending(path))):
        yield from (each for each in found if each.lower() == asked)
        yield from (each for each in found if _last(each).lower() == _last(asked))
    # Reads headers.
    yield from (each for each, path in found.items() if told(path).name in (name, _without_ending(name)))


def _without_ending(name: str) -> str:
    return re.sub(rf"{_ENDING}$", "", name, flags=re.IGNORECASE)


def _last(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more if names else "none"


def header(path: Path) -> dict[str, str]:
    """The metadata in a safetensors file's header; empty if there is none to be read."""
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        with disk.opened(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(os.fstat(file.fileno()).st_size - 8, _HEADER_LIMIT):
                return {}
            found = json.loads(file.read(length)).get("__metadata__") or {}
        return {str(name): value for name, value in found.items() if isinstance(value, str)}
    except (OSError, ValueError, AttributeError, RecursionError, struct.error):
        return {}


@dataclass(frozen=True, slots=True)
class Told:
    """What a LoRA's trainer noted in its header: its name, what it was made for, and the words it was trained on.

    hash: `sshs_model_hash`, the SHA-256 of the file without its header, in hexadecimal digits.
    """

    name: str = ""
    base: str = ""
    words: tuple[str, ...] = ()
    hash: str = ""


def told(path: Path) -> Told:
    """What the header says; read again only when the file has changed. Empty where it says nothing."""
    try:
        state = path.stat()
    except OSError:
        return Told()
    return _told(path, state.st_size, state.st_mtime_ns)


@lru_cache(50_000)
def _told(path: Path, size: int, changed: int) -> Told:
    metadata = header(path)
    base = metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture", "").partition("/")[0]
    digits = metadata.get("sshs_model_hash", "").removeprefix("0x").lower()
    return Told(metadata.get("ss_output_name", ""), base, tuple(_triggers(metadata)), digits)


def _triggers(metadata: Mapping[str, str], most: int = 8) -> list[str]:
    """The words that a LoRA was trained on, the most frequent first.

    Read from `modelspec.trigger_phrase`, else from kohya's `ss_tag_frequency`: a table of tags for each data set.
    """
    if phrase := metadata.get("modelspec.trigger_phrase", "").strip():
        return [word.strip() for word in phrase.split(",") if word.strip()][:most]
    try:
        tables = json.loads(metadata.get("ss_tag_frequency", "{}")).values()
        counts: dict[str, int] = {}
        for table in tables:
            for word, count in table.items():
                counts[word.strip()] = counts.get(word.strip(), 0) + int(count)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return []
    return sorted(filter(None, counts), key=lambda word: -counts[word])[:most]
