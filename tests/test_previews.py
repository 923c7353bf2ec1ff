"""The linear map from latents to pixels."""

import io
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from studio.families import previews


def encode(pictures: Tensor) -> Tensor:
    """An autoencoder whose latents are the mean colours of 8x8 blocks, and nothing."""
    means = F.avg_pool2d(pictures, 8)
    return torch.cat([means, torch.zeros_like(means[:, :1])], 1)


@pytest.fixture(scope="module")
def projection() -> previews.Projection:
    return previews.fit(encode, 8)


def shown(projection: previews.Projection, latents: Tensor) -> np.ndarray:
    return np.asarray(projection(latents).image()).astype(int)


def test_a_flat_colour_is_shown_as_it_is(projection: previews.Projection) -> None:
    colour = torch.tensor([0.5, -0.5, 0.0])
    latents = encode(colour[None, :, None, None].expand(1, 3, 64, 64))
    assert np.abs(shown(projection, latents) - (colour.numpy() + 1) * 127.5).max() < 12


def test_a_gradient_is_smooth_over_the_blocks(projection: previews.Projection) -> None:
    ramp = torch.linspace(-1, 1, 128).expand(1, 3, 128, 128)
    row = shown(projection, encode(ramp))[64, :, 0]
    # The blocks themselves are 16 apart.
    assert np.abs(np.diff(row)).max() < 12


def test_blocks_run_into_each_other(projection: previews.Projection) -> None:
    """Also where latents that have nothing to do with each other lie side by side, as in noise."""
    latents = 0.4 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    steps = np.abs(np.diff(shown(projection, latents), axis=1)).mean((0, 2))
    seams, beside = steps[7::8].mean(), (steps[6::8].mean() + steps[8::8].mean()) / 2
    assert seams < 1.5 * beside


def test_latents_of_many_channels_are_shown_without_their_neighbours() -> None:
    def patches(pictures: Tensor) -> Tensor:
        found = F.pixel_unshuffle(encode(pictures), 2)
        return torch.cat([found, torch.zeros(len(found), 112, *found.shape[2:])], 1)

    projection = previews.fit(patches, 16)
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    assert projection._maps[8][0].shape[1:] == (128, 1, 1)
    row = shown(projection, patches(ramp))[64, :, 0]
    assert np.abs(row - np.linspace(0, 255, 128)).max() < 16


@pytest.mark.parametrize(("side", "pixels"), [(8, 64), (32, 256), (64, 256), (128, 256), (256, 256), (300, 300)])
def test_the_preview_is_no_larger_than_it_need_be(projection: previews.Projection, side: int, pixels: int) -> None:
    assert shown(projection, torch.zeros(1, 4, side, side)).shape == (pixels, pixels, 3)


def test_a_smaller_preview_is_the_larger_one_made_smaller(projection: previews.Projection) -> None:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2
    block = projection._block(16)
    large = F.avg_pool2d(torch.from_numpy(shown(projection, latents)).permute(2, 0, 1).float(), block)
    weight, bias = projection._pooled(1)
    padded = F.pad(latents, (weight.shape[-1] // 2,) * 4, mode="replicate")
    small = F.conv2d(padded, weight, bias)[0].clamp(0, 1) * 255
    assert (large - small).abs().max() < 3


def test_the_jpeg_is_encoded_once_and_from_any_thread(projection: previews.Projection) -> None:
    preview = projection(torch.zeros(1, 4, 16, 16))
    files: list[bytes] = []
    threads = [threading.Thread(target=lambda: files.append(preview.jpeg())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(file is files[0] for file in files)
    assert Image.open(io.BytesIO(files[0])).format == "JPEG"


def test_a_model_of_four_channels_is_asked_for_one_small_picture_and_one_of_many_for_more() -> None:
    """Encoding them is what a person waits for before the first picture."""
    asked: list[Tensor] = []

    def counted(pictures: Tensor) -> Tensor:
        asked.append(pictures)
        return encode(pictures)

    previews.fit(counted, 8)
    assert [each.shape for each in asked] == [(1, 3, 192, 192)]
    asked.clear()
    previews.fit(lambda pictures: counted(pictures).repeat(1, 4, 1, 1), 8)
    assert sum(len(each) for each in asked) == previews.FITTED_ON
