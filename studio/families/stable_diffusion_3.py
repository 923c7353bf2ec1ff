"""Stable Diffusion 3 and 3.5: a transformer that reads two CLIPs and a T5, trained by flow matching.

Medium, Large and Large Turbo (Esser et al., arXiv:2403.03206). The T5 takes more memory than all else together, and
the model was trained to do without: a folder that lacks it is read with zeros in its place.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from studio.errors import RecipeError
from studio.families import samplers
from studio.families.base import Model, Prompts, Row, called, guided, sides, size_shift
from studio.families.family import Facts
from studio.families.samplers import Sampler
from studio.files.folders import read_json
from studio.recipe.recipe import Recipe
from studio.words.tags import Lora

T5_LENGTHS = (256, 512)
"""Tokens that T5 is given, filled up: the first that is enough. The model was trained with up to 256."""


class StableDiffusion3(Model):
    family = "Stable Diffusion 3"
    pipelines = frozenset(
        {"StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"}
    )
    samplers = samplers.FLOW
    counted = ("tokenizer_3", T5_LENGTHS[-1])
    needed = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "transformer", "vae", "scheduler")
    optional = ("tokenizer_3", "text_encoder_3")

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.tokenizers = parts["tokenizer"], parts["tokenizer_2"]
        self.clips = parts["text_encoder"], parts["text_encoder_2"]
        self.t5_tokenizer: Any = parts.get("tokenizer_3")
        self.t5: Any = parts.get("text_encoder_3") if self.t5_tokenizer else None
        self.transformer = parts["transformer"]
        super().__init__(parts, device, dtype)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        factor = 2 ** (len(read_json(folder / "vae" / "config.json")["block_out_channels"]) - 1)
        config = read_json(folder / "transformer" / "config.json")
        # Large has 38 layers. Of the two Medium ones with 24, only that of 3.5 attends twice in some.
        steps, guidance = 28, 7.0
        if config["num_layers"] > 24:
            guidance = 3.5
        elif config.get("dual_attention_layers"):
            steps, guidance = 40, 4.5
        if called(folder, "turbo"):
            steps, guidance = 4, 1.0
        side = config["sample_size"] * factor
        return Facts(side, side, config["patch_size"] * factor, steps, guidance, sampler="Euler")

    def guided(self, recipe: Recipe) -> bool:
        return recipe.guidance_scale > 1

    def sampler(self, recipe: Recipe) -> Sampler:
        tokens = self._tokens(recipe.width) * self._tokens(recipe.height)
        config = self._timetable(recipe)
        return self._sampler(recipe, config, size_shift({"max_shift": 1.16, **config}, tokens), spaced=False)

    def noise(self, recipe: Recipe, generator: torch.Generator) -> Tensor:
        most = self.transformer.config.pos_embed_max_size
        if max(self._tokens(recipe.width), self._tokens(recipe.height)) > most:
            side = most * self.transformer.config.patch_size * self.vae_factor
            raise RecipeError(
                f"{recipe.width}x{recipe.height} is more than this model can place. Take at most {side} pixels a side."
            )
        return super().noise(recipe, generator)

    def _tokens(self, side: int) -> int:
        return side // self.vae_factor // self.transformer.config.patch_size

    def _encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple[Lora, ...] = ()
    ) -> Prompts:
        texts = [prompt, negative_prompt] if guided else [prompt]
        length = max(self._t5_length(text) for text in texts)
        encoded = [self._read(text, length) for text in texts]
        return Prompts(encoded[0], encoded[1] if guided else None, (length,))

    def _t5_length(self, text: str) -> int:
        if self.t5 is None:
            tokens, most = len(self.tokenizers[0](text, verbose=False).input_ids), self.tokenizers[0].model_max_length
            fits = [T5_LENGTHS[0]] if tokens <= most else []
        else:
            tokens, most = len(self.t5_tokenizer(text, verbose=False).input_ids), T5_LENGTHS[-1]
            fits = [length for length in T5_LENGTHS if tokens <= length]
        if not fits:
            without = "" if self.t5 else " without its T5 encoder"
            raise RecipeError(
                f"Stable Diffusion 3{without} reads prompts of up to {most} tokens, and this has {tokens}. Shorten it."
            )
        return fits[0]

    def _read(self, text: str, length: int) -> tuple[Tensor, Tensor]:
        """Hidden states (1, n, width) of CLIP and T5 one after the other, and the summary (1, width) of both CLIPs."""
        hidden, summaries = [], []
        for tokenizer, clip in zip(self.tokenizers, self.clips, strict=True):
            # With T5 to read all of it, it does that each CLIP reads the beginning.
            ids = tokenizer(
                text, padding="max_length", truncation=True, max_length=self.tokenizers[0].model_max_length
            ).input_ids
            found = clip(torch.tensor([ids], device=self.device), output_hidden_states=True)
            hidden.append(found.hidden_states[-2])
            summaries.append(found[0])
        width = self.transformer.config.joint_attention_dim
        short = torch.cat(hidden, -1).to(self.device, self.dtype)
        words = torch.cat([F.pad(short, (0, width - short.shape[-1])), self._t5_words(text, length, width)], 1)
        return words, torch.cat(summaries, -1).to(self.device, self.dtype)

    def _t5_words(self, text: str, length: int, width: int) -> Tensor:
        if self.t5 is None:
            return torch.zeros(1, length, width, device=self.device, dtype=self.dtype)
        ids = self.t5_tokenizer(text, padding="max_length", max_length=length).input_ids
        return self.t5(torch.tensor([ids], device=self.device))[0].to(self.device, self.dtype)

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        both = sides(rows)
        outputs = self.transformer(
            hidden_states=torch.cat([row.model_input for row, _ in both]).to(self.dtype),
            timestep=torch.stack([row.timestep for row, _ in both]).to(self.device, non_blocking=True),
            encoder_hidden_states=torch.cat([words for _, (words, _) in both]),
            pooled_projections=torch.cat([summary for _, (_, summary) in both]),
            return_dict=False,
        )[0]
        return guided(rows, outputs.float().split(1))
