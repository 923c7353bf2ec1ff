"""The text-to-image tab: what to draw on one side, the picture coming out of the noise on the other."""

import gradio as gr

from studio.ui import form, more, painting, styling
from studio.ui.canvas import canvas, heading, notice, strip
from studio.ui.painting import Settings, Studio

PLACE = "text_to_image"

EXAMPLES = {
    "panda": "a panda, 3d render, on a pink background",
    "castle": "watercolor of a castle on a meadow",
    "apple": "a red apple on a brown table",
    "fox": "oil painting of a fox in a forest",
    "cat": "кошка",
    "penguin": "a penguin in the snow, masterpiece, 4k",
}
"""Prompts, by the names of the pictures in `page/examples` that the bundled model drew of them."""


def build(page: gr.Blocks, window: gr.HTML, studio: Studio) -> None:
    """Lay the tab out in the current context and connect it. window: names the browser's window."""
    settings = Settings(PLACE, studio.models, window)
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
                heading("Settings")
                settings.prompt(EXAMPLES.values())
                settings.choice_of_model()
                settings.shape()
                settings.size()
                settings.count()
                with more.further(settings) as told:
                    settings.negative()
                    styling.choice(settings, studio)
                    settings.sampling()
                    write = styling.panel(settings, studio)
                warnings = notice(painting.problems(studio.models.entries()))
            start, answer = painting.actions(settings)
        with gr.Column(elem_classes="pictures", min_width=0):
            pictures = canvas(PLACE, f"{PLACE}-start", f"{PLACE}-stop", EXAMPLES), strip(PLACE)
    painting.connect_start(start.click, settings, answer, studio, lambda values, data: form.read(values))
    painting.connect_model(settings, answer, pictures[0])
    painting.connect_lengths(settings, studio)
    painting.connect_examples(settings, answer)
    painting.connect_shape(settings)
    painting.connect_seed(settings, answer, studio.live)
    painting.connect_steering(pictures[0], settings, answer, studio)
    painting.connect_pictures(pictures, settings, answer)
    styling.connect_writing(write, settings, answer, studio)
    more.connect(settings, told)
    painting.connect_memory(page, settings, warnings)
