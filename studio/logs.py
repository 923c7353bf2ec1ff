"""The log: one line after another on the standard error stream, and no more of one kind than a person would read."""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

AT_ONCE = 10
"""Messages from one place in the program within `SPAN`; further ones are only counted."""

SPAN = 60.0
"""Seconds."""

PLACES = 1000
"""Places of which it is remembered how much they said."""


class Sparing(logging.Filter):
    """Lets through so many messages of each place in the program, so that nobody can fill a disk by being refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        # By its pattern, not by what stands in it: a name or an address would make each message another one.
        # Python's own warnings all come from one place, and say first where they were given.
        given = record.getMessage().partition(": ")[0] if record.name == "py.warnings" else ""
        place = (record.name, record.pathname, record.lineno, given)
        now = self._clock()
        since, count = self._said.get(place, (now, 0))
        if now - since >= SPAN:
            if count > AT_ONCE:
                record.msg = f"{record.getMessage()} ({count - AT_ONCE:,} more like this were left out.)"
                record.args = None
            since, count = now, 0
        self._said[place] = since, count + 1
        self._said.move_to_end(place)
        while len(self._said) > PLACES:
            self._said.popitem(last=False)
        return count < AT_ONCE


def set_up() -> None:
    """Send warnings and errors of the studio and its libraries to the standard error stream, sparingly."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(Sparing())
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
