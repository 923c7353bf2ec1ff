"""What the studio itself keeps about models, beside the pictures and never in a models folder.

Notes and default settings that a person wrote, hashes, and what was read from headers before, in one SQLite file.
"""

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio.database import DAMAGE, Database, Row, summed, whole
from studio.errors import StorageError
from studio.files.identity.identify import Identity
from studio.recipe.fields import OWN

log = logging.getLogger(__name__)

RULES = 5
"""Raised whenever `files.identity.identify` tells more or other things than before: headers are then read again."""

DEFAULTS = OWN
"""Settings of a recipe that a person can give a model defaults for."""

_PARTS = "parts of "
"""Before a model's key, where what a person chose to serve as its parts is kept among the defaults."""
DISTILLED, NOT_DISTILLED = "distilled", "no"
"""Beside these: what a person says that a model is distilled by, and that it is not."""

VERSION = 1

_SCHEMA = tuple(
    f"CREATE TABLE {table} ({columns}, sum INTEGER NOT NULL) WITHOUT ROWID"
    for table, columns in (
        ("headers", "path TEXT PRIMARY KEY, stamp TEXT, rules INTEGER, identity TEXT"),
        ("hashes", "path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT"),
        ("notes", "model TEXT PRIMARY KEY, notes TEXT"),
        ("defaults", "model TEXT PRIMARY KEY, defaults TEXT"),
    )
)

Stamp = tuple[int, ...]


class Records:
    """All methods may be called from any thread. path: the file; None keeps everything in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        self._headers: dict[str, tuple[str, str]] = {}
        self._file = Database(path, VERSION, _SCHEMA, self._read_headers, _rescued)

    def _read_headers(self, file: sqlite3.Connection) -> None:
        rows = map(whole, file.execute("SELECT * FROM headers"))
        self._headers = {path: (stamp, identity) for path, stamp, rules, identity in rows if rules == RULES}

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
        try:
            for row in rows:
                self._headers[row[0]] = row[1], row[3]
            self._put("headers", *rows)
        except sqlite3.Error as error:  # then they are read again the next time
            log.warning("What was read of the models could not be kept: %s.", error)

    def hashes(self, path: Path, stamp: Stamp) -> tuple[str, str]:
        """The file's SHA-256, and that of what is behind its header (`studio.models.hashes`); "" if not known."""
        known = self._one("hashes", "path", _key(path))
        whole, _, data = str(known[2]).partition(" ") if known and known[1] == str(stamp) else ("", "", "")
        return whole, data

    def keep_hashes(self, path: Path, stamp: Stamp, whole: str, data: str = "") -> None:
        self._write("hashes", _key(path), str(stamp), f"{whole} {data}".rstrip())

    def notes(self, model: str) -> str:
        """What a person wrote about a model."""
        known = self._one("notes", "model", model)
        return str(known[1]) if known else ""

    def keep_notes(self, model: str, notes: str) -> None:
        self._write("notes", model, notes)

    def all_notes(self) -> dict[str, str]:
        rows = self._file.run(lambda file: list(map(whole, file.execute("SELECT * FROM notes WHERE notes != ''"))))
        return dict(rows)

    def defaults(self, model: str) -> dict[str, Any]:
        """The settings that a person wants a model to begin with: some of DEFAULTS."""
        found = self._wanted(model)
        return {name: found[name] for name in DEFAULTS if name in found}

    def keep_defaults(self, model: str, defaults: Mapping[str, Any]) -> None:
        self._write("defaults", model, json.dumps({**defaults, DISTILLED: self._wanted(model).get(DISTILLED, "")}))

    def all_distilled(self) -> dict[str, str]:
        """Model → what a person says that it is distilled by, or NOT_DISTILLED, of those of which one says anything."""
        rows = self._file.run(lambda file: list(map(whole, file.execute("SELECT * FROM defaults"))))
        return {str(model): kind for model, text in rows if (kind := _said(text))}

    def keep_distilled(self, model: str, kind: str) -> None:
        """Keep what a person says; empty to go by the file's name again."""
        self._write("defaults", model, json.dumps({**self._wanted(model), DISTILLED: kind}))

    def _wanted(self, model: str) -> dict[str, Any]:
        known = self._one("defaults", "model", model)
        return dict(json.loads(known[1])) if known else {}

    def all_parts(self) -> dict[str, dict[str, str]]:
        """What a person chose to serve as parts of models: model → part → path."""
        query = "SELECT * FROM defaults WHERE model LIKE ?"
        rows = self._file.run(lambda file: list(map(whole, file.execute(query, (f"{_PARTS}%",)))))
        found = {model.removeprefix(_PARTS): json.loads(text) for model, text in rows}
        return {model: parts for model, parts in found.items() if isinstance(parts, dict)}

    def keep_part(self, model: str, part: str, path: Path | None) -> None:
        """What shall serve as a part of a model; None for what is best by itself."""
        parts = self.all_parts().get(model, {})
        parts.pop(part, None)
        if path is not None:
            parts[part] = str(path)
        self._write("defaults", _PARTS + model, json.dumps(parts))

    def close(self) -> None:
        """Nothing can be asked afterwards."""
        self._file.close()

    def _one(self, table: str, key: str, value: str) -> Row | None:
        query = f"SELECT * FROM {table} WHERE {key} = ?"
        return self._file.run(lambda file: next(map(whole, file.execute(query, (value,))), None))

    def _write(self, table: str, *values: str) -> None:
        try:
            self._put(table, values)
        except sqlite3.Error as error:
            raise StorageError(f"This could not be kept: {error}. Is the disk full, or not to be written?") from error

    def _put(self, table: str, *rows: Row) -> None:
        def put(file: sqlite3.Connection) -> None:
            with file:
                for row in rows:
                    marks = ", ".join("?" * (len(row) + 1))
                    file.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", summed(*row))

        self._file.run(put)


def _said(text: str) -> str:
    """The kind in a row of defaults; empty if there is none, or the row was rescued from damage and is not whole."""
    try:
        return str(json.loads(text).get(DISTILLED, ""))
    except (ValueError, AttributeError, RecursionError):
        return ""


def _rescued(file: sqlite3.Connection) -> Iterator[tuple[str, Row]]:
    """What can still be read of a file: all rows that are whole, and of a person's notes the rest too."""
    file.text_factory = lambda data: data.decode("utf-8", "replace")
    for table in ("headers", "hashes", "notes", "defaults"):
        for order in ("ASC", "DESC"):  # from both ends, as far as the damage
            with contextlib.suppress(*DAMAGE):
                for row in file.execute(f"SELECT * FROM {table} ORDER BY 1 {order}"):
                    if values := _readable(table, row):
                        yield table, summed(*values)


def _readable(table: str, row: Row) -> Row | None:
    with contextlib.suppress(*DAMAGE):
        return whole(row)
    # Until version 1 there were no sums. Of a note, one letter may be another.
    trusted = table == "notes" or (table == "defaults" and len(row) == 2)
    return row[:2] if trusted and all(isinstance(each, str) for each in row[:2]) else None


def _key(path: Path) -> str:
    """A path as text that SQLite takes, whatever bytes are in it."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
