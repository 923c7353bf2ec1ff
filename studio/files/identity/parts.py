"""What a model works with beside its denoiser, and how a file is known to hold it.

This is the one rule for single files: by it `identify` tells what a file holds, `catalog` finds what a model lacks and
says what is missing, and `loading` reads it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from studio.files.folders import read_json
from studio.settings import ROOT

CONFIGS = ROOT / "assets" / "configs"
"""What single files lack, a folder for each kind of model: model_index.json, the parts' configs and tokenizers."""


@dataclass(frozen=True, slots=True)
class Part:
    """A VAE or text encoder that models share.

    kind: its class in diffusers or transformers. size: (latent channels,) of a VAE; (vocabulary, width) of a text
    encoder. label: what it is called. files: how people have it.
    """

    kind: str
    size: tuple[int, ...]
    label: str
    files: str

    @property
    def folder(self) -> str:
        """The folder below a models folder that it goes to."""
        return "vae" if self.kind.startswith("Autoencoder") else "text_encoders"


PARTS = {
    "clip-l": Part("CLIPTextModel", (49408, 768), "text encoder CLIP-L", "clip_l.safetensors"),
    "clip-h": Part("CLIPTextModel", (49408, 1024), "text encoder CLIP-H", "the text_encoder of a Stable Diffusion 2"),
    "clip-g": Part("CLIPTextModelWithProjection", (49408, 1280), "text encoder CLIP-G", "clip_g.safetensors"),
    "t5-xxl": Part(
        "T5EncoderModel",
        (32128, 4096),
        "text encoder T5-XXL",
        "t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn.safetensors",
    ),
    "qwen3-4b": Part("Qwen3Model", (151936, 2560), "text encoder Qwen3 4B", "qwen_3_4b.safetensors"),
    "qwen2.5-vl-7b": Part(
        "Qwen2_5_VLForConditionalGeneration",
        (152064, 3584),
        "text encoder Qwen2.5-VL 7B",
        "qwen_2.5_vl_7b.safetensors or qwen_2.5_vl_7b_fp8_scaled.safetensors",
    ),
    "sd1": Part("AutoencoderKL", (4,), "VAE of Stable Diffusion 1.x", "vae-ft-mse-840000-ema-pruned.safetensors"),
    "sdxl": Part("AutoencoderKL", (4,), "VAE of Stable Diffusion XL", "sdxl_vae.safetensors"),
    "sd3": Part("AutoencoderKL", (16,), "VAE of Stable Diffusion 3", "its VAE with sd3 in its name"),
    "flux1": Part("AutoencoderKL", (16,), "VAE of FLUX.1", "ae.safetensors"),
    "flux2": Part("AutoencoderKLFlux2", (32,), "VAE of FLUX.2", "flux2-vae.safetensors"),
    "qwen-image": Part("AutoencoderKLQwenImage", (16,), "VAE of Qwen-Image", "qwen_image_vae.safetensors"),
}
"""Variant of a text encoder, or base of a VAE (`studio.files.identity.identify`) → what it is."""

NEEDS: dict[str, dict[str, str]] = {
    "sd1": {"vae": "sd1", "text_encoder": "clip-l"},
    "sd2": {"vae": "sd1", "text_encoder": "clip-h"},
    "sdxl": {"vae": "sdxl", "text_encoder": "clip-l", "text_encoder_2": "clip-g"},
    "sd3": {"vae": "sd3", "text_encoder": "clip-l", "text_encoder_2": "clip-g", "text_encoder_3": "t5-xxl"},
    "sd3.5": {"vae": "sd3", "text_encoder": "clip-l", "text_encoder_2": "clip-g", "text_encoder_3": "t5-xxl"},
    "flux1": {"vae": "flux1", "text_encoder": "clip-l", "text_encoder_2": "t5-xxl"},
    "flux2": {"vae": "flux2", "text_encoder": "qwen3-4b"},
    "qwen-image": {"vae": "qwen-image", "text_encoder": "qwen2.5-vl-7b"},
    "z-image": {"vae": "flux1", "text_encoder": "qwen3-4b"},
}
"""What a model of this base works with beside its UNet or transformer: part → of PARTS."""

