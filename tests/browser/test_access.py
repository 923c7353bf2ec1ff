"""The page for those who use a keyboard, or hear it, or need contrast, in a real browser, on the launched program."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import test_compare, test_inpainting, test_models
from tests.browser.conftest import Studio, panel, visit
from tests.browser.looks import ALL_LOOKS, dress, faults_in, hover_all, still
from tests.browser.test_inpainting import bring_in, fill, paint, picture

__all__ = ["picture"]

TABS = ("Text to image", "Image to image", "Inpainting", "Compare", "Models")


def open_tab(page: Page, title: str) -> Locator:
    """Choose a tab, wait until it is ready, and return what stands in it."""
    if title == "Compare":
        return test_compare.open_compare(page)
    return test_models.open_tab(page) if title == "Models" else test_inpainting.open_tab(page, title)


@pytest.mark.parametrize("title", TABS)
def test_every_tab_can_be_read_by_all(page: Page, title: str) -> None:
    still(page)
    open_tab(page, title)
    found = faults_in(page, title, ALL_LOOKS)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("title", TABS)
def test_words_under_the_pointer_keep_their_contrast(page: Page, title: str) -> None:
    still(page)
    tab = open_tab(page, title)
    if title == "Models":
        tab.get_by_role("button", name="Get from the hub").click()
    hover_all(page, "button, a, label")
    found = faults_in(page, title)
    assert not found, "\n".join(found)


def test_pictures_and_their_large_view_can_be_read_by_all(page: Page) -> None:
    still(page)
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Negative_prompt="blue", Steps=2, Pictures=2)
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(2)
    found = faults_in(page, "pictures", ALL_LOOKS)
    tab.locator(".stage").get_by_role("button", name="Send to…").click()
    found += faults_in(page, "menu")
    page.keyboard.press("Escape")
    tab.locator(".strip .thumbnail").first.click()
    page.get_by_role("dialog").get_by_role("button", name="3 stars").click()
    found += faults_in(page, "large view", ALL_LOOKS)
    assert not found, "\n".join(found)


def test_an_easel_can_be_read_by_all(page: Page, picture: Path) -> None:
    still(page)
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paint(page, tab, (0.4, 0.35), (0.55, 0.5))
    fill(tab, Prompt="a ghost", Steps=2)
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(1)
    found = faults_in(page, "mask", ALL_LOOKS)
    for name in ("Picture", "Mask", "Extend"):
        tab.locator(".easel-rail").get_by_role("button", name=name, exact=True).click()
        found += faults_in(page, f"panel {name}")
        page.keyboard.press("Escape")
    tab.get_by_role("button", name="Before / after").click()
    found += faults_in(page, "before and after")
    page.keyboard.press("Escape")
    tab = open_tab(page, "Image to image")
    bring_in(tab, picture)
    paint(page, tab, (0.4, 0.35), (0.55, 0.5))
    found += faults_in(page, "paint", ALL_LOOKS)
    tab.locator(".easel-rail").get_by_role("button", name="Picture", exact=True).click()
    page.get_by_role("menuitem", name="A blank sheet").click()
    found += faults_in(page, "dialog")
    assert not found, "\n".join(found)


CAMERA = """() => {
    const canvas = document.createElement("canvas");
    canvas.getContext("2d").fillRect(0, 0, canvas.width, canvas.height);
    navigator.mediaDevices.getUserMedia = async () => canvas.captureStream();
}"""
"""A camera, for browsers that have none."""


@pytest.mark.parametrize("title", ["Image to image", "Inpainting"])
def test_the_ways_to_bring_a_picture_in_can_be_read_by_all(page: Page, title: str) -> None:
    still(page)
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="so that there is something to choose", Steps=1)
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(".tile[data-state=finished][data-kept]")).to_have_count(1)
    page.evaluate(CAMERA)
    tab = open_tab(page, title)
    found = []
    for name, what in (("Library", ".picker-grid .thumbnail"), ("Camera", "video")):
        way = tab.locator(".easel-invite").get_by_role("button", name=name, exact=True)
        way.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog").locator(what).first).to_be_visible()
        found += faults_in(page, name, ALL_LOOKS)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(way).to_be_focused()
    assert not found, "\n".join(found)


def test_a_grid_can_be_read_by_all(page: Page) -> None:
    still(page)
    tab = open_tab(page, "Compare")
    fill(tab, Prompt="a red apple", Steps=2)
    tab.get_by_role("button", name="Generate").click()
    expect(test_compare.cells(tab, "finished")).to_have_count(9)
    for index in (0, 1):
        tab.get_by_role("gridcell").nth(index).focus()
        page.keyboard.press("m")
    found = faults_in(page, "grid", ALL_LOOKS)
    for name in ("Sort", "Contact sheet", "Keys"):
        dress(page, *ALL_LOOKS[0])  # the keys are not told on a phone
        button = tab.get_by_role("button", name=name, exact=True)
        button.click()
        expect(button).to_have_attribute("aria-expanded", "true")
        found += faults_in(page, name, ALL_LOOKS if name != "Keys" else ALL_LOOKS[:2])
        page.keyboard.press("Escape")
    tab.locator(".grid-pair").get_by_role("button").first.click()
    found += faults_in(page, "pair")
    assert not found, "\n".join(found)


def test_models_can_be_read_by_all(page: Page) -> None:
    still(page)
    tab = open_tab(page, "Models")
    tab.get_by_role("button", name="Get from the hub").click()
    found = faults_in(page, "hub")
    test_models.card(tab, "sketchbook").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found += faults_in(page, "model")
    page.keyboard.press("Escape")
    tab.get_by_role("button", name=re.compile("^Models")).first.click()
    test_models.card(tab, "old.ckpt").click()
    found += faults_in(page, "model that cannot be used")
    assert not found, "\n".join(found)


# ---- What is told ----


def listen(page: Page) -> None:
    """Note all that is spoken from now on, and each title of the window."""
    page.evaluate(
        """() => {
            window.spoken = [];
            window.titles = new Set();
            const place = document.querySelector(".spoken");
            const hear = () => place.textContent && window.spoken.push(place.textContent);
            new MutationObserver(hear).observe(place, { childList: true, characterData: true, subtree: true });
            const look = () => window.titles.add(document.title);
            new MutationObserver(look).observe(document.querySelector("title"), { childList: true });
        }"""
    )


def test_start_and_end_are_spoken_and_not_each_step(page: Page) -> None:
    tab = panel(page, "text_to_image")
    listen(page)
    fill(tab, Prompt="a red apple", Steps=40)
    tab.get_by_role("button", name="Generate").click()
    page.wait_for_function("window.spoken.at(-1) === 'Finished'")
    spoken = page.evaluate("window.spoken")
    assert spoken[0] == "Started" and spoken in (["Started", "Half way", "Finished"], ["Started", "Finished"])


def test_what_ends_in_another_tab_is_spoken_with_its_name(page: Page) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=20)
    tab.get_by_role("button", name="Generate").click()
    test_models.open_tab(page)
    expect(page.locator(".spoken")).to_have_text("Text to image: Finished")


def test_what_stood_there_before_a_reload_is_not_spoken_again(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=2)
    test_inpainting.generate(tab)
    visit(page, studio)
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(1)
    expect(page.locator(".spoken")).to_have_text("")


def test_the_title_tells_how_far_the_pictures_are(page: Page) -> None:
    tab = panel(page, "text_to_image")
    listen(page)
    fill(tab, Prompt="a red apple", Steps=500)
    tab.get_by_role("button", name="Generate").click()
    expect(page).to_have_title(re.compile(r"^[1-9]\d*% · Emerge Studio$"))
    page.keyboard.press("Escape")
    expect(page).to_have_title("Emerge Studio")


def test_the_title_marks_what_ended_until_it_is_looked_at(page: Page) -> None:
    tab = panel(page, "text_to_image")
    hide = "(hidden) => Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })"
    fill(tab, Prompt="a red apple", Steps=4)
    page.evaluate(hide, True)
    tab.get_by_role("button", name="Generate").click()
    expect(page).to_have_title("✓ · Emerge Studio")
    page.evaluate(hide, False)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page).to_have_title("Emerge Studio")
