"""What the painting tabs have in common: the settings of a picture, and what their buttons and lists do."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import numerals
from studio.compat.of_gradio import carried
from studio.engine.engine import Engine
from studio.engine.job import Job
from studio.engine.protocols import PreviewKind
from studio.errors import JobMissing, StudioError
from studio.library.library import Library
from studio.models import tokens
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.pictures import masks
from studio.pictures.sources import Sources
from studio.recipe import turns
from studio.recipe.recipe import AS_PUBLISHED, AUTOMATIC, RANDOM_SEEDS, ROUNDING, Recipe
from studio.ui import addons, canvas, form
from studio.ui.canvas import held, notice, pinned, slider
from studio.ui.filling import AT_ONCE, Answer, brought_to
from studio.ui.recalled import recalled
from studio.web.live import Live, owner_of, stage_of
from studio.words import wildcard_files
from studio.words.styles import Styles
from studio.words.tags import remark
from studio.words.wildcards import Wildcards

IN_PAGE: dict[str, Any] = {"fn": None, "show_progress": "hidden", "api_visibility": "private"}


MOST_PROBLEMS = 3
"""Models that cannot be used and are named below the form; of more only their number is told."""


@dataclass(frozen=True)
class Studio:
    """All that the page is connected to."""

    engine: Engine
    models: Manager
    live: Live
    library: Library
    sources: Sources
    styles: Styles

    @property
    def wildcards(self) -> Wildcards:
        return Wildcards(wildcard_files.folders((*self.models.folders, self.library.folder)))


class Settings:
    """A tab's form while it is laid out, part by part, and the controls beside it that only help to fill it in.

    Its methods make components in Gradio's current context, so a tab puts its parts in the order it wants.
    """

    def __init__(self, place: str, models: Manager, window: gr.HTML) -> None:
        """window: whose value names the browser's window (`canvas.window`)."""
        self.place, self.models, self.window = place, models, window
        self.fields: dict[str, Component] = {}
        self.further: list[str] = []
        self.shapes: gr.Radio | None = None
        self.restored_styles: Callable[[list[str]], Any] = lambda names: names
        self.examples: list[gr.Button] = []
        self.names = form.usable(models.entries())
        self.model = self.names[0] if self.names else None
        self.first = {**asdict(Recipe()), **(form.defaults(models, self.model) if self.model else {})}

    @property
    def form(self) -> form.Form:
        return form.Form(self.fields)

    def prompt(self, examples: Iterable[str] = ()) -> None:
        """The prompt, and examples that fill it in."""
        self.fields["prompt"] = gr.Textbox(
            label="Prompt",
            placeholder="What do you want to see?",
            lines=3,
            max_lines=10,
            elem_id=f"{self.place}-prompt",
        )
        self.lengths = {"prompt": notice(elem_id=f"{self.place}-prompt-tokens")}
        if examples:
            with gr.Row(elem_classes="examples"):
                for text in examples:
                    self.examples.append(gr.Button(text, size="sm", min_width=0, scale=0))

    def negative(self) -> None:
        self.fields["negative_prompt"] = gr.Textbox(
            label="Negative prompt", placeholder="What to keep away from", lines=1, max_lines=6
        )
        self.lengths["negative_prompt"] = notice(elem_id=f"{self.place}-negative-tokens")

    def choice_of_model(self) -> None:
        self.fields["model"] = gr.Dropdown(self.names, value=self.model, label="Model", filterable=len(self.names) > 8)
        # Whose settings the form has: a list tells of a choice when one leaves it, too.
        self.fields["suited"] = gr.Textbox(self.model, visible=False)
        self.fields["model"].change(
            js="(model) => model", inputs=self.fields["model"], outputs=held(self.model), **IN_PAGE
        )

    def shape(self) -> None:
        """Shapes that fill in the size."""
        native = (self.first["width"], self.first["height"])
        shape = form.shape_of_size(*native, native)
        self.shapes = gr.Radio(list(form.SHAPES), value=shape, label="Shape", elem_classes="shapes")

    def size(self) -> None:
        with gr.Row(elem_classes="together"):
            for name in ("width", "height"):
                self.fields[name] = form.number(name, self.first[name])

    def count(self) -> None:
        self.fields["pictures"] = form.number("pictures", 1)

    def strength(self, value: float) -> None:
        """The share of the steps that is run, and a line that says how many steps that makes."""
        with gr.Row(elem_classes="together sliding"):
            self.fields["strength"] = form.number("strength", value)
            self.slider = slider(form.NUMBERS["strength"], f"{self.place}-strength", value, 0, 1)
        steps = self.first["steps"]
        self.steps_run = notice(f"{int(steps * value + ROUNDING)} of {steps} steps are run")

    def sampling(self) -> None:
        """Steps, guidance, sampler, kind of preview and seed."""
        with gr.Row(elem_classes="together"):
            self.fields["steps"] = form.number("steps", self.first["steps"])
            self.fields["guidance_scale"] = form.number("guidance_scale", self.first["guidance_scale"])
        with gr.Row(elem_classes="together"):
            # The choices are filled in when the page is loaded, and with every other model.
            sampler = self.first["sampler"]
            self.fields["sampler"] = gr.Dropdown(
                [sampler], value=sampler, label="Sampler", filterable=False, min_width=0
            )
            schedule = self.first["schedule"]
            self.fields["schedule"] = gr.Dropdown(
                [schedule], value=schedule, label="Schedule", filterable=False, min_width=0
            )
        with gr.Row(elem_classes="together"):
            self.fields["guidance_end"] = form.number("guidance_end", self.first["guidance_end"])
            self.fields["previews"] = gr.Dropdown(
                list(form.PREVIEWS), value="clean", label="Preview", filterable=False, min_width=0
            )
        self.fields["turns"] = gr.Textbox(
            label="Changes on the way", placeholder="7: guidance 9", lines=1, max_lines=4, min_width=0
        )
        with gr.Row(elem_classes="together seed"):
            self.fields["seed"] = gr.Textbox(label="Seed", placeholder="a new one each time", max_lines=1, min_width=0)
            self.dice = gr.Button("Random", size="sm", min_width=0, scale=0)
            self.last = gr.Button("Reuse last", size="sm", min_width=0, scale=0)
        with gr.Row(elem_classes="together"):
            self.fields["variation_seed"] = gr.Textbox(
                label="Variation seed", placeholder="a new one each time", max_lines=1, min_width=0
            )
            self.fields["variation_strength"] = form.number("variation_strength", 0.0)
        addons.fields(self.place, self.models, self.fields)


