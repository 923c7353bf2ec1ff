"""What happens to jobs, as one event stream for each browser, and the few requests that act on a job.

A browser that opens a page is told how its jobs stand, and from then on what changes; its windows share the stream.
They only watch: closing one stops nothing. Each window has stages of its own, one in each tab, and is told of all of
them. A slow reader gets the newest event of each job and skips what came between, so it never holds anything up.
"""

import asyncio
import base64
import io
import json
import re
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from studio.engine.engine import Engine
from studio.engine.events import FINAL, Event, Paused, Step
from studio.engine.job import Job
from studio.engine.shares import share_of
from studio.errors import JobMissing
from studio.library.library import Library
from studio.web.mailbox import Mailbox

FRAME, LAST_FRAME = 90, 1500
"""Milliseconds that an animation shows each step, and the last one."""

FRAME_PIXELS = 256 * 256
"""Pixels of a preview, about."""

NOT_KEPT = {"Cache-Control": "no-store, no-transform"}
"""Nobody on the way keeps it, nor gathers it to make it smaller."""

STEP = "Emerge-Step"
"""The header that tells after which step a picture looked like that."""

HEARTBEAT = 10.0
"""Seconds after which a silent stream says that it is still there. The page takes one that says nothing for much longer
for lost (`page/common/connection.js`), and a reader that has vanished is noticed."""

WAIT = 20.0
"""Seconds that somebody who asks can wait for news at most."""

ASKER_KEPT = 120.0
"""Seconds for which news are gathered for somebody who asks. A browser lets a hidden page ask once a minute."""

STREAMS = 32
"""Streams of one share at a time; of more, the oldest ends, and its window asks again."""

OWNERS_KEPT = 1000
"""Browsers whose pictures on show are remembered in any case; of more, only those that have jobs."""

STAGES_KEPT = 60
"""Stages of which it is remembered what they show, of one browser: each of its windows has one in each tab."""

Layout = dict[str, Any]
"""How a tab's pictures stand in a grid, as JSON: `rows` and `columns` (labels), `cells` (job ids, row by row), a `note`
for the person, and the `plan` that it was made of (`studio.grids.sheets.Plan`)."""

Stages = dict[str, dict[str, Any]]
"""What tabs show, as JSON: `shown` (owner → stage → ids of jobs) and `layouts` (owner → stage → layout)."""

PLACE, WINDOW = "^[a-z_]{1,40}$", "^[a-z0-9]{0,32}$"
"""Names of tabs, and those that windows of a browser give themselves."""


BEAT = "event: beat\ndata: {}\n\n"


def owner_of(request: Request) -> str:
    """The random id of the browser that asks, which `guard.Guard` put there."""
    owner: str = request.state.owner
    return owner


def stage_of(window: Any, place: str) -> str:
    """The stage of a tab in one window, "window/place"; the tab's name alone for programs that have no windows."""
    return f"{window}/{place}" if isinstance(window, str) and re.fullmatch(WINDOW, window) and window else place


@dataclass
class Reader:
    """Somebody of this owner who is told what happens: by a stream, or whenever it asks."""

    owner: str
    mailbox: Mailbox
    unsubscribe: Callable[[], None]
    known: set[str] = field(default_factory=set)
    """Jobs of which it was told more than what changed."""
    is_over: bool = False
    """Whether it must begin anew."""
    forgotten: asyncio.TimerHandle | None = None


