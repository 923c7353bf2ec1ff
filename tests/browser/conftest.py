"""One launched studio, one Chromium and one page, used by all tests of this folder."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
PATIENCE = 60_000
"""Milliseconds after which something that was waited for will not come, on a machine that has other work too."""
WIDE: ViewportSize = {"width": 1600, "height": 900}

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # What the page asks for outside must fail, and be seen by the guard below, even where there is a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

OPEN = "localStorage.setItem('emerge-more', 'open');"
"""Has all settings stand open, in a browser of a test's own."""

FORGET = """
if (location.origin !== "null" && sessionStorage.getItem("forget")) {
  sessionStorage.clear();
  localStorage.clear();
  localStorage.setItem("emerge-more", "open");
  indexedDB.deleteDatabase("emerge /");
}
"""
"""Clears what the browser keeps of the settings when the next page begins, for until then, on a busy machine, the page
before may still write them. All settings stand open."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass
class Studio:
    """The launched program: where it is, where its pictures go, and what it printed."""

    address: str
    output: Path
    lines: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        """The pictures on disk, oldest first."""
        return sorted(self.output.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="package")
def chromium() -> str:
    """The path of a Chromium; without one these tests are skipped."""
    given = os.environ.get("EMERGE_TEST_CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    path = given or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip("There is no Chromium on this machine. Install one, or name it in EMERGE_TEST_CHROMIUM.")
    return path


@pytest.fixture(scope="package")
def studio(chromium: str, models_folder: Path) -> Iterator[Studio]:
    """The studio as a person starts it, with tiny models and a broken one beside the bundled one."""
    (models_folder / "old.ckpt").write_bytes(b"a pickle")
    with launched("--models-folders", str(models_folder)) as made:
        yield made


@contextmanager
def launched(*flags: str) -> Iterator[Studio]:
    """The program as a person starts it with these flags, watched."""
    output = Path(tempfile.mkdtemp(prefix="emerge-test-"))
    asked = output / "asked.txt"
    command = [sys.executable, str(Path(__file__).with_name("watched.py")), str(asked), str(ROOT / "launch.py")]
    command += ["--no-browser", "--port", str(_free_port())]
    command += ["--output-folder", str(output), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    made = Studio("", output)
    ready = threading.Event()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            made.lines.append(line)
            if " at http" in line:
                made.address = line.split(" at ")[1].strip()
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        assert ready.wait(START_SECONDS) and made.address, "the studio did not start:\n" + "".join(made.lines)
        yield made
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        told = asked.read_text("utf-8")
        shutil.rmtree(output, ignore_errors=True)
        assert not told, f"the studio looked beyond this machine, or started programs:\n{told}"


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def faults() -> list[str]:
    """What must not happen: requests that leave this machine, scripts that fail, dialogs."""
    return []


@pytest.fixture(scope="package")
def context(browser: Browser, studio: Studio, faults: list[str]) -> Iterator[BrowserContext]:
    """A browser's profile, watched."""
    context = browser.new_context(viewport=WIDE)
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)

    def on_request(request: Request) -> None:
        if not request.url.startswith((studio.address + "/", "data:", "blob:", "about:")):
            faults.append(f"a request left this machine: {request.url}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            faults.append(f"console: {message.text}")

    def on_dialog(dialog: Dialog) -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.add_init_script(FORGET)
    context.on("request", on_request)
    context.on("console", on_console)
    context.on("dialog", on_dialog)
    context.on("weberror", lambda error: faults.append(f"script: {error.error}"))
    yield context
    context.close()


@pytest.fixture(scope="package")
def only_page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def page(only_page: Page, context: BrowserContext, studio: Studio, faults: list[str]) -> Iterator[Page]:
    """The page as a newcomer finds it. Fails at the end if one of the faults happened."""
    context.clear_cookies()
    only_page.set_viewport_size(WIDE)
    only_page.emulate_media(color_scheme="light")
    only_page.goto(f"{studio.address}/page/icon.svg")  # a page without scripts
    only_page.evaluate("sessionStorage.clear(), sessionStorage.setItem('forget', 'yes')")
    visit(only_page, studio)
    faults.clear()
    yield only_page
    for other in context.pages:
        if other is not only_page:
            other.close()
    only_page.goto("about:blank")
    assert not faults, faults


def visit(page: Page, studio: Studio) -> None:
    """Open the studio and wait until it is ready for a person."""
    page.goto(studio.address)
    for place in ("text_to_image", "image_to_image", "inpainting"):
        page.locator(f"html[data-restored~={place}]").wait_for(state="attached")
    panel(page, "text_to_image").locator(".stage[data-ready]").wait_for()


def panel(page: Page, place: str) -> Locator:
    """What stands in a tab."""
    return page.locator(f"#{place}-panel")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
