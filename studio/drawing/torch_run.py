"""Runs that the studio steps itself: a sampler, latents, encoded prompts, and what was held after each step."""

import copy
import weakref
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from diffusers import AutoencoderKL
from PIL.Image import Image
from torch import Tensor

from studio.drawing import originals
from studio.drawing.moments import Moment, Moments, Stored, nearest
from studio.drawing.run import Bench, DeviceRun
from studio.families import Guide, Model, Row, placement
from studio.families.base import tensors
from studio.families.previews import LatentPreview
from studio.families.samplers import Sampler
from studio.files import addons
from studio.models.manager import Manager
from studio.models.needs import Needs
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from studio.words import tags
from studio.words.tags import Lora


class TorchRun(DeviceRun):
    """A job whose every step is a call of the model that it may share with others.

    latents: what the sampler holds, (1, c, h, w) float32. clean: the predicted clean latents, from the first step on.
    moments: what it held after so many steps: after each, or, thinned out, after every second, fourth and so on. The
    start and the latest are always there. Other threads read a copy.
    """

    def __init__(self, model: Model, recipe: Recipe, sources: Sources, models: Manager) -> None:
        self.recipe = recipe
        self._models = models
        self._read: tuple[Any, str, str] | None = None
        self.loras: tuple[Lora, ...] = ()
        self.words: dict[str, str] = {}
        self.sampler = model.sampler(recipe)
        # Noise that the sampler adds later goes on where the starting noise ended.
        self.generator = torch.Generator().manual_seed(recipe.seed)
        noise = _starting_noise(recipe, model, self.generator)
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
            self.note(note)
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

    def changed(self, recipe: Recipe, model: Model) -> Self:
        """A fork of itself: what was changed here before is taken back first, and not taken twice."""
        _check_samplers(recipe, model)
        result = self.fork(self.done, recipe, model)
        result.notes = tuple(dict.fromkeys((*self.notes, *result.notes)))
        return result

    def fork(self, step: int, recipe: Recipe, model: Model) -> Self:
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

    def need(self, needs: Needs, model: Model) -> int:
        """A sample for each of its prompts."""
        nets = sum(guide.kind == "controlnet" for guide in self.guiding)
        return needs.step(model, self.recipe.width * self.recipe.height, nets) * len(self.prompts.all)

    @classmethod
    def step(cls, runs: Sequence[Self], model: Model, needs: Needs) -> None:
        need = sum(run.need(needs, model) for run in runs)
        needs.refuse("A step", need)
        inputs = [run.sampler.model_input(run.latents) for run in runs]
        rows = [run._row(model_input) for run, model_input in zip(runs, inputs, strict=True)]
        model.loras.use(runs[0].loras, runs[0].recipe.model)
        with needs.watched(model, "step", need):
            outputs = model.predict(rows)
        for run, model_input, output in zip(runs, inputs, outputs, strict=True):
            run._go_on(model_input, output)
            run.remember(model)

    def _row(self, model_input: Tensor) -> Row:
        return Row(
            model_input,
            self.sampler.timestep,
            self.prompts,
            self.guidance_scale,
            self.beside,
            self.guiding,
            self.recipe.guidance_rescale,
        )

    def _go_on(self, model_input: Tensor, output: Tensor) -> None:
        self.clean = self.sampler.clean(model_input, output)
        self.latents = self.sampler.step(output, self.latents, self.generator)
        if self.original:
            self.latents = self.original.hold(self.sampler, self.latents, self.total)
        if self.done == self.total:
            self.clean = self.latents

    def decode(self, model: Model) -> Image:
        return model.decode(self.clean)

    def keep(self, moments: Moments, picture: str) -> None:
        with torch.inference_mode():
            moments.keep(picture, self.recipe, dict(self.moments), self.projection)


def begun(model: Model, recipe: Recipe, origin: tuple[Any, int] | None, bench: Bench) -> TorchRun:
    _check_samplers(recipe, model)
    if origin and _agree(origin[0].recipe, origin[1], recipe):
        past, step = origin
        # Where that step was thinned out, it is run again from the nearest before it, turns between included.
        if isinstance(past, TorchRun) and (kept := nearest(past.moments, step)) is not None:
            return past.fork(kept, recipe, model)
        if isinstance(past, Stored):
            return _taken_up(past, step, recipe, model, bench)
    return _from_noise(recipe, model, bench)


def _starting_noise(recipe: Recipe, model: Model, generator: torch.Generator) -> Tensor:
    noise = model.noise(recipe, generator)
    if not recipe.variation_strength:
        return noise
    other = model.noise(recipe, torch.Generator().manual_seed(recipe.variation_seed))
    return between(noise, other, recipe.variation_strength)


def between(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Noise from `one` (share 0) to `other` (1), each (1, c, h, w) unit normal, along the arc between the two.

    As stable-diffusion-webui turns one seed's noise towards another's (`slerp` in modules/rng.py there): each column of
    latents is a direction, which turns by its own angle. So what lies between is as much noise as either.
    """
    along = -2  # the rows of a column, which is what that program's noise without a batch has second
    directions = [each / each.norm(dim=along, keepdim=True) for each in (one, other)]
    cosine = (directions[0] * directions[1]).sum(along, keepdim=True)
    if cosine.mean() > 0.9995:  # as good as the same: there is no arc
        return one * (1 - share) + other * share
    angle = torch.acos(cosine.clamp(-1, 1))
    return (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * other) / torch.sin(angle)


def _from_noise(recipe: Recipe, model: Model, bench: Bench) -> TorchRun:
    before = model.pictures_read
    with _reading(recipe, model, bench.needs) as note:
        run = TorchRun(model, recipe, bench.sources, bench.models)
    if model.pictures_read > before:
        run.note(note)
    run.guides = tuple(bench.guide(model, recipe, control) for control in recipe.controls)
    for sentence in (*model.notes, *(guide.note for guide in run.guides)):
        run.note(sentence)
    return run


def _taken_up(past: Stored, step: int, recipe: Recipe, model: Model, bench: Bench) -> TorchRun:
    """A run that goes on from moments on disk, or from the start if they cannot be read."""
    run = _from_noise(recipe, model, bench)
    try:
        moments = past.read(step, model.sampler, model.device)
    except KeyError:
        return run
    if all(each.latents.shape == each.clean.shape == run.latents.shape for each in moments.values()):
        run.moments = moments
        return run.fork(max(moments), recipe, model)
    return run


@contextmanager
def _reading(recipe: Recipe, model: Model, needs: Needs) -> Iterator[str]:
    """Inside, a start picture is read by the autoencoder: in tiles, where there is too little memory for all.

    Gives what a person is told of it.
    """
    need = needs.picture(model, recipe.width * recipe.height) if recipe.source else 0
    if not needs.fit(need) and isinstance(model.vae, AutoencoderKL):
        with placement.tiled(model.vae):
            yield "There was too little memory to read the start picture at once, so it was read in tiles."
        return
    needs.refuse("Reading the start picture", need)
    yield ""


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
