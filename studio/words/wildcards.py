"""Words left to chance in a prompt: `__animal__` and `{red|blue}`, chosen by the picture's seed.

    __animal__  __beings/animal__       a line of the file animal.txt, beings/animal.txt in a folder of wildcards
    __colors*__  __a/*__  __a/**__      a line of any file whose name fits; ** goes into folders too
    {red|green|blue}  {3::red|blue}     one of these; red three times as often as blue
    {2$$red|green|blue}  {1-2$$a|b}     two of them, one or two of them, with commas between
    {-2$$a|b|c}  {2-$$a|b|c}            one or two of them; two or more
    {2$$ and $$red|green|blue}          with something else between
    {2$$__colors__}                     two different lines of one file
    ${x=a {red|blue} fox} ${x} ${x}     a text with a name, chosen each time it is used
    ${x=!{red|blue}}  ${x:grey}         chosen once; what holds if nothing else was said
    __scene(x=red)__                    a line in which ${x} is red

A line can hold all of these itself. The signs are those of A1111's extension Dynamic Prompts (docs/SYNTAX.md of
adieyal/dynamicprompts). That library itself is not used: its last release is of March 2024, and it refuses or drops
what is plain text here (`50%`, `#1`, a brace that is never closed), and fails on deep nesting. Nothing here draws from
a shared source of chance: the same seed and text give the same words.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from studio.errors import RecipeError
from studio.recipe.fields import MAX_PROMPT
from studio.words import wildcard_files as files
from studio.words.wildcard_files import ENDING, TABLES, Choices

MAX_CHOICES = 1000
"""So many wildcards and choices can be made in one prompt, those inside of others included."""

MAX_DEPTH = 30
"""Wildcards within wildcards."""

_NAME = re.compile(r"__((?:[^\W_]|\*)(?:(?!__)[\w \-./\\*])*?)(?:\(([^()]{0,500})\))?__")
_SIGNS = re.compile(r"\\.|[{}|]|[^\\{}|]+|\\", re.DOTALL)
_SEVERAL = re.compile(r"\s*(?:(\d{1,3})(?:(-)(\d{1,3})?)?|-(\d{1,3}))\s*\$\$")
_WEIGHT = re.compile(r"\s*+(\d{1,9}+(?:\.\d{0,9}+)?|\.\d{1,9}+)\s*+::")
_VARIABLE = re.compile(r"\s*([^\W\d]\w{0,99})\s*(\?=|=|:|$)(!?)")
_TAG = re.compile(r"<\w+:[^<>]*>?")


class Wildcards:
    """The files in some folders. Of two with one name, that of the first folder counts; folders need not exist."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)

    def names(self) -> list[str]:
        """The names that can be written, in order."""
        return _Found(self._folders).names

    def lines(self, name: str) -> Choices:
        """The choices of a wildcard: its file's lines that are neither empty nor begin with '#'. Raises RecipeError."""
        return _Found(self._folders).lines(name)

    def resolve(self, text: str, seed: int, stream: str = "prompt") -> str:
        """The text with every wildcard and choice made.

        stream: texts of different streams choose apart from each other. Raises RecipeError if a wildcard does not
        exist, contains itself, or makes too long a prompt.
        """
        if "{" not in text and "__" not in text:
            return text
        return _Choosing(_Found(self._folders), f"{stream}:{seed}").resolved(text)


