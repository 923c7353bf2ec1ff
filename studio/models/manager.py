"""Loads models on demand, keeps as many as fit, and lets the one go that was used longest ago."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from studio.errors import ModelMissing, OutOfMemory, RecipeError
from studio.families import Facts, Family, placement
from studio.families.placement import Plan
from studio.models import catalog, loading
from studio.models.catalog import Catalog, Entry
from studio.models.loading import Report
from studio.recipe.recipe import Recipe

log = logging.getLogger(__name__)

T = TypeVar("T")

ROOM = 1.05
"""Free memory wanted for each byte that a plan counts: what else a process takes as it works."""


@dataclass(frozen=True, slots=True)
class Held:
    """A loaded model, as a person may be told.

    bytes: what it takes of the device, its work included; an estimate. note: a sentence if it is not held whole in its
    full precision.
    """

    name: str
    bytes: int
    precision: str
    note: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What models have to fit into: bytes that there are, and bytes that are free. card: the graphics card's memory."""

    card: bool
    bytes: int
    free: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """A model whose parts are being read on a thread."""

    entry: Entry
    plan: Plan
    parts: "Future[dict[str, Any]]"


class Manager:
    """The studio's models.

    folders: where models are, or the catalog that knows them.
    device: "auto", "cpu", "cuda" or "mps"; dtype: "auto", "float32", "bfloat16" or "float16" (`studio.settings`).
    allow_pickles: whether weights in pickles are read (by torch.load with weights_only, never otherwise); a catalog
    knows it by itself.
    `use`, `fetch`, `smaller`, `free` and `loaded` may be called from the engine's thread alone, all else from any.
    held: the loaded models by name; a new tuple whenever models come, go or are held otherwise.
    """

    def __init__(
        self,
        folders: Iterable[Path] | Catalog = (),
        device: str = "auto",
        dtype: str = "auto",
        allow_pickles: bool = False,
    ) -> None:
        self.catalog = folders if isinstance(folders, Catalog) else Catalog(folders, allow_pickles)
        self.device = placement.device(device)
        self.dtype = placement.dtype(dtype, self.device)
        self.allow_pickles = self.catalog.allow_pickles
        self._loaded: OrderedDict[str, tuple[Entry, Family, Plan, dict[str, Any]]] = OrderedDict()
        self.held: tuple[Held, ...] = ()
        self._listeners: list[Callable[[], None]] = []
        self._reading: _Reading | None = None
        self._reader = ThreadPoolExecutor(1, "loader")
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._addons: dict[str, dict[str, Path]] | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The models folders, without the bundled one."""
        return self.catalog.folders

    def entries(self) -> list[Entry]:
        """The models on disk now, those with a problem included. What goes with models is looked at as well."""
        everything = self.catalog.everything()
        found = [entry for entry in everything if entry.kind == "model"]
        addons: dict[str, dict[str, Path]] = {}
        for entry in everything:
            addons.setdefault(entry.kind, {})[entry.name] = entry.path
        with self._lock:
            self._entries = {entry.name: entry for entry in found}
            self._addons = addons
        return found

    def entry(self, name: str) -> Entry:
        """The entry of that name. Looks on disk again if it isn't known. Raises ModelMissing."""
        with self._lock:
            entry = self._entries.get(name)
        if entry is None:
            found = {each.name: each for each in self.entries()}
            if name not in found:
                names = ", ".join(each for each in found if not found[each].problem)
                raise ModelMissing(f"There is no model named {name!r}. There are: {names or 'none'}.", "model")
            entry = found[name]
        return entry

    def addons(self, kind: str) -> dict[str, Path]:
        """What goes with models: files and folders of a kind ("lora", "vae", "embedding", "controlnet"…) by name.

        Those with a problem too, so that one that is asked for can be refused with a reason.
        """
        self.entries()
        return self.seen(kind)

    def seen(self, kind: str) -> dict[str, Path]:
        """What `addons` told when the disk was last looked at, for whatever: no walk through thousands of files."""
        if self._addons is None:
            self.entries()
        with self._lock:
            return (self._addons or {}).get(kind, {})

    def ask(self, kind: str, question: Callable[[dict[str, Path]], T]) -> T:
        """What `question` answers to what was seen last; where that is a RecipeError, to what is on disk now."""
        try:
            return question(self.seen(kind))
        except RecipeError:
            return question(self.addons(kind))

    def facts(self, name: str) -> Facts:
        """What the model is made for. Raises ModelError."""
        entry = self.entry(name)
        catalog.family(entry)
        assert entry.facts  # an entry without a problem has them
        return entry.facts

    def default_recipe(self, name: str) -> Recipe:
        """A recipe with the size, steps, guidance and sampler that suit the model, or that the person wants for it.

        Raises ModelError.
        """
        facts = self.facts(name)
        suited = Recipe(
            model=name,
            width=facts.width,
            height=facts.height,
            steps=facts.steps,
            guidance_scale=facts.guidance_scale,
            guidance_end=facts.guidance_end,
            guidance_rescale=facts.guidance_rescale,
            sampler=facts.sampler,
            schedule=facts.schedule,
        )
        return replace(suited, **self.catalog.records.defaults(self.entry(name).key))

    def loaded(self, name: str) -> bool:
        return name in self._loaded

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `held` has changed: on the engine's thread, so it must return at once."""
        self._listeners.append(listener)

    def memory(self) -> Memory:
        """The memory of the device on which models are held."""
        return Memory(self.device.type == "cuda", *placement.memory(self.device))

    def use(self, name: str, report: Report = lambda done, total: None) -> Family:
        """The model on its device, loaded if it must be. `report` gets the bytes that are read.

        Raises ModelMissing, ModelBroken, ModelUnsafe, OutOfMemory.
        """
        if name not in self._loaded:
            if not self._reading or self._reading.entry.name != name:
                self._forget_reading()
                self._read(name, report)
            assert self._reading
            reading, self._reading = self._reading, None
            parts = reading.parts.result()
            placement.place(parts, self.device, reading.plan)
            model = catalog.family(reading.entry)(parts, self.device, reading.plan.dtype)
            self._loaded[name] = reading.entry, model, reading.plan, parts
            log.info("Loaded %s on %s as %s. %s", name, self.device, reading.plan.dtype, reading.plan.sentence)
            self._tell()
        self._loaded.move_to_end(name)
        return self._loaded[name][1]

    def free(self, name: str) -> None:
        """Let a model go, if it is loaded."""
        if name in self._loaded:
            self._release(name)

    def fetch(self, name: str, alone: bool, report: Report) -> Literal["read", "reading", "wait"]:
        """Have a model read on a thread, while others are used. The rest is for `use`, which raises what went wrong.

        alone: whether others may leave to make room; else the answer is "wait" if one would have to. Only one model is
        read at a time.
        """
        if self._reading is None or (self._reading.entry.name != name and self._reading.parts.done()):
            self._reading = None
            try:
                self._read(name, report, alone)
            except OutOfMemory:
                return "read" if alone else "wait"  # `use` says it
            except Exception:
                return "read"
        return "read" if self._reading and self._reading.parts.done() else "reading"

    def smaller(self, name: str) -> str:
        """Hold a loaded model so that it takes less of the device: when its work ran out of memory.

        The other models leave first; then it is held in the next of its ways. Returns a sentence for the person,
        empty if nothing more can be done.
        """
        others = [each for each in self._loaded if each != name]
        for each in others:
            self._release(each)
        if others:
            return "There was too little memory, so other models were let go."
        entry, model, plan, parts = self._loaded[name]
        ways = [each for each in self._plans(entry) if each.dtype == plan.dtype and each.way != "mapped"]
        later = [each for each in ways if each.bytes < plan.bytes and (each.way != "layers" or plan.way != "float8")]
        placement.give_back(self.device)
        if not later:
            return ""
        placement.place(parts, self.device, later[0])
        self._loaded[name] = entry, model, later[0], parts
        self._tell()
        placement.give_back(self.device)
        return f"There was too little memory, so its model was held in another way. {later[0].sentence}"

    def _read(self, name: str, report: Report, alone: bool = True) -> None:
        """Start reading a model for which there is room, or for which room is made."""
        # What was seen at the last look may have been half copied then, or be gone now.
        self.entries()
        entry = self.entry(name)
        needed = catalog.wanted(entry)
        plan = self._make_room(entry, alone)
        parts = self._reader.submit(
            loading.load_parts,
            entry,
            needed,
            plan.dtype,
            report,
            self.allow_pickles,
            plan.way == "mapped",
        )
        self._reading = _Reading(entry, plan, parts)

    def _forget_reading(self) -> None:
        """Wait for a model that nobody wants any more, so that two are never read at once."""
        if self._reading:
            self._reading.parts.exception()
            self._reading = None
            placement.give_back(self.device)

    def _plans(self, entry: Entry) -> list[Plan]:
        needed = catalog.wanted(entry)
        parts = loading.weigh(entry, needed, self.allow_pickles)
        facts = entry.facts
        pixels = facts.width * facts.height if facts else 0
        return placement.plans(parts, pixels, self.device, self.dtype, loading.stored_type(entry))

    def _make_room(self, entry: Entry, alone: bool = True) -> Plan:
        """The best plan for which there is room once others have left. Raises OutOfMemory."""
        ways = self._plans(entry)
        while self._loaded and ways[0].bytes * ROOM > self._free():
            if not alone:
                raise OutOfMemory(f"{entry.name} waits until other models may leave.")
            self._release(next(iter(self._loaded)))
        free = self._free()
        for way in ways:
            if way.bytes * ROOM <= free:
                return way
        raise OutOfMemory(
            f"{entry.name} needs about {ways[0].bytes * ROOM / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. "
            "Close other programs, or choose a smaller model."
        )

    def _release(self, name: str) -> None:
        del self._loaded[name]
        log.info("Let %s go.", name)
        placement.give_back(self.device)
        self._tell()

    def _tell(self) -> None:
        """Say so if what is loaded is not what was said last."""
        plans = ((name, self._loaded[name][2]) for name in sorted(self._loaded))
        held = tuple(
            Held(name, plan.bytes, str(plan.dtype).removeprefix("torch."), plan.sentence) for name, plan in plans
        )
        if held != self.held:
            self.held = held
            for listener in self._listeners:
                listener()

    def _free(self) -> int:
        return self.memory().free
