"""Who comes next, and who gives way: what is shared out among owners, by counting alone."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Owned(Protocol):
    """Something of somebody's."""

    @property
    def owner(self) -> str: ...


T = TypeVar("T", bound=Owned)


def in_turns(things: Sequence[T]) -> list[T]:
    """The first of each owner, then the second of each, and so on; owners in the order in which they come."""
    seen: Counter[str] = Counter()
    turns = []
    for thing in things:
        turns.append(seen[thing.owner])
        seen[thing.owner] += 1
    # Sorting keeps the order of those that are equal.
    return [thing for _, thing in sorted(zip(turns, things, strict=True), key=lambda pair: pair[0])]


def surplus(things: Sequence[T], each: int, whole: int, weight: Callable[[T], int] = lambda thing: 1) -> list[T]:
    """Which of these, given oldest first, must go so that no owner has more than `each`, and all have at most `whole`.

    Whoever has the most loses their oldest: nobody gives way to somebody who has more.
    """
    queues: dict[str, deque[tuple[T, int]]] = defaultdict(deque)
    had: Counter[str] = Counter()
    for thing in things:
        queues[thing.owner].append((thing, weight(thing)))
        had[thing.owner] += queues[thing.owner][-1][1]
    total, gone = had.total(), []
    while had and (had[most := max(had, key=had.__getitem__)] > each or total > whole):
        thing, weighs = queues[most].popleft()
        had[most] -= weighs
        total -= weighs
        gone.append(thing)
        if not queues[most]:
            del had[most]
    return gone
