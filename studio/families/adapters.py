"""LoRAs of a loaded model: read once, switched and weighed between calls, through diffusers' loaders and peft.

A LoRA adds small matrices beside those of the model's layers. peft keeps them apart from the model's own weights, which
are never written: with all of them off, each layer computes what it computed before there were any.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import diffusers
import torch
import transformers
from safetensors import safe_open

from studio import addons, disk
from studio.addons import File, Lora
from studio.errors import ModelError

IDLE_KEPT = 8
"""LoRAs that stay in memory after their last use; beyond it, the one used longest ago leaves."""


class Loras:
    """The LoRAs of one model.

    pipelines: class names of diffusers pipelines; the first that can load LoRAs says how. parts: the model's.
    """

    def __init__(self, pipelines: Iterable[str], parts: Mapping[str, Any]) -> None:
        self._pipelines, self._model_parts = pipelines, parts
        self._holder: Any = None
        self._loaded: OrderedDict[File, str] = OrderedDict()
        self._number = 0
        self._now: tuple[Lora, ...] = ()

    def use(self, loras: tuple[Lora, ...], model: str) -> None:
        """Let these alone work from now on, with their weights. Raises ModelError if one does not fit the model.

        loras: with files. model: its name, for the sentence.
        """
        if loras == self._now:
            return
        if self._holder is None:
            if (mixin := loader(self._pipelines)) is None:
                raise ModelError(f"{model} takes no LoRAs. Take {loras[0].name} out of the prompt.")
            self._holder = type("Holder", (_Holder, mixin), {})(self._model_parts)
        with torch.inference_mode():
            for lora in loras:
                self._load(lora, model)
            self._now = loras
            self._switch()
            self._forget()

    def _load(self, lora: Lora, model: str) -> None:
        assert lora.file  # the worker has looked it up
        if lora.file in self._loaded:
            self._loaded.move_to_end(lora.file)
            return
        self._number += 1
        adapter = f"lora_{self._number}"
        try:
            disk.check(lora.file.path)
            self._holder.refuse_expansion(lora.file)
            # Never from a pickle, and never from anywhere but this file.
            self._holder.load_lora_weights(
                str(lora.file.path), adapter_name=adapter, use_safetensors=True, local_files_only=True
            )
            self._holder.check_fit(lora.file, adapter)
        except MemoryError:
            self._drop(adapter)
            raise
        except Exception as error:
            self._drop(adapter)
            if isinstance(error, torch.OutOfMemoryError):
                raise
            made_for = addons.told(lora.file.path).base
            raise ModelError(
                f"The LoRA {lora.name} {f'was made for {made_for} and ' if made_for else ''}does not fit {model}. "
                "Take it out of the prompt, or choose a model of the kind that it was made for."
            ) from error
        finally:
            # Loading leaves the new one switched on.
            self._switch()
        self._loaded[lora.file] = adapter

    def _switch(self) -> None:
        from diffusers.utils.peft_utils import set_adapter_layers, set_weights_and_activate_adapters

        wanted = [(self._loaded[lora.file], lora) for lora in self._now if lora.file and lora.file in self._loaded]
        for name, part in self._holder.components.items():
            there = getattr(part, "peft_config", None) or {}
            weights = {
                adapter: lora.denoiser if name in _DENOISERS else lora.text
                for adapter, lora in wanted
                if adapter in there
            }
            weights = {adapter: weight for adapter, weight in weights.items() if weight}
            set_adapter_layers(part, enabled=bool(weights))
            if weights:
                set_weights_and_activate_adapters(part, list(weights), list(weights.values()))

    def _forget(self) -> None:
        working = {lora.file for lora in self._now}
        idle = [file for file in self._loaded if file not in working]
        for file in idle[: max(0, len(idle) - IDLE_KEPT)]:
            self._drop(self._loaded.pop(file))

    def _drop(self, adapter: str) -> None:
        from diffusers.utils.peft_utils import delete_adapter_layers

        for part in self._parts():
            if adapter in (getattr(part, "peft_config", None) or {}):
                delete_adapter_layers(part, adapter)

    def _parts(self) -> list[Any]:
        return list(self._holder.components.values()) if self._holder else []


def loader(pipelines: Iterable[str]) -> Any:
    """diffusers' class that reads the LoRAs of these pipelines; None if there is none."""
    # Imported when it is needed: diffusers' pipelines and loaders take seconds.
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
    from diffusers.loaders.lora_base import LoraBaseMixin

    for name in sorted(pipelines):
        for each in getattr(diffusers, name, object).__mro__:
            if issubclass(each, LoraBaseMixin) and "load_lora_weights" in vars(each) and each is not LoraBaseMixin:
                return each
    return None


class _Holder:
    """What diffusers' loaders ask of a pipeline: its parts by name."""

    hf_device_map = None
    _lora_loadable_modules: list[str]

    def __init__(self, parts: Mapping[str, Any]) -> None:
        named = {name: parts[name] for name in self._lora_loadable_modules if parts.get(name) is not None}
        self.components = {name: part for name, part in named.items() if isinstance(part, torch.nn.Module)}
        for name, part in self.components.items():
            setattr(self, name, part)

    def check_fit(self, file: File, adapter: str) -> None:
        """Raise ValueError if none of its layers, or none of those for the denoiser, is in the model.

        Text encoders alone do not tell: several architectures have the same.
        """
        filled = {
            name
            for name, part in self.components.items()
            if any(f".{adapter}." in parameter for parameter, _ in part.named_parameters())
        }
        with safe_open(file.path, "pt") as tensors:
            for_denoiser = any(not name.startswith(("lora_te", "text_encoder", "te.")) for name in list(tensors.keys()))
        if not filled or (for_denoiser and not filled.intersection(_DENOISERS)):
            raise ValueError("its layers are not those of the model")

    def refuse_expansion(self, file: File) -> None:
        """Raise ValueError for FLUX's control LoRAs, for which diffusers would write into the model's own weights."""
        transformer = self.components.get("transformer")
        if transformer is None or not hasattr(transformer, "x_embedder"):
            return
        with safe_open(file.path, "pt") as tensors:
            for name in list(tensors.keys()):
                if any(part in name for part in ("norm_q", "norm_k", "norm_added", "query_norm", "key_norm")):
                    raise ValueError("it has norms of its own")
                if ("x_embedder" in name or "img_in" in name) and ("lora_A" in name or "lora_down" in name):
                    width = getattr(transformer.x_embedder, "in_features", None)
                    if width and tensors.get_slice(name).get_shape()[1] != width:
                        raise ValueError("it widens the model's input")


_DENOISERS = ("unet", "transformer")
