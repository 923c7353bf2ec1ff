"""What a stop interrupted comes back at the next start, to whom it belongs; a bad file costs nothing."""

import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.engine.engine import Engine
from studio.engine.events import Finished, Paused
from studio.engine.job import Job
from studio.library.library import Library
from studio.recipe.recipe import Recipe, Turn
from studio.web import unfinished
from studio.web.live import Live
from tests.fakes import PATIENCE, Events, FakeWorker

BROWSERS = "emerge_owner_x"


class Day:
    """An engine on a folder with its stages, from its start to its end."""

    def __init__(self, folder: Path, worker: FakeWorker) -> None:
        self.folder, self.worker, self.events = folder, worker, Events()
        self.library = Library(folder)
        self.engine = Engine(worker, self.library.add)
        self.engine.subscribe(self.events)
        self.live = Live(self.engine)
        self.path = unfinished.file_in(folder)
        unfinished.bring_back(folder, self.engine, self.live, self.library, BROWSERS)

    def finished(self, owner: str, *recipes: Recipe) -> list[Job]:
        jobs = self.engine.submit(recipes, owner)
        for job in jobs:
            assert isinstance(self.events.final(job.id), Finished)
        return jobs

    def stopped(self, owner: str, *recipes: Recipe) -> list[Job]:
        self.worker.by_hand = True
        jobs = self.engine.submit(recipes, owner)
        self.worker.next_call()
        for job in jobs:
            self.engine.pause(job.id)
        self.worker.go_freely()
        for job in jobs:
            self.events.until(job.id, Paused)
        return jobs

    def end(self) -> None:
        closing = threading.Thread(target=self.engine.close)
        closing.start()
        while not self.engine._closing:
            threading.Event().wait(0.001)
        if self.worker.by_hand:
            self.worker.go_freely()  # only now, or what is under way would be finished before
        closing.join()
        unfinished.keep(self.path, self.engine, self.live, BROWSERS)
        self.library.close()

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*unfinished*"))


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(has_disk=True)


@pytest.fixture
def day(tmp_path: Path, worker: FakeWorker) -> Iterator[Day]:
    made = Day(tmp_path, worker)
    yield made
    worker.go_freely()
    made.engine.close()


def told(job: Job) -> object:
    event = job.event
    assert isinstance(event, Paused | Finished)
    return job.id, job.owner, job.recipe, job.previews, job.parent, event.picture, getattr(event, "done", "all")


def test_everyones_pictures_stand_where_they_stood(day: Day, worker: FakeWorker) -> None:
    done = day.finished("ann", Recipe("done", steps=4))
    fork = day.engine.fork(done[0].id, 2, {"prompt": "other"})
    day.events.final(fork.id)
    held = day.stopped("ann", Recipe("held", steps=4), Recipe("held too", steps=4))
    elsewhere = day.finished("ann", Recipe("elsewhere", steps=4))
    theirs = day.stopped("bob", Recipe("theirs", steps=4, turns=(Turn(3, prompt="later"),)))
    grid = {
        "rows": ["a", "b"],
        "columns": [""],
        "cells": [[done[0].id], [held[0].id]],
        "note": "",
        "plan": {"axes": []},
    }
    day.live.show("ann", "compare", [done[0], held[0]], grid)
    day.live.show("ann", "text_to_image", [fork, held[1]])
    day.live.show("ann", "inpainting", elsewhere)
    day.live.show("bob", "text_to_image", theirs)
    worker.by_hand = True
    [waiting] = day.engine.submit([Recipe("in the making", steps=4)], "bob")
    worker.next_call()
    worker.go_freely()
    day.events.final(waiting.id)
    before = {each.id: told(each) for each in day.engine.jobs()}
    day.end()
    assert len(day.files) == 1

    again = Day(day.folder, worker)
    assert again.files == []
    jobs = {each.id: told(each) for each in again.engine.jobs()}
    stay = [*done, fork, *held, *theirs]
    assert jobs == {each.id: before[each.id] for each in stay}
    assert [each.id for each in again.engine.jobs()] == [each.id for each in stay], "in their order"
    assert [each.id for each in again.live.shown("ann", "compare")] == [done[0].id, held[0].id]
    assert again.live.layout("ann", "compare") == grid
    assert [each.id for each in again.live.shown("ann", "text_to_image")] == [fork.id, held[1].id]
    assert again.live.shown("ann", "inpainting") == []
    assert [each.id for each in again.live.shown("bob", "text_to_image")] == [theirs[0].id]
    worker.log.clear()
    for each in (held[0], theirs[0]):
        again.engine.resume(each.id)
        assert isinstance(again.events.final(each.id), Finished)
    assert worker.log == [["held"]] * 3 + [["theirs"]] * 2 + [["later"]], "each goes on where it stood"
    again.end()


