"""What our scripts rely on in Gradio's page (page/common/gradio.js) is there: after an upgrade, look here first."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import panel

FOUND = {
    "FIELD_NAME": "document.querySelector(`#text_to_image-prompt ${g.FIELD_NAME}`).textContent.trim() === 'Prompt'",
    "AS_FIELD_NAME": "Object.entries(g.AS_FIELD_NAME).every(([name, value]) => "
    "document.querySelector(`#text_to_image-prompt ${g.FIELD_NAME}`).getAttribute(name) === value)",
    "FIELD_BLOCK": "document.querySelector(`#text_to_image-prompt ${g.FIELD_NAME}`).closest(g.FIELD_BLOCK).id "
    "=== 'text_to_image-prompt'",
    "ACCORDION_LINE": "document.querySelector(`#text_to_image-addons > ${g.ACCORDION_LINE}`).matches('button')",
    "CLOSED_ACCORDION_LINE": "document.querySelector(`#text_to_image-addons > ${g.CLOSED_ACCORDION_LINE}`) !== null",
    "TAB_ROW": "document.querySelectorAll(`.tabs-of-studio > ${g.TAB_ROW}`).length === 1",
    "TABS": "[...document.querySelectorAll(g.TABS)].map((tab) => tab.textContent.trim()).join() "
    "=== 'Text to image,Image to image,Inpainting,Compare,Models'",
    "tabOf": "g.tabOf('compare').textContent.trim() === 'Compare'",
    "idOf": "[...document.querySelectorAll(g.TABS)].map(g.idOf).join() "
    "=== 'text_to_image,image_to_image,inpainting,compare,models'",
    "tabAround": "g.tabAround(document.querySelector('#text_to_image-prompt')).textContent.trim() === 'Text to image'",
    "openPanel": "g.openPanel().id === 'text_to_image-panel'",
    "linesOf": "g.linesOf('text_to_image-prompt') === document.querySelector('#text_to_image-prompt textarea')",
    "lineOf": "g.lineOf('image_to_image-strength').type === 'text'",
    "controlIn": "g.controlIn('text_to_image-prompt').matches('textarea')",
    "CONTROLS": "document.querySelector('#text_to_image-prompt').querySelectorAll(g.CONTROLS).length === 1",
    "CHOICES": "document.querySelectorAll(`#text_to_image-panel ${g.CHOICES}`).length === 1",
    "DROPDOWN": "document.querySelector(`#text_to_image-model ${g.DROPDOWN}`).matches('input')",
    "MAIN_BUTTON": "document.querySelector(`#text_to_image-panel .buttons > ${g.MAIN_BUTTON}`).id "
    "=== 'text_to_image-start'",
}
"""What gradio.js exports → what holds of the page while the first tab is shown, in JavaScript. g: the module."""


def holds(page: Page, condition: str) -> bool:
    """Whether this holds of the page, where `g` is the module gradio.js. What is not there holds nothing."""
    judged = f"try {{ return {condition}; }} catch {{ return false; }}"
    found: bool = page.evaluate(f"async () => {{ const g = await import('/page/common/gradio.js'); {judged} }}")
    return found


def test_what_the_scripts_rely_on_in_gradios_page_is_there(page: Page) -> None:
    names = page.evaluate("async () => Object.keys(await import('/page/common/gradio.js'))")
    assert sorted(names) == sorted(FOUND)
    page.get_by_role("tab", name="Image to image").click()
    panel(page, "image_to_image").get_by_label("Prompt", exact=True).wait_for()
    page.get_by_role("tab", name="Text to image").click()
    panel(page, "text_to_image").get_by_label("Prompt", exact=True).wait_for()
    missing = [name for name, condition in FOUND.items() if not holds(page, condition)]
    assert not missing, ", ".join(missing)


def test_an_accordion_that_was_opened_is_not_closed(page: Page) -> None:
    line = page.locator("#text_to_image-addons > .label-wrap")
    line.click()
    expect(panel(page, "text_to_image").get_by_role("region", name="LoRAs", exact=True)).to_be_visible()
    assert holds(page, "document.querySelector(`#text_to_image-addons > ${g.CLOSED_ACCORDION_LINE}`) === null")
