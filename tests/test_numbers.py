"""What is known of a single file reaches what draws it: prediction, timetable, steps, guidance, sampler."""

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from studio.families import FAMILIES, Facts
from studio.families.samplers import Sampler
from studio.files.identity.identify import Identity, words_of
from studio.models import catalog, loading, sidecars
from studio.models.catalog import Catalog, Entry
from studio.models.records import NOT_DISTILLED, Records
from studio.recipe.recipe import AS_PUBLISHED, Recipe
from studio.web.models import _described
from tests import weights
from tests.test_headers import identity
from tests.weights import FLUX, FLUX2, QWEN, SD1, SD2, SDXL, Z_IMAGE, Shapes


def entry(folder: Path, shapes: Shapes, name: str = "x.safetensors", **options: Any) -> Entry:
    """What the catalog says of a file of these shapes, whether or not its companions are there."""
    path = weights.safetensors(folder / name, shapes, **options)
    return next(each for each in Catalog([folder]).everything() if each.path == path)


def facts(found: Entry) -> Facts:
    assert found.facts
    return found.facts


def scheduler(found: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config that a model is loaded with, and the one for recipes from before there were schedules."""
    parts = loading._scheduler(dataclasses.replace(found, problem=""))
    return parts["scheduler"], parts["published"]


def begins(found: Entry, recipe: Recipe) -> list[int]:
    """The timesteps that a recipe is drawn at."""
    config, published = scheduler(found)
    config = published if recipe.schedule == AS_PUBLISHED else config
    table = next(each for each in FAMILIES if each.family == found.family).samplers
    made = Sampler(table, recipe.sampler, config, recipe.steps, schedule=recipe.schedule)
    return [round(each) for each in made._timesteps.tolist()]


KNOWN = Identity(kind="model", base="sdxl", config="stable-diffusion-xl", parts=("unet", "vae", "text_encoder"))
OTHERWISE: dict[str, Any] = {
    "kind": "other", "base": "sd1", "variant": "a kind", "config": "stable-diffusion-v1", "precision": "float32",
    "parameters": 7, "parts": ("unet", "vae", "text_encoder", "text_encoder_2"), "prediction_type": "v_prediction",
    "zero_snr": True, "steps": 8, "distilled": "lightning", "title": "A name", "author": "Somebody", "license": "MIT",
    "notes": "Words", "triggers": ("cat",), "trained_on": "another", "has_thumbnail": True,
}  # fmt: skip
"""For each fact another value than KNOWN's."""

TOLD_BY_OTHERS = {"inpainting", "packed"}
"""Facts that are told otherwise: config and variant say the one, and what is packed is refused."""


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Identity)])
def test_every_fact_of_a_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A fact that changes neither how a file is drawn nor what is said of it would be known in vain."""
    if name in TOLD_BY_OTHERS:
        return
    weights.safetensors(tmp_path / "x.safetensors", SDXL)

    def outcome(told: Identity) -> list[Any]:
        monkeypatch.setattr(catalog, "identify", lambda *given: told)
        found = next(each for each in Catalog([tmp_path]).everything() if each.path.parent == tmp_path)
        drawn = loading._scheduler(dataclasses.replace(found, problem="")) if found.kind == "model" else None
        rest = dataclasses.replace(found, identity=Identity())
        return [rest, drawn, _described(found, "", ""), sidecars.notes(found), sidecars.has_thumbnail(found)]

    assert outcome(dataclasses.replace(KNOWN, **{name: OTHERWISE[name]})) != outcome(KNOWN)


@pytest.mark.parametrize(
    ("shapes", "metadata"),
    [
        ({**SDXL, "v_pred": (), "ztsnr": ()}, {}),
        (SDXL, {"modelspec.prediction_type": "v", "ss_zero_terminal_snr": "True"}),
        (SDXL, {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}),
        ({**SD1, "v_pred": (), "ztsnr": ()}, {}),
    ],
)
def test_velocity_and_zero_terminal_snr_are_drawn_as_such(tmp_path: Path, shapes: Shapes, metadata: dict) -> None:
    """Lin et al., arXiv:2305.08891: rescaled betas, and timesteps that trail from the last one, which is pure noise."""
    found = entry(tmp_path, shapes, metadata=metadata)
    config, published = scheduler(found)
    assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == ("v_prediction", True)
    assert config["timestep_spacing"] == "trailing"
    # 1000 - 40 k - 1.
    assert begins(found, Recipe(sampler="Euler", steps=25)) == [999 - 40 * step for step in range(25)]
    assert published["prediction_type"] == "v_prediction" and "rescale_betas_zero_snr" not in published


def test_what_says_nothing_is_drawn_as_its_config_says(tmp_path: Path) -> None:
    plain = entry(tmp_path, SDXL)
    config, published = scheduler(plain)
    assert config == published and (config["prediction_type"], config["timestep_spacing"]) == ("epsilon", "leading")
    assert begins(plain, Recipe(sampler="Euler", steps=4)) == [751, 501, 251, 1]  # 1000 // 4 k + 1
    old = entry(tmp_path, SD2, "v2-1_512-base.safetensors")
    assert scheduler(old)[0]["prediction_type"] == "epsilon"


TRAILING = [999, 749, 499, 249]


@pytest.mark.parametrize(
    ("name", "steps", "sampler", "timesteps"),
    [
        ("sd_xl_turbo_1.0_fp16", 4, "Euler a", TRAILING),
        ("sdxl_lightning_4step", 4, "Euler", TRAILING),
        ("sdxl_lightning_8step_unet", 8, "Euler", [999 - 125 * step for step in range(8)]),
        ("Hyper-SDXL-8steps", 8, "DDIM", [999 - 125 * step for step in range(8)]),
        ("painter_dmd2", 4, "LCM", TRAILING),
        # 50 levels of 20 each, of which each step takes the next fourth: floor(k 50 / 4).
        ("painter-LCM", 4, "LCM", [999, 759, 499, 259]),
        ("painterXL_v21TurboDPMSDE", 4, "Euler a", TRAILING),
    ],
)
def test_distilled_models_begin_where_their_makers_begin(
    tmp_path: Path, name: str, steps: int, sampler: str, timesteps: list[int]
) -> None:
    """Samplers and spacing as in `studio.families.stable_diffusion.DISTILLED`; no guidance, which is a scale of 1."""
    found = entry(tmp_path, SDXL, f"{name}.safetensors")
    suited = facts(found)
    assert (suited.steps, suited.guidance_scale, suited.sampler) == (steps, 1.0, sampler)
    made = Recipe(sampler=suited.sampler, steps=suited.steps, schedule=suited.schedule)
    assert begins(found, made) == timesteps
    if sampler == "Euler":  # and a picture that was drawn before is drawn again as it was
        spaced = [1000 // steps * step + 1 for step in reversed(range(steps))]
        assert begins(found, dataclasses.replace(made, schedule=AS_PUBLISHED)) == spaced


def test_stable_diffusion_xl_begins_at_the_noise_it_was_trained_for(tmp_path: Path) -> None:
    """At timestep 999, as A1111 and ComfyUI do."""
    suited = facts(entry(tmp_path, SDXL))
    assert begins(entry(tmp_path, SDXL), Recipe(sampler="Euler", steps=25, schedule=suited.schedule))[0] == 999


@pytest.mark.parametrize(
    "name",
    ["hyperfusion_vpred9", "hyper_realistic_xl", "HyperRealismXL", "turbocharged", "turbulence", "lcmix", "admdx",
     "enlightning", "schnelling"],
)  # fmt: skip
def test_words_count_as_words(tmp_path: Path, name: str) -> None:
    found = identity(tmp_path, SDXL, f"{name}.safetensors")
    assert (found.steps, found.distilled) == (0, "")


def test_capitals_and_numbers_begin_words() -> None:
    assert words_of("modelXL_v9Rdphoto2Lightning.safetensors") == ["model", "xl", "v", "9", "rdphoto", "2", "lightning"]
    assert words_of("LCMTurbo-4steps.gguf") == ["lcm", "turbo", "4", "steps"]


def test_z_image_and_klein_begin_with_their_own_numbers(tmp_path: Path) -> None:
    """The model cards of Tongyi-MAI/Z-Image-Turbo and Z-Image and of FLUX.2 klein and klein base; Z-Image's
    scheduler_config.json has a shift of 3 for Turbo, and of 6 for the base."""

    def told(shapes: Shapes, name: str) -> tuple[int, float, bool]:
        suited = facts(entry(tmp_path, shapes, f"{name}.safetensors"))
        return suited.steps, suited.guidance_scale, suited.negative_prompt

    assert told(Z_IMAGE, "z_image_turbo_bf16") == (8, 0.0, True)
    assert told(Z_IMAGE, "z_image_bf16") == (50, 4.0, True)
    assert told(FLUX2, "flux2-klein-4b") == (4, 1.0, False)
    assert told(FLUX2, "flux-2-klein-base-4b-fp8") == (50, 4.0, True)
    turbo, base = (entry(tmp_path, Z_IMAGE, f"{name}.safetensors") for name in ("z_image_turbo_bf16", "z_image_bf16"))
    assert [scheduler(each)[0]["shift"] for each in (turbo, base)] == [3.0, 6.0]
    assert [scheduler(each)[1]["shift"] for each in (turbo, base)] == [3.0, 3.0]


def test_guidance_that_a_model_reads_as_a_number_stays(tmp_path: Path) -> None:
    """FLUX.1 dev distilled further (the card of ByteDance/Hyper-SD: 8 steps, guidance 3.5) has no second pass."""
    suited = facts(entry(tmp_path, FLUX, "flux1-dev-hyper-8steps.safetensors"))
    assert (suited.steps, suited.guidance_scale, suited.negative_prompt) == (8, 3.5, False)


def test_qwen_image_lightning_has_the_shift_that_it_was_distilled_at(tmp_path: Path) -> None:
    """The card of lightx2v/Qwen-Image-Lightning: base_shift and max_shift are log(3), and there is no terminal."""
    found = entry(tmp_path, QWEN, "qwen-image-lightning-4steps.safetensors")
    config, published = scheduler(found)
    assert facts(found).steps == 4
    assert (config["base_shift"], config["max_shift"], config["shift_terminal"]) == (math.log(3), math.log(3), None)
    assert published == json.loads((found.config / "scheduler" / "scheduler_config.json").read_text())


def test_a_person_says_otherwise_and_takes_it_back(tmp_path: Path) -> None:
    """What is kept outlives a start, and changes what the file begins with and how it is drawn until taken back."""
    weights.safetensors(tmp_path / "turbo_painter.safetensors", SDXL)
    weights.safetensors(tmp_path / "plain.safetensors", SDXL)

    def told() -> dict[str, Entry]:
        everything = Catalog([tmp_path], records=Records(tmp_path / "records")).everything()
        return {each.name.partition(".")[0]: each for each in everything if each.path.parent == tmp_path}

    before = told()
    assert [facts(before[name]).steps for name in ("turbo_painter", "plain")] == [4, 25]
    with contextlib.closing(Records(tmp_path / "records")) as records:
        records.keep_defaults(before["plain"].key, {"steps": 6})
        records.keep_distilled(before["turbo_painter"].key, NOT_DISTILLED)
        records.keep_distilled(before["plain"].key, "dmd")
        assert records.defaults(before["plain"].key) == {"steps": 6}
        records.keep_defaults(before["plain"].key, {})
    after = told()
    assert (facts(after["turbo_painter"]), scheduler(after["turbo_painter"])) == (
        facts(before["plain"]), scheduler(before["plain"]),
    )  # fmt: skip
    assert (facts(after["plain"]).steps, facts(after["plain"]).sampler, facts(after["plain"]).schedule) == (
        4, "LCM", "Trailing",
    )  # fmt: skip
    with contextlib.closing(Records(tmp_path / "records")) as records:
        for each in before.values():
            records.keep_distilled(each.key, "")
    assert told() == before
