"""Changes on the way, as a person writes them: `7: guidance 9`, one to a line.

    7: guidance 9
    12: prompt a red fox, 3d render
    12: negative blurry
    15: sampler Euler
    15: schedule Karras
    15: noise 0.5 seed 12

Each line says after how many steps, and what changes: `guidance`, `prompt`, `negative`, `sampler`, `schedule`, or
`noise` with the strength and the seed of fresh noise.
"""

import re
from collections.abc import Iterable
from typing import Any

from studio import numerals
from studio.errors import RecipeError
from studio.recipe.recipe import Turn

_FIELDS = {
    "guidance": "guidance_scale",
    "prompt": "prompt",
    "negative": "negative_prompt",
    "sampler": "sampler",
    "schedule": "schedule",
    "noise": "noise",
}
_LINE = re.compile(rf"(\d{{1,4}})\s*:\s*({'|'.join(_FIELDS)})\b[ \t]*(.*)", re.DOTALL)


def parse(text: str) -> tuple[Turn, ...]:
    """The turns that are written, in the order of their steps. Raises RecipeError."""
    found: dict[int, dict[str, Any]] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        if not (match := _LINE.fullmatch(line)):
            raise RecipeError(
                f"{line[:60]!r} is no change on the way. Write, say, '7: guidance 9' or '7: prompt a cat'."
            )
        step, word, value = int(match[1]), match[2], match[3].strip()
        read = {"guidance": _number, "noise": _noise}.get(word, str)
        found.setdefault(step, {})[_FIELDS[word]] = read(value)
    return tuple(Turn(step, **found[step]) for step in sorted(found))


def written(turns: Iterable[Turn]) -> str:
    """The text that `parse` reads back. A prompt of several lines becomes one."""
    return "\n".join(
        f"{turn.step}: {word} {_text(getattr(turn, name))}".rstrip()
        for turn in turns
        for word, name in _FIELDS.items()
        if getattr(turn, name) is not None
    )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.12g} seed {value[1]}"
    return f"{value:.12g}" if isinstance(value, float | int) else " ".join(value.split())


def _number(text: str) -> float:
    if (value := numerals.number(text)) is None:
        raise RecipeError(f"{text[:40]!r} is no guidance scale. Write a number, such as 7.5.")
    return value


def _noise(text: str) -> tuple[float, int]:
    strength, _, seed = text.partition(" seed ")
    value = numerals.number(strength)
    if value is None or not seed.strip().isdecimal() or len(seed) > 40:  # Python reads no thousands of digits
        raise RecipeError(f"{text[:40]!r} is no fresh noise. Write its strength and its seed, such as '0.5 seed 12'.")
    return value, int(seed)
