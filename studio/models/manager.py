"""Loads models on demand, keeps as many as fit, and lets the one go that was used longest ago."""

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from studio.errors import ModelMissing, OutOfMemory
from studio.families import Facts, Model
from studio.families.base import load_parts
from studio.models import catalog, placement
from studio.models.catalog import Catalog, Entry
from studio.recipe import Recipe

log = logging.getLogger(__name__)

ROOM = 1.25
"""Free memory wanted for each byte of weights: what is over is for the work itself."""


class Manager:
    """The studio's models.

    folders: where models are, or the catalog that knows them.
    device: "auto", "cpu", "cuda" or "mps"; dtype: "auto", "float32", "bfloat16" or "float16" (`studio.settings`).
    `use` and `loaded` may be called from the engine's thread alone, all else from any.
    """

    def __init__(self, folders: Iterable[Path] | Catalog = (), device: str = "auto", dtype: str = "auto") -> None:
        self.catalog = folders if isinstance(folders, Catalog) else Catalog(folders)
        self.device = placement.device(device)
        self.dtype = placement.dtype(dtype, self.device)
        self.allow_pickles = self.catalog.allow_pickles
        self._loaded: OrderedDict[str, tuple[Entry, Model]] = OrderedDict()
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    @property
    def folders(self) -> tuple[Path, ...]:
        """The models folders, without the bundled one."""
        return self.catalog.folders

    def entries(self) -> list[Entry]:
        """What is on disk now, models with a problem included."""
        found = self.catalog.entries()
        with self._lock:
            self._entries = {entry.name: entry for entry in found}
        return found

    def entry(self, name: str) -> Entry:
        """The entry of that name. Looks on disk again if it isn't known. Raises ModelMissing."""
        with self._lock:
            entry = self._entries.get(name)
        if entry is None:
            found = {each.name: each for each in self.entries()}
            if name not in found:
                names = ", ".join(each for each in found if not found[each].problem)
                raise ModelMissing(f"There is no model named {name!r}. There are: {names or 'none'}.")
            entry = found[name]
        return entry

    def addons(self, kind: str) -> dict[str, Path]:
        """What goes with models: files and folders of a kind ("lora", "vae", "embedding", "controlnet"…) by name.

        Those with a problem too, so that one that is asked for can be refused with a reason.
        """
        return {entry.name: entry.path for entry in self.catalog.everything() if entry.kind == kind}

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
            sampler=facts.sampler,
        )
        return replace(suited, **self.catalog.records.defaults(self.entry(name).key))

    def loaded(self, name: str) -> bool:
        return name in self._loaded

    def use(self, name: str, report: Callable[[float], None] = lambda share: None) -> Model:
        """The model on its device, loaded if it must be. `report` gets the share of its bytes that are in place.

        Raises ModelMissing, ModelBroken, ModelUnsafe, OutOfMemory.
        """
        if name not in self._loaded:
            # What was seen at the last look may have been half copied then, or be gone now.
            self.entries()
            entry = self.entry(name)
            kind = catalog.family(entry)
            self._make_room(entry)
            parts = load_parts(entry.path, kind.wanted(entry.path), self.dtype, report)
            placement.place(parts, self.device, self.dtype)
            self._loaded[name] = entry, kind(parts, self.device, self.dtype)
            log.info("Loaded %s on %s as %s.", name, self.device, self.dtype)
        self._loaded.move_to_end(name)
        return self._loaded[name][1]

    def _make_room(self, entry: Entry) -> None:
        need = int(entry.parameters * self.dtype.itemsize * ROOM)
        while self._loaded and need > self._free():
            self._release()
        free = self._free()
        if need > free:
            raise OutOfMemory(
                f"{entry.name} needs about {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. "
                "Close other programs, or choose a smaller model."
            )

    def _release(self) -> None:
        name, _ = self._loaded.popitem(last=False)
        log.info("Let %s go to make room.", name)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _free(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        return psutil.virtual_memory().available
