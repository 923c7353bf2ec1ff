"""Text to image as a person uses it, in a real browser, on the launched program."""

import re
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import APIResponse, Browser, BrowserContext, Locator, Page, Route, expect

from studio.recipe.recipe import Recipe
from tests.browser.conftest import Studio, panel, visit

NASTY = "${alert(1)} {{value}} <img src=x onerror=alert(2)> <script>alert(3)</script>"

LONG = 500
"""Steps of a picture that must still be in the making while a test does something."""
LARGE = 512
"""Pixels of a side at which so many steps outlast the opening of several pages, on a busy machine too."""

RECORD = """
async () => {
  const small = document.createElement("canvas");
  small.width = small.height = 32;
  const context = small.getContext("2d", { willReadFrequently: true });
  const pixels = (source) => {
    context.drawImage(source, 0, 0, 32, 32);
    return Array.from(context.getImageData(0, 0, 32, 32).data);
  };
  const seen = [];
  const distance = (a, b) => a.reduce((sum, value, index) => sum + Math.abs(value - b[index]), 0) / a.length;
  const look = () => {
    const canvas = document.querySelector(".tile canvas");
    if (canvas && document.querySelector(".tile").dataset.drawn) {
      const now = pixels(canvas);
      if (!seen.length || distance(seen.at(-1), now) > 0.2) seen.push(now);
    }
    if (!document.querySelector(".tile[data-state=finished][data-kept]")) return requestAnimationFrame(look);
    const end = pixels(document.querySelector(".tile img"));
    window.distances = seen.map((each) => distance(each, end));
  };
  look();
}
"""


def here(page: Page) -> Locator:
    """What stands in the tab."""
    return panel(page, "text_to_image")


def field(page: Page, label: str) -> Locator:
    return page.get_by_label(label, exact=True).first


def fill(page: Page, **values: Any) -> None:
    for label, value in values.items():
        field(page, label.replace("_", " ")).fill(str(value))


def start(page: Page) -> None:
    page.get_by_role("button", name="Generate").click()


def tiles(page: Page, state: str) -> Locator:
    return here(page).locator(f".tile[data-state={state}]")


def wait_for(page: Page, state: str, count: int = 1) -> None:
    expect(tiles(page, state)).to_have_count(count)


def step_of(page: Page) -> int:
    return int(here(page).locator(".tile").first.get_attribute("data-done") or 0)


def wait_for_step(page: Page, step: int) -> None:
    page.wait_for_function("step => Number(document.querySelector('.tile')?.dataset.done) >= step", arg=step)


def sentence(page: Page) -> Locator:
    return here(page).get_by_role("alert")


def test_a_picture_comes_out_of_noise(page: Page) -> None:
    fill(page, Prompt="a red apple", Steps=48, Seed=5)  # on a busy machine a window is told of every few
    page.evaluate(RECORD)
    start(page)
    wait_for(page, "finished")
    page.wait_for_function("window.distances")
    distances = page.evaluate("window.distances")
    assert len(distances) >= 6, distances
    assert all(each < distances[0] for each in distances[1:]), distances


def test_progress_is_told(page: Page) -> None:
    fill(page, Prompt="a boat", Steps=LONG)
    start(page)
    wait_for_step(page, 5)
    words = here(page).locator(".stage-words")
    expect(words).to_have_text(re.compile(rf"^Step \d+ of {LONG} · [\d.]+ s per step · .+ left$"))
    expect(page.get_by_role("status").filter(has_text="Started")).to_be_attached()
    page.keyboard.press("Escape")
    wait_for(page, "paused")


def test_stop_keeps_the_partial_picture_and_it_can_be_continued(page: Page, studio: Studio) -> None:
    before = len(studio.files())
    fill(page, Prompt="a cat", Steps=LONG)
    field(page, "Prompt").press("Control+Enter")
    wait_for_step(page, 4)
    page.keyboard.press("Escape")
    wait_for(page, "paused")
    done = step_of(page)
    assert 4 <= done < LONG
    expect(here(page).locator(".stage-words")).to_have_text(f"Stopped at step {done} of {LONG}")
    expect(here(page).locator(".tile[data-kept]")).to_have_count(1)
    assert len(studio.files()) == before + 1
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_disabled()

    page.get_by_role("button", name="Continue").click()
    wait_for_step(page, done + 2)
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_for(page, "paused")
    assert done + 2 <= step_of(page) < LONG
    page.get_by_role("button", name="Discard", exact=True).click()
    expect(here(page).locator(".tile")).to_have_count(0)
    expect(here(page).locator(".hint")).to_be_visible()


