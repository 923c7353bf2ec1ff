"""Long things that are done for the Models tab, each on a thread: downloads and hashes."""

import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from studio.errors import Busy, StudioError

log = logging.getLogger(__name__)

AT_ONCE = 6
"""Tasks that may be under way."""

KEPT = 20
"""Tasks that have ended and are still told of."""


class _Cancelled(Exception):
    """Ends a task's thread."""


@dataclass
class Task:
    """One of them. done, total: bytes. sentence: what went wrong. Changed by its own thread alone, but for cancel."""

    id: str
    kind: Literal["download", "hash"]
    title: str
    total: int
    done: int = 0
    state: Literal["running", "finished", "cancelled", "failed"] = "running"
    sentence: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    ends: list[Callable[[], None]] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        """What the page is told."""
        names = ("id", "kind", "title", "total", "done", "state", "sentence")
        return {name: getattr(self, name) for name in names}

    def on_cancel(self, end: Callable[[], None]) -> None:
        """Have `end` called when the task is cancelled: at once if it was already."""
        self.ends.append(end)
        if self.stop.is_set():
            end()


Listener = Callable[[dict[str, Any]], None]


class Tasks:
    """The tasks of this studio. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._numbers = itertools.count(1)
        self._listeners: list[Listener] = []

    def start(
        self,
        kind: Literal["download", "hash"],
        title: str,
        total: int,
        work: Callable[[Task, Callable[[int], None]], None],
    ) -> Task:
        """Do `work` on a thread. It gets its task, and what it calls with the bytes that are done. Raises Busy."""
        with self._lock:
            for task in self._tasks.values():
                if (task.kind, task.title, task.state) == (kind, title, "running"):
                    return task
            if sum(task.state == "running" for task in self._tasks.values()) >= AT_ONCE:
                raise Busy(f"{AT_ONCE} downloads and hashes are under way already. Wait for one, or cancel one.")
            task = Task(str(next(self._numbers)), kind, title, total)
            self._tasks[task.id] = task
            ended = [each for each in self._tasks.values() if each.state != "running"]
            for each in ended[:-KEPT]:
                del self._tasks[each.id]
        threading.Thread(target=self._run, args=[task, work], name=f"{kind} {task.id}", daemon=True).start()
        return task

    def _run(self, task: Task, work: Callable[[Task, Callable[[int], None]], None]) -> None:
        def report(done: int) -> None:
            if task.stop.is_set():
                raise _Cancelled
            task.done = done
            self._tell(task)

        self._tell(task)
        try:
            work(task, report)
            task.state, task.done = "finished", task.total
        except _Cancelled:
            task.state = "cancelled"
        except StudioError as error:
            task.state, task.sentence = ("cancelled", "") if task.stop.is_set() else ("failed", str(error))
        except Exception:
            log.exception("A task failed.")
            task.state, task.sentence = "failed", "This failed. The studio's window tells more."
        self._tell(task)

    def cancel(self, task_id: str) -> None:
        """End a task; what a download has brought stays on disk. Nothing happens if it has ended."""
        with self._lock:
            task = self._tasks.get(task_id)
        if task and task.state == "running":
            task.stop.set()
            for end in task.ends:
                end()

    def all(self) -> list[dict[str, Any]]:
        with self._lock:
            return [task.values for task in self._tasks.values()]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` told of every change, on the thread that makes it. Returns what ends that."""
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        """Cancel all that is under way."""
        for values in self.all():
            self.cancel(values["id"])

    def _tell(self, task: Task) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(task.values)
