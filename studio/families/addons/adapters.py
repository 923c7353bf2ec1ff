"""LoRAs of a loaded model: read once, switched and weighed between calls.

What a LoRA adds is computed beside the model's layers, whose weights are never written: with none at work, each layer
computes what it computed before there were any. Every tensor of a file is either used, or told about.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from studio.errors import ModelError
from studio.families.addons.lora_changes import Change, decomposed, fitted, made
from studio.families.addons.lora_names import DENOISERS, Names, Target, shape
from studio.files import addons, headers, weights
from studio.files.addons import File
from studio.files.identity import loras
from studio.files.identity.identify import BASES, identify
from studio.files.identity.loras import Layer
from studio.words.tags import Lora

IDLE_KEPT = 8
"""LoRAs that stay in memory after their last use; beyond it, the one used longest ago leaves."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A LoRA in memory: for a part of the model, a layer and what is added to it. notes: what a person is told."""

    changes: tuple[tuple[str, nn.Module, Change], ...]
    notes: tuple[str, ...]


class Loras:
    """The LoRAs of one model. parts: the model's, by name. dtype: in which its layers compute."""

    def __init__(self, parts: Mapping[str, Any], dtype: torch.dtype) -> None:
        named = {name: part for name, part in parts.items() if name in DENOISERS or name.startswith("text_encoder")}
        self._parts = {name: part for name, part in named.items() if isinstance(part, nn.Module)}
        self._dtype = dtype
        self._names: Names | None = None
        self._loaded: OrderedDict[File, _Loaded] = OrderedDict()
        self._now: tuple[Lora, ...] = ()
        self._hooks: list[Any] = []

    def use(self, wanted: tuple[Lora, ...], model: str) -> tuple[str, ...]:
        """Let these alone work from now on, with their weights; gives what a person is told of them.

        wanted: with files. model: its name, for the sentence. Raises ModelError if one does not fit the model, and
        ModelBroken if it is damaged; then those of before still work.
        """
        if wanted != self._now:
            with torch.inference_mode():
                for lora in wanted:
                    self._load(lora, model)
            self._now = wanted
            self._switch()
            self._forget()
        return tuple(note for lora in wanted if lora.file for note in self._loaded[lora.file].notes)

    def _load(self, lora: Lora, model: str) -> None:
        assert lora.file  # the worker has looked it up
        if lora.file not in self._loaded:
            if self._names is None:
                self._names = Names(self._parts)
            try:
                self._loaded[lora.file] = _read(lora, self._names, self._dtype)
            except ValueError as error:
                told = addons.told(lora.file.path).base
                raise ModelError(
                    f"The LoRA {lora.name} {f'was made for {told} and ' if told else ''}does not fit {model}: {error}. "
                    "Take it out of the prompt, or choose a model of the kind that it was made for."
                ) from None
        self._loaded.move_to_end(lora.file)

    def _switch(self) -> None:
        for hook in self._hooks:
            hook.remove()
        working: dict[nn.Module, list[tuple[Change, float]]] = {}
        for lora in self._now:
            assert lora.file
            for part, layer, change in self._loaded[lora.file].changes:
                if weight := lora.denoiser if part in DENOISERS else lora.text:
                    working.setdefault(layer, []).append((change, change.scale * weight))
        self._hooks = [layer.register_forward_hook(_Hook(changes)) for layer, changes in working.items()]

    def _forget(self) -> None:
        working = {lora.file for lora in self._now}
        idle = [file for file in self._loaded if file not in working]
        for file in idle[: max(0, len(idle) - IDLE_KEPT)]:
            del self._loaded[file]


class _Hook:
    """Adds to what a layer gives. changes: with their factors."""

    def __init__(self, changes: list[tuple[Change, float]]) -> None:
        self._changes = changes

    def __call__(self, layer: nn.Module, given_to: tuple[Any, ...], gave: Tensor) -> Tensor:
        result = gave
        for change, factor in self._changes:
            result = result + change.added(layer, given_to[0], gave) * factor
        return result


def check(lora: Lora, model: str, base: str) -> None:
    """Raise ModelBroken or ModelError for what the header alone tells: damage, a kind or a base that does not fit.

    lora: with its file. model: its name. base: the model's, of `studio.files.identity.identify.BASES`, or empty.
    """
    assert lora.file
    kind, made_for = _judged(lora.file)
    if kind is None:
        raise ModelError(f"{lora.name} is no LoRA, though it lies among them. Take it out of the prompt.")
    if not kind.is_applied:
        raise ModelError(
            f"The LoRA {lora.name} is of the kind {kind.label}, which cannot be used here yet. "
            "Take it out of the prompt."
        )
    if made_for and base and _ALIKE.get(made_for, made_for) != _ALIKE.get(base, base):
        told = addons.told(lora.file.path).base or BASES[made_for]
        raise ModelError(
            f"The LoRA {lora.name} was made for {told} and does not fit {model}, which is {BASES[base]}. "
            "Take it out of the prompt, or choose a model of the kind that it was made for."
        )


@lru_cache(1000)  # a grid asks for each of its pictures
def _judged(file: File) -> tuple[loras.Kind | None, str]:
    """How a file changes weights, None if it is no LoRA, and the base that it was made for. Raises ModelBroken."""
    header = headers.read(file.path)
    kind = loras.kind(header.tensors) if loras.is_one(header.tensors) else None
    return kind, identify(header, file.path.name, "lora").base


