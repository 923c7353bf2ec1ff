"""How much memory calls take at their height, beyond weights and what runs hold.

At first that is a guess from the widths in a model's configs, and rather a high one. Larger calls are watched, and what
they took puts the guess for that model right (`python -m benchmarks.needs` shows both).
"""

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from studio.errors import OutOfMemory
from studio.models.manager import Manager

UNET, TRANSFORMER, AUTOENCODER, TINY = 50, 32, 15, 4
"""How many times its width a model holds at once, for each latent, each token, or each pixel."""

WIDTHS = {"unet": 320, "transformer": 3072, "vae": 128}
"""For configs that tell none: those of Stable Diffusion, of FLUX, and of the autoencoders of both."""

LARGE = 256 * 2**20
"""Bytes above which calls are watched, and weighed against what is free."""

RIGHT = (0.25, 2.0)
"""The least and the most that a guess is multiplied by: what else the process did meanwhile was watched too."""

SHARE = 0.8
"""How much of the free memory calls are planned to take: something else may want some meanwhile."""

FAR = 1.25
"""What is estimated to need so many times the memory that is free is not tried. On a processor the system would end the
whole studio; a graphics card says no, and nothing is lost."""

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Needs:
    """What calls of a manager's models take, and whether there is so much. The engine's thread alone."""

    def __init__(self, models: Manager) -> None:
        self._models, self._device = models, models.device
        self._right: weakref.WeakKeyDictionary[Any, dict[str, float]] = weakref.WeakKeyDictionary()

    def step(self, model: Any, pixels: int, nets: int = 0) -> int:
        """Bytes that one sample of a picture of so many pixels takes in a call of the denoiser.

        nets: how many ControlNets work beside it, each half as large.
        """
        return int(self._known(model, "step") * _step(model, pixels) * (1 + nets / 2))

    def picture(self, model: Any, pixels: int) -> int:
        """Bytes that the autoencoder takes to draw a picture; to read one it takes less."""
        return int(self._known(model, "picture") * _picture(model, pixels))

    def room(self, need: int, most: int) -> int:
        """How many that need so many bytes each may share a call now: 1 to `most`."""
        if need * most <= LARGE:
            return most
        return max(1, min(most, int(SHARE * self._models.memory().free / need)))

    def fit(self, need: int, share: float = SHARE) -> bool:
        """Whether there are so many bytes within this share of what is free.

        A graphics card is always tried: it says no by itself, and parts that lie on it now may leave.
        """
        if need <= LARGE or self._models.device.type == "cuda":
            return True
        return need <= share * self._models.memory().free

    def refuse(self, what: str, need: int) -> None:
        """Raise OutOfMemory if there is far too little for what would be done."""
        if not self.fit(need, FAR):
            raise OutOfMemory(
                f"{what} needs about {need / 1e9:.1f} GB of memory, and {self._models.memory().free / 1e9:.1f} GB are "
                "free. Close other programs or choose a smaller size, then continue."
            )

    @contextmanager
    def watched(self, model: Any, what: str, bytes: int) -> Iterator[None]:
        """Learn from the work inside, for which `bytes` are expected. what: "step", or "picture" for drawing one."""
        before = _reset(self._device) if bytes > LARGE else None
        yield
        if before is not None:
            took = (_peak(self._device) - before) / bytes * self._known(model, what)
            # What was seen to be needed once is forgotten slowly: memory that was lying ready is not seen.
            took = max(took, 0.9 * self._known(model, what))
            self._right.setdefault(model, {})[what] = min(max(took, RIGHT[0]), RIGHT[1])

    def _known(self, model: Any, what: str) -> float:
        return self._right.get(model, {}).get(what, 1.0)


def _step(model: Any, pixels: int) -> int:
    parts = getattr(model, "parts", vars(model))
    if unet := parts.get("unet"):
        levels = (getattr(model.vae, "config", None) or {}).get("block_out_channels") or (0,)
        return UNET * _width(unet, "unet") * (pixels // 4 ** (len(levels) - 1)) * model.dtype.itemsize
    # Nearly all transformers read a token for each 16 x 16 pixels.
    return TRANSFORMER * _width(parts.get("transformer"), "transformer") * (pixels // 256) * model.dtype.itemsize


def _picture(model: Any, pixels: int) -> int:
    vae = model.vae
    if vae is None:
        return 0
    times = TINY if "Tiny" in type(vae).__name__ else AUTOENCODER
    return times * _width(vae, "vae") * pixels * getattr(vae, "dtype", model.dtype).itemsize


def _width(part: Any, kind: str) -> int:
    """Channels where there are the most places: at the resolution of latents, tokens or pixels."""
    config = getattr(part, "config", None) or {}
    if channels := config.get("block_out_channels"):
        return int(channels[0])
    heads, each = config.get("num_attention_heads"), config.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(each, int):
        return heads * each
    return int(config.get("dim") or config.get("hidden_size") or WIDTHS[kind])


def _reset(device: torch.device) -> int | None:
    """Bytes in use now, from which on the highest are noted; None where that cannot be known."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu" or sys.platform != "linux":
        return None
    try:
        _REFERENCES.write_text("5")  # see proc(5)
        return _status("VmRSS")
    except (OSError, ValueError):
        return None


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    """Bytes of a line in /proc/self/status. Raises ValueError if there is none."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(name)
