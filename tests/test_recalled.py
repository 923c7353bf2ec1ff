"""Recipes back in a form: what isn't here is said, and never keeps the rest from being filled in."""

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.models.nearest import is_same, nearest
from studio.recipe import Recipe
from studio.ui import painting
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
