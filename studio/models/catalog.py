"""What is on disk: models and what goes with them, found without loading any of them."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studio.errors import ModelBroken, ModelError, ModelUnsafe
from studio.families import FAMILIES, Facts, Family
from studio.families.samplers import schedules_of
from studio.files import headers
from studio.files.folders import PICKLES, parameters, read_json, visible, weight_files
from studio.files.headers import Header
from studio.files.identity import parts
from studio.files.identity.identify import BASES, Identity, by_name, few_steps, identify
from studio.files.identity.parts import CONFIGS
from studio.models import companions
from studio.models.places import Found, home, is_tokenizer, look, vocabulary
from studio.models.records import Records
from studio.recipe.fields import NUMBERS
from studio.settings import ROOT

ASSETS = ROOT / "assets"
BUNDLED = ASSETS / "models"
"""The models that ship with the studio."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model, or something that goes with one. `problem` is empty, or a sentence that says why it cannot be used.

    name: for models the path below the models folder, or below the folder of their kind in it; for the others the
    file's name without its ending. Always safe to show. parameters: number of weights of the parts that are loaded.
    kind: of `studio.files.identity.identify.KINDS`. config: the folder with model_index.json and the parts' configs and
    tokenizers: the model's own, or one in assets/configs for a single file. single: whether path is one file.
    identity: what the header tells; what is asked most is to be had directly. companions: part → file or folder, for
    the parts that a single file needs and does not hold, and for tokenizers whose vocabulary does not ship. without:
    parts that the model can do without and that a single file is used without, and advice about them. bytes: size of
    the weights. sidecars: other files beside it that bear its name. stamp: changes whenever the files do.
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
    identity: Identity = field(default_factory=Identity)
    companions: tuple[tuple[str, Path], ...] = ()
    without: tuple[str, ...] = ()
    advice: str = ""
    bytes: int = 0
    sidecars: tuple[Path, ...] = ()
    stamp: tuple[int, ...] = ()

    @property
    def base(self) -> str:
        """What the model is built like, or which models an add-on fits: of `identify.BASES`, or empty."""
        return self.identity.base

    @property
    def variant(self) -> str:
        return self.identity.variant

    @property
    def precision(self) -> str:
        return self.identity.precision

    @property
    def inpainting(self) -> bool:
        return self.identity.inpainting

    @property
    def prediction_type(self) -> str:
        return self.identity.prediction_type

    @property
    def title(self) -> str:
        return visible(self.identity.title)

    @property
    def notes(self) -> str:
        return visible(self.identity.notes, lines=True)

    @property
    def key(self) -> str:
        """What the studio's own records about it are kept under."""
        return f"{self.kind}/{self.name}"


