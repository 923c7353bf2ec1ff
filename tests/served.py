"""The application on a worker that steps when a test says so, served on a port, to be stopped and started."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from studio.app import create_app
from studio.engine.engine import Engine
from studio.library.library import Library
from studio.pictures.sources import Sources
from studio.settings import Settings
from studio.web import unfinished
from tests.fakes import PATIENCE, FakeWorker


class Served:
    """A studio that runs."""

    def __init__(self, output: Path, models: Any, **settings: Any) -> None:
        self.worker = FakeWorker(by_hand=True, has_disk=True)
        self.library = Library(output)
        self.engine = Engine(self.worker, self.library.add)
        self._folder = output
        sources = Sources(output / "sources")
        self.app = create_app(Settings(output_folder=output, **settings), self.engine, self.library, models, sources)
        self.live, owners = self.app.state.live, self.app.state.owners
        self._keep = partial(unfinished.keep, unfinished.file_in(output), self.engine, self.live, owners.cookie)
        unfinished.bring_back(output, self.engine, self.live, self.library, owners.cookie)
        config = uvicorn.Config(
            self.app, port=0, log_config=None, ws="none", timeout_graceful_shutdown=1, proxy_headers=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        until = time.monotonic() + PATIENCE
        while not self._server.started:
            assert time.monotonic() < until and self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """As `launch.py` does: what is in the making is kept, and found at the next start."""
        self._keep()
        closing = threading.Thread(target=self.engine.close)
        closing.start()
        while not self.engine._closing:
            time.sleep(0.001)
        self.worker.go_freely()  # only now, or what is in the making would be finished before
        closing.join(PATIENCE)
        self._keep()
        self.live.close()
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self.library.close()


@contextmanager
def served(output: Path, models: Any, **settings: Any) -> Iterator[Served]:
    made = Served(output, models, **settings)
    made.start()
    try:
        yield made
    finally:
        made.stop()
