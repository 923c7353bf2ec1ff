"""The engine's worker on a real device: begin a job, step many in one model call, decode.

Everything here runs on the engine's thread, except `check`.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from PIL.Image import Image

from studio import originals
from studio.errors import OutOfMemory, RecipeError
from studio.families import Model, Row
from studio.models import catalog
from studio.models.manager import Manager
from studio.previews import LatentPreview
from studio.recipe import Recipe
from studio.sources import Sources


class TorchRun:
    """One job on the device (`studio.engine.Run`).

    latents: what the sampler holds, (1, c, h, w) float32. clean: the predicted clean latents, from the first step on.
    """

    def __init__(self, model: Model, recipe: Recipe, sources: Sources) -> None:
        self.recipe = recipe
        self.prompts = model.encode(recipe.prompt, recipe.negative_prompt, model.guided(recipe))
        self.sampler = model.sampler(recipe)
        # Noise that the sampler adds later goes on where the starting noise ended.
        self.generator = torch.Generator().manual_seed(recipe.seed)
        noise = model.noise(recipe, self.generator)
        picture, mask = originals.worked_on(recipe, sources)
        self.beside = model.beside(recipe, picture, mask)
        self.original = originals.encode(model, picture, mask, noise) if picture else None
        if self.original:
            self.latents = self.original.start(self.sampler, recipe.strength)
            self.clean = self.sampler.model_input(self.latents)
        else:
            self.latents = noise * self.sampler.initial_scale
            self.clean = noise
        self.total = recipe.steps_run
        self.key: Hashable = (recipe.model, self.latents.shape, self.prompts.key)
        self._projection = model.projection

    @property
    def done(self) -> int:
        return self.sampler.done

    def preview(self, kind: Literal["clean", "noisy"]) -> LatentPreview:
        """Before the first step either kind shows the starting noise."""
        return self._projection(self.clean if kind == "clean" else self.sampler.model_input(self.latents))


class TorchWorker:
    """Draws on the device of a model manager, from start pictures of a store (`studio.engine.Worker`)."""

    rows = 16

    def __init__(self, models: Manager, sources: Sources) -> None:
        self._models, self._sources = models, sources

    def check(self, recipe: Recipe) -> None:
        entry = self._models.entry(recipe.model)
        family = catalog.family(entry)
        if recipe.sampler not in family.samplers:
            raise RecipeError(
                f"{family.family} has no sampler {recipe.sampler!r}. Choose one of {', '.join(family.samplers)}."
            )
        facts = entry.facts
        for name in filter(None, (recipe.source, recipe.mask)):
            self._sources.path(name)
        if facts and recipe.negative_prompt and not facts.negative_prompt:
            raise RecipeError(f"{recipe.model} takes no negative prompt. Clear it, and say what to draw instead.")
        if facts and (recipe.width % facts.multiple or recipe.height % facts.multiple):
            raise RecipeError(
                f"{recipe.width}x{recipe.height} is no size for {recipe.model}: "
                f"both sides must be multiples of {facts.multiple}."
            )

    def loaded(self, model: str) -> bool:
        return self._models.loaded(model)

    def load(self, model: str, report: Callable[[float], None]) -> None:
        with _device_errors():
            self._models.use(model, report)

    def begin(self, recipe: Recipe) -> TorchRun:
        with _device_errors():
            return TorchRun(self._models.use(recipe.model), recipe, self._sources)

    def step(self, runs: Sequence[TorchRun]) -> None:
        with _device_errors():
            model = self._models.use(runs[0].recipe.model)
            inputs = [run.sampler.model_input(run.latents) for run in runs]
            rows = [
                Row(model_input, run.sampler.timestep, run.prompts, run.recipe.guidance_scale, run.beside)
                for run, model_input in zip(runs, inputs, strict=True)
            ]
            outputs = model.predict(rows)
            for run, model_input, output in zip(runs, inputs, outputs, strict=True):
                run.clean = run.sampler.clean(model_input, output)
                run.latents = run.sampler.step(output, run.latents, run.generator)
                if run.original:
                    run.latents = run.original.hold(run.sampler, run.latents, run.total)
                if run.done == run.total:
                    run.clean = run.latents

    def decode(self, run: TorchRun) -> Image:
        with _device_errors():
            drawn = self._models.use(run.recipe.model).decode(run.clean)
            return originals.put_back(drawn, run.recipe, self._sources)


@contextmanager
def _device_errors() -> Iterator[None]:
    """No gradients inside, and every way in which devices run out of memory becomes OutOfMemory."""
    try:
        with torch.inference_mode():
            yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory() from error
    except RuntimeError as error:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise _out_of_memory() from error
        raise


def _out_of_memory() -> OutOfMemory:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return OutOfMemory("The device ran out of memory. Close other programs or choose a smaller size, then continue.")