class Live:
    """The event streams of all windows, and which jobs each tab of a browser shows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._shown: dict[str, dict[str, list[str]]] = {}
        self._layouts: dict[str, dict[str, Layout]] = {}
        self._readers: list[Reader] = []
        self._askers: dict[tuple[str, str], Reader] = {}
        self._closed = False

    def show(self, owner: str, place: str, jobs: Sequence[Job], layout: "Layout | None" = None) -> list[Job]:
        """Have the owner's windows show these jobs in a tab, beside those there that are still moving.

        layout: how they stand in a grid, which makes room for nothing else. Returns the jobs that had to go for it,
        so that of two who show at the same time each knows whose place it took.
        """
        with self._lock:
            places = self._shown.setdefault(owner, {})
            new = [job.id for job in jobs]
            before = places.get(place, [])
            moving = [job_id for job_id in before if not layout and self._moves(job_id)]
            ids = [*(job_id for job_id in moving if job_id not in new), *new]
            places.pop(place, None)  # the stage that was shown on last stands last
            places[place] = ids
            if layout:
                self._layouts.setdefault(owner, {})[place] = layout
            self._tell_stage(owner, place)
            self._forget(owner)
        return [job for job in map(self._find, (each for each in before if each not in ids)) if job]

    def exchange(self, owner: str, stage: str, anew: Mapping[str, Job]) -> list[Job]:
        """Put jobs in the place of others of a stage, by these others' ids. Those whose place is gone are returned.

        What a stage shows is read and changed at once, so that two who do so at the same time both get their way.
        """
        with self._lock:
            ids = self._shown.get(owner, {}).get(stage, [])
            new = {old: job.id for old, job in anew.items() if old in ids}
            if new:
                self._shown[owner][stage] = [new.get(each, each) for each in ids]
                if layout := self._layouts.get(owner, {}).get(stage):
                    cells = [[new.get(each, each) for each in row] for row in layout["cells"]]
                    self._layouts[owner][stage] = {**layout, "cells": cells}
                self._tell_stage(owner, stage)
        return [job for old, job in anew.items() if old not in new]

    def bring(self, owner: str, stage: str, to: str) -> None:
        """Have what is under way or stopped on one stage stand on another of the same tab. Grids change places."""
        with self._lock:
            shown, layouts = self._shown.get(owner, {}), self._layouts.get(owner, {})
            if stage not in shown or stage == to or _place(stage) != _place(to):
                return
            theirs, ours = shown[stage], shown.get(to, [])
            if stage in layouts or to in layouts:
                shown[stage], shown[to] = ours, theirs
                swapped = {stage: layouts.pop(to, None), to: layouts.pop(stage, None)}
                layouts.update({each: layout for each, layout in swapped.items() if layout})
            else:
                moved = [job_id for job_id in theirs if self._is_open(job_id)]
                shown[to] = [*(job_id for job_id in ours if job_id not in moved), *moved]
                shown[stage] = [job_id for job_id in theirs if job_id not in moved]
            self._tell_stage(owner, stage)
            self._tell_stage(owner, to)

    def _tell_stage(self, owner: str, stage: str) -> None:
        """Under the lock: tell the owner's windows what a stage shows, and how: all of it, for one may be skipped."""
        layout = self._layouts.get(owner, {}).get(stage)
        news = _message("shown", {"shown": {stage: self._shown[owner][stage]}, "layouts": {stage: layout}})
        for reader in self._readers:
            if reader.owner == owner:
                reader.mailbox.put(f"shown {stage}", news)

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
            for reader in self._readers:
                reader.mailbox.put("end", None)

    def tell(self, key: str, kind: str, values: Any, owner: str | None = None) -> None:
        """Tell all windows of an owner (None: of everyone) something that is no job's. Any thread.

        Of one `key` only the newest is told.
        """
        news = _message(kind, values)
        with self._lock:
            for reader in self._readers:
                if owner in (None, reader.owner):
                    reader.mailbox.put(key, news)

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

    async def stream(self, owner: str) -> AsyncGenerator[str, None]:
        """Server-sent events: `jobs` once, then `job`, `shown` and what is told to all (`tell`) as things happen.

        `beat` where there is nothing to tell, for a script sees nothing of a stream that has died.
        """
        clock = asyncio.get_running_loop().time
        reader = self._begin(owner)
        try:
            yield await self._standing(reader)
            told_at = clock()
            while not reader.is_over:
                # What happens to others' jobs wakes it too, and is nothing to tell.
                news = await self._news(reader, max(told_at + HEARTBEAT - clock(), 0))
                if not news and clock() >= told_at + HEARTBEAT:
                    news = [BEAT]
                for each in news:
                    yield each
                    told_at = clock()
        finally:
            self._end(reader)

    async def news(self, owner: str, name: str, wait: float) -> str:
        """The same for a reader that streams do not reach: what it has not been told yet, after `wait` seconds at most.

        name: what it calls itself. Who has not asked lately, or has no name, is told how things stand.
        """
        if not name:
            reader = self._begin(owner)
            try:
                return await self._standing(reader)
            finally:
                self._end(reader)
        reader = self._askers.get((owner, name)) or self._begin(owner)
        is_new = (owner, name) not in self._askers
        self._askers[owner, name] = reader
        if reader.forgotten:
            reader.forgotten.cancel()
        try:
            return await self._standing(reader) if is_new else "".join(await self._news(reader, wait))
        finally:
            later = 0 if reader.is_over else ASKER_KEPT
            reader.forgotten = asyncio.get_running_loop().call_later(later, self._forget_asker, owner, name)

    def _forget_asker(self, owner: str, name: str) -> None:
        self._end(self._askers.pop((owner, name)))

    def _begin(self, owner: str) -> Reader:
        mailbox = Mailbox()
        # Listening starts before it is told how things stand, so that nothing falls between the two.
        unsubscribe = self._engine.subscribe(lambda event: mailbox.put(event.job, event))
        reader = Reader(owner, mailbox, unsubscribe)
        with self._lock:
            self._readers.append(reader)
            of_one = [each for each in self._readers if share_of(each.owner) == share_of(owner)]
            for old in of_one[:-STREAMS]:
                old.mailbox.put("end", None)
            if self._closed:
                mailbox.put("end", None)
        return reader

    def _end(self, reader: Reader) -> None:
        reader.unsubscribe()
        with self._lock:
            if reader in self._readers:
                self._readers.remove(reader)

    async def _standing(self, reader: Reader) -> str:
        """How all of the owner's jobs and stages stand."""
        with self._lock:
            shown = {place: list(ids) for place, ids in self._shown.get(reader.owner, {}).items()}
            layouts = dict(self._layouts.get(reader.owner, {}))
        current = self._current(reader.owner, shown)
        reader.known = {job.id for job in current}
        await run_in_threadpool(_encode, [job.event for job in current])
        told = [_described(job, job.event) for job in current]
        return _message("jobs", {"jobs": told, "shown": shown, "layouts": layouts})

    async def _news(self, reader: Reader, timeout: float) -> list[str]:
        """What this reader has not been told yet, once there is something, or nothing after `timeout` seconds."""
        found = await reader.mailbox.take(timeout)
        # A reader that is over asks again by itself, and is told how things stand.
        reader.is_over = None in found or reader.mailbox.is_lost
        if reader.mailbox.is_lost:
            return []
        told_to_all = (each for each in found if each is not None)
        news = [each for each in told_to_all if isinstance(each, str) or self._is_for(reader, each)]
        # Encoding takes a moment, and may wait for the device: not on the engine's thread or the server's loop.
        if any(_has_preview(each) for each in news):
            await run_in_threadpool(_encode, news)
        return [each if isinstance(each, str) else self._told(reader.known, each) for each in news]

    def _forget(self, owner: str) -> None:
        """Under the lock: the engine forgets the jobs of whoever has the most, and their places go with them."""
        stages = self._shown[owner]
        while len(stages) > STAGES_KEPT:
            # The one where something was shown longest ago, and nothing is under way, if there is such a one.
            idle = (stage for stage, ids in stages.items() if not any(map(self._is_open, ids)))
            gone = next(idle, next(iter(stages)))
            del stages[gone]
            self._layouts.get(owner, {}).pop(gone, None)
        if len(self._shown) > OWNERS_KEPT:
            known = {job.owner for job in self._engine.jobs()}
            for gone in [each for each in self._shown if each not in known]:
                del self._shown[gone]
                self._layouts.pop(gone, None)

    def _is_for(self, reader: Reader, event: Event) -> bool:
        if event.job in reader.known:
            return True
        job = self._find(event.job)
        return job is not None and job.owner == reader.owner

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

    def _is_open(self, job_id: str) -> bool:
        """Whether it is on its way, or stopped and can go on."""
        job = self._find(job_id)
        return job is not None and not isinstance(job.event, FINAL)


