"""Train the autoencoder: 256x256 pictures ↔ latents of 32 x 16 x 16.

    python -m training.vae --minutes 12

It is a tiny autoencoder (convolutions and ReLU alone, as in TAESD): on a processor, group norms on the many pixels of a
KL autoencoder's first levels made it learn five times slower. A sixteenth of the side with many channels, so that the
denoiser has few places to work on (as in DC-AE, Chen et al., arXiv:2410.10733). Resumes from `training/.cache/vae.pt`.
Learns on random crops: half of the side gives four times the steps for the same work.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from training.compose import Composer, Planner
from training.corpus import CACHE, load_corpus
from training.optimise import Optimiser, device, leads, rank, slowest, together

CHECKPOINT = CACHE / "vae.pt"
WIDTH = 56
CHANNELS = 32
SIZE = 256
CONFIG = {
    "encoder_block_out_channels": (WIDTH,) * 5,
    "decoder_block_out_channels": (WIDTH,) * 5,
    # Blocks from the full size down and from the latents up: none at the full size, where one costs as much as
    # sixteen at a quarter of it.
    "num_encoder_blocks": (0, 1, 1, 2, 3),
    "num_decoder_blocks": (4, 3, 2, 1, 0),
    "latent_channels": CHANNELS,
}
CROP = 128
NOISE = 0.05
"""Standard deviation of the noise on the latents while training, so that near latents mean near pictures."""
WHOLE = 0.6
"""Part of the pictures that is decoded from all channels of latents, while training; the others from the first ones."""
COARSE = 4
"""Channels that no picture goes without: the picture at large. Each of the others adds detail."""
PULL = 1e-3
"""Weight of the latents' mean square: without it they would grow until the noise means nothing."""
HOLD = 0.3
"""Weight of the distance to an older autoencoder's latents."""
QUIET = 0.1
"""What a new block adds at first, by what its weights as they are drawn would."""
RENEWED = 0.02
"""Part of the pictures that is drawn anew every hundred steps."""


