"""Contact sheets: what they show, and what comes back out of them."""

import io
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.errors import RecipeError, SourceError
from studio.grids import sheets
from studio.grids.sheets import Plan
from studio.recipe.recipe import Recipe

PLAN = Plan(Recipe(prompt="a red “fox” 🦊", seed=4), (("guidance_scale", "1, 5"), ("seed", "1-3")))


def colour(name: str) -> Image.Image:
    return Image.new("RGB", (64, 48), name)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def png(**text: str) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    for name, value in text.items():
        info.add_text(name.replace("_", "-"), value)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_a_sheet_shows_its_pictures_in_their_places() -> None:
    cells: list[list[Image.Image | None]] = [[colour("red"), colour("lime")], [None, colour("blue")]]
    image = opened(sheets.sheet(PLAN, ("seed 1", "seed 2"), ("guidance 1", "guidance 5"), cells))
    counts = {found: count for count, found in image.convert("RGB").getcolors(1 << 20)}  # type: ignore[union-attr]
    assert all(counts[found] == 64 * 48 for found in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    across, down = image.size
    # The dropped one leaves its place empty, below the red one.
    assert image.getpixel((across - 20, down - 20)) == (0, 0, 255)
    assert image.getpixel((across - 20 - 72, down - 20)) == Image.new("RGB", (1, 1), sheets.PAPER).getpixel((0, 0))


def test_what_a_sheet_was_made_of_comes_back() -> None:
    data = sheets.sheet(PLAN, ("",), ("a", "b"), [[colour("red"), None]])
    assert sheets.read(data) == PLAN
    assert sheets.from_values(json.loads(json.dumps(sheets.described(PLAN)))) == PLAN


def test_a_sheet_has_a_largest_size() -> None:
    wide = Image.new("RGB", (4096, 256))
    image = opened(sheets.sheet(PLAN, ("",), tuple("abcd"), [[wide] * 4]))
    assert max(image.size) <= sheets.LARGEST + 100


def test_a_sheet_of_nothing() -> None:
    assert opened(sheets.sheet(PLAN, ("",), ("",), [[None]])).size[0] >= 64


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", png(), png(emerge_grid="[]"), png(emerge_grid="{"), png(emerge_grid='{"version": 99}')],
)
def test_what_is_no_sheet_is_told(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        sheets.read(data)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": None},
        {"recipe": {"version": 1, "steps": 0}},
        {"axes": None},
        {"axes": [["seed"]]},
        {"axes": [["seed", 3]]},
        {"axes": [["colour", "red"]]},
        {"axes": [["seed", "1"]] * 100},
    ],
)
def test_a_sheet_with_impossible_values_is_told(changes: dict[str, object]) -> None:
    values = {**json.loads(PLAN.to_json()), **changes}
    with pytest.raises(RecipeError) as caught:
        sheets.read(png(emerge_grid=json.dumps(values)))
    assert str(caught.value).endswith(".")
