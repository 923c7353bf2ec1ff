"""Stable Diffusion XL on tiny real pipelines, against diffusers' own."""

from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from studio.drawing.worker import TorchWorker
from studio.errors import RecipeError
from studio.families.stable_diffusion_xl import StableDiffusionXL
from studio.library import metadata
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from tests import tiny_xl
from tests.inside import use
from tests.test_originals import Certain, masked, picture
from tests.test_worker import draw, pixels, recipe


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Manager:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    tiny_xl.stable_diffusion_xl(folder / "xl")
    tiny_xl.stable_diffusion_xl(folder / "empty", zero_when_empty=False)
    tiny_xl.stable_diffusion_xl(folder / "inpaint", inpainting=True)
    tiny_xl.stable_diffusion_xl(folder / "refiner", refiner=True, zero_when_empty=False)
    trailing: dict[str, Any] = {"timestep_spacing": "trailing"}
    tiny_xl.stable_diffusion_xl(folder / "turbo", kind="EulerAncestralDiscreteScheduler", **trailing)
    tiny_xl.stable_diffusion_xl(folder / "lightning", **trailing)
    tiny_xl.stable_diffusion_xl(folder / "velocity", prediction_type="v_prediction", **trailing)
    return Manager([folder], device="cpu", dtype="float32")


def stock(kind: Any, models: Manager, wanted: Recipe, **given: Any) -> np.ndarray:
    """The recipe through one of diffusers' own pipelines, with the same noise."""
    model: Any = use(models, wanted.model, StableDiffusionXL)
    fresh = model.sampler(replace(wanted, source="", mask="", strength=1.0))
    first, last = model.readers[0] if len(model.readers) > 1 else None, model.readers[-1]
    options: dict[str, Any] = {"force_zeros_for_empty_prompt": model.zero_when_empty}
    if not first:
        options["requires_aesthetics_score"] = True
    pipeline = kind(
        vae=model.vae,
        text_encoder=first and first.encoder,
        text_encoder_2=last.encoder,
        tokenizer=first and first.tokenizer,
        tokenizer_2=last.tokenizer,
        unet=model.unet,
        scheduler=fresh._scheduler,
        add_watermarker=False,
        **options,
    )
    pipeline.set_progress_bar_config(disable=True)
    encode = model.vae.encode
    generator = torch.Generator().manual_seed(wanted.seed)
    if not wanted.source:
        given |= {"latents": model.noise(wanted, generator), "width": wanted.width, "height": wanted.height}
    else:
        given |= {"strength": wanted.strength}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.vae, "encode", lambda pictures: Certain(encode(pictures)))
        image = pipeline(
            wanted.prompt,
            negative_prompt=wanted.negative_prompt or None,
            num_inference_steps=wanted.steps,
            guidance_scale=wanted.guidance_scale,
            generator=generator,
            **given,
        ).images[0]
    return pixels(image)


@pytest.mark.parametrize("label", ["Euler", "DPM++ 2M Karras", "Euler a", "UniPC", "DDIM"])
def test_text_to_image_is_diffusers(models: Manager, worker: TorchWorker, label: str) -> None:
    wanted = recipe("xl", sampler=label, steps=5, negative_prompt="dog", width=96)
    [run] = draw(worker, wanted)
    expected = stock(diffusers.StableDiffusionXLPipeline, models, wanted)
    assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1


@pytest.mark.parametrize("name", ["xl", "empty"])
def test_an_empty_negative_prompt_is_what_the_config_says(models: Manager, worker: TorchWorker, name: str) -> None:
    wanted = recipe(name, steps=4)
    [run] = draw(worker, wanted)
    expected = stock(diffusers.StableDiffusionXLPipeline, models, wanted)
    assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1
    assert bool(run.prompts.negative.hidden.any()) == (name == "empty")


@pytest.mark.parametrize("name", ["turbo", "lightning"])
def test_distilled_checkpoints_take_few_steps_without_guidance(models: Manager, worker: TorchWorker, name: str) -> None:
    wanted = replace(models.default_recipe(name), prompt="a red cat", seed=3, width=64, height=64)
    assert (wanted.steps, wanted.guidance_scale) == (4, 1.0)
    assert wanted.sampler == {"turbo": "Euler a", "lightning": "Euler"}[name]
    [run] = draw(worker, wanted)
    assert run.prompts.negative is None
    expected = stock(diffusers.StableDiffusionXLPipeline, models, wanted)
    assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1


def test_other_checkpoints_take_many_steps_with_guidance(models: Manager) -> None:
    for name in ("xl", "velocity"):
        facts = models.facts(name)
        assert (facts.steps, facts.guidance_scale, facts.sampler) == (25, 6.0, "DPM++ 2M")


@pytest.mark.parametrize("name", ["xl", "refiner"])
@pytest.mark.parametrize("label", ["Euler", "DPM++ 2M"])
def test_image_to_image_is_diffusers(
    models: Manager, worker: TorchWorker, sources: Sources, name: str, label: str
) -> None:
    source = sources.add_image(picture())
    wanted = recipe(name, sampler=label, steps=8, strength=0.6, source=source, negative_prompt="dog")
    [run] = draw(worker, wanted)
    expected = stock(diffusers.StableDiffusionXLImg2ImgPipeline, models, wanted, image=picture())
    assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1


