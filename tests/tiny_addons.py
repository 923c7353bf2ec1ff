"""LoRAs, embeddings, autoencoders, ControlNets and IP-Adapters of few random weights, for the models of tests/tiny."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
)

from tests import tiny

RANK = 2

UNET_LAYERS = (
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
)
TEXT_LAYERS = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.0.mlp.fc1")


def lora(
    file: Path, unet: Any, text_encoder: Any, kohya: bool = False, seed: int = 0, metadata: dict[str, str] | None = None
) -> Path:
    """A LoRA for a tiny Stable Diffusion, in diffusers' naming or in that of kohya's scripts (with an alpha)."""
    parts: list[tuple[str, str, Any, str, tuple[str, ...]]] = [("unet", "lora_unet", unet, "", UNET_LAYERS)]
    parts += [("text_encoder", "lora_te", text_encoder, "text_model.", TEXT_LAYERS)]
    tensors: dict[str, torch.Tensor] = {}
    random = torch.Generator().manual_seed(seed)
    for part, short, module, prefix, layers in parts:
        for layer in layers:
            down, up = _pair(module.get_submodule(layer).weight, random)
            name = prefix + layer
            if kohya:
                flat = f"{short}_{name.replace('.', '_')}"
                tensors |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
                tensors[f"{flat}.alpha"] = torch.tensor(1.0)
            else:
                tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
    return _save(file, tensors, metadata)


def flux_lora(file: Path, transformer: Any, kohya: bool = False, seed: int = 0) -> Path:
    """The same for a tiny FLUX.1."""
    random = torch.Generator().manual_seed(seed)
    block = transformer.transformer_blocks[0]
    tensors: dict[str, torch.Tensor] = {}
    for theirs, ours in (("img_attn_proj", "attn.to_out.0"), ("img_mlp_0", "ff.net.0.proj")):
        down, up = _pair(block.get_submodule(ours).weight, random)
        if kohya:
            flat = f"lora_unet_double_blocks_0_{theirs}"
            tensors |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
            tensors[f"{flat}.alpha"] = torch.tensor(1.0)
        else:
            name = f"transformer.transformer_blocks.0.{ours}"
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return _save(file, tensors, None)


def embedding(file: Path, vectors: int = 1, seed: int = 0, width: int = 16, key: str = "emb_params") -> Path:
    """An embedding for a text encoder of this width."""
    return _save(file, {key: torch.randn(vectors, width, generator=torch.Generator().manual_seed(seed))}, None)


def vae(target: Path, form: str, seed: int = 5) -> Any:
    """An autoencoder like that of the tiny models: "folder", "file" in diffusers' layout, or "original". Returns it."""
    torch.manual_seed(seed)
    made = tiny._vae()
    if form == "folder":
        made.save_pretrained(target)
    else:
        tensors = made.state_dict()
        if form == "original":
            tensors = {_original(name): value for name, value in tensors.items()}
            tensors = {
                name: value[..., None, None] if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name) else value
                for name, value in tensors.items()
            }
        _save(target, {name: value.contiguous() for name, value in tensors.items()}, None)
    return made


def controlnet(target: Path, unet: Any, seed: int = 7, form: str = "folder") -> Any:
    """A ControlNet for a tiny UNet: "folder", "file" in diffusers' layout, or "original". Returns it."""
    torch.manual_seed(seed)
    made = ControlNetModel.from_unet(unet)
    for name, parameter in made.named_parameters():
        if "controlnet_" in name:  # the convolutions that begin at zero
            torch.nn.init.normal_(parameter, std=0.3)
    if form == "folder":
        made.save_pretrained(target)
    else:
        named = _original_controlnet if form == "original" else str
        _save(target, {named(name): value.contiguous() for name, value in made.state_dict().items()}, None)
    return made.eval()


