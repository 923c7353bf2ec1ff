"""What runs held after each of their steps, on disk beside the pictures that came of them.

One file of safetensors for each picture: the latents, the predicted clean latents, the state of the generator and of
the sampler after every step, so that a fork goes on bit for bit; and the projection, so that the steps can be looked at
while the model is not loaded. Tensors that are equal are stored once: samplers hold the same ones for several steps.
They leave with their picture. The files are only a convenience. One that is missing, damaged or of another kind counts
as not there, and the steps are run again.
"""

import contextlib
import hashlib
import json
import logging
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from studio import disk
from studio.errors import RecipeError
from studio.families.previews import LatentPreview, Projection
from studio.families.samplers import Sampler
from studio.recipe.recipe import Recipe

FORMAT = "emerge-moments-1"

UNREADABLE = (
    OSError, SafetensorError, RecipeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, MemoryError,
)  # fmt: skip
"""What reading a file that is not one of ours may raise. Torch's errors are RuntimeErrors, and so is deep nesting."""

LARGEST_FACTOR = 64
"""Pixels of a picture's side that one latent stands for, at most; models have 8 to 32."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a run held after a number of steps. The tensors are the run's own, which are never written into."""

    latents: Tensor
    clean: Tensor
    sampler: Sampler
    random: Tensor

    @property
    def weight(self) -> int:
        """Bytes, about: samplers of several steps hold as much again."""
        return 2 * (self.latents.nbytes + self.clean.nbytes) + self.random.nbytes


def nearest(steps: Iterable[int], step: int) -> int | None:
    """Of the steps that are remembered, the last one up to this; None for one that lies outside of them."""
    steps = sorted(steps)
    return steps[bisect_right(steps, step) - 1] if steps and steps[0] <= step <= steps[-1] else None


class Moments:
    """Files in one folder, at most `limit` bytes of them: the oldest leave first. `keep` has one caller at a time.

    has: whether the picture of an id is there. Steps of one that is not are deleted here, and whenever others are kept.
    """

    def __init__(self, folder: Path, limit: int, has: Callable[[str], bool] = lambda picture_id: True) -> None:
        self.folder, self._limit, self._has = Path(folder), limit, has
        disk.clear(self.folder)
        self._there()

    def keep(self, picture_id: str, recipe: Recipe, moments: Mapping[int, Moment], projection: Projection) -> None:
        """Write the moments of a picture. Raises OSError."""
        if not self._limit:
            return
        data = _file(recipe, moments, projection)
        if len(data) > self._limit:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        disk.write(self._path(picture_id), data)
        self._make_room()

    def recall(self, picture_id: str) -> "Stored | None":
        """The moments of a picture, None if they are not there."""
        try:
            return Stored(self._path(picture_id))
        except FileNotFoundError:
            return None
        except UNREADABLE as error:
            log.warning("The steps of the picture %s cannot be read: %r", picture_id, error)
            return None

    def _path(self, picture_id: str) -> Path:
        return self.folder / f"{picture_id}.safetensors"

    def _make_room(self) -> None:
        room = self._limit
        for _, size, path in sorted(self._there(), reverse=True):
            room -= size
            if room < 0:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _there(self) -> list[tuple[int, int, Path]]:
        """Time of change in nanoseconds, bytes and path of each file whose picture is there; others are deleted."""
        files = []
        for path in self.folder.glob("*.safetensors"):
            with contextlib.suppress(OSError):
                if self._has(path.stem):
                    files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
                else:
                    path.unlink()
        return files


