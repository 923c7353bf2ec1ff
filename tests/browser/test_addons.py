"""The panel of add-ons as a person uses it: a LoRA from the list, and a picture that guides the drawing."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from studio.families.stable_diffusion import StableDiffusion
from studio.library import metadata
from studio.models.manager import Manager
from tests import tiny_addons
from tests.browser.conftest import PATIENCE, Studio
from tests.browser.test_text_to_image import field, fill, here, sentence, start, wait_for
from tests.inside import use


@pytest.fixture
def on_disk(models_folder: Path) -> Iterator[None]:
    """A LoRA and a ControlNet for the tiny model, while a test runs."""
    model = use(Manager([models_folder], device="cpu", dtype="float32"), "sd", StableDiffusion)
    words = {"modelspec.trigger_phrase": "inkstyle"}
    tiny_addons.lora(models_folder / "loras" / "ink.safetensors", model.unet, model.text_encoder, metadata=words)
    tiny_addons.controlnet(models_folder / "controlnet" / "lines", model.unet)
    yield
    for name in ("loras", "controlnet"):
        shutil.rmtree(models_folder / name)


def opened(page: Page) -> Locator:
    """The panel, with the tiny model chosen."""
    model = field(page, "Model")
    model.click()
    page.get_by_role("option", name="sd", exact=True).click()
    expect(field(page, "Width")).to_have_value("64")
    here(page).get_by_role("button", name="Add-ons").click()
    return here(page).locator(".addons")


def drawn(page: Page, studio: Studio, count: int = 1) -> tuple[np.ndarray, str]:
    """The newest picture, once it is finished: its pixels and its recipe."""
    before = len(studio.files())
    start(page)
    # The tiles of before may still say that they are finished; a new file cannot be one of theirs.
    patience = time.monotonic() + PATIENCE / 1000
    while len(studio.files()) < before + count and time.monotonic() < patience:
        page.wait_for_timeout(50)
    assert len(studio.files()) == before + count
    wait_for(page, "finished", count)
    found = metadata.read(studio.files()[-1])
    assert found
    return np.asarray(Image.open(studio.files()[-1])).astype(int), found[0].to_json()


@pytest.mark.usefixtures("on_disk")
def test_a_lora_that_is_clicked_is_used(page: Page, studio: Studio) -> None:
    panel = opened(page)
    fill(page, Prompt="a red cat", Steps=3, Seed=5)
    plain, _ = drawn(page, studio)
    lora = panel.get_by_role("button", name="ink")
    expect(lora).to_contain_text("says: inkstyle")
    panel.get_by_label("Search LoRAs").fill("oil")
    expect(lora).to_have_count(0)
    panel.get_by_label("Search LoRAs").fill("style")
    panel.get_by_label("LoRA weight").fill("0.9")
    lora.click()
    expect(field(page, "Prompt")).to_have_value("a red cat <lora:ink:0.9>")
    inked, recipe = drawn(page, studio)
    assert "<lora:ink:0.9>" in recipe
    assert np.abs(inked - plain).max() > 3
    fill(page, Prompt="a red cat <lora:oil:1>")
    start(page)
    expect(sentence(page)).to_contain_text("There is no LoRA named 'oil'; there are: ink.")


@pytest.mark.usefixtures("on_disk")
def test_a_picture_that_is_added_guides_the_drawing(page: Page, studio: Studio, tmp_path: Path) -> None:
    panel = opened(page)
    fill(page, Prompt="a red cat", Steps=3, Seed=5)
    plain, _ = drawn(page, studio)
    lines = Image.new("RGB", (64, 64), "white")
    lines.paste((0, 0, 0), (16, 16, 48, 48))
    lines.save(tmp_path / "lines.png")
    panel.get_by_label("Control picture file").set_input_files(tmp_path / "lines.png")
    expect(panel.get_by_label("Control model")).to_have_value("net lines")
    expect(panel.get_by_alt_text("What the model is given")).to_be_visible()
    panel.get_by_label("Prepared by").select_option("scribble")
    guided, recipe = drawn(page, studio)
    assert '"kind": "scribble"' in recipe and '"model": "lines"' in recipe
    assert np.abs(guided - plain).max() > 3
    panel.get_by_role("button", name="Take this control away").click()
    expect(panel.get_by_label("Control model")).to_have_count(0)
    again, recipe = drawn(page, studio)
    assert '"controls": []' in recipe and (again == plain).all()


def test_an_empty_panel_says_where_files_belong(page: Page) -> None:
    panel = opened(page)
    expect(panel.get_by_text("LoRAs are found in a folder named loras")).to_be_visible()
    expect(panel.get_by_text("ControlNets are found in a folder named controlnet")).to_be_visible()
    expect(panel.get_by_text("Other VAEs are found in a folder named vae")).to_be_visible()
    expect(field(page, "Clip skip")).to_have_value("1")


def test_guidance_is_rescaled_as_typed_and_otherwise_as_the_model_is_made_for(page: Page, studio: Studio) -> None:
    fill(page, Prompt="a red cat", Steps=3, Seed=5)
    _, recipe = drawn(page, studio)
    assert '"guidance_rescale": 0.9' in recipe  # Sketchbook's own, with the panel closed
    opened(page)
    fill(page, Prompt="a red cat", Steps=3, Seed=5, Guidance_scale=9)
    expect(field(page, "Guidance rescale")).to_have_value("")
    plain, recipe = drawn(page, studio)
    assert '"guidance_rescale": null' in recipe
    fill(page, Guidance_rescale=0.9)
    calmer, recipe = drawn(page, studio)
    assert '"guidance_rescale": 0.9' in recipe and np.abs(calmer - plain).max() > 1
    fill(page, Guidance_rescale="")
    again, recipe = drawn(page, studio)
    assert '"guidance_rescale": null' in recipe and (again == plain).all()
    page.reload()
    expect(field(page, "Model")).to_have_value("sd")
    here(page).get_by_role("button", name="Add-ons").click()
    expect(field(page, "Guidance rescale")).to_have_value("")
