"""What the worker asks of a run, whether the studio steps it itself or a pipeline of diffusers does."""

import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from PIL.Image import Image

from studio.drawing.moments import Moments
from studio.families import Guide, Model
from studio.families.previews import LatentPreview
from studio.files import addons
from studio.files.addons import File
from studio.models.manager import Manager
from studio.models.needs import Needs
from studio.pictures import controls
from studio.pictures.sources import Sources
from studio.recipe.recipe import Control, Recipe

log = logging.getLogger(__name__)


class DeviceRun(ABC):
    """One job on this machine's device (`studio.engine.protocols.Run`). The engine's thread alone changes it."""

    recipe: Recipe
    total: int
    latents: Any
    """What the sampler holds, float32; None where nothing is known of it yet."""
    notes: tuple[str, ...] = ()

    @property
    @abstractmethod
    def done(self) -> int: ...

    @property
    @abstractmethod
    def key(self) -> Hashable: ...

    @property
    @abstractmethod
    def weight(self) -> int: ...

    @property
    def steps(self) -> int:
        """Bytes of its steps that are remembered."""
        return 0

    @property
    def can_thin(self) -> bool:
        """Whether some of them can be forgotten."""
        return False

    @abstractmethod
    def preview(self, kind: Literal["clean", "noisy"]) -> LatentPreview: ...

    @abstractmethod
    def look_back(self, step: int) -> tuple[int, LatentPreview]: ...

    @abstractmethod
    def changed(self, recipe: Recipe, model: Any) -> Self:
        """The run that goes on in this one's place, with a recipe that differs in what comes now and later."""

    @abstractmethod
    def need(self, needs: Needs, model: Any) -> int:
        """Bytes that its next step takes."""

    @classmethod
    @abstractmethod
    def step(cls, runs: Sequence[Any], model: Any, needs: Needs) -> None:
        """One step of all these runs of one key. Raises OutOfMemory before it begins if it would not fit."""

    @abstractmethod
    def decode(self, model: Any) -> Image:
        """The finished picture; of a run that is not done, the predicted clean one. At the recipe's size."""

    def thin(self) -> None:
        """Forget every other step that is remembered, and keep fewer from now on."""
        raise TypeError("Nothing can be forgotten.")

    def keep(self, moments: Moments, picture: str) -> None:
        """Store what is remembered of its steps beside its picture: nothing, where nothing is. Any one thread."""
        return

    def note(self, sentence: str) -> None:
        """Have the picture tell what was done because memory ran out, or what is wrong with it."""
        if sentence and sentence not in self.notes:
            log.warning(sentence)
            self.notes = (*self.notes, sentence)


@dataclass(frozen=True, slots=True)
class Bench:
    """What runs are made with, and what they share."""

    models: Manager
    sources: Sources
    needs: Needs
    preparer: controls.Preparer
    guides: weakref.WeakValueDictionary[Hashable, Guide] = field(default_factory=weakref.WeakValueDictionary)

    def control(self, control: Control) -> File:
        """The file of a control's model. Raises RecipeError."""
        ip = control.kind == "ip-adapter"
        kind, what = ("ip-adapter", "IP-Adapter") if ip else ("controlnet", "ControlNet")
        return self.models.ask(kind, lambda found: addons.chosen(control.model, found, what))

    def guide(self, model: Model, recipe: Recipe, control: Control) -> Guide:
        """A control's picture as the model reads it takes some megabytes, so runs that have the same share it."""
        file, part = self.control(control), recipe.part if recipe.mask else None
        key = (control, file, recipe.model, recipe.width, recipe.height, recipe.source, part)
        if not (guide := self.guides.get(key)):
            picture = self.preparer.of(control, recipe, next(iter(self.models.seen("depth").values()), None))
            encoders = list(self.models.seen("image encoder").values())
            guide = self.guides[key] = model.guide(control, file, recipe.model, picture, encoders)
        return guide
