"""The settings of a picture, a row each: what may stand in them, what they are called, and who can make use of them.

Forms, checks, axes of a comparison, the text in a PNG, what other programs write, and a model's own defaults read this
table. So another number is a row here, a field of `studio.recipe.recipe.Recipe`, and whatever makes use of it.
"""

from dataclasses import dataclass
from typing import Literal

MAX_SEED = 2**64 - 1
"""The largest seed of PyTorch's generators, and of ComfyUI."""

MAX_SIDE = 4096
MAX_STEPS = 500
MAX_GUIDANCE = 100.0
MAX_PROMPT = 10_000

MAX_CLIP_SKIP = 12
"""Layers of CLIP's smallest text encoder."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting as an axis of a comparison.

    example: what could be typed. beginning: values that suit every picture; empty if none do. wording: what is written
    beside a row or column, with {} for the number.
    """

    example: str
    beginning: str = ""
    wording: str = "{}"


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of a recipe.

    kind: text of up to MAX_PROMPT characters, a whole number, or any number. least, most: the range of a number.
    multiple: what it must be divisible by, if anything. fault: the sentence on a value out of range, with {value},
    {least} and {most}.
    label: what it is called in a form. step: what an arrow key adds there. optional: whether it may be left empty.
    key: its name in the text that A1111-style tools read. always: whether it stands there though it is as it begins.
    axis: how it can be compared. is_own: whether a model can have a value of its own for it (`models/records.py`).
    takes: the flag of `studio.families.family.Family` that says whether a family makes use of it; empty if all do.
    refused: the sentence where it does not, with {model}.
    """

    name: str
    kind: Literal["text", "whole", "number"] = "number"
    label: str = ""
    least: float = 0
    most: float = 1
    multiple: int = 0
    fault: str = ""
    step: float = 1
    optional: bool = False
    key: str = ""
    always: bool = False
    axis: Axis | None = None
    is_own: bool = False
    takes: str = ""
    refused: str = ""

    def has(self, value: float) -> bool:
        """Whether a number is in its range."""
        return self.least <= value <= self.most and not (self.multiple and value % self.multiple)


_SIDE = "The {name} of {value} pixels is not possible. Use a multiple of 8 from {least} to {most}."

FIELDS: tuple[Field, ...] = (
    Field("width", "whole", "Width", 64, MAX_SIDE, 8, _SIDE, 8, is_own=True),
    Field("height", "whole", "Height", 64, MAX_SIDE, 8, _SIDE, 8, is_own=True),
    Field(
        "steps",
        "whole",
        "Steps",
        least=1,
        most=MAX_STEPS,
        fault="{value:,} steps cannot be run. Use {least} to {most}.",
        key="Steps",
        always=True,
        axis=Axis("4, 8, 20", "4, 8, 20", "{} steps"),
        is_own=True,
    ),
    Field(
        "guidance_scale",
        label="Guidance scale",
        most=MAX_GUIDANCE,
        fault="A guidance scale of {value:g} makes no picture. Use {least:g} to {most:g}.",
        step=0.5,
        key="CFG scale",
        always=True,
        axis=Axis("1, 3, 5-9 +2", "1, 4, 7", "guidance {}"),
        is_own=True,
    ),
    Field(
        "guidance_end",
        label="Guidance end",
        fault="Guidance cannot end at {value:g}. Use 0 (before the first step) to 1 (the last).",
        step=0.1,
        key="Guidance end",
        axis=Axis("0.4, 0.6, 1", "0.4, 0.6, 1", "guidance to {}"),
        is_own=True,
        takes="ends_guidance",
    ),
    Field(
        "guidance_rescale",
        label="Guidance rescale",
        fault="Guidance cannot be rescaled by {value:g}. Use 0 (not at all) to 1 (wholly).",
        step=0.1,
        optional=True,
        key="CFG rescale",
        axis=Axis("0, 0.5, 1", "0, 0.5, 1", "rescale {}"),
        is_own=True,
        takes="rescales_guidance",
        refused="{model} does not rescale guidance. Leave that field empty.",
    ),
    Field(
        "seed",
        "whole",
        "Seed",
        most=MAX_SEED,
        fault="The seed {value} is out of range. Use 0 to {most}.",
        key="Seed",
        always=True,
        axis=Axis("1-4, or: 4 random", "1-3", "seed {}"),
    ),
    Field(
        "variation_seed",
        "whole",
        "Variation seed",
        most=MAX_SEED,
        fault="The variation seed {value} is out of range. Use 0 to {most}.",
        key="Variation seed",
        axis=Axis("1-4, or: 4 random", "1-3", "variation seed {}"),
        takes="varies",
        refused="{model} takes no variation seed. Set the variation strength to 0.",
    ),
    Field(
        "variation_strength",
        label="Variation strength",
        fault="A variation strength of {value:g} is out of range. Use 0 to 1.",
        step=0.05,
        key="Variation seed strength",
        axis=Axis("0-0.4 +0.1", "0, 0.1, 0.2, 0.4", "variation {}"),
        takes="varies",
        refused="{model} takes no variation seed. Set the variation strength to 0.",
    ),
    Field(
        "strength",
        label="Strength",
        fault="A strength of {value:g} is out of range. Use 0 to 1.",
        step=0.01,
        key="Denoising strength",
        axis=Axis("0.3-0.9 +0.2", "0.3-0.9 +0.2", "strength {}"),
    ),
    Field(
        "clip_skip",
        "whole",
        "Clip skip",
        least=1,
        most=MAX_CLIP_SKIP,
        fault="A clip skip of {value} is not possible. Use 1 (nothing skipped) to {most}.",
        key="Clip skip",
        takes="skips_clip",
        refused="{model} has no clip skip. Set it to 1.",
    ),
    Field("prompt", "text", "Prompt"),
    Field("negative_prompt", "text", "Negative prompt"),
    Field("model", "text", "Model"),
    Field("sampler", "text", "Sampler", is_own=True),
    Field("schedule", "text", "Schedule", is_own=True),
    Field("source", "text"),
    Field("mask", "text"),
    Field("fill", "text"),
    Field("vae", "text", "VAE"),
)
"""Numbers stand in the order in which a picture's text has them."""

BY_NAME = {field.name: field for field in FIELDS}

NUMBERS = tuple(field for field in FIELDS if field.kind != "text")

OWN = tuple(field.name for field in FIELDS if field.is_own)
"""Settings for which a model can have values of its own."""
