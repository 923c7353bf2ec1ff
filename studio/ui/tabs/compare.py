"""The compare tab: a grid of pictures over two or three settings, all of them alive at once."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.compat.of_gradio import carried
from studio.engine.events import Failed
from studio.engine.job import Job
from studio.errors import JobMissing, RecipeError, StudioError
from studio.grids import axes, sheets
from studio.recipe.fields import MAX_PROMPT
from studio.recipe.recipe import Recipe
from studio.ui import form, more, painting, styling
from studio.ui.canvas import comparison, heading, notice, offers, strip
from studio.ui.filling import AT_ONCE, Answer
from studio.ui.painting import Settings, Studio
from studio.web.live import Layout, owner_of, stage_of

PLACE = "compare"

AXES = ("columns", "rows", "third")
"""The axes' names in the form: each a setting and what is typed for it."""

FIRST = (("guidance_scale", "1, 4, 7"), ("seed", "1-3"), ("", ""))

_SOURCE = ("source", "mask", "strength", "fill", "box")
"""What a recipe of the grid takes over from the picture it was compared from, without a field of its own."""


def build(page: gr.Blocks, window: gr.HTML, studio: Studio) -> None:
    """Lay the tab out in the current context and connect it. window: names the browser's window."""
    settings = Settings(PLACE, studio.models, window)
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
                heading("Settings")
                settings.prompt()
                settings.choice_of_model()
                offered = _axis_fields(settings)
                summary = notice()
                # What was sent here to be compared, JSON. Among the form's fields, since it is remembered with them.
                settings.fields["sent"] = gr.Textbox("", visible=False)
                settings.size()
                settings.count()
                settings.fields["pictures"].visible = False
                with more.further(settings) as told:
                    settings.negative()
                    styling.choice(settings, studio)
                    settings.sampling()
                    write = styling.panel(settings, studio)
                warnings = notice(painting.problems(studio.models.entries()))
            start, answer = painting.actions(settings, unless=AXES)
        with gr.Column(elem_classes="pictures", min_width=0):
            cells, recent = comparison(PLACE, f"{PLACE}-start", f"{PLACE}-stop"), strip(PLACE)
    _connect_summary(cells, settings.form, summary, offered, studio)
    _connect_axes(settings, answer, offered, studio)
    _connect_start(start, settings, answer, studio)
    _connect_again(cells, settings, answer, studio)
    _connect_centre((cells, recent), settings, answer)
    painting.connect_model(settings, answer)
    painting.connect_lengths(settings, studio)
    painting.connect_seed(settings, answer, studio.live)
    styling.connect_writing(write, settings, answer, studio)
    more.connect(settings, told)
    painting.connect_memory(page, settings, warnings)


def _axis_fields(settings: Settings) -> dict[str, gr.HTML]:
    """Each axis: a setting, its values, and the names that these can be. Returns the last, by axis."""
    choices = [("none", ""), *((label, name) for name, label in axes.LABELS.items())]
    offered = {}
    for axis, title, (name, text) in zip(AXES, ("Columns", "Rows", "And"), FIRST, strict=True):
        with gr.Row(elem_classes="together"):
            settings.fields[axis] = gr.Dropdown(choices, value=name, label=title, filterable=False, min_width=0)
            settings.fields[f"{axis}_values"] = gr.Textbox(
                text,
                label=f"{title}: values",
                placeholder=axes.EXAMPLES.get(name),
                show_label=False,
                max_lines=1,
                min_width=0,
                elem_classes="axis-values",
            )
        # Whose values they are: a list tells of a choice when one leaves it, too.
        settings.fields[f"{axis}_before"] = gr.Textbox(name, visible=False)
        offered[axis] = offers(f"{title}: names")
    return offered


