"""Several windows of one browser: each has its own stage, form and easel, and what it remembers has room."""

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Studio, panel, visit
from tests.browser.test_text_to_image import LARGE, LONG, field, fill, here, start, tiles, wait_for, wait_for_step

NO_ROOM = "This browser has no room left"
EMPTY = "Describe a picture and press Generate."

STROKE = {"kind": "stroke", "tool": "brush", "size": 20, "amount": 1, "soft": 0, "colour": "#e2401b"}


def window(context: BrowserContext, studio: Studio) -> Page:
    page = context.new_page()
    visit(page, studio)
    return page


def copy_of(page: Page, context: BrowserContext, studio: Studio) -> Page:
    """A window that a browser made by "Duplicate tab": it comes with a copy of the session's storage."""
    kept = page.evaluate("JSON.stringify({ ...sessionStorage })")
    other = context.new_page()
    other.goto(f"{studio.address}/page/icon.svg")
    other.evaluate(
        "(kept) => Object.entries(JSON.parse(kept)).forEach((pair) => sessionStorage.setItem(...pair))", kept
    )
    visit(other, studio)
    return other


def prompt(page: Page) -> Any:
    return expect(field(page, "Prompt"))


def name_of(page: Page) -> str:
    name: str = page.evaluate("sessionStorage.getItem('emerge.window')")
    return name


def test_two_windows_have_a_stage_and_a_form_each(page: Page, context: BrowserContext, studio: Studio) -> None:
    fill(page, Prompt="a mountain", Steps=2, Width=128)
    start(page)
    wait_for(page, "finished")
    other = window(context, studio)
    prompt(other).to_have_value("a mountain")  # it begins with what the last one had
    expect(here(other).locator(".hint")).to_contain_text(EMPTY)
    fill(other, Prompt="a castle", Steps=3, Width=64)
    start(other)
    wait_for(other, "finished")
    for each, words, width in ((page, "a mountain", "128"), (other, "a castle", "64")):
        for _ in range(2):
            expect(here(each).locator(".tile img[alt]").first).to_have_attribute("alt", words)
            expect(here(each).locator(".tile")).to_have_count(1)
            prompt(each).to_have_value(words)
            expect(field(each, "Width")).to_have_value(width)
            visit(each, studio)
    assert name_of(page) != name_of(other)


def test_the_last_seed_is_this_windows(page: Page, context: BrowserContext, studio: Studio) -> None:
    fill(page, Prompt="a mountain", Steps=1, Seed=11)
    start(page)
    wait_for(page, "finished")
    other = window(context, studio)
    fill(other, Seed=22)
    start(other)
    wait_for(other, "finished")
    for each, seed in ((page, "11"), (other, "22")):
        fill(each, Seed="")
        each.get_by_role("button", name="Reuse last").click()
        expect(field(each, "Seed")).to_have_value(seed)


def test_what_runs_in_another_window_is_shown_and_can_be_brought_over(
    page: Page, context: BrowserContext, studio: Studio
) -> None:
    fill(page, Prompt="a ship", Steps=LONG, Width=LARGE, Height=LARGE)
    start(page)
    wait_for_step(page, 1)
    other = window(context, studio)
    line = here(other).locator(".elsewhere")
    expect(line).to_contain_text("1 picture being made in another window")
    expect(here(page).locator(".elsewhere")).to_be_hidden()
    line.get_by_role("button", name="Bring here").click()
    wait_for(other, "step")
    expect(line).to_be_hidden()
    expect(tiles(page, "step")).to_have_count(0)
    expect(here(page).locator(".elsewhere")).to_contain_text("in another window")
    other.keyboard.press("Escape")
    wait_for(other, "paused")
    expect(here(page).locator(".elsewhere")).to_contain_text("1 picture stopped in another window")
    visit(other, studio)
    wait_for(other, "paused")


def test_a_window_opened_after_the_last_was_closed_goes_on_where_that_was(
    page: Page, context: BrowserContext, studio: Studio
) -> None:
    only = window(context, studio)
    page.goto("about:blank")
    fill(only, Prompt="a lighthouse", Steps=2)
    start(only)
    wait_for(only, "finished")
    only.close()
    again = window(context, studio)
    prompt(again).to_have_value("a lighthouse")
    wait_for(again, "finished")


