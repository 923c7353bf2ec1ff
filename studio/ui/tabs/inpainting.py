"""The inpainting tab: a picture, a mask painted on it, and what shall be where the mask is."""

import math
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import ImageOps

from studio.compat import of_gradio
from studio.engine.protocols import PreviewKind
from studio.errors import RecipeError, SourceError
from studio.pictures import masks
from studio.recipe.recipe import Recipe, size_of
from studio.ui import form, more, painting, styling
from studio.ui.canvas import advice, canvas, easel, heading, notice, strip
from studio.ui.filling import AT_ONCE, Answer
from studio.ui.painting import IN_PAGE, Settings, Studio

PLACE = "inpainting"

INTENTS: dict[str, tuple[dict[str, Any], str]] = {
    "Fill": (
        {"strength": 1.0, "start_from": "blur", "area": "region", "repaint": "inside"},
        "Paint over what should become something else, and describe what.",
    ),
    "Change": (
        {"strength": 0.6, "start_from": "original", "area": "region", "repaint": "inside"},
        "Paint over what should change. Its shapes and colours are kept in part.",
    ),
    "Add": (
        {"strength": 1.0, "start_from": "original", "area": "whole", "repaint": "inside"},
        "Paint where the new thing should be, and describe it.",
    ),
    "Remove": (
        {"strength": 0.9, "start_from": "blur", "area": "region", "repaint": "inside"},
        "Paint over what should go, a little more than it. Describe only what is around it, or leave the prompt empty.",
    ),
    "Background": (
        {"strength": 1.0, "start_from": "blur", "area": "whole", "repaint": "outside"},
        "Paint over what should stay, and describe the new background.",
    ),
    "Extend": (
        {"strength": 1.0, "start_from": "original", "area": "whole", "repaint": "inside"},
        "Say how far the picture shall reach beyond its sides, and describe what is there.",
    ),
}
"""What a person means to do → the settings for it, and what to do next."""


def build(page: gr.Blocks, window: gr.HTML, studio: Studio) -> None:
    """Lay the tab out in the current context and connect it. window: names the browser's window."""
    settings = Settings(PLACE, studio.models, window)
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
                heading("Settings")
                intents, next_steps = _intents()
                settings.prompt()
                settings.choice_of_model()
                settings.strength(1.0)
                settings.count()
                with more.further(settings) as told:
                    settings.negative()
                    styling.choice(settings, studio)
                    _mask_fields(settings)
                    settings.sampling()
                    write = styling.panel(settings, studio)
                warnings = notice(painting.problems(studio.models.entries()))
            _, answer = painting.actions(settings)
        with gr.Column(elem_classes="pictures with-easel", min_width=0):
            brush = easel(PLACE, "mask", f"{PLACE}-start")
            pictures = canvas(PLACE, f"{PLACE}-start", f"{PLACE}-stop"), strip(PLACE)
    _connect_intents(intents, next_steps, settings, answer)
    painting.connect_start(brush.start, settings, answer, studio, partial(_read, studio))
    painting.connect_loaded(brush, settings, answer)
    painting.connect_model(settings, answer)
    painting.connect_lengths(settings, studio)
    painting.connect_strength(settings)
    painting.connect_seed(settings, answer, studio.live)
    painting.connect_steering(pictures[0], settings, answer, studio)
    painting.connect_pictures(pictures, settings, answer, brush, _restored(studio))
    styling.connect_writing(write, settings, answer, studio)
    more.connect(settings, told)
    painting.connect_memory(page, settings, warnings)


def _intents() -> tuple[list[gr.Button], gr.HTML]:
    with gr.Row(elem_classes="intents", elem_id=f"{PLACE}-intents"):
        buttons = [gr.Button(name, size="sm", min_width=0, scale=0) for name in INTENTS]
    described = [
        {"name": name, "values": [form.shown(key, value) for key, value in values.items()], "advice": sentence}
        for name, (values, sentence) in INTENTS.items()
    ]
    return buttons, advice(PLACE, described)


