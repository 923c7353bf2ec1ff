"""Take the pictures of the page for the README and the documents: `python -m docs.screenshots`.

Starts the studio with an output folder of its own, draws a few pictures for the strip, then four at once, and goes
through the tabs as a person would. Needs the test environment (`python launch.py test` makes it) and a Chromium.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Locator, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "assets" / "screenshots"
FIRST = (
    "a red apple, 3d render, on a white background",
    "a tree, flat illustration, on a beige background",
    "a cat, 3d render, on a blue background",
    "flat illustration of a fox on a teal background",
    "a cactus, cartoon, in the desert",
    "a house, 3d render, on a meadow",
)
SHOWN = "a ghost, flat illustration, on a purple background"
FORKED = ("a red apple, 3d render, on a white background", "a strawberry, 3d render, on a white background")
PAINTED = "a sunflower"
COMPARED = "a cat, 3d render, on a blue background"
MIDDLE = 9


def panel(page: Page, place: str) -> Locator:
    """What stands in a tab."""
    return page.locator(f"#{place}-panel")


def keep(page: Page, name: str) -> None:
    """Write what the page looks like now. As WebP it is a sixth of a PNG, for everyone who clones."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.save(FOLDER / f"{name}.webp", quality=88, method=6)


def fill(tab: Locator, **values: object) -> None:
    """Fill in fields by their labels."""
    for name, value in values.items():
        tab.get_by_label(name.replace("_", " "), exact=True).first.fill(str(value))


def finished(page: Page, place: str, pictures: int) -> None:
    """Wait until so many pictures on the stage of a tab are done."""
    done = f"document.querySelectorAll('#{place}-panel .tile[data-state=finished][data-kept]').length == {pictures}"
    page.wait_for_function(done)
    page.wait_for_timeout(500)  # pictures fade in


def generate(tab: Locator) -> None:
    tab.page.wait_for_timeout(300)
    tab.get_by_role("button", name="Generate").click()


def text_to_image(page: Page) -> None:
    """Some pictures for the strip, then four that are stopped in the middle and go on."""
    tab = panel(page, "text_to_image")
    for number, prompt in enumerate(FIRST):
        fill(tab, Prompt=prompt, Seed=number + 1)
        generate(tab)
        finished(page, "text_to_image", 1)
    fill(tab, Prompt=SHOWN, Pictures=4, Seed=7)
    generate(tab)
    page.wait_for_function(f"Number(document.querySelector('.tile')?.dataset.done) >= {MIDDLE}")
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelectorAll('.tile[data-state=paused]').length == 4")
    keep(page, "stopped")
    tab.get_by_role("button", name="Continue").last.click()
    finished(page, "text_to_image", 4)
    keep(page, "at-work")


def fork(page: Page) -> None:
    """One picture, and its fork with other words."""
    tab = panel(page, "text_to_image")
    fill(tab, Prompt=FORKED[0], Pictures=1, Seed=7)
    generate(tab)
    finished(page, "text_to_image", 1)
    tab.get_by_label("Step", exact=True).fill("8")
    fill(tab, Prompt=FORKED[1])
    page.wait_for_timeout(300)
    tab.get_by_role("button", name="Fork from here").click()
    finished(page, "text_to_image", 2)
    keep(page, "fork")


def image_to_image(page: Page, folder: Path) -> None:
    """A sketch, and what becomes of it."""
    sketch = Image.new("RGB", (256, 256), "#9fc4e8")
    draw = ImageDraw.Draw(sketch)
    draw.rectangle((0, 190, 256, 256), fill="#6ea34f")
    draw.rectangle((75, 110, 180, 205), fill="#e6d3ae")
    draw.polygon(((60, 115), (128, 55), (196, 115)), fill="#b5482f")
    sketch.save(folder / "sketch.png")
    page.get_by_role("tab", name="Image to image").click()
    tab = panel(page, "image_to_image")
    tab.locator(".stage[data-ready]").wait_for()
    tab.get_by_label("Picture file").set_input_files(folder / "sketch.png")
    tab.locator(".easel[data-source]").wait_for()
    fill(tab, Prompt="a house, 3d render, on a meadow", Strength=0.7, Seed=3)
    generate(tab)
    finished(page, "image_to_image", 1)
    keep(page, "image-to-image")


def inpainting(page: Page, folder: Path) -> None:
    """A stroke of the brush, and what is painted there."""
    page.get_by_role("tab", name="Inpainting").click()
    tab = panel(page, "inpainting")
    tab.locator(".stage[data-ready]").wait_for()
    tab.get_by_label("Picture file").set_input_files(folder / "sketch.png")
    tab.locator(".easel[data-source]").wait_for()
    box = tab.locator("canvas.easel-strokes").bounding_box()
    assert box
    tab.get_by_label("Size", exact=True).evaluate(
        "(slider) => { slider.value = 88; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    page.mouse.move(box["x"] + 0.72 * box["width"], box["y"] + 0.27 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.27 * box["height"], steps=6)
    page.mouse.up()
    fill(tab, Prompt=PAINTED, Seed=5)
    generate(tab)
    finished(page, "inpainting", 1)
    keep(page, "inpainting")


def compare(page: Page) -> None:
    """A grid in the middle of its way."""
    page.get_by_role("tab", name="Compare").click()
    tab = panel(page, "compare")
    tab.locator(".grid-place-section[data-ready]").wait_for()
    fill(tab, Prompt=COMPARED, Steps=40)
    tab.get_by_text("9 pictures, 360 steps in all").wait_for()
    generate(tab)
    page.wait_for_function(
        "[...document.querySelectorAll('#compare-panel .cell')].filter((cell) => cell.dataset.done >= 16).length >= 9"
    )
    keep(page, "compare")


def take(address: str, chromium: str, folder: Path) -> None:
    """Drive the page and write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 860})
        page.add_init_script("localStorage.setItem('emerge-more', 'open')")  # all settings stand open
        page.goto(address)
        page.locator("html[data-restored~=text_to_image]").wait_for(state="attached")
        text_to_image(page)
        fork(page)
        image_to_image(page, folder)
        inpainting(page, folder)
        compare(page)
        browser.close()


def main(chromium: str) -> None:
    """Start the studio, take the pictures, stop it."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, str(ROOT / "launch.py"), "--no-browser", "--output-folder", output]
        studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert studio.stdout
            line = next(line for line in studio.stdout if " at http" in line)
            take(line.split(" at ")[1].strip(), chromium, Path(output))
        finally:
            studio.terminate()
            studio.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="path of the browser")
    main(parser.parse_args().chromium)
