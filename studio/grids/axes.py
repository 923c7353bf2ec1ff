"""Axes of a comparison: what a person types ("3-9 +1.5", "4 random", "cat, dog", "0,5; 0,7") → a grid of recipes.

An axis is one setting with several values. Up to three axes are crossed: the first gives the columns, the second the
rows, and a third puts several rows in place of each. Alternatives in the prompt itself, `a {red|blue} apple`, are axes
too, one for each pair of braces.
"""

import itertools
import math
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from studio.errors import RecipeError, about
from studio.recipe.fields import BY_NAME, MAX_PROMPT, NUMBERS, Axis
from studio.recipe.recipe import MAX_PICTURES, RANDOM_SEEDS, SEEDS, Recipe
from studio.words import tags
from studio.words.wildcards import without_weight

_OTHERS = {
    "sampler": ("Sampler", Axis("Euler, DDIM, DPM++ 2M")),
    "schedule": ("Schedule", Axis("Normal, Karras, SGM Uniform")),
    "prompt": ("Words in the prompt", Axis("cat, dog, fox (the first is what is replaced)")),
    "size": ("Size", Axis("128x128, 160x96")),
    "model": ("Model", Axis("names of models")),
    "style": ("Style", Axis("watercolor, mosaic, Claude Monet")),
    "lora": ("LoRA weight", Axis("0.2-1 +0.2 (of several: name: 0.2-1 +0.2)", "0.2-1 +0.4")),
}
"""Axes that are no number of a recipe: what they are called, and how they are compared."""

_AXES = {field.name: (field.label, field.axis) for field in NUMBERS if field.axis} | _OTHERS

LABELS = {name: label for name, (label, _) in _AXES.items()}
"""Settings that can be an axis, and what they are called."""

EXAMPLES = {name: axis.example for name, (_, axis) in _AXES.items()}
"""What could be typed for each."""

BEGINNINGS = {name: axis.beginning for name, (_, axis) in _AXES.items() if axis.beginning}
"""Values to begin with, of settings for which some suit every picture."""

NAMED = ("sampler", "schedule", "model", "style")
"""Axes whose values are names. One that does more than set a field of its own name is handed in, as `Changes`."""

Changes = Mapping[str, Callable[[Recipe, str], Recipe]]
"""Axis → what one of its names does to a recipe, for those that need more than a value of that name."""

_NUMBER = r"\d{1,20}(?:\.\d{1,6})?"
_SIGNED = rf"-?{_NUMBER}"
_RANGE = re.compile(rf"({_SIGNED})\s*(?:-|–|\.\.)\s*({_SIGNED})(?:\s*\+\s*({_NUMBER}))?")
_RANDOM = re.compile(r"(\d{1,4})\s+random(?:\s+seeds?)?", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,5})\s*[xX×✕*хХ]\s*(\d{1,5})")  # the last two are Cyrillic
_MARKS = ",;，；、"
_QUOTED = re.compile(rf"\s*[\"“„]([^\"“”„]*)[\"“”]\s*(?=[{_MARKS}]|$)")
_PLAIN = re.compile(rf"[^{_MARKS}]*")
_BRACES = re.compile(r"\{(?!\s*[\d-]+\s*\$\$|(?<=\$\{)\s*[^\W\d]\w*\s*(?:\?=|=|:))([^{}]*\|[^{}]*)\}")
"""Alternatives that are an axis: not those of which several are chosen, nor the value of a variable."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an axis: what to write beside its row or column, and what it does to a recipe."""

    label: str
    change: Callable[[Recipe], Recipe]