def test_a_stopped_picture_can_be_continued_from_the_recent_ones(page: Page) -> None:
    fill(page, Prompt="a tower", Steps=LONG)
    start(page)
    wait_for_step(page, 1)
    page.keyboard.press("Escape")
    wait_for(page, "paused")
    stopped = step_of(page)
    fill(page, Prompt="something else", Steps=2)
    start(page)
    wait_for(page, "finished")
    expect(here(page).locator(".tile")).to_have_count(1)
    here(page).locator(".thumbnail.unfinished").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    wait_for(page, "step")
    wait_for_step(page, stopped + 1)
    page.keyboard.press("Escape")
    wait_for(page, "paused")


def refuse_to_continue(page: Page) -> str:
    """Have the server refuse to continue any picture, as one that it gave up meanwhile; the answer is what it says."""
    sentence = "That picture is not in the making any more. Start it again from its settings."
    page.route(re.compile("/resume"), lambda route: route.fulfill(status=422, json={"error": sentence}))
    return sentence


def test_a_picture_that_cannot_be_continued_says_why(page: Page, faults: list[str]) -> None:
    fill(page, Prompt="a tower", Steps=LONG, Pictures=2)
    start(page)
    wait_for_step(page, 1)
    page.keyboard.press("Escape")
    expect(here(page).locator(".tile[data-state=paused]")).to_have_count(2)
    sentence = refuse_to_continue(page)
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(here(page).locator(".stage-words")).to_have_text(sentence)
    expect(here(page).locator(".stage-words")).not_to_have_text(sentence)  # it stands for some seconds
    here(page).locator(".tile").first.get_by_role("button", name=re.compile("Continue seed")).click()
    expect(here(page).locator(".stage-words")).to_have_text(sentence)
    expect(page.get_by_role("status").filter(has_text=sentence)).to_be_attached()
    here(page).locator(".thumbnail").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    expect(page.get_by_role("dialog").get_by_role("alert").filter(has_text=sentence)).to_be_visible()
    page.keyboard.press("Escape")
    page.unroute(re.compile("/resume"))
    page.get_by_role("button", name="Discard", exact=True).click()
    expect(here(page).locator(".tile")).to_have_count(0)
    faults[:] = [fault for fault in faults if "422" not in fault]  # Chromium's own line for each refused request


def test_escape_closes_an_open_list_and_stops_nothing(page: Page) -> None:
    fill(page, Prompt="a tower", Steps=LONG)
    start(page)
    wait_for_step(page, 1)
    field(page, "Sampler").click()
    expect(page.get_by_role("option", name="DDIM")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("option", name="DDIM")).to_have_count(0)
    wait_for_step(page, step_of(page) + 2)
    page.keyboard.press("Escape")
    wait_for(page, "paused")


def test_a_continued_picture_is_finished(page: Page) -> None:
    fill(page, Prompt="a dog", Steps=24)
    start(page)
    wait_for_step(page, 2)
    page.keyboard.press("Escape")
    wait_for(page, "paused")
    page.get_by_role("button", name="Continue").click()
    wait_for(page, "finished")


def test_settings_are_there_after_a_reload(page: Page, studio: Studio) -> None:
    given = {
        "Prompt": NASTY,
        "Negative prompt": "rain",
        "Width": "64",
        "Height": "96",
        "Steps": "7",
        "Guidance scale": "3.5",
        "Pictures": "2",
        "Seed": "123",
    }
    for label, value in given.items():
        field(page, label).fill(value)
    choose(page, "Sampler", "Euler a")
    choose(page, "Preview", "Noisy")
    page.wait_for_timeout(500)
    visit(page, studio)
    for label, value in (given | {"Sampler": "Euler a", "Preview": "Noisy"}).items():
        expect(field(page, label)).to_have_value(value)


