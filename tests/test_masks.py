"""Masks on their own: shapes, fills, and that pasting back changes what it may and shows no seam."""

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from studio.errors import SourceError
from studio.pictures import masks

SIZE = (120, 100)


def drawn(shape: str, corners: tuple[int, ...], size: tuple[int, int] = SIZE, value: int = 255) -> Image.Image:
    mask = Image.new("L", size)
    getattr(ImageDraw.Draw(mask), shape)(corners, fill=value)
    return mask


SHAPES = {
    "disc": drawn("ellipse", (45, 35, 75, 65)),
    "box": drawn("rectangle", (50, 40, 70, 55)),
    "diamond": drawn("polygon", (60, 35, 75, 50, 60, 65, 45, 50)),
    "line": drawn("line", (40, 40, 80, 60)),
    "dot": drawn("point", (60, 50)),
    "at the edge": drawn("rectangle", (0, 30, 20, 99)),
}


def distances(mask: Image.Image) -> np.ndarray:
    """How far each pixel is from the nearest masked one."""
    down, across = np.mgrid[: mask.height, : mask.width]
    result = np.full((mask.height, mask.width), np.inf)
    for y, x in np.argwhere(np.asarray(mask)):
        np.minimum(result, (down - y) ** 2 + (across - x) ** 2, out=result)
    return np.sqrt(result)


DISTANCES = {name: distances(shape) for name, shape in SHAPES.items()}


def smooth(size: tuple[int, int], slope: float = 1.0) -> np.ndarray:
    """Colours that rise by `slope` levels for each pixel across or down, as floats (h, w, 3)."""
    down, across = np.mgrid[: size[1], : size[0]].astype(np.float64)
    x, y = across - size[0] / 2, down - size[1] / 2
    return 128 + slope * np.stack([x, 0.7 * y, (x + y) / 2], axis=-1)


def picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))


def noisy(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


# Growing and feathering


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pixels", [1, 2, 3, 5, 8])
def test_a_mask_grows_by_an_exact_disc(shape: str, pixels: int) -> None:
    found = np.asarray(masks.grown(SHAPES[shape], pixels)) > 0
    assert (found == (DISTANCES[shape] <= pixels)).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pixels", [9, 12, 17, 24, 33, 40])
def test_a_mask_grows_far_by_nearly_a_disc(shape: str, pixels: int) -> None:
    found = np.asarray(masks.grown(SHAPES[shape], pixels)) > 0
    assert not found[DISTANCES[shape] > pixels].any()
    assert found[DISTANCES[shape] <= pixels * 0.95 - 1].all()


@pytest.mark.parametrize("pixels", [1, 4, 8, 11, 20])
def test_shrinking_takes_away_what_growing_the_rest_would_cover(pixels: int) -> None:
    mask = drawn("ellipse", (20, 10, 100, 90))
    free = distances(Image.eval(mask, lambda value: 255 - value))
    found = np.asarray(masks.grown(mask, -pixels)) > 0
    assert not found[free <= min(pixels, 0.95 * pixels if pixels > 8 else pixels) - (pixels > 8)].any()
    assert found[free > pixels].all()


def test_a_mask_does_not_shrink_from_the_pictures_own_edge() -> None:
    shrunk = np.asarray(masks.grown(SHAPES["at the edge"], -5))
    assert shrunk[99, 0] == 255 and shrunk[50, 15] == 255 and shrunk[50, 16] == 0 and shrunk[34, 0] == 0
    full = Image.new("L", SIZE, 255)
    assert masks.grown(full, -50).tobytes() == full.tobytes()


def test_greys_stay_grey_when_a_mask_grows() -> None:
    mask = drawn("rectangle", (20, 20, 40, 40), value=90)
    mask.paste(200, (60, 20, 80, 40))
    grown = np.asarray(masks.grown(mask, 6))
    assert set(np.unique(grown)) == {0, 90, 200}
    assert grown[30, 44] == 90 and grown[30, 55] == 200
    assert (grown >= np.asarray(mask)).all()
    shrunk = np.asarray(masks.grown(mask, -6))
    assert set(np.unique(shrunk)) == {0, 90, 200} and shrunk[30, 24] == 0 and shrunk[30, 30] == 90


def test_growing_by_nothing_or_nothing_to_grow_or_beyond_all_edges() -> None:
    assert masks.grown(SHAPES["disc"], 0) is SHAPES["disc"]
    for pixels in (-9, 3, 500):
        assert masks.grown(Image.new("L", SIZE), pixels).getbbox() is None
    assert np.asarray(masks.grown(SHAPES["disc"], 400)).min() == 255
    assert masks.grown(SHAPES["disc"], -400).getbbox() is None
    assert np.asarray(SHAPES["disc"]).max() == 255


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 7, 8, 11, 15, 16, 17, 24, 31, 32, 40])
def test_a_feather_ends_where_it_should_and_takes_nothing_from_the_mask(shape: str, pixels: int) -> None:
    soft = np.asarray(masks.feathered(SHAPES[shape], pixels))
    assert soft.shape == SIZE[::-1]
    assert (soft[DISTANCES[shape] > pixels] == 0).all()
    assert (soft[DISTANCES[shape] == 0] == 255).all()
    if shape == "box":
        across, right = soft[47].astype(int), 70
        assert (np.diff(across[right:]) <= 0).all()
        assert across[right + math.ceil(pixels / 4)] > 120 or pixels == 1
        assert across[right + math.ceil(pixels * 0.6)] > 0
        assert 0 < across[right + math.ceil(pixels / 2)] < 255
        assert (np.abs(np.diff(across[right:])) <= max(80, 800 / pixels)).all()


