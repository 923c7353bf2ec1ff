"""Everything by keyboard alone, in a real browser, on the launched program."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Studio, panel
from tests.browser.test_inpainting import bring_in, fill, generate, mask_of, newest, open_tab, picture, pixels, strokes

__all__ = ["picture"]


def paper(tab: Locator) -> Locator:
    return tab.get_by_role("application", name="Picture to paint on")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def mask(tab: Locator, width: int = 256, height: int = 192) -> np.ndarray:
    return mask_of(tab).reshape(height, width)


def tabs_until(page: Page, selector: str, most: int = 60) -> int:
    """How many presses of Tab lead to an element of this kind. The focus must never be on nothing."""
    for count in range(1, most):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement !== document.body"), f"press {count} of Tab leads to nothing"
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return count
    raise AssertionError(f"{most} presses of Tab do not lead to {selector}")


def test_a_rectangle_is_masked_and_repainted_by_keyboard(page: Page, studio: Studio, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paper(tab).focus()
    spoken = page.locator(".spoken")
    press(page, "l", "Space")
    expect(spoken).to_have_text("Rectangle begins at 128 from the left, 96 from the top")
    press(page, "Shift+ArrowRight", "Shift+ArrowDown", "ArrowDown")
    expect(spoken).to_have_text("Rectangle 32 wide and 36 high")
    press(page, "Enter")
    expect(spoken).to_have_text("Rectangle of 32 wide and 36 high filled, from 128 from the left, 96 from the top")
    strokes(tab, 1)
    expected = np.zeros((192, 256), bool)
    expected[96:132, 128:160] = True
    assert ((mask(tab) > 127) == expected).all()
    fill(tab, Prompt="a ghost", Steps=4, Feather=0)
    generate(tab)
    changed = np.abs(newest(studio)[0] - pixels(picture)).max(-1) > 0
    assert changed[expected].mean() > 0.5 and not changed[~expected].any()


def test_the_brush_paints_from_one_press_to_the_next(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paper(tab).focus()
    press(page, "b", "Shift+ArrowLeft", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Space")
    strokes(tab, 1)
    painted = mask(tab) > 127
    assert painted[96, 96:160].all() and not painted[:, :80].any() and not painted[:, 176:].any()
    expect(page.locator(".spoken")).to_have_text("Brush ends at 160 from the left, 96 from the top")
    press(page, "Control+z")
    expect(page.locator(".spoken")).to_have_text("Undone")
    assert not mask(tab).any()
    press(page, "Control+y")
    assert ((mask(tab) > 127) == painted).all()
    press(page, "e", "Space", "Shift+ArrowLeft", "Shift+ArrowLeft", "Space")
    strokes(tab, 2)
    assert not mask(tab)[96, 96:160].any()


def test_escape_takes_a_stroke_back_and_stops_nothing(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paper(tab).focus()
    press(page, "l", "Space", "Shift+ArrowRight", "Shift+ArrowDown", "Space")
    fill(tab, Prompt="a ghost", Steps=500)
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(".tile[data-state=step]")).to_have_count(1)
    paper(tab).focus()
    press(page, "Space", "Shift+ArrowLeft", "Escape")
    expect(page.locator(".spoken")).to_have_text("Taken back")
    strokes(tab, 1)
    expect(tab.locator(".tile[data-state=step]")).to_have_count(1)
    press(page, "Escape")
    expect(tab.locator(".tile[data-state=paused]")).to_have_count(1)


def test_the_point_stays_in_the_picture_and_in_sight(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paper(tab).focus()
    press(page, *["+"] * 6, *["Shift+ArrowRight"] * 9, *["Shift+ArrowUp"] * 9)
    expect(page.locator(".spoken")).to_have_text("256 from the left, 0 from the top")
    frame, cross = tab.locator(".easel-view").bounding_box(), tab.locator(".easel-cross").bounding_box()
    assert frame and cross
    assert frame["x"] - 1 <= cross["x"] <= frame["x"] + frame["width"] + 1
    assert frame["y"] - 1 <= cross["y"] <= frame["y"] + frame["height"] + 1


def test_the_easel_has_the_focus_once_it_has_a_picture(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    tab.get_by_role("button", name="Upload", exact=True).focus()
    bring_in(tab, picture)
    expect(paper(tab)).to_be_focused()


@pytest.mark.parametrize(
    ("title", "label"),
    [
        ("Text to image", "Shape"),
        ("Image to image", "If the picture has another shape"),
        ("Inpainting", "The model works on"),
        ("Inpainting", "Repaint"),
    ],
)
def test_radio_buttons_are_groups(page: Page, title: str, label: str) -> None:
    tab = open_tab(page, title)
    group = tab.get_by_role("radiogroup", name=label)
    radios = group.get_by_role("radio")
    expect(group.locator("input:checked")).to_have_count(1)
    names = radios.evaluate_all("radios => radios.map((each) => each.name)")
    assert len(names) > 1 and set(names) != {""} and len(set(names)) == 1
    others = page.locator(f"input[type=radio][name='{names[0]}']")
    expect(others).to_have_count(len(names))
    at = radios.evaluate_all("radios => radios.findIndex((each) => each.checked)")
    radios.nth(at).focus()
    page.keyboard.press("ArrowRight")
    after = radios.nth((at + 1) % len(names))
    expect(after).to_be_focused()
    expect(after).to_be_checked()
    expect(group.locator("label.selected input")).to_have_value(after.get_attribute("value") or "")
    page.keyboard.press("Tab")
    assert not group.evaluate("group => group.contains(document.activeElement)")


@pytest.mark.parametrize("title", ["Text to image", "Image to image", "Inpainting", "Compare"])
def test_every_press_of_tab_leads_on_and_generate_is_near(page: Page, title: str) -> None:
    page.get_by_role("tab", name=title).click()
    expect(panel(page, title.lower().replace(" ", "_")).get_by_role("button", name="Generate")).to_be_visible()
    page.locator(".skip").first.focus()
    assert tabs_until(page, ".buttons > .primary") <= 34  # with all settings open, of which the first form shows few


def test_links_skip_to_the_prompt_and_to_generate(page: Page) -> None:
    for title in ("Text to image", "Compare"):
        tab = panel(page, title.lower().replace(" ", "_"))
        page.get_by_role("tab", name=title).click()
        page.get_by_role("link", name="Skip to the prompt").press("Enter")
        expect(tab.get_by_label("Prompt", exact=True)).to_be_focused()
        page.get_by_role("link", name="Skip to Generate").press("Enter")
        expect(tab.get_by_role("button", name="Generate")).to_be_focused()


def test_recent_pictures_are_one_stop(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=1, Pictures=3)
    generate(tab, count=3)
    thumbnails = tab.locator(".strip .thumbnail")
    expect(tab.locator(".strip button[tabindex='0']")).to_have_count(1)
    expect(thumbnails.nth(2)).to_be_visible()
    thumbnails.first.focus()
    for key, index in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("Home", 0)):
        page.keyboard.press(key)
        expect(thumbnails.nth(index)).to_be_focused()
    page.keyboard.press("End")
    expect(tab.locator(".strip button").last).to_be_focused()
    page.keyboard.press("Tab")
    assert not tab.locator(".strip").evaluate("strip => strip.contains(document.activeElement)")


@pytest.mark.parametrize("title", ["Text to image", "Image to image", "Inpainting", "Compare", "Models"])
def test_headings_lead_through_each_tab(page: Page, title: str) -> None:
    page.get_by_role("tab", name=title, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(["Emerge Studio"])
    named = {"Models": ["Models"], "Compare": ["Settings", "Pictures compared"]}.get(title, ["Settings"])
    for each in named:
        expect(page.get_by_role("heading", level=2, name=each, exact=True)).to_have_count(1)
    if title in ("Image to image", "Inpainting"):
        expect(page.get_by_role("heading", level=2, name="Start picture")).to_have_count(1)


# ---- Buttons that go when they are pressed ----


def test_the_focus_stays_where_a_button_went(page: Page) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=500, Pictures=2, Width=64, Height=64)

    def go(name: str | re.Pattern[str], place: str) -> None:
        button = tab.get_by_role("button", name=name, exact=True).first
        expect(button).to_be_enabled()
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "(place) => document.activeElement.tagName !== 'BUTTON' && document.activeElement.closest(place)",
            arg=f"#text_to_image-panel {place}",
        )

    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(".tile[data-drawn]")).to_have_count(2)
    go(re.compile("^Stop seed"), ".tile")
    go(re.compile("^Continue seed"), ".tile")
    go("Stop", ".buttons")
    expect(tab.locator(".tile[data-state=paused]")).to_have_count(2)
    go("Continue", ".stage")
    go("Stop", ".buttons")
    expect(tab.locator(".tile[data-state=paused]")).to_have_count(2)
    go(re.compile("^Discard seed"), ".stage")
    expect(tab.locator(".tile")).to_have_count(1)
    go("Discard", ".stage")
    expect(tab.locator(".tile")).to_have_count(0)
