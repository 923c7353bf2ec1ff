"""What a weight file is, told by the names and shapes in its header; folder and file name are hints where it is silent.

The names come from the models' own published files and from diffusers' and kohya's (sd-scripts) ways to name the same.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.files.headers import Header
from studio.files.identity import denoisers, extras, loras, parts, vaes
from studio.files.identity.names import Names

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
    packed: "NF4", "INT8"…, if its weights are packed in a way that is not read from single files.
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
    packed: str = ""
    distilled: str = ""
    title: str = ""
    author: str = ""
    license: str = ""
    notes: str = ""
    triggers: tuple[str, ...] = ()
    trained_on: str = ""
    has_thumbnail: bool = False


def identify(header: Header, name: str, hint: str = "") -> Identity:
    """What the file is. name: its file name. hint: the kind that its folder is for, or empty."""
    values = _told(header.metadata)
    values |= {"precision": header.precision, "parameters": header.parameters}
    if not name.lower().endswith(".gguf"):
        values["packed"] = denoisers.packed(header.tensors)
    for judge in (_lora, extras.adapter, _model, _vae, extras.text_encoder, extras.upscaler, extras.embedding):
        if found := judge(header, name):
            return Identity(**{**values, **found})
    return Identity(**values, kind=hint if hint in KINDS else "model" if _blocks(header) else "other")


# Models


def _model(header: Header, name: str) -> dict[str, Any] | None:
    for prefix in (*parts.DENOISER_HOMES, ""):
        names = Names(header.tensors, prefix)
        if label := denoisers.foreign(names):
            whole = "conv_in.weight" in names or "input_blocks.0.0.weight" in names or label != "AnimateDiff"
            return {"kind": "model" if whole else "other", "variant": label}
        for judge in (_flux2, _flux, _sd3, _qwen, _z_image, _unet):
            if found := judge(names, header, name):
                denoiser = "unet" if judge is _unet else "transformer"
                held = (denoiser, *_bundled(header, found["base"], name))
                told = few_steps(header.metadata, name, found)
                return {"kind": "model", "parts": held, **told, **_usable(found, names)}
    return None


def _usable(found: dict[str, Any], names: Names) -> dict[str, Any]:
    """What was found of a model: without a config, if not all of its tensors are accounted for."""
    layout = found.pop("layout", "")
    if not found.get("config"):
        return found
    odd = denoisers.unaccounted(names, found["base"], found["config"], layout) or denoisers.guided(names.tensors)
    return {**found, "config": "", "variant": odd} if odd else found


def _bundled(header: Header, base: str, name: str) -> list[str]:
    """The components that lie beside the UNet or transformer."""
    if name.lower().endswith(".gguf"):
        return []  # nothing but the denoiser is read from these
    return [part for part, want in parts.NEEDS.get(base, {}).items() if parts.holds(header.tensors, want)]


def _flux2(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    if not any(f"double_stream_modulation_img.{end}.weight" in names for end in ("lin", "linear")):
        return None
    width = names.side("img_in.weight", 0) or names.side("x_embedder.weight", 0)
    variants = {3072: "klein 4B", 4096: "klein 9B", 6144: "dev"}
    config = "flux-2-klein" if width == 3072 else ""
    layout = "flux2" if "img_in.weight" in names else "flux2 of diffusers"
    found = {"variant": variants.get(width, ""), "config": config, "layout": layout}
    return {"base": "flux2", "prediction_type": "flow", **found}


def _flux(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    original = "double_blocks.0.img_attn.qkv.weight" in names
    converted = "single_transformer_blocks.0.proj_mlp.weight" in names and "x_embedder.weight" in names
    if not (original or converted):
        return None
    guided = "guidance_in.in_layer.weight" in names or "time_text_embed.guidance_embedder.linear_1.weight" in names
    # Weights in 4 bits are packed: their shape tells nothing, and then the usual number is taken.
    channels = names.side("img_in.weight" if original else "x_embedder.weight", 1)
    if channels == 384:
        found = {"variant": "fill", "config": "flux-1-fill", "inpainting": True}
    elif channels in (128, 196, 448):
        found = {"variant": f"control, {channels} channels"}
    elif guided:
        # Kontext is dev, trained on to look at a picture too: no tensor tells of it.
        found = {"variant": "Kontext" if _named(header, name, "kontext") else "dev", "config": "flux-1-dev"}
    else:
        found = {"variant": "schnell", "config": "flux-1-schnell"}
    layout = "flux1" if original else "flux1 of diffusers"
    return {"base": "flux1", "prediction_type": "flow", "layout": layout, **found}


def _named(header: Header, name: str, word: str) -> bool:
    """Whether this word, or pattern of one, stands in the file's name or in what its metadata calls it."""
    told = f"{name} {header.metadata.get('modelspec.title', '')} {header.metadata.get('modelspec.architecture', '')}"
    return bool(re.search(rf"(?<![a-z]){word}(?![a-z])", told.lower()))