def draw_pictures(composer: Composer, seed: int, count: int) -> Tensor:
    """`count` composed pictures on the composer's device, uint8 (count, 3, size, size)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    planner = Planner(composer.corpus, rng)
    parts = [min(composer.at_once, count - start) for start in range(0, count, composer.at_once)]
    return torch.cat([composer.pictures([planner.draw() for _ in range(part)], rng) for part in parts])


def to_tensor(pictures: Tensor) -> Tensor:
    """uint8 → float32 in -1..1."""
    return pictures.float() / 127.5 - 1


def crops(pictures: Tensor, count: int) -> Tensor:
    """Random squares of CROP pixels, half of them mirrored: float32 (count, 3, CROP, CROP) in -1..1."""
    found = []
    room = pictures.shape[-1] - CROP + 1
    for row in torch.randint(len(pictures), (count,)).tolist():
        y, x = torch.randint(room, (2,)).tolist()
        crop = pictures[row, :, y : y + CROP, x : x + CROP]
        found.append(crop.flip(-1) if torch.rand(()) < 0.5 else crop)
    return to_tensor(torch.stack(found))


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 and L2 on pixels, L1 on edges and on the picture at a half and a quarter of its size: colours come first."""
    loss = (made - wanted).abs().mean() + 2 * (made - wanted).square().mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * (made.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
    for factor in (2, 4):
        loss = loss + 0.5 * (F.avg_pool2d(made, factor) - F.avg_pool2d(wanted, factor)).abs().mean()
    return loss


def disturbed(latents: Tensor) -> Tensor:
    """Latents (n, c, h, w) with noise, and of some pictures the first channels alone (nested dropout).

    So channels are ordered from coarse to fine (Rippel et al., arXiv:1402.0915), and a denoiser that is unsure of the
    fine ones gets a soft picture for it and not a broken one.
    """
    count, channels = latents.shape[:2]
    kept = torch.randint(COARSE, channels + 1, (count, 1, 1, 1), device=latents.device)
    kept = torch.where(torch.rand(count, 1, 1, 1, device=latents.device) < WHOLE, channels, kept)
    there = torch.arange(channels, device=latents.device).view(1, -1, 1, 1) < kept
    return (latents + NOISE * torch.randn_like(latents)) * there


def training_step(vae: AutoencoderTiny, batch: Tensor, older: AutoencoderTiny | None = None) -> Tensor:
    """The loss of one batch in -1..1. Computes in the dtype of the weights, and the loss in float32.

    older: an autoencoder of fewer channels, which the first ones are to stay like.
    """
    given = batch.to(vae.dtype, memory_format=torch.channels_last)
    latents = vae.encode(given).latents
    made = vae.decode(disturbed(latents)).sample.float()
    loss = reconstruction_loss(made, batch) + PULL * latents.float().square().mean()
    if older is not None:
        with torch.no_grad():
            wanted = older.encode(given).latents.float()
        loss = loss + HOLD * F.mse_loss(latents[:, : wanted.shape[1]].float(), wanted)
    return loss


@torch.no_grad()
def revive(vae: AutoencoderTiny, pictures: Tensor) -> int:
    """Give new weights to the blocks in which no picture wakes anything, and say how many these are.

    Behind a ReLU that is zero for everything nothing ever learns again (Lu et al., arXiv:1903.06733): seven of
    Sketchbook's seventeen blocks ended so. What such a block adds, the same to every place, it goes on adding.
    """
    awake: dict[AutoencoderTinyBlock, bool] = {}

    def listen(block: AutoencoderTinyBlock) -> RemovableHandle:
        return block.conv[3].register_forward_hook(
            lambda relu, given, made: awake.__setitem__(block, bool((made > 0).any()))
        )

    handles = [listen(block) for block in vae.modules() if isinstance(block, AutoencoderTinyBlock)]
    vae.decode(vae.encode(to_tensor(pictures).to(vae.device, vae.dtype)).latents)
    for handle in handles:
        handle.remove()
    asleep = [block for block, heard in awake.items() if not heard and block.conv[0].weight.requires_grad]
    for block in asleep:
        added = block.conv[4].bias.clone()
        for layer in block.conv[::2]:
            layer.reset_parameters()
        block.conv[4].weight.mul_(QUIET)
        block.conv[4].bias.copy_(added)
    return len(asleep)


def psnr(vae: AutoencoderTiny, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of encoding and decoding whole uint8 pictures, the mean over pictures."""
    values = []
    with torch.inference_mode():
        for part in pictures.split(16):
            wanted = to_tensor(part).to(vae.device)
            made = vae.decode(vae.encode(wanted.to(vae.dtype)).latents).sample.float().clamp(-1, 1)
            errors = ((made - wanted) / 2).square().mean(dim=(1, 2, 3))
            values += (-10 * errors.log10()).tolist()
    return sum(values) / len(values)


def load(path: Path = CHECKPOINT) -> AutoencoderTiny:
    """The trained autoencoder, in float32 on the CPU."""
    vae = AutoencoderTiny(**CONFIG)
    vae.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return vae.eval()


def train(
    minutes: float,
    batch: int,
    peak: float,
    pool: int,
    stretch: tuple[float, float],
    decoder_only: bool = False,
    like: Path | None = None,
) -> None:
    """Train for so long.

    pool: how many pictures crops are taken from. stretch: which part of the learning rate's course this is. like: a
    model's folder. The first channels are held to what its encoder finds, so that its denoiser can go on.
    """
    vae = load() if CHECKPOINT.exists() else AutoencoderTiny(**CONFIG)
    vae.to(device(), torch.bfloat16, memory_format=torch.channels_last).train()
    older = AutoencoderTiny.from_pretrained(like / "vae", torch_dtype=vae.dtype).to(vae.device) if like else None
    if decoder_only:
        vae.encoder.requires_grad_(False)
    composer = Composer(load_corpus(), SIZE, device())
    unseen = draw_pictures(composer, 1, 64)
    print(f"{revive(vae, unseen)} blocks begin anew", flush=True)
    optimiser = Optimiser(vae, betas=(0.9, 0.98))
    pictures = draw_pictures(composer, int(time.time()) + rank(), pool)
    spent, step, mean = 0.0, 0, 0.0
    while (share := slowest(spent / (60 * minutes))) < 1:
        began = time.monotonic()
        loss = training_step(vae, crops(pictures, batch), older)
        place = stretch[0] + share * (stretch[1] - stretch[0])
        optimiser.step(loss, peak * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * place)))
        mean = 0.99 * mean + 0.01 * loss.item() if step else loss.item()
        step += 1
        if step % 100 == 0:
            renewed = max(1, int(RENEWED * pool))
            seed = int(time.time()) + step + rank()
            pictures[torch.randperm(pool)[:renewed]] = draw_pictures(composer, seed, renewed)
        # A step that takes this long was held up: a suspended training goes on where it was.
        spent += min(time.monotonic() - began, 30)
        if step % 250 == 0 and leads():
            save(optimiser.state(vae), CHECKPOINT)
            print(f"{share:4.0%} step {step} loss {mean:.4f} PSNR {psnr(vae, unseen):.2f} dB", flush=True)
    if leads():
        save(optimiser.state(vae), CHECKPOINT)
        print(f"done: {step} steps, PSNR {psnr(vae, unseen):.2f} dB", flush=True)


def save(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights in one go, so that a stop in the middle leaves the older file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--pool", type=int, default=1000, help="pictures that crops are taken from")
    parser.add_argument("--stretch", type=float, nargs=2, default=(0.0, 1.0), help="part of the learning rate's course")
    parser.add_argument("--decoder-only", action="store_true", help="keep the latents as they are")
    parser.add_argument("--like", type=Path, help="hold the first channels to those of this model's folder")
    given = parser.parse_args()
    together()
    train(given.minutes, given.batch, given.rate, given.pool, tuple(given.stretch), given.decoder_only, given.like)