VOCABULARIES = {
    "t5": "tokenizer of T5 (the folder tokenizer_2 of a FLUX.1 or tokenizer_3 of a Stable Diffusion 3 as t5_tokenizer)",
    "qwen": "tokenizer of Qwen (the folder tokenizer of a Z-Image, Qwen-Image or FLUX.2 klein as qwen_tokenizer)",
}
"""Vocabularies that are too large to ship → what they are called, and how people have them."""


@lru_cache(64)
def vocabularies(config: Path) -> dict[str, str]:
    """The tokenizers of a shipped config whose vocabulary has to be on this machine: part → of VOCABULARIES."""
    told = {
        path.parent.name: read_json(path).get("vocabulary") for path in config.glob("tokenizer*/tokenizer_config.json")
    }
    return {part: name for part, name in sorted(told.items()) if name in VOCABULARIES}


def missing(name: str, lacking: Iterable[str], home: str) -> str:
    """The sentence about what a single file lacks: what it is, how people have it, and where to put it.

    lacking: of PARTS and VOCABULARIES. home: the models folder to name.
    """
    return f"{name} holds only a part of its model. Put {_where(lacking, home)}. It is found there at once."


def without(name: str, lacking: Iterable[str], home: str) -> str:
    """The sentence about what a single file lacks and can do without; as `missing`."""
    return (
        f"{name} is used without a text encoder that it was trained with: long prompts are refused, and what is asked "
        f"for in detail is followed less. To use it with all, put {_where(lacking, home)}."
    )


def _where(lacking: Iterable[str], home: str) -> str:
    places: dict[str, list[str]] = {}
    for each in dict.fromkeys(lacking):
        if each in VOCABULARIES:
            places.setdefault(home, []).append(f"the {VOCABULARIES[each]}")
        else:
            part = PARTS[each]
            places.setdefault(str(Path(home, part.folder)), []).append(f"the {part.label} ({part.files})")
    return ", ".join(f"{' and '.join(what)} into {where}" for where, what in places.items())


# What a file holds


class Shaped(Protocol):
    """A tensor as a header tells it."""

    @property
    def shape(self) -> tuple[int, ...]: ...


_CLIP = "embeddings.token_embedding.weight"
_CLIP_INNER = ("text_model.", "")
"""Below its home, a CLIP is one thing further in; not in the first models' files, and as transformers 5 writes it."""
_POSITIONS = "embeddings.position_embedding.weight"
_MOST_TOKENS = 77
"""How many places a CLIP has; LongCLIP has more, and is another model."""
_PROJECTION = "text_projection.weight"
_CLIP_HOMES = (
    "cond_stage_model.transformer.",
    "conditioner.embedders.0.transformer.",
    "text_encoders.clip_l.transformer.",
    "text_encoders.clip_g.transformer.",
    "",
)
_OPEN_CLIP_HOMES = ("cond_stage_model.model.", "conditioner.embedders.1.model.", "conditioner.embedders.0.model.", "")
_T5_HOMES = ("text_encoders.t5xxl.transformer.", "")
_PACKED = {"T5EncoderModel": "enc.blk.0.attn_q.weight", "Qwen3Model": "blk.0.attn_q_norm.weight"}
"""Kinds of text encoder that are read from GGUF → a tensor by which they are known there, in llama.cpp's names."""
PACKED_TABLE = "token_embd.weight"
_QWEN_HOMES = ("text_encoders.qwen3_4b.transformer.", "text_encoders.qwen25_7b.transformer.", "")
DENOISER_HOMES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "unet.")
"""Below which a file may keep its denoiser, if it does not lie bare."""
VAE_HOMES = ("first_stage_model.", "vae.", "")
VAE_FIRST = ("decoder.conv_in.weight", "decoder.conv1.weight")
"""The decoder's first weight, as most call it and as Wan does."""


