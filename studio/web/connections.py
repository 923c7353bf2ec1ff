"""Connections: how many there may be, and how long they may say nothing.

A server waits for as long as a client likes, and each client that waits takes one of the process's open files. When
these are used up nobody gets in, whether they know the password or not. So the number of connections is bounded, those
whose request is not complete have little time, and when there are too many of these, the one that has waited longest
makes room.
"""

import asyncio
import contextlib
from collections import Counter
from typing import Any

from studio.compat.of_uvicorn import Http

HEAD_SECONDS = 15.0
"""Seconds within which the head of a request must be complete, from the connection or from the answer before on."""

STALLED_SECONDS = 300.0
"""Seconds within which a client must have read at least something of what waits for it, or it is let go. The system
holds some megabytes itself, so of a slow reader nothing is noticed here for minutes."""

LOOK_AGAIN = 1.0
"""Seconds after which it is looked again whether an answer has left."""

BACKLOG = 64
"""Connections that the system holds until they are taken, all at once. Twice as many may come before one has left."""

WAITING = 8 * BACKLOG
"""Connections that may be without a complete head. A browser sends its own at once."""

OPEN = 2000
"""Connections in all, if the system gives the process that many files."""

RESERVED = 256
"""Open files that are left for everything else: pictures, the index, models."""


class Connection(Http):
    """Uvicorn's connection, with an end to its patience."""

    waiting: dict["Connection", None]
    """All connections whose next request's head is not complete, longest first; one dict for each server."""
    most: int
    """Connections in all. One address can have half of them."""

    _head: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        address = _address(self)
        if sum(_address(each) == address for each in self.connections) > self.most // 2:
            self._make_room([each for each in self.waiting if _address(each) == address])
        elif len(self.connections) > self.most or len(self.waiting) > WAITING:
            self._make_room(list(self.waiting))

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        if self._stalled:
            self._stalled.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._wait_no_more()

    def on_response_complete(self) -> None:
        # Before, for it may begin the next request, of which the head has come already.
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def _wait(self) -> None:
        """Wait for the head of a request, once the answer before it has left."""
        self._wait_no_more()
        if self.transport.get_write_buffer_size():
            self._watch()
            self._head = self.loop.call_later(LOOK_AGAIN, self._wait)
        else:
            self.waiting[self] = None
            self._head = self.loop.call_later(HEAD_SECONDS, self._leave)

    def _wait_no_more(self) -> None:
        self.waiting.pop(self, None)
        if self._head:
            self._head.cancel()

    def _watch(self) -> None:
        """See to it that what is to be sent gets less, until it has left."""
        if not self._stalled:
            unsent = self.transport.get_write_buffer_size()
            self._stalled = self.loop.call_later(STALLED_SECONDS, self._look, unsent)

    def _look(self, before: int) -> None:
        self._stalled = None
        unsent = self.transport.get_write_buffer_size()
        # More than before: it was read, and more was given.
        if unsent and unsent == before:
            self._leave()
        elif unsent:
            self._watch()

    def _make_room(self, rivals: list["Connection"]) -> None:
        """Let the one leave that has waited longest, of whoever has the most that wait; this one if none waits."""
        each = Counter(map(_address, rivals))
        most = max(each, key=each.__getitem__, default="")
        next((rival for rival in rivals if _address(rival) == most), self)._leave()

    def _leave(self) -> None:
        self._wait_no_more()
        self.connections.discard(self)  # at once, so that the next one to come finds room
        self.transport.abort()


def _address(connection: Any) -> str:
    return connection.client[0] if connection.client else ""


def kind(files: int | None) -> type[Connection]:
    """A class of connections for one server. files: how many the process may have open; None if it isn't known."""
    most = OPEN if files is None else max(min(OPEN, files - RESERVED), 16)
    return type("Connection", (Connection,), {"waiting": {}, "most": most})


def raise_files() -> int | None:
    """Let the process open as many files as the system allows it. Returns how many; None where that isn't known."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN + RESERVED if hard == resource.RLIM_INFINITY else min(hard, 2**16)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        return None if soft == resource.RLIM_INFINITY else soft
    return None
