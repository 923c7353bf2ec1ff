"""The headers of weight files: names, shapes and types of all tensors, and metadata, without reading a tensor.

safetensors: 8 bytes little-endian length, a JSON header of that length, then the data without a hole
(https://github.com/huggingface/safetensors#format). GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
Files are read, not mapped: one that shrinks while it is read must not bring the program down.
"""

import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from studio import disk
from studio.errors import ModelBroken, ModelUnsafe

Found = TypeVar("Found")

LIMIT = 25_000_000
"""Bytes of the longest header that is read; real ones have up to some 2 MB. What huggingface_hub allows too."""

_MOST_VALUES = 5_000_000
"""Values of the longest list in a GGUF header; a tokenizer's vocabulary has some 300,000."""

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of one value of each type that safetensors knows."""

LABELS = {
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "F8_E4M3": "fp8 (e4m3)",
    "F8_E5M2": "fp8 (e5m2)", "I8": "int8", "U8": "8 bit",
}  # fmt: skip
"""What a person calls a type; others go by their own name."""


class Tensor(NamedTuple):
    """One tensor's type, as safetensors or GGUF names it, and shape, as PyTorch orders it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a weight file tells before its first tensor. bytes: size of the whole file."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    bytes: int

    @property
    def parameters(self) -> int:
        return sum(tensor.parameters for tensor in self.tensors.values())

    @property
    def precision(self) -> str:
        """What most of the weights are stored as: "float16", "fp8 (e4m3)", "nf4", "Q4_K"…; empty without tensors."""
        for ending in ("nf4", "fp4"):
            if any(name.endswith(f".quant_state.bitsandbytes__{ending}") for name in self.tensors):
                return ending
        counts: dict[str, int] = {}
        for tensor in self.tensors.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.parameters
        if not counts:
            return ""
        most = max(counts, key=counts.__getitem__)
        return LABELS.get(most, most)


class Place(NamedTuple):
    """A tensor and where it lies in its file: from byte `start` of the file up to `end`."""

    tensor: Tensor
    start: int
    end: int


def read(path: Path) -> Header:
    """The header of a .safetensors or .gguf file. Raises ModelBroken with a sentence about what is wrong with it."""
    return _opened(path, _gguf if path.suffix.lower() == ".gguf" else _safetensors)


def places(path: Path) -> dict[str, Place]:
    """The tensors of a .safetensors file and where they lie in it. Raises ModelBroken as `read` does."""
    return _opened(path, lambda path, file, size: _entries(path, file, size)[0])


