"""Who comes next among several owners, and who gives way."""

from dataclasses import dataclass

import pytest

from studio.engine.shares import in_turns, surplus


@dataclass(frozen=True)
class Thing:
    owner: str
    number: int
    weight: int = 1


def things(owners: str) -> list[Thing]:
    return [Thing(owner, number) for number, owner in enumerate(owners)]


def told(some: list[Thing]) -> str:
    return " ".join(f"{thing.owner}{thing.number}" for thing in some)


@pytest.mark.parametrize(
    ("owners", "order"),
    [("", ""), ("aaa", "a0 a1 a2"), ("aaab", "a0 b3 a1 a2"), ("babaca", "b0 a1 c4 b2 a3 a5")],
)
def test_owners_take_turns(owners: str, order: str) -> None:
    assert told(in_turns(things(owners))) == order


@pytest.mark.parametrize(
    ("owners", "each", "whole", "gone"),
    [
        ("", 0, 0, ""),
        ("aabb", 2, 4, ""),
        ("aaab", 2, 9, "a0"),
        ("aaabbb", 2, 9, "a0 b3"),
        ("baaaa", 9, 3, "a1 a2"),
        ("bbaaaa", 9, 2, "a2 a3 b0 a4"),
        ("ab", 0, 9, "a0 b1"),
    ],
)
def test_whoever_has_the_most_loses_their_oldest(owners: str, each: int, whole: int, gone: str) -> None:
    assert told(surplus(things(owners), each, whole)) == gone


def test_it_is_counted_by_weight() -> None:
    some = [Thing("a", 0, 5), Thing("b", 1, 2), Thing("b", 2, 2), Thing("a", 3, 3)]
    assert told(surplus(some, 99, 7, lambda thing: thing.weight)) == "a0"
