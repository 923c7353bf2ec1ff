"""Styles in a tab's form: choose some, write them out, save the prompt as one, bring a table of them."""

from typing import Any

import gradio as gr
from gradio.components import Component

from studio.compat.of_gradio import carried
from studio.errors import StudioError
from studio.ui import form
from studio.ui.canvas import notice, styles_bringer
from studio.ui.filling import AT_ONCE, Answer
from studio.ui.painting import Settings, Studio
from studio.words.styles import Style


def choice(settings: Settings, studio: Studio) -> None:
    """Lay out the choice of styles below the prompts."""
    settings.fields["styles"] = gr.Dropdown(
        choices(studio.styles.all()), value=[], multiselect=True, label="Styles", elem_classes="styles", min_width=0
    )

    def restored(names: list[str]) -> Any:
        """One that has gone meanwhile stays to be seen, for what cannot be seen cannot be taken away."""
        found = studio.styles.all()
        gone = [(f"{name} (not here)", name) for name in names if name not in found]
        return gr.update(choices=[*choices(found), *gone], value=names)

    settings.restored_styles = restored


def panel(settings: Settings, studio: Studio) -> gr.Button:
    """Lay out what makes styles, closed, and connect it with the choice of them. Returns "Write into prompt"."""
    fields = settings.fields
    with gr.Accordion("Your own styles", open=False, elem_classes="own-styles opens"):
        name = gr.Textbox(label="Name", placeholder="for the prompt above, kept as a style", max_lines=1, min_width=0)
        with gr.Row(elem_classes="together"):
            save = gr.Button("Save prompt", size="sm", min_width=0)
            write = gr.Button("Write into prompt", size="sm", min_width=0)
            bring = styles_bringer()
        said = notice()

    def keep(named: str, prompt: str, negative: str) -> dict[Component, Any]:
        try:
            studio.styles.save(Style((named or "").strip()[:80], prompt or "", negative or ""))
        except StudioError as error:
            return {said: str(error)}
        return {said: f"Saved as “{named.strip()[:80]}”.", fields["styles"]: _refreshed(studio), name: ""}

    def brought(event: gr.EventData) -> dict[Component, Any]:
        told = carried(event).get("told") or f"Styles added: {carried(event).get('added')}."
        return {said: str(told), fields["styles"]: _refreshed(studio)}

    words = [fields["prompt"], fields["negative_prompt"]]
    save.click(keep, inputs=[name, *words], outputs=[said, fields["styles"], name], **AT_ONCE)
    bring.brought(brought, outputs=[said, fields["styles"]], **AT_ONCE)
    return write


def connect_writing(write: gr.Button, settings: Settings, answer: Answer, studio: Studio) -> None:
    """The chosen styles become words of the prompts, which can be taken back."""
    fields = settings.form

    def write_out(values: dict[Component, Any]) -> dict[Component, Any]:
        named = fields.named(values)
        if not named["styles"]:
            return answer.remark("No style is chosen. Choose one above, and its words can be written into the prompt.")
        try:
            worded = form.worded(named, studio.styles, studio.models)
        except StudioError as error:
            return answer.refused(error)
        updates = {name: worded[name] for name in form.PROMPTS} | {"styles": []}
        return answer.filled(values, fields.update(updates), "from the styles")

    outputs = [*(fields[name] for name in (*form.PROMPTS, "styles")), answer.component]
    write.click(write_out, inputs=answer.inputs, outputs=outputs, **AT_ONCE)


def choices(found: dict[str, Style]) -> list[tuple[str, str]]:
    """What the list shows, with each style's group, so that typing a group's name finds all of it."""
    return [(f"{style.name} · {style.group}", name) for name, style in found.items()]


def _refreshed(studio: Studio) -> Any:
    return gr.update(choices=choices(studio.styles.all()))
