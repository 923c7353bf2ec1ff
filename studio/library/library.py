"""The library: finished pictures on disk, found again by an index.

The files are the truth: each holds its own recipe. The index (SQLite, `library.sqlite` beside them) only
makes looking quick. It is brought up to date with the files at every start, made again when it is lost,
damaged or of another version, and kept in memory where it cannot be written (`studio.database`). Ratings belong to no
file: they are also written to `ratings.txt`, from which the index takes them, and which takes from it what it has lost.
"""

import contextlib
import errno
import io
import itertools
import logging
import os
import re
import secrets
import sqlite3
import stat
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from studio import disk
from studio.database import DAMAGE, Database, Row, summed, whole
from studio.errors import StorageError
from studio.library import metadata
from studio.pictures.gate import Gate
from studio.recipe.recipe import VERSION as RECIPE_VERSION
from studio.recipe.recipe import Recipe

INDEX_VERSION = 6000 + RECIPE_VERSION
"""Stored in the index; one with another number is thrown away and made again from the files."""

STARS = 5
"""The best rating; 0 is none."""

RATINGS = "ratings.txt"
"""Each line is a picture's id, its stars and a sum of both, which older lines lack. Of several lines for one picture
the last counts. A rating is one short line more at the end, so that a crash can spoil no other, and two studios on one
folder do not overwrite each other."""

THUMBNAILS_KEPT = 512
"""Thumbnails held in memory, some 10 kB each."""

LARGEST = 200 * 2**20
"""Bytes of the largest file whose contents are handed out to be read as a picture."""

_AT_ONCE = 200
"""Files that are entered in one go: another studio on the folder need not wait longer to write."""

log = logging.getLogger(__name__)

