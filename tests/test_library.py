"""The library: a picture is on disk whole or not at all, and is found again whatever happened to the index."""

import contextlib
import errno
import io
import os
import re
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image

from studio.errors import StorageError
from studio.library import library as module
from studio.library import metadata
from studio.library.library import Library
from studio.recipe.recipe import Recipe

RECIPE = Recipe("a fox 狐", seed=7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out" / "puts"


@pytest.fixture
def library(folder: Path) -> Iterator[Library]:
    result = Library(folder)
    yield result
    result.close()


def picture(red: int = 0, side: int = 16) -> Image.Image:
    return Image.new("RGB", (side, side), (red, 0, 0))


def reopened(folder: Path) -> list[str]:
    """What a studio started now would list."""
    library = Library(folder)
    try:
        return [each.id for each in library.recent(100)]
    finally:
        library.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("library.sqlite"))


# Adding and finding


def test_the_start_pictures_that_are_asked_for(library: Library) -> None:
    names = ("200x120-" + "0" * 24, "200x120-" + "1" * 24)
    library.add(picture(), RECIPE, 1)
    assert library.sources() == set()
    library.add(picture(), Recipe(source=names[0], mask=names[1]), 20)
    library.add(picture(), Recipe(prompt='"source": "x"'), 20)
    assert library.sources() == set(names)


def test_a_picture_is_on_disk_with_its_recipe(library: Library, folder: Path) -> None:
    added = library.add(picture(200), RECIPE, RECIPE.steps)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", added)
    assert names(folder) == [f"{added}.png"]
    assert metadata.read(folder / f"{added}.png") == (RECIPE, RECIPE.steps)
    assert Image.open(folder / f"{added}.png").getpixel((0, 0)) == (200, 0, 0)


def test_get_tells_all_about_it(library: Library, folder: Path) -> None:
    found = library.get(library.add(picture(side=24), RECIPE, 5))
    assert (found.path.parent, found.recipe, found.steps_done) == (folder, RECIPE, 5)
    assert (found.width, found.height, found.complete) == (24, 24, False)
    assert abs(found.made_at - found.path.stat().st_mtime) < 60
    assert library.get(library.add(picture(), RECIPE, RECIPE.steps)).complete


def test_recent_is_newest_first_and_paged(library: Library) -> None:
    added = [library.add(picture(), RECIPE, 1) for _ in range(7)]
    assert added == sorted(added)
    pages, before = [], None
    while page := library.recent(3, before):
        pages.append([each.id for each in page])
        before = page[-1].id
    assert pages == [added[6:3:-1], added[3:0:-1], added[:1]]
    assert library.recent(0) == []


def test_what_was_stopped_leaves_when_the_same_picture_came_further(library: Library) -> None:
    other = replace(RECIPE, seed=RECIPE.seed + 1)
    partial, starred, stays = (library.add(picture(), recipe, 4) for recipe in (RECIPE, RECIPE, other))
    library.rate(starred, 3)
    finished = library.add(picture(), RECIPE, RECIPE.steps)
    assert [each.id for each in library.recent(9)] == [finished, stays, starred]
    assert library.get(partial).steps_done == 4  # its file and its page stay


def test_new_pictures_come_before_those_of_a_clock_that_was_ahead(library: Library, folder: Path) -> None:
    made = library.add(picture(), RECIPE, 1)
    ahead = [f"29991231-1010{number:02}-00000000" for number in range(3)]
    for name in ahead:
        shutil.copy(folder / f"{made}.png", folder / f"{name}.png")
    library.close()
    again = Library(folder)
    newest = again.add(picture(), RECIPE, 1)
    assert [each.id for each in again.recent(9)] == [newest, *ahead[::-1], made]
    # Also where the index holds such a time, from when it was not yet known to be wrong.
    again._index.run(lambda index: index.execute("UPDATE pictures SET made_at = 1e11 WHERE id = ?", (made,)))
    again.close()
    once_more = Library(folder)
    assert once_more.get(made).made_at < time.time()
    once_more.close()


def test_pages_go_on_where_a_picture_was_deleted(library: Library, folder: Path) -> None:
    added = [library.add(picture(), RECIPE, 1) for _ in range(3)]
    (folder / f"{added[1]}.png").unlink()
    assert [each.id for each in library.recent(2)] == [added[2], added[0]]
    assert [each.id for each in library.recent(5, before=added[1])] == added[:1]
    library.close()
    other = Library(folder)  # its index does not know the deleted one
    assert [each.id for each in other.recent(5, before=added[1])] == added[:1]
    other.close()
    with pytest.raises(StorageError, match="moved or deleted"):
        library.get(added[1])


