"""What a tab says above its buttons: what went wrong and at which fields, and what was filled in, with a way back."""

import json
import random
from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import numerals
from studio.compat.of_gradio import carried
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
        self.component.undo(self._undo, inputs=self.inputs, outputs=self.outputs, **AT_ONCE)

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
        self,
        before: Mapping[Component, Any],
        updates: Mapping[Component, Any],
        source: str,
        also: str = "",
        cause: str = "",
    ) -> dict[Component, Any]:
        """The updates, and a sentence that names the fields which they change, with the values of before for an undo.

        before: `inputs` as the handler got them. source: of the values, as in "from that picture". also: what else
        there is to say. cause: the field whose choice brought this about; it goes back too.
        """
        changed = [
            name for name, each in self._fields.components.items() if _changes(name, updates.get(each), before[each])
        ]
        seen = [name for name in changed if self._is_seen(name, updates)]
        if not seen:
            return {**updates, **self.remark(also)}
        # Those alone, for what a person types after this is theirs and nothing to take back.
        values = {name: before[self._fields[name]] for name in (*changed, *filter(None, [cause]))}
        labels = [str(getattr(self._fields[name], "label", None) or name.capitalize()) for name in seen]
        sentence = f"Filled in {source}: {_listed(labels)}."
        return {**updates, self.component: _said(" ".join(filter(None, (sentence, also))), before=values)}

    def _is_seen(self, name: str, updates: Mapping[Component, Any]) -> bool:
        update = updates.get(self._fields[name])
        hides = isinstance(update, dict) and not update.get("visible", True)
        return self._fields[name].visible is True and not hides

    def _undo(self, values: dict[Component, Any], event: gr.EventData) -> dict[Component, Any]:
        given = carried(event)["values"]
        given = form.restored(json.dumps({name: "" if value is None else value for name, value in given.items()}))
        updates, said = brought_to(self._fields, self._models, {**self._fields.named(values), **given})
        # With the model come its choices, and which fields there are; else only what was filled in is touched.
        kept = {
            component: update
            for name, component in self._fields.components.items()
            if (update := updates.get(component)) is not None
            and (name in given or ("model" in given and isinstance(update, dict)))
        }
        return {**kept, **self.remark(" ".join(["What was filled in is taken back.", *said]))}


def brought_to(fields: form.Form, models: Manager, values: dict[str, Any]) -> tuple[dict[Component, Any], list[str]]:
    """Updates that bring a form to these values, and to the choices that there are now; what is no more is said."""
    values, said = form.offered(models, values)
    updates = fields.update(form.for_model(models.entries(), values.get("model") or None, values))
    return {**updates, **addons.refreshed(models, fields, values)}, said


def _said(sentence: str, **more: Any) -> str:
    # The number makes it another value each time, so that the same sentence is seen, and heard, as a new one.
    return json.dumps({"sentence": sentence, "number": random.random(), **more})


def _changes(name: str, update: Any, before: Any) -> bool:
    """Whether an update gives the field of this name another value."""
    if isinstance(update, dict):
        update = update.get("value")
    if update is None:
        return False
    now, then = (str(value or "") for value in (update, before))
    return now != then and (name not in form.NUMBERS or numerals.number(now) != numerals.number(then))


def _listed(words: list[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
