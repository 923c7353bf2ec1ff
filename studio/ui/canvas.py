"""Components of our own: live pictures, recent pictures, and sentences for the person.

Each is a `gr.HTML` with a fixed template, filled in by a script of `studio/ui/page`. Pictures and progress reach the
scripts over `/live` and never pass through Gradio, and text is set as `textContent`, so that nothing a person
typed is ever read as HTML or as a template.

They are functions, because Gradio writes a .pyi file beside every module that derives a class from a component.
"""

import json
from collections.abc import Iterable, Mapping
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
    "ended": {},
    "start": {"source": (str, ABSENT), "mask": (str, ABSENT)},
    "loaded": {"width": (int,), "height": (int,), "recipe": (dict, ABSENT)},
    "vary": {"picture": (dict,), "strength": NUMBER},
    "brought": {"added": (int, ABSENT), "told": (str, ABSENT)},
}
"""The events of the components below, and what each carries: names and types. What else is sent never arrives."""


def canvas(place: str, start: str, stop: str, examples: Mapping[str, str] | None = None) -> gr.HTML:
    """The pictures a tab is making, from their starting noise on, and the ones just made.

    place: the tab's name in `studio.web.live.Live.show`. start, stop: the ids of its buttons, for the keyboard.
    examples: prompts that an empty stage invites to draw, by the names of their pictures.
    Events `use_settings` and `reuse_seed` carry `recipe`, the values of the picture's recipe by name; `fork` carries
    `job` and `step`, and `turn` the `job` that shall be changed from its next step on; both may carry the strength of
    fresh `noise`. `choose_model` carries the name of a `model` that was chosen in the models tab.
    """
    return gr.HTML(
        html_template='<section class="stage" aria-label="Pictures in the making"></section>',
        js_on_load=_mount(
            "stage.js",
            {"place": place, "start": start, "stop": stop, "examples": dict(examples or {})},
            *("fork", "turn", "choose_model"),
        ),
        apply_default_css=False,
        elem_id=f"{place}-canvas",
        elem_classes="canvas",
    )


def comparison(place: str, start: str, stop: str) -> gr.HTML:
    """Pictures in rows and columns, all alive at once. As `canvas`, laid out as `Live.show` was told.

    Further events: `restore` carries the `recipe` and the `axes` of a contact sheet that was dropped on it; `ended`
    comes when nothing of the grid moves any more.
    """
    return gr.HTML(
        html_template='<section class="grid-place-section" aria-label="Pictures compared"></section>',
        js_on_load=_mount("grid.js", {"place": place, "start": start, "stop": stop}, "restore", "ended"),
        apply_default_css=False,
        elem_id=f"{place}-grid",
        elem_classes="canvas",
    )


def strip(place: str) -> gr.HTML:
    """The library's newest pictures; a click shows one large. Same events as `canvas`."""
    return gr.HTML(
        html_template='<section class="strip" aria-label="Recent pictures"></section>',
        js_on_load=_mount("strip.js", {"place": place}),
        apply_default_css=False,
        elem_id=f"{place}-strip",
        elem_classes="recent",
    )


def easel(place: str, mode: Literal["paint", "mask"], start: str) -> gr.HTML:
    """A picture to start from, and a brush: for colours on the picture, or for a mask of it.

    start: the id of the Generate button. Events: `start` once it was pressed and what was painted is in
    `studio.sources`, with the names `source` and `mask` (empty if there is none); `loaded` with `name`, `width` and
    `height` of another picture, and `recipe` if it is one of the library; `vary` with `picture` and `strength`.
    The value, JSON with `source` and `mask`, puts these on the easel.
    """
    events = _events(("start", "loaded", "vary"))
    options = json.dumps({"place": place, "mode": mode, "start": start})
    return gr.HTML(
        "",
        html_template='<section class="easel" aria-label="Start picture"></section>',
        js_on_load=f"""
            const given = {{
                get: () => (props.value ? JSON.parse(props.value) : null),
                watch: (listener) => watch("value", listener),
            }};
            import("/page/easel.js").then(({{ mount }}) => mount(element, {options}, {events}, given));
        """,
        apply_default_css=False,
        elem_id=f"{place}-easel",
        elem_classes="easel-place",
    )


def more_button() -> gr.HTML:
    """The button that shows the further settings of all forms or hides them; its value says what differs in them."""
    return gr.HTML(
        "",
        html_template='<button type="button" class="more"></button>',
        js_on_load="""
            const given = { get: () => props.value, watch: (listener) => watch("value", listener) };
            import("/page/more.js").then(({ mount }) => mount(element, given));
        """,
        apply_default_css=False,
        elem_classes="more-place",
    )


def styles_bringer() -> gr.HTML:
    """A button that brings a table of styles. `brought` carries how many were `added`, or why none: `told`."""
    return gr.HTML(
        html_template='<section class="bring-styles"></section>',
        js_on_load=f'import("/page/styles.js").then(({{ mount }}) => mount(element, {_events(("brought",))}));',
        apply_default_css=False,
        min_height=0,
    )


def held(model: str | None) -> gr.HTML:
    """A sentence if the model of this name, the value, is in memory and not held whole in its full precision."""
    return gr.HTML(
        model or "",
        html_template='<p class="notice" role="note"></p>',
        js_on_load="""
            const named = { get: () => props.value, watch: (listener) => watch("value", listener) };
            import("/page/held.js").then(({ mount }) => mount(element, named));
        """,
        apply_default_css=False,
        elem_classes="sentence",
    )


def notice(value: str = "", *, alert: bool = False, elem_id: str | None = None) -> gr.HTML:
    """A sentence for the person, empty most of the time. The value is plain text."""
    role = "alert" if alert else "note"
    return gr.HTML(
        value,
        html_template=f'<p class="notice" role="{role}"></p>',
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


def _mount(script: str, options: dict[str, Any], *more: str) -> str:
    """The script that fills a component in. more: names of its events beside those that every picture has."""
    names = ("use_settings", "reuse_seed", *more)
    return f'import("/page/{script}").then(({{ mount }}) => mount(element, {json.dumps(options)}, {_events(names)}));'


def _events(names: Iterable[str]) -> str:
    """An object of functions, each of which triggers the event of its name."""
    return "{ " + ", ".join(f"{name}: (data) => trigger('{name}', data)" for name in names) + " }"
