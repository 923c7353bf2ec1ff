"""Take the README's picture of the studio at work: `python -m docs.screenshots`.

Starts the studio with an output folder of its own, draws a few pictures for the strip, then four at once, and
takes the page in the middle of the run. Needs the test environment (`python launch.py test` makes it) and a Chromium.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

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
MIDDLE = 9


def draw(page: Page, prompt: str, pictures: int, seed: int, steps: int) -> None:
    """Fill in the form and start."""
    for label, value in (("Prompt", prompt), ("Pictures", pictures), ("Seed", seed), ("Steps", steps)):
        page.get_by_label(label, exact=True).first.fill(str(value))
    page.get_by_role("button", name="Generate").click()


def finished(page: Page, pictures: int) -> None:
    """Wait until so many pictures on the stage are done."""
    page.wait_for_function(f"document.querySelectorAll('.tile[data-state=finished][data-kept]').length == {pictures}")


def take(address: str, chromium: str) -> None:
    """Drive the page and write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 860})
        page.goto(address)
        page.locator("html[data-restored]").wait_for(state="attached")
        for number, prompt in enumerate(FIRST):
            draw(page, prompt, 1, number + 1, 20)
            finished(page, 1)
        draw(page, SHOWN, 4, 7, 20)
        page.wait_for_function(f"Number(document.querySelector('.tile')?.dataset.done) >= {MIDDLE}")
        page.keyboard.press("Escape")
        page.wait_for_function("document.querySelectorAll('.tile[data-state=paused]').length == 4")
        page.screenshot(path=FOLDER / "stopped.png")
        page.get_by_role("button", name="Continue").last.click()
        finished(page, 4)
        page.screenshot(path=FOLDER / "at-work.png")
        browser.close()


def main(chromium: str) -> None:
    """Start the studio, take the pictures, stop it."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, str(ROOT / "launch.py"), "--no-browser", "--output-folder", output]
        studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert studio.stdout
            line = next(line for line in studio.stdout if " at http" in line)
            take(line.split(" at ")[1].strip(), chromium)
        finally:
            studio.terminate()
            studio.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="path of the browser")
    main(parser.parse_args().chromium)
