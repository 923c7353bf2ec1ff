"""A recipe: all that decides a picture, and nothing else.

Two equal recipes give the same picture on the same device and dtype, so a recipe is what is stored in a
picture's file, sent by the page and handed to the engine.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Self

from studio.errors import RecipeError

VERSION = 1
"""The version written into JSON. Readers accept this one and older."""

MAX_SEED = 2**53 - 1
"""The largest whole number that a web page holds exactly."""

MAX_SIDE = 4096
MAX_STEPS = 500
MAX_GUIDANCE = 100.0
MAX_PROMPT = 10_000
MAX_PICTURES = 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """One picture.

    prompt, negative_prompt: what to draw and what to keep away from, up to 10,000 characters each.
    model: a name from the catalog.
    width, height: pixels, multiples of 8, from 64 to 4096.
    steps: 1 to 500 steps of the sampler.
    guidance_scale: 0 to 100; 1 means "no guidance" (Ho & Salimans, arXiv:2207.12598).
    sampler: a label from `studio.samplers`.
    seed: 0 to 2**53 - 1; decides the starting noise and all noise added later.
    """

    prompt: str = ""
    negative_prompt: str = ""
    model: str = "sketchbook"
    width: int = 128
    height: int = 128
    steps: int = 20
    guidance_scale: float = 5.0
    sampler: str = "DPM++ 2M"
    seed: int = 0

    def check(self) -> Self:
        """Return self if every value is in its range; otherwise raise RecipeError with a sentence for each fault."""
        if faults := _faults(self):
            raise RecipeError(" ".join(faults))
        return self

    def to_json(self) -> str:
        """JSON text with a version number."""
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s text. Raises RecipeError if it is not a recipe, or is one of a later version.

        Names that are missing take their default, so that recipes of older versions stay readable.
        """
        try:
            values = json.loads(text)
            version = values.pop("version")
        except (ValueError, AttributeError, KeyError, TypeError):
            raise RecipeError("That is not a recipe of Emerge Studio.") from None
        if not isinstance(version, int) or version > VERSION:
            raise RecipeError(
                f"This recipe has version {version}, and this studio reads up to version {VERSION}: "
                "it was made by a newer Emerge Studio."
            )
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Make a checked recipe from loose values (JSON, a form). Whole floats become ints, unknown names raise."""
        unknown = values.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise RecipeError(f"A recipe has no setting named {', '.join(sorted(map(repr, unknown)))}.")
        return cls(**{name: _as_field(name, value) for name, value in values.items()}).check()


_TEXT = {"prompt", "negative_prompt", "model", "sampler"}
_WHOLE = {"width", "height", "steps", "seed"}


def _as_field(name: str, value: Any) -> Any:
    if name in _TEXT:
        if not isinstance(value, str):
            raise RecipeError(f"The {_word(name)} must be text, not {value!r}.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"The {_word(name)} must be a number, not {value!r}.")
    if isinstance(value, int) and abs(value) > 2**63:
        raise RecipeError(f"The {_word(name)} is out of range.")
    if name not in _WHOLE:
        return float(value)
    if not math.isfinite(value) or value != int(value):
        raise RecipeError(f"The {_word(name)} must be a whole number, not {value}.")
    return int(value)


def _word(name: str) -> str:
    return name.replace("_", " ")


def _faults(recipe: Recipe) -> list[str]:
    faults = [
        f"The {name} of {pixels} pixels is not possible. Use a multiple of 8 from 64 to {MAX_SIDE}."
        for name, pixels in (("width", recipe.width), ("height", recipe.height))
        if pixels % 8 or not 64 <= pixels <= MAX_SIDE
    ]
    if not 1 <= recipe.steps <= MAX_STEPS:
        faults.append(f"{recipe.steps:,} steps cannot be run. Use 1 to {MAX_STEPS}.")
    if not 0 <= recipe.guidance_scale <= MAX_GUIDANCE:
        faults.append(f"A guidance scale of {recipe.guidance_scale:g} makes no picture. Use 0 to {MAX_GUIDANCE:g}.")
    if not 0 <= recipe.seed <= MAX_SEED:
        faults.append(f"The seed {recipe.seed} is out of range. Use 0 to {MAX_SEED}.")
    for name, text in (("prompt", recipe.prompt), ("negative prompt", recipe.negative_prompt)):
        if len(text) > MAX_PROMPT:
            faults.append(f"The {name} has {len(text):,} characters, and the most is {MAX_PROMPT:,}. Shorten it.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            faults.append(f"The {name} holds half a character. Type it anew.")
    return faults