def test_feathering_keeps_greys_and_what_is_empty() -> None:
    mask = drawn("rectangle", (20, 20, 60, 60), value=100)
    soft = np.asarray(masks.feathered(mask, 10))
    assert soft.max() == 100 and soft[40, 40] == 100 and 0 < soft[40, 64] < 100
    assert masks.feathered(Image.new("L", SIZE), 10).getbbox() is None
    assert masks.feathered(mask, 0) is mask
    full = Image.new("L", SIZE, 255)
    assert masks.feathered(full, 20).tobytes() == full.tobytes()


# Boxes and sizes


def test_the_box_around_a_mask() -> None:
    assert masks.box_around(SHAPES["box"], 0) == (50, 40, 71, 56)
    assert masks.box_around(SHAPES["box"], 10) == (40, 30, 81, 66)
    assert masks.box_around(SHAPES["box"], 45) == (5, 0, 116, 100)
    assert masks.whole_box(SIZE) == (0, 0, 120, 100)


def test_an_empty_mask_and_one_over_everything_are_told() -> None:
    with pytest.raises(SourceError, match=r"^The mask is empty: nothing would change. Paint over .*\.$"):
        masks.box_around(Image.new("L", SIZE), 10)
    with pytest.raises(SourceError, match=r"^The mask covers the whole picture, .*\.$"):
        masks.box_around(Image.new("L", SIZE, 255), 10)
    # "Change everything a little" is something that one can ask for.
    assert masks.box_around(Image.new("L", SIZE, 254), 10) == (0, 0, 120, 100)


@pytest.mark.parametrize("multiple", [8, 16, 64])
@pytest.mark.parametrize("pixels", [128 * 128, 512 * 512, 1024 * 1024])
@pytest.mark.parametrize("shape", [(512, 512), (300, 400), (401, 97), (64, 2048), (4096, 4096), (3, 4000), (8, 8)])
def test_work_sizes(shape: tuple[int, int], pixels: int, multiple: int) -> None:
    width, height = masks.work_size(*shape, pixels, multiple)
    assert width % multiple == height % multiple == 0
    assert min(width, height) >= 64 and max(width, height) <= 4096
    assert (width <= height) == (shape[0] <= shape[1]) or abs(width - height) <= multiple
    wanted = shape[0] / shape[1]
    if 1 / 3 < wanted < 3 and multiple < 64:
        assert 0.85 < width * height / pixels < 1.15
        assert 0.85 < width / height / wanted < 1.15
    assert width * height < 2.5 * pixels


def test_the_native_size_comes_back_for_a_square() -> None:
    assert masks.work_size(700, 700, 1024 * 1024, 64) == (1024, 1024)
    assert masks.work_size(100, 100, 128 * 128, 8) == (128, 128)


def test_cropping_brings_a_part_to_a_size() -> None:
    source = noisy()
    assert masks.cropped(source, (10, 20, 50, 60), (40, 40)).tobytes() == source.crop((10, 20, 50, 60)).tobytes()
    assert masks.cropped(source, (10, 20, 50, 60), (64, 32)).size == (64, 32)
    small = np.asarray(masks.cropped(SHAPES["disc"], (0, 0, *SIZE), (48, 40)))
    assert small.shape == (40, 48) and small[20, 24] == 255 and small[0, 0] == 0


