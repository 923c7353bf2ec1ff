"""Every other architecture of diffusers' AutoPipeline tables, through its own pipeline (see `studio.stock_run`).

An architecture is a line in ROWS. What a pipeline takes is read from the signature of its `__call__`, so that a line
says only what a signature cannot.
"""

import dataclasses
import functools
import importlib.util
import inspect
import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from PIL import Image
from torch import Tensor

from studio.errors import ModelBroken, ModelError, RecipeError
from studio.families.base import Facts, Model, Prompts
from studio.families.base import Row as ModelRow
from studio.families.spaces import Space
from studio.models import unused
from studio.models.files import read_json
from studio.recipe import Recipe
from studio.tags import Lora

OWN = "Own"
"""The one sampler of stock pipelines: the scheduler that stands in the model's folder."""


@dataclass(frozen=True, slots=True)
class Row:
    """An architecture: its key in the AutoPipeline tables, what people call it, its pipelines, its parts.

    words, picture, mask: pipelines of text to image, image to image and inpainting; "" where there is none. A pipeline
    that takes a picture and no strength edits it as a whole.
    multiple: what a side must be divisible by. led: of two stages, a person sets the first one's steps and guidance.
    steered: the pipeline reads its guidance anew at each step, so it can be changed on the way.
    package: what its code wants from Python beyond what the studio installs.
    """

    key: str
    name: str
    words: str
    picture: str = ""
    mask: str = ""
    parts: str = "transformer text_encoder tokenizer"
    multiple: int = 16
    steered: bool = False
    led: bool = False
    package: str = ""

    @property
    def controlled(self) -> bool:
        """Whether it follows a control picture beside the words."""
        return "control" in self.key

    @property
    def pipelines(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.words, self.picture, self.mask)))


_UNET = "unet text_encoder tokenizer vae scheduler"
_UNET_2 = "unet text_encoder text_encoder_2 tokenizer tokenizer_2 vae scheduler"
_DIT = "transformer text_encoder tokenizer vae scheduler"
_DIT_2 = "transformer text_encoder text_encoder_2 tokenizer tokenizer_2 vae scheduler"
_DIT_3 = f"{_DIT_2} text_encoder_3 tokenizer_3"
_PRIOR = "prior_prior prior_text_encoder prior_tokenizer prior_scheduler"
_KANDINSKY = f"unet scheduler movq {_PRIOR} prior_image_encoder prior_image_processor"
_CASCADE = f"text_encoder tokenizer decoder scheduler vqgan {_PRIOR}"


def _three(stem: str) -> tuple[str, str, str]:
    return f"{stem}Pipeline", f"{stem}Img2ImgPipeline", f"{stem}InpaintPipeline"