@pytest.mark.parametrize("name", ["xl", "inpaint"])
@pytest.mark.parametrize("label", ["Euler", "DPM++ 2M"])
def test_inpainting_is_diffusers(models: Manager, worker: TorchWorker, sources: Sources, name: str, label: str) -> None:
    mask = masked((16, 24, 48, 56))
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(mask)}
    wanted = recipe(name, sampler=label, steps=6, strength=0.5, negative_prompt="dog", **names)
    [run] = draw(worker, wanted)
    given = {"image": picture(), "mask_image": mask, "width": 64, "height": 64}
    if name == "inpaint":
        # diffusers lets such a checkpoint draw all, and we hold what may not change: what both see is the same.
        return _sees_the_same(models, worker, wanted, given)
    expected = stock(diffusers.StableDiffusionXLInpaintPipeline, models, wanted, **given)
    inside = np.asarray(mask) > 0
    assert np.abs(pixels(use(models, name, StableDiffusionXL).decode(run.clean)) - expected)[inside].max() <= 1
    return None


def _sees_the_same(models: Manager, worker: TorchWorker, wanted: Recipe, given: dict[str, Any]) -> None:
    seen: list[torch.Tensor] = []
    unet: Any = use(models, wanted.model, StableDiffusionXL).unet
    forward = unet.forward

    def watched(sample: torch.Tensor, *args: Any, **rest: Any) -> Any:
        seen.append(sample)
        return forward(sample, *args, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "forward", watched)
        worker.step([worker.begin(wanted)])
        [ours] = seen
        stock(diffusers.StableDiffusionXLInpaintPipeline, models, wanted, **given)
    assert torch.allclose(ours, seen[1], atol=1e-4)


def test_rows_of_one_call_have_their_own_guidance_and_words(worker: TorchWorker) -> None:
    grid = [
        recipe("xl", seed=seed, guidance_scale=scale, prompt=prompt)
        for seed in (1, 2)
        for scale in (1.0, 4.0, 8.0)
        for prompt in ("a red cat", "a (blue:1.3) dog")
    ]
    for each, run in zip(grid, draw(worker, *grid), strict=True):
        [alone] = draw(worker, each)
        assert np.abs(pixels(worker.decode(alone)) - pixels(worker.decode(run))).max() <= 2


def test_clip_skip_counts_from_the_last_layer_and_reads_none_behind_its_own(models: Manager) -> None:
    model: Any = use(models, "xl", StableDiffusionXL)
    kind = diffusers.StableDiffusionXLPipeline
    one, two = model.readers
    pipeline = kind(
        vae=model.vae,
        text_encoder=one.encoder,
        text_encoder_2=two.encoder,
        tokenizer=one.tokenizer,
        tokenizer_2=two.tokenizer,
        unet=model.unet,
        scheduler=diffusers.EulerDiscreteScheduler(),
        add_watermarker=False,
    )
    with torch.inference_mode():
        for skip, theirs in ((1, None), (2, None), (3, 1)):  # diffusers counts on from the layer it was trained on
            expected, _, pooled, _ = pipeline.encode_prompt(
                "a red cat", do_classifier_free_guidance=False, clip_skip=theirs
            )
            words = model.encode("a red cat", "", False, skip).positive
            assert torch.equal(words.hidden, expected) and torch.equal(words.pooled, pooled)
        with pytest.raises(RecipeError, match=r"clip skip of 4 .* Use 1 to 3"):
            model.encode("a red cat", "", False, 4)


def test_a1111s_clip_skip_of_two_is_the_picture_that_a1111_drew(models: Manager, worker: TorchWorker) -> None:
    """A1111 writes it into pictures of SDXL too, where it reads the last layer but one whatever is written."""
    text = "a red cat\nSteps: 2, Sampler: Euler, CFG scale: 1, Seed: 3, Size: 64x64, Model: xl{}, Version: v1.10.1"
    plain, skipping = (metadata.parse_parameters(text.format(each)) for each in ("", ", Clip skip: 2"))
    assert (plain.clip_skip, skipping.clip_skip) == (1, 2)
    one, other = draw(worker, plain, skipping)
    assert worker.decode(one).tobytes() == worker.decode(other).tobytes()
    with torch.inference_mode():
        reader = use(models, "xl", StableDiffusionXL).readers[0]
        ids = torch.tensor([reader._filled(reader.chunks("a red cat")[0][0][0])])
        expected = reader.encoder(ids, output_hidden_states=True).hidden_states[-2]
        assert torch.equal(other.prompts.positive.hidden[..., : expected.shape[-1]], expected)


def test_long_prompts_are_read_to_their_end(worker: TorchWorker) -> None:
    long = "a red apple on the table " * 20
    one, other = draw(worker, recipe("xl", prompt=long + "cat"), recipe("xl", prompt=long + "dog"))
    assert one.prompts.positive.hidden.shape[1] == other.prompts.negative.hidden.shape[1] > 16
    assert not torch.equal(one.latents, other.latents)
