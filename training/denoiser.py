"""Train the denoiser and the text encoder together, on latents that were encoded once.

    python -m training.denoiser --bank 40000     # draw and encode pictures (once, or again for more)
    python -m training.denoiser --minutes 60     # train; resumes from training/.cache/denoiser.pt

The model predicts velocity (Salimans & Ho, arXiv:2202.00512) on a schedule that ends in pure noise (Lin et al.,
arXiv:2305.08891), its loss weighted by signal-to-noise ratio (Hang et al., arXiv:2303.09556); one caption in ten is
left empty for classifier-free guidance (Ho & Salimans, arXiv:2207.12598).
"""

import argparse
import copy
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from training import vae as autoencoder
from training.captions import caption
from training.compose import Composer, Planner
from training.corpus import CACHE, load_corpus
from training.optimise import Optimiser, average, device, leads, rank, slowest, together
from training.tokenizer import LENGTH, encode, learn_tokenizer

BANK = CACHE / "bank"
CHECKPOINT = CACHE / "denoiser.pt"
UNET = {
    "sample_size": 16,
    "in_channels": autoencoder.CHANNELS,
    "out_channels": autoencoder.CHANNELS,
    "block_out_channels": (96, 128, 224),
    # Attention over the 256 latents of the first level takes longer than all else together, and brings little.
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 256,
    # diffusers' name for the number of heads.
    "attention_head_dim": (1, 2, 4),
    "norm_num_groups": 16,
}
TEXT = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,  # trailing spacing makes no use of it, but the pipeline expects it
    "clip_sample": False,
    "set_alpha_to_one": True,
}
EMPTY_CAPTIONS = 0.1
SNR_LIMITS = (0.4, 5.0)


class Pair(nn.Module):
    """The two networks that learn together."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        marks = {name: getattr(tokenizer, name) for name in names}
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=len(tokenizer), **marks))
        self.unet = UNet2DConditionModel(**UNET)

    def forward(self, latents: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
        """Velocity (n, c, h, w) from noisy latents, timesteps (n,) and token ids (n, LENGTH)."""
        hidden = self.text_encoder(ids)[0]
        latents = latents.to(hidden.dtype, memory_format=torch.channels_last)
        return self.unet(latents, timesteps, encoder_hidden_states=hidden, return_dict=False)[0]


@dataclass
class Bank:
    """Encoded pictures: latents float16 (n, c, 16, 16) of unit variance, token ids (n, LENGTH)."""

    latents: Tensor
    ids: Tensor
    scale: float

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Random pictures, on the device."""
        chosen = torch.randint(len(self.latents), (count,), device=self.latents.device)
        return self.latents[chosen].float(), self.ids[chosen]


@functools.cache
def _tools() -> tuple[Composer, AutoencoderTiny, PreTrainedTokenizerFast]:
    """What a process that fills the bank draws, encodes and reads with."""
    vae = autoencoder.load().to(device(), torch.bfloat16, memory_format=torch.channels_last)
    return Composer(load_corpus(), autoencoder.SIZE, device()), vae, learn_tokenizer()


@torch.inference_mode()
def draw_piece(seed: int, count: int) -> None:
    """Draw `count` pictures, encode them and their captions, and add them to the bank as one file."""
    composer, vae, tokenizer = _tools()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    planner = Planner(composer.corpus, rng)
    plans = [planner.draw() for _ in range(count)]
    ids = encode(tokenizer, [caption(rng, composer.corpus, plan) for plan in plans])
    latents = []
    for start in range(0, count, composer.at_once):
        wanted = autoencoder.to_tensor(composer.pictures(plans[start : start + composer.at_once], rng))
        wanted = wanted.to(vae.dtype, memory_format=torch.channels_last)
        latents += [vae.encode(each).latents.half().cpu() for each in wanted.split(50)]
    np.savez(BANK / f"{seed:06}.npz", latents=torch.cat(latents).numpy(), ids=np.array(ids, np.int16))


