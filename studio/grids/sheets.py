"""Contact sheets: a grid of pictures with labels as one PNG, and inside it what the grid was made of.

The file tells its own plan under a private keyword, so that a sheet dropped on the compare tab fills the form again.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from studio.errors import RecipeError, SourceError
from studio.grids.axes import LABELS
from studio.grids.lettering import Lettering
from studio.recipe.recipe import Recipe

GRID = "emerge-grid"
"""The keyword of the plan, JSON."""

VERSION = 1
LARGEST = 8192
"""Pixels that a sheet's longer side has at most; larger pictures are made smaller on it."""

GAP = 8
LINES = 3
"""Lines that a label has at most."""

LEAST = 5
"""Widths of a letter that a column has at least."""

INK, PAPER = "#232321", "#f7f7f5"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a grid was made of: the recipe in its centre, and the axes as they were typed, (setting, values) each."""

    centre: Recipe
    axes: tuple[tuple[str, str], ...]

    def to_json(self) -> str:
        return json.dumps(
            {"version": VERSION, "recipe": json.loads(self.centre.to_json()), "axes": self.axes}, ensure_ascii=False
        )


def sheet(
    plan: Plan, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Image.Image | None]]
) -> bytes:
    """The PNG file of a grid. cells: row by row; None for one that was dropped."""
    pictures = [cell for row in cells for cell in row if cell]
    across = max((picture.width for picture in pictures), default=64)
    down = max((picture.height for picture in pictures), default=64)
    scale = min(1.0, LARGEST / max(across * len(columns), down * len(rows)))
    across, down = max(1, int(across * scale)), max(1, int(down * scale))
    letters = Lettering(max(12, min(across, down) // 12))
    # Very narrow or low pictures stand further apart, so that their labels have room.
    wide, high = max(across, LEAST * letters.size), max(down, letters.line_height)
    heads = [letters.lines(label, wide, LINES) for label in columns]
    sides = [
        letters.lines(label, max(wide, 12 * letters.size), min(LINES, high // letters.line_height)) for label in rows
    ]
    left = _room(max((letters.width(line) for lines in sides for line in lines), default=0))
    top = _room(max(map(len, heads), default=0) * letters.line_height)
    size = [left + len(columns) * (wide + GAP) + GAP, top + len(rows) * (high + GAP) + GAP]
    foot = letters.lines(letters.sentence(), size[0] - 2 * GAP, 10)
    page = Image.new("RGB", (size[0], size[1] + _room(len(foot) * letters.line_height)), PAPER)
    draw = ImageDraw.Draw(page)
    for number, lines in enumerate(heads):
        middle = left + GAP + number * (wide + GAP) + wide // 2
        y = top - GAP - len(lines) * letters.line_height
        _write(draw, letters, lines, [middle - letters.width(line) // 2 for line in lines], y)
    for index, (lines, row) in enumerate(zip(sides, cells, strict=True)):
        y = top + GAP + index * (high + GAP)
        _write(draw, letters, lines, [GAP] * len(lines), y + (high - len(lines) * letters.line_height) // 2)
        for number, cell in enumerate(row):
            if cell:
                x = left + GAP + number * (wide + GAP) + (wide - across) // 2
                page.paste(_within(cell, across, down), (x, y + (high - down) // 2))
    _write(draw, letters, foot, [GAP] * len(foot), size[1])
    info = PngInfo()
    info.add_text(GRID, plan.to_json().encode("utf-8", "replace").decode())
    file = io.BytesIO()
    page.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def read(data: bytes) -> Plan:
    """The plan in a sheet. Raises SourceError if the file is none, RecipeError if what it says cannot be used."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            text = str(image.info.get(GRID, ""))
        values = json.loads(text) if text else None
    except Exception:  # Pillow raises much, as the damage is
        values = None
    if not isinstance(values, dict):
        raise SourceError("That is no contact sheet of Emerge Studio. Drop a PNG that Compare has saved.")
    if not isinstance(version := values.get("version"), int) or version > VERSION:
        raise SourceError("This contact sheet was made by a newer Emerge Studio.")
    return Plan(Recipe.from_json(json.dumps(values.get("recipe"))), _axes(values.get("axes")))


def described(plan: Plan) -> dict[str, Any]:
    """The plan as loose values, for the page. `from_values` reads them."""
    return {"recipe": plan.centre.for_page(), "axes": [list(axis) for axis in plan.axes]}


def from_values(values: dict[str, Any]) -> Plan:
    """A checked plan from loose values. Raises RecipeError."""
    recipe = values.get("recipe")
    return Plan(Recipe.from_values(recipe if isinstance(recipe, dict) else {}), _axes(values.get("axes")))


def _axes(found: Any) -> tuple[tuple[str, str], ...]:
    """Axes from a file, which could say anything."""
    if not isinstance(found, list) or len(found) > len(LABELS):
        raise RecipeError("The axes of this contact sheet cannot be read.")
    for each in found:
        if not isinstance(each, list) or len(each) != 2 or not all(isinstance(part, str) for part in each):
            raise RecipeError("The axes of this contact sheet cannot be read.")
        if each[0] not in LABELS:
            raise RecipeError(f"The sheet compares {each[0]!r:.40}, which this studio cannot.")
    return tuple((name, values[:1000]) for name, values in found)


def _room(length: int) -> int:
    """Pixels for a label of so many, with a gap on both sides; none without one."""
    return 2 * GAP + length if length else 0


def _write(draw: ImageDraw.ImageDraw, letters: Lettering, lines: Sequence[str], lefts: Sequence[int], y: int) -> None:
    """Lines below one another from y on. lefts: where each begins."""
    for number, (line, x) in enumerate(zip(lines, lefts, strict=True)):
        letters.draw(draw, x, y + number * letters.line_height, line, INK)


def _within(picture: Image.Image, across: int, down: int) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((across, down))
    return small
