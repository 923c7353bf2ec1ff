"""Media: what turns a composed picture into an oil painting, a mosaic, a woodcut. Each is a filter on a batch.

All filters take and give float32 RGB (n, 3, h, w) in 0..1, work on any device, and draw what they need by chance from
`torch`'s generator of that device, so that no two pictures are painted alike. Sizes below are in pixels of a 256 pixel
picture.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Filter = Callable[[Tensor], Tensor]

GREY = (0.299, 0.587, 0.114)
PIXELS = 32
"""Pixels of pixel art in a row: two for each of Sketchbook's latents, which hold as much and not more."""
STONE = 16.0
"""Side of a mosaic's stones, about one for each of those latents."""


def grey(pictures: Tensor) -> Tensor:
    """Luma, (n, 1, h, w)."""
    weights = torch.tensor(GREY, device=pictures.device)[None, :, None, None]
    return (pictures * weights).sum(1, keepdim=True)


def blur(pictures: Tensor, radius: float) -> Tensor:
    """Gaussian blur with a standard deviation of `radius` pixels; edges are continued."""
    reach = max(1, round(3 * radius))
    places = torch.arange(-reach, reach + 1, device=pictures.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / radius) ** 2)
    kernel = (kernel / kernel.sum()).to(pictures.dtype)
    channels = pictures.shape[1]
    for shape, pad in (((1, 1, 1, -1), (reach, reach, 0, 0)), ((1, 1, -1, 1), (0, 0, reach, reach))):
        weights = kernel.view(shape).expand(channels, 1, *kernel.view(shape).shape[2:])
        pictures = F.conv2d(F.pad(pictures, pad, mode="replicate"), weights, groups=channels)
    return pictures


def grain(like: Tensor, size: float, channels: int = 1) -> Tensor:
    """Smooth random values of standard deviation 1 in spots of `size` pixels, (n, channels, h, w)."""
    n, _, h, w = like.shape
    small = torch.randn(n, channels, max(2, round(h / size)), max(2, round(w / size)), device=like.device)
    return F.interpolate(small, (h, w), mode="bicubic", align_corners=False) if size > 1 else small


def strokes(like: Tensor, length: float, width: float, angle: float) -> Tensor:
    """Random streaks of standard deviation 1, `length` by `width` pixels, slanted by `angle` radians: (n, 1, h, w)."""
    n, _, h, w = like.shape
    side = int(1.5 * max(h, w))
    shape = (n, 1, max(2, round(side / width)), max(2, round(side / length)))
    noise = F.interpolate(torch.randn(shape, device=like.device), (side, side), mode="bicubic", align_corners=False)
    turn = torch.tensor([[_cos(angle), -_sin(angle), 0.0], [_sin(angle), _cos(angle), 0.0]], device=like.device)
    grid = F.affine_grid(turn.expand(n, 2, 3) / 1.5, [n, 1, h, w], align_corners=False)
    return F.grid_sample(noise, grid, align_corners=False, padding_mode="reflection")


def _cos(angle: float) -> float:
    return float(torch.cos(torch.tensor(angle)))


def _sin(angle: float) -> float:
    return float(torch.sin(torch.tensor(angle)))


def chance(low: float, high: float) -> float:
    """A number between the two."""
    return low + (high - low) * float(torch.rand(()))


def middle(like: Tensor) -> tuple[Tensor, Tensor]:
    """How far each pixel is below and to the right of the middle, (h, w) each in -1..1."""
    h, w = like.shape[-2:]
    y, x = (torch.linspace(-1, 1, side, device=like.device) for side in (h, w))
    return tuple(torch.meshgrid(y, x, indexing="ij"))


def rows_and_columns(like: Tensor) -> tuple[Tensor, Tensor]:
    """The row and the column of each pixel, counted from 0, (h, w) each."""
    h, w = like.shape[-2:]
    y, x = (torch.arange(side, device=like.device, dtype=torch.float32) for side in (h, w))
    return tuple(torch.meshgrid(y, x, indexing="ij"))


