"""Reading what lies in a model's folder without loading it: JSON, and the headers of safetensors files."""

import json
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio import disk
from studio.errors import ModelBroken
from studio.files import headers

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Endings of formats that are pickles, or may be. They are never opened."""

_JSON_LIMIT, _INDEX_LIMIT = 5_000_000, 20_000_000
"""Bytes of the longest config that is read, and of the longest list of a model's tensors (`….index.json`)."""


def check(path: Path) -> None:
    """Raise ModelBroken if it is something else than a plain file or a folder of these. What is not there passes."""
    try:
        disk.check(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelBroken(f"{path} cannot be read: {error.strerror or error}. Copy or download it again.") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelBroken if it is missing or is none."""
    try:
        limit = _INDEX_LIMIT if path.name.endswith(".index.json") else _JSON_LIMIT
        value = json.loads(disk.content(path, limit).decode("utf-8"))
    except FileNotFoundError:
        raise ModelBroken(f"The file {path} is missing. Copy or download the model again.") from None
    except (OSError, ValueError, RecursionError):
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
    """The number of values in a safetensors file, from its header alone. Raises ModelBroken if the file is damaged."""
    state = path.stat()
    return _parameters(path, state.st_size, state.st_mtime_ns)


@lru_cache(4096)
def _parameters(path: Path, size: int, changed: int) -> int:
    return headers.read(path).parameters


def visible(text: str, lines: bool = False) -> str:
    """Text from outside as it can be shown anywhere: what is invisible or turns the writing round is written out.

    lines: whether line breaks stay. Joiners stay, which many scripts and emoji need.
    """
    if text.isprintable():
        return text
    return "".join(each if _is_harmless(each) or (lines and each == "\n") else _written_out(each) for each in text)


def _is_harmless(character: str) -> bool:
    return character in "\u200c\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co")


def _written_out(character: str) -> str:
    # Bytes of a file name that are no UTF-8 come as lone surrogates; "backslashreplace" writes those out too.
    return (
        character.encode("ascii", "backslashreplace").decode() if ord(character) > 126 else f"\\x{ord(character):02x}"
    )