ROWS: tuple[Row, ...] = (
    Row("auraflow", "AuraFlow", "AuraFlowPipeline", parts=_DIT),
    Row("cascade", "Stable Cascade", "StableCascadeCombinedPipeline", parts=_CASCADE, multiple=128, led=True),
    Row("chroma", "Chroma", "ChromaPipeline", parts=_DIT),
    Row("cogview3", "CogView3 Plus", "CogView3PlusPipeline", parts=_DIT, steered=True),
    Row("cogview4", "CogView4", "CogView4Pipeline", parts=_DIT, steered=True),
    Row("cogview4-control", "CogView4 Control", "CogView4ControlPipeline", parts=_DIT, steered=True),
    Row("flux-control", "FLUX.1 Control", *_three("FluxControl"), parts=_DIT_2),
    Row("flux-controlnet", "FLUX.1 ControlNet", *_three("FluxControlNet"), parts=f"{_DIT_2} controlnet"),
    Row("flux-kontext", "FLUX.1 Kontext", "FluxKontextPipeline", "FluxKontextPipeline", parts=_DIT_2),
    Row(
        "glm_image",
        "GLM-Image",
        "GlmImagePipeline",  # it edits pictures too, but not with this transformers, whose pictures' tokens it misreads
        parts=f"{_DIT} vision_language_encoder processor",
        multiple=32,
        steered=True,
    ),
    Row("helios", "Helios", "HeliosPipeline", parts=_DIT, package="ftfy"),
    Row(
        "helios-pyramid",
        "Helios Pyramid",
        "HeliosPyramidPipeline",
        parts=_DIT,
        multiple=64,
        package="ftfy",
    ),
    Row("hunyuan", "Hunyuan-DiT", "HunyuanDiTPipeline", parts=_DIT_2),
    Row("hunyuan-pag", "Hunyuan-DiT PAG", "HunyuanDiTPAGPipeline", parts=_DIT_2, steered=True),
    Row("ideogram4", "Ideogram 4", "Ideogram4Pipeline", parts=f"{_DIT} unconditional_transformer"),
    Row(
        "if",
        "DeepFloyd IF",
        "IFPipeline",
        "IFImg2ImgPipeline",
        "IFInpaintingPipeline",
        parts="unet text_encoder tokenizer scheduler",
        multiple=8,
    ),
    Row(
        "kandinsky",
        "Kandinsky 2.1",
        "KandinskyCombinedPipeline",
        "KandinskyImg2ImgCombinedPipeline",
        "KandinskyInpaintCombinedPipeline",
        parts=f"text_encoder tokenizer {_KANDINSKY}",
        multiple=64,
    ),
    Row(
        "kandinsky22",
        "Kandinsky 2.2",
        "KandinskyV22CombinedPipeline",
        "KandinskyV22Img2ImgCombinedPipeline",
        "KandinskyV22InpaintCombinedPipeline",
        parts=_KANDINSKY,
        multiple=64,
    ),
    Row(
        "kandinsky3",
        "Kandinsky 3",
        "Kandinsky3Pipeline",
        "Kandinsky3Img2ImgPipeline",
        parts="unet text_encoder tokenizer movq scheduler",
        multiple=64,
    ),
    Row("krea2", "Krea 2", "Krea2Pipeline", parts=_DIT),
    Row(
        "lcm",
        "Latent Consistency",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
        parts=_UNET,
        multiple=8,
    ),
    Row("lumina", "Lumina-Next", "LuminaPipeline", parts=_DIT),
    Row("lumina2", "Lumina 2", "Lumina2Pipeline", parts=_DIT),
    Row(
        "nucleusmoe-image",
        "NucleusMoE-Image",
        "NucleusMoEImagePipeline",
        parts="transformer text_encoder processor vae scheduler",
    ),
    Row("ovis", "Ovis-Image", "OvisImagePipeline", parts=_DIT),
    Row("pixart-alpha", "PixArt-alpha", "PixArtAlphaPipeline", parts=_DIT),
    Row("pixart-sigma", "PixArt-Sigma", "PixArtSigmaPipeline", parts=_DIT),
    Row("pixart-sigma-pag", "PixArt-Sigma PAG", "PixArtSigmaPAGPipeline", parts=_DIT),
    Row("prx", "PRX", "PRXPipeline", parts=_DIT, multiple=32, package="ftfy"),
    Row("qwenimage-controlnet", "Qwen-Image ControlNet", "QwenImageControlNetPipeline", parts=f"{_DIT} controlnet"),
    Row(
        "qwenimage-edit",
        "Qwen-Image Edit",
        "",
        "QwenImageEditPipeline",
        "QwenImageEditInpaintPipeline",
        parts=f"{_DIT} processor",
    ),
    Row("qwenimage-edit-plus", "Qwen-Image Edit Plus", "", "QwenImageEditPlusPipeline", parts=f"{_DIT} processor"),
    Row("qwenimage-layered", "Qwen-Image Layered", "", "QwenImageLayeredPipeline", parts=f"{_DIT} processor"),
    Row(
        "qwenimage21",
        "Qwen-Image 2.1",
        "QwenImage21Pipeline",
        "QwenImage21Pipeline",
        parts="transformer text_encoder processor vae scheduler",
        multiple=32,
    ),
    Row("sana", "Sana", "SanaPipeline", parts=_DIT, multiple=32),
    Row("sana-pag", "Sana PAG", "SanaPAGPipeline", parts=_DIT, multiple=32),
    Row(
        "stable-diffusion-3-controlnet",
        "Stable Diffusion 3 ControlNet",
        "StableDiffusion3ControlNetPipeline",
        "",
        "StableDiffusion3ControlNetInpaintingPipeline",
        parts=f"{_DIT_3} controlnet",
        steered=True,
    ),
    Row(
        "stable-diffusion-3-pag",
        "Stable Diffusion 3 PAG",
        "StableDiffusion3PAGPipeline",
        "StableDiffusion3PAGImg2ImgPipeline",
        parts=_DIT_3,
        steered=True,
    ),
    Row(
        "stable-diffusion-controlnet",
        "Stable Diffusion ControlNet",
        *_three("StableDiffusionControlNet"),
        parts=f"{_UNET} controlnet",
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-controlnet-pag",
        "Stable Diffusion ControlNet PAG",
        "StableDiffusionControlNetPAGPipeline",
        "",
        "StableDiffusionControlNetPAGInpaintPipeline",
        parts=f"{_UNET} controlnet",
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-pag",
        "Stable Diffusion PAG",
        *_three("StableDiffusionPAG"),
        parts=_UNET,
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-xl-controlnet",
        "Stable Diffusion XL ControlNet",
        *_three("StableDiffusionXLControlNet"),
        parts=f"{_UNET_2} controlnet",
        multiple=8,
    ),
    Row(
        "stable-diffusion-xl-controlnet-pag",
        "Stable Diffusion XL ControlNet PAG",
        "StableDiffusionXLControlNetPAGPipeline",
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        parts=f"{_UNET_2} controlnet",
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-xl-controlnet-union",
        "Stable Diffusion XL ControlNet Union",
        *_three("StableDiffusionXLControlNetUnion"),
        parts=f"{_UNET_2} controlnet",
        multiple=8,
    ),
    Row(
        "stable-diffusion-xl-pag",
        "Stable Diffusion XL PAG",
        *_three("StableDiffusionXLPAG"),
        parts=_UNET_2,
        multiple=8,
        steered=True,
    ),
    Row(
        "kolors",
        "Kolors",
        "KolorsPipeline",
        "KolorsImg2ImgPipeline",
        parts=_UNET,
        multiple=8,
        steered=True,
        package="sentencepiece",
    ),
    Row(
        "kolors-pag",
        "Kolors PAG",
        "KolorsPAGPipeline",
        parts=_UNET,
        multiple=8,
        steered=True,
        package="sentencepiece",
    ),
    Row("wuerstchen", "Wuerstchen", "WuerstchenCombinedPipeline", parts=_CASCADE, multiple=128, led=True),
    Row("z-image-controlnet", "Z-Image ControlNet", "ZImageControlNetPipeline", parts=f"{_DIT} controlnet"),
    Row(
        "z-image-controlnet-inpaint",
        "Z-Image ControlNet inpainting",
        "",
        "",
        "ZImageControlNetInpaintPipeline",
        parts=f"{_DIT} controlnet",
    ),
    Row(
        "z-image-omni",
        "Z-Image Omni",
        "ZImageOmniPipeline",
        "ZImageOmniPipeline",
        parts=f"{_DIT} siglip siglip_processor",
    ),
)
"""The architectures that have no step of their own, in the order of their keys."""

