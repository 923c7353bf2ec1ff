"""The form as people use it: numbers of any notation, lists that are passed by, what fills it in, what goes wrong."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from studio import numerals
from studio.library import metadata
from studio.recipe.recipe import Recipe
from tests.browser.conftest import OPEN, Studio, panel, visit
from tests.browser.test_compare import cells, generate, open_compare
from tests.browser.test_inpainting import bring_in, open_tab
from tests.browser.test_text_to_image import LONG, choose, field, fill, here, sentence, start, tiles, wait_for

TYPED = (
    "7,5",
    "0,35",
    "7.5",
    " 12 ",
    "７．５",
    "٧٫٥",
    "۷٫۵",
    "−2",
    "1e3",
    "1.024,5",
    "1,2,3",
    "",
    "many",
    "5.",
    ".5",
    "-",
    "7²",
    "①",
    "½",
)
"""What people type, some of it no number."""


def answer(page: Page, place: str = "text_to_image") -> Locator:
    """What the form says above its buttons."""
    return page.locator(f"#{place}-notice")


def made(studio: Studio, before: int) -> list[Any]:
    """The recipes of the pictures on disk but the first ones."""
    return [metadata.read(path)[0] for path in studio.files()[before:]]  # type: ignore[index]


def settled(page: Page) -> None:
    """Wait until the page has asked for nothing for a while: all that a change brings about has come."""
    page.wait_for_load_state("networkidle")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


# ---- Numbers ----


@pytest.mark.parametrize("language", ["en-US", "de-DE", "fa-IR"])
def test_numbers_are_read_in_every_language(page: Page, browser: Browser, studio: Studio, language: str) -> None:
    before = len(studio.files())
    context = browser.new_context(locale=language)
    context.add_init_script(OPEN)
    try:
        page = context.new_page()
        visit(page, studio)
        fill(page, Prompt="a pear", Steps=2, Seed=3, Width=64, Height=64)
        for label, typed in (("Guidance scale", "7,5"), ("Guidance end", "0,55")):
            field(page, label).fill("")
            field(page, label).press_sequentially(typed)
            expect(field(page, label)).to_have_value(typed)
        expect(field(page, "Guidance scale")).to_have_attribute("inputmode", "decimal")
        start(page)
        wait_for(page, "finished")
    finally:
        context.close()
    [recipe] = made(studio, before)
    assert (recipe.guidance_scale, recipe.guidance_end) == (7.5, 0.55)


def test_a_strength_with_a_comma(page: Page, studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "#8fb7df").save(tmp_path / "sky.png")
    before = len(studio.files())
    tab = open_tab(page, "Image to image")
    bring_in(tab, tmp_path / "sky.png")
    tab.get_by_label("Steps", exact=True).fill("20")
    tab.get_by_label("Strength", exact=True).fill("0,35")
    expect(tab.get_by_text("7 of 20 steps are run")).to_be_visible()
    expect(tab.locator(".slider")).to_have_value("0.35")
    generate(tab)
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(1)
    assert made(studio, before)[0].strength == 0.35
    tab.locator(".slider").fill("0.8")
    expect(tab.get_by_label("Strength", exact=True)).to_have_value("0.8")


def test_what_is_no_number_is_said_at_the_field_and_draws_nothing(page: Page) -> None:
    fill(page, Prompt="a pear", Steps=2)
    width = field(page, "Width")
    width.fill("1.024,5")
    width.press("Tab")
    fault = here(page).locator(".block.number", has=width).get_by_role("alert")
    expect(fault).to_contain_text("That is no number")
    expect(width).to_have_attribute("aria-invalid", "true")
    start(page)
    expect(answer(page)).to_contain_text("Width is no number: '1.024,5'")
    expect(tiles(page, "finished")).to_have_count(0)
    width.fill("64")
    expect(fault).to_have_count(0)
    expect(answer(page).get_by_role("alert")).to_have_count(0)
    expect(width).not_to_have_attribute("aria-invalid", "true")


def test_the_page_reads_numbers_as_the_studio_does(page: Page) -> None:
    read = page.evaluate("async (all) => all.map((await import('/page/common/numbers.js')).numberOf)", list(TYPED))
    assert read == [numerals.number(text) for text in TYPED]


def test_arrow_keys_count(page: Page) -> None:
    field(page, "Guidance scale").fill("6")
    field(page, "Guidance scale").press("ArrowUp")
    expect(field(page, "Guidance scale")).to_have_value("6.5")
    field(page, "Width").fill("256")
    field(page, "Width").press("ArrowDown")
    expect(field(page, "Width")).to_have_value("248")


def test_fields_of_the_pages_own_take_no_other_number(page: Page) -> None:
    tab = open_tab(page, "Image to image")
    tab.get_by_role("button", name="Blank", exact=True).first.click()
    dialog = page.get_by_role("dialog", name="A blank sheet")
    dialog.get_by_label("Sheet width").fill("64,5")
    dialog.get_by_role("button", name="Put on the easel").click()
    expect(dialog.get_by_role("alert").filter(has_text="Only a whole number will do here.")).to_be_visible()
    dialog.get_by_label("Sheet width").fill("128")
    dialog.get_by_role("button", name="Put on the easel").click()
    expect(tab.locator(".easel-size")).to_have_text("128 × 512")


def test_a_picture_is_extended_by_no_other_number(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "#8fb7df").save(tmp_path / "sky.png")
    tab = open_tab(page, "Inpainting")
    bring_in(tab, tmp_path / "sky.png")
    tab.get_by_role("group", name="Tools").get_by_role("button", name="Extend").click()
    form = page.get_by_role("dialog", name="Extend the picture")
    form.get_by_label("Extend left").fill("-8")
    form.get_by_role("button", name="Extend", exact=True).click()
    expect(form.get_by_role("alert")).to_have_text("This can be 0 to 4096.")
    expect(form.get_by_label("Extend left")).to_be_focused()


def test_fresh_noise_that_is_no_number_forks_nothing(page: Page) -> None:
    fill(page, Prompt="a pear", Steps=4)
    start(page)
    wait_for(page, "finished")
    bar = here(page).locator(".stage-bar")
    bar.locator(".timeline input[type=range]").fill("2")
    bar.get_by_label("Fresh noise").fill("some")
    bar.get_by_role("button", name="Fork from here").click()
    expect(bar.get_by_role("alert").filter(has_text="That is no number")).to_be_visible()
    expect(here(page).locator(".tile")).to_have_count(1)
    bar.get_by_label("Fresh noise").fill("0,5")
    bar.get_by_role("button", name="Fork from here").click()
    expect(tiles(page, "finished")).to_have_count(2)


# ---- Lists that are passed by ----


@pytest.mark.parametrize("title", ["Text to image", "Image to image", "Inpainting", "Compare"])
def test_passing_by_the_model_changes_nothing(page: Page, title: str) -> None:
    page.get_by_role("tab", name=title).click()
    tab = panel(page, title.lower().replace(" ", "_"))
    model, steps = tab.get_by_role("combobox", name="Model"), tab.get_by_role("textbox", name="Steps")
    steps.fill("33")
    tab.get_by_label("Guidance scale", exact=True).first.fill("3")
    model.focus()
    with page.expect_response(re.compile("run/predict")):
        page.keyboard.press("Tab")
    expect(model).to_have_attribute("aria-expanded", "false")
    model.click()
    with page.expect_response(re.compile("run/predict")):
        steps.click()
    choose_in(page, tab, "Model", "sketchbook")
    settled(page)
    expect(steps).to_have_value("33")
    expect(tab.get_by_label("Guidance scale", exact=True).first).to_have_value("3")


def choose_in(page: Page, tab: Locator, label: str, option: str) -> None:
    tab.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_another_model_says_what_it_changed_and_can_be_taken_back(page: Page) -> None:
    fill(page, Steps=33)
    choose(page, "Model", "sd")
    expect(answer(page)).to_contain_text(re.compile("Filled in as suits sd: Model, .*Steps"))
    expect(field(page, "Steps")).not_to_have_value("33")
    answer(page).get_by_role("button", name="Undo").click()
    expect(field(page, "Model")).to_have_value("sketchbook")
    expect(field(page, "Steps")).to_have_value("33")
    expect(field(page, "Width")).to_have_value("256")


# ---- A model that is not here ----


def test_a_model_that_is_missing_keeps_its_name_and_settings(page: Page, studio: Studio, models_folder: Path) -> None:
    choose(page, "Model", "sd")
    expect(field(page, "Width")).to_have_value("64")
    fill(page, Steps=33, Guidance_scale="4,5", Prompt="a pear")
    choose(page, "Sampler", "Euler a")
    settled(page)
    away = models_folder.parent / "away"
    (models_folder / "sd").rename(away)
    try:
        visit(page, studio)
        expect(field(page, "Model")).to_have_value("sd (not here)")
        expect(here(page).get_by_text("The model 'sd' is not here now. Its settings are kept")).to_be_visible()
        given = {"Steps": "33", "Guidance scale": "4,5", "Sampler": "Euler a", "Width": "64"}
        for label, value in given.items():
            expect(field(page, label)).to_have_value(value)
        start(page)
        expect(answer(page)).to_contain_text("There is no model named 'sd'")
        expect(field(page, "Model")).to_have_attribute("aria-invalid", "true")
        field(page, "Model").click()
        expect(page.get_by_role("option", name="sketchbook", exact=True)).to_be_visible()
        page.keyboard.press("Escape")
    finally:
        away.rename(models_folder / "sd")
    visit(page, studio)
    for label, value in (given | {"Model": "sd"}).items():
        expect(field(page, label)).to_have_value(value)
    expect(here(page).get_by_text("is not here now")).to_have_count(0)


def test_a_choice_that_the_model_has_no_more_is_replaced_with_a_word(
    page: Page, studio: Studio, models_folder: Path
) -> None:
    choose(page, "Model", "sd")
    expect(field(page, "Width")).to_have_value("64")
    choose(page, "Sampler", "Euler a")
    settled(page)
    away = models_folder.parent / "away"
    (models_folder / "sd").rename(away)
    (models_folder / "flux").rename(models_folder / "sd")
    try:
        visit(page, studio)
        expect(here(page).get_by_text("sd has no sampler 'Euler a' now")).to_be_visible()
        expect(field(page, "Sampler")).not_to_have_value("Euler a")
    finally:
        (models_folder / "sd").rename(models_folder / "flux")
        away.rename(models_folder / "sd")


def test_a_style_that_is_missing_is_seen_and_can_be_taken_away(page: Page, studio: Studio) -> None:
    fill(page, Prompt="in my way")
    here(page).get_by_role("button", name="Your own styles").click()
    fill(page, Name="of my own")
    here(page).get_by_role("button", name="Save prompt").click()
    expect(here(page).get_by_text("Saved as “of my own”.")).to_be_visible()
    field(page, "Styles").fill("of my own")
    page.get_by_role("option", name="of my own").click()
    page.keyboard.press("Escape")
    settled(page)
    for table in (studio.output / "styles").glob("*.csv"):
        table.unlink()
    visit(page, studio)
    chosen = page.locator("#text_to_image-styles")
    expect(chosen).to_contain_text("of my own (not here)")
    start(page)
    expect(answer(page)).to_contain_text("There is no style 'of my own' any more.")
    field(page, "Styles").focus()
    page.keyboard.press("Backspace")
    expect(chosen).not_to_contain_text("of my own")


# ---- What fills the form in ----


def test_use_these_settings_says_what_it_filled_in_and_undo_brings_all_back(page: Page) -> None:
    fill(page, Prompt="a blue boat", Steps=2, Guidance_scale=2)
    start(page)
    wait_for(page, "finished")
    fill(page, Prompt="my long prompt", Steps="9", Pictures=3, Guidance_scale="1,5")
    here(page).locator(".stage").get_by_role("button", name="Use these settings").click()
    said = "Filled in from that picture: Prompt, Steps, Guidance scale and Seed."
    expect(answer(page).get_by_role("status")).to_contain_text(said)
    expect(field(page, "Prompt")).to_have_value("a blue boat")
    expect(field(page, "Pictures")).to_have_value("3")
    answer(page).get_by_role("button", name="Undo").click()
    for label, value in {"Prompt": "my long prompt", "Steps": "9", "Guidance scale": "1,5", "Seed": ""}.items():
        expect(field(page, label)).to_have_value(value)


def test_a_seed_that_is_kept_is_seen_where_generate_is(page: Page) -> None:
    pinned = here(page).locator(".pinned")
    expect(pinned).to_be_hidden()
    fill(page, Seed=77)
    expect(pinned).to_contain_text("Seed 77 is kept")
    expect(pinned).to_be_in_viewport(ratio=1)
    pinned.get_by_role("button", name="Let it go").click()
    expect(field(page, "Seed")).to_have_value("")
    expect(pinned).to_be_hidden()
    fill(page, Seed="abc")
    settled(page)
    expect(pinned).to_be_hidden()


def test_a_seed_that_the_grid_varies_is_not_said_to_be_kept(page: Page) -> None:
    tab = open_compare(page)
    tab.get_by_label("Seed", exact=True).fill("77")
    settled(page)
    expect(tab.locator(".pinned")).to_be_hidden()
    choose_in(page, tab, "Rows", "Steps")
    expect(tab.locator(".pinned")).to_contain_text("Seed 77 is kept")


def test_an_example_gives_the_prompt_back(page: Page) -> None:
    fill(page, Prompt="my own words")
    here(page).locator(".examples button").first.click()
    expect(answer(page)).to_contain_text("Filled in from the example: Prompt.")
    answer(page).get_by_role("button", name="Undo").click()
    expect(field(page, "Prompt")).to_have_value("my own words")


def test_a_picture_sent_to_the_easel_gives_the_words_back(page: Page) -> None:
    fill(page, Prompt="a harbour", Steps=2)
    start(page)
    wait_for(page, "finished")
    tab = open_tab(page, "Image to image")
    tab.get_by_label("Prompt", exact=True).fill("mine")
    page.get_by_role("tab", name="Text to image").click()
    here(page).locator(".stage").get_by_role("button", name="Send to").click()
    page.get_by_role("menuitem", name="Image to image").click()
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("a harbour")
    expect(answer(page, "image_to_image")).to_contain_text("Filled in from the picture on the easel: Prompt")
    answer(page, "image_to_image").get_by_role("button", name="Undo").click()
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("mine")


def test_what_was_typed_after_something_was_filled_in_stays_when_that_is_taken_back(page: Page) -> None:
    tab = open_tab(page, "Inpainting")
    tab.get_by_label("Strength", exact=True).fill("0,77")
    tab.locator(".intents").get_by_role("button", name="Background").click()
    said = "Filled in for “Background”: Strength, The model works on and Repaint."
    expect(answer(page, "inpainting")).to_contain_text(said)
    tab.get_by_label("Prompt", exact=True).fill("typed since")
    answer(page, "inpainting").get_by_role("button", name="Undo").click()
    expect(tab.get_by_label("Strength", exact=True)).to_have_value("0,77")
    expect(tab.get_by_role("radio", name="Inside the mask")).to_be_checked()
    settled(page)
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("typed since")
    expect(tab.locator(".intents [aria-pressed=true]")).to_have_count(0)


def test_styles_that_are_written_into_the_prompt_can_be_taken_back(page: Page) -> None:
    fill(page, Prompt="a boat")
    here(page).get_by_role("button", name="Your own styles").click()
    write = here(page).get_by_role("button", name="Write into prompt")
    write.click()
    expect(answer(page)).to_contain_text("No style is chosen.")
    field(page, "Styles").click()
    page.get_by_role("option", name="watercolor ·").first.click()
    page.keyboard.press("Escape")
    write.click()
    expect(answer(page)).to_contain_text("Filled in from the styles: Prompt")
    expect(field(page, "Prompt")).to_have_value(re.compile("watercolor.*a boat"))
    answer(page).get_by_role("button", name="Undo").click()
    expect(field(page, "Prompt")).to_have_value("a boat")
    expect(page.locator("#text_to_image-styles")).to_contain_text("watercolor")


def test_a_seed_that_takes_anothers_place_gives_it_back(page: Page) -> None:
    fill(page, Prompt="a boat", Steps=2, Seed=5)
    start(page)
    wait_for(page, "finished")
    fill(page, Seed=77)
    here(page).get_by_role("button", name="Reuse last").click()
    expect(field(page, "Seed")).to_have_value("5")
    expect(answer(page)).to_contain_text("Filled in from that picture: Seed.")
    answer(page).get_by_role("button", name="Undo").click()
    expect(field(page, "Seed")).to_have_value("77")
    here(page).locator(".stage").get_by_role("button", name="Reuse seed").click()
    expect(field(page, "Seed")).to_have_value("5")
    answer(page).get_by_role("button", name="Undo").click()
    expect(field(page, "Seed")).to_have_value("77")


DROP = """(target, bytes) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "made.png", { type: "image/png" }));
    const how = { dataTransfer: data, bubbles: true, cancelable: true };
    const isTaken = !target.dispatchEvent(new DragEvent("dragover", how));
    target.dispatchEvent(new DragEvent("drop", how));
    return isTaken;
}"""


def test_a_picture_that_is_dropped_fills_the_form_in(page: Page, tmp_path: Path, faults: list[str]) -> None:
    info = metadata.png_text(Recipe(prompt="a kite", steps=7, seed=2**60 + 1), 7)
    Image.new("RGB", (8, 8)).save(tmp_path / "made.png", pnginfo=info)
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    fill(page, Prompt="mine")
    prompt = field(page, "Prompt")
    assert prompt.evaluate(DROP, list((tmp_path / "made.png").read_bytes()))
    expect(prompt).to_have_value("a kite")
    expect(field(page, "Seed")).to_have_value(str(2**60 + 1))
    answer(page).get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value("mine")
    here(page).locator(".stage").evaluate(DROP, list((tmp_path / "bare.png").read_bytes()))
    expect(here(page).locator(".stage-words")).to_contain_text("That picture does not say how it was made.")
    expect(prompt).to_have_value("mine")
    faults[:] = [fault for fault in faults if "422" not in fault]  # Chromium's own line for the refused request


# ---- Presses ----

COMPOSING = """(element, key) => {
    const how = { key, isComposing: true, keyCode: 229, bubbles: true, cancelable: true };
    element.dispatchEvent(new KeyboardEvent("keydown", how));
}"""


def test_a_key_of_an_input_method_acts_nowhere(page: Page) -> None:
    fill(page, Prompt="a tower", Steps=LONG)
    start(page)
    wait_for(page, "step")
    field(page, "Prompt").evaluate(COMPOSING, "Escape")
    field(page, "Width").evaluate(COMPOSING, "ArrowUp")
    expect(field(page, "Width")).to_have_value("256")
    done = int(here(page).locator(".tile").get_attribute("data-done") or 0)
    page.wait_for_function("done => Number(document.querySelector('.tile').dataset.done) > done + 1", arg=done)
    wait_for(page, "step")
    page.keyboard.press("Escape")
    wait_for(page, "paused")


def test_a_double_click_makes_one_picture_and_two_presses_make_two(page: Page, studio: Studio) -> None:
    before = len(studio.files())
    fill(page, Prompt="a pear", Steps=2, Width=64, Height=64)
    page.get_by_role("button", name="Generate").dblclick()
    wait_for(page, "finished")
    settled(page)
    assert len(studio.files()) == before + 1
    for count in (2, 3):
        page.get_by_role("button", name="Generate").click()
        while len(studio.files()) < before + count:  # the test's own time is bounded
            page.wait_for_timeout(50)
    settled(page)
    assert len(studio.files()) == before + 3


@pytest.mark.parametrize("how", ["Escape", "Stop"])
def test_a_stop_before_the_picture_is_known_is_honoured(page: Page, how: str) -> None:
    fill(page, Prompt="a tower", Steps=LONG)
    settled(page)
    held: list[Any] = []
    page.route("**/run/predict", lambda route: held.append(route), times=1)
    with page.expect_request("**/run/predict"):
        start(page)
    if how == "Escape":
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name="Stop", exact=True).click()
    [asked] = held
    asked.continue_()
    wait_for(page, "paused")


def test_a_stop_is_forgotten_when_nothing_came_of_what_was_asked(page: Page) -> None:
    fill(page, Prompt="a tower", Steps=0)
    start(page)
    page.keyboard.press("Escape")
    expect(sentence(page)).to_contain_text("0 steps cannot be run")
    fill(page, Steps=2)
    start(page)
    wait_for(page, "finished")


# ---- Axes ----


def test_an_axis_of_names_offers_them(page: Page) -> None:
    tab = open_compare(page)
    values = tab.get_by_label("Rows: values")
    choose_in(page, tab, "Rows", "Sampler")
    expect(values).not_to_have_value("1-3")
    expect(tab.get_by_text(re.compile("9 pictures, .* steps in all"))).to_be_visible()
    offered = tab.get_by_role("group", name="Rows: names")
    offered.get_by_role("button", name="DDIM", exact=True).click()
    expect(values).to_have_value(re.compile("DDIM$"))
    expect(offered.get_by_role("button", name="DDIM", exact=True)).to_have_attribute("aria-pressed", "true")
    offered.get_by_role("button", name="DDIM", exact=True).click()
    expect(values).not_to_have_value(re.compile("DDIM$"))
    choose_in(page, tab, "Rows", "Steps")
    expect(values).to_have_value("4, 8, 20")
    expect(offered).to_be_hidden()
    answer(page, "compare").get_by_role("button", name="Undo").click()
    expect(tab.get_by_label("Rows", exact=True)).to_have_value("Sampler")


def test_passing_by_an_axis_changes_nothing(page: Page) -> None:
    tab = open_compare(page)
    tab.get_by_label("Rows: values").fill("1-x")
    tab.get_by_label("Rows", exact=True).focus()
    with page.expect_response(re.compile("run/predict")):
        page.keyboard.press("Tab")
    settled(page)
    expect(tab.get_by_label("Rows: values")).to_have_value("1-x")


def test_an_error_of_an_axis_marks_its_values(page: Page) -> None:
    tab = open_compare(page)
    values = tab.get_by_label("Rows: values")
    values.fill("1-x")
    generate(tab)
    expect(answer(page, "compare").get_by_role("alert")).to_contain_text("'1-x' is no number or range for Seed")
    expect(values).to_have_attribute("aria-invalid", "true")
    expect(values).to_be_focused()
    values.fill("5")
    tab.get_by_label("Columns: values").fill("1;2")
    tab.get_by_label("Steps", exact=True).fill("2")
    expect(answer(page, "compare").get_by_role("alert")).to_have_count(0)
    generate(tab)
    expect(cells(tab, "finished")).to_have_count(2)


# ---- Errors ----


def test_an_error_marks_its_field_and_goes_with_its_cause(page: Page) -> None:
    fill(page, Steps=0)
    start(page)
    steps = field(page, "Steps")
    expect(steps).to_be_focused()
    expect(steps).to_have_attribute("aria-invalid", "true")
    expect(steps).to_have_attribute("aria-describedby", "text_to_image-alert")
    expect(page.locator("#text_to_image-alert")).to_have_text("0 steps cannot be run. Use 1 to 500.")
    fill(page, Prompt="another matter")
    settled(page)
    expect(page.locator("#text_to_image-alert")).to_have_text("0 steps cannot be run. Use 1 to 500.")
    steps.fill("3")
    expect(page.locator("#text_to_image-alert")).to_have_text("")
    expect(steps).not_to_have_attribute("aria-invalid", "true")
    expect(steps).not_to_have_attribute("aria-describedby", "text_to_image-alert")


def test_the_same_error_again_is_a_new_sign(page: Page) -> None:
    fill(page, Steps=0)
    start(page)
    line = page.locator("#text_to_image-alert .answer-line")
    expect(line).to_be_visible()
    line.evaluate("(element) => { element.dataset.seen = 'yes'; }")
    start(page)
    expect(page.locator("#text_to_image-alert .answer-line:not([data-seen])")).to_have_text(
        "0 steps cannot be run. Use 1 to 500."
    )
    expect(line).to_have_count(1)


def test_an_error_in_a_closed_panel_opens_it(page: Page) -> None:
    here(page).get_by_role("button", name="Add-ons").click()
    fill(page, Clip_skip=99)
    here(page).get_by_role("button", name="Add-ons").click()
    expect(field(page, "Clip skip")).to_be_hidden()
    start(page)
    expect(field(page, "Clip skip")).to_be_focused()
    expect(field(page, "Clip skip")).to_be_in_viewport()


def test_an_error_behind_more_settings_shows_them(page: Page) -> None:
    fill(page, Seed="abc")
    here(page).get_by_role("button", name="Fewer settings").click()
    expect(field(page, "Seed")).to_be_hidden()
    start(page)
    expect(field(page, "Seed")).to_be_focused()
    expect(field(page, "Seed")).to_be_in_viewport()
    expect(here(page).get_by_role("button", name="Fewer settings")).to_be_visible()
    # Nobody chose that, so the next visit begins as before.
    assert page.evaluate("localStorage.getItem('emerge-more')") == "closed"


def test_an_error_of_the_easel_goes_when_it_is_painted_on(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "#8fb7df").save(tmp_path / "sky.png")
    tab = open_tab(page, "Inpainting")
    generate(tab)
    alert = page.locator("#inpainting-alert")
    expect(alert).to_contain_text("There is no picture to paint on")
    bring_in(tab, tmp_path / "sky.png")
    expect(alert).to_have_text("")


# ---- Start pictures ----


@pytest.mark.parametrize(
    ("size", "offered", "fit", "said"),
    [
        ((1000, 10), ("1024", "64"), "Pad", "84 % of the result, above and below, is white"),
        ((300, 200), ("304", "192"), "Crop", "5 % of the picture's height is cut off."),
        ((257, 255), ("256", "256"), "Crop", "1 % of the picture's width is cut off."),
        ((128, 128), ("128", "128"), "Crop", ""),
    ],
)
def test_what_becomes_of_a_start_picture_is_said(
    page: Page, tmp_path: Path, size: tuple[int, int], offered: tuple[str, str], fit: str, said: str
) -> None:
    Image.new("RGB", size, "#8fb7df").save(tmp_path / "given.png")
    tab = open_tab(page, "Image to image")
    bring_in(tab, tmp_path / "given.png")
    for label, value in zip(("Width", "Height"), offered, strict=True):
        expect(tab.get_by_label(label, exact=True)).to_have_value(value)
    expect(tab.get_by_role("radio", name=fit)).to_be_checked()
    line = tab.get_by_role("note").filter(has_text=re.compile("cut off|is white"))
    if said:
        expect(line).to_contain_text(said)
    else:
        settled(page)
        expect(line).to_have_count(0)


def test_no_strength_says_what_really_happens(page: Page) -> None:
    tab = open_tab(page, "Image to image")
    tab.get_by_label("Strength", exact=True).fill("0")
    expect(
        tab.get_by_text("No step is run: the model's autoencoder reads the picture and draws it again")
    ).to_be_visible()
    tab.get_by_label("Steps", exact=True).fill("100")
    tab.get_by_label("Strength", exact=True).fill("0.29")
    expect(tab.get_by_text("29 of 100 steps are run")).to_be_visible()
    tab.get_by_label("Steps", exact=True).fill("1")
    tab.get_by_label("Strength", exact=True).fill("1")
    expect(tab.get_by_text("1 of 1 step is run")).to_be_visible()
