"""FLUX.2: a transformer on latents of 2x2 patches, which reads layers from within a language model.

Klein (4B and 9B, distilled and base) with a Qwen3, and dev with a Mistral 3 and guidance as an input of the model.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from studio.compat import of_diffusers
from studio.families.base import Row, guided, sides
from studio.families.family import Facts
from studio.families.language_models import ReadByLanguageModel, asked
from studio.families.samplers import Sampler
from studio.files.folders import read_json
from studio.files.identity.identify import Identity
from studio.recipe.recipe import Recipe

TOKENS = 512
"""The prompt's length, filled up. The model attends to the filling, so it is never left out."""

REFERENCE_TIME = 10
"""Where a picture beside the latents stands on the axis of time."""


class Flux2(ReadByLanguageModel):
    family = "FLUX.2"
    pipelines = frozenset({"Flux2KleinPipeline", "Flux2KleinInpaintPipeline", "Flux2Pipeline"})
    counted = ("tokenizer", TOKENS)
    distillations = ("klein",)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        factor = 2 ** (len(read_json(folder / "vae" / "config.json")["block_out_channels"]) - 1)
        side, multiple = 128 * factor, 2 * factor
        if read_json(folder / "transformer" / "config.json").get("guidance_embeds", True):
            return Facts(side, side, multiple, 50, 4.0, sampler="Euler", negative_prompt=False)
        if read_json(folder / "model_index.json").get("is_distilled"):
            return Facts(side, side, multiple, 4, 1.0, sampler="Euler", negative_prompt=False)
        return Facts(side, side, multiple, 50, 4.0, sampler="Euler")

    @classmethod
    def suited(cls, facts: Facts, identity: Identity) -> Facts:
        """Klein in 4 steps without guidance, unless it is a base model: 50 steps, a scale of 4 (their model cards)."""
        if identity.distilled:
            return replace(facts, steps=identity.steps, guidance_scale=1.0, negative_prompt=False)
        return replace(facts, steps=50, guidance_scale=4.0, negative_prompt=True)

    @property
    def vae_factor(self) -> int:
        return 2 * super().vae_factor

    @property
    def latent_channels(self) -> int:
        return 4 * super().latent_channels

    @property
    def _is_dev(self) -> bool:
        return self.transformer.config.guidance_embeds

    def guided(self, recipe: Recipe) -> bool:
        return not self._is_dev and recipe.guidance_scale > 1

    def sampler(self, recipe: Recipe) -> Sampler:
        tokens = (recipe.width // self.vae_factor) * (recipe.height // self.vae_factor)
        config = self._timetable(recipe)
        shift = of_diffusers.flux2_mu(tokens, recipe.steps) if config.get("use_dynamic_shifting") else None
        return self._sampler(recipe, config, shift)

    def _vae_encode(self, pictures: Tensor) -> Tensor:
        return F.pixel_unshuffle(super()._vae_encode(pictures), 2)

    def _vae_decode(self, latents: Tensor) -> Tensor:
        return super()._vae_decode(F.pixel_shuffle(latents, 2))

    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Those of a batch norm that was trained with the autoencoder."""
        norm = self.vae.bn
        spread = (norm.running_var.float() + self.vae.config.batch_norm_eps).sqrt()
        return norm.running_mean.float().reshape(1, -1, 1, 1), spread.reshape(1, -1, 1, 1)

    def beside(self, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None) -> Tensor | None:
        """For inpainting, the picture itself: the model was trained to edit what it is shown."""
        return self.encode_picture(picture) if picture and mask else None

    def _read(self, text: str) -> Tensor:
        """(1, TOKENS, 3 * width): the hidden states at a quarter, a half and three quarters of the language model."""
        ids = self._tokens(text)
        self._check_length(len(ids))
        filled = self.tokenizer.pad({"input_ids": ids}, padding="max_length", max_length=TOKENS)
        states = self._hidden_states(filled["input_ids"], filled["attention_mask"])
        layers = len(states) - 1
        chosen = [states[layers * part // 4] for part in (1, 2, 3)]
        return torch.cat(chosen, -1).to(self.device, self.dtype)

    def _tokens(self, text: str) -> list[int]:
        if self._is_dev:
            # The template is one for pictures and text, and takes messages in parts.
            parts = [("system", of_diffusers.flux2_system_message()), ("user", text.replace("[IMG]", ""))]
            messages = [{"role": role, "content": [{"type": "text", "text": each}]} for role, each in parts]
            return self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        return self.tokenizer(asked(self.tokenizer, text, thinking=False), verbose=False).input_ids

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        # What is shown a picture has more tokens, and cannot stand in one call with what isn't.
        results: dict[int, Tensor] = {}
        for shown in (False, True):
            numbers = [number for number, row in enumerate(rows) if (row.beside is not None) == shown]
            if numbers:
                results.update(zip(numbers, self._predict([rows[number] for number in numbers]), strict=True))
        return [results[number] for number in range(len(rows))]

    def _predict(self, rows: Sequence[Row]) -> list[Tensor]:
        both = sides(rows)
        height, width = rows[0].model_input.shape[-2:]
        tokens, places = [torch.cat([row.model_input for row, _ in both])], [_places(0, height, width)]
        if rows[0].beside is not None:
            tokens.append(torch.cat([row.beside for row, _ in both if row.beside is not None]))
            places.append(_places(REFERENCE_TIME, height, width))
        guidance = None
        if self._is_dev:
            guidance = torch.tensor([row.guidance_scale for row, _ in both], device=self.device)
        outputs = self.transformer(
            hidden_states=torch.cat([each.flatten(2).transpose(1, 2) for each in tokens], 1).to(self.dtype),
            timestep=torch.stack([row.timestep for row, _ in both]).to(self.device, self.dtype) / 1000,
            guidance=guidance,
            encoder_hidden_states=torch.cat([words for _, words in both]),
            txt_ids=torch.cartesian_prod(*map(torch.arange, (1, 1, 1, TOKENS))).to(self.device),
            img_ids=torch.cat(places).to(self.device),
            return_dict=False,
        )[0]
        drawn = outputs[:, : height * width].float().transpose(1, 2).unflatten(2, (height, width))
        return guided(rows, drawn.split(1))


def _places(time: int, height: int, width: int) -> Tensor:
    """(height * width, 4): time, row, column and place in the text of each patch, for the rotary embedding."""
    return torch.cartesian_prod(torch.tensor([time]), torch.arange(height), torch.arange(width), torch.arange(1))
