"""The library: finished pictures on disk, found again by an index.

The files are the truth: each holds its own recipe. The index (SQLite, `library.sqlite` beside them) only
makes looking quick. It is brought up to date with the files at every start, made anew when it is lost,
damaged or of another version, and kept in memory where it cannot be written. Ratings belong to no file: they are
also written to `ratings.txt`, from which the index takes them.
"""

import contextlib
import errno
import io
import logging
import os
import re
import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from PIL import Image

from studio import metadata
from studio.errors import StorageError
from studio.gate import Gate
from studio.recipe import VERSION as RECIPE_VERSION
from studio.recipe import Recipe

INDEX_VERSION = 3000 + RECIPE_VERSION
"""Stored in the index; one with another number is thrown away and made anew from the files."""

STARS = 5
"""The best rating; 0 is none."""

RATINGS = "ratings.txt"
"""Each line is a picture's id and its stars; of several lines for one picture the last counts. A rating is one short
line more at the end, so that a crash can spoil no other, and two studios on one folder do not overwrite each other."""

THUMBNAILS_KEPT = 512
"""Thumbnails held in memory, some 10 kB each."""

STALE = 3600.0
"""Seconds after which a temporary file must be the leftover of a crash, not a picture being written."""

log = logging.getLogger(__name__)

T = TypeVar("T")

