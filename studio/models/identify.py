"""What a weight file is, told by the names and shapes in its header; folder and file name are hints where it is silent.

The names come from the models' own published files and from diffusers' and kohya's (sd-scripts) ways to name the same.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.models import parts
from studio.models.headers import Header, Tensor

KINDS = (
    *("model", "lora", "vae", "embedding", "controlnet", "ip-adapter", "text encoder", "image encoder"),
    *("depth", "upscaler", "other"),
)
"""What a file can be for the studio."""

BASES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
    "sd3.5": "Stable Diffusion 3.5",
    "flux1": "FLUX.1",
    "flux2": "FLUX.2",
    "qwen-image": "Qwen-Image",
    "z-image": "Z-Image",
}
"""What a model, or the model that an add-on belongs to, is built like: short name → name for a person."""

_TEXT, _NOTES, _WORDS = 200, 4000, 40
"""Characters of a title or the like, characters of notes, and number of trigger words that are kept."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is. Texts are as the file has them: bounded, and not yet made safe to show.

    kind: of KINDS. base: of BASES, or empty. variant: "dev", "inpainting", "3.5 medium", "clip-l"… as fits the kind.
    config: id of a folder in assets/configs that fits a single-file model; empty if none does. parts: of a model's
    own components, those that lie in the file. prediction_type: "epsilon", "v_prediction" or "flow", or empty.
    distilled: what its name says that it is distilled by ("turbo", "lightning"…), or empty; steps: to how many, or 0.
    """

    kind: str = "other"
    base: str = ""
    variant: str = ""
    config: str = ""
    precision: str = ""
    parameters: int = 0
    parts: tuple[str, ...] = ()
    inpainting: bool = False
    prediction_type: str = ""
    zero_snr: bool = False
    steps: int = 0
    distilled: str = ""
    title: str = ""
    author: str = ""
    license: str = ""
    notes: str = ""
    triggers: tuple[str, ...] = ()
    trained_on: str = ""
    has_thumbnail: bool = False


class Names:
    """The tensors of a file, seen below a prefix."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self.tensors, self.prefix = tensors, prefix

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.tensors

    def side(self, name: str, dimension: int) -> int:
        """One side of a tensor's shape; 0 if there is no such tensor or side."""
        tensor = self.tensors.get(self.prefix + name)
        return tensor.shape[dimension] if tensor and -len(tensor.shape) <= dimension < len(tensor.shape) else 0

    def ending(self, *endings: str) -> Tensor | None:
        """The first tensor below the prefix whose name ends so."""
        found = (name for name in self.tensors if name.startswith(self.prefix) and name.endswith(endings))
        name = next(found, None)
        return self.tensors[name] if name else None


def identify(header: Header, name: str, hint: str = "") -> Identity:
    """What the file is. name: its file name. hint: the kind that its folder is for, or empty."""
    values = _told(header.metadata)
    values |= {"precision": header.precision, "parameters": header.parameters}
    for judge in (_lora, _adapter, _model, _vae, _text_encoder, _upscaler, _embedding):
        if found := judge(header, name):
            return Identity(**{**values, **found})
    label = _others(header)
    kind = "model" if label else hint if hint in KINDS else "other"
    return Identity(**values, kind=kind, variant=label)


# Models

_PREFIXES = ("model.diffusion_model.", "", "diffusion_model.", "transformer.", "unet.")


def _model(header: Header, name: str) -> dict[str, Any] | None:
    for prefix in _PREFIXES:
        names = Names(header.tensors, prefix)
        for judge in (_flux2, _flux, _sd3, _qwen, _z_image, _unet):
            if found := judge(names, header, name):
                denoiser = "unet" if judge is _unet else "transformer"
                held = (denoiser, *_bundled(header, found["base"], name))
                return {"kind": "model", "parts": held, **few_steps(header.metadata, name, found), **found}
    return None


def _bundled(header: Header, base: str, name: str) -> list[str]:
    """The components that lie beside the UNet or transformer."""
    if name.lower().endswith(".gguf"):
        return []  # nothing but the denoiser is read from these
    return [part for part, want in parts.NEEDS.get(base, {}).items() if _holds(header, want)]


def _holds(header: Header, want: str) -> bool:
    """Whether the file holds this one of `studio.models.parts.PARTS`."""
    return bool(parts.held(header.tensors, parts.PARTS[want].kind, parts.PARTS[want].size))


