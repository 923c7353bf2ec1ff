"""Which of the models that are here is meant by a name that another program, or an earlier day, wrote."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Literal

from studio.models.catalog import Entry

LIKE = 0.6
"""How alike two names must be, as difflib counts it, for the one to stand for the other."""

_ENDING = re.compile(r"\.(safetensors|ckpt|gguf|sft|pt)$", re.IGNORECASE)
_HASH = re.compile(r"(.*?)\s*\[([0-9a-f]{8,64})\]|([0-9a-f]{8,64})", re.IGNORECASE | re.DOTALL)

How = Literal["hash", "name", "likeness"]


def nearest(asked: str, entries: Iterable[Entry], hashed: Callable[[Entry], str]) -> tuple[Entry, How] | None:
    """The model of this hash; else of this name, in any case, with or without its folder and ending; else of the
    nearest name. None if nothing is like it.

    hashed: a file's SHA-256, or empty.
    """
    entries = list(entries)
    told, digits = parted(asked)
    for entry in entries if digits else ():
        if hashed(entry).startswith(digits):
            return entry, "hash"
    for way in (str, _path, _stem, _plain):
        if found := [entry for entry in entries if way(entry.name) == way(told)]:
            return found[0], "name"
    likest = _likest(_plain(told), entries)
    return (likest, "likeness") if likest else None


def parted(asked: str) -> tuple[str, str]:
    """Name and hash, "v1-5 [6ce0161689]", as A1111 writes them: the first digits of the file's SHA-256, or "".

    Digits alone may be either.
    """
    found = _HASH.fullmatch(asked)
    return (found[1] or asked, (found[2] or found[3]).lower()) if found else (asked, "")


def is_same(asked: str, name: str) -> bool:
    """Whether two names differ in nothing but case, folder and ending."""
    return _stem(asked) == _stem(name)


def _likest(plain: str, entries: list[Entry]) -> Entry | None:
    def likeness(entry: Entry) -> float:
        name = _plain(entry.name)
        if plain and name and (name.startswith(plain) or plain.startswith(name)):
            return 1 + min(len(plain), len(name)) / max(len(plain), len(name))
        return difflib.SequenceMatcher(None, plain[:200], name[:200], False).ratio()

    best = max(entries, key=likeness, default=None)
    return best if best and likeness(best) >= LIKE else None


def _path(name: str) -> str:
    return name.replace("\\", "/").lower()


def _stem(name: str) -> str:
    return _ENDING.sub("", _path(name).rpartition("/")[2])


def _plain(name: str) -> str:
    """Letters and digits alone."""
    return "".join(each for each in _stem(name) if each.isalnum())
