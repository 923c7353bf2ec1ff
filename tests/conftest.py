"""Fixtures that several test files share."""

from pathlib import Path

import pytest


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
