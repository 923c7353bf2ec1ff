"""Bringing a table of styles."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from studio.web.bodies import body_of
from studio.words.styles import MAX_FILE, Styles


def routes(styles: Styles) -> APIRouter:
    """`POST /styles`, with the file itself as the body."""
    router = APIRouter()

    @router.post("/styles")
    async def add(request: Request, name: str = "styles.csv") -> JSONResponse:
        """Keep a `styles.csv`. name: what the file was called."""
        found = await run_in_threadpool(styles.add_file, name, await body_of(request, MAX_FILE))
        return JSONResponse({"added": len(found)})

    return router
