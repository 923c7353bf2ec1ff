"""Connections: how many there may be, and how long they may say nothing.

A server waits for as long as a client likes, and each client that waits takes one of the process's open files. When
these are used up nobody gets in, whether they know the password or not. So the number of connections is bounded, those
whose request is not complete have little time, and when there are too many of these, the one that has waited longest
makes room.
"""

import asyncio
import contextlib
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0
"""Seconds within which the head of a request must be complete, from the connection or from the answer before on."""

STALLED_SECONDS = 60.0
"""Seconds after which a client that does not read its answer is let go. An event stream finds its way back."""

WAITING = 128
"""Connections that may be without a complete head. A browser sends its own at once."""

OPEN = 2000
"""Connections in all, if the system gives the process that many files."""

RESERVED = 256
"""Open files that are left for everything else: pictures, the index, models."""

BACKLOG = 128
"""Connections that the system holds until they are taken."""


class Connection(H11Protocol):
    """Uvicorn's connection, with an end to its patience."""

    waiting: dict["Connection", asyncio.TimerHandle]
    """All connections whose next request's head is not complete, longest first; one dict for each server."""
    most: int
    """Connections in all. One address can have half of them."""

    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        neighbours = [each for each in self.connections if _address(each) == _address(self)]
        if len(self.connections) > self.most or len(neighbours) > self.most // 2:
            # Somebody who only waits makes room; where all are at work, the one who came last has to go.
            rivals = neighbours if len(neighbours) > self.most // 2 else self.connections
            next((each for each in self.waiting if each in rivals), self)._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self._flows()
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
        self._stalled = self.loop.call_later(STALLED_SECONDS, self._leave)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._flows()

    def _flows(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def _wait(self) -> None:
        self._wait_no_more()
        self.waiting[self] = self.loop.call_later(HEAD_SECONDS, self._leave)
        if len(self.waiting) > WAITING:
            next(iter(self.waiting))._leave()

    def _wait_no_more(self) -> None:
        if timer := self.waiting.pop(self, None):
            timer.cancel()

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
