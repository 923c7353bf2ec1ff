"""What of Gradio can be reached: the page, its files, and its own functions with plain values. All else is 404.

Gradio brings some eighty routes. Among them are ones that hand out files of this machine, fetch addresses of the
internet, take uploads and keep them, or start processes. Its functions copy any file that a value describes, before
anybody looks at what it is. The page needs none of that: files come and go by routes of our own. So what the page
really asks for is listed here, and each value must be of the plain kind that its component sends.
"""

import functools
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gradio
from gradio.components import Component
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.errors import RequestError
from studio.web.bodies import body_of

PREDICT = "/gradio_api/run/predict"
"""Where the page sends what a person did, and what its form holds."""

NOWHERE = "studio.invalid"
"""The host that Gradio is told for the page. No name of it stands in there, since not every proxy tells it."""

IN_PAGE = {
    f'"http://{NOWHERE}"': '"."',
    'href="/manifest.json"': 'href="manifest.json"',
    '<script type="module"': '<link rel="icon" type="image/svg+xml" href="page/icon.svg">'
    '<script src="page/common/before.js"></script><script type="module"',
}
"""What of Gradio's page is replaced."""

PAGE = ("/", "/theme.css")
FILES = re.compile(r"/(assets|static)(/[\w-][\w.-]*)+", re.ASCII)
"""What is only read. No part of a path begins with a dot, so none leads out of Gradio's folders."""

MOST = 400_000
"""Bytes of a request to a function. A form with long prompts and many controls has some thousands."""

DEEPEST, PARTS = 16, 5_000
"""Lists and objects within each other, and in all, in what is sent."""

SESSIONS = 64
"""Windows of which Gradio remembers what it sent them last, 0.6 MB each. One that was forgotten is begun again, which
takes the server some 10 ms."""

DESCRIBES_FILES = frozenset({"path", "url", "meta", "_type", "__type__", "is_stream", "orig_name"})
"""Names by which Gradio knows the description of a file, or of a change to a component. Nothing we send has them."""

PLAIN_EVENTS = frozenset({"load", "click", "input", "change"})
"""Events that carry nothing beside the function's values."""

FORWARDED = ("forwarded", "x-forwarded-", "x-gradio-", "x-direct-url", "x-hf-")
"""Beginnings of headers from which Gradio would take its own address, or who somebody is."""

FAILED = "Something inside the studio failed. The log on the machine it runs on says more."

_SESSION = re.compile(r"[a-z0-9]{1,32}", re.ASCII)

log = logging.getLogger(__name__)


Shape = Mapping[str, tuple[type, ...]]
"""What an event carries: names and types. NoneType among them: it may be missing."""


