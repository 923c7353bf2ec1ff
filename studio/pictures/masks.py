"""Masks and what they are for: growing, feathering, cropping, filling, pasting back, extending.

Pictures are Pillow images of mode RGB, masks of mode L: 0 keeps a pixel, 255 lets it change wholly, what lies between
lets it change a little. Nothing here changes the images it is given. A box is (left, top, right, bottom) in pixels.

What fills a hole smoothly is push-pull (Gortler et al., "The Lumigraph", 1996): averages of what is known are pushed
down a pyramid until every hole is closed, and pulled up again to wherever nothing is known.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageColor, ImageFilter, ImageOps

from studio.errors import SourceError
from studio.recipe.fields import MAX_SIDE

Box = tuple[int, int, int, int]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

MIN_SIDE = 64
"""The smallest side that models are asked for."""

ROUND = 8
"""Up to this radius a mask grows by an exact disc, beyond it by a polygon of sixteen sides and a disc for the rest."""

SEAM = 8
"""How many pixels of the old picture are repainted softly where it is extended."""

CELLS = 200_000
"""Push-pull works on about so many pixels at most; larger pictures are averaged in blocks first."""

SAME = 24.0
CONTENT = 48.0
"""Where a picture differs from its source by less than SAME levels, the autoencoder was inexact; by more than CONTENT,
something else was painted, and nothing can be learned about its error."""

OPACITY = [round(255 * share * share * (3 - 2 * share)) for share in (min(1, 3 * value / 255) for value in range(256))]
"""How opaque a picture is pasted for each value of the mask. It starts slowly, so that the outermost pixels of a
feather show no step, and is complete at a third."""

STRIP = 200_000
"""About how many pixels are worked on at a time where there are no neighbours to look at."""

SIDES = (
    ((1, 0), 0.236),
    ((0, 1), 0.236),
    ((1, 1), 0.115),
    ((1, -1), 0.115),
    ((2, 1), 0.089),
    ((1, 2), 0.089),
    ((2, -1), 0.089),
    ((1, -2), 0.089),
)
"""The sides of a polygon that circumscribes a circle of radius 1: their directions on the pixels' grid, and half their
lengths in such steps."""


# Shapes of masks


def grown(mask: Image.Image, pixels: int) -> Image.Image:
    """The mask grown by so many pixels all round, or shrunk if they are negative. Greys stay grey.

    What lies outside the picture counts as what touches it: a mask does not shrink from the picture's own edge.
    """
    hole = mask.getbbox()
    if not pixels or not hole:
        return mask
    radius = min(abs(pixels), max(mask.size))
    left, top, right, bottom = _widened(hole, radius)
    # Cropping beyond the picture gives zeros, room for what moves out and comes back.
    if pixels > 0:
        shape = _image(_dilated(_array(mask.crop((left, top, right, bottom))), radius))
    else:
        around = ImageChops.invert(mask).crop((left, top, right, bottom))
        shape = ImageChops.invert(_image(_dilated(_array(around), radius)))
    result = Image.new("L", mask.size)
    inside = _clipped((left, top, right, bottom), mask.size)
    result.paste(shape.crop((inside[0] - left, inside[1] - top, inside[2] - left, inside[3] - top)), inside[:2])
    return result


def feathered(mask: Image.Image, pixels: int) -> Image.Image:
    """The mask with a soft edge of so many pixels around it.

    Nothing of the mask itself is lost, and a pixel farther from it than `pixels` stays exactly 0.
    """
    hole = mask.getbbox()
    if pixels <= 0 or not hole:
        return mask
    region = _clipped(_widened(hole, pixels), mask.size)
    part = mask.crop(region)
    # What is soft needs no fine grid. Larger cells cover a bit more than the mask, and blend into the next when they
    # are enlarged again: both comes off the reach.
    cell = min(max(pixels // 8, 1), 4)
    reach = (pixels - cell + 1 - cell // 2) // cell
    soft = _blurred(grown(_largest(part, cell), reach // 2), reach - reach // 2)
    if cell > 1:
        soft = soft.resize(part.size, Image.Resampling.BILINEAR, box=(0, 0, part.width / cell, part.height / cell))
        # Along diagonals boxes reach farther, with values as small as these.
        soft = soft.point([0, 0, 0, 0, *range(4, 256)])
    else:
        soft = ImageChops.darker(soft, grown(part.point([0] + 255 * [255]), pixels))
    result = Image.new("L", mask.size)
    result.paste(ImageChops.lighter(soft, part), region[:2])
    return result


def whole_box(size: tuple[int, int]) -> Box:
    """All of a picture of this size."""
    return (0, 0, *size)


def box_around(mask: Image.Image, margin: int) -> Box:
    """The part of the picture that holds all of the mask and `margin` pixels around it, within the picture.

    Raises SourceError if nothing is masked, or everything wholly.
    """
    hole = mask.getbbox()
    if not hole:
        raise SourceError("The mask is empty: nothing would change. Paint over what should be made anew.")
    if hole == whole_box(mask.size) and _extremes(mask)[0] == 255:
        raise SourceError(
            "The mask covers the whole picture, so that nothing of it would be left. Leave a part of it free, "
            "or make a new picture with text to image."
        )
    return _clipped(_widened(hole, max(0, margin)), mask.size)


def work_size(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """A size in the shape of `width` x `height` with about `pixels` pixels, for a model to work at.

    Both sides are multiples of `multiple`, from 64 to 4096.
    """
    scale = math.sqrt(pixels / (width * height))
    least, most = math.ceil(MIN_SIDE / multiple) * multiple, MAX_SIDE // multiple * multiple
    # When a side is held at its limit, the other one makes up for it, or a long strip would get far more pixels.
    across = min(max(width * scale, least), most)
    down = min(max(height * scale, least), most)
    across, down = min(across, max(pixels / down, least)), min(down, max(pixels / across, least))
    return _rounded(across, multiple, least, most), _rounded(down, multiple, least, most)


# Pictures under masks


def cropped(picture: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """The box of a picture or a mask, brought to this size."""
    if box[2] - box[0] == size[0] and box[3] - box[1] == size[1]:
        return picture.crop(box)
    # Nearly as sharp as Lanczos in half of the time. A cubic swings, which a mask must not.
    smooth = Image.Resampling.BILINEAR if picture.mode == "L" else Image.Resampling.BICUBIC
    shrinks = box[2] - box[0] > size[0] and box[3] - box[1] > size[1]
    method = Image.Resampling.HAMMING if shrinks else smooth
    return picture.resize(size, method, box=box)


def filled(picture: Image.Image, mask: Image.Image, how: str, seed: int) -> Image.Image:
    """The picture with what is masked replaced, in proportion to the mask.

    how: "original" (nothing is replaced), "noise" in colours that the seed decides, "blur" (the surroundings, continued
    smoothly: no colour of a masked pixel gets in), or a colour such as "#3366cc".
    """
    hole = mask.getbbox()
    if how == "original" or not hole:
        return picture
    result = picture.copy()
    if how == "blur":
        region = _clipped(_widened(hole, _ring(hole)), picture.size)
        part = mask.crop(region)
        # The least masked pixels are what is known, where all are masked at least a little.
        least = _extremes(part)[0]
        known = part.point([255 if value == least < 255 else 0 for value in range(256)])
        result.paste(_continued(picture.crop(region), known), region, part)
    elif how == "noise":
        result.paste(_noise(hole[2] - hole[0], hole[3] - hole[1], seed), hole, mask.crop(hole))
    else:
        result.paste(ImageColor.getrgb(how), hole, mask.crop(hole))
    return result


def pasted(source: Image.Image, picture: Image.Image, mask: Image.Image, box: Box) -> Image.Image:
    """The picture, whatever its size, laid over the box of the source where the mask allows it.

    Where the mask is 0, the source's pixels come back bit for bit. A grey mask means that a pixel was to change a
    little, not that it is half transparent: from a third of full strength on, the picture covers the source.

    Before that the picture is harmonised: what an autoencoder did to the kept pixels around the hole, which can be
    seen in the difference, it did to those inside too, so this is continued into the hole and taken back.
    """
    result = source.copy()
    inside = mask.crop(box).getbbox()
    if not inside:
        return result
    across, down = box[2] - box[0], box[3] - box[1]
    near = _clipped(_widened(inside, _ring(inside)), (across, down))
    region = (box[0] + near[0], box[1] + near[1], box[0] + near[2], box[1] + near[3])
    part = mask.crop(region)
    left, right = (x * picture.width / across for x in near[::2])
    top, bottom = (y * picture.height / down for y in near[1::2])
    new = cropped(picture, (left, top, right, bottom), part.size)
    shift, block = _shift(new, source.crop(region), part)
    opaque = part.point(OPACITY)
    for strip in _strips(new.size, 1):
        fitting = ImageChops.add(new.crop(strip), _enlarged(shift, block, strip, Image.Resampling.NEAREST), 1, -128)
        result.paste(fitting, (region[0], region[1] + strip[1]), opaque.crop(strip))
    return result


def fitted(picture: Image.Image, width: int, height: int, how: str, colour: str = "#ffffff") -> Image.Image:
    """The picture at `width` x `height`: "crop" cuts off what is too much, "pad" puts `colour` around, "stretch"."""
    if picture.size == (width, height):
        return picture
    if how == "crop":
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    if how == "pad":
        return ImageOps.pad(picture, (width, height), Image.Resampling.LANCZOS, color=colour)
    if how == "stretch":
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    raise SourceError(f"{how!r} is no way to fit a picture. Use crop, pad or stretch.")


def extended(picture: Image.Image, left: int, top: int, right: int, bottom: int) -> tuple[Image.Image, Image.Image]:
    """The picture with so many pixels added on each side, and the mask of what is new.

    What is new continues the picture's edge smoothly. The mask reaches a few pixels into the old picture, softly, so
    that the seam is repainted too. Raises SourceError if nothing is added, or the result has a side over 4096 pixels.
    """
    if min(left, top, right, bottom) < 0:
        raise SourceError("A picture can be extended, not cut: use 0 or more pixels on each side.")
    if not any((left, top, right, bottom)):
        raise SourceError("Nothing would be added. Say how many pixels to add on at least one side.")
    across, down = left + picture.width + right, top + picture.height + bottom
    if max(across, down) > MAX_SIDE:
        raise SourceError(
            f"The picture would become {across}x{down} pixels, and the most is {MAX_SIDE:,} on a side. Add less, "
            "or start from a smaller picture."
        )
    result = Image.new("RGB", (across, down))
    known = Image.new("L", (across, down))
    known.paste(255, (left, top, left + picture.width, top + picture.height))
    result.paste(picture, (left, top))
    result = Image.composite(result, _continued(result, known), known)
    columns, rows = _slope(left, picture.width, right), _slope(top, picture.height, bottom)
    return result, _image(np.maximum(rows[:, None], columns[None, :]))


def _slope(before: int, length: int, after: int) -> Bytes:
    """A mask along one side: 255 where something is added, falling to 0 within the first pixels of the old picture."""
    reach = min(SEAM, length // 4)
    down = np.round(255 * np.arange(reach, 0, -1) / (reach + 1)).astype(np.uint8)
    old = np.zeros(length, np.uint8)
    if before:
        old[:reach] = down
    if after:
        old[length - reach :] = down[::-1]
    return np.pad(old, (before, after), constant_values=255)


# Growing


def _dilated(values: Bytes, radius: int) -> Bytes:
    """Each value (h, w) becomes the largest within `radius` pixels. What is outside counts as 0."""
    if radius <= ROUND:
        return _disc(values, radius)
    # Whole steps that fit into the radius; a disc makes up for the rest, up to the farthest corner.
    counts = [int(share * radius / 1.0275) for _, share in SIDES]
    for (step, _), count in zip(SIDES, counts, strict=True):
        values = _swept(_swept(values, step, count), (-step[0], -step[1]), count)
    axis, diagonal, knight = counts[0], counts[2], counts[4]
    width = axis + 2 * diagonal
    corner = max(math.hypot(width + 6 * knight, axis), math.hypot(width + 4 * knight, axis + 4 * knight))
    return _disc(values, int(radius - corner))


def _largest(mask: Image.Image, cell: int) -> Image.Image:
    """The largest value of each cell x cell pixels, or of what is left of them at the edges."""
    if cell == 1:
        return mask
    values = np.asarray(mask)
    values = np.pad(values, [(0, -length % cell) for length in values.shape])
    rows = values.reshape(-1, cell, values.shape[1]).max(axis=1)
    return Image.fromarray(np.max([rows[:, first::cell] for first in range(cell)], axis=0))


def _blurred(mask: Image.Image, pixels: int) -> Image.Image:
    """Blurred over so many pixels. Three boxes make nearly a bell, and unlike a bell they end."""
    for radius in (pixels // 3, (pixels + 1) // 3, (pixels + 2) // 3):
        if radius:
            mask = mask.filter(ImageFilter.BoxBlur(radius))
    return mask


def _disc(values: Bytes, radius: int) -> Bytes:
    """Dilated by an exact disc, row by row of it, from its narrow ends to its middle."""
    result = values.copy()
    wide, half = values, 0
    for row in range(radius, -1, -1):
        while half < math.isqrt(radius * radius - row * row):
            wide, half = _swept(_swept(wide, (1, 0), 1), (-1, 0), 1), half + 1
        _raise(result, wide, (0, row))
        _raise(result, wide, (0, -row))
    return result


def _swept(values: Bytes, step: tuple[int, int], count: int) -> Bytes:
    """The largest of the values at 0 to `count` steps (x, y) back: what a shape covers that is moved along."""
    covered = 0
    while covered < count:
        jump = min(covered + 1, count - covered)
        moved = values.copy()
        _raise(moved, values, (jump * step[0], jump * step[1]))
        values, covered = moved, covered + jump
    return values


def _raise(result: Bytes, values: Bytes, shift: tuple[int, int]) -> None:
    """Raise `result` in place to the values moved by `shift` pixels (x, y), wherever they are larger."""
    here, there = zip(
        *(_overlap(length, by) for length, by in zip(values.shape, shift[::-1], strict=True)), strict=True
    )
    np.maximum(result[here], values[there], out=result[here])


def _overlap(length: int, by: int) -> tuple[slice, slice]:
    """Where values moved by `by` end up, and where they come from."""
    if abs(by) >= length:
        return slice(0, 0), slice(0, 0)
    return slice(max(0, by), length + min(0, by)), slice(max(0, -by), length - max(0, by))


# Continuing smoothly


def _continued(picture: Image.Image, known: Image.Image) -> Image.Image:
    """The picture (RGB) with what is not known (0 in `known`, otherwise 255) continued from what is."""
    block = _block(picture.size)
    colours = _planes(_averages(lambda strip: picture.crop(strip), (0, 0, 0), known, block))
    complete = _picture(_pushed(colours, _share(known.reduce(block)), 128.0))
    return _enlarged(complete, block, whole_box(picture.size), Image.Resampling.BILINEAR)


def _shift(picture: Image.Image, source: Image.Image, mask: Image.Image) -> tuple[Image.Image, float]:
    """What to add to the picture so that it fits the source where the mask keeps it, continued smoothly elsewhere.

    Returns it in levels around 128, as averages over blocks, and the blocks' side.
    """
    block = max(2, _block(picture.size))
    kept = mask.point([255] + 255 * [0])

    # Half levels around 128, exact to a quarter of a level: up to 64 levels of difference are told apart.
    def difference(strip: Box) -> Image.Image:
        return ImageChops.subtract(source.crop(strip), picture.crop(strip), 0.5, 128)

    errors = _planes(_averages(difference, (128, 128, 128), kept, block))
    errors -= 128
    errors /= 2
    weights = _share(kept.reduce(block))
    sizes = np.abs(errors).max(axis=0) / np.maximum(weights, np.float32(1 / 255))
    trust: Floats = np.clip((CONTENT - sizes) / (CONTENT - SAME), 0, 1, dtype=np.float32)
    shift = _picture(_pushed(errors * trust, weights * trust, 0.0) + 128)
    # With blocks of half the side, differing by a level or less, the rest of the way can be taken in steps.
    return shift.resize((2 * shift.width, 2 * shift.height), Image.Resampling.BILINEAR), block / 2


def _averages(
    part: Callable[[Box], Image.Image], otherwise: tuple[int, int, int], known: Image.Image, block: int
) -> Image.Image:
    """Averages over blocks of a picture that comes in parts, with a colour in place of what is not known."""
    result = Image.new("RGB", (-(-known.width // block), -(-known.height // block)))
    for strip in _strips(known.size, block):
        piece = part(strip)
        piece = Image.composite(piece, Image.new("RGB", piece.size, otherwise), known.crop(strip))
        result.paste(piece.reduce(block), (0, strip[1] // block))
    return result


def _strips(size: tuple[int, int], multiple: int) -> list[Box]:
    """A picture in strips from side to side, their heights but the last multiples of this.

    What is done strip by strip stays in the processor's cache, and in memory that need not be asked for each time.
    """
    step = max(1, STRIP // (size[0] * multiple)) * multiple
    return [(0, top, size[0], min(top + step, size[1])) for top in range(0, size[1], step)]


def _pushed(values: Floats, weights: Floats, default: float) -> Floats:
    """Values (channels, h, w), already multiplied with their weights (h, w) in 0..1, complete.

    With nothing known at all, everything is `default`.
    """
    if weights.size == 1:
        return values / weights if weights.item() else np.full_like(values, default)
    pushed, known = _halved(values), _halved(weights)
    # One known pixel of the four is enough to know their average.
    scale = np.reciprocal(np.maximum(known, 1))
    coarse = _doubled(_pushed(pushed * scale, known * scale, default))
    coarse = coarse[:, : weights.shape[0], : weights.shape[1]]
    coarse *= 1 - weights
    coarse += values
    return coarse


def _halved(values: Floats) -> Floats:
    """Sums of 2x2 values over the last two axes; beyond an odd edge are zeros."""
    down, across = values.shape[-2:]
    if down % 2 or across % 2:
        values = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(0, down % 2), (0, across % 2)])
    rows = values[..., 0::2, :] + values[..., 1::2, :]
    return rows[..., 0::2] + rows[..., 1::2]


def _doubled(values: Floats) -> Floats:
    """Twice as many values over the last two axes. Each is 3/4 of the nearest and 1/4 of the next on both axes, which
    repeated gives a surface without kinks."""
    channels, down, across = values.shape
    rows = np.empty((channels, 2 * down, across), np.float32)
    _interleave(values, rows)
    result = np.empty((channels, 2 * down, 2 * across), np.float32)
    _interleave(rows.swapaxes(1, 2), result.swapaxes(1, 2))
    return result


def _interleave(values: Floats, result: Floats) -> None:
    """Fill `result` (channels, 2n, m) from values (channels, n, m)."""
    quarter = 0.25 * values
    most = values - quarter
    result[:, 0] = values[:, 0]
    result[:, -1] = values[:, -1]
    np.add(most[:, 1:], quarter[:, :-1], out=result[:, 2::2])
    np.add(most[:, :-1], quarter[:, 1:], out=result[:, 1:-1:2])


def _block(size: tuple[int, int]) -> int:
    return math.ceil(math.sqrt(size[0] * size[1] / CELLS))


def _enlarged(averages: Image.Image, block: float, part: Box, method: Image.Resampling) -> Image.Image:
    """A part of the picture that has these averages over blocks, the last of which may be cut off by its edges."""
    left, top, right, bottom = (side / block for side in part)
    return averages.resize((part[2] - part[0], part[3] - part[1]), method, box=(left, top, right, bottom))


# Small tools


def _noise(across: int, down: int, seed: int) -> Image.Image:
    """Coloured noise of grains from 4 to 16 pixels: finer grain is just grey to an autoencoder."""
    generator = np.random.default_rng(seed)
    small = -(-across // 4), -(-down // 4)
    large = -(-across // 16), -(-down // 16)
    fine, coarse = (Image.frombytes("RGB", size, generator.bytes(3 * size[0] * size[1])) for size in (small, large))
    mixed = Image.blend(fine, coarse.resize(small, Image.Resampling.BILINEAR), 0.5)
    return mixed.resize((across, down), Image.Resampling.BILINEAR, box=(0, 0, across / 4, down / 4))


def _ring(hole: Box) -> int:
    """How much around a hole tells what it should look like."""
    return min(max(max(hole[2] - hole[0], hole[3] - hole[1]) // 8, 16), 32)


def _widened(box: Box, by: int) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    return max(0, box[0]), max(0, box[1]), min(size[0], box[2]), min(size[1], box[3])


def _rounded(length: float, multiple: int, least: int, most: int) -> int:
    return min(max(round(length / multiple) * multiple, least), most)


def _extremes(mask: Image.Image) -> Sequence[int]:
    """The smallest and the largest value of a mask."""
    return mask.getextrema()  # type: ignore[return-value]


def _planes(picture: Image.Image) -> Floats:
    """(3, h, w) in 0..255."""
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1), np.float32)


def _picture(planes: Floats) -> Image.Image:
    """RGB from (3, h, w) in 0..255."""
    return Image.fromarray(np.clip(planes + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy())


def _share(mask: Image.Image) -> Floats:
    """(h, w) in 0..1."""
    return np.asarray(mask, np.float32) * np.float32(1 / 255)


def _array(mask: Image.Image) -> Bytes:
    return np.asarray(mask)


def _image(values: Bytes) -> Image.Image:
    return Image.fromarray(values)
