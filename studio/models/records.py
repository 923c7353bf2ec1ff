"""What the studio itself keeps about models, beside the pictures and never in a models folder.

Notes and default settings that a person wrote, hashes, and what was read from headers before, in one SQLite file.
"""

import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio.errors import StorageError
from studio.models.identify import Identity

log = logging.getLogger(__name__)

RULES = 3
"""Raised whenever `studio.models.identify` tells more or other things than before: headers are then read again."""

DEFAULTS = ("width", "height", "steps", "guidance_scale", "guidance_end", "guidance_rescale", "sampler")
"""Settings of a recipe that a person can give a model defaults for."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS headers (path TEXT PRIMARY KEY, stamp TEXT, rules INTEGER, identity TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (model TEXT PRIMARY KEY, notes TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS defaults (model TEXT PRIMARY KEY, defaults TEXT) WITHOUT ROWID;
"""

Stamp = tuple[int, ...]


class Records:
    """All methods may be called from any thread. path: the file; None keeps everything in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._file = self._open(path)
        rows = self._file.execute("SELECT path, stamp, identity FROM headers WHERE rules = ?", (RULES,))
        self._headers = {row[0]: (row[1], row[2]) for row in rows}

    def identity(self, path: Path, stamp: Stamp) -> Identity | None:
        """What the header of this file said, if it was read before and the file has not changed."""
        known = self._headers.get(_key(path))
        if known is None or known[0] != str(stamp):
            return None
        try:
            values: dict[str, Any] = json.loads(known[1])
            return Identity(**values | {name: tuple(values[name]) for name in ("parts", "triggers")})
        except (ValueError, TypeError, KeyError):
            return None

    def remember(self, found: Iterable[tuple[Path, Stamp, Identity]]) -> None:
        """Keep what headers said."""
        rows = [(_key(path), str(stamp), RULES, json.dumps(asdict(identity))) for path, stamp, identity in found]
        with self._lock:
            self._headers |= {row[0]: (row[1], row[3]) for row in rows}
            try:
                with self._file:
                    self._file.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", rows)
            except sqlite3.Error as error:  # then they are read again the next time
                log.warning("What was read of the models could not be kept: %s.", error)

    def sha256(self, path: Path, stamp: Stamp) -> str:
        """The file's SHA-256 in hexadecimal digits, empty if it isn't known."""
        return self._one("SELECT sha256 FROM hashes WHERE path = ? AND stamp = ?", _key(path), str(stamp))

    def keep_sha256(self, path: Path, stamp: Stamp, digits: str) -> None:
        self._write("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", _key(path), str(stamp), digits)

    def notes(self, model: str) -> str:
        """What a person wrote about a model."""
        return self._one("SELECT notes FROM notes WHERE model = ?", model)

    def keep_notes(self, model: str, notes: str) -> None:
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", model, notes)

    def all_notes(self) -> dict[str, str]:
        with self._lock:
            return dict(self._file.execute("SELECT model, notes FROM notes WHERE notes != ''"))

    def defaults(self, model: str) -> dict[str, Any]:
        """The settings that a person wants a model to begin with: some of DEFAULTS."""
        try:
            found = json.loads(self._one("SELECT defaults FROM defaults WHERE model = ?", model) or "{}")
        except ValueError:
            return {}
        return {name: found[name] for name in DEFAULTS if name in found} if isinstance(found, dict) else {}

    def keep_defaults(self, model: str, defaults: Mapping[str, Any]) -> None:
        self._write("INSERT OR REPLACE INTO defaults VALUES (?, ?)", model, json.dumps(dict(defaults)))

    def close(self) -> None:
        """Nothing can be asked afterwards."""
        with self._lock:
            self._file.close()

    def _one(self, query: str, *values: str) -> str:
        with self._lock:
            row = self._file.execute(query, values).fetchone()
        return str(row[0]) if row else ""

    def _write(self, query: str, *values: str) -> None:
        with self._lock:
            try:
                with self._file:
                    self._file.execute(query, values)
            except sqlite3.Error as error:
                raise StorageError(
                    f"This could not be kept: {error}. Is the disk full, or not to be written?"
                ) from error

    @staticmethod
    def _open(path: Path | None) -> sqlite3.Connection:
        if path is not None:
            for _ in range(2):
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    return _connected(str(path))
                except sqlite3.OperationalError as error:
                    log.warning("Notes about models cannot be kept in %s (%s).", path, error)
                    break
                except (sqlite3.DatabaseError, OSError) as error:
                    log.warning("%s is damaged (%s) and is put aside.", path, error)
                    try:
                        path.replace(path.with_name(f"{path.name}.damaged"))
                    except OSError:
                        break
        return _connected(":memory:")


def _connected(path: str) -> sqlite3.Connection:
    result = sqlite3.connect(path, timeout=5, check_same_thread=False)
    try:
        result.execute("PRAGMA journal_mode = WAL")
        result.executescript(_SCHEMA)
    except BaseException:
        result.close()
        raise
    return result


def _key(path: Path) -> str:
    """A path as text that SQLite takes, whatever bytes are in it."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
