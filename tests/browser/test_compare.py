"""Comparing as a person does it, in a real browser, on the launched program."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from studio.grids import sheets
from studio.library import metadata
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
    tab.get_by_role("button", name="Discard column guidance 7").click()
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
    page.keyboard.press("Escape")


def small_grid(page: Page, columns: str = "2, 5", rows: str = "7, 8", steps: int = 3) -> Locator:
    """A grid of seeds and guidance scales, started."""
    tab = open_compare(page)
    fill(tab, Prompt="a boat", Steps=steps)
    tab.get_by_label("Columns: values").fill(columns)
    tab.get_by_label("Rows: values").fill(rows)
    count = len(columns.split(",")) * len(rows.split(","))
    expect(tab.get_by_text(f"{count} pictures, {count * steps:,} steps in all")).to_be_visible()
    generate(tab)
    return tab


def names(tab: Locator) -> list[str]:
    """What the cells are called, in the order in which they stand."""
    return [str(each.get_attribute("aria-label")) for each in cells(tab).all()]


def test_pictures_are_rated_and_sorted(page: Page, studio: Studio) -> None:
    tab = small_grid(page)
    expect(cells(tab, "finished")).to_have_count(4)
    cell = tab.get_by_role("gridcell")
    cell.nth(1).focus()
    page.keyboard.press("2")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("5")
    expect(cell.nth(3)).to_have_accessible_name("seed 8, guidance 5, finished, 5 stars")
    cell.nth(2).hover()
    cell.nth(2).get_by_role("button", name="4 stars").click()
    cell.nth(0).focus()
    page.keyboard.press("3")
    page.keyboard.press("0")
    marks = tab.locator(".thumbnail .star-mark:visible")
    expect(marks).to_have_count(3)
    assert sorted(marks.all_inner_texts()) == ["2", "4", "5"]  # which of four was kept last is chance
    tab.get_by_role("button", name="Sort").click()
    page.get_by_role("menuitem", name="By rating").click()
    sorted_names = [
        "seed 8, guidance 5, finished, 5 stars",
        "seed 8, guidance 2, finished, 4 stars",
        "seed 7, guidance 5, finished, 2 stars",
        "seed 7, guidance 2, finished",
    ]
    assert names(tab) == sorted_names
    tab.get_by_role("button", name="Sort").click()
    page.get_by_role("menuitem", name="As laid out").click()
    assert names(tab) == [sorted_names[at] for at in (3, 2, 1, 0)]
    page.reload()
    tab = open_compare(page)
    expect(cells(tab).nth(3)).to_have_accessible_name(sorted_names[0])
    lines = [line for line in (studio.output / "ratings.txt").read_text().splitlines() if line]
    assert [line.split()[1] for line in lines][-5:] == list("25430")  # others' ratings stand before them


def test_a_picture_of_another_tab_is_rated(page: Page) -> None:
    text = panel(page, "text_to_image")
    fill(text, Prompt="a boat", Steps=3)
    generate(text)
    expect(text.locator(".tile[data-state=finished]")).to_have_count(1)
    text.locator(".tile .frame").focus()
    page.keyboard.press("4")
    expect(text.locator(".thumbnail .star-mark").first).to_have_text("4")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".star[data-on]")).to_have_count(4)
    dialog.get_by_role("button", name="2 stars").click()
    page.keyboard.press("Escape")
    expect(text.locator(".stage-bar .star[data-on]")).to_have_count(2)


def test_how_long_it_takes_is_told_once_it_is_known(page: Page) -> None:
    tab = small_grid(page)
    expect(cells(tab, "finished")).to_have_count(4)
    expect(tab.get_by_text("4 pictures, 12 steps in all, about ")).to_be_visible()


def test_a_cell_is_large_while_it_is_made_and_leads_to_its_neighbours(page: Page) -> None:
    tab = small_grid(page, steps=LONG)
    wait_for_step(page, 2, 4)
    tab.get_by_role("gridcell").nth(1).focus()
    page.keyboard.press("Space")
    dialog = page.get_by_role("dialog", name="seed 7, guidance 5")
    expect(dialog.get_by_text("Step ")).to_be_visible()
    expect(dialog.locator(".viewer-live[data-drawn]")).to_have_count(1)
    expect(dialog.get_by_role("button", name="seed 8, guidance 2")).to_be_visible()
    page.keyboard.press("ArrowRight")
    dialog = page.get_by_role("dialog", name="seed 8, guidance 2")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("Step", exact=True)).to_have_count(0)
    page.keyboard.press("Escape")
    expect(tab.get_by_role("gridcell").nth(2)).to_be_focused()
    page.keyboard.press("Escape")
    expect(cells(tab, "paused")).to_have_count(4)
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Step", exact=True)).to_be_visible()
    page.keyboard.press("4")
    expect(dialog.locator(".star[data-on]")).to_have_count(4)
    dialog.get_by_role("button", name="4 stars").click()
    expect(dialog.locator(".star[data-on]")).to_have_count(0)
    page.keyboard.press("Escape")


def test_the_grid_and_what_is_shown_large_fill_the_screen(page: Page) -> None:
    tab = small_grid(page)
    expect(cells(tab, "finished")).to_have_count(4)

    def wait_for_full(selector: str) -> None:
        script = "(selector) => document.fullscreenElement === (selector && document.querySelector(selector))"
        page.wait_for_function(script, arg=selector or None)

    tab.get_by_role("gridcell").first.focus()
    page.keyboard.press("f")
    wait_for_full("#compare-panel .grid-place-section")
    page.keyboard.press("Enter")
    page.keyboard.press("f")
    wait_for_full("dialog.viewer .viewer-room")
    page.get_by_role("dialog").get_by_role("button", name="Leave full screen").click()
    wait_for_full("#compare-panel .grid-place-section")
    page.keyboard.press("Escape")
    page.evaluate("document.fullscreenElement && document.exitFullscreen()")
    wait_for_full("")
    page.evaluate("for (const each of document.querySelectorAll('dialog')) each.close()")
    for key in ("m", "ArrowRight", "m", "c", "f"):
        page.keyboard.press(key)
    wait_for_full("dialog.pair .viewer-room")
    page.evaluate("document.exitFullscreen()")
    wait_for_full("")
    page.keyboard.press("Escape")


def test_two_fingers_zoom_and_move_all_cells(page: Page) -> None:
    tab = small_grid(page)
    expect(cells(tab, "finished")).to_have_count(4)
    box = cells(tab).first.locator(".frame").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (x - 10, y))
    touch("touchStart", (x - 10, y), (x + 10, y))
    for far in (14, 18, 20):
        touch("touchMove", (x - far, y), (x + far, y))
    touch("touchMove", (x - 20 + box["width"] / 4, y), (x + 20 + box["width"] / 4, y))
    touch("touchEnd")
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
    # Twice as large at the middle (-50 %), then moved by a quarter of the frame.
    place = "['zoom', 'x', 'y'].map((each) => getComputedStyle(element).getPropertyValue(`--look-${each}`))"
    for look in tab.locator(".cell .look").all():
        found = look.evaluate(f"(element) => {place}")
        assert [round(float(each.rstrip("%")), 1) for each in found] == [2, -25, -50]
    page.keyboard.press("z")


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