_ALIKE = {"sd2": "sd1", "sd3.5": "sd3"}
"""Bases that a LoRA's header does not always tell apart; the layers themselves do."""


def _read(lora: Lora, names: Names, dtype: torch.dtype) -> _Loaded:
    """Raises ValueError with what does not fit, and ModelBroken for a damaged file."""
    assert lora.file
    header = headers.read(lora.file.path)
    tensors = weights.read(lora.file.path, weights.header(lora.file.path), None)
    found, others = loras.layers(tensors)
    found = {layer: roles for layer, roles in found.items() if roles.keys() != {"alpha"}}
    targets = {layer: names.targets(layer) for layer in found}
    _check_layers(targets)
    scales = _Scales(header.metadata, names.denoiser)
    changes: list[tuple[str, nn.Module, Change]] = []
    taken: set[nn.Module] = set()
    # Some files have a layer twice: as the model has it, and as a part of one of its maker's.
    for layer in sorted(found, key=lambda each: not names.is_own(each)):
        wanted = [each for each in targets[layer] if each.module not in taken]
        taken.update(each.module for each in wanted)
        of_layer = {role: tensors[name] for role, name in found[layer].items()}
        for target, change in _changes(layer, of_layer, wanted, targets[layer], scales):
            changes.append((target.part, target.module, change.to(target.module.weight.device, dtype)))
    return _Loaded(tuple(changes), tuple(_told(lora.name, targets, others)))


def _check_layers(targets: Mapping[Layer, tuple[Target, ...]]) -> None:
    """Raise ValueError if less than half of those for the denoiser, or none, are in the model.

    Text encoders alone do not tell: several architectures have the same.
    """
    there = [bool(targets[layer]) for layer in targets if not layer.part]
    if 2 * sum(there) < len(there) or not any(targets.values()):
        raise ValueError("it is for a model with other layers")


def _changes(
    layer: Layer, tensors: Mapping[str, Tensor], wanted: list[Target], whole: tuple[Target, ...], scales: "_Scales"
) -> Iterable[tuple[Target, Change]]:
    """What the tensors of one layer of a file add to the layers of the model that it stands for."""
    if not wanted:
        return
    given, reads = sum(shape(each.module)[0] for each in whole), shape(whole[0].module)[1:]
    try:
        change = fitted(made(tensors, lambda rank: scales.of(layer, rank)), (given, *reads))
        for target in wanted:
            mine = change if len(whole) == 1 else change.rows(target.start, target.stop)
            if target.is_turned:
                mine = mine.turned()
            if (lengths := tensors.get("dora_scale")) is not None:
                mine = _with_lengths(mine, lengths, target, len(whole) > 1)
            yield target, mine
    except ValueError as error:
        raise ValueError(f"{error}, in its layer {layer.path[:100]}") from None


def _with_lengths(change: Change, lengths: Tensor, target: Target, is_part: bool) -> Change:
    """DoRA. is_part: whether the lengths are for several layers of the model at once."""
    if is_part or target.is_turned:
        if lengths.ndim > 1 and lengths.shape[0] == 1:
            raise ValueError("it is a DoRA of a layer that is divided here")
        lengths = lengths[target.start : target.stop]
        lengths = lengths.roll(len(lengths) // 2, 0) if target.is_turned else lengths
    weight = target.module.weight
    if not isinstance(weight, Tensor) or weight.is_meta or tuple(weight.shape) != shape(target.module):
        raise ValueError("it is a DoRA, which needs the model's own weights, and these are quantised or on disk")
    return decomposed(change, lengths.to(weight.device), weight.detach())


def _told(name: str, targets: Mapping[Layer, tuple[Target, ...]], others: Iterable[str]) -> Iterable[str]:
    """Sentences on what of a LoRA has no effect."""
    if missing := sum(not found for found in targets.values()):
        yield f"{missing} of the {len(targets)} layers of the LoRA {name} are not in this model, and are left out."
    others = list(others)
    if any(other.startswith("bundle_emb.") for other in others):
        yield f"The embedding inside the LoRA {name} is not used: it must be a file of its own, among the embeddings."
    elif others:
        yield f"{len(others)} tensors of the LoRA {name} are of a kind that is not known here, and are left out."


class _Scales:
    """The factors of a file's LoRAs as diffusers notes them in its metadata, where no tensor `alpha` says one."""

    def __init__(self, metadata: Mapping[str, str], denoiser: str) -> None:
        self._denoiser = denoiser
        try:
            told = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except (ValueError, RecursionError):
            told = {}
        self._told = told if isinstance(told, dict) else {}

    def of(self, layer: Layer, rank: int) -> float:
        """alpha / rank, or alpha / √rank where it was trained so (rsLoRA, arXiv:2312.03732); 1 if nothing is noted."""
        part = layer.part or self._denoiser
        alpha = self._told.get(f"{part}.lora_alpha", rank)
        patterns = self._told.get(f"{part}.alpha_pattern")
        for name, value in patterns.items() if isinstance(patterns, dict) else ():
            if f"_{layer.path}".endswith(f"_{name.replace('.', '_')}"):
                alpha = value
        if not isinstance(alpha, int | float):
            raise ValueError("its metadata say that alpha is no number")
        return alpha / (math.sqrt(rank) if self._told.get(f"{part}.use_rslora") else rank)
