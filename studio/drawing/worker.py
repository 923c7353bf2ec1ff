"""The engine's worker on a real device: begin a job, step many in one model call, decode.

Everything here runs on the engine's thread, except `check`, `look_back`, `keep_steps` and `recall`.
"""

import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import singledispatch
from typing import Any, Literal

import torch
from PIL.Image import Image

from studio import memory
from studio.drawing import faults, originals, stock_run, torch_run
from studio.drawing.moments import Moments, Stored
from studio.drawing.run import Bench, DeviceRun
from studio.errors import OutOfMemory, RecipeError, about
from studio.families import Family, Model, placement
from studio.families.addons import adapters
from studio.families.samplers import check_schedule
from studio.families.stock.family import Stock
from studio.files import addons
from studio.files.addons import File
from studio.models import catalog
from studio.models.loading import Report
from studio.models.manager import Manager
from studio.models.needs import Needs
from studio.pictures import controls
from studio.pictures.sources import Sources
from studio.recipe.fields import NUMBERS
from studio.recipe.recipe import Recipe, Turn
from studio.words import prompts, tags

ROWS = 16
"""The most runs in one call, however small their pictures."""

GIVEN_BACK = 16
"""After so many pictures, memory that is not used any more is given back to the system: it would pile up otherwise."""

STEPS_HELD = 512 * 2**20
"""Bytes of memory for the steps of all pictures, finished or in the making, that one can go back to."""

log = logging.getLogger(__name__)


@singledispatch
def begun(model: Family, recipe: Recipe, origin: tuple[Any, int] | None, bench: Bench) -> DeviceRun:
    """The run of a recipe on this model, which is loaded. origin: as in `studio.engine.protocols.Worker.begin`."""
    raise TypeError(f"Nothing here runs a {type(model).__name__}.")


begun.register(Model, torch_run.begun)
begun.register(Stock, stock_run.begun)


