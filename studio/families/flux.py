"""FLUX.1: a transformer on packed latents, trained by flow matching, with guidance as an input of the model.

dev (guidance distilled into an embedding), schnell (no guidance, few steps) and Fill (which reads the masked picture).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from studio.errors import RecipeError
from studio.families import samplers
from studio.families.base import Model, Prompts, Row, hidden_part, size_shift
from studio.families.family import Facts
from studio.families.samplers import Sampler
from studio.files.folders import read_json
from studio.recipe.recipe import Recipe
from studio.words.tags import Lora

T5_TOKENS = 512
"""What the model was trained with; dev and schnell differ only in how many they are usually given."""


class Flux(Model):
    family = "FLUX.1"
    pipelines = frozenset({"FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline", "FluxFillPipeline"})
    samplers = samplers.FLOW
    counted = ("tokenizer_2", T5_TOKENS)
    needed = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "transformer", "vae", "scheduler")

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.clip, self.clip_tokenizer = parts["text_encoder"], parts["tokenizer"]
        self.t5, self.t5_tokenizer = parts["text_encoder_2"], parts["tokenizer_2"]
        self.transformer = parts["transformer"]
        super().__init__(parts, device, dtype)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        vae = read_json(folder / "vae" / "config.json")
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        config = read_json(folder / "transformer" / "config.json")
        steps, guidance = (28, 3.5) if config.get("guidance_embeds", False) else (4, 3.5)
        if config["in_channels"] > 4 * vae["latent_channels"]:
            steps, guidance = 50, 30.0
        side = 128 * factor
        return Facts(side, side, 2 * factor, steps, guidance, sampler="Euler", negative_prompt=False)

    def guided(self, recipe: Recipe) -> bool:
        return False

    def sampler(self, recipe: Recipe) -> Sampler:
        tokens = (recipe.width // self.vae_factor // 2) * (recipe.height // self.vae_factor // 2)
        config = self._timetable(recipe)
        return self._sampler(recipe, config, size_shift(config, tokens))

    def beside(self, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None) -> Tensor | None:
        """For Fill: the latents of the picture without what is masked, and the mask, its pixels as channels.

        Without a mask everything counts as masked: so Fill draws from words alone too.
        """
        if self.transformer.config.in_channels == 4 * self.latent_channels:
            return None
        covered, pixels = hidden_part(recipe, picture, mask)
        latents = self._encode_pictures(pixels).float()
        return torch.cat([latents, F.pixel_unshuffle(covered, self.vae_factor).to(latents.device)], 1)

    def _encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple[Lora, ...] = ()
    ) -> Prompts:
        ids = self.t5_tokenizer(prompt, verbose=False).input_ids
        if len(ids) > T5_TOKENS:
            raise RecipeError(f"FLUX.1 reads prompts of up to {T5_TOKENS} tokens, and this has {len(ids)}. Shorten it.")
        padded = ids + [self.t5_tokenizer.pad_token_id] * (T5_TOKENS - len(ids))
        words = self.t5(torch.tensor([padded], device=self.device))[0].to(self.dtype)
        # CLIP gives only a summary of the prompt, for which its first 77 tokens do: T5 reads every word.
        clip = self.clip_tokenizer(
            prompt, padding="max_length", truncation=True, max_length=self.clip_tokenizer.model_max_length
        ).input_ids
        summary = self.clip(torch.tensor([clip], device=self.device)).pooler_output.to(self.dtype)
        return Prompts((words, summary), None, ())

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        height, width = rows[0].model_input.shape[-2:]
        words = torch.cat([row.prompts.positive[0] for row in rows])
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.tensor([row.guidance_scale for row in rows], device=self.device)
        outputs = self.transformer(
            hidden_states=pack(torch.cat([_given(row) for row in rows])).to(self.dtype),
            timestep=torch.stack([row.timestep for row in rows]).to(self.device, self.dtype) / 1000,
            guidance=guidance,
            pooled_projections=torch.cat([row.prompts.positive[1] for row in rows]),
            encoder_hidden_states=words,
            txt_ids=torch.zeros(words.shape[1], 3, device=self.device, dtype=self.dtype),
            img_ids=self._places(height // 2, width // 2),
            return_dict=False,
        )[0]
        return list(unpack(outputs.float(), height, width).split(1))

    def _places(self, height: int, width: int) -> Tensor:
        """(height * width, 3): nothing, row and column of each packed latent, for the rotary embedding."""
        places = torch.zeros(height, width, 3, device=self.device, dtype=self.dtype)
        places[..., 1] += torch.arange(height, device=self.device)[:, None]
        places[..., 2] += torch.arange(width, device=self.device)[None, :]
        return places.reshape(-1, 3)


def _given(row: Row) -> Tensor:
    return row.model_input if row.beside is None else torch.cat([row.model_input, row.beside], 1)


def pack(latents: Tensor) -> Tensor:
    """b c (h 2) (w 2) → b (h w) (c 2 2): each token is a 2x2 block of latents."""
    b, c, h, w = latents.shape
    return latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """b (h w) (c 2 2) → b c (h 2) (w 2), where height and width are those of the result."""
    b, _, c = tokens.shape
    blocks = tokens.reshape(b, height // 2, width // 2, c // 4, 2, 2)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, height, width)
