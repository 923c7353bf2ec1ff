"""Values that are no numbers: in files, in latents, and in pictures that have one colour."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from studio.drawing import faults
from studio.drawing.worker import TorchWorker
from studio.engine.engine import Engine
from studio.engine.events import Failed, Finished
from studio.errors import ModelBroken, ModelError
from studio.families.stable_diffusion import StableDiffusion
from studio.files import weights
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Control, Recipe
from tests import tiny, tiny_addons
from tests.fakes import Events, FakeKeeper
from tests.inside import use
from tests.test_worker import draw, recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("faults")
    tiny.stable_diffusion(folder / "sd")
    return folder


def changed(file: Path, change: Callable[[torch.Tensor], torch.Tensor], name: str) -> None:
    """Have one tensor of a file be another."""
    tensors = load_file(file)
    save_file(tensors | {name: change(tensors[name])}, file)


def spoilt(file: Path, value: float) -> None:
    """Have one number of a file be this one."""
    name = max(load_file(file))

    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    changed(file, change, name)


# Files


@pytest.fixture(params=[math.nan, math.inf, -math.inf], ids=str)
def value(request: pytest.FixtureRequest) -> float:
    return float(request.param)


def no_numbers(value: float, name: str) -> str:
    what = "values that are no numbers" if math.isnan(value) else "infinite values"
    return f"{name} holds {what} .in .*Copy or download"


@pytest.fixture
def worker(folder: Path, tmp_path: Path, sources: Sources) -> TorchWorker:
    """With a models folder of the test's own for add-ons, tmp_path."""
    return TorchWorker(Manager([folder, tmp_path], device="cpu", dtype="float32"), sources)


@pytest.mark.parametrize("form", ["folder", "file", "original"])
def test_a_vae_is_refused(tmp_path: Path, worker: TorchWorker, value: float, form: str) -> None:
    target = tmp_path / "vae" / (form if form == "folder" else f"{form}.safetensors")
    tiny_addons.vae(target, form)
    spoilt(target / "diffusion_pytorch_model.safetensors" if form == "folder" else target, value)
    with pytest.raises(ModelBroken, match=no_numbers(value, target.name)):
        worker.begin(recipe(vae=form))


@pytest.mark.parametrize("form", ["folder", "file", "original"])
def test_a_controlnet_is_refused(
    tmp_path: Path, worker: TorchWorker, sources: Sources, value: float, form: str
) -> None:
    target = tmp_path / "controlnet" / (form if form == "folder" else f"{form}.safetensors")
    tiny_addons.controlnet(target, use(worker._models, "sd", StableDiffusion).unet, form=form)
    spoilt(target / "diffusion_pytorch_model.safetensors" if form == "folder" else target, value)
    shown = sources.add_image(Image.new("RGB", (64, 64), "red"))
    with pytest.raises(ModelBroken, match=no_numbers(value, target.name)):
        worker.begin(recipe(controls=(Control(form, shown),)))


@pytest.mark.parametrize("part", ["adapter", "image encoder"])
def test_an_ip_adapter_and_its_image_encoder_are_refused(
    tmp_path: Path, worker: TorchWorker, sources: Sources, value: float, part: str
) -> None:
    file = tiny_addons.ip_adapter(
        tmp_path / "ip_adapter" / "face.safetensors", use(worker._models, "sd", StableDiffusion).unet
    )
    spoilt(file if part == "adapter" else file.parent / "image_encoder" / "model.safetensors", value)
    name = file.name if part == "adapter" else "image_encoder"
    shown = sources.add_image(Image.new("RGB", (64, 64), "red"))
    with pytest.raises(ModelBroken, match=no_numbers(value, name)):
        worker.begin(recipe(controls=(Control("face", shown, "ip-adapter"),)))
    draw(worker, recipe())  # and the model is as it was


def test_an_embedding_is_refused(tmp_path: Path, worker: TorchWorker, value: float) -> None:
    spoilt(tiny_addons.embedding(tmp_path / "embeddings" / "inky.safetensors"), value)
    with pytest.raises(ModelBroken, match=no_numbers(value, "inky.safetensors")):
        worker.begin(recipe(prompt="a cat, inky"))


