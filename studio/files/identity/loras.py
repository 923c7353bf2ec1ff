"""LoRAs and their kin: which file is one, what its tensors are, and of which model it was made.

Trainers write the same layer as `transformer.transformer_blocks.0.attn.to_q.lora_A.weight` (PEFT),
`lora_unet_transformer_blocks_0_attn_to_q.lora_down.weight` (kohya), `lycoris_…` or without any prefix. Here all of
them are one thing: a module's path with underscores, and what its tensors are for.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from studio.files.headers import Tensor

_ADAPTER = r"(?:\.(?!weight\b|bias\b)[\w-]+)?"
"""PEFT writes the name of an adapter into its tensors' names: `lora_A.default.weight`."""
_ENDS = re.compile(
    rf"\.(?P<end>lora_(?:down|up|mid|A|B|C){_ADAPTER}\.weight|lora\.(?:down|up)\.weight|lora_[AB]{_ADAPTER}\.bias|"
    r"hada_[wt][12](?:_[ab])?|lokr_(?:w[12](?:_[ab])?|t2)|oft_blocks|oft_diag|oft_R\.(?:default\.)?weight|boft_R|"
    rf"dora_scale|lora_magnitude_vector{_ADAPTER}(?:\.weight)?|[ab][12]\.weight|diff(?:_b)?|on_input|w_norm|b_norm)$"
    r"|(?P<old>_lora[12]?\.(?:down|up)\.weight)$"
)
"""How the names of a LoRA's tensors end: kohya's, PEFT's, diffusers' older ones, XLabs', LyCORIS'."""
_PREFIXES = re.compile(
    r"^(?:base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|transformer\.|unet\.|lora_unet_|lora_transformer_|"
    r"lycoris_(?:unet_)?|oft_unet_|lora_prior_unet_)+"
)
_TEXT = re.compile(
    r"^(?:base_model\.model\.)?(?:(?:lora_|lycoris_)?(?:te|text_encoder)_?(?P<number>[123]?)[._]|"
    r"text_encoders\.(?P<encoder>clip_l|clip_g|t5xxl)\.(?:transformer\.)?)"
)
"""Before a layer of a text encoder. The last is ComfyUI's."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to say how a layer's weights are to change. sign: the names of tensors that only this one has."""

    label: str
    formula: str
    sign: re.Pattern[str]
    is_applied: bool = True


KINDS = (
    Kind("BOFT, or OFT of PEFT", "rotates what a layer gives", re.compile(r"\.(?:boft_|oft_R|oft_diag)"), False),
    Kind("OFT", "rotates what a layer gives, a block of it at a time", re.compile(r"\.oft_blocks$")),
    Kind("GLoRA", "W·A + B, where A and B are LoRAs", re.compile(r"\.[ab][12]\.weight$")),
    Kind("IA³", "a factor for each channel", re.compile(r"\.on_input$")),
    Kind("DoRA", "a direction by a LoRA, and a length for each channel", re.compile(r"\.(?:dora_|lora_magnitude_)")),
    Kind("LoKr", "the Kronecker product of two matrices", re.compile(r"\.lokr_")),
    Kind("LoHa", "the product, number by number, of two LoRAs", re.compile(r"\.hada_")),
    Kind("full difference", "every number of a layer's weights", re.compile(r"\.(?:diff(?:_b)?|[wb]_norm)$")),
    Kind("LoCon", "a LoRA of convolutions, with a core of its own", re.compile(r"\.lora_mid\.")),
    Kind("LoRA", "the product of two narrow matrices", re.compile(r"lora(?:_(?:down|up|[AB])|[12]?\.(?:down|up))\b")),
)
"""Of a file that has several, the first counts. Those of LyCORIS: https://arxiv.org/abs/2309.14859."""


