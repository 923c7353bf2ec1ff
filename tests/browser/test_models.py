"""The Models tab as a person uses it, in a real browser, on the launched program."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from tests import weights
from tests.browser.conftest import panel
from tests.test_loading import t5
from tests.weights import LORA

NASTY = "${alert(1)} <img src=x onerror=alert(2)>"


@pytest.fixture
def loras(models_folder: Path) -> Iterator[Path]:
    """A folder of LoRAs among the studio's models, with a picture and trigger words, while these tests run."""
    folder = models_folder / "Lora"
    notes = {"modelspec.trigger_phrase": f"sks cat, {NASTY}", "modelspec.description": f"Cats.\n{NASTY}"}
    weights.safetensors(folder / "cats.safetensors", LORA, notes)
    weights.safetensors(folder / "turned\u202eround.safetensors", LORA)
    Image.new("RGB", (300, 300), "#3a7").save(folder / "cats.preview.png")
    yield folder
    shutil.rmtree(folder)


def open_tab(page: Page) -> Locator:
    page.get_by_role("tab", name="Models", exact=True).click()
    here = panel(page, "models")
    here.locator(".models-card").first.wait_for()
    return here


def card(here: Locator, name: str) -> Locator:
    return here.locator(".models-card").filter(has=here.page.get_by_text(name, exact=True))


def test_models_are_listed_searched_and_filtered(page: Page, loras: Path) -> None:
    here = open_tab(page)
    expect(card(here, "sketchbook")).to_be_visible()
    expect(card(here, "old.ckpt")).to_contain_text("Cannot be used")
    here.get_by_label("Search models").fill("flux")
    expect(here.locator(".models-card")).to_have_count(1)
    expect(here.get_by_role("status").filter(has_text="1 of")).to_be_visible()
    here.get_by_label("Search models").fill("")
    here.get_by_role("button", name=re.compile("LoRAs")).click()
    expect(here.locator(".models-card")).to_have_count(2)
    expect(here.get_by_text(r"turned\u202eround")).to_be_visible()
    expect(card(here, "cats").locator("img")).to_have_js_property("complete", True)
    assert card(here, "cats").locator("img").evaluate("image => image.naturalWidth") == 300


def test_a_lora_shows_its_words_and_keeps_notes(page: Page, loras: Path) -> None:
    here = open_tab(page)
    here.get_by_role("button", name=re.compile("LoRAs")).click()
    card(here, "cats").press("Enter")
    sheet = page.get_by_role("dialog", name="cats")
    words = sheet.get_by_role("group", name="Trigger words")
    expect(words.get_by_role("button")).to_have_text(["sks cat", NASTY])
    expect(sheet.get_by_text("<lora:cats:1>")).to_be_visible()
    expect(sheet.get_by_text("Stable Diffusion 1.x lora")).to_be_visible()
    sheet.get_by_label("Your notes").fill(f"Good at 0.7 {NASTY}")
    sheet.get_by_label("Your notes").press("Tab")
    expect(sheet.get_by_text("Kept")).to_be_visible()
    sheet.get_by_role("button", name="Work out its hash").click()
    expect(sheet.get_by_text("Hash (AutoV2)")).to_be_visible()
    page.keyboard.press("Escape")
    here.get_by_label("Search models").fill("0.7")
    expect(here.locator(".models-card")).to_have_count(1)


def test_the_file_that_serves_as_a_part_is_shown_and_chosen(page: Page, models_folder: Path) -> None:
    home = models_folder / "parts"
    weights.flux_in_parts(home)
    weights.safetensors(home / "vae/soft.safetensors", weights.FLUX_VAE)
    t5(home / "t5_tokenizer")
    try:
        here = open_tab(page)
        card(here, "flux1-dev.safetensors").press("Enter")
        sheet = page.get_by_role("dialog", name="flux1-dev.safetensors")
        vae = sheet.get_by_label("VAE of FLUX.1")
        expect(vae.locator("option")).to_have_text(["ae (suits best)", "ae", "soft"])
        vae.select_option("soft")
        expect(sheet.get_by_text("Kept")).to_be_visible()
        page.keyboard.press("Escape")
        card(here, "flux1-dev.safetensors").press("Enter")
        expect(page.get_by_role("dialog").get_by_label("VAE of FLUX.1")).to_have_value("vae/soft")
    finally:
        shutil.rmtree(home)


