"""What the worker asks of a loaded model, whatever its architecture.

A family is one subclass of `Model` in one file: facts about its folders, and the calls encode, predict, decode.
Nothing outside a family's file branches on its name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio import previews
from studio.recipe import Recipe
from studio.samplers import Sampler

PROMPTS_CACHED = 128
"""Encoded prompts kept for each loaded model; a prompt of 77 tokens takes 0.1 to 4 MB."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a family knows of a folder from its configs alone.

    width, height: pixels the model was trained for. multiple: what a side must be divisible by.
    """

    width: int
    height: int
    multiple: int
    steps: int
    guidance_scale: float
    sampler: str
    negative_prompt: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One job's part of a shared model call: its input (1, c, h, w), timestep (0-d, CPU), prompts and guidance.

    beside: what the model reads beside its input, (1, c', h, w), as `Model.beside` gave it.
    """

    model_input: Tensor
    timestep: Tensor
    prompts: "Prompts"
    guidance_scale: float
    beside: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Prompts:
    """Encoded prompts. `key` is equal for those that can stand in one call together."""

    positive: Any
    negative: Any
    key: tuple


class Model(ABC):
    """A checkpoint on its device. Only the engine's thread calls it.

    parts: the diffusers folder's components by name, on `device`, in `dtype`.
    """

    family: ClassVar[str]
    pipelines: ClassVar[frozenset[str]]
    """The `_class_name`s in model_index.json that this family runs."""
    samplers: ClassVar[Mapping[str, tuple[str, dict]]]
    needed: ClassVar[tuple[str, ...]]
    """The parts to load; others in the folder (safety checkers, feature extractors) are left on disk."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.vae = parts["vae"]
        self.scheduler_config: Mapping[str, Any] = parts["scheduler"]
        # One instance's cache: it leaves with the model.
        self.encode = lru_cache(PROMPTS_CACHED)(self._encode)
        self.projection = previews.fit(self._encode_pictures, self.vae_factor).to(device)

    @classmethod
    @abstractmethod
    def facts(cls, folder: Path) -> Facts:
        """Sizes and good defaults, read from the folder's JSON files. May raise KeyError, ValueError, OSError."""

    @abstractmethod
    def _encode(self, prompt: str, negative_prompt: str, guided: bool) -> Prompts:
        """Encode both prompts; the negative one only if `guided`."""

    @abstractmethod
    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        """One call for all rows: each one's output with its own guidance, (1, c, h, w) float32."""

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        return self.vae.config.latent_channels

    def guided(self, recipe: Recipe) -> bool:
        """Whether the model is called with the negative prompt too: a guidance scale of 1 needs no second row."""
        return recipe.guidance_scale != 1

    def sampler(self, recipe: Recipe) -> Sampler:
        """A fresh sampler for a job."""
        return Sampler(self.samplers, recipe.sampler, self.scheduler_config, recipe.steps, run=recipe.steps_run)

    def noise(self, recipe: Recipe, generator: torch.Generator) -> Tensor:
        """Unit noise (1, c, h, w) float32, drawn on the CPU, so that a seed means the same on every device."""
        shape = (1, self.latent_channels, recipe.height // self.vae_factor, recipe.width // self.vae_factor)
        return torch.randn(shape, generator=generator).to(self.device)

    def encode_picture(self, picture: Image.Image) -> Tensor:
        """Latents (1, c, h, w) float32 of an RGB picture whose sides the model can take."""
        return self._encode_pictures(to_pixels(picture)).float()

    def beside(self, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None) -> Tensor | None:
        """What `predict` shall be given beside the latents of a job: nothing, for most models.

        picture: RGB of the recipe's size, what the job starts from. mask: of the same size, 255 where it changes.
        """
        return None

    def decode(self, latents: Tensor) -> Image.Image:
        """The picture of latents (1, c, h, w)."""
        config = self.vae.config
        latents = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0)
        pixels = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0][0].float()
        pixels = (pixels / 2 + 0.5).clamp(0, 1).permute(1, 2, 0)
        return Image.fromarray((pixels * 255).round().to(torch.uint8).cpu().numpy())

    def _encode_pictures(self, pictures: Tensor) -> Tensor:
        """Latents, as the sampler sees them, of pictures (n, 3, H, W) in -1..1."""
        config = self.vae.config
        encoded = self.vae.encode(pictures.to(self.device, self.vae.dtype))
        # A KL autoencoder answers with a distribution, a tiny one with the latents themselves.
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return (latents - (getattr(config, "shift_factor", None) or 0)) * config.scaling_factor


def to_pixels(picture: Image.Image) -> Tensor:
    """(1, 3, h, w) float32 in -1..1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