def choose(page: Page, label: str, option: str) -> None:
    field(page, label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_a_reload_picks_up_a_running_job_and_a_second_window_sees_it(
    page: Page, context: BrowserContext, studio: Studio
) -> None:
    fill(page, Prompt="a ship", Steps=LONG, Width=LARGE, Height=LARGE)
    start(page)
    wait_for_step(page, 3)
    visit(page, studio)
    wait_for(page, "step")
    assert step_of(page) >= 3
    other = context.new_page()
    visit(other, studio)
    expect(here(other).locator(".elsewhere")).to_contain_text("1 picture being made in another window")
    wait_for_step(page, step_of(page) + 2)
    page.bring_to_front()
    page.keyboard.press("Escape")
    wait_for(page, "paused")
    expect(here(other).locator(".elsewhere")).to_contain_text("1 picture stopped in another window")
    other.close()
    expect(here(page).locator(".tile[data-kept]")).to_have_count(1)


def test_another_browser_does_not_see_it(page: Page, studio: Studio, browser: Any) -> None:
    fill(page, Prompt="a secret", Steps=LONG, Width=LARGE, Height=LARGE)
    start(page)
    wait_for_step(page, 1)
    stranger = browser.new_context()
    window = stranger.new_page()
    visit(window, studio)
    expect(here(window).locator(".hint")).to_be_visible()
    expect(here(window).locator(".tile")).to_have_count(0)
    stranger.close()
    page.keyboard.press("Escape")
    wait_for(page, "paused")


def test_the_file_on_disk_holds_its_text(page: Page, studio: Studio) -> None:
    fill(page, Prompt="a green apple", Negative_prompt="a worm", Steps=6, Seed=77, Guidance_scale=4)
    start(page)
    wait_for(page, "finished")
    with Image.open(studio.files()[-1]) as picture:
        lines = picture.text["parameters"].splitlines()  # type: ignore[attr-defined]
        private = [text for text in picture.text.values() if '"seed": 77' in text]  # type: ignore[attr-defined]
    assert lines[0] == "a green apple" and lines[1] == "Negative prompt: a worm"
    assert lines[2].startswith("Steps: 6, ") and "Seed: 77" in lines[2]
    recipe = Recipe.from_json(private[0])
    assert (recipe.prompt, recipe.steps, recipe.guidance_scale) == ("a green apple", 6, 4.0)


def test_what_is_typed_is_shown_as_text_everywhere(page: Page, studio: Studio) -> None:
    fill(page, Prompt=NASTY, Negative_prompt=NASTY, Steps=3)
    start(page)
    wait_for(page, "finished")
    expect(here(page).locator(".tile[data-kept] img")).to_have_attribute("alt", NASTY)
    here(page).locator(".thumbnail").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".viewer-prompt")).to_have_text(NASTY)
    expect(dialog.locator(".viewer-negative")).to_have_text(f"Not: {NASTY}")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    field(page, "Seed").fill(NASTY[:40])
    start(page)
    expect(sentence(page)).to_contain_text("<img src=x"[:4])
    visit(page, studio)
    expect(field(page, "Prompt")).to_have_value(NASTY)
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("Width", "100", "The width of 100 pixels is not possible. Use a multiple of 8 from 64 to 4096."),
        ("Steps", "0", "0 steps cannot be run. Use 1 to 500."),
        ("Guidance scale", "", "Guidance scale is empty. Fill in a number."),
        ("Seed", "NaN", "The seed must be a whole number, not 'NaN'. Empty means a new one each time."),
        ("Prompt", "x" * 100_000, "The prompt has 100,000 characters, and the most is 10,000. Shorten it."),
    ],
)
def test_bad_input_is_told_on_the_page(page: Page, label: str, value: str, words: str) -> None:
    was = field(page, label).input_value()
    field(page, label).fill(value)
    start(page)
    expect(sentence(page)).to_have_text(words)
    expect(here(page).locator(".tile")).to_have_count(0)
    field(page, label).fill(was)
    fill(page, Steps=2)
    start(page)
    wait_for(page, "finished")
    expect(sentence(page)).to_have_count(0)


