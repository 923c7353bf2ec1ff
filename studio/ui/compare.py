"""The compare tab: a grid of pictures over two or three settings, all of them alive at once."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import axes, sheets
from studio.engine import Job
from studio.errors import JobMissing, StudioError
from studio.events import Failed
from studio.recipe import Recipe
from studio.ui import form, more, painting, styling
from studio.ui.canvas import comparison, notice, strip
from studio.ui.painting import AT_ONCE, Settings, Studio
from studio.web.live import Layout, owner_of

PLACE = "compare"

AXES = ("columns", "rows", "third")
"""The axes' names in the form: each a setting and what is typed for it."""

FIRST = (("guidance_scale", "1, 4, 7"), ("seed", "1-3"), ("", ""))

_SOURCE = ("source", "mask", "strength", "fill", "box")
"""What a recipe of the grid takes over from the picture it was compared from, without a field of its own."""


def build(page: gr.Blocks, saved: gr.BrowserState, studio: Studio) -> None:
    """Lay the tab out in the current context and connect it. saved: what the browser keeps of its settings."""
    settings = Settings(PLACE, studio.models)
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
                settings.prompt()
                settings.choice_of_model()
                _axis_fields(settings)
                summary = notice()
                # Not a gr.State, for which every page would hold one more connection open.
                start_from = gr.BrowserState({}, storage_key=f"emerge.{PLACE}.start", secret="emerge")
                settings.size()
                settings.count()
                settings.fields["pictures"].visible = False
                with more.further(settings) as told:
                    settings.negative()
                    styling.choice(settings, studio)
                    settings.sampling()
                    styling.panel(page, settings, studio)
                warnings = notice(painting.problems(studio.models.entries()))
            start, failure = painting.actions(PLACE)
        with gr.Column(elem_classes="pictures", min_width=0):
            cells, recent = comparison(PLACE, f"{PLACE}-start", f"{PLACE}-stop"), strip(PLACE)
    _connect_summary(cells, settings.form, start_from, summary, studio)
    _connect_start(start, settings.form, start_from, failure, studio)
    _connect_centre((cells, recent), settings, start_from, failure)
    painting.connect_model(settings, failure)
    painting.connect_lengths(settings, studio)
    painting.connect_seed(settings, failure, studio.live)
    more.connect(settings, told)
    painting.connect_memory(page, saved, settings, warnings)


def _axis_fields(settings: Settings) -> None:
    choices = [("none", ""), *((label, name) for name, label in axes.LABELS.items())]
    for axis, title, (name, text) in zip(AXES, ("Columns", "Rows", "And"), FIRST, strict=True):
        with gr.Row(elem_classes="together"):
            settings.fields[axis] = gr.Dropdown(choices, value=name, label=title, filterable=False, min_width=0)
            settings.fields[f"{axis}_values"] = gr.Textbox(
                text, label=f"{title}: values", show_label=False, max_lines=1, min_width=0, elem_classes="axis-values"
            )


def _read(values: dict[str, Any], start_from: Any, studio: Studio) -> tuple[axes.Grid, sheets.Plan, Any]:
    """The grid that the form asks for, what it is made of, and the kind of preview."""
    chosen = [(values[axis], str(values[f"{axis}_values"] or "")) for axis in AXES if values[axis]]
    # From a browser, so it could be anything.
    source = {name: start_from[name] for name in _SOURCE if name in start_from} if isinstance(start_from, dict) else {}
    [centre], previews = form.read({**form.worded(values, studio.styles, studio.models), "pictures": 1}, **source)
    plan = sheets.Plan(centre, tuple(chosen))
    changes: axes.Changes = {"style": _styled(studio), "model": partial(form.on_model, studio.models)}
    grid = axes.plan(centre, chosen, _choices(chosen, centre.model, studio), changes)
    # Each picture makes its own choices, by its own seed; the plan keeps what was typed.
    made = tuple(tuple(form.with_choices_made(each, studio.wildcards) for each in row) for row in grid.recipes)
    return replace(grid, recipes=made), plan, previews


def _choices(chosen: list[tuple[str, str]], model: str, studio: Studio) -> dict[str, list[str]]:
    """The names that can be typed for an axis. The disk is looked through only if one asks for names."""
    names = {name for name, _ in chosen}
    choices = {"style": list(studio.styles.all())} if "style" in names else {}
    if {"sampler", "schedule", "model"} & names:
        entries = studio.models.entries()
        choices |= {name: form.choices(entries, model, name) for name in ("sampler", "schedule")}
        choices |= {"model": form.usable(entries)}
    return choices


def _styled(studio: Studio) -> Callable[[Recipe, str], Recipe]:
    def change(recipe: Recipe, name: str) -> Recipe:
        worded = form.worded({**asdict(recipe), "styles": [name]}, studio.styles, studio.models)
        return replace(recipe, **{each: worded[each] for each in ("prompt", "negative_prompt")})

    return change


