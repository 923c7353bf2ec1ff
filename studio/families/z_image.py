"""Z-Image: a transformer of one stream, in which picture and prompt stand in one sequence, and a Qwen3 that reads.

Base and Turbo (Cai et al., arXiv:2511.22699).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.families.base import Row, called, guided, sides, size_shift
from studio.families.family import Facts
from studio.families.language_models import ReadByLanguageModel, asked
from studio.families.samplers import Sampler
from studio.files.folders import read_json
from studio.files.identity.identify import Identity
from studio.recipe.recipe import Recipe

TOKENS = 512
"""The longest prompt, with the template around it."""


class ZImage(ReadByLanguageModel):
    """The guidance scale counts as the model's makers count: 0 is off, and s moves s times the way again."""

    family = "Z-Image"
    pipelines = frozenset({"ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline"})
    counted = ("tokenizer", TOKENS)
    distillations = ("turbo",)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        factor = 2 ** (len(read_json(folder / "vae" / "config.json")["block_out_channels"]) - 1)
        side = 128 * factor
        # The configs of Turbo and base differ only in the schedule's shift: 3 and 6.
        shift = read_json(folder / "scheduler" / "scheduler_config.json").get("shift", 3.0)
        if shift <= 3 or called(folder, "turbo"):
            return Facts(side, side, 2 * factor, steps=8, guidance_scale=0.0, sampler="Euler")
        return Facts(side, side, 2 * factor, steps=50, guidance_scale=4.0, sampler="Euler")

    @classmethod
    def suited(cls, facts: Facts, identity: Identity) -> Facts:
        """Turbo: 8 steps without guidance; the base: 50 steps and a scale of 4 (their model cards on the hub)."""
        if identity.distilled:
            return replace(facts, steps=identity.steps, guidance_scale=0.0)
        return replace(facts, steps=50, guidance_scale=4.0)

    @classmethod
    def scheduled(cls, config: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
        """Turbo's published schedule shifts by 3, and the base's by 6 (`scheduler_config.json` of Tongyi-MAI's two)."""
        is_base = identity.base and not identity.distilled
        return {**config, "shift": 6.0} if is_base else {**config}

    def guided(self, recipe: Recipe) -> bool:
        return recipe.guidance_scale > 0

    def sampler(self, recipe: Recipe) -> Sampler:
        tokens = (recipe.width // self.vae_factor // 2) * (recipe.height // self.vae_factor // 2)
        config = self._timetable(recipe)
        return self._sampler(recipe, config, size_shift(config, tokens))

    def _read(self, text: str) -> Tensor:
        """(n, width): the hidden states before the last layer, as many as the prompt and the template have tokens."""
        ids = self.tokenizer(asked(self.tokenizer, text, thinking=True), verbose=False).input_ids
        self._check_length(len(ids))
        return self._hidden_states(ids)[-2][0].to(self.device, self.dtype)

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        both = sides(rows)
        # The model's time runs from noise at 0 to the picture at 1, and it takes frames and prompts of any lengths.
        time = 1 - torch.stack([row.timestep for row, _ in both]) / 1000
        outputs = self.transformer(
            [row.model_input[0, :, None].to(self.dtype) for row, _ in both],
            time.to(self.device, non_blocking=True),
            [words for _, words in both],
            return_dict=False,
        )[0]
        towards = [-each.float()[None, :, 0] for each in outputs]
        return guided(rows, towards, lambda positive, negative, scale: positive + scale * (positive - negative))
