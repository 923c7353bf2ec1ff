"""The settings of a picture as components of the page, found by name and never by position."""

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, get_args

import gradio as gr
from gradio.components import Component

from studio import numerals
from studio.engine.protocols import PreviewKind
from studio.errors import RecipeError, StudioError, about
from studio.families import samplers
from studio.models import catalog
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.models.records import DEFAULTS
from studio.recipe import fields, turns
from studio.recipe.fields import MAX_SEED
from studio.recipe.recipe import AUTOMATIC, MAX_PICTURES, RANDOM_SEEDS, SEEDS, Recipe
from studio.words import styles
from studio.words.styles import Style, Styles
from studio.words.wildcards import Wildcards

NUMBERS = {field.name: field.label for field in fields.NUMBERS if field.name not in SEEDS} | {
    "pictures": "Pictures",
    "grow": "Grow",
    "feather": "Feather",
    "margin": "Margin",
    "side": "Work at",
}
"""Fields that hold a number, and their labels: those of a recipe, and the tabs' own. A seed may be left empty."""

OPTIONAL = tuple(field.name for field in fields.NUMBERS if field.optional)
"""Numbers that may be left empty."""

LONGEST_NUMBER = 40
"""Characters of a number's field that are kept over a reload."""

SHAPES = ("9:16", "2:3", "3:4", "1:1", "4:3", "3:2", "16:9")
"""Width to height, from tall to wide."""

PREVIEWS = (("Clean", "clean"), ("Noisy", "noisy"), ("Off", "off"))
"""What can be watched: the picture that the model sees in the noise, what it really holds, or nothing."""

FITS = (("Crop", "crop"), ("Pad", "pad"), ("Stretch", "stretch"))
"""How a start picture of another shape is brought to the size."""

AREAS = (("Whole picture", "whole"), ("Masked region", "region"))
"""What the model works on when it inpaints."""

SIDES = (("Inside the mask", "inside"), ("Outside", "outside"))
"""What is repainted."""

FILLS = (
    ("The original", "original"),
    ("A blur of the surroundings", "blur"),
    ("Noise", "noise"),
    ("A colour", "colour"),
)
"""What the repainting starts from."""

PROMPTS = ("prompt", "negative_prompt")
"""Fields that are read as prompts."""

CHOICES = {"previews": PREVIEWS, "fit": FITS, "area": AREAS, "repaint": SIDES, "start_from": FILLS}
"""Fields with fixed choices."""


class Form:
    """Named components. Names are those of `Recipe`, `pictures` and `previews`, and a tab's own."""

    def __init__(self, components: dict[str, Component]) -> None:
        self.components = components

    def __iter__(self) -> Iterator[Component]:
        return iter(self.components.values())

    def __getitem__(self, name: str) -> Component:
        return self.components[name]

    def named(self, values: dict[Component, Any]) -> dict[str, Any]:
        """The values a handler got, by name."""
        return {name: values[component] for name, component in self.components.items()}

    def update(self, values: dict[str, Any]) -> dict[Component, Any]:
        """What a handler returns to set the components of these names."""
        return {self.components[name]: shown(name, value) for name, value in values.items() if name in self.components}


def shown(name: str, value: Any) -> Any:
    """The value, or the update, as the field of this name takes it: numbers as text."""
    if name not in NUMBERS:
        return value
    if isinstance(value, dict):
        return {**value, "value": shown(name, value["value"])} if "value" in value else value
    return numerals.written(value) if isinstance(value, int | float) else value or ""


def number(name: str, value: float | None, step: float = 0, **more: Any) -> gr.Textbox:
    """A field for a number. It is a text for Gradio: browsers make another number of a decimal comma, or none.

    step: what the arrow keys add (studio/ui/page/common/numbers.js), of a tab's own field.
    """
    step = step or (fields.BY_NAME[name].step if name in fields.BY_NAME else 1)
    classes = ["number", f"step-{step:g}"]
    return gr.Textbox(shown(name, value), label=NUMBERS[name], max_lines=1, min_width=0, elem_classes=classes, **more)


def read(values: dict[str, Any], **chosen: Any) -> tuple[list[Recipe], PreviewKind]:
    """The recipes that a form asks for, one for each picture, seeds counting up. Raises RecipeError.

    values: by name; those that are none of a recipe's are a tab's own business. chosen: what the tab made of them.
    """
    names = {*asdict(Recipe()), "pictures", "previews"}
    values = {name: value for name, value in values.items() if name in names}
    pictures, previews = whole("pictures", values.pop("pictures"), 1, MAX_PICTURES), values.pop("previews")
    for name in SEEDS:
        values[name] = _seed(values.get(name), name)
    with about("turns"):
        values["turns"] = turns.parse(str(values.get("turns") or ""))
    values["controls"] = _controls(values.get("controls"))
    if not values["model"]:
        raise RecipeError("No model is chosen. Choose one first.", "model")
    first = Recipe.from_values({name: typed(name, value) for name, value in values.items()} | chosen)
    if previews not in get_args(PreviewKind):
        raise RecipeError("Previews can be clean, noisy or off.")
    return [_next(first, index) for index in range(pictures)], previews


