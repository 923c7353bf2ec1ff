"""The Models tab's own requests: what is on disk, thumbnails, notes, defaults, hashes and downloads."""

import asyncio
import json
import os
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from studio.engine.engine import Engine
from studio.errors import Busy, ModelBusy, ModelError, ModelMissing, RecipeError
from studio.families.samplers import all_schedules, check_schedule
from studio.files.folders import visible
from studio.files.identity import parts
from studio.files.identity.identify import BASES
from studio.library.library import Library
from studio.models import catalog, companions, hashes, sidecars
from studio.models.catalog import Entry
from studio.models.hub import download
from studio.models.hub.tasks import Task, Tasks
from studio.models.manager import Manager
from studio.models.records import DEFAULTS, NOT_DISTILLED
from studio.recipe.fields import BY_NAME, Field
from studio.recipe.recipe import Recipe
from studio.web.bodies import body_of
from studio.web.live import HEARTBEAT, NOT_KEPT
from studio.web.mailbox import Mailbox
from studio.web.pictures import FOREVER

MAX_NOTES = 20_000
"""Characters of a person's own notes on a model."""

LOOKS = 3
"""Questions to the hub at a time: each is a process, and may take a minute."""

_MAX_BODY = 2_000_000
_THUMBNAILS_KEPT = 256


