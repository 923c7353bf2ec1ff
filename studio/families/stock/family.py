"""Every other architecture of diffusers' AutoPipeline tables, through its own pipeline (see `drawing.stock_run`).

An architecture is a line in ROWS.
"""

import dataclasses
import functools
import importlib.util
import inspect
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from studio.compat import of_diffusers
from studio.errors import ModelError, RecipeError
from studio.families.family import Facts, Family
from studio.families.stock import calls
from studio.families.stock.calls import AfterStep, Stage, Step
from studio.families.stock.rows import HALVES, ROWS, Row
from studio.families.stock.spaces import Space
from studio.files.folders import read_json
from studio.recipe.recipe import Recipe

OWN = "Own"
"""The one sampler of stock pipelines: the scheduler that stands in the model's folder."""


class Stock(Family):
    """A model that runs through diffusers' own pipeline, alone in its batch."""

    row: ClassVar[Row]
    samplers: ClassVar[Mapping[str, tuple[str, dict]]] = {OWN: ("", {})}
    ends_guidance = False
    takes_loras = False

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(parts, device, dtype)
        self.parts = dict(parts)
        self.index: Mapping[str, Any] = self.parts.pop("model_index", {})
        self.vae = next((parts[name] for name in ("vae", "movq", "vqgan") if name in parts), None)
        self.scheduler_config = parts["scheduler"]
        self.space = Space.of(self.vae, device, patches_first=self.row.patches_first)
        self.calls: weakref.WeakSet[Any] = weakref.WeakSet()
        """Calls under way. They hold the parts but not the model, and end when it is let go."""
        weakref.finalize(self, _end_all, self.calls)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        takes = inspect.signature(calls.pipeline(cls.row.pipelines[0]).__call__).parameters
        factor, side = _factor(folder), _side(folder)
        width, height = (
            calls.default(takes, name, side * factor) // cls.row.multiple * cls.row.multiple
            for name in ("width", "height")
        )
        steps = calls.default(takes, "prior_num_inference_steps" if cls.row.led else "num_inference_steps", 30)
        return Facts(
            int(min(max(width, 64), 4096)),
            int(min(max(height, 64), 4096)),
            cls.row.multiple,
            steps=int(steps),
            guidance_scale=float(calls.default(takes, calls.guidance_name(takes, cls.row), 5.0)),
            sampler=OWN,
            negative_prompt="negative_prompt" in takes and not calls.embedded(takes),
        )

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise RecipeError for what this pipeline would ignore, or cannot do."""
        row = cls.row
        if row.package and not importlib.util.find_spec(row.package):
            raise RecipeError(f"{row.name} wants the Python package {row.package}, which is not installed.")
        takes = inspect.signature(calls.pipeline(calls.chosen(row, recipe)).__call__).parameters
        if recipe.source and recipe.strength < 1 and "strength" not in takes:
            raise RecipeError(
                f"{row.name} reads the start picture as a whole and has no strength. Set the strength to 1."
            )
        if recipe.steps_run < 1:
            raise RecipeError(f"With a strength of {recipe.strength:g}, none of {recipe.steps} steps is run. Raise it.")
        if recipe.steps % row.stages:
            raise RecipeError(
                f"{row.name} draws in {row.stages} stages. Choose steps that can be divided by {row.stages}."
            )
        calls.check_turns(row, recipe)
        for field in dataclasses.fields(recipe):
            if field.name not in _KNOWN and recipe.sets(field.name):
                word = field.name.replace("_", " ")
                raise RecipeError(f"{row.name} runs through its stock pipeline, which takes no {word}. Clear it.")

    def stages(self, recipe: Recipe) -> dict[str, Stage]:
        """The schedulers of a job by name, none of them begun, in the order they work."""
        takes = inspect.signature(calls.pipeline(calls.chosen(self.row, recipe)).__call__).parameters
        # Consistency models spread all their steps over what a strength leaves.
        run = recipe.steps_run if "strength" in takes and not self.row.spreads else recipe.steps
        main = Stage(run, recipe.steps - run)
        if "prior_scheduler" not in self.parts:
            return {"scheduler": main}
        if self.row.led:
            last = int(calls.default(takes, "num_inference_steps", 12))
            return {"prior_scheduler": Stage(recipe.steps), "scheduler": Stage(last)}
        return {"prior_scheduler": Stage(int(calls.default(takes, "prior_num_inference_steps", 25))), "scheduler": main}

    def prepare(
        self, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None
    ) -> Callable[["AfterStep"], Any]:
        """The call of a job: a pipeline of its own from the shared parts, with schedulers of its own.

        picture, mask: what it works on, at the recipe's size (`studio.drawing.originals.worked_on`).
        What it returns takes the function to call after each step, and gives what the pipeline gives. It holds the
        parts, but not this model.
        """
        self._check_parts(recipe)
        kind = calls.pipeline(calls.chosen(self.row, recipe))
        schedulers = {name: calls.scheduler(self.parts[name], self.device) for name in self.stages(recipe)}
        pipeline = self._build(kind, schedulers)
        arguments = calls.arguments(self.row, kind, recipe, picture, mask)
        # Perturbed attention exchanges parts of the shared model while it draws, and others draw in between.
        swap = calls.Swap(pipeline) if of_diffusers.exchanges_attention(kind) else None

        def call(after_step: AfterStep) -> Any:
            def stepped(name: str, step: Step) -> None:
                guidance = swap.away(after_step, name, step) if swap else after_step(name, step)
                if guidance is not None:
                    of_diffusers.set_guidance(pipeline, guidance)

            for name, scheduler in schedulers.items():
                calls.watch(scheduler, functools.partial(stepped, name))
            try:
                return pipeline(**arguments)
            finally:
                if swap:
                    swap.restore()

        return call

    def _check_parts(self, recipe: Recipe) -> None:
        """Raise RecipeError for what this checkpoint, or its precision, is not made for."""
        reads_in = self.row.reads_pictures_in
        if reads_in and recipe.source and self.vae.dtype != getattr(torch, reads_in):
            raise RecipeError(
                f"{self.row.name} reads pictures in {reads_in} only. Start the studio with --dtype {reads_in}."
            )
        unet = self.parts.get("unet")
        reads_mask = unet is not None and unet.config.in_channels == 9
        if reads_mask and not recipe.mask:
            raise RecipeError(f"{recipe.model} was made for inpainting only. Choose a picture and a mask.")
        if recipe.mask and not reads_mask and self.row.masks_by_unet:
            raise RecipeError(f"{recipe.model} cannot repaint a part. Choose {self.row.name}'s model for inpainting.")

    def _build(self, kind: Any, schedulers: Mapping[str, Any]) -> Any:
        values: dict[str, Any] = {}
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if name in schedulers or name in self.parts:
                values[name] = schedulers.get(name, self.parts.get(name))
            elif name in ("requires_safety_checker", "add_watermarker"):
                values[name] = False
            elif name != "self":
                values[name] = self._config(name, None if parameter.default is parameter.empty else parameter.default)
        pipeline = kind(**values)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _config(self, name: str, default: Any) -> Any:
        """A plain value of model_index.json; what stands there for a part, a library and a class, is none."""
        value = self.index.get(name, default)
        part = isinstance(value, list) and len(value) == 2 and all(each is None or type(each) is str for each in value)
        return default if part and default is None else value


_KNOWN = {
    *("prompt", "negative_prompt", "model", "width", "height", "steps", "guidance_scale", "sampler", "seed"),
    *("schedule", "source", "mask", "strength", "fill", "box", "turns"),
}
"""The settings that stand in a call's arguments, or are done with before and after it."""