class _Found:
    """What is in the folders now. They are looked through only for what needs it."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    @cached_property
    def _below(self) -> dict[Path, list[Path]]:
        return {folder: list(files.below(folder)) for folder in self._folders}

    @cached_property
    def _lists(self) -> list[tuple[str, str, Path, Choices]]:
        """The lists in YAML and JSON files: name, the name with that of its file before, the file, and choices."""
        found = []
        for folder, paths in self._below.items():
            for path in paths:
                own = path.relative_to(folder).with_suffix("").as_posix()
                lists = files.tables(path) or {} if path.suffix in TABLES else {}
                found += [(name or own, f"{own}/{name}" if name else own, path, lists[name]) for name in lists]
        return found

    @cached_property
    def names(self) -> list[str]:
        found = set()
        for folder, paths in self._below.items():
            found |= {path.relative_to(folder).with_suffix("").as_posix() for path in paths if path.suffix == ENDING}
        found |= {name for name, *_ in self._lists}
        return sorted(name for name in found if _NAME.fullmatch(f"__{name}__"))

    def has(self, name: str) -> bool:
        return bool(self._matching(name)) if "*" in name else any(True for _ in self._named(name))

    def lines(self, name: str) -> Choices:
        if "*" in name:
            return self._of_all(name)
        for path, choices in self._named(name):
            if choices:
                return choices
            raise RecipeError(f"The wildcard file {path} is empty, or no list of words. Put one choice on each line.")
        raise RecipeError(f"There is no wildcard {name!r}. There are: {self._listing()}.{self._unread()}")

    def _named(self, name: str) -> Iterator[tuple[Path, Choices]]:
        """Where a wildcard is, and its choices; of a text file also if there are none."""
        if ".." in Path(name).parts:
            return
        for folder in self._folders:
            path = folder / f"{name}{ENDING}"
            if files.is_within(path, folder):
                yield path, files.lines(path)
        yield from ((path, choices) for own, long, path, choices in self._lists if name in (own, long))

    def _of_all(self, pattern: str) -> Choices:
        """The choices of all wildcards whose name fits, each once. Those of an empty file are none."""
        if not (matching := self._matching(pattern)):
            raise RecipeError(f"No wildcard fits {pattern!r}. There are: {self._listing()}.{self._unread()}")
        every = [next(self._named(name), (None, ()))[1] for name in matching]
        if choices := tuple(dict.fromkeys(choice for choices in every for choice in choices)):
            return choices
        raise RecipeError(f"The wildcards that fit {pattern!r} are empty. Put one choice on each line of their files.")

    def _matching(self, pattern: str) -> list[str]:
        parts = [part for part in re.split(r"(\*\*/|\*+)", pattern) if part]
        return [name for name in self.names if _fits(parts, name)]

    def _listing(self) -> str:
        where = self._folders[0] if self._folders else "a folder of wildcards"
        return ", ".join(self.names[:8]) or f"none: put files such as animal{ENDING} into {where}"

    def _unread(self) -> str:
        paths = [path for paths in self._below.values() for path in paths if path.suffix in TABLES]
        broken = next((path for path in paths if files.tables(path) is None), None)
        return f" The file {broken} could not be read: it is damaged, too large, or uses aliases." if broken else ""


def _fits(pattern: Sequence[str], name: str) -> bool:
    """Whether a name is of a pattern's parts: * is anything within a folder, ** also across folders, **/ or none."""
    ends = {0}  # where in the name what was read of the pattern can end
    for part in pattern:
        first = min(ends, default=len(name) + 1)
        if part == "*":
            ends = {end for begin in ends for end in range(begin, name.find("/", begin) + 1 or len(name) + 1)}
        elif part == "**/":
            ends |= {place + 1 for place in range(first, len(name)) if name[place] == "/"}
        elif part.startswith("**"):
            ends = set(range(first, len(name) + 1))
        else:
            ends = {begin + len(part) for begin in ends if name.startswith(part, begin)}
    return len(name) in ends