def _original_controlnet(name: str) -> str:
    """What a part of a tiny ControlNet is called in the checkpoints of lllyasviel/ControlNet."""
    name = re.sub(r"controlnet_down_blocks\.(\d)", r"zero_convs.\1.0", name)
    name = re.sub(r"controlnet_cond_embedding\.blocks\.(\d)", lambda at: f"input_hint_block.{2 * int(at[1]) + 2}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda at: f"middle_block.{2 * int(at[1])}", name)
    for ours, theirs in (
        ("controlnet_mid_block", "middle_block_out.0"),
        ("controlnet_cond_embedding.conv_in", "input_hint_block.0"),
        ("controlnet_cond_embedding.conv_out", "input_hint_block.14"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("conv_in.", "input_blocks.0.0."),
        ("down_blocks.0.resnets.0", "input_blocks.1.0"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
        ("down_blocks.1.resnets.0", "input_blocks.3.0"),
        ("down_blocks.1.attentions.0", "input_blocks.3.1"),
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
    ):
        name = name.replace(ours, theirs)
    if re.match(r"(input_blocks|middle_block)\.\d", name) and "transformer_blocks" not in name:
        for ours, theirs in (
            ("norm1", "in_layers.0"),
            ("conv1", "in_layers.2"),
            ("time_emb_proj", "emb_layers.1"),
            ("norm2", "out_layers.0"),
            ("conv2", "out_layers.3"),
            ("conv_shortcut", "skip_connection"),
        ):
            name = name.replace(ours, theirs)
    return f"control_model.{name}"


def ip_adapter(file: Path, unet: Any, seed: int = 9, plus: bool = False) -> Path:
    """An IP-Adapter for a tiny UNet, of the plain or the plus kind, and its image encoder beside it."""
    torch.manual_seed(seed)
    width, across = 12, unet.config.cross_attention_dim
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * across, width),
        "image_proj.proj.bias": torch.randn(4 * across),
        "image_proj.norm.weight": torch.ones(across),
        "image_proj.norm.bias": torch.zeros(across),
    }
    if plus:
        tensors = {f"image_proj.{name}": torch.randn(shape) for name, shape in _resampler(across).items()}
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            wide = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{number}.{part}.weight"] = torch.randn(wide, across)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=width, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(file.parent / "image_encoder")
    return _save(file, tensors, None)


def _resampler(across: int) -> dict[str, tuple[int, ...]]:
    """The shapes of what reads the picture in tencent-ailab/IP-Adapter's plus kind: four layers, one head of 64."""
    inner = 16
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, 4, inner),
        "proj_in.weight": (inner, 16),
        "proj_out.weight": (across, inner),
    }
    widths = {"proj_in": inner, "proj_out": across, "norm_out": across}
    for layer in ("layers.0", "layers.1", "layers.2", "layers.3"):
        widths |= {f"{layer}.{name}": inner for name in ("0.norm1", "0.norm2", "1.0")}
        shapes |= {
            f"{layer}.0.to_q.weight": (64, inner),
            f"{layer}.0.to_kv.weight": (128, inner),
            f"{layer}.0.to_out.weight": (inner, 64),
            f"{layer}.1.1.weight": (4 * inner, inner),
            f"{layer}.1.3.weight": (inner, 4 * inner),
        }
    for name, width in widths.items():
        shapes[f"{name}.bias"] = (width,)
        shapes.setdefault(f"{name}.weight", (width,))
    return shapes


def depth(folder: Path) -> None:
    """A depth model as transformers saves it."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, patch_size=14, neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8, head_hidden_size=4,
    )  # fmt: skip
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    text = json.dumps({"size": {"height": 28, "width": 28}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    (folder / "preprocessor_config.json").write_text(text)


def _original(name: str) -> str:
    """What a part of an autoencoder is called in the checkpoints of CompVis/latent-diffusion."""
    name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{3 - int(found[1])}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    for ours, theirs in (
        ("down_blocks.", "down."),
        ("resnets.", "block."),
        ("downsamplers.0.", "downsample."),
        ("upsamplers.0.", "upsample."),
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.attentions.0.to_", "mid.attn_1."),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
    ):
        name = name.replace(ours, theirs)
    return name


def _pair(weight: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    down = torch.randn(RANK, weight.shape[1], generator=random)
    return down, torch.randn(weight.shape[0], RANK, generator=random)


def _save(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata)
    return file
