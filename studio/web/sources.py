"""Start pictures and masks: brought in as files or from the library, extended, and shown by name."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse

from studio.errors import SourceError
from studio.library import metadata
from studio.library.library import Library
from studio.pictures import masks
from studio.pictures.sources import Source, Sources
from studio.recipe.fields import MAX_SIDE
from studio.recipe.recipe import size_of
from studio.web.bodies import Uploads
from studio.web.pictures import FOREVER

MAX_UPLOAD = 200_000_000
"""Bytes of a picture's file that are taken in."""

ADVICE = "Save it smaller, as JPEG for example."


def routes(sources: Sources, library: Library, uploads: Uploads) -> APIRouter:
    """`/sources` to bring in a start picture, `/sources/masks` for masks, `/sources/{name}/extended`, and the files.

    `/recipes` reads how a picture was made.

    Files are sent as the body itself, with no form around them.
    """
    router = APIRouter()

    @router.post("/sources")
    async def add(request: Request, background: str = "#ffffff", picture: str | None = None) -> JSONResponse:
        if picture is not None:
            return JSONResponse(await run_in_threadpool(from_library, picture))
        async with uploads.body(request, MAX_UPLOAD, ADVICE) as data:
            return JSONResponse(_described(await run_in_threadpool(sources.add, data, background)))

    @router.post("/recipes")
    async def told(request: Request) -> JSONResponse:
        """What a picture's file says of how it was made. The file is not kept."""
        async with uploads.body(request, MAX_UPLOAD, ADVICE) as data:
            recipe, note = await run_in_threadpool(metadata.told, data)
        return JSONResponse({"recipe": recipe.for_page(), "note": note})

    def from_library(picture: str) -> dict[str, Any]:
        return _described(sources.add(library.content(picture)))

    @router.post("/sources/masks")
    async def add_mask(request: Request, source: str) -> JSONResponse:
        size = size_of(source)
        async with uploads.body(request, MAX_UPLOAD, ADVICE) as data:
            return JSONResponse({"name": await run_in_threadpool(sources.add_mask, data, size)})

    @router.post("/sources/{name}/extended")
    def extended(name: str, left: str = "0", top: str = "0", right: str = "0", bottom: str = "0") -> JSONResponse:
        sides = [_pixels(side) for side in (left, top, right, bottom)]
        with sources.gate(MAX_SIDE**2):
            picture, mask = masks.extended(sources.open(name), *sides)
            source = Source(sources.add_image(picture), *picture.size)
            return JSONResponse({"source": _described(source), "mask": sources.add_image(mask)})

    @router.get("/sources/{name}.png")
    def file(name: str, download: bool = False) -> FileResponse:
        width, height = size_of(name)
        with sources.gate(width * height):  # it may be looked into
            path = sources.path(name)
        return FileResponse(path, media_type="image/png", headers=FOREVER, filename=path.name if download else None)

    return router


def _described(source: Source) -> dict[str, Any]:
    """What the page needs to know of a start picture."""
    return {"name": source.name, "width": source.width, "height": source.height, "note": source.note}


def _pixels(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SourceError(f"{text[:40]!r} is not a whole number of pixels.") from None
