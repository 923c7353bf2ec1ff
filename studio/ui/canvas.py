"""Components of our own: live pictures, recent pictures, and sentences for the person.

Each is a `gr.HTML` with a fixed template, filled in by a script of `studio/ui/page`. Pictures and progress reach the
scripts over the event stream and never pass through Gradio, and text is set as `textContent`, so that nothing a person
typed is ever read as HTML or as a template.

They are functions, because Gradio writes a .pyi file beside every module that derives a class from a component.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import gradio as gr

NUMBER, ABSENT = (int, float, str), type(None)

EVENTS: dict[str, dict[str, tuple[type, ...]]] = {
    "use_settings": {"recipe": (dict,)},
    "reuse_seed": {"recipe": (dict,)},
    "fork": {"job": (str,), "step": (int,), "noise": (*NUMBER, ABSENT)},
    "turn": {"job": (str,), "noise": (*NUMBER, ABSENT)},
    "choose_model": {"model": (str,)},
    "restore": {"recipe": (dict,), "axes": (list,)},
    "again": {"jobs": (list,)},
    "ended": {},
    "start": {"source": (str, ABSENT), "mask": (str, ABSENT)},
    "loaded": {"width": (int,), "height": (int,), "recipe": (dict, ABSENT)},
    "vary": {"picture": (dict,), "strength": NUMBER},
    "brought": {"added": (int, ABSENT), "told": (str, ABSENT)},
    "undo": {"values": (dict,)},
    "shows": {"width": (int,), "height": (int,)},
    "toggle": {"name": (str,)},
}
"""The events of the components below, and what each carries: names and types. What else is sent never arrives."""


def header() -> gr.HTML:
    """The page's heading, links past what stands before the form, and the place for all that is spoken.

    It also tells in the title of the browser's tab how far the pictures are.
    """
    return gr.HTML(
        html_template='<header class="top"></header>',
        js_on_load=f"{script('live/top.js')}.then(({{ mount }}) => mount(element));",
        apply_default_css=False,
        min_height=0,
        elem_classes="top-place",
    )


def heading(text: str) -> gr.HTML:
    """A heading of a part of a tab, for those who go from one heading to the next by ear."""
    return gr.HTML(html_template=f"<h2>{text}</h2>", apply_default_css=False, min_height=0, elem_classes="only-spoken")


def canvas(place: str, start: str, stop: str, examples: Mapping[str, str] | None = None) -> gr.HTML:
    """The pictures a tab is making, from their starting noise on, and the ones just made.

    place: the tab's name in `studio.web.live.Live.show`. start, stop: the ids of its buttons, for the keyboard.
    examples: prompts that an empty stage invites to draw, by the names of their pictures.
    Events `use_settings` and `reuse_seed` carry `recipe`, the values of the picture's recipe by name; `fork` carries
    `job` and `step`, and `turn` the `job` that shall be changed from its next step on; both may carry the strength of
    fresh `noise`. `choose_model` carries the name of a `model` that was chosen in the models tab.
    """
    return gr.HTML(
        html_template=_section("stage", "Pictures in the making"),
        js_on_load=_mount(
            "stage/stage.js",
            {"place": place, "start": start, "stop": stop, "examples": dict(examples or {})},
            *("fork", "turn", "choose_model"),
        ),
        apply_default_css=False,
        elem_id=f"{place}-canvas",
        elem_classes="canvas",
    )


def comparison(place: str, start: str, stop: str) -> gr.HTML:
    """Pictures in rows and columns, all alive at once. As `canvas`, laid out as `Live.show` was told.

    Further events: `restore` carries the `recipe` and the `axes` of a contact sheet that was dropped on it; `again` the
    `jobs`, by id, that were dropped and shall be made after all; `ended` comes when nothing of the grid moves any more.
    """
    return gr.HTML(
        html_template=_section("grid-place-section", "Pictures compared"),
        js_on_load=_mount("grid/grid.js", {"place": place, "start": start, "stop": stop}, "restore", "again", "ended"),
        apply_default_css=False,
        elem_id=f"{place}-grid",
        elem_classes="canvas",
    )


def strip(place: str) -> gr.HTML:
    """The library's newest pictures; a click shows one large. Same events as `canvas`."""
    return gr.HTML(
        html_template='<section class="strip" aria-label="Recent pictures"></section>',
        js_on_load=_mount("stage/strip.js", {"place": place}),
        apply_default_css=False,
        elem_id=f"{place}-strip",
        elem_classes="recent",
    )


