"""Weights that nothing uses: no library's word on them is lost, whatever the file is and whoever reads it."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from studio.drawing.worker import TorchWorker
from studio.files import unused
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Control
from tests import tiny, tiny_addons
from tests.test_worker import draw, recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    tiny.stable_diffusion(tmp_path / "models" / "sd")
    return tmp_path / "models"


def told(folder: Path, sources: Sources, **values: object) -> tuple[str, ...]:
    worker = TorchWorker(Manager([folder], device="cpu", dtype="float32"), sources)
    [run] = draw(worker, recipe(**values))  # type: ignore[arg-type]
    return run.notes


def add(file: Path, **tensors: torch.Tensor) -> None:
    save_file({**load_file(file), **tensors}, file)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_of_a_model(folder: Path, sources: Sources, part: str) -> None:
    [file] = (folder / "sd" / part).glob("*.safetensors")
    add(file, **{"extra.weight": torch.ones(3)})
    assert told(folder, sources) == (
        f"1 tensor of sd/{part} were not used (extra.weight), so pictures may differ from what it was made for.",
    )


@pytest.mark.parametrize("form", ["folder", "file", "original"])
def test_a_vae(folder: Path, sources: Sources, form: str) -> None:
    place = folder / "vae" / ("soft" if form == "folder" else "soft.safetensors")
    place.parent.mkdir(exist_ok=True)
    tiny_addons.vae(place, form)
    assert told(folder, sources, vae="soft") == ()
    file = next(place.glob("*.safetensors")) if form == "folder" else place
    add(file, **{f"decoder.extra{number}.weight": torch.ones(3) for number in range(4)})
    [note] = told(folder, sources, vae="soft")
    # The converter of the makers' names leaves out in silence what it does not know, so only how much is told.
    assert note.startswith("12 of " if form == "original" else "4 tensors of soft were not used (decoder.extra0.w")


@pytest.mark.parametrize("form", ["folder", "file", "original"])
def test_a_controlnet(folder: Path, sources: Sources, form: str) -> None:
    place = folder / "controlnet" / ("lines" if form == "folder" else "lines.safetensors")
    place.parent.mkdir(exist_ok=True)
    unet = Manager([folder], device="cpu", dtype="float32").use("sd").unet  # type: ignore[attr-defined]
    tiny_addons.controlnet(place, unet, form=form)
    picture = sources.add_image(Image.new("RGB", (64, 64), "red"))
    controls = (Control("lines", picture, "picture"),)
    assert told(folder, sources, controls=controls) == ()
    file = next(place.glob("*.safetensors")) if form == "folder" else place
    add(file, **{"control_model.extra.weight" if form == "original" else "extra.weight": torch.ones(3)})
    [note] = told(folder, sources, controls=controls)
    assert note.startswith("3 of " if form == "original" else "1 tensor of lines were not used (")


def test_what_no_picture_needs_is_not_told() -> None:
    names = ["text_model.embeddings.position_ids", "logit_scale", "decoder.block.0.layer.0.weight", "model_ema.decay"]
    assert unused.sentence("a file", names) == ""
    assert "decoder.up.0.weight" in unused.sentence("a file", ["decoder.up.0.weight"])
