"""Where a model runs, in what precision, and what is done when it does not fit.

The ways, from the best to the slowest (docs/memory.md): the whole model on the device; its parts taking turns there;
its denoiser kept in float8; its layers taking turns. Without a graphics card: half the precision, then weights that
stay in their file.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffusers import AutoencoderTiny
from diffusers.hooks import apply_group_offloading

from studio import memory as machine
from studio.errors import SettingsError

WORK = 1536
"""Bytes of room for each pixel of a picture and byte of a number: three of a decoder's feature maps at full size."""

DENOISERS = ("unet", "transformer")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is held. bytes: what it takes of the device, its work included. way: empty for the whole model."""

    dtype: torch.dtype
    bytes: int
    way: str = ""

    @property
    def sentence(self) -> str:
        """What a person is told of it; empty where there is nothing to tell."""
        return {
            "": "",
            "parts": "Its parts take turns on the device, because the whole model does not fit: a little slower.",
            "float8": "Its weights are kept in float8 and its parts take turns on the device, because it does not fit "
            "otherwise: slower, and slightly less exact.",
            "layers": "Its layers are brought to the device one after the other, because not even its largest part "
            "fits: much slower.",
            "half": "It runs in bfloat16 instead of float32, because it does not fit otherwise.",
            "mapped": "Its weights stay in their file and are read as they are needed, because there is too little "
            "memory for them: much slower.",
        }[self.way]


def device(wish: str) -> torch.device:
    """The device for the setting `device`. Raises SettingsError if this machine has none of that kind."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wish == "auto":
        wish = next(name for name, available in there.items() if available)
    if not there[wish]:
        raise SettingsError(f"This machine has no {wish} device that PyTorch can use. Leave the device at auto.")
    return torch.device(wish)


def dtype(wish: str, device: torch.device) -> torch.dtype:
    """The precision for the setting `dtype`: bfloat16 wherever the hardware multiplies it, else the next best."""
    if wish != "auto":
        return getattr(torch, wish)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    abilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if abilities.get("avx512_bf16") or abilities.get("amx_bf16") else torch.float32


def plans(
    parts: Mapping[str, int], pixels: int, device: torch.device, dtype: torch.dtype, stored: torch.dtype | None = None
) -> list[Plan]:
    """The ways to hold a model, best first.

    parts: weights of each. pixels: of a picture. stored: the type of the weights in a file that may stay mapped.
    """
    whole, size = sum(parts.values()), dtype.itemsize
    work = pixels * WORK * size
    result = [Plan(dtype, whole * size + work)]
    if device.type == "cuda" and parts:
        denoiser = max(parts.get(name, 0) for name in DENOISERS)
        others = max((count for name, count in parts.items() if name not in DENOISERS), default=0)
        result += [
            Plan(dtype, max(parts.values()) * size + work, "parts"),
            Plan(dtype, max(denoiser, others * size) + work, "float8"),
            Plan(dtype, max(whole * size // 20, 0) + work, "layers"),
        ]
    if device.type == "cpu":
        if dtype == torch.float32:
            result.append(Plan(torch.bfloat16, whole * 2 + work // 2, "half"))
        if stored and stored.itemsize > 1:
            result.append(Plan(stored, pixels * WORK * stored.itemsize, "mapped"))
    return result


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes of memory in which a device's models and their work lie: that there are, and that are free."""
    if device.type != "cuda":
        return machine.available()
    free, there = torch.cuda.mem_get_info(device)
    # What PyTorch holds and does not use, it uses before it asks for more.
    return there, free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def place(parts: Mapping[str, Any], device: torch.device, plan: Plan) -> None:
    """Bring the modules among `parts` to where the plan wants them, convolutions in the layout that it computes in."""
    modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    for name, part in modules.items():
        remove_hook_from_module(part, recurse=True)
        # Autoencoders of this field overflow in float16.
        wide = torch.float32 if name == "vae" and plan.dtype == torch.float16 else plan.dtype
        there = device if not _visits(plan) else torch.device("cpu")
        if getattr(part, "quantization_method", None):
            part.to(there)  # the type of quantised weights is not ours to change
        else:
            part.to(device=there, dtype=wide)
            # Autoencoders of films have no such layout. On a processor a denoiser is no faster with it, and takes
            # seconds to be brought into it.
            flat = all(weight.ndim < 5 for weight in part.parameters())
            if plan.way != "mapped" and (name == "vae" or (name == "unet" and device.type != "cpu")) and flat:
                part.to(memory_format=torch.channels_last)
        if plan.way == "float8" and name in DENOISERS and hasattr(part, "enable_layerwise_casting"):
            part.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=plan.dtype)
        if plan.way == "layers" and name in DENOISERS:
            stream = device.type == "cuda"
            apply_group_offloading(part, device, offload_type="leaf_level", use_stream=stream)
    if _visits(plan):
        turns = [part for name, part in modules.items() if plan.way != "layers" or name not in DENOISERS]
        for part in turns:
            add_hook_to_module(part, _Turn(device, [other for other in turns if other is not part]), append=True)


def _visits(plan: Plan) -> bool:
    return plan.way in ("parts", "float8", "layers")


class _Turn(ModelHook):
    """Brings a part to the device before it runs, and sends away the others: text encoders leave when they are done."""

    def __init__(self, device: torch.device, others: Sequence[torch.nn.Module]) -> None:
        self.device, self.others = device, others

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple, dict]:
        if any(tensor.device.type != self.device.type for tensor in module.parameters()):
            for other in self.others:
                other.to("cpu")
            module.to(self.device)
        return args, kwargs


@contextmanager
def tiled(vae: Any) -> Iterator[None]:
    """The autoencoder works tile by tile inside: an eighth of the memory or less, and nearly the same picture."""
    if isinstance(vae, AutoencoderTiny):  # which takes its number of colours for how much smaller latents are
        vae.spatial_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        vae.tile_latent_min_size = vae.tile_sample_min_size // vae.spatial_scale_factor
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()


def give_back(device: torch.device) -> None:
    """Return memory that is no longer used to the system: Python's cycles, the allocator's rest, the device's cache."""
    gc.collect()
    machine.give_back()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