# Filling


def test_starting_from_the_original_leaves_it_as_it_is() -> None:
    source = noisy()
    assert masks.filled(source, SHAPES["disc"], "original", 1) is source
    assert masks.filled(source, Image.new("L", SIZE), "blur", 1) is source


@pytest.mark.parametrize("how", ["noise", "blur", "#102030"])
def test_filling_changes_what_is_masked_only(how: str) -> None:
    source = noisy()
    before = source.tobytes()
    result = np.asarray(masks.filled(source, SHAPES["disc"], how, 1))
    kept = np.asarray(SHAPES["disc"]) == 0
    assert (result[kept] == np.asarray(source)[kept]).all()
    assert (result[~kept] != np.asarray(source)[~kept]).mean() > 0.9
    assert source.tobytes() == before


def test_a_soft_mask_fills_in_proportion() -> None:
    source = Image.new("RGB", SIZE, (200, 100, 0))
    mask = Image.new("L", SIZE)
    mask.paste(51, (20, 20, 60, 60))
    assert masks.filled(source, mask, "#000000", 1).getpixel((30, 30)) == (160, 80, 0)
    assert masks.filled(source, Image.new("L", SIZE, 102), "#ffffff", 1).getpixel((0, 0)) == (222, 162, 102)


def test_noise_is_coloured_and_of_the_seed() -> None:
    source, mask = Image.new("RGB", SIZE, (128, 128, 128)), Image.new("L", SIZE, 255)
    one, same, other = (np.asarray(masks.filled(source, mask, "noise", seed)) for seed in (7, 7, 8))
    assert (one == same).all() and (one != other).mean() > 0.9
    assert one.std() > 25 and one.std(axis=-1).mean() > 15
    # A largest seed is a seed too.
    masks.filled(source, mask, "noise", 2**53 - 1)


