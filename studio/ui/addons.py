"""The form's panel of add-ons: LoRAs, the VAE, clip skip, and pictures that guide the drawing."""

import json

import gradio as gr
from gradio.components import Component

from studio.models.manager import Manager
from studio.ui import form
from studio.ui.canvas import notice

NO_VAES = "Other VAEs are found in a folder named vae below a models folder."


def fields(place: str, models: Manager, into: dict[str, Component]) -> None:
    """Lay the panel out in the current context, closed. Its fields `vae`, `clip_skip` and `controls` are put `into`.

    LoRAs have no field: a click writes them into the tab's prompt.
    """
    vaes = sorted(models.addons("vae"))
    with gr.Accordion("Add-ons", open=False, elem_classes="addons", elem_id=f"{place}-addons"):
        gr.HTML(
            html_template='<section class="loras" aria-label="LoRAs"></section>',
            js_on_load=f'import("/page/addons.js").then(({{ loras }}) => loras(element, {json.dumps(place)}));',
            apply_default_css=False,
        )
        into["controls"] = _controls()
        with gr.Row(elem_classes="together"):
            choices = [("The model's own", ""), *((name, name) for name in vaes)]
            into["vae"] = gr.Dropdown(choices, value="", label="VAE", filterable=len(vaes) > 8, min_width=0)
            into["clip_skip"] = gr.Number(1, label=form.NUMBERS["clip_skip"], step=1, min_width=0)
        if not vaes:
            notice(NO_VAES)


def _controls() -> gr.HTML:
    """The pictures that guide the drawing. Its value is JSON, a list of `studio.recipe.Control`."""
    return gr.HTML(
        "",
        html_template='<section class="guides" aria-label="Controls"></section>',
        js_on_load="""
            const held = {
                get: () => (props.value ? JSON.parse(props.value) : []),
                set: (list) => {
                    props.value = list.length ? JSON.stringify(list) : "";
                },
                watch: (listener) => watch("value", listener),
            };
            import("/page/addons.js").then(({ controls }) => controls(element, held));
        """,
        apply_default_css=False,
    )
