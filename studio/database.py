"""SQLite files that are never in the way: what cannot be read is made again, what cannot be written is in memory.

SQLite notices when the form of a page is damaged, and not always that; it does not notice another letter or digit. So
the last column of each table, `sum`, is a sum of the others, and at each opening everything is looked through: some
10 ms for a thousand pictures.
"""

import contextlib
import json
import logging
import os
import sqlite3
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from studio.errors import RecipeError

log = logging.getLogger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]

DAMAGE = (
    sqlite3.Error, RecipeError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What working with damaged rows may raise. What is no text in UTF-8 is a ValueError."""

_NOT_DAMAGED = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM,
)  # fmt: skip
"""Failures that tell of other programs or of the machine. The file is left alone."""

_WAIT = 5.0
"""Seconds to wait for another program that is writing."""

_AGAIN = 30.0
"""Seconds after which a file that could not be used is tried again, without waiting."""


class OtherVersion(sqlite3.DatabaseError):
    """The file was written by another version of the studio, or its tables are not ours."""


class Database:
    """One file. All methods may be called from any thread.

    path: None keeps everything in memory. version: a file of another is made again. schema: the statements that make
    its tables. fill: called with each connection that is opened, to bring it up to date. rescue: the rows, with their
    table, to carry over from a file that is given up, which may be damaged in any way; such a file is put aside, as
    `….damaged`. Without it, all that is in the file can be had elsewhere.
    """

    def __init__(
        self,
        path: Path | None,
        version: int,
        schema: Sequence[str],
        fill: Callable[[sqlite3.Connection], None] = lambda connection: None,
        rescue: Callable[[sqlite3.Connection], Iterable[tuple[str, Row]]] | None = None,
    ) -> None:
        self._path, self._version, self._schema, self._fill, self._rescue = path, version, schema, fill, rescue
        self._lock = threading.RLock()
        self._kept: list[tuple[str, str, Row]] = []
        self._inode: tuple[int, int] | None = None
        self._open(_WAIT)

    def run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Run an action on the file. If it fails, the file is made again, and the action is run once more."""
        with self._lock:
            self._look_again()
            try:
                return action(self._connection)
            except DAMAGE as error:
                log.warning("The file %s failed (%s) and is opened again.", self._path, error)
                if is_damage := _is_damage(error):
                    self._keep_from(self._connection)
                self._connection.close()
                if is_damage and self._inode:
                    self._remove(error)
                self._open(_WAIT if is_damage else 0)  # another program has been waited for already
                return action(self._connection)

    def close(self) -> None:
        """The file must not be used afterwards."""
        with self._lock:
            self._connection.close()

    def _look_again(self) -> None:
        """Open a new file if ours went away, and try one that could not be used."""
        before = self._connection
        if self._inode and _inode(self._path) != self._inode:
            log.warning("The file %s went away and is made again.", self._path)
            self._keep_from(before)
            before.close()
            self._open(0)
        elif self._path and not self._inode and time.monotonic() > self._tried + _AGAIN:
            self._keep_from(before, "REPLACE")  # what is in memory is newer
            if self._open_file(0, logging.DEBUG):
                before.close()
            else:
                self._kept.clear()

    def _keep_from(self, connection: sqlite3.Connection, verb: str = "IGNORE") -> None:
        """Remember what is to be carried over. verb: which counts where the new file has a row of its own."""
        with contextlib.suppress(*DAMAGE):
            connection.rollback()
        if self._rescue:
            with contextlib.suppress(*DAMAGE):
                self._kept += ((verb, table, row) for table, row in self._rescue(connection))

    def _open(self, wait: float) -> None:
        """Open the file; one that cannot be used is held in memory. wait: seconds to wait for another program."""
        if not self._open_file(wait, logging.WARNING):
            self._connection = self._ready(":memory:", wait)

    def _open_file(self, wait: float, level: int) -> bool:
        """Open the file and return whether that went well; one that is damaged is made again. level: to log at."""
        self._tried = time.monotonic()
        for _ in range(2) if self._path else ():
            try:
                self._connection = self._ready(str(self._path), wait)
                return True
            except DAMAGE as error:
                if not _is_damage(error) or not self._remove(error):
                    log.log(level, "The file %s cannot be used (%s); it is held in memory.", self._path, error)
                    break
                log.log(level, "The file %s is made again: %s.", self._path, error)
        return False

    def _ready(self, path: str, wait: float) -> sqlite3.Connection:
        """A connection to a file that was looked through, with all that was carried over, up to date."""
        before = _inode(self._path)
        if path != ":memory:":
            _check_kind(Path(path))
            with contextlib.suppress(OSError):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=wait, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._make_tables(connection)
            try:
                self._look_through(connection)
            except DAMAGE as error:
                if _is_damage(error):
                    self._keep_from(connection)
                raise
            with connection:
                for verb, table, row in self._kept:
                    connection.execute(f"INSERT OR {verb} INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            self._fill(connection)
        except BaseException:
            connection.close()
            raise
        connection.execute(f"PRAGMA busy_timeout = {_WAIT * 1000:.0f}")
        self._kept.clear()
        self._inode = (before or _inode(self._path)) if path != ":memory:" else None
        return connection

    def _remove(self, error: Exception) -> bool:
        """Delete the file, or put it aside. Returns whether it is gone."""
        assert self._path
        if self._rescue and not isinstance(error, OtherVersion):
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_name(f"{self._path.name}.damaged"))
        for each in _files(self._path):
            with contextlib.suppress(OSError):
                each.unlink()
        return not any(map(os.path.lexists, _files(self._path)))

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        """Make them in a file that has none."""
        count = "SELECT count(*) FROM sqlite_master"
        if connection.execute(count).fetchone()[0]:
            return
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute(count).fetchone()[0]:  # another studio may have been quicker
                for statement in self._schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {self._version}")

    def _look_through(self, connection: sqlite3.Connection) -> None:
        """Raise one of DAMAGE unless the whole file is as it was written."""
        found = [
            sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
        ]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != self._version or found != list(self._schema):
            raise OtherVersion("it is of another version")
        told = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if told != "ok":
            raise sqlite3.DatabaseError(str(told).splitlines()[-1])
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f"SELECT * FROM {table}"):
                whole(row)


def summed(*values: Any) -> Row:
    """The values of a row, and their sum."""
    return (*values, _sum(values))


def whole(row: Row) -> Row:
    """The values of a row without their sum. Raises one of DAMAGE if that is another."""
    if _sum(row[:-1]) != row[-1]:
        raise sqlite3.DatabaseError("a row is damaged")
    return row[:-1]


def _sum(values: Row) -> int:
    # Not `repr`, which shows what is printable, and so differs from one Python to the next.
    return zlib.crc32(json.dumps(values).encode())


def _is_damage(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _NOT_DAMAGED


def _check_kind(path: Path) -> None:
    """SQLite would wait for ever for what a pipe has to say."""
    for each in _files(path):
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.stat(each).st_mode):
                raise sqlite3.DatabaseError(f"{each.name} is no regular file")


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))]


def _inode(path: Path | None) -> tuple[int, int] | None:
    """Which file it is, None if there is none."""
    try:
        state = os.stat(path) if path else None
    except OSError:
        return None
    return (state.st_dev, state.st_ino) if state else None
