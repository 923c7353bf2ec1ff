"""The engine against a worker without a model: who takes part in which step, and what everyone is told."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest
from PIL import Image

from studio.engine import engine as module
from studio.engine.engine import Engine
from studio.engine.events import FINAL, Cancelled, Event, Failed, Finished, Loading, Paused, Queued, Step
from studio.engine.job import Job
from studio.errors import JobMissing, ModelBusy, OutOfMemory, RecipeError, StorageError, StudioError
from studio.recipe.recipe import Recipe, Turn
from tests.fakes import PATIENCE, Events, FakeKeeper, FakeRun, FakeWorker


class Studio:
    """An engine between fakes, made when the first job comes, so that a test can set the worker first."""

    def __init__(self) -> None:
        self.worker, self.keep, self.events = FakeWorker(), FakeKeeper(), Events()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if not self._engine:
            self._engine = Engine(self.worker, self.keep)
            self._engine.subscribe(self.events)
        return self._engine

    def submit(self, *prompts: str, owner: str = "", steps: int = 3, **values: object) -> list[Job]:
        recipes = [Recipe(prompt, steps=steps, **values) for prompt in prompts]  # type: ignore[arg-type]
        return self.engine.submit(recipes, owner)

    def close(self) -> None:
        self.keep.open.set()
        self.worker.go_freely()
        self.engine.close()


@pytest.fixture
def studio() -> Iterator[Studio]:
    """Afterwards, whatever the test did: every job has ended or stands still, and nothing came after an end."""
    result = Studio()
    yield result
    result.close()
    for job in {event.job for event in result.events.all}:
        *others, last = result.events.of(job)
        assert isinstance(last, (*FINAL, Paused))
        assert not any(isinstance(event, FINAL) for event in others)


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


# One picture


def test_a_job_is_told_step_by_step_and_then_kept(studio: Studio) -> None:
    (job,) = studio.submit("a", steps=3)
    finished = studio.events.final(job.id)

    assert kinds(studio.events.of(job.id)) == [Queued, Step, Step, Step, Step, Finished]
    steps = [event for event in studio.events.of(job.id) if isinstance(event, Step)]
    assert [(step.done, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [step.preview and step.preview.jpeg() for step in steps] == [b"JPEG 0", b"JPEG 1", b"JPEG 2", b"JPEG 3"]
    assert isinstance(finished, Finished)
    picture, recipe, steps_done = studio.keep.pictures[finished.picture]
    assert (picture.getpixel((0, 0)), recipe, steps_done) == ((3, 0, 0), job.recipe, 3)
    assert studio.engine.job(job.id).event == finished


def test_previews_can_be_off(studio: Studio) -> None:
    (job,) = studio.engine.submit([Recipe("a", steps=1)], previews="off")
    studio.events.final(job.id)
    assert all(event.preview is None for event in studio.events.of(job.id) if isinstance(event, Step))


def test_a_broken_preview_costs_only_itself(studio: Studio) -> None:
    (job,) = studio.submit("unshowable")
    assert isinstance(studio.events.final(job.id), Finished)
    assert all(event.preview is None for event in studio.events.of(job.id) if isinstance(event, Step))


def test_a_wrong_recipe_queues_none_of_its_companions(studio: Studio) -> None:
    with pytest.raises(RecipeError, match="0 steps"):
        studio.engine.submit([Recipe("a"), Recipe("b", steps=0)])
    assert studio.engine.jobs() == []


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_pictures_is_bounded(studio: Studio, count: int) -> None:
    with pytest.raises(StudioError, match="1 to 64"):
        studio.submit(*["a"] * count)


def test_an_unknown_job_is_missing(studio: Studio) -> None:
    for ask in (studio.engine.cancel, studio.engine.pause, studio.engine.resume, studio.engine.decode):
        with pytest.raises(JobMissing):
            ask("no such job")


# Sharing a model call


def test_a_batch_shares_every_call(studio: Studio) -> None:
    jobs = studio.submit("a", "b", "c", steps=3)
    for job in jobs:
        studio.events.final(job.id)
    assert [sorted(call) for call in studio.worker.log] == [["a", "b", "c"]] * 3


def test_different_sizes_do_not_share_a_call(studio: Studio) -> None:
    jobs = studio.submit("a", steps=2) + studio.submit("b", steps=2, width=512)
    for job in jobs:
        studio.events.final(job.id)
    assert sorted(studio.worker.log) == [["a"], ["a"], ["b"], ["b"]]


def test_a_call_holds_no_more_rows_than_the_worker_can(studio: Studio) -> None:
    studio.worker.rows = 2
    for job in studio.submit("a", "b", "c", "d", "e", steps=2):
        studio.events.final(job.id)
    assert max(map(len, studio.worker.log)) == 2
    assert sorted(itertools.chain(*studio.worker.log)) == sorted("abcde" * 2)


def test_jobs_join_and_leave_between_steps(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.submit("a", steps=3)
    assert studio.worker.next_call() == ["a"]
    studio.submit("b", steps=3)
    studio.worker.go()
    for _ in range(2):
        assert sorted(studio.worker.next_call()) == ["a", "b"]
        studio.worker.go()
    assert studio.worker.next_call() == ["b"]  # a has taken its three


# Stopping


def test_cancel_takes_effect_within_a_step_and_spares_the_others(studio: Studio) -> None:
    studio.worker.by_hand = True
    weak, good = studio.submit("weak", "good", steps=5)
    assert sorted(studio.worker.next_call()) == ["good", "weak"]
    studio.engine.cancel(weak.id)
    studio.worker.go()
    assert studio.worker.next_call() == ["good"]
    assert kinds(studio.events.of(weak.id))[-1] is Cancelled
    studio.worker.go_freely()
    assert isinstance(studio.events.final(good.id), Finished)


def test_a_pause_keeps_the_partial_picture_and_resume_goes_on_from_there(studio: Studio) -> None:
    studio.worker.by_hand = True
    (job,) = studio.submit("a", steps=5)
    for _ in range(2):
        studio.worker.next_call()
        if len(studio.worker.log) == 1:
            studio.engine.pause(job.id)
        studio.worker.go()
    paused = studio.events.until(job.id, Paused)
    assert isinstance(paused, Paused) and (paused.done, paused.total, paused.reason) == (2, 5, "")
    picture, _, steps_done = studio.keep.pictures[paused.picture or ""]
    assert (picture.getpixel((0, 0)), steps_done) == ((2, 0, 0), 2)

    studio.worker.go_freely()
    studio.engine.resume(job.id)
    assert isinstance(studio.events.final(job.id), Finished)
    assert len(studio.worker.log) == 5  # none of the steps was taken twice
    assert kinds(studio.events.of(job.id)).count(Queued) == 2


def test_a_pause_before_the_first_step_keeps_no_picture(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.submit("a")
    studio.worker.next_call()
    (late,) = studio.submit("late", width=256)
    studio.engine.pause(late.id)
    studio.worker.go()
    assert studio.events.until(late.id, Paused) == Paused(late.id, 0, 3)
    assert not studio.keep.pictures


def test_resume_while_the_partial_picture_is_being_kept_is_not_lost(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.keep.open.clear()
    (job,) = studio.submit("a", steps=5)
    studio.worker.next_call()
    studio.engine.pause(job.id)
    studio.worker.go_freely()
    studio.keep.asked.get(timeout=PATIENCE)
    studio.engine.resume(job.id)
    studio.keep.open.set()
    assert isinstance(studio.events.final(job.id), Finished)


def test_a_pause_does_not_take_back_a_cancel(studio: Studio) -> None:
    studio.worker.by_hand = True
    (job,) = studio.submit("a")
    studio.worker.next_call()
    studio.engine.cancel(job.id)
    studio.engine.pause(job.id)
    studio.worker.go()
    assert isinstance(studio.events.final(job.id), Cancelled)


def test_a_paused_job_can_be_cancelled(studio: Studio) -> None:
    studio.worker.by_hand = True
    (job,) = studio.submit("a")
    studio.worker.next_call()
    studio.engine.pause(job.id)
    studio.worker.go()
    studio.events.until(job.id, Paused)
    studio.engine.cancel(job.id)
    assert isinstance(studio.events.final(job.id), Cancelled)


def test_a_job_is_decoded_as_it_stands(studio: Studio) -> None:
    studio.worker.by_hand = True
    (job,) = studio.submit("a", steps=5)
    studio.worker.next_call()
    picture = studio.engine.decode(job.id)
    studio.worker.go()
    assert picture.result(PATIENCE).getpixel((0, 0)) == (1, 0, 0)
    assert studio.worker.next_call() == ["a"]  # and it goes on


class Closing:
    """An engine that is being closed while a step is held: what is asked of it now comes too late."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._thread = studio, threading.Thread(target=studio.engine.close)
        self._thread.start()
        # The engine is closing from here on, whichever thread is quicker: the step is still held.
        while not studio.engine._closing:
            self._thread.join(0.01)

    def end(self) -> None:
        self._studio.worker.go_freely()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def test_close_keeps_what_has_begun_and_what_waits_for_it_ends(studio: Studio) -> None:
    studio.worker.by_hand = studio.worker.has_disk = True
    (job,) = studio.submit("a", steps=50, owner="ann")
    studio.worker.next_call()
    closing = Closing(studio)
    picture = studio.engine.decode(job.id)
    with pytest.raises(StudioError, match="shut down"):
        studio.submit("late")
    for ask in (studio.engine.pause, studio.engine.resume, studio.engine.cancel):
        with pytest.raises(StudioError, match="shut down"):
            ask(job.id)
    closing.end()
    paused = studio.events.of(job.id)[-1]
    assert isinstance(paused, Paused) and (paused.done, paused.total) == (1, 50)
    assert paused.reason == "The studio was stopped. Start it again, and Continue goes on from step 1."
    assert studio.keep.pictures[paused.picture or ""][2] == 1 and studio.worker.stored[paused.picture or ""].done == 1
    assert len(studio.worker.log) == 1
    with pytest.raises(CancelledError):
        picture.result(PATIENCE)