def easel(place: str, mode: Literal["paint", "mask"], start: str) -> gr.HTML:
    """A picture to start from, and a brush: for colours on the picture, or for a mask of it.

    start: the id of the Generate button. Events: `start` once it was pressed and what was painted is in
    `pictures.sources`, with the names `source` and `mask` (empty if there is none); `loaded` with `name`, `width` and
    `height` of another picture, and `recipe` if it is one of the library; `shows` with the size of what it shows now,
    after a reload too; `vary` with `picture` and `strength`.
    The value, JSON with `source` and `mask`, puts these on the easel.
    """
    events = _events(("start", "loaded", "shows", "vary"))
    options = json.dumps({"place": place, "mode": mode, "start": start})
    return gr.HTML(
        "",
        html_template=_section("easel", "Start picture"),
        js_on_load=f"""
            const given = {{
                get: () => (props.value ? JSON.parse(props.value) : null),
                watch: (listener) => watch("value", listener),
            }};
            {script("easel/easel.js")}.then(({{ mount }}) => mount(element, {options}, {events}, given));
        """,
        apply_default_css=False,
        elem_id=f"{place}-easel",
        elem_classes="easel-place",
    )


def window() -> gr.HTML:
    """The name of the browser's window that the page is in, its value: whose stages what is started stands on."""
    return gr.HTML(
        "",
        html_template="",
        js_on_load=f"""
            const tell = (name) => {{ props.value = name; }};
            {script("common/memory.js")}.then(async ({{ windowName }}) => tell(await windowName(tell)));
        """,
        apply_default_css=False,
        elem_classes="window-name",
        min_height=0,
    )


def more_button() -> gr.HTML:
    """The button that shows the further settings of all forms or hides them; its value says what differs in them."""
    return gr.HTML(
        "",
        html_template='<button type="button" class="more"></button>',
        js_on_load=f"""
            const given = {{ get: () => props.value, watch: (listener) => watch("value", listener) }};
            {script("form/more.js")}.then(({{ mount }}) => mount(element, given));
        """,
        apply_default_css=False,
        elem_classes="more-place",
    )


def styles_bringer() -> gr.HTML:
    """A button that brings a table of styles. `brought` carries how many were `added`, or why none: `told`."""
    return gr.HTML(
        html_template='<section class="bring-styles"></section>',
        js_on_load=f"{script('form/styles.js')}.then(({{ mount }}) => mount(element, {_events(('brought',))}));",
        apply_default_css=False,
        min_height=0,
    )


def advice(place: str, intents: Sequence[Mapping[str, Any]]) -> gr.HTML:
    """What to do next, and which of the buttons in `PLACE-intents` is pressed.

    intents: of each its `name`, its `advice` and the `values` that its settings have. The value is the settings as they
    are, as JSON in the same order; the first time it may be empty, for the first one's.
    """
    options = json.dumps({"place": place, "intents": list(intents)})
    return gr.HTML(
        "",
        html_template='<p class="notice" role="note"></p>',
        js_on_load=f"""
            const given = {{ get: () => props.value, watch: (listener) => watch("value", listener) }};
            {script("form/intents.js")}.then(({{ mount }}) => mount(element, {options}, given));
        """,
        apply_default_css=False,
        elem_classes="sentence advice",
    )


def held(model: str | None) -> gr.HTML:
    """A sentence if the model of this name, the value, is in memory and not held whole in its full precision."""
    return gr.HTML(
        model or "",
        html_template='<p class="notice" role="note"></p>',
        js_on_load=f"""
            const named = {{ get: () => props.value, watch: (listener) => watch("value", listener) }};
            {script("models/held.js")}.then(({{ mount }}) => mount(element, named));
        """,
        apply_default_css=False,
        elem_classes="sentence",
    )