class Catalog:
    """The models folders, looked at again each time they are asked for; only what has changed is read.

    allow_pickles: whether .ckpt, .pt, .pth and .bin are offered. records: remembers headers from one start to the
    next. All methods may be called from any thread.
    """

    def __init__(
        self, folders: Iterable[Path] = (), allow_pickles: bool = False, records: Records | None = None
    ) -> None:
        self.folders = tuple(folders)
        self.records = records or Records()
        self.allow_pickles = allow_pickles
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[Found, Entry]] = {}
        self._latest: list[Entry] = []
        self._vocabularies: dict[str, Path | None] = {}

    def entries(self) -> list[Entry]:
        """Every model, the bundled ones first. Folders that don't exist are passed over."""
        return [entry for entry in self.everything() if entry.kind == "model"]

    def everything(self) -> list[Entry]:
        """Models, and all else that was found."""
        with self._lock:
            visited: set[tuple[int, int]] = set()
            found = [each for folder in (BUNDLED, *self.folders) for each in look(folder, visited)]
            known: dict[Path, tuple[Found, Entry]] = {}
            read: list[tuple[Path, tuple[int, ...], Identity]] = []
            for each in found:
                before = self._known.get(each.path)
                if before is None or before[0] != each:
                    before = each, self._describe(each, read)
                known[each.path] = before
            self._known = known
            if read:
                self.records.remember(read)
            # What was not there may have come since.
            self._vocabularies = {
                name: path for name, path in self._vocabularies.items() if path and is_tokenizer(path)
            }
            told, chosen = self.records.all_distilled(), self.records.all_parts()
            entries = [_as_told(entry, told.get(entry.key, "")) for entry in _named(known.values())]
            self._latest = [self._accompanied(entry, entries, chosen.get(entry.key, {})) for entry in entries]
            return self._latest

    def seen(self) -> list[Entry]:
        """What `everything` told last: for questions that come by the dozen, such as pictures of cards."""
        return self._latest or self.everything()

    def _describe(self, found: Found, read: list[tuple[Path, tuple[int, ...], Identity]]) -> Entry:
        """The entry for what was found; its name is not final yet. New identities of files are added to `read`."""
        entry = Entry(visible(found.name), found.path, sidecars=found.sidecars, stamp=found.stamp)
        try:
            if found.is_folder:
                return _folder(entry, found)
            entry = replace(entry, kind=by_name(found.path, found.hint), single=True, bytes=found.stamp[0])
            identity = self.records.identity(found.path, found.stamp)
            if identity is None:
                identity = identify(self._header(found.path), found.path.name, found.hint)
                read.append((found.path, found.stamp, identity))
            elif found.path.suffix.lower() in PICKLES and not self.allow_pickles:
                raise _pickle(found.path)
            kind = identity.kind if identity.kind != "other" or identity.variant else found.hint or "other"
            entry = replace(entry, kind=kind, identity=identity, parameters=identity.parameters)
            return _single(entry) if entry.kind == "model" else entry
        except ModelError as error:
            broken = isinstance(error, ModelBroken) and not found.hint
            return replace(entry, kind="model" if broken else entry.kind, problem=visible(str(error)))
        except (OSError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            # A file that went away or changed at this moment, or a config that holds something else than configs do.
            return replace(
                entry, problem=f"The files of {entry.name} changed, or are damaged. Copy or download them again."
            )

    def _accompanied(self, entry: Entry, entries: Sequence[Entry], chosen: Mapping[str, str]) -> Entry:
        """A single file that lacks parts with those that lie elsewhere, or with a problem that says what to add.

        chosen: part → the file that a person wants to serve as it.
        """
        if entry.kind != "model" or not entry.single or entry.problem:
            return entry
        wanted = dict(companions.lacking(entry))
        fits = {part: [each.path for each in companions.fitting(want, entries)] for part, want in wanted.items()}
        # What a person chose, as long as it is there and fits; else the best.
        found = {
            part: next((path for path in fit if str(path) == chosen.get(part)), None) for part, fit in fits.items()
        }
        found = {part: path or next(iter(fits[part]), None) for part, path in found.items()}
        for part, name in parts.vocabularies(entry.config).items():
            wanted[part], found[part] = name, self._vocabulary(name)
        lacking = {part: wanted[part] for part, path in found.items() if path is None}
        optional, place = family(entry).optional, "a models folder"
        if self.folders:
            place = visible(str(home(self.folders[0])))
        if needed := [want for part, want in lacking.items() if part not in optional]:
            return replace(entry, problem=parts.missing(entry.name, needed, place))
        # What is optional goes together: an encoder is nothing without its tokenizer.
        without = optional if lacking else ()
        served = tuple((part, path) for part, path in found.items() if path and part not in without)
        advice = [parts.without(entry.name, lacking.values(), place)] if without else []
        if entry.variant in ("Kontext", "Edit"):
            advice.append(
                f"{entry.name} is made to change pictures that it is shown. Here it draws from words alone, or begins "
                "from a picture as other models do."
            )
        return replace(entry, companions=served, without=without, advice=" ".join(advice))

    def _vocabulary(self, name: str) -> Path | None:
        """A folder with the tokenizer of this one of `studio.files.identity.parts.VOCABULARIES`.

        Looked for only where a model wants it, since it may lie beside what `look` looks at.
        """
        if name not in self._vocabularies:
            self._vocabularies[name] = vocabulary(name, self.folders)
        return self._vocabularies[name]

    def _header(self, path: Path) -> Header:
        if path.suffix.lower() not in PICKLES:
            return headers.read(path)
        if not self.allow_pickles:
            raise _pickle(path)
        return headers.read_pickle(path)


def scan(folders: Iterable[Path]) -> list[Entry]:
    """Every model in the folders, the bundled ones first, without pickles and without remembering anything."""
    return Catalog(folders).entries()


def family(entry: Entry) -> type[Family]:
    """The family that runs this entry. Raises ModelError with the entry's problem, if it has one."""
    if entry.problem:
        raise ModelError(entry.problem, "model")
    return next(each for each in FAMILIES if each.family == entry.family)


def idle(entry: Entry) -> set[str]:
    """The settings of a recipe that a usable model makes nothing of."""
    made_for = family(entry)
    guides = entry.facts is None or entry.facts.negative_prompt
    of_no_use = {field.name for field in NUMBERS if field.takes and not getattr(made_for, field.takes)}
    return of_no_use if guides else of_no_use | {"guidance_end"}


def wanted(entry: Entry) -> tuple[str, ...]:
    """The parts of this entry that are loaded."""
    return tuple(part for part in family(entry).wanted(entry.config) if part not in entry.without)


def _pickle(path: Path) -> ModelUnsafe:
    return ModelUnsafe(
        f"{path.name} is a pickle, which could run any code. Use the model's .safetensors version, or start the studio "
        "with --allow-pickles if you know where it is from."
    )


# Names, and what goes with single files


def _named(found: Iterable[tuple[Found, Entry]]) -> Iterator[Entry]:
    """The entries under names that no other of their kind has."""
    taken: set[tuple[str, str]] = set()
    for each, entry in found:
        name = next(name for name in _names(each, entry) if (entry.kind, name) not in taken)
        taken.add((entry.kind, name))
        yield entry if entry.name == name else replace(entry, name=name)


def _names(found: Found, entry: Entry) -> Iterator[str]:
    """What an entry could be called, the best first."""
    inside = not found.hub and found.path.is_relative_to(found.root)
    below = visible(found.path.relative_to(found.root).as_posix() if inside else found.name)
    name = visible(found.name)
    if entry.kind != "model":
        stem = name if found.is_folder else name.rpartition(".")[0]
        own = stem.rpartition("/")[2]
        # Files that every repository calls the same are known by their folder.
        yield stem if found.hub or own in ("pytorch_lora_weights", "diffusion_pytorch_model", "model") else own
        yield stem
    yield name
    yield f"{visible(found.root.name)}/{name}"
    yield below
    number = 2
    while True:
        yield f"{name} ({number})"
        number += 1


# Single files


def _single(entry: Entry) -> Entry:
    identity = entry.identity
    label = f"{BASES.get(identity.base, '')} {identity.variant}".strip() or "of an unknown kind"
    if not identity.config:
        raise ModelError(
            f"{entry.name} is {label} in a single file, which this version of the studio cannot load. "
            "Use the model's diffusers folder."
        )
    if identity.packed:
        raise ModelError(
            f"{entry.name} is {label}, packed as {identity.packed} in a single file, which this version of the studio "
            "cannot load. Use the model as a file in float8 or GGUF, or as a diffusers folder."
        )
    config = CONFIGS / identity.config
    if not os.path.isfile(config / "model_index.json"):
        raise ModelError(f"The studio's own files for {label} are missing in {config}. Install the studio again.")
    each = _family(entry.name, read_json(config / "model_index.json").get("_class_name"))
    facts = each.suited(each.facts(config), identity)
    return replace(entry, family=each.family, facts=facts, config=config)


def _as_told(entry: Entry, kind: str) -> Entry:
    """A single file with what a person says of it, instead of what its name does: see `Records.all_distilled`."""
    if not kind or not entry.single or entry.kind != "model" or entry.problem:
        return entry
    made_for = family(entry)
    told: dict[str, Any] = {"distilled": "", "steps": 0}
    if kind in made_for.distillations:
        known = {"base": entry.base, "variant": entry.variant}
        told |= {"steps": entry.identity.steps} if entry.identity.steps else few_steps({}, kind, known)
        told["distilled"] = kind
    identity = replace(entry.identity, **told)
    return replace(entry, identity=identity, facts=made_for.suited(made_for.facts(entry.config), identity))


def _family(name: str, kind: object) -> type[Family]:
    """The family that runs pipelines of this class. Raises ModelError."""
    for each in FAMILIES:
        if kind in each.pipelines:
            return each
    raise ModelError(f"{name} is a {visible(str(kind)[:80])}, which this version of the studio cannot run.")


# diffusers' folders


def _folder(entry: Entry, found: Found) -> Entry:
    path = entry.path
    if not os.path.isfile(path / "model_index.json"):
        return _component(entry, found)
    index = read_json(path / "model_index.json")
    entry = replace(entry, config=path)
    each = _family(entry.name, index.get("_class_name"))
    count = sum(_count(path / part) for part in each.wanted(path))
    try:
        facts = _checked(_suited(path, each.facts(path)), each.samplers)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise ModelBroken(
            f"A config file of {entry.name} lacks what it should say. Copy or download it again."
        ) from None
    sizes = [file.stat().st_size for part in each.wanted(path) for file in weight_files(path / part)]
    denoiser = next((path / part for part in ("unet", "transformer") if part in each.wanted(path)), path)
    identity = replace(
        _identity(denoiser, path.name, ""), kind="model", parts=each.wanted(path), config="", steps=0, distilled=""
    )
    scheduler = path / "scheduler" / "scheduler_config.json"
    told = str(read_json(scheduler).get("prediction_type") or "") if os.path.isfile(scheduler) else ""
    if not identity.base:
        identity = replace(identity, variant="")
    if told in ("epsilon", "v_prediction"):  # the folder says what a header can only let guess
        kind = "inpainting" if identity.inpainting else "v-prediction" if told == "v_prediction" else ""
        identity = replace(identity, prediction_type=told, variant=kind)
    return replace(entry, family=each.family, parameters=count, facts=facts, identity=identity, bytes=sum(sizes))


def _component(entry: Entry, found: Found) -> Entry:
    """A component of its own: a VAE, a ControlNet, a text encoder… with the config that it came with."""
    identity = _identity(entry.path, entry.path.name, found.hint)
    size = sum(file.stat().st_size for file in weight_files(entry.path))
    # A bare UNet or transformer is no model yet, and its folder says which other files it was made to be put into.
    kind = "other" if identity.kind == "model" else identity.kind
    if str(read_json(entry.path / "config.json").get("architectures")).endswith("ForDepthEstimation']"):
        kind = "depth"
    return replace(entry, kind=kind, config=entry.path, identity=identity, bytes=size, parameters=identity.parameters)


def _identity(folder: Path, name: str, hint: str) -> Identity:
    """What the weights of one component tell, all its shards together."""
    found = [headers.read(file) for file in weight_files(folder)]
    tensors = {name: tensor for each in found for name, tensor in each.tensors.items()}
    metadata = found[0].metadata if found else {}
    return identify(Header(tensors, metadata, sum(each.bytes for each in found)), name, hint)


def _suited(folder: Path, facts: Facts) -> Facts:
    """The family's facts, with what the model's own `defaults.json` says is better: steps, guidance, sampler."""
    path = folder / "defaults.json"
    return replace(facts, **read_json(path)) if os.path.exists(path) else facts


def _checked(facts: Facts, samplers: Mapping[str, tuple[str, dict]]) -> Facts:
    """The facts, if they are of the kind that they should be. Raises ValueError: configs may say anything."""
    whole = (facts.width, facts.height, facts.multiple, facts.steps)
    shares = (facts.guidance_scale, facts.guidance_end, facts.guidance_rescale or 0)
    if not all(type(each) is int and 0 < each < 100_000 for each in whole):
        raise ValueError("sizes")
    if not all(type(each) in (int, float) and 0 <= each <= 1000 for each in shares):
        raise ValueError("guidance")
    if facts.sampler not in samplers or type(facts.negative_prompt) is not bool:
        raise ValueError("sampler")
    if facts.schedule not in schedules_of(samplers, facts.sampler):
        raise ValueError("schedule")
    return facts


def _count(part: Path) -> int:
    """The weights of one component. Tokenizers and schedulers have none, and need only be there."""
    if not os.path.isdir(part):
        raise ModelBroken(f"The folder {part} is missing. Copy or download the model again.")
    files = weight_files(part)
    for shards in part.glob("*.safetensors.index.json"):
        missing = set(read_json(shards).get("weight_map", {}).values()) - {file.name for file in files}
        if missing and not any(".fp16" in file.name for file in files):
            names = visible(", ".join(sorted(missing)[:3])[:200])
            raise ModelBroken(f"{part} lacks {names}. Copy or download the model again.")
    if not files and os.path.exists(part / "config.json"):
        if any(file.suffix in PICKLES for file in part.iterdir()):
            raise ModelUnsafe(
                f"The weights in {part} are a pickle, which could run any code. Use the model's .safetensors version."
            )
        raise ModelBroken(f"The weights in {part} are missing. Copy or download the model again.")
    return sum(parameters(file) for file in files)