class TorchWorker:
    """Draws on the device of a model manager, from start pictures of a store (`studio.engine.protocols.Worker`)."""

    rows = ROWS

    def __init__(self, models: Manager, sources: Sources, moments: Moments | None = None) -> None:
        self._models, self._sources, self._moments = models, sources, moments
        self._runs: weakref.WeakSet[DeviceRun] = weakref.WeakSet()
        self._bench = Bench(models, sources, Needs(models), controls.Preparer(sources))
        self._kept = 0

    def check(self, *recipes: Recipe) -> None:
        self._models.entries()  # once for all of them
        for recipe in recipes:
            self._check(recipe)

    def _check(self, recipe: Recipe) -> None:
        entry = self._models.entry(recipe.model)
        family = catalog.family(entry)
        for sampler in (recipe.sampler, *(turn.sampler for turn in recipe.turns if turn.sampler)):
            if sampler not in family.samplers:
                known = ", ".join(family.samplers)
                sentence = f"{family.family} has no sampler {sampler[:40]!r}. Choose one of {known}."
                raise RecipeError(sentence, "sampler" if sampler == recipe.sampler else "turns")
        family.check(recipe)
        facts = entry.facts
        for now in (recipe, *(recipe.at(turn.step) for turn in (Turn(0), *recipe.turns))):
            with about("schedule"):
                check_schedule(family.samplers, now.sampler, now.schedule)
            with about("prompt"):
                prompts.check(now.prompt)
            with about("negative_prompt"):
                prompts.check(now.negative_prompt)
        for name in filter(None, (recipe.source, recipe.mask)):
            self._sources.path(name)
        if facts and recipe.negative_prompt and not facts.negative_prompt:
            sentence = f"{recipe.model} takes no negative prompt. Clear it, and say what to draw instead."
            raise RecipeError(sentence, "negative_prompt")
        for field in NUMBERS:
            if field.refused and recipe.sets(field.name) and not getattr(family, field.takes):
                raise RecipeError(field.refused.format(model=recipe.model), field.name)
        if facts and (recipe.width % facts.multiple or recipe.height % facts.multiple):
            raise RecipeError(
                f"{recipe.width}x{recipe.height} is no size for {recipe.model}: "
                f"both sides must be multiples of {facts.multiple}.",
                *(side for side in ("width", "height") if getattr(recipe, side) % facts.multiple),
            )

        self._check_addons(recipe, family)

    def _check_addons(self, recipe: Recipe, family: type[Family]) -> None:
        """Raise RecipeError or ModelError for a LoRA that is not there, or has no effect on this model."""
        steps = [0, *(turn.step for turn in recipe.turns)]
        prompts = {recipe.at(step).prompt for step in steps}
        loras = [lora for prompt in prompts for lora in tags.split(prompt)[1]]
        if loras and not family.takes_loras:
            raise RecipeError(f"{recipe.model} takes no LoRAs. Take {loras[0].name} out of the prompt.", "prompt")
        base = self._models.entry(recipe.model).base
        with about("prompt"):
            for lora in tags.located(loras, self._models.seen("lora")) if loras else ():
                adapters.check(lora, recipe.model, base)
        if family.reads_embeddings and (found := self._models.seen("embedding")):
            negatives = {recipe.at(step).negative_prompt for step in steps}
            fits = addons.belongs(self._models.entry(recipe.model).config)
            with about("prompt"):
                tags.embeddings_in(prompts | negatives, found, self._models.allow_pickles, fits)
        if recipe.vae:
            with about("vae"):
                self._vae(recipe)
        with about("controls"):
            self._check_controls(recipe, family)

    def _check_controls(self, recipe: Recipe, family: type[Family]) -> None:
        for control in recipe.controls:
            if not family.takes_controls:
                raise RecipeError(f"{recipe.model} takes no controls. Take them away, or choose another model.")
            self._sources.path(control.picture)
            self._bench.control(control)
            if control.kind == "depth" and not self._models.seen("depth"):
                raise RecipeError(controls.NO_DEPTH)

    def _vae(self, recipe: Recipe) -> File:
        return self._models.ask("vae", lambda found: addons.chosen(recipe.vae, found, "VAE"))

    def _model(self, recipe: Recipe) -> Family:
        """The recipe's model, with the VAE that it asks for."""
        model: Any = self._models.use(recipe.model)
        return model.with_vae(self._vae(recipe), recipe.model) if recipe.vae else model

    def loaded(self, model: str) -> bool:
        return self._models.loaded(model)

    def fetch(self, model: str, alone: bool, report: Report) -> Literal["read", "reading", "wait"]:
        return self._models.fetch(model, alone, report)

    def load(self, model: str, report: Report) -> None:
        with _device_errors():
            self._models.use(model, report)

    def free(self, model: str) -> None:
        self._models.free(model)

    def begin(self, recipe: Recipe, origin: tuple[Any, int] | None = None) -> DeviceRun:
        note = ""
        try:
            run = self._begin(recipe, origin)
        except OutOfMemory:
            if not self._models.loaded(recipe.model) or not (note := self._smaller(recipe.model)):
                raise
            run = self._begin(recipe, origin)
        run.note(note)
        return self._held(run)

    def _begin(self, recipe: Recipe, origin: tuple[Any, int] | None) -> DeviceRun:
        with _device_errors():
            return begun(self._model(recipe), recipe, origin, self._bench)

    def change(self, run: DeviceRun, recipe: Recipe) -> DeviceRun:
        with _device_errors():
            changed = run.changed(recipe, self._model(recipe))
        self._runs.discard(run)  # what it remembers is now the other's
        return self._held(changed)

    def _held(self, run: DeviceRun) -> DeviceRun:
        """The run, whose steps count from now on."""
        self._runs.add(run)
        self._bound_steps()
        return run

    def _bound_steps(self) -> None:
        """Thin out the steps of the runs that remember most, until those of all runs fit into STEPS_HELD."""
        runs = list(self._runs)
        over = sum(run.steps for run in runs) - STEPS_HELD
        while over > 0 and (thick := [run for run in runs if run.can_thin]):
            heaviest = max(thick, key=lambda run: run.steps)
            over -= heaviest.steps
            heaviest.thin()
            over += heaviest.steps

    def keep_steps(self, run: DeviceRun, picture: str) -> None:
        self._kept += 1
        if self._kept % GIVEN_BACK == 0:
            memory.give_back()
        if self._moments:
            run.keep(self._moments, picture)

    def recall(self, picture: str) -> Stored | None:
        return self._moments.recall(picture) if self._moments else None

    def room(self, run: DeviceRun) -> int:
        """How many runs like this one a call may hold, by the memory that is free now."""
        if not self._models.loaded(run.recipe.model):
            return self.rows
        return self._bench.needs.room(run.need(self._bench.needs, self._models.use(run.recipe.model)), self.rows)

    def step(self, runs: Sequence[DeviceRun]) -> None:
        try:
            self._step(runs)
        except OutOfMemory:
            # Several runs are divided by the engine; one is tried once more in a smaller way.
            if len(runs) > 1 or not (note := self._smaller(runs[0].recipe.model)):
                raise
            self._step(runs)
            runs[0].note(note)

    def _step(self, runs: Sequence[DeviceRun]) -> None:
        with _device_errors():
            runs[0].step(runs, self._models.use(runs[0].recipe.model), self._bench.needs)
        self._bound_steps()

    def decode(self, run: DeviceRun) -> Image:
        with _device_errors():
            model = self._model(run.recipe)
        need = self._bench.needs.picture(model, run.recipe.width * run.recipe.height)
        has_tiles = hasattr(model.vae, "enable_tiling")
        try:
            if has_tiles and not self._bench.needs.fit(need):
                raise OutOfMemory("It would not fit.")
            self._bench.needs.refuse("Decoding the picture", need)
            with _device_errors(), self._bench.needs.watched(model, "picture", need):
                drawn = run.decode(model)
        except OutOfMemory:
            if not has_tiles:
                raise
            with _device_errors(), placement.tiled(model.vae):
                drawn = run.decode(model)
            run.note("There was too little memory to decode the picture at once, so it was decoded in tiles.")
        with _device_errors():
            faults.check_latents(run.latents, run.recipe, model.dtype)
            if run.done == run.total:
                run.note(faults.remark(drawn, run.recipe, model.dtype))
            return originals.put_back(drawn, run.recipe, self._sources)

    def _smaller(self, name: str) -> str:
        """What was done so that the work on a model needs less memory, in a sentence; empty if nothing can be."""
        with _device_errors():
            return self._models.smaller(name)


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
