"""The start picture of image to image and inpainting, as the denoising sees it.

Image to image is a job that begins at a later step, from the encoded picture with the noise of that step. Inpainting
holds what is not masked by putting it back after every step, with as much noise as belongs there. A grey mask lets go
later than a white one: a latent of mask value m takes part in the last m of the steps (differential diffusion,
Levin & Fried, arXiv:2306.00950), which makes "change this a little" and soft edges of one mechanism.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.families import Model
from studio.families.samplers import Sampler
from studio.pictures import masks
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Original:
    """What a job keeps of its start picture.

    latents: clean, noise: unit, both (1, c, h, w) float32. free: the mask at the latents' size, (1, 1, h, w) in 0..1,
    None without a mask.
    """

    latents: Tensor
    noise: Tensor
    free: Tensor | None = None

    def start(self, sampler: Sampler, strength: float) -> Tensor:
        """The latents to begin with. At full strength nothing of the picture is in them."""
        if strength >= 1:
            return self.noise * sampler.initial_scale
        return sampler.noised(self.latents, self.noise)

    def hold(self, sampler: Sampler, latents: Tensor, total: int) -> Tensor:
        """The latents after a step, with all that may not change yet as it was."""
        if self.free is None:
            return latents
        # What step i of n did is kept where the mask is more than 1 - i / n: after the last, everywhere but at 0.
        bound = 1 - sampler.done / total
        return torch.where(self.free > bound, latents, sampler.noised(self.latents, self.noise))


def encode(model: Model, picture: Image.Image, mask: Image.Image | None, noise: Tensor) -> Original:
    """The original of a job, from `worked_on` and the job's starting noise."""
    free = None
    if mask:
        small = mask.resize((noise.shape[-1], noise.shape[-2]), Image.Resampling.BOX)
        free = torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None].to(noise.device)
    return Original(model.encode_picture(picture), noise, free)


def worked_on(recipe: Recipe, sources: Sources) -> tuple[Image.Image | None, Image.Image | None]:
    """The part of the picture that the model works on, at its size, and the mask of it, 0..255; None for what is not.

    Raises StorageError if one of them is not there any more.
    """
    if not recipe.source:
        return None, None
    picture = sources.open(recipe.source)
    if not recipe.mask:
        return picture, None
    size = (recipe.width, recipe.height)
    part, hole = (masks.cropped(each, recipe.part, size) for each in (picture, sources.open(recipe.mask)))
    return masks.filled(part, hole, recipe.fill, recipe.seed), hole


def put_back(picture: Image.Image, recipe: Recipe, sources: Sources) -> Image.Image:
    """The finished picture: what the model drew, laid over the source where the mask lets it."""
    if not recipe.mask:
        return picture
    return masks.pasted(sources.open(recipe.source), picture, sources.open(recipe.mask), recipe.part)
