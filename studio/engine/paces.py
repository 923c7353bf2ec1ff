"""How long pictures will take, from how long the ones before them took in this run of the program."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from studio.recipe.recipe import Recipe

RECENT = 0.3
"""The share that the latest measurement has in what is known: machines become busy, and idle again."""


KINDS = 1000
"""Of so many kinds of pictures it is remembered how long they take."""

Kind = tuple[str, int, int]
"""Model, width and height: pictures that have these in common take equally long, more or less."""


class Pace:
    """Seconds of model calls and of decoding, by model and size. Any thread.

    Rows that share a call are cheaper than the same rows one after another, so calls are known by how much they hold.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: OrderedDict[Kind, dict[int, float]] = OrderedDict()
        self._ends: OrderedDict[Kind, float] = OrderedDict()

    def called(self, steps: Sequence[tuple[Recipe, int]], seconds: float) -> None:
        """One call took so long: for each of these recipes the step after so many."""
        with self._lock:
            known, load = self._calls.setdefault(_kind(steps[0][0]), {}), sum(_load(*each) for each in steps)
            known[load] = _smooth(known.get(load), seconds)
            _forget(self._calls)

    def ended(self, recipe: Recipe, seconds: float) -> None:
        """Decoding the picture took so long."""
        with self._lock:
            self._ends[_kind(recipe)] = _smooth(self._ends.get(_kind(recipe)), seconds)
            _forget(self._ends)

    def ending(self, recipe: Recipe) -> float:
        """About how long decoding the picture takes; 0 if none like it was decoded yet."""
        with self._lock:
            return self._ends.get(_kind(recipe), 0.0)

    def seconds(self, recipes: Sequence[Recipe], rows: int) -> float | None:
        """About how long these will take together, at most `rows` of them in a call, with the models loaded.

        None if there is a model or a size among them of which no picture was made yet.
        """
        kinds: dict[Kind, list[Recipe]] = {}
        for recipe in recipes:
            kinds.setdefault(_kind(recipe), []).append(recipe)
        with self._lock:
            if not kinds.keys() <= self._calls.keys() & self._ends.keys():
                return None
            return sum(
                len(some) * self._ends[kind] + _calls(some, rows, self._calls[kind]) for kind, some in kinds.items()
            )


def _kind(recipe: Recipe) -> Kind:
    return recipe.model, recipe.width, recipe.height


def _forget(known: OrderedDict[Kind, Any]) -> None:
    """Those that were measured first, beyond KINDS."""
    while len(known) > KINDS:
        known.popitem(last=False)


def _load(recipe: Recipe, step: int) -> int:
    """How many rows of the model's own the step after so many takes: one more where it is guided."""
    return 1 if recipe.guidance_scale == 1 or not recipe.guides(step) else 2


def _smooth(before: float | None, now: float) -> float:
    return now if before is None else RECENT * now + (1 - RECENT) * before


def _calls(recipes: Sequence[Recipe], rows: int, known: dict[int, float]) -> float:
    """Seconds of all calls for recipes of one kind that start together: those with fewer steps leave earlier."""
    total = 0.0
    for step in range(max(recipe.steps_run for recipe in recipes)):
        loads = [_load(recipe, step) for recipe in recipes if recipe.steps_run > step]
        total += sum(_call(sum(loads[first : first + rows]), known) for first in range(0, len(loads), rows))
    return total


def _call(load: int, known: dict[int, float]) -> float:
    """Seconds of a call: between two that are known in a straight line, beyond them in proportion."""
    below = max((each for each in known if each <= load), default=None)
    above = min((each for each in known if each >= load), default=None)
    if below is None or above is None:
        nearest = below if below is not None else above
        assert nearest is not None
        return known[nearest] * load / nearest
    if below == above:
        return known[below]
    share = (load - below) / (above - below)
    return known[below] + share * (known[above] - known[below])
