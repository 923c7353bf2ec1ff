"""What happens to jobs, as one event stream for each browser window, and the few requests that act on a job.

A window that opens is told how its owner's jobs stand, and from then on what changes. It only watches: closing it
stops nothing, and another window of the same browser sees the same. A slow window gets the newest event of each
job and skips what came between, so it never holds anything up.
"""

import asyncio
import base64
import contextlib
import io
import json
import threading
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import fields
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from studio.engine import Engine, Job
from studio.errors import JobMissing
from studio.events import FINAL, Event, Paused, Step
from studio.library import Library
from studio.shares import share_of

FRAME, LAST_FRAME = 90, 1500
"""Milliseconds that an animation shows each step, and the last one."""

FRAME_PIXELS = 256 * 256
"""Pixels of a preview, about."""

NOT_KEPT = {"Cache-Control": "no-store"}

STEP = "Emerge-Step"
"""The header that tells after which step a picture looked like that."""

HEARTBEAT = 15.0
"""Seconds after which a silent stream says that it is still there, so that a vanished reader is noticed."""

GATHERED = 0.008
"""Seconds for which a window's news are gathered before they are told: the steps of one tick come one by one, and each
waking of the server would take time from the model."""

STREAMS = 32
"""Streams of one share at a time; of more, the oldest ends, and its window asks again."""

OWNERS_KEPT = 1000
"""Browsers whose pictures on show are remembered in any case; of more, only those that have jobs."""

PLACES_KEPT = 16
"""Tabs whose pictures on show are remembered of one browser."""

NEWS_KEPT = 10_000
"""Things of which a reader can have missed the newest; one that takes nothing for longer is not waited for."""

Layout = dict[str, Any]
"""How a tab's pictures stand in a grid, as JSON: `rows` and `columns` (labels), `cells` (job ids, row by row), a `note`
for the person, and the `plan` that it was made of (`studio.sheets.Plan`)."""

Stages = dict[str, dict[str, Any]]
"""What tabs show, as JSON: `shown` (owner → place → ids of jobs) and `layouts` (owner → place → layout)."""


def owner_of(request: Request) -> str:
    """The random id of the browser that asks, which `guard.Guard` put there."""
    owner: str = request.state.owner
    return owner


