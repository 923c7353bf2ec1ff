"""The engine: every picture is a job, and jobs advance one step at a time.

At every tick the engine chooses jobs that fit together, has the worker make one model call for all of them,
and moves each one step on. Stopping, resuming, sharing a device between people and drawing a grid in which
all cells are alive are nothing but choices of who takes part in the next tick.

One thread does all model work. Other threads only state wishes (submit, pause, resume, cancel), and the thread
grants them between two steps. A second thread keeps finished pictures, so that the model never waits for the disk.
The engine knows neither torch nor the page: the worker, the keeper and the listeners are handed in.

Whatever is bounded is bounded for each owner, and for all together so that whoever has the most gives way.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from PIL.Image import Image

from studio.engine import queue
from studio.engine.events import FINAL, Cancelled, Event, Failed, Finished, Loading, Paused, Preview, Queued, Step
from studio.engine.job import Job, picture_of, pixels_of
from studio.engine.paces import Pace
from studio.engine.protocols import Keep, Past, PreviewKind, Run, Worker
from studio.engine.shares import in_turns, share_of, surplus
from studio.errors import JobMissing, ModelBusy, OutOfMemory, RecipeError, StudioError
from studio.recipe.recipe import MAX_PICTURES, Recipe

log = logging.getLogger(__name__)

WAITING, WAITING_IN_ALL = 256, 2048
"""Pictures that wait or are being made, of one owner (four full grids) and of all. When all places are taken, each
owner may still have an equal part of them. One that waits takes some kilobytes."""

BEGUN = MAX_PICTURES
"""Pictures of one owner that are in the making at once. The others wait, and hold nothing on the device."""

MOMENT = 0.1
"""Seconds that beginning, decoding or stopping pictures may take between two steps while somebody else waits."""

HELD, HELD_IN_ALL = 64, 256
"""Paused jobs that keep their latents in memory; those paused longest ago go on from their steps on disk instead, if
these are there."""

PAUSED_KEPT, PAUSED_IN_ALL = 256, 1024
"""Paused jobs that can be continued; beyond it, the one paused longest ago is given up."""

REMEMBERED = 256 * 2**20
"""Bytes of finished pictures' steps that are kept for going back into them; the oldest of whoever has the most are
forgotten first."""

FINAL_KEPT, FINAL_IN_ALL = 256, 2048
"""Jobs that are over and still answer to their id, so that a reloaded page finds how they ended."""

CLOSING = 5.0
"""Seconds for which partial pictures are kept when the engine closes. Containers are killed ten after the signal."""

_GIVEN_UP = (
    "It was stopped long ago, and too many others were after it. If a partial picture was kept, go back into it from "
    "the recent ones to continue it."
)


KEYS_KEPT = 1000
"""Kinds of calls of which it is remembered that they ran out of memory."""


class Engine:
    """Runs jobs on one worker until `close`.

    keep: called on a thread of its own with each finished (or stopped) picture before the event that names it.
    """

    def __init__(self, worker: Worker[Any], keep: Keep) -> None:
        self._worker = worker
        self._keep = keep
        self._pace = Pace()
        self._lock = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._decodes: list[tuple[Job, Future[Image]]] = []
        self._frees: list[tuple[str, Future[None]]] = []
        self._listeners: list[Callable[[Event], None]] = []
        self._served: Counter[str] = Counter()
        self._numbers = 0
        self._ticks = 0
        self._stepped = False  # whether the last tick was a step: the next may begin and end pictures
        self._rows: dict[Hashable, int] = {}  # for keys that ran out of memory: how many rows to try
        self._fetching = ("", "wait")  # the model that is awaited, and how far it is
        self._closing = False
        self._keeper = ThreadPoolExecutor(1, "keeper")
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    # What other threads may ask

    def submit(self, recipes: Iterable[Recipe], owner: str = "", previews: PreviewKind = "clean") -> list[Job]:
        """Queue a job for each recipe, or none: raises RecipeError, ModelError, or StudioError if too many wait."""
        recipes = list(recipes)
        if not 1 <= len(recipes) <= MAX_PICTURES:
            raise StudioError(f"{len(recipes)} pictures cannot be made at once. Ask for 1 to {MAX_PICTURES}.")
        self._worker.check(*(recipe.check() for recipe in recipes))
        with self._lock:
            return self._queue(recipes, owner, previews)

    def fork(self, job_id: str, step: int, changes: dict[str, Any]) -> Job:
        """Take up a job again after so many of its steps, with some of its values changed from there on.

        Only the steps after the last that is remembered before it are run (`remembered`), which comes to the same
        picture. Raises as `submit` does, and JobMissing.
        """
        with self._lock:
            parent = self._find(job_id)
        if not 0 <= step < parent.recipe.steps_run:
            raise RecipeError(f"There is no step {step} to go back to; this picture has {parent.recipe.steps_run}.")
        recipe = parent.recipe.turned(step, changes).check()
        self._worker.check(recipe)
        past, picture = self._past(parent), picture_of(parent)
        with self._lock:
            [job] = self._queue([recipe], parent.owner, parent.previews)
            job.origin = (past, step) if past else None
            job.parent = (picture, step) if picture else None
            return job

    def recall(
        self,
        picture: str,
        recipe: Recipe,
        done: int,
        owner: str = "",
        note: str = "",
        *,
        job_id: str = "",
        previews: PreviewKind = "clean",
        parent: tuple[str, int] | None = None,
    ) -> Job:
        """Have a kept picture among the jobs again, finished or stopped after `done` steps, as it was when it was kept.

        So one can look back into it, fork it, and resume it. If the owner has it among the jobs, it is that one.
        picture: empty for one of which nothing was kept. note: what was kept with it. job_id: the id that it had.
        """
        past = self._worker.recall(picture) if picture else None
        lost = "Its steps are no longer remembered: to go on, it starts from the beginning." if picture else ""
        with self._lock:
            for job in self._jobs.values():
                if job.id == job_id or (picture and job.owner == owner and picture_of(job) == picture):
                    return job
            job = self._new(recipe, owner, previews)
            job.id, job.parent = job_id or job.id, parent
            self._jobs[job.id] = job
            if picture and done >= recipe.steps_run:
                self._publish(job, Finished(job.id, picture, note))
            else:
                job.origin = (past, done) if past else None
                job.kept = (picture, done) if picture else None
                self._hold(job, Paused(job.id, done, recipe.steps_run, picture or None, "" if past else lost, note))
            return job

    def change(self, job_id: str, changes: dict[str, Any]) -> None:
        """Change values of a job from its next step on; its recipe tells so.

        Raises JobMissing, RecipeError, ModelError.
        """
        with self._lock:
            job = self._find(job_id)
            self._check_open()
            if job.state not in ("ready", "paused") or job.is_drawn:
                raise RecipeError("This picture is finished. Go back to one of its steps to change it from there.")
            recipe = job.recipe.turned(job.run.done if job.run else 0, {**job.changes, **changes})
        self._worker.check(recipe.check())
        with self._lock:
            job.changes = {**job.changes, **changes}
            self._lock.notify_all()

    def remembered(self, job_id: str, step: int) -> int:
        """The step from which on a fork of this job at this step is run: this one, or an earlier one."""
        try:
            return self.look_back(job_id, step)[0]
        except JobMissing:
            return 0

    def look_back(self, job_id: str, step: int) -> tuple[int, Preview]:
        """The last remembered step up to this one, and what the job looked like then.

        Raises JobMissing if none is remembered, or the step was not taken yet.
        """
        with self._lock:
            job = self._find(job_id)
        try:
            if not (past := self._past(job)):
                raise KeyError(step)
            return past.look_back(step)
        except KeyError:
            raise JobMissing("The steps of that picture are no longer remembered.") from None

    def pause(self, job_id: str) -> None:
        """Stop the job after the step that is under way, and keep the partial picture. Resume takes it up again.

        Raises JobMissing if it is over, or as good as over.
        """
        self._state_wish(job_id, "pause")

    def cancel(self, job_id: str) -> None:
        """Drop the job after the step that is under way. Raises JobMissing as `pause` does."""
        self._state_wish(job_id, "cancel")

    def resume(self, job_id: str) -> None:
        """Let a paused job go on where it stands. Does nothing to one that goes on. Raises JobMissing if it is over."""
        with self._lock:
            job = self._find_open(job_id)
            if job.wish == "pause":
                job.wish = ""
            if job.state == "paused":
                self._check_room(job.share, 1)
                self._start_fairly(job.share)
                job.state, job.leaves = "ready", False
                job.moved_at = 0.0
                self._publish(job, Queued(job.id))
                self._lock.notify_all()

    def decode(self, job_id: str) -> Future[Image]:
        """The picture as it stands, decoded between two steps. Fails with JobMissing if nothing is there yet."""
        result: Future[Image] = Future()
        with self._lock:
            self._decodes.append((self._find(job_id), result))
            self._lock.notify_all()
        return result

    def free(self, model: str) -> Future[None]:
        """Let a model leave memory, between two steps. Fails with ModelBusy if pictures are being made with it.

        Stopped pictures keep their latents; the model is loaded again when they go on.
        """
        result: Future[None] = Future()
        with self._lock:
            self._frees.append((model, result))
            self._lock.notify_all()
        return result

    def job(self, job_id: str) -> Job:
        """The job of this id. Raises JobMissing."""
        with self._lock:
            return self._find(job_id)

    def jobs(self, owner: str | None = None) -> list[Job]:
        """The jobs of an owner (None: of everyone) in the order they were submitted, those lately ended included."""
        with self._lock:
            found = [job for job in self._jobs.values() if owner is None or job.owner == owner]
        return sorted(found, key=lambda job: job.number)

    def seconds_for(self, recipes: Sequence[Recipe]) -> float | None:
        """About how long these recipes would take, from those before them; None while too little was measured."""
        return self._pace.seconds(recipes, self._worker.rows)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with every event from now on; the result ends that.

        The listener runs on the thread that does the model's work, so it must only take the event and return.
        """
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    def close(self) -> None:
        """Finish the step under way and the pictures being kept, hold the others still, and end the threads.

        Of those that have begun, partial pictures are kept with their steps, for `CLOSING` seconds.
        """
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self._thread.join()
        self._keeper.shutdown()
        with self._lock:
            for _, picture in self._decodes:
                picture.cancel()
            for _, freed in self._frees:
                freed.cancel()

    def _past(self, job: Job) -> Past | None:
        """What is remembered of a job's steps: in memory, or with its picture."""
        picture = picture_of(job)
        return job.run or (self._worker.recall(picture) if picture else None)

    # Under the lock, on any thread

    def _queue(self, recipes: Iterable[Recipe], owner: str, previews: PreviewKind) -> list[Job]:
        jobs = [self._new(recipe, owner, previews) for recipe in recipes]
        self._check_room(share_of(owner), len(jobs))
        self._start_fairly(share_of(owner))
        self._jobs.update((job.id, job) for job in jobs)
        for job in jobs:
            self._tell(job.event)
        self._lock.notify_all()
        return jobs

    def _new(self, recipe: Recipe, owner: str, previews: PreviewKind) -> Job:
        self._check_open()
        self._numbers += 1
        return Job(recipe, owner, previews, self._numbers)

    def _check_open(self) -> None:
        if self._closing:
            raise StudioError("The studio is being shut down. Start it again to make pictures.")

    def _check_room(self, share: str, more: int) -> None:
        """Raise StudioError if so many more pictures of this share cannot wait beside those that do."""
        waiting = Counter(job.share for job in self._jobs.values() if job.state in ("ready", "keeping"))
        if waiting[share] + more > WAITING:
            raise StudioError(
                f"{waiting[share]} of your pictures are waiting or being made, and {WAITING} are the most. "
                "Wait until some are finished, or stop some."
            )
        part = WAITING_IN_ALL // len({*waiting, share})
        if waiting.total() + more > WAITING_IN_ALL and waiting[share] + more > part:
            raise StudioError(
                f"Everyone's pictures together are more than the {WAITING_IN_ALL:,} that can wait. "
                "Ask for fewer, or try again when some are finished."
            )

    def _find(self, job_id: str) -> Job:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobMissing("That picture is no longer in the making. Start it again from its settings.") from None

    def _find_open(self, job_id: str) -> Job:
        """The job of this id, if it is not over."""
        job = self._find(job_id)
        self._check_open()
        if isinstance(job.event, Finished):
            raise JobMissing("That picture is finished already.")
        if job.state == "over":
            raise JobMissing("That picture is not in the making any more. Start it again from its settings.")
        return job

    def _state_wish(self, job_id: str, wish: Literal["pause", "cancel"]) -> None:
        with self._lock:
            job = self._find_open(job_id)
            if job.state == "keeping":
                raise JobMissing("That picture has taken its last step, and is being saved.")
            if job.wish != "cancel":
                job.wish = wish
            self._lock.notify_all()

    def _start_fairly(self, share: str) -> None:
        """Let a share that had nothing to do start level with the others instead of with all the turns not taken."""
        active = {job.share for job in self._jobs.values() if job.state == "ready"}
        if not active:
            self._served.clear()  # nobody waits, so nobody is owed anything
        elif share not in active:
            self._served[share] = max(self._served[share], min(self._served[each] for each in active))

    def _publish(self, job: Job, event: Event) -> None:
        job.event = event
        if isinstance(event, FINAL):
            job.state = "over"
            if isinstance(event, Finished):
                self._forget_steps()
            else:
                job.run = None
            for old in surplus(self._in_state("over"), FINAL_KEPT, FINAL_IN_ALL):
                del self._jobs[old.id]
        self._tell(event)

    def _forget_steps(self) -> None:
        """Keep the steps of the newest finished pictures only."""
        finished = [job for job in self._in_state("over") if job.run]
        finished.sort(key=lambda job: job.number)
        for job in surplus(finished, REMEMBERED, REMEMBERED, lambda job: job.run.weight if job.run else 0):
            job.run = None

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):  # one may unsubscribe when it is told
            try:
                listener(event)
            except Exception:
                log.exception("A listener failed; the model goes on.")

    def _hold(self, job: Job, event: Paused) -> None:
        job.state = "paused"
        # To the end of the queue of those that will be forgotten: the one paused longest ago leaves first.
        self._jobs[job.id] = self._jobs.pop(job.id)
        self._publish(job, event)
        self._make_room()

    def _make_room(self) -> None:
        """Let go of the latents of those that were paused long ago, and of the jobs themselves if they are too many."""
        paused = self._in_state("paused")
        for job in surplus(paused, PAUSED_KEPT, PAUSED_IN_ALL):
            self._publish(job, Failed(job.id, _GIVEN_UP))
        held = [job for job in paused if job.run and picture_of(job) and not job.leaves]
        for job in [] if self._closing else surplus(held, HELD, HELD_IN_ALL):
            job.leaves = True
            self._keeper.submit(self._let_go, job, job.event)

    def _in_state(self, state: str) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == state]

    # The engine's thread

    def _work(self) -> None:
        while True:
            with self._lock:
                while not (self._closing or self._decodes or self._frees or self._wishing() or self._in_state("ready")):
                    self._lock.wait()
                if self._closing:
                    break
                decodes, self._decodes = self._decodes, []
                frees, self._frees = self._frees, []
                wishing = self._wishing()
            for job, result in decodes:
                self._grant_decode(job, result)
            for job in self._few(in_turns(wishing)):
                self._grant_wish(job)
            for model, freed in frees:
                self._grant_free(model, freed)
            self._fetch()
            with self._lock:
                batch = self._choose()
                if not batch and self._fetching[1] == "reading" and not self._wishing():
                    self._lock.wait(0.2)  # nothing to do until the model is read, or somebody wishes something
            if batch:
                self._move(batch)
        self._hold_all()

    def _few(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """These jobs one by one, until a moment is over and somebody else waits for a step."""
        until = time.monotonic() + MOMENT
        for job in jobs:
            yield job
            if time.monotonic() >= until and self._is_awaited(job.share):
                return

    def _is_awaited(self, share: str) -> bool:
        """Whether anybody but those of this share has something to do; the end of the program counts as well."""
        with self._lock:
            return self._closing or any(job.share != share and not job.wish for job in self._in_state("ready"))

    def _wishing(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.wish]

    def _hold_all(self) -> None:
        """At the end: keep what there is of every picture, while there is time.

        Small ones first, and of each owner the furthest; none is begun that is known to take longer than is left.
        """
        until, lost = time.monotonic() + CLOSING, 0
        with self._lock:
            dropped = [job for job in self._wishing() if job.wish == "cancel"]
        for job in dropped:
            self._grant_wish(job)
        with self._lock:
            ready = sorted(self._in_state("ready"), key=lambda job: (pixels_of(job), -(job.run.done if job.run else 0)))
        writing = self._keeper.submit(lambda: None)
        for job in in_turns(ready):
            run, problem = job.run, ""
            left = until - time.monotonic()
            has_time = left > self._pace.ending(job.recipe) and self._worker.loaded(job.recipe.model)
            if run and job.is_drawn and has_time:
                self._finish(job, run)
            else:
                if run and run.done:
                    problem = self._keep_partial(job, run) if has_time else "There was no time to keep what was made."
                lost += bool(problem)
                self._hold_as_kept(job, problem)
            # While this one's steps are written the next is decoded; the one after it waits for them.
            writing.result()
            writing = self._keeper.submit(lambda: None)
        if lost:
            log.warning("Of %d pictures in the making, the latest steps could not be kept.", lost)

    def _hold_as_kept(self, job: Job, problem: str) -> None:
        """Hold a job that will go on from what was kept of it last, or from the beginning."""
        picture, done = job.kept or (None, 0)
        total = job.run.total if job.run else job.recipe.steps_run
        what = f"goes on from step {done}" if picture else "begins this picture"
        reason = f"The studio was stopped. Start it again, and Continue {what}. {problem}".rstrip()
        with self._lock:
            self._hold(job, Paused(job.id, done, total, picture, reason, _notes(job.run)))

    def _grant_decode(self, job: Job, result: "Future[Image]") -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            if job.run is None:
                raise JobMissing("There is nothing to show of that picture yet, or no longer.")
            self._load(job.recipe.model, [job])
            result.set_result(self._worker.decode(job.run))
        except Exception as error:
            result.set_exception(error)

    def _grant_free(self, model: str, result: "Future[None]") -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            with self._lock:
                users = sum(job.recipe.model == model for job in self._in_state("ready"))
            if users == 1:
                raise ModelBusy(f"A picture is being made with {model}. Stop it first, or wait until it is finished.")
            if users:
                raise ModelBusy(
                    f"{users} pictures are being made with {model}. Stop them first, or wait until they are finished."
                )
            self._worker.free(model)
            result.set_result(None)
        except Exception as error:
            result.set_exception(error)

    def _grant_wish(self, job: Job) -> None:
        with self._lock:
            if job.wish != "pause" or job.state != "ready" or job.is_drawn:
                wish, job.wish = job.wish, ""
                if wish == "cancel" and job.state in ("ready", "paused"):
                    self._publish(job, Cancelled(job.id))
                return
        self._pause(job)

    def _grant_change(self, job: Job, run: Any) -> None:
        with self._lock:
            changes, job.changes = job.changes, {}
            recipe = job.recipe.turned(run.done, changes)
        try:
            job.run = self._worker.change(run, recipe)
            job.recipe = recipe
        except Exception as error:
            self._pause(job, f"It was not changed. {_sentence(error)}")

    def _pause(self, job: Job, reason: str = "") -> None:
        """Hold the job still, with its partial picture kept if there is one."""
        run, by_person = job.run, not reason
        done, total = (run.done, run.total) if run else (0, job.recipe.steps_run)
        picture, problem = None, ""
        if run and 0 < done < total:
            problem = self._keep_partial(job, run)
            picture = job.kept[0] if job.kept and not problem else None
        with self._lock:
            if by_person and job.wish != "pause":
                return  # resumed, or cancelled, while the picture was being kept
            job.wish = "" if job.wish == "pause" else job.wish
            self._hold(job, Paused(job.id, done, total, picture, reason or problem, _notes(run)))

    def _keep_partial(self, job: Job, run: Run) -> str:
        """Keep the picture as it stands, if it is not kept already. Returns why it could not be, in a sentence."""
        if job.kept and job.kept[1] == run.done:
            return ""
        try:
            self._load(job.recipe.model, [job])
            drawn = self._worker.decode(run)
            picture = self._keep(drawn, job.recipe, run.done, job.parent, _notes(run))
        except StudioError as error:
            return f"The partial picture could not be kept. {error}"
        except Exception:
            log.exception("A partial picture could not be kept.")
            return "The partial picture could not be kept; the log says why."
        job.kept = picture, run.done
        self._keeper.submit(self._keep_steps, run, picture)
        return ""

    def _loaded(self, jobs: Iterable[Job]) -> set[str]:
        return {model for model in {job.recipe.model for job in jobs} if self._worker.loaded(model)}

    def _choose(self) -> list[Job]:
        """Under the lock: the jobs of the next tick."""
        ready = [job for job in self._in_state("ready") if not job.wish]
        situation = queue.Situation(
            self._loaded(ready), *self._fetching, self._served, self._stepped, self._worker.rows, BEGUN
        )
        batch = queue.choose(ready, situation)
        self._stepped = bool(batch) and batch[0].is_going
        if batch and batch[0].is_going:
            run = batch[0].run
            key = run.key if run else None
            batch = batch[: min(self._rows.get(key, self._worker.rows), self._worker.room(run))]
        return batch

    def _fetch(self) -> None:
        """Have the model read that the first job without one waits for, while the others go on with theirs."""
        with self._lock:
            ready = self._in_state("ready")
            warm, cold = queue.by_model(ready, self._loaded(ready))
            if not cold:
                self._fetching = ("", "wait")
                return
            first = min(cold, key=lambda job: job.number)
            alone = all(job.number >= first.number for job in warm)
        model = first.recipe.model

        def report(read: int, size: int) -> None:
            with self._lock:
                for job in self._in_state("ready"):
                    if job.recipe.model == model:
                        self._publish(job, Loading(job.id, model, read, size))
                if read == size:
                    self._lock.notify_all()

        if self._fetching[0] != model:
            report(0, 0)
        elif self._fetching[1] == "wait" and not alone:
            return  # asked and answered
        self._fetching = (model, self._worker.fetch(model, alone, report))

    def _move(self, batch: list[Job]) -> None:
        """Begin or end the jobs of the batch, or change those that shall be changed, or else step with all."""
        try:
            self._load(batch[0].recipe.model, batch)
        except Exception as error:
            for job in batch:
                self._fail(job, error)
            return
        if not batch[0].is_going:
            for job in self._few(batch):
                if job.run:
                    self._finish(job, job.run)
                else:
                    self._begin(job)
                with self._lock:
                    if self._wishing() or self._decodes or self._frees:
                        break  # who stops or looks waits for one of them at most
        elif changing := [job for job in batch if job.changes]:
            # With other prompts they may not fit together any more: who steps with whom is chosen again.
            for job in changing:
                self._grant_change(job, job.run)
        else:
            self._step(batch)

    def _load(self, model: str, jobs: list[Job]) -> None:
        def report(read: int, size: int) -> None:
            with self._lock:
                for job in jobs:
                    if job.state == "ready":
                        self._publish(job, Loading(job.id, model, read, size))

        if not self._worker.loaded(model):
            if self._fetching[0] != model:
                report(0, 0)
            self._worker.load(model, report)

    def _begin(self, job: Job) -> None:
        if job.wish == "cancel":
            return
        try:
            job.run = self._worker.begin(job.recipe, job.origin)
        except Exception as error:
            self._fail(job, error)
            return
        finally:
            job.origin = None  # what it was taken from need not be kept for its sake
        self._publish_step(job, job.run)

    def _step(self, batch: list[Job]) -> None:
        runs = [job.run for job in batch if job.run]
        try:
            start = time.monotonic()
            self._worker.step(runs)
        except OutOfMemory as error:
            if len(batch) > 1:
                if len(self._rows) >= KEYS_KEPT:
                    self._rows.clear()
                self._rows[runs[0].key] = len(batch) // 2
                return
            self._pause(batch[0], str(error))
            return
        except Exception as error:
            if len(batch) > 1:
                # One of them is to blame: each tries alone, so that the others are not failed with it.
                for job in batch:
                    self._step([job])
                return
            self._fail(batch[0], error)
            return
        self._ticks += 1
        for job, run in zip(batch, runs, strict=True):
            self._served[job.share] += 1
            job.tick = self._ticks
            self._publish_step(job, run)
        steps = [(job.recipe, run.done - 1) for job, run in zip(batch, runs, strict=True)]
        self._pace.called(steps, time.monotonic() - start)

    def _publish_step(self, job: Job, run: Run) -> None:
        now = time.monotonic()
        if job.moved_at:
            latest = now - job.moved_at
            job.seconds = 0.7 * job.seconds + 0.3 * latest if job.seconds else latest
        job.moved_at = now
        preview = self._preview(job, run)
        with self._lock:
            self._publish(job, Step(job.id, run.done, run.total, job.seconds, preview, _notes(run)))

    def _preview(self, job: Job, run: Run) -> Preview | None:
        try:
            return run.preview(job.previews) if job.previews != "off" else None
        except Exception:
            log.exception("A preview failed; the picture goes on without it.")
            return None

    def _finish(self, job: Job, run: Run) -> None:
        """Decode here, then write the file on the keeper's thread. The event comes when the file is on disk."""
        job.state = "keeping"
        try:
            start = time.monotonic()
            picture = self._worker.decode(run)
            self._pace.ended(job.recipe, time.monotonic() - start)
        except OutOfMemory as error:
            self._hold_unkept(job, run, str(error))
            return
        except Exception as error:
            self._fail(job, error)
            return
        self._keeper.submit(self._keep_finished, job, run, picture)

    def _keep_finished(self, job: Job, run: Run, picture: Image) -> None:
        try:
            picture_id = self._keep(picture, job.recipe, run.done, job.parent, _notes(run))
        except Exception as error:
            # The latents are still here: the job waits, and resuming it decodes and writes once more.
            self._hold_unkept(job, run, _sentence(error))
            return
        with self._lock:
            self._publish(job, Finished(job.id, picture_id, _notes(run)))
        self._keep_steps(run, picture_id)

    def _keep_steps(self, run: Run, picture_id: str) -> None:
        """On the keeper's thread, when the picture is safe: nobody waits for it, and without it nothing is lost."""
        try:
            self._worker.keep_steps(run, picture_id)
        except Exception:
            log.exception("The steps of the picture %s could not be kept.", picture_id)

    def _let_go(self, job: Job, event: Event) -> None:
        """Have a paused job go on from its steps on disk. On the keeper's thread, which has written them before."""
        if not (kept := job.kept) or not (past := self._worker.recall(kept[0])):
            return  # they are not there, so it keeps what it holds
        with self._lock:
            if job.event is event:  # else it went on meanwhile
                job.run, job.origin = None, (past, kept[1])

    def _hold_unkept(self, job: Job, run: Run, reason: str) -> None:
        with self._lock:
            self._hold(job, Paused(job.id, run.done, run.total, None, reason))

    def _fail(self, job: Job, error: Exception) -> None:
        with self._lock:
            self._publish(job, Failed(job.id, _sentence(error)))


def _notes(run: Run | None) -> str:
    return " ".join(run.notes) if run else ""


def _sentence(error: Exception) -> str:
    """What to tell the person. Errors that nobody foresaw go to the log whole, and to the person in short."""
    if isinstance(error, StudioError):
        return str(error)
    log.error("A job failed.", exc_info=error)
    return f"Something inside the studio failed ({type(error).__name__}). The log on the machine it runs on says more."
