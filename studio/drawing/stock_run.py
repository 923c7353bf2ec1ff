"""Runs that are one long call: a pipeline of diffusers, let through one step at a time.

The pipeline runs on a thread of its own and gives control back after each step of its scheduler, until the engine
grants the next one. Strictly one of the two threads runs at a time, so the engine's rule holds: one at a time does the
model's work. A run that is dropped ends its thread; one whose call has failed or was ended begins it again and goes to
where it stood, which a seed makes the same.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import torch
from PIL import Image
from torch import Tensor

from studio.drawing import originals
from studio.drawing.run import Bench, DeviceRun
from studio.families.previews import LatentPreview
from studio.families.stock.calls import AfterStep, Stage, Step, first_picture
from studio.families.stock.family import Stock
from studio.models.needs import Needs
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe


class _Ended(BaseException):
    """Unwinds a call that nobody wants any more. Not an Exception, so that no pipeline takes it for a fault."""


class Call:
    """A function on a thread of its own that stops at each `pause` until `advance` lets it go on.

    work: gets this object; what it returns is `result`. seed: for whatever draws from torch's global random numbers.
    """

    def __init__(self, work: Callable[["Call"], Any], seed: int) -> None:
        self.over = False
        self.result: Any = None
        self.free = False
        """Whether `pause` lets it through to the end."""
        self._work: Callable[[Call], Any] | None = work
        self._seed = seed
        self._pauses = 0
        self._error: BaseException | None = None
        self._ending = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="stock pipeline", daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Let it run to its next pause or to its end. Raises what it raised; then it is over without a result."""
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            torch.manual_seed((self._seed + self._pauses) % 2**64)
            self._go.release()
            self._back.acquire()
        if self._error:
            error, self._error = self._error, None
            raise error

    def pause(self) -> None:
        """Wait for the next `advance`. On the call's own thread."""
        self._pauses += 1
        if not self.free:
            self._back.release()
            self._wait()

    def end(self) -> None:
        """Unwind it, wherever it stands, and wait until its thread is gone. Nothing if it is over."""
        self._ending = True
        self._go.release()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._wait()
            with torch.inference_mode():
                self.result = self._work(self) if self._work else None
        except _Ended:
            pass
        except BaseException as error:
            self._error = error
        self._work = None  # what it holds of the model may leave now
        self.over = True
        self._back.release()

    def _wait(self) -> None:
        self._go.acquire()
        if self._ending:
            raise _Ended


class StockRun(DeviceRun):
    """A job through a stock pipeline, alone in its batch.

    latents, and the clean ones: what the scheduler gave last, and what it predicts; shapes are the pipeline's own.
    """

    def __init__(self, model: Stock, recipe: Recipe, sources: Sources) -> None:
        self.recipe = recipe
        self.total = sum(stage.total for stage in model.stages(recipe).values())
        self._done = 0
        self.picture: Image.Image | None = None
        self._sources = sources
        self._space = model.space
        self.latents: Tensor | None = None
        self._clean: Tensor | None = None
        self._stages: dict[str, Stage] = {}
        self._call: Call | None = None
        self._forget_call: Callable[[], Any] = lambda: None

    @property
    def done(self) -> int:
        return self._done

    @property
    def key(self) -> int:
        """Its own: no two share a call."""
        return id(self)

    @property
    def weight(self) -> int:
        picture = 3 * self.picture.width * self.picture.height if self.picture else 0
        return picture + sum(each.nbytes for each in (self.latents, self._clean) if each is not None)

    def preview(self, kind: Literal["clean", "noisy"]) -> LatentPreview:
        """Plain grey before the first step: until then there is nothing but text."""
        latents = self._clean if kind == "clean" else self.latents
        with torch.inference_mode():
            return self._space.preview(latents, self.recipe.width, self.recipe.height)

    def look_back(self, step: int) -> tuple[int, LatentPreview]:
        """Nothing is remembered of its steps: always raises KeyError."""
        raise KeyError(step)

    def changed(self, recipe: Recipe, model: Stock) -> Self:
        model.check(recipe)
        self.recipe = recipe
        return self

    def need(self, needs: Needs, model: Stock) -> int:
        return needs.step(model, self.recipe.width * self.recipe.height)

    @classmethod
    def step(cls, runs: Sequence[Self], model: Stock, needs: Needs) -> None:
        for run in runs:
            needs.refuse("A step", run.need(needs, model))
            run._advance(model)

    def _advance(self, model: Stock) -> None:
        """One step on, those of a prior counted too. If it raises, the next try first goes to where it stood."""
        call = self._called(model)
        while (reached := self._reached()) <= self.done and not call.over:
            call.advance()
        self._done = self.total if call.over else reached
        if call.over:
            self._take(call)

    def decode(self, model: Stock) -> Image.Image:
        """The finished picture of the pipeline itself; of a run that is not done, the predicted clean picture."""
        if self.done < self.total:
            return self._space.picture(model, self._clean, self.recipe.width, self.recipe.height)
        if self.picture is None:
            call = self._called(model)
            call.free = True
            while not call.over:
                call.advance()
            self._take(call)
        assert self.picture  # a call that is over without a picture has raised
        return self.picture

    def _take(self, call: Call) -> None:
        size = self.recipe.width, self.recipe.height
        picture = first_picture(call.result)
        self.picture = picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
        self._forget_call()
        self._call = None

    def _reached(self) -> int:
        return min(sum(stage.done for stage in self._stages.values()), self.total)

    def _called(self, model: Stock) -> Call:
        """The call that is under way; a new one at the start, or if the last was ended or has failed."""
        if self._call is None or self._call.over:
            self._forget_call()
            self._stages = model.stages(self.recipe)
            prepared = model.prepare(self.recipe, *originals.worked_on(self.recipe, self._sources))
            self._call = Call(_work(weakref.ref(self), prepared), self.recipe.seed)
            # The thread holds neither the run nor the model, so dropping either ends it.
            self._forget_call = weakref.finalize(self, self._call.end).detach
            model.calls.add(self._call)
        return self._call

    def take(self, name: str, step: Step) -> None:
        """After a step of the scheduler `name`, on the call's thread."""
        self._stages[name].count(step.scheduler)
        self.latents, self._clean = step.latents, step.clean

    @property
    def turned_guidance(self) -> float | None:
        """The guidance to go on with, if any turn says so."""
        return self.recipe.at(self._reached()).guidance_scale if self.recipe.turns else None


def begun(model: Stock, recipe: Recipe, origin: tuple[Any, int] | None, bench: Bench) -> StockRun:
    run = StockRun(model, recipe, bench.sources)
    for sentence in model.notes:
        run.note(sentence)
    return run


def _work(run: "weakref.ref[StockRun]", prepared: Callable[[AfterStep], Any]) -> Callable[[Call], Any]:
    """What the thread does: the pipeline's call, noted in the run and paused after each step of a scheduler.

    A pause comes before what the step changes, so that a change in mid-run is one at the next step.
    """

    def work(call: Call) -> Any:
        def after_step(name: str, step: Step) -> float | None:
            if alive := run():
                alive.take(name, step)
            del alive
            call.pause()
            going_on = run()
            return going_on.turned_guidance if going_on else None

        return prepared(after_step)

    return work
