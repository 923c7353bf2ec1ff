"""Stable Diffusion XL of a few thousand random weights, written as diffusers folders."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.tiny import WORDS, _save, _scheduler, _tokenizer, _vae


def stable_diffusion_xl(
    folder: Path,
    seed: int = 0,
    inpainting: bool = False,
    refiner: bool = False,
    zero_when_empty: bool = True,
    kind: str = "EulerDiscreteScheduler",
    **scheduler: object,
) -> Path:
    """A Stable Diffusion XL pipeline for 64x64 pictures, whose text encoders have two layers and read 16 tokens."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=9 if inpainting else 4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16 if refiner else 32,
        attention_head_dim=8,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * (5 if refiner else 6) + 24,
    )
    first = {} if refiner else {"text_encoder": clip(CLIPTextModel)}
    name = "StableDiffusionXLImg2ImgPipeline" if refiner else "StableDiffusionXLPipeline"
    name = "StableDiffusionXLInpaintPipeline" if inpainting else name
    _save(folder, name, unet=unet, **first, text_encoder_2=clip(CLIPTextModelWithProjection), vae=_vae())
    index = json.loads((folder / "model_index.json").read_text())
    index["force_zeros_for_empty_prompt"] = zero_when_empty
    if refiner:
        index |= {"tokenizer": [None, None], "text_encoder": [None, None], "requires_aesthetics_score": True}
    else:
        _tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(index))
    _tokenizer(folder / "tokenizer_2")
    _scheduler(
        folder,
        kind,
        **{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000},
        **{"steps_offset": 1, "timestep_spacing": "leading", **scheduler},
    )
    return folder


def clip(kind: type) -> torch.nn.Module:
    """A text encoder of three layers, so that two can be skipped."""
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        projection_dim=24,
    )
    return kind(config)
