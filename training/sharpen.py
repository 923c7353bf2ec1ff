"""Teach the decoder to draw edges and grain.

    python -m training.sharpen --minutes 60      # after training.vae; resumes from training/.cache/critic.pt

A decoder that learns from differences of pixels alone answers what it cannot know, such as where each line of a
hatching lies, with the mean of all that it could be, which is blur. Here a second network learns to tell its pictures
from real ones, and the decoder to look real to it (Esser et al., arXiv:2012.09841): a hinge loss, spectral norms
(Miyato et al., arXiv:1802.05957), and the distance in the second network's own features (Wang et al.,
arXiv:1711.11585), which keeps both steady. Latents stay as they are, so that
a denoiser trained on them goes on fitting.
"""

import argparse
import copy
import itertools
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training import vae as autoencoder
from training.compose import Composer
from training.corpus import CACHE, load_corpus
from training.optimise import Optimiser, average, device

CRITIC = CACHE / "critic.pt"
WIDTHS = (3, 32, 64, 128, 128)
LOOKS = 0.03
"""Weight of looking real, beside the loss on pixels: with more, scribbles grow where there is nothing."""
FEATURES = 8.0
"""Weight of the distance in the critic's features."""
CRITIC_RATE = 2.0
"""The critic's learning rate by the decoder's: one that is slow to see what is wrong teaches nothing."""
BETAS = (0.5, 0.9)
"""Short memories: what each of the two follows changes all the time."""


class Critic(nn.Module):
    """Says of every patch of a picture (n, 3, h, w) in -1..1 how real it looks: above 0 real, below made."""

    def __init__(self) -> None:
        super().__init__()
        sizes = itertools.pairwise(WIDTHS)
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(few, many, 4, 2, 1)) for few, many in sizes)
        self.last = spectral_norm(nn.Conv2d(WIDTHS[-1], 1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores (n, 1, h / 16, w / 16), and the features of each layer."""
        features = []
        for layer in self.layers:
            pictures = F.leaky_relu(layer(pictures), 0.2)
            features.append(pictures)
        return self.last(pictures), features


def decoder_loss(made: Tensor, wanted: Tensor, critic: Critic) -> Tensor:
    """What is wrong with pictures made of the latents of those that are wanted, both (n, 3, h, w) in -1..1."""
    scores, features = critic(made)
    with torch.no_grad():
        _, real = critic(wanted)
    apart = sum((one - other).abs().mean() for one, other in zip(features, real, strict=True)) / len(features)
    return autoencoder.reconstruction_loss(made, wanted) + FEATURES * apart - LOOKS * scores.mean()


def critic_loss(made: Tensor, wanted: Tensor, critic: Critic) -> Tensor:
    """How badly the critic tells made pictures from real ones."""
    return F.relu(1 - critic(wanted)[0]).mean() + F.relu(1 + critic(made)[0]).mean()


class Lesson:
    """The decoder of an autoencoder and a critic, which learn from each other; the encoder stays as it is.

    Takes both in float32. `mean` is the autoencoder with the mean of the decoder's weights over the last turns, which
    is calmer than they are.
    """

    def __init__(self, vae: AutoencoderTiny, critic: Critic) -> None:
        vae.encoder.requires_grad_(False)
        self.mean, self.steps = copy.deepcopy(vae), 0
        self.vae = vae.to(torch.bfloat16, memory_format=torch.channels_last).train()
        self.critic = critic.to(memory_format=torch.channels_last)
        self.optimiser = Optimiser(self.vae, BETAS)
        self.judging = torch.optim.AdamW(critic.parameters(), betas=BETAS, weight_decay=0, fused=True)

    def step(self, latents: Tensor, wanted: Tensor, rate: float) -> tuple[float, float]:
        """One turn each, at this learning rate of the decoder. Returns both losses.

        wanted: pictures (n, 3, h, w) in -1..1, latents: what the encoder makes of them.
        """
        made = self.vae.decode(autoencoder.disturbed(latents)).sample.float()
        self.critic.requires_grad_(False)  # Gradients go through it, and it does not learn from them.
        with torch.autocast(wanted.device.type, torch.bfloat16):
            loss = decoder_loss(made, wanted, self.critic)
        self.optimiser.step(loss, rate)
        self.steps += 1
        average(self.mean.decoder, self.optimiser.masters, min(0.995, self.steps / (self.steps + 9)))
        self.critic.requires_grad_(True)
        with torch.autocast(wanted.device.type, torch.bfloat16):
            confused = critic_loss(made.detach(), wanted, self.critic)
        self.judging.zero_grad()
        confused.backward()
        self.judging.param_groups[0]["lr"] = CRITIC_RATE * rate
        self.judging.step()
        return loss.item(), confused.item()

    def save(self) -> None:
        autoencoder.save(self.mean.state_dict(), autoencoder.CHECKPOINT)
        autoencoder.save(self.critic.state_dict(), CRITIC)


def train(minutes: float, batch: int, peak: float, pool: int, stretch: tuple[float, float]) -> None:
    """Train for so long, on whole pictures, for crops have borders that pictures have not.

    pool: how many pictures to learn from. stretch: which part of the learning rate's course this is.
    """
    vae, critic = autoencoder.load(), Critic()
    if CRITIC.exists():
        critic.load_state_dict(torch.load(CRITIC, map_location="cpu", weights_only=True))
    lesson = Lesson(vae.to(device()), critic.to(device()))
    composer = Composer(load_corpus(), autoencoder.SIZE, device())
    unseen = autoencoder.draw_pictures(composer, 1, 64)
    pictures = autoencoder.draw_pictures(composer, int(time.time()), pool)
    latents = encoded(lesson.vae, pictures)
    spent = 0.0
    while (share := spent / (60 * minutes)) < 1:
        began = time.monotonic()
        chosen = torch.randint(pool, (batch,), device=device())
        wanted = autoencoder.to_tensor(pictures[chosen]).contiguous(memory_format=torch.channels_last)
        place = stretch[0] + share * (stretch[1] - stretch[0])
        losses = lesson.step(latents[chosen], wanted, peak * min(1, (lesson.steps + 1) / 50, 3 * (1 - place)))
        spent += min(time.monotonic() - began, 30)
        if lesson.steps % 250 == 0:
            lesson.save()
            words = f"losses {losses[0]:.3f}, {losses[1]:.2f} PSNR {autoencoder.psnr(lesson.mean, unseen):.2f} dB"
            print(f"{share:4.0%} step {lesson.steps} {words}", flush=True)
    lesson.save()


@torch.no_grad()
def encoded(vae: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """Latents (n, c, h, w) of uint8 pictures, in the dtype and on the device of the autoencoder."""
    wanted = (autoencoder.to_tensor(part).to(vae.device, vae.dtype) for part in pictures.split(50))
    return torch.cat([vae.encode(part.to(memory_format=torch.channels_last)).latents for part in wanted])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--pool", type=int, default=3000, help="pictures to learn from")
    parser.add_argument("--stretch", type=float, nargs=2, default=(0.0, 1.0), help="part of the learning rate's course")
    given = parser.parse_args()
    train(given.minutes, given.batch, given.rate, given.pool, tuple(given.stretch))