@dataclass(frozen=True, slots=True)
class Grid:
    """Recipes in rows. rows, columns: a label for each; a single empty one where there is no axis."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    recipes: tuple[tuple[Recipe, ...], ...]

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)


def plan(
    centre: Recipe,
    chosen: Sequence[tuple[str, str]],
    choices: Mapping[str, Sequence[str]],
    changes: Changes = MappingProxyType({}),
) -> Grid:
    """The grid around a recipe.

    chosen: names from LABELS with what was typed, in the order columns, rows, further rows. choices: the names that
    exist, for those of NAMED. changes: what these names do, if more than to be set. Raises RecipeError with a sentence.
    """
    names = [name for name, _ in chosen]
    for name in names:
        if name not in LABELS:
            raise RecipeError(f"{name!r:.40} is no setting that can be compared.")
        if names.count(name) > 1:
            raise RecipeError(f"{LABELS[name]} is chosen twice. Choose another setting for one of the axes.")
    axes = []
    for name, text in chosen:
        with about(name):
            axes.append(parse(name, text, centre, choices, changes))
    axes += alternatives(centre.prompt)
    count = math.prod(map(len, axes))
    if count > MAX_PICTURES:
        raise RecipeError(f"That makes {count:,} pictures, and {MAX_PICTURES} are the most. Take fewer values.")
    columns = axes[0] if axes else [_same()]
    rows = [_both(each) for each in itertools.product(*reversed(axes[1:]))]
    recipes = tuple(tuple(row.change(column.change(centre)).check() for column in columns) for row in rows)
    return Grid(tuple(row.label for row in rows), tuple(column.label for column in columns), recipes)


def parse(
    name: str,
    text: str,
    centre: Recipe,
    choices: Mapping[str, Sequence[str]],
    changes: Changes = MappingProxyType({}),
) -> list[Value]:
    """The values of one axis. Raises RecipeError."""
    if len(text) > MAX_PROMPT:
        raise RecipeError(f"{LABELS[name]} has {len(text):,} characters, and the most is {MAX_PROMPT:,}. Shorten it.")
    words = split(text, choices.get(name, ()) if name in NAMED else ())
    if not words:
        raise RecipeError(f"{LABELS[name]} has no values. Type some, such as {EXAMPLES[name]}.")
    if name == "prompt":
        return _replacements(words, centre)
    if name == "strength" and not centre.source:
        raise RecipeError("A strength needs a picture to start from. Send one here, or choose another setting.")
    if name in NAMED:
        values = [_named(name, word, choices.get(name, ()), changes.get(name)) for word in words]
    elif name == "lora":
        values = _weights(text, centre)
    else:
        values = [value for word in words for value in _values(name, word)]
    unique = {value.label: value for value in values}
    return list(unique.values())


def split(text: str, known: Sequence[str] = ()) -> list[str]:
    """The values in what was typed, in their order.

    Commas or semicolons separate them; where there are semicolons, a comma is a part of a value: `0,5; 0,7`. What
    stands in quotes is one value. known: the names that there are, which may hold such marks too; the longest that fits
    is meant.
    """
    pieces = list(_pieces(text))
    if not known and any(text[end : end + 1] in (";", "；") for _, end, _ in pieces if end < len(text)):
        pieces = [each for each in _joined(pieces, text) if each[2]]
    names = {_plain_name(name): name for name in known}
    longest = 1 + max((sum(map(name.count, _MARKS)) for name in known), default=0)
    found, at = [], 0
    while at < len(pieces):
        # As many pieces as make a name; one is taken in any case, known or not.
        ends = range(min(at + longest, len(pieces)), at + 1, -1)
        spans = ((end, text[pieces[at][0] : pieces[end - 1][1]]) for end in ends)
        at, word = next((each for each in spans if _plain_name(each[1]) in names), (at + 1, pieces[at][2]))
        found.append(names.get(_plain_name(word), word))
    return [each for each in found if each]


def quoted(name: str) -> str:
    """The name as `split` reads it back."""
    return f'"{name}"' if any(mark in name for mark in _MARKS) else name


def _pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """Begin, end and text of what stands between marks."""
    at = 0
    while at <= len(text):
        found = _QUOTED.match(text, at)
        piece = found or _PLAIN.match(text, at)
        assert piece  # the plain one may be empty
        yield at, piece.end(), (found[1] if found else piece[0]).strip()
        at = piece.end() + 1


def _joined(pieces: Sequence[tuple[int, int, str]], text: str) -> Iterator[tuple[int, int, str]]:
    """Pieces with only commas between them as one."""
    group: list[tuple[int, int, str]] = []
    for piece in pieces:
        group.append(piece)
        if text[piece[1] : piece[1] + 1] in (";", "；", ""):
            start, end = group[0][0], group[-1][1]
            yield start, end, piece[2] if len(group) == 1 else text[start:end].strip(f" {_MARKS}")
            group = []


def _plain_name(name: str) -> str:
    return re.sub(r"\s*,\s*", ",", name.strip().casefold())


def alternatives(prompt: str) -> list[list[Value]]:
    """An axis for each `{a|b}` in the prompt, in order."""
    axes = []
    for number, found in enumerate(_BRACES.finditer(prompt)):
        words: dict[str, int] = {}
        for place, word in enumerate(_words(found[1])):
            words.setdefault(word.strip(), place)
        axes.append([Value(word or "(nothing)", _choosing(place)) for word, place in words.items()])
        if number >= 7:
            raise RecipeError("The prompt has more than seven pairs of braces. Take fewer.")
    return axes


def _words(inside: str) -> list[str]:
    """The alternatives between braces, without the weights by which chance would choose them."""
    return [without_weight(word) for word in inside.split("|")]


def _choosing(place: int) -> Callable[[Recipe], Recipe]:
    # Each axis replaces its own braces, the first that are left; another axis may have changed the words in them.
    def chosen(recipe: Recipe) -> Recipe:
        prompt = _BRACES.sub(lambda found: [*_words(found[1]), ""][place], recipe.prompt, count=1)
        return replace(recipe, prompt=" ".join(prompt.split()))

    return chosen


def _replacements(words: Sequence[str], centre: Recipe) -> list[Value]:
    searched = words[0]
    if searched not in centre.prompt:
        raise RecipeError(f"The prompt does not say {searched[:60]!r}. The first word of the list is the one replaced.")

    def replaced(word: str) -> Callable[[Recipe], Recipe]:
        return lambda recipe: replace(recipe, prompt=recipe.prompt.replace(searched, word))

    return [Value(word, replaced(word)) for word in dict.fromkeys(words)]


def _weights(text: str, centre: Recipe) -> list[Value]:
    """Weights of a LoRA, which stands in the prompt as `<lora:name:weight>`; `name:` before the first says which."""
    there = tags.names(centre.prompt)
    if not there:
        raise RecipeError(
            "The prompt has no LoRA. Write one into it, such as <lora:name:0.8>, and its weight can vary."
        )
    asked, colon, typed = text.rpartition(":")
    asked = asked.strip().strip('"“”')
    if colon and not (named := [each for each in there if _plain_name(each) == _plain_name(asked)]):
        raise RecipeError(f"The prompt has no LoRA {asked[:60]!r}. It has: {', '.join(there)}.")
    if not colon and len(there) > 1:
        example = f"{there[0]}: 0.2-1 +0.2"
        raise RecipeError(f"The prompt has several LoRAs: {', '.join(there)}. Say which one, such as {example}.")
    lora = named[0] if colon else there[0]
    numbers = [number for word in split(typed) or [""] for number in _numbers("lora", word)]
    return [Value(f"{lora} {_plain(number)}", _weighing(lora, _plain(number))) for number in numbers]


def _weighing(lora: str, weight: str) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, prompt=tags.weighed(recipe.prompt, lora, weight))


def _values(name: str, word: str) -> list[Value]:
    if name == "size":
        return [_size(word)]
    if name in SEEDS and (found := _RANDOM.fullmatch(word)):
        count = int(found[1])
        if count > MAX_PICTURES:
            raise RecipeError(f"{count:,} random seeds are too many; {MAX_PICTURES} pictures are the most.")
        return [_number(name, Decimal(seed)) for seed in random.sample(range(RANDOM_SEEDS), count)]
    return [_number(name, number) for number in _numbers(name, word)]


def _named(name: str, word: str, choices: Sequence[str], change: Callable[[Recipe, str], Recipe] | None) -> Value:
    for choice in choices:
        if choice.lower() == word.lower():
            return Value(choice, _changing(change, choice) if change else _setting(name, choice))
    known = ", ".join(map(quoted, choices[:12])) + (" and others" if len(choices) > 12 else "")
    raise RecipeError(f"There is no {name} {word[:60]!r}. There are: {known}.")


def _setting(name: str, value: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, **{name: value})


def _changing(change: Callable[[Recipe, str], Recipe], choice: str) -> Callable[[Recipe], Recipe]:
    return lambda recipe: change(recipe, choice)


def _size(word: str) -> Value:
    if not (found := _SIZE.fullmatch(_plain_digits(word))):
        raise RecipeError(f"{word[:40]!r} is no size. Write width x height, such as 128x96.")
    width, height = int(found[1]), int(found[2])
    return Value(f"{width} × {height}", lambda recipe: replace(recipe, width=width, height=height))


def _numbers(name: str, word: str) -> list[Decimal]:
    plain = _plain_digits(word)
    if re.fullmatch(_SIGNED, plain) and _is_allowed(name, plain):
        return [Decimal(plain)]
    if not (found := _RANGE.fullmatch(plain)) or not _is_allowed(name, found[1], found[2]):
        raise RecipeError(f"{word[:40]!r} is no number or range for {LABELS[name]}. Write, say, {EXAMPLES[name]}.")
    first, last, step = Decimal(found[1]), Decimal(found[2]), Decimal(found[3] or 1)
    if not step:
        raise RecipeError(f"The range {word!r} has a step of 0 and would never end.")
    count = int(abs(last - first) / step) + 1
    if count > MAX_PICTURES:
        raise RecipeError(f"The range {word!r} has {count:,} values, and {MAX_PICTURES} pictures are the most.")
    step = step if last >= first else -step
    return [first + step * number for number in range(count)]


def _plain_digits(word: str) -> str:
    """With a point as decimal mark, and without the wide signs of Asian keyboards."""
    return unicodedata.normalize("NFKC", word).replace(",", ".").replace("\u2212", "-")


def _is_allowed(name: str, *numbers: str) -> bool:
    """Only a LoRA can weigh less than nothing."""
    return name == "lora" or not any(number.startswith("-") for number in numbers)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _number(name: str, number: Decimal) -> Value:
    is_whole = BY_NAME[name].kind == "whole"
    if is_whole and number != int(number):
        raise RecipeError(f"{LABELS[name]} takes whole numbers, not {number}.")
    value: Any = int(number) if is_whole else float(number)
    return Value(_AXES[name][1].wording.format(_plain(number)), _setting(name, value))


def _same() -> Value:
    return Value("", lambda recipe: recipe)


def _both(values: Sequence[Value]) -> Value:
    """Several values at once, the outermost first."""

    def change(recipe: Recipe) -> Recipe:
        # In the order in which the axes were made: alternatives replace the first braces that are left.
        for value in reversed(values):
            recipe = value.change(recipe)
        return recipe

    return Value(" · ".join(value.label for value in values), change)
