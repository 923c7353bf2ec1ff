"""The engine's worker on a real device: begin a job, step many in one model call, decode.

Everything here runs on the engine's thread, except `check`, `look_back`, `keep_steps` and `recall`.
"""

import copy
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from PIL.Image import Image
from torch import Tensor

from studio import originals
from studio.errors import OutOfMemory, RecipeError
from studio.families import Model, Row
from studio.families.stock import Stock
from studio.models import catalog
from studio.models.manager import Manager
from studio.moments import Moment, Moments, Stored
from studio.previews import LatentPreview
from studio.recipe import Recipe
from studio.samplers import Sampler
from studio.sources import Sources
from studio.stock_run import StockRun

log = logging.getLogger(__name__)


class TorchRun:
    """One job on the device (`studio.engine.Run`).

    latents: what the sampler holds, (1, c, h, w) float32. clean: the predicted clean latents, from the first step on.
    moments: what it held after each number of steps.
    """

    def __init__(self, model: Model, recipe: Recipe, sources: Sources) -> None:
        self.recipe = recipe
        self.sampler = model.sampler(recipe)
        # Noise that the sampler adds later goes on where the starting noise ended.
        self.generator = torch.Generator().manual_seed(recipe.seed)
        noise = model.noise(recipe, self.generator)
        picture, mask = originals.worked_on(recipe, sources)
        self.beside = model.beside(recipe, picture, mask)
        self.original = originals.encode(model, picture, mask, noise) if picture else None
        self.latents = self._first_latents(self.sampler, noise)
        self.clean = self.sampler.model_input(self.latents) if self.original else noise
        self.total = recipe.steps_run
        self.moments: dict[int, Moment] = {}
        self.projection = model.projection
        self.remember(model)

    @property
    def done(self) -> int:
        return self.sampler.done

    def preview(self, kind: Literal["clean", "noisy"]) -> LatentPreview:
        """Before the first step either kind shows the starting noise."""
        return self.projection(self.clean if kind == "clean" else self.sampler.model_input(self.latents))

    @property
    def key(self) -> Hashable:
        return (self.recipe.model, self.latents.shape, self.prompts.key)

    @property
    def weight(self) -> int:
        return sum(moment.weight for moment in self.moments.values())

    def look_back(self, step: int) -> LatentPreview:
        """The predicted clean picture after so many steps. Raises KeyError if it went by without being kept."""
        with torch.inference_mode():
            return self.projection(self.moments[step].clean)

    def remember(self, model: Model) -> None:
        """Keep what is held now, and take the turn that the recipe has here. In the middle of a step, do nothing."""
        if self.done not in self.moments:
            self.moments[self.done] = Moment(self.latents, self.clean, self.sampler.copy(), self.generator.get_state())
            self._take_turn(model)

    def _take_turn(self, model: Model) -> None:
        turn = self.recipe.turn(self.done)
        if self.done < self.total and (turn.sampler or turn.noise):
            self._mix_anew(model, turn.noise)
        now = self.recipe.at(self.done)
        self.guidance_scale = now.guidance_scale
        # Encoded prompts are cached by the model.
        self.prompts = model.encode(now.prompt, now.negative_prompt, model.guided(now))

    def change(self, recipe: Recipe, model: Model) -> None:
        """Go on from where it stands with a recipe that differs in what comes now and later."""
        # As a fork of itself: what was changed here before is taken back first, and not taken twice.
        vars(self).update(vars(self.fork(self.done, recipe, model)))

    def fork(self, step: int, recipe: Recipe, model: Model) -> "TorchRun":
        """A run of a recipe that is the same up to `step`, taken up there."""
        result = copy.copy(self)
        moment = self.moments[step]
        result.recipe, result.latents, result.clean = recipe, moment.latents, moment.clean
        result.sampler = moment.sampler.copy()
        result.generator = torch.Generator()
        result.generator.set_state(moment.random)
        result.moments = {done: each for done, each in self.moments.items() if done <= step}
        result._take_turn(model)
        return result

    def _first_latents(self, sampler: Sampler, noise: Tensor) -> Tensor:
        if self.original:
            return replace(self.original, noise=noise).start(sampler, self.recipe.strength)
        return noise * sampler.initial_scale

    def _mix_anew(self, model: Model, fresh: tuple[float, int] | None) -> None:
        """Begin a sampler in the middle, with the clean picture and the noise of now, part of it `fresh` (`Turn`).

        A sampler that goes on would, from what it remembers, undo fresh noise (UniPC) or exaggerate it (DPM++ 2M).
        """
        done = self.done
        if done:
            noise = self.sampler.noise_in(self.latents, self.clean)
        else:
            noise = self.original.noise if self.original else self.clean
        if fresh:
            strength, seed = fresh
            drawn = model.noise(self.recipe, torch.Generator().manual_seed(seed))
            noise = (1 - strength**2) ** 0.5 * noise + strength * drawn
        self.sampler = model.sampler(self.recipe.at(done))
        self.sampler.go_to(done)
        self.latents = self.sampler.noised(self.clean, noise) if done else self._first_latents(self.sampler, noise)
        if done and self.original:
            self.latents = self.original.hold(self.sampler, self.latents, self.total)


