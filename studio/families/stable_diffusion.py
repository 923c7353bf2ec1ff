"""Stable Diffusion 1.x and 2.x, and everything of their shape: a UNet that reads CLIP's hidden states.

Epsilon and v-prediction, any number of latent channels, KL and tiny autoencoders. The bundled model is one of these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from studio.families import clip, samplers
from studio.families.addons.controlnets import ControlNets
from studio.families.addons.guides import Guide
from studio.families.addons.ip_adapters import IpAdapters
from studio.families.base import Model, Prompts, Row, hidden_part, to_pixels
from studio.families.clip import Clip
from studio.families.family import Facts
from studio.files.addons import File
from studio.files.folders import read_json
from studio.files.identity.identify import Identity
from studio.recipe.recipe import AUTOMATIC, Control, Recipe
from studio.words import prompts
from studio.words.tags import Lora

DISTILLED = {
    "turbo": ("Euler a", AUTOMATIC),
    "lightning": ("Euler", AUTOMATIC),
    "hyper": ("DDIM", AUTOMATIC),
    "dmd": ("LCM", "Trailing"),
    "lcm": ("LCM", AUTOMATIC),
}
"""Kind of a distilled model → the sampler and schedule with which its makers draw; all begin at timestep 999.

Turbo: stabilityai/sdxl-turbo, scheduler/scheduler_config.json (Euler ancestral, trailing). Lightning: the card of
ByteDance/SDXL-Lightning (Euler, trailing). Hyper: the card of ByteDance/Hyper-SD (DDIM, trailing). DMD2: the card of
tianweiy/DMD2 (LCM at timesteps 999, 749, 499, 249). LCM: Luo et al., arXiv:2310.04378, and latent-consistency/lcm-sdxl.
"""


class StableDiffusion(Model):
    family = "Stable Diffusion"
    pipelines = frozenset(
        {"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"}
    )
    samplers = samplers.DIFFUSION
    reads_embeddings = skips_clip = rescales_guidance = takes_controls = True
    needed: ClassVar[tuple[str, ...]] = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
    weights = True
    distillations = tuple(DISTILLED)

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.tokenizer, self.text_encoder, self.unet = (
            parts["tokenizer"],
            parts["text_encoder"],
            parts["unet"],
        )
        super().__init__(parts, device, dtype)
        self.ip_adapters = IpAdapters(self.unet, device, dtype)
        self.controlnets = ControlNets(self.unet, self.latent_channels, device, dtype)
        # Plain guidance overexposes where the last timestep is pure noise: Lin et al., arXiv:2305.08891, section 3.4.
        self.guidance_rescale = 0.7 if self.scheduler_config.get("rescale_betas_zero_snr") else 0.0

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        factor = 2 ** (len(read_json(folder / "vae" / "config.json")["block_out_channels"]) - 1)
        side = read_json(folder / "unet" / "config.json")["sample_size"] * factor
        return Facts(side, side, factor, steps=25, guidance_scale=7.0, sampler="DPM++ 2M")

    @classmethod
    def suited(cls, facts: Facts, identity: Identity) -> Facts:
        """Few steps without guidance for distilled models, with the sampler that their makers draw with."""
        facts = super().suited(facts, identity)
        sampler, schedule = DISTILLED.get(identity.distilled, ("", AUTOMATIC))
        return replace(facts, sampler=sampler, schedule=schedule) if sampler else facts

    @classmethod
    def scheduled(cls, config: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
        """What the model predicts; and timesteps that begin at the last one for those that were trained for it.

        Zero terminal SNR makes the last timestep pure noise, and trailing spacing begins there (Lin et al.,
        arXiv:2305.08891, sections 3.1 and 3.3). For distilled models see DISTILLED.
        """
        result = {**config}
        if identity.prediction_type in ("epsilon", "v_prediction"):
            result["prediction_type"] = identity.prediction_type
        if identity.zero_snr:
            result["rescale_betas_zero_snr"] = True
        if identity.zero_snr or identity.distilled:
            result["timestep_spacing"] = "trailing"
        return result

    def _encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple[Lora, ...] = ()
    ) -> Prompts:
        texts, weights = zip(*prompts.composed(prompt), strict=True)
        reader = Clip(self.tokenizer, self.text_encoder, self.device)
        found, count = clip.encode([reader], (*texts, negative_prompt)[: len(texts) + guided], self.dtype, clip_skip)
        hidden = [each.hidden for each in found]
        more = tuple(hidden[1 : len(texts)])
        return Prompts(hidden[0], hidden[-1] if guided else None, (count,), more, weights)

    def beside(self, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None) -> Tensor | None:
        """For inpainting checkpoints of nine channels: the mask, and the latents of the picture without what is masked.

        Without a mask everything counts as masked: so such a checkpoint draws from words alone too.
        """
        if self.unet.config.in_channels != 2 * self.latent_channels + 1:
            return None
        covered, pixels = hidden_part(recipe, picture, mask)
        latents = self._encode_pictures(pixels).float()
        small = F.interpolate(covered, size=latents.shape[-2:])
        return torch.cat([small.to(latents.device), latents], 1)

    def guide(
        self, control: Control, file: File, name: str, picture: Image.Image, encoders: Sequence[Path] = ()
    ) -> Guide:
        given: Any
        note = ""
        if control.kind == "ip-adapter":
            given = self.ip_adapters.read(file, control.picture, picture, name, encoders)
        else:
            note = self.controlnets.use(file, name).unused
            given = to_pixels(picture) / 2 + 0.5
        return Guide(file, name, control.kind, control.weight, control.start, control.end, given, note)

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        calls = [(row, prompt) for row in rows for prompt in row.prompts.all]
        sample = torch.cat([row.model_input for row, _ in calls]).to(self.dtype)
        timesteps = torch.stack([row.timestep for row, _ in calls]).to(self.device, non_blocking=True)
        conditioning = self._conditioning(calls)
        nets, adapters = ([_of_kind(row, kind) for row, _ in calls] for kind in ("controlnet", "ip-adapter"))
        residuals = self.controlnets.residuals(nets, sample, timesteps, conditioning)
        self.ip_adapters.use(adapters[0])
        if adapters[0]:
            embeddings = self.ip_adapters.embeddings(
                adapters, [prompt is row.prompts.negative for row, prompt in calls]
            )
            added = {**conditioning.get("added_cond_kwargs", {}), "image_embeds": embeddings}
            conditioning = {**conditioning, "added_cond_kwargs": added}
        if rows[0].beside is not None:
            sample = torch.cat([sample, torch.cat([row.beside for row, _ in calls if row.beside is not None])], 1)
        outputs = self.unet(sample.to(self.dtype), timesteps, **conditioning, **residuals, return_dict=False)[0]
        left = iter(outputs.float().split(1))
        return [self._guide(row, [next(left) for _ in row.prompts.all]) for row in rows]

    def _conditioning(self, calls: Sequence[tuple[Row, Any]]) -> dict[str, Any]:
        """What the UNet and its ControlNets are told of the prompts.

        calls: the row and its encoded prompt (`Prompts.positive` or `negative`) for each sample of the UNet's batch.
        """
        return {"encoder_hidden_states": torch.cat([prompt for _, prompt in calls])}

    def _guide(self, row: Row, outputs: list[Tensor]) -> Tensor:
        """What guidance makes of the outputs for each of a row's prompts (`Prompts.all`).

        Several prompts guide as in composable diffusion (Liu et al., arXiv:2206.01714, equation 11, whose weights
        include the scale): away from the negative one by scale * sum of weight * (positive - negative). Without
        guidance it is the weighted mean of theirs.
        """
        weights = row.prompts.weights
        if row.prompts.negative is None:
            return outputs[0] if len(outputs) == 1 else _summed(outputs, weights) / prompts.divisor(weights)
        negative, *positives = outputs
        towards = _summed([positive - negative for positive in positives], weights)
        guided = negative + row.guidance_scale * towards
        share = self.guidance_rescale if row.guidance_rescale is None else row.guidance_rescale
        if not share:
            return guided
        plain = positives[0] if len(positives) == 1 else negative + towards
        rescaled = guided * (plain.std() / guided.std())
        return share * rescaled + (1 - share) * guided


def _summed(outputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The outputs times their weights, one after the other; a single one of weight 1 is as it was."""
    total = outputs[0] * weights[0]
    for output, weight in zip(outputs[1:], weights[1:], strict=True):
        total = total + output * weight
    return total


def _of_kind(row: Row, kind: str) -> list[Guide]:
    """A row's IP-Adapters, or its ControlNets."""
    return [guide for guide in row.guides if (guide.kind == "ip-adapter") == (kind == "ip-adapter")]
