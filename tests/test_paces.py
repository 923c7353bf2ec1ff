"""How long pictures will take."""

import pytest

from studio.engine import paces
from studio.engine.paces import Pace
from studio.recipe.recipe import Recipe

ONE = Recipe(steps=10, guidance_scale=1)


def test_nothing_is_said_before_anything_was_measured() -> None:
    pace = Pace()
    assert pace.seconds([ONE], 4) is None
    pace.called([(ONE, 0)], 0.1)
    assert pace.seconds([ONE], 4) is None  # no picture was finished yet
    pace.ended(ONE, 0.5)
    assert pace.seconds([ONE], 4) == pytest.approx(1.5)
    assert pace.seconds([ONE, Recipe(width=512)], 4) is None and pace.seconds([Recipe(model="other")], 4) is None


def test_shared_calls_cost_what_they_were_measured_to_cost() -> None:
    pace = Pace()
    pace.called([(ONE, 0)], 0.1)
    pace.called([(ONE, 0)] * 4, 0.2)
    pace.ended(ONE, 0.0)
    assert pace.seconds([ONE] * 4, 4) == pytest.approx(2.0)
    assert pace.seconds([ONE] * 9, 4) == pytest.approx(4.0 + 1.0)  # two full calls and one alone, ten times
    assert pace.seconds([ONE] * 2, 4) == pytest.approx(10 * (0.1 + 0.1 / 3))
    assert pace.seconds([ONE] * 8, 8) == pytest.approx(4.0)  # beyond what is known, in proportion
    assert pace.seconds([Recipe(steps=10, guidance_scale=7)] * 2, 4) == pytest.approx(2.0)  # each as much as two
    half = Recipe(steps=10, guidance_scale=7, guidance_end=0.5)
    assert pace.seconds([half] * 2, 4) == pytest.approx(5 * 0.2 + 5 * (0.1 + 0.1 / 3))  # and then as much as one
    assert pace.seconds([ONE, Recipe(steps=4, guidance_scale=1)], 4) == pytest.approx(4 * (0.1 + 0.1 / 3) + 6 * 0.1)


def test_the_latest_counts_for_more_than_what_was_long_ago() -> None:
    pace = Pace()
    pace.ended(ONE, 0.0)
    for seconds in (1.0, *[0.1] * 20):
        pace.called([(ONE, 0)], seconds)
    assert pace.seconds([ONE], 4) == pytest.approx(1.0, rel=0.02)


def test_only_so_many_kinds_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paces, "KINDS", 3)
    pace = Pace()
    sizes = [Recipe(width=64 + 8 * number, guidance_scale=1) for number in range(9)]
    for each in sizes:
        pace.called([(each, 0)], 0.1)
        pace.ended(each, 0.1)
    assert [pace.seconds([each], 4) is not None for each in sizes] == [False] * 6 + [True] * 3


def test_how_long_an_end_takes_is_known_once_there_was_one() -> None:
    pace, recipe = Pace(), Recipe(width=64, height=64)
    assert pace.ending(recipe) == 0.0
    pace.ended(recipe, 4.0)
    assert pace.ending(recipe) == 4.0 and pace.ending(Recipe(width=128)) == 0.0
