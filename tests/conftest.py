"""Fixtures that several test files share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, and for the programs that tests start: there is a process for each core, and threads
    # of several that wait for one another on the same cores take many times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from studio.drawing.worker import TorchWorker
    from studio.models.manager import Manager
    from studio.pictures.sources import Sources


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with tiny models: sd (epsilon), velocity (v-prediction, zero terminal SNR), inpaint, flux."""
    import torch

    from tests import tiny

    # Matrices this small take longer to share out among threads than to multiply.
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    tiny.stable_diffusion(folder / "sd")
    tiny.stable_diffusion(
        folder / "velocity",
        tiny_vae=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    tiny.stable_diffusion(folder / "inpaint", inpainting=True)
    tiny.flux(folder / "flux")
    return folder


@pytest.fixture(scope="module")
def models(models_folder: Path) -> "Manager":
    """The tiny models, in float32 on the processor."""
    from studio.models.manager import Manager

    return Manager([models_folder], device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> "Sources":
    """A store of start pictures."""
    from studio.pictures.sources import Sources

    return Sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def worker(models: "Manager", sources: "Sources") -> "TorchWorker":
    """A worker on the tiny models."""
    from studio.drawing.worker import TorchWorker

    return TorchWorker(models, sources)
