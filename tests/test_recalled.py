"""Recipes back in a form: what isn't here is said, and never keeps the rest from being filled in."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import gradio as gr
import pytest

from studio.errors import RecipeError
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.models.nearest import is_same, nearest
from studio.recipe.fields import MAX_SEED
from studio.recipe.recipe import Recipe
from studio.ui import canvas, form, painting
from studio.ui.filling import brought_to
from studio.ui.recalled import recalled
from studio.ui.tabs import image_to_image
from tests import weights

NAMES = (
    "sub/v1-5-pruned-emaonly.safetensors",
    "v1-5.safetensors",
    "Juggernaut_XL v9.safetensors",
    "flux1-dev-Q4_0.gguf",
    "owner/painter",
)
DIGITS = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"


def found(asked: str) -> tuple[str, str]:
    entries = [Entry(name, Path(name)) for name in NAMES]
    match = nearest(asked, entries, lambda each: DIGITS if each.name == NAMES[0] else "")
    return (match[0].name, match[1]) if match else ("", "")


@pytest.mark.parametrize(
    ("asked", "name", "how"),
    [
        ("v1-5", "v1-5.safetensors", "name"),
        ("V1-5.ckpt", "v1-5.safetensors", "name"),
        ("v1-5-pruned-emaonly", "sub/v1-5-pruned-emaonly.safetensors", "name"),
        (r"SD\v1-5", "v1-5.safetensors", "name"),
        ("6ce0161689", "sub/v1-5-pruned-emaonly.safetensors", "hash"),
        ("6CE0161689", "sub/v1-5-pruned-emaonly.safetensors", "hash"),
        ("something.ckpt [6ce0161689]", "sub/v1-5-pruned-emaonly.safetensors", "hash"),
        ("v1-5 [6ce0161689]", "sub/v1-5-pruned-emaonly.safetensors", "hash"),
        ("v1-5 [ffffffffff]", "v1-5.safetensors", "name"),
        ("ffffffffff", "", ""),
        ("juggernautXL_v9", "Juggernaut_XL v9.safetensors", "name"),
        ("juggernautXL_v8Rundiffusion", "Juggernaut_XL v9.safetensors", "likeness"),
        ("flux1-dev", "flux1-dev-Q4_0.gguf", "likeness"),
        ("painter", "owner/painter", "name"),
        ("animagine", "", ""),
        ("", "", ""),
        ("狐", "", ""),
    ],
)
def test_a_model_is_found_by_hash_by_name_and_by_likeness(asked: str, name: str, how: str) -> None:
    assert found(asked) == (name, how)


def test_names_are_the_same_but_for_case_folder_and_ending() -> None:
    assert is_same("V1-5", "sub/v1-5.safetensors") and not is_same("v1-5", "v1-5-pruned.safetensors")


MADE = Recipe(prompt="a fox", negative_prompt="blur", model="sd", seed=2**60 + 1, width=544, height=960, steps=7)


def test_what_is_here_comes_back_as_it_was(models: Manager) -> None:
    assert recalled(MADE, models, models.entries()) == (MADE, [])


def test_a_model_that_is_gone_keeps_nothing_else_from_coming_back(models: Manager) -> None:
    entries = models.entries()
    back, said = recalled(replace(MADE, model="gone for good"), models, entries, "sd")
    assert back == MADE
    assert said == ["The model 'gone for good' that made this picture is not here: sd is chosen instead."]
    back, said = recalled(replace(MADE, model="SD.safetensors"), models, entries)
    assert back == MADE and said[0].startswith("sd is the file of the model 'SD.safetensors'")
    back, said = recalled(MADE, models, [])
    assert back == replace(MADE, model="") and "no other can be used" in said[0]


@pytest.fixture
def files(tmp_path: Path) -> Manager:
    """A checkpoint, three LoRAs and a VAE; of one LoRA no hash is known, of another but one."""
    weights.safetensors(tmp_path / "v1-5.safetensors", weights.SD1)
    weights.safetensors(tmp_path / "vae" / "mse.safetensors", weights.FLUX_VAE)
    weights.safetensors(tmp_path / "loras" / "ink.safetensors", {"a": (1,)}, {"sshs_model_hash": "0x" + "ab" * 32})
    weights.safetensors(tmp_path / "loras" / "oil.safetensors", {"b": (1,)})
    weights.safetensors(tmp_path / "loras" / "other" / "wax.safetensors", {"c": (1,)})
    models = Manager([tmp_path], "cpu")
    for entry in models.catalog.everything():
        digits = {"model": "01" * 32, "vae": "23" * 32}.get(entry.kind)
        if digits and entry.single:
            models.catalog.records.keep_hashes(entry.path, entry.stamp, digits)
        if entry.path.stem == "wax":
            models.catalog.records.keep_hashes(entry.path, entry.stamp, "45" * 32, "67" * 32)
    return models


def test_a_hash_counts_more_than_a_name(files: Manager) -> None:
    entries = files.entries()
    name = next(entry.name for entry in entries if entry.single)

    def said(asked: str) -> list[str]:
        back, told = recalled(Recipe("a fox", model=asked, sampler="Euler"), files, entries)
        assert back.model == name
        return told

    assert said(name) == said(f"{name} [{'01' * 5}]") == []
    assert said(f"painter [{'01' * 5}]") == [
        f"{name} has the hash of the model 'painter [0101010101]', which the picture was made with."
    ]
    assert said(f"{name} [{'ff' * 5}]") == [
        f"{name} is another file than the model '{name} [ffffffffff]' of the picture: their hashes differ."
    ]


def test_a_lora_and_a_vae_of_another_name_are_found_by_their_hashes(files: Manager) -> None:
    entries = files.entries()
    model = next(entry for entry in entries if entry.single)
    [vae] = files.seen("vae")
    asked = Recipe(
        f"a <lora:pen:0.5:hash={'ab' * 6}> fox <lora:oil:hash={'cd' * 6}> <lora:far>",
        model=model.name, sampler="Euler", vae=f"kl-f8 [{'23' * 5}]",
    )  # fmt: skip
    back, said = recalled(asked, files, entries)
    assert back.prompt == "a <lora:ink:0.5> fox <lora:oil> <lora:far>" and back.vae == vae
    assert said == [
        f"The VAE {vae} has the hash of 'kl-f8 [2323232323]', which the picture was made with.",
        "The LoRA ink has the hash of 'pen', which the picture was made with.",
    ]
    same = replace(asked, prompt=f"<lora:INK.safetensors:hash={'ab' * 6}>", vae=f"{vae} [{'23' * 5}]")
    assert recalled(same, files, entries)[1] == []
    for digits in ("45" * 5, "67" * 6):
        back, said = recalled(replace(same, prompt=f"<lora:x:hash={digits}>"), files, entries)
        assert back.prompt == "<lora:wax>" and len(said) == 1
    back, said = recalled(
        replace(same, prompt=f"<lora:wax:2:hash={'89' * 6}> <lora:ink:hash={'89' * 6}>"), files, entries
    )
    assert back.prompt == "<lora:wax:2> <lora:ink>"
    assert said == ["The LoRA wax is another file than that of the picture: their hashes differ."]


def test_what_the_model_has_not_is_said(models: Manager) -> None:
    entries = models.entries()
    asked = replace(MADE, sampler="DPM++ 2M SDE Exponential", vae="kl-f8")
    back, said = recalled(asked, models, entries)
    assert back == replace(MADE, sampler="DPM++ 2M SDE")
    assert said == [
        "sd has no sampler 'DPM++ 2M SDE Exponential' here: DPM++ 2M SDE is chosen instead.",
        "The VAE 'kl-f8' is not here: the model's own is used.",
    ]
    flux = models.entry("flux")
    assert flux.facts
    back, said = recalled(replace(MADE, model="flux", width=536), models, entries)
    assert (back.sampler, back.negative_prompt) == (MADE.sampler, "")  # flow models have that one too
    assert "flux takes no negative prompt: it was left out." in said
    assert back.width % flux.facts.multiple == 0 and back.seed == MADE.seed


def laid_out(models: Manager) -> painting.Settings:
    with gr.Blocks():
        settings = painting.Settings("text_to_image", models, canvas.window())
        settings.prompt()
        settings.negative()
        settings.choice_of_model()
        settings.size()
        settings.count()
        settings.sampling()
    return settings


def test_the_form_is_filled_in_with_all_of_it(models: Manager) -> None:
    fields = laid_out(models).form
    updates, said = painting.settings_of(replace(MADE, model="gone"), models, fields, "sd")
    assert updates[fields["prompt"]] == "a fox" and updates[fields["seed"]] == str(2**60 + 1)
    assert updates[fields["model"]]["value"] == "sd" and updates[fields["width"]] == "544"
    assert "is not here" in said


def test_a_form_keeps_what_is_missing(models: Manager) -> None:
    fields = laid_out(models).form
    own = {"clip_skip": "2", "guidance_rescale": "0.4", "variation_strength": "0.2", "variation_seed": "5"}
    values = form.restored(
        json.dumps({"model": "gone", "vae": "kl-gone", "sampler": "Fast", "steps": "33", "width": 64, **own})
    )
    updates, said = brought_to(fields, models, values)
    assert said == []
    # Whether a model that is not here makes use of them is not known.
    assert {name: updates[fields[name]]["value"] for name in own} == own
    assert updates[fields["model"]]["value"] == "gone"
    assert updates[fields["model"]]["choices"][0] == ("gone (not here)", "gone")
    assert updates[fields["sampler"]]["value"] == "Fast" and updates[fields["steps"]] == "33"
    assert updates[fields["vae"]]["value"] == "kl-gone"
    assert ("kl-gone (not here)", "kl-gone") in updates[fields["vae"]]["choices"]


def test_a_choice_that_a_model_no_longer_has_is_replaced_with_a_word(models: Manager) -> None:
    fields = laid_out(models).form
    values = {"model": "flux", "sampler": "Euler a", "schedule": "Of old", "steps": "33"}
    updates, said = brought_to(fields, models, values)
    own = models.default_recipe("flux")
    assert said == [
        f"flux has no sampler 'Euler a' now, so its own, {own.sampler}, was chosen instead.",
        f"flux has no schedule 'Of old' now, so its own, {own.schedule}, was chosen instead.",
    ]
    assert updates[fields["sampler"]]["value"] == own.sampler in updates[fields["sampler"]]["choices"]
    assert updates[fields["schedule"]]["value"] == own.schedule in updates[fields["schedule"]]["choices"]
    assert updates[fields["steps"]] == "33"
    assert brought_to(fields, models, {"model": "sd", "sampler": "Euler a"})[1] == []


@pytest.mark.parametrize("seed", [str(MAX_SEED + 1), "9" * 20, "9" * 5000])
def test_a_seed_that_is_too_large_is_told_with_the_largest(seed: str) -> None:
    with pytest.raises(RecipeError, match=f"is out of range. Use 0 to {MAX_SEED}") as raised:
        form.read({**asdict(Recipe()), "model": "sd", "seed": seed, "pictures": "1", "previews": "clean"})
    assert raised.value.fields == ("seed",)
    with pytest.raises(RecipeError, match=r"fresh noise|out of range"):
        form.read({**asdict(Recipe()), "model": "sd", "seed": "1", "pictures": "1", "previews": "clean",
                   "turns": f"2: noise 0.5 seed {seed}"})  # fmt: skip
    assert form.seed_typed(seed) is None and form.seed_typed(f" {MAX_SEED} ") == MAX_SEED


def test_a_model_that_is_there_and_cannot_be_used_is_not_said_to_be_away(models: Manager) -> None:
    entries = [Entry("old", Path("old"), problem="old lacks a part.")]
    for name, said in (("old", "old (cannot be used)"), ("gone", "gone (not here)")):
        assert form.for_model(entries, name, {})["model"]["choices"][0] == (said, name)
    assert "cannot be used now" in painting.missing("old", True) and "is not here now" in painting.missing(
        "gone", False
    )


def test_a_field_says_what_it_cannot_read() -> None:
    assert form.typed("guidance_scale", "7,5") == 7.5 and form.typed("guidance_rescale", " ") is None
    for name, text, told in [
        ("width", "1.024,5", "Width is no number: '1.024,5'"),
        ("width", "7²", "Width is no number: '7²'"),
        ("steps", "", "Steps is empty"),
        ("steps", None, "Steps is empty"),
    ]:
        with pytest.raises(RecipeError, match=re.escape(told)) as raised:
            form.typed(name, text)
        assert raised.value.fields == (name,)
    with pytest.raises(RecipeError, match="Grow must be a whole number, not 1,5"):
        form.whole("grow", "1,5", -5, 5)


@pytest.mark.parametrize(
    ("size", "to", "fit", "said"),
    [
        ((1000, 10), (1024, 64), "crop", "84 % of the picture's width is cut off."),
        ((1000, 10), (1024, 64), "pad", "84 % of the result, above and below, is white: the picture does not fill it."),
        ((300, 200), (304, 192), "crop", "5 % of the picture's height is cut off."),
        ((300, 200), (304, 192), "stretch", "The picture is stretched: it becomes 6 % wider than its shape."),
        ((1001, 1000), (1000, 1000), "crop", "Less than 1 % of the picture's width is cut off."),
        ((512, 256), (256, 128), "crop", ""),
    ],
)
def test_what_becomes_of_a_start_picture(size: tuple[int, int], to: tuple[int, int], fit: str, said: str) -> None:
    assert image_to_image.fitting(*size, *to, fit) == said


def test_a_narrow_picture_keeps_as_much_of_its_length_as_the_model_can_draw(models: Manager) -> None:
    assert painting.suited_size(models, "sketchbook", 1000, 10) == (1024, 64)
    assert painting.suited_size(models, "sketchbook", 300, 200) == (304, 192)