def is_one(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a LoRA, or of something that is put onto a model like one."""
    if "lora_controlnet" in tensors:
        return False
    found = [name for name in tensors if _ENDS.search(name)]
    weak = [name for name in found if re.search(r"\.(?:[ab][12]\.weight|diff|diff_b|on_input|w_norm|b_norm)$", name)]
    # "diff" or "a1.weight" alone may be anything's.
    return len(found) > len(weak) or any(name.startswith(("lora_", "lycoris_", "diffusion_model.")) for name in weak)


def kind(tensors: Mapping[str, Tensor]) -> Kind | None:
    """How it changes weights; None if that cannot be told, as of a file without tensors."""
    return next((kind for kind in KINDS if any(map(kind.sign.search, tensors))), None)


# What its tensors are


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a LoRA's file names it.

    part: "text_encoder", "text_encoder_2" or "text_encoder_3", a text encoder of ComfyUI's names ("t5xxl"), or empty
    for the denoiser. path: its name in there, with underscores.
    """

    part: str
    path: str


_ROLES = {"lora_A": "down", "lora_B": "up", "lora.down": "down", "lora.up": "up", "lora_magnitude_vector": "dora_scale"}


def layers(names: Iterable[str]) -> tuple[dict[Layer, dict[str, str]], list[str]]:
    """What a LoRA's tensors are for: a layer → role → the tensor's name; and the names of those without a layer.

    Roles are "down", "up", "mid", "alpha", "dora_scale", "up.bias", and LyCORIS' own names for the rest.
    """
    found: dict[Layer, dict[str, str]] = {}
    others, names = [], set(names)
    for name in sorted(names):
        read = _read(name)
        stem = name.rpartition(".")[0]
        for end, sign, role in (("weight", "on_input", "ia3"), ("rescale", "oft_blocks", "rescale")):
            if name == f"{stem}.{end}" and f"{stem}.{sign}" in names:
                read = stem, role
        if read is None:
            others.append(name)
            continue
        path, role = read
        text = _TEXT.match(path)
        part, path = _part(text), path[text.end() :] if text else _PREFIXES.sub("", path)
        found.setdefault(Layer(part, path.replace(".", "_")), {})[role] = name
    return found, others


def _read(name: str) -> tuple[str, str] | None:
    """The path and the role in a tensor's name."""
    if name.endswith(".alpha"):
        return name.removesuffix(".alpha"), "alpha"
    if not (end := _ENDS.search(name)):
        return None
    if old := end["old"]:  # XLabs' number says which stream it is of
        return name[: end.start()] + "".join(re.findall(r"\d", old)), "down" if "down" in old else "up"
    role = end["end"].removesuffix(".weight")
    bias = ".bias" * role.endswith(".bias")
    role = re.sub(rf"^(lora_(?:down|up|mid|A|B|C|magnitude_vector)){_ADAPTER}$", r"\1", role.removesuffix(".bias"))
    return name[: end.start()], _ROLES.get(role, role).removeprefix("lora_") + bias


def _part(text: re.Match[str] | None) -> str:
    if text is None:
        return ""
    return text["encoder"] or f"text_encoder_{text['number'] or 1}".removesuffix("_1")


# Which model it was made of

_TOLD = (
    (r"stable-diffusion-xl|sdxl|illustrious|pony", "sdxl"),
    (r"stable-diffusion-v?3[.-]?5|sd3[.-]?5", "sd3.5"),
    (r"stable-diffusion-v?3|sd3", "sd3"),
    (r"stable-diffusion-v?2|sd[_-]?v?2", "sd2"),
    (r"stable-diffusion-v?1|sd[_-]?v?1", "sd1"),
    (r"flux[-_. ]?2", "flux2"),
    (r"flux", "flux1"),
    (r"qwen", "qwen-image"),
    (r"z[-_ ]?image|zimage", "z-image"),
    (
        r"chroma|hunyuan|wan|lumina|aura|kolors|hidream|ltx|pixart|sana|cosmos|anima|cascade|stable-cascade|kandinsky",
        "",
    ),
)


def told(metadata: Mapping[str, str]) -> str | None:
    """The base that the metadata names: ModelSpec's architecture or kohya's `ss_base_model_version`.

    Empty if that is none of ours; None if it says nothing.
    """
    for key in ("modelspec.architecture", "ss_base_model_version"):
        said = metadata.get(key, "").lower()
        for pattern, base in _TOLD:
            if said and re.match(pattern, said):
                return base
    if metadata.get("ss_v2", "") in ("True", "False"):
        return "sd2" if metadata["ss_v2"] == "True" else "sd1"
    return None


@dataclass(slots=True)
class Module:
    """A layer that a LoRA changes. reads, writes: how wide; 0 if its tensors don't tell."""

    reads: int = 0
    writes: int = 0


def modules(tensors: Mapping[str, Tensor]) -> dict[str, Module]:
    """What a LoRA changes: the path with underscores → how wide it is."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in tensors.items():
        if (read := _read(name)) and read[1] != "alpha":
            parts.setdefault(_PREFIXES.sub("", read[0]).replace(".", "_"), {})[read[1]] = tensor.shape
        elif name.startswith("lora_unet_") and name.endswith(".weight"):  # IA³
            parts.setdefault(_PREFIXES.sub("", name.removesuffix(".weight")), {})
    return {path: Module(_reads(shapes), _writes(shapes)) for path, shapes in parts.items()}


def _side(shapes: Mapping[str, tuple[int, ...]], name: str, dimension: int) -> int:
    shape = shapes.get(name, ())
    return shape[dimension] if len(shape) > dimension else 0


def _reads(shapes: Mapping[str, tuple[int, ...]]) -> int:
    kron = _factor(shapes, "lokr_w1", 1) * _factor(shapes, "lokr_w2", 1)
    plain = (_side(shapes, name, 1) for name in ("down", "hada_w1_b", "diff"))
    glora = _side(shapes, "a1", 1)
    return next(filter(None, plain), 0) or kron or glora


def _writes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    kron = _factor(shapes, "lokr_w1", 0) * _factor(shapes, "lokr_w2", 0)
    plain = (_side(shapes, name, 0) for name in ("up", "hada_w1_a", "diff"))
    turned = _side(shapes, "oft_blocks", 0) * _side(shapes, "oft_blocks", 1)
    return next(filter(None, plain), 0) or kron or _side(shapes, "b2", 0) or turned


def _factor(shapes: Mapping[str, tuple[int, ...]], name: str, dimension: int) -> int:
    """One side of one of the two matrices whose Kronecker product a LoKr is; each may be a product itself."""
    return _side(shapes, name, dimension) or _side(shapes, f"{name}_{'ab'[dimension]}", dimension)


def base(tensors: Mapping[str, Tensor]) -> str:
    """The base of `studio.files.identity.identify.BASES` that a LoRA was made of; empty if it is another, or untold."""
    found = modules(tensors)
    text = "\n".join(found)
    if re.search(r"(?:down|up|input|output)_blocks_|mid(?:dle)?_block_", text) or not re.search(
        r"blocks_|layers_", text
    ):
        return _of_unet(found, text)
    if found and all(path.startswith(("lora_te", "text_encoder", "te_", "te1_", "te2_")) for path in found):
        return _of_text(found, text)
    return _of_transformer(found, text)


_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
"""Width of what a UNet's cross attention reads → base."""


def _of_unet(found: Mapping[str, Module], text: str) -> str:
    for path, module in found.items():
        if re.search(r"attn2_(?:processor_)?to_[kv]$", path) and module.reads:
            return _CONTEXT.get(module.reads, "")
    if re.search(r"^(?:lora_)?te2_|text_encoder_2_|lora_te2_|transformer_blocks_[1-9]", text, re.M):
        return "sdxl"
    # SDXL has no attention in its outermost blocks and in the innermost of the way up, SD 1 and 2 the other way round.
    if re.search(r"(?:up_blocks_0_attentions|output_blocks_[0-2]_1)_", text):
        return "sdxl"
    if not re.search(
        r"(?:down_blocks_0|up_blocks_[23])_attentions_|(?:input_blocks_[12]|output_blocks_[6-9])_1_", text
    ):
        return ""
    # Without cross attention, SD 2 could be told only by its text encoder; hardly anything is made for it.
    hidden = next((module.reads for path, module in found.items() if "text_model_encoder" in path), 0)
    return "sd2" if hidden == 1024 else "sd1"


def _of_text(found: Mapping[str, Module], text: str) -> str:
    """A LoRA of text encoders alone."""
    if "te3_" in text or "text_encoder_3" in text:
        return "sd3"
    second = [path for path in found if "te2_" in path or "text_encoder_2" in path]
    if second:
        return "flux1" if any("encoder_block" in path for path in second) else "sdxl"
    if "te1_" in text:
        return "sdxl" if "te1_" in text and "encoder_block" not in text else "flux1"
    attention = (
        module.reads for path, module in found.items() if path.endswith("attn_q_proj") or "attn_k_proj" in path
    )
    return {768: "sd1", 1024: "sd2"}.get(next(filter(None, attention), 0), "")


_OTHERS = re.compile(
    r"individual_token_refiner|context_embedder_token_refiner|distilled_guidance_layer|double_stream_blocks|"
    r"joint_transformer_blocks|(?:^|_)double_layers_|transformer_blocks_\d+_attn[12]_|adaln_single|patchify_proj|"
    r"(?:^|_)blocks_\d+_(?:cross_attn|self_attn|attn[12]|img_qkv)|visual_transformer_blocks|patch_embed_text_proj",
    re.M,
)
"""Layers of architectures that are not built in."""


def _of_transformer(found: Mapping[str, Module], text: str) -> str:
    if re.search(r"joint_blocks_\d+_", text):
        return _of_sd3(found, text)
    wide = _width(found)
    dual = wide == 1536 and bool(re.search(r"(?<!single_)transformer_blocks_\d+_attn2_to_", text))
    if _OTHERS.search(text) and not (dual and "_attn_to_" in text):
        return ""
    if re.search(r"(?:^|_)layers_\d+_(?:attention|feed_forward|adaLN)", text, re.M) or "noise_refiner" in text:
        return "z-image" if wide == 3840 and "_attn_" not in text else ""
    double = _count(text, "double_blocks") or _count(text, r"(?<!single_)transformer_blocks")
    single = _count(text, "single_blocks") or _count(text, "single_transformer_blocks")
    if re.search(r"stream_modulation|to_qkv_mlp_proj|ff_linear_in|ff_context_linear", text) or _wider(found):
        return "flux2"
    if re.search(r"img_mod_1|txt_mod_1|(?:img|txt)_mlp_net_", text):
        return "qwen-image"
    if not double and not single:
        return ""
    if wide in (4096, 6144):
        return "flux2"
    if wide in (1536, 2432) and not single:
        return _of_sd3(found, text)
    if wide not in (0, 3072):
        return ""
    if single or "double_blocks" in text:
        return "" if double > 19 or single > 38 or _is_chroma(text) else "flux1"
    if not wide:
        return ""
    if double == 5:
        return "flux2"  # as many as FLUX.2 klein has
    # FLUX.1 has 19 such blocks. Who trains only a few of them, leaves out the first ones.
    few = double < 19 and re.search(r"transformer_blocks_0_", text) and not re.search(r"_ff_|_norm1_", text)
    return "qwen-image" if double > 19 or few else "flux1"


def _of_sd3(found: Mapping[str, Module], text: str) -> str:
    """SD 3.5 has blocks that are wider, or some with a second attention."""
    blocks = _count(text, "joint_blocks") or _count(text, "transformer_blocks")
    return "sd3.5" if _width(found) == 2432 or blocks > 24 or "attn2_" in text else "sd3"


def _width(found: Mapping[str, Module]) -> int:
    """How wide the stream is that a transformer's attention reads."""
    inner = re.compile(r"attn_(?:to_[qkv]|qkv|add_[qkv]_proj)$|attention_(?:to_[qkv]|qkv)$|linear1$|proj_mlp$|_qkv\d$")
    reads = [module.reads for path, module in found.items() if inner.search(path) and module.reads]
    # An OFT turns what a layer writes, and tells no more; what asks in attention writes as much as it reads.
    reads = reads or [each.writes for path, each in found.items() if path.endswith("_to_q") and each.writes]
    return Counter(reads).most_common(1)[0][0] if reads else _any_width(found)


def _any_width(found: Mapping[str, Module]) -> int:
    narrow = [min(module.reads, module.writes) for module in found.values() if module.reads and module.writes]
    if narrow:
        return Counter(narrow).most_common(1)[0][0]
    return min((module.writes for module in found.values() if module.writes), default=0)


def _wider(found: Mapping[str, Module]) -> bool:
    """FLUX.2's feed-forward layers have a gate, so they write more than FLUX.1's."""
    for path, module in found.items():
        ends = {"mlp_0": 6, "linear1": 9}
        for end, times in ends.items():
            if path.endswith(end) and module.reads and module.writes == times * module.reads:
                return True
    return False


def _count(text: str, group: str) -> int:
    return 1 + max((int(number) for number in re.findall(rf"{group}_(\d{{1,3}})_", text)), default=-1)


def _is_chroma(text: str) -> bool:
    """Chroma is FLUX.1 without the layers that modulate each block: a LoRA of every layer has none of them."""
    whole = all(word in text for word in ("img_attn_qkv", "txt_attn_qkv", "img_mlp_0", "txt_mlp_0", "linear1"))
    return whole and not re.search(r"_mod_lin|modulation_lin", text)
