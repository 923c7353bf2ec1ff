"""Reading what a request brings: no more than is allowed, no slower than is bearable, and not all of it in memory."""

import asyncio
import tempfile

from starlette.requests import ClientDisconnect, Request

from studio.errors import RequestError

PATIENCE = 20.0
"""Seconds within which the first of a body must come."""

SLOWEST = 4096
"""Bytes a second that are fast enough for any line; slower senders are let go."""

IN_MEMORY = 2**20
"""Bytes that are gathered in memory; of a larger body the rest waits on disk until all of it is there."""


async def body_of(request: Request, most: int, advice: str = "Send less.") -> bytes:
    """What was sent. Raises RequestError if it has more than `most` bytes, comes too slowly, or ends early.

    advice: what to do about one that is too large.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:19]) > most:
        raise _too_large(most, advice)
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        size, start = 0, asyncio.get_running_loop().time()
        parts = request.stream()
        while True:
            try:
                async with asyncio.timeout_at(start + PATIENCE + size / SLOWEST):
                    part = await anext(parts, None)
            except TimeoutError:
                raise RequestError("That was sent too slowly to be waited for. Send it again.", 408) from None
            except ClientDisconnect:
                raise RequestError("That was broken off. Send it again.", 400) from None
            if part is None:
                file.seek(0)
                return file.read()
            size += len(part)
            if size > most:
                raise _too_large(most, advice)
            file.write(part)


def _too_large(most: int, advice: str) -> RequestError:
    return RequestError(f"The file is larger than {most / 10**6:.0f} MB, the most that is taken in. {advice}", 413)
