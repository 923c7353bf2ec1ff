"""The models tab: everything that was found on disk, what is known of it, and downloads from Hugging Face's hub."""

import gradio as gr

from studio.ui.canvas import script
from studio.ui.painting import Studio

PLACE = "models"


def build(page: gr.Blocks, window: gr.HTML, studio: Studio) -> None:
    """Lay the tab out in the current context. What it shows and does goes by `studio.web.models`, round Gradio."""
    gr.HTML(
        html_template='<section class="models" aria-label="Models"><h2 class="only-spoken">Models</h2></section>',
        js_on_load=f"{script('models/models.js')}.then(({{ mount }}) => mount(element));",
        apply_default_css=False,
        elem_id=f"{PLACE}-list",
        elem_classes="models-place",
    )
