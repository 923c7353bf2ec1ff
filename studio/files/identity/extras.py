"""What is put beside a model: adapters, text encoders, embeddings, upscalers.

Each judge gives fields of an `Identity`, or None if the file is something else.
"""

import re
from typing import Any

from studio.files.headers import Header
from studio.files.identity import denoisers, parts
from studio.files.identity.denoisers import CONTEXT
from studio.files.identity.names import Names

_EMBEDDED = {
    frozenset({768}): "sd1",
    frozenset({1024}): "sd2",
    frozenset({1280}): "sdxl",
    frozenset({768, 1280}): "sdxl",
    frozenset({768, 1280, 4096}): "sd3",
    frozenset({768, 4096}): "flux1",
    frozenset({4096}): "",
}
"""Widths of the words that an embedding has, one for each text encoder → base."""
_WORD = re.compile(r"emb_params|(?:clip_[lg]|t5(?:xxl)?|text_encoders?_\d|string_to_param\.\*)(?:_out)?")


def embedding(header: Header, name: str) -> dict[str, Any] | None:
    """Textual inversion: `emb_params`, one tensor for each text encoder, or one under the word's own name."""
    words = {each: tensor for each, tensor in header.tensors.items() if _WORD.fullmatch(each)}
    if not words and 0 < len(header.tensors) <= 3:
        words = dict(list(header.tensors.items())[:1])
    shapes = [tensor.shape for tensor in words.values()]
    if not shapes or any(not 1 <= len(shape) <= 2 or (shape[0] > 1280 and len(shape) == 2) for shape in shapes):
        return None
    base = _EMBEDDED.get(frozenset(shape[-1] for shape in shapes))
    if base is None:
        return None
    tokens = shapes[0][0] if len(shapes[0]) == 2 else 1
    return {"kind": "embedding", "base": base, "variant": f"{tokens} tokens"}


_CONTROLS = (
    *("control_model.", "input_hint_block.", "controlnet_cond_embedding.", "controlnet_down_blocks."),
    *("controlnet_blocks.", "controlnet_x_embedder.", "control_add_embedding.", "control_layers.", "zero_convs."),
    *("controlnet_mode_embedder.", "controlnet_cond_embedder.", "brushnet_down_blocks.", "control_blocks."),
    *("lllite_unet_", "lora_controlnet", "control_noise_refiner.", "control_transformer_blocks.", "control_img_in."),
)


def adapter(header: Header, name: str) -> dict[str, Any] | None:
    """ControlNet, T2I adapter, IP adapter, FLUX.1's Redux."""
    names = Names(header.tensors)
    if any(each.startswith(("ip_adapter.", "image_proj.")) or ".ip_adapter_" in each for each in header.tensors):
        return {"kind": "ip-adapter", **_ip_adapter(header)}
    if any(each.startswith(_CONTROLS) for each in header.tensors):
        return {"kind": "controlnet", "base": _control_base(names), "variant": _control_kind(names)}
    for first in ("conv_in.weight", "adapter.conv_in.weight", "body.0.in_conv.weight", "adapter.body.0.in_conv.weight"):
        blocks = names.ending("body.0.block1.weight", "resnets.0.block1.weight", "body.0.body.0.block1.weight")
        if blocks and names.side(first, 1) in (192, 768, 64, 256):
            # A picture of 3 channels in squares of 8 or 16 pixels, or of one channel.
            base = "sdxl" if names.side(first, 1) in (768, 256) else "sd1"
            return {"kind": "other", "variant": "T2I adapter", "base": base}
    if "redux_up.weight" in names:
        return {"kind": "other", "variant": "Redux"}
    return None


def _ip_adapter(header: Header) -> dict[str, Any]:
    names = Names(header.tensors)
    found = names.ending(".to_k_ip.weight")
    widths = {**CONTEXT, 4096: "flux1", 3072: "flux1", 2432: "sd3.5", 1536: "sd3"}
    base = widths.get(found.shape[-1], "") if found and found.shape else ""
    if names.ending("ip_adapter_double_stream_k_proj.weight"):
        base = "flux1"
    face = names.side("image_proj.proj.0.weight", 1) == 512 or "image_proj.perceiver_resampler.proj_in.weight" in names
    instant = "image_proj.latents" in names and names.side("image_proj.proj_in.weight", 1) == 512
    said = ("FaceID" if face else "", "InstantID" if instant else "", "plus" if "image_proj.latents" in names else "")
    return {"base": base, "variant": " ".join(filter(None, said[:2])) or said[2]}


def _control_kind(names: Names) -> str:
    signs = {
        "control-LoRA": ("lora_controlnet",),
        "LLLite": tuple(name for name in names.tensors if name.startswith("lllite_unet_"))[:1],
        "BrushNet": ("brushnet_down_blocks.0.weight",),
        "union": ("task_embedding", "control_add_embedding.linear_1.weight", "controlnet_mode_embedder.weight"),
    }
    return next((label for label, each in signs.items() if any(name in names for name in each)), "")


