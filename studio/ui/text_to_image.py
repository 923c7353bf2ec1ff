"""The text-to-image tab: what to draw on one side, the picture coming out of the noise on the other."""

import json
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.engine import Engine
from studio.errors import StudioError
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.recipe import Recipe
from studio.ui import form
from studio.ui.canvas import canvas, notice, strip
from studio.web.live import Live, owner_of

PLACE = "text_to_image"

EXAMPLES = (
    "a red apple, 3d render",
    "cartoon cactus",
    "a ghost on a purple background",
    "a tree, flat illustration",
    "a cat on a blue background",
)

# Handlers go straight to their thread: the engine is the only queue that matters. Values come as they were sent:
# they are judged by the recipe's own check, in its own words.
_AT_ONCE: dict[str, Any] = {
    "queue": False,
    "preprocess": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}
_IN_PAGE: dict[str, Any] = {"fn": None, "show_progress": "hidden", "api_visibility": "private"}


def build(page: gr.Blocks, engine: Engine, models: Manager, live: Live) -> None:
    """Lay the tab out in the current context and connect it."""
    with gr.Row(elem_classes="workplace"):
        with gr.Column(elem_classes="controls", min_width=0):
            with gr.Column(elem_classes="fields", min_width=0):
                settings = _settings(models)
                problems = notice(_problems(models.entries()))
            with gr.Column(elem_classes="actions", min_width=0):
                failure = notice(alert=True, elem_id=f"{PLACE}-notice")
                with gr.Row(elem_classes="buttons"):
                    start = gr.Button("Generate", variant="primary", elem_id=f"{PLACE}-start", min_width=0, scale=3)
                    gr.Button("Stop", variant="secondary", elem_id=f"{PLACE}-stop", min_width=0, scale=1)
        with gr.Column(elem_classes="pictures", min_width=0):
            stage = canvas(PLACE, f"{PLACE}-start", f"{PLACE}-stop")
            recent = strip(PLACE)
    saved = gr.BrowserState({}, storage_key=f"emerge.{PLACE}", secret="emerge")
    _connect_start(start, settings.form, failure, engine, live)
    _connect_model(settings, failure, models)
    _connect_shape(settings, models)
    _connect_seed(settings, failure, live)
    _connect_pictures((stage, recent), settings, failure, models)
    _connect_memory(page, settings, problems, saved, models)


class _Settings:
    """The form, and the controls beside it that only help to fill it in."""

    def __init__(self, components: dict[str, Component], helpers: dict[str, Any]) -> None:
        self.form = form.Form(components)
        self.shape: gr.Radio = helpers["shape"]
        self.dice: gr.Button = helpers["dice"]
        self.last: gr.Button = helpers["last"]


def _settings(models: Manager) -> _Settings:
    entries = models.entries()
    names = form.usable(entries)
    model = names[0] if names else None
    first = {**asdict(Recipe()), **(form.defaults(models, model) if model else {})}
    fields: dict[str, Component] = {}
    helpers: dict[str, Any] = {}
    fields["prompt"] = gr.Textbox(
        label="Prompt", placeholder="What do you want to see?", lines=3, max_lines=10, elem_id=f"{PLACE}-prompt"
    )
    with gr.Row(elem_classes="examples"):
        for text in EXAMPLES:
            example = gr.Button(text, size="sm", min_width=0, scale=0)
            example.click(js=f"() => {json.dumps(text)}", outputs=fields["prompt"], **_IN_PAGE)
    fields["negative_prompt"] = gr.Textbox(
        label="Negative prompt", placeholder="What to keep away from", lines=1, max_lines=6
    )
    fields["model"] = gr.Dropdown(names, value=model, label="Model", filterable=len(names) > 8)
    native = (first["width"], first["height"])
    helpers["shape"] = gr.Radio(
        list(form.SHAPES), value=form.shape_of_size(*native, native), label="Shape", elem_classes="shapes"
    )
    with gr.Row(elem_classes="together"):
        for name in ("width", "height"):
            fields[name] = gr.Number(first[name], label=form.NUMBERS[name], step=8, min_width=0)
    with gr.Row(elem_classes="together"):
        fields["steps"] = gr.Number(first["steps"], label=form.NUMBERS["steps"], min_width=0)
        guidance = form.NUMBERS["guidance_scale"]
        fields["guidance_scale"] = gr.Number(first["guidance_scale"], label=guidance, step=0.5, min_width=0)
        fields["pictures"] = gr.Number(1, label=form.NUMBERS["pictures"], min_width=0)
    with gr.Row(elem_classes="together"):
        # The choices are filled in when the page is loaded, and with every other model.
        fields["sampler"] = gr.Dropdown(
            [first["sampler"]], value=first["sampler"], label="Sampler", filterable=False, min_width=0
        )
        fields["previews"] = gr.Dropdown(
            list(form.PREVIEWS), value="clean", label="Preview", filterable=False, min_width=0
        )
    with gr.Row(elem_classes="together seed"):
        fields["seed"] = gr.Textbox(label="Seed", placeholder="a new one each time", max_lines=1, min_width=0)
        helpers["dice"] = gr.Button("Random", size="sm", min_width=0, scale=0)
        helpers["last"] = gr.Button("Reuse last", size="sm", min_width=0, scale=0)
    return _Settings(fields, helpers)


