"""Stable Diffusion XL: base, turbo, lightning and inpainting checkpoints, and the refiner.

Two text encoders side by side, a summary of the prompt, and the size of the picture as inputs of the UNet (Podell et
al., arXiv:2307.01952).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from studio.families import clip
from studio.families.base import Prompts, Row
from studio.families.clip import Clip
from studio.families.family import Facts
from studio.families.stable_diffusion import StableDiffusion
from studio.files.folders import read_json
from studio.recipe.recipe import AUTOMATIC
from studio.words import prompts

_FAST = {"LCMScheduler": "LCM", "EulerAncestralDiscreteScheduler": "Euler a", "EulerDiscreteScheduler": "Euler"}
"""Schedulers that distilled checkpoints name, and the samplers that are these."""


@dataclass(frozen=True, slots=True)
class Words:
    """A prompt as the UNet reads it: hidden states (1, n, width), summary (1, width) and, for the refiner, a score."""

    hidden: Tensor
    pooled: Tensor
    score: float = 0.0


class StableDiffusionXL(StableDiffusion):
    family = "Stable Diffusion XL"
    pipelines = frozenset({"StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"})
    needed: ClassVar[tuple[str, ...]] = (
        "tokenizer",
        "tokenizer_2",
        "text_encoder",
        "text_encoder_2",
        "unet",
        "vae",
        "scheduler",
    )
    scores: ClassVar[tuple[float, float]] = (0.0, 0.0)
    """The aesthetic scores asked for with the prompt and with the negative prompt, where the UNet has such an input."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        names = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
        # As in every diffusers folder of this kind, unless it says otherwise.
        self.zero_when_empty = parts.get("model_index", {}).get("force_zeros_for_empty_prompt", True)
        self.readers = [Clip(parts[one], parts[two], device, layer=1) for one, two in names if two in parts]
        filled = {name: parts.get(name, parts[f"{name}_2"]) for name in ("tokenizer", "text_encoder")}
        super().__init__({**parts, **filled}, device, dtype)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        factor = 2 ** (len(read_json(folder / "vae" / "config.json")["block_out_channels"]) - 1)
        side = read_json(folder / "unet" / "config.json")["sample_size"] * factor
        scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
        kind = scheduler.get("_class_name", "")
        # Turbo and lightning checkpoints begin at the last timestep, and so do those trained to zero terminal SNR.
        fast = scheduler.get("timestep_spacing") == "trailing" and scheduler.get("prediction_type") != "v_prediction"
        if kind == "LCMScheduler" or (fast and kind in _FAST):
            return Facts(side, side, factor, steps=4, guidance_scale=1.0, sampler=_FAST[kind])
        # The published config's spacing, "leading", begins below the noise that was trained for: at 11 instead of 14.6.
        # A1111 and ComfyUI begin at the last timestep with whatever schedule.
        schedule = "Normal" if scheduler.get("timestep_spacing") == "leading" else AUTOMATIC
        return Facts(side, side, factor, steps=25, guidance_scale=6.0, sampler="DPM++ 2M", schedule=schedule)

    def _encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple = ()
    ) -> Prompts:
        texts, weights = zip(*prompts.composed(prompt), strict=True)
        found, count = clip.encode(
            self.readers, (*texts, negative_prompt)[: len(texts) + guided], self.dtype, clip_skip
        )
        words = [Words(each.hidden, each.pooled, self.scores[0]) for each in found[: len(texts)]]
        negative = Words(found[-1].hidden, found[-1].pooled, self.scores[1]) if guided else None
        if negative and self.zero_when_empty and not negative_prompt:
            nothing = torch.zeros_like(negative.hidden), torch.zeros_like(negative.pooled)
            negative = Words(*nothing, self.scores[1])
        return Prompts(words[0], negative, (count,), tuple(words[1:]), weights)

    def _conditioning(self, calls: Sequence[tuple[Row, Words]]) -> dict[str, Any]:
        sizes = torch.tensor([self._sizes(words, row) for row, words in calls], device=self.device, dtype=self.dtype)
        return {
            "encoder_hidden_states": torch.cat([words.hidden for _, words in calls]),
            "added_cond_kwargs": {
                "text_embeds": torch.cat([words.pooled for _, words in calls]),
                "time_ids": sizes,
            },
        }

    def _sizes(self, words: Words, row: Row) -> list[float]:
        """Height and width of the original, top and left of a crop, then those of the result: a whole picture."""
        height, width = (side * self.vae_factor for side in row.model_input.shape[-2:])
        return [height, width, 0, 0, height, width]


class StableDiffusionXLRefiner(StableDiffusionXL):
    """Finishes pictures, in image to image at a low strength. It has the second text encoder only."""

    family = "Stable Diffusion XL refiner"
    pipelines = frozenset({"StableDiffusionXLImg2ImgPipeline"})
    needed: ClassVar[tuple[str, ...]] = ("tokenizer_2", "text_encoder_2", "unet", "vae", "scheduler")
    counted = ("tokenizer_2", 0)
    scores = (6.0, 2.5)

    def _sizes(self, words: Words, row: Row) -> list[float]:
        height, width = (side * self.vae_factor for side in row.model_input.shape[-2:])
        return [height, width, 0, 0, words.score]
