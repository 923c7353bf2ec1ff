"""Real transformer pipelines of a few thousand random weights, written as diffusers folders: latents of 64x64 pictures
are 8 x 8, or 4 x 4 for FLUX.2.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from tests import tiny

_VAE: dict[str, Any] = {
    "block_out_channels": (4, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 4,
    "layers_per_block": 1,
}

CHAT = (
    "{% for message in messages %}{{ message.role }} : {{ message.content }} ; {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% if enable_thinking is false %}the end {% endif %}{% endif %}"
)
CHAT_IN_PARTS = (
    "{% for message in messages %}{{ message.role }} : "
    "{% for part in message.content %}{{ part.text }} {% endfor %}; {% endfor %}"
)


def stable_diffusion_3(folder: Path, t5: bool = True, **transformer: Any) -> Path:
    """Stable Diffusion 3. t5: with its third text encoder. transformer: what its config says otherwise."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "transformer": SD3Transformer2DModel(
            **{
                "sample_size": 8,
                "patch_size": 2,
                "in_channels": 16,
                "out_channels": 16,
                "num_layers": 1,
                "attention_head_dim": 8,
                "num_attention_heads": 2,
                "joint_attention_dim": 32,
                "caption_projection_dim": 16,
                "pooled_projection_dim": 32,
                "pos_embed_max_size": 16,
                **transformer,
            }
        ),
        "text_encoder": _clip(),
        "text_encoder_2": _clip(),
        "text_encoder_3": _t5(32) if t5 else None,
        "vae": AutoencoderKL(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609, **_VAE),
        "tokenizer": tiny._tokenizer,
        "tokenizer_2": tiny._tokenizer,
        "tokenizer_3": (lambda each: tiny._tokenizer(each, 512)) if t5 else None,
    }
    return _save(folder, "StableDiffusion3Pipeline", parts, shift=3.0)


def flux_fill(folder: Path) -> Path:
    """FLUX.1 Fill, which reads the masked picture and the mask beside its latents: 16 + 16 + 256 channels."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=288,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    parts: dict[str, Any] = {
        "transformer": transformer,
        "text_encoder": tiny._clip(),
        "text_encoder_2": _t5(16),
        "vae": tiny._vae(shifted=True),
        "tokenizer": tiny._tokenizer,
        "tokenizer_2": lambda each: tiny._tokenizer(each, 512),
    }
    return _save(folder, "FluxFillPipeline", parts, use_dynamic_shifting=True)


def flux2(folder: Path, kind: str = "klein") -> Path:
    """FLUX.2. kind: "klein", "klein-base" or "dev"."""
    torch.manual_seed(0)
    dev = kind == "dev"
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=dev,
    )
    vae = AutoencoderKLFlux2(latent_channels=4, **_VAE)
    vae.bn.running_mean.copy_(0.1 * torch.randn(16))
    vae.bn.running_var.copy_(0.5 + torch.rand(16))
    parts: dict[str, Any] = {
        "transformer": transformer,
        "text_encoder": _mistral() if dev else Qwen3ForCausalLM(_qwen3()),
        "vae": vae,
        "tokenizer": _tokenizer_in_parts if dev else _tokenizer,
    }
    index = {} if dev else {"is_distilled": kind == "klein"}
    name = "Flux2Pipeline" if dev else "Flux2KleinPipeline"
    return _save(folder, name, parts, index, use_dynamic_shifting=True, shift=3.0)


def qwen_image(folder: Path) -> Path:
    """Qwen-Image."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "transformer": QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        "text_encoder": _qwen_vl(),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[0.5, 0.7, 1.1, 0.9],
        ),
        "tokenizer": _tokenizer,
    }
    schedule: dict[str, Any] = {"base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02}
    return _save(folder, "QwenImagePipeline", parts, use_dynamic_shifting=True, **schedule)


def z_image(folder: Path, turbo: bool = True) -> Path:
    """Z-Image."""
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[600, 32, 32],
    )
    for padding in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(padding)
    parts: dict[str, Any] = {
        "transformer": transformer,
        "text_encoder": Qwen3Model(_qwen3()),
        "vae": tiny._vae(shifted=True),
        "tokenizer": _tokenizer,
    }
    return _save(folder, "ZImagePipeline", parts, shift=3.0 if turbo else 6.0)


def _clip() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tiny.WORDS),
            hidden_size=16,
            intermediate_size=16,
            projection_dim=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )


def _t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=len(tiny.WORDS), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def _qwen3() -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(tiny.WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )


def _qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(tiny.WORDS),
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
            },
        )
    )


def _mistral() -> Mistral3ForConditionalGeneration:
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    return Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config={
                "model_type": "mistral",
                "vocab_size": len(tiny.WORDS),
                "num_hidden_layers": 4,
                "num_key_value_heads": 1,
                "head_dim": 8,
                **size,
            },
            vision_config={"model_type": "pixtral", "num_hidden_layers": 1, "image_size": 28, "patch_size": 14, **size},
            image_token_index=3,
        )
    )


def _tokenizer(folder: Path, template: str = CHAT) -> None:
    """One that puts nothing around the words, as those of language models."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(tiny.WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(
        tokenizer_object=words, chat_template=template, model_max_length=2048, **names
    ).save_pretrained(folder)


def _tokenizer_in_parts(folder: Path) -> None:
    _tokenizer(folder, CHAT_IN_PARTS)


def _save(
    folder: Path, pipeline: str, parts: dict[str, Any], index: dict[str, Any] | None = None, **schedule: Any
) -> Path:
    """Write a pipeline: modules as they are, tokenizers by the function that writes them, None as what is not there."""
    found: dict[str, Any] = {"_class_name": pipeline, **(index or {})}
    for name, part in parts.items():
        if part is None:
            found[name] = [None, None]
        elif isinstance(part, torch.nn.Module):
            part.save_pretrained(folder / name)
            found[name] = [type(part).__module__.split(".")[0], type(part).__name__]
        else:
            part(folder / name)
            kind = "PixtralProcessor" if part is _tokenizer_in_parts else "PreTrainedTokenizerFast"
            found[name] = ["transformers", kind]
    tiny._scheduler(folder, "FlowMatchEulerDiscreteScheduler", num_train_timesteps=1000, **schedule)
    found["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(found))
    return folder
