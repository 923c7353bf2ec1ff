"""Private names of Gradio, known to work in 6.31. Gradio itself is not imported here: it takes seconds.

What the gate relies on stands in `studio.web.gradio_gate`, and what the page's scripts do in ui/page/common/gradio.js.
"""

from typing import Any


def carried(event: Any) -> dict[str, Any]:
    """What an event (`gradio.EventData`) of a component of our own carries: EVENTS in studio/ui/canvas.py.

    Its public attributes give one value each, and fail for one that is missing.
    """
    data: dict[str, Any] = event._data
    return data


def calm(blocks: object) -> None:
    """Let Gradio's queue look for work 50 times a second instead of a thousand times: 9% of a core less when idle.

    No setting of a page or a queue says how often. Where the names are others, it looks as often as it did.
    """
    queue = getattr(blocks, "_queue", None)
    for name, seconds in (("sleep_when_free", 0.02), ("progress_update_sleep_when_free", 0.1)):
        if hasattr(queue, name):
            setattr(queue, name, seconds)


def shown_if(condition: str) -> str:
    """JavaScript for an event's `js`: a component is shown if this holds of `chosen`, the event's input.

    Python's `gr.update` has no name in the page. This is what it becomes on its way there.
    """
    return f"(chosen) => ({{ __type__: 'update', visible: {condition} }})"
