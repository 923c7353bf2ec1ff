"""Pictures of the library by id: the files themselves, thumbnails, and what the page says about each."""

import contextlib
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import FileResponse, JSONResponse, Response

from studio.errors import StorageError
from studio.library import metadata
from studio.library.library import Library, Picture
from studio.recipe.recipe import Recipe
from studio.web.live import NOT_KEPT, Live

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""A picture never changes under its id."""

MOST = 100


def routes(library: Library, live: Live) -> APIRouter:
    """`/pictures`, `/pictures/{id}.png` (`?download=1` to save it), its lineage, `/thumbnails/{id}`, and ratings."""
    router = APIRouter()

    @router.get("/pictures")
    def recent(count: int = 24, before: str | None = None) -> JSONResponse:
        found = library.recent(max(1, min(count, MOST)), before)
        return JSONResponse({"pictures": [described(each) for each in found]})

    @router.get("/pictures/{picture_id}.png")
    def picture(picture_id: str, download: bool = False) -> FileResponse:
        found = library.get(picture_id)
        name = file_name(found.recipe) if download else None
        # What is damaged is shown as far as it goes, until it is put back.
        headers = FOREVER if metadata.is_whole(found.path) else NOT_KEPT
        return FileResponse(found.path, media_type="image/png", headers=headers, filename=name)

    @router.get("/pictures/{picture_id}")
    def describe(picture_id: str) -> JSONResponse:
        return JSONResponse(described(library.get(picture_id)))

    @router.post("/pictures/{picture_id}/rating")
    def rate(picture_id: str, stars: int) -> JSONResponse:
        library.rate(picture_id, stars)
        live.tell(f"rating {picture_id}", "rating", {"id": picture_id, "rating": stars})
        return JSONResponse({"rating": stars})

    @router.get("/ratings")
    def ratings(id: Annotated[list[str], Query(max_length=MOST)]) -> JSONResponse:
        return JSONResponse({"ratings": library.ratings(id)})

    @router.get("/pictures/{picture_id}/lineage")
    def lineage(picture_id: str) -> JSONResponse:
        """What a picture was forked from and after how many steps, and its own forks; `parent` null if there is none.

        `gone`: whether it was forked from a picture that is not here any more.
        """
        found = library.get(picture_id)
        parent = None
        if found.parent:
            with contextlib.suppress(StorageError):
                parent = described(library.get(found.parent))
        forks = [{**described(each), "step": each.parent_step} for each in library.forks(picture_id)]
        gone = bool(found.parent) and parent is None
        return JSONResponse({"parent": parent, "step": found.parent_step, "gone": gone, "forks": forks})

    @router.get("/thumbnails/{picture_id}")
    def thumbnail(picture_id: str) -> Response:
        data = library.thumbnail(picture_id)
        return Response(data, media_type=_image_type(data), headers=FOREVER)

    return router


def described(picture: Picture) -> dict[str, Any]:
    """What the page needs to know of a picture. `forked_at` only of one that was forked: after how many steps."""
    forked = {"forked_at": picture.parent_step} if picture.parent else {}
    return {
        **forked,
        "id": picture.id,
        "width": picture.width,
        "height": picture.height,
        "steps_done": picture.steps_done,
        "made_at": picture.made_at,
        "recipe": picture.recipe.for_page(),
        "rating": picture.rating,
        "note": picture.note,
    }


def file_name(recipe: Recipe) -> str:
    """A name that says what is in the file: the first words of the prompt and the seed."""
    words = re.findall(r"\w+", recipe.prompt)[:8]
    return f"{'-'.join(words)[:60] or 'picture'}-{recipe.seed}.png"


def _image_type(data: bytes) -> str:
    if data.startswith(b"\x89PNG"):
        return "image/png"
    return "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"
