"""Where models lie: plain folders, installations of other programs, and Hugging Face's cache, as they stand.

Nothing is opened here but the JSON files by which a folder is known to be one model, or a tokenizer.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from studio import disk
from studio.errors import ModelBroken
from studio.files.folders import PICKLES, read_json
from studio.files.identity.identify import FOLDERS
from studio.files.plain_yaml import PlainYaml

WEIGHTS = (".safetensors", ".gguf", *PICKLES)

DEPTH = 10
"""Folders within folders that are looked into."""

_MOST = 200_000
"""Names looked at below one folder: who gives the root of a disk shall wait seconds, not hours."""

_INSTALLATIONS = ("webui.py", "main.py", "launch.py", "webui.sh", "webui.bat", "invokeai.yaml")
"""A folder with one of these and a `models` in it is a program's own, full of code and environments beside it."""

_EXTRA, _EXTRA_LIMIT = "extra_model_paths.yaml", 100_000
_THEIRS = ("models", "embeddings", "extensions")
_NEVER = ("venv", "node_modules", "__pycache__", "site-packages", "python_embeded", "outputs", "output")

_PARTS = ("diffusion_pytorch_model", "model", "pytorch_model", "adapter_model", "pytorch_lora_weights")
"""How diffusers and transformers call the weights of one component, whose folder then gives it its name."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file with weights, or a folder that is one model or component.

    path: what would be loaded. root: the models folder. name: its path below the root, or below the folder of its
    kind. hint: the kind that folder is for, or empty. stamp: changes whenever the contents do. sidecars: files of
    other endings beside it that bear its name. hub: whether it lies in Hugging Face's cache.
    """

    path: Path
    root: Path
    name: str
    hint: str
    stamp: tuple[int, ...]
    is_folder: bool = False
    sidecars: tuple[Path, ...] = ()
    hub: bool = False


def look(root: Path, visited: set[tuple[int, int]]) -> list[Found]:
    """All that could be weights below a folder, by name. A folder in `visited` is passed over, and added to it.

    So links that lead in a circle end, and what is given twice is found once. What cannot be read is passed over.
    """
    found = _Look(root, visited)
    if os.path.isfile(root / "model_index.json"):
        return [found.folder(root, root.absolute().name, "", {})]
    return list(found.below(root, "", "", DEPTH))


def hub_cache() -> Path:
    """Where Hugging Face's libraries keep what they downloaded on this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def home(folder: Path) -> Path:
    """Where in a models folder a person, or a download, puts something: the `models` of a program's installation."""
    own = folder / "models"
    return own if os.path.isdir(own) and not os.path.exists(folder / "model_index.json") else folder


_TOKENIZER = "tokenizer_config.json"
_CLASSES = {"t5": ("T5", "t5"), "qwen": ("Qwen2", "qwen2")}
"""Vocabulary → how the classes of its tokenizers begin."""


def vocabulary(name: str, folders: Iterable[Path]) -> Path | None:
    """A folder with the tokenizer of a vocabulary ("t5" or "qwen"): in models folders, within the models there and in
    Hugging Face's cache if it is one of them, and in the ComfyUI or Forge around them, which bring their own.
    """
    folders = tuple(folders)
    around = [
        each for folder in folders for root in (folder, folder.parent) for each in (root / "comfy", root / "backend")
    ]
    for folder in (*folders, *around):
        left = _MOST
        for path, inner, files in os.walk(folder):
            inner[:] = sorted(each for each in inner if not each.startswith(".") and each not in _NEVER)
            left -= len(inner) + len(files)
            if _TOKENIZER in files and {"tokenizer.json", "spiece.model", "vocab.json"} & set(files):
                try:
                    kind = read_json(Path(path, _TOKENIZER)).get("tokenizer_class")
                except ModelBroken:
                    continue
                if isinstance(kind, str) and kind.startswith(_CLASSES[name]):
                    return Path(path)
            if left <= 0:
                break
    return None


