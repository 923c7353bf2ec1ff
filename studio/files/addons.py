"""Add-ons on disk: LoRAs, embeddings and other files beside a model, by the names that people have for them."""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from studio.errors import ModelBroken, ModelUnsafe, RecipeError
from studio.files import headers
from studio.files.folders import PICKLES, read_json

ENDING = r"\.(?:safetensors|pt|bin|ckpt)"

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


def _matching(name: str, found: Mapping[str, Path]) -> Iterator[str]:
    """The names in `found` that could be meant, the likeliest first. They are looked for one way after the other."""
    if name in found:
        yield name
    path = name.replace("\\", "/").lower()
    for asked in dict.fromkeys((path, without_ending(path))):
        yield from (each for each in found if each.lower() == asked)
        yield from (each for each in found if last(each).lower() == last(asked))
    # Reads headers.
    yield from (each for each, path in found.items() if told(path).name in (name, without_ending(name)))


def without_ending(name: str) -> str:
    return re.sub(rf"{ENDING}$", "", name, flags=re.IGNORECASE)


def last(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more if names else "none"


def header(path: Path) -> Mapping[str, str]:
    """The metadata in a safetensors file's header; empty if there is none to be read."""
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        return headers.read(path).metadata
    except ModelBroken:
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
