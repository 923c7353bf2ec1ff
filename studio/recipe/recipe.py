"""A recipe: all that decides a picture, and nothing else.

Two equal recipes give the same picture on the same device and dtype, so a recipe is what is stored in a
picture's file, sent by the page and handed to the engine.
"""

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Self

from studio.errors import RecipeError, about
from studio.recipe.fields import BY_NAME, MAX_PROMPT, MAX_SEED, MAX_STEPS, NUMBERS

VERSION = 7
"""The version written into JSON. Readers accept this one and older."""

AUTOMATIC = "Automatic"
"""The schedule that suits the sampler and the model."""

AS_PUBLISHED = "As published"
"""The schedule of the model's published config and nothing else: what every recipe before version 6 was drawn with."""

MAX_EXACT = 2**53 - 1
"""The largest whole number that a web page holds exactly."""

MAX_PICTURES = 64

ROUNDING = 1e-6
"""What a product of steps and a share may lack of a whole number: in binary 100 x 0.29 is a little less than 29."""

RANDOM_SEEDS = 2**32
"""Random seeds stay below this, which other programs can use too."""

SEEDS = ("seed", "variation_seed")

SOURCE_NAME = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})-[0-9a-f]{24}")
"""What start pictures and masks are called in `pictures.sources`: their size, and a part of their pixels' hash."""

MAX_CONTROLS = 8

KINDS = ("none", "canny", "scribble", "tile", "depth", "ip-adapter")
"""What a control makes of its picture before a model reads it (`pictures.controls`); "ip-adapter" reads it as it is."""

FILL = re.compile(r"original|noise|blur|#[0-9a-f]{6}")
"""What can be put under a mask before denoising."""


def size_of(name: str) -> tuple[int, int]:
    """Width and height of a start picture or a mask, from its name. Raises RecipeError."""
    if not (match := SOURCE_NAME.fullmatch(name)):
        raise RecipeError(f"{name[:60]!r} is not the name of a start picture.")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, slots=True)
class Turn:
    """A change on the way: what holds after `step` of the steps that are run. None leaves a value as it was.

    sampler, schedule: another one goes on at the same step of its own timetable of as many steps. The latents are taken
    apart into the predicted clean picture and the noise, and mixed again as that timetable has them there.
    noise: strength s, above 0 and up to 1, and the seed of fresh unit noise n, which is drawn as a starting noise is.
    The noise e that is in the latents becomes sqrt(1 - s²) e + s n, so it is as much as before, and the sampler starts
    anew from there. At step 0 it is the starting noise that is mixed.
    """

    step: int
    prompt: str | None = None
    negative_prompt: str | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    noise: tuple[float, int] | None = None
    schedule: str | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The values that it changes, by name."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name != "step" and value is not None}


