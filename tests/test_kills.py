"""The real program is killed at moments of chance: what it told as finished is there afterwards, whole and listed."""

import asyncio
import contextlib
import os
import random
import signal
import socket
from pathlib import Path

import httpx
import pytest
from PIL import Image

from benchmarks.visitor import Program, Window
from studio.library import metadata
from studio.pictures.sources import Sources

KILLS = 60 if os.environ.get("EMERGE_LONG_TESTS") else 2


class Life:
    """What was told before the kills, and how the studio is found after each."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.told: set[str] = set()
        self.rated: dict[str, int] = {}
        self.brought: set[str] = set()

    async def go_on(self, address: str, moments: random.Random, program: Program) -> None:
        """Use the studio, and kill it after a number of news; what it told until then is noted."""
        self.news = asyncio.Event()
        async with Window(address) as window:
            await self.check(window)
            left = moments.randrange(20, 100)
            watching = asyncio.create_task(self.watch(window, left, program))
            try:
                while not watching.done():
                    self.news.clear()
                    assert not await window.generate(Prompt="a fox", Steps=4, Width=128, Height=128, Pictures=4)
                    await self.news.wait()
                    for picture in moments.sample(sorted(self.told), min(2, len(self.told))):
                        stars = moments.randrange(1, 6)
                        (await window.client.post(f"/pictures/{picture}/rating?stars={stars}")).raise_for_status()
                        self.rated[picture] = stars
                    image = Image.new("RGB", (64, 64), (moments.randrange(256), moments.randrange(256), 0))
                    path = self.output / "brought.bmp"
                    image.save(path)
                    answer = await window.client.post("/sources", content=path.read_bytes())
                    self.brought.add(answer.raise_for_status().json()["name"])
            except httpx.TransportError:
                pass  # it was killed in the middle, as it should
            await watching

    async def watch(self, window: Window, left: int, program: Program) -> None:
        with contextlib.suppress(httpx.TransportError):
            async for kind, values in window.news():
                if kind == "job" and values["state"] == "finished":
                    self.told.add(values["picture"])
                    self.news.set()
                left -= 1
                if left == 0:
                    os.kill(program.process.pid, signal.SIGKILL)
        self.news.set()

    async def check(self, window: Window) -> None:
        listed: dict[str, int] = {}
        before = ""
        while True:
            answer = await window.client.get(
                "/pictures", params={"count": 100, **({"before": before} if before else {})}
            )
            page = answer.raise_for_status().json()["pictures"]
            if not page:
                break
            listed |= {each["id"]: each["rating"] for each in page}
            before = page[-1]["id"]
        files = {path.stem for path in self.output.glob("*.png")}
        assert self.told <= files == set(listed)
        for name in files:
            with Image.open(self.output / f"{name}.png") as image:
                image.load()
            assert metadata.read(self.output / f"{name}.png")
        # The last rating before a kill may have been kept without an answer.
        assert all(listed[each] >= 1 for each in self.rated)
        sources = Sources(self.output / "sources")
        assert all(sources.open(name).size == (64, 64) for name in self.brought)
        assert not list(self.output.rglob("*.part")), "what a kill leaves is gone after the next start"


def test_what_was_told_as_finished_is_there_after_a_kill(tmp_path: Path) -> None:
    moments, life = random.Random(5), Life(tmp_path)
    for _ in range(KILLS):
        program = Program(tmp_path, _free_port())
        try:
            asyncio.run(life.go_on(program.address, moments, program))
            assert program.process.wait(60) == -signal.SIGKILL
        finally:
            program.end(kill=True)
    program = Program(tmp_path, _free_port())
    try:

        async def last() -> None:
            async with Window(program.address) as window:
                await life.check(window)

        asyncio.run(last())
    finally:
        assert program.end() == 0
    assert life.told and life.rated and life.brought
    assert not [line for line in program.lines if "Traceback" in line]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if os.name == "nt":
    pytest.skip("Windows ends processes in another way.", allow_module_level=True)
