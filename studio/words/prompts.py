"""What can be written in a prompt beside words: weights, BREAK, words that take turns, and several prompts in one.

    (word)  (word:1.2)  [word]      more weight: times 1.1, times 1.2, divided by 1.1; nested ones multiply
    \\(  \\)  \\[  \\]  \\:  \\|  \\AND   the sign, or the word, itself
    BREAK                           what follows begins a new chunk of the text encoder
    [a|b|c]                         a in the first step, b in the second, c in the third, a in the fourth …
    [a:b:0.4]  [a:b:8]              a for the first 40% of the steps, or for 8 steps, then b
    [a:0.4]  [a::0.4]               nothing, then a; a, then nothing
    apple::2 tart::-0.5             two prompts, read apart and mixed by these weights
    a cat AND a dog :1.2            two prompts, each of which guides on its own, with its weight

The signs are those of A1111's web UI (its wiki, "Features": attention, prompt editing, alternating words) and, for the
last, Midjourney's. It is our own because compel reads other signs and weights in another way, sd_embed wants a
pipeline and mixes nothing by step, and neither tells the words of one step from those of the next.

Any text is a prompt: nothing here raises but `check`. As in A1111 a closing bracket too many is plain text, and an
opening one that is never closed weights all that follows it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from studio.errors import RecipeError

MAX_WEIGHT = 10.0
"""Weights of words beyond this, on either side of zero, count as this: all that they could do is break the picture."""

MAX_SHARE = 1000.0
"""The same for the weights of whole prompts, which count relative to each other."""

MAX_COMPOSED = 16
"""The most prompts that AND can part: each is one more sample of every model call."""

_SIGNS = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\", re.DOTALL)
_WEIGHTS = re.compile(
    r"""(?P<escaped>\\(?:[()\[\]{}:|\\]|AND\b))
    | (?P<open>[(\[])
    | :\s*+(?P<weight>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))\s*+\)
    | (?P<close>[)\]])
    | (?P<words>[^\\()\[\]:]+|[\\:])""",
    re.VERBOSE,
)
_PARTS = re.compile(r"\\.|[()\[\]]|::(?P<weight>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))?", re.DOTALL)
_NUMBER = re.compile(r"\s*+[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d{1,3})?\s*+")
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"(?<!\\)\bAND\b")
_GUIDES = re.compile(r"(?s:(.*?))(?<![:\\\s])\s*+:\s*+([+-]?(?:\d++(?:\.\d*+)?|\.\d++))\s*+")


@dataclass(frozen=True, slots=True)
class Piece:
    """Words of one weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """One of the prompts that are mixed. sections: its pieces, apart where it says BREAK; at least one section."""

    sections: tuple[tuple[Piece, ...], ...]
    weight: float = 1.0


# Which words hold at a step


def at(text: str, done: int, total: int) -> str:
    """The prompt for the step after `done` of `total` steps: alternation and scheduling resolved, all else as it is."""
    return _at(text, done, total) if "[" in text else text


def readings(text: str, total: int = 20) -> list[str]:
    """The different texts that the prompt is in the course of so many steps, each once."""
    return list(dict.fromkeys(at(text, done, total) for done in range(total)))


class _Sign(str):
    """A colon or a bar that could part what stands in square brackets."""


@lru_cache(512)
def _at(text: str, done: int, total: int) -> str:
    # What was read so far. A pair of brackets that is closed becomes one text; one that isn't stays what it was.
    read: list[str] = []
    opened: list[int] = []
    squares = 0
    for found in _SIGNS.finditer(text):
        sign = found[0]
        if sign in "([":
            opened.append(len(read))
            squares += sign == "["
            read.append(sign)
        elif sign == ")" and opened and read[opened[-1]] == "(":
            start = opened.pop()
            read[start:] = ["".join(read[start:]) + ")"]
        elif sign == "]" and squares:
            while read[opened[-1]] != "[":
                opened.pop()
            start = opened.pop()
            squares -= 1
            read[start:] = [_chosen(read[start + 1 :], done, total)]
        else:
            read.append(_Sign(sign) if sign in ":|" else sign)
    return "".join(read)


def _chosen(inside: list[str], done: int, total: int) -> str:
    """What stands in a pair of square brackets → what holds of it; the brackets stay if they choose nothing."""
    if choices := _parted(inside, "|"):
        return choices[done % len(choices)]
    parts = _parted(inside, ":")
    if not 2 <= len(parts) <= 3 or not _NUMBER.fullmatch(parts[-1]):
        return "[" + "".join(inside) + "]"
    before, after = parts[:2] if len(parts) == 3 else ("", parts[0])
    when = float(parts[-1])
    # As in A1111 a number with a point is a share up to 1.0, and all others count steps.
    if when < 1 or (when == 1 and "." in parts[-1]):
        when *= total
    return before if done < int(min(max(when, 0), total)) else after


def _parted(inside: list[str], sign: str) -> list[str]:
    """The texts between these signs; nothing if there is none."""
    parts: list[list[str]] = [[]]
    for each in inside:
        if isinstance(each, _Sign) and each == sign:
            parts.append([])
        else:
            parts[-1].append(each)
    return ["".join(part) for part in parts] if len(parts) > 1 else []


# Weights


def composed(text: str) -> tuple[tuple[str, float], ...]:
    """The prompts between the ANDs, each with its weight; one of weight 1 where there is none.

    As in A1111 (modules/prompt_parser.py, get_multicond_prompt_list) AND parts before any bracket is read, and a weight
    stands behind a colon at the end.
    """
    texts = _AND.split(text)
    if len(texts) == 1:
        return ((text, 1.0),)
    found = [(_GUIDES.fullmatch(each), each) for each in texts]
    return tuple(
        (match[1].strip(), min(max(float(match[2]), -MAX_WEIGHT), MAX_WEIGHT)) if match else (each.strip(), 1.0)
        for match, each in found
    )


