"""The page's scripts as files: rooms that import one way, and nothing that leads nowhere."""

import re
from pathlib import Path

import pytest

from studio.settings import ROOT

PAGE = ROOT / "studio" / "ui" / "page"
ROOMS = ("common", "live", "form", "easel", "stage", "grid", "models")
"""Each imports only from those before it, and from itself."""

SCRIPTS = sorted(PAGE.rglob("*.js"))
IMPORT = re.compile(r'(?:\bfrom|\bimport\()\s*"(\.[^"]+)"')


def imported(script: Path) -> list[Path]:
    return [(script.parent / name).resolve() for name in IMPORT.findall(script.read_text("utf-8"))]


def room(script: Path) -> str:
    return script.relative_to(PAGE).parts[0]


def test_every_script_lies_in_a_room() -> None:
    assert {room(each) for each in SCRIPTS} == set(ROOMS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(PAGE)))
def test_scripts_import_what_is_there_from_the_rooms_before_theirs(script: Path) -> None:
    for each in imported(script):
        assert each.is_file(), f"{script} imports {each}"
        assert ROOMS.index(room(each)) <= ROOMS.index(room(script)), f"{script} imports {each}"


def test_no_scripts_import_one_another_in_a_circle() -> None:
    waiting = {script: set(imported(script)) for script in SCRIPTS}
    while free := {script for script, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {script: needs for script, needs in waiting.items() if script not in free}
    assert not waiting, "these import one another, or what does"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(PAGE)))
def test_every_script_is_used(script: Path) -> None:
    name = str(script.relative_to(PAGE))
    in_python = any(name in path.read_text("utf-8") for path in (ROOT / "studio").rglob("*.py"))
    assert in_python or any(script in imported(each) for each in SCRIPTS)


GRADIOS = re.compile(
    r"svelte|label-wrap|wrap-inner|secondary-wrap|tab-wrapper|tab-nav|data-tab-id|dataset\.tabId|block-info|combobox|"
    r"aria-selected=true|\[aria-controls|[\"`']\.block\b|\.token\b|\.primary\b|-prompt textarea"
)
"""Classes and attributes that Gradio gives to the page."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(PAGE)))
def test_what_gradio_calls_things_stands_in_one_script(script: Path) -> None:
    found = GRADIOS.findall(script.read_text("utf-8"))
    assert bool(found) == (script == PAGE / "common" / "gradio.js"), f"move it to common/gradio.js: {found}"
