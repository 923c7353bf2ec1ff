"""What is known of a family of models before one is loaded: its facts, what it takes, what it must be given."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from studio.files import unused
from studio.files.folders import read_json
from studio.files.identity.identify import Identity
from studio.recipe.recipe import AUTOMATIC, Recipe


@dataclass(frozen=True, slots=True)
class Facts:
    """What a family knows of a folder from its configs alone.

    width, height: pixels the model was trained for. multiple: what a side must be divisible by.
    guidance_rescale: None where the family knows best.
    """

    width: int
    height: int
    multiple: int
    steps: int
    guidance_scale: float
    sampler: str
    schedule: str = AUTOMATIC
    guidance_end: float = 1.0
    guidance_rescale: float | None = None
    negative_prompt: bool = True


class Family(ABC):
    """A checkpoint on its device. Only the engine's thread calls it.

    Nothing outside a family's file branches on its name.
    parts: the diffusers folder's components by name, on `device`, in `dtype`, and its `model_index`.
    """

    family: ClassVar[str]
    pipelines: ClassVar[frozenset[str]]
    """The `_class_name`s in model_index.json that this family runs."""
    samplers: ClassVar[Mapping[str, tuple[str, dict]]]
    needed: ClassVar[tuple[str, ...]]
    """The parts to load; others in the folder (safety checkers, feature extractors) are left on disk."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Parts that are loaded where the folder has them, and that the family can do without."""
    reads_embeddings: ClassVar[bool] = False
    """Whether its prompts can name embeddings."""
    skips_clip: ClassVar[bool] = False
    """Whether it can read another layer of CLIP than the last."""
    ends_guidance: ClassVar[bool] = True
    """Whether some of its steps can be guided and others not."""
    rescales_guidance: ClassVar[bool] = False
    """Whether it can take back contrast that guidance adds."""
    takes_loras: ClassVar[bool] = True
    """Whether LoRAs in a prompt are applied."""
    takes_controls: ClassVar[bool] = False
    """Whether ControlNets and IP-Adapters can guide it."""
    varies: ClassVar[bool] = False
    """Whether its starting noise can lie between those of two seeds."""
    weights: ClassVar[bool] = False
    """Whether its text encoders can be given weights, `(word:1.2)`. If not, they are given the words alone."""
    distillations: ClassVar[tuple[str, ...]] = ()
    """Ways in which single files of it are distilled, which only their names or a person can tell."""
    counted: ClassVar[tuple[str, int]] = ("tokenizer", 0)
    """The tokenizer by which prompts are counted, and the most tokens that are read; 0 where there is no end."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.vae: Any = None
        self.notes = unused.sentences(parts.values())

    @classmethod
    def wanted(cls, folder: Path) -> tuple[str, ...]:
        """The parts to load from this folder: what is needed, and those optional ones that it has."""
        index = read_json(folder / "model_index.json") if cls.optional else {}
        there = [name for name in cls.optional if (index.get(name) or [None])[0] and os.path.isdir(folder / name)]
        return (*cls.needed, *there)

    @classmethod
    @abstractmethod
    def facts(cls, folder: Path) -> Facts:
        """Sizes and good defaults, read from the folder's JSON files. May raise KeyError, ValueError, OSError."""

    @classmethod
    def suited(cls, facts: Facts, identity: Identity) -> Facts:
        """The facts of a shipped config with what is known of a single file.

        A distilled model was trained to need neither many steps nor guidance, where that is a second pass.
        """
        if not identity.steps:
            return facts
        return replace(
            facts, steps=identity.steps, guidance_scale=1.0 if facts.negative_prompt else facts.guidance_scale
        )

    @classmethod
    def scheduled(cls, config: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
        """The scheduler's shipped config with what is known of a single file."""
        return {**config}

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise RecipeError for what this family would leave out in silence."""
        return
