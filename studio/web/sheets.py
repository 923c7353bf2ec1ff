"""Contact sheets of a tab's grid, to save, and to read again."""

import io

from fastapi import APIRouter, Request
from PIL import Image
from starlette.responses import JSONResponse, Response

from studio import sheets
from studio.engine import Job
from studio.errors import StorageError
from studio.events import Finished, Paused
from studio.library import Library
from studio.web.bodies import body_of
from studio.web.live import Live, owner_of
from studio.web.sources import MAX_UPLOAD


def routes(live: Live, library: Library) -> APIRouter:
    """`GET /sheets/{place}.png` of what the asker's tab shows now, and `POST /sheets` that reads one."""
    router = APIRouter()

    @router.get("/sheets/{place}.png")
    def save(place: str, request: Request) -> Response:
        owner = owner_of(request)
        layout = live.layout(owner, place)
        if layout is None:
            raise StorageError("There is no grid to save. Make one first.")
        jobs = {job.id: job for job in live.shown(owner, place)}
        cells = [[_picture(jobs.get(each), library) for each in row] for row in layout["cells"]]
        data = sheets.sheet(sheets.from_values(layout["plan"]), layout["rows"], layout["columns"], cells)
        headers = {"Content-Disposition": 'attachment; filename="contact-sheet.png"', "Cache-Control": "no-store"}
        return Response(data, media_type="image/png", headers=headers)

    @router.post("/sheets")
    async def read(request: Request) -> JSONResponse:
        return JSONResponse(sheets.described(sheets.read(await body_of(request, MAX_UPLOAD))))

    return router


def _picture(job: Job | None, library: Library) -> Image.Image | None:
    """What a cell shows: the finished picture, or the partial one of a job that was stopped."""
    if job is None or not isinstance(job.event, Finished | Paused) or not job.event.picture:
        return None
    try:
        with Image.open(io.BytesIO(library.content(job.event.picture)), formats=["PNG"]) as image:
            return image.convert("RGB")
    except Exception:  # it is gone, or damaged in any way
        return None
