"""Image to image and inpainting on tiny real pipelines: against diffusers' own, and what a mask promises."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from studio.drawing.worker import TorchWorker
from studio.errors import StorageError
from studio.families import samplers
from studio.families.stable_diffusion import StableDiffusion
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from tests.inside import begin, use
from tests.test_worker import draw, pixels, recipe


def picture(width: int = 64, height: int = 64) -> Image.Image:
    """Colours that run into each other, with a disc."""
    y, x = np.mgrid[0:height, 0:width]
    values = np.stack([255 * x / width, 255 * y / height, np.full_like(x, 90)], -1).astype(np.uint8)
    result = Image.fromarray(values)
    ImageDraw.Draw(result).ellipse((width // 4, height // 4, width // 2, height // 2), "white")
    return result


def masked(box: tuple[int, int, int, int], size: tuple[int, int] = (64, 64), value: int = 255) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(value, box)
    return mask


def stock(kind: Any, models: Manager, wanted: Recipe, **given: Any) -> np.ndarray:
    """The recipe through one of diffusers' own pipelines, with the same noise."""
    model = use(models, wanted.model, StableDiffusion)
    fresh = model.sampler(Recipe(**{**_values(wanted), "source": "", "strength": 1.0}))
    pipeline = kind(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=fresh._scheduler,
        safety_checker=None,
        feature_extractor=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    encode = model.vae.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.vae, "encode", lambda pixels: Certain(encode(pixels)))
        image = pipeline(
            wanted.prompt,
            num_inference_steps=wanted.steps,
            guidance_scale=wanted.guidance_scale,
            strength=wanted.strength,
            generator=torch.Generator().manual_seed(wanted.seed),
            **given,
        ).images[0]
    return pixels(image)


class Certain:
    """What an autoencoder found, with the mean in place of a draw from its distribution."""

    def __init__(self, found: Any) -> None:
        self.latent_dist = self
        self._mean = found.latent_dist.mode()

    def sample(self, generator: Any = None) -> torch.Tensor:
        return self._mean


def _values(wanted: Recipe) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in Recipe.__dataclass_fields__}


@pytest.mark.parametrize("label", samplers.DIFFUSION)
def test_image_to_image_is_diffusers(models: Manager, worker: TorchWorker, sources: Sources, label: str) -> None:
    wanted = recipe(sampler=label, steps=8, strength=0.6, source=sources.add_image(picture()))
    [run] = draw(worker, wanted)
    assert run.total == 4
    expected = stock(diffusers.StableDiffusionImg2ImgPipeline, models, wanted, image=picture())
    assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1