class Mailbox:
    """What one reader has not been told yet: of each thing the newest only."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._news: dict[str, Any] = {}
        self.is_lost = False
        """Whether its reader took nothing for so long that news were thrown away: it must begin again."""
        self._filled = asyncio.Event()

    def put(self, key: str, item: Any) -> None:
        """Leave an item in place of an older one of that key. Any thread; never waits."""
        with self._lock:
            is_first = not self._news
            if len(self._news) >= NEWS_KEPT:
                self._news.clear()
                self.is_lost = True
            self._news[key] = item
        # The reader is woken once for all that it has not taken yet.
        if is_first:
            with contextlib.suppress(RuntimeError):  # the server's loop has ended, and the reader with it
                self._loop.call_soon_threadsafe(self._filled.set)

    async def take(self, timeout: float) -> list[Any]:
        """All that is there, a moment after there is something; nothing after `timeout` seconds."""
        try:
            # Not asyncio.wait_for, which in Python 3.11 can lose a cancellation: the reader would go on for nobody.
            async with asyncio.timeout(timeout):
                await self._filled.wait()
        except TimeoutError:
            return []
        await asyncio.sleep(GATHERED)
        self._filled.clear()
        with self._lock:
            news, self._news = self._news, {}
        return list(news.values())


class Live:
    """The event streams of all windows, and which jobs each tab of a browser shows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._shown: dict[str, dict[str, list[str]]] = {}
        self._layouts: dict[str, dict[str, Layout]] = {}
        self._readers: list[tuple[str, Mailbox]] = []
        self._closed = False

    def show(self, owner: str, place: str, jobs: Sequence[Job], layout: "Layout | None" = None) -> None:
        """Have the owner's windows show these jobs in a tab, beside those there that are still moving.

        layout: how they stand in a grid, which makes room for nothing else.
        """
        with self._lock:
            places = self._shown.setdefault(owner, {})
            new = [job.id for job in jobs]
            moving = [job_id for job_id in places.get(place, []) if not layout and self._moves(job_id)]
            places[place] = [*(job_id for job_id in moving if job_id not in new), *new]
            if layout:
                self._layouts.setdefault(owner, {})[place] = layout
            self._forget(owner)
            layouts = {place: layout} if layout else {}
            news = _message("shown", {"shown": {place: places[place]}, "layouts": layouts})
            for reader, mailbox in self._readers:
                if reader == owner:
                    mailbox.put(f"shown {place}", news)

    def stages(self, jobs: Collection[str]) -> Stages:
        """What the tabs show in which one of these jobs stands, of all browsers."""
        with self._lock:
            shown = {
                owner: {place: list(ids) for place, ids in places.items() if not set(ids).isdisjoint(jobs)}
                for owner, places in self._shown.items()
            }
            layouts = {
                owner: {place: layout for place, layout in layouts.items() if place in shown.get(owner, {})}
                for owner, layouts in self._layouts.items()
            }
        return {"shown": {owner: found for owner, found in shown.items() if found}, "layouts": layouts}

    def put_back(self, stages: Stages) -> None:
        """Have the tabs show what they showed when the studio was stopped."""
        with self._lock:
            for owner, places in stages["shown"].items():
                self._shown.setdefault(owner, {}).update(places)
            for owner, layouts in stages["layouts"].items():
                self._layouts.setdefault(owner, {}).update(layouts)

    def close(self) -> None:
        """Let every stream end when it has told what there is to tell."""
        with self._lock:
            self._closed = True
            for _, mailbox in self._readers:
                mailbox.put("end", None)

    def tell(self, key: str, kind: str, values: Any, owner: str | None = None) -> None:
        """Tell all windows of an owner (None: of everyone) something that is no job's. Any thread.

        Of one `key` only the newest is told.
        """
        news = _message(kind, values)
        with self._lock:
            for reader, mailbox in self._readers:
                if owner in (None, reader):
                    mailbox.put(key, news)

    def layout(self, owner: str, place: str) -> "Layout | None":
        """How the pictures of a tab stand in a grid, None if they don't."""
        with self._lock:
            return self._layouts.get(owner, {}).get(place)

    def bring_back(self, owner: str, place: str, job: Job) -> None:
        """Have a tab show a job that went on, if it has made room for others meanwhile."""
        with self._lock:
            is_missing = job.id not in self._shown.get(owner, {}).get(place, [job.id])
        if is_missing:
            self.show(owner, place, [job])

    def shown(self, owner: str, place: str) -> list[Job]:
        """The jobs that a tab of this owner shows, as far as they are remembered."""
        with self._lock:
            ids = list(self._shown.get(owner, {}).get(place, []))
        return [job for job in map(self._find, ids) if job]

    async def stream(self, owner: str) -> AsyncIterator[str]:
        """Server-sent events: `jobs` once, then `job`, `shown` and what is told to all (`tell`) as things happen."""
        mailbox = Mailbox()
        reader = (owner, mailbox)
        # Listening starts before the snapshot, so that nothing falls between the two.
        unsubscribe = self._engine.subscribe(lambda event: mailbox.put(event.job, event))
        with self._lock:
            self._readers.append(reader)
            of_one = [box for who, box in self._readers if share_of(who) == share_of(owner)]
            for old in of_one[:-STREAMS]:
                old.put("end", None)
            if self._closed:
                mailbox.put("end", None)
            shown = {place: list(ids) for place, ids in self._shown.get(owner, {}).items()}
            layouts = dict(self._layouts.get(owner, {}))
        try:
            current = self._current(owner, shown)
            known = {job.id for job in current}
            await run_in_threadpool(_encode, [job.event for job in current])
            told = [_described(job, job.event) for job in current]
            yield _message("jobs", {"jobs": told, "shown": shown, "layouts": layouts})
            while True:
                found = await mailbox.take(HEARTBEAT)
                if mailbox.is_lost:
                    return  # a browser asks again by itself, and is told how things stand
                is_last = None in found
                told_to_all = (each for each in found if each is not None)
                news = [each for each in told_to_all if isinstance(each, str) or self._is_for(owner, known, each)]
                # Encoding takes a moment, and may wait for the device: not on the engine's thread or the server's loop.
                if any(_has_preview(each) for each in news):
                    await run_in_threadpool(_encode, news)
                for each in news:
                    yield each if isinstance(each, str) else self._told(known, each)
                if is_last:
                    return
                if not found:
                    yield ": still here\n\n"
        finally:
            unsubscribe()
            with self._lock:
                self._readers.remove(reader)

    def _forget(self, owner: str) -> None:
        """Under the lock: the engine forgets the jobs of whoever has the most, and their places go with them."""
        while len(self._shown[owner]) > PLACES_KEPT:
            place = next(iter(self._shown[owner]))
            del self._shown[owner][place]
            self._layouts.get(owner, {}).pop(place, None)
        if len(self._shown) > OWNERS_KEPT:
            known = {job.owner for job in self._engine.jobs()}
            for gone in [each for each in self._shown if each not in known]:
                del self._shown[gone]
                self._layouts.pop(gone, None)

    def _is_for(self, owner: str, known: set[str], event: Event) -> bool:
        if event.job in known:
            return True
        job = self._find(event.job)
        return job is not None and job.owner == owner

    def _told(self, known: set[str], event: Event) -> str:
        """The message of an event, with the recipe if this reader hears of the job for the first time."""
        job = self._find(event.job)
        is_new = event.job not in known
        known.add(event.job)
        if isinstance(event, FINAL):
            known.discard(event.job)  # there is nothing more to hear of it
        if is_new and job:
            return _message("job", _described(job, event))
        # A recipe that was changed on the way is told again.
        changed = {"recipe": job.recipe.for_page()} if job and job.recipe.turns else {}
        return _message("job", {**_values(event), **changed})

    def _current(self, owner: str, shown: dict[str, list[str]]) -> list[Job]:
        """The owner's jobs that are not over, and those that are but stand on the page."""
        on_page = {job_id for ids in shown.values() for job_id in ids}
        return [job for job in self._engine.jobs(owner) if job.id in on_page or not isinstance(job.event, FINAL)]

    def _find(self, job_id: str) -> Job | None:
        try:
            return self._engine.job(job_id)
        except JobMissing:
            return None

    def _moves(self, job_id: str) -> bool:
        job = self._find(job_id)
        return job is not None and not isinstance(job.event, (*FINAL, Paused))


