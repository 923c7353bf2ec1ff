"""Stand-ins at the engine's seams: a worker without a model, a keeper without a disk, a listener with a memory.

Nothing here sleeps. A worker made with `by_hand=True` waits before every step until the test lets it go on, so a test
decides what happens between which steps.
"""

import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL import Image

from studio.engine.events import FINAL, Event
from studio.recipe.recipe import Recipe

PATIENCE = 60.0
"""Seconds after which a test that waits for something has failed."""


@dataclass(frozen=True)
class FakePreview:
    done: int

    def jpeg(self) -> bytes:
        return b"JPEG %d" % self.done


@dataclass(eq=False)
class FakeRun:
    recipe: Recipe
    key: Hashable
    total: int
    done: int = 0
    weight: int = 1000
    notes: tuple[str, ...] = ()
    kept: bool = True
    """Whether it remembers its steps."""
    every: int = 1
    """Of how many steps it remembers one."""

    def preview(self, kind: str) -> FakePreview:
        if "unshowable" in self.recipe.prompt:
            raise ValueError("this preview is broken")
        return FakePreview(self.done)

    def look_back(self, step: int) -> tuple[int, FakePreview]:
        if not self.kept or step > self.done:
            raise KeyError(step)
        step -= step % self.every
        return step, FakePreview(step)


@dataclass
class FakeWorker:
    """Counts steps. It has room for one model, and runs share a call if model and size are equal.

    fault: asked before each begin, step and decode with its name and prompts; may return an error to be raised.
    """

    rows: int = 8
    by_hand: bool = False
    fault: Callable[[str, list[str]], Exception | None] = lambda _what, _prompts: None
    model: str = "sketchbook"
    log: list[list[str]] = field(default_factory=list)
    """The prompts of every step that was made."""
    has_disk: bool = False
    stored: dict[str, "FakeRun"] = field(default_factory=dict)
    """With a disk, copies of runs by the id of their picture."""
    fetched: dict[str, Literal["read", "reading", "wait"]] = field(default_factory=dict)
    """What `fetch` says of a model. By default it cannot be read beside another."""
    memory_for: int = 1000
    """For how many rows there is memory."""

    def __post_init__(self) -> None:
        self._asked: queue.Queue[list[str]] = queue.Queue()
        self._granted = threading.Semaphore(0)

    # The test's side

    def next_call(self) -> list[str]:
        """Wait until a step is asked for, and say with which prompts. It is made when the test calls `go`."""
        return self._asked.get(timeout=PATIENCE)

    def go(self) -> None:
        """Let the step that was asked for be made."""
        self._granted.release()

    def go_freely(self) -> None:
        """Let all steps be made from now on."""
        self.by_hand = False
        self._granted.release()

    # The engine's side

    def check(self, *recipes: Recipe) -> None:
        for recipe in recipes:
            self._stumble("check", [recipe.prompt])

    def room(self, run: FakeRun) -> int:
        return min(self.rows, self.memory_for)

    def loaded(self, model: str) -> bool:
        return model == self.model

    def fetch(self, model: str, alone: bool, report: Callable[[int, int], None]) -> Literal["read", "reading", "wait"]:
        return self.fetched.get(model, "read" if alone else "wait")

    def load(self, model: str, report: Callable[[int, int], None]) -> None:
        self._stumble("load", [model])
        report(500, 1000)
        self.model = model
        report(1000, 1000)

    def free(self, model: str) -> None:
        self._stumble("free", [model])
        self.model = ""

    def begin(self, recipe: Recipe, origin: tuple[FakeRun, int] | None = None) -> FakeRun:
        self._stumble("begin", [recipe.prompt])
        done = origin[0].look_back(origin[1])[0] if origin and origin[0].kept else 0
        return FakeRun(recipe, (recipe.model, recipe.width, recipe.height), recipe.steps, done)

    def change(self, run: FakeRun, recipe: Recipe) -> FakeRun:
        self._stumble("change", [recipe.prompt])
        return replace(run, recipe=recipe)

    def step(self, runs: Sequence[FakeRun]) -> None:
        prompts = [run.recipe.at(run.done).prompt for run in runs]
        if self.by_hand:
            self._asked.put(prompts)
            assert self._granted.acquire(timeout=PATIENCE)
        assert len({run.key for run in runs}) == 1 and len(runs) <= self.rows, "runs that cannot share a call"
        assert all(run.recipe.model == self.model for run in runs), "the model is not loaded"
        assert all(run.done < run.total for run in runs), "a run has no steps left"
        self._stumble("step", prompts)
        self.log.append(prompts)
        for run in runs:
            run.done += 1

    def decode(self, run: FakeRun) -> Image.Image:
        self._stumble("decode", [run.recipe.prompt])
        return Image.new("RGB", (8, 8), (run.done, 0, 0))

    def keep_steps(self, run: FakeRun, picture: str) -> None:
        self._stumble("keep_steps", [run.recipe.prompt])
        if self.has_disk:
            self.stored[picture] = replace(run, kept=True)

    def recall(self, picture: str) -> FakeRun | None:
        return self.stored.get(picture)

    def _stumble(self, what: str, prompts: list[str]) -> None:
        if error := self.fault(what, prompts):
            raise error


class FakeKeeper:
    """Keeps pictures in a dict. While `open` is cleared it hangs like a slow disk; `error` makes it fail."""

    def __init__(self) -> None:
        self.pictures: dict[str, tuple[Image.Image, Recipe, int]] = {}
        self.parents: dict[str, tuple[str, int] | None] = {}
        self.notes: dict[str, str] = {}
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.asked: queue.Queue[str] = queue.Queue()

    def __call__(
        self,
        picture: Image.Image,
        recipe: Recipe,
        steps_done: int,
        parent: tuple[str, int] | None = None,
        note: str = "",
    ) -> str:
        self.asked.put(recipe.prompt)
        assert self.open.wait(PATIENCE)
        if self.error:
            raise self.error
        name = f"picture-{len(self.pictures)}"
        self.pictures[name] = picture, recipe, steps_done
        self.parents[name] = parent
        self.notes[name] = note
        return name


class Events:
    """A listener that remembers everything and on which a test can wait."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self.all: list[Event] = []

    def __call__(self, event: Event) -> None:
        with self._news:
            self.all.append(event)
            self._news.notify_all()

    def of(self, job: str) -> list[Event]:
        with self._news:
            return [event for event in self.all if event.job == job]

    def final(self, job: str) -> Event:
        """Wait for the job's last event."""
        return self.until(job, *FINAL)

    def until(self, job: str, *kinds: type[Event], count: int = 1) -> Event:
        """Wait until the job has had `count` events of these kinds, and return the latest of them."""

        def found() -> list[Event]:
            return [event for event in self.all if event.job == job and isinstance(event, kinds)]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count, PATIENCE), f"{kinds} not in {self.of(job)}"
            return found()[-1]
