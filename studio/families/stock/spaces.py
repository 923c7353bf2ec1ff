"""Latents of any pipeline → those of its autoencoder, and pictures.

Pipelines pack their latents in patches, stack them as films of one frame, and scale them, each in its own way. `Space`
undoes this as far as shapes and the autoencoder's config tell. What it does not know is shown as plain brightness.
"""

from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from studio.families import previews
from studio.families.previews import LatentPreview, Projection


@dataclass(frozen=True, slots=True)
class Space:
    """The latents of one autoencoder, or pixels if there is none.

    mean, std: (1, channels, 1, 1): latents as a pipeline has them times std plus mean are the autoencoder's own.
    patch_mean, patch_std: the same for patches of 2 x 2 latents. patches_first: in a patch of (4 channels) values the
    place goes before the channel.
    """

    channels: int
    mean: Tensor
    std: Tensor
    projection: Projection | None
    patch_mean: Tensor | None = None
    patch_std: Tensor | None = None
    patches_first: bool = False

    @classmethod
    def of(cls, vae: Any, device: torch.device, patches_first: bool = False) -> "Space":
        """The space of an autoencoder of diffusers, None for pixels in -1..1."""
        if vae is None:
            return cls(3, torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), None)
        with torch.inference_mode():
            projection, channels = _fit(vae, device)
        mean, std = (torch.as_tensor(each, dtype=torch.float32).reshape(1, -1, 1, 1) for each in _scale(vae))
        patch_mean = patch_std = None
        if hasattr(vae, "bn"):
            patch_mean = vae.bn.running_mean.float().reshape(1, -1, 1, 1)
            patch_std = (vae.bn.running_var.float() + vae.config.batch_norm_eps).sqrt().reshape(1, -1, 1, 1)
        return cls(channels, mean.to(device), std.to(device), projection, patch_mean, patch_std, patches_first)

    def raw(self, latents: Tensor, width: int, height: int) -> Tensor | None:
        """(1, channels, h, w) float32 as the autoencoder takes them; None if the shape is not known."""
        values = latents[:1].float()
        if values.ndim == 5:
            values = values[:, :, 0] if values.shape[1] == self.channels else values[:, 0]
        if values.ndim == 3:
            rows = round((values.shape[1] * height / width) ** 0.5)
            if not rows or rows * width * rows != values.shape[1] * height:
                return None
            values = values.transpose(1, 2).unflatten(2, (rows, -1))
        if values.ndim == 4 and values.shape[1] == 4 * self.channels:
            values = self._unpatched(values)
        if values.ndim != 4 or values.shape[1] != self.channels:
            return None
        return values * self.std.to(values.device) + self.mean.to(values.device)

    def _unpatched(self, values: Tensor) -> Tensor:
        if self.patch_mean is not None and self.patch_std is not None:
            values = values * self.patch_std.to(values.device) + self.patch_mean.to(values.device)
        if self.patches_first:
            values = values.unflatten(1, (4, self.channels)).transpose(1, 2).flatten(1, 2)
        return F.pixel_shuffle(values, 2)

    def preview(self, latents: Tensor | None, width: int, height: int) -> LatentPreview:
        """A small picture. Grey if there are no latents yet."""
        if latents is None:
            return LatentPreview(torch.full((8, 8, 3), 128, dtype=torch.uint8))
        raw = self.raw(latents, width, height)
        if raw is not None and self.projection:
            return self.projection(raw)
        if raw is not None and self.channels == 3:
            side = max(raw.shape[-2:])
            small = F.interpolate(raw, scale_factor=min(1.0, previews.SIDE / side), mode="area")
            return LatentPreview(((small[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0))
        return LatentPreview(_brightness(latents).expand(-1, -1, 3))

    def picture(self, model: Any, latents: Tensor | None, width: int, height: int) -> Image.Image:
        """The full picture of latents on the way; of a prior's, the enlarged preview."""
        raw = self.raw(latents, width, height) if latents is not None else None
        if raw is not None:
            pixels = (_decoded(model.vae, raw) / 2 + 0.5).clamp(0, 1).permute(1, 2, 0)
            image = Image.fromarray((pixels * 255).round().to(torch.uint8).cpu().numpy())
        else:
            image = self.preview(latents, width, height).image()
        return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def _decoded(vae: Any, raw: Tensor) -> Tensor:
    """Pixels (3, H, W) in -1..1 of an autoencoder's own latents."""
    if vae is None:
        return raw[0]
    values = raw.to(vae.dtype)
    if _paella(vae):
        return vae.decode(values).sample[0].float() * 2 - 1
    if _is_film(vae):
        return vae.decode(values[:, :, None], return_dict=False)[0][0, :, 0].float()
    options = {"force_not_quantize": True} if isinstance(vae, diffusers.VQModel) else {}
    return vae.decode(values, return_dict=False, **options)[0][0].float()[:3]


def _fit(vae: Any, device: torch.device) -> tuple[Projection | None, int]:
    """A projection of the autoencoder's own latents, and how many channels they have."""

    def encode(pictures: Tensor) -> Tensor:
        pictures = pictures.to(device, vae.dtype)
        encoded = vae.encode(pictures[:, :, None] if _is_film(vae) else pictures)
        if hasattr(encoded, "latent_dist"):
            latents = encoded.latent_dist.mode()
        else:
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
        return latents[:, :, 0] if latents.ndim == 5 else latents

    try:
        probe = encode(torch.zeros(1, 3, 128, 128))
        return previews.fit(encode, 128 // probe.shape[-1]).to(device), probe.shape[1]
    except (RuntimeError, TypeError, ValueError, AttributeError):
        # One that takes pictures in another way: its latents are shown as brightness.
        return None, int(vae.config.get("latent_channels") or vae.config.get("z_dim") or 0)


def _scale(vae: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of the latents as pipelines have them, by the autoencoder's config."""
    config = vae.config
    if isinstance(vae, diffusers.VQModel):
        return [0.0], [1.0]
    if _paella(vae):
        return [0.0], [config.scale_factor]
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        return mean, std
    return [config.get("shift_factor") or 0.0], [1 / (config.get("scaling_factor") or 1.0)]


def _paella(vae: Any) -> bool:
    """Wuerstchen's and Stable Cascade's, whose pixels are in 0..1."""
    return type(vae).__name__ == "PaellaVQModel"


def _is_film(vae: Any) -> bool:
    """Whether it takes pictures as films of one frame: (n, 3, 1, H, W)."""
    return any("temp" in name and "downsample" in name for name in vae.config)


def _brightness(latents: Tensor) -> Tensor:
    """(h, w, 1) of uint8: the mean over channels, from its smallest value to its largest."""
    values = latents[0].float()
    values = values.mean(0) if values.ndim == 3 else values.reshape(-1)
    if values.ndim != 2:
        side = max(1, int(np.sqrt(values.numel())))
        values = values[: side * side].reshape(side, side)
    values = values - values.min()
    return (values / values.max().clamp(min=1e-6) * 255).round().to(torch.uint8)[:, :, None]