def _connect_axes(settings: Settings, answer: Answer, offered: dict[str, gr.HTML], studio: Studio) -> None:
    """Another setting brings values that suit it, unless those that are there do; and names can be pressed."""
    fields = settings.form

    def choose(values: dict[Component, Any], axis: str) -> dict[Component, Any]:
        named = fields.named(values)
        setting, former = named[axis], named[f"{axis}_before"]
        if setting == former:
            return {answer.component: gr.skip()}
        updates = fields.update({f"{axis}_before": setting})
        if setting not in axes.LABELS:
            return {**updates, **answer.nothing()}
        text = _suited(setting, str(named[f"{axis}_values"] or ""), named, studio)
        updates |= fields.update({f"{axis}_values": text})
        before = {**values, fields[axis]: former}
        return answer.filled(before, updates, f"as suits {axes.LABELS[setting]}", cause=axis)

    def toggle(setting: Any, text: Any, model: Any, event: gr.EventData) -> str:
        names, name = _names(str(setting), str(model or ""), studio), str(carried(event)["name"])
        chosen = axes.split(str(text or "")[:MAX_PROMPT], names)
        kept = [each for each in chosen if each != name] if name in chosen else [*chosen, name]
        return ", ".join(map(axes.quoted, kept))

    for axis in AXES:
        trio = [fields[axis], fields[f"{axis}_values"], fields["model"]]
        fields[axis].input(partial(choose, axis=axis), inputs=answer.inputs, outputs=answer.outputs, **AT_ONCE)
        offered[axis].toggle(toggle, inputs=trio, outputs=fields[f"{axis}_values"], **AT_ONCE)


def _suited(setting: str, text: str, named: dict[str, Any], studio: Studio) -> str:
    """Values for an axis of this setting: those that are there if they can be read for it, else some to begin with."""
    names = _names(setting, str(named["model"] or ""), studio)
    centre = Recipe(prompt=str(named["prompt"] or ""), source=f"64x64-{'0' * 24}")
    with contextlib.suppress(RecipeError):
        axes.parse(setting, text, centre, {setting: names})
        return text
    if setting in axes.NAMED:
        return ", ".join(map(axes.quoted, names[:3]))
    if setting == "size":
        facts = studio.models.facts(str(named["model"] or ""))
        sizes = (form.size_of_shape(shape, facts.width, facts.height) for shape in ("1:1", "3:2", "2:3"))
        return ", ".join(f"{width}x{height}" for width, height in sizes)
    if setting == "prompt":
        return axes.quoted(centre.prompt.split()[-1]) if centre.prompt.strip() else ""
    return axes.BEGINNINGS[setting]


def _read(values: dict[str, Any], studio: Studio) -> tuple[axes.Grid, sheets.Plan, Any]:
    """The grid that the form asks for, what it is made of, and the kind of preview."""
    chosen = [(values[axis], str(values[f"{axis}_values"] or "")) for axis in AXES if values[axis]]
    sent = {name: value for name, value in form.plain(values["sent"]).items() if name in _SOURCE}
    [centre], previews = form.read({**form.worded(values, studio.styles, studio.models), "pictures": 1}, **sent)
    plan = sheets.Plan(centre, tuple(chosen))
    changes: axes.Changes = {"style": _styled(studio), "model": partial(form.on_model, studio.models)}
    with _about_axes(values):
        grid = axes.plan(centre, chosen, _choices(chosen, centre.model, studio), changes)
    # Each picture makes its own choices, by its own seed; the plan keeps what was typed.
    made = tuple(tuple(form.with_choices_made(each, studio.wildcards) for each in row) for row in grid.recipes)
    return replace(grid, recipes=made), plan, previews


@contextlib.contextmanager
def _about_axes(values: dict[str, Any]) -> Iterator[None]:
    """What is wrong with a setting that is varied is wrong with the values of its axis."""
    fields = {values[axis]: f"{axis}_values" for axis in AXES if values[axis]}
    if "size" in fields:
        fields |= {"width": fields["size"], "height": fields["size"]}
    try:
        yield
    except StudioError as error:
        error.fields = tuple(dict.fromkeys(fields.get(name, name) for name in error.fields))
        raise


def _choices(chosen: list[tuple[str, str]], model: str, studio: Studio) -> dict[str, list[str]]:
    """The names that can be typed for an axis. The disk is looked through only if one asks for names."""
    names = {name for name, _ in chosen}
    choices = {"style": list(studio.styles.all())} if "style" in names else {}
    if {"sampler", "schedule", "model"} & names:
        entries = studio.models.entries()
        choices |= {name: form.choices(entries, model, name) for name in ("sampler", "schedule")}
        choices |= {"model": form.usable(entries)}
    return choices


