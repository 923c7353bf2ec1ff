"""How often, and how much at a time, something may be done by each of many."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable

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


class Turns:
    """So many at a time for each of many; more wait for their turn, up to a number. On one event loop."""

    def __init__(self, at_a_time: int, waiting: int) -> None:
        self._at_a_time, self._most = at_a_time, at_a_time + waiting
        self._turns: dict[Hashable, tuple[asyncio.Semaphore, list[None]]] = {}

    @contextlib.asynccontextmanager
    async def of(self, who: Hashable) -> AsyncIterator[bool]:
        """Wait for a turn; False at once if too many of them wait already."""
        turn, here = self._turns.setdefault(who, (asyncio.Semaphore(self._at_a_time), []))
        if len(here) >= self._most:
            yield False
            return
        here.append(None)
        try:
            async with turn:
                yield True
        finally:
            here.pop()
            if not here:
                self._turns.pop(who, None)