class _Choosing:
    """One resolving: counts what was chosen, so that each choice has a chance of its own, and there is an end."""

    def __init__(self, wildcards: _Found, seed: str) -> None:
        self.wildcards, self.seed = wildcards, seed
        self.chosen = self.used = self.depth = 0
        self.variables: dict[str, str] = {}

    def chance(self) -> random.Random:
        self.chosen += 1
        if self.chosen > MAX_CHOICES:
            raise RecipeError(f"The prompt has more than {MAX_CHOICES:,} choices. Take fewer.")
        return random.Random(f"{self.seed}:{self.chosen}")

    def resolved(self, text: str, within: tuple[str, ...] = ()) -> str:
        """within: the wildcards whose line this is."""
        self._deeper()
        text = self._named(self._choices(self._filled(text, within), within), within)
        self.depth -= 1
        return text

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > 2 * MAX_DEPTH:
            raise RecipeError(
                f"More than {2 * MAX_DEPTH} wildcards and variables are inside of each other. Take fewer."
            )

    # Variables

    def _filled(self, text: str, within: tuple[str, ...], inside: tuple[str, ...] = ()) -> str:
        """The text with the values of variables. inside: those whose value this is. Unknown ones stay."""
        if "${" not in text:
            return text
        closes = _closes(text)
        parts, start = [], 0
        for opened in re.finditer(r"\$\{", text):
            end = closes.get(opened.end() - 1)
            if opened.start() < start or end is None or not (found := _VARIABLE.match(text, opened.end(), end)):
                continue
            before, rest = text[start : opened.start()], text[found.end() : end]
            value = self._variable(found, rest, within, inside)
            if value is None:
                continue
            start = end + 1
            if "=" in found[2] and (not before or before[-1].isspace()):
                start += len(text[start:]) - len(text[start:].lstrip())  # one of the spaces around is enough
            parts += [before, value]
            _check_length(parts)
        return "".join([*parts, text[start:]])

    def _variable(
        self, found: re.Match[str], rest: str, within: tuple[str, ...], inside: tuple[str, ...]
    ) -> str | None:
        """What stands in place of `${…}`: nothing for a definition, None if it is to stay as it is."""
        name, sign, once = found[1], found[2], found[3]
        self.used += 1
        if self.used > MAX_CHOICES:
            raise RecipeError(f"The prompt uses variables more than {MAX_CHOICES:,} times. Take fewer.")
        if "=" in sign:
            if sign == "=" or name not in self.variables:
                given = rest.strip()
                self.variables[name] = self.resolved(given, within) if once else given
            return ""
        value = self.variables.get(name, once + rest if sign else None)
        if value is None or name in inside:
            return None
        self._deeper()
        value = self._filled(value, within, (*inside, name))
        self.depth -= 1
        return value

    # Wildcards

    def _named(self, text: str, within: tuple[str, ...]) -> str:
        """The text with a line for each name."""
        parts, start = [], 0
        tags = [found.span() for found in _TAG.finditer(text)] if "<" in text else []
        for found in _NAME.finditer(text):
            if self._is_meant(found, any(a < found.start() < b for a, b in tags)):
                name = self._checked(found[1], within)
                [line] = _picked(self.chance(), self.wildcards.lines(name))
                parts += [text[start : found.start()], self._line(line, found[2], (*within, name))]
                start = found.end()
                _check_length(parts)
        return "".join([*parts, text[start:]])

    def _is_meant(self, found: re.Match[str], in_tag: bool) -> bool:
        """Whether these underscores mean a wildcard, and are not part of a name such as <lora:my__cool__lora>."""
        text = found.string
        part = text[found.start() - 1 : found.start()].isalnum() and text[found.end() : found.end() + 1].isalnum()
        if part and in_tag:
            return False
        return not (part or in_tag) or self.wildcards.has(_path(found[1]))

    def _checked(self, told: str, within: tuple[str, ...]) -> str:
        """The name of a wildcard. Raises RecipeError if it is inside of itself, or of too many."""
        name = _path(told)
        if name in within:
            circle = " → ".join([*within[within.index(name) :], name])
            raise RecipeError(f"The wildcard {name!r} contains itself: {circle}. Take it out of one of them.")
        if len(within) == MAX_DEPTH:
            raise RecipeError(f"The wildcard {within[0]!r} leads through more than {MAX_DEPTH} others. Take fewer.")
        return name

    def _line(self, line: str, told: str | None, within: tuple[str, ...]) -> str:
        """A line with all that stands in it. told: `name=value, …`, which holds in this line alone."""
        before = self.variables
        if told:
            given = (each.partition("=") for each in told.split(","))
            self.variables = {**before, **{name.strip(): value.strip() for name, sign, value in given if sign}}
        line = self.resolved(line, within)
        if told:
            self.variables = before
        return line

    # Choices

    def _choices(self, text: str, within: tuple[str, ...]) -> str:
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
                read[start:] = [self._choice(read[start + 1 :], within)]
            else:
                read.append(_Bar(sign) if sign == "|" else sign)
        return "".join(read)

    def _choice(self, inside: list[str], within: tuple[str, ...]) -> str:
        options: list[str] = [""]
        for each in inside:
            if isinstance(each, _Bar):
                options.append("")
            else:
                options[-1] += each
        several = _SEVERAL.match(options[0])
        if len(options) == 1 and not several:
            return "{" + "".join(inside) + "}"
        if not several:
            return _picked(self.chance(), options)[0].strip()
        between, options = _parted([options[0][several.end() :], *options[1:]])
        if len(options) == 1 and (found := _NAME.fullmatch(options[0].strip())):
            # Different lines of one wildcard, instead of the same wildcard again and again.
            name = self._checked(found[1], within)
            picked = _several(self.chance(), self.wildcards.lines(name), several)
            picked = [self._line(line, found[2], (*within, name)) for line in picked]
            _check_length(picked)
        else:
            picked = _several(self.chance(), options, several)
        return between.join(option.strip() for option in picked)


