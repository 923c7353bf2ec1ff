"""What can happen to a job. The last event of every job is Finished, Failed or Cancelled, or Paused when the
studio stops.

Events are small frozen values that go up from the engine to whoever listens; nothing goes down through them.
"""

from dataclasses import dataclass
from typing import Protocol


class Preview(Protocol):
    """A small picture of a job in the making, encoded only if somebody looks at it."""

    def jpeg(self) -> bytes:
        """The JPEG file. May be called from any thread, any number of times; encoded once."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the job of this id."""

    job: str


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """The job waits for its first turn (also after it was resumed)."""


@dataclass(frozen=True, slots=True)
class Loading(Event):
    """The job's model is being loaded: so many of the bytes of its files are read.

    bytes: all of them; 0 while it waits for others to leave, or for its files to be opened.
    """

    model: str
    read: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Step(Event):
    """`done` of `total` steps are taken. done == 0 shows the starting noise.

    seconds: mean time between this job's recent steps, waiting for its turn included; 0 until known.
    preview: None if the job was submitted with previews off.
    note: what was done because memory ran out, or what is wrong with the picture, in sentences.
    """

    done: int
    total: int
    seconds: float = 0.0
    preview: Preview | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """The job stands still after `done` of `total` steps and can be resumed.

    picture: library id of the partial picture, None if no step was taken or it could not be kept.
    reason: empty if a person paused it; otherwise a sentence that says what must be put right first.
    note: what was done because memory ran out, or what is wrong with the picture, in sentences.
    """

    done: int
    total: int
    picture: str | None = None
    reason: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The picture is on disk under this library id. note: as that of a step."""

    picture: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The job cannot go on; `reason` is a sentence for the person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """The job was dropped and its memory given back."""


FINAL = (Finished, Failed, Cancelled)
"""The kinds of event after which nothing more happens to a job."""
