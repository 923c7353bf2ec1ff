"""The image-to-image tab: a picture or a sketch to start from, and how much of it may change."""

import math
import random
import re
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import numerals
from studio.compat.of_gradio import carried
from studio.engine.protocols import PreviewKind
from studio.errors import SourceError, StudioError
from studio.models.manager import Manager
from studio.pictures import masks
from studio.recipe.recipe import RANDOM_SEEDS, Recipe, size_of
from studio.ui import form, more, painting, styling
from studio.ui.canvas import canvas, easel, heading, notice, strip
from studio.ui.filling import AT_ONCE, Answer
from studio.ui.painting import Settings, Studio
from studio.web.live import owner_of, stage_of

PLACE = "image_to_image"

MUCH = 0.2
"""The share of a picture that is not cropped off without being asked for."""

VARIATIONS = 4
"""How many variations of a picture are made at once."""


def build(page: gr.Blocks, window: gr.HTML, studio: Studio) -> None:
    """Lay the tab out in the current context and connect it. window: names the browser's window."""
    settings = Settings(PLACE, studio.models, window)
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
                heading("Settings")
                settings.prompt()
                settings.choice_of_model()
                settings.strength(0.6)
                settings.size()
                settings.count()
                with more.further(settings) as told:
                    settings.negative()
                    styling.choice(settings, studio)
                    settings.fields["fit"] = gr.Radio(
                        list(form.FITS), value="crop", label="If the picture has another shape", elem_classes="shapes"
                    )
                    fitting = notice()
                    settings.sampling()
                    write = styling.panel(settings, studio)
                warnings = notice(painting.problems(studio.models.entries()))
            _, answer = painting.actions(settings)
        with gr.Column(elem_classes="pictures with-easel", min_width=0):
            start_picture = easel(PLACE, "paint", f"{PLACE}-start")
            pictures = canvas(PLACE, f"{PLACE}-start", f"{PLACE}-stop"), strip(PLACE)
    painting.connect_start(start_picture.start, settings, answer, studio, partial(_read, studio))
    _connect_variations(start_picture, window, answer, studio)
    painting.connect_loaded(start_picture, settings, answer, partial(_suited, studio.models))
    _connect_fit(start_picture, settings, fitting)
    painting.connect_model(settings, answer)
    painting.connect_lengths(settings, studio)
    painting.connect_strength(settings)
    painting.connect_seed(settings, answer, studio.live)
    painting.connect_steering(pictures[0], settings, answer, studio)
    painting.connect_pictures(pictures, settings, answer, start_picture)
    styling.connect_writing(write, settings, answer, studio)
    more.connect(settings, told)
    painting.connect_memory(page, settings, warnings)


def _read(studio: Studio, values: dict[str, Any], handed: dict[str, Any]) -> tuple[list[Recipe], PreviewKind]:
    """The recipes of the form, each from the picture on the easel at the size asked for."""
    width, height = (form.whole(side, values[side], 64, 4096) for side in ("width", "height"))
    return form.read(values, source=_fitted(studio, handed.get("source"), width, height, values["fit"]))


def _suited(models: Manager, values: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    """The size for a picture, and a way to bring it there that does not cut off much of it."""
    size = painting.suited_size(models, values["model"], width, height)
    found = dict(zip(("width", "height"), size, strict=True))
    pads = values["fit"] == "crop" and max(lost(width, height, *size)) > MUCH
    return {**found, "fit": "pad"} if pads else found


def lost(width: int, height: int, across: float, down: float) -> tuple[float, float]:
    """The shares of a picture's width and height that are cut off when it is cropped to the shape of across x down."""
    return max(0.0, 1 - height * across / (down * width)), max(0.0, 1 - width * down / (across * height))


def fitting(width: int, height: int, across: float, down: float, fit: str) -> str:
    """What is done to a picture that is brought to across x down; nothing to say if it keeps its shape."""
    sides = lost(width, height, across, down)
    share = max(sides)
    if share == 0:
        return ""
    is_width = sides[0] > 0
    percent = f"{100 * share:.0f} %" if share >= 0.005 else "Less than 1 %"
    if fit == "crop":
        return f"{percent} of the picture's {'width' if is_width else 'height'} is cut off."
    if fit == "pad":
        where = "above and below" if is_width else "on the left and right"
        return f"{percent} of the result, {where}, is white: the picture does not fill it."
    longer = f"{100 * share / (1 - share):.0f} %" if share >= 0.005 else "less than 1 %"
    return f"The picture is stretched: it becomes {longer} {'higher' if is_width else 'wider'} than its shape."


def _connect_fit(start_picture: gr.HTML, settings: Settings, line: gr.HTML) -> None:
    """The line that says what becomes of the picture on the easel at the size asked for."""
    fields = settings.fields
    shown = gr.Textbox(visible="hidden")
    inputs = [shown, fields["width"], fields["height"], fields["fit"]]

    def shows(event: gr.EventData) -> str:
        return f"{carried(event)['width']}x{carried(event)['height']}"

    def say(size: Any, across: Any, down: Any, fit: Any) -> str:
        asked = [numerals.number(str(side or "")) or 0 for side in (across, down)]
        if not (shown := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", str(size or ""))) or min(asked) < 1:
            return ""
        return fitting(int(shown[1]), int(shown[2]), asked[0], asked[1], str(fit))

    start_picture.shows(shows, outputs=shown, **AT_ONCE)
    gr.on([each.change for each in inputs], say, inputs=inputs, outputs=line, trigger_mode="always_last", **AT_ONCE)


def _fitted(studio: Studio, name: Any, width: int, height: int, fit: str) -> str:
    """The name of the start picture at this size."""
    if not isinstance(name, str) or not name:
        raise SourceError("There is no picture to start from. Bring one in, or start a blank one and draw.")
    if size_of(name) == (width, height):
        return name
    if fit not in [choice for _, choice in form.FITS]:
        raise SourceError("A picture can be cropped, padded or stretched.")
    with studio.sources.gate(math.prod(size_of(name)) + width * height):
        return studio.sources.add_image(masks.fitted(studio.sources.open(name), width, height, fit))


def _connect_variations(start_picture: gr.HTML, window: gr.HTML, answer: Answer, studio: Studio) -> None:
    def vary(name: Any, event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        owner = owner_of(request.request)
        try:
            kept = studio.library.get(str(carried(event)["picture"].get("id")))
            recipe = replace(
                kept.recipe, strength=float(carried(event)["strength"]), mask="", box=None, fill="original"
            )
            width, height = painting.suited_size(studio.models, recipe.model, kept.width, kept.height)
            source = _fitted(studio, studio.sources.add(studio.library.content(kept.id)).name, width, height, "crop")
            recipe = replace(recipe, source=source, width=width, height=height)
            recipes = [replace(recipe, seed=random.randrange(RANDOM_SEEDS)) for _ in range(VARIATIONS)]
            studio.live.show(owner, stage_of(name, PLACE), studio.engine.submit(recipes, owner))
        except StudioError as error:
            return answer.refused(error)
        return answer.remark(fitting(kept.width, kept.height, width, height, "crop"))

    start_picture.vary(vary, inputs=[window], outputs=[answer.component], **AT_ONCE)