def test_several_pictures_side_by_side(page: Page) -> None:
    fill(page, Prompt="a red apple", Steps=LONG, Pictures=4, Seed=10)
    start(page)
    expect(here(page).locator(".tile[data-drawn]")).to_have_count(4)
    boxes = [tile.bounding_box() for tile in here(page).locator(".tile").all()]
    assert all(box and box["y"] + box["height"] <= 900 for box in boxes), boxes
    assert here(page).locator(".seed-of").all_text_contents() == [f"Seed {seed}" for seed in (10, 11, 12, 13)]
    page.get_by_role("button", name="Discard seed 12", exact=True).click()
    expect(here(page).locator(".tile")).to_have_count(3)
    page.get_by_role("button", name="Stop seed 11").click()
    wait_for(page, "paused")
    wait_for(page, "step", 2)
    page.keyboard.press("Escape")
    wait_for(page, "paused", 3)


def test_nothing_can_be_loaded_from_elsewhere(page: Page, faults: list[str]) -> None:
    """The page's own policy forbids it, and the guard of these tests sees every attempt."""
    page.evaluate("fetch('http://example.org/').catch(() => {})")
    page.evaluate("new Image().src = 'http://example.org/x.png'")
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {src: 'http://example.org/x.js'}))"
    )
    page.wait_for_timeout(300)
    assert len([each for each in faults if "Content Security Policy" in each]) >= 3, faults
    faults.clear()


def test_use_these_settings_and_seeds(page: Page) -> None:
    fill(page, Prompt="a blue boat", Negative_prompt="waves", Steps=3, Guidance_scale=2.5, Width=64, Height=96)
    choose(page, "Sampler", "Euler")
    start(page)
    wait_for(page, "finished")
    seed = here(page).locator(".seed-of").inner_text().removeprefix("Seed ")
    expect(field(page, "Seed")).to_have_value("")
    page.get_by_role("button", name="Reuse last").click()
    expect(field(page, "Seed")).to_have_value(seed)
    page.get_by_role("button", name="Random").click()
    expect(field(page, "Seed")).to_have_value("")
    here(page).locator(".stage").get_by_role("button", name="Reuse seed").click()
    expect(field(page, "Seed")).to_have_value(seed)

    fill(page, Prompt="other", Negative_prompt="", Steps=9, Guidance_scale=1, Width=64, Height=64, Seed=1)
    choose(page, "Sampler", "DDIM")
    here(page).locator(".stage").get_by_role("button", name="Use these settings").click()
    expect(field(page, "Prompt")).to_have_value("a blue boat")
    expected = {"Negative prompt": "waves", "Steps": "3", "Guidance scale": "2.5", "Width": "64", "Height": "96"}
    for label, value in (expected | {"Sampler": "Euler", "Seed": seed}).items():
        expect(field(page, label)).to_have_value(value)


def test_recent_pictures_appear_by_themselves_and_open_large(page: Page) -> None:
    fill(page, Prompt="a harbour", Steps=2)
    start(page)
    wait_for(page, "finished")
    expect(here(page).locator(".thumbnail img").first).to_have_attribute("alt", "a harbour")
    before = here(page).locator(".thumbnail").count()
    fill(page, Prompt="a lighthouse", Steps=2, Seed=9)
    start(page)
    wait_for(page, "finished")
    expect(here(page).locator(".thumbnail")).to_have_count(before + 1)
    here(page).locator(".thumbnail").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".viewer-prompt")).to_have_text("a lighthouse")
    expect(dialog.locator(".viewer-facts")).to_contain_text("Seed 9")
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "a-lighthouse-9.png"
    with Image.open(download.value.path()) as picture:
        assert "a lighthouse" in picture.text["parameters"]  # type: ignore[attr-defined]


def test_another_model_brings_its_own_settings(page: Page) -> None:
    expect(field(page, "Guidance end")).to_have_value("0.8")
    choose(page, "Model", "flux")
    expect(field(page, "Width")).not_to_have_value("256")
    expect(here(page).get_by_label("Guidance end")).to_have_count(0)
    expect(here(page).get_by_label("Negative prompt")).to_have_count(0)
    fill(page, Prompt="a cat", Steps=2)
    start(page)
    wait_for(page, "finished")
    expect(here(page).locator(".facts")).to_contain_text("flux")