def test_what_was_under_way_or_waited_is_offered(day: Day, worker: FakeWorker) -> None:
    worker.by_hand, worker.rows = True, 1
    under_way, waiting = day.engine.submit([Recipe("a", steps=9), Recipe("b", steps=9)], "ann", "noisy")
    worker.next_call()
    day.live.show("ann", "text_to_image", [under_way, waiting])
    worker.go()
    worker.next_call()
    day.end()
    again = Day(day.folder, worker)
    first, second = again.live.shown("ann", "text_to_image")
    assert (first.id, second.id, first.previews) == (under_way.id, waiting.id, "noisy")
    assert isinstance(first.event, Paused) and first.event.picture and first.event.reason == ""
    assert isinstance(second.event, Paused)
    for each in (first, second):
        again.engine.resume(each.id)
        assert isinstance(again.events.final(each.id), Finished)
    again.end()
    assert again.files == [], "nothing is unfinished any more"


def test_a_picture_that_was_deleted_begins_again(day: Day, worker: FakeWorker) -> None:
    done = day.finished("ann", Recipe("done", steps=4))
    held = day.stopped("ann", Recipe("held", steps=4))
    day.live.show("ann", "compare", [*done, *held])
    day.end()
    for path in day.folder.glob("*.png"):
        path.unlink()
    again = Day(day.folder, worker)
    [job] = again.engine.jobs()
    assert job.event == Paused(held[0].id, 0, 4)
    again.engine.resume(job.id)
    assert isinstance(again.events.final(job.id), Finished)
    again.end()


def test_two_studios_on_one_folder_both_offer_theirs(day: Day, worker: FakeWorker) -> None:
    other = Day(day.folder, FakeWorker(has_disk=True))
    mine, theirs = (each.stopped("ann", Recipe(prompt, steps=4)) for each, prompt in ((day, "a"), (other, "b")))
    day.live.show("ann", "text_to_image", mine)
    other.live.show("ann", "compare", theirs)
    for each in (day, other):
        each.end()
    assert len(day.files) == 2
    again = Day(day.folder, worker)
    assert {each.id for each in again.engine.jobs()} == {mine[0].id, theirs[0].id}
    assert [each.id for each in again.live.shown("ann", "text_to_image")] == [mine[0].id]
    assert [each.id for each in again.live.shown("ann", "compare")] == [theirs[0].id]
    again.end()


def written(data: bytes) -> bytes:
    """A file that is whole, whatever it says."""
    return f"{unfinished.FORMAT} {zlib.crc32(data)}\n".encode() + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 1000,
        b"emerge-unfinished-1",
        b"emerge-unfinished-1 5\n{}",
        written(b""),
        written(b"\xff\xfe"),
        written(b"[" * 200_000),
        written(b"{}"),
        written(b'{"jobs": 5, "stages": {}}'),
        written(b'{"jobs": [{}], "stages": {}}'),
        written(b'{"jobs": [], "stages": {"shown": 5, "layouts": {}}}'),
    ],
)
def test_a_damaged_file_costs_nothing(tmp_path: Path, worker: FakeWorker, content: bytes) -> None:
    (tmp_path / "unfinished-x.json").write_bytes(content)
    day = Day(tmp_path, worker)
    assert day.engine.jobs() == [] and day.files == []
    day.end()


def test_any_damage_is_noticed(day: Day, worker: FakeWorker) -> None:
    day.stopped("ann", Recipe("a boat", steps=4))
    day.end()
    [path] = day.files
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        bits = bytearray(whole)
        bits[place] ^= 4
        path.write_bytes(bits)
        again = Day(day.folder, worker)
        assert again.engine.jobs() == [] and again.files == []
        again.end()
    path.write_bytes(whole)
    assert len(Day(day.folder, worker).engine.jobs()) == 1


