"""What the studio costs beside the model, and beside diffusers' own pipeline: `python -m benchmarks.speed`.

Every ratio is taken in one run on the bundled model: the two sides take turns, and their medians are divided. With
`--readme` the table is written into README.md between its two marks.
"""

import argparse
import platform
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from studio.drawing.worker import TorchWorker
from studio.engine.engine import Engine
from studio.engine.events import FINAL, Event, Finished, Step
from studio.families import Row
from studio.families.stable_diffusion import StableDiffusion
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe

README = Path(__file__).resolve().parent.parent / "README.md"
MARKS = ("<!-- speed -->", "<!-- /speed -->")
NO_SOURCES = Sources(Path("sources"))  # nothing here starts from a picture, so nothing is read or written
PROMPT = "a red apple, 3d render, on a white background"


@dataclass(frozen=True)
class Line:
    """A row of the table: what was measured, the figure, and the most it may be."""

    what: str
    figure: float
    limit: float
    unit: str = ""

    def markdown(self) -> str:
        return f"| {self.what} | {self.figure:.2f}{self.unit} | {self.limit:g}{self.unit} |"


class Bench:
    """The bundled model in the studio and, with the same weights, in diffusers' pipeline."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.models = Manager()
        self.worker = TorchWorker(self.models, NO_SOURCES)
        # Guided in every step, as the pipeline beside it is.
        suited = self.models.default_recipe("sketchbook")
        self.recipe = replace(suited, prompt=PROMPT, sampler="Euler", steps=20, guidance_end=1.0)
        self.engine = Engine(self.worker, keep=lambda *_: "kept")
        model = self.models.use("sketchbook")
        assert isinstance(model, StableDiffusion)
        self.model = model
        self.pipeline = StableDiffusionPipeline(
            vae=self.model.vae,
            text_encoder=self.model.text_encoder,
            tokenizer=self.model.tokenizer,
            unet=self.model.unet,
            scheduler=self.model.sampler(self.recipe)._scheduler,
            safety_checker=None,
            feature_extractor=None,
        )
        self.pipeline.set_progress_bar_config(disable=True)

    def ratio(self, one: Callable[[], None], other: Callable[[], None]) -> float:
        """The median time of `one` as a share of `other`'s, taking turns, after a round to warm up."""
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(self.rounds + 1):
            for side, run in zip(times, (one, other), strict=True):
                start = time.perf_counter()
                run()
                if number:
                    side.append(time.perf_counter() - start)
        return statistics.median(times[0]) / statistics.median(times[1])

    def studio(self, *recipes: Recipe) -> None:
        """Through the engine to the last event, with every preview encoded by a reader of its own."""
        left, over = len(recipes), threading.Event()
        previews: list[Step] = []

        def listen(event: Event) -> None:
            nonlocal left
            if isinstance(event, Step):
                previews.append(event)
            if isinstance(event, FINAL):
                assert isinstance(event, Finished), event
                left -= 1
                if not left:
                    over.set()

        unsubscribe = self.engine.subscribe(listen)
        reader = threading.Thread(target=_read, args=(previews, over))
        reader.start()
        # Another prompt each time: what an earlier round encoded must not help a later one.
        self.model.encoded.clear()
        self.engine.submit(recipes)
        over.wait()
        reader.join()
        unsubscribe()

    def bare(self) -> None:
        """The model calls that the recipe needs, and nothing else: prompts, twenty steps, the picture."""
        with torch.inference_mode():
            self.model.encoded.clear()
            prompts = self.model.encode(PROMPT, "", True)
            latents = self.model.noise(self.recipe, torch.Generator().manual_seed(0))
            row = Row(latents, torch.tensor(500.0), prompts, self.recipe.guidance_scale)
            for _ in range(self.recipe.steps):
                self.model.predict([row])
            self.model.decode(latents)

    def diffusers(self, *recipes: Recipe) -> None:
        """One picture after the other through the pipeline."""
        for recipe in recipes:
            self.pipeline(
                recipe.prompt,
                negative_prompt=recipe.negative_prompt,
                num_inference_steps=recipe.steps,
                guidance_scale=recipe.guidance_scale,
                guidance_rescale=0.7,
                width=recipe.width,
                height=recipe.height,
                generator=torch.Generator().manual_seed(recipe.seed),
            )

    def preview_ms(self) -> float:
        """Projection and JPEG of one preview, in milliseconds, the median of two hundred."""
        run = self.worker.begin(self.recipe)
        times = []
        for _ in range(200):
            start = time.perf_counter()
            run.preview("clean").jpeg()
            times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times)

    def seconds(self) -> float:
        """One picture of 20 steps, submit to finish."""
        times = []
        for _ in range(self.rounds):
            start = time.perf_counter()
            self.studio(self.recipe)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def grid(self) -> list[Recipe]:
        """Three seeds by three guidance scales."""
        return [
            replace(self.recipe, seed=seed, guidance_scale=scale) for seed in (1, 2, 3) for scale in (2.0, 4.0, 8.0)
        ]


