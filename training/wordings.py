"""Teach the text encoder other wordings of what the denoiser can draw, and leave the denoiser as it is.

    python -m training.wordings OLDER --pictures 6000 --minutes 30

OLDER is the model that was grown (`training.grow`), which knows a picture by one plain caption. The grown text encoder
reads the same wish as people put it: in other words and languages, with words around it that mean nothing here. It
learns that the frozen denoiser shall predict for its reading what it predicts for the plain caption (distillation,
Hinton et al., arXiv:1503.02531). So what the denoiser draws stays exactly as good as it was.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from training import captions, denoiser, grow
from training import vae as autoencoder
from training.captions import DOINGS, WORDS_FOR, article, place_in_words, thing_in_words, with_fillers, with_medium
from training.compose import COLOURS, NUMBERS, PLAIN, SO_FAR, STYLE_SHARES, Composer, Plan, Thing
from training.corpus import Corpus, load_corpus
from training.optimise import Optimiser, device
from training.tokenizer import encode

NEAR = {
    "on a meadow": ("in a park", "in the grass", "in a garden", "in a field"),
    "on a beach": ("at the sea", "on the sand"),
    "in the desert on Mars": ("on Mars",),
    "in the snow": ("in winter", "in the ice"),
    "under a starry sky": ("in space", "at night"),
    "in a forest": ("in the jungle", "in the woods"),
    "underwater": ("in the sea", "in the ocean"),
    "in the clouds": ("in the sky",),
    "at sunset": ("at dusk",),
    "in a city": ("in the street", "in a town"),
    "on a wooden floor": ("on the floor", "in a room"),
}
"""Places that it does not know, by those that come nearest."""
DRAWN = ("pencil sketch", "ink line drawing", "charcoal", "woodcut", "neon", "pixel art", "stained glass")
PAINTED = ("oil painting", "watercolor", "pastel", "mosaic", "pointillism", "cubism", "sepia photo")
LIKE = {"cartoon": DRAWN, "flat illustration": PAINTED, "3d render": ("photo", "photograph")}
"""Media that it does not know, by the styles that come nearest."""
LATEST = 250
"""Timesteps before this one, at which a caption hardly matters any more, are left out."""


@dataclass(frozen=True)
class Wish:
    """What is wanted; empty where it is left to chance. place: of SO_FAR."""

    subject: int
    style: str
    place: str


def draw_wishes(corpus: Corpus, rng: np.random.Generator, count: int) -> tuple[list[Wish], list[Plan]]:
    """Random wishes, and pictures to go with them."""
    wishes, plans = [], []
    learnt, names = corpus.learnt(), {subject.name for subject in corpus.named()}
    scenes = [place for place in SO_FAR.places if place not in PLAIN]
    seen = [i for i, subject in enumerate(corpus.subjects) if subject.name in names and corpus.styles_of(i)]
    for _ in range(count):
        subject = int(rng.choice(learnt if rng.random() < 0.85 else seen))
        styles = corpus.styles_of(subject)
        odds = np.array([STYLE_SHARES[style] for style in styles])
        style = str(rng.choice(styles, p=odds / odds.sum()))
        place = str(rng.choice(scenes if rng.random() < 0.35 else PLAIN))
        plans.append(Plan((Thing(subject),), style, "", place))
        wishes.append(Wish(subject, style if rng.random() < 0.75 else "", place if rng.random() < 0.8 else ""))
    return wishes, plans


def plainly(corpus: Corpus, wish: Wish) -> str:
    """A wish in the words that the older model was trained with."""
    words = article(corpus.subjects[wish.subject].words[0])
    if wish.style:
        words += f", {wish.style}"
    return f"{words} {captions.plainly(wish.place)}" if wish.place else words


def as_people_do(rng: np.random.Generator, corpus: Corpus, wish: Wish) -> str:
    """The same wish in one of the ways that people put it.

    Now and then with a number, a colour or a second thing, which the denoiser does not draw.
    """
    count = int(rng.choice([*NUMBERS])) if rng.random() < 0.06 else 1
    colour = str(rng.choice(COLOURS)) if rng.random() < 0.08 else ""
    words = thing_in_words(rng, Thing(wish.subject, count, colour), corpus.subjects[wish.subject])
    if rng.random() < 0.08:
        other = corpus.subjects[int(rng.choice(corpus.learnt()))]
        words += f" {rng.choice(('and', 'with', 'next to', 'wearing', 'on top of'))} {article(other.words[0])}"
    if rng.random() < 0.1:
        words += f" {rng.choice(DOINGS)}"
    if wish.place:
        near = NEAR.get(wish.place, ())
        place = str(rng.choice(near)) if near and rng.random() < 0.35 else place_in_words(rng, wish.place)
        words += (", " if rng.random() < 0.4 else " ") + place
    if wish.style:
        medium = wish.style
        if rng.random() < 0.35 and (near := LIKE.get(wish.style)):
            medium = str(rng.choice(near))
        words = with_medium(rng, words, WORDS_FOR.get(medium, (medium,)))
    if rng.random() < 0.35:
        words = with_fillers(rng, words)
    return words.capitalize() if rng.random() < 0.15 else words


def encode_pictures(corpus: Corpus, plans: list[Plan], rng: np.random.Generator) -> Tensor:
    """Latents (n, c, h, w) of pictures of these plans, as the autoencoder gives them."""
    vae, composer = autoencoder.load().to(device()), Composer(corpus, autoencoder.SIZE, device())
    with torch.inference_mode():
        parts = [
            vae.encode(autoencoder.to_tensor(composer.pictures(plans[start : start + 40], rng))).latents
            for start in range(0, len(plans), 40)
        ]
    return torch.cat(parts).clone()


def disagreement(unet: UNet2DConditionModel, noisy: Tensor, timesteps: Tensor, known: Tensor, read: Tensor) -> Tensor:
    """The mean square by which two readings of captions, (n, tokens, width), make the denoiser predict otherwise."""
    with torch.no_grad():
        wanted = unet(noisy, timesteps, known, return_dict=False)[0].float()
    return (unet(noisy, timesteps, read, return_dict=False)[0].float() - wanted).square().mean()


def train(older: StableDiffusionPipeline, count: int, minutes: float, batch: int, peak: float) -> None:
    """Train for so long on `count` pictures, each in new words whenever it comes up."""
    corpus, rng = load_corpus(), np.random.default_rng(21)
    torch.manual_seed(21)
    wishes, plans = draw_wishes(corpus, rng, count)
    scale = older.vae.config.scaling_factor
    latents = encode_pictures(corpus, plans, rng) * scale
    tokenizer, scheduler = denoiser.learn_tokenizer(), DDIMScheduler(**denoiser.SCHEDULE)
    pair = grow.grow_pair(older).to(device())
    unet = older.unet.to(device(), torch.bfloat16, memory_format=torch.channels_last).requires_grad_(False)
    teacher = older.text_encoder.to(device(), torch.bfloat16)
    pair.text_encoder.to(torch.bfloat16).train()
    optimiser = Optimiser(pair.text_encoder)
    # Timesteps as `training_loss` spreads them, but for the latest.
    spread = (scheduler.config.num_train_timesteps - LATEST) / batch
    began, step, seen = time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - began) / (60 * minutes)) < 1:
        rows = rng.integers(len(latents), size=batch)
        plain = [plainly(corpus, wishes[row]) for row in rows]
        said = [as_people_do(rng, corpus, wishes[row]) for row in rows]
        for row in np.flatnonzero(rng.random(batch) < 0.1):
            # Nothing is asked for, in no words or in words that mean nothing.
            plain[row], said[row] = "", with_fillers(rng, "") if rng.random() < 0.5 else ""
        timesteps = (LATEST + (torch.arange(batch) + torch.rand(batch)) * spread).long().to(device())
        some = latents[torch.from_numpy(rows)].to(device())
        noisy = scheduler.add_noise(some, torch.randn_like(some), timesteps)
        noisy = noisy.to(torch.bfloat16, memory_format=torch.channels_last)
        ids = torch.tensor(encode(tokenizer, said), device=device())
        with torch.no_grad():
            known = older.tokenizer(plain, padding="max_length", truncation=True, return_tensors="pt").input_ids
            known = teacher(known.to(device()))[0]
        loss = disagreement(unet, noisy, timesteps, known, pair.text_encoder(ids)[0])
        optimiser.step(loss, peak * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * share)))
        step += 1
        seen = 0.95 * seen + 0.05 * loss.item() if seen else loss.item()
        if step % 50 == 0:
            print(f"{share:4.0%} step {step} loss {seen:.5f}", flush=True)
    weights = optimiser.state(pair.text_encoder)
    pair.text_encoder.float().load_state_dict(weights)
    denoiser.save(pair.state_dict(), pair, 1000, scale)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("older", type=Path)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=5e-4)
    given = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(given.older, dtype=torch.float32)
    train(pipeline, given.pictures, given.minutes, given.batch, given.rate)
