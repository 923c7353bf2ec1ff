"""Files as they are published: each is taken for what it is, and none is offered as another."""

import pytest

from studio.models.catalog import Entry
from studio.models.headers import Header
from studio.models.identify import Identity, identify
from tests import published
from tests.published import Case, Tensors

SETS = published.key_sets()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Entry]]:
    return published.judged(tmp_path_factory.mktemp("published"))


def test_every_file_is_taken_for_what_it_is(judged: list[tuple[Case, Entry]]) -> None:
    """The table is of the makers' files; what it says of each was written from their model cards."""
    wrong = {case.file: published.wrong(case, entry) for case, entry in judged}
    assert {file: why for file, why in wrong.items() if why} == {}


def test_each_part_is_the_right_one(judged: list[tuple[Case, Entry]]) -> None:
    """All files of all kinds in one folder: those that makers publish for a model stand before those that also do."""
    parts = {
        case.file: {part: path.name for part, path in entry.companions}
        for case, entry in judged
        if not entry.problem and entry.companions
    }
    assert parts["z_image_bf16"]["text_encoder"] == "qwen_3_4b_fp8_mixed.safetensors"
    assert parts["flux1-dev"]["vae"] == "ae.safetensors" and parts["flux1-dev"]["text_encoder"] == "clip_l.safetensors"
    assert parts["flux1-dev"]["text_encoder_2"] == "t5xxl_fp16.safetensors"
    assert parts["qwen_image_bf16"]["vae"] == "qwen_image_vae_comfy.safetensors"
    assert parts["sd15_unet_dm"]["vae"] == "vae-ft-mse-840000-ema-pruned.safetensors"
    assert parts["sdxl_lightning_4step_unet"]["vae"] == "sdxl_vae.safetensors"
    assert parts["flux2-klein-4b"]["vae"] == "flux2-vae.safetensors"


def told(tensors: Tensors, name: str = "x.safetensors", **metadata: str) -> Identity:
    return identify(Header(tensors, metadata, 0), name)


def usable(found: Identity) -> bool:
    return found.kind == "model" and bool(found.config) and not found.packed
