"""Numbers as people type them: with a point or a comma, in the digits of any script."""

import re
import unicodedata

_NUMBER = re.compile(r"[+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_MARKS = str.maketrans({"\u066b": ",", "\u2212": "-"})
"""The Arabic decimal mark, and the minus sign that is none of a keyboard."""


def number(text: str) -> float | None:
    """The number that was typed, None if it is none. The same rule as `numberOf` in studio/ui/page/common/numbers.js.

    A point or a comma is the decimal mark. Marks between thousands are not read, for one person's `1.024` is another
    one's `1,024`: a text with two marks is no number. Nor is one with a raised or a ringed digit: 7² is not 72.
    """
    if any(unicodedata.category(letter) == "No" for letter in text):
        return None
    plain = "".join(_digit(letter) for letter in unicodedata.normalize("NFKC", text).translate(_MARKS).strip())
    return float(plain.replace(",", ".")) if _NUMBER.fullmatch(plain) else None


def written(value: float) -> str:
    """The shortest text that stands for it: `7`, `7.5`."""
    return f"{value:.12g}"


def _digit(letter: str) -> str:
    return str(unicodedata.decimal(letter, letter))