def answer(place: str) -> gr.HTML:
    """What went wrong or was done, above a tab's buttons (`studio.ui.filling.Answer`); empty most of the time.

    The value is JSON: `sentence`; `alert` if something went wrong, and `fields`, the names of those that are to blame;
    `before`, the values that the event `undo` brings back. An alert stands until one of its fields changes.
    """
    return gr.HTML(
        html_template='<section class="answer" aria-label="Answers"></section>',
        js_on_load=_given("form/answer.js", "undo", options=place),
        apply_default_css=False,
        elem_id=f"{place}-notice",
        elem_classes="sentence",
    )


def pinned() -> gr.HTML:
    """That the seed, the value, is kept, where Generate is. Its button triggers `let_go`."""
    return gr.HTML(
        html_template='<p class="pinned" role="note"></p>',
        js_on_load=_given("form/answer.js", "let_go", function="pin"),
        apply_default_css=False,
        elem_classes="sentence",
    )


def slider(label: str, field: str, value: float, least: float, most: float) -> gr.HTML:
    """A slider for the field of a number with this id. The value is what the field holds."""
    options = {"label": f"{label} slider", "field": field, "least": least, "most": most}
    return gr.HTML(
        str(value),
        html_template='<input type="range" class="slider">',
        js_on_load=_given("common/numbers.js", options=options, function="slide"),
        apply_default_css=False,
        min_width=0,
    )


def offers(label: str) -> gr.HTML:
    """Names to choose from for a list in a field beside it. The value is JSON: of each, [name, whether it is there].

    Event `toggle` carries the `name` that was pressed.
    """
    return gr.HTML(
        html_template=f'<div class="offers" role="group" aria-label="{label}"></div>',
        js_on_load=_given("form/offers.js", "toggle"),
        apply_default_css=False,
        elem_classes="sentence",
    )


def notice(value: str = "", *, elem_id: str | None = None) -> gr.HTML:
    """A sentence for the person, empty most of the time. The value is plain text."""
    return gr.HTML(
        value,
        html_template='<p class="notice" role="note"></p>',
        js_on_load="""
            const sentence = element.querySelector(".notice");
            const show = () => { sentence.textContent = props.value || ""; };
            watch("value", show);
            show();
        """,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="sentence",
    )


def _section(name: str, text: str) -> str:
    """A part of a tab that a script fills in, under a heading that is only spoken."""
    return f'<section class="{name}" aria-label="{text}"><h2 class="only-spoken">{text}</h2></section>'


def _given(name: str, *names: str, options: Any = None, function: str = "mount") -> str:
    """The script that fills a component in by what its value is. names: of its events."""
    given = '{ get: () => props.value || "", watch: (listener) => watch("value", listener) }'
    values = f"element, {json.dumps(options)}, {given}, {_events(names)}"
    return f"{script(name)}.then(({{ {function} }}) => {function}({values}));"


def script(name: str) -> str:
    """What imports the page's module of this name. Its address goes by the page's, which a proxy may have moved."""
    return f'import(new URL("page/{name}", document.baseURI))'


def recalled(key: str) -> str:
    """What tells the server, as JSON, what the window remembers under this key; as JavaScript."""
    recalling = f"{script('common/memory.js')}.then(({{ recall }}) => recall({json.dumps(key)}))"
    return f"async () => JSON.stringify(await {recalling})"


def remembered(key: str, names: Iterable[str]) -> str:
    """What tells the page of the values of a form, and has the window remember them under its key; as JavaScript."""
    return f"""(...values) => {{
        const kept = Object.fromEntries({json.dumps(list(names))}.map((name, index) => [name, values[index]]));
        document.dispatchEvent(new CustomEvent("form", {{ detail: {{ place: {json.dumps(key)}, values: kept }} }}));
        if (!document.documentElement.dataset.restored?.includes({json.dumps(key)})) return;
        {script("common/memory.js")}.then(({{ remember }}) => remember({json.dumps(key)}, kept));
    }}"""


def _mount(name: str, options: dict[str, Any], *more: str) -> str:
    """The script that fills a component in. more: names of its events beside those that every picture has."""
    names = ("use_settings", "reuse_seed", *more)
    return f"{script(name)}.then(({{ mount }}) => mount(element, {json.dumps(options)}, {_events(names)}));"


def _events(names: Iterable[str]) -> str:
    """An object of functions, each of which triggers the event of its name."""
    return "{ " + ", ".join(f"{name}: (data) => trigger('{name}', data)" for name in names) + " }"
