"""Words left to chance in a prompt: `__animal__` and `{red|blue}`, chosen by the picture's seed.

    __animal__  __beings/animal__       a line of the file animal.txt, beings/animal.txt in a folder of wildcards
    {red|green|blue}                    one of these
    {2$$red|green|blue}  {1-2$$a|b}     two of them, one or two of them, with commas between
    {2$$ and $$red|green|blue}          with something else between

A line can hold all of these itself. The signs are those of A1111's extension Dynamic Prompts. Its library,
dynamicprompts, is not used: its last release is of March 2024, and it refuses or drops what is plain text here (`50%`,
`#1`, `${x}`, a brace that is never closed), and fails on deep nesting. Nothing here draws from a shared source of
chance: the same seed and text give the same words.
"""

import os
import random
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from studio import disk
from studio.errors import RecipeError
from studio.recipe import MAX_PROMPT

ENDING = ".txt"
MAX_BYTES = 4_000_000
MAX_CHOICES = 1000
"""So many wildcards and choices can be made in one prompt, those inside of others included."""

MAX_DEPTH = 30
"""Wildcards within wildcards."""

_NAME = re.compile(r"__([^\W_](?:(?!__)[\w \-./])*?)__")
_SIGNS = re.compile(r"\\.|[{}|]|[^\\{}|]+|\\", re.DOTALL)
_SEVERAL = re.compile(r"\s*(\d{1,3})(?:-(\d{1,3}))?\$\$")


class Wildcards:
    """The files in some folders. Of two with one name, that of the first folder counts; folders need not exist."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)

    def names(self) -> list[str]:
        """The names that can be written, in order."""
        found = set()
        for folder in self._folders:
            for path in folder.rglob(f"*{ENDING}") if os.path.isdir(folder) else ():
                name = path.relative_to(folder).with_suffix("").as_posix()
                if _NAME.fullmatch(f"__{name}__") and _is_within(path, folder):
                    found.add(name)
        return sorted(found)

    def lines(self, name: str) -> tuple[str, ...]:
        """The choices of a wildcard: its file's lines that are neither empty nor begin with '#'. Raises RecipeError."""
        for folder in self._folders:
            path = folder / f"{name}{ENDING}"
            if ".." in Path(name).parts or not _is_within(path, folder):
                continue
            state = path.stat()
            if lines := _lines(path, state.st_size, state.st_mtime_ns):
                return lines
            raise RecipeError(f"The wildcard file {path} is empty, or no list of words. Put one choice on each line.")
        known = ", ".join(self.names()[:8]) or f"none: put files such as animal{ENDING} into {self._where()}"
        raise RecipeError(f"There is no wildcard {name!r}. There are: {known}.")

    def resolve(self, text: str, seed: int, stream: str = "prompt") -> str:
        """The text with every wildcard and choice made.

        stream: texts of different streams choose apart from each other. Raises RecipeError if a wildcard does not
        exist, contains itself, or makes too long a prompt.
        """
        if "{" not in text and "__" not in text:
            return text
        return _Choosing(self, f"{stream}:{seed}").resolved(text)

    def _where(self) -> str:
        return str(self._folders[0]) if self._folders else "a folder of wildcards"


class _Choosing:
    """One resolving: counts what was chosen, so that each choice has a chance of its own, and there is an end."""

    def __init__(self, wildcards: Wildcards, seed: str) -> None:
        self.wildcards, self.seed = wildcards, seed
        self.chosen = 0

    def chance(self) -> random.Random:
        self.chosen += 1
        if self.chosen > MAX_CHOICES:
            raise RecipeError(f"The prompt has more than {MAX_CHOICES:,} choices. Take fewer.")
        return random.Random(f"{self.seed}:{self.chosen}")

    def resolved(self, text: str, within: tuple[str, ...] = ()) -> str:
        """within: the wildcards whose line this is."""
        return self._named(self._choices(text), within)

    def _named(self, text: str, within: tuple[str, ...]) -> str:
        """The text with a line for each name."""
        parts, start, length = [], 0, 0
        for found in _NAME.finditer(text):
            name = found[1].strip()
            if name in within:
                circle = " → ".join([*within[within.index(name) :], name])
                raise RecipeError(f"The wildcard {name!r} contains itself: {circle}. Take it out of one of them.")
            if len(within) == MAX_DEPTH:
                raise RecipeError(f"The wildcard {within[0]!r} leads through more than {MAX_DEPTH} others. Take fewer.")
            lines = self.wildcards.lines(name)
            line = self.resolved(self.chance().choice(lines), (*within, name))
            parts += [text[start : found.start()], line]
            start, length = found.end(), length + len(line)
            if length > MAX_PROMPT:
                raise RecipeError(f"The wildcards make a prompt of over {MAX_PROMPT:,} characters. Take fewer.")
        return "".join([*parts, text[start:]])

    def _choices(self, text: str) -> str:
        """The text with one of each pair of braces. Braces without a bar, or never closed, stay."""
        # What was read so far, and where in it the braces are that are still open.
        read: list[str] = []
        opened: list[int] = []
        for found in _SIGNS.finditer(text):
            sign = found[0]
            if sign == "{":
                opened.append(len(read))
            if sign == "}" and opened:
                start = opened.pop()
                read[start:] = [self._choice(read[start + 1 :])]
            else:
                read.append(_Bar(sign) if sign == "|" else sign)
        return "".join(read)

    def _choice(self, inside: list[str]) -> str:
        options: list[str] = [""]
        for each in inside:
            if isinstance(each, _Bar):
                options.append("")
            else:
                options[-1] += each
        several = _SEVERAL.match(options[0])
        if len(options) == 1 and not several:
            return "{" + "".join(inside) + "}"
        chance = self.chance()
        if not several:
            return chance.choice(options).strip()
        options[0] = options[0][several.end() :]
        between, sign, rest = options[0].partition("$$")
        if sign:
            options[0] = rest
        low, high = sorted((int(several[1]), int(several[2] or several[1])))
        count = min(chance.randint(low, high), len(options))
        picked = [option.strip() for option in chance.sample(options, count)]
        return (between if sign else ", ").join(picked)


class _Bar(str):
    """A bar between choices."""


def _is_within(path: Path, folder: Path) -> bool:
    """Whether there is a file, and in the folder: neither dots nor links lead out of it."""
    # `is_file` of a path fails where a name is too long.
    return os.path.isfile(path) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@lru_cache(32)
def _lines(path: Path, size: int, changed: int) -> tuple[str, ...]:
    """The choices in a file of this size and time, none if it is no list of words."""
    try:
        text = disk.content(path, MAX_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return ()
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