def _flux2(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    if not any(f"double_stream_modulation_img.{end}.weight" in names for end in ("lin", "linear")):
        return None
    width = names.side("img_in.weight", 0) or names.side("x_embedder.weight", 0)
    variants = {3072: "klein 4B", 4096: "klein 9B", 6144: "dev"}
    config = "flux-2-klein" if width == 3072 else ""
    return {"base": "flux2", "variant": variants.get(width, ""), "config": config, "prediction_type": "flow"}


def _flux(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    original = "double_blocks.0.img_attn.qkv.weight" in names
    converted = "single_transformer_blocks.0.proj_mlp.weight" in names and "x_embedder.weight" in names
    # Chroma has a guidance layer of its own.
    if not (original or converted) or "distilled_guidance_layer.in_proj.weight" in names:
        return None
    guided = "guidance_in.in_layer.weight" in names or "time_text_embed.guidance_embedder.linear_1.weight" in names
    # Weights in 4 bits are packed: their shape tells nothing, and then the usual number is taken.
    channels = names.side("img_in.weight" if original else "x_embedder.weight", 1)
    if channels == 384:
        found = {"variant": "fill", "config": "flux-1-fill", "inpainting": True}
    elif channels in (128, 196, 448):
        found = {"variant": f"control, {channels} channels"}
    elif guided:
        found = {"variant": "dev", "config": "flux-1-dev"}
    else:
        found = {"variant": "schnell", "config": "flux-1-schnell"}
    return {"base": "flux1", "prediction_type": "flow", **found}


def _sd3(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    if "joint_blocks.0.x_block.attn.qkv.weight" in names:
        width = names.side("x_embedder.proj.weight", 0)
        dual, normed = "joint_blocks.0.x_block.attn2.qkv.weight", "joint_blocks.0.x_block.attn.ln_q.weight"
    elif "transformer_blocks.0.attn.add_q_proj.weight" in names and "pos_embed.proj.weight" in names:
        width = names.side("pos_embed.proj.weight", 0)
        dual, normed = "transformer_blocks.0.attn2.to_q.weight", "transformer_blocks.0.attn.norm_q.weight"
    else:
        return None
    found = {"base": "sd3", "variant": "medium", "config": "stable-diffusion-3"}
    if dual in names:
        found = {"base": "sd3.5", "variant": "medium", "config": "stable-diffusion-3.5-medium"}
    elif width == 2432 or normed in names:
        found = {"base": "sd3.5", "variant": "large", "config": "stable-diffusion-3.5-large"}
    return {"prediction_type": "flow", **found}


def _qwen(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    if "transformer_blocks.0.img_mod.1.weight" not in names or "txt_norm.weight" not in names:
        return None
    if "time_text_embed.addition_t_embedding.weight" in names:
        return {"base": "qwen-image", "variant": "layered", "prediction_type": "flow"}
    return {"base": "qwen-image", "config": "qwen-image", "prediction_type": "flow"}


def _z_image(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    # Lumina 2 is built alike, with one more layer before its modulation.
    if "layers.0.adaLN_modulation.0.weight" not in names or "cap_embedder.0.weight" not in names:
        return None
    return {"base": "z-image", "config": "z-image", "prediction_type": "flow"}


_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
"""Width of what the UNet's cross attention reads → base; 1280 is SDXL's refiner."""


def _unet(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    original = "input_blocks.0.0.weight" in names and "out.2.weight" in names
    if not original and not ("conv_in.weight" in names and "time_embedding.linear_1.weight" in names):
        return None
    attention = names.ending("transformer_blocks.0.attn2.to_k.weight")
    base = _CONTEXT.get(attention.shape[-1], "") if attention and attention.shape else ""
    channels = names.side("input_blocks.0.0.weight" if original else "conv_in.weight", 1)
    if names.ending(".motion_modules.0.temporal_transformer.norm.weight") or not base:
        return {"base": "", "variant": "an unknown UNet", "inpainting": channels == 9}
    if base == "sdxl" and attention and attention.shape[-1] == 1280:
        return {"base": base, "variant": "refiner"}
    if "edm_mean" in header.tensors:
        return {"base": base, "variant": "Playground 2.5"}
    if channels not in (0, 4, 9):
        kinds = {8: "InstructPix2Pix", 7: "upscaler", 5: "depth"}
        return {"base": base, "variant": kinds.get(channels, f"{channels} channels")}
    inpainting = channels == 9
    prediction = _prediction(header, base, name, inpainting)
    config = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2", "sdxl": "stable-diffusion-xl"}[base]
    if inpainting:
        config += "-inpainting"
    elif base == "sd2" and prediction == "v_prediction":
        config += "-v"
    variant = "inpainting" if inpainting else "v-prediction" if prediction == "v_prediction" else ""
    found = {
        "base": base,
        "variant": variant,
        "config": config,
        "inpainting": inpainting,
        "prediction_type": prediction,
    }
    return {
        **found,
        "zero_snr": "ztsnr" in header.tensors or _says(header, "zero_terminal_snr", "ss_zero_terminal_snr"),
    }


def _prediction(header: Header, base: str, name: str, inpainting: bool) -> str:
    """ "epsilon" or "v_prediction". Files of SD 2 that say nothing are told apart by their name: 512 px is "base"."""
    told = str(header.metadata.get("modelspec.prediction_type", "")).lower()
    if told:
        return "v_prediction" if told.startswith("v") else "epsilon"
    if "v_pred" in header.tensors or _says(header, "ss_v_parameterization"):
        return "v_prediction"
    architecture = header.metadata.get("modelspec.architecture", "").lower()
    if base != "sd2" or inpainting or architecture.startswith("stable-diffusion-v2-512"):
        return "epsilon"
    if "turbo" in words_of(name):
        return "epsilon"  # SD Turbo, by its published scheduler_config.json
    small = re.search(r"512|base|epsilon|eps(?![a-z])", name.lower())
    return "epsilon" if small and not re.search(r"768|v[-_]?pred", name.lower()) else "v_prediction"


def _says(header: Header, *keys: str) -> bool:
    return any(str(header.metadata.get(key, "")).lower() in ("true", "1") for key in keys)


_DISTILLED = re.compile(r"(?:sdxl|sd|xl|flux|zimage)?(turbo|lightning|hyper|lcm|dmd|schnell)(?:sdxl|sd|xl|flux)?")
_AFTER_HYPER = re.compile(r"sdxl|sd|xl|flux|baked(?:vae)?|vae|fp|bf|steps?|version|v|unet|full|lora")
"""What stands after "hyper" where that is a way to distil, and not half of "hyper realistic"."""


def few_steps(metadata: Mapping[str, str], name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """`distilled` and `steps` of a distilled model, which only its name tells: "8step" beside the word, else the usual.

    found: what is known already. Words count as words: a name that merely contains such letters says nothing.
    """
    if found["base"] == "flux2":
        # FLUX.2 klein is distilled to 4 steps, and its undistilled models are called klein base.
        distilled = str(found.get("variant", "")).startswith("klein") and "base" not in words_of(name)
        return {"distilled": "klein", "steps": 4} if distilled else {}
    text = f"{name} {metadata.get('modelspec.title', '')}"
    kind = next(_kinds(words_of(text)), "")
    if not kind:
        return {}
    told = re.search(r"(?<!\d)(\d{1,2})[-_ ]?step", text, re.I)
    usual = 8 if found["base"] in ("z-image", "qwen-image", "flux1") and kind != "schnell" else 4
    return {"distilled": kind, "steps": min(max(int(told[1]), 1), 20) if told else usual}


def words_of(name: str) -> list[str]:
    """The words and numbers of a file's name, in small letters; capitals begin words, too: "v9TurboDPM" has four."""
    name = re.sub(r"\.(?:safetensors|gguf|ckpt|pth?|bin)(?=\s|$)", " ", name)
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def _kinds(words: list[str]) -> Iterator[str]:
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if (match := _DISTILLED.fullmatch(word)) and (
            word != "hyper" or not after or after.isdecimal() or _AFTER_HYPER.fullmatch(after)
        ):
            yield match[1]


def _others(header: Header) -> str:
    """What diffusers takes the file for, if it is the single file of an architecture that isn't listed above."""
    if len(header.tensors) < 10:
        return ""
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    try:
        found = infer_diffusers_model_type(dict(header.tensors))
    except Exception:  # it expects real tensors of its known models; anything can be missing here
        return ""
    return "" if found == "v1" else str(found)


# What is put beside a model

_LORA = (
    *(f"{dot}{name}.weight" for dot in "._" for name in ("lora.up", "lora.down")),
    *(f".{name}.weight" for name in ("lora_down", "lora_up", "lora_mid", "lora_A", "lora_B", "lora_A.default")),
    *(".hada_w1_a", ".lokr_w1", ".lokr_w1_a", ".oft_blocks", ".dora_scale"),
)
"""How the names of a LoRA's tensors end: kohya's, PEFT's, diffusers' older ones, LyCORIS'."""


def _lora(header: Header, name: str) -> dict[str, Any] | None:
    names = Names(header.tensors)
    if not names.ending(*_LORA):
        return None
    if "lora_controlnet" in header.tensors:
        return {"kind": "controlnet", "variant": "control-LoRA", "base": _base_by_width(header)}
    lycoris = names.ending(".hada_w1_a", ".lokr_w1", ".lokr_w1_a", ".oft_blocks")
    # A file that adds a lora to an IP adapter still is one.
    kind = "ip-adapter" if any(n.startswith(("image_proj.", "ip_adapter.")) for n in header.tensors) else "lora"
    return {"kind": kind, "variant": "LyCORIS" if lycoris else "", "base": _base_told(header) or _base_by_names(header)}


_ARCHITECTURES = (
    (r"stable-diffusion-xl|sdxl", "sdxl"),
    (r"stable-diffusion-v?3[.-]?5|sd3[.-]?5", "sd3.5"),
    (r"stable-diffusion-v?3|sd3", "sd3"),
    (r"stable-diffusion-v?2|sd[_-]?v?2", "sd2"),
    (r"stable-diffusion-v?1|sd[_-]?v?1", "sd1"),
    (r"flux[-_. ]?2", "flux2"),
    (r"flux", "flux1"),
    (r"qwen", "qwen-image"),
    (r"z[-_ ]?image|zimage", "z-image"),
)


def _base_told(header: Header) -> str:
    """The base model that the metadata names: kohya's `ss_base_model_version`, or ModelSpec's architecture."""
    for key in ("modelspec.architecture", "ss_base_model_version"):
        told = header.metadata.get(key, "").lower()
        for pattern, base in _ARCHITECTURES:
            if re.match(pattern, told):
                return base
    if header.metadata.get("ss_v2", "") in ("True", "False"):
        return "sd2" if header.metadata["ss_v2"] == "True" else "sd1"
    return ""


def _base_by_names(header: Header) -> str:
    text = "\n".join(header.tensors).lower()
    signs: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("flux2", ("double_stream_modulation", "single_transformer_blocks.0.attn.to_qkv_mlp_proj")),
        (
            "flux1",
            ("double_blocks_0_img_attn", "double_blocks.0.img_attn", "single_transformer_blocks", "single_blocks"),
        ),
        ("sd3", ("joint_blocks", "joint_transformer_blocks")),
        (
            "qwen-image",
            ("transformer_blocks.0.img_mod", "transformer_blocks_0_img_m", "transformer_blocks.0.attn.add_q"),
        ),
        ("z-image", ("noise_refiner", "layers.0.attention.to_q", "layers_0_attention", "layers.0.attention.qkv")),
    )
    for base, patterns in signs:
        if any(pattern in text for pattern in patterns):
            return base
    if "lora_te2_" in text or "text_encoder_2." in text:
        return "sdxl"
    return _base_by_width(header)


def _base_by_width(header: Header) -> str:
    """By the width of what cross attention reads."""
    ends = ("weight", "lora_A.weight", "lora_down.weight", "lora.down.weight")
    dotted = [f"attn2.to_k.{end}" for end in ends] + ["attn2.to_k_lora.down.weight"]
    kohya = ["attn2_to_k.lora_down.weight", "attn2_to_k.hada_w1_b", "attn2.processor.to_k_lora.down.weight"]
    found = Names(header.tensors).ending(*dotted, *kohya)
    return _CONTEXT.get(found.shape[-1], "") if found and found.shape else ""


def _embedding(header: Header, name: str) -> dict[str, Any] | None:
    """Textual inversion: `emb_params`, SDXL's pair `clip_l` and `clip_g`, or one tensor under the word's own name."""
    tensors = header.tensors
    if {"clip_l", "clip_g"} <= set(tensors):
        return {"kind": "embedding", "base": "sdxl", "variant": f"{tensors['clip_l'].shape[0]} tokens"}
    if not 0 < len(tensors) <= 3:
        return None
    found = tensors.get("emb_params") or next(iter(tensors.values()))
    if not 1 <= len(found.shape) <= 2 or found.shape[-1] not in (768, 1024, 1280) or found.shape[0] > 1280:
        return None
    tokens = found.shape[0] if len(found.shape) == 2 else 1
    return {"kind": "embedding", "base": _CONTEXT[found.shape[-1]], "variant": f"{tokens} tokens"}


def _adapter(header: Header, name: str) -> dict[str, Any] | None:
    """ControlNet, T2I adapter, IP adapter."""
    names = Names(header.tensors)
    if any(each.startswith("ip_adapter.") for each in header.tensors):
        found = names.ending(".to_k_ip.weight")
        plus = "plus" if "image_proj.latents" in names else ""
        faceid = (
            "FaceID" if "image_proj.proj.0.weight" in names and names.side("image_proj.proj.0.weight", 1) == 512 else ""
        )
        base = _CONTEXT.get(found.shape[-1], "") if found and found.shape else ""
        return {"kind": "ip-adapter", "base": base, "variant": " ".join(filter(None, (faceid, plus)))}
    starts = ("control_model.", "input_hint_block.", "controlnet_cond_embedding.", "controlnet_down_blocks.",
              "controlnet_blocks.", "controlnet_x_embedder.", "control_add_embedding.", "control_layers.")  # fmt: skip
    if any(each.startswith(starts) for each in header.tensors):
        base = "flux1" if any(each.startswith("single_transformer_blocks.") for each in header.tensors) else ""
        return {"kind": "controlnet", "base": base or _base_by_width(header)}
    if "body.0.block1.weight" in names or "adapter.body.0.resnets.0.block1.weight" in names:
        return {"kind": "other", "variant": "T2I adapter"}
    return None


def _vae(header: Header, name: str) -> dict[str, Any] | None:
    for prefix in parts.VAE_HOMES:
        names = Names(header.tensors, prefix)
        for first in parts.VAE_FIRST:
            if first in names and ("decoder.conv_out.weight" in names or "decoder.head.2.weight" in names):
                return {"kind": "vae", **_vae_base(names, header.tensors[prefix + first].shape, name.lower())}
    if "decoder.layers.0.weight" in header.tensors and "encoder.layers.0.weight" in header.tensors:
        return {"kind": "vae", "variant": "tiny", "base": "sdxl" if "xl" in name.lower() else "sd1"}
    return None


def _vae_base(names: Names, first: tuple[int, ...], name: str) -> dict[str, Any]:
    """Told by the latents' channels; what has the same ones, by its name."""
    channels = first[1] if len(first) > 1 else 0
    if len(first) == 5:
        return {"base": "qwen-image" if channels == 16 else "", "variant": "Wan 2.1" if channels == 16 else "video"}
    if channels == 4:
        return {"base": "sdxl" if "xl" in name else "sd1"}
    if channels == 16:
        return {"base": "sd3" if re.search(r"sd[-_]?3|stable[-_]diffusion[-_]3", name) else "flux1"}
    return {"base": "flux2" if channels == 32 else "", "variant": f"{channels} channels"}


_ENCODERS = {want: part.size for want, part in parts.PARTS.items() if part.folder == "text_encoders"}
_OTHER_ENCODERS: dict[tuple[int, ...], str] = {
    (256384, 4096): "umt5-xxl",
    (151936, 4096): "qwen3-8b",
    (131072, 5120): "mistral-small",
    (256000, 2304): "gemma2-2b",
}
"""Vocabulary and width of the word embedding → encoder, of those that no single file needs."""

_TABLES = (
    *("shared.weight", "embed_tokens.weight", "encoder.embed_tokens.weight", "language_model.embed_tokens.weight"),
    *("model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
    *("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"),
)
"""Where text encoders keep their word embedding."""


def _text_encoder(header: Header, name: str) -> dict[str, Any] | None:
    for want in _ENCODERS:
        if _holds(header, want):
            return {"kind": "text encoder", "variant": want}
    for prefix in ("", "text_model.", "transformer.", "text_encoder.", "model."):
        names = Names(header.tensors, prefix)
        for table in (parts.PACKED_TABLE, *_TABLES):
            if table in names:
                known = dict(_OTHER_ENCODERS)
                if table == parts.PACKED_TABLE:
                    known |= {size: f"{want} as GGUF" for want, size in _ENCODERS.items()}  # not to be read as such
                other = "CLIP" if "token_embedding" in table else ""
                variant = known.get((names.side(table, 0), names.side(table, 1)), other)
                return {"kind": "text encoder", "variant": variant}
    if any(each.startswith(("vision_model.", "visual.trunk.", "image_encoder.")) for each in header.tensors):
        return {"kind": "image encoder"}
    return None


def _upscaler(header: Header, name: str) -> dict[str, Any] | None:
    """ESRGAN and its kin, and the transformers for the same purpose."""
    signs = (
        *("body.0.rdb1.conv1.weight", "model.1.sub.0.RDB1.conv1.0.weight", "RRDB_trunk.0.RDB1.conv1.weight"),
        *("layers.0.residual_group.blocks.0.norm1.weight", "params_ema.conv_first.weight", "body.0.weight"),
    )
    return {"kind": "upscaler"} if any(sign in header.tensors for sign in signs) else None


# What the metadata tells


def _told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Title, author, licence, notes and trigger words: ModelSpec's and kohya's keys."""

    def text(*keys: str) -> str:
        return next((metadata[key] for key in keys if metadata.get(key)), "")

    notes = [text("modelspec.description", "description"), text("modelspec.usage_hint"), text("ss_training_comment")]
    return {
        "title": text("modelspec.title", "ss_output_name", "general.name")[:_TEXT],
        "author": text("modelspec.author", "general.author")[:_TEXT],
        "license": text("modelspec.license", "general.license")[:_TEXT],
        "notes": "\n\n".join(note for note in notes if note and note != "None")[:_NOTES],
        "triggers": triggers(metadata),
        "trained_on": text("ss_sd_model_name")[:_TEXT],
        "has_thumbnail": metadata.get("modelspec.thumbnail", "").startswith("data:image/"),
    }


def triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Words that call up what a LoRA was trained on: those it names, else the tags most of its pictures had."""
    if named := metadata.get("modelspec.trigger_phrase") or metadata.get("modelspec.trigger_words"):
        return _words(named.split(","))
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + int(count)
    except (ValueError, AttributeError, TypeError, RecursionError, OverflowError):
        return ()
    return _words(sorted(counts, key=lambda tag: -counts[tag])[:20])


def _words(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(word.strip()[:100] for word in words if word.strip())[:_WORDS]


_FOLDERS = {
    "model": "stable-diffusion checkpoints unet unet_gguf diffusion_models diffusers main",
    "lora": "lora loras lycoris locon",
    "vae": "vae vaes",
    "embedding": "embeddings embedding textual_inversion",
    "controlnet": "controlnet controlnets control_lora sd-webui-controlnet",
    "image encoder": "clip_vision image_encoder image_encoders",
    "depth": "depth",
    "ip-adapter": "ip_adapter ip_adapters ipadapter ip-adapter",
    "text encoder": "text_encoder text_encoders text-encoders clip t5_encoder clip_embed",
    "upscaler": "esrgan realesrgan swinir dat hat scunet ldsr bsrgan upscale_models upscalers upscaler spandrel "
    "spandrel_image_to_image latent_upscale_models",
    "other": "t2i_adapter t2i hypernetworks style_models gligen photomaker vae_approx "
    "vae-approx gfpgan codeformer deepbooru torch_deepdanbooru blip karlo animatediff_models animatediff_motion_lora "
    "insightface ultralytics sams annotators controlnetpreprocessor audio_encoders model_patches svd z123 llm siglip "
    "flux_redux control_layer",
}

FOLDERS = {name: kind for kind, names in _FOLDERS.items() for name in names.split()}
"""What A1111, Forge, SD.Next, ComfyUI and InvokeAI keep in the folders of these names, in small letters."""


def by_name(path: Path, hint: str) -> str:
    """The kind of a file that is not looked into."""
    return hint or ("model" if path.suffix.lower() == ".ckpt" else "other")
