"""Changes on the way, as a person writes them: `7: guidance 9`, one to a line.

    7: guidance 9
    12: prompt a red fox, 3d render
    12: negative blurry

Each line says after how many steps, and what changes: `guidance`, `prompt` or `negative`.
"""

import re
from collections.abc import Iterable
from typing import Any

from studio.errors import RecipeError
from studio.recipe import Turn

_LINE = re.compile(r"(\d{1,4})\s*:\s*(guidance|prompt|negative)\b[ \t]*(.*)", re.DOTALL)
_FIELDS = {"guidance": "guidance_scale", "prompt": "prompt", "negative": "negative_prompt"}


def parse(text: str) -> tuple[Turn, ...]:
    """The turns that are written, in the order of their steps. Raises RecipeError."""
    found: dict[int, dict[str, Any]] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        if not (match := _LINE.fullmatch(line)):
            raise RecipeError(
                f"{line[:60]!r} is no change on the way. Write, say, '7: guidance 9' or '7: prompt a cat'."
            )
        step, word, value = int(match[1]), match[2], match[3].strip()
        found.setdefault(step, {})[_FIELDS[word]] = _number(value) if word == "guidance" else value
    return tuple(Turn(step, **found[step]) for step in sorted(found))


def written(turns: Iterable[Turn]) -> str:
    """The text that `parse` reads back. A prompt of several lines becomes one."""
    lines = []
    for turn in turns:
        for word, name in _FIELDS.items():
            value = getattr(turn, name)
            if value is not None:
                text = f"{value:g}" if isinstance(value, float | int) else " ".join(value.split())
                lines.append(f"{turn.step}: {word} {text}".rstrip())
    return "\n".join(lines)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"{text[:40]!r} is no guidance scale. Write a number, such as 7.5.") from None
