"""Prompts parted by AND, each of which guides: held against the formula, with a call for each prompt alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from studio.drawing.worker import TorchWorker
from studio.families import Row
from studio.families.stable_diffusion import StableDiffusion
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from tests import tiny, tiny_xl
from tests.inside import begin, use
from tests.test_worker import draw, recipe

CAT, DOG, NEGATIVE = "a red cat", "the dog on a table", "blue"


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Manager:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("composed")
    tiny.stable_diffusion(folder / "sd")
    tiny_xl.stable_diffusion_xl(folder / "xl")
    return Manager([folder], device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def output(model: StableDiffusion, text: str, negative: str | None, scale: float = 5.0, share: float = 0.0) -> Tensor:
    """What the model says of one noise at one timestep. negative: None for no guidance."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    encoded = model.encode(text, negative or "", negative is not None)
    row = Row(noise, torch.tensor(500.0), encoded, scale, guidance_rescale=share)
    return model.predict([row])[0]


@pytest.mark.parametrize("name", ["sd", "xl"])
@pytest.mark.parametrize("negative", [NEGATIVE, ""])
def test_each_prompt_guides_by_its_weight(manager: Manager, name: str, negative: str) -> None:
    """Liu et al., arXiv:2206.01714, equation 11: e + sum of w_i (e_i - e), with the scale in the weights."""
    model = manager.use(name)
    assert isinstance(model, StableDiffusion)
    cat, dog = (output(model, text, None) for text in (CAT, DOG))
    # Guidance by 0 leaves what the negative prompt says.
    nothing = output(model, CAT, negative, 0.0)
    expected = nothing + 5.0 * (1.2 * (cat - nothing) - 0.3 * (dog - nothing))
    composed = f"{CAT} :1.2 AND {DOG} :-0.3"
    torch.testing.assert_close(output(model, composed, negative), expected, rtol=1e-4, atol=1e-4)
    # Rescaled by what guidance by 1 would be (Lin et al., arXiv:2305.08891, equations 15 and 16).
    plain = nothing + 1.2 * (cat - nothing) - 0.3 * (dog - nothing)
    rescaled = 0.6 * expected * plain.std() / expected.std() + 0.4 * expected
    torch.testing.assert_close(output(model, composed, negative, share=0.6), rescaled, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["sd", "xl"])
def test_without_guidance_it_is_their_weighted_mean(manager: Manager, name: str) -> None:
    model = manager.use(name)
    assert isinstance(model, StableDiffusion)
    cat, dog = (output(model, text, None) for text in (CAT, DOG))
    found = output(model, f"{CAT} :3 AND {DOG}", None)
    torch.testing.assert_close(found, (3 * cat + dog) / 4, rtol=1e-4, atol=1e-4)


def test_pictures_of_many_prompts_share_calls_with_others(manager: Manager, sources: Sources) -> None:
    worker = TorchWorker(manager, sources)
    composed = recipe(prompt=f"{CAT} AND {DOG} :0.5", guidance_end=0.5, negative_prompt=NEGATIVE)
    plain = recipe(prompt=CAT)
    alone = [draw(worker, each)[0] for each in (composed, plain)]
    together = draw(worker, composed, plain)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.latents, other.latents, rtol=1e-4, atol=1e-4)
    words = draw(worker, replace(composed, prompt=CAT))[0]
    assert (alone[0].latents - words.latents).abs().max() > 0.01


def test_each_prompt_takes_its_share_of_memory(manager: Manager, sources: Sources) -> None:
    worker = TorchWorker(manager, sources)
    model = use(manager, "sd", StableDiffusion)

    def need(wanted: Recipe) -> int:
        return begin(worker, wanted).need(worker._bench.needs, model)

    one = need(recipe(prompt=CAT, guidance_scale=1.0))
    assert need(recipe(prompt=CAT)) == 2 * one
    assert need(recipe(prompt=f"{CAT} AND {DOG} AND {CAT}")) == 4 * one


def test_words_alone_are_read_where_prompts_cannot_be_composed(tmp_path: Path, sources: Sources) -> None:
    tiny.flux(tmp_path / "flux")
    worker = TorchWorker(Manager([tmp_path], device="cpu", dtype="float32"), sources)
    [run] = draw(worker, recipe("flux", prompt="a cat AND a dog"))
    assert len(run.prompts.all) == 1
