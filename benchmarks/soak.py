"""Whether the studio grows as it works: `python -m benchmarks.soak --pictures 600`.

Everything but Gradio's page in one process, on the bundled model and a temporary folder: pictures of all samplers and
many sizes, grids, forks, changes on the way, pauses, cancels, pictures of another day, start pictures and masks, and
two windows that watch. After each hundred finished pictures a line tells the process's memory, how much of it are steps
that one can go back to (which have a budget of their own), descriptors and threads.
"""

import argparse
import asyncio
import contextlib
import io
import random
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from studio.drawing.moments import Moments
from studio.drawing.torch_run import TorchRun
from studio.drawing.worker import TorchWorker
from studio.engine.engine import Engine
from studio.engine.events import FINAL, Event, Finished, Paused, Step
from studio.engine.job import Job
from studio.errors import StudioError
from studio.families import samplers
from studio.library.library import Library
from studio.models.manager import Manager
from studio.pictures import masks
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from studio.web import live

OWNERS = ("ann", "bob")
SIDES = (64, 96, 128, 192, 256, 320)
THINGS = ("apple", "boat", "house", "cat", "tree", "teapot", "castle", "fish")
ALLOWED = 1.05
"""How much larger the process may be at the end than after the first hundred pictures, steps left out."""


class Studio:
    """The parts that make pictures, put together as `launch.py` does, and windows that watch."""

    def __init__(self, folder: Path) -> None:
        self.library = Library(folder)
        self.models = Manager()
        self.sources = Sources(folder / "sources")
        self.worker = TorchWorker(self.models, self.sources, Moments(folder / "steps", 10**8, self.library.has))
        self.engine = Engine(self.worker, self.library.add)
        self.live = live.Live(self.engine)
        self.random = random.Random(0)
        self.finished: list[str] = []
        self._news = threading.Condition()
        self.engine.subscribe(self._listen)
        threading.Thread(target=lambda: asyncio.run(self._watch()), daemon=True).start()

    def _listen(self, event: Event) -> None:
        with self._news:
            if isinstance(event, Finished):
                self.finished.append(event.picture)
            self._news.notify_all()

    async def _watch(self) -> None:
        async def read(owner: str) -> None:
            async for _ in self.live.stream(owner):
                pass

        await asyncio.gather(*(read(owner) for owner in OWNERS))

    def wait(self, jobs: Sequence[Job], *kinds: type[Event], steps: int = 0) -> None:
        """Until each of the jobs has come to one of these kinds of event, or to so many steps."""

        def there(job: Job) -> bool:
            return isinstance(job.event, kinds) or (isinstance(job.event, Step) and 0 < steps <= job.event.done)

        with self._news:
            assert self._news.wait_for(lambda: all(map(there, jobs)), 600), [job.event for job in jobs]

    def recipe(self, **more: Any) -> Recipe:
        choose = self.random.choice
        suited = replace(
            self.models.default_recipe("sketchbook"),
            prompt=f"a {choose(THINGS)}, number {self.random.randrange(10**6)}",
            width=choose(SIDES),
            height=choose(SIDES),
            sampler=choose(list(samplers.DIFFUSION)),
            steps=choose((4, 6, 8, 12)),
            guidance_scale=choose((1.0, 3.0, 6.0)),
            seed=self.random.randrange(10**6),
        )
        return replace(suited, **more)

    def submit(self, *recipes: Recipe) -> list[Job]:
        owner = self.random.choice(OWNERS)
        jobs = self.engine.submit(recipes, owner)
        self.live.show(owner, "text_to_image", jobs)
        return jobs

    def round(self) -> None:
        """Some thirty pictures of all kinds."""
        self.plain()
        self.steered()
        self.from_pictures()
        self.looked_back()

    def plain(self) -> None:
        jobs = self.submit(*(self.recipe() for _ in range(6)))
        centre = self.recipe(width=128, height=128)
        grid = self.submit(
            *(replace(centre, seed=seed, guidance_scale=scale) for seed in (1, 2, 3) for scale in (1.0, 3.0, 6.0))
        )
        self.wait(jobs + grid, *FINAL)
        self.wait(self.submit(self.recipe(width=512, height=512, steps=4)), *FINAL)

    def steered(self) -> None:
        """Changes on the way, pauses, cancels, forks."""
        jobs = self.submit(*(self.recipe(steps=12) for _ in range(4)))
        self.wait(jobs, *FINAL, steps=2)
        changed, paused, dropped, _ = jobs
        with contextlib.suppress(StudioError):  # it may be finished already
            self.engine.change(changed.id, {"prompt": "a green apple", "sampler": "UniPC"})
        self.engine.pause(paused.id)
        self.engine.cancel(dropped.id)
        self.wait([paused], *FINAL, Paused)
        self.engine.resume(paused.id)
        self.wait(jobs, *FINAL)
        forks = [self.engine.fork(changed.id, step, {"guidance_scale": 2.0}) for step in (0, 3, 11)]
        forks.append(self.engine.fork(paused.id, 7, {"noise": (0.5, self.random.randrange(10**6))}))
        self.wait(forks, *FINAL)

    def from_pictures(self) -> None:
        width, height = self.random.choice((256, 300, 1000)), self.random.choice((200, 256, 640))
        pixels = np.random.default_rng(self.random.randrange(10**6)).integers(
            0, 255, (height // 8, width // 8, 3), np.uint8
        )
        file = io.BytesIO()
        Image.fromarray(pixels).resize((width, height)).save(file, self.random.choice(("PNG", "JPEG", "WEBP")))
        with contextlib.suppress(StudioError):
            self.sources.add(file.getvalue()[: len(file.getvalue()) // 2])  # an upload that was broken off
        source = self.sources.add(file.getvalue())
        fitted = masks.fitted(self.sources.open(source.name), 192, 128, "crop")
        mask = Image.new("L", (source.width, source.height))
        mask.paste(255, (20, 20, source.width // 2, source.height // 2))
        named = self.sources.add_image(mask)
        box = (0, 0, source.width, source.height)
        recipes = [
            self.recipe(source=self.sources.add_image(fitted), strength=0.6, width=192, height=128),
            self.recipe(source=source.name, mask=named, box=box, fill="blur", width=128, height=128),
        ]
        self.wait(self.submit(*recipes), *FINAL)

    def looked_back(self) -> None:
        """A picture of another day: recalled, its steps looked at, filmed, forked; and the strip of the latest."""
        picture = self.library.get(self.random.choice(self.finished))
        owner = self.random.choice(OWNERS)
        job = self.engine.recall(picture.id, picture.recipe, picture.steps_done, owner, picture.note)
        self.live.show(owner, "text_to_image", [job])
        with contextlib.suppress(StudioError):
            frames = [self.engine.look_back(job.id, step)[1].jpeg() for step in range(picture.recipe.steps_run + 1)]
            live._film(frames, "webp")
        if picture.recipe.steps_run > 1:
            self.wait([self.engine.fork(job.id, 1, {"guidance_scale": 4.0})], *FINAL)
        for each in self.library.recent(24):
            self.library.thumbnail(each.id)


def held(worker: TorchWorker) -> int:
    """Bytes of all tensors that are steps to go back to, each counted once."""
    found: dict[int, int] = {}
    for run in list(worker._runs):
        assert isinstance(run, TorchRun), run
        for moment in dict(run.moments).values():
            values = [moment.latents, moment.clean, moment.random, *moment.sampler.state["scheduler"].values()]
            for value in [part for each in values for part in (each if isinstance(each, list) else [each])]:
                if isinstance(value, torch.Tensor):
                    found[value.data_ptr()] = value.nbytes
    return sum(found.values())


def line(studio: Studio, count: int) -> float:
    """Print how things stand. Returns the megabytes that are no steps."""
    process = psutil.Process()
    memory = process.memory_info().rss / 2**20
    steps = held(studio.worker) / 2**20
    figures = (
        count,
        memory,
        steps,
        memory - steps,
        process.num_fds(),
        process.num_threads(),
        len(studio.engine.jobs()),
    )
    print("|", " | ".join(f"{figure:.0f}" for figure in figures), "|", flush=True)
    return memory - steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--every", type=int, default=100)
    wanted = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="emerge-soak-") as folder:
        studio = Studio(Path(folder))
        print(
            "| pictures | MB | of these steps | without | descriptors | threads | jobs |\n|---|---|---|---|---|---|---|"
        )
        figures = [line(studio, 0)]
        while len(studio.finished) < wanted.pictures:
            studio.round()
            if len(studio.finished) >= len(figures) * wanted.every:
                figures.append(line(studio, len(studio.finished)))
        studio.engine.close()
    grown = figures[-1] / figures[1]
    print(f"From {wanted.every} to {wanted.pictures} pictures it grew to {grown:.2f}; at most {ALLOWED} is right.")
    raise SystemExit(grown > ALLOWED)


if __name__ == "__main__":
    main()