def routes(engine: Engine, live: Live, library: Library) -> APIRouter:
    """The stream; pause, resume and cancel of the asker's own jobs; and going back into a picture of the library."""
    router = APIRouter()

    @router.get("/live")
    async def stream(request: Request) -> StreamingResponse:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(live.stream(owner_of(request)), media_type="text/event-stream", headers=headers)

    acts = {"pause": engine.pause, "resume": engine.resume, "cancel": engine.cancel}

    @router.post("/jobs/{job_id}/{act}")
    def act_on_job(job_id: str, act: str, request: Request, place: str = "") -> JSONResponse:
        """`place`: the tab that shall show a job which is resumed, if it has left there."""
        if act not in acts:
            return JSONResponse({"error": f"A job can be paused, resumed or cancelled, not {act!r}."}, 404)
        job, owner = engine.job(job_id), owner_of(request)
        if job.owner != owner:
            raise JobMissing("That picture is being made in another browser, and can be stopped there only.")
        acts[act](job_id)
        if act == "resume":
            live.bring_back(owner, place, job)
        return JSONResponse({})

    @router.post("/pictures/{picture_id}/recall")
    def recall(picture_id: str, request: Request, place: str = Query(pattern="^[a-z_]{1,40}$")) -> JSONResponse:
        """Have a picture stand on a tab's stage again, with its timeline."""
        picture, owner = library.get(picture_id), owner_of(request)
        job = engine.recall(picture_id, picture.recipe, picture.steps_done, owner, picture.note)
        live.show(owner, place, [job])
        return JSONResponse({})

    @router.get("/jobs/{job_id}/steps/{step}.jpg")
    def look_back(job_id: str, step: int, request: Request) -> Response:
        """The predicted clean picture after so many steps, or the nearest before that is remembered: STEP says."""
        _own(engine, job_id, request)
        kept, preview = engine.look_back(job_id, step)
        return Response(preview.jpeg(), media_type="image/jpeg", headers={**NOT_KEPT, STEP: str(kept)})

    @router.get("/jobs/{job_id}/steps.{kind}")
    def film(job_id: str, kind: Literal["gif", "webp"], request: Request) -> Response:
        """All steps that are remembered, one after another, as an animation that shows the last for longer."""
        job = _own(engine, job_id, request)
        found: list[bytes] = []
        step = job.recipe.steps_run
        while step >= 0:
            kept, preview = engine.look_back(job_id, step)
            found.insert(0, preview.jpeg())
            step = kept - 1
        headers = {**NOT_KEPT, "Content-Disposition": f'attachment; filename="emerging-{job.recipe.seed}.{kind}"'}
        with library.gate(len(found) * FRAME_PIXELS):
            return Response(_film(found, kind), media_type=f"image/{kind}", headers=headers)

    return router


def _own(engine: Engine, job_id: str, request: Request) -> Job:
    job = engine.job(job_id)
    if job.owner != owner_of(request):
        raise JobMissing("That picture was made in another browser, and its steps can be seen there only.")
    return job


def _film(frames: Sequence[bytes], kind: str) -> bytes:
    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    times = [FRAME] * (len(pictures) - 1) + [LAST_FRAME]
    file = io.BytesIO()
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:], duration=times, loop=0, quality=85)
    return file.getvalue()


def _described(job: Job, event: Event) -> dict[str, Any]:
    forked = {"forked_at": job.parent[1]} if job.parent else {}
    return {**_values(event), "recipe": job.recipe.for_page(), "number": job.number, **forked}


def _values(event: Event) -> dict[str, Any]:
    """An event for the page: its fields, its kind as `state`, and the preview, encoded before, as base64 of a JPEG."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    values["id"] = values.pop("job")
    values["state"] = type(event).__name__.lower()
    if isinstance(event, Step) and event.preview:
        values["preview"] = base64.b64encode(event.preview.jpeg()).decode()
    return values


def _has_preview(news: Any) -> bool:
    return isinstance(news, Step) and news.preview is not None


def _encode(news: Sequence[Any]) -> None:
    """Make the JPEGs of all previews, which keep them."""
    for each in news:
        if isinstance(each, Step) and each.preview:
            each.preview.jpeg()


def _message(kind: str, values: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(values, ensure_ascii=False)}\n\n"