def missing(model: str, is_there: bool) -> str:
    """What there is to say of a model that the form was set to, and that is not here, or cannot be used, any more."""
    what, remedy = ("cannot be used", "mend it") if is_there else ("is not here", "put it back")
    return (
        f"The model {model[:80]!r} {what} now. Its settings are kept: {remedy} and reload the page, or choose another "
        "model."
    )


def actions(settings: Settings, unless: Iterable[str] = ()) -> tuple[gr.Button, Answer]:
    """Generate and Stop below the settings, and above them the form's answers, and the seed if one is kept.

    unless: fields that may hold "seed", and then vary it.
    """
    place, seed = settings.place, settings.fields["seed"]
    with gr.Column(elem_classes="actions", min_width=0):
        answer, pin = Answer(place, settings.form, settings.models), pinned()
        with gr.Row(elem_classes="buttons"):
            start = gr.Button("Generate", variant="primary", elem_id=f"{place}-start", min_width=0, scale=3)
            gr.Button("Stop", variant="secondary", elem_id=f"{place}-stop", min_width=0, scale=1)
    watched = [seed, *(settings.fields[name] for name in unless)]
    varied = '(seed, ...varied) => (varied.includes("seed") ? "" : (seed ?? "").trim())'
    gr.on([each.change for each in watched], js=varied, inputs=watched, outputs=pin, **IN_PAGE)
    pin.let_go(js="() => null", outputs=seed, **IN_PAGE)
    return start, answer


