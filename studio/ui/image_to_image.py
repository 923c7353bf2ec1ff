"""The image-to-image tab: a picture or a sketch to start from, and how much of it may change."""

import math
import random
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import masks
from studio.engine import PreviewKind
from studio.errors import SourceError, StudioError
from studio.recipe import RANDOM_SEEDS, Recipe, size_of
from studio.ui import form, more, painting, styling
from studio.ui.canvas import canvas, easel, notice, strip
from studio.ui.painting import AT_ONCE, Settings, Studio
from studio.web.live import owner_of

PLACE = "image_to_image"

VARIATIONS = 4
"""How many variations of a picture are made at once."""


def build(page: gr.Blocks, saved: gr.BrowserState, studio: Studio) -> None:
    """Lay the tab out in the current context and connect it. saved: what the browser keeps of its settings."""
    settings = Settings(PLACE, studio.models)
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
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
                    settings.sampling()
                    styling.panel(page, settings, studio)
                warnings = notice(painting.problems(studio.models.entries()))
            _, failure = painting.actions(PLACE)
        with gr.Column(elem_classes="pictures with-easel", min_width=0):
            start_picture = easel(PLACE, "paint", f"{PLACE}-start")
            pictures = canvas(PLACE, f"{PLACE}-start", f"{PLACE}-stop"), strip(PLACE)
    painting.connect_start(start_picture.start, settings, failure, studio, partial(_read, studio))
    _connect_variations(start_picture, failure, studio)
    painting.connect_loaded(start_picture, settings, failure, sized=True)
    painting.connect_model(settings, failure)
    painting.connect_lengths(settings, studio)
    painting.connect_strength(settings)
    painting.connect_seed(settings, failure, studio.live)
    painting.connect_steering(pictures[0], settings, failure, studio)
    painting.connect_pictures(pictures, settings, failure, start_picture)
    more.connect(settings, told)
    painting.connect_memory(page, saved, settings, warnings)


def _read(studio: Studio, values: dict[str, Any], handed: dict[str, Any]) -> tuple[list[Recipe], PreviewKind]:
    """The recipes of the form, each from the picture on the easel at the size asked for."""
    width, height = (form.whole(side, values[side], 64, 4096) for side in ("width", "height"))
    return form.read(values, source=_fitted(studio, handed.get("source"), width, height, values["fit"]))


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


def _connect_variations(start_picture: gr.HTML, failure: gr.HTML, studio: Studio) -> None:
    def vary(event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        owner = owner_of(request.request)
        try:
            kept = studio.library.get(str(event._data["picture"].get("id")))
            recipe = replace(kept.recipe, strength=float(event._data["strength"]), mask="", box=None, fill="original")
            width, height = painting.suited_size(studio.models, recipe.model, kept.width, kept.height)
            source = _fitted(studio, studio.sources.add(studio.library.content(kept.id)).name, width, height, "crop")
            recipe = replace(recipe, source=source, width=width, height=height)
            recipes = [replace(recipe, seed=random.randrange(RANDOM_SEEDS)) for _ in range(VARIATIONS)]
            studio.live.show(owner, PLACE, studio.engine.submit(recipes, owner))
        except StudioError as error:
            return {failure: str(error)}
        return {failure: ""}

    start_picture.vary(vary, outputs=[failure], **AT_ONCE)
