"""What inpainting a region costs beside generating it alone: `python -m benchmarks.inpainting`.

A region of 128x128 pixels in a picture of 1024x1024, only the region worked on, on the bundled model; and a picture of
128x128 from words alone, with the same steps. The two take turns, from the recipe to the finished picture, and the
medians are divided. What is done to the mask when Generate is pressed is in `benchmarks.masks`.
"""

import argparse
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from studio.drawing.worker import TorchWorker
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe

LIMIT = 1.15
"""The most that inpainting may cost, as a share of generating."""

SIDE, REGION = 1024, 128


def draw(worker: TorchWorker, recipe: Recipe) -> float:
    """Seconds from the recipe to the picture."""
    start = time.perf_counter()
    run = worker.begin(recipe)
    while run.done < run.total:
        worker.step([run])
    worker.decode(run)
    return time.perf_counter() - start


def measure(rounds: int, folder: Path) -> tuple[float, float]:
    """Median seconds of inpainting and of generating."""
    models, sources = Manager(), Sources(folder)
    worker = TorchWorker(models, sources)
    worker.load("sketchbook", lambda read, size: None)
    alone = replace(models.default_recipe("sketchbook"), prompt="a red apple", width=REGION, height=REGION, steps=20)
    middle = (SIDE - REGION) // 2
    box = (middle, middle, middle + REGION, middle + REGION)
    picture, mask = Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB"), Image.new("L", (SIDE, SIDE))
    mask.paste(255, (middle + 16, middle + 16, middle + REGION - 16, middle + REGION - 16))
    inpaint = replace(
        alone, source=sources.add_image(picture), mask=sources.add_image(mask), box=box, fill="blur"
    ).check()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for side, recipe in zip(times, (inpaint, alone), strict=True):
            seconds = draw(worker, recipe)
            if number:
                side.append(seconds)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inpainting, generating = measure(given.rounds, Path(folder))
    ratio = inpainting / generating
    print(f"Inpainting {inpainting:.3f} s, generating {generating:.3f} s: {ratio:.2f} (at most {LIMIT})")
    print(f"On {platform.machine()}, {torch.get_num_threads()} threads.")


if __name__ == "__main__":
    main()
