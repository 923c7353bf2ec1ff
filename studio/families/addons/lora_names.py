"""Which layers of a model a LoRA's file means.

diffusers cuts some layers in parts that the models' makers have as one, and names all of them anew. Files have either
names. Each row of the tables below says what one of the makers' layers is here; sources: the converters of
diffusers/loaders/single_file_utils.py, and what the makers published.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from studio.files.identity.loras import Layer

DENOISERS = ("unet", "transformer")

_FLUX, _FLUX2 = "time_text_embed", "time_guidance_embed"
_TRANSFORMERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # FLUX.1 and FLUX.2, XLabs' names for FLUX.1 among them
    (r"double_blocks_(\d+)_(?:img_attn_qkv|processor_qkv1)", ("transformer_blocks_{}_attn_to_[qkv]",)),
    (r"double_blocks_(\d+)_(?:txt_attn_qkv|processor_qkv2)", ("transformer_blocks_{}_attn_add_[qkv]_proj",)),
    (r"double_blocks_(\d+)_(?:img_attn_proj|processor_proj1)", ("transformer_blocks_{}_attn_to_out_0",)),
    (r"double_blocks_(\d+)_(?:txt_attn_proj|processor_proj2)", ("transformer_blocks_{}_attn_to_add_out",)),
    (r"double_blocks_(\d+)_img_mlp_0", ("transformer_blocks_{}_ff_net_0_proj", "transformer_blocks_{}_ff_linear_in")),
    (r"double_blocks_(\d+)_img_mlp_2", ("transformer_blocks_{}_ff_net_2", "transformer_blocks_{}_ff_linear_out")),
    (
        r"double_blocks_(\d+)_txt_mlp_0",
        ("transformer_blocks_{}_ff_context_net_0_proj", "transformer_blocks_{}_ff_context_linear_in"),
    ),
    (
        r"double_blocks_(\d+)_txt_mlp_2",
        ("transformer_blocks_{}_ff_context_net_2", "transformer_blocks_{}_ff_context_linear_out"),
    ),
    (r"double_blocks_(\d+)_img_mod_lin", ("transformer_blocks_{}_norm1_linear",)),
    (r"double_blocks_(\d+)_txt_mod_lin", ("transformer_blocks_{}_norm1_context_linear",)),
    (
        r"single_blocks_(\d+)_linear1",
        (
            "single_transformer_blocks_{0}_attn_to_[qkv] single_transformer_blocks_{0}_proj_mlp",
            "single_transformer_blocks_{}_attn_to_qkv_mlp_proj",
        ),
    ),
    (r"single_blocks_(\d+)_processor_qkv", ("single_transformer_blocks_{}_attn_to_[qkv]",)),
    (
        r"single_blocks_(\d+)_(?:linear2|processor_proj)",
        ("single_transformer_blocks_{}_proj_out", "single_transformer_blocks_{}_attn_to_out"),
    ),
    (r"single_blocks_(\d+)_modulation_lin", ("single_transformer_blocks_{}_norm_linear",)),
    (r"((?:single|double)_stream_modulation\w*)_lin", ("{}_linear",)),
    (r"time_in_in_layer", (f"{_FLUX}_timestep_embedder_linear_1", f"{_FLUX2}_timestep_embedder_linear_1")),
    (r"time_in_out_layer", (f"{_FLUX}_timestep_embedder_linear_2", f"{_FLUX2}_timestep_embedder_linear_2")),
    (r"guidance_in_in_layer", (f"{_FLUX}_guidance_embedder_linear_1", f"{_FLUX2}_guidance_embedder_linear_1")),
    (r"guidance_in_out_layer", (f"{_FLUX}_guidance_embedder_linear_2", f"{_FLUX2}_guidance_embedder_linear_2")),
    (r"vector_in_in_layer", ("time_text_embed_text_embedder_linear_1",)),
    (r"vector_in_out_layer", ("time_text_embed_text_embedder_linear_2",)),
    (r"img_in", ("x_embedder",)),
    (r"txt_in", ("context_embedder",)),
    # Stable Diffusion 3
    (r"joint_blocks_(\d+)_x_block_attn_qkv", ("transformer_blocks_{}_attn_to_[qkv]",)),
    (r"joint_blocks_(\d+)_x_block_attn2_qkv", ("transformer_blocks_{}_attn2_to_[qkv]",)),
    (r"joint_blocks_(\d+)_context_block_attn_qkv", ("transformer_blocks_{}_attn_add_[qkv]_proj",)),
    (r"joint_blocks_(\d+)_x_block_(attn2?)_proj", ("transformer_blocks_{}_{}_to_out_0",)),
    (r"joint_blocks_(\d+)_context_block_attn_proj", ("transformer_blocks_{}_attn_to_add_out",)),
    (r"joint_blocks_(\d+)_x_block_mlp_fc1", ("transformer_blocks_{}_ff_net_0_proj",)),
    (r"joint_blocks_(\d+)_x_block_mlp_fc2", ("transformer_blocks_{}_ff_net_2",)),
    (r"joint_blocks_(\d+)_context_block_mlp_fc1", ("transformer_blocks_{}_ff_context_net_0_proj",)),
    (r"joint_blocks_(\d+)_context_block_mlp_fc2", ("transformer_blocks_{}_ff_context_net_2",)),
    (r"joint_blocks_(\d+)_x_block_adaLN_modulation_1", ("transformer_blocks_{}_norm1_linear",)),
    (r"joint_blocks_(\d+)_context_block_adaLN_modulation_1", ("transformer_blocks_{}_norm1_context_linear",)),
    (r"x_embedder_proj", ("pos_embed_proj",)),
    (r"t_embedder_mlp_0", ("time_text_embed_timestep_embedder_linear_1",)),
    (r"t_embedder_mlp_2", ("time_text_embed_timestep_embedder_linear_2",)),
    (r"y_embedder_mlp_0", ("time_text_embed_text_embedder_linear_1",)),
    (r"y_embedder_mlp_2", ("time_text_embed_text_embedder_linear_2",)),
    # Z-Image
    (r"(\w+_\d+)_attention_qkv", ("{}_attention_to_[qkv]",)),
    (r"(\w+_\d+)_attention_out", ("{}_attention_to_out_0",)),
    (r"final_layer_(\w+)", ("all_final_layer_2-1_{}",)),
    (r"x_embedder", ("all_x_embedder_2-1",)),
    # All of them
    (r"final_layer_linear", ("proj_out",)),
    (r"final_layer_adaLN_modulation_1", ("norm_out_linear",)),
    (r"(\w+)_processor_(to_out)", ("{}_{}_0",)),
    (r"(\w+)_processor_(\w+)", ("{}_{}",)),
    (r"(\w+_to_out)", ("{}_0",)),
)
"""A maker's name → what it is here, by the first of the ways that the model has. `[qkv]`: three layers, one after
another in the maker's. Several names in one way are parts of one layer too."""