@pytest.mark.parametrize("size", [(120, 100), (1100, 900)])
def test_the_surroundings_are_continued_and_nothing_of_the_hole_leaks(size: tuple[int, int]) -> None:
    """A hole in glaring magenta: of that, nothing is left in the fill, neither inside nor in the feather."""
    surroundings = picture(np.clip(smooth(size, 90 / size[0]), 80, 180))
    hole = drawn("ellipse", (size[0] // 3, size[1] // 3, size[0] // 2, size[1] // 2), size)
    spoilt = surroundings.copy()
    spoilt.paste((255, 0, 255), mask=hole)
    result = np.asarray(masks.filled(spoilt, masks.feathered(hole, 4), "blur", 1)).astype(int)
    assert np.abs(result - np.asarray(surroundings)).max() < 12
    assert result[..., 0].max() <= 180 and result[..., 1].min() >= 80


def test_a_hole_that_touches_the_edges_and_one_that_leaves_a_single_pixel() -> None:
    source = Image.new("RGB", SIZE, (10, 200, 30))
    source.paste((255, 0, 255), (0, 0, 120, 60))
    mask = drawn("rectangle", (0, 0, 119, 59))
    assert set(masks.filled(source, mask, "blur", 1).get_flattened_data()) == {(10, 200, 30)}
    mask = Image.new("L", SIZE, 255)
    mask.putpixel((119, 99), 0)
    assert set(masks.filled(source, mask, "blur", 1).get_flattened_data()) == {(10, 200, 30)}


def test_where_all_is_masked_the_least_masked_is_what_is_known() -> None:
    source = Image.new("RGB", SIZE, (10, 200, 30))
    source.paste((255, 0, 255), (0, 0, 60, 100))
    mask = Image.new("L", SIZE, 40)
    mask.paste(255, (0, 0, 60, 100))
    assert masks.filled(source, mask, "blur", 1).getpixel((20, 50)) == (10, 200, 30)
    nothing_known = masks.filled(source, Image.new("L", SIZE, 255), "blur", 1)
    assert set(nothing_known.get_flattened_data()) == {(128, 128, 128)}


# Pasting back


@pytest.mark.parametrize("scale", [0.5, 1, 1.7])
@pytest.mark.parametrize("feather", [0, 6, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_not_masked_comes_back_bit_for_bit(shape: str, feather: int, scale: float) -> None:
    source = noisy()
    before = source.tobytes()
    mask = masks.feathered(SHAPES[shape], feather)
    box = masks.box_around(mask, 10)
    size = round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale)
    result = masks.pasted(source, noisy(size, seed=1), mask, box)
    kept = np.asarray(mask) == 0
    assert (np.asarray(result)[kept] == np.asarray(source)[kept]).all()
    assert (np.asarray(result)[np.asarray(mask) >= 85] != np.asarray(source)[np.asarray(mask) >= 85]).any()
    assert source.tobytes() == before and result is not source


def test_nothing_masked_in_the_box_is_nothing_pasted() -> None:
    source = noisy()
    assert masks.pasted(source, noisy(seed=1), Image.new("L", SIZE), (0, 0, *SIZE)).tobytes() == source.tobytes()
    assert masks.pasted(source, noisy(seed=1), SHAPES["disc"], (0, 0, 20, 20)).tobytes() == source.tobytes()


def test_grey_means_changed_a_little_and_not_half_transparent() -> None:
    source, new = Image.new("RGB", SIZE, (0, 0, 0)), Image.new("RGB", SIZE, (240, 240, 240))
    mask = Image.new("L", SIZE)
    for number, value in enumerate((17, 34, 85, 128, 255)):
        mask.paste(value, (10 + 20 * number, 10, 20 + 20 * number, 90))
    result = masks.pasted(source, new, mask, (0, 0, *SIZE))
    found = [np.asarray(result)[50, 15 + 20 * number, 0] for number in range(5)]
    assert found == [25, 85, 240, 240, 240]
    everything = masks.pasted(source, new, Image.new("L", SIZE, 255), (0, 0, *SIZE))
    assert everything.tobytes() == new.tobytes()


@pytest.mark.parametrize("size", [(96, 96), (700, 650)])
def test_a_colour_cast_is_taken_back(size: tuple[int, int]) -> None:
    values = smooth(size, 0.25)
    mask = drawn("ellipse", (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), size)
    result = masks.pasted(picture(values), picture(values + np.array([9, -12, 5])), mask, (0, 0, *size))
    assert np.abs(np.asarray(result).astype(int) - np.asarray(picture(values))).max() <= 1


def test_other_content_beside_the_hole_is_no_colour_cast() -> None:
    """The model painted over the mask's edge: what lies there says next to nothing about its errors."""
    source, mask = Image.new("RGB", SIZE, (100, 100, 100)), SHAPES["disc"]
    new = source.copy()
    ImageDraw.Draw(new).ellipse((40, 30, 80, 70), fill=(200, 40, 40))
    result = masks.pasted(source, new, mask, (0, 0, *SIZE))
    assert np.abs(np.array(result.getpixel((60, 50))) - (200, 40, 40)).max() < 10


def edge_steps(shown: Image.Image, mask: np.ndarray | None = None) -> float:
    """The mean difference between neighbouring pixels: everywhere, or across the mask's edge."""
    values = np.asarray(shown).astype(np.float64)
    found = []
    for axis in (0, 1):
        steps = np.abs(np.diff(values, axis=axis)).mean(-1)
        found.append(steps.ravel() if mask is None else steps[np.diff(mask.astype(int), axis=axis) != 0])
    return float(np.concatenate(found).mean())


@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("feather", [4, 8, 16, 32])
@pytest.mark.parametrize(("size", "slope"), [((128, 128), 1.0), ((256, 256), 0.5), ((600, 600), 0.4)])
def test_no_seam_is_seen(size: tuple[int, int], slope: float, feather: int, scale: float) -> None:
    """On a smooth picture, with an autoencoder's errors: a cast that varies over the picture, and a slight blur."""
    values = smooth(size, slope)
    source = picture(values)
    down, across = np.mgrid[: size[1], : size[0]]
    cast = np.stack([5 + 4 * np.sin(across / 40), -7 + 3 * np.cos(down / 35), 3 + 0 * down], axis=-1)
    hole = drawn("ellipse", (int(size[0] * 0.3), int(size[1] * 0.35), int(size[0] * 0.7), int(size[1] * 0.7)), size)
    mask = masks.feathered(hole, feather)
    box = masks.box_around(mask, 24)
    new = picture(values + cast).filter(ImageFilter.GaussianBlur(1)).crop(box)
    new = new.resize((round(new.width * scale), round(new.height * scale)), Image.Resampling.LANCZOS)
    result = masks.pasted(source, new, mask, box)
    for edge in (np.asarray(hole) > 0, np.asarray(mask) > 0, np.asarray(mask) >= 85):
        assert edge_steps(result, edge) <= 1.5 * edge_steps(source)


def test_even_a_hard_edge_is_hardly_seen() -> None:
    size = (256, 256)
    values = smooth(size, 1)
    mask = drawn("rectangle", (80, 90, 170, 180), size)
    new = picture(values + np.array([6, -8, 4])).filter(ImageFilter.GaussianBlur(1))
    source = picture(values)
    result = masks.pasted(source, new.crop((40, 50, 210, 220)), mask, (40, 50, 210, 220))
    assert edge_steps(result, np.asarray(mask) > 0) <= 1.5 * edge_steps(source)
    plain = source.copy()
    plain.paste(new, mask=mask)
    assert edge_steps(plain, np.asarray(mask) > 0) > 5 * edge_steps(source)


# Fitting and extending


def test_fitting() -> None:
    wide = Image.new("RGB", (200, 100), (0, 0, 255))
    wide.paste((255, 0, 0), (50, 0, 150, 100))
    assert masks.fitted(wide, 200, 100, "crop") is wide
    cut = masks.fitted(wide, 80, 80, "crop")
    assert cut.size == (80, 80) and cut.getpixel((5, 5)) == (255, 0, 0)
    padded = masks.fitted(wide, 80, 80, "pad", "#00ff00")
    assert padded.size == (80, 80) and padded.getpixel((40, 5)) == (0, 255, 0) and np.asarray(padded)[40, 3, 2] > 250
    stretched = masks.fitted(wide, 80, 80, "stretch")
    assert stretched.size == (80, 80) and np.asarray(stretched)[3, 3, 2] > 250
    with pytest.raises(SourceError, match=r"'squeeze' is no way to fit a picture. Use crop, pad or stretch\."):
        masks.fitted(wide, 80, 80, "squeeze")


@pytest.mark.parametrize("sides", [(30, 0, 0, 0), (0, 20, 0, 0), (0, 0, 64, 0), (0, 0, 0, 8), (10, 20, 30, 40)])
def test_extending(sides: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = sides
    old = picture(smooth(SIZE, 0.5))
    result, mask = masks.extended(old, *sides)
    assert result.size == mask.size == (SIZE[0] + left + right, SIZE[1] + top + bottom)
    inside = (left, top, left + SIZE[0], top + SIZE[1])
    assert result.crop(inside).tobytes() == old.tobytes()
    covered = np.asarray(mask)
    fresh = np.ones(covered.shape, bool)
    fresh[top : top + SIZE[1], left : left + SIZE[0]] = False
    assert (covered[fresh] == 255).all() and fresh.sum() == covered.size - SIZE[0] * SIZE[1]
    # The seam is repainted softly, up to 8 pixels in, and nothing beyond.
    core = covered[top + 8 : top + SIZE[1] - 8, left + 8 : left + SIZE[0] - 8]
    assert (core == 0).all()
    if left:
        assert list(covered[top + SIZE[1] // 2, left : left + 9]) == [227, 198, 170, 142, 113, 85, 57, 28, 0]
    # What is new goes on from the edge, and no step is seen there.
    assert edge_steps(result, fresh) < 3


def test_what_is_new_has_the_colours_of_the_edge() -> None:
    result, _ = masks.extended(Image.new("RGB", (40, 40), (10, 200, 30)), 50, 60, 70, 80)
    assert set(result.get_flattened_data()) == {(10, 200, 30)}


def test_impossible_extensions_are_told() -> None:
    old = Image.new("RGB", SIZE)
    for sides, sentence in (
        ((0, 0, 0, 0), r"^Nothing would be added. Say how many pixels .*\.$"),
        ((4000, 0, 0, 0), r"^The picture would become 4120x100 pixels, and the most is 4,096 on a side\..*\.$"),
        ((10**30, 0, 0, 0), r"and the most is 4,096 on a side"),
        ((-1, 5, 0, 0), r"^A picture can be extended, not cut: .*\.$"),
    ):
        with pytest.raises(SourceError, match=sentence):
            masks.extended(old, *sides)
