"""What the engine is given: a worker, whose runs it never looks into, and something that keeps pictures."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, Protocol, TypeVar

from PIL.Image import Image

from studio.engine.events import Preview
from studio.recipe.recipe import Recipe

PreviewKind = Literal["clean", "noisy", "off"]
"""What is shown of a step: the clean picture that is predicted, the noisy one that is held, or nothing."""


class Past(Protocol):
    """What is remembered of a job's steps: the run itself, or what is stored of it."""

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes."""

    def look_back(self, step: int) -> tuple[int, Preview]:
        """The last remembered step up to this one, and what a preview showed then.

        Any thread. Raises KeyError if there is none, or the step was not taken yet.
        """


class Run(Past, Protocol):
    """A job as the worker holds it: latents, timetable, sampler, conditioning."""

    @property
    def key(self) -> Hashable:
        """Runs with equal keys can share a model call."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def notes(self) -> Sequence[str]:
        """What was done because memory ran out, and what is wrong with the picture, in sentences kept with it."""

    def preview(self, kind: Literal["clean", "noisy"]) -> Preview: ...


R = TypeVar("R", bound=Run)


class Worker(Protocol[R]):
    """What the engine asks of a device, on the engine's thread if nothing else is said."""

    rows: int
    """The most runs that one call may hold."""

    def room(self, run: R) -> int:
        """How many runs that share a call with this one it may hold at the moment, `rows` at most. Quick."""

    def check(self, *recipes: Recipe) -> None:
        """Raise RecipeError or ModelError if one of the recipes cannot be drawn here. Quick; any thread."""

    def loaded(self, model: str) -> bool:
        """Whether a step with this model needs no loading."""

    def fetch(self, model: str, alone: bool, report: Callable[[int, int], None]) -> Literal["read", "reading", "wait"]:
        """Have a model read on a thread while others are used; "read" once only `load` is left to do.

        alone: whether models that are loaded may leave to make room; else the answer is "wait" if one would have to.
        report: gets the bytes read and those there are, on any thread.
        """

    def load(self, model: str, report: Callable[[int, int], None]) -> None:
        """Bring the model to the device, reporting the bytes in place and those there are."""

    def free(self, model: str) -> None:
        """Let a model leave memory. No run is stepped with it before it is loaded again."""

    def begin(self, recipe: Recipe, origin: tuple[Any, int] | None = None) -> R:
        """Encode the prompts and draw the starting noise. The model is loaded.

        origin: another run, or what is stored of it, and a number of steps after which this one takes it up, if it
        can: then these steps are done.
        """

    def change(self, run: R, recipe: Recipe) -> R:
        """The run that goes on in this one's place, with a recipe that differs in turns that are not behind it."""

    def step(self, runs: Sequence[R]) -> None:
        """Move all these runs of one key one step on, or raise and leave every one of them as it was."""

    def decode(self, run: R) -> Image:
        """The full picture of the latents as they are; of a run that is not done, the predicted clean picture."""

    def keep_steps(self, run: R, picture: str) -> None:
        """Store what is remembered of a run's steps beside its picture, if there is room. Any one thread."""

    def recall(self, picture: str) -> Past | None:
        """What was stored of the steps of a picture, None if nothing can be read. Any thread."""


class Keep(Protocol):
    """Stores a picture for good and returns its id. Raises StorageError."""

    def __call__(
        self, picture: Image, recipe: Recipe, steps_done: int, parent: tuple[str, int] | None = None, note: str = ""
    ) -> str: ...
