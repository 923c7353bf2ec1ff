"""The machine's memory: how much this process may use, in a container often less than there is; and giving it back."""

import ctypes
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import psutil

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux tells the limits of control groups (cgroups(7)), and which of them this process is in."""

NO_LIMIT = 2**63

_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""By version: the limit, what is used of it, and what of that are files that the system would give up."""


def available(groups: Path = GROUPS, own: Path = OWN) -> tuple[int, int]:
    """Bytes of memory that there are, and that are free."""
    machine = psutil.virtual_memory()
    there, free = machine.total, machine.available
    for version, folder in _folders(groups, own):
        limit, used = _limit(folder, *_FILES[version])
        if limit < machine.total:
            there, free = min(there, limit), min(free, max(limit - used, 0))
    return there, free


def give_back() -> None:
    """Return what is not used any more to the system, which glibc by itself does of little."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


class Recent(Generic[K, V]):
    """The values that were asked for last, by key, up to `limit` in all by what each weighs; the newest in any case."""

    def __init__(self, limit: int, weigh: Callable[[V], int]) -> None:
        self._limit, self._weigh = limit, weigh
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        value = make()
        weight = self._weigh(value)
        self._values[key] = value, weight
        self._weight += weight
        while self._weight > self._limit and len(self._values) > 1:
            self._weight -= self._values.popitem(last=False)[1][1]
        return value

    def clear(self) -> None:
        self._values.clear()
        self._weight = 0


def _folders(groups: Path, own: Path) -> Iterator[tuple[int, Path]]:
    """The groups that bound this process, with their versions: its own, and all above it."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        version, home = (1, groups / "memory") if "memory" in kinds.split(",") else (2, groups)
        if version == 2 and kinds:
            continue
        folder = home / path.lstrip("/")
        # Seen from within a container, its own group is where all groups begin.
        for each in (folder, *folder.parents):
            if each.is_relative_to(home) and (each / _FILES[version][0]).is_file():
                yield version, each


def _limit(folder: Path, most: str, now: str, files: str) -> tuple[int, int]:
    """Bytes that a group may use, and those that it uses and would not give up; no limit where that cannot be read."""
    try:
        limit = (folder / most).read_text().strip()
        if limit == "max":
            return NO_LIMIT, 0
        told = dict(line.split(None, 1) for line in (folder / "memory.stat").read_text().splitlines())
        return int(limit), int((folder / now).read_text()) - int(told.get(files, 0))
    except (OSError, ValueError):
        return NO_LIMIT, 0