_OWN_ID = re.compile(r"(\d{8}-\d{6})-([0-9a-f]{5})[0-9a-f]{3}")
_STARS = {str(stars) for stars in range(STARS + 1)}
_FORBIDDEN = set('/\\:*?"<>|')


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in the library.

    made_at: seconds since 1970.
    width, height: pixels of the file.
    steps_done: steps of the recipe that were really taken.
    parent: id of the picture that it was forked from after `parent_step` steps, empty if it was not. That picture may
    be gone.
    note: what was done because memory ran out while it was made, or what is wrong with it, in sentences.
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

    gate: before all that requests do with whole pictures of it; thumbnails pass it here. signatures: further fields of
    the text that other programs read, from whoever knows the models.

    Making one never fails: a folder that cannot be written is told when there is a picture to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        self._lock = threading.RLock()
        self.gate = Gate()
        self.signatures: Callable[[Recipe], Mapping[str, str]] = lambda recipe: {}
        self._thumbnails: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        disk.clear(self.folder)
        self._unread = False  # whether there are files that could not be read now
        self._index = Database(self.folder / "library.sqlite", INDEX_VERSION, _SCHEMA, self._reconcile)

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
        data, more = io.BytesIO(), self.signatures(recipe)
        picture.save(data, "PNG", pnginfo=metadata.png_text(recipe, steps_done, parent, note, more))
        picture_id = _new_id()
        path = self._path(picture_id)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            disk.write(path, data.getbuffer())
        except OSError as error:
            raise StorageError(_sentence(error, self.folder)) from error
        try:
            self._index.run(lambda index: _enter(index, [self._row(picture_id, 0, time.time())]))
        except DAMAGE:
            log.exception("The picture %s is kept, but could not be entered in the index.", picture_id)
        return picture_id

    def get(self, picture_id: str) -> Picture:
        """The picture of this id. Raises StorageError if there is none, or none with a recipe."""
        _check_id(picture_id)
        found = self._select("WHERE id = ? AND recipe IS NOT NULL", picture_id)
        if not found or not self.has(picture_id):
            raise StorageError(f"The library has no picture {picture_id}. It may have been moved or deleted.")
        return found[0]

    def has(self, picture_id: str) -> bool:
        """Whether the file of a picture is there."""
        return _is_id(picture_id) and os.path.isfile(self._path(picture_id))

    def content(self, picture_id: str) -> bytes:
        """The bytes of a picture's file. Raises StorageError."""
        path = self.get(picture_id).path
        try:
            return disk.content(path, LARGEST)
        except OSError as error:
            raise StorageError(f"The picture {path.name} cannot be read: {error.strerror or error}.") from error

    def recent(self, count: int, before: str | None = None) -> list[Picture]:
        """Up to `count` pictures, newest first: of all, or of those made before the one with the id `before`.

        Files that were deleted meanwhile are left out, and what was stopped and came further since, if it has no stars.
        """
        if before is not None:
            _check_id(before)
        made_at, last = self._position(before)
        result: list[Picture] = []
        while len(result) < count:
            page = self._select(
                f"WHERE recipe IS NOT NULL AND (made_at, id) < (?, ?) AND NOT ({_SUPERSEDED}) "
                "ORDER BY made_at DESC, id DESC LIMIT ?",
                made_at,
                last,
                count - len(result),
            )
            if not page:
                break
            made_at, last = page[-1].made_at, page[-1].id
            result += [picture for picture in page if self.has(picture.id)]
        return result

    def rate(self, picture_id: str, stars: int) -> None:
        """Give a picture 1 to 5 stars; 0 takes them back. On return it is safely on disk. Raises StorageError."""
        if not 0 <= stars <= STARS:
            raise StorageError(f"A picture can have 0 to {STARS} stars, not {stars}.")
        self.get(picture_id)
        with self._lock:
            try:
                disk.append(self.folder / RATINGS, _rating(picture_id, stars))
            except OSError as error:
                reason = error.strerror or str(error)
                raise StorageError(f"The rating could not be written to {self.folder}: {reason}.") from error
            self._index.run(lambda index: _rate(index, {picture_id: stars}))

    def ratings(self, ids: Sequence[str]) -> dict[str, int]:
        """The stars of those of these pictures that the library has."""
        known = [each for each in ids if _is_id(each)]
        return {row[0]: row[-1] for row in self._rows(f"WHERE id IN ({', '.join('?' * len(known))})", *known)}

    def forks(self, picture_id: str) -> list[Picture]:
        """The pictures that were forked from this one, in the order of the steps and then of time."""
        _check_id(picture_id)
        found = self._select("WHERE parent = ? AND recipe IS NOT NULL ORDER BY parent_step, made_at", picture_id)
        return [picture for picture in found if self.has(picture.id)]

    def sources(self) -> set[str] | None:
        """Names of all start pictures and masks that recipes of the library ask for. Never fails.

        None if not all recipes could be read: then nobody knows what is asked for.
        """
        try:
            # Names begin with a size.
            asking = """WHERE recipe GLOB '*"source": "[1-9]*' OR recipe GLOB '*"picture": "[1-9]*'"""
            recipes = [picture.recipe for picture in self._select(asking)]
            without = self._rows("WHERE recipe IS NULL")
        except DAMAGE:
            log.exception("The index could not be read.")
            return None
        if self._unread or any(_OWN_ID.fullmatch(row[0]) for row in without):  # each of ours was written with a recipe
            return None
        names = ((each.source, each.mask, *(control.picture for control in each.controls)) for each in recipes)
        return {name for several in names for name in several if name}

    def best_by_model(self) -> dict[str, str]:
        """For each model that made a picture here, the id of its best rated one, the newest of these."""
        model = "json_extract(recipe, '$.model')"
        # SQLite takes the id from the row that has the maximum. Ratings weigh more than all the seconds there are.
        query = f"SELECT {model}, id, max(rating * 1e12 + made_at) FROM pictures WHERE recipe IS NOT NULL GROUP BY 1"
        return self._index.run(lambda index: {str(model): picture_id for model, picture_id, _ in index.execute(query)})

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
        self._index.close()

    # Files

    def _path(self, picture_id: str) -> Path:
        return self.folder / f"{picture_id}.png"

    def _files(self) -> dict[str, int]:
        """The id of each PNG file in the folder, with its time of change. Raises OSError if not all can be listed."""
        result = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                stem, dot, ending = entry.name.rpartition(".")
                if dot and ending == "png" and _is_id(stem):
                    with contextlib.suppress(OSError):
                        if stat.S_ISREG((state := entry.stat()).st_mode):
                            result[stem] = _changed(state)
        return result

    def _rated(self) -> dict[str, int]:
        """What `ratings.txt` says. Lines that are no rating are skipped: a crash may have cut one off."""
        result = {}
        with contextlib.suppress(OSError), disk.opened(self.folder / RATINGS) as file:
            while line := file.readline(1000):  # what is longer is no rating
                if found := _read_rating(line.decode("utf-8", "replace").rstrip("\r\n")):
                    result[found[0]] = found[1]
        return result

    # The index

    def _reconcile(self, index: sqlite3.Connection) -> None:
        """Make the index say what the folder holds, reading only files that are new or changed."""
        try:
            files = self._files()
        except FileNotFoundError:
            files = {}
        except OSError as error:
            log.warning("The folder %s cannot be looked through: %s.", self.folder, error)
            self._unread = True
            return
        now = time.time()
        columns = "id, changed, rating, made_at > ?"
        known = {row[0]: row[1:] for row in index.execute(f"SELECT {columns} FROM pictures", (now,))}
        with index:
            index.executemany("DELETE FROM pictures WHERE id = ?", [(each,) for each in known if each not in files])
        rated = self._rated()
        stars = {each: rated.get(each, known[each][1] if each in known else 0) for each in files}
        fresh = (
            each for each, changed in files.items() if each not in known or known[each][0] != changed or known[each][2]
        )
        self._unread = False
        while rows := [self._row(each, stars[each], now) for each in itertools.islice(fresh, _AT_ONCE)]:
            _enter(index, rows)
            self._unread |= None in rows
        _rate(index, {each: stars[each] for each in files if each in known and known[each][1] != stars[each]})
        if lost := [_rating(each, stars[each]) for each in files if stars[each] and each not in rated]:
            with contextlib.suppress(OSError):
                disk.append(self.folder / RATINGS, "".join(lost))

    def _row(self, picture_id: str, stars: int, latest: float) -> Row | None:
        """The index's row for a file, None if it cannot be read now.

        latest: now, in seconds since 1970. A time after it comes from a clock that was ahead; left as it is, it would
        keep all new pictures from being the newest.

        A file without a recipe has one too, so that it is read only once.
        """
        try:
            with disk.opened(self._path(picture_id)) as file:
                changed = _changed(os.fstat(file.fileno()))
                (width, height), found, (parent, step), note = _read(file)
        except OSError as error:
            log.warning("The picture %s cannot be read: %s.", picture_id, error)
            return None
        made_at = min(_made_at(picture_id) or changed / 1e9, latest)
        if not found:
            return summed(picture_id, made_at, width, height, 0, None, "", 0, "", changed, stars)
        recipe = metadata.encodable(found[0].to_json())
        return summed(picture_id, made_at, width, height, found[1], recipe, parent, step, note, changed, stars)

    def _rows(self, where: str, *values: object) -> list[Row]:
        query = f"SELECT * FROM pictures {where}"
        return self._index.run(lambda index: [whole(row) for row in index.execute(query, values)])

    def _select(self, where: str, *values: object) -> list[Picture]:
        query = f"SELECT * FROM pictures {where}"
        return self._index.run(lambda index: [self._picture(whole(row)) for row in index.execute(query, values)])

    def _picture(self, row: Row) -> Picture:
        picture_id, made_at, width, height, steps_done, recipe, parent, step, note, _, rating = row
        path = self._path(picture_id)
        read = Recipe.from_json(recipe)
        return Picture(picture_id, path, read, steps_done, made_at, width, height, parent, step, note, rating)

    def _position(self, before: str | None) -> tuple[float, str]:
        """Where in the order of `recent` to go on. A picture deleted meanwhile still tells, by its name."""
        if before is None:
            return float("inf"), ""
        for row in self._rows("WHERE id = ?", before):
            return row[1], before
        return _made_at(before), before