def _next(first: Recipe, index: int) -> Recipe:
    """The recipe with the seed that counts up: of variations the other one, as in stable-diffusion-webui.

    A variation seed without a strength has no effect, so pictures that are the same have the same recipe.
    """
    if first.variation_strength:
        return replace(first, variation_seed=first.variation_seed + index)
    return replace(first, seed=first.seed + index, variation_seed=0)


def worded(values: dict[str, Any], known: Styles, models: Manager) -> dict[str, Any]:
    """The values with the chosen styles written into the prompts. Raises StudioError.

    A model that takes no negative prompt is spared the style's.
    """
    found = chosen_styles(values.get("styles"), known)
    if not found:
        return values
    prompt, negative = (str(values[name] or "") for name in ("prompt", "negative_prompt"))
    words = styles.applied(prompt, negative, found)
    takes = models.facts(str(values["model"] or "")).negative_prompt
    return {**values, "prompt": words[0], "negative_prompt": words[1] if takes else negative}


def chosen_styles(names: Any, known: Styles) -> list[Style]:
    """The styles of these names, in their order. Raises StudioError if one is gone."""
    found = known.all() if names else {}
    for name in names or ():
        if name not in found:
            raise StudioError(f"There is no style {str(name)[:60]!r} any more. Choose another one.", "styles")
    return [found[name] for name in names or ()]


def with_choices_made(recipe: Recipe, wildcards: Wildcards) -> Recipe:
    """The recipe with its wildcards and `{a|b}` chosen by its seed. Raises RecipeError."""
    words: dict[str, Any] = {}
    for name in PROMPTS:
        with about(name):
            words[name] = wildcards.resolve(getattr(recipe, name), recipe.seed, name)
    turns = []
    for turn in recipe.turns:
        texts = {name: getattr(turn, name) for name in PROMPTS if getattr(turn, name) is not None}
        with about("turns"):
            texts = {name: wildcards.resolve(text, recipe.seed, name) for name, text in texts.items()}
        turns.append(replace(turn, **texts))
    return replace(recipe, **words, turns=tuple(turns)).check()


def typed(name: str, value: Any) -> Any:
    """What was typed into the field, as the field means it: a number where it is for one. Raises RecipeError."""
    if name not in NUMBERS:
        return "" if value is None and name != "box" else value
    text = str("" if value is None else value).strip()
    if not text:
        if name in OPTIONAL:
            return None
        raise RecipeError(f"{NUMBERS[name]} is empty. Fill in a number.", name)
    found = numerals.number(text)
    if found is None:
        raise RecipeError(
            f"{NUMBERS[name]} is no number: {text[:40]!r}. Write it in digits, such as 7.5 or 7,5, and without marks "
            "between thousands.",
            name,
        )
    return found


def _seed(text: Any, name: str) -> int:
    """The seed that was typed; a random one if the field is empty. Raises RecipeError."""
    text, word = str(text or "").strip(), name.replace("_", " ")
    if not text:
        return random.randrange(RANDOM_SEEDS)
    if not text.isdecimal():
        sentence = f"The {word} must be a whole number, not {text[:40]!r}. Empty means a new one each time."
        raise RecipeError(sentence, name)
    if (seed := seed_typed(text)) is None:
        raise RecipeError(f"The {word} {text[:24]} is out of range. Use 0 to {MAX_SEED}.", name)
    return seed


def seed_typed(text: Any) -> int | None:
    """The seed that was typed; None if it is none, or out of range. Python itself reads no thousands of digits."""
    text = str(text or "").strip()
    fits = text.isdecimal() and len(text) <= len(str(MAX_SEED))
    return int(text) if fits and int(text) <= MAX_SEED else None


def _controls(text: Any) -> Any:
    """What the add-ons' panel holds, JSON; the recipe judges it."""
    try:
        return json.loads(text) if text else []
    except (ValueError, TypeError, RecursionError):
        raise RecipeError("The controls cannot be read. Take them away and add them anew.", "controls") from None


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number of this range from a tab's own field. Raises RecipeError."""
    number = typed(name, value)
    if not number.is_integer():
        raise RecipeError(f"{NUMBERS[name]} must be a whole number, not {str(value)[:40]}.", name)
    if not least <= number <= most:
        raise RecipeError(f"{NUMBERS[name]} can be {least} to {most}, not {numerals.written(number)}.", name)
    return int(number)


def restored(saved: Any) -> dict[str, Any]:
    """The values among `saved`, JSON from a browser, that a form can show."""
    return {name: shown(name, value) for name, value in plain(saved).items() if _fits(name, value)}


