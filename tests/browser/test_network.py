"""The page on bad networks and behind bad proxies: it always finds back by itself, and says how it stands meanwhile."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests import fakes
from tests.browser.conftest import OPEN, PATIENCE, WIDE
from tests.fakes import FakeWorker
from tests.hostile import Proxy
from tests.served import Served
from tests.test_web import FakeModels

LOST = "The studio does not answer. Trying again…"
STEPS = 40


class Scene:
    """A studio, a proxy in front, and the windows of one browser."""

    def __init__(self, stack: ExitStack, output: Path, browser: Browser) -> None:
        self._stack, self._output = stack, output
        self.studio = self._serve()
        self.proxy = stack.enter_context(Proxy(self.studio.port).running())
        self.context: BrowserContext = browser.new_context(viewport=WIDE)
        self.context.add_init_script(OPEN)
        stack.callback(self.context.close)
        self.context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)

    def _serve(self) -> Served:
        made = Served(self._output, FakeModels())
        made.start()
        self._stack.callback(self.stop)
        self.studio, self._runs = made, True
        return made

    @property
    def worker(self) -> FakeWorker:
        return self.studio.worker

    def stop(self) -> None:
        if self._runs:
            self._runs = False
            self.studio.stop()

    def restart(self) -> None:
        self.stop()
        self.proxy.upstream = self._serve().port

    def window(self, has_clock: bool = False, is_hidden: bool = False) -> Page:
        page = self.context.new_page()
        if has_clock:
            page.clock.install()
        if is_hidden:
            page.add_init_script("Object.defineProperty(Document.prototype, 'hidden', { get: () => true })")
        page.goto(self.proxy.address)
        page.locator("html[data-restored~=text_to_image]").wait_for(state="attached")
        page.locator("#text_to_image-panel .stage[data-ready]").wait_for()
        return page

    def streams(self, count: int) -> None:
        """Wait until so many streams stand at the proxy."""
        self._until(lambda: self.proxy.streams == count)

    def asked(self, path: str, after: int = 0) -> None:
        """Wait until a page has asked for this path, after so many requests."""
        self._until(lambda: any(each.startswith(path) for each in self.proxy.asked[after:]))

    def hurry(self, page: Page) -> None:
        """Let more time pass for a page than it waits for anything, until it asks anew."""
        before = len(self.proxy.asked)
        page.clock.fast_forward("00:30")
        self.asked("/live", before)

    def _until(self, holds: Callable[[], bool]) -> None:
        [page, *_] = self.context.pages
        for _ in range(PATIENCE // 50):
            if holds():
                return
            page.evaluate("new Promise((done) => requestAnimationFrame(done))")
        raise AssertionError(f"not so: {self.proxy.streams} streams, asked {self.proxy.asked[-8:]}")


@pytest.fixture
def scene(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(fakes, "PATIENCE", 120.0)  # a step waits while pages are opened
    with ExitStack() as stack:
        yield Scene(stack, tmp_path / "output", browser)


def draw(page: Page, prompt: str = "a boat") -> None:
    page.get_by_label("Prompt", exact=True).first.fill(prompt)
    page.get_by_label("Steps", exact=True).first.fill(str(STEPS))
    page.get_by_role("button", name="Generate").click()


def step(scene: Scene, count: int = 1) -> None:
    for _ in range(count):
        scene.worker.next_call()
        scene.worker.go()


def reached(page: Page, done: int, state: str = "step") -> None:
    """Wait until the picture on the stage is so far."""
    tile = page.locator(f"#text_to_image-panel .tile[data-state={state}]")
    expect(tile).to_have_attribute("data-done", str(done))


def words(page: Page) -> Locator:
    return page.locator("#text_to_image-panel .stage-words")


def test_after_a_restart_behind_a_proxy_that_refuses_meanwhile_the_page_goes_on(scene: Scene) -> None:
    page = scene.window()
    draw(page)
    step(scene, 3)
    reached(page, 3)
    scene.proxy.refuses = True
    scene.proxy.drop_all()
    expect(words(page)).to_have_text(LOST)
    scene.restart()
    scene.proxy.refuses = False
    expect(words(page)).to_have_text(re.compile(rf"^Stopped at step \d+ of {STEPS}$"))
    page.get_by_role("button", name="Continue").click()
    scene.worker.go_freely()
    reached(page, STEPS, "finished")
    expect(page.locator(".toast-wrap")).to_be_hidden()


def test_without_a_proxy_it_goes_on_too(scene: Scene) -> None:
    page = scene.window()
    draw(page)
    step(scene, 2)
    reached(page, 2)
    scene.stop()
    expect(words(page)).to_have_text(LOST)
    scene.restart()
    expect(words(page)).to_have_text(re.compile(r"^Stopped at step"))


def test_a_network_that_falls_silent_is_noticed(scene: Scene) -> None:
    page = scene.window(has_clock=True)
    draw(page)
    step(scene, 2)
    reached(page, 2)
    scene.proxy.is_dead = True
    scene.hurry(page)  # it notices, and tries again
    scene.hurry(page)
    expect(words(page)).to_have_text(LOST)
    scene.proxy.is_dead = False
    scene.hurry(page)
    scene.hurry(page)
    expect(words(page)).to_have_text(re.compile("^Step 2"))
    step(scene, 2)
    reached(page, 4)


def test_a_stream_that_is_held_back_gives_way_to_asking(scene: Scene) -> None:
    scene.proxy.holds = True
    page = scene.context.new_page()
    page.clock.install()
    page.goto(scene.proxy.address)
    page.locator("html[data-restored~=text_to_image]").wait_for(state="attached")
    scene.asked("/live")
    page.clock.fast_forward("00:11")
    page.locator("#text_to_image-panel .stage[data-ready]").wait_for()
    draw(page)
    for done in range(1, 6):
        step(scene)
        reached(page, done)
    scene.streams(0)
    # The network may be another one now.
    scene.proxy.holds = False
    page.evaluate("dispatchEvent(new Event('online'))")
    page.clock.fast_forward("05:01")
    scene.streams(1)
    step(scene)
    reached(page, 6)


@pytest.mark.parametrize("length", [0, 1, 30, 2000])
def test_a_stream_that_is_cut_off_anywhere_begins_again(scene: Scene, length: int) -> None:
    page = scene.window()
    draw(page, "a long prompt " * 30)
    step(scene, 1)
    reached(page, 1)
    scene.proxy.cut_after = length
    scene.proxy.drop_all()
    step(scene, 2)
    reached(page, 3)
    expect(words(page)).to_have_text(re.compile("^Step 3"))


def test_a_stream_that_dawdles_loses_nothing(scene: Scene) -> None:
    scene.proxy.delay = 0.2
    page = scene.window()
    draw(page)
    scene.worker.next_call()
    scene.worker.go_freely()
    reached(page, STEPS, "finished")


def test_generate_says_at_its_own_place_that_the_studio_is_not_there(scene: Scene) -> None:
    page = scene.window()
    notice = page.locator("#text_to_image-notice .notice[role=alert]")
    scene.proxy.refuses = True
    draw(page)
    expect(notice).to_contain_text("The studio does not answer.")
    scene.proxy.drop_all()
    scene.proxy.refuses = False
    expect(notice).to_have_text("")
    draw(page)
    step(scene)
    reached(page, 1)


def test_generate_says_so_on_a_network_that_swallows_everything(scene: Scene) -> None:
    page = scene.window(has_clock=True)
    scene.proxy.is_dead = True
    draw(page)
    scene.asked("/live/here")
    expect(page.locator("#text_to_image-notice .notice[role=alert]")).to_contain_text("The studio does not answer.")


def test_a_stopped_grid_is_hinted_at_after_a_restart(scene: Scene) -> None:
    page = scene.window()
    page.get_by_role("tab", name="Compare").click()
    panel = page.locator("#compare-panel")
    panel.get_by_label("Prompt", exact=True).fill("a boat")
    panel.get_by_role("button", name="Generate").click()
    scene.worker.next_call()
    page.get_by_role("tab", name="Text to image").click()
    mark = page.get_by_role("tab", name="Compare")
    expect(mark).to_have_attribute("data-state", "moving")
    scene.proxy.refuses = True
    scene.proxy.drop_all()
    scene.restart()
    scene.proxy.refuses = False
    expect(mark).to_have_attribute("data-state", "stopped")
    expect(mark).to_have_attribute("title", "Stopped pictures wait here")
    expect(page.locator(".toast-wrap")).to_be_hidden()


def test_all_windows_of_a_browser_share_one_stream(scene: Scene) -> None:
    *others, last = [scene.window() for _ in range(8)]
    scene.streams(1)
    draw(last)
    step(scene, 2)
    reached(last, 2)
    for other in others:
        expect(other.locator("#text_to_image-panel .elsewhere")).to_contain_text(
            "1 picture being made in another window"
        )


def test_windows_that_nobody_looks_at_hold_no_stream(scene: Scene) -> None:
    for _ in range(7):
        scene.window(is_hidden=True)
    scene.streams(0)
    page = scene.window()
    scene.streams(1)
    draw(page)
    step(scene, 2)
    reached(page, 2)


def test_when_the_window_that_listens_is_closed_another_does(scene: Scene) -> None:
    first, second = scene.window(), scene.window()
    draw(second)
    step(scene, 2)
    reached(second, 2)
    first.close()
    step(scene, 2)
    reached(second, 4)
    scene.streams(1)


def test_a_browser_whose_windows_cannot_speak_to_each_other_has_a_stream_for_each(scene: Scene) -> None:
    scene.context.add_init_script("delete window.BroadcastChannel")
    first, second = scene.window(), scene.window()
    scene.streams(2)
    draw(second)
    step(scene, 2)
    reached(second, 2)
    scene.window(is_hidden=True)
    scene.streams(2)
    expect(first.locator("#text_to_image-panel .elsewhere")).to_be_visible()