def test_close_keeps_the_pictures_of_everyone_the_furthest_first(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.worker.by_hand, studio.worker.rows = True, 1
    studio.submit("long", "short", owner="ada", steps=50)
    for _ in range(3):
        studio.worker.next_call()
        studio.worker.go()
    studio.worker.next_call()
    studio.submit("new", owner="bob", steps=50)
    studio.worker.go()
    studio.worker.next_call()
    Closing(studio).end()
    kept = [(recipe.prompt, done) for _, recipe, done in studio.keep.pictures.values()]
    assert kept == [("long", 2), ("new", 1), ("short", 2)]


def test_close_begins_nothing_that_is_known_to_take_too_long_and_keeps_small_pictures_first(studio: Studio) -> None:
    studio.worker.by_hand, studio.worker.rows = True, 1
    studio.submit("large", steps=50, width=1024, height=1024)
    studio.worker.next_call()
    studio.submit("small", steps=50, width=64, height=64)
    studio.submit("slow", steps=50, width=512, height=512)
    for _ in range(3):
        studio.worker.go()
        studio.worker.next_call()
    studio.engine._pace.ended(Recipe(width=512, height=512), 3600.0)
    Closing(studio).end()
    assert [recipe.prompt for _, recipe, _ in studio.keep.pictures.values()] == ["small", "large"]
    [slow] = [job for job in studio.engine.jobs() if job.recipe.prompt == "slow"]
    assert isinstance(slow.event, Paused) and "no time to keep" in slow.event.reason


def test_without_time_close_tells_what_it_could_not_keep(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CLOSING", -1.0)
    studio.worker.by_hand = True
    (kept,) = studio.submit("kept", steps=50)
    studio.worker.next_call()
    studio.engine.pause(kept.id)
    studio.worker.go()
    studio.events.until(kept.id, Paused)
    studio.engine.resume(kept.id)
    studio.worker.next_call()
    (lost,) = studio.submit("lost", steps=50)
    studio.worker.go()
    studio.worker.next_call()
    Closing(studio).end()
    assert "Of 2 pictures in the making, the latest steps could not be kept." in caplog.text
    of_kept, of_lost = (studio.events.of(job.id)[-1] for job in (kept, lost))
    assert isinstance(of_kept, Paused) and (of_kept.done, of_kept.picture) == (1, "picture-0")
    assert "goes on from step 1. There was no time" in of_kept.reason
    assert isinstance(of_lost, Paused) and (of_lost.done, of_lost.picture) == (0, None)
    assert "begins this picture. There was no time" in of_lost.reason


def test_close_tells_why_a_picture_cannot_be_kept_and_goes_on(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.worker.fault = fault("decode", StorageError("The disk is full."), prompt="bad")  # type: ignore[assignment]
    bad, good = studio.submit("bad", "good", steps=50)
    studio.worker.next_call()
    Closing(studio).end()
    of_bad, of_good = (studio.events.of(job.id)[-1] for job in (bad, good))
    assert isinstance(of_bad, Paused) and of_bad.picture is None and "The disk is full." in of_bad.reason
    assert isinstance(of_good, Paused) and of_good.picture


def test_close_grants_what_was_wished_before_and_finishes_what_is_drawn(studio: Studio) -> None:
    studio.worker.by_hand = True
    dropped, drawn, waiting = studio.submit("dropped", steps=9) + studio.submit("drawn", "waiting", steps=1)
    studio.worker.rows = 2
    assert studio.worker.next_call() == ["dropped", "drawn"]
    studio.engine.cancel(dropped.id)
    Closing(studio).end()
    assert isinstance(studio.events.of(dropped.id)[-1], Cancelled)
    assert isinstance(studio.events.of(drawn.id)[-1], Finished)
    paused = studio.events.of(waiting.id)[-1]
    assert isinstance(paused, Paused) and (paused.done, paused.picture) == (0, None)


def test_what_is_stopped_already_is_not_kept_again_at_the_close(studio: Studio) -> None:
    studio.worker.by_hand = studio.worker.has_disk = True
    (job,) = studio.submit("a", steps=50)
    studio.worker.next_call()
    studio.engine.pause(job.id)
    studio.worker.go()
    paused = studio.events.until(job.id, Paused)
    studio.engine.close()
    assert studio.events.of(job.id)[-1] is paused and len(studio.keep.pictures) == 1


def test_close_waits_for_a_picture_that_is_being_kept(studio: Studio) -> None:
    studio.keep.open.clear()
    (job,) = studio.submit("a", steps=1)
    studio.keep.asked.get(timeout=PATIENCE)
    closing = threading.Thread(target=studio.engine.close)
    closing.start()
    studio.keep.open.set()
    closing.join(PATIENCE)
    assert kinds(studio.events.of(job.id))[-1] is Finished


# Fairness


def test_one_picture_is_not_behind_twenty_of_somebody_else(studio: Studio) -> None:
    studio.worker.by_hand, studio.worker.rows = True, 4
    many = studio.submit(*["many"] * 20, owner="ada", steps=9)
    studio.worker.next_call()
    (one,) = studio.submit("one", owner="bob", steps=3)
    studio.worker.go()
    for _ in range(3):
        assert "one" in studio.worker.next_call()
        studio.worker.go()
    assert isinstance(studio.events.final(one.id), Finished)
    assert not any(isinstance(studio.engine.job(job.id).event, Finished) for job in many)


def test_two_people_take_turns_when_nothing_can_be_shared(studio: Studio) -> None:
    studio.worker.by_hand, studio.worker.rows = True, 1
    studio.submit("a", "a", "a", owner="ada", steps=9)
    calls = [*studio.worker.next_call()]
    studio.submit("b", owner="bob", steps=9)
    for _ in range(8):
        studio.worker.go()
        calls += studio.worker.next_call()
    assert calls[1:].count("a") == calls[1:].count("b") == 4


def test_what_somebody_had_before_is_not_held_against_them(studio: Studio) -> None:
    studio.worker.rows = 1
    (earlier,) = studio.submit("earlier", owner="ada", steps=50)
    studio.events.final(earlier.id)
    studio.worker.by_hand = True
    studio.submit("b", "b", "b", owner="bob", steps=9)
    studio.worker.next_call()
    studio.submit("a", owner="ada", steps=9)
    studio.worker.go()
    calls = []
    for _ in range(6):
        calls += studio.worker.next_call()
        studio.worker.go()
    assert calls.count("a") == 3


def test_a_resumed_job_does_not_make_up_for_its_pause(studio: Studio) -> None:
    studio.worker.by_hand, studio.worker.rows = True, 1
    (paused,) = studio.submit("a", owner="ada", steps=99)
    studio.worker.next_call()
    studio.engine.pause(paused.id)
    studio.worker.go()
    studio.events.until(paused.id, Paused)
    studio.submit("b", owner="bob", steps=99)
    for _ in range(10):
        studio.worker.next_call()
        studio.worker.go()
    studio.worker.next_call()
    studio.engine.resume(paused.id)
    studio.worker.go()
    calls = []
    for _ in range(6):
        calls += studio.worker.next_call()
        studio.worker.go()
    assert calls.count("a") == calls.count("b") == 3


def watched(studio: Studio) -> list[str]:
    """What the worker is asked for, as it happens: "begin a", "step a b", "decode a"."""
    asked: list[str] = []
    studio.worker.fault = lambda what, prompts: asked.append(" ".join([what, *prompts]))
    return asked


def between_steps(asked: list[str], what: str) -> list[int]:
    """How many calls of a kind were made before each step that is not the first."""
    kinds = [call.partition(" ")[0] for call in asked]
    steps = [place for place, kind in enumerate(kinds) if kind == "step"]
    return [kinds[before:after].count(what) for before, after in itertools.pairwise(steps)]


@pytest.mark.parametrize(("moment", "most"), [(0.0, 1), (1000.0, 4)])
def test_somebodys_picture_goes_on_while_another_begins_many(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, moment: float, most: int
) -> None:
    monkeypatch.setattr(module, "MOMENT", moment)
    studio.worker.by_hand, studio.worker.rows = True, 4
    asked = watched(studio)
    studio.submit("one", owner="bob", steps=30)
    studio.worker.next_call()
    studio.submit(*["many"] * 20, owner="ada", steps=30)
    for _ in range(25):
        studio.worker.go()
        studio.worker.next_call()
    # The newcomer may come first once; from then on the picture that was there takes part in every step.
    assert sum("one" in call for call in studio.worker.log) >= 24
    assert max(between_steps(asked, "begin")) == most and asked.count("begin many") == 20


@pytest.mark.parametrize("what", ["begin", "decode"])
def test_somebodys_picture_goes_on_while_another_has_many_short_ones(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(module, "MOMENT", 0.0)
    studio.worker.by_hand, studio.worker.rows = True, 4
    asked = watched(studio)
    (one,) = studio.submit("one", owner="bob", steps=60)
    studio.worker.next_call()
    many = studio.submit(*["many"] * 20, owner="ada", steps=1)
    studio.worker.go_freely()
    for job in (one, *many):
        assert isinstance(studio.events.final(job.id), Finished)
    assert max(between_steps(asked, what)) == 1


def test_somebodys_picture_goes_on_while_another_stops_many(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENT", 0.0)
    studio.worker.by_hand, studio.worker.rows = True, 30
    asked = watched(studio)
    many = studio.submit(*["many"] * 20, owner="ada", steps=90)
    studio.worker.next_call()
    studio.submit("one", owner="bob", steps=90)
    studio.worker.go()
    studio.worker.next_call()
    for job in many:
        studio.engine.pause(job.id)
    for _ in range(20):
        studio.worker.go()
        assert studio.worker.next_call() == ["one"], "those that shall stop take no step more"
    for job in many:
        studio.events.until(job.id, Paused)
    assert max(between_steps(asked, "decode")) == 1


def test_pictures_asked_for_together_come_into_shared_calls(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENT", 0.0)
    asked = watched(studio)
    for job in studio.submit(*"abcdefgh", owner="ada", steps=3):
        studio.events.final(job.id)
    assert [len(call) for call in studio.worker.log] == [8, 8, 8]
    assert between_steps(asked, "begin") == [0, 0]


def test_who_stops_waits_for_one_picture_to_begin_at_most(studio: Studio) -> None:
    asked: list[str] = []

    def fault(what: str, prompts: list[str]) -> None:
        asked.append(" ".join([what, *prompts]))
        if asked == ["begin a", "begin b"]:
            for job in jobs:
                studio.engine.pause(job.id)

    with studio.engine._lock:  # none begins before all are known
        jobs = studio.submit(*"abcdefgh", owner="ada", steps=3)
        studio.worker.fault = fault
    for job in jobs:
        studio.events.until(job.id, Paused)
    assert [call for call in asked if call.startswith("begin")] == ["begin a", "begin b"]


def test_newcomers_begin_in_turns(studio: Studio) -> None:
    studio.worker.by_hand, studio.worker.rows = True, 4
    asked = watched(studio)
    studio.submit("first", owner="eve", steps=9)
    studio.worker.next_call()
    studio.submit("a", "a", "a", "a", "a", owner="ada", steps=9)
    studio.submit("b", owner="bob", steps=9)
    studio.submit("c", owner="cyd", steps=9)
    studio.worker.go()
    studio.worker.next_call()
    assert [call for call in asked if call.startswith("begin")][1:] == ["begin a", "begin b", "begin c", "begin a"]


def test_of_one_owner_only_so_many_are_in_the_making(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEGUN", 2)
    studio.worker.rows = 4
    asked = watched(studio)
    jobs = studio.submit(*"abcde", owner="ada", steps=3)
    for job in jobs:
        assert isinstance(studio.events.final(job.id), Finished)
    held = set()
    for call in asked:
        what, prompt = call[:-2], call[-1]
        if what == "begin":
            held.add(prompt)
            assert len(held) <= 2
        held -= {prompt} if what == "decode" else set()


# Bounds


def test_one_owner_can_have_only_so_many_waiting(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 5)
    studio.worker.by_hand = True
    mine = studio.submit("a", "a", "a", owner="ada", steps=9)
    studio.worker.next_call()
    with pytest.raises(StudioError, match="3 of your pictures are waiting or being made, and 5 are the most"):
        studio.submit("b", "b", "b", owner="ada")
    studio.submit("b", "b", owner="ada")
    with pytest.raises(StudioError, match="stop some"):
        studio.engine.fork(mine[0].id, 0, {"prompt": "c"})
    theirs = studio.submit("c", owner="bob", steps=9)
    studio.engine.pause(mine[0].id)
    studio.worker.go()
    studio.events.until(mine[0].id, Paused)
    studio.engine.resume(mine[0].id)
    studio.engine.pause(mine[0].id)
    studio.worker.go()
    studio.events.until(mine[0].id, Paused, count=2)
    (more,) = studio.submit("d", owner="ada")
    with pytest.raises(StudioError, match="5 are the most"):
        studio.engine.resume(mine[0].id)
    assert isinstance(mine[0].event, Paused)
    studio.worker.go_freely()
    for job in (*mine[1:], *theirs, more):
        assert isinstance(studio.events.final(job.id), Finished)
    studio.engine.resume(mine[0].id)
    assert isinstance(studio.events.final(mine[0].id), Finished)


def test_when_all_places_are_taken_each_may_have_an_equal_part(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_IN_ALL", 6)
    studio.worker.by_hand = True
    studio.submit(*"aaaaaa", owner="ada", steps=9)
    studio.worker.next_call()
    with pytest.raises(StudioError, match="more than the 6 that can wait"):
        studio.submit("a", owner="ada")
    with pytest.raises(StudioError, match="Ask for fewer"):
        studio.submit(*"bbbb", owner="bob")
    studio.submit(*"bbb", owner="bob")
    studio.submit("c", owner="cyd")
    for number in range(20):
        with pytest.raises(StudioError, match="try again"):
            for _ in range(3):
                studio.submit("x", owner=f"invented {number}")


def stopped(studio: Studio, owner: str, *prompts: str) -> list[Job]:
    """Pictures of an owner that were stopped after one step."""
    studio.worker.by_hand = True
    jobs = studio.submit(*prompts, owner=owner, steps=5)
    studio.worker.next_call()
    for job in jobs:
        studio.engine.pause(job.id)
    studio.worker.go()
    for job in jobs:
        studio.events.until(job.id, Paused)
    return jobs


def test_nobodys_paused_pictures_push_out_anothers(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSED_KEPT", 3)
    monkeypatch.setattr(module, "PAUSED_IN_ALL", 5)
    (mine,) = stopped(studio, "ada", "a")
    theirs = stopped(studio, "bob", "b1", "b2", "b3", "b4")
    failed = studio.events.final(theirs[0].id)
    assert isinstance(failed, Failed) and "too many others" in failed.reason
    stopped(studio, "cyd", "c1", "c2")
    assert isinstance(studio.events.final(theirs[1].id), Failed)
    stopped(studio, "dan", "d1")
    assert isinstance(mine.event, Paused)
    studio.worker.go_freely()
    studio.engine.resume(mine.id)
    assert isinstance(studio.events.final(mine.id), Finished)


def test_nobodys_finished_pictures_push_out_anothers(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FINAL_KEPT", 3)
    monkeypatch.setattr(module, "FINAL_IN_ALL", 5)

    def finish(owner: str, count: int) -> list[Job]:
        jobs = studio.submit(*["x"] * count, owner=owner)
        for job in jobs:
            studio.events.final(job.id)
        return jobs

    mine, theirs = finish("ada", 1), finish("bob", 4)
    assert studio.engine.jobs("ada") == mine and studio.engine.jobs("bob") == theirs[1:]
    others = finish("cyd", 2)
    assert studio.engine.jobs() == [*mine, *theirs[2:], *others]


def test_the_steps_of_whoever_has_the_most_are_forgotten_first(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2500)
    made = []
    for owner in ("ada", "bob", "bob", "bob"):
        made += studio.submit("x", owner=owner)
        studio.events.final(made[-1].id)
    assert [studio.engine.remembered(job.id, 2) for job in made] == [2, 0, 0, 2]


def test_of_many_paused_pictures_the_first_go_on_from_disk(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 1)
    studio.worker.has_disk = True
    first, second = [*stopped(studio, "ada", "a"), *stopped(studio, "ada", "b")]
    stopped(studio, "bob", "c")
    studio.engine._keeper.submit(lambda: None).result(PATIENCE)
    assert [job.run is None for job in (first, second)] == [True, False]
    assert studio.engine.look_back(first.id, 1)[1].jpeg() == b"JPEG 1"
    studio.worker.log.clear()
    studio.worker.go_freely()
    for job in (first, second):
        studio.engine.resume(job.id)
        assert isinstance(studio.events.final(job.id), Finished)
    assert studio.worker.log == [["a"]] * 4 + [["b"]] * 4


def test_paused_pictures_whose_steps_are_not_on_disk_keep_what_they_hold(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD", 0)
    (job,) = stopped(studio, "ada", "a")
    studio.engine._keeper.submit(lambda: None).result(PATIENCE)
    studio.worker.go_freely()
    studio.engine.resume(job.id)
    assert isinstance(studio.events.final(job.id), Finished)
    assert len(studio.worker.log) == 5


def test_a_picture_that_went_on_meanwhile_keeps_what_it_holds(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 0)
    studio.worker.has_disk = True
    (job,) = stopped(studio, "ada", "a")
    studio.engine._keeper.submit(lambda: None).result(PATIENCE)
    paused = job.event
    studio.engine.resume(job.id)
    studio.worker.next_call()
    studio.engine._let_go(job, paused)
    assert job.run
    studio.worker.go_freely()
    assert isinstance(studio.events.final(job.id), Finished)


def test_what_is_over_cannot_be_stopped_or_continued(studio: Studio) -> None:
    studio.worker.fault = fault("begin", StudioError("No."), prompt="bad")  # type: ignore[assignment]
    finished, failed = studio.submit("good", "bad")
    (dropped,) = stopped(studio, "", "dropped")
    studio.worker.go_freely()
    studio.engine.cancel(dropped.id)
    for job, told in ((finished, "finished already"), (failed, "not in the making"), (dropped, "not in the making")):
        studio.events.final(job.id)
        for ask in (studio.engine.pause, studio.engine.resume, studio.engine.cancel):
            with pytest.raises(JobMissing, match=told):
                ask(job.id)


def test_what_is_being_saved_cannot_be_stopped(studio: Studio) -> None:
    studio.keep.open.clear()
    (job,) = studio.submit("a")
    studio.keep.asked.get(timeout=PATIENCE)
    for ask in (studio.engine.pause, studio.engine.cancel):
        with pytest.raises(JobMissing, match="being saved"):
            ask(job.id)
    studio.engine.resume(job.id)  # goes on already
    studio.keep.open.set()
    assert isinstance(studio.events.final(job.id), Finished)


def test_a_stop_that_comes_with_the_last_step_lets_the_picture_finish(studio: Studio) -> None:
    studio.worker.by_hand = True
    (job,) = studio.submit("a", steps=1)
    studio.worker.next_call()
    studio.engine.pause(job.id)
    studio.worker.go()
    assert isinstance(studio.events.final(job.id), Finished)


# Failures


def fault(what: str, error: Exception, more_than: int = 0, prompt: str = "") -> object:
    """A fault in one kind of call: with more than so many rows, or with one prompt."""
    return lambda asked, prompts: (
        error if asked == what and len(prompts) > more_than and (not prompt or prompt in prompts) else None
    )


def test_of_several_jobs_in_a_call_only_the_guilty_one_fails(studio: Studio) -> None:
    studio.worker.fault = fault("step", ValueError("secret detail"), prompt="bad")  # type: ignore[assignment]
    good, bad, fine = studio.submit("good", "bad", "fine")
    failed = studio.events.final(bad.id)
    assert isinstance(failed, Failed) and "log" in failed.reason and "secret" not in failed.reason
    assert isinstance(studio.events.final(good.id), Finished)
    assert isinstance(studio.events.final(fine.id), Finished)


@pytest.mark.parametrize("what", ["begin", "load", "decode"])
def test_an_error_of_ours_is_told_as_it_is_and_the_engine_goes_on(studio: Studio, what: str) -> None:
    prompt = "far away" if what == "load" else "bad"
    studio.worker.fault = fault(what, StudioError("A plain sentence."), prompt=prompt)  # type: ignore[assignment]
    (bad,) = studio.submit("bad", model="far away" if what == "load" else "sketchbook")
    assert studio.events.final(bad.id) == Failed(bad.id, "A plain sentence.")
    (good,) = studio.submit("good")
    assert isinstance(studio.events.final(good.id), Finished)


def test_a_batch_for_which_memory_is_short_goes_on_in_halves(studio: Studio) -> None:
    studio.worker.fault = fault("step", OutOfMemory("No room."), more_than=2)  # type: ignore[assignment]
    jobs = studio.submit("a", "b", "c", "d", "e", steps=2)
    for job in jobs:
        assert isinstance(studio.events.final(job.id), Finished)
    assert max(map(len, studio.worker.log)) == 2


def test_a_shortage_at_one_size_does_not_slow_another(studio: Studio) -> None:
    studio.worker.fault = lambda what, prompts: (
        OutOfMemory("No room.") if what == "step" and "large" in prompts and len(prompts) > 1 else None
    )
    for job in studio.submit("large", "large", steps=1, width=1024):
        studio.events.final(job.id)
    for job in studio.submit("a", "b", "c", steps=1):
        studio.events.final(job.id)
    assert sorted(studio.worker.log[-1]) == ["a", "b", "c"]


def test_a_picture_too_large_alone_waits_with_a_sentence(studio: Studio) -> None:
    studio.worker.fault = fault("step", OutOfMemory("No room. Make it smaller."))  # type: ignore[assignment]
    (job,) = studio.submit("a", steps=2)
    assert studio.events.until(job.id, Paused) == Paused(job.id, 0, 2, None, "No room. Make it smaller.")
    studio.worker.fault = lambda _what, _prompts: None
    studio.engine.resume(job.id)
    assert isinstance(studio.events.final(job.id), Finished)


def test_a_picture_that_cannot_be_kept_waits_and_is_written_on_resume(studio: Studio) -> None:
    studio.keep.error = StorageError("The disk is full.")
    (job,) = studio.submit("a", steps=3)
    assert studio.events.until(job.id, Paused) == Paused(job.id, 3, 3, None, "The disk is full.")
    studio.keep.error = None
    studio.engine.resume(job.id)
    finished = studio.events.final(job.id)
    assert isinstance(finished, Finished) and studio.keep.pictures[finished.picture][2] == 3
    assert len(studio.worker.log) == 3  # the model was not asked again


def test_writing_again_works_among_jobs_that_still_have_steps_to_take(studio: Studio) -> None:
    studio.keep.error = StorageError("The disk is full.")
    (unkept,) = studio.submit("unkept", steps=2)
    studio.events.until(unkept.id, Paused)
    studio.keep.error = None
    studio.worker.by_hand = True
    (other,) = studio.submit("other", steps=3)
    studio.worker.next_call()
    studio.engine.resume(unkept.id)
    studio.worker.go_freely()
    assert isinstance(studio.events.final(unkept.id), Finished)
    assert isinstance(studio.events.final(other.id), Finished)
    assert studio.worker.log == [["unkept"]] * 2 + [["other"]] * 3


def test_a_partial_picture_that_cannot_be_kept_says_so(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.keep.error = StorageError("The disk is full.")
    (job,) = studio.submit("a", steps=5)
    studio.worker.next_call()
    studio.engine.pause(job.id)
    studio.worker.go()
    paused = studio.events.until(job.id, Paused)
    assert isinstance(paused, Paused) and paused.picture is None and "The disk is full." in paused.reason


# Readers and disks that are slow or gone


def test_a_reader_that_fails_or_leaves_harms_nobody(studio: Studio) -> None:
    def failing(_: Event) -> None:
        raise RuntimeError("the page is gone")

    def leaving(_: Event) -> None:
        leave()

    studio.engine.subscribe(failing)
    leave = studio.engine.subscribe(leaving)
    later = Events()
    studio.engine.subscribe(later)
    (job,) = studio.submit("a")
    assert isinstance(studio.events.final(job.id), Finished)
    later.final(job.id)
    assert later.of(job.id) == studio.events.of(job.id)
    assert len(studio.keep.pictures) == 1


def test_a_picture_is_kept_when_nobody_listens_any_more(studio: Studio) -> None:
    studio.worker.by_hand = True
    gone = Events()
    leave = studio.engine.subscribe(gone)
    (job,) = studio.submit("a")
    studio.worker.next_call()
    leave()
    studio.worker.go_freely()
    studio.events.final(job.id)
    assert len(studio.keep.pictures) == 1
    assert not any(isinstance(event, FINAL) for event in gone.of(job.id))


def test_a_slow_disk_does_not_stop_the_model(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.keep.open.clear()
    studio.submit("a", steps=1)
    studio.worker.next_call()
    studio.worker.go()
    assert studio.keep.asked.get(timeout=PATIENCE) == "a"
    studio.submit("b", steps=3)
    for _ in range(3):
        assert studio.worker.next_call() == ["b"]
        studio.worker.go()
    assert not studio.keep.pictures


# Models


def test_a_model_that_is_not_loaded_waits_for_those_before_and_is_not_overtaken(studio: Studio) -> None:
    studio.worker.by_hand = True
    before = studio.submit("before", steps=2)
    studio.worker.next_call()
    other = studio.submit("other", steps=2, model="another")
    after = studio.submit("after", steps=2)
    studio.worker.go_freely()
    for job in before + other + after:
        assert isinstance(studio.events.final(job.id), Finished)
    assert studio.worker.log == [["before"]] * 2 + [["other"]] * 2 + [["after"]] * 2
    loading = [event for event in studio.events.of(other[0].id) if isinstance(event, Loading)]
    assert [(event.read, event.bytes) for event in loading] == [(0, 0), (500, 1000), (1000, 1000)]
    assert {event.model for event in loading} == {"another"}


def test_while_a_model_is_read_jobs_on_another_go_on(studio: Studio) -> None:
    studio.worker.fetched["another"] = "reading"
    studio.worker.by_hand = True
    before = studio.submit("before", steps=3)
    studio.worker.next_call()
    other = studio.submit("other", steps=2, model="another")
    after = studio.submit("after", steps=2)
    studio.worker.go_freely()
    for job in before + after:
        assert isinstance(studio.events.final(job.id), Finished)
    assert isinstance(studio.engine.job(other[0].id).event, Loading)
    studio.worker.fetched["another"] = "read"
    assert isinstance(studio.events.final(other[0].id), Finished)


def test_what_waits_for_a_model_can_be_cancelled(studio: Studio) -> None:
    studio.worker.fetched["another"] = "reading"
    (job,) = studio.submit("other", model="another")
    studio.events.until(job.id, Loading)
    studio.engine.cancel(job.id)
    assert isinstance(studio.events.final(job.id), Cancelled)


def test_jobs_are_listed_by_owner_in_their_order(studio: Studio) -> None:
    mine = studio.submit("a", "b", owner="ada") + studio.submit("c", owner="ada")
    theirs = studio.submit("d", owner="bob")
    for job in mine + theirs:
        studio.events.final(job.id)
    assert studio.engine.jobs("ada") == mine
    assert studio.engine.jobs() == mine + theirs


# Going back, and changing on the way


def test_a_fork_runs_only_what_remains(studio: Studio) -> None:
    [job] = studio.engine.submit([Recipe("a", steps=6)], "ann")
    studio.events.final(job.id)
    steps = len(studio.worker.log)
    fork = studio.engine.fork(job.id, 4, {"prompt": "b", "guidance_scale": 9.0})
    assert isinstance(studio.events.final(fork.id), Finished)
    assert len(studio.worker.log) - steps == 2
    assert (fork.owner, fork.recipe.turns) == ("ann", (Turn(4, prompt="b", guidance_scale=9.0),))
    assert [event.done for event in studio.events.of(fork.id) if isinstance(event, Step)] == [4, 5, 6]
    assert studio.keep.pictures[studio.events.final(fork.id).picture][1] == fork.recipe  # type: ignore[attr-defined]


def test_a_fork_of_steps_that_are_forgotten_runs_them_again(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 1500)
    old, new = (studio.engine.submit([Recipe(name, steps=3)])[0] for name in "ab")
    for job in (old, new):
        studio.events.final(job.id)
    assert studio.engine.remembered(new.id, 2) == 2 and studio.engine.remembered(old.id, 2) == 0
    with pytest.raises(JobMissing, match="no longer remembered"):
        studio.engine.look_back(old.id, 2)
    steps = len(studio.worker.log)
    assert isinstance(studio.events.final(studio.engine.fork(old.id, 2, {}).id), Finished)
    assert len(studio.worker.log) - steps == 3


def test_a_call_holds_as_many_as_there_is_memory_for_now(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.worker.memory_for = 2
    jobs = studio.engine.submit([Recipe(name, steps=2) for name in "abcd"])
    assert studio.worker.next_call() == ["a", "b"]
    studio.worker.memory_for = 3
    studio.worker.go()
    assert len(studio.worker.next_call()) == 3
    studio.worker.go_freely()
    for job in jobs:
        studio.events.final(job.id)


def test_looking_back(studio: Studio) -> None:
    [job] = studio.engine.submit([Recipe(steps=5)])
    studio.events.final(job.id)
    looks = [studio.engine.look_back(job.id, step) for step in (0, 3, 5)]
    assert [(kept, preview.jpeg()) for kept, preview in looks] == [(0, b"JPEG 0"), (3, b"JPEG 3"), (5, b"JPEG 5")]
    for step in (-1, 5):
        with pytest.raises(RecipeError, match="no step"):
            studio.engine.fork(job.id, step, {})
    with pytest.raises(RecipeError, match="width cannot be changed"):
        studio.engine.fork(job.id, 2, {"width": 64})
    with pytest.raises(RecipeError, match="guidance scale of 1000"):
        studio.engine.fork(job.id, 2, {"guidance_scale": 1000.0})


def test_a_change_on_the_way_is_in_the_recipe(studio: Studio) -> None:
    studio.worker.by_hand = True
    [job] = studio.engine.submit([Recipe("a", steps=5)])
    studio.worker.next_call()
    studio.worker.go()
    studio.worker.next_call()
    studio.engine.change(job.id, {"prompt": "b"})
    studio.engine.change(job.id, {"guidance_scale": 2.0})
    studio.worker.go()
    assert studio.worker.next_call() == ["b"]
    studio.worker.go_freely()
    studio.events.final(job.id)
    assert studio.worker.log == [["a"], ["a"], ["b"], ["b"], ["b"]]
    assert job.recipe == Recipe("a", steps=5, turns=(Turn(2, prompt="b", guidance_scale=2.0),))
    with pytest.raises(RecipeError, match="is finished"):
        studio.engine.change(job.id, {"prompt": "c"})


def test_a_change_that_cannot_be_made_stops_the_picture_and_loses_nothing(studio: Studio) -> None:
    studio.worker.by_hand = True
    studio.worker.fault = lambda what, prompts: RecipeError("Too long.") if what == "change" else None
    [job] = studio.engine.submit([Recipe("a", steps=5)])
    studio.worker.next_call()
    with pytest.raises(RecipeError, match="guidance scale"):
        studio.engine.change(job.id, {"guidance_scale": -1.0})
    studio.engine.change(job.id, {"prompt": "b"})
    studio.worker.go_freely()
    paused = studio.events.until(job.id, Paused)
    assert "It was not changed. Too long." in paused.reason  # type: ignore[attr-defined]
    studio.engine.resume(job.id)
    studio.events.final(job.id)
    assert job.recipe.turns == ()


def test_a_fork_of_steps_that_are_on_disk_runs_only_what_remains(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 0)
    studio.worker.has_disk = True
    [job] = studio.engine.submit([Recipe("a", steps=6)])
    finished = studio.events.final(job.id)
    studio.engine.close()  # and so what is being kept is kept
    assert list(studio.worker.stored) == [finished.picture]  # type: ignore[attr-defined]

    studio._engine = Engine(studio.worker, studio.keep)  # tomorrow
    studio.engine.subscribe(studio.events)
    again = studio.engine.recall(finished.picture, job.recipe, 6, "ann")  # type: ignore[attr-defined]
    assert again.event == Finished(again.id, finished.picture)  # type: ignore[attr-defined]
    assert studio.engine.recall(finished.picture, job.recipe, 6, "ann") is again  # type: ignore[attr-defined]
    assert studio.engine.look_back(again.id, 2)[1].jpeg() == b"JPEG 2"
    assert studio.engine.remembered(again.id, 5) == 5
    before = len(studio.worker.log)
    fork = studio.engine.fork(again.id, 4, {"prompt": "b"})
    made = studio.events.final(fork.id)
    assert len(studio.worker.log) - before == 2 and fork.owner == "ann"
    assert studio.keep.parents[made.picture] == (finished.picture, 4)  # type: ignore[attr-defined]


def test_a_stopped_picture_of_another_day_goes_on(studio: Studio) -> None:
    studio.worker.stored["kept"] = FakeRun(Recipe("a", steps=5), None, 5, 3)
    for picture, steps, reason in (("kept", 2, ""), ("forgotten", 5, "starts from the beginning")):
        job = studio.engine.recall(picture, Recipe("a", steps=5), 3)
        assert isinstance(job.event, Paused) and (job.event.done, job.event.picture) == (3, picture)
        assert reason in job.event.reason and bool(reason) == bool(job.event.reason)
        before = len(studio.worker.log)
        studio.engine.resume(job.id)
        assert isinstance(studio.events.final(job.id), Finished)
        assert len(studio.worker.log) - before == steps


def test_steps_that_cannot_be_stored_cost_only_themselves(studio: Studio) -> None:
    studio.worker.fault = fault("keep_steps", OSError("full"))  # type: ignore[assignment]
    [job] = studio.submit("a")
    assert isinstance(studio.events.final(job.id), Finished)
    [other] = studio.submit("b")
    assert isinstance(studio.events.final(other.id), Finished)


def test_a_change_is_checked_before_it_is_granted(studio: Studio) -> None:
    studio.worker.by_hand = True
    [job] = studio.submit("a")
    studio.worker.next_call()
    studio.worker.fault = lambda what, prompts: RecipeError("No such sampler.") if what == "check" else None
    with pytest.raises(RecipeError, match="No such sampler"):
        studio.engine.change(job.id, {"sampler": "Unicorn"})
    studio.worker.go_freely()
    studio.events.final(job.id)
    assert job.recipe.turns == ()


def test_a_model_that_nobody_uses_can_be_freed(studio: Studio) -> None:
    studio.worker.by_hand = True
    [job] = studio.submit("apple")
    studio.worker.next_call()
    freed = studio.engine.free("sketchbook")
    studio.worker.go()
    with pytest.raises(ModelBusy, match="A picture is being made with sketchbook"):
        freed.result(PATIENCE)
    assert studio.worker.model == "sketchbook"
    studio.worker.next_call()
    studio.engine.pause(job.id)
    studio.worker.go()
    studio.events.until(job.id, Paused)
    studio.engine.free("sketchbook").result(PATIENCE)
    assert studio.worker.model == ""
    studio.engine.resume(job.id)
    studio.worker.next_call()
    studio.worker.go_freely()
    assert isinstance(studio.events.final(job.id), Finished)
    assert studio.worker.log == [["apple"]] * 3, "it went on where it stood, with the model loaded anew"


def test_what_was_done_when_memory_ran_out_is_told_and_kept_with_the_picture(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = studio.worker.decode

    def in_tiles(run: FakeRun) -> Image.Image:
        run.notes = (*run.notes, "It was decoded in tiles.")
        return decode(run)

    def short(runs: Sequence[FakeRun]) -> None:
        step(runs)
        runs[0].notes = ("Others were let go.",)

    step = studio.worker.step
    monkeypatch.setattr(studio.worker, "decode", in_tiles)
    monkeypatch.setattr(studio.worker, "step", short)
    [job] = studio.submit("apple", steps=1)
    final = studio.events.final(job.id)
    assert isinstance(final, Finished) and final.note == "Others were let go. It was decoded in tiles."
    assert studio.keep.notes[final.picture] == final.note
    steps = [event for event in studio.events.of(job.id) if isinstance(event, Step)]
    assert [event.note for event in steps] == ["", "Others were let go."]
    again = studio.engine.recall(final.picture, job.recipe, 1, "another", final.note)
    assert isinstance(again.event, Finished) and again.event.note == final.note