_OWN_ID = re.compile(r"(\d{8}-\d{6})-([0-9a-f]{5})[0-9a-f]{3}")
_STARS = {str(stars) for stars in range(STARS + 1)}
_FORBIDDEN = set('/\\:*?"<>|')
_COLUMNS = "id, made_at, width, height, steps_done, recipe, parent, parent_step, note"  # those that the file tells


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in the library.

    made_at: seconds since 1970.
    width, height: pixels of the file.
    steps_done: steps of the recipe that were really taken.
    parent: id of the picture that it was forked from after `parent_step` steps, empty if it was not. That picture may
    be gone.
    note: what was done because memory ran out while it was made, in sentences.
    """

    id: str
    path: Path
    recipe: Recipe
    steps_done: int
    made_at: float
    width: int
    height: int
    parent: str = ""
    parent_step: int = 0
    note: str = ""
    rating: int = 0

    @property
    def complete(self) -> bool:
        """Whether all the steps that the recipe asks for were taken; False for a picture that was stopped."""
        return self.steps_done >= self.recipe.steps_run


class Library:
    """Pictures in one folder. All methods may be called from any thread.

    gate: before all that requests do with whole pictures of it; thumbnails pass it here.

    Making one never fails: a folder that cannot be written is told when there is a picture to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        self._lock = threading.RLock()
        self.gate = Gate()
        self._thumbnails: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        self._open_index()

    def add(
        self,
        picture: Image.Image,
        recipe: Recipe,
        steps_done: int,
        parent: tuple[str, int] | None = None,
        note: str = "",
    ) -> str:
        """Store the picture as a PNG file with its recipe and return its id. On return it is safely on disk.

        parent: id of the picture that it was forked from, and after how many steps. note: `Picture.note`.
        Raises StorageError, and then leaves no file behind.
        """
        data = io.BytesIO()
        picture.save(data, "PNG", pnginfo=metadata.png_text(recipe, steps_done, parent, note))
        picture_id = _new_id()
        path = self._path(picture_id)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_safely(path, data.getbuffer())
        except OSError as error:
            raise StorageError(_sentence(error, self.folder)) from error
        try:
            self._indexed(lambda: self._index_file(picture_id))
        except (sqlite3.Error, OSError):
            log.exception("The picture %s is kept, but could not be entered in the index.", picture_id)
        return picture_id

    def get(self, picture_id: str) -> Picture:
        """The picture of this id. Raises StorageError if there is none, or none with a recipe."""
        _check_id(picture_id)
        found = self._indexed(lambda: self._select("WHERE id = ? AND recipe IS NOT NULL", picture_id))
        if not found or not found[0].path.is_file():
            raise StorageError(f"The library has no picture {picture_id}. It may have been moved or deleted.")
        return found[0]

    def has(self, picture_id: str) -> bool:
        """Whether the file of a picture is there."""
        return _is_id(picture_id) and self._path(picture_id).is_file()

    def recent(self, count: int, before: str | None = None) -> list[Picture]:
        """Up to `count` pictures, newest first: of all, or of those made before the one with the id `before`.

        Files that were deleted meanwhile are left out.
        """
        if before is not None:
            _check_id(before)
        return self._indexed(lambda: self._recent(count, before))

    def rate(self, picture_id: str, stars: int) -> None:
        """Give a picture 1 to 5 stars; 0 takes them back. On return it is safely on disk. Raises StorageError."""
        if not 0 <= stars <= STARS:
            raise StorageError(f"A picture can have 0 to {STARS} stars, not {stars}.")
        self.get(picture_id)
        with self._lock:
            try:
                _append(self.folder / RATINGS, f"\n{picture_id} {stars}")
            except OSError as error:
                reason = error.strerror or str(error)
                raise StorageError(f"The rating could not be written to {self.folder}: {reason}.") from error
            self._indexed(lambda: self._set_ratings([(stars, picture_id)]))

    def ratings(self, ids: Sequence[str]) -> dict[str, int]:
        """The stars of those of these pictures that the library has."""

        def found() -> dict[str, int]:
            marks = ", ".join("?" * len(ids))
            return dict(self._index.execute(f"SELECT id, rating FROM pictures WHERE id IN ({marks})", list(ids)))

        return self._indexed(found)

    def forks(self, picture_id: str) -> list[Picture]:
        """The pictures that were forked from this one, in the order of the steps and then of time."""
        _check_id(picture_id)
        found = self._indexed(
            lambda: self._select("WHERE parent = ? AND recipe IS NOT NULL ORDER BY parent_step, made_at", picture_id)
        )
        return [picture for picture in found if picture.path.is_file()]

    def sources(self) -> set[str]:
        """Names of all start pictures and masks that recipes of the library ask for."""

        def found() -> set[str]:
            rows = self._index.execute(
                'SELECT recipe FROM pictures WHERE recipe LIKE \'%"source": "_%\' OR recipe LIKE \'%"picture": "_%\''
            )
            recipes = [Recipe.from_json(text) for (text,) in rows]
            names = ((each.source, each.mask, *(control.picture for control in each.controls)) for each in recipes)
            return {name for several in names for name in several if name}

        return self._indexed(found)

    def best_by_model(self) -> dict[str, str]:
        """For each model that made a picture here, the id of its best rated one, the newest of these."""

        def found() -> dict[str, str]:
            model = "json_extract(recipe, '$.model')"
            # SQLite takes the id from the row that has the maximum. Ratings weigh more than all the seconds there are.
            query = (
                f"SELECT {model}, id, max(rating * 1e12 + made_at) FROM pictures WHERE recipe IS NOT NULL GROUP BY 1"
            )
            return {str(model): picture_id for model, picture_id, _ in self._index.execute(query)}

        return self._indexed(found)

    def thumbnail(self, picture_id: str, side: int = 256) -> bytes:
        """A JPEG of the picture that fits into `side` x `side` pixels (16 to 1024). Raises StorageError, Busy."""
        key = (picture_id, max(16, min(side, 1024)))
        with self._lock:
            if key in self._thumbnails:
                self._thumbnails.move_to_end(key)
                return self._thumbnails[key]
        found = self.get(picture_id)
        with self.gate(found.width * found.height):
            data = _thumbnail(found.path, key[1])
        with self._lock:
            self._thumbnails[key] = data
            while len(self._thumbnails) > THUMBNAILS_KEPT:
                self._thumbnails.popitem(last=False)
        return data

    def close(self) -> None:
        """Close the index. The library must not be used afterwards."""
        with self._lock:
            self._index.close()

    # Files

    def _path(self, picture_id: str) -> Path:
        return self.folder / f"{picture_id}.png"

    def _files(self) -> dict[str, int]:
        """The id of each PNG file in the folder, with the time of its last change in nanoseconds."""
        result = {}
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                stem, dot, ending = entry.name.rpartition(".")
                if dot and ending == "png" and _is_id(stem):
                    with contextlib.suppress(OSError):
                        result[stem] = entry.stat().st_mtime_ns
        return result

    def _rated(self) -> dict[str, int]:
        """What `ratings.txt` says. Lines that are no rating are skipped: a crash may have cut one off."""
        try:
            text = (self.folder / RATINGS).read_text("utf-8", "replace")
        except OSError:
            return {}
        found = (line.rpartition(" ") for line in text.split("\n"))
        return {each: int(stars) for each, _, stars in found if stars in _STARS}

    def _remove_leftovers(self) -> None:
        """Delete what a crash in the middle of writing left behind."""
        with contextlib.suppress(OSError):
            for path in self.folder.glob(".*.png.part"):
                ours = _OWN_ID.fullmatch(path.name[1 : -len(".png.part")])
                with contextlib.suppress(OSError):
                    if ours and time.time() - path.stat().st_mtime > STALE:
                        path.unlink()

    # The index

    def _open_index(self) -> None:
        path = self.folder / "library.sqlite"
        for _ in range(2):
            try:
                self._use_index(path)
                return
            except sqlite3.OperationalError as error:
                log.warning("The index %s cannot be written (%s); it is kept in memory.", path, error)
                break
            except sqlite3.DatabaseError as error:
                log.warning("The index %s is damaged (%s); it is made anew from the files.", path, error)
                _remove_index(path)
        self._use_index(":memory:")

    def _use_index(self, path: Path | str) -> None:
        self._index = _connect(path)
        try:
            self._reconcile()
        except BaseException:
            self._index.close()
            raise

    def _indexed(self, action: Callable[[], T]) -> T:
        """Run an action on the index; if the index fails, make it anew and run the action once more."""
        with self._lock:
            try:
                return action()
            except sqlite3.DatabaseError:
                log.warning("The index failed and is opened anew.", exc_info=True)
                with contextlib.suppress(sqlite3.Error):
                    self._index.close()
                self._open_index()
                return action()

    def _reconcile(self) -> None:
        """Make the index say what the folder holds, reading only files that are new or changed."""
        files = self._files()
        known = dict(self._index.execute("SELECT id, changed FROM pictures"))
        with self._index:
            gone = [(each,) for each in known if each not in files]
            self._index.executemany("DELETE FROM pictures WHERE id = ?", gone)
            rows = (self._row(each) for each, changed in files.items() if known.get(each) != changed)
            self._index.executemany(_INSERT, rows)
        rated = self._rated()
        entered = self._index.execute("SELECT id, rating FROM pictures").fetchall()
        self._set_ratings([(rated.get(each, 0), each) for each, stars in entered if rated.get(each, 0) != stars])

    def _set_ratings(self, ratings: list[tuple[int, str]]) -> None:
        with self._index:
            self._index.executemany("UPDATE pictures SET rating = ? WHERE id = ?", ratings)

    def _index_file(self, picture_id: str) -> None:
        with self._index:
            self._index.execute(_INSERT, self._row(picture_id))

    def _row(self, picture_id: str) -> tuple[object, ...]:
        """The index's row for a file. A file without a recipe has one too, so that it is read only once."""
        path = self._path(picture_id)
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return (picture_id, 0.0, 0, 0, 0, None, "", 0, "", 0)
        made_at = _made_at(picture_id) or changed / 1e9
        (width, height), found, (parent, step), note = _read(path)
        if not found:
            return (picture_id, made_at, width, height, 0, None, "", 0, "", changed)
        return (picture_id, made_at, width, height, found[1], found[0].to_json(), parent, step, note, changed)

    def _select(self, where: str, *values: object) -> list[Picture]:
        return [
            Picture(row[0], self._path(row[0]), Recipe.from_json(row[5]), row[4], row[1], row[2], row[3], *row[6:])
            for row in self._index.execute(f"SELECT {_COLUMNS}, rating FROM pictures {where}", values)
        ]

    def _recent(self, count: int, before: str | None) -> list[Picture]:
        made_at, last = self._position(before)
        result: list[Picture] = []
        while len(result) < count:
            page = self._select(
                "WHERE recipe IS NOT NULL AND (made_at, id) < (?, ?) ORDER BY made_at DESC, id DESC LIMIT ?",
                made_at,
                last,
                count - len(result),
            )
            if not page:
                break
            made_at, last = page[-1].made_at, page[-1].id
            result += [picture for picture in page if picture.path.is_file()]
        return result

    def _position(self, before: str | None) -> tuple[float, str]:
        """Where in the order of `recent` to go on. A picture deleted meanwhile still tells, by its name."""
        if before is None:
            return float("inf"), ""
        for made_at, found in self._index.execute("SELECT made_at, id FROM pictures WHERE id = ?", (before,)):
            return made_at, found
        return _made_at(before), before


