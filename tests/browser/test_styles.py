"""Styles as a person uses them, in a real browser, on the launched program."""

import re

from playwright.sync_api import Page, expect

from studio.library import metadata
from tests.browser.conftest import Studio, panel


def test_a_style_goes_around_the_prompt_and_own_ones_are_kept(page: Page, studio: Studio, faults: list[str]) -> None:
    place = panel(page, "text_to_image")
    place.get_by_label("Prompt", exact=True).fill("a cat")
    place.get_by_label("Styles", exact=True).click()
    page.keyboard.type("watercolor")
    page.get_by_role("option", name="watercolor").click()
    page.keyboard.press("Escape")
    place.get_by_role("button", name="Generate").click()
    place.locator(".tile[data-state=finished][data-kept]").wait_for()
    found = metadata.read(studio.files()[-1])
    assert found and found[0].prompt.startswith("watercolor painting of a cat, "), "the style stands in the recipe"
    assert "photo" in found[0].negative_prompt

    place.get_by_text("Your own styles").click()
    place.get_by_role("button", name="Write into prompt").click()
    expect(place.get_by_label("Prompt", exact=True)).to_have_value(found[0].prompt)
    place.get_by_label("Name", exact=True).fill("mine")
    place.get_by_role("button", name="Save prompt").click()
    expect(place.get_by_text("Saved as “mine”.")).to_be_visible()
    table = b'name,prompt,negative_prompt\r\nglow,"{prompt}, glowing",dark\r\n'
    place.locator("input[type=file][accept='.csv']").set_input_files(
        {"name": "styles.csv", "mimeType": "text/csv", "buffer": table}
    )
    expect(place.get_by_text("Styles added: 1.")).to_be_visible()
    place.locator("input[type=file][accept='.csv']").set_input_files(
        {"name": "other.csv", "mimeType": "text/csv", "buffer": b"not a table"}
    )
    expect(place.get_by_text(re.compile("no table of styles"))).to_be_visible()
    faults[:] = [fault for fault in faults if "status of 400" not in fault]  # the refusal, which the page has told

    page.reload()
    place.get_by_label("Styles", exact=True).click()
    for name in ("mine · own", "glow · own"):
        expect(page.get_by_role("option", name=name)).to_be_visible()
