"""The architectures that have a step of their own. A new one is a file here and a line in FAMILIES."""

from studio.families.base import Facts, Guide, Model, Prompts, Row
from studio.families.flux import Flux
from studio.families.stable_diffusion import StableDiffusion

FAMILIES: tuple[type[Model], ...] = (StableDiffusion, Flux)

__all__ = ["FAMILIES", "Facts", "Guide", "Model", "Prompts", "Row"]