def families() -> tuple[type[Stock], ...]:
    """A family for each row, and one for halves of pipelines, which only says what they lack."""
    return (
        *(
            type(
                "Stock",
                (Stock,),
                {
                    "row": row,
                    "family": f"{row.name} (stock)",
                    "pipelines": frozenset(row.pipelines),
                    "needed": tuple(row.parts.split()),
                },
            )
            for row in ROWS
        ),
        *(
            type("Half", (_Half,), {"family": f"half of {name}", "pipelines": frozenset(kinds.split()), "needed": ()})
            for name, kinds in HALVES.items()
        ),
    )


class _Half(Stock):
    """A folder with one of two halves."""

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        raise ModelError(
            f"{folder.name} is one {cls.family}, which draws in two: a prior and a decoder. "
            "Save both in one folder, as diffusers' combined pipeline does."
        )


def _end_all(calls: "weakref.WeakSet[Any]") -> None:
    for call in list(calls):
        call.end()


def _factor(folder: Path) -> int:
    """Pixels to a latent along a side, from the autoencoder's config; 1 without one."""
    for part in ("vae", "movq"):
        if os.path.exists(folder / part / "config.json"):
            config = read_json(folder / part / "config.json")
            blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels") or [0] * 4
            return 2 ** (len(blocks) - 1)
    return 8 if os.path.exists(folder / "vqgan") else 1


def _side(folder: Path) -> int:
    """Latents along a side of the pictures the model was trained on."""
    for part in ("transformer", "unet"):
        if os.path.exists(folder / part / "config.json"):
            side = read_json(folder / part / "config.json").get("sample_size")
            if isinstance(side, int):
                return side
    return 128
