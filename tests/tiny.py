"""Real pipelines of a few thousand random weights, written as diffusers folders."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, FluxTransformer2DModel, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    *["a", "red", "green", "blue", "apple", "cat", "dog", "on", "table", "of", "the"],
]


def stable_diffusion(
    folder: Path, seed: int = 0, tiny_vae: bool = False, inpainting: bool = False, **scheduler: object
) -> Path:
    """A Stable Diffusion pipeline for 64x64 pictures: latents of 4 x 8 x 8, with an autoencoder of factor 8.

    inpainting: whether its UNet reads a mask and a masked picture beside the latents, nine channels in all.
    """
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=9 if inpainting else 4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    kind = "StableDiffusionInpaintPipeline" if inpainting else "StableDiffusionPipeline"
    _save(folder, kind, unet=unet, text_encoder=_clip(), vae=_vae(tiny_vae))
    _tokenizer(folder / "tokenizer")
    _scheduler(
        folder,
        "DDIMScheduler",
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        steps_offset=1,
        **scheduler,
    )
    return folder


def flux(folder: Path, seed: int = 0, guidance_embeds: bool = True) -> Path:
    """A FLUX.1 pipeline: packed latents of 4 channels, factor 8."""
    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 8),
    )
    t5 = T5EncoderModel(T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    _save(
        folder, "FluxPipeline", transformer=transformer, text_encoder=_clip(), text_encoder_2=t5, vae=_vae(shifted=True)
    )
    _tokenizer(folder / "tokenizer")
    _tokenizer(folder / "tokenizer_2", length=512)
    _scheduler(folder, "FlowMatchEulerDiscreteScheduler", num_train_timesteps=1000, use_dynamic_shifting=True)
    return folder


def _clip() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )


def _vae(tiny: bool = False, shifted: bool = False) -> torch.nn.Module:
    if tiny:
        return AutoencoderTiny(
            encoder_block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4,
            num_encoder_blocks=(1,) * 4,
            num_decoder_blocks=(1,) * 4,
            latent_channels=4,
        )
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        shift_factor=0.1 if shifted else None,
    )


def _tokenizer(folder: Path, length: int = 16) -> None:
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=length,
    ).save_pretrained(folder)


def _scheduler(folder: Path, kind: str, **config: object) -> None:
    (folder / "scheduler").mkdir()
    text = json.dumps({"_class_name": kind, **config})
    (folder / "scheduler" / "scheduler_config.json").write_text(text)


def _save(folder: Path, pipeline: str, **parts: torch.nn.Module) -> None:
    index: dict[str, object] = {"_class_name": pipeline}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    for number in ("", "_2") if "text_encoder_2" in parts else ("",):
        index[f"tokenizer{number}"] = ["transformers", "PreTrainedTokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index))