_RESNET = {
    "in_layers_0": "norm1", "in_layers_2": "conv1", "emb_layers_1": "time_emb_proj", "out_layers_0": "norm2",
    "out_layers_3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
_UNET = {
    "time_embed_0": "time_embedding_linear_1", "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1", "label_emb_0_2": "add_embedding_linear_2",
    "input_blocks_0_0": "conv_in", "out_0": "conv_norm_out", "out_2": "conv_out",
}  # fmt: skip
"""A layer of Stable Diffusion's UNet in CompVis' and Stability's names → in diffusers'."""


@dataclass(frozen=True, slots=True)
class Target:
    """A layer that is changed. start, stop: which channels of what the file's layer gives are this one's.

    is_turned: whether the file has the second half of these channels first.
    """

    part: str
    name: str
    module: nn.Module
    start: int
    stop: int
    is_turned: bool = False


class Names:
    """The layers of a model's parts by the names that LoRAs have for them."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self._layers = {part: _flat(module) for part, module in parts.items()}
        self._modules = parts
        self.denoiser = next((part for part in DENOISERS if part in parts), "")
        config = getattr(parts.get(self.denoiser), "config", {})
        self._resnets = config.get("layers_per_block", 2) if self.denoiser == "unet" else 0

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        """The layers that a file's layer stands for, in the order of its channels; empty if the model has none such."""
        for part in self._parts(layer.part):
            for is_own, names in self._ways(layer.path, part):
                if all(name in self._layers[part] for name in names):
                    return tuple(self._found(part, names, is_own))
        return ()

    def is_own(self, layer: Layer) -> bool:
        """Whether the file calls this layer as the model does."""
        return any(_bare(layer.path) in self._layers[part] for part in self._parts(layer.part))

    def _parts(self, said: str) -> tuple[str, ...]:
        of_comfy = {
            "clip_l": ("text_encoder",),
            "clip_g": ("text_encoder_2",),
            "t5xxl": ("text_encoder_3", "text_encoder_2"),
        }
        wanted = of_comfy.get(said, (said or self.denoiser,))
        return tuple(part for part in wanted if part in self._layers)

    def _ways(self, path: str, part: str) -> Iterable[tuple[bool, list[str]]]:
        yield True, [_bare(path)]
        if part not in DENOISERS:
            return
        if part == "unet":
            yield False, [self._of_unet(path)]
        for pattern, ways in _TRANSFORMERS:
            if found := re.fullmatch(pattern, path):
                for way in ways:
                    names = way.format(*found.groups()).split()
                    yield False, [each for name in names for each in _expanded(name)]

    def _of_unet(self, path: str) -> str:
        size = self._resnets + 1
        if path in _UNET:
            return _UNET[path]
        if found := re.fullmatch(r"middle_block_([012])_(.+)", path):
            number, rest = int(found[1]), found[2]
            return (
                f"mid_block_attentions_0_{rest}" if number == 1 else f"mid_block_resnets_{number // 2}_{_inner(rest)}"
            )
        if found := re.fullmatch(r"(in|out)put_blocks_(\d+)_([012])_(.+)", path):
            way, number, place, rest = found[1], int(found[2]), int(found[3]), found[4]
            block, layer = divmod(number - (way == "in"), size)
            home = f"{'down' if way == 'in' else 'up'}_blocks_{block}"
            if way == "in" and layer == self._resnets:
                return f"{home}_downsamplers_0_conv"
            if place and rest == "conv":
                return f"{home}_upsamplers_0_conv"
            return f"{home}_attentions_{layer}_{rest}" if place else f"{home}_resnets_{layer}_{_inner(rest)}"
        return path

    def _found(self, part: str, names: Iterable[str], is_own: bool) -> Iterable[Target]:
        start = 0
        for flat in names:
            name = self._layers[part][flat]
            module = self._modules[part].get_submodule(name)
            stop = start + shape(module)[0]
            # Makers' last norm gives shift and scale, diffusers' scale and shift.
            parent = self._modules[part].get_submodule(name.rpartition(".")[0])
            is_turned = not is_own and type(parent).__name__ == "AdaLayerNormContinuous"
            yield Target(part, name, module, start, stop, is_turned)
            start = stop


def _flat(part: nn.Module) -> dict[str, str]:
    """A layer's name with underscores → with points."""
    return {_bare(name.replace(".", "_")): name for name, module in part.named_modules() if shape(module)}


def _bare(path: str) -> str:
    """The same for versions of transformers that have all of CLIP below `text_model`, and for those that do not."""
    return path.removeprefix("text_model_")


def _expanded(name: str) -> list[str]:
    return [name.replace("[qkv]", each) for each in "qkv"] if "[qkv]" in name else [name]


def _inner(rest: str) -> str:
    return _RESNET.get(rest, rest)


def shape(module: nn.Module) -> tuple[int, ...]:
    """Of a layer's weights, also where they are quantised; empty for what is no layer with weights."""
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return (module.out_features, module.in_features)
    if isinstance(module, nn.Conv2d):
        return (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    if isinstance(module, nn.LayerNorm | nn.GroupNorm) and module.weight is not None:
        return tuple(module.weight.shape)
    return ()
