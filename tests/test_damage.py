"""Damage on disk heals: whatever happens to what the studio keeps, it starts, and has what can still be known.

A dozen cases of each kind here; with EMERGE_LONG_TESTS=1 450.
"""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from studio import database
from studio.files.identity.identify import Identity
from studio.library.library import Library
from studio.models.records import Records
from studio.pictures.sources import Sources
from studio.recipe.recipe import Control, Recipe
from studio.web import pictures as web

CASES, PICTURES = (450, 300) if os.environ.get("EMERGE_LONG_TESTS") else (12, 60)


def page(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(max(1, len(data) // 4096)) * 4096
    data[start : start + 4096] = rng.randbytes(len(data[start : start + 4096]))


def some_bytes(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) - 16)
    data[start : start + 16] = rng.randbytes(16)


def bit(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (page, some_bytes, bit)


def damaged(data: bytes, case: int) -> bytes:
    """The same for the same number."""
    result = bytearray(data)
    DAMAGES[case % len(DAMAGES)](result, random.Random(case))
    return bytes(result)


# The index


def name(number: int) -> str:
    return f"64x64-{number:024x}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of several kinds, rated, with a whole index."""
    folder = tmp_path_factory.mktemp("pictures")
    library, ids = Library(folder), list[str]()
    for number in range(PICTURES):
        recipe = Recipe(f"a fox in the wood, {number}", seed=number, width=64, height=64)
        if number % 3 == 0:
            recipe = replace(recipe, source=name(number), mask=name(number + 1000))
        if number % 5 == 0:
            recipe = replace(recipe, controls=(Control("edges", name(number + 2000)),))
        parent = (ids[number // 2], 3) if number % 7 == 1 else None
        ids.append(library.add(Image.new("RGB", (8, 8)), recipe, recipe.steps_run, parent, "Memory ran out."))
    for number in range(0, PICTURES, 2):
        library.rate(ids[number], 1 + number % 5)
    library.close()
    return folder


@pytest.fixture(scope="module")
def truth(pictures: Path) -> tuple[object, ...]:
    return told(pictures)


def told(folder: Path) -> tuple[object, ...]:
    """All that a studio started now would say."""
    library = Library(folder)
    try:
        recent = library.recent(PICTURES + 1)
        forks = [each.id for picture in recent[-20:] for each in library.forks(picture.id)]
        return recent, forks, library.sources(), library.best_by_model(), library.ratings([each.id for each in recent])
    finally:
        library.close()


@pytest.fixture
def files(pictures: Path) -> Iterator[dict[str, bytes]]:
    """What else lies beside the pictures; it is whole again afterwards."""
    found = {each.name: each.read_bytes() for each in pictures.iterdir() if each.suffix != ".png"}
    yield found
    restore(pictures, found)


def restore(folder: Path, files: dict[str, bytes]) -> None:
    for each in folder.iterdir():
        if each.suffix != ".png":
            each.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def heals(folder: Path, truth: tuple[object, ...], caplog: pytest.LogCaptureFixture, case: int) -> int:
    """Whether the first opening tells of damage; the second must not, and both must say the truth."""
    caplog.clear()
    assert told(folder) == truth, case
    warnings = len(caplog.records)
    assert warnings <= 1, case
    caplog.clear()
    assert told(folder) == truth and not caplog.records, case
    return warnings


def test_the_index_heals(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(truth[0]) == PICTURES and len(truth[2]) == PICTURES // 3 * 2 + PICTURES // 5  # type: ignore[arg-type]
    noticed = 0
    for case in range(CASES):
        restore(pictures, {**files, "library.sqlite": damaged(files["library.sqlite"], case)})
        noticed += heals(pictures, truth, caplog, case)
    assert noticed > CASES // 2


def test_the_index_heals_from_damage_in_what_was_written_last(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    library = Library(pictures)
    for picture in library.recent(PICTURES):
        library.rate(picture.id, 5 - picture.rating)
    for picture in library.recent(PICTURES):
        library.rate(picture.id, 5 - picture.rating)
    now = {each.name: each.read_bytes() for each in pictures.iterdir() if each.suffix != ".png"}
    library.close()
    assert len(now["library.sqlite-wal"]) > 10_000
    for case in range(CASES):
        for each in ("library.sqlite-wal", "library.sqlite", "library.sqlite-shm"):
            restore(pictures, {**now, each: damaged(now[each], case)})
            heals(pictures, truth, caplog, case)
            if case % 10:
                break


def test_ratings_heal(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    for case in range(CASES):
        restore(pictures, {**files, "ratings.txt": damaged(files["ratings.txt"], case)})
        assert heals(pictures, truth, caplog, case) == 0
        (pictures / "library.sqlite").unlink()  # and what was lost is written again
        assert told(pictures) == truth, case


@pytest.mark.parametrize(
    "change",
    [
        "recipe = ''",
        "recipe = 'no recipe'",
        "recipe = replace(recipe, 'fox', 'dog')",
        "recipe = NULL",
        "recipe = 5",
        "recipe = x'00ff'",
        "recipe = CAST(x'7bff7d' AS TEXT)",
        "recipe = replace(recipe, '\"version\": ', '\"version\": 9')",
        "recipe = replace(recipe, '\"source\"', '\"sourcf\"')",
        "made_at = 'yesterday'",
        "made_at = 1e400",
        "made_at = made_at + 1",
        "width = 9223372036854775807",
        "width = 'wide'",
        "steps_done = -1",
        "parent = x'ff'",
        "parent = ''",
        "parent_step = 'a'",
        "note = CAST(x'ff' AS TEXT)",
        "changed = 'a'",
        "rating = 'five'",
        "rating = 9",
        "sum = 'x'",
        "sum = sum + 1",
        "id = id || 'x'",
        "id = CAST(x'ff' || id AS TEXT)",
    ],
)
@pytest.mark.parametrize("when", ["before the start", "in the run"])
def test_rows_that_sqlite_thinks_well_of(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes], change: str, when: str
) -> None:
    library = Library(pictures) if when == "in the run" else None
    index = sqlite3.connect(pictures / "library.sqlite")
    with index:
        index.execute(f"UPDATE pictures SET {change} WHERE width >= 0")
    index.close()
    if library and change not in (
        "recipe = NULL",
        "made_at = 'yesterday'",
        "made_at = 1e400",
    ):  # not asked for any more
        assert library.recent(PICTURES + 1) == truth[0]
        assert library.sources() == truth[2] and library.best_by_model() == truth[3]
    if library:
        library.close()
    assert told(pictures) == truth


def test_a_recipe_that_is_none_to_this_version(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes]
) -> None:
    for recipe in ("{}", '{"version": 1, "width": 3}', '{"version": 999}', "[" * 5000):
        library = Library(pictures)
        with sqlite3.connect(pictures / "library.sqlite") as index:
            row = index.execute("SELECT * FROM pictures").fetchone()
            values = database.summed(*row[:5], recipe, *row[6:-1])
            index.execute(f"REPLACE INTO pictures VALUES ({', '.join('?' * len(values))})", values)
        index.close()
        assert library.recent(PICTURES + 1) == truth[0]
        library.close()
        restore(pictures, files)


def test_an_index_damaged_in_the_run_fails_nobody(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes]
) -> None:
    """What SQLite does not notice at once is noticed at the next start."""
    first = truth[0][0]  # type: ignore[index]
    for case in range(CASES):
        library = Library(pictures)
        with open(pictures / "library.sqlite", "r+b") as file:
            file.write(damaged(files["library.sqlite"], case))
        library._index._connection.execute("PRAGMA shrink_memory")  # so that it is read again
        library.rate(first.id, first.rating)
        assert all(picture in truth[0] for picture in library.recent(PICTURES + 1))  # type: ignore[operator]
        assert library.get(first.id) == first and library.sources() and library.best_by_model()
        library.close()
        assert told(pictures) == truth, case
        restore(pictures, files)


def test_a_start_picture_that_only_a_damaged_picture_asks_for_is_kept(tmp_path: Path) -> None:
    library = Library(tmp_path)
    one = library.add(Image.new("RGB", (8, 8)), Recipe(source=name(1), width=64, height=64), 20)
    two = library.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    Image.new("RGB", (8, 8)).save(tmp_path / "from elsewhere.png")
    library.close()
    assert told(tmp_path)[2] == {name(1)}
    whole = (tmp_path / f"{one}.png").read_bytes()
    (tmp_path / f"{one}.png").write_bytes(b"")
    library = Library(tmp_path)
    assert library.sources() is None and [each.id for each in library.recent(5)] == [two]
    Sources(tmp_path / "sources").prune(library.sources(), 0)
    library.close()
    (tmp_path / f"{one}.png").write_bytes(whole)
    assert told(tmp_path)[2] == {name(1)}


def test_a_folder_that_cannot_be_listed_costs_nothing(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("studio.library.library.os.scandir", refuse)
        library = Library(pictures)
        assert library.recent(PICTURES + 1) == truth[0] and library.sources() is None
        library.close()
    assert told(pictures) == truth


# The index and other programs


def test_an_index_that_another_program_holds_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_WAIT", 0)
    monkeypatch.setattr(database, "_AGAIN", -1)
    library = Library(tmp_path)
    one = library.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    library.close()
    path = tmp_path / "library.sqlite"
    other, inode = sqlite3.connect(path), path.stat().st_ino
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")
    library = Library(tmp_path)
    two = library.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    assert [each.id for each in library.recent(5)] == [two, one] and path.stat().st_ino == inode
    other.close()
    assert [each.id for each in library.recent(5)] == [two, one]  # from the file again
    library.close()
    assert path.stat().st_ino == inode
    with sqlite3.connect(path) as index:
        assert index.execute("SELECT count(*) FROM pictures").fetchone() == (2,)


def test_two_studios_on_one_folder_and_one_of_them_heals_the_index(tmp_path: Path) -> None:
    first, second = Library(tmp_path), Library(tmp_path)
    one = first.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    first._index._connection.execute("DROP TABLE pictures")
    two = first.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    three = second.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    second.rate(one, 3)
    for library in (first, second):
        assert [(each.id, each.rating) for each in library.recent(5)] == [(three, 0), (two, 0), (one, 3)]
        library.close()
    assert [each.id for each in told(tmp_path)[0]] == [three, two, one]  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="There are no named pipes in folders here.")
@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
def test_a_pipe_in_the_place_of_the_index(
    pictures: Path, truth: tuple[object, ...], files: dict[str, bytes], ending: str
) -> None:
    if not ending:
        (pictures / "library.sqlite").unlink()
    os.mkfifo(pictures / f"library.sqlite{ending}")
    assert told(pictures) == truth


# What the studio keeps about models


Kept = tuple[dict[str, str], list[dict[str, Any]], list[str], list[Identity | None]]
"""Notes, defaults, hashes and identities."""


def rows(records: Records) -> Kept:
    paths = [Path(f"model-{number}") for number in range(200)]
    return (
        records.all_notes(),
        [records.defaults(str(path)) for path in paths],
        [records.hashes(path, (1, 2))[0] for path in paths],
        [records.identity(path, (1, 2)) for path in paths],
    )


def recorded(path: Path) -> None:
    records = Records(path)
    for number in range(200):
        each = Path(f"model-{number}")
        records.keep_notes(str(each), f"Note {number}, with a word or two more. " * 3)
        records.keep_defaults(str(each), {"steps": number})
        records.keep_hashes(each, (1, 2), f"{number:064x}")
        records.remember([(each, (1, 2), Identity("lora", title=str(number), triggers=("a", "b")))])
    records.close()


def damage_to(records: Records, truth: Kept) -> int:
    """How many notes and defaults are lost or another; what was read of files may be lost, but is never another."""
    notes, defaults, hashes, identities = rows(records)
    assert all(each in ("", whole) for each, whole in zip(hashes, truth[2], strict=True))
    assert all(each in (None, whole) for each, whole in zip(identities, truth[3], strict=True))
    assert all(each in ({}, whole) for each, whole in zip(defaults, truth[1], strict=True))
    lost = [key for key, note in truth[0].items() if notes.get(key) != note]
    return len(lost) + sum(each == {} for each in defaults)


def test_records_heal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "models.sqlite"
    recorded(path)
    data = path.read_bytes()
    records = Records(path)
    truth = rows(records)
    records.close()
    costs = []
    for case in range(CASES):
        path.write_bytes(damaged(data, case))
        caplog.clear()
        records = Records(path)
        costs.append(damage_to(records, truth))
        records.keep_notes("model-0", "written since")
        records.close()
        assert len(caplog.records) <= 1, case
        caplog.clear()
        records = Records(path)
        assert records.notes("model-0") == "written since" and not caplog.records, case
        records.close()
        path.with_name("models.sqlite.damaged").unlink(missing_ok=True)
    assert sorted(costs)[len(costs) // 2] <= 1, "most damage costs nothing, or one"


def test_records_of_an_older_version_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "models.sqlite"
    with sqlite3.connect(path) as old:
        old.execute(
            "CREATE TABLE headers (path TEXT PRIMARY KEY, stamp TEXT, rules INTEGER, identity TEXT) WITHOUT ROWID"
        )
        old.execute("CREATE TABLE hashes (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT) WITHOUT ROWID")
        old.execute("CREATE TABLE notes (model TEXT PRIMARY KEY, notes TEXT) WITHOUT ROWID")
        old.execute("CREATE TABLE defaults (model TEXT PRIMARY KEY, defaults TEXT) WITHOUT ROWID")
        old.execute("INSERT INTO notes VALUES ('model/x', 'mine')")
        old.execute("INSERT INTO defaults VALUES ('model/x', '{\"steps\": 7}')")
    old.close()
    for _ in range(2):
        records = Records(path)
        assert (records.notes("model/x"), records.defaults("model/x")) == ("mine", {"steps": 7})
        records.close()
    assert [each.name for each in tmp_path.iterdir()] == ["models.sqlite"]


def test_notes_outlive_a_folder_that_is_deleted_in_the_run(tmp_path: Path) -> None:
    path = tmp_path / "out" / "models.sqlite"
    records = Records(path)
    records.keep_notes("model/x", "before")
    shutil.rmtree(path.parent)
    records.keep_notes("model/y", "after")
    assert records.all_notes() == {"model/x": "before", "model/y": "after"}
    records.close()
    again = Records(path)
    assert again.all_notes() == {"model/x": "before", "model/y": "after"}
    again.close()


def test_notes_of_two_studios_on_one_folder(tmp_path: Path) -> None:
    path = tmp_path / "models.sqlite"
    first, second = Records(path), Records(path)
    first.keep_notes("model/x", "one")
    path.rename(tmp_path / "gone")
    first.keep_notes("model/x", "two")
    second.keep_notes("model/y", "three")
    for records in (first, second):
        assert records.all_notes() == {"model/x": "two", "model/y": "three"}
        records.close()


def test_a_file_that_is_free_again_gets_what_was_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_WAIT", 0)
    path = tmp_path / "models.sqlite"
    records = Records(path)
    records.keep_notes("model/x", "old")
    records.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")
    records = Records(path)
    records.keep_notes("model/x", "new")
    other.close()
    assert records.notes("model/x") == "new"
    monkeypatch.setattr(database, "_AGAIN", -1)
    assert records.notes("model/x") == "new"
    records.close()
    again = Records(path)
    assert again.notes("model/x") == "new"
    again.close()


# Pictures


def test_browsers_keep_only_pictures_that_are_whole(tmp_path: Path) -> None:
    library = Library(tmp_path)
    one = library.add(Image.new("RGB", (64, 64)), Recipe(), 20)
    app = FastAPI()
    app.include_router(web.routes(library, None))  # type: ignore[arg-type]
    client = TestClient(app)
    answer = client.get(f"/pictures/{one}.png")
    assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    data = bytearray((tmp_path / f"{one}.png").read_bytes())
    data[-30] ^= 1
    (tmp_path / f"{one}.png").write_bytes(data)
    answer = client.get(f"/pictures/{one}.png")
    assert answer.content == data and answer.headers["cache-control"].startswith("no-store")
    library.close()
