from playwright.sync_api import Page, expect
from tests.browser.conftest import Studio, panel, visit
from tests.browser.test_inpainting import fill, generate
from tests.browser.test_timeline import scrub


def test_shots(page: Page, studio: Studio) -> None:
    tab = panel(page, "text_to_image")
    fill(tab, Prompt="a mushroom on a meadow", Steps=20, Seed=5)
    generate(tab)
    page.wait_for_timeout(500)
    page.screenshot(path="/tmp/steer_1.png")
    for n, (s, noise) in enumerate(((6, 0.5), (6, 0.9), (3, 0.6)), 2):
        tab.get_by_label("Step", exact=True).first.fill(str(s))
        tab.get_by_label("Fresh noise").first.fill(str(noise))
        tab.get_by_role("button", name="Fork from here").first.click()
        expect(tab.locator(".tile[data-state=finished]")).to_have_count(n)
        page.wait_for_timeout(600)
        page.screenshot(path=f"/tmp/steer_{n}.png")
    tab.locator(".frame").nth(0).click()
    page.wait_for_timeout(800)
    page.screenshot(path="/tmp/steer_5.png")
    page.get_by_role("button", name="Fork at step 3").click()
    page.wait_for_timeout(800)
    page.screenshot(path="/tmp/steer_6.png")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_timeout(500)
    page.screenshot(path="/tmp/steer_7.png")
    fill(tab, Steps=400)
    page.set_viewport_size({"width": 1600, "height": 900})
    tab.get_by_role("button", name="Generate").click()
    page.wait_for_timeout(1500)
    page.screenshot(path="/tmp/steer_8.png")
    page.keyboard.press("Escape")
    page.wait_for_timeout(1500)
    page.screenshot(path="/tmp/steer_9.png")