def fill_bank(count: int, workers: int, piece: int = 1000) -> None:
    """Add `count` pictures to the bank, in files of `piece` pictures, by so many processes at once."""
    learn_tokenizer()  # once, and not by each of them
    BANK.mkdir(parents=True, exist_ok=True)
    first = 1000 + len(list(BANK.glob("*.npz")))
    began = time.monotonic()
    # Forked processes can use no GPU, and one thread each is what they are fastest with.
    with torch.multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        waiting = [pool.apply_async(draw_piece, (first + number, piece)) for number in range(count // piece)]
        for done, each in enumerate(waiting, 1):
            each.get()
            print(f"bank: {done * piece} pictures, {done * piece / (time.monotonic() - began):.0f}/s", flush=True)


def load_bank(scale: float | None = None) -> Bank:
    """Everything in the bank on the device, times `scale`; without one scaled to unit variance."""
    files = [np.load(path) for path in sorted(BANK.glob("*.npz"))]
    latents = torch.from_numpy(np.concatenate([file["latents"] for file in files])).to(device())
    ids = torch.from_numpy(np.concatenate([file["ids"] for file in files])).long().to(device())
    scale = scale or 1 / latents[:4000].float().std().item()
    return Bank(latents.mul_(scale), ids, scale)


def training_loss(
    pair: Callable[[Tensor, Tensor, Tensor], Tensor],
    scheduler: DDIMScheduler,
    latents: Tensor,
    ids: Tensor,
    empty: Tensor,
) -> Tensor:
    """The mean square error of the predicted velocity.

    latents: clean, (n, c, h, w). empty: token ids (LENGTH,) of the empty caption.
    """
    count = len(latents)
    steps = scheduler.config.num_train_timesteps
    signal = scheduler.alphas_cumprod
    snr = signal / (1 - signal)
    # The weight of min-SNR for predicted velocity is min(snr, limit) / (snr + 1). The lower limit is ours: near pure
    # noise the caption alone decides what the picture is, and a weight of nearly nothing would leave that unlearned.
    weight = snr.clamp(*SNR_LIMITS) / (snr + 1)
    # Timesteps are drawn as often as they weigh, for a step that weighs little would cost as much as any other; and one
    # from each of `count` equal parts, because an even spread makes the gradient calmer than chance does.
    places = (torch.arange(count, device=weight.device) + torch.rand(count, device=weight.device)) / count
    timesteps = torch.searchsorted(weight.cumsum(0) / weight.sum(), places).clamp(max=steps - 1).to(latents.device)
    ids = torch.where(torch.rand(count, 1, device=ids.device) < EMPTY_CAPTIONS, empty, ids)
    noise = torch.randn_like(latents)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    return (predict(pair, noisy, timesteps, ids).float() - velocity).square().mean()


def predict(pair: Callable[[Tensor, Tensor, Tensor], Tensor], noisy: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
    """The pair's answer. For so few latents a processor multiplies plain matrices faster than it fuses attention."""
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH] if noisy.is_cuda else SDPBackend.MATH):
        return pair(noisy, timesteps, ids)


def train(minutes: float, batch: int, peak: float, stretch: tuple[float, float]) -> None:
    """Train for so long and keep the mean of the weights (EMA) beside them.

    stretch: which part of the learning rate's course this is: (0, 1) is all of it, (0, 0.5) its first half.
    """
    tokenizer = learn_tokenizer()
    pair = Pair(tokenizer).to(device())
    step, scale = 0, None
    if CHECKPOINT.exists():
        saved = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
        scale = saved["scale"]
        pair.load_state_dict(saved["weights"])
        step = saved["step"]
    mean = copy.deepcopy(pair)
    if step:
        mean.load_state_dict(saved["mean"])
    pair.to(torch.bfloat16).train()
    pair.unet.to(memory_format=torch.channels_last)
    torch.manual_seed(step * 100 + rank())
    optimiser = Optimiser(pair)
    bank = load_bank(scale)
    empty = torch.tensor(encode(tokenizer, [""])[0], device=device())
    scheduler = DDIMScheduler(**SCHEDULE)
    print(f"{sum(p.numel() for p in pair.parameters()) / 1e6:.1f} M weights, {len(bank.ids)} pictures", flush=True)
    spent, first, since, seen = 0.0, step, time.monotonic(), 0.0
    while (share := slowest(spent / (60 * minutes))) < 1:
        began = time.monotonic()
        loss = training_loss(pair, scheduler, *bank.batch(batch), empty)
        place = stretch[0] + share * (stretch[1] - stretch[0])
        # Held, and let fall in the last third: what was learnt before that is a place to go on from.
        rate = peak * min(1, (step - first + 1) / 200, 3 * (1 - place))
        optimiser.step(loss, rate)
        step += 1
        average(mean, optimiser.masters, min(0.998, (step + 1) / (step + 30)))
        if step % 10 == 0:  # looking at the loss waits for the device
            seen = 0.8 * seen + 0.2 * loss.item() if seen else loss.item()
        # A step that takes this long was held up: a suspended training goes on where it was.
        spent += min(time.monotonic() - began, 5)
        if step % 100 == 0 and leads():
            print(f"{share:4.0%} step {step} loss {seen:.4f} {(step - first) * batch / spent:.0f}/s", flush=True)
        if time.monotonic() - since > 180 and leads():
            save(optimiser.state(pair), mean, step, bank.scale)
            since = time.monotonic()
    if leads():
        save(optimiser.state(pair), mean, step, bank.scale)


def save(weights: dict[str, Tensor], mean: nn.Module, step: int, scale: float) -> None:
    """Write a checkpoint in one go."""
    part = Path(f"{CHECKPOINT}.part")
    torch.save({"weights": weights, "mean": mean.state_dict(), "step": step, "scale": scale}, part)
    part.replace(CHECKPOINT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=0, help="draw and encode so many pictures first")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures for the bank")
    parser.add_argument("--minutes", type=float, default=0, help="then train for so long")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--stretch", type=float, nargs=2, default=(0.0, 1.0), help="part of the learning rate's course")
    given = parser.parse_args()
    if given.bank:
        fill_bank(given.bank, given.workers)
    if given.minutes:
        together()
        train(given.minutes, given.batch, given.rate, tuple(given.stretch))
