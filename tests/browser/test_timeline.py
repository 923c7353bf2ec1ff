"""Going back into a picture and changing it on the way, in a real browser, on the launched program."""

import io

import numpy as np
from PIL import Image
from playwright.sync_api import Page, Route, expect

from studio.library import metadata
from studio.recipe.recipe import Recipe, Turn
from tests.browser.conftest import Studio, panel, visit
from tests.browser.test_inpainting import fill, generate

LONG = 500
"""Steps of a picture that must still be in the making while a test does something."""


def newest(studio: Studio) -> Recipe:
    found = metadata.read(studio.files()[-1])
    assert found
    return found[0]


def seen(page: Page) -> np.ndarray:
    """What the first tile looks like."""
    shot = panel(page, "text_to_image").locator(".frame").first.screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB").resize((32, 32))).astype(int)


def scrub(page: Page, step: int, total: int) -> None:
    tab = panel(page, "text_to_image")
    tab.get_by_label("Step", exact=True).first.fill(str(step))
    expect(tab.locator(".timeline-step").first).to_have_text(f"{step} / {total}")
    if step < total:
        expect(tab.locator(".tile").first).not_to_have_attribute("data-kept", "true")
    else:
        expect(tab.locator(".tile").first).to_have_attribute("data-kept", "true")
    page.wait_for_timeout(400)  # pictures fade in


def test_the_steps_of_a_picture_can_be_gone_through(page: Page) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=9, Seed=3)
    generate(tab)
    expect(tab.locator(".tile[data-kept]")).to_have_count(1)
    page.wait_for_timeout(400)
    end = seen(page)
    scrub(page, 1, 9)
    early = seen(page)
    scrub(page, 7, 9)
    late = seen(page)
    assert np.abs(early - end).mean() > np.abs(late - end).mean() > 0.5
    scrub(page, 9, 9)
    # All but the strip at the top, over whose corner the page lays something while the tile is used.
    assert np.abs(seen(page) - end)[4:].mean() < 0.5
    for kind in ("WebP", "GIF"):
        with page.expect_download() as download:
            tab.get_by_role("link", name=f"Animation as {kind}").click()
        assert download.value.suggested_filename == f"emerging-3.{kind.lower()}"
        with Image.open(download.value.path()) as film:
            assert film.format == kind.upper() and film.n_frames >= 8  # type: ignore[attr-defined]


def test_a_step_that_is_no_longer_remembered_shows_the_nearest_before_and_says_so(page: Page) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=9, Seed=3)
    generate(tab)

    def thinned_out(route: Route) -> None:
        answer = route.fetch(url=route.request.url.replace("/6.jpg", "/4.jpg"))
        route.fulfill(response=answer)

    page.route("**/steps/6.jpg", thinned_out)
    scrub(page, 6, 9)
    told = tab.locator(".timeline-sentence").first
    expect(told).to_have_text("Step 4 is shown, the nearest one before that is remembered.")
    scrub(page, 5, 9)
    expect(told).to_have_text("")
    page.unroute("**/steps/6.jpg")


def test_a_fork_at_a_third_of_the_way(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=9, Seed=3)
    generate(tab)
    scrub(page, 3, 9)
    fill(tab, Guidance_scale=1)
    page.wait_for_timeout(300)
    tab.get_by_role("button", name="Fork from here").first.click()
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(2)
    assert newest(studio) == Recipe.from_values(
        {**_values(newest(studio)), "seed": 3, "turns": [{"step": 3, "guidance_scale": 1}]}
    )
    expect(tab.locator(".facts")).to_contain_text("forked at step 3: guidance 6 → 1")
    expect(tab.locator(".seed-of")).to_have_text(["Seed 3", "Seed 3\u00a0· guidance 6 → 1"])
    # Its settings, used again, make the same picture.
    first = np.asarray(Image.open(studio.files()[-1]))
    tab.get_by_role("button", name="Use these settings").click()
    expect(tab.get_by_label("Changes on the way")).to_have_value("3: guidance 1")
    generate(tab)
    assert np.array_equal(np.asarray(Image.open(studio.files()[-1])), first)


def _values(recipe: Recipe) -> dict[str, object]:
    return {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}


