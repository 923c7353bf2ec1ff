"""Recipes inside PNG files: the text that A1111-style tools read, and our own exact recipe beside it.

`parameters` has the form that stable-diffusion-webui writes (modules/infotext_utils.py there): the prompt, a
line `Negative prompt: …`, and a last line `Steps: 20, Sampler: Euler a, CFG scale: 5, Seed: 1, …`. Samplers
go by the names that it uses, with the timetable as a suffix ("DPM++ 2M Karras"), as our own labels do. What other
programs wrote is read by `studio.library.foreign`.
That form is for other tools. It cannot hold every prompt (one may itself have a line "Steps: …"), so the
exact recipe is stored as JSON under a private keyword and read from there first.
"""

import contextlib
import io
import json
import logging
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio import __version__, disk
from studio.errors import RecipeError, SourceError
from studio.library import foreign
from studio.library.foreign import NEGATIVE, Found
from studio.recipe.fields import BY_NAME, NUMBERS
from studio.recipe.recipe import Recipe
from studio.recipe.schedules import SCHEDULES

PARAMETERS = "parameters"
GRAPH = "prompt"
"""ComfyUI's keyword."""
RECIPE = "emerge-recipe"
STEPS_DONE = "emerge-steps-done"
"""Only in a picture that was stopped: after how many of its recipe's steps."""
PARENT = "emerge-parent"
"""Only in a picture that was forked from another: `<step> <picture's id>`."""
NOTE = "emerge-note"
"""Only in some pictures: what was done because memory ran out, or what is wrong with it, in sentences."""

log = logging.getLogger(__name__)

_NOTE_LIMIT = 1_000
_CHUNK_LIMIT = 2**26


def png_text(
    recipe: Recipe,
    steps_done: int,
    parent: tuple[str, int] | None = None,
    note: str = "",
    more: Mapping[str, str] = MappingProxyType({}),
) -> PngInfo:
    """The text chunks for a picture: tEXt where Latin-1 suffices, otherwise iTXt in UTF-8.

    parent: the id of the picture that it was forked from, and after how many steps. note: see NOTE. more: see
    `parameters`.
    """
    result = PngInfo()
    result.add_text(PARAMETERS, encodable(parameters(recipe, more)))
    result.add_text(RECIPE, encodable(recipe.to_json()))
    if steps_done != recipe.steps_run:
        result.add_text(STEPS_DONE, str(steps_done))
    if parent:
        result.add_text(PARENT, encodable(f"{parent[1]} {parent[0]}"))
    if note:
        result.add_text(NOTE, encodable(note))
    return result


def read(path: Path) -> tuple[Recipe, int] | None:
    """The recipe in a PNG file and the number of steps that were taken, or None if there is none to be read.

    The file may be anything: damaged, hostile, or no picture at all. Its pixels are not decoded.
    """
    try:
        with disk.opened(path) as file, Image.open(file, formats=["PNG"]) as image:
            return from_info(image.info)
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, zlib.error, struct.error and more, as the damage is.
        log.debug("No text could be read from %s: %r", path, error)
        return None