def _connect_summary(
    cells: gr.HTML, fields: form.Form, start_from: gr.BrowserState, summary: gr.HTML, studio: Studio
) -> None:
    """How many pictures it will be and how long they will take, or what is wrong, while one types.

    Once more when pictures have ended: then more is known of how long they take.
    """

    def sum_up(values: dict[Component, Any]) -> str:
        try:
            grid, _, _ = _read(fields.named(values), values[start_from], studio)
        except StudioError as error:
            return str(error)
        recipes = [recipe for row in grid.recipes for recipe in row]
        steps = sum(recipe.steps_run for recipe in recipes)
        words = [f"{grid.count} pictures, {steps:,} steps in all"]
        if seconds := studio.engine.seconds_for(recipes):
            words.append(f"about {_duration(seconds)}")
        if values[start_from]:
            words.append("each from the picture sent here")
        return ", ".join(words)

    watched = [name for name in fields.components if name not in ("previews", "negative_prompt")]
    gr.on(
        [fields[name].change for name in watched],
        sum_up,
        inputs={*fields, start_from},
        outputs=summary,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    cells.ended(sum_up, inputs={*fields, start_from}, outputs=summary, **AT_ONCE)


def _duration(seconds: float) -> str:
    """ "0.4 s", "14 s", "3 min", "2.5 h"."""
    if seconds < 3:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _connect_start(
    start: gr.Button, fields: form.Form, start_from: gr.BrowserState, failure: gr.HTML, studio: Studio
) -> None:
    def generate(values: dict[Component, Any], request: gr.Request) -> dict[Component, Any]:
        owner = owner_of(request.request)
        try:
            _start(fields.named(values), values[start_from], owner, studio)
        except StudioError as error:
            return {failure: str(error)}
        return {failure: ""}

    start.click(generate, inputs={*fields, start_from}, outputs=[failure], **AT_ONCE)


def _start(values: dict[str, Any], start_from: Any, owner: str, studio: Studio) -> None:
    """Make the grid that the form asks for. Pictures of the grid before that it asks for too go on where they are.

    So values added to an axis are rows or columns added to a running grid. Asking for the same grid makes it anew.
    """
    before = studio.live.shown(owner, PLACE)
    there = {job.recipe: job for job in before if not isinstance(job.event, Failed)}
    if not str(values["seed"] or "").strip() and (layout := studio.live.layout(owner, PLACE)):
        again = _read({**values, "seed": layout["plan"]["recipe"]["seed"]}, start_from, studio)
        if _is_larger(again[0], there):
            return _show(*again, there, before, owner, studio)
    found = _read(values, start_from, studio)
    _show(*found, there if _is_larger(found[0], there) else {}, before, owner, studio)


def _is_larger(grid: axes.Grid, there: dict[Recipe, Job]) -> bool:
    """Whether some, but not all, of the grid's pictures are there."""
    found = [recipe in there for row in grid.recipes for recipe in row]
    return any(found) and not all(found)


def _show(
    grid: axes.Grid,
    plan: sheets.Plan,
    previews: Any,
    there: dict[Recipe, Job],
    before: list[Job],
    owner: str,
    studio: Studio,
) -> None:
    recipes = [recipe for row in grid.recipes for recipe in row]
    new = iter(studio.engine.submit([recipe for recipe in recipes if recipe not in there], owner, previews))
    jobs = [there[recipe] if recipe in there else next(new) for recipe in recipes]
    for job in before:
        if job not in jobs:
            with contextlib.suppress(JobMissing):  # most are over
                studio.engine.pause(job.id)
    studio.live.show(owner, PLACE, jobs, _layout(grid, plan, jobs))


def _layout(grid: axes.Grid, plan: sheets.Plan, jobs: list[Job]) -> Layout:
    across = len(grid.columns)
    ids = [job.id for job in jobs]
    alike = {(job.recipe.model, job.recipe.width, job.recipe.height) for job in jobs}
    note = "Pictures of another model or size take turns: they cannot share the model's work." if len(alike) > 1 else ""
    cells = [ids[row * across : (row + 1) * across] for row in range(len(grid.rows))]
    return {
        "rows": grid.rows,
        "columns": grid.columns,
        "cells": cells,
        "note": note,
        "plan": sheets.described(plan),
    }


def _connect_centre(
    pictures: tuple[gr.HTML, gr.HTML], settings: Settings, start_from: gr.BrowserState, failure: gr.HTML
) -> None:
    """Any picture's recipe can be the one that the grid is about."""
    fields, models = settings.form, settings.models

    def use_settings(model: Any, event: gr.EventData) -> dict[Component, Any]:
        try:
            recipe = Recipe.from_values(event._data["recipe"])
            updates, said = painting.settings_of(recipe, models, fields, model)
        except StudioError as error:
            return {failure: str(error)}
        return {**updates, start_from: _kept(recipe), failure: said}

    def reuse_seed(event: gr.EventData) -> Any:
        return str(event._data["recipe"].get("seed", ""))

    def restore(model: Any, event: gr.EventData) -> dict[Component, Any]:
        """A contact sheet was dropped on the grid."""
        try:
            plan = sheets.from_values(event._data)
            updates, said = painting.settings_of(plan.centre, models, fields, model)
        except StudioError as error:
            return {failure: str(error)}
        padded = [*plan.axes, *[("", "")] * len(AXES)]
        values: dict[str, Any] = {}
        for axis, (name, text) in zip(AXES, padded, strict=False):
            values |= {axis: name, f"{axis}_values": text}
        return {**updates, **fields.update(values), start_from: _kept(plan.centre), failure: said}

    model = [fields["model"]]
    pictures[0].restore(restore, inputs=model, outputs=[*fields, start_from, failure], **AT_ONCE)
    for each in pictures:
        each.use_settings(use_settings, inputs=model, outputs=[*fields, start_from, failure], **AT_ONCE)
        each.reuse_seed(reuse_seed, outputs=settings.fields["seed"], **AT_ONCE)


def _kept(recipe: Recipe) -> dict[str, Any]:
    """What a grid around this recipe takes over without a field of its own."""
    values = asdict(recipe)
    return {name: values[name] for name in _SOURCE} if recipe.source else {}
