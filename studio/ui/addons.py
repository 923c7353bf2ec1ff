"""The form's panel of add-ons: LoRAs, the VAE, clip skip, and pictures that guide the drawing."""

import json
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.models.manager import Manager
from studio.ui import form
from studio.ui.canvas import notice, script

NO_VAES = "Other VAEs are found in a folder named vae below a models folder."


def fields(place: str, models: Manager, into: dict[str, Component]) -> None:
    """Lay the panel out in the current context, closed. Its fields are put `into`.

    LoRAs have no field: a click writes them into the tab's prompt.
    """
    choices = _vaes(models)
    with gr.Accordion("Add-ons", open=False, elem_classes="addons opens", elem_id=f"{place}-addons"):
        gr.HTML(
            html_template='<section class="loras" aria-label="LoRAs"></section>',
            js_on_load=f"{script('form/addons.js')}.then(({{ loras }}) => loras(element, {json.dumps(place)}));",
            apply_default_css=False,
        )
        into["controls"] = _controls()
        into["vae"] = gr.Dropdown(choices, value="", label="VAE", filterable=len(choices) > 8, min_width=0)
        if len(choices) == 1:
            notice(NO_VAES)
        with gr.Row(elem_classes="together"):
            into["clip_skip"] = form.number("clip_skip", 1)
            into["guidance_rescale"] = form.number("guidance_rescale", None, placeholder="its own")


def refreshed(models: Manager, into: form.Form, values: dict[str, Any]) -> dict[Component, Any]:
    """Updates for what is on disk now. values: those that the form is to have, by name."""
    choices = _vaes(models)
    vae = values.get("vae", "")
    if all(vae != name for _, name in choices):
        choices.append((f"{vae} (not here)", vae))
    return into.update({"vae": gr.update(choices=choices, value=vae)})


def _vaes(models: Manager) -> list[tuple[str, str]]:
    return [("Built in", ""), *((name, name) for name in sorted(models.addons("vae")))]


def _controls() -> gr.HTML:
    """The pictures that guide the drawing. Its value is JSON, a list of `studio.recipe.recipe.Control`."""
    return gr.HTML(
        "",
        html_template='<section class="guides" aria-label="Controls"></section>',
        js_on_load=f"""
            const held = {{
                get: () => (props.value ? JSON.parse(props.value) : []),
                set: (list) => {{
                    props.value = list.length ? JSON.stringify(list) : "";
                }},
                watch: (listener) => watch("value", listener),
            }};
            {script("form/addons.js")}.then(({{ controls }}) => controls(element, held));
        """,
        apply_default_css=False,
    )