def test_a_model_is_used_with_its_own_defaults(page: Page, faults: list[str]) -> None:
    here = open_tab(page)
    card(here, "velocity").click()
    sheet = page.get_by_role("dialog", name="velocity")
    sheet.get_by_label("Steps").fill("7")
    sheet.get_by_label("Steps").press("Tab")
    expect(sheet.get_by_text("Kept")).to_be_visible()
    sheet.get_by_label("Width").fill("65")
    sheet.get_by_label("Width").press("Tab")
    expect(sheet.get_by_role("alert")).to_contain_text("multiple")
    sheet.get_by_label("Width").fill("")
    sheet.get_by_label("Width").press("Tab")
    expect(sheet.locator(".notice")).to_be_hidden()
    sheet.get_by_role("button", name="Use in text to image").click()
    form = panel(page, "text_to_image")
    expect(form.get_by_label("Model", exact=True).first).to_have_value("velocity")
    expect(form.get_by_label("Steps", exact=True).first).to_have_value("7")
    page.evaluate("fetch('/models/defaults?key=model/velocity', {method: 'POST', body: '{}'})")
    forgive(faults)


def test_what_is_added_to_a_folder_shows_up(page: Page, models_folder: Path) -> None:
    here = open_tab(page)
    shutil.copytree(models_folder / "sd", models_folder / "newcomer")
    try:
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        expect(card(here, "newcomer")).to_be_visible()
    finally:
        shutil.rmtree(models_folder / "newcomer")


def forgive(faults: list[str]) -> None:
    """A refusal is an answer like others; Chromium writes it into its console all the same."""
    faults[:] = [fault for fault in faults if "Failed to load resource" not in fault]


def test_a_wrong_name_on_the_hub_is_told(page: Page, faults: list[str]) -> None:
    here = open_tab(page)
    here.get_by_role("button", name="Get from the hub").click()
    here.get_by_label("Name on huggingface.co").fill("sdxl")
    here.get_by_role("button", name="Look it up").click()
    expect(here.get_by_role("alert").filter(has_text="no name on the hub")).to_be_visible()
    forgive(faults)