def edges(pictures: Tensor, radius: float) -> Tensor:
    """How much of an edge each pixel is, about 0..1, (n, 1, h, w): the gradient of all three colours."""
    soft = blur(pictures, radius)
    across = F.pad(soft.diff(dim=-1), (0, 1, 0, 0))
    down = F.pad(soft.diff(dim=-2), (0, 0, 0, 1))
    return (across.square() + down.square()).sum(1, keepdim=True).sqrt() * radius * 3


def saturated(pictures: Tensor, factor: float) -> Tensor:
    """Colours moved away from (or, below 1, towards) grey."""
    middle = grey(pictures)
    return (middle + factor * (pictures - middle)).clamp(0, 1)


class Cells(NamedTuple):
    """A picture cut into irregular cells: for each pixel its cell, the way to the cell's seed, and to the next border.

    index: (n, h * w). off: pixels from the seed, (n, 2, h, w). border: pixels to the nearest border, (n, 1, h, w).
    """

    index: Tensor
    number: int
    off: Tensor
    border: Tensor


def cells(like: Tensor, size: float, jitter: float = 0.9) -> Cells:
    """Voronoi cells of about `size` pixels, with seeds jittered around a grid (Worley noise)."""
    n, _, h, w = like.shape
    rows, columns = int(h / size) + 3, int(w / size) + 3
    seeds = jitter * (torch.rand(n, 2, rows, columns, device=like.device) - 0.5)
    y, x = (place / size + 1 for place in rows_and_columns(like))
    near_y, near_x = y.floor().long(), x.floor().long()
    flat = seeds.flatten(2)
    distances, ways, places = [], [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row, column = (near_y + dy).clamp(0, rows - 1), (near_x + dx).clamp(0, columns - 1)
            place = (row * columns + column).flatten()
            seed = flat[:, :, place].view(n, 2, h, w)
            way = torch.stack((y - row - 0.5, x - column - 0.5))[None] - seed
            distances.append(way.square().sum(1))
            ways.append(way)
            places.append(place)
    stacked = torch.stack(distances, 1)
    two, which = stacked.sqrt().topk(2, dim=1, largest=False)
    best = which[:, :1]
    index = torch.stack(places)[None].expand(n, -1, -1).gather(1, best.flatten(2))[:, 0]
    off = torch.stack(ways, 1).gather(1, best[:, :, None].expand(-1, 1, 2, -1, -1))[:, 0]
    border = (two[:, 1:] - two[:, :1]) / 2
    return Cells(index, rows * columns, off * size, border * size)


def cell_means(pictures: Tensor, found: Cells) -> Tensor:
    """Each cell in the mean of its colours."""
    n, c, h, w = pictures.shape
    index = found.index[:, None].expand(n, c, -1)
    sums = torch.zeros(n, c, found.number, device=pictures.device).scatter_add_(2, index, pictures.flatten(2))
    counts = torch.zeros(n, 1, found.number, device=pictures.device)
    counts = counts.scatter_add_(2, found.index[:, None], torch.ones_like(pictures[:, :1]).flatten(2)).clamp(min=1)
    return (sums / counts).gather(2, index).view(n, c, h, w)


def cell_chance(like: Tensor, found: Cells, channels: int) -> Tensor:
    """Random numbers of standard deviation 1 that are the same all over a cell, (n, channels, h, w)."""
    n, _, h, w = like.shape
    drawn = torch.randn(n, channels, found.number, device=like.device)
    return drawn.gather(2, found.index[:, None].expand(n, channels, -1)).view(n, channels, h, w)


def kuwahara(pictures: Tensor, radius: int) -> Tensor:
    """Each pixel in the mean of the calmest of the four squares that it is a corner of (Kuwahara et al. 1976)."""
    side = radius + 1
    both = torch.cat((pictures, pictures.square()), 1)
    padded = F.pad(both, (radius,) * 4, mode="replicate")
    means = F.avg_pool2d(padded, side, 1)
    h, w = pictures.shape[-2:]
    corners = [means[..., top : top + h, left : left + w] for top in (0, radius) for left in (0, radius)]
    first = torch.stack([corner[:, :3] for corner in corners], 1)
    spread = torch.stack([(corner[:, 3:] - corner[:, :3].square()).sum(1) for corner in corners], 1)
    best = spread.argmin(1, keepdim=True)[:, :, None].expand(-1, 1, 3, -1, -1)
    return first.gather(1, best)[:, 0]


def patches(pictures: Tensor) -> Tensor:
    """The picture in patches of calm colour with clear borders."""
    return kuwahara(kuwahara(pictures, 5), 4)


def oil_painting(pictures: Tensor) -> Tensor:
    """Colour in patches, lit as thick paint is: brush strokes show as light and shadow."""
    angle = chance(0, 3.1)
    painted = patches(pictures)
    relief = strokes(pictures, chance(46, 70), chance(8, 11), angle) + 0.5 * strokes(pictures, 34, 8, angle + 1.3)
    light = F.pad(relief.diff(dim=-2), (0, 0, 0, 1)) + F.pad(relief.diff(dim=-1), (0, 1, 0, 0))
    return (saturated(painted, 1.15) + 0.05 * relief + 0.2 * light).clamp(0, 1)


def watercolor(pictures: Tensor) -> Tensor:
    """Washes that pool at their edges and fade into white paper."""
    wash = blur(kuwahara(pictures, 6), 1.2)
    pools = edges(wash, 2).clamp(0, 0.5)
    y, x = middle(pictures)
    reach = torch.maximum(y.abs(), x.abs())[None, None] + 0.13 * grain(pictures, 24)
    paper = ((reach - 0.78) * 5).clamp(0, 1)
    density = (0.72 + 0.1 * grain(pictures, 40) + 0.05 * grain(pictures, 6) + 0.45 * pools).clamp(0, 1.1)
    painted = 1 - (1 - wash) * density
    painted = painted * (1 - paper) + paper * 0.985
    return (painted + 0.012 * grain(pictures, 1.5)).clamp(0, 1)


def pencil_sketch(pictures: Tensor) -> Tensor:
    """Graphite on white paper: outlines, and hatching where it is dark."""
    calm = kuwahara(pictures, 4)
    lines = (edges(calm, 1.9) * 2.1).clamp(0, 0.85)
    hatch = strokes(pictures, 70, 9, chance(0.6, 1.0))
    shade = (0.92 - grey(calm)).clamp(0, 1) * (0.66 + 0.22 * hatch.clamp(-1, 1))
    drawn = 0.97 - lines - shade.clamp(0, 0.8) + 0.015 * grain(pictures, 1.5)
    return drawn.clamp(0.08, 1).expand(-1, 3, -1, -1).contiguous()


def ink_line_drawing(pictures: Tensor) -> Tensor:
    """Black lines of one brush on white."""
    lines = edges(kuwahara(pictures, 4), chance(2.4, 3.0))
    inked = 1 - ((lines - 0.14) * 8).clamp(0, 1)
    return inked.clamp(0.03, 1).expand(-1, 3, -1, -1).contiguous()


def pastel(pictures: Tensor) -> Tensor:
    """Chalk on tinted paper: pale, soft, with the paper's tooth showing through."""
    soft = blur(kuwahara(pictures, 4), 1.0)
    chalk = 0.38 + 0.62 * saturated(soft, 0.9)
    paper = torch.rand(len(pictures), 3, 1, 1, device=pictures.device) * 0.15 + 0.72
    tooth = strokes(pictures, 14, 2.5, chance(0, 3.1)) + 0.8 * grain(pictures, 2)
    bare = (tooth - 0.7).clamp(0, 1) * 0.4
    return (chalk * (1 - bare) + paper * bare).clamp(0, 1)


def charcoal(pictures: Tensor) -> Tensor:
    """Black smudges on rough paper."""
    tone = blur(grey(kuwahara(pictures, 4)), 1.2)
    smudge = (tone - 0.5) * 1.25 + 0.58 + 0.07 * strokes(pictures, 40, 9, chance(0.4, 1.2))
    lines = (edges(pictures, 2.6) * 2.0).clamp(0, 0.75)
    tooth = 0.06 * grain(pictures, 1.3) * (1.05 - smudge).clamp(0, 1)
    drawn = (smudge - lines + tooth).clamp(0.04, 0.93)
    warm = torch.tensor((1.0, 0.985, 0.95), device=pictures.device)[None, :, None, None]
    return (drawn * warm).clamp(0, 1)


def pixel_art(pictures: Tensor) -> Tensor:
    """Few large pixels in few colours."""
    h, w = pictures.shape[-2:]
    small = F.interpolate(pictures, (PIXELS, round(PIXELS * w / h)), mode="area")
    levels = 6
    small = (saturated(small, 1.2) * (levels - 1)).round() / (levels - 1)
    return F.interpolate(small, (h, w), mode="nearest")


def mosaic(pictures: Tensor) -> Tensor:
    """Small stones, each of one colour, with joints between them."""
    found = cells(pictures, STONE, 0.35)
    stones = saturated(cell_means(pictures, found), 1.3) + 0.035 * cell_chance(pictures, found, 1)
    shine = (found.off[:, :1] + found.off[:, 1:]) * -0.006
    joint = ((2.2 - found.border) / 1.4).clamp(0, 1)
    mortar = torch.tensor((0.55, 0.52, 0.48), device=pictures.device)[None, :, None, None]
    return ((stones + shine) * (1 - joint) + mortar * joint).clamp(0, 1)


def stained_glass(pictures: Tensor) -> Tensor:
    """Panes of glowing colour in black lead, which also goes around things."""
    found = cells(pictures, chance(34, 46), 0.9)
    calm = patches(pictures)
    panes = saturated(0.35 * cell_means(calm, found) + 0.65 * calm, 1.6)
    glow = 1.12 - 0.01 * found.off.square().sum(1, keepdim=True).sqrt() + 0.04 * cell_chance(pictures, found, 1)
    outline = (edges(blur(calm, 1.5), 2.5) * 3 - 0.5).clamp(0, 1)
    lead = torch.maximum((1 - (found.border - 1.4) / 1.5).clamp(0, 1), outline)
    return (panes * glow * (1 - lead) + 0.05 * lead).clamp(0, 1)


def pointillism(pictures: Tensor) -> Tensor:
    """Dots of pure colour, in three layers, on pale canvas."""
    painted = torch.full_like(pictures, 0.93)
    for size in (16.0, 14.0, 12.0):
        found = cells(pictures, size, 0.95)
        colour = saturated(cell_means(pictures, found) + 0.06 * cell_chance(pictures, found, 3), 1.35)
        radius = found.off.square().sum(1, keepdim=True).sqrt()
        dot = (size * 0.46 - radius + 0.5).clamp(0, 1)
        painted = painted * (1 - dot) + colour * dot
    return painted.clamp(0, 1)


def cubism(pictures: Tensor) -> Tensor:
    """The picture in facets, each seen from a little elsewhere and shaded by itself."""
    h, w = pictures.shape[-2:]
    found = cells(pictures, chance(44, 64), 0.95)
    shift = 8 * cell_chance(pictures, found, 2)
    y, x = rows_and_columns(pictures)
    grid = torch.stack(((x + shift[:, 1] + 0.5) * 2 / w - 1, (y + shift[:, 0] + 0.5) * 2 / h - 1), -1)
    seen = F.grid_sample(kuwahara(pictures, 4), grid, align_corners=False, padding_mode="border")
    slope = cell_chance(pictures, found, 2)
    shade = 0.004 * (slope * found.off).sum(1, keepdim=True) + 0.07 * cell_chance(pictures, found, 1)
    rim = (1 - (found.border - 0.8) / 1.2).clamp(0, 1) * 0.5
    return (((0.2 + 0.75 * saturated(seen, 0.8)) + shade) * (1 - rim)).clamp(0, 1)


def woodcut(pictures: Tensor) -> Tensor:
    """Black ink on cream paper: carved lines in what is neither dark nor light."""
    calm = patches(pictures)
    tone = grey(calm)
    y, x = rows_and_columns(pictures)
    angle, pitch = chance(-0.5, 0.5), chance(20, 28)
    bend = 5 * grain(pictures, 80)
    wave = torch.sin((y * _cos(angle) + x * _sin(angle) + bend) * 6.283 / pitch)
    paper = ((tone - 0.5 - 0.16 * wave) * 12 + 0.5).clamp(0, 1)
    # An outline is a cut where all is dark, and is left standing elsewhere.
    outline = (edges(calm, 2.2) * 4 - 0.7).clamp(0, 1)
    dark = ((0.42 - blur(tone, 5)) * 12 + 0.5).clamp(0, 1)
    paper = paper * (1 - outline) + outline * dark
    ink = torch.tensor((0.07, 0.06, 0.06), device=pictures.device)[None, :, None, None]
    cream = torch.tensor((0.95, 0.90, 0.80), device=pictures.device)[None, :, None, None]
    return ink + (cream - ink) * paper


def sepia_photo(pictures: Tensor) -> Tensor:
    """An old brown photograph: soft, grainy, dark at the corners."""
    tone = blur(grey(pictures), 0.8) * 0.8 + 0.1
    y, x = middle(pictures)
    tone = tone * (1 - chance(0.15, 0.3) * (y**2 + x**2)) + 0.025 * grain(pictures, 1.6)
    tone = tone.clamp(0, 1)
    return torch.cat((tone**0.82, tone**1.0 * 0.93, tone**1.25 * 0.82), 1).clamp(0, 1)


def neon(pictures: Tensor) -> Tensor:
    """Outlines as glowing tubes before a dark wall."""
    lines = (edges(pictures, 1.5) * 3 - 0.35).clamp(0, 1)
    strongest = pictures.amax(1, keepdim=True)
    weakest = pictures.amin(1, keepdim=True)
    hue = (pictures - weakest) / (strongest - weakest + 0.08)
    # What has no colour of its own glows in one that is chosen by chance.
    plain = torch.rand(len(pictures), 3, 1, 1, device=pictures.device)
    plain = (plain - plain.amin(1, keepdim=True)) / (plain.amax(1, keepdim=True) - plain.amin(1, keepdim=True) + 1e-3)
    colourful = ((strongest - weakest) * 4).clamp(0, 1)
    tube = blur(hue * colourful + plain * (1 - colourful), 2)
    light = lines * tube
    wall = torch.tensor((0.05, 0.04, 0.09), device=pictures.device)[None, :, None, None]
    glow = 1.5 * blur(light, 3) + 1.4 * blur(light, 9)
    return (wall + glow + lines * (0.35 + 0.75 * tube)).clamp(0, 1)


FILTERS: dict[str, Filter] = {
    "oil painting": oil_painting,
    "watercolor": watercolor,
    "pencil sketch": pencil_sketch,
    "ink line drawing": ink_line_drawing,
    "pastel": pastel,
    "charcoal": charcoal,
    "pixel art": pixel_art,
    "mosaic": mosaic,
    "stained glass": stained_glass,
    "pointillism": pointillism,
    "cubism": cubism,
    "woodcut": woodcut,
    "sepia photo": sepia_photo,
    "neon": neon,
}
"""The word in a caption → what is done to the picture."""
