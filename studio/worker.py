"""The engine's worker on a real device: begin a job, step many in one model call, decode.

Everything here runs on the engine's thread, except `check`, `look_back`, `keep_steps` and `recall`.
"""

import copy
import logging
import weakref
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from diffusers import AutoencoderKL
from PIL.Image import Image
from torch import Tensor

from studio import addons, controls, faults, memory, originals, prompts, tags
from studio.addons import File
from studio.errors import OutOfMemory, RecipeError, about
from studio.families import Guide, Model, Row, adapters
from studio.families.base import tensors
from studio.families.stock import Stock
from studio.models import catalog, placement
from studio.models.loading import Report
from studio.models.manager import Manager
from studio.models.needs import Needs
from studio.moments import Moment, Moments, Stored, nearest
from studio.previews import LatentPreview
from studio.recipe import Control, Recipe, Turn
from studio.samplers import Sampler, check_schedule
from studio.sources import Sources
from studio.stock_run import StockRun
from studio.tags import Lora

ROWS = 16
"""The most runs in one call, however small their pictures."""

GIVEN_BACK = 16
"""After so many pictures, memory that is not used any more is given back to the system: it would pile up otherwise."""

STEPS_HELD = 512 * 2**20
"""Bytes of memory for the steps of all pictures, finished or in the making, that one can go back to."""

log = logging.getLogger(__name__)