@lru_cache(128)
def parse(text: str) -> tuple[Part, ...]:
    """The parts of a prompt in which nothing takes turns any more (`at`). At least one; words keep their order."""
    parts = [Part(_sections(words), weight) for words, weight in _split(text) if words.strip()]
    if len(parts) > 1:
        return tuple(parts)
    # A weight of the only part changes nothing.
    return (Part(parts[0].sections) if parts else Part(_sections(text.replace("::", ""))),)


def divisor(weights: tuple[float, ...]) -> float:
    """What the weighted sum of parts is divided by to be their mean.

    The sum of the weights, but never less than a tenth of what it would be without signs, so that parts that all but
    cancel each other out don't make the rest many times too strong.
    """
    return max(sum(weights), 0.1 * sum(map(abs, weights))) or 1.0


def check(text: str) -> None:
    """Raise RecipeError if the weights of the parts leave nothing to draw, or AND parts too many."""
    if len(composed(text)) > MAX_COMPOSED:
        raise RecipeError(f"AND parts this into {len(composed(text))} prompts. Use {MAX_COMPOSED} at most.")
    for each, _ in composed(text):
        weights = [part.weight for part in parse(each)]
        if len(weights) > 1 and sum(weights) <= 0:
            raise RecipeError(
                f"The weights of the prompt's parts add up to {sum(weights):g}. They must add up to more than 0."
            )


def weighted(text: str) -> bool:
    """Whether anything is written in the prompt that needs a text encoder to which weights can be given."""
    if _AND.search(text):
        return True
    parts = [part for reading in readings(text) for part in parse(reading)]
    many = len(parts) > len(readings(text))
    return many or any(len(part.sections) > 1 or any(p.weight != 1 for p in part.sections[0]) for part in parts)


def plain(text: str) -> str:
    """The words alone, for encoders to which weights cannot be given. A text without signs comes back as it is."""
    sections = [["".join(piece.text for piece in section) for section in part.sections] for part in parse(text)]
    parts = [each[0] if len(each) == 1 else " ".join(words.strip() for words in each) for each in sections]
    return ", ".join(part.strip() for part in parts) if len(parts) > 1 else parts[0]


def _split(text: str) -> list[tuple[str, float]]:
    """The texts between double colons, each with its weight. Those in brackets don't count."""
    if "::" not in text:
        return [(text, 1.0)]
    signs = list(_PARTS.finditer(text))
    closes = _pairs([(found.start(), found[0]) for found in signs if found[0] in ("(", ")", "[", "]")])
    parts, start, covered = [], 0, -1
    for found in signs:
        covered = max(covered, closes.get(found.start(), -1))
        if found[0].startswith("::") and found.start() > covered:
            weight = float(found["weight"] or 1)
            parts.append((text[start : found.start()], min(max(weight, -MAX_SHARE), MAX_SHARE)))
            start = found.end()
    return [*parts, (text[start:], 1.0)]


def _pairs(brackets: list[tuple[int, str]]) -> dict[int, int]:
    """Where each bracket that is closed is closed."""
    opened: dict[str, list[int]] = {"(": [], "[": []}
    pairs = {}
    for place, sign in brackets:
        if sign in opened:
            opened[sign].append(place)
        elif waiting := opened["(" if sign == ")" else "["]:
            pairs[waiting.pop()] = place
    return pairs


def _sections(text: str) -> tuple[tuple[Piece, ...], ...]:
    words: list[str] = []
    # (from the piece of this number, to the one before that, this factor)
    factors: list[tuple[int, int, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for found in _WEIGHTS.finditer(text):
        if sign := found["open"]:
            opened[sign].append(len(words))
        elif found["weight"] and opened["("]:
            factors.append((opened["("].pop(), len(words), float(found["weight"])))
        elif found["close"] == ")" and opened["("]:
            factors.append((opened["("].pop(), len(words), 1.1))
        elif found["close"] == "]" and opened["["]:
            factors.append((opened["["].pop(), len(words), 1 / 1.1))
        else:
            words += [found["escaped"][1:]] if found["escaped"] else [found[0]]
    factors += [(start, len(words), 1.1) for start in opened["("]]
    factors += [(start, len(words), 1 / 1.1) for start in opened["["]]
    return _joined(words, _multiplied(len(words), factors), text)


def _multiplied(count: int, factors: list[tuple[int, int, float]]) -> list[float]:
    weights = np.ones(count)
    with np.errstate(all="ignore"):
        for start, end, factor in factors:
            weights[start:end] *= factor
    return np.clip(np.nan_to_num(weights, nan=1.0), -MAX_WEIGHT, MAX_WEIGHT).tolist()


def _joined(words: list[str], weights: list[float], text: str) -> tuple[tuple[Piece, ...], ...]:
    """Runs of equal weight as one piece, in sections parted at BREAK, around which spaces don't count.

    As in A1111 a BREAK needs no space beside a bracket.
    """
    runs: list[list[tuple[list[str], float]]] = [[]]
    for word, weight in zip(words, weights, strict=True):
        for number, part in enumerate(_BREAK.split(word)):
            if number:
                runs.append([])
            if runs[-1] and runs[-1][-1][1] == weight:
                runs[-1][-1][0].append(part)
            elif part:
                runs[-1].append(([part], weight))
    sections = [[Piece("".join(run), weight) for run, weight in section] for section in runs]
    if len(sections) == 1:
        return (tuple(sections[0]),)
    return tuple(tuple(section) if any(piece.text.strip() for piece in section) else () for section in sections)