@dataclass(frozen=True, slots=True)
class Control:
    """A picture that guides the drawing through a model of its own: a ControlNet, or an IP-Adapter.

    model: its name among the add-ons. picture: a name from `pictures.sources`. kind: one of KINDS. weight: 0 to 2.
    start, end: 0 to 1, the share of the steps at which it begins and ends.
    """

    model: str
    picture: str
    kind: str = "none"
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """One picture.

    prompt, negative_prompt: what to draw and what to keep away from, up to 10,000 characters each.
    model: a name from the catalog.
    width, height: pixels, multiples of 8, from 64 to 4096.
    steps: 1 to 500 steps of the sampler.
    guidance_scale: 0 to 100; 1 means "no guidance" (Ho & Salimans, arXiv:2207.12598).
    guidance_end: 0 to 1, the share of the steps that are guided. Those after it cost half and follow the prompt alone,
    so that a high scale does not burn the details (Kynkäänniemi et al., arXiv:2404.07724). A turn after it that names a
    scale begins guidance anew. Without effect where the model takes no negative prompt.
    guidance_rescale: 0 to 1, the share that is taken back of the contrast which guidance adds (Lin et al.,
    arXiv:2305.08891, section 3.4); None means as the model is made for.
    sampler: a label from `studio.families.samplers`. schedule: how its noise levels are spread, a label from there too.
    seed: 0 to 2**64 - 1; decides the starting noise and all noise added later.
    variation_seed, variation_strength: another seed, and how far from 0 (not at all) to 1 (wholly) the starting noise
    is turned towards that seed's (`studio.drawing.torch_run.between`): a picture like this one, but not the same.
    source: name of the picture to start from (`pictures.sources`); empty means from noise alone. Without a mask it has
    the recipe's own size; with one the result has the source's size.
    mask: name of a mask as large as the source: 0 keeps a pixel, 255 lets it change wholly, and what lies between lets
    it change in the last steps only (differential diffusion, Levin & Fried, arXiv:2306.00950).
    strength: 0 to 1, the share of the steps that is really run on the source. At 0 none is: the source goes through the
    model's autoencoder and back.
    fill: what is put under the mask first: "original" (nothing), "noise", "blur" of the surroundings, or "#rrggbb".
    box: left, top, right and bottom, in pixels of the source, of the part that is worked on at width x height and
    pasted back; None is all of it.
    turns: what was changed on the way, in the order of their steps.
    vae: name of the autoencoder; empty means the model's own.
    clip_skip: 1 to 12, which layer of CLIP is read, counted from the last, as stable-diffusion-webui and Forge count.
    SDXL was trained on the last but one, so there 1 is the same as 2.
    controls: pictures that guide the drawing, at most 8.

    LoRAs have no field: they stand in the prompt, `<lora:name:0.8>` (`studio.words.tags`).
    """

    prompt: str = ""
    negative_prompt: str = ""
    model: str = "sketchbook"
    width: int = 256
    height: int = 256
    steps: int = 20
    guidance_scale: float = 5.0
    guidance_end: float = 1.0
    guidance_rescale: float | None = None
    sampler: str = "DPM++ 2M"
    schedule: str = AUTOMATIC
    seed: int = 0
    variation_seed: int = 0
    variation_strength: float = 0.0
    source: str = ""
    mask: str = ""
    strength: float = 1.0
    fill: str = "original"
    box: tuple[int, int, int, int] | None = None
    turns: tuple[Turn, ...] = ()
    vae: str = ""
    clip_skip: int = 1
    controls: tuple[Control, ...] = ()

    def at(self, step: int) -> Self:
        """The recipe with what holds after so many steps: prompts, guidance, sampler, schedule; without turns."""
        values: dict[str, Any] = {"turns": ()}
        for turn in self.turns:
            if turn.step <= step:
                values |= turn.changes
        values.pop("noise", None)  # happens once, and does not hold
        return dataclasses.replace(self, **values)

    def guides(self, step: int) -> bool:
        """Whether the step after so many is guided: up to guidance's end, and after a turn behind it with a scale."""

        def ended(step: int) -> bool:
            return step + 1 > self.guidance_end * self.steps_run + ROUNDING

        turns = (turn.step for turn in self.turns if turn.guidance_scale is not None)
        return not ended(step) or any(each <= step and ended(each) for each in turns)

    def turn(self, step: int) -> Turn:
        """What changes after exactly so many steps, which may be nothing."""
        return next((turn for turn in self.turns if turn.step == step), Turn(step))

    def turned(self, step: int, changes: dict[str, Any]) -> Self:
        """The recipe as far as `step`, and changed from there on. Raises RecipeError for what cannot be changed."""
        known = {field.name for field in dataclasses.fields(Turn)} - {"step"}
        if unknown := changes.keys() - known:
            raise RecipeError(f"The {_word(min(unknown))} cannot be changed on the way.")
        before = tuple(turn for turn in self.turns if turn.step < step)
        now = dataclasses.replace(self, turns=before)
        held = dataclasses.asdict(now.at(step))
        wanted = {**self.turn(step).changes, **changes}
        wanted = {name: value if value is None else _as_field(name, value) for name, value in wanted.items()}
        new = {name: value for name, value in wanted.items() if value != held.get(name)}
        return dataclasses.replace(now, turns=(*before, Turn(step, **new))) if new else now

    @property
    def steps_run(self) -> int:
        """How many of the steps are run: with a source the last `strength` of them, rounded down.

        The same sum as `stepsRun` in studio/ui/page/common/words.js.
        """
        return int(self.steps * self.strength + ROUNDING) if self.source else self.steps

    @property
    def part(self) -> tuple[int, int, int, int]:
        """With a mask, the box of the source that is worked on."""
        return self.box or (0, 0, *size_of(self.source))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the finished picture."""
        return size_of(self.source) if self.mask else (self.width, self.height)

    def check(self) -> Self:
        """Return self if every value is in its range; otherwise raise RecipeError with a sentence for each fault."""
        if faults := _faults(self):
            raise RecipeError(" ".join(sentence for _, sentence in faults), *(field for field, _ in faults if field))
        return self

    def sets(self, name: str) -> bool:
        """Whether this setting has another value than a recipe begins with."""
        return bool(getattr(self, name) != self.__dataclass_fields__[name].default)

    def to_json(self) -> str:
        """JSON text with a version number."""
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}, ensure_ascii=False)

    def for_page(self) -> dict[str, Any]:
        """The values by name, for a web page: seeds that it would round are text, which `from_values` reads."""
        values = dataclasses.asdict(self)
        for name in SEEDS:
            values[name] = _exact(values[name])
        for turn in values["turns"]:
            turn["noise"] = turn["noise"] and (turn["noise"][0], _exact(turn["noise"][1]))
        return values

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s text. Raises RecipeError if it is not a recipe, or is one of a later version.

        Names that are missing take their default, so that recipes of older versions stay readable. Those before
        version 6 had no schedule, and keep the one that they were drawn with; those before version 7 keep their steps,
        and AND as the word that it was.
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
        found = cls.from_values(values if version >= 6 else {"schedule": AS_PUBLISHED, **values})
        return found if version >= 7 else found._as_before_7()

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Make a checked recipe from loose values (JSON, a form). Whole floats become ints, unknown names raise."""
        unknown = values.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise RecipeError(f"A recipe has no setting named {', '.join(sorted(map(repr, unknown)))}.")
        return cls(**{name: _as_setting(name, value) for name, value in values.items()}).check()

    def _as_before_7(self) -> Self:
        """As drawn then: a step was lost where the product was rounded below a whole number, and AND was a word."""
        run = int(self.steps * self.strength)
        strength = self.strength if run == self.steps_run else run / self.steps
        turns = tuple(dataclasses.replace(turn, prompt=turn.prompt and _with_word(turn.prompt)) for turn in self.turns)
        return dataclasses.replace(self, strength=strength, prompt=_with_word(self.prompt), turns=turns)