class _Bar(str):
    """A bar between choices."""


def _parted(options: list[str]) -> tuple[str, list[str]]:
    """What is put between several choices, and the choices: `{2$$ and $$a|b}`. What is put there can have bars."""
    for number, option in enumerate(options):
        head, sign, rest = option.partition("$$")
        between = "|".join([*options[:number], head])
        if sign and (not number or not re.search(r"\w", between)):
            return between, [rest, *options[number + 1 :]]
    return ", ", options


def _several(chance: random.Random, options: Sequence[str], told: re.Match[str]) -> list[str]:
    """As many different ones as `told` says: 2, 1-3, 2- (or more) or -3 (up to)."""
    least, to, most, up_to = told.groups()
    low, high = int(least or 1), int(most or up_to or (len(options) if to else least))
    return _picked(chance, options, min(chance.randint(*sorted((low, high))), len(options)))


def _picked(chance: random.Random, options: Sequence[str], count: int | None = None) -> list[str]:
    """So many different options, or one, by the weights that stand before them. Raises RecipeError if all are 0."""
    found = [_WEIGHT.match(option) for option in options]
    if not any(found):
        return [chance.choice(options)] if count is None else chance.sample(options, count)
    weighed = zip(map(without_weight, options), (float(told[1]) if told else 1.0 for told in found), strict=True)
    left = [each for each in weighed if each[1]]
    if not left:
        raise RecipeError(f"All choices of {{{'|'.join(options)[:60]}}} have a weight of 0. Give one of them more.")
    picked = []
    for _ in range(1 if count is None else min(count, len(left))):
        [number] = chance.choices(range(len(left)), [weight for _, weight in left])
        picked.append(left.pop(number)[0])
    return picked


def without_weight(option: str) -> str:
    """A choice without the weight that may stand before it, `3::red`."""
    found = _WEIGHT.match(option)
    return option[found.end() :] if found else option


def _closes(text: str) -> dict[int, int]:
    """Where each brace that is closed is closed."""
    opened: list[int] = []
    pairs = {}
    for found in _SIGNS.finditer(text):
        if found[0] == "{":
            opened.append(found.start())
        elif found[0] == "}" and opened:
            pairs[opened.pop()] = found.start()
    return pairs


def _path(told: str) -> str:
    """A wildcard's name from what was typed, perhaps as on Windows."""
    return told.strip().replace("\\", "/")


def _check_length(parts: Iterable[str]) -> None:
    if sum(map(len, parts)) > MAX_PROMPT:
        raise RecipeError(f"The wildcards make a prompt of over {MAX_PROMPT:,} characters. Take fewer.")
