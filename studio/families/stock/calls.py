"""One call of a pipeline of diffusers: which one, with what arguments, and how its schedulers are watched."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor

from studio.compat import of_diffusers
from studio.errors import ModelBroken, RecipeError
from studio.families.stock.rows import Row
from studio.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a scheduler gave: the next latents, and the clean ones it predicts if it tells."""

    scheduler: Any
    latents: Tensor
    clean: Tensor


@dataclass(slots=True)
class Stage:
    """How far a scheduler has come. total: steps as a person counts them. skipped: those left out at the start."""

    total: int
    skipped: int = 0
    calls: int = 0
    expected: int = 0

    def count(self, scheduler: Any) -> None:
        """One more call. Some schedulers need more calls than steps."""
        self.calls += 1
        left = len(scheduler.timesteps) - ("Wuerstchen" in type(scheduler).__name__)  # its last one is where it ends
        left -= self.skipped * getattr(scheduler, "order", 1)
        self.expected = max(left, self.total, 1)

    @property
    def done(self) -> int:
        return min(self.calls, self.expected) * self.total // self.expected if self.calls else 0


AfterStep = Callable[[str, Step], float | None]
"""Told after each step which scheduler made it and what it gave; answers the guidance to go on with, None for as is."""


class Swap:
    """What a pipeline exchanges in the model that it shares with others, while it is away from it."""

    def __init__(self, pipeline: Any) -> None:
        self._module = getattr(pipeline, "unet", None) or pipeline.transformer
        self._original = dict(self._module.attn_processors)

    def away(self, after_step: AfterStep, name: str, step: Step) -> float | None:
        held = dict(self._module.attn_processors)
        self.restore()
        guidance = after_step(name, step)
        self._module.set_attn_processor(held)
        return guidance

    def restore(self) -> None:
        self._module.set_attn_processor(dict(self._original))


def first_picture(result: Any) -> Image.Image:
    """The picture in what a pipeline gave: the first frame of a film, all layers of a layered picture together."""
    found = result.images if hasattr(result, "images") else result.frames
    while not isinstance(found, Image.Image):
        if len(found) > 1 and all(isinstance(each, Image.Image) and each.mode == "RGBA" for each in found):
            return functools.reduce(Image.alpha_composite, found).convert("RGB")
        found = found[0]
    return found.convert("RGB")


def pipeline(name: str) -> Any:
    """The class, imported when it is first asked for."""
    return getattr(diffusers, name)


def chosen(row: Row, recipe: Recipe) -> str:
    """The pipeline for a recipe. Raises RecipeError if the architecture has none."""
    if recipe.mask:
        chosen, wish = row.mask, "repaints no part of a picture"
    elif recipe.source and not (row.controlled and recipe.strength >= 1):
        chosen, wish = row.picture, "does not start from a picture"
        if row.controlled:
            wish = "takes a start picture as its control picture only: set the strength to 1"
    elif row.controlled and not recipe.source:
        raise RecipeError(f"{row.name} follows a control picture. Choose it as the start picture.")
    else:
        chosen, wish = row.words, "draws nothing from words alone: choose a start picture"
        if row.mask and not row.picture:
            wish = "needs a picture and a mask"
    if not chosen:
        raise RecipeError(f"{row.name} {wish}.")
    return chosen


def check_turns(row: Row, recipe: Recipe) -> None:
    for turn in recipe.turns:
        if other := turn.changes.keys() - {"guidance_scale"}:
            word = min(other).replace("_", " ")
            raise RecipeError(f"{row.name} runs through its stock pipeline: its {word} cannot be changed on the way.")
        if not row.steered:
            raise RecipeError(f"{row.name} reads its guidance at the start: it cannot be changed on the way.")
        if (recipe.guidance_scale > 1) != (recipe.at(turn.step).guidance_scale > 1):
            raise RecipeError(f"{row.name} cannot switch guidance on or off on the way. Stay on one side of 1.")


