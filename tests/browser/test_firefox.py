"""The main paths in Firefox, on the launched program. Skipped where there is none (Debian: firefox-esr)."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.bidi import Firefox
from tests.browser.conftest import Studio
from tests.browser.test_inpainting import picture

__all__ = ["picture"]

ESCAPE = "\ue00c"

LONG = 500
"""Steps of a picture that must still be in the making while a test does something."""


@pytest.fixture(scope="module")
def firefox() -> Iterator[Firefox]:
    names = ("firefox-esr", "firefox")
    path = os.environ.get("EMERGE_TEST_FIREFOX") or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip("There is no Firefox on this machine. Install one, or name it in EMERGE_TEST_FIREFOX.")
    browser = Firefox(path)
    yield browser
    browser.close()


@pytest.fixture
def page(firefox: Firefox, studio: Studio) -> Firefox:
    firefox.open(studio.address)
    firefox.wait_for("document.querySelector('#text_to_image-panel .stage[data-ready]')")
    for place in ("text_to_image", "image_to_image", "inpainting"):
        firefox.wait_for(f"document.documentElement.matches('[data-restored~={place}]')")
    return firefox


def open_tab(page: Firefox, place: str, ready: str) -> None:
    page.run(f"document.querySelector('[data-tab-id={place}]').click()")
    page.wait_for(f"document.querySelector('#{place}-panel {ready}')")


def fill(page: Firefox, place: str, **values: object) -> None:
    """Type into fields of a tab's form, by their labels."""
    for label, value in values.items():
        page.run(
            f"""(() => {{
                const labels = [...document.querySelectorAll('#{place}-panel .fields label')];
                const wanted = {json.dumps(label)};
                const named = labels.find((each) => each.querySelector('span')?.textContent.trim() === wanted);
                const field = named.querySelector('input, textarea');
                field.focus();
                field.value = {json.dumps(str(value))};
                field.dispatchEvent(new Event('input', {{ bubbles: true }}));
                field.blur();
            }})()"""
        )


def count(page: Firefox, place: str, selector: str, number: int) -> None:
    page.wait_for(f"document.querySelectorAll('#{place}-panel {selector}').length === {number}")


def start(page: Firefox, place: str) -> None:
    page.run(f"document.getElementById('{place}-start').click()")


def test_a_picture_is_drawn(page: Firefox, studio: Studio) -> None:
    before = len(studio.files())
    fill(page, "text_to_image", Prompt="a red apple", Steps=4)
    start(page, "text_to_image")
    count(page, "text_to_image", ".tile[data-state=finished][data-kept]", 1)
    assert len(studio.files()) == before + 1


def test_a_picture_is_stopped_and_goes_on(page: Firefox) -> None:
    place = "text_to_image"
    fill(page, place, Prompt="a red apple", Steps=LONG)
    start(page, place)
    count(page, place, ".tile[data-state=step][data-drawn]", 1)
    page.key(ESCAPE)
    count(page, place, ".tile[data-state=paused]", 1)
    tile = f"document.querySelector('#{place}-panel .tile')"
    done = page.run(f"Number({tile}.dataset.done)")
    page.run(f"document.querySelector('#{place}-panel .bar-steer .strong').click()")
    page.wait_for(f"{tile}.dataset.state === 'step' && Number({tile}.dataset.done) > {done}")
    page.key(ESCAPE)
    count(page, place, ".tile[data-state=paused]", 1)


def test_a_mask_is_painted_and_filled(page: Firefox, picture: Path) -> None:
    place = "inpainting"
    open_tab(page, place, ".stage[data-ready]")
    page.files(f"#{place}-panel input[aria-label='Picture file']", picture)
    page.wait_for(f"document.querySelector('#{place}-panel .easel[data-source]')")
    box = page.run(
        "JSON.stringify((({ x, y, width, height }) => [x, y, width, height])"
        f"(document.querySelector('#{place}-panel .easel-strokes').getBoundingClientRect()))"
    )
    x, y, width, height = json.loads(box)
    page.pointer(*((x + across * width, y + 0.4 * height) for across in (0.4, 0.5, 0.6)))
    page.wait_for(f"document.querySelector('#{place}-panel .easel').dataset.strokes === '1'")
    fill(page, place, Prompt="a ghost", Steps=4)
    start(page, place)
    count(page, place, ".tile[data-state=finished][data-kept]", 1)


def test_a_grid_is_made(page: Firefox) -> None:
    open_tab(page, "compare", ".grid-place-section[data-ready]")
    fill(page, "compare", Prompt="a red apple", Steps=3)
    start(page, "compare")
    count(page, "compare", ".cell[data-state=finished]", 9)


def test_models_are_listed(page: Firefox) -> None:
    open_tab(page, "models", ".models-card")
    page.run("[...document.querySelectorAll('.models-card')].find((each) => each.title.includes('ketchbook')).click()")
    page.wait_for("document.querySelector('dialog[open] .models-title')?.textContent.toLowerCase() === 'sketchbook'")