_INSERT = f"INSERT OR REPLACE INTO pictures ({_COLUMNS}, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_SCHEMA = f"""
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS pictures;
CREATE TABLE pictures (
    id TEXT PRIMARY KEY,          -- the file's name without .png
    made_at REAL NOT NULL,        -- seconds since 1970
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    steps_done INTEGER NOT NULL,
    recipe TEXT,                  -- JSON; NULL for a file that has none
    parent TEXT NOT NULL,         -- id of the picture that it was forked from, or empty
    parent_step INTEGER NOT NULL,
    note TEXT NOT NULL,           -- what was done because memory ran out, or empty
    changed INTEGER NOT NULL,     -- the file's time of change in nanoseconds, as it was read
    rating INTEGER NOT NULL DEFAULT 0  -- stars, from ratings.txt
) WITHOUT ROWID;
CREATE INDEX pictures_by_time ON pictures (made_at, id);
CREATE INDEX pictures_by_parent ON pictures (parent);
PRAGMA user_version = {INDEX_VERSION};
COMMIT;
"""


def _connect(path: Path | str) -> sqlite3.Connection:
    """Open an index, with an empty table if there is none or it is of another version."""
    result = sqlite3.connect(path, timeout=5, check_same_thread=False)
    try:
        result.execute("PRAGMA journal_mode = WAL")
        result.execute("PRAGMA synchronous = NORMAL")
        if result.execute("PRAGMA user_version").fetchone()[0] != INDEX_VERSION:
            result.executescript(_SCHEMA)
    except BaseException:
        result.close()
        raise
    return result


def _remove_index(path: Path) -> None:
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(OSError):
            each.unlink()


def _new_id() -> str:
    """`20261122-044512-7a12f3c9`: UTC, then 5 hexadecimal digits of microseconds and 3 of chance."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond:05x}{secrets.randbelow(4096):03x}"


