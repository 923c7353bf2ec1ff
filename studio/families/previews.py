"""Latents → a small picture, cheaply enough for every step.

A linear map turns each latent with its neighbours into pixels, which run into those of the latents beside it, so that
no grid shows. It is fitted by least squares to the model's own VAE when the model is loaded, so it works for any
checkpoint without a table of known numbers.
"""

import io
import itertools
import threading
from collections.abc import Callable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 256
"""A preview's longer side in pixels is at most this (or one pixel for each latent, if there are more)."""

FITTED_ON = 3
"""Pictures that a map of many numbers is fitted on; one is enough for four channels."""
TILE = 8
"""Side of a ninth of such a picture, in latents."""


class Projection:
    """A fitted map from latents (1, channels, h, w) to pixels.

    weight: (3 factor², channels, k, k), bias: (3 factor²,): k x k latents to a block of factor x factor pixels in 0..1.
    """

    def __init__(self, weight: Tensor, bias: Tensor, factor: int) -> None:
        self._factor = factor
        self._maps = {factor: (weight, bias)}

    def __call__(self, latents: Tensor) -> "LatentPreview":
        """Project on the latents' device. The copy to the host is not waited for."""
        block = self._block(max(latents.shape[-2:]))
        if block not in self._maps:
            self._maps[block] = self._pooled(block)
        weight, bias = self._maps[block]
        padded = F.pad(latents.float(), (weight.shape[-1] // 2,) * 4, mode="replicate")
        pixels = F.pixel_shuffle(F.conv2d(padded, weight, bias), block)
        return LatentPreview((pixels[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0))

    @property
    def fitted(self) -> tuple[Tensor, Tensor, int]:
        """What it was made of: weight, bias, factor."""
        return (*self._maps[self._factor], self._factor)

    def to(self, device: torch.device) -> "Projection":
        """The same map on another device."""
        weight, bias = self._maps[self._factor]
        return Projection(weight.to(device), bias.to(device), self._factor)

    def _block(self, side: int) -> int:
        return next(b for b in (8, 4, 2, 1) if b <= self._factor and (side * b <= SIDE or b == 1))

    def _pooled(self, block: int) -> tuple[Tensor, Tensor]:
        """The map to smaller blocks: the mean over pixels is linear, so it can be taken of the map itself."""
        weight, bias = self._maps[self._factor]
        ratio = self._factor // block

        def pool(values: Tensor) -> Tensor:
            grid = values.reshape(3, block, ratio, block, ratio, *values.shape[1:])
            return grid.mean(dim=(2, 4)).reshape(3 * block**2, *values.shape[1:])

        return pool(weight), pool(bias)


class LatentPreview:
    """Pixels on their way to the host, and the JPEG of them once somebody asks (`studio.engine.events.Preview`)."""

    def __init__(self, pixels: Tensor) -> None:
        self._arrived = None
        if pixels.is_cuda:
            host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
            self._pixels = host.copy_(pixels, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._pixels = pixels.contiguous().cpu()
        self._lock = threading.Lock()
        self._jpeg = b""

    def image(self) -> Image.Image:
        """The pixels, after waiting for them."""
        if self._arrived:
            self._arrived.synchronize()
        return Image.fromarray(self._pixels.numpy())

    def jpeg(self) -> bytes:
        with self._lock:
            if not self._jpeg:
                file = io.BytesIO()
                self.image().save(file, "JPEG", quality=85)
                self._jpeg = file.getvalue()
            return self._jpeg


def fit(encode: Callable[[Tensor], Tensor], factor: int) -> Projection:
    """Fit a projection to a VAE.

    encode: pictures (n, 3, H, W) in -1..1 → latents (n, channels, H/factor, W/factor), as the sampler sees them.
    Encoding is what takes the time: at the scale of Stable Diffusion's VAE, a second on a processor.
    """
    block = min(factor, 8)
    images = _shapes(FITTED_ON, TILE * factor)
    latents = encode(images[:1]).float().cpu()
    channels = latents.shape[1]
    # Latents of many channels are patches already, and with their neighbours would be more numbers than are fitted on.
    near = 3 if channels <= 32 else 1
    if channels * near**2 > 64:  # more numbers to find than one picture tells well
        latents = torch.cat([latents, *(encode(image[None]).float().cpu() for image in images[1:])])
    images = images[: len(latents)]
    padded = F.pad(latents, (near // 2,) * 4, mode="replicate")
    # (n, channels*near², positions) → (n*positions, channels*near² + 1): each latent, its neighbours, and a constant,
    # and what they are to give: the block of pixels, with half of the blocks beside it.
    inputs = F.unfold(padded, near).transpose(1, 2).reshape(-1, channels * near**2)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    small = F.avg_pool2d(images * 0.5 + 0.5, factor // block)
    margin = block // 2 if near > 1 else 0
    side = block + 2 * margin
    if margin:
        # What is finer than half a block is not known, and guessed at differently on the two sides of an edge.
        small = F.avg_pool2d(F.pad(small, (margin // 2,) * 4, mode="replicate"), margin // 2 * 2 + 1, stride=1)
    targets = F.unfold(F.pad(small, (margin,) * 4, mode="replicate"), side, stride=block)
    targets = targets.transpose(1, 2).reshape(len(inputs), -1)
    # A little ridge keeps the map tame where pictures of shapes do not tell.
    gram = inputs.T @ inputs + 1e-3 * len(inputs) * torch.eye(inputs.shape[1])
    solution = torch.linalg.solve(gram, inputs.T @ targets)
    weight, bias = (
        solution[:-1].T.reshape(3, side, side, channels, near, near),
        solution[-1].reshape(3, side, side, 1, 1, 1),
    )
    if margin:
        weight, bias = _blended(weight, block), _blended(bias, block).sum((3, 4, 5))
    return Projection(weight.reshape(-1, channels, *weight.shape[-2:]).contiguous(), bias.flatten().contiguous(), block)


def _blended(patches: Tensor, block: int) -> Tensor:
    """Maps of patches that overlap by half → one map of blocks, each pixel a mean that favours the nearest patch.

    patches: (3, side, side, channels, k, k), `block` pixels apart. Returns (3, block, block, channels, k + 2, k + 2).
    """
    _, side, _, channels, near, _ = patches.shape
    at = torch.arange(block)
    own = 1 - ((at + 0.5) / block - 0.5).abs()
    # Of the latent before it, of its own, and of the one behind it.
    shares = (torch.where(at < block // 2, 1 - own, 0), own, torch.where(at < block // 2, 0, 1 - own))
    places = [(at + (side - block) // 2 + (1 - number) * block).clamp(0, side - 1) for number in range(3)]
    result = torch.zeros(3, block, block, channels, near + 2, near + 2)
    for i, j in itertools.product(range(3), repeat=2):
        share = shares[i][:, None] * shares[j]
        here = patches[:, places[i]][:, :, places[j]] * share[..., None, None, None]
        result[..., i : i + near, j : j + near] += here
    return result


def _shapes(count: int, tile: int) -> Tensor:
    """Pictures to fit on, (count, 3, 3 tile, 3 tile) in -1..1: nine tiles each, so that they show many colours."""
    tiles = _tiles(9 * count, tile).reshape(count, 3, 3, 3, tile, tile)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(count, 3, 3 * tile, 3 * tile)


def _tiles(count: int, side: int) -> Tensor:
    """(count, 3, side, side) in -1..1: colours that run into each other, with discs and boxes."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random)

    pictures = F.interpolate(draw(count, 3, 3, 3), size=side, mode="bicubic", align_corners=True)
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    for picture in pictures:
        for number in range(10):
            (cx, cy, size), colour = draw(3).tolist(), draw(3)
            size = 0.04 + 0.2 * size
            far = torch.hypot(x - cx, y - cy) if number % 2 else torch.maximum((x - cx).abs(), (y - cy).abs())
            picture[:, far < size] = colour[:, None]
    return pictures.clamp(0, 1) * 2 - 1
