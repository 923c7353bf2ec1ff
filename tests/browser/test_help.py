"""Help beside the settings, the simple form, and what invites a newcomer, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from studio.library import metadata
from studio.ui.tabs.text_to_image import EXAMPLES
from tests.browser.conftest import Studio, panel, visit

PLACES = {
    "text_to_image": "Text to image",
    "image_to_image": "Image to image",
    "inpainting": "Inpainting",
    "compare": "Compare",
}


@pytest.fixture
def newcomer(page: Page, studio: Studio) -> Iterator[Page]:
    """The page in a browser that has never chosen how much of the form is shown."""
    page.evaluate("localStorage.removeItem('emerge-more')")
    visit(page, studio)
    yield page


def shown(page: Page, place: str) -> list[str]:
    """The labels of the fields that are seen."""
    labels = panel(page, place).locator(".controls [data-testid='block-info']:visible")
    return [text.strip() for text in labels.all_inner_texts()]


def about(place: Locator, label: str) -> Locator:
    """The "?" beside a setting."""
    is_named = place.page.locator("[data-testid='block-info']").get_by_text(label, exact=True)
    return place.locator(".has-help").filter(has=is_named).get_by_role("button", name="What is this?")


def test_the_first_form_has_what_a_first_picture_needs(newcomer: Page, studio: Studio) -> None:
    page, place = newcomer, panel(newcomer, "text_to_image")
    assert shown(page, "text_to_image") == ["Prompt", "Model", "Shape", "Width", "Height", "Pictures"]
    place.get_by_role("button", name="More settings").click()
    expect(place.get_by_label("Steps", exact=True)).to_be_visible()
    expect(place.get_by_label("Negative prompt", exact=True)).to_be_visible()
    visit(page, studio)
    expect(place.get_by_label("Steps", exact=True)).to_be_visible()
    place.get_by_role("button", name="Fewer settings").click()
    expect(place.get_by_label("Steps", exact=True)).to_be_hidden()
    visit(page, studio)
    expect(place.get_by_label("Steps", exact=True)).to_be_hidden()


def test_what_differs_in_the_hidden_part_is_said_on_its_button(page: Page, studio: Studio) -> None:
    place = panel(page, "text_to_image")
    button = place.locator(".more")
    expect(button).to_have_text("Fewer settings")
    place.get_by_label("Steps", exact=True).fill("9")
    place.get_by_label("Seed", exact=True).fill("5")
    expect(button).to_have_text("Fewer settings · steps 9, seed pinned")
    button.click()
    expect(button).to_have_text("More settings · steps 9, seed pinned")
    visit(page, studio)
    expect(button).to_have_text("More settings · steps 9, seed pinned")
    place.get_by_label("Prompt", exact=True).fill("a cat")
    place.get_by_role("button", name="Generate").click()
    place.locator(".tile[data-state=finished][data-kept]").wait_for()
    found = metadata.read(studio.files()[-1])
    assert found and (found[0].steps, found[0].seed) == (9, 5), "what is hidden is used all the same"
    button.click()
    place.get_by_label("Steps", exact=True).fill("25")
    place.get_by_label("Seed", exact=True).fill("")
    expect(button).to_have_text("Fewer settings")


@pytest.mark.parametrize("place", PLACES)
def test_every_setting_is_explained(page: Page, place: str) -> None:
    page.get_by_role("tab", name=PLACES[place], exact=True).click()
    here = panel(page, place)
    about(here, "Prompt").wait_for()
    here.get_by_text("Add-ons", exact=True).click()
    here.get_by_text("Your own styles", exact=True).click()
    assert {"LoRAs", "Controls"} <= set(shown(page, place))
    for label in shown(page, place):
        if not label.endswith(": values"):
            expect(about(here, label)).to_be_visible()
    for label in ("Steps", "Model", "Seed"):
        field = here.get_by_label(label, exact=True)
        described = field.get_attribute("aria-describedby") or ""
        assert page.locator(f"[id='{described}']").text_content()


def test_help_opens_at_a_press_and_by_keyboard_and_leads_on(page: Page, studio: Studio) -> None:
    here = panel(page, "text_to_image")
    bubble = page.locator(".help-bubble")
    button = about(here, "Steps")
    button.click()
    expect(bubble).to_contain_text("How often the noise is made less")
    about(here, "Pictures").click()
    expect(bubble).to_contain_text("How many are drawn at once")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    button.click()
    expect(bubble).to_be_hidden()
    field = here.get_by_label("Steps", exact=True)
    field.focus()
    page.keyboard.press("F1")
    expect(bubble).to_contain_text("How often the noise is made less")
    page.keyboard.press("Tab")
    link = bubble.get_by_role("link")
    expect(link).to_be_focused()
    with page.context.expect_page() as opened:
        page.keyboard.press("Enter")
    opened.value.wait_for_load_state()
    assert opened.value.url == f"{studio.address}/help/text-to-image#samplers-and-schedules"
    expect(opened.value.get_by_role("heading", name="Samplers and schedules")).to_be_visible()
    opened.value.close()
    page.keyboard.press("Escape")
    expect(bubble).to_be_hidden()
    expect(field).to_be_focused()


def test_escape_closes_help_and_stops_no_picture(page: Page) -> None:
    here = panel(page, "text_to_image")
    here.get_by_label("Prompt", exact=True).fill("a cat")
    here.get_by_label("Steps", exact=True).fill("500")
    here.get_by_role("button", name="Generate").click()
    here.locator(".tile[data-state=step]").wait_for()
    about(here, "Steps").click()
    page.keyboard.press("Escape")
    expect(page.locator(".help-bubble")).to_be_hidden()
    expect(here.locator(".tile")).to_have_attribute("data-state", "step")
    page.keyboard.press("Escape")
    here.locator(".tile[data-state=paused]").wait_for()


def test_an_empty_stage_invites_with_pictures_and_a_press_draws(page: Page, studio: Studio) -> None:
    here = panel(page, "text_to_image")
    invitations = here.locator(".invitation")
    expect(invitations).to_have_count(len(EXAMPLES))
    for image in invitations.locator("img").all():
        expect(image).to_have_js_property("naturalWidth", 256)
    here.get_by_role("button", name=f"Draw “{EXAMPLES['fox']}”").click()
    here.locator(".tile[data-state=finished][data-kept]").wait_for()
    found = metadata.read(studio.files()[-1])
    assert found and found[0].prompt == EXAMPLES["fox"]
    expect(here.get_by_label("Prompt", exact=True)).to_have_value(EXAMPLES["fox"])
    expect(invitations).to_have_count(0)


def test_the_row_of_examples_shows_that_it_goes_on(page: Page) -> None:
    row = panel(page, "text_to_image").locator(".examples")
    on, last = row.get_by_role("button", name="More examples"), row.get_by_role("button", name="penguin")
    expect(on).to_be_visible()
    row.hover()
    page.mouse.wheel(0, 5000)
    expect(on).to_be_hidden()
    expect(last).to_be_in_viewport(ratio=1)
    row.evaluate("row => { row.scrollLeft = 0; }")
    expect(on).to_be_visible()
    on.click()
    page.wait_for_function("document.querySelector('.examples').scrollLeft > 50")
    row.locator("button").first.focus()
    page.keyboard.press("ArrowRight")
    expect(row.locator("button").nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport(ratio=1)


def test_a_touch_opens_help_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    here = panel(page, "text_to_image")
    about(here, "Steps").click()
    box = page.locator(".help-bubble").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
    expect(page.locator(".help-bubble")).to_be_in_viewport(ratio=1)
