"""The transformer families on tiny real pipelines: against diffusers' own, in batches, forked, and lacking a part."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from studio.drawing.worker import TorchWorker
from studio.errors import RecipeError
from studio.families import previews
from studio.families.base import called
from studio.families.flux import pack
from studio.families.language_models import asked
from studio.families.z_image import ZImage
from studio.models import catalog
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from tests import tiny, tiny_transformers
from tests.inside import begin, use
from tests.test_originals import masked, picture
from tests.test_worker import draw, finish, pixels

PROMPT = "a red cat on the table"
LONGER = "a blue dog of the green apple on the red table"

PIPELINES = {
    "sd3": "StableDiffusion3{}Pipeline",
    "sd3-small": "StableDiffusion3{}Pipeline",
    "dev": "Flux{}Pipeline",
    "schnell": "Flux{}Pipeline",
    "klein": "Flux2Klein{}Pipeline",
    "klein-base": "Flux2Klein{}Pipeline",
    "flux2-dev": "Flux2{}Pipeline",
    "qwen": "QwenImage{}Pipeline",
    "z": "ZImage{}Pipeline",
    "z-turbo": "ZImage{}Pipeline",
}
GUIDANCE = {"klein": 1.0, "z-turbo": 0.0}
"""Those that are made for none. All others get 3.5."""
WITH_NEGATIVE = ("sd3", "sd3-small", "klein-base", "qwen", "z")
FROM_PICTURES = ("sd3", "dev", "qwen", "z")


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny model of each kind. `sd3-small` has no T5."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("transformers")
    tiny_transformers.stable_diffusion_3(folder / "sd3")
    tiny_transformers.stable_diffusion_3(folder / "sd3-small", t5=False, qk_norm="rms_norm", dual_attention_layers=[0])
    tiny.flux(folder / "dev")
    tiny.flux(folder / "schnell", guidance_embeds=False)
    tiny_transformers.flux_fill(folder / "fill")
    tiny_transformers.flux2(folder / "klein")
    tiny_transformers.flux2(folder / "klein-base", "klein-base")
    tiny_transformers.flux2(folder / "flux2-dev", "dev")
    tiny_transformers.qwen_image(folder / "qwen")
    tiny_transformers.z_image(folder / "z", turbo=False)
    tiny_transformers.z_image(folder / "z-turbo")
    return folder


def recipe(model: str, **changes: Any) -> Recipe:
    values = {"prompt": PROMPT, "model": model, "width": 64, "height": 64, "steps": 3, "seed": 7, "sampler": "Euler"}
    values["guidance_scale"] = GUIDANCE.get(model, 3.5)
    if model in WITH_NEGATIVE:
        values["negative_prompt"] = "dog"
    return Recipe(**{**values, **changes})


class Certain:
    """What an autoencoder found, with the mean in place of a draw from its distribution."""

    def __init__(self, found: Any) -> None:
        self.latent_dist = self
        self.mode = found.latent_dist.mode

    def sample(self, generator: Any = None) -> torch.Tensor:
        return self.mode()


def stock(models: Manager, wanted: Recipe, task: str = "", scheduler: Any = None, **given: Any) -> np.ndarray:
    """The recipe through diffusers' own pipeline, read from the same folder, with the same noise.

    task: "", "Img2Img" or "Inpaint". given: more arguments of the call.
    """
    kind = getattr(diffusers, PIPELINES[wanted.model].format(task))
    folder, model = models.entry(wanted.model).path, use(models, wanted.model)
    flow = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    if wanted.model == "flux2-dev":
        # Its processor wants torchvision; for words alone the tokenizer does the same.
        parts = {name: getattr(model, name) for name in ("tokenizer", "text_encoder", "transformer", "vae")}
        pipeline = kind(scheduler=flow, **parts)
    else:
        missing = {"text_encoder_3": None, "tokenizer_3": None} if wanted.model == "sd3-small" else {}
        pipeline = kind.from_pretrained(folder, dtype=torch.float32, scheduler=flow, **missing)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler or pipeline.scheduler
    encode = pipeline.vae.encode
    pipeline.vae.encode = lambda pictures, **options: Certain(encode(pictures, **options))
    generator = torch.Generator().manual_seed(wanted.seed)
    if not task:
        given["latents"] = model.noise(wanted, generator)
        if wanted.model in ("dev", "schnell", "qwen"):
            given["latents"] = pack(given["latents"])
    else:
        given["strength"] = wanted.strength
    if wanted.model.startswith("klein"):
        layers = (1, 2, 3)
        given["negative_prompt_embeds"] = pipeline.encode_prompt(
            wanted.negative_prompt, text_encoder_out_layers=layers
        )[0]
        given["text_encoder_out_layers"] = layers
    elif wanted.model == "flux2-dev":
        given["text_encoder_out_layers"] = (1, 2, 3)
    elif wanted.model in WITH_NEGATIVE:
        given["negative_prompt"] = wanted.negative_prompt
    if task != "Img2Img" or wanted.model != "sd3":
        given |= {"width": wanted.width, "height": wanted.height}
    given["true_cfg_scale" if wanted.model == "qwen" else "guidance_scale"] = wanted.guidance_scale
    call = {"prompt": wanted.prompt, "num_inference_steps": wanted.steps, "generator": generator, **given}
    if task == "Inpaint" and wanted.model == "sd3":
        # diffusers 0.42 forgets the shift of the latents when this one decodes.
        return pixels(model.decode(pipeline(**call, output_type="latent").images))
    return pixels(pipeline(**call).images[0])


def far(one: np.ndarray, other: np.ndarray) -> int:
    return np.abs(one - other).max()


@pytest.mark.parametrize("model", PIPELINES)
def test_text_to_image_is_diffusers(models: Manager, worker: TorchWorker, model: str) -> None:
    for wanted in (recipe(model), recipe(model, width=96, prompt=LONGER, seed=8, steps=4)):
        [run] = draw(worker, wanted)
        assert far(pixels(worker.decode(run)), stock(models, wanted)) <= 1


@pytest.mark.parametrize("label", ["DPM++ 2M", "UniPC"])
def test_other_samplers_of_stable_diffusion_3_are_diffusers(models: Manager, worker: TorchWorker, label: str) -> None:
    wanted = recipe("sd3", sampler=label, steps=5)
    [run] = draw(worker, wanted)
    scheduler = use(models, "sd3").sampler(wanted)._scheduler
    assert scheduler.config.flow_shift == 3.0
    assert far(pixels(worker.decode(run)), stock(models, wanted, scheduler=scheduler)) <= 1


@pytest.mark.parametrize("model", FROM_PICTURES)
def test_image_to_image_is_diffusers(models: Manager, worker: TorchWorker, sources: Sources, model: str) -> None:
    wanted = recipe(model, strength=0.5, steps=4, source=sources.add_image(picture()))
    [run] = draw(worker, wanted)
    assert run.total == 2
    assert far(pixels(worker.decode(run)), stock(models, wanted, "Img2Img", image=picture())) <= 1


@pytest.mark.parametrize("model", [*FROM_PICTURES, "klein", "klein-base"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_inpainting_is_diffusers(
    models: Manager, worker: TorchWorker, sources: Sources, model: str, strength: float
) -> None:
    mask = masked((16, 16, 48, 64))
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(mask)}
    wanted = recipe(model, strength=strength, steps=4, **names)
    [run] = draw(worker, wanted)
    expected = stock(models, wanted, "Inpaint", image=picture(), mask_image=mask)
    ours = pixels(use(models, model).decode(run.clean))
    assert far(ours, expected) <= 1


def test_fill_sees_what_diffusers_shows_it(models: Manager, worker: TorchWorker, sources: Sources) -> None:
    mask = masked((16, 16, 48, 64))
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(mask)}
    wanted = recipe("fill", steps=1, **names)
    [run] = draw(worker, wanted)
    model = use(models, "fill")
    pipeline = diffusers.FluxFillPipeline.from_pretrained(models.entry("fill").path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    encode = pipeline.vae.encode
    pipeline.vae.encode = lambda pictures: Certain(encode(pictures))
    expected = pipeline(
        PROMPT,
        image=picture(),
        mask_image=mask,
        latents=pack(model.noise(wanted, torch.Generator().manual_seed(wanted.seed))),
        num_inference_steps=1,
        guidance_scale=wanted.guidance_scale,
        width=64,
        height=64,
        output_type="latent",
    ).images
    # All that is held is what the mask does not let go: elsewhere it is the model's answer to the same input.
    assert run.original and run.original.free is not None
    inside = pack((run.original.free > 0).float().expand_as(run.latents)) > 0
    assert torch.allclose(pack(run.latents)[inside], expected[inside], atol=1e-4)


def test_fill_draws_from_words_and_from_a_picture_too(worker: TorchWorker, sources: Sources) -> None:
    [words] = draw(worker, recipe("fill"))
    [start] = draw(worker, recipe("fill", source=sources.add_image(picture()), strength=0.5))
    assert torch.isfinite(words.latents).all() and torch.isfinite(start.latents).all()


@pytest.mark.parametrize("model", [*PIPELINES, "fill"])
def test_a_picture_is_the_same_alone_and_among_its_neighbours(worker: TorchWorker, model: str) -> None:
    scales = [GUIDANCE.get(model, 3.5), 1.0, 6.0] if model != "klein" else [1.0]
    prompts = [PROMPT, LONGER, "cat", ""]
    grid = [recipe(model, prompt=prompt, guidance_scale=scale) for prompt in prompts for scale in scales]
    assert len({worker.begin(each).key for each in grid}) == 1
    together = draw(worker, *grid)
    for each, run in zip(grid, together, strict=True):
        [alone] = draw(worker, each)
        assert far(pixels(worker.decode(alone)), pixels(worker.decode(run))) <= 2, each


@pytest.mark.parametrize("model", ["sd3", "klein-base", "qwen", "z"])
def test_neighbours_may_differ_in_steps_samplers_and_start_pictures(
    worker: TorchWorker, sources: Sources, model: str
) -> None:
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(masked((16, 16, 48, 48)))}
    mixed = [
        recipe(model),
        recipe(model, sampler="UniPC", steps=5, prompt=LONGER),
        recipe(model, strength=0.5, source=names["source"]),
        recipe(model, **names),
    ]
    for each, run in zip(mixed, draw(worker, *mixed), strict=True):
        [alone] = draw(worker, each)
        assert torch.allclose(alone.latents, run.latents, atol=1e-3), each


@pytest.mark.parametrize("model", [*PIPELINES, "fill"])
def test_every_sampler_makes_few_and_many_steps(models: Manager, worker: TorchWorker, model: str) -> None:
    for label in use(models, model).samplers:
        for steps in (1, 2, 9):
            [run] = draw(worker, recipe(model, sampler=label, steps=steps))
            assert run.done == run.total == steps and torch.isfinite(run.latents).all(), (label, steps)


@pytest.mark.parametrize("model", [*PIPELINES, "fill"])
def test_a_fork_is_what_its_recipe_gives_when_run_from_the_start(worker: TorchWorker, model: str) -> None:
    [run] = draw(worker, recipe(model, steps=4))
    same = finish(worker, worker.begin(run.recipe, (run, 2)))
    assert torch.equal(same.latents, run.latents)
    turned = run.recipe.turned(2, {"prompt": LONGER, "guidance_scale": 5.0})
    fork = begin(worker, turned, (run, 2))
    assert fork.done == 2
    finish(worker, fork)
    assert torch.equal(fork.latents, draw(worker, turned)[0].latents)
    assert not torch.equal(fork.latents, run.latents)


class Colours:
    """An autoencoder's answer of mean colours and empty channels: one that keeps what a preview could show."""

    def __init__(self, pictures: torch.Tensor, channels: int) -> None:
        frames = pictures[:, :, 0] if pictures.ndim == 5 else pictures
        means = F.avg_pool2d(frames, 8)
        latents = torch.cat([means, torch.zeros(len(means), channels - 3, *means.shape[2:])], 1)
        self._latents = latents[:, :, None] if pictures.ndim == 5 else latents
        self.latent_dist = self

    def mode(self) -> torch.Tensor:
        return self._latents