def _problems(entries: list[Entry]) -> str:
    """What there is to say of models that cannot be used."""
    sentences = [f"{entry.name}: {entry.problem}" for entry in entries if entry.problem]
    if not form.usable(entries):
        sentences.insert(0, "No model was found that can be used. Put a diffusers folder into a models folder.")
    return "\n".join(sentences)


def _connect_start(start: gr.Button, fields: form.Form, failure: gr.HTML, engine: Engine, live: Live) -> None:
    def generate(values: dict[Component, Any], request: gr.Request) -> dict[Component, Any]:
        owner = owner_of(request.request)
        try:
            recipes, previews = form.read(fields.named(values))
            live.show(owner, PLACE, engine.submit(recipes, owner, previews))
        except StudioError as error:
            return {failure: str(error)}
        return {failure: ""}

    start.click(generate, inputs=set(fields), outputs=[failure], **_AT_ONCE)


def _connect_model(settings: _Settings, failure: gr.HTML, models: Manager) -> None:
    fields = settings.form

    def choose(model: str) -> dict[Component, Any]:
        try:
            suited = form.defaults(models, model)
        except StudioError as error:
            return {failure: str(error)}
        size = (suited["width"], suited["height"])
        updates = fields.update(form.for_model(models.entries(), model, suited))
        return {**updates, settings.shape: form.shape_of_size(*size, size), failure: ""}

    outputs = [*fields, settings.shape, failure]
    fields["model"].input(choose, inputs=[fields["model"]], outputs=outputs, **_AT_ONCE)


def _connect_shape(settings: _Settings, models: Manager) -> None:
    fields = settings.form

    def native(model: str) -> tuple[int, int]:
        try:
            recipe = models.default_recipe(model)
        except StudioError:
            recipe = Recipe()
        return recipe.width, recipe.height

    def shape_to_size(shape: str, model: str) -> tuple[int, int]:
        return form.size_of_shape(shape, *native(model))

    def size_to_shape(width: Any, height: Any, model: str) -> str | None:
        return form.shape_of_size(width, height, native(model))

    size = [fields["width"], fields["height"]]
    settings.shape.input(shape_to_size, inputs=[settings.shape, fields["model"]], outputs=size, **_AT_ONCE)
    gr.on(
        [each.change for each in size],
        size_to_shape,
        inputs=[*size, fields["model"]],
        outputs=settings.shape,
        trigger_mode="always_last",
        **_AT_ONCE,
    )


def _connect_seed(settings: _Settings, failure: gr.HTML, live: Live) -> None:
    def last(request: gr.Request) -> dict[Component, Any]:
        shown = live.shown(owner_of(request.request), PLACE)
        if not shown:
            return {failure: "No picture was made here yet whose seed could be used again."}
        return {seed: str(shown[0].recipe.seed), failure: ""}

    seed = settings.form["seed"]
    settings.dice.click(js="() => null", outputs=seed, **_IN_PAGE)
    settings.last.click(last, outputs=[seed, failure], **_AT_ONCE)


def _connect_pictures(sources: tuple[gr.HTML, gr.HTML], settings: _Settings, failure: gr.HTML, models: Manager) -> None:
    fields = settings.form

    def use_settings(event: gr.EventData) -> dict[Component, Any]:
        try:
            recipe = Recipe.from_values(event._data["recipe"])
        except StudioError as error:
            return {failure: str(error)}
        entries = models.entries()
        if recipe.model not in form.usable(entries):
            return {failure: f"The model {recipe.model!r} that made this picture is not here any more."}
        values = {**asdict(recipe), "seed": str(recipe.seed), "pictures": 1}
        return {**fields.update(form.for_model(entries, recipe.model, values)), failure: ""}

    def reuse_seed(event: gr.EventData) -> Any:
        return str(event._data["recipe"]["seed"])

    for source in sources:
        source.use_settings(use_settings, outputs=[*fields, failure], **_AT_ONCE)
        source.reuse_seed(reuse_seed, outputs=fields["seed"], **_AT_ONCE)


def _connect_memory(
    page: gr.Blocks, settings: _Settings, problems: gr.HTML, saved: gr.BrowserState, models: Manager
) -> None:
    """Fill in what was set before a reload, and remember every change, in the browser itself."""
    fields = settings.form

    def restore(memory: Any) -> dict[Component, Any]:
        entries = models.entries()
        names = form.usable(entries)
        values = form.restored(memory)
        model = values.get("model")
        if model not in names:
            model = names[0] if names else None
            values |= form.defaults(models, model) if model else {}
        return {**fields.update(form.for_model(entries, model, values)), problems: _problems(entries)}

    names = json.dumps(list(fields.components))
    remember = f"(...values) => Object.fromEntries({names}.map((name, index) => [name, values[index]]))"
    page.load(restore, inputs=[saved], outputs=[*fields, problems], **_AT_ONCE).then(
        js="() => { document.documentElement.dataset.restored = '1'; }", **_IN_PAGE
    )
    gr.on(
        [each.change for each in fields],
        js=remember,
        inputs=list(fields),
        outputs=saved,
        trigger_mode="always_last",
        **_IN_PAGE,
    )
