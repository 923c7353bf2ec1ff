"""Recipes back in a form: what isn't here is said, and never keeps the rest from being filled in."""

import re
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from studio.errors import RecipeError
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.models.nearest import is_same, nearest
from studio.recipe import Recipe
from studio.ui import form, image_to_image, painting
from studio.ui.filling import brought_to
from studio.ui.recalled import recalled

NAMES = (
    "sub/v1-5-pruned-emaonly.safetensors",
    "v1-5.safetensors",
    "Juggernaut_XL v9.safetensors",
    "flux1-dev-Q4_0.gguf",
    "owner/painter",
)
DIGITS = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"


def found(asked: str) -> str:
    entries = [Entry(name, Path(name)) for name in NAMES]
    entry = nearest(asked, entries, lambda each: DIGITS if each.name == NAMES[0] else "")
    return entry.name if entry else ""


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("v1-5", "v1-5.safetensors"),
        ("V1-5.ckpt", "v1-5.safetensors"),
        ("v1-5-pruned-emaonly", "sub/v1-5-pruned-emaonly.safetensors"),
        (r"SD\v1-5", "v1-5.safetensors"),
        ("6ce0161689", "sub/v1-5-pruned-emaonly.safetensors"),
        ("6CE0161689", "sub/v1-5-pruned-emaonly.safetensors"),
        ("something.ckpt [6ce0161689]", "sub/v1-5-pruned-emaonly.safetensors"),
        ("v1-5 [6ce0161689]", "v1-5.safetensors"),
        ("ffffffffff", ""),
        ("juggernautXL_v9", "Juggernaut_XL v9.safetensors"),
        ("juggernautXL_v8Rundiffusion", "Juggernaut_XL v9.safetensors"),
        ("flux1-dev", "flux1-dev-Q4_0.gguf"),
        ("painter", "owner/painter"),
        ("animagine", ""),
        ("", ""),
        ("狐", ""),
    ],
)
def test_a_model_is_found_by_name_by_hash_and_by_likeness(asked: str, name: str) -> None:
    assert found(asked) == name


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


def test_the_form_is_filled_in_with_all_of_it(models: Manager) -> None:
    with gr.Blocks():
        settings = painting.Settings("text_to_image", models)
        settings.prompts()
        settings.choice_of_model()
        settings.size()
        settings.sampling()
    fields = settings.form
    updates, said = painting.settings_of(replace(MADE, model="gone"), models, fields, "sd")
    assert updates[fields["prompt"]] == "a fox" and updates[fields["seed"]] == str(2**60 + 1)
    assert updates[fields["model"]]["value"] == "sd" and updates[fields["width"]] == "544"
    assert "is not here" in said


def laid_out(models: Manager) -> painting.Settings:
    with gr.Blocks():
        settings = painting.Settings("text_to_image", models)
        settings.prompts()
        settings.choice_of_model()
        settings.size()
        settings.sampling()
    return settings


def test_a_form_keeps_what_is_missing(models: Manager) -> None:
    fields = laid_out(models).form
    values = form.restored({"model": "gone", "vae": "kl-gone", "sampler": "Fast", "steps": "33", "width": 64})
    updates = brought_to(fields, models, values)
    assert updates[fields["model"]]["value"] == "gone"
    assert updates[fields["model"]]["choices"][0] == ("gone (not here)", "gone")
    assert updates[fields["sampler"]]["value"] == "Fast" and updates[fields["steps"]] == "33"
    assert updates[fields["vae"]]["value"] == "kl-gone"
    assert ("kl-gone (not here)", "kl-gone") in updates[fields["vae"]]["choices"]


def test_a_field_says_what_it_cannot_read() -> None:
    assert form.typed("guidance_scale", "7,5") == 7.5 and form.typed("guidance_rescale", " ") is None
    for name, text, told in [
        ("width", "1.024,5", "Width is no number: '1.024,5'"),
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