def blocks(latents: torch.Tensor, return_dict: bool = False) -> tuple[torch.Tensor]:
    """The pictures of `Colours`."""
    shape = (1, 8, 8) if latents.ndim == 5 else (8, 8)
    return (F.interpolate(latents[:, :3], scale_factor=shape),)


@pytest.mark.parametrize("model", [*PIPELINES, "fill"])
def test_the_preview_looks_like_the_picture(models: Manager, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    loaded = use(models, model)
    channels = loaded.latent_channels // (loaded.vae_factor // 8) ** 2
    monkeypatch.setattr(loaded.vae, "encode", lambda pictures: Colours(pictures, channels))
    monkeypatch.setattr(loaded.vae, "decode", blocks)
    large = picture(256, 256)
    with torch.inference_mode():
        latents = loaded.encode_picture(large)
        assert latents.shape[2:] == (256 // loaded.vae_factor,) * 2
        shown = previews.fit(loaded._encode_pictures, loaded.vae_factor)(latents).image()
        drawn = loaded.decode(latents)
    expected = pixels(large.reduce(8))
    assert far(pixels(drawn.reduce(8)), expected) <= 1
    assert np.abs(pixels(shown.reduce(shown.width // 32)) - expected).mean() < 8


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("model", [*PIPELINES, "fill"])
def test_half_precision_stays_near_full(
    models_folder: Path, worker: TorchWorker, sources: Sources, model: str, dtype: str
) -> None:
    half = TorchWorker(Manager([models_folder], device="cpu", dtype=dtype), sources)
    [one], [other] = draw(half, recipe(model)), draw(worker, recipe(model))
    assert (one.latents - other.latents).abs().mean() < 0.05 * other.latents.std()
    assert half.decode(one).size == (64, 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device on this machine.")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("model", [*PIPELINES, "fill"])
def test_the_card_draws_what_the_processor_draws(
    models_folder: Path, worker: TorchWorker, sources: Sources, model: str, dtype: str
) -> None:
    card = TorchWorker(Manager([models_folder], device="cuda", dtype=dtype), sources)
    mixed = [recipe(model), recipe(model, prompt=LONGER, guidance_scale=6.0, sampler="UniPC")]
    for one, other in zip(draw(card, *mixed), draw(worker, *mixed), strict=True):
        assert (one.latents.cpu() - other.latents).abs().mean() < 0.05 * other.latents.std()
        assert card.decode(one).size == (64, 64)


def test_a_scan_knows_each_of_them(models_folder: Path) -> None:
    entries = {entry.name: entry for entry in catalog.scan([models_folder])}
    assert not any(entry.problem for entry in entries.values())

    def known(name: str) -> tuple:
        facts = entries[name].facts
        assert facts and entries[name].parameters > 10_000 and facts.multiple == 16 and facts.sampler == "Euler"
        return entries[name].family, facts.width, facts.steps, facts.guidance_scale, facts.negative_prompt

    assert known("sd3") == ("Stable Diffusion 3", 64, 28, 7.0, True)
    assert known("sd3-small") == ("Stable Diffusion 3", 64, 40, 4.5, True)
    assert known("dev") == ("FLUX.1", 1024, 28, 3.5, False)
    assert known("schnell") == ("FLUX.1", 1024, 4, 3.5, False)
    assert known("fill") == ("FLUX.1", 1024, 50, 30.0, False)
    assert known("klein") == ("FLUX.2", 1024, 4, 1.0, False)
    assert known("klein-base") == ("FLUX.2", 1024, 50, 4.0, True)
    assert known("flux2-dev") == ("FLUX.2", 1024, 50, 4.0, False)
    assert known("qwen") == ("Qwen-Image", 1328, 50, 4.0, True)
    assert known("z") == ("Z-Image", 1024, 50, 4.0, True)
    assert known("z-turbo") == ("Z-Image", 1024, 8, 0.0, True)


def test_a_checkpoint_goes_by_its_folder_its_repository_or_its_configs(models_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models_folder / "sd3", tmp_path / "mine")
    assert not called(tmp_path / "mine", "turbo")
    index = tmp_path / "mine" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_name_or_path": "stabilityai/sd-3.5-large-turbo"}))
    assert called(tmp_path / "mine", "turbo")
    snapshot = tmp_path / "models--stabilityai--sd-3.5-large-turbo" / "snapshots" / "0a1b"
    shutil.copytree(models_folder / "sd3", snapshot)
    shutil.copytree(models_folder / "qwen", tmp_path / "Qwen-Image-Lightning")
    entries = {entry.path.name: entry for entry in catalog.scan([tmp_path])}
    facts = entries["Qwen-Image-Lightning"].facts
    assert facts and (facts.steps, facts.guidance_scale) == (8, 1.0)
    entry = entries["0a1b"]
    assert entry.facts and (entry.facts.steps, entry.facts.guidance_scale) == (4, 1.0)


@pytest.fixture
def fresh(models_folder: Path, tmp_path: Path, sources: Sources) -> Iterator[TorchWorker]:
    """A worker on a copy of sd3 whose T5 somebody deleted to save space."""
    shutil.copytree(models_folder / "sd3", tmp_path / "models" / "sd3")
    shutil.rmtree(tmp_path / "models" / "sd3" / "text_encoder_3")
    yield TorchWorker(Manager([tmp_path / "models"], device="cpu", dtype="float32"), sources)


def test_stable_diffusion_3_does_without_its_t5(worker: TorchWorker, fresh: TorchWorker) -> None:
    [with_it], [without] = draw(worker, recipe("sd3")), draw(fresh, recipe("sd3"))
    assert with_it.prompts.positive[0].shape == without.prompts.positive[0].shape
    assert not without.prompts.positive[0][:, 16:].any() and with_it.prompts.positive[0][:, 16:].any()
    with pytest.raises(RecipeError, match="without its T5 encoder reads prompts of up to 16"):
        fresh.begin(recipe("sd3", prompt="a red apple " * 10))


def test_long_prompts_are_read_to_their_end_or_refused(models: Manager, worker: TorchWorker) -> None:
    long = "a red apple on the table " * 50
    for model in ("sd3", "dev", "klein", "flux2-dev", "qwen", "z"):
        one, other = (worker.begin(recipe(model, prompt=long + last, steps=1)) for last in ("cat", "dog"))
        worker.step([one])
        worker.step([other])
        assert not torch.equal(one.latents, other.latents), model
        with pytest.raises(RecipeError, match=r"tokens, and this has \d+\. Shorten it"):
            worker.begin(recipe(model, prompt=long * 5))
    wanted = recipe("sd3", prompt=long)
    [run] = draw(worker, wanted)
    assert far(pixels(worker.decode(run)), stock(models, wanted, max_sequence_length=512)) <= 1


def test_a_size_that_stable_diffusion_3_cannot_place(worker: TorchWorker) -> None:
    with pytest.raises(RecipeError, match="at most 256 pixels a side"):
        worker.begin(recipe("sd3", width=272))


@pytest.mark.parametrize("model", ["sd3", "klein-base", "qwen"])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_guidance_of_one_and_less_is_off(worker: TorchWorker, model: str, scale: float) -> None:
    assert begin(worker, recipe(model, guidance_scale=scale)).prompts.negative is None


def test_guidance_of_z_image_is_off_at_nought(worker: TorchWorker) -> None:
    assert begin(worker, recipe("z", guidance_scale=0.0)).prompts.negative is None
    assert begin(worker, recipe("z", guidance_scale=1.0)).prompts.negative is not None


def test_a_tokenizer_without_a_chat_template_gets_the_published_one(models: Manager) -> None:
    tokenizer = use(models, "z", ZImage).tokenizer
    assert asked(tokenizer, "a cat", thinking=False) == "user : a cat ; assistant : the end "
    assert asked(object(), "a cat", thinking=True) == "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n"
    assert asked(object(), "a cat", thinking=False).endswith("assistant\n<think>\n\n</think>\n\n")
