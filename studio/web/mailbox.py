"""What one reader has not been told yet."""

import asyncio
import contextlib
import threading
from typing import Any

GATHERED = 0.008
"""Seconds for which a window's news are gathered before they are told: the steps of one tick come one by one, and each
waking of the server would take time from the model."""

NEWS_KEPT = 10_000
"""Things of which a reader can have missed the newest; one that takes nothing for longer is not waited for."""


class Mailbox:
    """What one reader has not been told yet: of each thing the newest only."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._news: dict[str, Any] = {}
        self.is_lost = False
        """Whether its reader took nothing for so long that news were thrown away: it must begin again."""
        self._filled = asyncio.Event()

    def put(self, key: str, item: Any) -> None:
        """Leave an item in place of an older one of that key. Any thread; never waits."""
        with self._lock:
            is_first = not self._news
            if len(self._news) >= NEWS_KEPT:
                self._news.clear()
                self.is_lost = True
            self._news[key] = item
        # The reader is woken once for all that it has not taken yet.
        if is_first:
            with contextlib.suppress(RuntimeError):  # the server's loop has ended, and the reader with it
                self._loop.call_soon_threadsafe(self._filled.set)

    async def take(self, timeout: float) -> list[Any]:
        """All that is there, a moment after there is something; nothing after `timeout` seconds."""
        try:
            # Not asyncio.wait_for, which in Python 3.11 can lose a cancellation: the reader would go on for nobody.
            async with asyncio.timeout(timeout):
                await self._filled.wait()
        except TimeoutError:
            return []
        await asyncio.sleep(GATHERED)
        self._filled.clear()
        with self._lock:
            news, self._news = self._news, {}
        return list(news.values())