def _read(previews: list[Step], over: threading.Event) -> None:
    """Encode the newest preview of those that came, as the page's stream does."""
    while not over.wait(0.01):
        while previews:
            step = previews.pop(0)
            if step.preview:
                step.preview.jpeg()


def apart(recipes: list[Recipe]) -> int:
    """The most that a pixel of a picture among its neighbours differs from the same picture alone, in float32."""
    worker = TorchWorker(Manager(dtype="float32"), NO_SOURCES)
    worker.load(recipes[0].model, lambda read, size: None)

    def draw(wanted: list[Recipe]) -> list[np.ndarray]:
        runs = [worker.begin(each) for each in wanted]
        while runs[0].done < runs[0].total:
            worker.step(runs)
        return [np.asarray(worker.decode(run)).astype(int) for run in runs]

    together = draw(recipes)
    return max(int(np.abs(draw([each])[0] - one).max()) for each, one in zip(recipes, together, strict=True))


def measure(rounds: int) -> list[Line]:
    """All rows of the table."""
    bench = Bench(rounds)
    one, nine = bench.recipe, bench.grid()
    lines = [
        Line(
            "The studio's loop, previews on / the bare model calls",
            bench.ratio(lambda: bench.studio(one), bench.bare),
            1.1,
        ),
        Line(
            "The studio, previews on / diffusers' pipeline without",
            bench.ratio(lambda: bench.studio(one), lambda: bench.diffusers(one)),
            1.0,
        ),
        Line(
            "Nine pictures (3 seeds x 3 guidance scales) at once / one after the other in diffusers' pipeline",
            bench.ratio(lambda: bench.studio(*nine), lambda: bench.diffusers(*nine)),
            0.7,
        ),
        Line("One picture, 20 steps", bench.seconds(), 5, " s"),
        Line("One preview, from latents to JPEG", bench.preview_ms(), 2, " ms"),
        Line(
            "A picture alone and among eight neighbours, float32: the most a pixel differs", apart(nine), 2, " of 255"
        ),
    ]
    bench.engine.close()
    return lines


def table(lines: list[Line]) -> str:
    """The table as Markdown, with what it was measured on."""
    model = Manager()
    where = f"{platform.machine()}, {torch.get_num_threads()} threads, {str(model.dtype).removeprefix('torch.')}"
    rows = "\n".join(line.markdown() for line in lines)
    measured = f"Measured by `python -m benchmarks.speed` on {model.device} ({where})."
    return f"| | measured | at most |\n|---|---|---|\n{rows}\n\n{measured}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    given = parser.parse_args()
    text = table(measure(given.rounds))
    print(text)
    if given.readme:
        before, _, rest = README.read_text("utf-8").partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        README.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", "utf-8")
