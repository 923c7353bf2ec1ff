"""The worker on tiny real pipelines: against diffusers' own pipelines, in batches, and with what people get wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from studio.drawing import worker as module
from studio.drawing.run import DeviceRun
from studio.drawing.torch_run import TorchRun
from studio.drawing.worker import TorchWorker
from studio.errors import ModelMissing, OutOfMemory, RecipeError
from studio.families import samplers
from studio.families.flux import Flux
from studio.families.stable_diffusion import StableDiffusion
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe, Turn
from tests.inside import begin, use

PROMPT = "a red cat on the table"


def recipe(model: str = "sd", **changes: Any) -> Recipe:
    values: dict[str, Any] = {"prompt": PROMPT, "model": model, "width": 64, "height": 64, "steps": 4, "seed": 7}
    return Recipe(**{"sampler": "Euler", "guidance_scale": 5.0, **values, **changes})


def draw(worker: TorchWorker, *recipes: Recipe) -> list[TorchRun]:
    """All recipes together, from the first step to the last."""
    runs = [begin(worker, each) for each in recipes]
    while moving := [run for run in runs if run.done < run.total]:
        worker.step(moving)
    return runs


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def stock_picture(models: Manager, wanted: Recipe, guidance_rescale: float = 0.0) -> np.ndarray:
    """The same recipe through diffusers' own pipeline, with the same starting noise and generator."""
    model = use(models, wanted.model, StableDiffusion)
    sampler = model.sampler(wanted)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=sampler._scheduler,
        safety_checker=None,
        feature_extractor=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(wanted.seed)
    image = pipeline(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        latents=model.noise(wanted, generator),
        generator=generator,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance_scale,
        guidance_rescale=guidance_rescale,
        callback_on_step_end=lambda *given: end_guidance(wanted, *given),
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
        height=wanted.height,
        width=wanted.width,
    ).images[0]
    return pixels(image)


def end_guidance(wanted: Recipe, pipeline: object, done: int, _timestep: object, held: dict) -> dict:
    """diffusers' own way to guide only some of the steps, from its documentation of callbacks."""
    if pipeline.do_classifier_free_guidance and done + 1 == int(wanted.guidance_end * wanted.steps):  # type: ignore[attr-defined]
        pipeline._guidance_scale = 1.0  # type: ignore[attr-defined]
        held["prompt_embeds"] = held["prompt_embeds"].chunk(2)[1]
    return held


@pytest.mark.parametrize("label", samplers.DIFFUSION)
def test_every_sampler_draws_what_diffusers_draws(models: Manager, worker: TorchWorker, label: str) -> None:
    wanted = recipe(sampler=label, steps=5, negative_prompt="dog")
    [run] = draw(worker, wanted)
    assert np.abs(pixels(worker.decode(run)) - stock_picture(models, wanted)).max() <= 1


def test_velocity_and_guidance_rescale_are_diffusers(models: Manager, worker: TorchWorker) -> None:
    wanted = recipe("velocity", sampler="DDIM", guidance_scale=9.0)
    [run] = draw(worker, wanted)
    assert np.abs(pixels(worker.decode(run)) - stock_picture(models, wanted, guidance_rescale=0.7)).max() <= 1


@pytest.mark.parametrize(("model", "share"), [("sd", 0.5), ("velocity", 0.2), ("velocity", 0.0)])
def test_guidance_that_is_rescaled_as_wished_is_diffusers(
    models: Manager, worker: TorchWorker, model: str, share: float
) -> None:
    wanted = recipe(model, sampler="DDIM", guidance_scale=9.0, guidance_rescale=share)
    # Beside one that is rescaled as the model is made for.
    run, own = draw(worker, wanted, replace(wanted, guidance_rescale=None))
    expected = stock_picture(models, wanted, guidance_rescale=share)
    assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1
    assert np.abs(pixels(worker.decode(own)) - expected).max() > 1


@pytest.mark.parametrize("model", ["sd", "velocity"])
def test_guidance_that_ends_is_diffusers(models: Manager, worker: TorchWorker, model: str) -> None:
    wanted = recipe(model, sampler="DDIM", guidance_scale=9.0, guidance_end=0.5, negative_prompt="dog")
    [run] = draw(worker, wanted)
    expected = stock_picture(models, wanted, guidance_rescale=0.7 if model == "velocity" else 0.0)
    assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1
    assert np.abs(stock_picture(models, replace(wanted, guidance_end=1.0)) - expected).max() > 1


