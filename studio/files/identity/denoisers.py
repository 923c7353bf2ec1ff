"""What is known of denoisers: those of other architectures, and every tensor that those of ours have.

Many architectures grew out of one another, so a tensor that two of them share tells little. A file is used only if
all tensors of its denoiser are ones that its architecture has, and as many blocks of them as it has. The names are
those of the models' published files and of diffusers; the numbers of blocks are those of their published configs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from studio.files.headers import Tensor
from studio.files.identity.names import Names

# Architectures that no single file is read of

_FOREIGN: tuple[tuple[str, ...], ...] = (
    ("Hunyuan", "individual_token_refiner."),
    ("Hunyuan", "context_embedder.token_refiner."),
    ("Chroma", "distilled_guidance_layer."),
    ("HiDream", "double_stream_blocks.0.block."),
    ("Step1X-Edit", "connector.S."),
    ("Ovis-Image", "semantic_txt_in."),
    ("OmniGen2", "ref_image_patch_embedder."),
    ("OmniGen", "input_x_embedder."),
    ("Lumina 2", "time_caption_embed.caption_embedder"),
    ("Lumina 2", "layers.0.adaLN_modulation.1.", "cap_embedder."),
    ("AuraFlow", "double_layers.0.", "cond_seq_linear."),
    ("AuraFlow", "joint_transformer_blocks.0."),
    ("Sana", "attention_y_norm."),
    ("Sana", "caption_norm.", "patch_embed."),
    ("Sana", "mlp.inverted_conv"),
    ("Sana", "ff.conv_inverted"),
    ("LTX Video", "patchify_proj."),
    ("LTX Video", "time_embed.emb.timestep_embedder", "caption_projection."),
    ("PixArt", "y_embedder.y_proj."),
    ("PixArt", "adaln_single.emb."),
    ("Hunyuan DiT", "pooler.positional_embedding", "style_embedder"),
    ("Hunyuan DiT", "mlp_t5.0."),
    ("CogView or CogVideoX", "patch_embed.text_proj."),
    ("Bria", "\ntime_embed.timestep_embedder.", "\nsingle_transformer_blocks.0."),
    ("Kandinsky 5", "visual_transformer_blocks."),
    ("Kandinsky 5", "text_transformer_blocks."),
    ("PRX", "img_qkv_proj."),
    ("Cosmos", "adaln_modulation_self_attn."),
    ("Cosmos", "blocks.block0.blocks."),
    ("Cosmos", "time_embed.t_embedder.", "patch_embed.proj.", "transformer_blocks.0.attn2."),
    ("Wan", "vace_blocks."),
    ("Wan", "condition_embedder.time_embedder.", "\nblocks.0.attn2."),
    ("Wan", "blocks.0.cross_attn.norm_q", "text_embedding."),
    ("Wan", "\nhead.modulation"),
    ("Stable Cascade", "clip_txt_mapper."),
    ("Stable Cascade", "clip_txt_pooled_mapper."),
    ("Stable Cascade", "effnet_mapper."),
    ("Mochi", "t5_y_embedder."),
    ("Mochi", "time_embed.pooler."),
    ("Hunyuan Image 3", "layers.0.mlp.experts.", "timestep_emb."),
    ("GLM-Image", "glyph_projector."),
    ("GLM-Image", "prior_token_embedding."),
    ("ACE-Step", "lyric_encoder."),
    ("Stable Audio", "to_timestep_embed."),
    ("Stable Video Diffusion", "time_stack.0.attn1."),
    ("Stable Video Diffusion", "temporal_transformer_blocks.0.attn1."),
    ("AnimateDiff", "motion_modules."),
    ("DeepFloyd IF or Kandinsky 2", "attentions.0.add_k_proj."),
    ("GLIGEN", "position_net."),
)
"""Name of an architecture, and parts of names that only its denoiser has together; the first one that fits counts."""


def foreign(names: Names) -> str:
    """The name of the architecture that this denoiser is of, if it is one that is not built in; else empty."""
    text = "\n" + "\n".join(names.below())
    label = next((label for label, *signs in _FOREIGN if all(sign in text for sign in signs)), "")
    if label == "Hunyuan":
        films = names.rank("img_in.proj.weight") == 5 or names.rank("x_embedder.proj.weight") == 5
        return "Hunyuan Video" if films else "Hunyuan Image"
    if label == "Bria" and names.side("context_embedder.weight", 1) == 3584:
        return "LongCat-Image"
    return label


# Those that are built in

CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
"""Width of what the UNet's cross attention reads → base; 1280 is SDXL's refiner."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a denoiser's tensors are called. known: what all of them are called, without .weight, .bias and what
    float8 adds. blocks: the numbered ones, and which of them every file has."""

    known: re.Pattern[str]
    blocks: tuple[str, ...] = ()


def _layout(known: str, *blocks: str) -> Layout:
    return Layout(re.compile(re.sub(r"\s+", "", known)), blocks)


_TRANSFORMER = r"transformer_blocks\.\d+\.(attn[12]\.to_([qkv]|out\.0)|ff\.net\.(0\.proj|2)|norm[123])"
_JOINT = r"(to_([qkv]|out\.0|add_out)|add_[qkv]_proj|norm_(added_)?[qk])"

LAYOUTS: Mapping[str, Layout] = {
    "unet": _layout(
        rf"""time_embed\.[02]|label_emb\.0\.[02]|out\.[02]|
        (input_blocks\.\d+\.\d|middle_block\.\d|output_blocks\.\d+\.\d)
        (\.((in|out|emb)_layers\.\d|op|conv|skip_connection|norm|proj_(in|out)|{_TRANSFORMER}))?"""
    ),
    "unet of diffusers": _layout(
        rf"""conv_(in|out|norm_out)|(time|add)_embedding\.linear_[12]|
        (down_blocks\.\d|up_blocks\.\d|mid_block)\.(resnets\.\d\.(norm[12]|conv[12]|time_emb_proj|conv_shortcut)|
        (down|up)samplers\.0\.conv|attentions\.\d\.(norm|proj_(in|out)|{_TRANSFORMER}))"""
    ),
    "flux1": _layout(
        r"""img_in|txt_in|(time|vector|guidance)_in\.(in|out)_layer|final_layer\.(linear|adaLN_modulation\.1)|
        double_blocks\.\d+\.(img|txt)_(attn\.(qkv|proj|norm\.(query|key)_norm\.scale)|mlp\.[02]|mod\.lin)|
        single_blocks\.\d+\.(linear[12]|modulation\.lin|norm\.(query|key)_norm\.scale)""",
        *("double_blocks", "single_blocks"),
    ),
    "flux1 of diffusers": _layout(
        rf"""x_embedder|context_embedder|time_text_embed\.(timestep|guidance|text)_embedder\.linear_[12]|
        norm_out\.linear|proj_out|
        transformer_blocks\.\d+\.(norm1(_context)?\.linear|attn\.{_JOINT}|ff(_context)?\.net\.(0\.proj|2))|
        single_transformer_blocks\.\d+\.(norm\.linear|proj_(mlp|out)|attn\.(to_[qkv]|norm_[qk]))""",
        *("transformer_blocks", "single_transformer_blocks"),
    ),
    "flux2": _layout(
        r"""img_in|txt_in|(time|guidance)_in\.(in|out)_layer|final_layer\.(linear|adaLN_modulation\.1)|
        (double_stream_modulation_(img|txt)|single_stream_modulation)\.lin|
        double_blocks\.\d+\.(img|txt)_(attn\.(qkv|proj|norm\.(query|key)_norm\.scale)|mlp\.[02])|
        single_blocks\.\d+\.(linear[12]|norm\.(query|key)_norm\.scale)""",
        *("double_blocks", "single_blocks"),
    ),
    "flux2 of diffusers": _layout(
        rf"""x_embedder|context_embedder|time_guidance_embed\.(timestep|guidance)_embedder\.linear_[12]|
        norm_out\.linear|proj_out|(double_stream_modulation_(img|txt)|single_stream_modulation)\.linear|
        transformer_blocks\.\d+\.(attn\.{_JOINT}|ff(_context)?\.linear_(in|out))|
        single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out|norm_[qk])""",
        *("transformer_blocks", "single_transformer_blocks"),
    ),
    "sd3": _layout(
        r"""pos_embed|x_embedder\.proj|[ty]_embedder\.mlp\.[02]|context_embedder|
        joint_blocks\.\d+\.(context|x)_block\.(attn2?\.(qkv|proj|ln_[qk])|mlp\.fc[12]|adaLN_modulation\.1)|
        final_layer\.(linear|adaLN_modulation\.1)""",
        "joint_blocks",
    ),
    "sd3 of diffusers": _layout(
        rf"""pos_embed\.(pos_embed|proj)|context_embedder|time_text_embed\.(timestep|text)_embedder\.linear_[12]|
        transformer_blocks\.\d+\.(norm1(_context)?\.linear|attn2?\.{_JOINT}|ff(_context)?\.net\.(0\.proj|2))|
        norm_out\.linear|proj_out""",
        "transformer_blocks",
    ),
    "qwen-image": _layout(
        rf"""img_in|txt_in|txt_norm|time_text_embed\.timestep_embedder\.linear_[12]|norm_out\.linear|proj_out|
        transformer_blocks\.\d+\.((img|txt)_mod\.1|attn\.{_JOINT}|(img|txt)_mlp\.net\.(0\.proj|2))|
        __index_timestep_zero__""",
        "transformer_blocks",
    ),
    "z-image": _layout(
        r"""[xt]_pad_token|cap_pad_token|x_embedder|all_x_embedder\.2-1|cap_embedder\.[01]|t_embedder\.mlp\.[02]|
        (all_final_layer\.2-1|final_layer)\.(linear|adaLN_modulation\.1)|norm_final|
        (layers|noise_refiner|context_refiner)\.\d+\.(attention\.(qkv|out|to_([qkv]|out\.0)|(q|k)_norm|norm_[qk])|
        feed_forward\.w[123]|(attention|ffn)_norm[12]|adaLN_modulation\.0)""",
        "layers",
    ),
}

_BLOCKS: Mapping[str, tuple[int, ...]] = {
    "flux-1-dev": (19, 38),
    "flux-1-schnell": (19, 38),
    "flux-1-fill": (19, 38),
    "flux-2-klein": (5, 20),
    "stable-diffusion-3": (24,),
    "stable-diffusion-3.5-medium": (24,),
    "stable-diffusion-3.5-large": (38,),
    "qwen-image": (60,),
    "z-image": (30,),
}
"""Config → the number of blocks of each kind, in the order of `Layout.blocks`."""

_ADDED = (".weight_scale_2", ".scale_weight", ".weight_scale", ".scale_input", ".input_scale", ".comfy_quant")
"""What files in fewer bits hold beside a weight."""
_FLAGS = {"scaled_fp8", "v_pred", "ztsnr", "edm_mean", "edm_std", "betas", "alphas_cumprod", "logvar"}
"""Tensors that tell of a file and are no part of its denoiser."""
_ELSEWHERE = ("first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "vae.", "model_ema.")


_READS: Mapping[str, Mapping[str, int]] = {
    "flux1": {"txt_in.weight": 4096, "vector_in.in_layer.weight": 768},
    "flux1 of diffusers": {"context_embedder.weight": 4096, "time_text_embed.text_embedder.linear_1.weight": 768},
    "flux2": {"txt_in.weight": 7680},
    "flux2 of diffusers": {"context_embedder.weight": 7680},
    "sd3": {"context_embedder.weight": 4096, "y_embedder.mlp.0.weight": 2048},
    "sd3 of diffusers": {"context_embedder.weight": 4096, "time_text_embed.text_embedder.linear_1.weight": 2048},
    "qwen-image": {"txt_in.weight": 3584},
    "z-image": {"cap_embedder.1.weight": 2560},
}
"""Layout → how wide the prompts are that it reads, by the config of the text encoders that it is run with."""
_TIME = ("time_in.in_layer.weight", "time_text_embed.timestep_embedder.linear_1.weight", "t_embedder.mlp.0.weight")


def _other_prompts(names: Names, layout: str) -> bool:
    reads = _READS.get(layout, {})
    # A file that has the layer for the time has the others of its kind, if its architecture has them.
    whole = any(name in names for name in _TIME)
    return any(names.side(name, 1) != wide for name, wide in reads.items() if whole or name in names)


def unaccounted(names: Names, base: str, config: str, layout: str) -> str:
    """What a denoiser has that its architecture has not, or the other way round, in a few words; else empty."""
    how = LAYOUTS[layout]
    for name in names.below():
        if not _plain(names, name, how):
            return "with parts that the original does not have"
    numbers = tuple(names.count(group) for group in how.blocks)
    if how.blocks and numbers != _BLOCKS.get(config, numbers):
        return f"with {' and '.join(map(str, numbers))} blocks"
    if layout.startswith("unet"):
        return _odd_unet(names, base)
    return "for another text encoder" if not packed(names.tensors) and _other_prompts(names, layout) else ""


def _plain(names: Names, name: str, how: Layout) -> bool:
    if not names.prefix and (name in _FLAGS or name.startswith(_ELSEWHERE)):
        return True
    own = name.removesuffix(".weight").removesuffix(".bias")
    for ending in _ADDED:
        own = own.removesuffix(ending)
    return name == "scaled_fp8" or bool(how.known.fullmatch(own)) or ".quant_state." in name or _of_nf4(name)


def _of_nf4(name: str) -> bool:
    """Whether bitsandbytes keeps it beside a packed weight: `packed` tells of these."""
    return name.endswith((".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"))


_GUIDES = {
    "noise_augmentor.": "unCLIP",
    "embedder.model.visual.": "unCLIP",
    "cc_projection.": "Zero123",
    "depth_model.": "depth",
    "cond_stage_model.model.visual.": "guided by pictures",
    "cond_stage_model.vision_model.": "guided by pictures",
    "cond_stage_model.transformer.vision_model.": "guided by pictures",
}
"""Where a whole file keeps what reads something other than prompts → what such a model is."""


def guided(tensors: Mapping[str, Tensor]) -> str:
    """What a model is that is told something other than prompts, by what lies beside its denoiser; else empty."""
    sees = (label for start, label in _GUIDES.items() for name in tensors if name.startswith(start))
    label = next(sees, "")
    # A CLIP may come whole, with eyes that nobody uses.
    reads = any(name.endswith("token_embedding.weight") for name in tensors)
    return "" if label == "guided by pictures" and reads else label


# UNets: how deep each place of attention is

_DEPTH = re.compile(r"((?:input_blocks|output_blocks|down_blocks|up_blocks)\.\d+|middle_block|mid_block)\."
                    r"(?:attentions\.)?(\d+)\.transformer_blocks\.(\d+)\.")  # fmt: skip
_DEPTHS = {"sd1": [1] * 16, "sd2": [1] * 16, "sdxl": [2] * 5 + [10] * 6}
_PRUNED = {
    (1, 1, 2, 2, 2, 4, 4, 4, 4, 10): "SSD-1B",
    (1, 1, 1, 1, 1, 2, 2, 2, 2, 2): "Segmind Vega",
    (2, 2, 2, 5, 5, 5): "KOALA",
    (2, 2, 2, 6, 6, 6): "KOALA",
}
_LABELS = {"sdxl": 2816}
"""Base → width of what its UNet is told beside the time: sizes and the pooled prompt of SDXL."""


def _odd_unet(names: Names, base: str) -> str:
    labels = names.side("label_emb.0.0.weight", 1) or names.side("add_embedding.linear_1.weight", 1)
    if labels and labels != _LABELS.get(base):
        return "unCLIP" if base == "sd2" else f"with labels of {labels} numbers"
    depths: dict[str, int] = {}
    for found in filter(None, map(_DEPTH.match, names.below())):
        place = f"{found[1]}.{found[2]}"
        depths[place] = max(depths.get(place, 0), int(found[3]) + 1)
    if sorted(depths.values()) == _DEPTHS.get(base):
        return ""
    return _PRUNED.get(tuple(sorted(depths.values())), "with other blocks than the original")


# How weights are packed

_PACKED = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0")


def packed(tensors: Mapping[str, Tensor]) -> str:
    """What the weights of a file other than GGUF are packed as, if they are no plain numbers; else empty."""
    for name in tensors:
        if ".quant_state.bitsandbytes__" in name:
            return name.rpartition("__")[2].upper()
        if name.endswith(".weight_scale_2"):
            return "NVFP4"
    for name, tensor in tensors.items():
        if tensor.dtype in _PACKED and len(tensor.shape) > 1 and "weight" in name.rpartition(".")[2]:
            return "INT8" if tensor.dtype == "I8" else "whole numbers"
        if name.endswith((".weight._data", ".SCB", ".weight.absmax")):
            return "INT8"
    return ""
