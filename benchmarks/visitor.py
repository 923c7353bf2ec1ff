"""The studio's users without browsers: the program in a process of its own, and windows that use it as the page does.

For the measurements and the tests that need many people at once, or a program that dies.
"""

import asyncio
import json
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(r" is ready at (http://\S+)")


class Program:
    """The launched studio. Raises RuntimeError if it doesn't start."""

    def __init__(self, output: Path, port: int, arguments: Sequence[str] = (), launcher: Sequence[str] = ()) -> None:
        """launcher: what to run in the place of launch.py."""
        command = [sys.executable, *(launcher or [str(ROOT / "launch.py")]), "--no-browser", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--output-folder", str(output), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line)
            if found := READY.search(line):
                self.address = found[1]
                return
        raise RuntimeError("The studio did not start:\n" + "".join(self.lines))

    def end(self, kill: bool = False) -> int:
        """End it, at once or as Ctrl+C does. Returns its exit code."""
        (self.process.kill if kill else self.process.terminate)()
        self.lines += self.process.communicate()[0].splitlines(keepends=True)
        return self.process.returncode


class Window:
    """A window of a browser of its own: its page, what it presses, what it is told."""

    def __init__(self, address: str, **options: Any) -> None:
        self.session = secrets.token_hex(6)
        self.client = httpx.AsyncClient(base_url=address, timeout=120, trust_env=False, **options)

    async def __aenter__(self) -> "Window":
        page = (await self.client.get("/")).raise_for_status().text
        start = page.index("window.gradio_config = ") + len("window.gradio_config = ")
        self.config = json.JSONDecoder().raw_decode(page, start)[0]
        self.parts = {each["id"]: each for each in self.config["components"]}
        # As a page does when it is opened; some of it is made for each window then.
        for each in self.config["dependencies"]:
            if each["backend_fn"] and not each["inputs"] and any(name == "load" for _, name in each["targets"]):
                await self.call(each, [])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def press(self, element: str, event: str = "click", data: Any = None, **fields: Any) -> list[Any]:
        """What the studio answers to an event of the element with this id, with fields of the form changed by label."""
        ids = {number: part["props"].get("elem_id") for number, part in self.parts.items()}
        [function] = [
            each
            for each in self.config["dependencies"]
            if each["backend_fn"] and any(ids.get(part) == element and name == event for part, name in each["targets"])
        ]
        labels = {self.parts[each]["props"].get("label"): each for each in function["inputs"]}
        values = {each: self.parts[each]["props"].get("value") for each in function["inputs"]}
        # Numbers are sent as they are typed.
        values |= {labels[label.replace("_", " ")]: str(value) for label, value in fields.items()}
        return await self.call(function, [*values.values()], data)

    async def call(self, function: dict[str, Any], values: list[Any], data: Any = None) -> list[Any]:
        """What a function of the page answers."""
        body = {"data": values, "fn_index": function["id"], "session_hash": self.session, "event_data": data}
        answer = await self.client.post("/gradio_api/run/predict", json=body)
        found: list[Any] = answer.raise_for_status().json()["data"]
        return found

    async def generate(self, **fields: Any) -> str:
        """Press Generate in the first tab. Returns what the page says of it, nothing if all is well."""
        answer = (await self.press("text_to_image-start", **fields))[0]
        return str(json.loads(answer)["sentence"]) if answer else ""

    async def news(self) -> AsyncIterator[tuple[str, Any]]:
        """What the studio tells this browser, from how things stand on: kind and values."""
        async with self.client.stream("GET", "/live") as answer:
            kind = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    yield kind, json.loads(line[6:])


async def finished(window: Window, count: int) -> list[str]:
    """Wait until so many pictures of this browser are finished; their ids."""
    made: list[str] = []
    async with asyncio.timeout(600):
        async for kind, values in window.news():
            jobs = values["jobs"] if kind == "jobs" else [values] if kind == "job" else []
            made += [each["picture"] for each in jobs if each["state"] == "finished" and each["picture"] not in made]
            if len(made) >= count:
                return made
    return made