def test_a_model_to_begin_with_is_looked_up_at_a_press(page: Page, faults: list[str]) -> None:
    """The hub itself cannot be reached in a test; what it would be asked is seen, and answered here."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        plan = {"repository": "a/b", "revision": "0" * 40, "license": "mit", "files": [], "choices": [], "bytes": 5}
        route.fulfill(json={**plan, "folder": "/models"})

    page.route("**/models/hub/look*", answer)
    try:
        here = open_tab(page)
        here.get_by_role("button", name="Get from the hub").click()
        expect(here.get_by_text(re.compile(r"As of 20\d\d-\d\d-\d\d"))).to_be_visible()
        here.get_by_role("button", name="Look up SDXL Turbo").click()
        expect(here.get_by_text("licence: mit")).to_be_visible()
        assert asked[0].endswith("text=stabilityai%2Fsdxl-turbo")
        expect(here.get_by_label("Name on huggingface.co")).to_have_value("stabilityai/sdxl-turbo")
    finally:
        page.unroute("**/models/hub/look*")


def test_the_bundled_model_is_said_to_be_the_studios_own(page: Page) -> None:
    here = open_tab(page)
    expect(card(here, "sketchbook")).to_contain_text("comes with the studio")
    expect(card(here, "old.ckpt")).not_to_contain_text("comes with the studio")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1600, 900)])
def test_it_fits_the_window(page: Page, loras: Path, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    here = open_tab(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    card(here, "sketchbook").click()
    sheet = page.get_by_role("dialog", name="sketchbook")
    box = sheet.bounding_box()
    assert box and box["width"] <= width and sheet.evaluate("each => each.scrollWidth <= each.clientWidth")


def make(page: Page, model: str, steps: int) -> Locator:
    """Start a picture on the first tab, and return its tile."""
    form = panel(page, "text_to_image")
    page.get_by_role("tab", name="Text to image").click()
    form.get_by_label("Model", exact=True).first.click()
    page.get_by_role("option", name=model, exact=True).click()
    expect(form.get_by_label("Steps", exact=True).first).not_to_have_value("")
    form.get_by_label("Steps", exact=True).first.fill(str(steps))
    page.get_by_role("button", name="Generate").click()
    return form.locator(".tile").first


def test_models_in_memory_are_shown_and_can_be_freed(page: Page, faults: list[str]) -> None:
    tile = make(page, "velocity", 4)
    expect(tile).to_have_attribute("data-state", "finished")
    here = open_tab(page)
    memory = here.get_by_role("region", name="Models in memory")
    row = memory.get_by_role("listitem").filter(has_text="velocity")
    expect(row).to_contain_text(re.compile(r"about \d+ [kM]B · whole, in \w+"))
    expect(memory).to_contain_text(re.compile(r"[\d.]+ GB of [\d.]+ GB free"))
    row.get_by_role("button", name="Free velocity").click()
    expect(row).to_have_count(0)

    tile = make(page, "velocity", 500)
    expect(tile).to_have_attribute("data-state", "step")
    open_tab(page)
    row.get_by_role("button", name="Free velocity").click()
    expect(row.get_by_role("alert")).to_contain_text("A picture is being made with velocity.")
    page.get_by_role("tab", name="Text to image").click()
    expect(tile).to_have_attribute("data-state", "step")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Discard", exact=True).click()
    forgive(faults)


def test_how_a_model_is_held_stands_beside_its_choice(page: Page) -> None:
    note = f"Its layers come one after the other: much slower. {NASTY}"
    held = {"card": True, "bytes": 8 * 10**9, "free": 10**9}
    models = [{"name": "velocity", "bytes": 5 * 10**9, "precision": "bfloat16", "note": note}]
    page.route("**/models/memory", lambda route: route.fulfill(json={**held, "models": models}))
    try:
        page.reload()
        form = panel(page, "text_to_image")
        form.locator(".stage[data-ready]").wait_for()
        expect(form.get_by_text(note, exact=True)).to_have_count(0)
        form.get_by_label("Model", exact=True).first.click()
        page.get_by_role("option", name="velocity", exact=True).click()
        expect(form.get_by_text(note, exact=True)).to_be_visible()
        here = open_tab(page)
        expect(here.get_by_text(f"about 5.0 GB · {note}")).to_be_visible()
        expect(here.get_by_text("1.0 GB of 8.0 GB free on the graphics card")).to_be_visible()
    finally:
        page.unroute("**/models/memory")


def test_loading_is_told_in_bytes(page: Page) -> None:
    events = [(0, 0), (0, 4_300_000_000), (1_234_000_000, 4_300_000_000), (5_000_000, 38_000_000), (7, 7)]
    told = page.evaluate(
        """async (events) => {
            const { standing } = await import("/page/common/words.js");
            return events.map(([read, bytes]) => standing({ state: "loading", model: "sd", read, bytes }));
        }""",
        events,
    )
    assert told == [
        "Waiting to load sd",
        "Loading sd, 0.0 of 4.3 GB",
        "Loading sd, 1.2 of 4.3 GB",
        "Loading sd, 5 of 38 MB",
        "Getting sd ready",
    ]
