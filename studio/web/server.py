"""The FastAPI application: one guard in front of everything, our own routes, and Gradio's page behind them."""

import base64
import binascii
import hmac
import ipaddress
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.engine import Engine
from studio.errors import Busy, JobMissing, ModelMissing, RecipeError, SourceError, StorageError, StudioError
from studio.library import Library
from studio.models.manager import Manager
from studio.models.tasks import Tasks
from studio.settings import Settings
from studio.sources import Sources
from studio.styles import Styles
from studio.web import addons, live, pictures, sheets
from studio.web import models as models_web
from studio.web import sources as sources_web

PAGE = Path(__file__).resolve().parents[1] / "ui" / "page"
"""The page's scripts and styles."""

OWNER = "emerge_owner"
MAX_UPLOAD = "200mb"

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Gradio's page needs inline scripts, and compiles its templates with Function(). Nothing may come from elsewhere.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
}


class Guard:
    """Decides who is let in, before anything else looks at a request, and marks every answer.

    Host: a page elsewhere can have its own name point to this machine (DNS rebinding) and then counts as ours for a
    browser, so only names that are really this machine's pass. Origin: a page elsewhere can send requests here with
    the person's sign-in; browsers say so, and it is refused. Then sign-in, if the settings ask for one.

    Every browser gets a random id as a cookie, found in `request.state.owner`: whose job a job is.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._auth = settings.auth
        self._only_loopback = _is_loopback(settings.host)
        name = socket.gethostname().lower()
        self._names = {"localhost"} if self._only_loopback else {"localhost", name, f"{name}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope, headers):
            await _refuse(refusal, scope, receive, send)
            return
        owner, is_new = _owner(headers)
        scope.setdefault("state", {})["owner"] = owner

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                if is_new:
                    answer.append("Set-Cookie", f"{OWNER}={owner}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax")
            await send(message)

        await self._app(scope, receive, marked)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if not self._knows(host):
            return PlainTextResponse(
                "This address is not one of this studio's. Open it by the machine's own name or number.", 403
            )
        if not _is_own(scope, headers, host):
            return PlainTextResponse("This request came from another site's page, and was refused.", 403)
        if self._auth and not self._signed_in(headers.get("authorization", "")):
            return PlainTextResponse(
                "Sign in with the user name and password of this studio.",
                401,
                {"WWW-Authenticate": 'Basic realm="Emerge Studio", charset="UTF-8"'},
            )
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        return _is_loopback(name) if self._only_loopback else _is_address(name)

    def _signed_in(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, self._auth.encode())


class Page(StaticFiles):
    """The page's scripts and styles, which a browser asks for anew: an updated studio must not run old scripts."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(settings: Settings, engine: Engine, library: Library, models: Manager, sources: Sources) -> FastAPI:
    """The whole web side of the studio, ready for uvicorn."""
    # Gradio reads these when it is imported: it would ask the internet for newer versions and count its users.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gradio

    from studio.ui.app import build
    from studio.ui.painting import Studio

    app = FastAPI(title="Emerge Studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, settings=settings)
    app.add_exception_handler(StudioError, _sentence)
    stream = live.Live(engine)
    app.include_router(live.routes(engine, stream, library))
    app.include_router(pictures.routes(library, stream))
    app.include_router(sources_web.routes(sources, library))
    app.include_router(sheets.routes(stream, library))
    app.include_router(addons.routes(models, sources))
    models.listen(lambda: stream.tell("memory", "memory", {}))
    app.include_router(models_web.routes(models, library, engine, settings.models_folders, Tasks()))
    app.mount("/page", Page(directory=PAGE))
    blocks, look = build(Studio(engine, models, stream, library, sources, Styles(settings.output_folder / "styles")))
    _calm(blocks)
    return gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        **look,
    )


def _calm(blocks: object) -> None:
    """Let Gradio's queue look for work 50 times a second instead of a thousand times: 9% of a core less when idle."""
    queue = getattr(blocks, "_queue", None)
    for name, seconds in (("sleep_when_free", 0.02), ("progress_update_sleep_when_free", 0.1)):
        if hasattr(queue, name):
            setattr(queue, name, seconds)


def _sentence(request: Request, error: Exception) -> JSONResponse:
    """A StudioError as JSON, in the words that the person is shown."""
    missing = isinstance(error, JobMissing | ModelMissing | StorageError)
    wrong = isinstance(error, RecipeError | SourceError)
    status = 503 if isinstance(error, Busy) else 404 if missing else 422 if wrong else 400
    return JSONResponse({"error": str(error)}, status)


async def _refuse(refusal: PlainTextResponse, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await refusal(scope, receive, send)


def _is_own(scope: Scope, headers: Headers, host: str) -> bool:
    """Whether the request comes from our own page, from the address bar, or from a program that is no browser."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    # A link on another page may open the studio, and that is all it may do.
    opens = (scope.get("method"), scope["path"], headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return opens == ("GET", "/", "navigate", "document")


def _owner(headers: Headers) -> tuple[str, bool]:
    """The browser's id, and whether it is a new one."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == OWNER and re.fullmatch(r"[\w-]{22}", value, re.ASCII):
            return value, False
    return secrets.token_urlsafe(16), True


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
