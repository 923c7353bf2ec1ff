"""The program as a whole, stopped while it paints: what is kept, what pages are told, what the next start offers."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from studio.library.library import Library
from studio.recipe.recipe import Recipe
from tests.test_launch import ROOT, SERVE

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals.")

PATIENCE = 120.0
"""Seconds after which a program on a busy machine will not do what is waited for."""

STEPS = 500
"""So many outlast every test."""


def as_in_a_terminal() -> None:
    """Whoever runs the tests may ignore the end of a terminal, as nohup does, and children would too."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, preexec_fn=as_in_a_terminal, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


class Studio:
    """The launched program on an output folder, and one browser whose cookies outlive it."""

    def __init__(self, output: Path) -> None:
        self._output = output
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = str(probe.getsockname()[1])
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=PATIENCE)

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        launch = [sys.executable, "launch.py", "--no-browser", "--device", "cpu", "--port", self._port]
        with running(*launch, "--output-folder", str(self._output)) as process:
            assert process.stdout and any("is ready" in line for line in process.stdout)
            self.client.get("/")
            yield process

    def post(self, address: str) -> None:
        assert self.client.post(address).json() == {}

    @contextlib.contextmanager
    def watched(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """Kind and data of what the page is told, until the stream ends."""
        with self.client.stream("GET", "/live") as answer:
            yield self._told(answer.iter_lines())

    def _told(self, lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
        kind = ""
        for line in lines:
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))


def reach(told: Iterator[tuple[str, Any]], step: int) -> None:
    """Wait until a picture has taken so many steps."""
    assert any(kind == "job" and data.get("state") == "step" and data["done"] >= step for kind, data in told)


def end(process: subprocess.Popen[str]) -> None:
    """Wait for a good end that says nothing of trouble."""
    _, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaints) == (0, "")


def test_what_is_in_the_making_outlives_the_program(tmp_path: Path) -> None:
    library = Library(tmp_path)
    # One that was stopped long ago, and whose steps are gone: it starts from the beginning.
    first = library.add(Image.new("RGB", (256, 256)), Recipe("a boat", steps=STEPS), 1)
    library.close()
    studio = Studio(tmp_path)
    with studio.started() as process:
        studio.post(f"/pictures/{first}/recall?place=text_to_image")
        with studio.watched() as told:
            _, snapshot = next(told)
            [job] = snapshot["jobs"]
            assert snapshot["shown"] == {"text_to_image": [job["id"]]}
            studio.post(f"/jobs/{job['id']}/resume")
            reach(told, 3)
            process.send_signal(signal.SIGTERM)
            # The last that the page hears, before the stream ends by itself.
            *_, (_, last) = told
        end(process)
    assert last["id"] == job["id"] and last["state"] == "paused" and last["done"] >= 3
    assert last["reason"] == f"The studio was stopped. Start it again, and Continue goes on from step {last['done']}."
    library = Library(tmp_path)
    kept = library.get(last["picture"])
    library.close()
    assert (kept.steps_done, kept.recipe.prompt) == (last["done"], "a boat")
    assert (tmp_path / "steps" / f"{last['picture']}.safetensors").is_file()

    with studio.started() as process:
        with studio.watched() as told:
            _, snapshot = next(told)
            [again] = snapshot["jobs"]
            assert snapshot["shown"] == {"text_to_image": [job["id"]]}
            assert (again["id"], again["state"], again["picture"]) == (job["id"], "paused", last["picture"])
            assert (again["done"], again["reason"]) == (last["done"], "")
            assert not list(tmp_path.glob("*unfinished*"))
            studio.post(f"/jobs/{job['id']}/resume")
            steps = (data["done"] for kind, data in told if kind == "job" and data["state"] == "step")
            assert next(steps) == last["done"], "it goes on where it stood"
            process.send_signal(signal.SIGINT)
            *_, (_, last) = told
        end(process)
    assert last["state"] == "paused"
    stranger = httpx.Client(base_url=studio.client.base_url, timeout=PATIENCE)
    with studio.started() as process:
        stranger.get("/")
        with stranger.stream("GET", "/live") as answer:
            assert next(studio._told(answer.iter_lines()))[1]["jobs"] == []
        process.send_signal(signal.SIGHUP)
        end(process)


def test_ctrl_c_once_more_waits_for_nothing() -> None:
    hangs = SERVE.replace('lambda: print("The engine is stopped.", flush=True)', "stop").replace(
        "def wire(",
        "def stop():\n    print('It is being stopped.', flush=True)\n    __import__('time').sleep(1000)\n\ndef wire(",
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with running(sys.executable, "-c", hangs, "--no-browser", "--port", port) as process:
        assert process.stdout and any("is ready" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert any("being stopped" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)  # the same one, which arrived twice
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.1)
            process.send_signal(signal.SIGINT)
        assert process.returncode == 130
