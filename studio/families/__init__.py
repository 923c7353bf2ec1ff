"""The architectures that have a step of their own. A new one is a file here and a line in FAMILIES."""

from studio.families.addons.guides import Guide
from studio.families.base import Model, Prompts, Row
from studio.families.family import Facts, Family
from studio.families.flux import Flux
from studio.families.flux2 import Flux2
from studio.families.qwen_image import QwenImage
from studio.families.stable_diffusion import StableDiffusion
from studio.families.stable_diffusion_3 import StableDiffusion3
from studio.families.stable_diffusion_xl import StableDiffusionXL, StableDiffusionXLRefiner
from studio.families.stock.family import families as stock
from studio.families.z_image import ZImage

FAMILIES: tuple[type[Family], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusionXLRefiner,
    StableDiffusion3,
    Flux,
    Flux2,
    QwenImage,
    ZImage,
    # The rest of diffusers' tables, so these come last.
    *stock(),
)

__all__ = ["FAMILIES", "Facts", "Family", "Guide", "Model", "Prompts", "Row"]
