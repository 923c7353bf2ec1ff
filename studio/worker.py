"""The engine's worker on a real device: begin a job, step many in one model call, decode.

Everything here runs on the engine's thread, except `check`.
"""

import copy
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from PIL.Image import Image
from torch import Tensor

from studio import originals
from studio.errors import OutOfMemory, RecipeError
from studio.families import Model, Row
from studio.models import catalog, placement
from studio.models.manager import Manager
from studio.previews import LatentPreview
from studio.recipe import Recipe
from studio.samplers import Sampler
from studio.sources import Sources

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a run held after a number of steps. The tensors are the run's own, which are never written into."""

    latents: Tensor
    clean: Tensor
    sampler: Sampler
    random: Tensor

    @property
    def weight(self) -> int:
        """Bytes, about: samplers of several steps hold as much again."""
        return 2 * (self.latents.nbytes + self.clean.nbytes) + self.random.nbytes


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
        if self.original:
            self.latents = self.original.start(self.sampler, recipe.strength)
            self.clean = self.sampler.model_input(self.latents)
        else:
            self.latents = noise * self.sampler.initial_scale
            self.clean = noise
        self.total = recipe.steps_run
        self.moments: dict[int, Moment] = {}
        self.note = ""
        self._projection = model.projection
        self.remember(model)

    @property
    def done(self) -> int:
        return self.sampler.done

    def preview(self, kind: Literal["clean", "noisy"]) -> LatentPreview:
        """Before the first step either kind shows the starting noise."""
        return self._projection(self.clean if kind == "clean" else self.sampler.model_input(self.latents))

    @property
    def key(self) -> Hashable:
        return (self.recipe.model, self.latents.shape, self.prompts.key)

    @property
    def weight(self) -> int:
        return sum(moment.weight for moment in self.moments.values())

    def look_back(self, step: int) -> LatentPreview:
        """The predicted clean picture after so many steps. Raises KeyError if it went by without being kept."""
        with torch.inference_mode():
            return self._projection(self.moments[step].clean)

    def remember(self, model: Model) -> None:
        """Keep what is held now, and take the turn that the recipe has here, if it has one."""
        if self.done not in self.moments:
            self.moments[self.done] = Moment(self.latents, self.clean, self.sampler.copy(), self.generator.get_state())
        now = self.recipe.at(self.done)
        self.guidance_scale = now.guidance_scale
        # Encoded prompts are cached by the model.
        self.prompts = model.encode(now.prompt, now.negative_prompt, model.guided(now))

    def fork(self, step: int, recipe: Recipe, model: Model) -> "TorchRun":
        """A run of a recipe that is the same up to `step`, taken up there."""
        moment = self.moments[step]
        result = copy.copy(self)
        result.recipe, result.latents, result.clean = recipe, moment.latents, moment.clean
        result.sampler = moment.sampler.copy()
        result.generator = torch.Generator()
        result.generator.set_state(moment.random)
        result.moments = {done: each for done, each in self.moments.items() if done <= step}
        result.remember(model)
        return result


class TorchWorker:
    """Draws on the device of a model manager, from start pictures of a store (`studio.engine.Worker`)."""

    rows = 16

    def __init__(self, models: Manager, sources: Sources) -> None:
        self._models, self._sources = models, sources
        self.notes: deque[str] = deque(maxlen=16)
        """What was done because memory was short, in sentences, the latest at the end."""

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

    def fetch(self, model: str, alone: bool, report: Callable[[float], None]) -> Literal["read", "reading", "wait"]:
        return self._models.fetch(model, alone, report)

    def load(self, model: str, report: Callable[[float], None]) -> None:
        with _device_errors():
            self._models.use(model, report)

    def begin(self, recipe: Recipe, origin: tuple[TorchRun, int] | None = None) -> TorchRun:
        try:
            return self._begin(recipe, origin)
        except OutOfMemory:
            if not self._models.loaded(recipe.model) or not (note := self._smaller(recipe.model)):
                raise
            run = self._begin(recipe, origin)
            run.note = note
            return run

    def _begin(self, recipe: Recipe, origin: tuple[TorchRun, int] | None) -> TorchRun:
        with _device_errors():
            model = self._models.use(recipe.model)
            if origin and _agree(origin[0], origin[1], recipe):
                return origin[0].fork(origin[1], recipe, model)
            run = TorchRun(model, recipe, self._sources)
            run.note = self._models.note(recipe.model)
            return run

    def change(self, run: TorchRun, recipe: Recipe) -> None:
        with _device_errors():
            before, run.recipe = run.recipe, recipe
            try:
                run.remember(self._models.use(recipe.model))
            except Exception:
                run.recipe = before
                raise

    def step(self, runs: Sequence[TorchRun]) -> None:
        try:
            self._step(runs)
        except OutOfMemory:
            # Several runs are divided by the engine; one is tried once more in a smaller way.
            if len(runs) > 1 or not (note := self._smaller(runs[0].recipe.model)):
                raise
            self._step(runs)
            runs[0].note = note

    def _step(self, runs: Sequence[TorchRun]) -> None:
        with _device_errors():
            model = self._models.use(runs[0].recipe.model)
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

    def decode(self, run: TorchRun) -> Image:
        with _device_errors():
            model = self._models.use(run.recipe.model)
        try:
            with _device_errors():
                drawn = model.decode(run.clean)
        except OutOfMemory:
            if not hasattr(model.vae, "enable_tiling"):
                raise
            with _device_errors(), placement.tiled(model.vae):
                drawn = model.decode(run.clean)
            self._note("There was too little memory to decode the picture at once, so it was decoded in tiles.")
        with _device_errors():
            return originals.put_back(drawn, run.recipe, self._sources)

    def _smaller(self, name: str) -> str:
        with _device_errors():
            note = self._models.smaller(name)
        self._note(note)
        return note

    def _note(self, sentence: str) -> None:
        if sentence:
            log.warning(sentence)
            self.notes.append(sentence)


def _agree(run: TorchRun, step: int, recipe: Recipe) -> bool:
    """Whether a run of this recipe would have held, after `step` steps, what this run did then, and still has."""
    then = tuple(turn for turn in run.recipe.turns if turn.step < step)
    now = tuple(turn for turn in recipe.turns if turn.step < step)
    return step in run.moments and replace(run.recipe, turns=then) == replace(recipe, turns=now)


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