def told(data: bytes) -> tuple[Recipe, str]:
    """The recipe in a PNG file that a person brought, and the note beside it. Raises SourceError if there is none."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            found, note = from_info(image.info), note_of(image.info)
    except Exception as error:  # as in `read`
        log.debug("No text could be read from what was brought: %r", error)
        found, note = None, ""
    if not found:
        raise SourceError(
            "That picture does not say how it was made. A PNG of this studio, or of a tool that writes what A1111 "
            "writes, fills in the form; a picture to start from belongs onto the easel of Image to image."
        )
    return found[0], note


def is_whole(path: Path) -> bool:
    """Whether a PNG file is there to its end and nothing in it is damaged, by its own sums."""
    with contextlib.suppress(OSError), disk.opened(path) as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return False
        while len(start := file.read(8)) == 8:
            length, kind = int.from_bytes(start[:4], "big"), start[4:]
            data = file.read(min(length, _CHUNK_LIMIT) + 4)
            if len(data) != length + 4 or zlib.crc32(data[:-4], zlib.crc32(kind)) != int.from_bytes(data[-4:], "big"):
                return False
            if kind == b"IEND":
                return True
    return False


def from_info(info: Mapping[str | tuple[int, int], Any]) -> tuple[Recipe, int] | None:
    """The same from what Pillow found in an opened picture (`image.info`)."""
    recipe = _own(str(info.get(RECIPE, "")))
    if not recipe and (found := _foreign(info)):
        recipe = found.recipe
    return (recipe, _steps_done(str(info.get(STEPS_DONE, "")), recipe)) if recipe else None


def parent_of(info: Mapping[str | tuple[int, int], Any]) -> tuple[str, int] | None:
    """What a picture was forked from, as `png_text` wrote it. The id is only text: there may be no such picture."""
    match = re.fullmatch(r"([0-9]{1,6}) (.{1,200})", str(info.get(PARENT, "")))
    return (match[2], int(match[1])) if match else None


def note_of(info: Mapping[str | tuple[int, int], Any]) -> str:
    """What `png_text` wrote of the picture's making, cut to a length that can be shown.

    Of another program's picture, what of its recipe could not be taken over as it was.
    """
    note = str(info.get(NOTE, ""))
    if not note and not _own(str(info.get(RECIPE, ""))) and (found := _foreign(info)):
        note = " ".join(found.notes)
    return note[:_NOTE_LIMIT]


def parameters(recipe: Recipe, more: Mapping[str, str] = MappingProxyType({})) -> str:
    """The recipe as A1111-style tools show and read it. more: fields beside and instead of the recipe's own."""
    numbers = _numbers(recipe)
    fields = {
        "Steps": numbers.pop("Steps"),
        "Sampler": recipe.sampler,
        **({"Schedule type": recipe.schedule} if recipe.schedule in SCHEDULES else {}),
        "CFG scale": numbers.pop("CFG scale"),
        "Seed": numbers.pop("Seed"),
        "Size": f"{recipe.width}x{recipe.height}",
        "Model": recipe.model,
        **({"VAE": recipe.vae} if recipe.vae else {}),
        **numbers,
        **more,
        "Version": f"Emerge Studio {__version__}",
    }
    lines = [recipe.prompt]
    if recipe.negative_prompt:
        lines.append(f"{NEGATIVE} {recipe.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quote(str(value))}" for name, value in fields.items()))
    return "\n".join(lines)


def _numbers(recipe: Recipe) -> dict[str, str]:
    """The numbers that a picture's text tells: those that are always there, and those that are not as they begin."""
    told = [field for field in NUMBERS if field.key and (field.always or recipe.sets(field.name))]
    told += [BY_NAME["strength"]] if recipe.source and not recipe.sets("strength") else []
    values = {field.key: getattr(recipe, field.name) for field in told}
    return {key: f"{value:.12g}" if isinstance(value, float) else str(value) for key, value in values.items()}


def parse_parameters(text: str) -> Recipe:
    """As much of a recipe as another program's text tells; the rest takes its default. Raises RecipeError."""
    return foreign.read(text).recipe


def _own(text: str) -> Recipe | None:
    try:
        return Recipe.from_json(text)
    except (RecipeError, RecursionError, OverflowError):
        return None


def _foreign(info: Mapping[str | tuple[int, int], Any]) -> Found | None:
    for keyword, read in ((PARAMETERS, foreign.read), (GRAPH, foreign.read_graph)):
        with contextlib.suppress(RecipeError, RecursionError, OverflowError):
            return read(str(info.get(keyword, "")))
    return None


def _steps_done(text: str, recipe: Recipe) -> int:
    total = recipe.steps_run
    return min(int(text), total) if re.fullmatch(r"[0-9]{1,6}", text) else total


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def encodable(text: str) -> str:
    """Half a surrogate pair, which JSON from elsewhere can hold, has no UTF-8: it becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