_HALVES = {
    "Kandinsky 2.1": "KandinskyPipeline KandinskyImg2ImgPipeline KandinskyInpaintPipeline KandinskyPriorPipeline",
    "Kandinsky 2.2": "KandinskyV22Pipeline KandinskyV22Img2ImgPipeline KandinskyV22InpaintPipeline "
    "KandinskyV22PriorPipeline",
    "Wuerstchen": "WuerstchenDecoderPipeline WuerstchenPriorPipeline",
    "Stable Cascade": "StableCascadeDecoderPipeline StableCascadePriorPipeline",
}
"""Pipelines that are one of two halves; their combined pipelines are in ROWS."""


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


class Stock(Model):
    """A model that runs through diffusers' own pipeline, alone in its batch."""

    row: ClassVar[Row]
    samplers: ClassVar[Mapping[str, tuple[str, dict]]] = {OWN: ("", {})}
    ends_guidance = False
    takes_loras = False

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.parts = dict(parts)
        self.notes = unused.sentences(parts.values())
        self.index: Mapping[str, Any] = self.parts.pop("model_index", {})
        self.vae = next((parts[name] for name in ("vae", "movq", "vqgan") if name in parts), None)
        self.scheduler_config = parts["scheduler"]
        self.space = Space.of(self.vae, device, patches_first=self.row.key == "ideogram4")
        self.calls: weakref.WeakSet[Any] = weakref.WeakSet()
        """Calls under way. They hold the parts but not the model, and end when it is let go."""
        weakref.finalize(self, _end_all, self.calls)

    @classmethod
    def facts(cls, folder: Path) -> Facts:
        takes = inspect.signature(_pipeline(cls.row.pipelines[0]).__call__).parameters
        factor, side = _factor(folder), _side(folder)
        width, height = (
            _default(takes, name, side * factor) // cls.row.multiple * cls.row.multiple for name in ("width", "height")
        )
        steps = _default(takes, "prior_num_inference_steps" if cls.row.led else "num_inference_steps", 30)
        return Facts(
            int(min(max(width, 64), 4096)),
            int(min(max(height, 64), 4096)),
            cls.row.multiple,
            steps=int(steps),
            guidance_scale=float(_default(takes, _guidance_name(takes, cls.row), 5.0)),
            sampler=OWN,
            negative_prompt="negative_prompt" in takes and not _embedded(takes),
        )

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise RecipeError for what this pipeline would ignore, or cannot do."""
        row = cls.row
        if row.package and not importlib.util.find_spec(row.package):
            raise RecipeError(f"{row.name} wants the Python package {row.package}, which is not installed.")
        takes = inspect.signature(_pipeline(_chosen(row, recipe)).__call__).parameters
        if recipe.source and recipe.strength < 1 and "strength" not in takes:
            raise RecipeError(
                f"{row.name} reads the start picture as a whole and has no strength. Set the strength to 1."
            )
        if recipe.steps_run < 1:
            raise RecipeError(f"With a strength of {recipe.strength:g}, none of {recipe.steps} steps is run. Raise it.")
        if row.key == "helios-pyramid" and recipe.steps % 3:
            raise RecipeError(f"{row.name} draws in three stages. Choose steps that can be divided by 3.")
        _check_turns(row, recipe)
        for field in dataclasses.fields(recipe):
            if field.name not in _KNOWN and getattr(recipe, field.name) != field.default:
                word = field.name.replace("_", " ")
                raise RecipeError(f"{row.name} runs through its stock pipeline, which takes no {word}. Clear it.")

    def stages(self, recipe: Recipe) -> dict[str, Stage]:
        """The schedulers of a job by name, none of them begun, in the order they work."""
        takes = inspect.signature(_pipeline(_chosen(self.row, recipe)).__call__).parameters
        # Consistency models spread all their steps over what a strength leaves.
        run = recipe.steps_run if "strength" in takes and self.row.key != "lcm" else recipe.steps
        main = Stage(run, recipe.steps - run)
        if "prior_scheduler" not in self.parts:
            return {"scheduler": main}
        if self.row.led:
            last = int(_default(takes, "num_inference_steps", 12))
            return {"prior_scheduler": Stage(recipe.steps), "scheduler": Stage(last)}
        return {"prior_scheduler": Stage(int(_default(takes, "prior_num_inference_steps", 25))), "scheduler": main}

    def prepare(
        self, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None
    ) -> Callable[["AfterStep"], Any]:
        """The call of a job: a pipeline of its own from the shared parts, with schedulers of its own.

        picture, mask: what it works on, at the recipe's size (`studio.originals.worked_on`).
        What it returns takes the function to call after each step, and gives what the pipeline gives. It holds the
        parts, but not this model.
        """
        self._check_parts(recipe)
        kind = _pipeline(_chosen(self.row, recipe))
        schedulers = {name: _scheduler(self.parts[name], self.device) for name in self.stages(recipe)}
        pipeline = self._build(kind, schedulers)
        arguments = _arguments(self.row, kind, recipe, picture, mask)
        # Perturbed attention exchanges parts of the shared model while it draws, and others draw in between.
        swap = _Swap(pipeline) if hasattr(kind, "_set_pag_attn_processor") else None

        def call(after_step: AfterStep) -> Any:
            def stepped(name: str, step: Step) -> None:
                guidance = swap.away(after_step, name, step) if swap else after_step(name, step)
                if guidance is not None:
                    pipeline._guidance_scale = guidance

            for name, scheduler in schedulers.items():
                _watch(scheduler, functools.partial(stepped, name))
            try:
                return pipeline(**arguments)
            finally:
                if swap:
                    swap.restore()

        return call

    def _check_parts(self, recipe: Recipe) -> None:
        """Raise RecipeError for what this checkpoint, or its precision, is not made for."""
        if self.row.key == "z-image-omni" and recipe.source and self.vae.dtype != torch.bfloat16:
            raise RecipeError(
                f"{self.row.name} reads pictures in bfloat16 only. Start the studio with --dtype bfloat16."
            )
        unet = self.parts.get("unet")
        reads_mask = unet is not None and unet.config.in_channels == 9
        if reads_mask and not recipe.mask:
            raise RecipeError(f"{recipe.model} was made for inpainting only. Choose a picture and a mask.")
        if recipe.mask and not reads_mask and self.row.key in ("kandinsky", "kandinsky22"):
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

    def _encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple[Lora, ...] = ()
    ) -> Prompts:
        raise TypeError("A stock pipeline encodes its prompts itself.")

    def predict(self, rows: Sequence[ModelRow]) -> list[Tensor]:
        raise TypeError("A stock pipeline is one call; see studio.stock_run.")


AfterStep = Callable[[str, Step], float | None]
"""Told after each step which scheduler made it and what it gave; answers the guidance to go on with, None for as is."""

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
            for name, kinds in _HALVES.items()
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


class _Swap:
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


def _end_all(calls: "weakref.WeakSet[Any]") -> None:
    for call in list(calls):
        call.end()


def _pipeline(name: str) -> Any:
    """The class, imported when it is first asked for."""
    return getattr(diffusers, name)


def _chosen(row: Row, recipe: Recipe) -> str:
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


def _check_turns(row: Row, recipe: Recipe) -> None:
    for turn in recipe.turns:
        if other := turn.changes.keys() - {"guidance_scale"}:
            word = min(other).replace("_", " ")
            raise RecipeError(f"{row.name} runs through its stock pipeline: its {word} cannot be changed on the way.")
        if not row.steered:
            raise RecipeError(f"{row.name} reads its guidance at the start: it cannot be changed on the way.")
        if (recipe.guidance_scale > 1) != (recipe.at(turn.step).guidance_scale > 1):
            raise RecipeError(f"{row.name} cannot switch guidance on or off on the way. Stay on one side of 1.")


def _arguments(
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
        "pyramid_num_inference_steps_list": [recipe.steps // 3] * 3,
        _guidance_name(takes, row): now.guidance_scale,
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
        values |= {"image": picture, "control_image": picture, "strength": _strength(recipe)}
        values |= {"mask_image": mask, "control_mask": mask} if mask else {}
        values |= {"control_mode": 3} if "union" in row.key else {}
    return {name: value for name, value in values.items() if name in takes}


def _strength(recipe: Recipe) -> float:
    """The strength, a hair more where diffusers' product would lose a step that `Recipe.steps_run` counts."""
    strength = recipe.strength
    while int(recipe.steps * strength) < recipe.steps_run:
        strength = math.nextafter(strength, 1)
    return strength