def routes(engine: Engine, live: Live, library: Library) -> APIRouter:
    """The stream; pause, resume and cancel of the asker's own jobs; and going back into a picture of the library."""
    router = APIRouter()

    @router.get("/live")
    async def stream(request: Request) -> StreamingResponse:
        headers = {**NOT_KEPT, "X-Accel-Buffering": "no"}
        return StreamingResponse(live.stream(owner_of(request)), media_type="text/event-stream", headers=headers)

    @router.get("/live/news")
    async def news(
        request: Request, reader: str = Query("", pattern="^[a-z0-9]{0,32}$"), wait: float = Query(0, ge=0, le=WAIT)
    ) -> Response:
        """The stream's events, as far as there are any, for pages that a stream does not reach."""
        return PlainTextResponse(await live.news(owner_of(request), reader, wait), headers=NOT_KEPT)

    @router.get("/live/here")
    async def here() -> Response:
        """That the studio is there."""
        return Response(status_code=204, headers=NOT_KEPT)

    acts = {"pause": engine.pause, "resume": engine.resume, "cancel": engine.cancel}

    @router.post("/jobs/{job_id}/{act}")
    def act_on_job(job_id: str, act: str, request: Request, place: str = "", window: str = "") -> JSONResponse:
        """`place`: the tab that shall show a job which is resumed, if it has left there."""
        if act not in acts:
            return JSONResponse({"error": f"A job can be paused, resumed or cancelled, not {act!r}."}, 404)
        job, owner = engine.job(job_id), owner_of(request)
        if job.owner != owner:
            raise JobMissing("That picture is being made in another browser, and can be stopped there only.")
        acts[act](job_id)
        if act == "resume":
            live.bring_back(owner, stage_of(window, place), job)
        return JSONResponse({})

    @router.post("/pictures/{picture_id}/recall")
    def recall(
        picture_id: str, request: Request, place: str = Query(pattern=PLACE), window: str = Query("", pattern=WINDOW)
    ) -> JSONResponse:
        """Have a picture stand on a tab's stage again, with its timeline."""
        picture, owner = library.get(picture_id), owner_of(request)
        job = engine.recall(picture_id, picture.recipe, picture.steps_done, owner, picture.note)
        live.show(owner, stage_of(window, place), [job])
        return JSONResponse({})

    @router.post("/stages/bring")
    def bring(
        request: Request,
        stage: str = Query(max_length=80),
        place: str = Query(pattern=PLACE),
        window: str = Query(pattern=WINDOW),
    ) -> JSONResponse:
        """Have what is under way or stopped on another window's `stage` stand on this window's."""
        live.bring(owner_of(request), stage, stage_of(window, place))
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


def _place(stage: str) -> str:
    return stage.rpartition("/")[2]


def _has_preview(news: Any) -> bool:
    return isinstance(news, Step) and news.preview is not None


def _encode(news: Sequence[Any]) -> None:
    """Make the JPEGs of all previews, which keep them."""
    for each in news:
        if isinstance(each, Step) and each.preview:
            each.preview.jpeg()


def _message(kind: str, values: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(values, ensure_ascii=False)}\n\n"
