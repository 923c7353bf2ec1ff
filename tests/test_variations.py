"""Variation seeds: starting noise between that of two seeds, from the form to the file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from studio.drawing.torch_run import between
from studio.drawing.worker import TorchWorker
from studio.errors import RecipeError
from studio.grids import axes
from studio.library import foreign, metadata
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import MAX_EXACT, Recipe
from studio.ui import form
from tests import tiny_transformers, tiny_xl
from tests.test_worker import draw, recipe

SHARES = (0.0, 0.1, 0.35, 0.5, 0.9, 1.0)


def along_the_arc(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Spherical interpolation (Shoemake, 1985, section 3.3) for each column of (channels, rows, columns)."""
    result = np.empty_like(one)
    for channel in range(one.shape[0]):
        for column in range(one.shape[2]):
            a, b = one[channel, :, column], other[channel, :, column]
            angle = np.arccos(a @ b / np.sqrt((a @ a) * (b @ b)))
            result[channel, :, column] = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    return result


@pytest.mark.parametrize("share", SHARES)
def test_noise_turns_along_the_arc_between_two_seeds(share: float) -> None:
    one, other = (torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(seed)) for seed in (7, 8))
    expected = along_the_arc(one[0].double().numpy(), other[0].double().numpy(), share)
    found = between(one, other, share)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)
    # As much noise as before, where a plain mean would have less.
    assert 0.85 < found.std() / one.std() < 1.15


def test_noise_that_is_the_same_stays_as_it_is() -> None:
    one = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    assert torch.allclose(between(one, one.clone(), 0.4), one, atol=1e-6)


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> TorchWorker:
    """A worker on a tiny model of every family that steps by itself."""
    folder = tmp_path_factory.mktemp("families")
    tiny_xl.stable_diffusion_xl(folder / "sdxl")
    tiny_transformers.stable_diffusion_3(folder / "sd3")
    tiny_transformers.flux2(folder / "flux2")
    tiny_transformers.qwen_image(folder / "qwen")
    tiny_transformers.z_image(folder / "z-image")
    return TorchWorker(Manager([models_folder, folder], "cpu", "float32"), Sources(folder / "sources"))


@pytest.mark.parametrize("model", ["sd", "velocity", "flux", "sdxl", "sd3", "flux2", "qwen", "z-image"])
def test_a_variation_lies_between_the_pictures_of_two_seeds(everyone: TorchWorker, model: str) -> None:
    plain = replace(everyone._models.default_recipe(model), prompt="a cat", width=64, height=64, steps=2)
    wanted = replace(plain, seed=7, sampler="Euler", variation_seed=8)
    none, some, whole = (everyone.begin(replace(wanted, variation_strength=share)).latents for share in (0, 0.3, 1))
    assert torch.equal(none, everyone.begin(replace(plain, seed=7, sampler="Euler")).latents)
    assert torch.allclose(whole, everyone.begin(replace(plain, seed=8, sampler="Euler")).latents, atol=1e-4)
    near, far = (some - none).norm(), (some - whole).norm()
    assert 0 < near < far < (none - whole).norm()


def test_a_variation_is_the_same_again_forked_and_from_its_file(worker: TorchWorker) -> None:
    wanted = recipe(variation_seed=2**60, variation_strength=0.25, sampler="Euler a")
    [run] = draw(worker, Recipe.from_json(wanted.to_json()))
    assert torch.equal(run.latents, draw(worker, wanted)[0].latents)
    fork = worker.begin(wanted, (run, 2))
    while fork.done < fork.total:
        worker.step([fork])
    assert torch.equal(fork.latents, run.latents)
    assert wanted.for_page()["variation_seed"] == str(2**60) and MAX_EXACT < 2**60
    assert Recipe.from_values(wanted.for_page()) == wanted


def test_a_picture_tells_its_variation_as_webui_does() -> None:
    wanted = Recipe("a boat", variation_seed=8, variation_strength=0.25)
    text = metadata.parameters(wanted)
    assert "Variation seed: 8, Variation seed strength: 0.25" in text
    assert "Variation" not in metadata.parameters(Recipe("a boat"))
    told = foreign.read(
        "a boat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: v1-5, "
        "Variation seed: 3923847213, Variation seed strength: 0.3"
    )
    assert (told.recipe.variation_seed, told.recipe.variation_strength) == (3923847213, 0.3)


def test_with_a_variation_the_other_seed_counts_up() -> None:
    values = {**{name: "" for name in ("prompt", "negative_prompt", "turns")}, "model": "sd", "previews": "clean"}
    numbers = {"width": "64", "height": "64", "steps": "2", "guidance_scale": "5", "pictures": "3", "seed": "7"}
    made, _ = form.read({**values, **numbers, "variation_seed": "20", "variation_strength": "0,2"})
    assert [(each.seed, each.variation_seed, each.variation_strength) for each in made] == [
        (7, 20, 0.2),
        (7, 21, 0.2),
        (7, 22, 0.2),
    ]
    made, _ = form.read({**values, **numbers, "variation_seed": "20", "variation_strength": "0"})
    assert [(each.seed, each.variation_seed) for each in made] == [(7, 0), (8, 0), (9, 0)]
    with pytest.raises(RecipeError, match="The variation seed must be a whole number, not 'x'"):
        form.read({**values, **numbers, "variation_seed": "x", "variation_strength": "0"})


def test_variations_can_be_compared() -> None:
    centre = Recipe("a boat", variation_strength=0.5)
    grid = axes.plan(centre, [("variation_strength", "0-0.4 +0.2"), ("variation_seed", "5, 2 random")], {})
    assert grid.columns == ("variation 0", "variation 0.2", "variation 0.4") and len(grid.rows) == 3
    assert grid.rows[0] == "variation seed 5" and grid.recipes[0][1].variation_seed == 5


@pytest.mark.parametrize("strength", [-0.1, 1.01])
def test_a_strength_out_of_range_is_told(strength: float) -> None:
    with pytest.raises(RecipeError, match=rf"A variation strength of {strength:g} is out of range. Use 0 to 1."):
        Recipe(variation_strength=strength).check()
