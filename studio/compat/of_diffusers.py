"""Private names of diffusers, known to work in 0.42.

Its loaders take seconds to import, so each function imports what it uses.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

WUERSTCHEN = "diffusers.pipelines.deprecated.wuerstchen"
"""Where the parts of Wuerstchen stand, and the autoencoder that Stable Cascade shares with it.

A model_index.json names the pipeline alone, and diffusers itself looks in the folder where they were before.
"""


# Weights into parts


def has_other_classes(kind: Any) -> bool:
    """Whether diffusers may load another class than this one: which, it decides by the config, on its own way alone.

    LegacyModelMixin is in no public module.
    """
    from diffusers.models.modeling_utils import LegacyModelMixin

    return issubclass(kind, LegacyModelMixin)


def is_partly_exact(kind: Any) -> bool:
    """Whether some of a kind's weights stay in float32, whatever type is asked for; of transformers' kinds, too.

    Both packages keep this in `_keep_in_fp32_modules`, and only `from_pretrained` heeds it. Transformers 5.23.
    """
    return bool(getattr(kind, "_keep_in_fp32_modules", None))


def may_be_left_over(kind: Any) -> tuple[str, ...]:
    """Patterns of tensors that files of this kind have and it does not use, which diffusers does not tell of either.

    They stand in `_keys_to_ignore_on_load_unexpected`, and only `from_pretrained` heeds them.
    """
    return tuple(getattr(kind, "_keys_to_ignore_on_load_unexpected", None) or ())


def fill(part: Any, state: dict[str, Any], dtype: Any) -> None:
    """Put the tensors into a part that was made without weights. They are not copied where their type is right.

    The public `from_pretrained` and `from_single_file` read files by themselves, without progress.
    """
    from diffusers.models.model_loading_utils import load_model_dict_into_meta

    load_model_dict_into_meta(part, state, dtype=dtype)


def rename(part: Any, state: dict[str, Any]) -> None:
    """Give the tensors of an old file the names that the part has for them now, as `from_pretrained` does."""
    part._fix_state_dict_keys_on_load(state)


def clip_of_makers(kind: Any, state: dict[str, Any], dtype: Any, **where: Any) -> Any:
    """A CLIP text encoder from tensors in the layouts of single files. where: config, subfolder, local_files_only.

    Only whole pipelines have a public `from_single_file` for it, and those read the file by themselves.
    """
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    return create_diffusers_clip_model_from_ldm(kind, state, torch_dtype=dtype, **where)


def t5_of_makers(kind: Any, state: dict[str, Any], dtype: Any, **where: Any) -> Any:
    """A T5 encoder from tensors in the layout of single files. See `clip_of_makers`."""
    from diffusers.loaders.single_file_utils import create_diffusers_t5_model_from_checkpoint

    return create_diffusers_t5_model_from_checkpoint(kind, state, torch_dtype=dtype, **where)


def converted_kl(state: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The tensors of the original autoencoder under diffusers' names.

    The public `from_single_file` does this for the kinds that it knows, and FLUX.2's is none of them.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return convert_ldm_vae_checkpoint(state, config=config)


def converted_wan(state: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The tensors of Wan 2.1's autoencoder under diffusers' names; Qwen-Image's is none of those that it knows."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    return convert_wan_vae_to_diffusers(state, config=config)


# Schedulers


def state_of(scheduler: Any) -> Mapping[str, Any]:
    """All that a scheduler holds, as a view: its timetable, its place and its history.

    A scheduler can neither be stored in mid-run nor asked where it stands.
    """
    return vars(scheduler)


def put_state(scheduler: Any, values: Mapping[str, Any]) -> None:
    """Let a scheduler hold these values from now on, of those that `state_of` gives."""
    vars(scheduler).update(values)


def copied(scheduler: Any) -> Any:
    """A scheduler that goes on from the same place by itself.

    Tensors are shared, for no scheduler writes into one it has; lists, in which some keep their history, are not.
    """
    result = copy.copy(scheduler)
    for name, value in vars(result).items():
        if isinstance(value, list):
            setattr(result, name, list(value))
    return result


def go_on_from(scheduler: Any, index: int) -> None:
    """Take this one of its own calls next, in mid-run: `set_begin_index` alone is heeded before the first one only."""
    scheduler.set_begin_index(index)
    scheduler._step_index = None


def last_prediction(scheduler: Any) -> Any:
    """The newest of what a solver of several steps remembers of the model; None where it remembers nothing.

    Its `step` returns the next latents only. `model_outputs` is its own history.
    """
    return (getattr(scheduler, "model_outputs", None) or [None])[-1]


def watch(scheduler: Any, told: Callable[[Mapping[str, Any], Any], None]) -> None:
    """Have `told` called after each step with its arguments by name and its result, before the pipeline goes on.

    A pipeline's public `callback_on_step_end` gives the next latents, but not what the model answered, and some
    pipelines have none.
    """
    inner = scheduler.step
    signature = inspect.signature(inner)

    @functools.wraps(inner)
    def step(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options).arguments
        result = inner(*args, **options)
        told(given, result)
        return result

    scheduler.step = step


# Pipelines


def set_guidance(pipeline: Any, scale: float) -> None:
    """The scale of a call that is under way. `guidance_scale` can only be read; diffusers' guides write this, too."""
    pipeline._guidance_scale = scale


def exchanges_attention(kind: Any) -> bool:
    """Whether a class of pipelines puts attention of its own into the model while it draws (perturbed attention).

    The class that these have in common is in no public module.
    """
    return hasattr(kind, "_set_pag_attn_processor")


def flux2_mu(tokens: int, steps: int) -> float:
    """How far FLUX.2's timetable is shifted. Its pipelines hold the formula in a function beside them."""
    from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

    return compute_empirical_mu(tokens, steps)


def flux2_system_message() -> str:
    """What FLUX.2 dev's language model is told before the prompt. No attribute of its pipeline holds it."""
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

    return SYSTEM_MESSAGE


def ip_adapters_of(unet: Any) -> Any:
    """An object whose `load_ip_adapter` reads IP-Adapters into a UNet, and nothing else.

    IPAdapterMixin is public, but meant for whole pipelines. What it asks of one is written down nowhere.
    """
    from diffusers.loaders import IPAdapterMixin

    class Holder(IPAdapterMixin):
        # Not None, so that the loader makes none: pictures are read elsewhere.
        feature_extractor: Any = ()
        image_encoder: Any = ()

        def __init__(self) -> None:
            self.unet = unet

        def register_modules(self, **parts: Any) -> None:
            for name, part in parts.items():
                setattr(self, name, part)

    return Holder()


def encoded_picture(holder: Any, picture: Any, device: Any, hidden: bool) -> tuple[Any, Any]:
    """What an IP-Adapter is given of a picture, and in its place for the negative prompt.

    holder: of `ip_adapters_of`, with an `image_encoder` and a `feature_extractor`. hidden: as
    `output_hidden_states`. The method belongs to whole pipelines, of which this is none.
    """
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.encode_image(holder, picture, device, 1, hidden)