def _opened(path: Path, look: Callable[[Path, BinaryIO, int], Found]) -> Found:
    try:
        with disk.opened(path) as file:
            return look(path, file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise ModelBroken(f"The file {path} is gone. Put it back, or choose another one.") from None
    except OSError as error:
        raise ModelBroken(f"The file {path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError, MemoryError, OverflowError, struct.error):
        raise _damaged(path, "its header cannot be understood") from None


def read_pickle(path: Path) -> Header:
    """Names and shapes in a .ckpt, .pt, .pth or .bin, by `torch.load(weights_only=True)` without its data.

    Only for a studio that was told to allow pickles. Raises ModelBroken or ModelUnsafe.
    """
    import torch

    try:
        disk.check(path)
        # "meta" takes no memory for the tensors, and a mapped file's are not read.
        found = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise ModelUnsafe(f"{path.name} holds more than weights, and is not opened. Use a .safetensors.") from None
        raise ModelBroken(
            f"{path.name} is damaged, or of PyTorch's old format, which cannot be looked into. Use a .safetensors."
        ) from None
    tensors = {}
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    for name, value in _leaves(found):
        tensors[name] = Tensor(_TORCH.get(str(value.dtype), str(value.dtype)), tuple(value.shape))
    return Header(tensors, {}, path.stat().st_size)


_TORCH = {"torch.float16": "F16", "torch.bfloat16": "BF16", "torch.float32": "F32", "torch.float64": "F64"}


def _leaves(value: Any, name: str = "", depth: int = 3) -> list[tuple[str, Any]]:
    """The tensors in dictionaries of dictionaries, with the names that lead there."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return [(name, value)]
    if not isinstance(value, dict) or not depth:
        return []
    found = (_leaves(each, f"{name}.{key}" if name else str(key), depth - 1) for key, each in value.items())
    return [leaf for leaves in found for leaf in leaves]


def _damaged(path: Path, why: str) -> ModelBroken:
    return ModelBroken(f"The file {path} is damaged or was not copied to its end: {why}. Copy or download it again.")


# safetensors


def _safetensors(path: Path, file: BinaryIO, size: int) -> Header:
    found, metadata = _entries(path, file, size)
    return Header({name: place.tensor for name, place in found.items()}, metadata, size)


def _entries(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Place], dict[str, str]]:
    """The tensors of a file, and what it says besides them."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    # No header is so long that its length would read as text.
    if length > LIMIT and (start.lstrip()[:1] in (b"<", b"{") or start == b"version "):
        what = "a pointer of Git LFS" if start == b"version " else "a web page or another text"
        raise ModelBroken(f"The file {path} is {what}, and no model. Download the file itself.")
    if len(start) < 8 or length < 2:
        raise _damaged(path, "it is too short to hold a model")
    if length > size - 8:
        raise _damaged(path, f"its header should have {length:,} bytes, and the file has {size:,}")
    if length > LIMIT:
        raise _damaged(path, f"its header of {length:,} bytes is longer than any model's")
    text = file.read(length)
    entries = json.loads(text, parse_constant=_refuse)
    if not isinstance(entries, dict):
        raise _damaged(path, "its header is no list of tensors")
    told = entries.pop("__metadata__", {})
    # The format wants text alone; other values are of no use here.
    metadata = {key: each for key, each in told.items() if isinstance(each, str)} if isinstance(told, dict) else {}
    # What is listed twice is lost in a dictionary. Within a text of the header, its quotes would be escaped.
    if text.count(b'"data_offsets"') != len(entries) + ("data_offsets" in metadata):
        raise _damaged(path, "a tensor is listed twice, or without its place")
    found = {name: _entry(path, name, value, 8 + length) for name, value in entries.items()}
    _check_places(path, [(place.start, place.end) for place in found.values()], 8 + length, size)
    return found, metadata


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and infinities are no JSON


def _entry(path: Path, name: str, value: Any, data: int) -> Place:
    """What the header says of one tensor. data: the byte of the file at which the first one begins."""
    try:
        dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _damaged(path, f"what it says of the tensor {name[:80]!r} makes no sense") from None
    for number in (begin, end, *shape):
        if type(number) is not int or number < 0:
            raise _damaged(path, f"what it says of the tensor {name[:80]!r} makes no sense")
    if type(dtype) is not str or dtype not in BITS:
        raise _damaged(path, f"the tensor {name[:80]!r} is of the unknown type {str(dtype)[:20]!r}")
    if len(shape) > 16 or (end - begin) * 8 != math.prod(shape) * BITS[dtype]:
        raise _damaged(path, f"the tensor {name[:80]!r} has another size than its shape says")
    return Place(Tensor(dtype, shape), data + begin, data + end)


def _check_places(path: Path, places: list[tuple[int, int]], data: int, size: int) -> None:
    """The tensors must follow one another without a hole or an overlap, to the end of the file."""
    end = data
    for begin, after in sorted(places):
        if begin != end:
            raise _damaged(path, "two tensors overlap" if begin < end else "there is a hole between two tensors")
        end = after
    if end != size:
        raise _damaged(path, f"its tensors take {end - data:,} bytes, and there are {size - data:,}")


# GGUF

_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF's types of fixed size, as `struct` names them; 8 is a text and 9 a list."""

_TEXT, _LIST = 8, 9


class _Reader:
    """Values one after another from a file, never beyond the limit of a header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.place = file, 0

    def take(self, count: int) -> bytes:
        self.place += count
        data = self._file.read(count) if self.place <= LIMIT else b""
        if len(data) != count:
            raise ValueError("too short")
        return data

    def plain(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def text(self) -> str:
        return self.take(self.plain("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A value of this type; None in place of a list, which is passed over."""
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            return self.plain(_PLAIN[kind])
        kind, count = self.plain("I"), self.plain("Q")
        if count > _MOST_VALUES or (kind != _TEXT and kind not in _PLAIN):
            raise ValueError("no list of a model")
        if kind == _TEXT:
            for _ in range(count):
                self.take(self.plain("Q"))
        else:
            self.take(count * struct.calcsize(f"<{_PLAIN[kind]}"))
        return None


def _gguf(path: Path, file: BinaryIO, size: int) -> Header:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    reader = _Reader(file)
    try:
        if reader.take(4) != b"GGUF" or reader.plain("I") not in (2, 3):
            raise _damaged(path, "it is no GGUF file of version 2 or 3")
        count, values = reader.plain("Q"), reader.plain("Q")
        metadata = {}
        for _ in range(min(values, 100_000)):
            name = reader.text()
            value = reader.value(reader.plain("I"))
            if value is not None:
                metadata[name] = str(value)
        tensors: dict[str, Tensor] = {}
        ends = [0]
        for _ in range(count):
            name, dimensions = reader.text(), reader.plain("I")
            if dimensions > 8 or name in tensors:
                raise _damaged(path, f"what it says of the tensor {name[:80]!r} makes no sense")
            shape = tuple(reader.plain("Q") for _ in range(dimensions))[::-1]
            kind, offset = GGMLQuantizationType(reader.plain("I")), reader.plain("Q")
            block, of = GGML_QUANT_SIZES[kind]
            tensors[name] = Tensor(kind.name, shape)
            ends.append(offset + math.prod(shape) // block * of)
    except KeyError:
        raise _damaged(path, "a value in its header is of no known type") from None
    told = metadata.get("general.alignment", "32")
    step = int(told) if told.isdecimal() and 0 < int(told) <= 65536 else 32
    if max(ends) > size - math.ceil(reader.place / step) * step + (step if len(ends) == 1 else 0):
        raise _damaged(path, "its tensors reach beyond its end")
    return Header(tensors, metadata, size)