def test_one_that_cannot_be_read_costs_no_other(day: Day, worker: FakeWorker) -> None:
    day.stopped("ann", Recipe("a", steps=4), Recipe("b", steps=4))
    day.end()
    [path] = day.files
    values = json.loads(path.read_bytes().partition(b"\n")[2])
    recipe = json.loads(values["jobs"][0]["recipe"])
    values["jobs"][0]["recipe"] = json.dumps({**recipe, "version": 999})
    path.write_bytes(written(json.dumps(values).encode()))
    again = Day(day.folder, worker)
    assert [each.recipe.prompt for each in again.engine.jobs()] == ["b"]
    again.end()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="There are no pipes in folders here.")
def test_a_pipe_of_that_name_stops_nothing(tmp_path: Path, worker: FakeWorker) -> None:
    os.mkfifo(tmp_path / "unfinished-x.json")
    (tmp_path / "unfinished-y.json").mkdir()
    day = Day(tmp_path, worker)
    assert day.engine.jobs() == []
    day.end()


def test_what_cannot_be_written_down_is_told(day: Day, caplog: pytest.LogCaptureFixture) -> None:
    day.stopped("ann", Recipe("a", steps=4))
    day.engine.close()
    unfinished.keep(day.folder / "nowhere" / "unfinished-x.json", day.engine, day.live, BROWSERS)
    assert "could not be written down" in caplog.text


def test_a_full_file_leaves_out_some_of_everybodys(
    day: Day, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    day.stopped("ann", *(Recipe("a" * 100, seed=seed, steps=4) for seed in range(5)))
    day.stopped("bob", Recipe("b", steps=4))
    monkeypatch.setattr(unfinished, "MOST", 4 * len(Recipe("a" * 100, steps=4).to_json()))
    day.end()
    again = Day(day.folder, worker)
    assert [each.owner for each in again.engine.jobs()] == ["ann", "ann", "ann", "bob"]
    again.end()


def test_a_job_of_a_pipeline_with_more_steps_than_its_recipe_is_not_taken_for_finished(
    day: Day, worker: FakeWorker
) -> None:
    [job] = day.stopped("ann", Recipe("a", steps=4))
    picture = job.event.picture  # type: ignore[attr-defined]
    job.event = Paused(job.id, 7, 9, picture)
    day.end()
    again = Day(day.folder, worker)
    assert isinstance(again.engine.job(job.id).event, Paused)
    again.engine._keeper.submit(lambda: None).result(PATIENCE)
    again.end()


def test_it_is_written_down_before_partial_pictures_are_kept(day: Day, worker: FakeWorker) -> None:
    """Whoever has no patience kills a program that is still busy with large pictures."""
    worker.by_hand = True
    [waiting] = day.engine.submit([Recipe("large", steps=9)], "ann")
    worker.next_call()
    day.live.show("ann", "text_to_image", [waiting])
    unfinished.keep(day.path, day.engine, day.live, BROWSERS)
    again = Day(day.folder, FakeWorker(has_disk=True))
    [shown] = again.live.shown("ann", "text_to_image")
    assert (shown.id, shown.recipe.prompt) == (waiting.id, "large") and isinstance(shown.event, Paused)
    again.end()
    day.path.unlink(missing_ok=True)


def test_what_went_on_to_its_end_meanwhile_is_not_offered(day: Day, worker: FakeWorker) -> None:
    worker.by_hand = True
    [job] = day.engine.submit([Recipe("small", steps=1)], "ann")
    worker.next_call()
    unfinished.keep(day.path, day.engine, day.live, BROWSERS)
    assert day.path.exists()
    worker.go_freely()
    day.events.final(job.id)
    day.end()
    assert day.files == []


def test_what_belongs_to_browsers_that_are_not_known_any_more_is_nobodys(
    day: Day, worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    [job] = day.stopped("ann", Recipe("a", steps=9))
    day.live.show("ann", "text_to_image", [job])
    day.engine.close()
    unfinished.keep(day.path, day.engine, day.live, "emerge_owner_another")
    day.library.close()
    again = Day(day.folder, worker)
    assert again.engine.jobs() == [] and again.files == []
    assert "not known any more" in caplog.text
    again.end()
