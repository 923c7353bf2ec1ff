"""A judge that has only ever seen real pictures: a small network that names the subject of a 128x128 picture.

    python -m training.recogniser --minutes 4

It learns from composed pictures of the corpus (every subject and style), never from generated ones, and says which of
all the subjects a picture shows. What it finds in pictures of the model is then compared with what it finds in real
ones.
"""

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.compose import PALETTE, SCENES, STYLE_SHARES, compose
from training.corpus import CACHE, load_corpus
from training.optimise import device

CHECKPOINT = CACHE / "recogniser.pt"
SIDE = 64
"""It looks at half of the size, which is enough to name things."""


class Recogniser(nn.Module):
    """Plain convolutions with batch norm. Takes float (n, 3, SIDE, SIDE) in -1..1, gives scores (n, subjects)."""

    def __init__(self, subjects: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for factor, stride in ((1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1)):
            layers += [nn.Conv2d(channels, width * factor, 3, stride, 1, bias=False), nn.BatchNorm2d(width * factor)]
            layers.append(nn.ReLU())
            channels = width * factor
        self.features = nn.Sequential(*layers)
        self.scores = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels * (SIDE // 16) ** 2, subjects))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.scores(self.features(pictures))


def look_at(pictures: np.ndarray | Tensor) -> Tensor:
    """uint8 pictures (n, h, w, 3) as the recogniser takes them: float32 (n, 3, SIDE, SIDE) in -1..1."""
    small = F.interpolate(torch.as_tensor(pictures).permute(0, 3, 1, 2).float(), (SIDE, SIDE), mode="area")
    return small / 127.5 - 1


def draw_evenly(seed: int, count: int, only_common: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 (count, SIDE, SIDE, 3) and indices of their subjects, half of them common ones."""
    corpus, rng = load_corpus(), np.random.default_rng(seed)
    usable = [i for i in range(len(corpus.subjects)) if corpus.styles_of(i)]
    common = [i for i in usable if corpus.subjects[i].common]
    pictures, chosen = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty(count, np.int64)
    backgrounds = [*PALETTE, *SCENES]
    for row in range(count):
        index = int(rng.choice(common if only_common or rng.random() < 0.5 else usable))
        style = str(rng.choice([style for style in corpus.styles_of(index) if style in STYLE_SHARES]))
        picture = compose(rng, corpus.pictures[style][index], style, backgrounds[rng.integers(len(backgrounds))])
        pictures[row] = picture.reshape(SIDE, 2, SIDE, 2, 3).mean(axis=(1, 3))
        chosen[row] = index
    return pictures, chosen


def disturb(pictures: Tensor) -> Tensor:
    """Shift by a few pixels, blur a part and add noise, so that it judges things and not a picture's exact pixels."""
    down, right = (int(torch.randint(-3, 4, ())) for _ in range(2))
    pictures = pictures.roll((down, right), (2, 3))
    if torch.rand(()) < 0.4:
        pictures = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return pictures + torch.rand(()).item() * 0.15 * torch.randn_like(pictures)


def train(minutes: float, count: int, batch: int = 128, peak: float = 2e-3) -> None:
    """Draw `count` pictures, train on them for so long, and save."""
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(draw_evenly, (501, 502, 503, 504), [count // 4] * 4))
    pictures, subjects = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
    network = Recogniser(len(load_corpus().subjects)).to(device(), memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), peak, weight_decay=0.05)
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        chosen = torch.randint(len(pictures), (batch,))
        seen = disturb(look_at(pictures[chosen])).to(device(), memory_format=torch.channels_last)
        with torch.autocast(device().type, torch.bfloat16):
            scores = network(seen)
        loss = F.cross_entropy(scores.float(), subjects[chosen].to(device()), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * share))
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"{share:4.0%} step {step} loss {loss.item():.3f}", flush=True)
    torch.save(network.state_dict(), CHECKPOINT)
    first, five = accuracy(network.eval(), *draw_evenly(9, 1000, only_common=True))
    print(f"done: {step} steps; unseen pictures of common subjects: {first:.1%} first, {five:.1%} in five", flush=True)


def load_recogniser(path: Path = CHECKPOINT) -> Recogniser:
    """The trained recogniser."""
    weights = torch.load(path, weights_only=True)
    network = Recogniser(len(weights["scores.2.bias"]))
    network.load_state_dict(weights)
    return network.eval()


@torch.inference_mode()
def best_guesses(network: Recogniser, pictures: np.ndarray, count: int = 5) -> Tensor:
    """The `count` likeliest subjects, best first: int64 (n, count). Pictures are uint8 (n, h, w, 3)."""
    where = next(network.parameters()).device
    parts = torch.as_tensor(pictures).split(100)
    return torch.cat([network(look_at(part).to(where)).topk(count).indices.cpu() for part in parts])


def accuracy(network: Recogniser, pictures: np.ndarray, subjects: np.ndarray) -> tuple[float, float]:
    """How often the subject is the first guess, and among the first five."""
    hits = best_guesses(network, pictures) == torch.as_tensor(subjects)[:, None]
    return hits[:, 0].float().mean().item(), hits.any(1).float().mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--pictures", type=int, default=40000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="fewer leave some for other work")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train(given.minutes, given.pictures)
