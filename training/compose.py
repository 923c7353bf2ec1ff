"""Training pictures with captions, without end: subject x medium x colour x place x count x layout.

A `Plan` says what a picture shows, `Composer` draws a batch of plans at once on any device, `caption` says it in
words. A tenth of the combinations of subject, medium and place is held out: it is never drawn for training, and is
what evaluation asks for.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training import places
from training.corpus import PICTURE_SIZE, STYLES, Corpus
from training.media import FILTERS, blur, grey
from training.places import PALETTE, PLACES, SCENES, TABLES

STYLE_SHARES = {"3d render": 0.36, "flat illustration": 0.24, "cartoon": 0.28, "sticker": 0.12}
"""How often each style is drawn; also the odds when the caption names none."""
MEDIA = (*STYLES, *FILTERS)
PLAIN = tuple(f"on a {name} background" for name in PALETTE)
FLOATING = (*PLAIN, "in the clouds", "underwater")
"""Places where things touch no ground."""
OWN_GROUND = {
    "pencil sketch": "white",
    "ink line drawing": "white",
    "charcoal": "white",
    "woodcut": "beige",
    "sepia photo": "brown",
    "neon": "black",
}
"""Media in which colours are lost: the only plain background that they can be asked for on."""
PLACE_NAMES = tuple(PLACES)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
"""Colours that things can be asked for in."""
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
RELATIONS = ("and", "to the left of", "to the right of", "on top of", "wearing")
HATS = ("top hat", "crown", "woman’s hat", "billed cap", "graduation cap")
MOST = 5
"""Things in a picture."""


@dataclass(frozen=True)
class Thing:
    """A subject of the corpus, so many times, in a colour of COLOURS or (empty) its own."""

    subject: int
    count: int = 1
    colour: str = ""


@dataclass(frozen=True)
class Plan:
    """What a picture shows. No thing at all means the place by itself.

    style: which picture set. medium: "" or a name of FILTERS. place: a name of PLACES. relation: between two things.
    """

    things: tuple[Thing, ...]
    style: str
    medium: str
    place: str
    relation: str = ""

    @property
    def seen_as(self) -> str:
        """The one of MEDIA that it looks like."""
        return self.medium or self.style


class Sprite(NamedTuple):
    """A subject at its place: middle and side as shares of the picture, tilt in radians."""

    subject: int
    x: float
    y: float
    side: float
    mirrored: bool
    tilt: float
    colour: str


def held_out(corpus: Corpus, subject: int, medium: str, place: str) -> bool:
    """Whether this combination is kept for evaluation."""
    return zlib.crc32(f"{corpus.subjects[subject].name}|{medium}|{place}".encode()) % 10 == 0


def shows(medium: str, place: str) -> bool:
    """Whether a place can be told in this medium."""
    ground = OWN_GROUND.get(medium)
    return ground is None or place in SCENES or place == f"on a {ground} background"


class Planner:
    """Draws plans by chance, of all subjects."""

    def __init__(self, corpus: Corpus, rng: np.random.Generator) -> None:
        self.corpus, self.rng = corpus, rng
        self.subjects = len(corpus.subjects)
        self.hats = [i for i in range(len(corpus.subjects)) if corpus.subjects[i].name in HATS]

    def subject(self) -> int:
        return int(self.rng.integers(self.subjects))

    def draw(self) -> Plan:
        """A plan that is not held out."""
        while True:
            plan = self._any()
            out = plan.things and held_out(self.corpus, plan.things[0].subject, plan.seen_as, plan.place)
            if shows(plan.seen_as, plan.place) and not out:
                return plan

    def _any(self) -> Plan:
        rng = self.rng
        things, relation = self._things()
        shares = {style: share for style, share in STYLE_SHARES.items() if self._has(things, style)} or STYLE_SHARES
        odds = np.array([*shares.values()])
        style = str(rng.choice([*shares], p=odds / odds.sum()))
        kind = rng.random()
        medium = str(rng.choice([*FILTERS])) if rng.random() < 0.5 else ""
        if not things or kind < 0.4:
            place = str(rng.choice([*SCENES]))
        elif kind < 0.5:
            place = f"on a {rng.choice(TABLES)} table"
        else:
            place = str(rng.choice(PLAIN))
        return Plan(things, style, medium, place, relation)

    def _things(self) -> tuple[tuple[Thing, ...], str]:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.02:
            return (), ""
        if kind < 0.12:
            return (Thing(self.subject(), 1, str(rng.choice(COLOURS))),), ""
        if kind < 0.22:
            return (Thing(self.subject(), int(rng.choice([*NUMBERS], p=(0.4, 0.35, 0.15, 0.1)))),), ""
        if kind < 0.5:
            relation = str(rng.choice(RELATIONS, p=(0.5, 0.15, 0.15, 0.1, 0.1)))
            second = int(rng.choice(self.hats)) if relation == "wearing" and self.hats else self.subject()
            return (Thing(self.subject()), Thing(second)), relation
        return (Thing(self.subject()),), ""

    def _has(self, things: tuple[Thing, ...], style: str) -> bool:
        return all(self.corpus.pictures[style][thing.subject, ..., 3].any() for thing in things)


def layout(rng: np.random.Generator, plan: Plan, ground: float) -> list[Sprite]:
    """Where each thing of a plan goes. ground: where things stand, as a share of the height."""
    standing = plan.place not in PLAIN

    def sprite(thing: Thing, x: float, y: float, side: float) -> Sprite:
        tilt = float(rng.normal(0, 0.03))
        return Sprite(thing.subject, x, y, side, bool(rng.random() < 0.5), tilt, thing.colour)

    def standing_at(side: float) -> float:
        return min(ground, 0.97) - side / 2 if standing else 0.5 + rng.uniform(-0.06, 0.06)

    if not plan.things:
        return []
    first = plan.things[0]
    if len(plan.things) == 2:
        second = plan.things[1]
        if plan.relation in ("on top of", "wearing"):
            low, high = (second, first) if plan.relation == "on top of" else (first, second)
            side = rng.uniform(0.46, 0.56)
            y = min(max(standing_at(side), 0.62), 0.98 - side / 2)
            top = rng.uniform(0.3, 0.38)
            x = 0.5 + rng.uniform(-0.08, 0.08)
            return [sprite(low, x, y, side), sprite(high, x, y - side / 2 - top * 0.28, top)]
        left = plan.relation == "to the left of" or (plan.relation == "and" and rng.random() < 0.5)
        sides = rng.uniform(0.38, 0.5, 2)
        x = rng.uniform(0.22, 0.29)
        return [
            sprite(first, x if left else 1 - x, standing_at(sides[0]), float(sides[0])),
            sprite(second, 1 - x if left else x, standing_at(sides[1]), float(sides[1])),
        ]
    if first.count > 1:
        return [sprite(first, *place) for place in _spread(rng, first.count, standing, ground)]
    # Large, for each detail of a small thing falls between the latents.
    side = 0.94 - 0.26 * float(rng.beta(1.2, 2.0))
    side = side * 0.88 if standing else side
    room = (1 - side) / 2
    x = 0.5 + room * (2 * rng.beta(2, 2) - 1)
    return [sprite(first, float(x), standing_at(side) if standing else 0.5 + room * (2 * rng.beta(2, 2) - 1), side)]


def _spread(rng: np.random.Generator, count: int, standing: bool, ground: float) -> list[tuple[float, float, float]]:
    """Middle and side of `count` equal things that hardly overlap."""
    if count <= 3 or standing:
        side = {2: 0.44, 3: 0.32, 4: 0.25, 5: 0.2}[count] * rng.uniform(0.9, 1.08)
        y = ground - side / 2 if standing else 0.5
        middles = [(number + 0.5) / count + rng.uniform(-0.015, 0.015) for number in range(count)]
        return [(x, y + rng.uniform(-0.03, 0.03), side) for x in middles]
    side = 0.38 * rng.uniform(0.9, 1.05)
    spots = [(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73), (0.5, 0.5)][:count]
    side = side * 0.85 if count == 5 else side
    return [(x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.03, 0.03), side) for x, y in spots]


class Composer:
    """Draws batches of plans: subjects of the corpus as textures on a device.

    size: side of the pictures in pixels. at_once: so many pictures are best asked for in one go.
    """

    def __init__(self, corpus: Corpus, size: int = 256, device: torch.device | str = "cpu") -> None:
        self.corpus, self.size, self.device = corpus, size, torch.device(device)
        self.at_once = 250 if self.device.type == "cuda" else 64
        stacked = np.stack([corpus.pictures[style] for style in STYLES])
        self.textures = torch.from_numpy(stacked).to(self.device)

    def pictures(self, plans: list[Plan], rng: np.random.Generator) -> Tensor:
        """uint8 (n, 3, size, size), each showing its plan."""
        n = len(plans)
        pictures = torch.empty(n, 3, self.size, self.size, device=self.device)
        ground = torch.empty(n)
        for place in sorted({plan.place for plan in plans}):
            rows = torch.tensor([row for row, plan in enumerate(plans) if plan.place == place], device=self.device)
            drawn, stands = places.draw(place, len(rows), self.size, self.device)
            pictures[rows], ground[rows.cpu()] = drawn, stands.cpu()
        sprites = [layout(rng, plan, float(height)) for plan, height in zip(plans, ground, strict=True)]
        for number in range(MOST):
            rows_with = [row for row, found in enumerate(sprites) if len(found) > number]
            if rows_with:
                rows = torch.tensor(rows_with, device=self.device)
                chosen = [sprites[row][number] for row in rows_with]
                pictures[rows] = self._placed(pictures[rows], chosen, [plans[row] for row in rows_with])
        for medium in sorted({plan.medium for plan in plans} - {""}):
            rows = torch.tensor([row for row, plan in enumerate(plans) if plan.medium == medium], device=self.device)
            pictures[rows] = FILTERS[medium](pictures[rows])
        return (pictures * 255 + 0.5).clamp(0, 255).to(torch.uint8)

    def _placed(self, pictures: Tensor, sprites: list[Sprite], plans: list[Plan]) -> Tensor:
        """The pictures with one sprite each laid over them."""
        styles = [list(STYLES).index(plan.style) for plan in plans]
        layer = self._layer(sprites, styles)
        alpha = layer[:, 3:]
        stickers = torch.tensor([plan.style == "sticker" for plan in plans], device=self.device)
        if stickers.any():
            reach = 2 * max(1, round(self.size / 64)) + 1
            edge = blur(F.max_pool2d(alpha[stickers], reach, 1, reach // 2), 0.7)
            layer[stickers, :3] = layer[stickers, :3] + (edge - alpha[stickers]).clamp(min=0)
            layer[stickers, 3:] = torch.maximum(edge, alpha[stickers])
            alpha = layer[:, 3:]
        shadow = self._shadow(alpha, sprites, plans)
        return pictures * (1 - shadow) * (1 - alpha) + layer[:, :3]

    def _layer(self, sprites: list[Sprite], styles: list[int]) -> Tensor:
        """RGBA (n, 4, size, size) with premultiplied alpha."""
        subjects = torch.tensor([each.subject for each in sprites], device=self.device)
        textures = self.textures[torch.tensor(styles, device=self.device), subjects].permute(0, 3, 1, 2).float() / 255
        textures = self._coloured(textures, sprites)
        textures = torch.cat((textures[:, :3] * textures[:, 3:], textures[:, 3:]), 1)
        # Sampling skips pixels where a texture gets much smaller: these are taken from one of half the size.
        small = torch.tensor([each.side * self.size < 0.6 * PICTURE_SIZE for each in sprites], device=self.device)
        halved = F.interpolate(F.avg_pool2d(textures, 2), scale_factor=2, mode="bilinear")
        textures = torch.where(small[:, None, None, None], halved, textures)
        turns = torch.tensor(
            [
                (
                    (-1 if s.mirrored else 1) * np.cos(s.tilt) / s.side,
                    (-1 if s.mirrored else 1) * np.sin(s.tilt) / s.side,
                    -np.sin(s.tilt) / s.side,
                    np.cos(s.tilt) / s.side,
                    2 * s.x - 1,
                    2 * s.y - 1,
                )
                for s in sprites
            ],
            device=self.device,
            dtype=torch.float32,
        )
        matrix = turns[:, :4].view(-1, 2, 2)
        offset = -(matrix @ turns[:, 4:, None])
        shape = [len(sprites), 4, self.size, self.size]
        grid = F.affine_grid(torch.cat((matrix, offset), 2), shape, align_corners=False)
        return F.grid_sample(textures, grid, align_corners=False)

    def _coloured(self, textures: Tensor, sprites: list[Sprite]) -> Tensor:
        rows = [row for row, each in enumerate(sprites) if each.colour]
        if not rows:
            return textures
        wanted = torch.tensor([PALETTE[sprites[row].colour] for row in rows], device=self.device) / 255
        part = textures[rows]
        light = grey(part[:, :3])
        inside = part[:, 3:]
        mean = (light * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)
        tinted = (wanted[:, :, None, None] * (0.45 + 0.55 * light / mean.clamp(min=0.15))).clamp(0, 1)
        # Outlines, eyes and lights stay what they are.
        keep = ((0.14 - light) * 12).clamp(0, 1) + ((light - 0.93) * 12).clamp(0, 0.7)
        textures = textures.clone()
        textures[rows, :3] = tinted * (1 - keep) + part[:, :3] * keep
        return textures

    def _shadow(self, alpha: Tensor, sprites: list[Sprite], plans: list[Plan]) -> Tensor:
        """How much darker a sprite makes what lies behind it, (n, 1, size, size) in 0..1."""
        small = F.avg_pool2d(alpha, 4)
        drop = F.interpolate(blur(small, 1.5), scale_factor=4, mode="bilinear").roll(self.size // 24, 2)
        drop = drop * self._column([0.3 * (plan.style == "3d render") for plan in plans])
        place = (torch.arange(self.size, device=self.device) + 0.5) / self.size
        x, y, side = (self._column([getattr(each, name) for each in sprites]) for name in ("x", "y", "side"))
        across = (place.view(1, 1, 1, -1) - x) / (0.42 * side)
        down = (place.view(1, 1, -1, 1) - y - 0.485 * side) / (0.07 * side)
        contact = torch.exp(-(across**2) - down**2)
        return torch.maximum(drop, contact * self._column([0.4 * (plan.place not in FLOATING) for plan in plans]))

    def _column(self, values: list[float]) -> Tensor:
        """A number for each picture, (n, 1, 1, 1)."""
        return torch.tensor(values, device=self.device, dtype=torch.float32).view(-1, 1, 1, 1)