def _names(setting: str, model: str, studio: Studio) -> list[str]:
    """The names that there are for a setting; none if its values are no names."""
    return _choices([(setting, "")], model, studio).get(setting, [])


def _offered(setting: Any, text: Any, model: Any, studio: Studio) -> str:
    """The names for an axis, and which of them are typed, as `canvas.offers` takes them."""
    names = _names(str(setting), str(model or ""), studio)
    chosen = axes.split(str(text or "")[:MAX_PROMPT], names)
    return json.dumps([[name, name in chosen] for name in names]) if names else ""


def _styled(studio: Studio) -> Callable[[Recipe, str], Recipe]:
    def change(recipe: Recipe, name: str) -> Recipe:
        worded = form.worded({**asdict(recipe), "styles": [name]}, studio.styles, studio.models)
        return replace(recipe, **{each: worded[each] for each in ("prompt", "negative_prompt")})

    return change


def _connect_summary(
    cells: gr.HTML,
    fields: form.Form,
    summary: gr.HTML,
    offered: dict[str, gr.HTML],
    studio: Studio,
) -> None:
    """How many pictures it will be and how long they will take, or what is wrong, while one types; and names to press.

    Once more when pictures have ended: then more is known of how long they take.
    """

    def sum_up(values: dict[Component, Any]) -> str:
        try:
            grid, _, _ = _read(fields.named(values), studio)
        except StudioError as error:
            return str(error)
        recipes = [recipe for row in grid.recipes for recipe in row]
        steps = sum(recipe.steps_run for recipe in recipes)
        words = [f"{_counted(grid.count, 'picture')}, {_counted(steps, 'step')} in all"]
        if seconds := studio.engine.seconds_for(recipes):
            words.append(f"about {_duration(seconds)}")
        if values[fields["sent"]]:
            words.append("each from the picture sent here")
        return ", ".join(words)

    # In one function: of two that wait for the last change of one field, Gradio calls each because of the other.
    def tell(values: dict[Component, Any]) -> dict[Component, Any]:
        named = fields.named(values)
        names = {
            each: _offered(named[axis], named[f"{axis}_values"], named["model"], studio)
            for axis, each in offered.items()
        }
        return {summary: sum_up(values), **names}

    watched = [name for name in fields.components if name not in ("previews", "negative_prompt")]
    gr.on(
        [fields[name].change for name in watched],
        tell,
        inputs=set(fields),
        outputs=[summary, *offered.values()],
        trigger_mode="always_last",
        **AT_ONCE,
    )
    cells.ended(tell, inputs=set(fields), outputs=[summary, *offered.values()], **AT_ONCE)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    """ "0.4 s", "14 s", "3 min", "2.5 h"."""
    if seconds < 3:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _connect_start(start: gr.Button, settings: Settings, answer: Answer, studio: Studio) -> None:
    fields, window = settings.form, settings.window

    def generate(values: dict[Component, Any], request: gr.Request) -> dict[Component, Any]:
        owner = owner_of(request.request)
        try:
            _start(fields.named(values), owner, stage_of(values[window], PLACE), studio)
        except StudioError as error:
            return answer.refused(error)
        return answer.nothing()

    start.click(generate, inputs={*fields, window}, outputs=[answer.component], **AT_ONCE)