def problems(entries: Sequence[Entry]) -> str:
    """What there is to say of models that cannot be used."""
    sentences = [f"{entry.name}: {entry.problem}" for entry in entries if entry.problem]
    if len(sentences) > MOST_PROBLEMS:
        sentences = [f"{len(sentences)} models cannot be used; the tab Models says why."]
    if not form.usable(entries):
        sentences.insert(0, "No model was found that can be used. Put a diffusers folder into a models folder.")
    return "\n".join(sentences)


def connect_start(
    trigger: Callable[..., Any],
    settings: Settings,
    answer: Answer,
    studio: Studio,
    read: Callable[[dict[str, Any], dict[str, Any]], tuple[list[Recipe], PreviewKind]],
) -> None:
    """Make the pictures that the form asks for, and show them in the tab.

    trigger: the listener of an event. read: values of the form by name, and the event's data → recipes and previews.
    """
    fields = settings.form

    def generate(values: dict[Component, Any], event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        owner = owner_of(request.request)
        try:
            named = form.worded(fields.named(values), studio.styles, studio.models)
            recipes, previews = read(named, carried(event))
            recipes = [form.with_choices_made(recipe, studio.wildcards) for recipe in recipes]
            stage = stage_of(values[settings.window], settings.place)
            studio.live.show(owner, stage, studio.engine.submit(recipes, owner, previews))
        except StudioError as error:
            return answer.refused(error)
        return answer.remark(remark(recipes[0].negative_prompt))

    trigger(generate, inputs={*fields, settings.window}, outputs=[answer.component], **AT_ONCE)


def connect_model(settings: Settings, answer: Answer, stage: gr.HTML | None = None) -> None:
    """Another model brings its own size, steps, guidance and samplers. stage: tells of one chosen in the models tab."""
    fields, models = settings.form, settings.models
    shapes = [settings.shapes] if settings.shapes else []

    def suit(values: dict[Component, Any], model: str) -> dict[Component, Any]:
        try:
            suited = form.defaults(models, model)
        except StudioError as error:
            return answer.refused(error)
        size = (suited["width"], suited["height"])
        updates = fields.update(form.for_model(models.entries(), model, suited))
        before = {**values, fields["model"]: values[fields["suited"]]}
        filled = answer.filled(before, updates, f"as suits {model}")
        return {**filled, **{each: form.shape_of_size(*size, size) for each in shapes}}

    def choose(values: dict[Component, Any]) -> dict[Component, Any]:
        named = fields.named(values)
        if not named["model"] or named["model"] == named["suited"]:
            return {answer.component: gr.skip()}
        return suit(values, str(named["model"]))

    def chosen(values: dict[Component, Any], event: gr.EventData) -> dict[Component, Any]:
        return suit(values, str(carried(event)["model"]))

    outputs = [*answer.outputs, *shapes]
    fields["model"].input(choose, inputs=answer.inputs, outputs=outputs, **AT_ONCE)
    if stage:
        stage.choose_model(chosen, inputs=answer.inputs, outputs=outputs, **AT_ONCE)


def connect_examples(settings: Settings, answer: Answer) -> None:
    """An example takes the prompt's place, which can be taken back."""
    prompt = settings.fields["prompt"]

    def use(values: dict[Component, Any], text: str) -> dict[Component, Any]:
        return answer.filled(values, {prompt: text}, "from the example") if values[prompt] else {prompt: text}

    for example in settings.examples:
        handler = partial(use, text=str(example.value))
        example.click(handler, inputs=answer.inputs, outputs=[prompt, answer.component], **AT_ONCE)


def connect_shape(settings: Settings) -> None:
    """A shape fills in a size, and a size shows which shape it is."""
    fields, models = settings.form, settings.models

    def native(model: str) -> tuple[int, int]:
        try:
            recipe = models.default_recipe(model)
        except StudioError:
            recipe = Recipe()
        return recipe.width, recipe.height

    def shape_to_size(shape: str, model: str) -> tuple[int, int]:
        return form.size_of_shape(shape, *native(model))

    def size_to_shape(width: Any, height: Any, model: str) -> str | None:
        across, down = (numerals.number(str(side or "")) for side in (width, height))
        return form.shape_of_size(across, down, native(model))

    size = [fields["width"], fields["height"]]
    assert settings.shapes, "the tab has no shapes to connect"
    settings.shapes.input(shape_to_size, inputs=[settings.shapes, fields["model"]], outputs=size, **AT_ONCE)
    gr.on(
        [each.change for each in size],
        size_to_shape,
        inputs=[*size, fields["model"]],
        outputs=settings.shapes,
        trigger_mode="always_last",
        **AT_ONCE,
    )


def connect_lengths(settings: Settings, studio: Studio) -> None:
    """The line under each prompt: how much more the model reads at once, where parts begin, and what has no effect."""
    fields = settings.form
    # A moment's rest, so that a line is counted when the typing stops and not at each key.
    rest = "async (...values) => { await new Promise((done) => setTimeout(done, 200)); return values; }"

    def counting(name: str) -> Callable[[Any, Any, Any], str]:
        def count(text: Any, model: Any, seed: Any) -> str:
            try:
                entry = studio.models.entry(str(model or ""))
            except StudioError:
                return ""
            if name == "negative_prompt" and entry.facts and not entry.facts.negative_prompt:
                return ""
            number = form.seed_typed(seed) or 0
            found = studio.models.seen("embedding")
            return tokens.line(entry, str(text or ""), number, studio.wildcards, name, found)

        return count

    for name, length in settings.lengths.items():
        watched = [fields[name], fields["model"], fields["seed"]]
        gr.on(
            [each.change for each in watched],
            counting(name),
            js=rest,
            inputs=watched,
            outputs=length,
            trigger_mode="always_last",
            **AT_ONCE,
        )


def connect_strength(settings: Settings) -> None:
    """The line under the strength follows it; the same sum as in `Recipe.steps_run`."""
    pair = [settings.fields["strength"], settings.fields["steps"]]
    words = f"""async (strength, steps) => {{
        const {{ stepsSaid }} = await {canvas.script("common/numbers.js")};
        return [stepsSaid(strength, steps), strength];
    }}"""
    gr.on(
        [each.change for each in pair],
        js=words,
        inputs=pair,
        outputs=[settings.steps_run, settings.slider],
        trigger_mode="always_last",
        **IN_PAGE,
    )


def connect_seed(settings: Settings, answer: Answer, live: Live) -> None:
    def last(values: dict[Component, Any], request: gr.Request) -> dict[Component, Any]:
        shown = live.shown(owner_of(request.request), stage_of(values[settings.window], settings.place))
        if not shown:
            return answer.remark("No picture was made here yet whose seed could be used again.")
        return seeded(settings, answer, values, shown[0].recipe.seed)

    seed = settings.fields["seed"]
    settings.dice.click(js="() => null", outputs=seed, **IN_PAGE)
    inputs = {*answer.inputs, settings.window}
    settings.last.click(last, inputs=inputs, outputs=[seed, answer.component], **AT_ONCE)


def seeded(settings: Settings, answer: Answer, values: dict[Component, Any], given: Any) -> dict[Component, Any]:
    """The seed of a picture, which can be taken back where it takes another one's place."""
    update = {settings.fields["seed"]: str(given)}
    if str(values[settings.fields["seed"]] or "").strip():
        return answer.filled(values, update, "from that picture")
    return {**update, **answer.nothing()}


def settings_of(
    recipe: Recipe, models: Manager, fields: form.Form, now: str | None = None
) -> tuple[dict[Component, Any], str]:
    """Updates that fill a form with a recipe, and what there is to say of it. now: the model that the form shows."""
    entries = models.entries()
    recipe, said = recalled(recipe, models, entries, now)
    values = {
        **asdict(recipe),
        "seed": str(recipe.seed),
        "variation_seed": str(recipe.variation_seed) if recipe.variation_strength else "",
        "turns": turns.written(recipe.turns),
        "styles": [],
    }
    values["controls"] = json.dumps(values["controls"]) if recipe.controls else ""
    return fields.update(form.for_model(entries, recipe.model or None, values)), " ".join(said)


def connect_pictures(
    pictures: Iterable[gr.HTML],
    settings: Settings,
    answer: Answer,
    start_picture: gr.HTML | None = None,
    own: Callable[[Recipe], dict[str, Any]] = lambda recipe: {},
) -> None:
    """Use these settings, and reuse seed, of the pictures on the stage and in the strip.

    start_picture: the tab's easel, which gets the recipe's source. own: values of the tab's own fields for a recipe.
    """
    fields, models = settings.form, settings.models
    easels = [start_picture] if start_picture else []

    def use_settings(values: dict[Component, Any], event: gr.EventData) -> dict[Component, Any]:
        try:
            recipe = Recipe.from_values(carried(event)["recipe"])
            updates, said = settings_of(recipe, models, fields, values[fields["model"]])
            updates = answer.filled(values, updates | fields.update(own(recipe)), "from that picture", said)
        except StudioError as error:
            return answer.refused(error)
        if recipe.source:
            # The number makes it another value, so that the same picture can be asked for twice.
            value = {"source": recipe.source, "mask": recipe.mask, "nonce": random.random()}
            updates |= {each: json.dumps(value) for each in easels}
        return updates

    for each in pictures:
        each.use_settings(use_settings, inputs=answer.inputs, outputs=[*answer.outputs, *easels], **AT_ONCE)
    connect_reuse(pictures, settings, answer)


def connect_reuse(pictures: Iterable[gr.HTML], settings: Settings, answer: Answer) -> None:
    """The seed of any picture can be used again."""

    def reuse_seed(values: dict[Component, Any], event: gr.EventData) -> dict[Component, Any]:
        return seeded(settings, answer, values, carried(event)["recipe"].get("seed", ""))

    outputs = [settings.fields["seed"], answer.component]
    for each in pictures:
        each.reuse_seed(reuse_seed, inputs=answer.inputs, outputs=outputs, **AT_ONCE)


def connect_steering(stage: gr.HTML, settings: Settings, answer: Answer, studio: Studio) -> None:
    """Fork a picture at one of its steps, or change it from its next step on, by what the form says now."""
    fields, names = settings.form, ("prompt", "negative_prompt", "guidance_scale", "sampler", "schedule")
    inputs = {fields[name] for name in names}

    def own(event: gr.EventData, request: gr.Request) -> Job:
        job = studio.engine.job(str(carried(event)["job"]))
        if job.owner != owner_of(request.request):
            raise JobMissing("That picture is being made in another browser, and can be changed there only.")
        return job

    def changes(job: Job, values: dict[Component, Any], event: gr.EventData) -> dict[str, Any]:
        found = {name: form.typed(name, values[fields[name]]) for name in names}
        for name in form.PROMPTS:
            found[name] = studio.wildcards.resolve(str(found[name]), job.recipe.seed, name)
        if (found["schedule"], job.recipe.schedule) == (AUTOMATIC, AS_PUBLISHED):
            del found["schedule"]  # what was drawn before there were schedules goes on as it was
        if strength := carried(event).get("noise"):
            found["noise"] = (strength, random.randrange(RANDOM_SEEDS))
        return found

    def fork(values: dict[Component, Any], event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        try:
            job, step = own(event, request), int(carried(event)["step"])
            remembered = studio.engine.remembered(job.id, step)
            forked = studio.engine.fork(job.id, step, changes(job, values, event))
            stage = stage_of(values[settings.window], settings.place)
            shown = studio.live.shown(job.owner, stage)
            studio.live.show(job.owner, stage, [*(shown if job in shown else [job]), forked])
        except StudioError as error:
            return answer.refused(error)
        if remembered == step:
            return answer.nothing()
        if remembered:
            return answer.remark(f"It goes on from step {remembered}, the nearest one before that is remembered.")
        return answer.remark("The steps before it are run again: they are no longer remembered.")

    def turn(values: dict[Component, Any], event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        try:
            job = own(event, request)
            studio.engine.change(job.id, changes(job, values, event))
        except StudioError as error:
            return answer.refused(error)
        return answer.nothing()

    stage.fork(fork, inputs={*inputs, settings.window}, outputs=[answer.component], **AT_ONCE)
    stage.turn(turn, inputs=inputs, outputs=[answer.component], **AT_ONCE)


def connect_loaded(
    start_picture: gr.HTML,
    settings: Settings,
    answer: Answer,
    sized: Callable[[dict[str, Any], int, int], dict[str, Any]] = lambda values, width, height: {},
) -> None:
    """What another picture on the easel changes: a picture of ours brings its words along.

    sized: the form's values and the picture's width and height → what else changes.
    """
    fields = settings.form

    def loaded(values: dict[Component, Any], event: gr.EventData) -> dict[Component, Any]:
        data, updates = carried(event), {}
        try:
            if data.get("recipe"):
                recipe = Recipe.from_values(data["recipe"])
                updates = {name: getattr(recipe, name) for name in ("prompt", "negative_prompt")}
            width, height = (min(max(data[side], 1), 65536) for side in ("width", "height"))
            updates |= sized(fields.named(values), width, height)
        except StudioError as error:
            return answer.refused(error)
        return answer.filled(values, fields.update(updates), "from the picture on the easel")

    start_picture.loaded(loaded, inputs=answer.inputs, outputs=answer.outputs, **AT_ONCE)


def suited_size(models: Manager, model: Any, width: int, height: int) -> tuple[int, int]:
    """The size to make a picture of this shape at: as it is, if the model can, but no larger than it is made for."""
    known = models.facts(str(model or ""))
    # A narrow strip is enlarged to the least height that there is, so that less of its length is lost.
    enlarged = max(1, masks.MIN_SIDE / min(width, height)) ** 2
    pixels = min(round(width * height * enlarged), known.width * known.height)
    return masks.work_size(width, height, pixels, known.multiple)


def connect_memory(page: gr.Blocks, settings: Settings, warnings: gr.HTML) -> None:
    """Fill in what was set in this window before a reload, and remember every change, in the browser itself."""
    fields, models, place = settings.form, settings.models, settings.place

    def restore(memory: str) -> dict[Component, Any]:
        entries = models.entries()
        names = form.usable(entries)
        values = form.restored(memory)
        model = values.get("model")
        if not model and names:
            values |= {"model": names[0], **form.defaults(models, names[0])}
        updates, said = brought_to(fields, models, values)
        updates |= fields.update({"styles": settings.restored_styles(values.get("styles", []))})
        if model and model not in names:
            said.insert(0, missing(model, any(entry.name == model for entry in entries)))
        return {**updates, warnings: "\n".join([*said, problems(entries)]).strip()}

    # Whose value goes in here does not matter: the window's memory takes its place.
    recall = {"inputs": [settings.window], "js": canvas.recalled(place)}
    # Whoever waits until the form can be used finds the names of the tabs that are ready on the root element.
    ready = f"""() => {{
        const {{ dataset }} = document.documentElement;
        dataset.restored = `${{dataset.restored ?? ""}} {place}`;
    }}"""
    page.load(restore, **recall, outputs=[*fields, warnings], **AT_ONCE).then(js=ready, **IN_PAGE)
    gr.on(
        [each.change for each in fields],
        js=canvas.remembered(place, fields.components),
        inputs=list(fields),
        trigger_mode="always_last",
        **IN_PAGE,
    )
