"""Which files serve as the parts that a single file lacks."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from studio.files.identity import parts

if TYPE_CHECKING:
    from studio.models.catalog import Entry

_PRECISIONS = {"bfloat16": (0, 0), "float16": (0, 0), "float32": (1, 0)}


def fitting(want: str, entries: Iterable["Entry"]) -> list["Entry"]:
    """The files and folders that can serve as this one of `studio.files.identity.parts.PARTS`, the best first.

    The one of the usual name comes first; then 16 bit before 32 before fewer, more first.
    """

    def place(each: "Entry") -> tuple[bool, bool, tuple[int, int]]:
        # Wan's VAE is what Qwen-Image's was trained on from, and does only where that is not at hand.
        usual = each.path.name in parts.PARTS[want].files.split()
        return each.variant == "Wan 2.1", not usual, _PRECISIONS.get(each.precision, (2, -each.bytes))

    return sorted((each for each in entries if not each.problem and _fits(each, want)), key=place)


def lacking(entry: "Entry") -> Mapping[str, str]:
    """The parts that a single file needs and does not hold: part → of `studio.files.identity.parts.PARTS`."""
    if entry.kind != "model" or not entry.single:
        return {}
    needs = parts.NEEDS.get(entry.base, {})
    return {part: want for part, want in needs.items() if part not in entry.identity.parts}


def _fits(entry: "Entry", want: str) -> bool:
    # Of what is packed, only GGUF is read, and of text encoders only.
    if entry.identity.packed:
        return False
    if entry.kind == "vae":
        return entry.base == want and entry.variant != "tiny" and entry.path.suffix.lower() != ".gguf"
    return entry.kind == "text encoder" and entry.variant == want
