"""Qwen-Image: a transformer that reads the last layer of Qwen2.5-VL, and a video autoencoder that draws one frame.

Wu et al., arXiv:2508.02324.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from studio.families.base import Row, called, guided, sides, size_shift
from studio.families.family import Facts
from studio.families.flux import pack, unpack
from studio.families.language_models import ReadByLanguageModel
from studio.families.samplers import Sampler
from studio.files.folders import read_json
from studio.files.identity.identify import Identity
from studio.recipe.recipe import Recipe

TOKENS = 1024
"""The longest prompt."""

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""What the model was trained with around each prompt, and how many tokens of it, at its beginning, it never saw."""
TEMPLATE_TOKENS = 34


class QwenImage(ReadByLanguageModel):
    family = "Qwen-Image"
    pipelines = frozenset({"QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"})
    counted = ("tokenizer", TOKENS)
    distillations = ("lightning",)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        factor = 2 ** len(read_json(folder / "vae" / "config.json")["temperal_downsample"])
        side = 166 * factor
        if called(folder, "lightning"):
            return Facts(side, side, 2 * factor, 8, 1.0, sampler="Euler")
        return Facts(side, side, 2 * factor, steps=50, guidance_scale=4.0, sampler="Euler")

    @classmethod
    def scheduled(cls, config: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
        """Lightning was distilled at a shift of 3, whatever the size (the card of lightx2v/Qwen-Image-Lightning)."""
        if identity.distilled != "lightning":
            return {**config}
        return {**config, "base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": None}

    @property
    def vae_factor(self) -> int:
        return 2 ** len(self.vae.config.temperal_downsample)

    @property
    def latent_channels(self) -> int:
        return self.vae.config.z_dim

    def guided(self, recipe: Recipe) -> bool:
        return recipe.guidance_scale > 1

    def sampler(self, recipe: Recipe) -> Sampler:
        tokens = (recipe.width // self.vae_factor // 2) * (recipe.height // self.vae_factor // 2)
        config = dict(self._timetable(recipe))
        if recipe.steps == 1:
            config["shift_terminal"] = None  # one step cannot both begin and end where the config says
        return self._sampler(recipe, config, size_shift(config, tokens))

    def _vae_encode(self, pictures: Tensor) -> Tensor:
        return super()._vae_encode(pictures[:, :, None])[:, :, 0]

    def _vae_decode(self, latents: Tensor) -> Tensor:
        return super()._vae_decode(latents[:, :, None])[:, :, 0]

    def _read(self, text: str) -> Tensor:
        """(1, n, width): as many tokens as the prompt and the rest of the template have."""
        ids = self.tokenizer(TEMPLATE.format(text), verbose=False).input_ids
        self._check_length(len(ids) - TEMPLATE_TOKENS)
        return self._hidden_states(ids)[-1][:, TEMPLATE_TOKENS:].to(self.device, self.dtype)

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        both = sides(rows)
        height, width = rows[0].model_input.shape[-2:]
        words, mask = _filled([words for _, words in both])
        outputs = self.transformer(
            hidden_states=pack(torch.cat([row.model_input for row, _ in both])).to(self.dtype),
            timestep=torch.stack([row.timestep for row, _ in both]).to(self.device, self.dtype) / 1000,
            encoder_hidden_states=words,
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, height // 2, width // 2)]] * len(both),
            return_dict=False,
        )[0]
        return [unpack(each, height, width) for each in guided(rows, outputs.float().split(1), _guide)]


def _guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Guidance that leaves each token (1, n, c) as long as the positive prompt made it."""
    moved = negative + scale * (positive - negative)
    return moved * (positive.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True))


def _filled(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Prompts (1, n, width) of any lengths as one (rows, longest, width), and where it holds them if they differ."""
    lengths = [each.shape[1] for each in prompts]
    longest = max(lengths)
    filled = torch.cat([F.pad(each, (0, 0, 0, longest - each.shape[1])) for each in prompts])
    if min(lengths) == longest:
        return filled, None
    there = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return filled, there.to(filled.device)
