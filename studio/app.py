"""The FastAPI application: one guard in front of everything, our own routes, and Gradio's page behind them."""

import os
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from studio.compat import of_gradio
from studio.engine.engine import Engine
from studio.errors import (
    Busy,
    JobMissing,
    ModelMissing,
    RecipeError,
    RequestError,
    SourceError,
    StorageError,
    StudioError,
)
from studio.library.library import Library
from studio.models.hub.tasks import Tasks
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.settings import ROOT, Settings
from studio.web import addons, beginnings, help, live, pictures, sheets
from studio.web import models as models_web
from studio.web import sources as sources_web
from studio.web import styles as styles_web
from studio.web.bodies import Uploads
from studio.web.guard import Guard
from studio.web.owners import Owners, key_in
from studio.words.styles import Styles

PAGE = ROOT / "studio" / "ui" / "page"
"""The page's scripts and styles."""


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

    from studio.ui.canvas import EVENTS
    from studio.ui.layout import build
    from studio.ui.painting import Studio
    from studio.web import gradio_gate

    app = FastAPI(title="Emerge Studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.owners = Owners(key_in(settings.output_folder))
    app.add_middleware(Guard, settings=settings, owners=app.state.owners)
    app.add_exception_handler(StudioError, _sentence)
    stream = app.state.live = live.Live(engine)
    app.include_router(live.routes(engine, stream, library))
    app.include_router(pictures.routes(library, stream))
    uploads = Uploads()
    app.include_router(sources_web.routes(sources, library, uploads))
    app.include_router(sheets.routes(stream, library, uploads))
    app.include_router(addons.routes(models, sources))
    models.listen(lambda: stream.tell("memory", "memory", {}))
    app.include_router(beginnings.routes(models, settings.models_folders))
    app.include_router(models_web.routes(models, library, engine, settings.models_folders, Tasks()))
    app.mount("/page", Page(directory=PAGE))
    app.mount("/help/pictures", help.screenshots())
    app.include_router(help.routes())
    app.add_api_route("/favicon.ico", lambda: FileResponse(PAGE / "icon.svg"))
    app.add_api_route("/manifest.json", lambda: FileResponse(PAGE / "manifest.json"))
    styles = Styles(settings.output_folder / "styles")
    app.include_router(styles_web.routes(styles))
    blocks, look = build(Studio(engine, models, stream, library, sources, styles))
    of_gradio.calm(blocks)
    gradio_gate.shut(blocks)
    gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        **look,
    )
    [mount] = [each for each in app.routes if isinstance(each, Mount) and each.path == ""]

    def tell(owner: str, sentence: str) -> None:
        stream.tell("refused", "refused", {"sentence": sentence}, owner)

    mount.app = gradio_gate.GradioGate(mount.app, blocks, EVENTS, tell)
    return app


def _sentence(request: Request, error: Exception) -> JSONResponse:
    """A StudioError as JSON, in the words that the person is shown."""
    if isinstance(error, RequestError):
        return JSONResponse({"error": str(error)}, error.status)
    missing = isinstance(error, JobMissing | ModelMissing | StorageError)
    wrong = isinstance(error, RecipeError | SourceError)
    status = 503 if isinstance(error, Busy) else 404 if missing else 422 if wrong else 400
    return JSONResponse({"error": str(error)}, status)