def _control_base(names: Names) -> str:
    """The base of a ControlNet: by what its cross attention reads, or by how it is built."""
    found = names.ending(*(f"attn2.to_k.{end}" for end in ("weight", "down", "lora_down.weight", "lora_A.weight")))
    starts = {name.partition(".")[0] for name in names.tensors}
    if "encoder_hid_proj" in starts or names.side("add_embedding.linear_1.weight", 1) == 5632:
        return ""  # Kolors'
    if found and found.shape and starts & {"control_model", "input_blocks", "down_blocks", "brushnet_down_blocks"}:
        return CONTEXT.get(found.shape[-1], "")
    if starts & {"control_layers", "control_noise_refiner", "control_all_x_embedder"}:
        return "z-image"
    if "txt_norm" in starts or names.ending("img_mod.1.weight"):
        return "qwen-image"
    if "double_stream_modulation_img" in starts:
        return "flux2"
    wide = names.side("pos_embed_input.proj.weight", 0) or names.side("controlnet_blocks.0.weight", 0)
    if wide in (2432, 1536):
        return "sd3.5" if wide == 2432 else "sd3"
    if any(start.startswith("lllite_unet_") for start in starts):
        # SDXL has no attention where Stable Diffusion 1 has its first.
        return "sd1" if any("input_blocks_1_1_" in start for start in starts) else "sdxl"
    if names.side("time_text_embed.text_embedder.linear_1.weight", 1) == 768 or "vector_in" in starts:
        return "flux1"
    if any(name.startswith("single_transformer_blocks.") for name in names.tensors):
        return "flux1"
    if "brushnet_down_blocks" in starts:
        return "sdxl" if "add_embedding" in starts else "sd1"
    return ""


_ENCODERS = {want: part.size for want, part in parts.PARTS.items() if part.folder == "text_encoders"}
_OTHER_ENCODERS: dict[tuple[int, ...], str] = {
    (256384, 4096): "umt5-xxl",
    (32128, 2048): "t5-xl",
    (32128, 1024): "t5-large",
    (151936, 1024): "qwen3-0.6b",
    (151936, 2048): "qwen2.5-vl-3b",
    (151936, 4096): "qwen3-8b",
    (131072, 5120): "mistral-small",
    (128256, 4096): "llama-3.1-8b",
    (256000, 2304): "gemma2-2b",
    (262208, 2560): "gemma3-4b",
    (262208, 3840): "gemma3-12b",
    (65024, 4096): "chatglm3-6b",
}
"""Vocabulary and width of the word embedding → encoder, of those that no single file needs."""

_TABLES = (
    *("shared.weight", "embed_tokens.weight", "encoder.embed_tokens.weight", "language_model.embed_tokens.weight"),
    *("model.embed_tokens.weight", "model.language_model.embed_tokens.weight", "embedding.word_embeddings.weight"),
    *("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"),
)
"""Where text encoders keep their word embedding."""


def text_encoder(header: Header, name: str) -> dict[str, Any] | None:
    # What is packed is not read, and a GGUF's own name for its kind tells what its tensors don't.
    packing = denoisers.packed(header.tensors)
    sees = "vl" in header.metadata.get("general.architecture", "") or parts.sees(header.tensors)
    for want in _ENCODERS:
        if parts.holds(header.tensors, want) and not (want.startswith("qwen3") and sees):
            if want == "qwen2.5-vl-7b" and "model.layers.27.input_layernorm.weight" in header.tensors and not sees:
                # The language model alone has the same shapes; who takes the eyes out says in the name what it was.
                want = want if "vl" in name.lower() else "qwen2.5-7b"
            return {"kind": "text encoder", "variant": f"{want} packed as {packing}" if packing else want}
    for prefix in ("", "text_model.", "transformer.", "text_encoder.", "model."):
        names = Names(header.tensors, prefix)
        for table in (parts.PACKED_TABLE, *_TABLES):
            if table in names:
                known = dict(_OTHER_ENCODERS)
                if table == parts.PACKED_TABLE:
                    known |= {size: f"{want} as GGUF" for want, size in _ENCODERS.items()}  # not to be read as such
                size = names.side(table, 0), names.side(table, 1)
                if sees and size[0] == 151936:
                    return {"kind": "text encoder", "variant": "qwen-vl"}
                return {"kind": "text encoder", "variant": known.get(size) or _clip(names, table)}
    if any(each.startswith(_EYES) for each in header.tensors):
        return {"kind": "image encoder"}
    return None


_EYES = (
    "vision_model.",
    "visual.trunk.",
    "visual.conv1.",
    "visual.transformer.",
    "image_encoder.",
    "embeddings.cls_token",
)


def _clip(names: Names, table: str) -> str:
    if "token_embedding" not in table:
        return ""
    long = names.side(table.replace("token_embedding", "position_embedding"), 0) > 77
    return "LongCLIP-L" if long and names.side(table, 1) == 768 else "LongCLIP" if long else "CLIP"


_ENLARGING = re.compile(
    r"(?:params(?:_ema)?\.|module\.)?(?:conv_first\.(?:\d\.)?weight|(?:body|RRDB_trunk)\.0\.(?:rdb|RDB)1\.conv1\.weight|"
    r"model\.1\.sub\.0\.|residual_layer\.0\.|feats\.0\.(?:eval_conv\.|weight)|block_1\.c1_r\.|body\.0\.weight|"
    r"unet1\.conv1\.|gblocks\.0\.|to_feat\.|m_head\.0\.|sub_mean\.|layers\.0\.residual_group\.)"
)
"""How the first tensors are called of ESRGAN, SwinIR, HAT, DAT, OmniSR, SPAN, PLKSR, Real-CUGAN and their kin."""


def upscaler(header: Header, name: str) -> dict[str, Any] | None:
    return {"kind": "upscaler"} if any(map(_ENLARGING.match, header.tensors)) else None