@pytest.mark.parametrize("label", ["Euler", "DDIM", "DPM++ 2M", "UniPC", "Euler a"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_inpainting_by_blending_is_diffusers(
    models: Manager, worker: TorchWorker, sources: Sources, label: str, strength: float
) -> None:
    mask = masked((16, 24, 48, 56))
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(mask)}
    wanted = recipe(sampler=label, steps=6, strength=strength, **names)
    [run] = draw(worker, wanted)
    expected = stock(
        diffusers.StableDiffusionInpaintPipeline,
        models,
        wanted,
        image=picture(),
        mask_image=mask,
        width=64,
        height=64,
    )
    ours = pixels(use(models, "sd", StableDiffusion).decode(run.clean))
    inside = np.asarray(mask) > 0
    assert np.abs(ours - expected)[inside].max() <= 1


def test_a_checkpoint_of_nine_channels_sees_what_diffusers_shows_it(
    models: Manager, worker: TorchWorker, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    unet = use(models, "inpaint", StableDiffusion).unet
    forward = unet.forward

    def watched(sample: torch.Tensor, *args: Any, **rest: Any) -> Any:
        seen.append(sample)
        return forward(sample, *args, **rest)

    monkeypatch.setattr(unet, "forward", watched)
    mask = masked((16, 24, 48, 56))
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(mask)}
    wanted = recipe("inpaint", steps=1, **names)
    draw(worker, wanted)

    stock(
        diffusers.StableDiffusionInpaintPipeline,
        models,
        wanted,
        image=picture(),
        mask_image=mask,
        width=64,
        height=64,
        latents=use(models, "inpaint", StableDiffusion).noise(wanted, torch.Generator().manual_seed(wanted.seed)),
    )
    ours, theirs = seen[0], seen[-1]
    assert ours.shape == theirs.shape == (2, 9, 8, 8)
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_a_checkpoint_of_nine_channels_draws_from_words_and_from_a_picture_too(
    worker: TorchWorker, sources: Sources
) -> None:
    [words] = draw(worker, recipe("inpaint"))
    [start] = draw(worker, recipe("inpaint", source=sources.add_image(picture()), strength=0.5))
    assert torch.isfinite(words.latents).all() and torch.isfinite(start.latents).all()


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
def test_at_no_strength_the_picture_comes_back(
    models: Manager, worker: TorchWorker, sources: Sources, model: str
) -> None:
    [run] = draw(worker, recipe(model, strength=0.0, source=sources.add_image(picture())))
    assert run.done == run.total == 0
    loaded = use(models, model)
    expected = loaded.decode(loaded.encode_picture(picture()))
    assert np.array_equal(pixels(worker.decode(run)), pixels(expected))


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
def test_at_full_strength_nothing_of_the_picture_is_left(worker: TorchWorker, sources: Sources, model: str) -> None:
    black, white = (sources.add_image(Image.new("RGB", (64, 64), each)) for each in ("black", "white"))
    pair = [draw(worker, recipe(model, source=source))[0] for source in (black, white)]
    [words] = draw(worker, recipe(model))
    assert torch.equal(pair[0].latents, pair[1].latents) and torch.equal(pair[0].latents, words.latents)


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
def test_more_strength_leaves_less_of_the_picture(
    models: Manager, worker: TorchWorker, sources: Sources, model: str
) -> None:
    source = sources.add_image(picture())
    clean = use(models, model).encode_picture(picture())
    apart = []
    for strength in (0.2, 0.6, 0.95):
        run = begin(worker, recipe(model, steps=20, strength=strength, source=source))
        apart.append((run.sampler.model_input(run.latents) - clean).abs().mean().item())
    assert apart == sorted(apart), apart


@pytest.mark.parametrize("model", ["sd", "inpaint", "velocity", "flux"])
def test_what_is_not_masked_stays_bit_for_bit(worker: TorchWorker, sources: Sources, model: str) -> None:
    original, mask = picture(200, 136), masked((90, 40, 130, 100), (200, 136))
    names = {"source": sources.add_image(original), "mask": sources.add_image(mask)}
    for box in (None, (60, 20, 160, 120)):
        [run] = draw(worker, recipe(model, box=box, **names))
        result = pixels(worker.decode(run))
        assert result.shape == (136, 200, 3)
        kept = np.asarray(mask) == 0
        assert np.array_equal(result[kept], pixels(original)[kept])
        assert (result[~kept] != pixels(original)[~kept]).any()


def test_grey_lets_go_late(models: Manager, worker: TorchWorker, sources: Sources) -> None:
    mask = masked((0, 0, 32, 64), value=63)
    mask.paste(255, (32, 0, 64, 64))
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(mask)}
    run = begin(worker, recipe(steps=8, **names))
    original = run.original
    assert original

    def is_held() -> bool:
        expected = run.sampler.noised(original.latents, original.noise)
        return torch.equal(run.latents[..., :4], expected[..., :4])

    held = []
    while run.done < run.total:
        worker.step([run])
        held.append(is_held())
        assert not torch.equal(run.latents[..., 4:], run.sampler.noised(original.latents, original.noise)[..., 4:])
    # A quarter of 8 steps is two: the picture is held before the last two of them, and moves in these.
    assert held == [True] * 6 + [False] * 2


def test_inpainting_jobs_share_calls_with_others(worker: TorchWorker, sources: Sources) -> None:
    names = {"source": sources.add_image(picture()), "mask": sources.add_image(masked((16, 16, 48, 48)))}
    wanted = [recipe(), recipe(strength=0.5, source=names["source"]), recipe(**names)]
    begun = [worker.begin(each) for each in wanted]
    assert len({run.key for run in begun}) == 1
    together = draw(worker, *wanted)
    for each, run in zip(wanted, together, strict=True):
        [alone] = draw(worker, each)
        assert np.abs(pixels(worker.decode(alone)) - pixels(worker.decode(run))).max() <= 2


def test_a_preview_before_the_first_step_shows_the_picture_in_its_noise(worker: TorchWorker, sources: Sources) -> None:
    def first(strength: float) -> np.ndarray:
        run = worker.begin(recipe(strength=strength, steps=20, source=sources.add_image(picture())))
        return pixels(run.preview("clean").image())

    assert np.abs(first(0.05) - first(0.1)).mean() < np.abs(first(0.05) - first(1.0)).mean()


def test_a_start_picture_that_is_gone(worker: TorchWorker, sources: Sources) -> None:
    name = sources.add_image(Image.new("RGB", (64, 64), "red"))
    sources.path(name).unlink()
    with pytest.raises(StorageError, match="start picture"):
        worker.check(recipe(source=name))