def size_of(kind: str, config: Mapping[str, Any]) -> tuple[int, ...]:
    """What tells a part of this kind from others, by its config: as `Part.size`."""
    if kind.startswith("Autoencoder"):
        return (config.get("latent_channels") or config["z_dim"],)
    text = config.get("text_config", config)
    return text["vocab_size"], text["d_model"] if kind.startswith("T5") else text["hidden_size"]


def held(tensors: Mapping[str, Shaped], kind: str, size: tuple[int, ...]) -> dict[str, str]:
    """The tensors of a file that are the part of this kind and size, and what diffusers' converter calls them.

    Empty if the file does not hold it.
    """
    if _PACKED.get(kind) in tensors:
        table = tensors.get(PACKED_TABLE)
        return {name: name for name in tensors} if table and table.shape == size else {}
    if kind.startswith("CLIPTextModel"):
        return _clip_names(tensors, kind, size)
    if kind == "T5EncoderModel":
        return _under(tensors, _T5_HOMES, ("shared.weight", "encoder.embed_tokens.weight"), size, _T5_HOMES[0])
    if kind == "Qwen3Model" and sees(tensors):
        return {}
    if kind.startswith("Qwen"):
        tables = ("model.embed_tokens.weight", "model.language_model.embed_tokens.weight", "embed_tokens.weight")
        return _under(tensors, _QWEN_HOMES, tables, size)
    if kind.startswith("Autoencoder"):
        for key in VAE_FIRST:
            for home in VAE_HOMES:
                if home + key in tensors and tensors[home + key].shape[1:2] == size:
                    return {name: name.removeprefix(home) for name in tensors if name.startswith(home)}
    return {}


def holds(tensors: Mapping[str, Shaped], want: str) -> bool:
    """Whether the file holds this one of PARTS."""
    return bool(held(tensors, PARTS[want].kind, PARTS[want].size))


def sees(tensors: Mapping[str, Shaped]) -> bool:
    """Whether a language model looks at pictures too: Qwen3-VL has words as wide and as many as Qwen3's."""
    return any(".visual." in f".{name}" or "language_model." in name or ".deepstack" in name for name in tensors)


def _clip_names(tensors: Mapping[str, Shaped], kind: str, size: tuple[int, ...]) -> dict[str, str]:
    projected = kind.endswith("WithProjection")
    for home in _CLIP_HOMES:
        for inner in _CLIP_INNER:
            found = tensors.get(home + inner + _CLIP)
            places = tensors.get(home + inner + _POSITIONS)
            if not found or found.shape != size or (places and places.shape[:1] > (_MOST_TOKENS,)):
                continue
            goal = _CLIP_HOMES[0]
            if projected:  # the converter makes a projection up for the one, and takes it from the file for the other
                goal = _CLIP_HOMES[3 if home + _PROJECTION in tensors else 2]
            own = {name: name.removeprefix(home) for name in tensors if name.startswith(home)}
            if not inner:
                own = {name: each if each == _PROJECTION else f"text_model.{each}" for name, each in own.items()}
            return {name: goal + each for name, each in own.items()}
    goal = _OPEN_CLIP_HOMES[1 if projected else 0]
    return _under(tensors, _OPEN_CLIP_HOMES, ("token_embedding.weight",), size, goal)


def _under(
    tensors: Mapping[str, Shaped], homes: Iterable[str], keys: Iterable[str], size: tuple[int, ...], goal: str = ""
) -> dict[str, str]:
    """The tensors below the first home that has one of the keys in this shape, moved below `goal`."""
    for home in homes:
        for key in keys:
            if home + key in tensors and tensors[home + key].shape == size:
                return {name: goal + name.removeprefix(home) for name in tensors if name.startswith(home)}
    return {}