class GradioGate:
    """Stands between our routes and a mounted Gradio application."""

    def __init__(
        self, app: ASGIApp, blocks: gradio.Blocks, events: Mapping[str, Shape], tell: Callable[[str, str], None]
    ) -> None:
        """events: what each event that is none of Gradio's own carries, by its name.

        tell: gets the owner and a sentence when something was not done. Gradio's page would pass over it in silence.
        """
        self._app, self._tell = app, tell
        self._functions = {
            number: ([_kind(each) for each in function.inputs], _carried(function.targets, events))
            for number, function in blocks.fns.items()
            if function.fn is not None
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # there are no websockets; what the server's start and end need, Gradio gets elsewhere
        method, path = scope["method"], scope["path"]
        if (method, path) == ("GET", "/"):
            await self._page(scope, receive, send)
        elif method in ("GET", "HEAD") and (path in PAGE or FILES.fullmatch(path)):
            await self._app(_plain(scope), receive, send)
        elif (method, path) == ("POST", PREDICT):
            await self._predict(scope, receive, send)
        else:
            await PlainTextResponse("There is nothing at this address.", 404)(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page, which finds everything by the address it has in the browser, whatever a proxy made of that."""
        scope = _plain(scope)
        kept = [(name, value) for name, value in scope["headers"] if name not in (b"host", b"accept-encoding")]
        scope.update(headers=[*kept, (b"host", NOWHERE.encode())], scheme="http")
        start: Message = {}
        body = b""

        async def gather(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            if message["type"] != "http.response.body":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                for found, wanted in IN_PAGE.items():
                    body = body.replace(found.encode(), wanted.encode())
                headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, gather)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner: str = scope["state"]["owner"]
        try:
            body = self._judged(await body_of(Request(scope, receive), MOST), owner)
        except RequestError as error:
            self._tell(owner, str(error))
            await JSONResponse({"error": str(error)}, error.status)(scope, receive, send)
            return
        # Gradio gets what was read here, written out again: of two readers one may be fooled.
        sent = iter([{"type": "http.request", "body": json.dumps(body).encode()}])

        async def again() -> Any:
            message = next(sent, None)
            return message if message is not None else await receive()

        scope = _plain(scope)
        kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"content-type")]
        scope["headers"] = [*kept, (b"content-type", b"application/json")]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != 200:
                self._tell(owner, FAILED)
            await send(message)

        await self._app(scope, again, watched)

    def _judged(self, data: bytes, owner: str) -> dict[str, Any]:
        """The request as Gradio may have it. Raises RequestError if the page would not send such a one."""
        body = _json(data)
        if not isinstance(body, dict):
            raise _not_ours("an object was expected")
        number, values, session = body.get("fn_index"), body.get("data"), body.get("session_hash")
        if type(number) is not int or number not in self._functions:
            raise _not_ours("it names no function of the page")
        kinds, shape = self._functions[number]
        if not isinstance(values, list) or len(values) != len(kinds):
            raise _not_ours(f"the function takes {len(kinds)} values")
        if not all(fits(value) for fits, value in zip(kinds, values, strict=True)):
            raise _not_ours("a value is not of the kind that its field holds")
        event = _event(body.get("event_data"), shape)
        values, event = _harmless(values), _harmless(event)
        if not isinstance(session, str) or not _SESSION.fullmatch(session):
            raise _not_ours("it names no window")
        # Under the browser's own id, so that nobody reaches into what Gradio remembers of another's window.
        return {"fn_index": number, "data": values, "event_data": event, "session_hash": f"{owner}.{session}"}


def shut(blocks: gradio.Blocks) -> None:
    """Settings of Gradio that make the same sure from inside; before it is mounted.

    has_launched: until it is set, Gradio takes every file of this machine for one of its own. A function that fails
    says so in the log, which measures it out; Gradio would print each failure whole.
    """
    blocks.has_launched = True
    blocks.state_session_capacity = SESSIONS
    for function in blocks.fns.values():
        if function.fn is not None:
            function.fn = _told(function.fn)


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def told(*values: Any, **named: Any) -> Any:
        try:
            return function(*values, **named)
        except Exception:
            log.exception("A function of the page failed.")
            raise gradio.Error(FAILED, print_exception=False) from None

    return told


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _plain_value(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _choices(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_text, value)))


def _memory(value: Any) -> bool:
    """What a browser keeps: `_harmless` looks into it."""
    return value is None or isinstance(value, dict)


KINDS: Mapping[type[Component], Callable[[Any], bool]] = {
    gradio.Textbox: _text,
    gradio.HTML: _text,
    gradio.ColorPicker: _text,
    gradio.Radio: _plain_value,
    gradio.Dropdown: _plain_value,
    gradio.BrowserState: _memory,
}
"""What each kind of component sends. One that is missing here cannot be an input of a function."""


def _kind(component: Any) -> Callable[[Any], bool]:
    if isinstance(component, gradio.Dropdown) and component.multiselect:
        return _choices
    try:
        return KINDS[type(component)]
    except KeyError:
        raise TypeError(f"What a {type(component).__name__} sends is not known: add it to KINDS.") from None


def _carried(targets: Iterable[Any], events: Mapping[str, Shape]) -> Shape:
    """What a function's event carries. All events of one function carry the same."""
    own = [name for _, name in targets if name not in PLAIN_EVENTS]
    if unknown := set(own) - set(events):
        raise TypeError(f"What the event {unknown.pop()!r} carries is not known: add it to the table of events.")
    return events[own[0]] if own else {}


def _event(data: Any, shape: Shape) -> dict[str, Any]:
    """Of what an event brought, that which it is there to carry. Raises RequestError if some of it is missing."""
    given = data if isinstance(data, dict) else {}
    found = {name: given.get(name) for name in shape}
    for name, types in shape.items():
        if not isinstance(found[name], types) or isinstance(found[name], bool):
            raise _not_ours(f"the event's {name} is missing or of another kind")
    return found


def _harmless(value: Any, depth: int = 0) -> Any:
    """The value, with halves of characters replaced, which nothing could write. Raises RequestError.

    Plain values are all that it may be made of, and nothing in it may describe a file.
    """
    if depth > DEEPEST:
        raise _not_ours("it goes too deep")
    if isinstance(value, dict):
        if DESCRIBES_FILES & value.keys():
            raise _not_ours("it describes a file")
        return {_harmless(name, depth): _harmless(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_harmless(each, depth + 1) for each in value]
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


def _json(data: bytes) -> Any:
    if data.count(b"[") + data.count(b"{") > PARTS:
        raise _not_ours("it has too many parts")
    try:
        return json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _not_ours("it cannot be read") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _not_ours(why: str) -> RequestError:
    return RequestError(f"That was not understood: {why}. Reload the page.")


def _plain(scope: Scope) -> Scope:
    """The request without what Gradio would read from its address, or take for its own."""
    headers = [
        (name, value) for name, value in scope["headers"] if not name.decode("latin-1").lower().startswith(FORWARDED)
    ]
    return {**scope, "query_string": b"", "headers": headers}
