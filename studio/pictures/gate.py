"""One at a time, or a few: what takes much memory, on the many threads that answer requests."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from studio import memory
from studio.errors import Busy

AT_ONCE = 100_000_000
"""Pixels that are opened at once: some 400 MB of memory, and as much again while they are scaled down."""

WAITING = 16
"""Threads that may wait their turn. The server has 40, and what needs no turn must go on."""


LARGE = 4_000_000
"""Pixels after which memory is given back: each thread would hold on to some hundred megabytes otherwise."""


class Gate:
    """Lets work on at most `pixels` in all go on at once; what is larger than that, alone. Others wait in turn.

    Any thread, but not again inside.
    """

    def __init__(self, pixels: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._room, self._most = pixels, waiting
        self._inside: list[int] = []
        self._turns: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        """Work on so many pixels inside. Raises Busy if too many wait already."""
        with self._changed:
            self._wait(pixels)
            self._inside.append(pixels)
        try:
            yield
        finally:
            with self._changed:
                self._inside.remove(pixels)
                self._changed.notify_all()
            if pixels >= LARGE:
                memory.give_back()

    def _wait(self, pixels: int) -> None:
        def is_next() -> bool:
            return self._turns[0] is turn and (not self._inside or sum(self._inside) + pixels <= self._room)

        if len(self._turns) >= self._most:
            raise Busy("Too many pictures are being opened at once. Wait a moment, then try again.")
        self._turns.append(turn := object())
        try:
            self._changed.wait_for(is_next)
        finally:
            self._turns.remove(turn)
            self._changed.notify_all()
