"""How often, and how much at a time, something may be done by each of many."""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field

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


@dataclass
class Rounds:
    """So many at a time of all; those who wait get their turns in rounds, one of each `who`. On one event loop."""

    at_a_time: int
    _busy: int = 0
    _waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)

    @contextlib.asynccontextmanager
    async def turn(self, who: Hashable) -> AsyncIterator[None]:
        if self._busy < self.at_a_time:
            self._busy += 1
        else:
            await self._wait(who)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, who: Hashable) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it came in the same moment
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            who, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[who] = line  # behind all others
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1


@dataclass
class _Line:
    """Who has a turn, and who waits for one."""

    turn: asyncio.Semaphore
    here: int = 0


@dataclass
class Turns:
    """So many at a time for each of many; more wait for their turn, up to a number and for a while. On one event loop.

    waiting: how many may wait. patience: seconds that one waits.
    """

    at_a_time: int
    waiting: int
    patience: float
    _lines: dict[Hashable, _Line] = field(default_factory=dict)

    async def take(self, who: Hashable) -> Callable[[], None] | None:
        """Wait for a turn. Returns what gives it back (once; more often does nothing), None if there was none."""
        line = self._lines.setdefault(who, _Line(asyncio.Semaphore(self.at_a_time)))
        if line.here >= self.at_a_time + self.waiting:
            return None
        line.here += 1
        try:
            async with asyncio.timeout(self.patience):
                await line.turn.acquire()
        except BaseException as error:
            self._leave(who, line)
            if isinstance(error, TimeoutError):
                return None
            raise
        given = False

        def give_back() -> None:
            nonlocal given
            if not given:
                given = True
                line.turn.release()
                self._leave(who, line)

        return give_back

    def _leave(self, who: Hashable, line: _Line) -> None:
        line.here -= 1
        if not line.here:
            self._lines.pop(who, None)
