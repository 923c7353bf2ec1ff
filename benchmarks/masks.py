"""What a mask costs beside the model: `python -m benchmarks.masks`.

All that is done to a mask and a picture before and after an inpainting, at 2048x2048, on one thread: the mask is grown
and feathered, the part around it cropped to a model's 1024x1024 and filled, and what was drawn is laid back. The median
of some rounds for each step, and for all together.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from studio.pictures import masks

SIDE = 2048
WORK = 1024
GROW = 8
FEATHER = 16
MARGIN = 64
LIMIT = 150.0
"""The most that all of it may take, in milliseconds."""

T = TypeVar("T")


class Stopwatch:
    """Milliseconds of each step, by name, in the order of the first round."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def __call__(self, name: str, action: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = action()
        self.times.setdefault(name, []).append(1000 * (time.perf_counter() - start))
        return result

    def medians(self) -> dict[str, float]:
        """Each step, and "All together": the median round, not the sum of the steps' medians."""
        rounds = [sum(steps) for steps in zip(*self.times.values(), strict=True)]
        return {
            **{name: statistics.median(times) for name, times in self.times.items()},
            "All together": statistics.median(rounds),
        }


def picture(side: int) -> Image.Image:
    """Smooth colours with some noise, as photographs have."""
    down, across = np.mgrid[:side, :side].astype(np.float32) / side
    smooth = np.stack([across, down, (across + down) / 2], axis=-1)
    noise = np.random.default_rng(0).normal(0, 0.02, smooth.shape)
    return Image.fromarray((255 * np.clip(smooth + noise, 0, 1)).astype(np.uint8))


def painted(side: int) -> Image.Image:
    """A disc over a quarter of the picture, as a mask."""
    mask, radius = Image.new("L", (side, side)), side * (0.25 / np.pi) ** 0.5
    ImageDraw.Draw(mask).ellipse([side / 2 - radius] * 2 + [side / 2 + radius] * 2, 255)
    return mask


def run(source: Image.Image, mask: Image.Image, drawn: Image.Image, step: Stopwatch) -> None:
    """One round."""
    mask = step("Grow by 8 pixels", lambda: masks.grown(mask, GROW))
    mask = step("Feather over 16 pixels", lambda: masks.feathered(mask, FEATHER))
    box = step("Find the box", lambda: masks.box_around(mask, MARGIN))
    size = (WORK, WORK)
    part, hole = step("Crop", lambda: (masks.cropped(source, box, size), masks.cropped(mask, box, size)))
    step("Fill with the surroundings", lambda: masks.filled(part, hole, "blur", 1))
    step("Harmonise and paste back", lambda: masks.pasted(source, drawn, mask, box))


def measure(rounds: int) -> dict[str, float]:
    """Milliseconds of each step and of all, after a round to warm up."""
    source, mask, drawn = picture(SIDE), painted(SIDE), picture(WORK)
    run(source, mask, drawn, Stopwatch())
    step = Stopwatch()
    for _ in range(rounds):
        run(source, mask, drawn, step)
    return step.medians()


def table(medians: dict[str, float]) -> str:
    """The figures as Markdown, with what they were measured on."""
    rows = "\n".join(
        f"| {name} | {figure:.0f} ms | {f'{LIMIT:g} ms' if name == 'All together' else ''} |"
        for name, figure in medians.items()
    )
    measured = f"Measured by `python -m benchmarks.masks` at {SIDE}x{SIDE} ({platform.machine()}, one thread)."
    return f"| | measured | at most |\n|---|---|---|\n{rows}\n\n{measured}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    print(table(measure(parser.parse_args().rounds)))