def _with_word(prompt: str) -> str:
    return re.sub(r"\bAND\b", r"\\AND", prompt)


_TEXT = {"picture", "kind", *(name for name, field in BY_NAME.items() if field.kind == "text")}
"""Values that are text, those of a control too."""

Fault = tuple[str, str]
"""The setting that is wrong ("" if none by itself is), and a sentence on it."""


def _as_setting(name: str, value: Any) -> Any:
    with about(name):
        return _as_field(name, value)


def _as_field(name: str, value: Any) -> Any:
    if name in _TEXT:
        if not isinstance(value, str):
            raise RecipeError(f"The {_word(name)} must be text, not {value!r}.")
        return value
    if name == "box":
        return _as_box(value)
    if name == "turns":
        return _as_turns(value)
    if name == "noise":
        return _as_noise(value)
    if name == "controls":
        return _as_controls(value)
    field = BY_NAME.get(name)
    if field and field.optional and value is None:
        return None
    if name in SEEDS and isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"The {_word(name)} must be a number, not {value!r}.")
    if isinstance(value, int) and abs(value) > 2**64:
        raise RecipeError(f"The {_word(name)} is out of range.")
    if not field or field.kind != "whole":
        return float(value)
    if not math.isfinite(value) or value != int(value):
        raise RecipeError(f"The {_word(name)} must be a whole number, not {value}.")
    return int(value)


def _exact(number: int) -> int | str:
    return number if number <= MAX_EXACT else str(number)


def _as_box(value: Any) -> tuple[int, int, int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(type(side) is int for side in value):
        raise RecipeError(f"The box must be four whole numbers, not {value!r:.80}.")
    return value[0], value[1], value[2], value[3]


def _as_noise(value: Any) -> tuple[float, int]:
    if not isinstance(value, list | tuple) or len(value) != 2 or type(value[0]) not in (int, float):
        raise RecipeError(f"Fresh noise must be a strength and a seed, not {value!r:.60}.")
    return _as_field("strength", value[0]), _as_field("seed", value[1])


def _as_turns(value: Any) -> tuple[Turn, ...]:
    names = {field.name for field in dataclasses.fields(Turn)}
    turns = []
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, Turn):
            turns.append(each)
        elif isinstance(each, dict) and each.keys() <= names and type(each.get("step")) is int:
            given = {name: found for name, found in each.items() if found is not None}
            turns.append(
                Turn(**{name: each["step"] if name == "step" else _as_field(name, given[name]) for name in given})
            )
        else:
            raise RecipeError(f"A change on the way must have a step and what changes, not {each!r:.60}.")
    return tuple(turns)


def _as_controls(value: Any) -> tuple[Control, ...]:
    names = {field.name for field in dataclasses.fields(Control)}
    controls = []
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, Control):
            controls.append(each)
        elif isinstance(each, dict) and {"model", "picture"} <= each.keys() <= names:
            controls.append(Control(**{name: _as_field(name, found) for name, found in each.items()}))
        else:
            raise RecipeError(f"A control must have a model and a picture, not {each!r:.60}.")
    return tuple(controls)


def _word(name: str) -> str:
    return name.replace("_", " ")