def test_a_model_that_cannot_be_used_is_told(page: Page) -> None:
    expect(here(page).get_by_role("note")).to_contain_text("old.ckpt is a pickle")
    field(page, "Model").click()
    expect(page.get_by_role("option", name="old.ckpt")).to_have_count(0)


def test_an_example_fills_in_the_prompt(page: Page) -> None:
    example = here(page).locator(".examples button").first
    example.click()
    expect(field(page, "Prompt")).to_have_value(example.inner_text())


def test_everything_can_be_reached_with_the_keyboard(page: Page) -> None:
    field(page, "Prompt").focus()
    page.keyboard.type("a tree")
    fill(page, Steps=2)
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel"))
        if reached[-1] == "Generate":
            break
    assert reached[-1] == "Generate", reached
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    wait_for(page, "finished")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_small_screen(page: Page, studio: Studio, scheme: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    visit(page, studio)
    fill(page, Prompt="a red apple, " + "w" * 200, Steps=2, Pictures=2)
    expect(page.get_by_role("button", name="Generate")).to_be_in_viewport(ratio=1)
    start(page)
    wait_for(page, "finished", 2)
    expect(here(page).locator(".tile").first).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    here(page).locator(".thumbnail").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Escape")


def test_nothing_jumps_while_a_picture_is_made(page: Page) -> None:
    fill(page, Prompt="a house", Steps=1)
    start(page)  # so that there is a strip of recent pictures
    expect(here(page).locator(".tile[data-kept]")).to_have_count(1)
    fill(page, Steps=8, Seed=4_000_000_000)  # so long a seed that the words below take two lines
    start(page)
    expect(here(page).locator(".tile:not([data-kept])")).to_have_count(1)
    first = here(page).locator(".frame").bounding_box()
    strip = here(page).locator(".strip").bounding_box()
    wait_for(page, "finished")
    expect(here(page).locator(".tile[data-kept]")).to_have_count(1)
    assert here(page).locator(".frame").bounding_box() == first
    after = here(page).locator(".strip").bounding_box()
    assert strip and after and after["y"] == strip["y"]


def test_a_late_answer_does_not_take_a_rating_back(page: Page) -> None:
    late: list[tuple[Route, APIResponse]] = []
    listed = re.compile(r"/pictures/[^/.]+$")
    page.route(listed, lambda route: late.append((route, route.fetch())))
    fill(page, Prompt="rated at once", Steps=2)
    with page.expect_request(listed):
        start(page)
    while not late:
        page.wait_for_timeout(20)
    tile = here(page).locator(".tile[data-kept]")
    tile.wait_for()
    tile.locator(".frame").focus()
    with page.expect_response(re.compile("/rating\\?stars=4")):
        page.keyboard.press("4")
    with page.expect_response(listed) as answered:
        for route, answer in late:
            route.fulfill(response=answer)
    assert answered.value.json()["rating"] == 0
    expect(here(page).locator(".thumbnail").first.locator(".star-mark")).to_have_text("4")
    expect(here(page).locator(".stage-bar .star[data-on]")).to_have_count(4)
    page.unroute_all()


def test_a_rating_appears_in_other_windows(page: Page, browser: Browser, studio: Studio) -> None:
    fill(page, Prompt="rated elsewhere", Steps=2)
    start(page)
    tile = here(page).locator(".tile[data-kept]")
    tile.wait_for()
    stranger = browser.new_context()
    try:
        other = stranger.new_page()
        visit(other, studio)
        mark = panel(other, "text_to_image").locator(".thumbnail").first.locator(".star-mark")
        expect(mark).to_have_text("")
        tile.locator(".frame").focus()
        page.keyboard.press("4")
        expect(mark).to_have_text("4")
        page.keyboard.press("0")
        expect(mark).to_have_text("")
    finally:
        stranger.close()


def test_a_page_of_an_older_studio_is_told_so(page: Page, faults: list[str]) -> None:
    page.route("**/run/predict", lambda route: route.continue_(post_data={"data": [], "fn_index": 10_000}))
    start(page)
    told = page.locator(".saying")
    expect(told).to_have_text(re.compile("Reload the page"))
    page.unroute_all()
    told.get_by_role("button", name="Close").click()
    expect(told).to_have_count(0)
    faults[:] = [fault for fault in faults if "status of 422" not in fault]