def test_flux_is_diffusers(models: Manager, worker: TorchWorker) -> None:
    wanted = recipe("flux", steps=3)
    [run] = draw(worker, wanted)
    model = use(models, "flux", Flux)
    pipeline = diffusers.FluxPipeline(
        scheduler=model.sampler(wanted)._scheduler,
        vae=model.vae,
        text_encoder=model.clip,
        tokenizer=model.clip_tokenizer,
        text_encoder_2=model.t5,
        tokenizer_2=model.t5_tokenizer,
        transformer=model.transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = model.noise(wanted, torch.Generator().manual_seed(wanted.seed))
    image = pipeline(
        PROMPT,
        latents=pipeline._pack_latents(noise, 1, 4, 8, 8),
        num_inference_steps=3,
        guidance_scale=5.0,
        height=64,
        width=64,
    ).images[0]
    assert np.abs(pixels(worker.decode(run)) - pixels(image)).max() <= 1


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
def test_a_picture_is_the_same_alone_and_among_eight_neighbours(worker: TorchWorker, model: str) -> None:
    grid = [recipe(model, seed=seed, guidance_scale=scale) for seed in (1, 2, 3) for scale in (1.0, 4.0, 8.0)]
    together = draw(worker, *grid)
    for each, run in zip(grid, together, strict=True):
        [alone] = draw(worker, each)
        assert np.abs(pixels(worker.decode(alone)) - pixels(worker.decode(run))).max() <= 2


def test_neighbours_may_be_at_different_steps(worker: TorchWorker) -> None:
    [expected] = draw(worker, recipe(seed=1))
    early, late = worker.begin(recipe(seed=1)), worker.begin(recipe(seed=2, sampler="Heun", steps=3))
    worker.step([early])
    while early.done < early.total:
        worker.step([early, late])
    assert torch.allclose(early.latents, expected.latents, atol=1e-4)


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_every_sampler_makes_few_and_many_steps(models: Manager, worker: TorchWorker, model: str, steps: int) -> None:
    for label in use(models, model).samplers:
        [run] = draw(worker, recipe(model, sampler=label, steps=steps))
        assert run.done == run.total == steps
        assert torch.isfinite(run.latents).all(), label


@pytest.mark.parametrize("label", [*samplers.DIFFUSION])
def test_the_predicted_clean_picture_ends_as_the_picture(worker: TorchWorker, label: str) -> None:
    """At the last call the prediction is what samplers without noise of their own go to."""
    run = begin(worker, recipe(sampler=label, steps=6, guidance_scale=2.0))
    predictions: list[torch.Tensor] = []
    clean = run.sampler.clean

    def noted(model_input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        predictions.append(clean(model_input, output))
        return predictions[-1]

    run.sampler.clean = noted  # type: ignore[method-assign]
    while run.done < run.total:
        worker.step([run])
    # UniPC corrects, and DDIM stops a little above zero noise.
    assert (predictions[-1] - run.latents).abs().max() < 0.15 * run.latents.std()


def test_long_prompts_are_read_to_their_end(worker: TorchWorker) -> None:
    long = "a red apple on the table " * 20
    [one] = draw(worker, recipe(prompt=long + "cat"))
    [other] = draw(worker, recipe(prompt=long + "dog"))
    assert one.prompts.positive.shape[1] > 16
    assert not torch.equal(one.latents, other.latents)


def test_guidance_of_one_asks_for_no_second_row(worker: TorchWorker) -> None:
    run = begin(worker, recipe(guidance_scale=1.0))
    assert run.prompts.negative is None


def test_guidance_that_ended_asks_for_no_second_row_and_can_begin_anew(worker: TorchWorker) -> None:
    run, rows = begin(worker, recipe(guidance_end=0.5)), []
    while run.done < run.total:
        rows.append(1 if run.prompts.negative is None else 2)
        worker.step([run])
    assert rows == [2, 2, 1, 1]
    [whole] = draw(worker, recipe())
    [unguided] = draw(worker, recipe(turns=(Turn(2, guidance_scale=1.0),)))
    assert torch.equal(run.latents, unguided.latents) and not torch.equal(run.latents, whole.latents)
    [again] = draw(worker, recipe(guidance_end=0.5, turns=(Turn(3, guidance_scale=8.0),)))
    [same] = draw(worker, recipe(turns=(Turn(2, guidance_scale=1.0), Turn(3, guidance_scale=8.0))))
    assert torch.equal(again.latents, same.latents) and not torch.equal(again.latents, run.latents)
    # Beside others that are guided still, and in a fork.
    beside = draw(worker, recipe(), recipe(guidance_end=0.5), recipe(guidance_end=0.0))
    assert torch.allclose(beside[1].latents, run.latents, atol=1e-4)
    fork = finish(worker, worker.begin(recipe(guidance_end=0.5), (run, 3)))
    assert torch.equal(fork.latents, run.latents)


def test_the_starting_noise_depends_on_seed_and_size_alone(worker: TorchWorker) -> None:
    one = worker.begin(recipe())
    other = worker.begin(recipe(prompt="dog", sampler="DDIM", guidance_scale=2.0, steps=9))
    assert one.preview("clean").jpeg() == other.preview("noisy").jpeg()
    assert one.preview("clean").jpeg() != worker.begin(recipe(seed=8)).preview("clean").jpeg()


def test_recipes_a_model_cannot_draw(worker: TorchWorker) -> None:
    with pytest.raises(ModelMissing, match="no model named 'unicorn'"):
        worker.check(recipe("unicorn"))
    with pytest.raises(RecipeError, match="multiples of 16"):
        worker.check(recipe("flux", width=72))
    with pytest.raises(RecipeError, match="has no sampler 'Heun'"):
        worker.check(recipe("flux", sampler="Heun"))
    with pytest.raises(RecipeError, match="takes no negative prompt"):
        worker.check(recipe("flux", negative_prompt="dog"))
    with pytest.raises(RecipeError, match="cannot make 60 steps"):
        worker.begin(recipe(sampler="LCM", steps=60))
    with pytest.raises(RecipeError, match="512 tokens"):
        worker.begin(recipe("flux", prompt="dog " * 600))


def test_a_recipe_for_another_model_leaves_out_what_that_makes_nothing_of(models: Manager, worker: TorchWorker) -> None:
    from studio.ui import form

    asked = recipe(
        "velocity", sampler="DDIM", negative_prompt="dog", guidance_rescale=0.85, guidance_end=0.5, clip_skip=2
    )
    with pytest.raises(RecipeError):
        worker.check(replace(asked, model="flux"))
    flux = form.on_model(models, asked, "flux")
    worker.check(flux)
    assert (flux.sampler, flux.negative_prompt, flux.guidance_rescale) == ("Euler", "", None)
    assert (flux.prompt, flux.seed, flux.steps) == (asked.prompt, asked.seed, asked.steps)
    assert form.on_model(models, asked, "sd") == replace(asked, model="sd")


def test_out_of_memory_has_a_name_and_leaves_the_runs_alone(
    models: Manager, worker: TorchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = worker.begin(recipe())
    before = run.latents.clone()

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9999 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(use(models, "sd", StableDiffusion).unet, "forward", fail)
        with pytest.raises(OutOfMemory, match="smaller size"):
            worker.step([run])
    assert run.done == 0 and torch.equal(run.latents, before)
    worker.step([run])
    assert run.done == 1


def test_decoding_in_the_middle_shows_the_prediction(worker: TorchWorker) -> None:
    run = begin(worker, recipe(steps=4))
    worker.step([run])
    image = pixels(worker.decode(run))
    vae: Any = use(worker._models, "sd", StableDiffusion).vae
    with torch.inference_mode():
        clean, noisy = (vae.decode(each / vae.config.scaling_factor).sample for each in (run.clean, run.latents))
    shown = ((clean[0] / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(image - shown).max() <= 1 and not torch.allclose(clean, noisy, atol=0.05)


def test_half_precision_stays_near_full(models_folder: Path, worker: TorchWorker, sources: Sources) -> None:
    half = TorchWorker(Manager([models_folder], device="cpu", dtype="bfloat16"), sources)
    [one], [other] = draw(half, recipe()), draw(worker, recipe())
    assert (one.latents - other.latents).abs().max() < 0.1 * other.latents.std()


def test_size_changes_the_picture_not_the_recipe(worker: TorchWorker) -> None:
    wide = replace(recipe(), width=96, height=64)
    [run] = draw(worker, wide)
    assert run.recipe == wide and run.latents.shape == (1, 4, 8, 12)
    assert worker.decode(run).size == (96, 64)


def test_every_schedule_is_drawn_and_what_does_not_fit_is_told(worker: TorchWorker) -> None:
    for schedule in samplers.all_schedules(samplers.DIFFUSION):
        [run] = draw(worker, recipe(schedule=schedule, steps=3))
        assert run.done == 3 and torch.isfinite(run.latents).all(), schedule
    for wanted in (recipe("flux", schedule="Karras"), recipe(sampler="DPM2").turned(2, {"schedule": "Beta"})):
        with pytest.raises(RecipeError, match="does not go with the schedule"):
            worker.check(wanted)


def test_another_schedule_on_the_way_is_the_same_forked_and_run_again(worker: TorchWorker) -> None:
    [run] = draw(worker, recipe(steps=5))
    turned = run.recipe.turned(2, {"schedule": "Karras"})
    fork = finish(worker, worker.begin(turned, (run, 2)))
    assert torch.equal(fork.latents, draw(worker, Recipe.from_json(turned.to_json()))[0].latents)
    assert not torch.equal(fork.latents, run.latents)


# Forks, and changes on the way


@pytest.mark.parametrize("label", samplers.DIFFUSION)
def test_a_fork_with_nothing_changed_is_the_picture_itself(worker: TorchWorker, label: str) -> None:
    wanted = recipe(sampler=label, steps=7)
    [run] = draw(worker, wanted)
    for step in (0, 1, 4, 6):
        fork = begin(worker, wanted, (run, step))
        assert fork.done == step
        finish(worker, fork)
        assert torch.equal(fork.latents, run.latents) and torch.equal(fork.clean, run.clean), (label, step)
    # The run that was forked from has not moved.
    assert run.done == 7 and np.array_equal(pixels(worker.decode(run)), pixels(worker.decode(fork)))


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
def test_a_fork_is_what_its_recipe_gives_when_run_from_the_start(worker: TorchWorker, model: str) -> None:
    [run] = draw(worker, recipe(model, steps=6))
    turned = run.recipe.turned(2, {"prompt": "a green dog", "guidance_scale": 2.0})
    fork = finish(worker, worker.begin(turned, (run, 2)))
    [whole] = draw(worker, turned)
    assert torch.equal(fork.latents, whole.latents)
    assert not torch.equal(fork.latents, run.latents)
    [forgotten] = draw(worker, recipe(model, steps=6))
    forgotten.moments.clear()
    assert worker.begin(turned, (forgotten, 2)).done == 0  # there is nothing to take up, so it begins at the start


def test_a_fork_of_a_fork(worker: TorchWorker) -> None:
    [run] = draw(worker, recipe(steps=6))
    first = finish(worker, worker.begin(one := run.recipe.turned(2, {"guidance_scale": 2.0}), (run, 2)))
    two = one.turned(4, {"prompt": "a blue apple"})
    second = finish(worker, worker.begin(two, (first, 4)))
    assert torch.equal(second.latents, draw(worker, two)[0].latents)
    # A step before the first fork is taken up from the same moments.
    assert worker.begin(one.turned(1, {"guidance_scale": 1.0}), (first, 1)).done == 1


def test_a_run_changed_on_the_way_can_be_made_again_from_its_recipe(worker: TorchWorker) -> None:
    run = worker.begin(recipe(steps=5, guidance_scale=1.0))
    worker.step([run])
    worker.step([run])
    turned = run.recipe.turned(2, {"guidance_scale": 6.0, "negative_prompt": "a cat"})
    run = worker.change(run, turned)
    finish(worker, run)
    assert torch.equal(run.latents, draw(worker, Recipe.from_json(turned.to_json()))[0].latents)
    assert turned.turns == (Turn(2, negative_prompt="a cat", guidance_scale=6.0),)


def test_looking_back_shows_each_step(worker: TorchWorker) -> None:
    run, seen = worker.begin(recipe(steps=4)), []
    seen.append(run.preview("clean").jpeg())
    while run.done < run.total:
        worker.step([run])
        seen.append(run.preview("clean").jpeg())
    assert [run.look_back(step)[1].jpeg() for step in range(5)] == seen and len(set(seen)) == 5
    with pytest.raises(KeyError):
        run.look_back(5)


@pytest.mark.parametrize("label", samplers.DIFFUSION)
def test_steps_that_were_thinned_out_are_run_again_from_the_nearest_before(worker: TorchWorker, label: str) -> None:
    wanted = recipe(sampler=label, steps=9)
    [run] = draw(worker, wanted)
    run.thin()
    run.thin()
    assert sorted(run.moments) == [0, 4, 8, 9]
    assert [run.look_back(step)[0] for step in range(10)] == [0, 0, 0, 0, 4, 4, 4, 4, 8, 9]
    for step in (0, 3, 7, 8):
        fork = worker.begin(wanted, (run, step))
        assert fork.done == step - step % 4
        assert torch.equal(finish(worker, fork).latents, run.latents), step
    turned = wanted.turned(6, {"prompt": "a green dog"})
    fork = finish(worker, worker.begin(turned, (run, 6)))
    assert torch.equal(fork.latents, draw(worker, turned)[0].latents)
    # A fork of the fork, between whose kept step and its own there is a turn.
    two = turned.turned(7, {"guidance_scale": 2.0})
    fork.thin()
    fork.thin()
    assert torch.equal(finish(worker, worker.begin(two, (fork, 7))).latents, draw(worker, two)[0].latents)


def test_the_steps_of_all_runs_stay_within_what_is_held(worker: TorchWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [begin(worker, recipe(seed=seed, steps=40)) for seed in range(4)]
    small = begin(worker, recipe(steps=3))
    one = small.steps
    monkeypatch.setattr(module, "STEPS_HELD", 42 * one)
    [alone] = draw(worker, recipe(steps=20))
    assert len(alone.moments) == 21
    while runs[0].done < runs[0].total:
        worker.step(runs)
        assert sum(run.steps for run in worker._runs) <= 42 * one
        changed = worker.change(runs[0], runs[0].recipe)  # which takes up the latest step
        assert isinstance(changed, TorchRun)
        runs[0] = changed
    finish(worker, small)
    assert len(small.moments) == 4, "the runs that hold the most are thinned out"
    assert all(6 <= len(run.moments) <= 12 and {0, 40} <= run.moments.keys() for run in runs)
    assert torch.allclose(runs[0].latents, draw(worker, runs[0].recipe)[0].latents, atol=1e-3)


def test_a_run_that_was_dropped_holds_nothing(worker: TorchWorker) -> None:
    before = len(worker._runs)
    run = worker.begin(recipe())
    assert len(worker._runs) == before + 1
    del run
    assert len(worker._runs) == before


MIXES = ({"sampler": "Euler"}, {"noise": (0.6, 12)}, {"sampler": "DDIM", "noise": (0.3, 5), "guidance_scale": 2.0})
"""Changes of what is in the latents."""


@pytest.mark.parametrize("label", samplers.DIFFUSION)
@pytest.mark.parametrize("changes", MIXES)
def test_another_sampler_and_fresh_noise_are_the_same_forked_run_again_and_on_the_way(
    worker: TorchWorker, label: str, changes: dict[str, object]
) -> None:
    [run] = draw(worker, recipe(sampler=label, steps=5))
    for step in (0, 1, 3):
        turned = run.recipe.turned(step, changes)
        fork = finish(worker, worker.begin(turned, (run, step)))
        [whole] = draw(worker, Recipe.from_json(turned.to_json()))
        assert torch.equal(fork.latents, whole.latents), step
        on_the_way = worker.begin(run.recipe)
        while on_the_way.done < step:
            worker.step([on_the_way])
        on_the_way = worker.change(on_the_way, turned)
        on_the_way = worker.change(on_the_way, turned)  # granted twice, taken once
        assert torch.equal(finish(worker, on_the_way).latents, whole.latents), step
        assert torch.isfinite(fork.latents).all()
        # Euler from the start on is Euler; whatever else was changed shows.
        assert torch.equal(fork.latents, run.latents) == (turned == run.recipe)
    # Taking it back leaves the picture as it was.
    back = worker.begin(run.recipe.turned(2, changes), (run, 2))
    back = worker.change(back, run.recipe)
    assert torch.equal(finish(worker, back).latents, run.latents)


@pytest.mark.parametrize("model", ["sd", "velocity", "flux"])
def test_another_sampler_at_the_start_is_that_sampler(worker: TorchWorker, model: str) -> None:
    plain = recipe(model, steps=4)
    for label in use(worker._models, model).samplers:
        [turned] = draw(worker, plain.turned(0, {"sampler": label}))
        [wanted] = draw(worker, replace(plain, sampler=label))
        assert torch.equal(turned.latents, wanted.latents), label


def test_fresh_noise_at_the_start_leads_to_the_picture_of_its_seed(worker: TorchWorker) -> None:
    [wanted], [own] = draw(worker, recipe(seed=12)), draw(worker, recipe())
    far = []
    for strength in (0.2, 0.6, 1.0):
        [run] = draw(worker, recipe().turned(0, {"noise": (strength, 12)}))
        far.append((run.latents - wanted.latents).abs().mean().item())
    assert far[0] > far[1] > far[2] and far[2] < 1e-4 < (own.latents - wanted.latents).abs().mean()


@pytest.mark.parametrize(("model", "table"), [("sd", samplers.DIFFUSION), ("flux", samplers.FLOW)])
def test_a_new_sampler_is_given_as_much_noise_as_it_expects(
    models: Manager, worker: TorchWorker, model: str, table: dict[str, object]
) -> None:
    """Of a known clean picture and known noise, each sampler is handed both, at its own level, from any other."""
    clean, noise = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    for before in table:
        for after in table:
            run = begin(worker, wanted := recipe(model, sampler=before, steps=6))
            clean, noise = clean.expand(run.latents.shape), noise.expand(run.latents.shape)
            run.sampler.go_to(3)
            run.latents, run.clean = run.sampler.noised(clean, noise), clean
            run.recipe = wanted.turned(3, {"sampler": after})
            run.remember(use(models, model))
            assert torch.allclose(run.sampler.noise_in(run.latents, clean), noise, atol=1e-3), (before, after)
            assert torch.allclose(run.latents, run.sampler.noised(clean, noise), atol=1e-3), (before, after)


def test_a_start_picture_is_encoded_once_for_all_that_begin_with_it(
    worker: TorchWorker, sources: Sources, models: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (sources.add_image(Image.effect_noise((64, 64), 90).convert("RGB")) for _ in range(2))
    [first] = draw(worker, recipe(source=one, strength=0.5, steps=4))
    model = use(models, first.recipe.model)
    encoded: list[torch.Tensor] = []
    encode = model._encode_pictures

    def noted(pictures: torch.Tensor) -> torch.Tensor:
        encoded.append(pictures)
        return encode(pictures)

    monkeypatch.setattr(model, "_encode_pictures", noted)
    [again] = draw(worker, recipe(source=one, strength=0.5, steps=4))
    assert not encoded and torch.equal(again.latents, first.latents)
    worker.begin(recipe(source=one, strength=0.9, seed=8))
    assert not encoded
    worker.begin(recipe(source=other))
    assert len(encoded) == 1


def test_masks_hold_through_another_sampler_and_fresh_noise(worker: TorchWorker, sources: Sources) -> None:
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    names = sources.add_image(picture), sources.add_image(mask)
    wanted = recipe(source=names[0], mask=names[1], strength=0.8, steps=6)
    assert wanted.steps_run == 4
    [run] = draw(worker, wanted)
    for step in (0, 2):
        for changes in MIXES[1:]:
            turned = wanted.turned(step, changes)
            fork = finish(worker, worker.begin(turned, (run, step)))
            assert torch.equal(fork.latents, draw(worker, turned)[0].latents)
            assert torch.equal(fork.latents[..., 4:], run.latents[..., 4:])
            assert not torch.equal(fork.latents[..., :4], run.latents[..., :4])
    free = replace(wanted, mask="")
    turned = free.turned(2, MIXES[2])
    [run] = draw(worker, free)
    assert torch.equal(finish(worker, worker.begin(turned, (run, 2))).latents, draw(worker, turned)[0].latents)


def test_samplers_that_cannot_take_over_are_told_at_once(worker: TorchWorker) -> None:
    with pytest.raises(RecipeError, match="has no sampler 'Heun'"):
        worker.check(recipe("flux").turned(2, {"sampler": "Heun"}))
    long = recipe(steps=60)
    with pytest.raises(RecipeError, match="cannot make 60 steps"):
        worker.begin(long.turned(30, {"sampler": "LCM"}))
    run = worker.begin(long)
    worker.step([run])
    with pytest.raises(RecipeError, match="cannot make 60 steps"):
        worker.change(run, long.turned(1, {"sampler": "LCM"}))
    worker.step([run])
    assert run.done == 2 and run.recipe == long


def finish(worker: TorchWorker, run: DeviceRun) -> TorchRun:
    while run.done < run.total:
        worker.step([run])
    assert isinstance(run, TorchRun)
    return run
