"""What comparing, dropping and forking cost: `python -m benchmarks.compare`.

On the bundled model, through the engine, previews on. The two sides of each ratio take turns in one run, and their
medians are divided; what is no ratio is the median of some rounds.
"""

import argparse
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from benchmarks.speed import Bench, Line
from studio.events import FINAL, Event, Step
from studio.recipe import Recipe

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
        self._unread: list[Step] = []
        self._on_step = on_step
        unsubscribe = self.engine.subscribe(self._listen)
        reader = threading.Thread(target=self._read if read else self.over.wait)
        reader.start()
        bench.model.encode.cache_clear()
        self.start = time.perf_counter()
        self.jobs = self.engine.submit(recipes)
        self.over.wait()
        self.seconds = time.perf_counter() - self.start
        reader.join()
        unsubscribe()

    def _listen(self, event: Event) -> None:
        if isinstance(event, Step):
            self.steps.append((time.perf_counter(), event))
            self._unread.append(event)
            self._on_step(self, event)
        if isinstance(event, FINAL):
            self.left -= 1
            if not self.left:
                self.over.set()

    def _read(self) -> None:
        while not self.over.wait(0.005):
            while self._unread:
                preview = self._unread.pop(0).preview
                if preview:
                    preview.jpeg()


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
            "Sixteen pictures, every preview encoded / none",
            bench.ratio(lambda: void(Watched(bench, sixteen)), lambda: void(Watched(bench, sixteen, read=False))),
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
