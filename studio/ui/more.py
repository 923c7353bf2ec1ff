"""The simple form and the full one: what a first picture needs stands open, the rest behind one button."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gradio as gr

from studio.errors import StudioError
from studio.models import catalog
from studio.models.manager import Manager
from studio.ui import form
from studio.ui.canvas import more_button
from studio.ui.filling import AT_ONCE
from studio.ui.painting import Settings

PLAIN = {
    "seed": "seed pinned",
    "negative_prompt": "a negative prompt",
    "turns": "changes on the way",
    "controls": "controls",
}
"""Fields that are empty at first, and what is said of them when they are not."""


@contextmanager
def further(settings: Settings) -> Iterator[gr.HTML]:
    """Lay out further settings in the current context, with the button that shows them. They are on the page always."""
    before = set(settings.fields)
    told = more_button()
    with gr.Column(elem_classes="more-settings", min_width=0):
        yield told
    settings.further = [name for name in settings.fields if name not in before]


def connect(settings: Settings, told: gr.HTML) -> None:
    """Say beside the button which of the further settings are not as they begin."""
    names = [*settings.further, "model"]
    watched = [settings.fields[name] for name in names]
    labels = {name: str(getattr(settings.fields[name], "label", None) or "") for name in names}
    first = {name: settings.fields[name].value for name in names}

    def tell(*values: Any) -> str:
        found = dict(zip(names, values, strict=True))
        suited, idle = _of_model(settings.models, found["model"])
        begin = {name: value for name, value in {**first, **suited}.items() if name not in idle}
        return ", ".join(differences(found, begin, labels))

    gr.on(
        [each.change for each in watched],
        tell,
        inputs=watched,
        outputs=told,
        # Of two that wait for the last change of one field, Gradio calls each because of the other, without end.
        trigger_mode="multiple",
        **AT_ONCE,
    )


def differences(found: Mapping[str, Any], first: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """In words, the values that are not as they begin. first: by name; none of a field that has no effect."""
    words = []
    for name, value in found.items():
        if (
            name == "model"
            or name not in first
            or value in (None, "", [])
            or form.shown(name, value) == form.shown(name, first[name])
        ):
            continue
        if name == "styles":
            words.append(f"{len(value)} styles" if len(value) > 1 else f"style {value[0]}")
        else:
            label = labels[name] if labels[name].isupper() else labels[name].lower()
            choices = {choice: text.lower() for text, choice in form.CHOICES.get(name, ())}
            words.append(PLAIN.get(name) or f"{label} {choices.get(value, value)}")
    return words


def _of_model(models: Manager, model: Any) -> tuple[dict[str, Any], set[str]]:
    """What suits a model, and the names of what it makes nothing of."""
    try:
        entry = models.entry(str(model or ""))
        return form.defaults(models, entry.name), catalog.idle(entry)
    except StudioError:
        return {}, set()
