"""The page itself: what lies where, on every size of window; nothing jumps, gets lost or hides something else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser.conftest import OPEN, PATIENCE, Studio, panel, visit
from tests.browser.test_compare import cells, open_compare, wait_for_step
from tests.browser.test_inpainting import bring_in, fill, generate, open_tab, paint

LONG = 500
"""Steps of a picture that must still be in the making while a test does something."""

PLACES = {"Text to image": "text_to_image", "Image to image": "image_to_image", "Inpainting": "inpainting"}

WATCH = """(place) => {
  const panel = document.getElementById(`${place}-panel`);
  const parts = [".strip", ".easel-view", ".easel-options", ".controls"];
  window.places = new Set();
  window.watches = true;
  const look = () => {
    const seen = parts.map((part) => panel.querySelector(part)?.getBoundingClientRect());
    window.places.add(seen.map((box) => box && Math.round(box.top + scrollY)).join());
    if (window.watches) requestAnimationFrame(look);
  };
  look();
}"""
"""Notes with every frame where on the page the parts of a tab are that stand around its pictures."""


@pytest.fixture
def landscape(tmp_path: Path) -> Path:
    path = tmp_path / "landscape.png"
    Image.new("RGB", (256, 192), "#8fb7df").save(path)
    return path


@pytest.fixture
def phone(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A page as on a phone: small, and touched."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.add_init_script(OPEN)
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    visit(page, studio)
    yield page
    context.close()


def box(found: Locator) -> dict[str, float]:
    measured = found.bounding_box()
    assert measured, found
    return {"x": measured["x"], "y": measured["y"], "width": measured["width"], "height": measured["height"]}


def finished(tab: Locator, count: int) -> None:
    expect(tab.locator(".tile[data-state=finished][data-kept]")).to_have_count(count)


def make(tab: Locator, **values: Any) -> None:
    """Make pictures and wait until their files are shown."""
    fill(tab, **values)
    generate(tab, count=int(values.get("Pictures", 1)))
    finished(tab, int(values.get("Pictures", 1)))


# ---- The stage ----


SIZES = ((1280, 720), (1440, 900), (1920, 1080), (2560, 1440), (960, 600))
LEAST = {1: 200, 2: 140, 4: 100, 5: 80}
"""Pixels of a side of so many pictures at least, on the smallest of these."""


@pytest.mark.parametrize("count", LEAST)
def test_pictures_use_the_room_and_keep_all_that_can_be_done(page: Page, count: int) -> None:
    tab = panel(page, "text_to_image")
    make(tab, Prompt="a red apple", Steps=1, Pictures=count)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function("width => innerWidth === width", arg=width)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert_room_is_used(tab, count)
        for name in ("Download", "Use these settings", "Reuse seed", "Send to…", "Animation as WebP"):
            found = tab.locator(".stage-bar").get_by_role("link" if name[0] in "DA" else "button", name=name)
            found.scroll_into_view_if_needed()
            expect(found).to_be_in_viewport(ratio=1)
        expect(tab.locator(".stage-bar .timeline")).to_be_visible()


def assert_room_is_used(tab: Locator, count: int) -> None:
    """The pictures lie within the stage, and could not be larger in as many columns."""
    stage, bar = box(tab.locator(".stage")), box(tab.locator(".stage-bar"))
    frames = [box(frame) for frame in tab.locator(".frame").all()]
    side = frames[0]["width"]
    bottom = max(frame["y"] + frame["height"] for frame in frames)
    assert bottom <= stage["y"] + stage["height"] <= box(tab.locator(".strip"))["y"] and side >= LEAST[count]
    columns = len({round(frame["x"]) for frame in frames})
    rows = -(-count // columns)
    is_beside = bar["x"] > max(frame["x"] for frame in frames)
    wide = stage["width"] - (bar["width"] + 24 if is_beside else 0) - (columns - 1) * 16
    high = (
        stage["height"] - (0 if is_beside else bar["height"] + 12) - (rows - 1) * 16 - (rows * 32 if count > 1 else 0)
    )
    assert columns * side > wide - columns - 1 or rows * side > high - rows - 1, (side, columns, wide, high)


def test_the_bar_is_about_the_chosen_picture(page: Page) -> None:
    tab = panel(page, "text_to_image")
    make(tab, Prompt="a red apple", Steps=3, Pictures=5, Seed=20)
    about = tab.locator(".stage-bar .facts")
    expect(about).to_have_text(re.compile("^Seed 20\\b"))
    tab.locator(".frame").nth(3).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(about).to_have_text(re.compile("^Seed 23\\b"))
    expect(tab.get_by_role("link", name="Download")).to_have_attribute("href", re.compile("download"))
    tab.get_by_label("Step", exact=True).fill("1")
    expect(tab.locator(".tile").nth(3)).not_to_have_attribute("data-kept", "true")
    page.keyboard.press("Shift+Tab")
    tab.locator(".frame").nth(1).focus()
    expect(about).to_have_text(re.compile("^Seed 21\\b"))
    expect(tab.locator(".tile").nth(3)).to_have_attribute("data-kept", "true")  # its picture is back
    tab.get_by_role("button", name="Reuse seed").click()
    expect(tab.get_by_label("Seed", exact=True)).to_have_value("21")
    # The press on the chosen one shows it large; from there the arrows lead to the others, and the last stays chosen.
    tab.locator(".frame").nth(1).click()
    name = page.get_by_role("dialog").locator(".viewer-name")
    expect(name).to_have_text("Seed 21")
    page.keyboard.press("ArrowRight")
    expect(name).to_have_text("Seed 22")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(name).to_have_text("Seed 20")
    page.get_by_role("dialog").get_by_role("button", name="Seed 21").click()
    page.keyboard.press("ArrowRight")
    expect(name).to_have_text("Seed 22")
    page.keyboard.press("Escape")
    expect(tab.locator(".tile[data-chosen] .seed-of")).to_have_text("Seed 22")


def test_sixty_four_are_told_apart_and_nothing_lies_over_them(page: Page) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=2, Width=64, Height=64)
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(".strip .thumbnail").first).to_be_visible()  # else there is nothing recent to be in sight
    fill(tab, Prompt="a red apple", Steps=LONG, Pictures=64, Seed=3_143_779_000, Width=64, Height=64)
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(".tile")).to_have_count(64)
    labels = tab.locator(".seed-of")
    expect(labels.first).to_have_text("…000")
    told = labels.all_text_contents()
    assert len(set(told)) == 64
    is_cut = labels.evaluate_all("labels => labels.filter((each) => each.scrollWidth > each.clientWidth).length")
    assert is_cut == 0
    tab.locator(".tile").nth(2).hover()
    over = tab.locator(".tile").evaluate_all(
        """tiles => tiles.flatMap((tile) => {
            const frame = tile.querySelector(".frame").getBoundingClientRect();
            return [...tile.querySelectorAll("button:not(.frame), .stars")].filter((each) => {
                const box = each.getBoundingClientRect();
                return box.width && box.top < frame.bottom - 1 || box.right > frame.right + 1;
            });
        }).length"""
    )
    assert over == 0
    expect(tab.locator(".stage-words")).to_be_in_viewport(ratio=1)
    expect(tab.locator(".strip")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(tab.locator(".tile[data-state=step], .tile[data-state=queued]")).to_have_count(0)
    tab.get_by_role("button", name="Discard", exact=True).click()


# ---- Nothing jumps ----


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (390, 844)])
@pytest.mark.parametrize("title", PLACES)
def test_nothing_moves_from_generate_to_the_end(page: Page, landscape: Path, title: str, size: tuple[int, int]) -> None:
    make(panel(page, "text_to_image"), Prompt="so that there is a strip", Steps=1)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    tab = open_tab(page, title)
    if title != "Text to image":
        bring_in(tab, landscape)
    if title == "Inpainting":
        tab.locator(".easel-view").scroll_into_view_if_needed()
        paint(page, tab, (0.4, 0.4), (0.6, 0.6))
    tab.locator(".strip").wait_for()
    fill(tab, Prompt="a house", Steps=6, Seed=4_000_000_000, Pictures=2)
    page.evaluate(WATCH, PLACES[title])
    generate(tab, count=2)
    finished(tab, 2)
    fill(tab, Pictures=1)
    generate(tab)
    finished(tab, 1)
    tab.locator(".frame").click()  # and with what one does with it
    page.keyboard.press("Escape")
    tab.get_by_label("Step", exact=True).fill("1")
    expect(tab.get_by_role("button", name="Fork from here")).to_be_visible()
    places = page.evaluate("(window.watches = false, [...window.places])")
    assert len(places) == 1, places


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (390, 844)])
def test_nothing_moves_below_a_grid(page: Page, size: tuple[int, int]) -> None:
    make(panel(page, "text_to_image"), Prompt="so that there is a strip", Steps=1)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    tab = open_compare(page)
    tab.locator(".strip").wait_for()
    fill(tab, Prompt="a house", Steps=3)
    page.evaluate(WATCH, "compare")
    tab.get_by_role("button", name="Generate").click()
    expect(cells(tab, "finished")).to_have_count(9)
    places = page.evaluate("(window.watches = false, [...window.places])")
    assert len(places) == 1, places


@pytest.mark.parametrize("size", [(1280, 720), (1366, 768), (1440, 900)])
def test_a_mask_is_made_and_used_without_scrolling(page: Page, landscape: Path, size: tuple[int, int]) -> None:
    make(panel(page, "text_to_image"), Prompt="so that there is a strip", Steps=1)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    tab = open_tab(page, "Inpainting")
    bring_in(tab, landscape)
    tab.locator(".strip").wait_for()
    for part in (".easel-view", ".easel-rail", ".easel-options", "textarea >> nth=0", ".strip", "#inpainting-start"):
        expect(tab.locator(part)).to_be_in_viewport(ratio=0.99)
    high, wide = page.evaluate("[document.documentElement.scrollHeight, document.documentElement.scrollWidth]")
    assert (high, wide) <= (size[1], size[0]), "the page is scrolled"


# ---- Phones ----


def test_every_tab_is_reached_on_a_phone(phone: Page) -> None:
    tabs = phone.locator(".tabs-of-studio > .tab-wrapper > .tab-container:not(.visually-hidden)")
    assert tabs.evaluate("each => getComputedStyle(each).overflowX") == "auto"
    for title in ("Models", "Compare", "Inpainting", "Image to image", "Text to image"):
        tab = phone.get_by_role("tab", name=title)
        # As a finger does it: the row is drawn along, and the tab is tapped where it is seen.
        tab.evaluate("tab => tab.parentElement.scrollTo({ left: tab.offsetLeft - 60 })")
        expect(tab).to_be_in_viewport(ratio=0.95)
        tab.tap()
        expect(tab).to_have_attribute("aria-selected", "true")
        assert phone.evaluate("document.documentElement.scrollWidth") == 390


def test_a_phone_shows_how_to_go_on_and_which_picture_is_which(phone: Page) -> None:
    tab = panel(phone, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=LONG, Pictures=3, Seed=2_971_270_280, Width=64, Height=64)
    tab.get_by_role("button", name="Generate").tap()
    expect(tab.locator(".tile[data-drawn]")).to_have_count(3)
    labels = tab.locator(".seed-of")
    assert labels.all_text_contents() == ["…280", "…281", "…282"]
    assert labels.evaluate_all("all => all.filter((each) => each.scrollWidth > each.clientWidth).length") == 0
    expect(tab.get_by_role("button", name="Change from here on")).to_be_in_viewport(ratio=1)
    tab.get_by_role("button", name="Stop", exact=True).tap()
    for name in ("Continue", "Discard"):
        expect(tab.get_by_role("button", name=name, exact=True)).to_be_in_viewport(ratio=1)
    tab.get_by_role("button", name="Discard", exact=True).tap()
    expect(tab.locator(".tile")).to_have_count(0)


def test_a_phone_shows_what_was_asked_for(phone: Page) -> None:
    tab = panel(phone, "text_to_image")
    phone.evaluate("scrollTo(0, document.body.scrollHeight)")
    make(tab, Prompt="a red apple", Steps=2, Pictures=2)
    expect(tab.locator(".stage")).to_be_in_viewport(ratio=0.9)
    phone.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.locator(".thumbnail").first.tap()
    phone.get_by_role("dialog").get_by_role("button", name="Send to").tap()
    phone.get_by_role("menuitem", name="Inpainting").tap()
    easel = panel(phone, "inpainting").locator(".easel[data-source]")
    expect(easel.locator(".easel-view")).to_be_in_viewport(ratio=0.9)
    phone.get_by_role("tab", name="Compare").click()
    grid = panel(phone, "compare")
    grid.locator(".grid-place-section[data-ready]").wait_for()
    fill(grid, Prompt="a boat", Steps=2)
    phone.evaluate("scrollTo(0, document.body.scrollHeight)")
    grid.get_by_role("button", name="Generate").tap()
    expect(cells(grid, "finished")).to_have_count(9)
    expect(grid.locator(".grid-place-section")).to_be_in_viewport(ratio=0.9)
    # What can be done with a cell stands below the grid, not over the picture.
    cell = cells(grid).nth(4)
    cell.tap()
    drop = grid.get_by_role("button", name="Discard seed 2, guidance 4")
    expect(drop).to_be_visible()
    assert box(drop)["y"] > box(grid.locator(".grid-box"))["y"] + box(grid.locator(".grid-box"))["height"] - 1
    drop.tap()
    expect(grid.locator(".cell[data-dropped]")).to_have_count(1)


SMALL = """() => {
  const isTyped = "textarea, select, input:not([type=range], [type=radio], [type=checkbox], [type=file], [type=color])";
  const found = [...document.querySelectorAll("button, a, input:not([type=radio]), textarea, select, .shapes label")];
  const there = found.filter((each) => each.getClientRects().length && !each.closest(".only-spoken"));
  const box = (each) => (each.closest(".wrap-inner") ?? each).getBoundingClientRect();
  const isTight = (each) => box(each).height < 44 || box(each).width < 40;
  const isFine = (each) => each.matches(isTyped) && parseFloat(getComputedStyle(each).fontSize) < 16;
  const name = (each) => each.ariaLabel || each.textContent.trim() || each.className;
  const told = (each) => `${name(each)}: ${box(each).width} x ${box(each).height}`;
  return there.filter((each) => isTight(each) || isFine(each)).map(told);
}"""
"""What is smaller than a fingertip, or makes an iPhone zoom when it is typed into."""


def test_what_is_touched_is_as_large_as_a_fingertip(phone: Page, landscape: Path) -> None:
    make(panel(phone, "text_to_image"), Prompt="a red apple", Steps=2, Pictures=2)
    assert phone.evaluate(SMALL) == []
    for title in ("Image to image", "Inpainting"):
        tab = open_tab(phone, title)
        bring_in(tab, landscape)
        assert phone.evaluate(SMALL) == [], title
    open_compare(phone)
    assert phone.evaluate(SMALL) == []
    phone.get_by_role("tab", name="Models").click()
    phone.locator(".models-card").first.wait_for()
    assert phone.evaluate(SMALL) == []


# ---- Intents ----


def test_intents_show_which_is_on(page: Page, landscape: Path) -> None:
    tab = open_tab(page, "Inpainting")
    pressed = tab.locator(".intents button[aria-pressed=true]")
    expect(pressed).to_have_text("Fill")
    advice = tab.locator(".advice .notice")
    for name, words in (("Change", "kept in part"), ("Add", "new thing"), ("Background", "what should stay")):
        tab.get_by_role("button", name=name, exact=True).click()
        expect(pressed).to_have_text(name)
        expect(advice).to_contain_text(words)
    fill(tab, Strength=0.33)
    expect(pressed).to_have_count(0)  # that is none of them
    fill(tab, Strength=1)
    expect(pressed).to_have_text("Background")

    tab.locator(".intents").get_by_role("button", name="Extend").click()
    expect(pressed).to_have_text("Extend")  # and not "Add", whose settings are the same
    expect(tab.get_by_role("alert").filter(has_text="There is no picture to extend.")).to_be_visible()
    bring_in(tab, landscape)
    tab.locator(".intents").get_by_role("button", name="Extend").click()
    form = page.get_by_role("dialog", name="Extend the picture")
    form.get_by_label("Extend left").fill("64")
    page.keyboard.press("Enter")
    expect(form).to_have_count(0)
    expect(tab.locator(".easel-size")).to_have_text("320 × 192")
    expect(tab.locator(".easel")).to_have_attribute("data-strokes", "1")  # what is new is masked


def test_enter_puts_a_blank_sheet_on_the_easel(page: Page) -> None:
    tab = open_tab(page, "Image to image")
    tab.get_by_role("button", name="Blank").click()
    page.get_by_label("Sheet width").fill("128")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(tab.locator(".easel-size")).to_have_text("128 × 512")


# ---- Forks ----


def test_a_fork_says_what_was_changed_and_is_held_against_its_parent(page: Page) -> None:
    tab = panel(page, "text_to_image")
    make(tab, Prompt="a red apple", Steps=6, Seed=3)
    expect(tab.get_by_role("button", name="Fork from here")).to_have_count(0)  # nothing to fork at the end
    expect(tab.get_by_label("Fresh noise")).to_be_hidden()
    tab.get_by_label("Step", exact=True).fill("2")
    expect(tab.get_by_label("Fresh noise")).to_be_visible()
    fill(tab, Guidance_scale=9)
    expect(tab.get_by_label("Guidance scale", exact=True).first).to_have_value("9")
    tab.get_by_role("button", name="Fork from here").click()
    finished(tab, 2)
    expect(tab.locator(".seed-of")).to_have_text(["Seed 3", "Seed 3\u00a0· guidance 6 → 9"])
    expect(tab.locator(".stage-bar .facts")).to_contain_text("forked at step 2: guidance 6 → 9")
    thumbnail = tab.locator(".thumbnail").first
    expect(thumbnail.locator(".fork-mark")).to_be_visible()
    expect(thumbnail).to_have_attribute("title", re.compile("Forked at step 2: guidance 6 → 9"))

    tab.get_by_role("button", name="Compare with parent").click()
    viewer = page.get_by_role("dialog")
    expect(viewer.locator(".compare .compare-before")).to_have_text("Parent")
    toggle = viewer.get_by_role("button", name="Compare with parent")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    over = viewer.locator(".compare img")
    expect(over).to_have_attribute("src", re.compile("^pictures/"))
    expect(viewer.locator(".viewer-kin")).to_contain_text("at step 2: guidance 6 → 9")
    parent = viewer.locator(".viewer-kin img").get_attribute("src")
    assert parent and str(over.get_attribute("src")).startswith(parent.replace("thumbnails", "pictures"))
    toggle.click()
    expect(viewer.locator(".compare")).to_have_count(0)
    viewer.get_by_role("button", name="The picture it came from").click()
    expect(toggle).to_be_hidden()  # it was forked from nothing
    expect(viewer.locator(".viewer-kin")).to_contain_text("step 2: guidance 6 → 9")
    page.keyboard.press("Escape")


# ---- Recent pictures, and the large view ----


def listed(page: Page, studio: Studio, count: int, **changes: Any) -> None:
    """Have the library say that it holds so many pictures, each like its newest one but for `changes`."""

    def answer(route: Route) -> None:
        told = route.fetch().json()["pictures"][0]
        told |= {**changes, "recipe": {**told["recipe"], **changes.get("recipe", {})}}
        asked = int(re.findall(r"count=(\d+)", route.request.url)[0])
        first = 0 if "before=" not in route.request.url else count
        made = [{**told, "id": f"29991231-000000-{number:08}"} for number in range(count, first, -1)]
        route.fulfill(json={"pictures": made[:asked]})

    page.route(re.compile(r"/pictures\?count="), answer)
    page.route("**/thumbnails/2999*", lambda route: route.fulfill(path=str(studio.files()[0])))


def test_older_is_there_only_while_something_is_left(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    make(tab, Prompt="a harbour", Steps=1)
    for count, is_left in ((24, False), (25, True)):
        listed(page, studio, count)
        visit(page, studio)
        expect(tab.locator(".thumbnail")).to_have_count(24)
        expect(tab.get_by_role("button", name="Older")).to_have_count(int(is_left))
        page.unroute_all()
    listed(page, studio, 36)
    inpainting = open_tab(page, "Inpainting")
    inpainting.get_by_role("button", name="Library").click()
    picker = page.get_by_role("dialog", name="From the library")
    expect(picker.locator(".thumbnail")).to_have_count(36)
    expect(picker.get_by_role("button", name="Older")).to_be_hidden()
    widths = {round(box(each)["width"]) for each in picker.locator(".thumbnail").all()[-3:]}
    assert widths == {120}  # the last row is not stretched
    page.keyboard.press("Escape")
    page.unroute_all()


def test_thumbnails_of_odd_pictures_leave_room_for_others(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    make(tab, Prompt="a harbour", Steps=1)
    for size in ({"width": 4096, "height": 64}, {"width": 64, "height": 4096}):
        listed(page, studio, 3, recipe=size)
        visit(page, studio)
        expect(tab.locator(".thumbnail")).to_have_count(3)
        shown = box(tab.locator(".thumbnail").first)
        assert 40 <= shown["width"] <= 240
        page.unroute_all()


def test_new_pictures_come_first_and_replace_what_was_stopped(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    make(tab, Prompt="a harbour", Steps=1)
    listed(page, studio, 30, made_at=1.0)  # by their names they are of the year 2999
    visit(page, studio)
    expect(tab.locator(".thumbnail")).to_have_count(24)
    fill(tab, Prompt="a tower", Steps=LONG, Width=64, Height=64)
    tab.get_by_role("button", name="Generate").click()
    page.wait_for_function("Number(document.querySelector('.tile')?.dataset.done) >= 1")
    page.keyboard.press("Escape")
    expect(tab.locator(".thumbnail.unfinished").first.locator("img")).to_have_attribute("alt", "a tower")
    expect(tab.locator(".thumbnail img").first).to_have_attribute("alt", "a tower")
    tab.get_by_role("button", name="Continue", exact=True).click()
    finished(tab, 1)
    expect(tab.locator(".thumbnail:not(.unfinished) img[alt='a tower']")).to_have_count(1)
    expect(tab.locator(".thumbnail.unfinished")).to_have_count(0)
    page.unroute_all()
    visit(page, studio)
    expect(tab.locator(".thumbnail img").first).to_have_attribute("alt", "a tower")
    expect(tab.locator(".thumbnail.unfinished img[alt='a tower']")).to_have_count(0)


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (390, 844)])
def test_long_words_push_nothing_out_of_the_large_view(page: Page, size: tuple[int, int]) -> None:
    tab = panel(page, "text_to_image")
    make(tab, Prompt="a red apple " * 165, Negative_prompt="worms " * 300, Steps=1)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    tab.locator(".frame").click()
    viewer = page.get_by_role("dialog")
    expect(viewer.locator(".viewer-prompt")).to_be_visible()
    for found in (viewer.get_by_role("link", name="Download"), viewer.get_by_role("button", name="Send to")):
        expect(found).to_be_in_viewport(ratio=1)
    room = viewer.locator(".viewer-room")
    room.evaluate("each => each.scrollTo(0, each.scrollHeight)")  # all words can be read
    expect(viewer.locator(".viewer-facts")).to_be_in_viewport(ratio=1)
    expect(viewer.get_by_role("button", name="Close")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")


def test_a_long_name_ends_before_the_arrow(page: Page) -> None:
    found = panel(page, "text_to_image").get_by_label("Model", exact=True)
    room, arrow = found.evaluate(
        """each => {
            const end = each.getBoundingClientRect().right - parseFloat(getComputedStyle(each).paddingRight);
            return [end, each.parentElement.querySelector("svg").getBoundingClientRect().left];
        }"""
    )
    assert room <= arrow + 1
    assert found.evaluate("each => getComputedStyle(each).textOverflow") == "ellipsis"


def test_one_thing_has_one_name_and_signs_are_told_apart(page: Page, landscape: Path) -> None:
    tab = open_tab(page, "Image to image")
    bring_in(tab, landscape)
    make(tab, Prompt="a house", Steps=4)
    signs = tab.locator(".stage-bar :is(button, a).act:visible").evaluate_all(
        """all => all.map((each) => [
            each.textContent.trim() || each.title, each.querySelector("path").getAttribute("d"),
        ])"""
    )
    films = [sign for name, sign in signs if name in ("WebP", "GIF")]
    others = [sign for name, sign in signs if name not in ("WebP", "GIF")]
    assert len(films) == 2 and len(set(films)) == 1 and not set(films) & set(others)
    assert len(set(others)) == len(others) >= 6
    assert all(name for name, _ in signs)
    tab.get_by_role("button", name="Before / after").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Before / after")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_text("Compare with start")).to_have_count(0)
    page.keyboard.press("Escape")


# ---- Compare ----


def test_what_was_dropped_comes_back(page: Page) -> None:
    tab = open_compare(page)
    undo = tab.get_by_role("button", name="Undo")
    fill(tab, Prompt="a red apple", Steps=LONG, Width=64, Height=64)
    tab.get_by_role("button", name="Generate").click()
    wait_for_step(page, 2, 9)
    expect(undo).to_have_count(0)
    standing = tab.locator(".cell[data-job]:not([data-dropped])")
    tab.get_by_role("gridcell", name="seed 2, guidance 4").focus()
    page.keyboard.press("x")
    expect(standing).to_have_count(8)
    tab.get_by_role("button", name="Discard column guidance 1").click()
    expect(standing).to_have_count(5)
    tab.get_by_role("gridcell", name="seed 3, guidance 7").focus()
    page.keyboard.press("o")
    expect(standing).to_have_count(1)
    for count in (5, 8):
        page.keyboard.press("Control+z")
        expect(standing).to_have_count(count)
    undo.click()
    expect(standing).to_have_count(9)
    expect(undo).to_have_count(0)
    expect(cells(tab, "step")).to_have_count(9)  # what was cancelled is made again
    names = tab.locator(".cell").evaluate_all("all => all.map((each) => each.ariaLabel.split(', step')[0])")
    assert names == [f"seed {seed}, guidance {scale}" for seed in (1, 2, 3) for scale in (1, 4, 7)]
    page.keyboard.press("Escape")
    expect(cells(tab, "paused")).to_have_count(9)
    tab.get_by_role("button", name="Discard stopped").click()
    expect(standing).to_have_count(0)


def test_what_is_brought_back_while_more_is_coming_comes_back_too(page: Page) -> None:
    tab = open_compare(page)
    fill(tab, Prompt="a red apple", Steps=LONG, Width=64, Height=64)
    tab.get_by_role("button", name="Generate").click()
    wait_for_step(page, 1, 9)
    standing = tab.locator(".cell[data-job]:not([data-dropped])")
    for row, count in (("1", 6), ("2", 3)):
        tab.get_by_role("button", name=f"Discard row seed {row}").click()
        expect(standing).to_have_count(count)
    held: list[Route] = []
    page.route("**/run/predict", lambda route: held.append(route), times=1)
    undo = tab.get_by_role("button", name="Undo")
    with page.expect_request("**/run/predict"):
        undo.click()
    undo.click()
    expect(standing).to_have_count(6)  # the second, while the first is on its way
    held[0].continue_()
    expect(standing).to_have_count(9)
    page.keyboard.press("Escape")
    expect(cells(tab, "paused")).to_have_count(9)


def test_what_was_finished_comes_back_at_once(page: Page) -> None:
    tab = open_compare(page)
    fill(tab, Prompt="a red apple", Steps=1, Width=64, Height=64)
    tab.get_by_role("button", name="Generate").click()
    expect(cells(tab, "finished")).to_have_count(9)
    jobs = tab.locator(".cell").evaluate_all("all => all.map((each) => each.dataset.job)")
    tab.get_by_role("button", name="Discard row seed 2").click()
    expect(tab.locator(".cell[data-job]:not([data-dropped])")).to_have_count(6)
    page.keyboard.press("Control+z")
    expect(tab.locator(".cell[data-job]:not([data-dropped])")).to_have_count(9)
    assert tab.locator(".cell").evaluate_all("all => all.map((each) => each.dataset.job)") == jobs
