"""Autoencoders that a person chose instead of a model's own."""

import tempfile
from typing import Any

import diffusers
import torch

from studio import disk
from studio.errors import ModelError
from studio.families import placement
from studio.families.placement import Plan
from studio.files import unused, weights
from studio.files.addons import File
from studio.files.folders import read_json


def load(file: File, own: Any, device: torch.device, dtype: torch.dtype, model: str) -> Any:
    """An autoencoder on the device: a diffusers folder, or a single file in diffusers' or the original layout.

    own: the model's, whose latents it must share. model: its name, for sentences. Raises ModelError.
    """
    try:
        disk.check(file.path)
        vae = _from_folder(file, dtype) if file.path.is_dir() else _from_file(file, own, dtype)
    except (MemoryError, ModelError):
        raise
    except Exception as error:
        raise ModelError(
            f"The VAE {file.name} could not be read, or does not fit {model} ({type(error).__name__}). "
            "Choose one that was made for models of its kind."
        ) from error
    if _latents(vae) != _latents(own):
        raise ModelError(
            f"The VAE {file.name} has other latents than {model}. Choose one that was made for models of its kind."
        )
    placement.place({"vae": vae.eval().requires_grad_(False)}, device, Plan(dtype, 0))
    return vae


def _from_folder(file: File, dtype: torch.dtype) -> Any:
    name = str(read_json(file.path / "config.json").get("_class_name"))
    kind = getattr(diffusers, name, None) if name.startswith("Autoencoder") else None
    if kind is None:
        raise ModelError(f"{file.name} is a {name:.60}, which is no VAE that is known here. Choose another.")
    vae, told = kind.from_pretrained(
        file.path, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    weights.check(file.path, vae.state_dict())  # of a file, they are looked at while they are read
    vae.unused = unused.sentence(file.name, told["unexpected_keys"])
    return vae


def _from_file(file: File, own: Any, dtype: torch.dtype) -> Any:
    # A file has no config; that of the model's own says what it must be to fit.
    state = weights.read(file.path, weights.header(file.path), dtype)
    known = own.state_dict().keys()
    # With more than these, diffusers would take diffusers' own names for the makers'.
    odd = state.keys() - known if known <= state.keys() else set()
    with tempfile.TemporaryDirectory() as folder, unused.heard() as heard:
        own.save_config(folder)
        state = {name: value for name, value in state.items() if name not in odd}
        vae = type(own).from_single_file(state, config=folder, torch_dtype=dtype, local_files_only=True)
    vae.unused = unused.of_file(file.name, file.path, vae, (*odd, *heard))
    return vae


def _latents(vae: Any) -> tuple[Any, Any]:
    """Channels, and the number of halvings."""
    config = vae.config
    blocks: Any = getattr(config, "block_out_channels", None) or getattr(config, "encoder_block_out_channels", ())
    return getattr(config, "latent_channels", None), len(blocks)
