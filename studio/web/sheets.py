"""Contact sheets of a tab's grid, to save, and to read again."""

import io

from fastapi import APIRouter, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from studio.engine.events import Finished, Paused
from studio.engine.job import Job
from studio.errors import StorageError
from studio.grids import sheets
from studio.library.library import Library
from studio.web.bodies import Uploads
from studio.web.live import Live, owner_of, stage_of
from studio.web.sources import MAX_UPLOAD


def routes(live: Live, library: Library, uploads: Uploads) -> APIRouter:
    """`GET /sheets/{place}.png` of what the asker's tab shows now, and `POST /sheets` that reads one."""
    router = APIRouter()

    @router.get("/sheets/{place}.png")
    def save(place: str, request: Request, window: str = "") -> Response:
        owner, stage = owner_of(request), stage_of(window, place)
        layout = live.layout(owner, stage)
        if layout is None:
            raise StorageError("There is no grid to save. Make one first.")
        jobs = {job.id: job for job in live.shown(owner, stage)}
        # No larger than they will be on it: a sheet may hold many large pictures.
        most = sheets.LARGEST // max(len(layout["columns"]), 1), sheets.LARGEST // max(len(layout["rows"]), 1)
        with library.gate(2 * sheets.LARGEST**2):
            cells = [[_picture(jobs.get(each), library, most) for each in row] for row in layout["cells"]]
            data = sheets.sheet(sheets.from_values(layout["plan"]), layout["rows"], layout["columns"], cells)
        headers = {"Content-Disposition": 'attachment; filename="contact-sheet.png"', "Cache-Control": "no-store"}
        return Response(data, media_type="image/png", headers=headers)

    @router.post("/sheets")
    async def read(request: Request) -> JSONResponse:
        async with uploads.body(request, MAX_UPLOAD, "Save the sheet again, as the studio made it.") as data:
            return JSONResponse(sheets.described(await run_in_threadpool(sheets.read, data)))

    return router


def _picture(job: Job | None, library: Library, most: tuple[int, int]) -> Image.Image | None:
    """What a cell shows, at most so large: the finished picture, or the partial one of a job that was stopped."""
    if job is None or not isinstance(job.event, Finished | Paused) or not job.event.picture:
        return None
    try:
        with Image.open(io.BytesIO(library.content(job.event.picture)), formats=["PNG"]) as image:
            picture = image.convert("RGB")
            picture.thumbnail(most, Image.Resampling.LANCZOS)
            return picture
    except Exception:  # it is gone, or damaged in any way
        return None
