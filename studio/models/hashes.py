"""Hashes by which other programs and sites know files: worked out once for each file, while nothing is drawn.

- The SHA-256 of the whole file: its first ten digits are what A1111 and Civitai call AutoV2, `Model hash` in a text.
- That of a LoRA without its header, which stays the same when somebody edits its title: kohya's trainer writes it there
  as `sshs_model_hash`, and its first twelve digits are AutoV3, `Lora hashes` in a text.
"""

import contextlib
import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from studio import disk
from studio.engine.events import Cancelled, Event, Failed, Finished, Paused
from studio.errors import ModelError, StudioError
from studio.files import addons
from studio.models.catalog import Catalog, Entry
from studio.models.records import Records

KINDS = ("model", "lora", "vae")
"""Of which files the hashes are worked out: of those that texts name with one."""

REST = 20.0
"""Seconds without any picture in the making before it goes on."""

_CHUNK = 1 << 22
log = logging.getLogger(__name__)


def digest(path: Path, kind: str, report: Callable[[int], None]) -> tuple[str, str]:
    """The SHA-256 of a file, and of a LoRA without its header, else "": in hexadecimal digits.

    kind: as in `files.identity.identify`. report: called with the bytes that are read, after every few megabytes.
    Raises ModelError.
    """
    whole, data, done = hashlib.sha256(), hashlib.sha256(), 0
    try:
        with disk.opened(path) as file:
            has_two = kind == "lora" and path.suffix.lower() == ".safetensors"
            start = 8 + int.from_bytes(file.read(8), "little")
            file.seek(0)
            while chunk := file.read(_CHUNK):
                whole.update(chunk)
                if has_two and done + len(chunk) > start:
                    data.update(memoryview(chunk)[max(start - done, 0) :])
                report(done := done + len(chunk))
    except OSError as error:
        raise ModelError(f"The file {path.name} cannot be read: {error.strerror or error}.") from None
    return whole.hexdigest(), data.hexdigest() if has_two else ""


def known(records: Records, path: Path) -> tuple[str, str]:
    """Both hashes of a file, as far as its header or the records know them; "" for what is not known."""
    try:
        state = path.stat()
    except OSError:
        return "", ""
    whole, data = records.hashes(path, (state.st_size, state.st_mtime_ns))
    return whole, addons.told(path).hash or data


class Hasher:
    """Works out the hashes that are not known, on a thread of its own, while no picture is in the making.

    It looks at the folders some time after the start, and again after pictures were made. What it has worked out is in
    the records for good; a picture that begins in the middle of a file holds it up.
    rest: seconds without a picture before it goes on.
    """

    def __init__(self, catalog: Catalog, rest: float = REST) -> None:
        self._catalog, self._rest = catalog, rest
        self._change = threading.Condition()
        self._going: set[str] = set()
        self._since = time.monotonic()
        self._news, self._closed = True, False
        self._unreadable: set[tuple[Path, tuple[int, ...]]] = set()
        self._thread = threading.Thread(target=self._work, name="hashes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End it, in the middle of a file too: that one is begun anew the next time."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join()

    def heard(self, event: Event) -> None:
        """What became of a picture (`Engine.subscribe`)."""
        with self._change:
            if isinstance(event, Finished | Paused | Failed | Cancelled):
                self._going.discard(event.job)
            else:
                self._going.add(event.job)
            self._since, self._news = time.monotonic(), True
            self._change.notify_all()

    def _work(self) -> None:
        _step_back()
        with contextlib.suppress(_Closed):
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._news or self._closed)
                    self._news = False
                self._wait_for_rest()
                for entry in self._unknown():
                    self._hash(entry)

    def _wait_for_rest(self) -> None:
        """Return when there was no picture in the making for long enough. Raises _Closed."""
        with self._change:
            while not self._closed:
                left = self._since + self._rest - time.monotonic()
                if not self._going and left <= 0:
                    return
                self._change.wait(None if self._going else left)
        raise _Closed

    def _unknown(self) -> list[Entry]:
        """Files without hashes, small ones first."""
        records = self._catalog.records
        found = [
            each
            for each in self._catalog.everything()
            if each.single and each.kind in KINDS and not each.problem
            if (each.path, each.stamp) not in self._unreadable and not records.hashes(each.path, each.stamp)[0]
        ]
        return sorted(found, key=lambda each: each.bytes)

    def _hash(self, entry: Entry) -> None:
        try:
            digits = digest(entry.path, entry.kind, lambda done: self._wait_for_rest())
            state = entry.path.stat()
            if (state.st_size, state.st_mtime_ns) == entry.stamp:  # else it changed while it was read
                self._catalog.records.keep_hashes(entry.path, entry.stamp, *digits)
        except (OSError, StudioError) as error:
            log.info("The hash of %s could not be worked out: %s", entry.name, error)
            self._unreadable.add((entry.path, entry.stamp))


class _Closed(Exception):
    """Ends the thread."""


def _step_back() -> None:
    """Have this thread give way to all others, where threads have priorities of their own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
