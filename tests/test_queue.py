"""Who comes next: the table of situations that the engine decides in."""

from dataclasses import replace

import pytest

from studio.engine.job import Job
from studio.engine.queue import Situation, choose
from studio.recipe.recipe import Recipe
from tests.fakes import FakeRun

HERE = Situation({"a"})


def job(number: int, owner: str = "ada", model: str = "a", done: int | None = 0, tick: int = 0, key: str = "") -> Job:
    """A job of three steps. done: None if it has not begun. key: of calls that it can share."""
    recipe = Recipe(model=model, steps=3)
    made = Job(recipe, owner, "clean", number)
    made.run = None if done is None else FakeRun(recipe, key or model, 3, done)
    made.tick = tick
    return made


def numbers(jobs: list[Job]) -> list[int]:
    return [each.number for each in jobs]


@pytest.mark.parametrize(
    ("jobs", "now", "chosen"),
    [
        ([], HERE, []),
        # All that can share a call step together, those who waited longest first.
        ([job(1), job(2), job(3)], HERE, [1, 2, 3]),
        ([job(1, tick=5), job(2, tick=4), job(3, tick=5)], HERE, [2, 1, 3]),
        ([job(1), job(2, key="large"), job(3)], HERE, [1, 3]),
        ([job(1, tick=1), job(2, key="large"), job(3, tick=1)], HERE, [2]),
        # Whoever was served least leads, however long the others have waited.
        ([job(1, "ada"), job(2, "bob", key="large")], replace(HERE, served={"ada": 4, "bob": 2}), [2]),
        # Steps, and beginning and ending, take turns.
        ([job(1), job(2, done=None)], replace(HERE, stepped=False), [1]),
        ([job(1), job(2, done=None)], replace(HERE, stepped=True), [2]),
        ([job(1), job(2, done=3)], replace(HERE, stepped=True), [2]),
        ([job(1)], replace(HERE, stepped=True), [1]),
        # What is drawn is ended before others are begun, and no more than share a call.
        ([job(1, done=None), job(2, done=3), job(3, done=None)], replace(HERE, rows=2), [2, 1]),
        # Owners begin in turns, and none has more than so many in the making.
        ([job(1, done=None), job(2, done=None), job(3, "bob", done=None)], HERE, [1, 3, 2]),
        ([job(1), job(2, done=None), job(3, "bob", done=None)], replace(HERE, stepped=True, begun=1), [3]),
        # A model that is not there lets those before it finish, and is not overtaken by those after it.
        ([job(1), job(2, model="b", done=None), job(3)], HERE, [1]),
        ([job(2, model="b", done=None), job(3)], HERE, []),
        # While it is read, the others go on; once it is read, its job comes first.
        ([job(1), job(2, model="b", done=None), job(3)], replace(HERE, awaited="b", state="reading"), [1, 3]),
        ([job(1), job(2, model="b", done=None), job(3)], replace(HERE, awaited="b", state="read"), [2]),
        ([job(1), job(2, model="b", done=None), job(3)], replace(HERE, awaited="c", state="read"), [1]),
        # Jobs of two models are never begun in one tick.
        ([job(1, done=None), job(2, model="b", done=None)], Situation({"a", "b"}), [1]),
    ],
)
def test_who_comes_next(jobs: list[Job], now: Situation, chosen: list[int]) -> None:
    assert numbers(choose(jobs, now)) == chosen
    assert numbers(choose(jobs[::-1], now)) == chosen, "the order in which they are given does not matter"