def _guidance_name(takes: Mapping[str, inspect.Parameter], row: Row) -> str:
    if row.led:
        return "prior_guidance_scale"
    return "true_cfg_scale" if "true_cfg_scale" in takes and not _embedded(takes) else "guidance_scale"


def _embedded(takes: Mapping[str, inspect.Parameter]) -> bool:
    """Whether the model reads its guidance as an input, and needs no negative prompt."""
    return "guidance_scale" in takes and "true_cfg_scale" in takes and takes["true_cfg_scale"].default <= 1


def _default(takes: Mapping[str, inspect.Parameter], name: str, otherwise: float) -> float:
    value = takes[name].default if name in takes else None
    return value if isinstance(value, int | float) else otherwise


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


def _scheduler(part: Any, device: torch.device) -> Any:
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


def _watch(scheduler: Any, stepped: Callable[[Step], None]) -> None:
    """Have `stepped` called after each step of the scheduler, before its pipeline goes on."""
    inner = scheduler.step
    signature = inspect.signature(inner)

    @functools.wraps(inner)
    def step(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options).arguments
        result = inner(*args, **options)
        stepped(Step(scheduler, result[0], _clean(scheduler, given["model_output"], given["sample"], result)))
        return result

    scheduler.step = step


def _clean(scheduler: Any, output: Tensor, sample: Tensor, result: Any) -> Tensor:
    """The clean latents that a scheduler predicts, from what it was given and gave; else the latents as they are."""
    config = scheduler.config
    found = getattr(result, "pred_original_sample", None)
    if found is None and isinstance(result, tuple) and len(result) > 1:
        found = result[1]
    if found is None and (config.get("algorithm_type", "").endswith("dpmsolver++") or config.get("predict_x0")):
        found = (getattr(scheduler, "model_outputs", None) or [None])[-1]
    sigmas, index = getattr(scheduler, "sigmas", None), getattr(scheduler, "step_index", None)
    flow = "FlowMatch" in type(scheduler).__name__ or config.get("prediction_type") == "flow_prediction"
    if found is None and flow and sigmas is not None and index:
        # A step goes straight on, so the rest of the way leads to where the line ends.
        start, end = sigmas[index - 1].to(sample.device), sigmas[-1].to(sample.device)
        found = sample.float() + (end - start) * output.float()
    return found if found is not None and found.shape == result[0].shape else result[0]
