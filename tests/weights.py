"""Weight files with the names and shapes of real models and nothing in them: headers, and holes where data would be."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "F8_E4M3": 1, "I64": 8}

Shapes = dict[str, tuple[int, ...]]
AnyShapes = Mapping[str, tuple[int, ...]]
"""What is only read: values may be of a narrower type."""


def header(shapes: AnyShapes, metadata: dict[str, str] | None = None, dtype: str = "F16") -> dict[str, Any]:
    """What stands at the start of a safetensors file with these tensors."""
    result: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * SIZES[dtype]
        result[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    return result


def safetensors(path: Path, shapes: AnyShapes, metadata: dict[str, str] | None = None, dtype: str = "F16") -> Path:
    """A file with these tensors, all zero; on disk it takes hardly more than its header."""
    text = json.dumps(header(shapes, metadata, dtype)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + sum(math.prod(shape) for shape in shapes.values()) * SIZES[dtype])
    return path


def raw(path: Path, text: str | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file with whatever header, and whatever length it is said to have."""
    text = text.encode() if isinstance(text, str) else text
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def gguf(path: Path, shapes: AnyShapes, metadata: dict[str, Any] | None = None, kind: int = 8) -> Path:
    """A GGUF file; kind 8 is Q8_0, 34 bytes for each 32 values."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    values, tensors, end = b"", b"", 0
    for name, value in (metadata or {}).items():
        values += text(name)
        if isinstance(value, str):
            values += struct.pack("<I", 8) + text(value)
        elif isinstance(value, list):
            values += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        else:
            values += struct.pack("<II", 4, value)
    for name, shape in shapes.items():
        tensors += (
            text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1]) + struct.pack("<IQ", kind, end)
        )
        end += math.prod(shape) // 32 * 34
    start = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(metadata or {})) + values + tensors
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(start + b"\0" * (-len(start) % 32))
        file.truncate(math.ceil(len(start) / 32) * 32 + end)
    return path


_SMALL = {
    f"{part}.1": 1
    for part in (
        *("input_blocks.1", "input_blocks.2", "input_blocks.4", "input_blocks.5", "input_blocks.7", "input_blocks.8"),
        *("middle_block", *(f"output_blocks.{number}" for number in range(3, 12))),
    )
}
_LARGE = {
    **{"input_blocks.4.1": 2, "input_blocks.5.1": 2, "input_blocks.7.1": 10, "input_blocks.8.1": 10},
    **{"middle_block.1": 10, "output_blocks.0.1": 10, "output_blocks.1.1": 10, "output_blocks.2.1": 10},
    **{"output_blocks.3.1": 2, "output_blocks.4.1": 2, "output_blocks.5.1": 2},
}
"""Where the UNets of SD 1 and 2, and SDXL's, have attention, and how many blocks of it, by their published configs."""


def unet(context: int, channels: int = 4, at: str = "") -> Shapes:
    """The tensors of an original UNet that tell what it is. at: where attention is in one that has it in one place."""
    places = {at: 1} if at else _LARGE if context == 2048 else _SMALL
    attention = {
        f"model.diffusion_model.{place}.transformer_blocks.{number}.attn2.to_k.weight": (320, context)
        for place, depth in places.items()
        for number in range(depth)
    }
    return {
        "model.diffusion_model.input_blocks.0.0.weight": (320, channels, 3, 3),
        **attention,
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
    }


VAE: Shapes = {
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    "first_stage_model.decoder.conv_out.weight": (3, 128, 3, 3),
}
CLIP_L: Shapes = {"text_model.embeddings.token_embedding.weight": (49408, 768)}


def below(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


SD1: Shapes = {**unet(768), **VAE, **below("cond_stage_model.transformer.", CLIP_L)}
SD2: Shapes = {**unet(1024), **VAE, "cond_stage_model.model.token_embedding.weight": (49408, 1024)}
SDXL: Shapes = {
    **unet(2048),
    **VAE,
    **below("conditioner.embedders.0.transformer.", CLIP_L),
    "conditioner.embedders.1.model.token_embedding.weight": (49408, 1280),
}
FLUX: Shapes = {
    "img_in.weight": (3072, 64),
    "double_blocks.0.img_attn.qkv.weight": (9216, 3072),
    "double_blocks.18.img_attn.qkv.weight": (9216, 3072),
    "single_blocks.37.linear1.weight": (21504, 3072),
    "guidance_in.in_layer.weight": (3072, 256),
}
SD3: Shapes = {
    "model.diffusion_model.x_embedder.proj.weight": (1536, 16, 2, 2),
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536),
    "model.diffusion_model.joint_blocks.23.x_block.attn.qkv.weight": (4608, 1536),
    **below(
        "first_stage_model.", {"decoder.conv_in.weight": (512, 16, 3, 3), "decoder.conv_out.weight": (3, 128, 3, 3)}
    ),
}
LORA: Shapes = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (8, 768),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": (320, 8),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha": (),
}
T5: Shapes = {"shared.weight": (32128, 4096)}
FLUX2: Shapes = {
    "img_in.weight": (3072, 128),
    "double_stream_modulation_img.lin.weight": (18432, 3072),
    "double_blocks.4.img_attn.qkv.weight": (9216, 3072),
    "single_blocks.19.linear1.weight": (27648, 3072),
}
QWEN: Shapes = {
    "transformer_blocks.0.img_mod.1.weight": (18432, 3072),
    "transformer_blocks.59.img_mod.1.weight": (18432, 3072),
    "txt_norm.weight": (3584,),
    "img_in.weight": (3072, 64),
}
Z_IMAGE: Shapes = {
    "layers.0.adaLN_modulation.0.weight": (15360, 256),
    "layers.29.adaLN_modulation.0.weight": (15360, 256),
    "cap_embedder.0.weight": (2560,),
}
FLUX_VAE: Shapes = {"decoder.conv_in.weight": (512, 16, 3, 3), "decoder.conv_out.weight": (3, 1)}


def flux_in_parts(home: Path) -> None:
    """FLUX.1 as people of ComfyUI have it: the transformer alone, and what it lacks beside it."""
    safetensors(home / "unet/flux1-dev.safetensors", FLUX)
    safetensors(home / "vae/ae.safetensors", FLUX_VAE)
    safetensors(home / "text_encoders/clip_l.safetensors", CLIP_L)
    safetensors(home / "text_encoders/t5xxl_fp16.safetensors", T5)