def arguments(
    row: Row, kind: Any, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None
) -> dict[str, Any]:
    """What the pipeline is called with: as much of a recipe as its signature knows."""
    takes = inspect.signature(kind.__call__).parameters
    now = recipe.at(0)
    values: dict[str, Any] = {
        "prompt": now.prompt,
        "height": recipe.height,
        "width": recipe.width,
        "prior_num_inference_steps" if row.led else "num_inference_steps": recipe.steps,
        "pyramid_num_inference_steps_list": [recipe.steps // row.stages] * row.stages,
        guidance_name(takes, row): now.guidance_scale,
        "generator": torch.Generator().manual_seed(recipe.seed),
        "output_type": "pil",
        # The size and the words are those that were asked for.
        "use_resolution_binning": False,
        "clean_caption": False,
        "guidance_schedule": None,
        "max_area": recipe.width * recipe.height,
        "num_frames": 1,
    }
    if now.negative_prompt or "true_cfg_scale" in takes:
        # Without a negative prompt these leave out guidance.
        values["negative_prompt"] = now.negative_prompt or " "
    if picture:
        values |= {"image": picture, "control_image": picture, "strength": strength(recipe)}
        values |= {"mask_image": mask, "control_mask": mask} if mask else {}
        values |= {} if row.control_mode is None else {"control_mode": row.control_mode}
    return {name: value for name, value in values.items() if name in takes}


def strength(recipe: Recipe) -> float:
    """The strength, a hair more where diffusers' product would lose a step that `Recipe.steps_run` counts."""
    strength = recipe.strength
    while int(recipe.steps * strength) < recipe.steps_run:
        strength = math.nextafter(strength, 1)
    return strength


def guidance_name(takes: Mapping[str, inspect.Parameter], row: Row) -> str:
    if row.led:
        return "prior_guidance_scale"
    return "true_cfg_scale" if "true_cfg_scale" in takes and not embedded(takes) else "guidance_scale"


def embedded(takes: Mapping[str, inspect.Parameter]) -> bool:
    """Whether the model reads its guidance as an input, and needs no negative prompt."""
    return "guidance_scale" in takes and "true_cfg_scale" in takes and takes["true_cfg_scale"].default <= 1


def default(takes: Mapping[str, inspect.Parameter], name: str, otherwise: float) -> float:
    value = takes[name].default if name in takes else None
    return value if isinstance(value, int | float) else otherwise


def scheduler(part: Any, device: torch.device) -> Any:
    """A scheduler of a job's own. part: another one, or its config. Raises ModelBroken."""
    config = part if isinstance(part, Mapping) else part.config
    name = config.get("_class_name") or type(part).__name__
    kind: Any = getattr(diffusers, name, None) if name.isidentifier() else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ModelBroken(f"The model wants a scheduler of the kind {name}, which is not known here.")
    own = {**config}
    if device.type == "cpu" and own.get("gamma") == 1 / 3:
        # Helios's pyramid draws noise from a matrix that is singular at this gamma, the published one. On the CPU
        # diffusers cannot factorise it.
        own["gamma"] = 0.333333
    build: Any = kind
    return build.from_config(own)


def watch(scheduler: Any, stepped: Callable[[Step], None]) -> None:
    """Have `stepped` called after each step of the scheduler, before its pipeline goes on."""

    def told(given: Mapping[str, Any], result: Any) -> None:
        stepped(Step(scheduler, result[0], _clean(scheduler, given["model_output"], given["sample"], result)))

    of_diffusers.watch(scheduler, told)


def _clean(scheduler: Any, output: Tensor, sample: Tensor, result: Any) -> Tensor:
    """The clean latents that a scheduler predicts, from what it was given and gave; else the latents as they are."""
    config = scheduler.config
    found = getattr(result, "pred_original_sample", None)
    if found is None and isinstance(result, tuple) and len(result) > 1:
        found = result[1]
    if found is None and (config.get("algorithm_type", "").endswith("dpmsolver++") or config.get("predict_x0")):
        found = of_diffusers.last_prediction(scheduler)
    sigmas, index = getattr(scheduler, "sigmas", None), getattr(scheduler, "step_index", None)
    flow = "FlowMatch" in type(scheduler).__name__ or config.get("prediction_type") == "flow_prediction"
    if found is None and flow and sigmas is not None and index:
        # A step goes straight on, so the rest of the way leads to where the line ends.
        start, end = sigmas[index - 1].to(sample.device), sigmas[-1].to(sample.device)
        found = sample.float() + (end - start) * output.float()
    return found if found is not None and found.shape == result[0].shape else result[0]