def routes(models: Manager, library: Library, engine: Engine, folders: Iterable[Path], tasks: Tasks) -> APIRouter:
    """`/models` and what is below it. folders: where downloads may go, the first that can be written to."""
    router = APIRouter(prefix="/models")
    folders = tuple(folders)
    looking = threading.BoundedSemaphore(LOOKS)

    def entry(key: str) -> Entry:
        for each in models.catalog.everything():
            if each.key == key:
                return each
        raise ModelMissing("That model is not there any more. Load the list anew.")

    def seen(key: str) -> Entry:
        """The same without a look at the folders, if it was there at the last one."""
        return next((each for each in models.catalog.seen() if each.key == key), None) or entry(key)

    async def let_go(found: Entry) -> None:
        """Have a model leave memory if it is there. Raises ModelBusy."""
        if any(each.name == found.name for each in models.held):
            await asyncio.wrap_future(engine.free(found.name))

    @lru_cache(_THUMBNAILS_KEPT)
    def picture(key: str, stamp: tuple[int, ...], beside: tuple[Path, ...]) -> bytes:
        return sidecars.thumbnail(seen(key), library.gate)

    @router.get("")
    def everything() -> JSONResponse:
        shown = library.best_by_model()
        notes = models.catalog.records.all_notes()
        found = [
            _described(each, shown.get(each.name, ""), notes.get(each.key, "")) for each in models.catalog.everything()
        ]
        places = [{"path": visible(str(each)), "there": os.path.isdir(each)} for each in folders]
        return JSONResponse({"models": found, "folders": places, "bases": BASES}, headers=NOT_KEPT)

    @router.get("/memory")
    def memory() -> JSONResponse:
        """What is loaded, and the memory that it lies in; windows are told by `memory` when to ask anew."""
        held = [asdict(each) for each in models.held]
        return JSONResponse({**asdict(models.memory()), "models": held}, headers=NOT_KEPT)

    @router.post("/free")
    async def free(name: str) -> JSONResponse:
        await asyncio.wrap_future(engine.free(name))
        return JSONResponse({})

    @router.get("/one")
    def one(key: str) -> JSONResponse:
        found = entry(key)
        told, records = sidecars.notes(found), models.catalog.records
        return JSONResponse(
            {
                "path": visible(str(found.path)),
                "notes": told.text,
                "triggers": told.triggers,
                "weight": told.weight,
                "own": records.notes(key),
                "defaults": records.defaults(key),
                "suited": _suited(found),
                "fields": [_field(BY_NAME[name]) for name in _suited(found)],
                "samplers": _samplers(found),
                "parts": _parts(found, models.catalog.everything(), records.all_parts().get(key, {})),
                "schedules": _schedules(found),
                "distilled": records.all_distilled().get(key, ""),
                "distillations": _distillations(found),
                "sha256": records.hashes(found.path, found.stamp)[0] if found.single else "",
            },
            headers=NOT_KEPT,
        )

    @router.get("/thumbnail")
    def thumbnail(key: str, version: str = "") -> Response:
        found = seen(key)
        data = picture(key, found.stamp, found.sidecars)
        return Response(data, media_type="image/jpeg", headers=FOREVER if version else NOT_KEPT)

    @router.post("/notes")
    async def keep_notes(request: Request, key: str) -> JSONResponse:
        text = visible((await body_of(request, _MAX_BODY)).decode("utf-8", "replace"), lines=True)
        if len(text) > MAX_NOTES:
            raise RecipeError(f"Notes can have {MAX_NOTES:,} characters, and these have {len(text):,}.")
        await run_in_threadpool(lambda: models.catalog.records.keep_notes(entry(key).key, text))
        return JSONResponse({})

    @router.post("/defaults")
    async def keep_defaults(request: Request, key: str) -> JSONResponse:
        values = _defaults(await body_of(request, _MAX_BODY))
        found = await run_in_threadpool(entry, key)
        if values:
            wanted = {**_suited(found), **values}
            if wanted.get("sampler") not in _samplers(found):
                raise RecipeError(f"{found.name} has no sampler {str(wanted.get('sampler'))[:60]!r}.")
            check_schedule(catalog.family(found).samplers, str(wanted["sampler"]), str(wanted["schedule"]))
            Recipe.from_values({"model": found.name, **wanted}).check()
        await run_in_threadpool(models.catalog.records.keep_defaults, found.key, values)
        return JSONResponse({})

    @router.post("/part")
    async def keep_part(key: str, part: str, choice: str = "") -> JSONResponse:
        """What shall serve as a part of a single file: the key of an entry, or nothing for what is best by itself."""
        found = await run_in_threadpool(entry, key)

        def wanted() -> Path | None:
            want = companions.lacking(found).get(part)
            if want is None:
                raise ModelError(f"{found.name} takes no {visible(part[:40])} from another file.")
            if not choice:
                return None
            for each in companions.fitting(want, models.catalog.everything()):
                if each.key == choice:
                    return each.path
            raise ModelMissing(f"That file cannot serve as the {parts.PARTS[want].label}. Load the list again.")

        path = await run_in_threadpool(wanted)
        await let_go(found)  # what is loaded holds the part that served before
        await run_in_threadpool(models.catalog.records.keep_part, found.key, part, path)
        await run_in_threadpool(models.entries)
        return JSONResponse({})

    @router.post("/distilled")
    async def keep_distilled(key: str, kind: str = "") -> JSONResponse:
        """Keep what a person says that a file is distilled by; empty to go by its name again."""
        found = await run_in_threadpool(entry, key)
        if kind and kind not in _distillations(found):
            raise RecipeError(f"{found.name} cannot be distilled by {kind[:40]!r}.")
        await run_in_threadpool(models.catalog.records.keep_distilled, found.key, kind)
        await run_in_threadpool(models.entries)
        try:
            await let_go(found)  # with the schedule that was right before
        except ModelBusy:
            return JSONResponse({"note": "It is in use, and keeps its schedule until it is loaded again."})
        return JSONResponse({"note": ""})

    @router.post("/hash")
    def start_hash(key: str) -> JSONResponse:
        found = entry(key)
        if not found.single:
            raise ModelError("Only single files have a hash that others know them by.")

        def work(task: Task, report: Callable[[int], None]) -> None:
            models.catalog.records.keep_hashes(found.path, found.stamp, *hashes.digest(found.path, found.kind, report))

        return JSONResponse(tasks.start("hash", found.key, found.bytes, work).values)

    @router.post("/hub/look")
    def look(text: str) -> JSONResponse:
        if not looking.acquire(blocking=False):
            raise Busy("Others are asking the hub already. Wait for its answers, then look again.")
        try:
            folder = download.destination(folders)
            plan = download.look(text, folder)
        finally:
            looking.release()
        return JSONResponse({**asdict(plan), "bytes": plan.bytes, "folder": visible(str(folder))})

    @router.post("/hub/get")
    async def start_download(request: Request, choice: str = "") -> JSONResponse:
        values = _object(await body_of(request, _MAX_BODY))
        plan = download.Plan.from_values({name: values[name] for name in download.Plan.__slots__ if name in values})
        plan = download.with_choice(plan, choice) if choice else plan
        folder = await run_in_threadpool(download.destination, folders)

        def work(task: Task, report: Callable[[int], None]) -> None:
            download.fetch(folder, plan, report, task.on_cancel)

        title = f"{plan.repository}/{plan.files[0].name}" if choice else plan.repository
        return JSONResponse(tasks.start("download", title, plan.bytes, work).values)

    @router.post("/tasks/{task_id}/cancel")
    def cancel(task_id: str) -> JSONResponse:
        tasks.cancel(task_id)
        return JSONResponse({})

    @router.get("/tasks")
    async def follow() -> StreamingResponse:
        return StreamingResponse(_follow(tasks), media_type="application/x-ndjson", headers=NOT_KEPT)

    return router


