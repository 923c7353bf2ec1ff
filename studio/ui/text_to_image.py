"""The text-to-image tab: what to draw on one side, the picture coming out of the noise on the other."""

import gradio as gr

from studio.ui import form, painting, styling
from studio.ui.canvas import canvas, heading, notice, strip
from studio.ui.painting import Settings, Studio

PLACE = "text_to_image"

EXAMPLES = (
    "a panda, 3d render, on a pink background",
    "watercolor of a castle on a meadow",
    "a red apple on a brown table",
    "two pandas on a meadow",
    "кошка",
    "a penguin in the snow, masterpiece, 4k",
)


def build(page: gr.Blocks, saved: gr.BrowserState, studio: Studio) -> None:
    """Lay the tab out in the current context and connect it. saved: what the browser keeps of its settings."""
    settings = Settings(PLACE, studio.models)
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
                heading("Settings")
                settings.prompts(EXAMPLES)
                styling.choice(settings, studio)
                settings.choice_of_model()
                settings.shape()
                settings.size()
                settings.sampling()
                styling.panel(page, settings, studio)
                warnings = notice(painting.problems(studio.models.entries()))
            start, answer = painting.actions(settings)
        with gr.Column(elem_classes="pictures", min_width=0):
            pictures = canvas(PLACE, f"{PLACE}-start", f"{PLACE}-stop"), strip(PLACE)
    painting.connect_start(start.click, settings, answer, studio, lambda values, data: form.read(values))
    painting.connect_model(settings, answer, pictures[0])
    painting.connect_lengths(settings, studio)
    painting.connect_examples(settings, answer)
    painting.connect_shape(settings)
    painting.connect_seed(settings, answer, studio.live)
    painting.connect_steering(pictures[0], settings, answer, studio)
    painting.connect_pictures(pictures, settings, answer)
    painting.connect_memory(page, saved, settings, warnings)
