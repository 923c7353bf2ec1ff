"""The line under the prompt, in a real browser."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Studio, panel, visit
from tests.browser.test_text_to_image import field, fill, start, wait_for


def line(page: Page, name: str = "prompt", place: str = "text_to_image") -> Locator:
    return page.locator(f"#{place}-{name}-tokens .notice")


def test_the_length_follows_what_is_typed(page: Page) -> None:
    prompt = field(page, "Prompt")
    below = field(page, "Model")
    place = below.bounding_box()
    prompt.press_sequentially("a (red:1.2) fox, on a table", delay=15)
    expect(line(page)).to_have_text(re.compile(r"^Room for about \d+ more words \(7 of 46 tokens\)$"))
    assert below.bounding_box() == place
    prompt.fill("zq" * 22 + " a fox table")  # unknown words are spelled out
    expect(line(page)).to_have_text("Read in 2 parts (47 tokens): the second begins at ‘table’")
    assert below.bounding_box() == place
    fill(page, Negative_prompt="blurry")
    expect(line(page, "negative")).to_have_text(re.compile(r"^Room for about .* \(\d of 46 tokens\)$"))
    prompt.fill("")
    expect(line(page)).to_have_text("")


def test_the_length_is_there_after_a_reload(page: Page, studio: Studio) -> None:
    fill(page, Prompt="a red fox")
    expect(line(page)).to_contain_text("(3 of 46 tokens)")
    page.wait_for_timeout(500)
    visit(page, studio)
    expect(field(page, "Prompt")).to_have_value("a red fox")
    expect(line(page)).to_contain_text("(3 of 46 tokens)")


@pytest.mark.parametrize(
    ("tab", "place"),
    [("Image to image", "image_to_image"), ("Inpainting", "inpainting"), ("Compare", "compare")],
)
def test_every_tab_counts(page: Page, tab: str, place: str) -> None:
    page.get_by_role("tab", name=tab).click()
    panel(page, place).get_by_label("Prompt", exact=True).fill("a red fox")
    expect(line(page, place=place)).to_contain_text("(3 of 46 tokens)")


def test_a_model_without_weights_says_so(page: Page) -> None:
    fill(page, Prompt="a (red:1.2) cat")
    model = page.locator("#text_to_image-panel").get_by_label("Model", exact=True)
    model.click()
    page.get_by_role("option", name="flux", exact=True).click()
    expect(line(page)).to_contain_text("(5 of 512 tokens) · FLUX.1 reads (red:1.2) as plain words")


def test_wildcards_are_chosen_by_the_seed_and_kept(page: Page, studio: Studio) -> None:
    folder = studio.output / "wildcards"
    folder.mkdir(exist_ok=True)
    (folder / "animal.txt").write_text("cat\nfox\nowl\n")
    fill(page, Prompt="a __animal__", Seed=3, Steps=1, Pictures=4)
    expect(line(page)).to_contain_text("(2 of 46 tokens) · other choices are longer or shorter")
    start(page)
    wait_for(page, "finished", 4)
    from studio.library import metadata

    found = {recipe[0].seed: recipe[0].prompt for path in studio.files()[-4:] if (recipe := metadata.read(path))}
    assert len(found) == 4 and all(re.fullmatch("a (cat|fox|owl)", prompt) for prompt in found.values())
    fill(page, Prompt="a __unicorn__")
    expect(line(page)).to_contain_text("There is no wildcard 'unicorn'")
