"""Good models to begin with, and the folder that models go into: listed, made and opened."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from studio.files.folders import read_json, visible
from studio.models.catalog import ASSETS
from studio.models.hub import download
from studio.models.manager import Manager
from studio.web.guard import asks_from_this_machine
from studio.web.live import NOT_KEPT

LIST = ASSETS / "beginnings.json"
"""A dated list of models on the hub: name, what it is for, gigabytes of the download and of memory, licence."""


def routes(models: Manager, folders: Iterable[Path]) -> APIRouter:
    """`GET /models/beginnings`, and `POST /models/folder`. folders: where models may go, the first that is writable."""
    router = APIRouter(prefix="/models")
    folders = tuple(folders)

    @router.get("/beginnings")
    def beginnings(request: Request) -> JSONResponse:
        memory, found = models.memory(), read_json(LIST)
        return JSONResponse(
            {
                "looked_up": found["looked_up"],
                "models": [{**each, "fits": _fits(each, memory.bytes)} for each in found["models"]],
                "memory": {"card": memory.card, "bytes": memory.bytes},
                "folder": visible(str(download.first(folders))),
                "opens": _opens(request),
            },
            headers=NOT_KEPT,
        )

    @router.post("/folder")
    def folder(request: Request) -> JSONResponse:
        """Make the models folder if it is not there; for a person at this very machine, open it."""
        path, opens = download.destination(folders), _opens(request)
        if opens:
            # The opener may run as long as the window that it opens.
            command = [*opener(), str(path)]
            Thread(target=subprocess.run, args=(command,), daemon=True).start()
        return JSONResponse({"folder": visible(str(path)), "opened": opens})

    return router


def opener() -> list[str]:
    """The command that opens a folder in the system's file manager; empty where there is no desktop."""
    if sys.platform == "win32":
        return ["explorer"]
    if sys.platform == "darwin":
        return ["open"]
    return ["xdg-open"] if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") else []


def _opens(request: Request) -> bool:
    return bool(opener()) and asks_from_this_machine(request)


def _fits(model: dict[str, Any], memory: int) -> bool:
    """Whether a model fits whole, in 16 bits. Larger ones are held in slower ways (docs/memory.md)."""
    return float(model["memory_gb"]) * 1e9 <= memory
