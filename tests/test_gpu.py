"""What only a graphics card can show; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from studio.drawing.worker import TorchWorker
from studio.families.previews import LatentPreview
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from tests.test_worker import draw, recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device on this machine."),
]


def worker(models_folder: Path, device: str) -> TorchWorker:
    return TorchWorker(Manager([models_folder], device=device, dtype="float32"), Sources(models_folder / "sources"))


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
def test_a_seed_means_the_same_on_the_card_and_on_the_processor(models_folder: Path, model: str) -> None:
    here, there = worker(models_folder, "cpu"), worker(models_folder, "cuda")
    assert torch.equal(here.begin(recipe(model)).latents, there.begin(recipe(model)).latents.cpu())
    [one], [other] = draw(here, recipe(model)), draw(there, recipe(model))
    assert (one.latents - other.latents.cpu()).abs().max() < 0.05 * one.latents.std()


def test_a_preview_arrives_from_the_card(models_folder: Path) -> None:
    here, there = worker(models_folder, "cpu"), worker(models_folder, "cuda")
    one, other = here.begin(recipe()).preview("clean"), there.begin(recipe()).preview("clean")
    assert isinstance(other, LatentPreview) and other._arrived is not None
    difference = torch.frombuffer(one.image().tobytes(), dtype=torch.uint8).int() - torch.frombuffer(
        other.image().tobytes(), dtype=torch.uint8
    )
    assert difference.abs().max() <= 2


def test_memory_is_given_back_when_a_model_leaves(models_folder: Path) -> None:
    manager = Manager([models_folder], device="cuda", dtype="float32")
    manager.use("sd")
    manager.free("sd")
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        manager.use("sd")
        manager.free("sd")
    assert torch.cuda.memory_allocated() <= before
