"""From files to the parts of a model: diffusers' folders, and single files in the layouts they are published in.

A single file holds weights only. So the configs and tokenizers beside it come from `assets/configs` (`Entry.config`),
and parts that it lacks from the files that the catalog has found for it (`Entry.companions`).
Names are translated by diffusers' own converters. Nothing here asks the network, and nothing in a file is executed.
"""

import importlib
import importlib.util
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from accelerate import init_empty_weights
from torch import Tensor

from studio import disk
from studio.compat import of_diffusers
from studio.errors import ModelBroken, ModelError, ModelUnsafe
from studio.files import headers, unused, weights
from studio.files.folders import PICKLES, check, parameters, read_json, weight_files
from studio.files.identity.identify import Identity
from studio.files.identity.parts import CONFIGS, DENOISER_HOMES, held, size_of
from studio.files.weights import Stored
from studio.models.catalog import Entry, family

Report = Callable[[int, int], None]
"""Gets how many bytes of a model's files have been read, and how many there are."""

_TRUSTED = ("diffusers", "transformers")
_DENOISER = "model.diffusion_model."
_OTHERS = ("vae.", "first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "model_ema.")
"""Where a file that holds several parts keeps those that are not the denoiser."""

_SCALES = (".scale_weight", ".weight_scale")
_IGNORED = (".scale_input", ".input_scale", "scaled_fp8", ".comfy_quant")
"""What files in float8 hold beside the weights: the factor of each, and hints for kernels that are not used here."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of weights whose header was read. stamp: the file's at that moment."""

    path: Path
    stored: Mapping[str, Stored]
    stamp: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a part's weights are: in a file, or in several shards. names: tensor there → its name for the converter."""

    files: tuple[File, ...]
    names: Mapping[str, str]

    @property
    def path(self) -> Path:
        return self.files[0].path

    @property
    def bytes(self) -> int:
        return weights.total(self._wanted()) or self.path.stat().st_size

    @property
    def parameters(self) -> int:
        return sum(stored.count for stored in self._wanted()) or self.path.stat().st_size

    def _wanted(self) -> list[Stored]:
        return [stored for file in self.files for name, stored in file.stored.items() if name in self.names]


def load_parts(
    entry: Entry,
    needed: Iterable[str],
    dtype: torch.dtype,
    report: Report,
    allow_pickles: bool = False,
    mapped: bool = False,
) -> dict[str, Any]:
    """The components of a model in memory on the CPU, modules as `dtype`; the scheduler as its config.

    report: on any thread. mapped: leave weights of that very type in their file. Classes come from diffusers and
    transformers alone: what is loaded is untrusted. Raises ModelBroken, ModelUnsafe, ModelError with a sentence.
    """
    unused.listen()  # our own progress is reported; the libraries' bars and hints are not for the person at the page
    for path in (entry.path, *dict(entry.companions).values()):
        check(path)
    load = _load_single if entry.single else _load_folder
    return load(entry, tuple(needed), dtype, report, allow_pickles, mapped)


def weigh(entry: Entry, needed: Iterable[str], allow_pickles: bool = False) -> dict[str, int]:
    """The number of weights of each part, from headers alone. Raises ModelBroken, ModelUnsafe, ModelError."""
    if entry.single:
        found = sources(entry, needed, allow_pickles)
        return {name: source.parameters for name, source in found.items()}
    return {name: sum(map(parameters, weight_files(entry.path / name))) for name in needed}


# A diffusers folder


def _load_folder(
    entry: Entry,
    needed: Sequence[str],
    dtype: torch.dtype,
    report: Report,
    allow_pickles: bool,
    mapped: bool,
) -> dict[str, Any]:
    index = read_json(entry.path / "model_index.json")
    sizes = {name: sum(file.stat().st_size for file in weight_files(entry.path / name)) for name in needed}
    whole, done = sum(sizes.values()), 0
    progress = _progress(whole, report)
    parts: dict[str, Any] = {"model_index": index}
    for name in needed:
        place = index.get(name) or [None, None]
        parts[name] = _load_part(entry.path, name, place, dtype, allow_pickles, progress)
        done += sizes[name]
        progress(done - progress(0))  # what the libraries read is counted afterwards
    report(whole, whole)
    return parts


def _load_part(
    folder: Path,
    name: str,
    where: Sequence[str | None],
    dtype: torch.dtype,
    allow_pickles: bool,
    progress: Callable[[int], int],
) -> Any:
    if name == "scheduler":
        return read_json(folder / "scheduler" / "scheduler_config.json")
    library, kind = where
    if name.startswith("tokenizer") and str(kind).endswith("Processor"):
        kind = "AutoTokenizer"  # a processor wants torchvision, for pictures that no prompt here has
    found = _class(folder, name, (library, kind))
    options: dict[str, Any] = {}
    if files := weight_files(folder / name):
        options = {"dtype": dtype, "use_safetensors": True}
        if all(".fp16." in file.name for file in files):
            options["variant"] = "fp16"
    elif allow_pickles and issubclass(found, torch.nn.Module):
        options = {"dtype": dtype, "use_safetensors": False, "weights_only": True}
        if found.__module__.startswith("diffusers"):
            options.pop("weights_only")  # diffusers reads no other way
    config = folder / name / "config.json"
    if config.exists():
        _can_dequantise(folder.name, read_json(config).get("quantization_config") or {})
    try:
        part = _filled(found, folder / name, files, dtype, progress)
        if part is None:
            part = _by_library(found, folder / name, options)
            if isinstance(part, torch.nn.Module):
                weights.check(folder / name, part.state_dict())
    except (MemoryError, ModelError):
        raise
    except ImportError as error:
        package = "torchvision" if "orchvision" in str(error) else "a package that is not installed"
        raise ModelError(f"The {name} of the model in {folder} ({kind}) wants {package}.") from error
    except Exception as error:
        raise ModelBroken(
            f"The {name} of the model in {folder} could not be read ({type(error).__name__}). "
            "Copy or download the folder again."
        ) from error
    return _ready(part)


def _by_library(kind: Any, folder: Path, options: dict[str, Any]) -> Any:
    """What only diffusers or transformers can read."""
    if not issubclass(kind, (diffusers.ModelMixin, transformers.PreTrainedModel)):
        return kind.from_pretrained(folder, local_files_only=True, **options)
    part, told = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    part.unused = unused.sentence(f"{folder.parent.name}/{folder.name}", told["unexpected_keys"])
    return part


def _filled(
    kind: Any, folder: Path, files: Sequence[Path], dtype: torch.dtype, progress: Callable[[int], int]
) -> torch.nn.Module | None:
    """The part with its weights read here, once and with progress; None of kinds that only the libraries can read."""
    library = issubclass(kind, (diffusers.ModelMixin, transformers.PreTrainedModel))
    if not library or of_diffusers.has_other_classes(kind) or not files or not (folder / "config.json").exists():
        return None
    partly_exact = of_diffusers.is_partly_exact(kind) and dtype != torch.float32
    if partly_exact or "quantization_config" in read_json(folder / "config.json"):
        return None
    listed = [read_json(each).get("weight_map") for each in folder.glob("*.safetensors.index.json")]
    if len(files) > 1 and [{each.name for each in files}] != [set((names or {}).values()) for names in listed]:
        return None
    state: dict[str, Tensor] = {}
    for file in files:
        stamp = _stamp(file)
        state |= weights.read(file, weights.header(file), dtype, progress, seen=stamp)
    if issubclass(kind, transformers.PreTrainedModel):
        config = _config_kind(kind, folder).from_pretrained(folder, local_files_only=True)
        part = _from_state(kind, config, state, dtype, f"{folder.parent.name}/{folder.name}")
        if (folder / "generation_config.json").exists():
            part.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        with init_empty_weights():
            part = kind.from_config(kind.load_config(folder, local_files_only=True))
        of_diffusers.rename(part, state)
        of_diffusers.fill(part, state, dtype)
        ignored = of_diffusers.may_be_left_over(kind)
        odd = state.keys() - part.state_dict().keys()
        odd = {name for name in odd if not any(re.search(each, name) for each in ignored)}
        part.unused = unused.sentence(f"{folder.parent.name}/{folder.name}", odd)
    if any(tensor.is_meta for tensor in part.state_dict().values()):
        raise ValueError("its files lack tensors")
    return part


def _can_dequantise(model: str, config: Mapping[str, Any]) -> None:
    method = str(config.get("quant_method", ""))
    package = {"bitsandbytes": "bitsandbytes", "gguf": "gguf", "torchao": "torchao", "quanto": "optimum"}.get(method)
    if package and not importlib.util.find_spec(package):
        raise ModelError(
            f"{model} is quantised with {method}, which is not installed. Install {package} into the studio's "
            "environment, or use the model in bfloat16, float8 or GGUF."
        )


def _class(where: Path, name: str, named: Sequence[str | None]) -> Any:
    """The class that a model_index.json names. Raises ModelBroken if it is not diffusers' or transformers'."""
    library, kind = named
    if library in _TRUSTED and (found := getattr(importlib.import_module(library), kind or "", None)):
        return found
    # Parts that only one pipeline uses stand under its name.
    homes = (f"diffusers.pipelines.{library}", of_diffusers.WUERSTCHEN)
    for home in homes if library and library.isidentifier() and library != "transformers" else ():
        if importlib.util.find_spec(home) and (found := getattr(importlib.import_module(home), kind or "", None)):
            return found
    raise ModelBroken(f"The model in {where} wants a {name} of the kind {library}.{kind}, which is not known here.")


class _Lacking(ValueError):
    """Tensors that a part has are not in its files."""


def _from_state(kind: Any, config: Any, state: dict[str, Tensor], dtype: torch.dtype, name: str) -> torch.nn.Module:
    """One of transformers' models with these weights. Raises _Lacking, where it would go on with random ones.

    name: the file's, for the sentence on those that are not used.
    """
    part, told = kind.from_pretrained(
        None, config=config, state_dict=state, dtype=dtype, local_files_only=True, output_loading_info=True
    )
    # What makes words of a language model's thoughts, and its eyes, are left out of files that are made for pictures.
    left_out = ("lm_head.", "model.visual.", "visual.")
    if missing := [name for name in told["missing_keys"] if not name.startswith(left_out)]:
        raise _Lacking(", ".join(sorted(missing)[:3]))
    part.unused = unused.sentence(name, told["unexpected_keys"])
    return part


def _config_kind(kind: Any, folder: Path) -> Any:
    """The class of a part's config. Half of a larger model, as PRX's encoder, has the config of that half."""
    whole = kind.config_class
    named = read_json(folder / "config.json").get("model_type")
    if named == whole.model_type:
        return whole
    # A half may be of any kind, which has no name: `AutoConfig`.
    return next((each for each in whole.sub_configs.values() if getattr(each, "model_type", "") == named), whole)


def _ready(part: Any) -> Any:
    return part.eval().requires_grad_(False) if isinstance(part, torch.nn.Module) else part


# A single file


def sources(entry: Entry, needed: Iterable[str], allow_pickles: bool = False) -> dict[str, Source]:
    """Where the weights of each part are: in the entry's file, or in its companion for that part.

    Raises ModelBroken, ModelUnsafe, ModelError.
    """
    index = read_json(entry.config / "model_index.json")
    own: tuple[File, ...] = (_file(entry.path, allow_pickles),)
    companions = dict(entry.companions)
    result: dict[str, Source] = {}
    for name in needed:
        if name == "scheduler" or "tokenizer" in name:
            continue
        if name in ("unet", "transformer"):
            # A GGUF stays as it is packed, and is as large as its file.
            result[name] = Source(own, {} if _packed(own[0].path) else _denoiser(own[0].stored, name))
            continue
        files = own
        if path := companions.get(name):
            shards = weight_files(path) if path.is_dir() else [path]
            files = tuple(_file(each, allow_pickles) for each in shards)
        stored = {each: tensor for file in files for each, tensor in file.stored.items()}
        kind = index[name][1]
        names = held(stored, kind, size_of(kind, read_json(entry.config / name / "config.json")))
        if not names:
            raise ModelBroken(
                f"The {name} that {entry.name} needs is not in {path or entry.path} any more. Put the file back, or "
                "choose another model."
            )
        result[name] = Source(files, names)
    return result


def _file(path: Path, allow_pickles: bool) -> File:
    stamp = _stamp(path)
    return File(path, open_file(path, allow_pickles), stamp)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return weights.stamp(path)
    except OSError:
        raise ModelBroken(f"The file {path} is gone. Put it back, or choose another model.") from None


def open_file(path: Path, allow_pickles: bool = False) -> Mapping[str, Stored]:
    """What a file of weights holds; of GGUF and pickles the shapes alone are true. Raises ModelUnsafe, ModelBroken."""
    if _packed(path):
        return {name: Stored(torch.float32, tensor.shape, 0, 0) for name, tensor in headers.read(path).tensors.items()}
    if path.suffix in PICKLES:
        return {
            name: Stored(tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes)
            for name, tensor in _unpickle(path, allow_pickles).items()
        }
    found = weights.header(path)
    if any(".quant_state." in name for name in found):
        raise ModelError(
            f"{path.name} is quantised as NF4 in a single file. Use the model as a diffusers folder in NF4, "
            "or as a file in float8 or GGUF."
        )
    return found


def _unpickle(path: Path, allow_pickles: bool) -> dict[str, Tensor]:
    if not allow_pickles:
        raise ModelUnsafe(
            f"{path.name} is a pickle, which could run any code. Use the model's .safetensors version, or start the "
            "studio with --allow-pickles to have its weights read, and nothing else of it."
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        while isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
            found = found["state_dict"]
        return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    except MemoryError:
        raise
    except Exception as error:
        raise ModelBroken(
            f"{path.name} holds more than weights, or is damaged ({type(error).__name__}), so it is not read. "
            "Use the model's .safetensors version."
        ) from error


def _denoiser(stored: Mapping[str, Stored], name: str) -> dict[str, str]:
    home = next((home for home in DENOISER_HOMES if any(each.startswith(home) for each in stored)), "")
    names = {each: each.removeprefix(home) for each in stored if home and each.startswith(home)}
    names = names or {each: each for each in stored if not each.startswith(_OTHERS)}
    if name == "unet" and "conv_in.weight" not in names.values():
        names = {each: _DENOISER + own for each, own in names.items()}
    return names


def _load_single(
    entry: Entry,
    needed: Sequence[str],
    dtype: torch.dtype,
    report: Report,
    allow_pickles: bool,
    mapped: bool,
) -> dict[str, Any]:
    found = sources(entry, needed, allow_pickles)
    index = read_json(entry.config / "model_index.json")
    whole = sum(source.bytes for source in found.values())
    progress = _progress(whole, report)
    parts: dict[str, Any] = {"model_index": index}
    for name in needed:
        if name == "scheduler":
            parts |= _scheduler(entry)
            continue
        kind = _class(entry.config, name, index.get(name) or [None, None])
        if "tokenizer" in name:
            parts[name] = tokenizer(entry, name, kind)
        else:
            parts[name] = _ready(_build(entry, name, kind, found[name], dtype, progress, allow_pickles, mapped))
    report(whole, whole)
    return parts


def _scheduler(entry: Entry) -> dict[str, Any]:
    """The scheduler's config with all that is known of the file; and `published`, of which only the prediction is."""
    config, made_for = read_json(entry.config / "scheduler" / "scheduler_config.json"), family(entry)
    only = Identity(prediction_type=entry.identity.prediction_type)
    return {"scheduler": made_for.scheduled(config, entry.identity), "published": made_for.scheduled(config, only)}


def _progress(whole: int, report: Report) -> Callable[[int], int]:
    """Counts bytes from several threads, and reports each half percent once. Returns what was counted so far."""
    lock, done, told = threading.Lock(), 0, -1

    def count(size: int) -> int:
        nonlocal done, told
        with lock:
            done += size
            if (share := 200 * done // max(whole, 1)) > told:
                told = share
                report(min(done, whole), whole)
            return done

    return count


def _build(
    entry: Entry,
    name: str,
    kind: Any,
    source: Source,
    dtype: torch.dtype,
    progress: Callable[[int], int],
    allow_pickles: bool,
    mapped: bool,
) -> torch.nn.Module:
    config = entry.config / name
    try:
        if _packed(source.path):
            read = _gguf_encoder if issubclass(kind, transformers.PreTrainedModel) else _gguf
            part = read(source.path, kind, config, dtype)
            progress(source.bytes)
        else:
            state = _state(source, dtype, progress, allow_pickles, mapped)
            with unused.heard() as odd:
                part = _assign(kind, config, state, dtype, source.path.name)
            part.unused = getattr(part, "unused", "") or unused.sentence(source.path.name, odd)
        if hasattr(part, "tie_weights"):
            part.tie_weights()
    except (MemoryError, ModelError):
        raise
    except (NotImplementedError, _Lacking) as error:  # the one is from moving what has no data
        raise _lacking(entry, name, source) from error
    except Exception as error:
        raise ModelBroken(
            f"The {name} in {source.path.name} is not what a {_pipeline(entry)} has there ({type(error).__name__}). "
            "Copy or download the file again, or use the diffusers folder of the model."
        ) from error
    if any(tensor.is_meta for tensor in part.state_dict().values()):
        raise _lacking(entry, name, source)
    return part


def _lacking(entry: Entry, name: str, source: Source) -> ModelBroken:
    return ModelBroken(
        f"{source.path.name} lacks tensors that the {name} of a {_pipeline(entry)} has. Copy or download it again."
    )


def _pipeline(entry: Entry) -> str:
    return str(read_json(entry.config / "model_index.json").get("_class_name", "model")).removesuffix("Pipeline")


def _state(
    source: Source, dtype: torch.dtype, progress: Callable[[int], int], allow_pickles: bool, mapped: bool
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in source.files:
        wanted = {name: file.stored[name] for name in source.names if name in file.stored}
        wanted = {name: stored for name, stored in wanted.items() if not name.endswith(_IGNORED)}
        scales = {name: wanted.pop(name) for name in list(wanted) if name.endswith(_SCALES)}
        if file.path.suffix in PICKLES:
            opened = _unpickle(file.path, allow_pickles)
            found = {name: _copied(opened[name], dtype) for name in wanted}
            weights.check(file.path, found)
            progress(source.bytes)
        else:
            found = weights.read(file.path, wanted, dtype, progress, mapped, file.stamp)
            for name, scale in weights.read(file.path, scales, torch.float32, progress).items():
                weight = next(name.removesuffix(each) + ".weight" for each in _SCALES if name.endswith(each))
                if weight in found:
                    found[weight].mul_(scale.to(found[weight].dtype).reshape(-1, *[1] * (found[weight].dim() - 1)))
        tensors.update(found)
    return {source.names[name]: tensor for name, tensor in tensors.items()}


def _copied(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    goal = dtype if tensor.is_floating_point() else tensor.dtype
    return weights.memory(tensor.numel(), goal).reshape(tensor.shape).copy_(tensor)


def _assign(kind: Any, config: Path, state: dict[str, Tensor], dtype: torch.dtype, name: str) -> Any:
    """A module of this kind whose parameters are these tensors, not copies of them. name: their file's."""
    where: dict[str, Any] = {"config": str(config.parent), "subfolder": config.name, "local_files_only": True}
    if kind.__name__.startswith("CLIPTextModel"):
        return of_diffusers.clip_of_makers(kind, state, dtype, **where)
    if kind is transformers.T5EncoderModel:
        if "text_encoders.t5xxl.transformer.shared.weight" not in state:
            prefix = "text_encoders.t5xxl.transformer."
            state[prefix + "shared.weight"] = state[prefix + "encoder.embed_tokens.weight"]
        return of_diffusers.t5_of_makers(kind, state, dtype, **where)
    if issubclass(kind, transformers.PreTrainedModel):
        return _from_state(kind, kind.config_class.from_pretrained(config), state, dtype, name)
    if convert := _VAES.get(kind.__name__):
        return _converted(kind, read_json(config / "config.json"), state, dtype, convert)
    # The config is given with each weight's type settled, so nothing is converted and nothing is copied.
    return kind.from_single_file(state, dtype=dtype, **where)


def _converted(
    kind: Any, settings: dict[str, Any], state: dict[str, Tensor], dtype: torch.dtype, convert: Callable[..., Any]
) -> torch.nn.Module:
    """As `from_single_file` does it, for kinds that it does not know."""
    with init_empty_weights():
        part = kind.from_config(settings)
    if not set(part.state_dict()) <= set(state):
        statistics = {name: tensor for name, tensor in state.items() if name.startswith("bn.")}
        state = {**convert(state, config=settings), **statistics}
    of_diffusers.fill(part, state, dtype)
    return part


_VAES: dict[str, Callable[..., Any]] = {
    "AutoencoderKLFlux2": of_diffusers.converted_kl,
    # Qwen-Image's autoencoder is that of Wan 2.1, trained on.
    "AutoencoderKLQwenImage": of_diffusers.converted_wan,
}


# GGUF


def _packed(path: Path) -> bool:
    return path.suffix.lower() == ".gguf"


def _gguf(path: Path, kind: Any, config: Path, dtype: torch.dtype) -> torch.nn.Module:
    """A denoiser that stays packed."""
    return kind.from_single_file(
        str(path),
        config=str(config.parent),
        subfolder=config.name,
        dtype=dtype,
        local_files_only=True,
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype),
    )


def _gguf_encoder(path: Path, kind: Any, config: Path, dtype: torch.dtype) -> torch.nn.Module:
    """A text encoder, unpacked a tensor at a time. llama.cpp's names of the tensors are translated by its own table."""
    import gguf  # here, because few want it

    settings = kind.config_class.from_pretrained(config)
    is_t5 = kind is transformers.T5EncoderModel
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH.T5ENCODER if is_t5 else gguf.MODEL_ARCH.QWEN3, settings.num_hidden_layers
    )
    with init_empty_weights():
        own = kind(settings).state_dict()
    goals = {names.get_name(each if is_t5 else f"model.{each}", (".weight", ".bias")): each for each in own}
    state = {}
    for tensor in gguf.GGUFReader(path).tensors:
        if goal := goals.get(tensor.name):
            unpacked = gguf.dequantize(tensor.data, tensor.tensor_type)
            values = torch.from_numpy(np.require(unpacked, requirements="W"))
            state[goal] = _copied(values.reshape(own[goal].shape), dtype)
    weights.check(path, state)
    return _from_state(kind, settings, state, dtype, path.name)


# Tokenizers


def tokenizer(entry: Entry, name: str, kind: Any) -> Any:
    """The tokenizer of a shipped config: its settings are there, its vocabulary is shared or on this machine."""
    settings = read_json(entry.config / name / "tokenizer_config.json")
    shared = settings.pop("vocabulary", "")
    home = dict(entry.companions).get(name) or (CONFIGS / shared if shared else entry.config / name)
    settings.pop("tokenizer_class", None)
    try:
        disk.check(home)
        return kind.from_pretrained(home, local_files_only=True, **settings)
    except Exception as error:
        raise ModelBroken(f"The tokenizer in {home} cannot be read ({type(error).__name__}). Copy it again.") from error


def stored_type(entry: Entry) -> torch.dtype | None:
    """The type of most of the weights in a single file whose weights could stay there; None of others."""
    if not entry.single or entry.path.suffix != ".safetensors":
        return None
    counts: dict[torch.dtype, int] = {}
    for stored in weights.header(entry.path).values():
        counts[stored.dtype] = counts.get(stored.dtype, 0) + stored.count
    kind = max(counts, key=lambda each: counts[each], default=None)
    return kind if kind and kind.is_floating_point else None