def _faults(recipe: Recipe) -> list[Fault]:
    return (
        _faults_of_values(recipe) + _faults_of_turns(recipe) + _faults_of_source(recipe) + _faults_of_controls(recipe)
    )


def _faults_of_values(recipe: Recipe) -> list[Fault]:
    faults = []
    for field in NUMBERS:
        value = getattr(recipe, field.name)
        if value is not None and not field.has(value):
            sentence = field.fault.format(name=field.name, value=value, least=field.least, most=field.most)
            faults.append((field.name, sentence))
    for name, text in (("prompt", recipe.prompt), ("negative_prompt", recipe.negative_prompt)):
        if len(text) > MAX_PROMPT:
            sentence = f"The {_word(name)} has {len(text):,} characters, and the most is {MAX_PROMPT:,}. Shorten it."
            faults.append((name, sentence))
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            faults.append((name, f"The {_word(name)} holds half a character. Type it anew."))
    return faults


def _faults_of_turns(recipe: Recipe) -> list[Fault]:
    return [("turns", sentence) for sentence in _sentences_on_turns(recipe)]


def _sentences_on_turns(recipe: Recipe) -> list[str]:
    steps = [turn.step for turn in recipe.turns]
    if len(steps) > MAX_STEPS or steps != sorted(set(steps)):
        return ["Changes on the way must come in the order of their steps, one for each step."]
    if steps and not 0 <= steps[0] <= steps[-1] < MAX_STEPS:
        return [f"A change on the way can come after 0 to {MAX_STEPS - 1} steps."]
    own = _faults_of_values(recipe)
    found = [fault[1] for step in steps for fault in _faults_of_values(recipe.at(step)) if fault not in own]
    for strength, seed in (turn.noise for turn in recipe.turns if turn.noise):
        if not 0 < strength <= 1:
            found.append(f"Fresh noise of strength {strength:g} is out of range. Use more than 0, and at most 1.")
        if not 0 <= seed <= MAX_SEED:
            found.append(f"The seed {seed} of the fresh noise is out of range. Use 0 to {MAX_SEED}.")
    return list(dict.fromkeys(found))


def _faults_of_source(recipe: Recipe) -> list[Fault]:
    faults = []
    if not FILL.fullmatch(recipe.fill):
        known = "original, noise, blur or a colour like #3366cc"
        faults.append(("fill", f"{recipe.fill[:40]!r} is nothing to fill with. Use {known}."))
    for name, text in (("start picture", recipe.source), ("mask", recipe.mask)):
        if text and not SOURCE_NAME.fullmatch(text):
            faults.append(("", f"{text[:60]!r} is not the name of a {name}."))
    if faults:
        return faults
    if recipe.mask and not recipe.source:
        return [("", "There is a mask, but no picture that it belongs to. Choose a start picture.")]
    return [("", sentence) for sentence in _faults_of_sizes(recipe)] if recipe.source else []


def _faults_of_controls(recipe: Recipe) -> list[Fault]:
    faults = []
    if len(recipe.controls) > MAX_CONTROLS:
        faults.append(f"{len(recipe.controls)} controls are too many. Use up to {MAX_CONTROLS}.")
    for number, control in enumerate(recipe.controls, 1):
        if not control.model:
            faults.append(f"Control {number} has no model. Choose one.")
        if not SOURCE_NAME.fullmatch(control.picture):
            faults.append(f"Control {number} has no picture. Bring one in.")
        if control.kind not in KINDS:
            faults.append(f"A control's picture can be prepared by {', '.join(KINDS)}, not {control.kind[:40]!r}.")
        if not 0 <= control.weight <= 2:
            faults.append(f"A control's weight of {control.weight:g} is out of range. Use 0 to 2.")
        if not 0 <= control.start < control.end <= 1:
            faults.append(
                f"A control cannot go from {control.start:g} to {control.end:g}. Use shares of the steps from 0 to 1."
            )
    return [("controls", fault) for fault in dict.fromkeys(faults)]


def _faults_of_sizes(recipe: Recipe) -> list[str]:
    size = across, down = size_of(recipe.source)
    if not recipe.mask:
        if size == (recipe.width, recipe.height):
            return []
        return [f"The start picture has {across}x{down} pixels, and {recipe.width}x{recipe.height} are asked for."]
    if size_of(recipe.mask) != size:
        return ["The mask and the picture differ in size. Paint the mask on this picture."]
    left, top, right, bottom = recipe.part
    if not (0 <= left < right <= across and 0 <= top < bottom <= down):
        return [f"The box {recipe.box} does not lie in a picture of {across}x{down} pixels."]
    return []