def _mask_fields(settings: Settings) -> None:
    fields = settings.fields
    fields["start_from"] = gr.Dropdown(list(form.FILLS), value="blur", label="Start from", filterable=False)
    fields["colour"] = gr.ColorPicker("#808080", label="Colour", visible=False)
    fields["area"] = gr.Radio(list(form.AREAS), value="region", label="The model works on", elem_classes="shapes")
    fields["repaint"] = gr.Radio(list(form.SIDES), value="inside", label="Repaint", elem_classes="shapes")
    with gr.Row(elem_classes="together"):
        for name, value in (("grow", 0), ("feather", 6), ("margin", 32)):
            fields[name] = form.number(name, value)
        side = _side(settings.first["width"], settings.first["height"])
        fields["side"] = form.number("side", side, step=8)
    fields["start_from"].change(
        js=of_gradio.shown_if("chosen === 'colour'"),
        inputs=fields["start_from"],
        outputs=fields["colour"],
        **IN_PAGE,
    )


def _side(width: int, height: int) -> int:
    """The side of a square with as many pixels."""
    return round(math.sqrt(width * height))


def _connect_intents(buttons: list[gr.Button], next_steps: gr.HTML, settings: Settings, answer: Answer) -> None:
    fields = settings.form
    set_by_them = [fields[name] for name in INTENTS["Fill"][0]]

    def intend(values: dict[Component, Any], intent: str) -> dict[Component, Any]:
        return answer.filled(values, fields.update(INTENTS[intent][0]), f"for “{intent}”")

    for button, name in zip(buttons, INTENTS, strict=True):
        handler, outputs = partial(intend, intent=name), [*set_by_them, answer.component]
        button.click(handler, inputs=answer.inputs, outputs=outputs, **AT_ONCE)
    gr.on(
        [each.change for each in set_by_them],
        js="(...values) => JSON.stringify(values)",
        inputs=set_by_them,
        outputs=next_steps,
        trigger_mode="always_last",
        **IN_PAGE,
    )


def _read(studio: Studio, values: dict[str, Any], handed: dict[str, Any]) -> tuple[list[Recipe], PreviewKind]:
    """The recipes of the form, with the painted mask as the settings change it."""
    source, painted = str(handed.get("source") or ""), str(handed.get("mask") or "")
    if not source:
        raise SourceError("There is no picture to paint on. Bring one in first.")
    for name in ("start_from", "area", "repaint"):
        if values[name] not in [choice for _, choice in form.CHOICES[name]]:
            raise RecipeError(f"The choice {values[name]!r:.40} is not known.")
    grow, feather = form.whole("grow", values["grow"], -512, 512), form.whole("feather", values["feather"], 0, 512)
    with studio.sources.gate(math.prod(size_of(painted))):
        mask = studio.sources.open(painted)
        if values["repaint"] == "outside":
            mask = ImageOps.invert(mask)
        mask = masks.feathered(masks.grown(mask, grow), feather)
        name = studio.sources.add_image(mask)
    margin = form.whole("margin", values["margin"], 0, 4096)
    box = masks.box_around(mask, margin)
    if values["area"] == "whole":
        box = masks.whole_box(mask.size)
    side = form.whole("side", values["side"], 64, 2048)
    multiple = studio.models.facts(str(values["model"] or "")).multiple
    width, height = masks.work_size(box[2] - box[0], box[3] - box[1], side * side, multiple)
    fill = values["colour"] if values["start_from"] == "colour" else values["start_from"]
    return form.read(
        values,
        source=source,
        mask=name,
        fill=fill,
        box=box,
        width=width,
        height=height,
    )


def _restored(studio: Studio) -> Any:
    """Values of this tab's own fields from a recipe, whose mask has been grown and feathered already."""

    def restored(recipe: Recipe) -> dict[str, Any]:
        if not recipe.mask:
            return {}
        box = recipe.part
        values: dict[str, Any] = {"repaint": "inside", "grow": 0, "feather": 0, "area": "whole"}
        if box != masks.whole_box(recipe.size):
            left, top, right, bottom = studio.sources.open(recipe.mask).getbbox() or box
            sides = (left - box[0], top - box[1], box[2] - right, box[3] - bottom)
            values |= {"area": "region", "margin": max(0, *sides)}
        is_colour = recipe.fill.startswith("#")
        values |= {"start_from": "colour" if is_colour else recipe.fill, "side": _side(recipe.width, recipe.height)}
        return {**values, **({"colour": recipe.fill} if is_colour else {})}

    return restored
