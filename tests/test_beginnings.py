"""Models to begin with, and the folder they go into."""

import datetime
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from studio.app import _sentence
from studio.errors import StudioError
from studio.files.folders import read_json
from studio.models.catalog import Catalog
from studio.models.hub.download import parsed
from studio.models.manager import Manager, Memory
from studio.web import beginnings


def client(folder: Path, address: str = "127.0.0.1", host: str = "127.0.0.1:7860") -> TestClient:
    app = FastAPI()
    app.add_exception_handler(StudioError, _sentence)
    app.include_router(beginnings.routes(Manager(Catalog([folder]), "cpu"), [folder]))
    return TestClient(app, base_url=f"http://{host}", client=(address, 5000))


class AtOnce:
    """A thread that is done when it has been started."""

    def __init__(self, target: Callable[..., object], args: tuple[object, ...], daemon: bool) -> None:
        self.start = partial(target, *args)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, on a machine with a desktop."""
    commands: list[list[str]] = []
    monkeypatch.setattr(beginnings, "opener", lambda: ["show"])
    monkeypatch.setattr(subprocess, "run", commands.append)
    monkeypatch.setattr(beginnings, "Thread", AtOnce)
    return commands


def test_the_list_is_dated_and_tells_of_each_model_what_one_must_know() -> None:
    found = read_json(beginnings.LIST)
    assert datetime.date.fromisoformat(found["looked_up"]) <= datetime.date.today()
    for each in found["models"]:
        assert parsed(each["name"])[0].count("/") == 1
        assert each["title"] and each["for"].endswith(".") and each["license"]
        assert 0 < each["disk_gb"] < 100 and 0 < each["memory_gb"] < 100
    assert len({each["name"] for each in found["models"]}) == len(found["models"]) >= 8


@pytest.mark.parametrize(("gigabytes", "fit"), [(8, 2), (16, 4), (139, 10), (1, 0)])
def test_what_fits_this_machine_is_marked(
    gigabytes: int, fit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Manager, "memory", lambda self: Memory(False, gigabytes * 10**9, 0))
    answer = client(tmp_path).get("/models/beginnings").json()
    assert sum(each["fits"] for each in answer["models"]) == fit
    assert answer["memory"] == {"card": False, "bytes": gigabytes * 10**9}


def test_the_folder_is_made_and_opened_for_a_person_at_this_machine(tmp_path: Path, opened: list[list[str]]) -> None:
    folder = tmp_path / "new" / "models"
    here = client(folder)
    assert here.get("/models/beginnings").json()["opens"] and not folder.exists()
    assert here.post("/models/folder").json() == {"folder": str(folder), "opened": True}
    assert folder.is_dir() and opened == [["show", str(folder)]]


@pytest.mark.parametrize(
    ("address", "host", "headers"),
    [
        ("192.168.1.7", "192.168.1.5:7860", {}),
        ("192.168.1.7", "127.0.0.1:7860", {}),
        ("127.0.0.1", "studio.example.org", {}),
        ("127.0.0.1", "127.0.0.1:7860", {"X-Forwarded-For": "192.168.1.7"}),
        ("127.0.0.1", "127.0.0.1:7860", {"Forwarded": "for=192.168.1.7"}),
    ],
)
def test_nothing_is_opened_for_others(
    address: str, host: str, headers: dict[str, str], tmp_path: Path, opened: list[list[str]]
) -> None:
    there = client(tmp_path / "models", address, host)
    assert not there.get("/models/beginnings", headers=headers).json()["opens"]
    assert there.post("/models/folder", headers=headers).json()["opened"] is False
    assert not opened and (tmp_path / "models").is_dir()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = client(tmp_path / "file" / "models").post("/models/folder")
    assert answer.status_code == 400 and "No models folder can be written to" in answer.json()["error"]


@pytest.mark.parametrize(
    ("platform", "desktop", "command"),
    [
        ("win32", "", ["explorer"]),
        ("darwin", "", ["open"]),
        ("linux", "", []),
        ("linux", ":0", ["xdg-open"]),
    ],
)
def test_each_system_has_its_way_to_open_a_folder(
    platform: str, desktop: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", desktop)
    assert beginnings.opener() == command
