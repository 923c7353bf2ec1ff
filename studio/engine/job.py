"""One picture in the making, as the engine knows it."""

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from studio.engine.events import Event, Finished, Paused, Queued
from studio.engine.protocols import Past, PreviewKind, Run
from studio.engine.shares import share_of
from studio.recipe.recipe import Recipe


@dataclass(eq=False)
class Job:
    """One picture in the making. Read it; only the engine writes it."""

    recipe: Recipe
    owner: str
    previews: PreviewKind
    number: int
    parent: tuple[str, int] | None = None
    """The picture that it was forked from, and after how many steps."""
    id: str = field(default_factory=lambda: uuid4().hex)
    event: Event = field(init=False)
    """The latest event: what a page that was away needs to know."""

    state: Literal["ready", "paused", "keeping", "over"] = "ready"
    wish: Literal["", "pause", "cancel"] = ""
    """What somebody asked for that the engine's thread has not granted yet."""
    run: Run | None = None
    """None until it is begun, and again when it is let go."""
    tick: int = 0
    """At which of the engine's ticks it took part last."""
    moved_at: float = 0.0
    seconds: float = 0.0
    """When its last step ended, and how long one takes lately."""
    origin: tuple[Past, int] | None = None
    """What it shall take up when it is begun, after so many steps."""
    kept: tuple[str, int] | None = None
    """The partial picture that was kept of it last, and after how many steps."""
    leaves: bool = False
    """Whether it shall go on from its steps on disk, so that its latents can leave memory."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Values that shall be others from its next step on."""

    def __post_init__(self) -> None:
        self.event = Queued(self.id)

    @property
    def share(self) -> str:
        """Whose share of the machine it takes."""
        return share_of(self.owner)

    @property
    def is_drawn(self) -> bool:
        """Whether all its steps are taken, and only the picture is to be decoded and kept."""
        return self.run is not None and self.run.done >= self.run.total

    @property
    def is_going(self) -> bool:
        """Whether it has begun and there are steps to take."""
        return self.run is not None and self.run.done < self.run.total


def picture_of(job: Job) -> str:
    """The id of the picture that was kept of a job last, empty if there is none or it went on."""
    event = job.event
    return (event.picture or "") if isinstance(event, Finished | Paused) else ""


def pixels_of(job: Job) -> int:
    return job.recipe.width * job.recipe.height