class TorchWorker:
    """Draws on the device of a model manager, from start pictures of a store (`studio.engine.Worker`)."""

    rows = 16

    def __init__(self, models: Manager, sources: Sources, moments: Moments | None = None) -> None:
        self._models, self._sources, self._moments = models, sources, moments

    def check(self, recipe: Recipe) -> None:
        entry = self._models.entry(recipe.model)
        family = catalog.family(entry)
        for sampler in (recipe.sampler, *(turn.sampler for turn in recipe.turns if turn.sampler)):
            if sampler not in family.samplers:
                known = ", ".join(family.samplers)
                raise RecipeError(f"{family.family} has no sampler {sampler[:40]!r}. Choose one of {known}.")
        family.check(recipe)
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

    def begin(self, recipe: Recipe, origin: tuple[Any, int] | None = None) -> Any:
        """A TorchRun, or a StockRun of a model that runs through its stock pipeline."""
        with _device_errors():
            model = self._models.use(recipe.model)
            if isinstance(model, Stock):
                return StockRun(model, recipe, self._sources)
            _check_samplers(recipe, model)
            if origin and _agree(origin[0].recipe, origin[1], recipe):
                past, step = origin
                if isinstance(past, TorchRun) and step in past.moments:
                    return past.fork(step, recipe, model)
                if isinstance(past, Stored):
                    return self._taken_up(past, step, recipe, model)
            return TorchRun(model, recipe, self._sources)

    def _taken_up(self, past: Stored, step: int, recipe: Recipe, model: Model) -> TorchRun:
        """A run that goes on from moments on disk, or from the start if they cannot be read."""
        run = TorchRun(model, recipe, self._sources)
        try:
            moments = past.read(step, model.sampler, model.device)
        except KeyError:
            return run
        if all(each.latents.shape == each.clean.shape == run.latents.shape for each in moments.values()):
            run.moments = moments
            return run.fork(step, recipe, model)
        return run

    def change(self, run: TorchRun | StockRun, recipe: Recipe) -> None:
        if isinstance(run, StockRun):
            self.check(recipe)
            run.recipe = recipe
            return
        with _device_errors():
            model = self._models.use(recipe.model)
            _check_samplers(recipe, model)
            run.change(recipe, model)

    def keep_steps(self, run: TorchRun | StockRun, picture: str) -> None:
        if self._moments and isinstance(run, TorchRun):
            with torch.inference_mode():
                self._moments.keep(picture, run.recipe, dict(run.moments), run.projection)

    def recall(self, picture: str) -> Stored | None:
        return self._moments.recall(picture) if self._moments else None

    def step(self, runs: Sequence[TorchRun]) -> None:
        with _device_errors():
            model = self._models.use(runs[0].recipe.model)
            if isinstance(model, Stock):
                for run in runs:
                    cast(StockRun, run).step(model)
                return
            inputs = [run.sampler.model_input(run.latents) for run in runs]
            rows = [
                Row(model_input, run.sampler.timestep, run.prompts, run.guidance_scale, run.beside)
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
                run.remember(model)

    def decode(self, run: TorchRun | StockRun) -> Image:
        with _device_errors():
            model = self._models.use(run.recipe.model)
            drawn = run.decode(cast(Stock, model)) if isinstance(run, StockRun) else model.decode(run.clean)
            return originals.put_back(drawn, run.recipe, self._sources)


def _agree(past: Recipe, step: int, recipe: Recipe) -> bool:
    """Whether runs of these two recipes hold the same after `step` steps."""
    then = tuple(turn for turn in past.turns if turn.step < step)
    now = tuple(turn for turn in recipe.turns if turn.step < step)
    return replace(past, turns=then) == replace(recipe, turns=now)


def _check_samplers(recipe: Recipe, model: Model) -> None:
    """Raise RecipeError at once for a sampler that could not be built when its turn comes."""
    for turn in recipe.turns:
        if turn.sampler:
            model.sampler(recipe.at(turn.step))


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