def test_a_picture_is_changed_while_it_is_made(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a boat", Steps=LONG, Seed=3)
    tab.get_by_role("button", name="Generate").click()
    page.wait_for_function("Number(document.querySelector('.tile')?.dataset.done) >= 3")
    fill(tab, Prompt="a ship")
    page.wait_for_timeout(300)
    tab.get_by_role("button", name="Change from here on").click()
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    expect(tab.locator(".tile[data-state=paused]")).to_have_count(1)
    [turn] = newest(studio).turns
    assert turn == Turn(turn.step, prompt="a ship") and 3 <= turn.step < LONG
    tab.get_by_role("button", name="Discard", exact=True).click()


def test_another_sampler_and_fresh_noise_are_branches_that_can_be_made_again(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=9, Seed=3)
    generate(tab)
    parent = studio.files()[-1]
    made = []
    for number, (sampler, noise) in enumerate((("Euler", 0), ("Euler", 0.4)), start=2):
        scrub(page, 4, 9)
        tab.get_by_label("Sampler").click()
        page.get_by_role("option", name=sampler, exact=True).click()
        tab.get_by_label("Fresh noise").first.fill(str(noise))
        page.wait_for_timeout(300)
        tab.get_by_role("button", name="Fork from here").first.click()
        expect(tab.locator(".tile[data-state=finished]")).to_have_count(number)
        made.append(studio.files()[-1])
        tab.locator(".frame").first.click()  # the next one is made of the first, too
    [plain], [noisy] = ([*metadata.read(path)[0].turns] for path in made)  # type: ignore[index]
    assert plain == Turn(4, sampler="Euler")
    assert noisy.noise and noisy == Turn(4, sampler="Euler", noise=(0.4, noisy.noise[1]))
    for path in made:
        with Image.open(path) as image:
            assert image.info[metadata.PARENT] == f"4 {parent.stem}"
    tab.locator(".frame").nth(2).click()
    expect(tab.locator(".facts")).to_contain_text("forked at step 4: sampler DDIM → Euler, fresh noise 0.4")

    # From its settings alone, the last one is made again, without the picture that it was forked from.
    wanted = np.asarray(Image.open(made[-1]))
    tab.get_by_role("button", name="Use these settings").click()
    expect(tab.get_by_label("Changes on the way")).to_have_value(
        f"4: sampler Euler\n4: noise 0.4 seed {noisy.noise[1]}"
    )
    generate(tab)
    assert np.array_equal(np.asarray(Image.open(studio.files()[-1])), wanted)


def test_going_back_into_a_picture_of_the_library(page: Page, studio: Studio, faults: list[str]) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a red apple", Steps=9, Seed=3)
    generate(tab)
    parent = studio.files()[-1]
    page.context.clear_cookies()  # so it is another browser, which never saw that job
    visit(page, studio)
    expect(tab.locator(".tile")).to_have_count(0)
    fill(tab, Prompt="something else", Seed=9)
    tab.locator(".thumbnail").first.click()
    page.get_by_role("button", name="Go back into it").click()
    expect(tab.locator(".tile[data-kept]")).to_have_count(1)
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("a red apple")
    scrub(page, 2, 9)
    tab.get_by_role("button", name="Fork from here").click()
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(2)
    expect(tab.locator(".notice[role=alert]")).to_have_text("")  # its steps were on disk
    child = studio.files()[-1]
    assert np.array_equal(np.asarray(Image.open(child)), np.asarray(Image.open(parent)))

    # The two know each other.
    expect(tab.locator(".thumbnail")).not_to_have_count(0)
    tab.locator(".frame").nth(1).click()  # it is chosen already: the newest one is
    viewer = page.get_by_role("dialog")
    expect(viewer.locator(".viewer-kin")).to_contain_text("at step 2")
    viewer.get_by_role("button", name="The picture it came from").click()
    expect(viewer.locator(".viewer-picture img").first).to_have_attribute("src", f"pictures/{parent.stem}.png")
    viewer.get_by_role("button", name="Fork at step 2").click()
    expect(viewer.locator(".viewer-picture img").first).to_have_attribute("src", f"pictures/{child.stem}.png")
    page.keyboard.press("Escape")

    # Without the steps on disk it says so, and comes to the same.
    for file in (studio.output / "steps").iterdir():
        file.unlink()
    page.context.clear_cookies()
    visit(page, studio)
    tab.locator(".thumbnail").nth(1).click()
    page.get_by_role("button", name="Go back into it").click()
    expect(tab.locator(".tile[data-kept]")).to_have_count(1)
    tab.get_by_label("Step", exact=True).fill("2")
    expect(tab.locator(".timeline-sentence")).to_have_text("The steps of that picture are no longer remembered.")
    faults.clear()  # the browser has told that a step was not there
    tab.get_by_role("button", name="Fork from here").click()
    expect(tab.get_by_text("The steps before it are run again")).to_be_visible()
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(2)
    assert np.array_equal(np.asarray(Image.open(studio.files()[-1])), np.asarray(Image.open(parent)))
