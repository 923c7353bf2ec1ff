"""Reading what a request brings: no more than is allowed, no slower than is bearable, and few large ones at a time."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from typing import IO

from starlette.requests import ClientDisconnect, Request

from studio.engine.shares import share_of
from studio.errors import RequestError
from studio.web.pace import Rounds, Turns

PATIENCE = 20.0
"""Seconds within which more of a body must come."""

SLOWEST = 32_768
"""Bytes a second that are fast enough for any line; slower senders are let go."""

IN_MEMORY = 2**20
"""Bytes that are gathered in memory; of a larger body the rest waits on disk until its turn has come."""

OF_ONE, WAITING = 3, 30
"""Files that one browser sends at a time, and how many more of its may wait."""

TURN = 120.0
"""Seconds that a file waits until those before it are sent."""

AT_WORK = 2
"""Files of all that are in memory at a time, each up to as large as may be sent. Addresses take turns."""


class Uploads:
    """Files that are sent, from the first byte until what was to be done with them is done."""

    def __init__(self) -> None:
        self._sent = Turns(OF_ONE, WAITING, TURN)
        self._at_work = Rounds(AT_WORK)

    @contextlib.asynccontextmanager
    async def body(self, request: Request, most: int, advice: str) -> AsyncIterator[bytes]:
        """What was sent, for as long as it is worked on. Raises as `body_of` does, and when too many wait."""
        give_back = await self._sent.take(share_of(request.state.owner))
        if not give_back:
            raise RequestError("Too many files were sent at a time. Wait for some, then send the others.", 429)
        try:
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
                await _spool(request, file, most, "The file", advice)
                async with self._at_work.turn(request.state.address):
                    if await request.is_disconnected():
                        raise _broken_off()
                    yield file.read()
        finally:
            give_back()


async def body_of(request: Request, most: int, advice: str = "Send less.") -> bytes:
    """What was sent, some megabytes at most. For files there is `Uploads`.

    Raises RequestError if it has more than `most` bytes, comes too slowly, or ends early. advice: what to do about one
    that is too large.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        await _spool(request, file, most, "What was sent", advice)
        return file.read()


async def _spool(request: Request, file: IO[bytes], most: int, what: str, advice: str) -> None:
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:19]) > most:
        raise _too_large(most, what, advice)
    clock = asyncio.get_running_loop().time
    size, start = 0, clock()
    parts = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(min(clock(), start + size / SLOWEST) + PATIENCE):
                part = await anext(parts, None)
        except TimeoutError:
            raise RequestError("That was sent too slowly to be waited for. Send it again.", 408) from None
        except ClientDisconnect:
            raise _broken_off() from None
        if part is None:
            file.seek(0)
            return
        size += len(part)
        if size > most:
            raise _too_large(most, what, advice)
        file.write(part)


def _broken_off() -> RequestError:
    return RequestError("That was broken off. Send it again.", 400)


def _too_large(most: int, what: str, advice: str) -> RequestError:
    size = f"{most / 10**6:.0f} MB" if most >= 10**6 else f"{most / 1000:.0f} kB"
    return RequestError(f"{what} is larger than {size}, the most that is taken in. {advice}", 413)
