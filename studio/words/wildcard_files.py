"""Files of wildcards: where they lie, and the choices in them, whatever they were written with.

A text file has one choice on each line. A YAML or JSON file has lists, each under the path of its keys, or one list
under the file's own name, as A1111's extension Dynamic Prompts reads them (docs/SYNTAX.md of adieyal/dynamicprompts). A
choice of a list may be a table with `text` and `weight`; it is given here as it would be typed, `3::text`.
"""

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from studio import disk
from studio.files.plain_yaml import PlainYaml

ENDING = ".txt"
TABLES = (".yaml", ".yml", ".json")
MAX_BYTES, MAX_TABLE_BYTES = 4_000_000, 1_000_000

_MOST = 20_000
"""Names looked at below one folder."""

_DEEPEST = 20
"""Keys within keys of one file."""

_PLUGINS = ("extensions", "custom_nodes")
"""What programs call the folder with their extensions."""

Choices = tuple[str, ...]


def folders(around: Iterable[Path]) -> list[Path]:
    """The folders of wildcards in models folders, in the programs around these, and in the programs' extensions."""
    around = list(around)
    own = [folder / "wildcards" for folder in around]
    homes = [home for folder in around for home in _homes(folder)]
    plugins = [plugin for home in homes for name in _PLUGINS for plugin in _folders_in(home / name)]
    return list(dict.fromkeys([*own, *(home / "wildcards" for home in (*homes, *plugins))]))


def _homes(folder: Path) -> list[Path]:
    """The folder of the program that a models folder belongs to, and its folder of models."""
    above = [each.parent for each in (folder, folder.parent) if each.name.lower() == "models"]
    return [folder, folder / "models", *above]


def below(folder: Path) -> Iterator[Path]:
    """The files of wildcards in a folder and those in it, in order. Links that lead out of it are passed over."""
    left = _MOST
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(each for each in inner if not each.startswith("."))
        left -= len(inner) + len(names)
        if left < 0:
            return
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix in (ENDING, *TABLES) and is_within(path, folder):
                yield path


def is_within(path: Path, folder: Path) -> bool:
    """Whether there is a file, and in the folder: neither dots nor links lead out of it."""
    # `is_file` of a path fails where a name is too long.
    return os.path.isfile(path) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def lines(path: Path) -> Choices:
    """The choices of a text file; none if it is no list of words."""
    return _lines(path, *_stamp(path))


def tables(path: Path) -> dict[str, Choices] | None:
    """The lists in a YAML or JSON file by the path of their keys, "" for one without; None if it cannot be read."""
    return _tables(path, *_stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


@lru_cache(32)
def _lines(path: Path, size: int, changed: int) -> Choices:
    try:
        text = decoded(disk.content(path, MAX_BYTES))
    except OSError:
        return ()
    if "\0" in text:  # it is something else than text
        return ()
    found = (line.strip() for line in text.splitlines())
    return tuple(line for line in found if line and not line.startswith("#"))


@lru_cache(32)
def _tables(path: Path, size: int, changed: int) -> dict[str, Choices] | None:
    try:
        text = decoded(disk.content(path, MAX_TABLE_BYTES))
        value = json.loads(text) if path.suffix == ".json" else yaml.load(text, PlainYaml)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return {name: choices for name, choices in _lists(value, ()) if choices}


def decoded(data: bytes) -> str:
    """Text in UTF-8 or UTF-16; what is neither was written on a Windows machine of the West, in its code page 1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    # Without a mark too: every other byte of Latin letters is empty.
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(data) >= 4 and not len(data) % 2 and data[start::2].count(0) * 2 > len(data) // 2 > data.count(0) // 2:
            return data.decode(name, "replace")
    text = data.decode("utf-8-sig", "replace")
    damaged = text.count("\ufffd")
    # A letter beyond ASCII is at least two bytes that fit together, which in another encoding is rare.
    if damaged and damaged > sum(letter > "\x7f" for letter in text) - damaged:
        return data.decode("cp1252", "replace")
    return text


def _lists(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, Choices]]:
    if isinstance(value, list):
        yield "/".join(keys), tuple(filter(None, map(_choice, value)))
    elif isinstance(value, dict) and len(keys) < _DEEPEST:
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _lists(inner, (*keys, key.strip()))


def _choice(value: Any) -> str:
    """A list's item as it would be typed on a line; empty if it is none."""
    if isinstance(value, dict):
        text, weight = _choice(value.get("text") or value.get("content")), str(value.get("weight", ""))
        return f"{weight}::{text}" if text and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", weight) else text
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    kept = (line for line in str(value).splitlines() if not line.lstrip().startswith("#"))
    return "\n".join(kept).strip()


def _folders_in(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(Path(each.path) for each in entries if each.is_dir())[:1000]
    except OSError:
        return []
