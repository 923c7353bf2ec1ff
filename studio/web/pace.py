"""How often something may be done: so much at once, and more with time."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

REMEMBERED = 10_000
"""Of so many it is known what they did lately; who did something longest ago is forgotten first."""


class Allowance:
    """A token bucket for each of many (addresses, browsers).

    at_once: how many one may take without a pause. each: seconds until one more may be taken.
    """

    def __init__(self, at_once: int, each: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._each, self._clock = at_once, each, clock
        self._free_at: OrderedDict[Hashable, float] = OrderedDict()  # when all that was taken is given back

    def left(self, who: Hashable) -> bool:
        """Whether there is one left to take."""
        # Half of one is given away, since sums of seconds are not exact.
        return self._free_at.get(who, 0.0) - self._clock() < (self._at_once - 0.5) * self._each

    def take(self, who: Hashable) -> bool:
        """Take one, if there is one left."""
        if not self.left(who):
            return False
        self._free_at[who] = max(self._free_at.get(who, 0.0), self._clock()) + self._each
        self._free_at.move_to_end(who)
        while len(self._free_at) > REMEMBERED:
            self._free_at.popitem(last=False)
        return True
