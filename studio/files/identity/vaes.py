"""Which autoencoder a file is. Shapes and names tell most; what has the same ones is told by the file's name."""

import re
from collections.abc import Mapping

from studio.files.headers import Tensor
from studio.files.identity import parts
from studio.files.identity.names import Names

_BLOCK = r"(?:norm[12]|conv[12]|nin_shortcut|conv_shortcut)"
_KNOWN = re.compile(
    rf"(?:(?:encoder|decoder)\.(?:conv_in|conv_out|norm_out|conv_norm_out|(?:down|up)\.\d\.(?:block\.\d\.{_BLOCK}|"
    rf"(?:down|up)sample\.conv)|mid\.(?:block_\d\.{_BLOCK}|attn_1\.(?:norm|q|k|v|proj_out))|"
    rf"(?:down_blocks|up_blocks)\.\d\.(?:resnets\.\d\.{_BLOCK}|(?:down|up)samplers\.0\.conv)|"
    rf"mid_block\.(?:resnets\.\d\.{_BLOCK}|attentions\.0\.(?:group_norm|to_[qkv]|to_out\.0|query|key|value|proj_attn)))|"
    r"quant_conv|post_quant_conv)\.(?:weight|bias)|bn\.\w+|(?:loss|model_ema)\..*|logvar"
)
"""What all tensors of an `AutoencoderKL` are called, in latent-diffusion's names and in diffusers'."""
_KINDS = (
    ("DC-AE of Sana", re.compile(r"decoder\.up_blocks\.\d+\.\d+\.")),
    ("video", re.compile(r"time_stack\.|time_mixer|temp_conv|temporal|motion")),
    ("MoVQ", re.compile(r"quantize\.embedding|norm_layer\.|spatial_norm")),
    ("asymmetric", re.compile(r"decoder\.condition_encoder\.")),
)
"""What an autoencoder is that is none of ours → names that only such have."""


def kind(tensors: Mapping[str, Tensor], name: str) -> dict[str, str] | None:
    """Base and variant of the autoencoder that a file is; None if it is none. name: the file's, in small letters."""
    if found := _tiny(Names(tensors), name):
        return found
    for home in parts.VAE_HOMES:
        names = Names(tensors, home)
        for first in parts.VAE_FIRST:
            if first in names and any(f"decoder.{last}.weight" in names for last in ("conv_out", "head.2")):
                return _base(names, first, name)
        if _codes(names):
            films = any(len(tensor.shape) == 5 for tensor in tensors.values())
            return {"base": "", "variant": "video" if films else "another"}
    return None


def _codes(names: Names) -> bool:
    """Whether it makes something of pictures and pictures of that, in any way."""
    own = names.below()
    inside = [each for each in own if each.startswith(("encoder.", "decoder.", "quant", "post_quant"))]
    draws = any(each.startswith("decoder.") and names.rank(each) >= 4 for each in inside)
    return draws and any(each.startswith("encoder.") for each in inside) and len(inside) > 0.9 * len(own)


def _base(names: Names, first: str, name: str) -> dict[str, str]:
    channels, wide = names.side(first, 1), names.side(first, 0)
    if names.rank(first) == 5:
        return _of_films(names, channels, name)
    if not all(map(_KNOWN.fullmatch, names.below())):
        text = "\n".join(names.below())
        return {"base": "", "variant": next((label for label, sign in _KINDS if sign.search(text)), "another")}
    if wide == 512 and channels == 4:
        return {"base": "sdxl" if "xl" in name else "sd1"}
    if wide == 512 and channels == 16:
        return {"base": "sd3" if re.search(r"sd[-_]?3|stable[-_ ]diffusion[-_ ]3", name) else "flux1"}
    return {"base": "flux2" if (wide, channels) == (512, 32) else "", "variant": f"{channels} channels"}


def _of_films(names: Names, channels: int, name: str) -> dict[str, str]:
    """Wan 2.1's, which Qwen-Image's was trained on from: nothing but the name tells them apart."""
    if channels == 16 and ("decoder.conv1.weight" in names or "decoder.norm_out.gamma" in names):
        return {"base": "qwen-image", "variant": "Wan 2.1" if "wan" in name and "qwen" not in name else ""}
    return {"base": "", "variant": "Wan 2.2" if channels == 48 else "video"}


def _tiny(names: Names, name: str) -> dict[str, str] | None:
    """TAESD and its kin: diffusers' file, or the author's own with the decoder or the encoder alone."""
    whole = "decoder.layers.0.weight" in names and "encoder.layers.0.weight" in names
    decoder = names.side("1.weight", 1) in (4, 16, 32) and "3.conv.0.weight" in names
    encoder = names.side("0.weight", 1) == 3 and "1.conv.0.weight" in names
    if not (whole or decoder or encoder):
        return None
    channels = names.side("decoder.layers.0.weight", 1) if whole else names.side("1.weight", 1) if decoder else 0
    base = "sdxl" if "xl" in name else "sd1"
    if channels == 16 or re.search(r"taef1|taesd3", name):
        base = "sd3" if "sd3" in name else "flux1"
    if channels == 32 or "taef2" in name:
        base = "flux2"
    return {"base": base, "variant": "tiny"}
