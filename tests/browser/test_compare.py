"""Comparing as a person does it, in a real browser, on the launched program."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from studio import metadata, sheets
from tests.browser.conftest import Studio, panel
from tests.browser.test_inpainting import fill

LONG = 500
"""Steps of pictures that must still be in the making while a test does something."""


def open_compare(page: Page) -> Locator:
    page.get_by_role("tab", name="Compare").click()
    tab = panel(page, "compare")
    tab.locator(".grid-place-section[data-ready]").wait_for()
    return tab


def generate(tab: Locator) -> None:
    tab.get_by_role("button", name="Generate").click()


def cells(tab: Locator, state: str = "") -> Locator:
    return tab.locator(f".cell[data-state={state}]" if state else ".cell[data-job]")


def wait_for_step(page: Page, step: int, count: int) -> None:
    """Wait until so many cells have come so far."""
    page.wait_for_function(
        "([step, count]) => [...document.querySelectorAll('#compare-panel .cell')]"
        ".filter((cell) => Number(cell.dataset.done) >= step).length >= count",
        arg=[step, count],
    )


def test_all_cells_are_alive_at_once(page: Page, studio: Studio) -> None:
    tab = open_compare(page)
    fill(tab, Prompt="a red apple", Steps=20)
    expect(tab.get_by_text("9 pictures, 180 steps in all")).to_be_visible()
    before = len(studio.files())
    generate(tab)
    wait_for_step(page, 6, 9)
    expect(cells(tab, "step")).to_have_count(9)
    seen = [np.asarray(Image.open(io.BytesIO(each.screenshot())).resize((16, 16))) for each in cells(tab).all()]
    for index, one in enumerate(seen):
        assert all(not np.array_equal(one, other) for other in seen[:index])
    expect(cells(tab, "finished")).to_have_count(9)
    made = {metadata.read(path)[0] for path in studio.files()[before:]}  # type: ignore[index]
    assert {(each.seed, each.guidance_scale) for each in made} == {(s, g) for s in (1, 2, 3) for g in (1, 4, 7)}


def test_a_row_and_a_column_are_dropped_and_one_is_left(page: Page) -> None:
    tab = open_compare(page)
    fill(tab, Prompt="a red apple", Steps=LONG)
    generate(tab)
    wait_for_step(page, 2, 9)
    tab.get_by_role("gridcell").nth(4).focus()
    page.keyboard.press("Shift+X")
    expect(cells(tab, "step")).to_have_count(6)
    tab.get_by_role("button", name="Drop column guidance 7").click()
    expect(cells(tab, "step")).to_have_count(4)
    tab.get_by_role("gridcell", name="seed 1, guidance 1").focus()
    page.keyboard.press("h")
    expect(cells(tab, "paused")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("o")
    expect(cells(tab, "step")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(cells(tab, "step")).to_have_count(0)


def test_a_contact_sheet_brings_the_grid_back(page: Page, tmp_path: Path) -> None:
    tab = open_compare(page)
    fill(tab, Prompt="a {red|blue} boat", Steps=3, Seed=11)
    tab.get_by_label("Columns: values").fill("2, 6")
    tab.get_by_label("Rows: values").fill("5")
    expect(tab.get_by_text("4 pictures, 12 steps in all")).to_be_visible()
    generate(tab)
    expect(cells(tab, "finished")).to_have_count(4)
    tab.get_by_role("button", name="Contact sheet").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Save").click()
    path = tmp_path / "sheet.png"
    download.value.save_as(path)
    assert sheets.read(path.read_bytes()).axes[0] == ("guidance_scale", "2, 6")
    fill(tab, Prompt="something else")
    tab.get_by_label("Columns: values").fill("1")
    give = """(target, bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "sheet.png", { type: "image/png" }));
        target.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    tab.locator(".grid-place-section").evaluate(give, list(path.read_bytes()))
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("a {red|blue} boat")
    expect(tab.get_by_label("Columns: values")).to_have_value("2, 6")
    expect(tab.get_by_label("Seed", exact=True)).to_have_value("11")


def test_two_are_looked_at_together(page: Page) -> None:
    tab = open_compare(page)
    fill(tab, Prompt="a boat", Steps=3)
    tab.get_by_label("Rows: values").fill("5")
    tab.get_by_label("Columns: values").fill("1, 8")
    expect(tab.get_by_text("2 pictures, 6 steps in all")).to_be_visible()
    generate(tab)
    expect(cells(tab, "finished")).to_have_count(2)
    tab.get_by_role("gridcell").first.focus()
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("m")
    tab.get_by_role("button", name="Difference").click()
    dialog = page.locator("dialog.pair")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Flick").click()
    expect(dialog).to_have_attribute("data-way", "flick")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("Space")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_what_cannot_be_compared_is_told_while_one_types(page: Page) -> None:
    tab = open_compare(page)
    tab.get_by_label("Columns: values").fill("1-9999")
    expect(tab.get_by_text("has 9,999 values, and 64 pictures are the most")).to_be_visible()
    generate(tab)
    expect(tab.locator("#compare-notice")).to_contain_text("64 pictures are the most")
    expect(cells(tab)).to_have_count(0)


def test_any_picture_can_be_the_centre(page: Page) -> None:
    text = panel(page, "text_to_image")
    fill(text, Prompt="a lighthouse", Steps=3, Seed=77)
    generate(text)
    expect(text.locator(".tile[data-state=finished]")).to_have_count(1)
    text.locator(".stage").get_by_role("button", name="Send to").click()
    page.get_by_role("menuitem", name="Compare").click()
    tab = panel(page, "compare")
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("a lighthouse")
    expect(tab.get_by_label("Seed", exact=True)).to_have_value("77")
