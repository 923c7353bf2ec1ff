"""What is on disk: the models a person can choose from, found without loading any of them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from studio.errors import ModelBroken, ModelError, ModelUnsafe
from studio.families import FAMILIES, Facts, Model
from studio.models.files import PICKLES, parameters, read_json, weight_files

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "models"
"""The models that ship with the studio."""

_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. `problem` is empty, or a sentence that says why it cannot be used and what would help.

    name: the path below the models folder it was found in. parameters: number of weights of the parts that are loaded.
    config: the folder with model_index.json and the configs of the parts: for a single file, one of assets/configs.
    """

    name: str
    path: Path
    family: str = ""
    parameters: int = 0
    facts: Facts | None = None
    problem: str = ""
    kind: str = "model"
    config: Path = Path()
    single: bool = False


def scan(folders: Iterable[Path]) -> list[Entry]:
    """Every model in the folders, the bundled ones first. Folders that don't exist are passed over.

    If two have one name, the later one gets its folder's name before it.
    """
    entries: dict[str, Entry] = {}
    for folder in (BUNDLED, *folders):
        for path in _candidates(folder, _DEPTH):
            name = path.relative_to(folder).as_posix()
            if name in entries:
                name = f"{folder.name}/{name}"
            entries.setdefault(name, _describe(name, path))
    return list(entries.values())


def family(entry: Entry) -> type[Model]:
    """The family that runs this entry. Raises ModelError with the entry's problem, if it has one."""
    if entry.problem:
        raise ModelError(entry.problem)
    return next(each for each in FAMILIES if each.family == entry.family)


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    """Model folders, and single files with weights, below `folder`."""
    try:
        found = sorted(os.scandir(folder), key=lambda each: each.name.lower())
    except OSError:
        return
    for each in found:
        path = Path(each.path)
        if each.is_file() and path.suffix in (".safetensors", *PICKLES):
            yield path
        elif each.is_dir() and not each.name.startswith("."):
            if (path / "model_index.json").exists():
                yield path
            elif depth > 1:
                yield from _candidates(path, depth - 1)


def _describe(name: str, path: Path) -> Entry:
    entry = Entry(name, path, config=path, single=path.is_file())
    try:
        if path.is_file():
            raise _single_file(path)
        return _describe_folder(entry)
    except ModelError as error:
        return replace(entry, problem=str(error))


def _single_file(path: Path) -> ModelError:
    if path.suffix in PICKLES:
        return ModelUnsafe(f"{path.name} is a pickle, which could run any code. Use the model's .safetensors version.")
    return ModelError(f"{path.name} is a single file. This version of the studio reads diffusers folders only.")


def _describe_folder(entry: Entry) -> Entry:
    index = read_json(entry.path / "model_index.json")
    kind = index.get("_class_name")
    for each in FAMILIES:
        if kind in each.pipelines:
            break
    else:
        raise ModelError(f"{entry.name} is a {kind}, which this version of the studio cannot run.")
    count = sum(_count(entry.path / part) for part in each.needed)
    try:
        facts = _suited(entry.path, each.facts(entry.path))
    except (KeyError, TypeError, ValueError):
        raise ModelBroken(
            f"A config file of {entry.name} lacks what it should say. Copy or download it again."
        ) from None
    return replace(entry, family=each.family, parameters=count, facts=facts)


def _suited(folder: Path, facts: Facts) -> Facts:
    """The family's facts, with what the model's own `defaults.json` says is better: steps, guidance_scale, sampler."""
    path = folder / "defaults.json"
    return replace(facts, **read_json(path)) if path.exists() else facts


def _count(part: Path) -> int:
    """The weights of one component. Tokenizers and schedulers have none, and need only be there."""
    if not part.is_dir():
        raise ModelBroken(f"The folder {part} is missing. Copy or download the model again.")
    files = weight_files(part)
    for shards in part.glob("*.safetensors.index.json"):
        missing = set(read_json(shards).get("weight_map", {}).values()) - {file.name for file in files}
        if missing and not any(".fp16" in file.name for file in files):
            raise ModelBroken(f"{part} lacks {', '.join(sorted(missing))}. Copy or download the model again.")
    if not files and (part / "config.json").exists():
        if any(file.suffix in PICKLES for file in part.iterdir()):
            raise ModelUnsafe(
                f"The weights in {part} are a pickle, which could run any code. Use the model's .safetensors version."
            )
        raise ModelBroken(f"The weights in {part} are missing. Copy or download the model again.")
    return sum(parameters(file) for file in files)