@pytest.mark.parametrize(
    "name", ["", "..", "../secret", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\0", "C:x", "x" * 999]
)
def test_no_name_leads_out_of_the_folder(library: Library, folder: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(folder.parent / "secret.png", pnginfo=metadata.png_text(RECIPE, 1))
    for ask in (library.get, library.thumbnail, lambda each: library.recent(5, before=each)):
        with pytest.raises(StorageError, match="not the name of a picture"):
            ask(name)


def test_many_threads_may_add_and_look(library: Library) -> None:
    errors: list[Exception] = []

    def work(red: int) -> None:
        try:
            for _ in range(5):
                added = library.add(picture(red), RECIPE, 1)
                library.recent(10)
                library.thumbnail(added)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[each]) for each in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len({each.id for each in library.recent(100)}) == 30


# Thumbnails


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(library: Library) -> None:
    added = library.add(Image.new("RGB", (800, 400), (250, 10, 10)), RECIPE, 1)
    small = Image.open(io.BytesIO(library.thumbnail(added, 100)))
    assert (small.format, small.size) == ("JPEG", (100, 50))
    red, green, _ = np.asarray(small)[25, 50]
    assert red > 200 and green < 60
    assert Image.open(io.BytesIO(library.thumbnail(added, 10**9))).size == (800, 400)


def test_thumbnails_are_kept_in_memory_up_to_a_bound(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "THUMBNAILS_KEPT", 2)
    added = [library.add(picture(), RECIPE, 1) for _ in range(3)]
    first = library.thumbnail(added[0])
    assert library.thumbnail(added[0]) is first
    for each in added[1:]:
        library.thumbnail(each)
    assert library.thumbnail(added[0]) is not first


def test_a_damaged_picture_has_no_thumbnail_but_a_sentence(library: Library, folder: Path) -> None:
    added = library.add(Image.effect_noise((64, 64), 50).convert("RGB"), RECIPE, 1)
    whole = (folder / f"{added}.png").read_bytes()
    (folder / f"{added}.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="damaged"):
        library.thumbnail(added)


# Disks that refuse


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EACCES, "cannot be written to"),
        (errno.EROFS, "cannot be written to"),
        (errno.ENOENT, "is not there"),
        (errno.EIO, "could not be written"),
    ],
)
def test_a_refused_write_is_a_sentence_and_leaves_nothing(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, told: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(StorageError, match=told) as caught:
            library.add(picture(), RECIPE, 1)
    assert str(folder) in str(caught.value) and "continue" in str(caught.value).lower()
    assert names(folder) == [] and library.recent(5) == []
    assert library.get(library.add(picture(), RECIPE, 1))  # and it works again


def test_a_folder_that_cannot_be_synced_is_no_failure(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "folders cannot be synced here")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    assert library.get(library.add(picture(), RECIPE, 1))


def test_a_file_in_the_folders_place_is_told_when_a_picture_comes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        library = Library(place)
        assert library.recent(5) == []
        with pytest.raises(StorageError, match="is not there and cannot be made"):
            library.add(picture(), RECIPE, 1)
        library.close()


def test_a_folder_that_went_away_is_made_again(library: Library, folder: Path) -> None:
    shutil.rmtree(folder)
    added = library.add(picture(), RECIPE, 1)
    assert (folder / f"{added}.png").is_file()


def test_a_write_goes_through_a_temporary_name_that_is_never_listed(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        seen.append((names(folder), Path(source).stat().st_size, reopened(folder)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    added = library.add(picture(), RECIPE, 1)
    ([before], size, listed) = seen[0]
    assert re.fullmatch(r"\.emerge-[0-9a-f]{16}\.part", before) and listed == []
    assert size == (folder / f"{added}.png").stat().st_size


# The index is only a cache


def test_a_lost_index_is_made_anew(library: Library, folder: Path) -> None:
    added = [library.add(picture(), replace(RECIPE, seed=steps), steps) for steps in (1, 2, 3)]
    before = library.recent(5)
    library.close()
    for path in folder.glob("library.sqlite*"):
        path.unlink()
    again = Library(folder)
    assert again.recent(5) == before
    assert [each.id for each in before] == added[::-1]
    again.close()


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_index_is_made_anew(library: Library, folder: Path, content: bytes) -> None:
    added = library.add(picture(), RECIPE, 1)
    library.close()
    (folder / "library.sqlite").write_bytes(content)
    assert reopened(folder) == [added]
    with sqlite3.connect(folder / "library.sqlite") as index:
        assert index.execute("SELECT count(*) FROM pictures").fetchone() == (1,)


def test_an_index_of_another_version_is_made_anew(library: Library, folder: Path) -> None:
    added = library.add(picture(), RECIPE, 1)
    library.close()
    with sqlite3.connect(folder / "library.sqlite") as index:
        index.executescript("DROP TABLE pictures; CREATE TABLE pictures (x); PRAGMA user_version = 999;")
    index.close()
    assert reopened(folder) == [added]


def test_an_index_damaged_while_running_costs_no_picture(library: Library, folder: Path) -> None:
    first = library.add(picture(), RECIPE, 1)
    library._index._connection.execute("DROP TABLE pictures")
    library._index._connection.execute("PRAGMA user_version = 0")
    second = library.add(picture(), RECIPE, 1)
    assert [each.id for each in library.recent(5)] == [second, first]


def test_an_index_that_cannot_be_written_is_kept_in_memory(folder: Path) -> None:
    (folder / "library.sqlite").mkdir(parents=True)  # a folder in its place: nobody, root included, can write it
    library = Library(folder)
    added = library.add(picture(), RECIPE, 1)
    assert [each.id for each in library.recent(5)] == [added]
    library.close()
    assert reopened(folder) == [added]


def test_files_added_and_removed_by_hand_are_noticed_at_the_start(library: Library, folder: Path) -> None:
    kept, removed = library.add(picture(), RECIPE, 1), library.add(picture(), RECIPE, 1)
    library.close()
    (folder / f"{removed}.png").unlink()
    shutil.copy(folder / f"{kept}.png", folder / "from a friend (1).png")
    os.utime(folder / "from a friend (1).png", (1_000_000_000, 1_000_000_000))
    (folder / "unrelated.txt").write_text("text")
    (folder / "folder.png").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "no recipe.png")
    assert reopened(folder) == [kept, "from a friend (1)"]  # newest first, also among foreign names


def test_a_file_changed_by_hand_is_read_anew(library: Library, folder: Path) -> None:
    added = library.add(picture(), RECIPE, 1)
    library.close()
    other = Recipe("another", seed=8)
    Image.new("RGB", (40, 8)).save(folder / f"{added}.png", pnginfo=metadata.png_text(other, 3))
    os.utime(folder / f"{added}.png", (2_000_000_000, 2_000_000_000))
    again = Library(folder)
    found = again.get(added)
    assert (found.recipe, found.steps_done, found.width) == (other, 3, 40)
    again.close()


def test_a_start_reads_only_files_that_it_does_not_know(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        library.add(picture(), RECIPE, 1)
    library.close()
    Image.new("RGB", (8, 8)).save(folder / "no recipe.png")
    reopened(folder)
    read: list[Path] = []

    def noted(file: IO[bytes]) -> Any:
        read.append(Path(file.name))
        return (8, 8), (RECIPE, 1), ("", 0), ""

    monkeypatch.setattr(module, "_read", noted)
    reopened(folder)
    assert read == []
    Image.new("RGB", (8, 8)).save(folder / "new.png")
    reopened(folder)
    assert read == [folder / "new.png"]


def test_hostile_files_do_not_keep_the_library_from_starting(library: Library, folder: Path) -> None:
    added = library.add(picture(), RECIPE, 1)
    library.close()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xff" * 100)
    (folder / "empty.png").touch()
    for field in ("prompt", "model", "sampler", "vae", "fill"):
        info = metadata.png_text(RECIPE, 1)
        info.chunks.clear()
        info.add_text("emerge-recipe", f'{{"version": 1, "{field}": "half a pair: \\ud83e"}}')
        Image.new("RGB", (8, 8)).save(folder / f"half {field}.png", pnginfo=info)
    shutil.copy(folder / f"{added}.png", folder / "far future.png")
    with contextlib.suppress(OSError):  # not every disk knows such a time
        os.utime(folder / "far future.png", ns=(0, 2**63 + 10))
    os.symlink("nowhere", folder / "dangling.png")
    with open(os.fsencode(folder) + b"/\xff.png", "wb") as file:
        file.write((folder / f"{added}.png").read_bytes())
    assert set(reopened(folder)) == {added, "far future", "half model", "half sampler", "half vae"}


# Ratings


def rated(folder: Path) -> dict[str, int]:
    """What a studio started now would say."""
    library = Library(folder)
    try:
        return {each.id: each.rating for each in library.recent(100)}
    finally:
        library.close()


def test_a_rating_is_kept_with_and_without_the_index(library: Library, folder: Path) -> None:
    one, two, three = (library.add(picture(), RECIPE, 1) for _ in range(3))
    for each, stars in ((one, 4), (two, 2), (one, 5), (two, 0)):
        library.rate(each, stars)
    assert library.get(one).rating == 5
    assert library.ratings([one, two, "nobody"]) == {one: 5, two: 0}
    library.close()
    assert rated(folder) == {one: 5, two: 0, three: 0}
    for path in folder.glob("library.sqlite*"):
        path.unlink()
    assert rated(folder) == {one: 5, two: 0, three: 0}


def test_ratings_survive_an_index_that_fails_and_a_line_cut_off(library: Library, folder: Path) -> None:
    one, two = (library.add(picture(), RECIPE, 1) for _ in range(2))
    library.rate(one, 3)
    with open(folder / "ratings.txt", "a") as file:
        file.write("\n2026")  # a crash in the middle of a line
    library._index._connection.execute("DROP TABLE pictures")
    library._index._connection.execute("PRAGMA user_version = 0")
    library.rate(two, 1)
    assert {each.id: each.rating for each in library.recent(5)} == {one: 3, two: 1}
    library.close()
    assert rated(folder) == {one: 3, two: 1}


def test_a_model_is_shown_by_its_best_picture(library: Library) -> None:
    old, good, new = (library.add(picture(), RECIPE, 1) for _ in range(3))
    assert library.best_by_model() == {RECIPE.model: new}
    library.rate(old, 2)
    library.rate(good, 4)
    assert library.best_by_model() == {RECIPE.model: good}


def test_a_file_read_anew_keeps_its_rating(library: Library, folder: Path) -> None:
    one = library.add(picture(), RECIPE, 1)
    library.rate(one, 3)
    library.close()
    os.utime(folder / f"{one}.png", ns=(1, 1))
    assert rated(folder) == {one: 3}


def test_ratings_that_cannot_be(library: Library, folder: Path) -> None:
    one = library.add(picture(), RECIPE, 1)
    for each, stars, told in ((one, 6, "0 to 5 stars, not 6"), (one, -1, "0 to 5 stars"), ("nobody", 3, "no picture")):
        with pytest.raises(StorageError, match=told):
            library.rate(each, stars)
    (folder / "ratings.txt").mkdir()
    with pytest.raises(StorageError, match="rating could not be written"):
        library.rate(one, 3)
    assert library.get(one).rating == 0


# What came from what


def test_forks_know_their_picture_and_the_picture_its_forks(library: Library, folder: Path) -> None:
    one = library.add(picture(), RECIPE, RECIPE.steps)
    late = library.add(picture(1), RECIPE.turned(9, {"prompt": "b"}), RECIPE.steps, (one, 9))
    early = library.add(picture(2), RECIPE.turned(4, {"prompt": "c"}), RECIPE.steps, (one, 4))
    nested = library.add(picture(3), RECIPE, RECIPE.steps, (early, 6))

    def holds(library: Library) -> None:
        assert [each.id for each in library.forks(one)] == [early, late]
        assert [each.id for each in library.forks(early)] == [nested] and library.forks(nested) == []
        assert (library.get(early).parent, library.get(early).parent_step) == (one, 4)
        assert (library.get(one).parent, library.get(one).parent_step) == ("", 0)

    holds(library)
    library.close()
    for path in folder.glob("library.sqlite*"):
        path.unlink()
    other = Library(folder)  # the files tell
    holds(other)
    (folder / f"{one}.png").unlink()
    (folder / f"{late}.png").unlink()
    assert [each.id for each in other.forks(one)] == [early]
    other.close()


def test_a_parent_in_a_file_is_only_text(library: Library, folder: Path) -> None:
    for number, text in enumerate(("7 ../../etc/passwd", "x y", "-1 a", "9" * 30 + " a", "7", "")):
        info = metadata.png_text(RECIPE, 1)
        info.add_text(metadata.PARENT, text)
        Image.new("RGB", (8, 8)).save(folder / f"odd{number}.png", pnginfo=info)
    other = Library(folder)
    assert {other.get(f"odd{number}").parent for number in range(1, 6)} == {""}
    odd = other.get("odd0")
    with pytest.raises(StorageError):
        other.get(odd.parent)
    with pytest.raises(StorageError, match="not the name"):
        other.forks(odd.parent)
    other.close()


def test_what_was_done_when_memory_ran_out_stays_with_the_picture(library: Library, folder: Path) -> None:
    note = "It was decoded in tiles. \u2713"
    told, silent = library.add(picture(), RECIPE, 1, note=note), library.add(picture(), RECIPE, 1)
    assert (library.get(told).note, library.get(silent).note) == (note, "")
    (folder / "library.sqlite").unlink()
    other = Library(folder)
    assert (other.get(told).note, other.get(silent).note) == (note, "")
    other.close()
