"""Who comes next: pure functions of how the jobs stand, without threads and without a model."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from studio.engine.job import Job
from studio.engine.shares import in_turns


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides beside the jobs themselves.

    loaded: models that need no loading. awaited, state: the model that is being fetched ("" if none), and how far that
    is, as `protocols.Worker.fetch` says. served: how many steps each share had. stepped: whether the last tick was a
    step. rows: the most jobs of a call. begun: the most of one share that are in the making.
    """

    loaded: Collection[str]
    awaited: str = ""
    state: str = "wait"
    served: Mapping[str, int] = field(default_factory=dict)
    stepped: bool = False
    rows: int = 16
    begun: int = 64


def choose(ready: Sequence[Job], now: Situation) -> list[Job]:
    """The jobs of the next tick: those who waited longest, then all that can share their model call.

    ready: jobs that want to go on. What comes back takes a step together (`Job.is_going`), or is to be begun or ended.
    A step, and beginning or ending some pictures, take turns: nobody's running picture waits for many of those.
    """
    turn = sorted(_in_order(ready, now), key=lambda job: (now.served.get(job.share, 0), job.tick, job.number))
    going = [job for job in turn if job.is_going]
    if (now.stepped or not going) and (some := _at_the_ends(turn, now)):
        return some
    if not going:
        return []
    key = going[0].run.key if going[0].run else None
    return [job for job in going if job.run and job.run.key == key]


def _in_order(ready: Sequence[Job], now: Situation) -> list[Job]:
    """Those who may take part, by their models.

    Loading will evict a model that others need. So a job whose model is not there lets those before it finish, and is
    not overtaken by those after it.
    """
    warm, cold = by_model(ready, now.loaded)
    if not cold:
        return warm
    first = min(cold, key=lambda job: job.number)
    if now.awaited != first.recipe.model or now.state == "wait":
        return [job for job in warm if job.number < first.number]
    return [first] if now.state == "read" else warm


def by_model(jobs: Sequence[Job], loaded: Collection[str]) -> tuple[list[Job], list[Job]]:
    """The jobs whose model is loaded, and the others."""
    warm = [job for job in jobs if job.recipe.model in loaded]
    return warm, [job for job in jobs if job.recipe.model not in loaded]


def _at_the_ends(turn: Sequence[Job], now: Situation) -> list[Job]:
    """Jobs of one model to end and to begin, in turns among their owners, as many as share a call."""
    begun = Counter(job.share for job in turn if job.run)
    some = in_turns([job for job in turn if job.is_drawn])
    for job in in_turns([job for job in turn if job.run is None]):
        if begun[job.share] < now.begun:
            begun[job.share] += 1
            some.append(job)
    return [job for job in some if job.recipe.model == some[0].recipe.model][: now.rows]