def _connect_again(cells: gr.HTML, settings: Settings, answer: Answer, studio: Studio) -> None:
    """Pictures that were dropped from the grid come back to their places. They begin anew, and become the same."""

    def again(window: Any, event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        owner, stage = owner_of(request.request), stage_of(window, PLACE)
        try:
            wanted = dict.fromkeys(map(str, carried(event)["jobs"]))
            layout = studio.live.layout(owner, stage)
            there = {job_id for row in layout["cells"] for job_id in row} if layout else set()
            dropped = [studio.engine.job(each) for each in wanted if each in there]
            if not dropped:
                raise RecipeError("That grid is not on the page any more.")
            made = studio.engine.submit([job.recipe for job in dropped], owner, dropped[0].previews)
            for job in studio.live.exchange(owner, stage, dict(zip((job.id for job in dropped), made, strict=True))):
                with contextlib.suppress(JobMissing):
                    studio.engine.cancel(job.id)  # another grid has come meanwhile
        except StudioError as error:
            return answer.refused(error)
        return answer.nothing()

    # Gradio would pass over a second undo while the first is under way.
    cells.again(again, inputs=[settings.window], outputs=[answer.component], trigger_mode="multiple", **AT_ONCE)


def _start(values: dict[str, Any], owner: str, stage: str, studio: Studio) -> None:
    """Make the grid that the form asks for. Pictures of the grid before that it asks for too go on where they are.

    So values added to an axis are rows or columns added to a running grid. Asking for the same grid makes it anew.
    """
    there = {job.recipe: job for job in studio.live.shown(owner, stage) if not isinstance(job.event, Failed)}
    if not str(values["seed"] or "").strip() and (layout := studio.live.layout(owner, stage)):
        again = _read({**values, "seed": layout["plan"]["recipe"]["seed"]}, studio)
        if _is_larger(again[0], there):
            return _show(*again, there, owner, stage, studio)
    found = _read(values, studio)
    _show(*found, there if _is_larger(found[0], there) else {}, owner, stage, studio)


def _is_larger(grid: axes.Grid, there: dict[Recipe, Job]) -> bool:
    """Whether some, but not all, of the grid's pictures are there."""
    found = [recipe in there for row in grid.recipes for recipe in row]
    return any(found) and not all(found)


def _show(
    grid: axes.Grid,
    plan: sheets.Plan,
    previews: Any,
    there: dict[Recipe, Job],
    owner: str,
    stage: str,
    studio: Studio,
) -> None:
    recipes = [recipe for row in grid.recipes for recipe in row]
    new = iter(studio.engine.submit([recipe for recipe in recipes if recipe not in there], owner, previews))
    jobs = [there[recipe] if recipe in there else next(new) for recipe in recipes]
    for job in studio.live.show(owner, stage, jobs, _layout(grid, plan, jobs)):
        with contextlib.suppress(JobMissing):  # most are over
            studio.engine.pause(job.id)


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


def _connect_centre(pictures: tuple[gr.HTML, gr.HTML], settings: Settings, answer: Answer) -> None:
    """Any picture's recipe can be the one that the grid is about."""
    fields, models = settings.form, settings.models

    def use_settings(values: dict[Component, Any], event: gr.EventData) -> dict[Component, Any]:
        try:
            recipe = Recipe.from_values(carried(event)["recipe"])
            updates, said = painting.settings_of(recipe, models, fields, values[fields["model"]])
        except StudioError as error:
            return answer.refused(error)
        return answer.filled(values, updates | {fields["sent"]: _kept(recipe)}, "from that picture", said)

    def restore(values: dict[Component, Any], event: gr.EventData) -> dict[Component, Any]:
        """A contact sheet was dropped on the grid."""
        try:
            plan = sheets.from_values(carried(event))
            updates, said = painting.settings_of(plan.centre, models, fields, values[fields["model"]])
        except StudioError as error:
            return answer.refused(error)
        padded = [*plan.axes, *[("", "")] * len(AXES)]
        for axis, (name, text) in zip(AXES, padded, strict=False):
            updates |= fields.update({axis: name, f"{axis}_before": name, f"{axis}_values": text})
        return answer.filled(values, updates | {fields["sent"]: _kept(plan.centre)}, "from that sheet", said)

    pictures[0].restore(restore, inputs=answer.inputs, outputs=answer.outputs, **AT_ONCE)
    for each in pictures:
        each.use_settings(use_settings, inputs=answer.inputs, outputs=answer.outputs, **AT_ONCE)
    painting.connect_reuse(pictures, settings, answer)


def _kept(recipe: Recipe) -> str:
    """What a grid around this recipe takes over without a field of its own, as JSON; empty if nothing."""
    values = asdict(recipe)
    return json.dumps({name: values[name] for name in _SOURCE}) if recipe.source else ""