def is_tokenizer(folder: Path) -> bool:
    return os.path.isfile(folder / _TOKENIZER)


class _Look:
    def __init__(self, root: Path, visited: set[tuple[int, int]]) -> None:
        self.root, self.visited, self.left = root, visited, _MOST

    def below(self, folder: Path, prefix: str, hint: str, depth: int) -> Iterator[Found]:
        """prefix: what the names of what is found begin with."""
        inside = self._listed(folder)
        folders = {each.name: each for each in inside if _is(each, "is_dir")}
        files = {each.name: each for each in inside if each.name not in folders and _is(each, "is_file")}
        if "models" in folders and any(name in files for name in _INSTALLATIONS):
            folders = {name: each for name, each in folders.items() if name in _THEIRS}
            if _EXTRA in files:
                yield from self._extra(folder / _EXTRA, depth)
        yield from self._files(files, prefix, hint)
        for name, each in folders.items():
            if name.startswith((".", "datasets--", "spaces--")) or name in _NEVER:
                continue
            path = Path(each.path)
            if name.startswith("models--"):
                yield from self._repository(path, name)
            elif os.path.isfile(path / "model_index.json") or _is_part(path):
                yield self.folder(path, prefix + name, hint, files)
            elif depth > 1:
                kind = FOLDERS.get(name.lower(), "")
                inner = "" if kind or name == "models" else f"{prefix}{name}/"
                yield from self.below(path, inner, kind or hint, depth - 1)

    def _extra(self, path: Path, depth: int) -> Iterator[Found]:
        """The further folders that ComfyUI was told of.

        Sections, each with a `base_path` and folders by kind, several in lines of one text
        (https://github.com/comfyanonymous/ComfyUI/blob/master/extra_model_paths.yaml.example).
        """
        try:
            sections = yaml.load(disk.content(path, _EXTRA_LIMIT), PlainYaml)
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            return
        for section in sections.values() if isinstance(sections, dict) else ():
            if isinstance(section, dict) and depth > 1:
                for key, folder in _told(path.parent, section):
                    yield from self.below(folder, "", FOLDERS.get(key.lower(), ""), depth - 1)

    def _listed(self, folder: Path) -> list[os.DirEntry[str]]:
        """What is in a folder, sorted; nothing if it was seen before, or cannot be read."""
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in self.visited or self.left <= 0:
                return []
            self.visited.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda each: each.name.lower())
        except (OSError, ValueError):
            return []
        self.left -= len(found)
        return found

    def _files(self, files: dict[str, os.DirEntry[str]], prefix: str, hint: str, hub: bool = False) -> Iterator[Found]:
        # "a.safetensors" and "a.b.preview.png" are told apart by the longest name that fits.
        stems = {name.rpartition(".")[0]: name for name in files if name.lower().endswith(WEIGHTS)}
        beside: dict[str, list[Path]] = {}
        for name, each in files.items():
            stem = name.rpartition(".")[0]
            while stem and stem not in stems:
                stem = stem.rpartition(".")[0]
            if stem and not name.lower().endswith(WEIGHTS) and self._is_within(each):
                beside.setdefault(stem, []).append(Path(each.path))
        for name, each in files.items():
            if name.lower().endswith(WEIGHTS) and not (hub and name.lower().endswith(PICKLES)):
                if (stamp := _stamp(each)) is None:
                    continue
                sidecars = tuple(beside.get(name.rpartition(".")[0], ()))
                yield Found(Path(each.path), self.root, prefix + name, hint, stamp, sidecars=sidecars, hub=hub)

    def folder(self, path: Path, name: str, hint: str, beside: dict[str, os.DirEntry[str]], hub: bool = False) -> Found:
        """One model or component in diffusers' layout, with what lies beside it under its name."""
        stamp: list[tuple[str | int, ...]] = []
        for each in (path, *sorted(_folders_in(path))):
            for inner in self._contents(each):
                stamp.append((inner.name, *(_stamp(inner) or ())))
        own = path.name
        sidecars = tuple(
            Path(each.path)
            for name, each in beside.items()
            if name.rpartition(".")[0] in (own, f"{own}.preview") and self._is_within(each)
        )
        return Found(path, self.root, name, hint, (_digest(stamp),), True, sidecars, hub)

    def _is_within(self, entry: os.DirEntry[str]) -> bool:
        """Whether a file is in the folder that it lies in, or in this models folder: what it says is shown."""
        if not entry.is_symlink():
            return True
        real = Path(os.path.realpath(entry.path))
        folders = (os.path.realpath(self.root), os.path.realpath(os.path.dirname(entry.path)))
        return any(real.is_relative_to(folder) for folder in folders)

    @staticmethod
    def _contents(folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted((each for each in entries if _is(each, "is_file")), key=lambda each: each.name)
        except OSError:
            return []

    def _repository(self, path: Path, name: str) -> Iterator[Found]:
        """One repository in Hugging Face's cache: the revision that `main` stands for, else the newest there.

        models--owner--name/refs/main, models--owner--name/snapshots/<revision>/…
        (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
        """
        title = name.removeprefix("models--").replace("--", "/")
        try:
            revisions = [each for each in (path / "snapshots").iterdir() if os.path.isdir(each)]
            if not revisions:
                return
            newest = max(revisions, key=lambda each: each.stat().st_mtime)
        except (OSError, ValueError):
            return
        main = ""
        with contextlib.suppress(OSError):
            main = disk.content(path / "refs" / "main", 1000).decode("utf-8", "replace").strip()
        snapshot = next((each for each in revisions if each.name == main), newest)
        files = {each.name: each for each in self._contents(snapshot)}
        has_index = "model_index.json" in files
        inner = [each for folder in _folders_in(snapshot) for each in self._contents(folder)]
        if (has_index and any(each.name.endswith(WEIGHTS) for each in inner)) or _is_part(snapshot):
            yield self.folder(snapshot, title, "", {}, True)
            files = {} if not has_index else files
        yield from self._files(files, f"{title}/", "", True)


def _told(home: Path, section: dict[Any, Any]) -> Iterator[tuple[str, Path]]:
    """The folders that a section of ComfyUI's list names, each with the key that it stands under."""
    base = section.get("base_path") or "."
    if not isinstance(base, str):
        return
    with contextlib.suppress(ValueError):  # what cannot be a path
        base = os.path.expanduser(base)
    for key, lines in section.items():
        if isinstance(lines, str) and isinstance(key, str) and key not in ("base_path", "is_default", "custom_nodes"):
            for line in filter(None, map(str.strip, lines.splitlines())):
                yield key, home / base / line


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    """`is_dir` or `is_file` of an entry; False for what cannot be looked at, as a link in a circle."""
    try:
        return bool(getattr(entry, kind)())
    except OSError:
        return False


def _digest(stamps: list[tuple[str | int, ...]]) -> int:
    """One number for all of them, the same in every run of the program."""
    return int.from_bytes(hashlib.blake2b(repr(stamps).encode("utf-8", "replace"), digest_size=7).digest(), "big")


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    """Size and time of change; None if the file is gone."""
    try:
        state = entry.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _folders_in(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(each.path) for each in entries if _is(each, "is_dir")]
    except OSError:
        return []


def _is_part(folder: Path) -> bool:
    """Whether the folder holds one component as diffusers or transformers write it: a config, and weights by it."""
    if not os.path.isfile(folder / "config.json"):
        return False
    try:
        config = read_json(folder / "config.json")
        names = os.listdir(folder)
    except (ModelBroken, OSError):
        return False
    known = "_class_name" in config or "architectures" in config or "model_type" in config
    return known and any(name.startswith(_PARTS) and name.endswith(".safetensors") for name in names)
