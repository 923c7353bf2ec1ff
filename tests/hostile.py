"""A proxy that does to pages what proxies and networks do: refuse, fall silent, hold back, cut off, dawdle.

One request for each connection, so what is done to one stream is done to nothing else.
"""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REFUSAL = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 20\r\nConnection: close\r\n\r\n"
    b"<h1>Bad Gateway</h1>"
)


class Proxy:
    """In front of 127.0.0.1:`upstream`. Its attributes can be changed at any time, from any thread.

    refuses: answers 502 to everything, as while the studio restarts. is_dead: nothing goes through, and no connection
    is closed. holds: of a stream nothing goes through until it ends. cut_after: how many bytes of the next stream go
    through before it is cut off. delay: seconds that each piece of a stream waits.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.refuses = self.is_dead = self.holds = False
        self.cut_after: int | None = None
        self.delay = 0.0
        self.asked: list[str] = []
        self.streams = 0
        """How many streams stand now."""
        self._tasks: set[asyncio.Task[None]] = set()

    def drop_all(self) -> None:
        """Close all connections, as a network does that goes away and tells."""
        for task in list(self._tasks):
            self._loop.call_soon_threadsafe(task.cancel)

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        thread.start()
        assert started.wait(20)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join(20)

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        started.set()
        await self._over.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if self.is_dead else writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.asked.append(path)
        if self.refuses:
            writer.write(REFUSAL)
            await writer.drain()
            return
        await self._while_dead()
        head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            up_writer.write(head)
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if length:
                up_writer.write(await reader.readexactly(int(length[1])))
            is_stream = path == "/live"
            self.streams += is_stream
            # A browser that leaves ends the stream behind the proxy too.
            answer = asyncio.ensure_future(self._answer(up_reader, writer, is_stream))
            gone = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.streams -= is_stream
                for each in (answer, gone):
                    each.cancel()
                await asyncio.gather(answer, gone, return_exceptions=True)
        finally:
            up_writer.close()

    async def _answer(self, up: asyncio.StreamReader, down: asyncio.StreamWriter, is_stream: bool) -> None:
        head = await up.readuntil(b"\r\n\r\n")
        await self._while_dead()
        down.write(head)
        held = b""
        left = self.cut_after if is_stream else None
        if left is not None:
            self.cut_after = None
        while piece := await up.read(65536):
            if is_stream and self.delay:
                await asyncio.sleep(self.delay)
            await self._while_dead()
            if is_stream and self.holds:
                held += piece
                continue
            if left is not None:
                piece, left = piece[:left], left - len(piece)
            down.write(piece)
            await down.drain()
            if left is not None and left <= 0:
                return
        down.write(held)
        await down.drain()

    async def _while_dead(self) -> None:
        """Nothing goes through, for good: what was dead once does not come to life again."""
        if self.is_dead:
            await asyncio.Event().wait()
