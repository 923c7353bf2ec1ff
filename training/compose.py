"""Training pictures: a subject in a style, at a random place and size, on a background that the caption names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .corpus import Corpus

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
SCENES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {  # caption → sky, ground
    "on a meadow": ((150, 208, 248), (96, 176, 76)),
    "on a beach": ((104, 190, 240), (238, 214, 160)),
    "in the desert": ((250, 196, 120), (222, 150, 80)),
    "in the snow": ((176, 204, 232), (244, 248, 252)),
    "under a starry sky": ((18, 22, 60), (18, 22, 60)),
}
STYLE_SHARES = {"3d render": 0.36, "flat illustration": 0.22, "cartoon": 0.27, "sticker": 0.15}
"""How often each style is drawn; also the odds when the caption names none."""
COMMON_SHARE = 0.97
"""Part of the pictures that show one of the common subjects."""


@dataclass(frozen=True)
class Plan:
    """What a picture shows: `background` is a key of PALETTE or SCENES."""

    subject: int
    style: str
    background: str


def draw_plan(rng: np.random.Generator, corpus: Corpus, common: np.ndarray, rare: np.ndarray) -> Plan:
    """A random plan. `common` and `rare` are indices of subjects."""
    pool = common if rng.random() < COMMON_SHARE or not len(rare) else rare
    subject = int(rng.choice(pool))
    styles = corpus.styles_of(subject)
    shares = np.array([STYLE_SHARES[style] for style in styles])
    style = styles[int(rng.choice(len(styles), p=shares / shares.sum()))]
    backgrounds = list(SCENES) if rng.random() < 0.12 else list(PALETTE)
    return Plan(subject, style, backgrounds[int(rng.integers(len(backgrounds)))])


def backdrop(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """The background as float32 (size, size, 3) in 0…255: a colour with a slight gradient, or a simple scene."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if name in PALETTE:
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 16)
        slope = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
        jitter = rng.uniform(-7, 7, 3).astype(np.float32)
        return np.clip(np.float32(PALETTE[name]) + jitter + (slope * strength)[..., None], 0, 255).astype(np.float32)
    sky, ground = (np.float32(c) for c in SCENES[name])
    horizon = rng.uniform(0.5, 0.75)
    waves = 0.02 * np.sin(x * rng.uniform(3, 9) + rng.uniform(0, 6))
    is_ground = 1 / (1 + np.exp((horizon + waves - y) * size / 1.5))[..., None]
    picture = sky * (1.08 - 0.16 * y[..., None]) * (1 - is_ground) + ground * (0.9 + 0.15 * y[..., None]) * is_ground
    if name == "under a starry sky":
        for _ in range(int(rng.integers(20, 40))):
            sx, sy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.004, 0.012)
            glow = np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / (2 * radius**2))
            picture += glow[..., None] * (np.float32((255, 250, 220)) - picture)
    return np.clip(picture, 0, 255).astype(np.float32)


def outlined(subject: Image.Image, width: int) -> Image.Image:
    """A subject on a white shape a little larger than itself, as a die-cut sticker has."""
    edge = subject.getchannel("A").filter(ImageFilter.MaxFilter(2 * width + 1)).filter(ImageFilter.GaussianBlur(0.7))
    sticker = Image.new("RGBA", subject.size, (255, 255, 255, 0))
    sticker.putalpha(edge)
    return Image.alpha_composite(sticker, subject)


def compose(rng: np.random.Generator, subject: np.ndarray, style: str, background: str, size: int = 128) -> np.ndarray:
    """Draw one picture. `subject` is uint8 RGBA (n, n, 4), straight alpha; returns uint8 (size, size, 3)."""
    scale = 0.92 - 0.34 * rng.beta(1.0, 2.2)  # mostly large: at f8 a small subject is a handful of latents
    side = round(size * scale)
    room = size - side
    left, top = (round(room * rng.beta(2, 2)) for _ in range(2))
    scaled = Image.fromarray(subject).convert("RGBa").resize((side, side), Image.Resampling.BILINEAR).convert("RGBA")
    layer = Image.new("RGBA", (size, size))
    layer.paste(scaled, (left, top))
    if style == "sticker":
        layer = outlined(layer, max(1, size // 64))
    rgba = np.asarray(layer, np.float32)
    picture = backdrop(rng, background, size)
    if style == "3d render":
        picture *= 1 - 0.3 * _shadow(layer, size)
    alpha = rgba[..., 3:] / 255
    return (rgba[..., :3] * alpha + picture * (1 - alpha) + 0.5).astype(np.uint8)


def _shadow(layer: Image.Image, size: int) -> np.ndarray:
    """A soft shadow below the subject: float32 (size, size, 1) in 0…1. Blurred at a quarter of the size: cheap."""
    small = layer.getchannel("A").resize((size // 4, size // 4)).filter(ImageFilter.GaussianBlur(1.5))
    shadow = np.asarray(small.resize((size, size), Image.Resampling.BILINEAR), np.float32)[..., None] / 255
    return np.roll(shadow, size // 24, axis=0)


def article(words: str) -> str:
    """ "a cat", "an apple", and no article before plurals and things one cannot count."""
    plural = (words.endswith("s") and not words.endswith(("ss", "us", "dress"))) or words in {"honey", "coffee", "corn"}
    return words if plural else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(rng: np.random.Generator, words: tuple[str, ...], style: str, background: str) -> str:
    """A caption for a picture: any of the usual ways to ask for it, in which style and background may be left out."""
    word = words[0] if rng.random() < 0.6 else words[int(rng.integers(len(words)))]
    thing = article(word) if rng.random() < 0.7 else word
    place = f"on {article(background)} background" if background in PALETTE else background
    if rng.random() < 0.15:
        place = f"{background} background" if background in PALETTE else background
        thing, comma = thing, ", "
    else:
        comma = " " if rng.random() < 0.5 else ", "
    tail = f"{comma}{place}" if rng.random() < 0.8 else ""
    if rng.random() < 0.2:
        return f"{thing}{tail}"
    ways = [
        f"{thing}, {style}{tail}",
        f"{style} of {thing}{tail}",
        f"{article(style)} of {thing}{tail}",
        f"{thing}{tail}, {style}",
        f"{style}, {thing}{tail}",
        f"{style} {word}{tail}",
    ]
    return ways[int(rng.integers(len(ways)))]


class Composer:
    """Draws pictures with captions from a corpus, without end. One per process: it holds its own generator."""

    def __init__(self, corpus: Corpus, seed: int, size: int = 128):
        self.corpus, self.size, self.rng = corpus, size, np.random.default_rng(seed)
        usable = [i for i in range(len(corpus.subjects)) if corpus.styles_of(i)]
        self.common = np.array([i for i in usable if corpus.subjects[i].common])
        self.rare = np.array([i for i in usable if not corpus.subjects[i].common])

    def draw(self) -> tuple[np.ndarray, str, Plan]:
        """Picture uint8 (size, size, 3), its caption, and the plan behind both."""
        plan = draw_plan(self.rng, self.corpus, self.common, self.rare)
        subject = self.corpus.pictures[plan.style][plan.subject]
        picture = compose(self.rng, subject, plan.style, plan.background, self.size)
        words = self.corpus.subjects[plan.subject].words
        return picture, caption(self.rng, words, plan.style, plan.background), plan

    def batch(self, count: int) -> tuple[np.ndarray, list[str], list[Plan]]:
        """`count` pictures, uint8 (count, size, size, 3), with captions and plans."""
        pictures, captions, plans = zip(*(self.draw() for _ in range(count)), strict=True)
        return np.stack(pictures), list(captions), list(plans)
