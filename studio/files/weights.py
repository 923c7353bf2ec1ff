"""Weights of a safetensors file, read straight into the memory that the model will use.

Nothing is held twice: a tensor is read into its own place, and where its type changes, a piece at a time passes through
a buffer that stays in the processor's cache. Large tensors lie in mappings of their own, so that letting a model go
gives its memory back at once.
The file is untrusted.
"""

import math
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from studio import disk
from studio.errors import ModelBroken
from studio.files import headers

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)

READERS = 2
"""Threads that read and convert at once: what a disk and two memory channels can use."""

_LARGE = 2 * 2**20
# Shared memory, which is the default, would be rounded up to whole huge pages for each tensor. Huge pages are not asked
# for: where memory is scattered, the system spends longer on making them than on all of the reading.
_PRIVATE: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_PIECE = 2**19
"""Values that are converted at a time: 1 to 2 MB, which stay in the cache between two passes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies in its file: `start` and `end` are bytes from the beginning of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name, from its header alone. Raises ModelBroken with a sentence.

    Those of types that PyTorch does not know are left out.
    """
    return {
        name: Stored(TYPES[tensor.dtype], tensor.shape, start, end)
        for name, (tensor, start, end) in headers.places(path).items()
        if tensor.dtype in TYPES
    }


def stamp(path: Path) -> tuple[int, ...]:
    """What tells one state of a file from another. Raises OSError."""
    return _stamp(path.stat())


def _stamp(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def read(
    path: Path,
    wanted: Mapping[str, Stored],
    dtype: torch.dtype | None,
    progress: Callable[[int], object] = lambda count: None,
    mapped: bool = False,
    seen: tuple[int, ...] = (),
) -> dict[str, Tensor]:
    """These tensors of the file, those of floating point as `dtype` (None: as they are stored).

    progress: called with the bytes of the file that were read since the last call, on any thread. mapped: leave
    tensors that keep their type in the file, where the system brings them in and drops them as there is room.
    seen: the file's stamp when its header was read.
    Raises ModelBroken if the file is cut short, changes meanwhile, or holds values that are no numbers or infinite.
    """
    names = sorted(wanted, key=lambda name: wanted[name].start)
    result: dict[str, Tensor] = {}
    try:
        with disk.opened(path, 0) as file:
            before = _stamp(os.fstat(file.fileno()))
            if seen and seen != before:
                raise OSError
            if mapped:
                for name in names:
                    if wanted[name].dtype == (dtype or wanted[name].dtype):
                        result[name] = _mapped(file, wanted[name])
                        progress(wanted[name].end - wanted[name].start)
                names = [name for name in names if name not in result]
            waiting = iter(names)  # each takes the next
            failed = threading.Event()

            def work() -> None:
                # A place in the file of its own, and never another file that meanwhile has its name.
                with disk.opened(path, 0) as own:
                    if _stamp(os.fstat(own.fileno())) != before:
                        raise OSError
                    # Made once: made for each tensor, they would leave holes between those that stay.
                    buffers = memory(_PIECE * 8, torch.uint8), memory(_PIECE, torch.float32)
                    for name in waiting:
                        if failed.is_set():
                            return
                        result[name] = _read(own, wanted[name], dtype, progress, buffers)

            with ThreadPoolExecutor(READERS, "weights") as pool:
                try:
                    for done in [pool.submit(work) for _ in range(READERS)]:
                        done.result()
                except BaseException:
                    failed.set()
                    raise
            after = _stamp(os.fstat(file.fileno()))
    except OSError:
        raise ModelBroken(f"The file {path} changed or went away while it was being read. Try again.") from None
    except EOFError:
        raise _broken(path) from None
    if before != after:
        raise ModelBroken(
            f"The file {path} changed while it was being read. Wait until it is complete, then try again."
        )
    check(path, result)
    return result


def check(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ModelBroken if one of them holds a value that is no number, or an infinite one.

    path: the file, or the folder, that they are from. The masks of OpenCLIP's text encoders are infinite on purpose.
    """
    for name, tensor in tensors.items():
        comparable = tensor.is_floating_point() and tensor.dtype not in FLOAT8 and tensor.numel()
        if not comparable or name.endswith("attn_mask"):
            continue
        ends = [float(end) for end in torch.aminmax(tensor)]
        if not all(map(math.isfinite, ends)):
            what = "values that are no numbers" if math.isnan(ends[0]) else "infinite values"
            raise ModelBroken(
                f"{path.name} holds {what} (in {name}), so every picture would be black. "
                "Copy or download it again; if it was merged from others, merge it anew."
            )


def check_file(path: Path) -> None:
    """The same of all tensors of a safetensors file, a tensor at a time. Raises SafetensorError if it is none."""
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - a file that is no dictionary
            check(path, {name: file.get_tensor(name)})


def memory(count: int, dtype: torch.dtype) -> Tensor:
    """(count,) values, not set: large ones in a mapping of their own that goes back to the system with the tensor."""
    size = count * dtype.itemsize
    if size < _LARGE:
        return torch.empty(count, dtype=dtype)
    try:
        return torch.frombuffer(mmap.mmap(-1, size, **_PRIVATE), dtype=dtype)
    except (OSError, ValueError):
        raise MemoryError from None


def _read(
    file: Any,
    stored: Stored,
    dtype: torch.dtype | None,
    progress: Callable[[int], object],
    buffers: tuple[Tensor, Tensor],
) -> Tensor:
    file.seek(stored.start)
    floating = stored.dtype.is_floating_point
    goal = dtype if dtype and floating else stored.dtype
    target = memory(stored.count, goal)
    if goal == stored.dtype:
        _fill(file, target, progress)
        return target.reshape(stored.shape)
    piece, between = buffers[0].view(stored.dtype), buffers[1]
    for place in range(0, stored.count, _PIECE):
        into = target[place : place + _PIECE]
        part = piece[: len(into)]
        _fill(file, part, progress)
        # By way of float32 each half is a vector instruction; straight from one 16-bit type to the other is not.
        into.copy_(between[: len(part)].copy_(part) if stored.dtype.itemsize < 4 and goal.itemsize < 4 else part)
    return target.reshape(stored.shape)


def _fill(file: Any, target: Tensor, progress: Callable[[int], object]) -> None:
    if not target.numel():
        return
    view = memoryview(target.view(torch.uint8).numpy())
    while view:
        got = file.readinto(view[: 16 * 2**20])
        if not got:
            raise EOFError
        progress(got)
        view = view[got:]


def _mapped(file: Any, stored: Stored) -> Tensor:
    if not stored.count:
        return torch.empty(stored.shape, dtype=stored.dtype)
    first = stored.start - stored.start % mmap.ALLOCATIONGRANULARITY
    block = mmap.mmap(file.fileno(), stored.end - first, access=mmap.ACCESS_COPY, offset=first)
    return torch.frombuffer(block, dtype=stored.dtype, count=stored.count, offset=stored.start - first).reshape(
        stored.shape
    )


def _broken(path: Path) -> ModelBroken:
    return ModelBroken(f"The file {path} is damaged or was not copied to its end. Copy or download it again.")


def total(tensors: Iterable[Stored]) -> int:
    """Bytes of the file that these take."""
    return sum(each.end - each.start for each in tensors)