def test_a_copied_window_becomes_one_of_its_own(page: Page, context: BrowserContext, studio: Studio) -> None:
    fill(page, Prompt="a mountain", Steps=2)
    start(page)
    wait_for(page, "finished")
    other = copy_of(page, context, studio)
    other.wait_for_function("(name) => sessionStorage.getItem('emerge.window') !== name", arg=name_of(page))
    prompt(other).to_have_value("a mountain")
    expect(here(other).locator(".tile")).to_have_count(0)
    fill(other, Prompt="a copy", Steps=1)
    start(other)
    wait_for(other, "finished")
    visit(page, studio)
    visit(other, studio)
    prompt(page).to_have_value("a mountain")
    prompt(other).to_have_value("a copy")
    expect(here(page).locator(".tile img[alt]").first).to_have_attribute("alt", "a mountain")


PLACES_NOW = """(place) => [...document.querySelectorAll(
    [".strip", ".controls", ".stage", ".grid-place-section", ".tile", ".cell"].map((each) => `#${place}-panel ${each}`)
)].map((each) => Object.values(each.getBoundingClientRect().toJSON()).map(Math.round).join())"""


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (390, 844)])
@pytest.mark.parametrize(("title", "shown"), [("Text to image", ".tile"), ("Compare", ".cell")])
def test_nothing_moves_when_another_window_draws(
    page: Page, context: BrowserContext, studio: Studio, title: str, shown: str, size: tuple[int, int]
) -> None:
    def draw(each: Page, steps: int) -> None:
        each.get_by_role("tab", name=title, exact=True).click()
        each.locator(f"#{place}-panel").get_by_label("Prompt", exact=True).fill("a ship")
        each.locator(f"#{place}-panel").get_by_label("Steps", exact=True).fill(str(steps))
        each.locator(f"#{place}-panel").get_by_role("button", name="Generate").click()

    place = title.lower().replace(" ", "_")
    page.set_viewport_size({"width": size[0], "height": size[1]})
    draw(page, 1)
    tab = panel(page, place)
    expect(tab.locator(f"{shown}[data-state=finished]")).to_have_count(1 if title == "Text to image" else 9)
    expect(tab.locator(".strip .thumbnail").first).to_be_visible()
    line = tab.locator(".elsewhere")
    expect(line).to_be_hidden()
    other = window(context, studio)
    page.bring_to_front()
    before = page.evaluate(PLACES_NOW, place)
    draw(other, LONG)
    expect(line).to_be_visible()
    assert page.evaluate(PLACES_NOW, place) == before
    if size[0] > 390:
        # It stands beside the heading, on nothing else.
        lowest, strip = line.bounding_box(), tab.locator(".strip-row").bounding_box()
        assert lowest and strip and lowest["y"] + lowest["height"] <= strip["y"] + 3
    line.get_by_role("button", name="Bring here").click()
    expect(line).to_be_hidden()
    tab.get_by_role("button", name="Stop", exact=True).click()


def test_two_windows_have_a_grid_each_and_can_swap_them(page: Page, context: BrowserContext, studio: Studio) -> None:
    def grid(each: Page, words: str, steps: int) -> None:
        each.get_by_role("tab", name="Compare").click()
        place = panel(each, "compare")
        place.get_by_label("Prompt", exact=True).fill(words)
        place.get_by_label("Steps", exact=True).fill(str(steps))
        place.get_by_label("Columns: values").fill("1, 4")
        place.get_by_label("Rows: values").fill("1")
        place.get_by_role("button", name="Generate").click()

    grid(page, "a ship", LONG)
    cells = panel(page, "compare").locator(".grid-table [data-state=step]")
    expect(cells).to_have_count(2)
    other = window(context, studio)
    grid(other, "a castle", 1)
    expect(panel(other, "compare").locator(".grid-table [data-state=finished]")).to_have_count(2)
    expect(cells).to_have_count(2)  # it was not stopped to make room
    panel(other, "compare").get_by_role("button", name="Bring here").click()
    expect(panel(other, "compare").locator(".grid-table [data-state=step]")).to_have_count(2)
    expect(panel(page, "compare").locator(".grid-table [data-state=finished]")).to_have_count(2)
    panel(other, "compare").get_by_role("button", name="Stop", exact=True).click()
    expect(panel(other, "compare").locator(".grid-table [data-state=paused]")).to_have_count(2)


