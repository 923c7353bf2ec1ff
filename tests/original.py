"""Diffusers folders written again as single files, with the names of the layouts in which models are published.

The inverse of what diffusers' converters do: Stable Diffusion's `ldm` names for UNet and autoencoder, Hugging Face's
and OpenCLIP's for text encoders, Black Forest Labs' for FLUX.1.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

State = dict[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def part(folder: Path, name: str) -> State:
    """The weights of one part of a diffusers folder."""
    return load_file(next((folder / name).glob("*.safetensors")))


def unet(state: State, layers: int) -> State:
    """A UNet's weights in ldm's names. layers: `layers_per_block`."""
    return {_unet_name(name, state, layers): tensor for name, tensor in state.items()}


def _unet_name(name: str, state: State, layers: int) -> str:
    for ours, theirs in _UNET.items():
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    where, *rest = name.split(".")
    if where == "mid_block":
        kind, number, *rest = rest
        place = f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}"
    else:
        block, kind, number, *rest = rest
        count = layers + (where == "up_blocks")
        first = int(block) * (layers + 1)
        side = "output_blocks" if where == "up_blocks" else "input_blocks"
        if kind == "upsamplers":
            deep = any(each.startswith(f"up_blocks.{block}.attentions") for each in state)
            return f"{side}.{first + count - 1}.{2 if deep else 1}.{'.'.join(rest)}"
        first += where == "down_blocks"
        if kind == "downsamplers":
            return f"{side}.{first + layers}.0.op.{rest[-1]}"
        place = f"{side}.{first + int(number)}.{1 if kind == 'attentions' else 0}"
    if kind == "resnets":
        rest[0] = _RESNET[rest[0]]
    return ".".join([place, *rest])


def vae(state: State, blocks: int = 4) -> State:
    """An autoencoder's weights in ldm's names. blocks: resolutions."""
    result = {}
    for name, tensor in state.items():
        new = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        for number in range(blocks):
            new = new.replace(f"down_blocks.{number}.downsamplers.0", f"down.{number}.downsample")
            new = new.replace(f"down_blocks.{number}.resnets", f"down.{number}.block")
            new = new.replace(f"up_blocks.{number}.upsamplers.0", f"up.{blocks - 1 - number}.upsample")
            new = new.replace(f"up_blocks.{number}.resnets", f"up.{blocks - 1 - number}.block")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
            for ours, theirs in _VAE_ATTENTION.items():
                new = new.replace(f".{ours}.", f".{theirs}.")
            tensor = tensor[..., None, None] if tensor.dim() == 2 else tensor
        result[new] = tensor
    return result


def clip(state: State) -> State:
    """A CLIP text encoder's weights in Hugging Face's older names, which files have."""
    return {
        name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}": tensor
        for name, tensor in state.items()
    }


def open_clip(state: State) -> State:
    """A CLIP text encoder's weights in OpenCLIP's names: the three projections of an attention in one."""
    state, result = clip(state), {}
    renamed = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    for name, tensor in state.items():
        if name in renamed:
            result[renamed[name]] = tensor
        elif name == "text_projection.weight":
            result["text_projection"] = tensor.T.contiguous()
        elif ".q_proj." in name:
            whole = torch.cat([state[name.replace(".q_proj.", f".{each}_proj.")] for each in "qkv"])
            name = name.replace(".self_attn.q_proj.", ".attn.in_proj_")
            result[name.replace("text_model.encoder.layers.", "transformer.resblocks.")] = whole
        elif ".k_proj." not in name and ".v_proj." not in name:
            name = name.replace("text_model.encoder.layers.", "transformer.resblocks.").replace(".self_attn.", ".attn.")
            name = name.replace("layer_norm1", "ln_1").replace("layer_norm2", "ln_2")
            result[name.replace(".mlp.fc1.", ".mlp.c_fc.").replace(".mlp.fc2.", ".mlp.c_proj.")] = tensor
    return result


def flux(state: State, double: int, single: int) -> State:
    """A FLUX.1 transformer's weights in Black Forest Labs' names."""
    result: State = {}

    def both(theirs: str, *ours: str) -> None:
        for kind in ("weight", "bias"):
            result[f"{theirs}.{kind}"] = torch.cat([state[f"{each}.{kind}"] for each in ours])

    for number in range(double):
        ours, theirs = f"transformer_blocks.{number}", f"double_blocks.{number}"
        for side, norm, names, out, added, mlp in (
            ("img", "norm1", "to_{}", "to_out.0", "norm_{}", "ff"),
            ("txt", "norm1_context", "add_{}_proj", "to_add_out", "norm_added_{}", "ff_context"),
        ):
            both(f"{theirs}.{side}_mod.lin", f"{ours}.{norm}.linear")
            both(f"{theirs}.{side}_attn.qkv", *[f"{ours}.attn.{names.format(each)}" for each in "qkv"])
            both(f"{theirs}.{side}_attn.proj", f"{ours}.attn.{out}")
            both(f"{theirs}.{side}_mlp.0", f"{ours}.{mlp}.net.0.proj")
            both(f"{theirs}.{side}_mlp.2", f"{ours}.{mlp}.net.2")
            for short, word in (("q", "query"), ("k", "key")):
                norms = state[f"{ours}.attn.{added.format(short)}.weight"]
                result[f"{theirs}.{side}_attn.norm.{word}_norm.scale"] = norms
    for number in range(single):
        ours, theirs = f"single_transformer_blocks.{number}", f"single_blocks.{number}"
        both(f"{theirs}.modulation.lin", f"{ours}.norm.linear")
        both(f"{theirs}.linear1", *[f"{ours}.{each}" for each in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")])
        both(f"{theirs}.linear2", f"{ours}.proj_out")
        for short, word in (("q", "query"), ("k", "key")):
            result[f"{theirs}.norm.{word}_norm.scale"] = state[f"{ours}.attn.norm_{short}.weight"]
    embedders = {"timestep": "time_in", "text": "vector_in", "guidance": "guidance_in"}
    for ours, theirs in embedders.items():
        if f"time_text_embed.{ours}_embedder.linear_1.weight" in state:
            both(f"{theirs}.in_layer", f"time_text_embed.{ours}_embedder.linear_1")
            both(f"{theirs}.out_layer", f"time_text_embed.{ours}_embedder.linear_2")
    both("txt_in", "context_embedder")
    both("img_in", "x_embedder")
    both("final_layer.linear", "proj_out")
    for kind in ("weight", "bias"):
        scale, shift = state[f"norm_out.linear.{kind}"].chunk(2)
        result[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    return result


def under(prefix: str, state: State) -> State:
    """The same tensors with a prefix before their names."""
    return {prefix + name: tensor for name, tensor in state.items()}


def stable_diffusion(folder: Path, file: Path, open_clip_names: bool = False) -> Path:
    """A Stable Diffusion folder as one file: 1.x, or 2.x with OpenCLIP's names."""
    layers = json.loads((folder / "unet" / "config.json").read_text())["layers_per_block"]
    text = part(folder, "text_encoder")
    named = under("cond_stage_model.transformer.", clip(text))
    if open_clip_names:
        named = under("cond_stage_model.model.", open_clip(text))
    save(
        file,
        under("model.diffusion_model.", unet(part(folder, "unet"), layers)),
        under("first_stage_model.", vae(part(folder, "vae"))),
        named,
    )
    return file


def stable_diffusion_xl(folder: Path, file: Path) -> Path:
    """A Stable Diffusion XL folder as one file."""
    layers = json.loads((folder / "unet" / "config.json").read_text())["layers_per_block"]
    save(
        file,
        under("model.diffusion_model.", unet(part(folder, "unet"), layers)),
        under("first_stage_model.", vae(part(folder, "vae"))),
        under("conditioner.embedders.0.transformer.", clip(part(folder, "text_encoder"))),
        under("conditioner.embedders.1.model.", open_clip(part(folder, "text_encoder_2"))),
    )
    return file


def save(file: Path, *states: State) -> Path:
    """One safetensors file with all of these tensors."""
    whole = {name: tensor.contiguous() for state in states for name, tensor in state.items()}
    save_file(whole, file)
    return file
