"""What comparing, dropping and forking cost: `python -m benchmarks.compare`.

On the bundled model, through the engine, previews on. The two sides of each ratio take turns in one run, and their
medians are divided; what is no ratio is the median of some rounds.
"""

import argparse
import asyncio
import contextlib
import itertools
import queue
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from benchmarks.speed import Bench, Line
from studio.engine.engine import Engine
from studio.engine.events import FINAL, Event, Preview, Step
from studio.recipe.recipe import Recipe
from studio.web.live import Live

STEPS = 20


class Watched:
    """Recipes run through an engine, with what happened and when.

    read: whether a reader encodes every preview, as a page does. on_step: called with each step, on the engine's own
    thread.
    """

    def __init__(
        self,
        bench: Bench,
        recipes: list[Recipe],
        read: bool = True,
        on_step: Callable[["Watched", Step], None] = lambda watched, step: None,
    ) -> None:
        self.engine, self.over, self.left = bench.engine, threading.Event(), len(recipes)
        self.steps: list[tuple[float, Step]] = []
        self._unread: queue.SimpleQueue[Preview | None] = queue.SimpleQueue()
        self._on_step = on_step
        unsubscribe = self.engine.subscribe(self._listen)
        reader = threading.Thread(target=self._read if read else self.over.wait)
        reader.start()
        bench.model.encoded.clear()
        self.start = time.perf_counter()
        self.jobs = self.engine.submit(recipes)
        self.over.wait()
        self.seconds = time.perf_counter() - self.start
        self._unread.put(None)
        reader.join()
        unsubscribe()

    def _listen(self, event: Event) -> None:
        if isinstance(event, Step):
            self.steps.append((time.perf_counter(), event))
            if event.preview:
                self._unread.put(event.preview)
            self._on_step(self, event)
        if isinstance(event, FINAL):
            self.left -= 1
            if not self.left:
                self.over.set()

    def _read(self) -> None:
        while preview := self._unread.get():
            preview.jpeg()


class Window:
    """A window of the page as the server knows it: a reader of the event stream, on a loop of its own."""

    def __init__(self, engine: Engine) -> None:
        self._live, self._loop = Live(engine), asyncio.new_event_loop()
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()
        self._open.wait()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._reading.cancel)
        self._thread.join()

    def _run(self) -> None:
        self._reading = self._loop.create_task(self._read())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._reading)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _read(self) -> None:
        async with contextlib.aclosing(self._live.stream("")) as stream:
            async for _ in stream:
                self._open.set()


def watched_from_the_page(bench: Bench, recipes: list[Recipe]) -> None:
    """With everything that the page is told: previews as JPEG and base64, in JSON, as an event stream."""
    with Window(bench.engine):
        Watched(bench, recipes, read=False)


def drop_most(watched: Watched, step: Step) -> None:
    """Drop six of nine when the last of them is half way."""
    if step.done == STEPS // 2 and step.job == watched.jobs[-1].id:
        for job in watched.jobs[:6]:
            watched.engine.cancel(job.id)


def first_previews(watched: Watched) -> float:
    """Ticks until every picture has shown something."""
    first = [at for at, step in watched.steps if step.done == 0][-1] - watched.start
    last = watched.jobs[-1].id
    times = [at for at, step in watched.steps if step.job == last]
    ticks = [after - before for before, after in itertools.pairwise(times[1:])]
    return first / statistics.median(ticks)


def fork_excess(bench: Bench, recipe: Recipe, rounds: int) -> float:
    """How much more than its share of the steps a fork costs, of the whole: the most of forks at three places."""
    worst = 0.0
    for step in (STEPS // 4, STEPS // 2, 3 * STEPS // 4):
        whole, forked = [], []
        for number in range(rounds + 1):
            run = Watched(bench, [recipe])
            start, over = time.perf_counter(), threading.Event()
            unsubscribe = bench.engine.subscribe(_until_final(over))
            bench.engine.fork(run.jobs[0].id, step, {"guidance_scale": 3.0})
            over.wait()
            seconds = time.perf_counter() - start
            unsubscribe()
            if number:
                whole.append(run.seconds)
                forked.append(seconds)
        ratio = statistics.median(forked) / statistics.median(whole)
        worst = max(worst, ratio - (STEPS - step) / STEPS)
    return worst


def _until_final(over: threading.Event) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if isinstance(event, FINAL):
            over.set()

    return listen


def measure(rounds: int) -> list[Line]:
    """All rows of the table."""
    bench = Bench(rounds)
    nine = bench.grid()
    sixteen = [replace(bench.recipe, seed=seed) for seed in range(16)]
    lines = [
        Line(
            "Nine pictures at once, previews on / one after the other in diffusers' pipeline",
            bench.ratio(lambda: void(Watched(bench, nine)), lambda: bench.diffusers(*nine)),
            0.6,
        ),
        Line(
            "Nine pictures of which six are dropped half way / all nine",
            bench.ratio(lambda: void(Watched(bench, nine, on_step=drop_most)), lambda: void(Watched(bench, nine))),
            0.72,
        ),
        Line("A fork: its time less its share of the steps, of the whole", fork_excess(bench, nine[0], rounds), 0.05),
        Line(
            "First previews of nine pictures, in ticks",
            statistics.median(first_previews(Watched(bench, nine)) for _ in range(rounds)),
            1.3,
        ),
        Line(
            "Sixteen pictures, a window of the page watching / none",
            bench.ratio(
                lambda: watched_from_the_page(bench, sixteen), lambda: void(Watched(bench, sixteen, read=False))
            ),
            1.03,
        ),
    ]
    bench.engine.close()
    return lines


def void(value: object) -> None:
    """Nothing, of anything: for a function that must return nothing."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print("| | measured | at most |\n|---|---|---|")
    for line in measure(given.rounds):
        print(line.markdown())