FULL = """() => {
  for (const storage of [localStorage, sessionStorage]) {
    for (let size = 2 ** 22; size >= 1; size /= 2) {
      for (let at = 0; ; at++) try { storage.setItem(`filled ${size} ${at}`, "x".repeat(size)); } catch { break; }
    }
  }
}"""


def test_with_the_storage_full_nothing_is_lost(page: Page, studio: Studio) -> None:
    page.evaluate(FULL)
    fill(page, Prompt="kept all the same", Width=192)
    page.get_by_role("tab", name="Inpainting").click()
    paint(page, 40)
    visit(page, studio)
    prompt(page).to_have_value("kept all the same")
    expect(field(page, "Width")).to_have_value("192")
    page.get_by_role("tab", name="Inpainting").click()
    expect(panel(page, "inpainting").locator(".easel")).to_have_attribute("data-strokes", "40")
    expect(page.locator(".saying")).to_have_count(0)


NO_ROOM_LEFT = """() => {
  const { put } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.put = function (...given) {
    const request = put.apply(this, given);
    if (!this.transaction.gaveUp) queueMicrotask(() => this.transaction.abort());
    this.transaction.gaveUp = true;
    return request;
  };
  IDBTransaction.prototype.commit = () => {};
}"""
"""A browser without room lets a page write, and undoes it."""


def test_without_any_room_it_says_so_once(page: Page) -> None:
    page.evaluate(NO_ROOM_LEFT)
    fill(page, Prompt="lost")
    expect(page.locator(".saying")).to_contain_text(NO_ROOM)
    page.locator(".saying").get_by_role("button", name="Close").click()
    fill(page, Prompt="lost again", Steps=1)
    start(page)
    wait_for(page, "finished")
    expect(page.locator(".saying")).to_have_count(0)


def test_without_a_database_the_session_remembers(page: Page, context: BrowserContext, studio: Studio) -> None:
    other = context.new_page()
    other.add_init_script(
        "IDBFactory.prototype.open = () => { throw new DOMException('not allowed', 'SecurityError'); }"
    )
    visit(other, studio)
    fill(other, Prompt="in the session")
    other.wait_for_function("Object.values({ ...sessionStorage }).some((each) => each.includes('in the session'))")
    visit(other, studio)
    prompt(other).to_have_value("in the session")
    expect(other.locator(".saying")).to_have_count(0)


def paint(page: Page, count: int) -> None:
    """Paint so many strokes of the mask on a blank sheet, which lie in the memory as a person's would."""
    easel = panel(page, "inpainting").locator(".easel[data-ready]")
    easel.wait_for()
    page.evaluate(
        """async ([entry, count]) => {
          const { remember } = await import(new URL("page/common/memory.js", document.baseURI));
          const points = Array.from({ length: 1800 }, (_, at) => (at % 3 === 2 ? 1 : 100 + (at * 7) % 300));
          const entries = Array.from({ length: count }, () => ({ ...entry, points }));
          const picture = { name: "", width: 512, height: 512, colour: "#ffffff" };
          await remember("easel of inpainting", { picture, entries, settings: {} });
        }""",
        [STROKE, count],
    )


def test_windows_of_long_ago_are_forgotten(page: Page, studio: Studio) -> None:
    fill(page, Prompt="of this window", Steps=1)
    start(page)
    wait_for(page, "finished")
    keys = """async (fills) => {
      const opening = indexedDB.open("emerge /");
      await new Promise((done) => opening.addEventListener("success", done));
      const transaction = opening.result.transaction("kept", "readwrite");
      const store = transaction.objectStore("kept");
      for (let at = 0; fills && at < 40; at++) {
        store.put(at, `window${at}:opened`);
        store.put('{"prompt": "old"}', `window${at}/text_to_image`);
      }
      const asking = store.getAllKeys();
      await new Promise((done) => transaction.addEventListener("complete", done));
      opening.result.close();
      return asking.result;
    }"""
    assert "window0/text_to_image" in page.evaluate(keys, True)
    visit(page, studio)
    page.wait_for_function(
        f"async () => (await ({keys})(false)).filter((key) => key.endsWith(':opened')).length === 30"
    )
    left = page.evaluate(keys, False)
    assert "window39/text_to_image" in left and "window0/text_to_image" not in left
    assert f"{name_of(page)}/text_to_image" in left
    prompt(page).to_have_value("of this window")