def plain(text: Any) -> dict[str, Any]:
    """The values in a JSON object; none if it is not one, since it comes from a browser and could be anything."""
    try:
        values = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _fits(name: str, value: Any) -> bool:
    if name in NUMBERS:  # a number, as fields held them before they held text
        is_text = isinstance(value, str) and len(value) <= LONGEST_NUMBER
        return is_text or (isinstance(value, int | float) and not isinstance(value, bool))
    if name in CHOICES:
        return value in [choice for _, choice in CHOICES[name]]
    if name == "styles":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def usable(entries: Iterable[Entry]) -> list[str]:
    """Names of the models that can be used."""
    return [entry.name for entry in entries if not entry.problem]


def _entry(entries: Iterable[Entry], model: str | None) -> Entry | None:
    return next((entry for entry in entries if entry.name == model and not entry.problem), None)


def choices(entries: Iterable[Entry], model: str | None, name: str) -> list[str]:
    """The labels of a model's samplers or schedules; none if it cannot be used."""
    entry = _entry(entries, model)
    if not entry:
        return []
    table = catalog.family(entry).samplers
    return list(table) if name == "sampler" else samplers.all_schedules(table)


def defaults(models: Manager, model: str) -> dict[str, Any]:
    """Size, steps, guidance and sampler that suit a model. Raises ModelError."""
    recipe = models.default_recipe(model)
    return {name: getattr(recipe, name) for name in DEFAULTS}


def offered(models: Manager, values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values with the model's own sampler and schedule where it has not those, and what there is to say of that.

    Of a model that is not here nothing is known: all is kept.
    """
    entries, model = models.entries(), str(values.get("model") or "")
    if not _entry(entries, model):
        return values, []
    own, said = defaults(models, model), []
    for name in ("sampler", "schedule"):
        value = values.get(name)
        if value and value not in choices(entries, model, name):
            values = {**values, name: own[name]}
            said.append(f"{model} has no {name} {value[:40]!r} now, so its own, {own[name]}, was chosen instead.")
    return values, said


def for_model(entries: Sequence[Entry], model: str | None, values: dict[str, Any]) -> dict[str, Any]:
    """The values as updates of a form in which this model is chosen: its samplers, and only what it makes use of.

    A model that is not here keeps its name and all its values.
    """
    entry = _entry(entries, model)
    names: list[Any] = usable(entries)
    if model and not entry:
        is_there = any(each.name == model for each in entries)
        names.insert(0, (f"{model} ({'cannot be used' if is_there else 'not here'})", model))
    updates = {**values, "model": gr.update(choices=names, value=model), "suited": model}
    for name in ("sampler", "schedule"):
        value = values.get(name)
        labels = choices(entries, model, name) if entry else [value]
        updates[name] = gr.update(choices=labels, **({"value": value} if value in labels else {}))
    negative = {"value": values["negative_prompt"]} if "negative_prompt" in values else {}
    updates["negative_prompt"] = gr.update(visible=entry is None or _takes_negative(entry), **negative)
    depending = [field.name for field in fields.NUMBERS if field.takes]
    idle, plain = catalog.idle(entry) if entry else set(), Recipe()
    for name in depending:
        kept = {"value": values[name]} if name in values else {}
        # What is not shown must have no effect.
        hidden = {"value": "" if name in SEEDS else getattr(plain, name)}
        updates[name] = gr.update(visible=name not in idle, **(hidden if name in idle else kept))
    return updates


def on_model(models: Manager, recipe: Recipe, name: str) -> Recipe:
    """The recipe for another model: what that one makes nothing of is left out, as its form would hide it.

    A sampler or schedule that it has not gives way to those that suit it. Raises ModelError.
    """
    return on_entry(models, recipe, models.entry(name))


def on_entry(models: Manager, recipe: Recipe, entry: Entry) -> Recipe:
    """The same for an entry."""
    plain = Recipe()
    unused = catalog.idle(entry) | (set() if _takes_negative(entry) else {"negative_prompt"})
    table = catalog.family(entry).samplers
    if recipe.sampler not in table or recipe.schedule not in samplers.schedules_of(table, recipe.sampler):
        own = models.default_recipe(entry.name)
        sampler = recipe.sampler if recipe.sampler in table else own.sampler
        fits = own.schedule in samplers.schedules_of(table, sampler)
        recipe = replace(recipe, sampler=sampler, schedule=own.schedule if fits else AUTOMATIC)
    return replace(recipe, model=entry.name, **{each: getattr(plain, each) for each in unused})


def _takes_negative(entry: Entry) -> bool:
    return entry.facts is None or entry.facts.negative_prompt


def size_of_shape(shape: str, width: int, height: int) -> tuple[int, int]:
    """Width and height of this shape with about as many pixels as width x height, in steps that models like."""
    across, down = map(int, shape.split(":"))
    pixels = width * height
    step = 64 if pixels >= 512 * 512 else 16
    scale = math.sqrt(pixels / (across * down))
    return tuple(max(64, round(side * scale / step) * step) for side in (across, down))  # type: ignore[return-value]


def shape_of_size(width: Any, height: Any, native: tuple[int, int]) -> str | None:
    """The shape whose size this is, if it is one's."""
    sizes = {size_of_shape(shape, *native): shape for shape in SHAPES}
    return sizes.get((width, height))