class TorchRun:
    """One job on the device (`studio.engine.Run`).

    latents: what the sampler holds, (1, c, h, w) float32. clean: the predicted clean latents, from the first step on.
    moments: what it held after so many steps: after each, or, thinned out, after every second, fourth and so on. The
    start and the latest are always there. Other threads read a copy.
    """

    def __init__(self, model: Model, recipe: Recipe, sources: Sources, models: Manager) -> None:
        self.recipe = recipe
        self.notes: tuple[str, ...] = ()
        self._models = models
        self._read: tuple[Any, str, str] | None = None
        self.loras: tuple[Lora, ...] = ()
        self.words: dict[str, str] = {}
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
        self.guides: tuple[Guide, ...] = ()
        self.moments: dict[int, Moment] = {}
        self._stride = 1
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
        working = tuple((lora.file, lora.denoiser) for lora in self.loras if lora.denoiser)
        guides = tuple((guide.kind == "ip-adapter", guide.key) for guide in self.guiding)
        return (self.recipe.model, self.latents.shape, self.prompts.key, working, guides)

    @property
    def guiding(self) -> tuple[Guide, ...]:
        """The controls that take part in the next step."""
        return tuple(guide for guide in self.guides if self.done < self.total and guide.works(self.done, self.total))

    @property
    def weight(self) -> int:
        """Bytes of its steps, and of what the model reads in each of them."""
        read = (self.original, self.beside, *(guide.given for guide in self.guides))
        return self.steps + self.prompts.bytes + sum(tensor.nbytes for tensor in tensors(read))

    @property
    def steps(self) -> int:
        """Bytes of its steps, which are all of one size."""
        moment = next(iter(self.moments.values()), None)
        return len(self.moments) * moment.weight if moment else 0

    def look_back(self, step: int) -> tuple[int, LatentPreview]:
        moments = dict(self.moments)
        if (kept := nearest(moments, step)) is None:
            raise KeyError(step)
        with torch.inference_mode():
            return kept, self.projection(moments[kept].clean)

    def remember(self, model: Model) -> None:
        """Keep what is held now, and take the turn that the recipe has here. In the middle of a step, do nothing."""
        if self.done not in self.moments:
            latest = max(self.moments, default=0)
            if latest % self._stride:
                del self.moments[latest]
            self.moments[self.done] = Moment(self.latents, self.clean, self.sampler.copy(), self.generator.get_state())
            self._take_turn(model)

    @property
    def can_thin(self) -> bool:
        """Whether there is more than the start and the latest."""
        return len(self.moments) > 2

    def thin(self) -> None:
        """Forget every other step that is remembered, and keep fewer from now on. The engine's thread alone."""
        self._stride *= 2
        latest = max(self.moments)
        kept = {step: each for step, each in self.moments.items() if step % self._stride == 0 or step == latest}
        self.moments = kept

    def _take_turn(self, model: Model) -> None:
        turn = self.recipe.turn(self.done)
        if self.done < self.total and (turn.sampler or turn.schedule or turn.noise):
            self._mix_anew(model, turn.noise)
        now = self.recipe.at(self.done)
        self.guidance_scale = now.guidance_scale
        prompt, loras = tags.split(now.prompt)
        negative, _ = tags.split(now.negative_prompt)
        # Looked up anew for other prompts, and for a model that was loaded anew and has learned nothing yet.
        if self._read != (read := (weakref.ref(model.loras), now.prompt, now.negative_prompt)):
            self.loras, self.words = self._found(model, loras, prompt, negative)
            self._read = read
        # Encoded prompts are cached by the model, and encoded with the LoRAs at work.
        for note in model.loras.use(self.loras, now.model):
            _note(self, note)
        # After the last step the words of the last step stand.
        step = max(min(self.done, self.total - 1), 0)
        guided = model.guided(now) and self.recipe.guides(step)
        texts = (model.words(text, step, self.total) for text in (prompt, negative))
        prompt, negative = (tags.replaced(text, self.words) for text in texts)
        self.prompts = model.encode(prompt, negative, guided, now.clip_skip, self.loras)

    def _found(
        self, model: Model, loras: tuple[Lora, ...], prompt: str, negative: str
    ) -> tuple[tuple[Lora, ...], dict[str, str]]:
        """What the prompts ask for, looked up on disk: LoRAs, and what stands for each embedding in a prompt."""
        models = self._models
        located = models.ask("lora", lambda found: tags.located(loras, found)) if loras else ()
        if model.embeddings is None:
            return located, {}
        fits = addons.belongs(models.entry(self.recipe.model).config)
        files = tags.embeddings_in((prompt, negative), models.seen("embedding"), models.allow_pickles, fits)
        return located, model.embeddings.words(files, self.recipe.model, models.allow_pickles)

    def change(self, recipe: Recipe, model: Model) -> None:
        """Go on from where it stands with a recipe that differs in what comes now and later."""
        # As a fork of itself: what was changed here before is taken back first, and not taken twice.
        other = self.fork(self.done, recipe, model)
        other.notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        vars(self).update(vars(other))

    def fork(self, step: int, recipe: Recipe, model: Model) -> "TorchRun":
        """A run of a recipe that is the same up to `step`, taken up there. That step is remembered."""
        result = copy.copy(self)
        result._stride, result.notes = 1, ()
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

    rows = ROWS

    def __init__(self, models: Manager, sources: Sources, moments: Moments | None = None) -> None:
        self._models, self._sources, self._moments = models, sources, moments
        self._runs: weakref.WeakSet[TorchRun] = weakref.WeakSet()
        self._guides: weakref.WeakValueDictionary[Hashable, Guide] = weakref.WeakValueDictionary()
        self._needs = Needs(models)
        self._kept = 0
        self.preparer = controls.Preparer(sources)

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
        if recipe.guidance_rescale is not None and not family.rescales_guidance:
            raise RecipeError(f"{recipe.model} does not rescale guidance. Leave that field empty.", "guidance_rescale")
        if facts and (recipe.width % facts.multiple or recipe.height % facts.multiple):
            raise RecipeError(
                f"{recipe.width}x{recipe.height} is no size for {recipe.model}: "
                f"both sides must be multiples of {facts.multiple}.",
                *(side for side in ("width", "height") if getattr(recipe, side) % facts.multiple),
            )

        self._check_addons(recipe, family)

    def _check_addons(self, recipe: Recipe, family: type[Model]) -> None:
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
        if recipe.clip_skip != 1 and not family.skips_clip:
            raise RecipeError(f"{recipe.model} has no clip skip. Set it to 1.", "clip_skip")
        if recipe.vae:
            with about("vae"):
                self._vae(recipe)
        with about("controls"):
            self._check_controls(recipe, family)

    def _check_controls(self, recipe: Recipe, family: type[Model]) -> None:
        for control in recipe.controls:
            if not family.takes_controls:
                raise RecipeError(f"{recipe.model} takes no controls. Take them away, or choose another model.")
            self._sources.path(control.picture)
            self._control(control)
            if control.kind == "depth" and not self._models.seen("depth"):
                raise RecipeError(controls.NO_DEPTH)

    def _control(self, control: Control) -> File:
        ip = control.kind == "ip-adapter"
        kind, what = ("ip-adapter", "IP-Adapter") if ip else ("controlnet", "ControlNet")
        return self._models.ask(kind, lambda found: addons.chosen(control.model, found, what))

    def _guide(self, model: Model, recipe: Recipe, control: Control) -> Guide:
        """A control's picture as the model reads it takes some megabytes, so runs that have the same share it."""
        file, part = self._control(control), recipe.part if recipe.mask else None
        key = (control, file, recipe.model, recipe.width, recipe.height, recipe.source, part)
        if not (guide := self._guides.get(key)):
            picture = self.preparer.of(control, recipe, next(iter(self._models.seen("depth").values()), None))
            encoders = list(self._models.seen("image encoder").values())
            guide = self._guides[key] = model.guide(control, file, recipe.model, picture, encoders)
        return guide

    def _vae(self, recipe: Recipe) -> File:
        return self._models.ask("vae", lambda found: addons.chosen(recipe.vae, found, "VAE"))

    def _model(self, recipe: Recipe) -> Model:
        """The recipe's model, with the VAE that it asks for."""
        model = self._models.use(recipe.model)
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

    def begin(self, recipe: Recipe, origin: tuple[Any, int] | None = None) -> Any:
        """A TorchRun, or a StockRun of a model that runs through its stock pipeline."""
        note = ""
        try:
            run = self._begin(recipe, origin)
        except OutOfMemory:
            if not self._models.loaded(recipe.model) or not (note := self._smaller(recipe.model)):
                raise
            run = self._begin(recipe, origin)
        _note(run, note)
        if isinstance(run, TorchRun):
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

    def _begin(self, recipe: Recipe, origin: tuple[Any, int] | None) -> TorchRun | StockRun:
        with _device_errors():
            model = self._model(recipe)
            if isinstance(model, Stock):
                run = StockRun(model, recipe, self._sources)
                for sentence in model.notes:
                    _note(run, sentence)
                return run
            _check_samplers(recipe, model)
            if origin and _agree(origin[0].recipe, origin[1], recipe):
                past, step = origin
                # Where that step was thinned out, it is run again from the nearest before it, turns between included.
                if isinstance(past, TorchRun) and (kept := nearest(past.moments, step)) is not None:
                    return past.fork(kept, recipe, model)
                if isinstance(past, Stored):
                    return self._taken_up(past, step, recipe, model)
            return self._begun(recipe, model)

    def _begun(self, recipe: Recipe, model: Model) -> TorchRun:
        with self._reading(recipe, model) as note:
            run = TorchRun(model, recipe, self._sources, self._models)
        _note(run, note)
        run.guides = tuple(self._guide(model, recipe, control) for control in recipe.controls)
        for sentence in (*model.notes, *(guide.note for guide in run.guides)):
            _note(run, sentence)
        return run

    def _taken_up(self, past: Stored, step: int, recipe: Recipe, model: Model) -> TorchRun:
        """A run that goes on from moments on disk, or from the start if they cannot be read."""
        run = self._begun(recipe, model)
        try:
            moments = past.read(step, model.sampler, model.device)
        except KeyError:
            return run
        if all(each.latents.shape == each.clean.shape == run.latents.shape for each in moments.values()):
            run.moments = moments
            return run.fork(max(moments), recipe, model)
        return run

    def change(self, run: TorchRun | StockRun, recipe: Recipe) -> None:
        if isinstance(run, StockRun):
            self.check(recipe)
            run.recipe = recipe
            return
        with _device_errors():
            model = self._model(recipe)
            _check_samplers(recipe, model)
            run.change(recipe, model)

    def keep_steps(self, run: TorchRun | StockRun, picture: str) -> None:
        self._kept += 1
        if self._kept % GIVEN_BACK == 0:
            memory.give_back()
        if self._moments and isinstance(run, TorchRun):
            with torch.inference_mode():
                self._moments.keep(picture, run.recipe, dict(run.moments), run.projection)

    def recall(self, picture: str) -> Stored | None:
        return self._moments.recall(picture) if self._moments else None

    def room(self, run: TorchRun | StockRun) -> int:
        """How many runs like this one a call may hold, by the memory that is free now."""
        if isinstance(run, StockRun) or not self._models.loaded(run.recipe.model):
            return self.rows
        need = self._need(run, self._models.use(run.recipe.model))
        return self._needs.room(need, self.rows)

    def _need(self, run: TorchRun, model: Model) -> int:
        """Bytes that a run's next step takes: a sample for each of its prompts."""
        nets = sum(guide.kind == "controlnet" for guide in run.guiding)
        one = self._needs.step(model, run.recipe.width * run.recipe.height, nets)
        return one * len(run.prompts.all)

    @contextmanager
    def _reading(self, recipe: Recipe, model: Model) -> Iterator[str]:
        """Inside, a start picture is read by the autoencoder: in tiles, where there is too little memory for all.

        Gives what a person is told of it.
        """
        need = self._needs.picture(model, recipe.width * recipe.height) if recipe.source else 0
        if not self._needs.fit(need) and isinstance(model.vae, AutoencoderKL):
            with placement.tiled(model.vae):
                yield "There was too little memory to read the start picture at once, so it was read in tiles."
            return
        self._needs.refuse("Reading the start picture", need)
        yield ""

    def step(self, runs: Sequence[TorchRun]) -> None:
        try:
            self._step(runs)
        except OutOfMemory:
            # Several runs are divided by the engine; one is tried once more in a smaller way.
            if len(runs) > 1 or not (note := self._smaller(runs[0].recipe.model)):
                raise
            self._step(runs)
            _note(runs[0], note)

    def _step(self, runs: Sequence[TorchRun]) -> None:
        with _device_errors():
            model = self._models.use(runs[0].recipe.model)
            if isinstance(model, Stock):
                for run in runs:
                    recipe = run.recipe
                    self._needs.refuse("A step", self._needs.step(model, recipe.width * recipe.height))
                    cast(StockRun, run).step(model)
                return
            need = sum(self._need(run, model) for run in runs)
            self._needs.refuse("A step", need)
            inputs = [run.sampler.model_input(run.latents) for run in runs]
            rows = [
                Row(
                    model_input,
                    run.sampler.timestep,
                    run.prompts,
                    run.guidance_scale,
                    run.beside,
                    run.guiding,
                    run.recipe.guidance_rescale,
                )
                for run, model_input in zip(runs, inputs, strict=True)
            ]
            model.loras.use(runs[0].loras, runs[0].recipe.model)
            with self._needs.watched(model, "step", need):
                outputs = model.predict(rows)
            for run, model_input, output in zip(runs, inputs, outputs, strict=True):
                run.clean = run.sampler.clean(model_input, output)
                run.latents = run.sampler.step(output, run.latents, run.generator)
                if run.original:
                    run.latents = run.original.hold(run.sampler, run.latents, run.total)
                if run.done == run.total:
                    run.clean = run.latents
                run.remember(model)
        self._bound_steps()

    def decode(self, run: TorchRun | StockRun) -> Image:
        with _device_errors():
            model = self._model(run.recipe)
        need = self._needs.picture(model, run.recipe.width * run.recipe.height)
        has_tiles = hasattr(model.vae, "enable_tiling")
        try:
            if has_tiles and not self._needs.fit(need):
                raise OutOfMemory("It would not fit.")
            self._needs.refuse("Decoding the picture", need)
            with _device_errors(), self._needs.watched(model, "picture", need):
                drawn = _decoded(run, model)
        except OutOfMemory:
            if not has_tiles:
                raise
            with _device_errors(), placement.tiled(model.vae):
                drawn = _decoded(run, model)
            _note(run, "There was too little memory to decode the picture at once, so it was decoded in tiles.")
        with _device_errors():
            faults.check_latents(run.latents, run.recipe, model.dtype)
            if run.done == run.total:
                _note(run, faults.remark(drawn, run.recipe, model.dtype))
            return originals.put_back(drawn, run.recipe, self._sources)

    def _smaller(self, name: str) -> str:
        """What was done so that the work on a model needs less memory, in a sentence; empty if nothing can be."""
        with _device_errors():
            return self._models.smaller(name)


def _decoded(run: TorchRun | StockRun, model: Model) -> Image:
    return run.decode(cast(Stock, model)) if isinstance(run, StockRun) else model.decode(run.clean)


def _note(run: TorchRun | StockRun, sentence: str) -> None:
    """Tell with a run's picture what was done because memory ran out, or what is wrong with it."""
    if sentence and sentence not in run.notes:
        log.warning(sentence)
        run.notes = (*run.notes, sentence)


def _agree(past: Recipe, step: int, recipe: Recipe) -> bool:
    """Whether runs of these two recipes hold the same after `step` steps."""
    then = tuple(turn for turn in past.turns if turn.step < step)
    now = tuple(turn for turn in recipe.turns if turn.step < step)
    return replace(past, turns=then) == replace(recipe, turns=now)


def _check_samplers(recipe: Recipe, model: Model) -> None:
    """Raise RecipeError at once for a sampler that could not be built when its turn comes."""
    for turn in recipe.turns:
        if turn.sampler or turn.schedule:
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