_SCHEMA = (
    """CREATE TABLE pictures (
    id TEXT PRIMARY KEY,          -- the file's name without .png
    made_at REAL NOT NULL,        -- seconds since 1970
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    steps_done INTEGER NOT NULL,
    recipe TEXT,                  -- JSON; NULL for a file that has none
    parent TEXT NOT NULL,         -- id of the picture that it was forked from, or empty
    parent_step INTEGER NOT NULL,
    note TEXT NOT NULL,           -- what was done because memory ran out, or empty
    changed INTEGER NOT NULL,     -- the file's time of change, as it was read
    rating INTEGER NOT NULL,      -- stars, from ratings.txt
    sum INTEGER NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX pictures_by_time ON pictures (made_at, id)",
    "CREATE INDEX pictures_by_parent ON pictures (parent)",
    "CREATE INDEX pictures_by_recipe ON pictures (recipe, steps_done)",
)

_SUPERSEDED = """rating = 0 AND EXISTS (
    SELECT 1 FROM pictures AS other WHERE other.recipe = pictures.recipe AND other.steps_done > pictures.steps_done
)"""
"""Whether a picture was stopped, and the same one came further since."""


def _enter(index: sqlite3.Connection, rows: Iterable[Row | None]) -> None:
    """Put rows into the index; None is passed over."""
    with index:
        index.executemany(f"INSERT OR REPLACE INTO pictures VALUES ({', '.join('?' * 12)})", filter(None, rows))


def _rate(index: sqlite3.Connection, ratings: dict[str, int]) -> None:
    rows: list[Row] = []
    for picture_id, stars in ratings.items():
        found = index.execute("SELECT * FROM pictures WHERE id = ?", (picture_id,))
        rows += [summed(*whole(row)[:-1], stars) for row in found]
    _enter(index, rows)


def _rating(picture_id: str, stars: int) -> str:
    """A line for `ratings.txt`. It begins with the break, so that one that was cut off spoils none after it."""
    line = f"{picture_id} {stars}"
    return f"\n{line} {_digits(line)}"


def _read_rating(line: str) -> tuple[str, int] | None:
    """What a line says, None if it is damaged."""
    told, _, digits = line.rpartition(" ")
    if digits in _STARS:  # as it was written before, without a sum
        told, digits = line, _digits(line)
    picture_id, _, stars = told.rpartition(" ")
    return (picture_id, int(stars)) if stars in _STARS and digits == _digits(told) else None


def _digits(line: str) -> str:
    return f"{zlib.crc32(line.encode('utf-8', 'replace')):08x}"


def _changed(state: os.stat_result) -> int:
    """The file's time of change in nanoseconds, as SQLite can hold it."""
    return state.st_mtime_ns % 2**63


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


def _read(file: BinaryIO) -> tuple[tuple[int, int], tuple[Recipe, int] | None, tuple[str, int], str]:
    """The size of a picture, its recipe with the number of steps taken, what it was forked from, its note.

    Raises OSError if the disk fails.
    """
    try:
        with Image.open(file, formats=["PNG"]) as image:
            found, parent = metadata.from_info(image.info), metadata.parent_of(image.info) or ("", 0)
            return image.size, found, parent, metadata.note_of(image.info)
    except Exception as error:  # as in metadata.read: the file may be anything
        if isinstance(error, OSError) and error.errno:
            raise
        return (0, 0), None, ("", 0), ""


def _thumbnail(path: Path, side: int) -> bytes:
    result = io.BytesIO()
    try:
        with disk.opened(path) as file, Image.open(file, formats=["PNG"]) as image:
            small = image.convert("RGB")
        small.thumbnail((side, side))
        small.save(result, "JPEG", quality=85)
    except Exception as error:  # as in metadata.read: the file may be anything
        raise StorageError(f"The picture {path.name} cannot be read: the file is damaged.") from error
    return result.getvalue()


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
