"""What a tab says above its buttons: what went wrong and at which fields, and what was filled in, with a way back."""

import json
import random
from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import numerals
from studio.errors import StudioError
from studio.models.manager import Manager
from studio.ui import addons, form
from studio.ui.canvas import answer

AT_ONCE: dict[str, Any] = {
    "queue": False,
    "preprocess": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}
"""Handlers go straight to their thread: the engine is the only queue that matters. Values come as they were sent: they
are judged by the recipe's own check, in its own words."""


class Answer:
    """The place of a tab where its form answers. Its methods return what a handler gives back, by component."""

    def __init__(self, place: str, fields: form.Form, models: Manager) -> None:
        """fields: all that the tab has."""
        self._fields, self._models = fields, models
        self.component = answer(place)
        for name, component in fields.components.items():
            component.elem_id = component.elem_id or f"{place}-{name}"  # by which the page finds what an error is about
        self.component.undo(self._undo, outputs=self.outputs, **AT_ONCE)

    @property
    def inputs(self) -> set[Component]:
        """All that a handler needs which calls `filled`."""
        return set(self._fields)

    @property
    def outputs(self) -> list[Component]:
        return [*self._fields, self.component]

    def nothing(self) -> dict[Component, Any]:
        return {self.component: ""}

    def refused(self, error: StudioError) -> dict[Component, Any]:
        return {self.component: _said(str(error), alert=True, fields=error.fields)}

    def remark(self, sentence: str) -> dict[Component, Any]:
        return {self.component: _said(sentence) if sentence else ""}

    def filled(
        self, before: Mapping[Component, Any], updates: Mapping[Component, Any], source: str, also: str = ""
    ) -> dict[Component, Any]:
        """The updates, and a sentence that names the fields which they change, with the values of before for an undo.

        before: `inputs` as the handler got them. source: of the values, as in "from that picture". also: what else
        there is to say.
        """
        changed = [
            str(each.label or name.capitalize())
            for name, each in self._fields.components.items()
            if each.visible is True and _changes(name, updates.get(each), before[each])
        ]
        if not changed:
            return {**updates, **self.remark(also)}
        values = {name: before[each] for name, each in self._fields.components.items()}
        sentence = f"Filled in {source}: {_listed(changed)}."
        return {**updates, self.component: _said(" ".join(filter(None, (sentence, also))), before=values)}

    def _undo(self, event: gr.EventData) -> dict[Component, Any]:
        given = event._data["values"]
        values = {name: "" if value is None else value for name, value in given.items()}
        updates = brought_to(self._fields, self._models, form.restored(json.dumps(values)))
        return {**updates, **self.remark("The form is as it was before.")}


def brought_to(fields: form.Form, models: Manager, values: dict[str, Any]) -> dict[Component, Any]:
    """Updates that bring a form to these values, and to the choices that there are now."""
    entries = models.entries()
    updates = fields.update(form.for_model(entries, values.get("model") or None, values))
    return {**updates, **addons.refreshed(models, fields, values)}


def _said(sentence: str, **more: Any) -> str:
    # The number makes it another value each time, so that the same sentence is seen, and heard, as a new one.
    return json.dumps({"sentence": sentence, "number": random.random(), **more})


def _changes(name: str, update: Any, before: Any) -> bool:
    """Whether an update gives the field of this name, if it is seen, another value."""
    if isinstance(update, dict):
        update = update.get("value") if update.get("visible", True) else None
    if update is None:
        return False
    now, then = (str(value or "") for value in (update, before))
    return now != then and (name not in form.NUMBERS or numerals.number(now) != numerals.number(then))


def _listed(words: list[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
