"""What a stop of the studio interrupted, in a file beside the pictures until the next start.

So a page that is opened again shows its stopped pictures where they stood, to be continued. The pictures themselves are
in the library, and their steps beside them; here stands only whose they are. The file is a convenience: one that is
damaged counts as not there.
"""

import contextlib
import json
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from studio import disk
from studio.engine.engine import Engine
from studio.engine.events import FINAL, Finished, Paused
from studio.engine.job import Job
from studio.engine.shares import in_turns
from studio.errors import RecipeError
from studio.library.library import Library
from studio.recipe.recipe import Recipe
from studio.web.live import Live

FORMAT = "emerge-unfinished-1"

MOST = 32 * 2**20
"""Bytes of the file, about; of more, some of everybody's are left out. A picture takes some hundred."""

log = logging.getLogger(__name__)


def file_in(folder: Path) -> Path:
    """Where this program writes. A name of its own: another studio on the same folder may be stopped as well."""
    return folder / f"unfinished-{uuid4().hex}.json"


def keep(path: Path, engine: Engine, live: Live, browsers: str) -> None:
    """Write down the jobs that are not over, and the finished ones that stand beside them.

    Once as soon as the studio is to stop, for it may be killed while it keeps partial pictures, and once more when
    these are kept. browsers: what the ids of browsers are known by. The log and the pages are told if it fails.
    """
    jobs = engine.jobs()
    paused = {job.id for job in jobs if not isinstance(job.event, FINAL)}
    if not paused:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return
    stages = live.stages(paused)
    beside = {job_id for places in stages["shown"].values() for ids in places.values() for job_id in ids}
    told = [job for job in jobs if job.id in paused or (job.id in beside and isinstance(job.event, Finished))]
    text = json.dumps({"browsers": browsers, "jobs": _within(MOST, told), "stages": stages})
    data = text.encode()
    try:
        disk.write(path, f"{FORMAT} {zlib.crc32(data)}\n".encode() + data)
    except OSError as error:
        log.warning("What is unfinished could not be written down for the next start: %s", error)
        reason = f"What is unfinished could not be written down for the next start: {error.strerror or error}."
        live.tell("refused", "refused", {"sentence": reason})


def bring_back(folder: Path, engine: Engine, live: Live, library: Library, browsers: str) -> None:
    """Have what was written down at the last stop among the jobs and on the stages again. Never fails.

    What belongs to browsers that are known by something else is not: nobody would be shown it.
    """
    for path in sorted(folder.glob("unfinished-*.json")):
        try:
            told = _read(path)
            if told["browsers"] != browsers:
                raise ValueError("it is of browsers that are not known any more; partial pictures are in the library")
            for values in told["jobs"]:
                with contextlib.suppress(RecipeError):  # of a newer studio
                    _recall(values, engine, library)
            live.put_back(told["stages"])
        except Exception as error:  # the file may say anything
            log.warning("What was unfinished cannot be read from %s: %r", path, error)
        with contextlib.suppress(OSError):
            path.unlink()


def _within(most: int, jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """The jobs as JSON, in their order."""
    found = []
    for job in in_turns(list(jobs)):
        values = _values(job)
        most -= len(values["recipe"])
        if most < 0:
            break
        found.append((job.number, values))
    return [values for _, values in sorted(found, key=lambda pair: pair[0])]


def _values(job: Job) -> dict[str, Any]:
    event, last = job.event, job.recipe.steps_run
    picture, done = job.kept or ("", 0)
    if isinstance(event, Paused):
        picture, done = event.picture or "", event.done
    # One that was paused is never taken for finished, though a pipeline of several stages counts more steps.
    done = min(done, last - 1)
    if isinstance(event, Finished):
        picture, done = event.picture, last
    return {
        "id": job.id,
        "owner": job.owner,
        "recipe": job.recipe.to_json(),
        "previews": job.previews,
        "parent": job.parent,
        "picture": picture,
        "done": done if picture else 0,
        "note": getattr(event, "note", ""),
    }


def _recall(values: dict[str, Any], engine: Engine, library: Library) -> None:
    recipe, picture, done = Recipe.from_json(values["recipe"]), values["picture"], values["done"]
    if picture and not library.has(picture):
        if done >= recipe.steps_run:
            return
        picture, done = "", 0  # it was deleted meanwhile: what is left of it is what it was to become
    engine.recall(
        picture,
        recipe,
        done,
        values["owner"],
        values["note"],
        job_id=values["id"],
        previews=values["previews"],
        parent=tuple(values["parent"]) if values["parent"] else None,
    )


def _read(path: Path) -> Any:
    head, _, data = disk.content(path, 4 * MOST).partition(b"\n")
    if head != f"{FORMAT} {zlib.crc32(data)}".encode():
        raise ValueError("it is damaged, or of another studio")
    return json.loads(data)
