"""Seams of real inpainting with the bundled model, on pictures in which every step would be seen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from studio.drawing.worker import TorchWorker
from studio.models.manager import Manager
from studio.pictures import masks
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe

SIZE = 192


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> TorchWorker:
    return TorchWorker(Manager(device="cpu", dtype="float32"), Sources(tmp_path_factory.mktemp("sources")))


def gradient(corners: tuple[str, str, str, str]) -> Image.Image:
    """Colours that run smoothly from corner to corner."""
    small = Image.new("RGB", (2, 2))
    small.putdata([ImageColor.getrgb(corner) for corner in corners])
    values = np.asarray(small, np.float32)
    along = np.linspace(0, 1, SIZE, dtype=np.float32)
    top = values[0, 0] + along[:, None] * (values[0, 1] - values[0, 0])
    low = values[1, 0] + along[:, None] * (values[1, 1] - values[1, 0])
    return Image.fromarray((top + along[:, None, None] * (low - top)).round().astype(np.uint8))


def steps_across(picture: Image.Image, mask: np.ndarray) -> float:
    """The mean difference, over the channels, of neighbouring pixels one of which is masked and the other not."""
    values = np.asarray(picture).astype(int)
    found = []
    for axis in (0, 1):
        differs = np.diff(mask.astype(int), axis=axis) != 0
        found.append(np.abs(np.diff(values, axis=axis)).mean(-1)[differs])
    return float(np.concatenate(found).mean())


@pytest.mark.parametrize("corners", [("navy", "teal", "orange", "white"), ("black", "red", "white", "yellow")])
@pytest.mark.parametrize("area", ["region", "whole"])
def test_no_seam_is_seen(worker: TorchWorker, corners: tuple[str, str, str, str], area: str, tmp_path: Path) -> None:
    sources, original = worker._sources, gradient(corners)
    mask = Image.new("L", original.size)
    ImageDraw.Draw(mask).ellipse((60, 70, 120, 130), 255)
    mask = masks.feathered(mask, 6)
    box = masks.box_around(mask, 32) if area == "region" else None
    recipe = Recipe(
        source=sources.add_image(original), mask=sources.add_image(mask), box=box, steps=8, fill="blur", sampler="DDIM"
    )
    worker.load(recipe.model, lambda read, size: None)
    run = worker.begin(recipe.check())
    while run.done < run.total:
        worker.step([run])
    result = worker.decode(run)
    result.save(tmp_path / "result.png")
    changed = np.asarray(mask) > 0
    assert (np.asarray(result) != np.asarray(original))[changed].mean() > 0.5
    before, after = steps_across(original, changed), steps_across(result, changed)
    assert after <= 1.5 * before, (before, after)