def _sd3(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    if "joint_blocks.0.x_block.attn.qkv.weight" in names:
        width = names.side("x_embedder.proj.weight", 0)
        dual, normed = "joint_blocks.0.x_block.attn2.qkv.weight", "joint_blocks.0.x_block.attn.ln_q.weight"
        layout = "sd3"
    elif "transformer_blocks.0.attn.add_q_proj.weight" in names and "pos_embed.proj.weight" in names:
        width = names.side("pos_embed.proj.weight", 0)
        dual, normed = "transformer_blocks.0.attn2.to_q.weight", "transformer_blocks.0.attn.norm_q.weight"
        layout = "sd3 of diffusers"
    else:
        return None
    found = {"base": "sd3", "variant": "medium", "config": "stable-diffusion-3"}
    if dual in names:
        found = {"base": "sd3.5", "variant": "medium", "config": "stable-diffusion-3.5-medium"}
    elif width == 2432 or normed in names:
        found = {"base": "sd3.5", "variant": "large", "config": "stable-diffusion-3.5-large"}
    return {"prediction_type": "flow", "layout": layout, **found}


def _qwen(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    if "transformer_blocks.0.img_mod.1.weight" not in names or "txt_norm.weight" not in names:
        return None
    if "time_text_embed.addition_t_embedding.weight" in names:
        return {"base": "qwen-image", "variant": "layered", "prediction_type": "flow"}
    # Only the newer ones that change pictures have a tensor that tells so.
    edits = "__index_timestep_zero__" in names or _named(header, name, "edit")
    found = {"variant": "Edit" if edits else "", "config": "qwen-image", "layout": "qwen-image"}
    return {"base": "qwen-image", "prediction_type": "flow", **found}


def _z_image(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    # Lumina 2 is built alike, with one more layer before its modulation.
    if "layers.0.adaLN_modulation.0.weight" not in names or "cap_embedder.0.weight" not in names:
        return None
    variant = "Edit" if _named(header, name, "edit") else ""
    return {"base": "z-image", "variant": variant, "config": "z-image", "layout": "z-image", "prediction_type": "flow"}


def _unet(names: Names, header: Header, name: str) -> dict[str, Any] | None:
    original = "input_blocks.0.0.weight" in names and "out.2.weight" in names
    if not original and not ("conv_in.weight" in names and "time_embedding.linear_1.weight" in names):
        return None
    attention = names.ending("transformer_blocks.0.attn2.to_k.weight")
    base = denoisers.CONTEXT.get(attention.shape[-1], "") if attention and attention.shape else ""
    channels = names.side("input_blocks.0.0.weight" if original else "conv_in.weight", 1)
    written = names.side("out.2.weight" if original else "conv_out.weight", 0)
    if "encoder_hid_proj.weight" in names and names.side("encoder_hid_proj.weight", 1) == 4096:
        return {"base": "", "variant": "Kolors"}  # SDXL's UNet, that reads another text encoder
    if not base or written not in (0, 4):
        return {"base": "", "variant": "an unknown UNet", "inpainting": channels == 9}
    if base == "sdxl" and attention and attention.shape[-1] == 1280:
        return {"base": base, "variant": "refiner"}
    # These see noise as EDM does (arXiv:2206.00364); a UNet alone has no tensor that tells of it.
    if "edm_mean" in header.tensors or (base == "sdxl" and _named(header, name, r"playground[-_ a-z]*v?2[-_.]?5")):
        return {"base": base, "variant": "Playground 2.5"}
    if "edm_vpred.sigma_max" in header.tensors or (base == "sdxl" and _named(header, name, "cosxl")):
        return {"base": base, "variant": "CosXL"}
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
        "layout": "unet" if original else "unet of diffusers",
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


_LARGE = 100_000_000
"""Weights of a file in numbered blocks from which on it can only be a model, even of an unknown kind."""


def _blocks(header: Header) -> bool:
    return header.parameters > _LARGE and any(re.search(r"(blocks?|layers)\.\d+\.", name) for name in header.tensors)


# What is put beside a model


def _lora(header: Header, name: str) -> dict[str, Any] | None:
    # An adapter of a face brings LoRAs along, and still is one.
    if not loras.is_one(header.tensors) or any(n.startswith(("image_proj.", "ip_adapter.")) for n in header.tensors):
        return None
    kind, base = loras.kind(header.tensors), loras.told(header.metadata)
    if base is None:
        # Some are built like one of ours but for a layer or two, which a LoRA need not have.
        others = any(_named(header, name, other) for other in ("kolors", "chroma", "hunyuan", "bria"))
        base = "" if others else loras.base(header.tensors)
    return {"kind": "lora", "variant": kind.label if kind and kind is not loras.KINDS[-1] else "", "base": base}


def _vae(header: Header, name: str) -> dict[str, Any] | None:
    found = vaes.kind(header.tensors, f"{name} {header.metadata.get('modelspec.title', '')}".lower())
    return {"kind": "vae", **found} if found else None


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
