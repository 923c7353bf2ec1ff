"""Reading what lies in a model's folder without loading it: JSON, and the headers of safetensors files."""

import json
import math
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import ModelBroken

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Endings of formats that are pickles, or may be. They are never opened."""

_HEADER_LIMIT = 100_000_000


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelBroken if it is missing or is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelBroken(f"The file {path} is missing. Copy or download the model again.") from None
    except (OSError, ValueError):
        raise ModelBroken(f"The file {path} is damaged. Copy or download the model again.") from None
    if not isinstance(value, dict):
        raise ModelBroken(f"The file {path} is not what a model has there. Copy or download the model again.")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one component: the full set if there is one, else the fp16 variant."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [file for file in files if ".fp16" not in file.name]
    return plain or files


def parameters(path: Path) -> int:
    """The number of values in a safetensors file, from its header alone. Raises ModelBroken if the file is cut short.

    Format: 8 bytes little-endian length, a JSON header of that length, then the data
    (https://github.com/huggingface/safetensors#format).
    """
    state = path.stat()
    return _parameters(path, state.st_size, state.st_mtime_ns)


@lru_cache(4096)
def _parameters(path: Path, size: int, changed: int) -> int:
    broken = ModelBroken(f"The file {path} is damaged or was not copied to its end. Copy or download it again.")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _HEADER_LIMIT):
                raise broken
            header = json.loads(file.read(length))
        tensors = [value for name, value in header.items() if name != "__metadata__"]
        end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        count = sum(math.prod(tensor["shape"]) for tensor in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error):
        raise broken from None
    if 8 + length + end != size:
        raise broken
    return count
