"""The architectures that have a step of their own. A new one is a file here and a line in FAMILIES."""

from studio.families.base import Facts, Model, Prompts, Row
from studio.families.flux import Flux
from studio.families.stable_diffusion import StableDiffusion
from studio.families.stable_diffusion_xl import StableDiffusionXL, StableDiffusionXLRefiner

FAMILIES: tuple[type[Model], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusionXLRefiner,
    Flux,
)

__all__ = ["FAMILIES", "Facts", "Model", "Prompts", "Row"]