def test_a_depth_model_is_refused(tmp_path: Path, worker: TorchWorker, sources: Sources, value: float) -> None:
    tiny_addons.depth(tmp_path / "depth" / "small")
    spoilt(tmp_path / "depth" / "small" / "model.safetensors", value)
    tiny_addons.controlnet(tmp_path / "controlnet" / "lines", use(worker._models, "sd", StableDiffusion).unet)
    shown = sources.add_image(Image.new("RGB", (64, 64), "red"))
    with pytest.raises(ModelBroken, match=no_numbers(value, "small")):
        worker.begin(recipe(controls=(Control("lines", shown, "depth"),)))


def test_the_masks_of_text_encoders_may_be_infinite(tmp_path: Path) -> None:
    """open_clip's `build_attention_mask` fills the upper half with minus infinity, and some checkpoints carry it."""
    weights.check(tmp_path, {"cond_stage_model.model.attn_mask": torch.full((2, 2), -math.inf).triu(1)})


# What was drawn


def test_a_picture_without_numbers_fails_with_a_sentence(tmp_path: Path, sources: Sources) -> None:
    """A denoiser of huge weights: its numbers are finite, what it draws is not."""
    model = tiny.stable_diffusion(tmp_path / "loud")
    unet = model / "unet" / "diffusion_pytorch_model.safetensors"
    changed(unet, lambda tensor: tensor * 1e38, "conv_out.weight")
    events = Events()
    keep = FakeKeeper()
    engine = Engine(TorchWorker(Manager([tmp_path], device="cpu", dtype="float32"), sources), keep)
    engine.subscribe(events)
    try:
        [job] = engine.submit([recipe("loud")])
        final = events.final(job.id)
    finally:
        engine.close()
    assert isinstance(final, Failed)
    assert final.reason.startswith("loud came to values that are no numbers, which would be a black picture. Probably")
    assert not keep.pictures


def test_a_picture_of_one_colour_is_kept_with_a_sentence(tmp_path: Path, sources: Sources) -> None:
    """An autoencoder that draws nothing: all it says is its last bias."""
    model = tiny.stable_diffusion(tmp_path / "flat")
    vae = model / "vae" / "diffusion_pytorch_model.safetensors"
    changed(vae, torch.zeros_like, "decoder.conv_out.weight")
    events, keep = Events(), FakeKeeper()
    engine = Engine(TorchWorker(Manager([tmp_path], device="cpu", dtype="float32"), sources), keep)
    engine.subscribe(events)
    try:
        [job] = engine.submit([recipe("flat")])
        final = events.final(job.id)
    finally:
        engine.close()
    assert isinstance(final, Finished) and final.picture in keep.pictures
    assert (
        "The whole picture has one colour. If you did not ask flat for that, probably its VAE is damaged" in final.note
    )


def test_a_partial_picture_is_not_judged_by_its_colour(worker: TorchWorker) -> None:
    model = use(worker._models, "sd", StableDiffusion)
    torch.nn.init.zeros_(model.vae.decoder.conv_out.weight)
    run = worker.begin(recipe())
    worker.step([run])
    worker.decode(run)
    assert run.notes == ()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_one_value_is_enough(number: float) -> None:
    latents = torch.zeros(1, 4, 8, 8)
    faults.check_latents(latents, recipe(), torch.float32)
    latents[0, 3, 7, 7] = number
    with pytest.raises(ModelError, match="no numbers"):
        faults.check_latents(latents, recipe(), torch.float32)


@pytest.mark.parametrize(
    ("wanted", "dtype", "cause"),
    [
        (recipe(), torch.float32, "its files are damaged or badly merged"),
        (recipe(prompt="a <lora:ink:3> cat <lora:oil>"), torch.float32, "the LoRA ink, oil is too strong or damaged"),
        (recipe(), torch.float16, "float16 can hold: start the studio with --dtype bfloat16"),
        (recipe(guidance_scale=90.0), torch.bfloat16, "a guidance scale of 90 is too high"),
    ],
)
def test_the_probable_cause_is_named(wanted: Recipe, dtype: torch.dtype, cause: str) -> None:
    with pytest.raises(ModelError, match=cause):
        faults.check_latents(torch.tensor([math.nan]), wanted, dtype)


def test_one_pixel_of_another_colour_is_a_picture() -> None:
    plain = Image.new("RGB", (96, 64), "black")
    assert faults.remark(plain, recipe(vae="other"), torch.float32).endswith(
        "probably the VAE other does not suit it: take the model's own."
    )
    plain.putpixel((95, 63), (0, 0, 1))
    assert faults.remark(plain, recipe(), torch.float32) == ""