class Stored:
    """A picture's moments on disk (`studio.engine.protocols.Past`). Raises one of UNREADABLE if it is not ours."""

    weight = 0
    """It holds nothing in memory but the list of what there is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            told = file.metadata() or {}
        if told["format"] != FORMAT:
            raise ValueError(f"the format is {told['format']!r:.40}")
        self.recipe = Recipe.from_json(told["recipe"])
        self._sum = int(told["sum"])
        self._factor = int(told["factor"])
        if not 1 <= self._factor <= LARGEST_FACTOR:
            raise ValueError(f"no model makes {self._factor} pixels of a latent")
        self._moments = {int(step): each for step, each in json.loads(told["moments"]).items()}

    def look_back(self, step: int) -> tuple[int, LatentPreview]:
        if (kept := nearest(self._moments, step)) is None:
            raise KeyError(step)
        try:
            with self._open() as file, torch.inference_mode():
                weight, bias = file.get_tensor("projection.weight"), file.get_tensor("projection.bias")
                return kept, Projection(weight, bias, self._factor)(file.get_tensor(self._moments[kept]["clean"]))
        except UNREADABLE:
            raise KeyError(step) from None

    def read(self, step: int, sampler: Callable[[Recipe], Sampler], device: torch.device) -> dict[int, Moment]:
        """The moments up to this step. sampler: makes a fresh one. Raises KeyError if they cannot be read whole.

        If that one was not kept, the last is the nearest before it.
        """
        try:
            with self._open() as file:
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            if _sum(tensors) != self._sum:
                raise ValueError("the file is damaged")
            return self._restored(step, tensors, sampler, device)
        except UNREADABLE as error:
            log.warning("The steps in %s cannot be used: %r", self._path, error)
            raise KeyError(step) from None

    def _restored(
        self, last: int, tensors: dict[str, Tensor], fresh: Callable[[Recipe], Sampler], device: torch.device
    ) -> dict[int, Moment]:
        placed: dict[str, Tensor] = {}

        def plain(value: Any) -> Any:
            if isinstance(value, str):
                if value not in placed:
                    placed[value] = tensors[value].to(device if value.startswith("device") else "cpu")
                return placed[value]
            if isinstance(value, dict):
                return {name: plain(each) for name, each in value.items()}
            return [plain(each) for each in value] if isinstance(value, list) else value

        samplers: dict[Recipe, Sampler] = {}
        result = {}
        for step in sorted(each for each in self._moments if each <= last):
            values = plain(self._moments[step])
            held = self.recipe.at(step - 1)
            if held not in samplers:
                samplers[held] = fresh(held)
            sampler = samplers[held].copy()
            sampler.restore(values["sampler"])
            if sampler.done != step:
                raise ValueError(f"the sampler stands at step {sampler.done} instead of {step}")
            result[step] = Moment(values["latents"], values["clean"], sampler, values["random"])
        if nearest(self._moments, last) is None:
            raise KeyError(last)
        return result

    def _open(self) -> Any:
        disk.check(self._path)
        return safe_open(self._path, framework="pt", device="cpu")


def _file(recipe: Recipe, moments: Mapping[int, Moment], projection: Projection) -> bytes:
    weight, bias, factor = projection.fitted
    tensors = {"projection.weight": weight.cpu().contiguous(), "projection.bias": bias.cpu().contiguous()}
    names: dict[Any, str] = {}

    def named(tensor: Tensor) -> str:
        """The name under which a tensor is stored, which tells where it was: on the device, or on the host."""
        there = "host" if tensor.device.type == "cpu" else "device"
        tensor = tensor.detach().cpu().contiguous()
        key = (there, tensor.dtype, tensor.shape, hashlib.sha256(_bytes(tensor)).digest())
        if key not in names:
            names[key] = f"{there}.{len(names)}"
            tensors[names[key]] = tensor
        return names[key]

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return named(value)
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise TypeError(f"a sampler holds {type(value).__name__}, which cannot be stored")

    told = {
        step: plain({
            "latents": each.latents,
            "clean": each.clean,
            "random": each.random,
            "sampler": each.sampler.state,
        })
        for step, each in moments.items()
    }  # fmt: skip
    return save(
        tensors,
        {
            "format": FORMAT,
            "recipe": recipe.to_json(),
            "moments": json.dumps(told),
            "factor": str(factor),
            "sum": str(_sum(tensors)),
        },
    )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _sum(tensors: Mapping[str, Tensor]) -> int:
    result = 0
    for name in sorted(tensors):
        result = zlib.crc32(_bytes(tensors[name]), result)
    return result