def _made_at(picture_id: str) -> float:
    """Seconds since 1970, from an id of our own; 0 for other names."""
    if not (match := _OWN_ID.fullmatch(picture_id)):
        return 0.0
    try:
        second = datetime.strptime(match[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
    return second + int(match[2], 16) / 1e6


def _is_id(text: str) -> bool:
    """Whether this can name a picture: one part of a path, not hidden, printable."""
    return 0 < len(text) <= 200 and text[0] != "." and text.isprintable() and not _FORBIDDEN & set(text)


def _check_id(text: str) -> None:
    if not _is_id(text):
        raise StorageError("That is not the name of a picture in the library.")


def _read(path: Path) -> tuple[tuple[int, int], tuple[Recipe, int] | None, tuple[str, int], str]:
    """The size of a picture, its recipe with the number of steps taken, what it was forked from, its note."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            found, parent = metadata.from_info(image.info), metadata.parent_of(image.info) or ("", 0)
            return image.size, found, parent, metadata.note_of(image.info)
    except Exception:  # as in metadata.read: the file may be anything
        return (0, 0), None, ("", 0), ""


def _thumbnail(path: Path, side: int) -> bytes:
    result = io.BytesIO()
    try:
        with Image.open(path, formats=["PNG"]) as image:
            small = image.convert("RGB")
        small.thumbnail((side, side))
        small.save(result, "JPEG", quality=85)
    except Exception as error:  # as in metadata.read: the file may be anything
        raise StorageError(f"The picture {path.name} cannot be read: the file is damaged.") from error
    return result.getvalue()


def _write_safely(path: Path, data: memoryview) -> None:
    """Write the file so that at any moment, a crash included, it is whole or not there. Raises OSError."""
    with _temporary(path) as part:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    # The file is whole and in place. Not every system can sync a folder (Windows, some network drives).
    with contextlib.suppress(OSError):
        _sync_folder(path.parent)


def _append(path: Path, line: str) -> None:
    """Add to the end of a file. Raises OSError."""
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name in the same folder that the library does not list; what is left under it is removed."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sentence(error: OSError, folder: Path) -> str:
    """What to tell the person."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk with the output folder {folder} is full. Make room on it, then continue the picture."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"The output folder {folder} cannot be written to. Allow writing there, then continue the picture, "
            "or start the studio with another --output-folder."
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return (
            f"The output folder {folder} is not there and cannot be made. Make it, then continue the picture, "
            "or start the studio with another --output-folder."
        )
    return f"The picture could not be written to {folder}: {error.strerror or error}. Then continue it."
