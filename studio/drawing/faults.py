"""What went wrong with a picture, told by its numbers alone, and what probably brought it about.

Both looks come when the picture is on the processor, so nothing waits for a device that would not have waited before.
"""

from collections.abc import Iterator

import torch
from PIL.Image import Image, Resampling

from studio.errors import ModelError
from studio.recipe.recipe import Recipe
from studio.words import tags

HIGH = 20.0
"""Guidance above this is named as what may be wrong."""


def check_latents(latents: torch.Tensor | None, recipe: Recipe, dtype: torch.dtype) -> None:
    """Raise ModelError if what was drawn holds values that are no numbers, or infinite ones: it would be black.

    latents: of any shape; None passes. dtype: in which the model works.
    """
    if latents is not None and not bool(torch.isfinite(latents).all()):
        otherwise = "its files are damaged or badly merged: copy or download it again, or choose another model"
        raise ModelError(
            f"{recipe.model} came to values that are no numbers, which would be a black picture. "
            f"Probably {_likely(recipe, dtype, otherwise)}."
        )


def remark(picture: Image, recipe: Recipe, dtype: torch.dtype) -> str:
    """A sentence if the whole picture has one colour, as hardly any prompt means it; else empty."""
    # Nearly every picture is settled by a few of its pixels.
    if not (_is_flat(picture.resize((8, 8), Resampling.NEAREST)) and _is_flat(picture)):
        return ""
    otherwise = "its VAE is damaged: choose another in the add-ons"
    if recipe.vae:
        otherwise = f"the VAE {recipe.vae} does not suit it: take the model's own"
    likely = _likely(recipe, dtype, otherwise)
    return f"The whole picture has one colour. If you did not ask {recipe.model} for that, probably {likely}."


def _likely(recipe: Recipe, dtype: torch.dtype, otherwise: str) -> str:
    return "; or ".join(_causes(recipe, dtype)) or otherwise


def _causes(recipe: Recipe, dtype: torch.dtype) -> Iterator[str]:
    """What may be the reason, the likeliest first, each with what would be right."""
    taken = [recipe.at(step) for step in (0, *(turn.step for turn in recipe.turns))]
    if loras := dict.fromkeys(lora.name for now in taken for lora in tags.split(now.prompt)[1]):
        yield f"the LoRA {', '.join(loras)} is too strong or damaged: give it less weight, or leave it out"
    if dtype == torch.float16:
        yield "a number grew beyond what float16 can hold: start the studio with --dtype bfloat16 or --dtype float32"
    if (most := max(now.guidance_scale for now in taken)) > HIGH:
        yield f"a guidance scale of {most:g} is too high for it: try one below {HIGH:g}"


def _is_flat(picture: Image) -> bool:
    """Whether all pixels are the same."""
    ends = picture.convert("RGB").getextrema()
    return all(low == high for low, high in ends)  # type: ignore[misc]
