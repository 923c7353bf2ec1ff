"""Controls of a job, as the families' calls take them."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from studio.files.addons import File


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Guide:
    """A control of a job, ready for the model's calls.

    file, kind, weight, start, end: the control's (`recipe.recipe.Control`). model: the name of the one that is guided.
    given: what a ControlNet reads, (1, 3, h, w) in 0..1, or an IP-Adapter's picture as its image encoder sees it.
    note: what a person is told of its file.
    """

    file: File
    model: str
    kind: str
    weight: float
    start: float
    end: float
    given: Any
    note: str = ""

    def works(self, done: int, total: int) -> bool:
        """Whether it takes part in the step after `done` of `total`; the rule of diffusers' pipelines."""
        return self.start <= done / total and (done + 1) / total <= self.end

    @property
    def key(self) -> Hashable:
        """Equal for guides of rows that can share a call: an IP-Adapter has one weight for a whole call."""
        return (self.file, self.weight) if self.kind == "ip-adapter" else self.file