async def _follow(tasks: Tasks) -> AsyncIterator[str]:
    """How all tasks stand, then each change, a line of JSON each; ends as soon as none is under way."""
    mailbox = Mailbox()
    end = tasks.listen(lambda values: mailbox.put(values["id"], values))
    try:
        for values in tasks.all():
            yield json.dumps(values) + "\n"
        while any(values["state"] == "running" for values in tasks.all()):
            news = await mailbox.take(HEARTBEAT)
            yield "".join(json.dumps(values) + "\n" for values in news) or "\n"
        for values in tasks.all():
            yield json.dumps(values) + "\n"
    finally:
        end()


def _described(entry: Entry, picture: str, own: str) -> dict[str, Any]:
    """What the list says of an entry. picture: the id of the newest of the library that was made with it."""
    identity = entry.identity
    # Another picture has another address, and one that is the same is not fetched twice.
    beside = (entry.stamp, *map(str, entry.sidecars))
    version = zlib.crc32(repr(beside).encode("utf-8", "replace")) if sidecars.has_thumbnail(entry) else 0
    return {
        "key": entry.key,
        "name": entry.name,
        "kind": entry.kind,
        "base": identity.base,
        "variant": visible(identity.variant),
        "family": entry.family,
        "precision": visible(identity.precision),
        "parameters": entry.parameters,
        "bytes": entry.bytes,
        "problem": entry.problem,
        "advice": entry.advice,
        "title": entry.title,
        "author": visible(identity.author),
        "license": visible(identity.license),
        "prediction": identity.prediction_type,
        "distilled": identity.distilled,
        "trained_on": visible(identity.trained_on),
        "triggers": [visible(word) for word in identity.triggers[:8]],
        "single": entry.single,
        "bundled": catalog.BUNDLED in entry.path.parents,
        "thumbnail": f"{version:x}" if version else "",
        "picture": picture,
        "own": own[:200],
    }


def _parts(entry: Entry, entries: list[Entry], chosen: dict[str, str]) -> list[dict[str, Any]]:
    """What serves as each part that a single file lacks, and what else could."""
    serving, found = dict(entry.companions), []
    for part, want in companions.lacking(entry).items():
        fit = companions.fitting(want, entries)
        now = next((each.key for each in fit if each.path == serving.get(part)), "")
        own = next((each.key for each in fit if str(each.path) == chosen.get(part)), "")
        files = [{"key": each.key, "name": each.name} for each in fit]
        found.append({"part": part, "label": parts.PARTS[want].label, "serves": now, "chosen": own, "files": files})
    return found


def _suited(entry: Entry) -> dict[str, Any]:
    """The settings that suit a model by itself, without what the person wants instead, or what it has no use for."""
    if entry.kind != "model" or entry.problem or not entry.facts:
        return {}
    idle = catalog.idle(entry)
    return {name: getattr(entry.facts, name) for name in DEFAULTS if name not in idle}


def _field(field: Field) -> dict[str, Any]:
    """What the page needs to ask for a setting."""
    return {"name": field.name, "label": field.label, "kind": field.kind, "step": field.step}


def _samplers(entry: Entry) -> list[str]:
    usable = entry.kind == "model" and not entry.problem and entry.family
    return list(catalog.family(entry).samplers) if usable else []


def _distillations(entry: Entry) -> list[str]:
    """What a person can say that a single file is distilled by; none of files for which that changes nothing."""
    kinds = catalog.family(entry).distillations if entry.single and _samplers(entry) else ()
    return [NOT_DISTILLED, *kinds] if kinds else []


def _schedules(entry: Entry) -> list[str]:
    return all_schedules(catalog.family(entry).samplers) if _samplers(entry) else []


def _defaults(body: bytes) -> dict[str, Any]:
    """The person's defaults as they were sent: those left empty are the model's own. Raises RecipeError."""
    values = {name: value for name, value in _object(body).items() if name in DEFAULTS and value not in ("", None)}
    for name, value in values.items():
        if name not in ("sampler", "schedule") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise RecipeError(f"{name.replace('_', ' ').capitalize()} must be a number.")
    return values


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RecipeError("That was not understood. Load the page anew.")
    return value
