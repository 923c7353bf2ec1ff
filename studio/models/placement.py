"""Where a model runs and in what precision, and how its weights lie in memory there."""

from collections.abc import Mapping
from typing import Any

import torch

from studio.errors import SettingsError


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


def place(parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
    """Move the modules among `parts` to the device, convolutional ones in the layout that it computes in."""
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            # Autoencoders of this field overflow in float16.
            wide = torch.float32 if name == "vae" and dtype == torch.float16 else dtype
            part.to(device=device, dtype=wide)
            # Autoencoders of films have no such layout.
            if name in ("unet", "vae") and all(weight.ndim < 5 for weight in part.parameters()):
                part.to(memory_format=torch.channels_last)
