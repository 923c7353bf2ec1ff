"""Add-ons for the page: what there is beside the models, and what is made of a control's picture."""

import io
import math
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from studio.files import addons
from studio.models.manager import Manager
from studio.pictures import controls
from studio.pictures.sources import Sources
from studio.recipe.recipe import size_of
from studio.web.pictures import FOREVER


def routes(models: Manager, sources: Sources) -> APIRouter:
    """`/addons`, and `/sources/{name}/prepared/{kind}.png`."""
    router = APIRouter()
    preparer = controls.Preparer(sources)

    @router.get("/addons")
    def found() -> JSONResponse:
        loras = models.addons("lora")  # looks at the disk, once for all
        return JSONResponse(
            {
                "loras": [_lora(name, path) for name, path in loras.items()],
                "controlnets": sorted(models.seen("controlnet")),
                "ip_adapters": sorted(models.seen("ip-adapter")),
                "depth": bool(models.seen("depth")),
            }
        )

    @router.get("/sources/{name}/prepared/{kind}.png")
    def prepared(name: str, kind: str) -> Response:
        depth = next(iter(models.seen("depth").values()), None)
        file = io.BytesIO()
        with sources.gate(math.prod(size_of(name))):
            preparer.shown(name, kind, depth).save(file, "PNG", compress_level=1)
        # Another depth model may come, and makes another picture.
        headers = {} if kind == "depth" else FOREVER
        return Response(file.getvalue(), media_type="image/png", headers=headers)

    return router


def _lora(name: str, path: Path) -> dict[str, object]:
    told = addons.told(path)
    return {"name": name, "base": told.base, "words": told.words}
