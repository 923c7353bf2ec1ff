"""Train the autoencoder: 128x128 pictures ↔ latents of 4 x 16 x 16.

    python -m training.vae --minutes 12

It is a tiny autoencoder (convolutions and ReLU alone, as in TAESD): on a processor, group norms on the many pixels of a
KL autoencoder's first levels made it learn five times slower. Resumes from `training/.cache/vae.pt`. Learns on random
crops, for an eighth of the side is all it ever looks at: small crops give four times the steps for the same work.
"""

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

from training.compose import Composer
from training.corpus import CACHE, load_corpus
from training.optimise import Optimiser, device

CHECKPOINT = CACHE / "vae.pt"
WIDTH = 48
CONFIG = {
    "encoder_block_out_channels": (WIDTH,) * 4,
    "decoder_block_out_channels": (WIDTH,) * 4,
    # Blocks from the full size down and from the latents up: none at the full size, where one costs as much as
    # sixteen at a quarter of it.
    "num_encoder_blocks": (0, 1, 2, 3),
    "num_decoder_blocks": (4, 3, 1, 0),
    "latent_channels": 4,
}
CROP = 64
NOISE = 0.1
"""Standard deviation of the noise on the latents while training, so that near latents mean near pictures."""
PULL = 3e-3
"""Weight of the latents' mean square: without it they would grow until the noise means nothing."""


def draw_pictures(seed: int, count: int, size: int = 128) -> np.ndarray:
    """`count` composed pictures, uint8 (count, size, size, 3)."""
    composer = Composer(load_corpus(), seed, size)
    return np.stack([composer.draw()[0] for _ in range(count)])


def draw_in_parallel(seed: int, count: int, workers: int = 2) -> np.ndarray:
    """The same, drawn by several processes."""
    with ProcessPoolExecutor(workers) as pool:
        seeds = range(seed, seed + workers)
        return np.concatenate(list(pool.map(draw_pictures, seeds, [count // workers] * workers)))


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) → float32 (n, 3, h, w) in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(pictures: np.ndarray, count: int, rng: np.random.Generator) -> Tensor:
    """Random squares of CROP pixels, half of them mirrored: float32 (count, 3, CROP, CROP) in -1..1."""
    found = []
    for _ in range(count):
        picture = pictures[rng.integers(len(pictures))]
        y, x = rng.integers(picture.shape[0] - CROP + 1), rng.integers(picture.shape[1] - CROP + 1)
        crop = picture[y : y + CROP, x : x + CROP]
        found.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return to_tensor(np.stack(found))


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 on pixels, on edges, and on the picture at a half and a quarter of its size: colours are right first."""
    loss = (made - wanted).abs().mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * (made.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
    for factor in (2, 4):
        loss = loss + 0.5 * (F.avg_pool2d(made, factor) - F.avg_pool2d(wanted, factor)).abs().mean()
    return loss


def training_step(vae: AutoencoderTiny, batch: Tensor) -> Tensor:
    """The loss of one batch in -1..1. Computes in the dtype of the weights, and the loss in float32."""
    latents = vae.encode(batch.to(vae.dtype, memory_format=torch.channels_last)).latents
    made = vae.decode(latents + NOISE * torch.randn_like(latents)).sample.float()
    return reconstruction_loss(made, batch) + PULL * latents.float().square().mean()


def psnr(vae: AutoencoderTiny, pictures: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of encoding and decoding whole pictures, the mean over pictures."""
    values = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 16):
            wanted = to_tensor(pictures[start : start + 16]).to(vae.device)
            made = vae.decode(vae.encode(wanted.to(vae.dtype)).latents).sample.float().clamp(-1, 1)
            errors = ((made - wanted) / 2).square().mean(dim=(1, 2, 3))
            values += (-10 * errors.log10()).tolist()
    return sum(values) / len(values)


def train(minutes: float, batch: int, peak: float, decoder_only: bool = False) -> None:
    """Train for so long, with the learning rate falling to nothing at the end."""
    vae = AutoencoderTiny(**CONFIG).to(device(), torch.bfloat16, memory_format=torch.channels_last).train()
    if CHECKPOINT.exists():
        vae.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    if decoder_only:
        vae.encoder.requires_grad_(False)
    optimiser = Optimiser(vae, betas=(0.9, 0.98))
    pictures = draw_in_parallel(int(time.time()), 6000)
    unseen = draw_in_parallel(1, 64)
    rng = np.random.default_rng()
    start, step, mean = time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        loss = training_step(vae, crops(pictures, batch, rng).to(device()))
        rate = peak * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * share))
        optimiser.step(loss, rate)
        mean = 0.99 * mean + 0.01 * loss.item() if step else loss.item()
        step += 1
        if step % 250 == 0:
            save(vae, CHECKPOINT)
            print(f"{share:4.0%} step {step} loss {mean:.4f} PSNR {psnr(vae, unseen):.2f} dB", flush=True)
    save(vae, CHECKPOINT)
    print(f"done: {step} steps, PSNR {psnr(vae, unseen):.2f} dB", flush=True)


def save(module: torch.nn.Module, path: Path) -> None:
    """Write weights in one go, so that a stop in the middle leaves the older file."""
    torch.save(module.state_dict(), path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decoder-only", action="store_true", help="keep the latents as they are")
    given = parser.parse_args()
    train(given.minutes, given.batch, given.rate, given.decoder_only)
