"""Who comes next, and who gives way: what is shared out among owners, by counting alone."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Owned(Protocol):
    """Something of somebody's."""

    @property
    def owner(self) -> str: ...


T = TypeVar("T", bound=Owned)


def share_of(owner: str) -> str:
    """Whose share an owner's things count to: their own, or, after a "~", one that they have together with others."""
    return owner.partition("~")[2] or owner


def in_turns(things: Sequence[T]) -> list[T]:
    """The first of each share, then the second of each, and so on; shares in the order in which they come."""
    seen: Counter[str] = Counter()
    turns = []
    for thing in things:
        share = share_of(thing.owner)
        turns.append(seen[share])
        seen[share] += 1
    # Sorting keeps the order of those that are equal.
    return [thing for _, thing in sorted(zip(turns, things, strict=True), key=lambda pair: pair[0])]


def surplus(things: Sequence[T], each: int, whole: int, weight: Callable[[T], int] = lambda thing: 1) -> list[T]:
    """Which of these, given oldest first, must go so that no share has more than `each`, and all have at most `whole`.

    Whoever has the most loses their oldest: nobody gives way to somebody who has more.
    """
    queues: dict[str, deque[tuple[T, int]]] = defaultdict(deque)
    had: Counter[str] = Counter()
    for thing in things:
        share, weighs = share_of(thing.owner), weight(thing)
        queues[share].append((thing, weighs))
        had[share] += weighs
    total, gone = had.total(), []
    while had and (had[most := max(had, key=had.__getitem__)] > each or total > whole):
        thing, weighs = queues[most].popleft()
        had[most] -= weighs
        total -= weighs
        gone.append(thing)
        if not queues[most]:
            del had[most]
    return gone
