"""Places: backgrounds drawn by code, each in endless varieties.

A place is drawn for a whole batch at once: float32 RGB (n, 3, size, size) in 0..1 on the device that is asked for, and
the height at which things stand there, (n,), as a share of the picture's height from the top.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.media import blur, cells

PALETTE: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "gray": (136, 138, 142),
    "black": (18, 18, 22),
    "red": (208, 42, 48),
    "orange": (246, 142, 40),
    "yellow": (250, 214, 62),
    "green": (62, 160, 76),
    "teal": (24, 142, 142),
    "light blue": (146, 206, 246),
    "blue": (42, 92, 210),
    "purple": (124, 66, 178),
    "pink": (248, 158, 196),
    "brown": (122, 78, 48),
    "beige": (236, 220, 190),
}
"""What a colour word means, for backgrounds, tables and things alike."""

Drawn = tuple[Tensor, Tensor]


class Canvas:
    """What every place needs to draw with: coordinates in 0..1 and chance, on one device.

    x, y: (1, 1, size, size), from the left and from the top.
    """

    def __init__(self, count: int, size: int, device: torch.device) -> None:
        self.n, self.size, self.device = count, size, device
        line = (torch.arange(size, device=device) + 0.5) / size
        self.x = line.view(1, 1, 1, -1).expand(1, 1, size, size)
        self.y = line.view(1, 1, -1, 1).expand(1, 1, size, size)

    def chance(self, low: float, high: float) -> Tensor:
        """A number for each picture, (n, 1, 1, 1)."""
        return low + (high - low) * torch.rand(self.n, 1, 1, 1, device=self.device)

    def colour(self, red: int, green: int, blue: int, spread: float = 12) -> Tensor:
        """A colour near this one (0..255), for each picture another: (n, 3, 1, 1) in 0..1."""
        base = torch.tensor((red, green, blue), device=self.device).float().view(1, 3, 1, 1)
        light = torch.randn(self.n, 1, 1, 1, device=self.device) * spread
        tint = torch.randn(self.n, 3, 1, 1, device=self.device) * spread * 0.6
        return ((base + light + tint) / 255).clamp(0, 1)

    def named(self, name: str, spread: float = 5) -> Tensor:
        return self.colour(*PALETTE[name], spread)

    def noise(self, across: float, down: float | None = None, octaves: int = 3) -> Tensor:
        """Smooth noise of standard deviation about 1: `across` by `down` spots in the picture, (n, 1, size, size)."""
        down = across if down is None else down
        total = torch.zeros(self.n, 1, self.size, self.size, device=self.device)
        for octave in range(octaves):
            shape = (max(2, round(down * 2**octave)), max(2, round(across * 2**octave)))
            if max(shape) > self.size:
                break
            small = torch.randn(self.n, 1, *shape, device=self.device)
            total += 0.5**octave * F.interpolate(small, (self.size, self.size), mode="bicubic", align_corners=False)
        return total / 1.15

    def above(self, height: Tensor, soft: float = 1.5) -> Tensor:
        """1 where a pixel lies above this height, 0 below, with an edge of some pixels."""
        return ((height - self.y) * self.size / soft + 0.5).clamp(0, 1)

    def fade(self, top: Tensor, bottom: Tensor) -> Tensor:
        """From one colour at the top to another at the bottom."""
        return top + (bottom - top) * self.y

    def discs(self, most: int, small: float, large: float, top: float = 0, bottom: float = 1) -> Tensor:
        """Up to `most` round spots, 0..1: (n, 1, size, size). Sizes are shares of the picture."""
        total = torch.zeros(self.n, 1, self.size, self.size, device=self.device)
        for number in range(most):
            radius = self.chance(small, large)
            way = (self.x - self.chance(0, 1)).square() + (self.y - self.chance(top, bottom)).square()
            there = (torch.rand(self.n, 1, 1, 1, device=self.device) < 0.85) | (number == 0)
            total = torch.maximum(total, ((radius - way.sqrt()) * self.size / 1.5 + 0.5).clamp(0, 1) * there)
        return total


def mixed(under: Tensor, over: Tensor, share: Tensor) -> Tensor:
    return under + (over - under) * share


def plain(name: str) -> Callable[[Canvas], Drawn]:
    """A background of one colour, slightly shaded."""

    def draw(c: Canvas) -> Drawn:
        angle, strength = c.chance(0, 6.283), c.chance(0, 0.07)
        slope = (c.x - 0.5) * angle.cos() + (c.y - 0.5) * angle.sin()
        return c.named(name, 4) + slope * strength, c.chance(0.8, 0.93).flatten()

    return draw


def stars(c: Canvas, count: int = 45) -> Tensor:
    small = (torch.rand(c.n, 1, c.size, c.size, device=c.device) < count / c.size**2).float()
    return (blur(small, 0.9) * 5 + blur(small, 2.2) * 6).clamp(0, 1)


def clouds(c: Canvas, share: float = 0.3) -> Tensor:
    return ((c.noise(2.5, 4, 4) + 2 * share - 0.9) * 1.3).clamp(0, 1)


def sky(c: Canvas) -> Tensor:
    blue = c.fade(c.colour(96, 170, 236), c.colour(190, 224, 248))
    return mixed(blue, torch.full_like(blue, 0.98), clouds(c, 0.2) * c.chance(0, 1))


def meadow(c: Canvas) -> Drawn:
    horizon = c.chance(0.5, 0.72)
    hills = horizon + 0.025 * c.noise(2, 0.1, 2)
    blades = c.noise(90, 14, 1)
    ground = c.colour(96, 170, 74, 16) * (0.82 + 0.3 * (c.y - 0.4)) + 0.035 * blades
    flowers = c.discs(14, 0.006, 0.014, 0.72, 1.0)
    ground = mixed(ground, torch.rand(c.n, 3, 1, 1, device=c.device) * 0.5 + 0.5, flowers * (c.chance(0, 1) > 0.4))
    return mixed(ground, sky(c), c.above(hills)), (horizon + c.chance(0.12, 0.22)).flatten()


def beach(c: Canvas) -> Drawn:
    horizon = c.chance(0.38, 0.5)
    shore = horizon + c.chance(0.1, 0.2) + 0.012 * c.noise(5, 0.1, 2)
    waves = (c.noise(3, 40, 1) > 1.1).float() * 0.12
    sea = c.fade(c.colour(70, 170, 200), c.colour(30, 130, 190)) + waves
    sand = c.colour(238, 214, 160, 8) + 0.018 * c.noise(60, 60, 1) + 0.02 * c.noise(4, 9, 2)
    foam = ((0.012 - (c.y - shore).abs()) * 90).clamp(0, 1)
    land = mixed(sand, sea, c.above(shore, 2))
    land = mixed(land, torch.ones_like(land), foam)
    return mixed(land, sky(c), c.above(horizon)), (shore + c.chance(0.12, 0.25)).mean((2, 3)).flatten()


def dunes(c: Canvas, near: Tensor, far: Tensor, horizon: Tensor) -> Drawn:
    """Two rows of dunes, and the height at which the farther one meets the sky."""
    ridge = c.noise(2.2, 0.1, 2)
    back = horizon + 0.04 * ridge
    front = horizon + 0.16 + 0.06 * c.noise(1.8, 0.1, 2)
    ripples = 0.02 * torch.sin((c.y * 95 + 2.5 * c.noise(3, 3, 1)) * 2)
    return mixed(near + ripples, far, c.above(front)), back


def desert(c: Canvas) -> Drawn:
    horizon = c.chance(0.45, 0.6)
    land, edge = dunes(c, c.colour(222, 164, 92), c.colour(236, 188, 120), horizon)
    air = c.fade(c.colour(120, 182, 232), c.colour(250, 222, 170))
    return mixed(land, air, c.above(edge)), (horizon + c.chance(0.2, 0.32)).flatten()


def mars(c: Canvas) -> Drawn:
    horizon = c.chance(0.45, 0.6)
    land, edge = dunes(c, c.colour(150, 62, 34), c.colour(186, 90, 52), horizon)
    rocks = c.discs(12, 0.008, 0.03, 0.62, 1.0)
    land = mixed(land + 0.03 * c.noise(40, 40, 1), c.colour(92, 38, 24), rocks)
    air = c.fade(c.colour(196, 120, 82), c.colour(236, 184, 140))
    return mixed(land, air, c.above(edge)), (horizon + c.chance(0.2, 0.32)).flatten()


def moon(c: Canvas) -> Drawn:
    horizon = c.chance(0.5, 0.65) + 0.02 * c.noise(2, 0.1, 1)
    craters = c.discs(9, 0.02, 0.07, 0.65, 1.0)
    ground = c.colour(150, 150, 154, 12) + 0.035 * c.noise(24, 40, 2)
    ground = ground * (1 - 0.3 * craters) + 0.25 * (blur(craters, 2) - craters).clamp(0, 1)
    space = torch.full_like(ground, 0.03) + stars(c, 70)
    return mixed(ground, space, c.above(horizon)), (horizon.mean((2, 3), keepdim=True) + c.chance(0.18, 0.28)).flatten()


def starry(c: Canvas) -> Drawn:
    air = c.fade(c.colour(12, 14, 44, 6), c.colour(44, 46, 110, 10))
    air = air + 0.05 * c.noise(3, 3, 3).clamp(0, 2) + stars(c, 60) * c.colour(255, 247, 217, 0)
    hills = c.chance(0.76, 0.88) + 0.03 * c.noise(2.5, 0.1, 2)
    ground = c.colour(14, 22, 32, 5).expand_as(air)
    return mixed(ground, air, c.above(hills)), c.chance(0.84, 0.93).flatten()


def snow(c: Canvas) -> Drawn:
    horizon = c.chance(0.5, 0.68)
    hills = horizon + 0.035 * c.noise(2, 0.1, 2)
    ground = c.fade(c.colour(214, 226, 240, 5), c.colour(246, 249, 253, 3)) + 0.012 * c.noise(8, 16, 2)
    air = c.fade(c.colour(150, 178, 208), c.colour(206, 220, 234))
    picture = mixed(ground, air, c.above(hills, 3))
    flakes = blur((torch.rand(c.n, 1, c.size, c.size, device=c.device) < 110 / c.size**2).float(), 1.4) * 12
    return mixed(picture, torch.ones_like(picture), flakes.clamp(0, 1)), (horizon + c.chance(0.14, 0.24)).flatten()


def sunset(c: Canvas) -> Drawn:
    horizon = c.chance(0.58, 0.72)
    low = c.colour(252, 170, 76)
    air = mixed(c.colour(110, 64, 130), low, (c.y / horizon).clamp(0, 1) ** 1.3)
    middle, height = c.chance(0.2, 0.8), horizon - c.chance(0.0, 0.16)
    way = ((c.x - middle).square() + (c.y - height).square()).sqrt()
    air = air + 0.5 * torch.exp(-((way / 0.22) ** 2)) * c.colour(255, 191, 90, 0)
    air = mixed(air, c.colour(255, 236, 170), ((0.075 - way) * c.size / 1.5).clamp(0, 1))
    air = mixed(air, c.colour(236, 110, 90), clouds(c, 0.25) * 0.5)
    glitter = torch.exp(-(((c.x - middle) / 0.12) ** 2)) * (0.5 + 0.5 * c.noise(4, 50, 1)).clamp(0, 1)
    sea = c.colour(92, 56, 92) + 0.7 * glitter * low
    hill = c.colour(36, 26, 40, 5).expand_as(sea)
    ground = torch.where(c.chance(0, 1) > 0.4, sea, hill)
    return mixed(ground, air, c.above(horizon + 0.004 * c.noise(3, 0.1, 1))), (horizon + c.chance(0.1, 0.25)).flatten()


def forest(c: Canvas) -> Drawn:
    ground_height = c.chance(0.66, 0.78)
    leaves = c.fade(c.colour(122, 168, 98, 16), c.colour(54, 98, 56, 12)) + 0.09 * c.noise(9, 9, 3)
    trunks = torch.zeros(c.n, 1, c.size, c.size, device=c.device)
    for _ in range(7):
        trunks = torch.maximum(trunks, ((c.chance(0.012, 0.035) - (c.x - c.chance(0, 1)).abs()) * c.size).clamp(0, 1))
    wood = c.colour(84, 62, 46, 10) + 0.04 * c.noise(70, 6, 1)
    ground = c.colour(84, 92, 50, 10) + 0.04 * c.noise(30, 16, 2)
    return mixed(ground, mixed(leaves, wood, trunks), c.above(ground_height + 0.01 * c.noise(5, 0.1, 1))), (
        ground_height + c.chance(0.08, 0.16)
    ).flatten()


def underwater(c: Canvas) -> Drawn:
    water = c.fade(c.colour(70, 180, 216, 10), c.colour(12, 60, 120, 10))
    rays = torch.sin((c.x + 0.35 * c.y + 0.15 * c.noise(2, 1, 1)) * 26).clamp(0, 1) * (1 - c.y) * 0.13
    rings = c.discs(10, 0.008, 0.026)
    bubbles = (rings - F.avg_pool2d(rings, 5, 1, 2) * 0.75).clamp(0, 1)
    floor = c.colour(214, 194, 146) * 0.75 + 0.03 * c.noise(20, 20, 2)
    bed = c.chance(0.86, 1.05) + 0.02 * c.noise(3, 0.1, 1)
    return mixed(floor, water + rays + 0.6 * bubbles, c.above(bed, 4)), c.chance(0.72, 0.9).flatten()


def city(c: Canvas) -> Drawn:
    night = (c.chance(0, 1) > 0.6).float()
    air = mixed(sky(c), c.fade(c.colour(16, 20, 52, 6), c.colour(70, 60, 110, 10)), night)
    picture = air
    street = c.chance(0.78, 0.9)
    for layer, (count, shade) in enumerate(((9, 0.62), (7, 0.4))):
        column = (c.x * count + c.chance(0, 1)).floor()
        heights = torch.rand(c.n, count + 2, device=c.device) * (0.42 - 0.1 * layer) + 0.22 + 0.16 * layer
        top = heights.gather(1, column.long().flatten(1).clamp(max=count + 1)).view(column.shape)
        tint = torch.rand(c.n, count + 2, device=c.device).gather(1, column.long().flatten(1)).view(column.shape)
        wall = c.colour(150, 156, 172, 14) * (shade + 0.3 * tint) * (1 - 0.5 * night)
        across, down = (c.x * count * 3.0) % 1, (c.y * 22) % 1
        window = ((across > 0.3) & (across < 0.75) & (down > 0.3) & (down < 0.75)).float()
        lit = (torch.rand(c.n, 1, 24, count * 3 + 3, device=c.device) > 0.5).float()
        lit = F.interpolate(lit, (c.size, c.size), mode="nearest")
        glow = mixed(c.colour(90, 120, 150), c.colour(255, 222, 130), night)
        wall = mixed(wall, glow.expand_as(wall), window * mixed(torch.full_like(lit, 0.75), lit, night))
        picture = mixed(picture, wall, (c.y > 1 - top).float())
    road = c.colour(84, 86, 92, 8) * (1 - 0.45 * night) + 0.01 * c.noise(40, 40, 1)
    return mixed(road, picture, c.above(street)), (street + c.chance(0.04, 0.09)).flatten()


def heights(c: Canvas) -> Drawn:
    blue = c.fade(c.colour(70, 150, 230), c.colour(168, 212, 248))
    return mixed(blue, torch.full_like(blue, 0.99), clouds(c, 0.42)), c.chance(0.75, 0.92).flatten()


def planks(c: Canvas, wood: Tensor) -> Tensor:
    rows = c.chance(7, 11)
    row = (c.y * rows).floor()
    shade = 0.05 * torch.sin(row * 12.9898 + c.chance(0, 6)) + 0.035 * c.noise(2, 60, 2)
    gap = ((c.y * rows) % 1 < 0.06).float() * 0.16
    joint = (((c.x + 0.37 * row) * 2.3) % 1 < 0.008).float() * 0.16
    return wood + shade - gap - joint


def wall(c: Canvas) -> Tensor:
    tint = torch.rand(c.n, 3, 1, 1, device=c.device) * 0.3 + 0.62
    return tint + 0.05 * (0.5 - c.y) + 0.008 * c.noise(30, 30, 1)


def floor_of_wood(c: Canvas) -> Drawn:
    edge = c.chance(0.3, 0.5)
    wood = planks(c, c.colour(176, 124, 76, 16))
    skirting = ((0.018 - (c.y - edge).abs()) * 80).clamp(0, 1)
    room = mixed(wood, wall(c), c.above(edge))
    return mixed(room, torch.full_like(room, 0.93), skirting), (edge + c.chance(0.28, 0.42)).flatten()


def rug(c: Canvas) -> Drawn:
    floor, _ = floor_of_wood(c)
    top = c.chance(0.56, 0.64)
    inside = torch.maximum((c.x - 0.5).abs() / c.chance(0.4, 0.48), (c.y - (top + 0.2)).abs() / 0.2)
    main, second = (torch.rand(c.n, 3, 1, 1, device=c.device) * 0.75 + 0.12 for _ in range(2))
    bands = torch.sin(inside * c.chance(14, 26)) > 0
    diamonds = (((c.x * 9) % 1 - 0.5).abs() + ((c.y * 9) % 1 - 0.5).abs()) < 0.3
    pattern = mixed(main, second, (bands ^ diamonds).float()) + 0.02 * c.noise(80, 80, 1)
    return mixed(floor, pattern, ((1 - inside) * 60).clamp(0, 1)), (top + c.chance(0.18, 0.28)).flatten()


def table(name: str) -> Callable[[Canvas], Drawn]:
    """A table of a colour before a wall."""

    def draw(c: Canvas) -> Drawn:
        edge = c.chance(0.55, 0.72)
        top = c.named(name, 7) * (1.06 - 0.25 * (c.y - 0.6)) + 0.02 * c.noise(2, 40, 2) * (name == "brown")
        rim = ((0.012 - (c.y - edge - 0.012).abs()) * 90).clamp(0, 1)
        top = top + 0.1 * rim
        return mixed(top, wall(c), c.above(edge)), (edge + c.chance(0.1, 0.2)).flatten()

    return draw


def bricks(c: Canvas) -> Drawn:
    rows = c.chance(9, 14)
    row = (c.y * rows).floor()
    across = c.x * rows / 2.2 + 0.5 * (row % 2)
    mortar = (((c.y * rows) % 1 < 0.1) | (across % 1 < 0.05)).float()
    tint = 0.06 * torch.sin(across.floor() * 17.3 + row * 7.7 + c.chance(0, 6))
    brick = c.colour(168, 84, 62, 12) + tint + 0.02 * c.noise(50, 50, 1)
    return mixed(brick, c.colour(206, 198, 186), mortar), c.chance(0.84, 0.94).flatten()


def stones(c: Canvas) -> Drawn:
    like = torch.zeros(c.n, 1, c.size, c.size, device=c.device)
    found = cells(like, c.size / 11, 0.8)
    shade = found.off[:, :1] * -0.006 + 0.03 * c.noise(30, 30, 2)
    joint = (1 - (found.border - 1)).clamp(0, 1)
    return mixed(c.colour(150, 146, 138, 10) + shade, c.colour(92, 90, 84), joint), c.chance(0.8, 0.92).flatten()


SCENES: dict[str, Callable[[Canvas], Drawn]] = {
    "on a meadow": meadow,
    "on a beach": beach,
    "in the desert": desert,
    "in the desert on Mars": mars,
    "on the moon": moon,
    "under a starry sky": starry,
    "in the snow": snow,
    "at sunset": sunset,
    "in a forest": forest,
    "underwater": underwater,
    "in a city": city,
    "in the clouds": heights,
    "on a wooden floor": floor_of_wood,
    "on a rug": rug,
    "in front of a brick wall": bricks,
    "on a stone floor": stones,
}
TABLES = ("brown", "white", "red", "blue", "green", "gray", "black")

PLACES: dict[str, Callable[[Canvas], Drawn]] = {
    **{f"on a {name} background": plain(name) for name in PALETTE},
    **SCENES,
    **{f"on a {name} table": table(name) for name in TABLES},
}
"""The words in a caption → how the place is drawn."""


def draw(name: str, count: int, size: int, device: torch.device) -> Drawn:
    """The place `count` times: pictures (count, 3, size, size) in 0..1, and where things stand, (count,) in 0..1."""
    pictures, ground = PLACES[name](Canvas(count, size, device))
    return pictures.clamp(0, 1).expand(count, 3, size, size), ground.clamp(0.5, 0.96)
