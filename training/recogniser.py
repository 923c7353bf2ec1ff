"""A judge that has only ever seen real pictures: it says what a 256x256 picture shows, in which medium, and where.

    python -m training.recogniser --minutes 4

It learns from composed pictures of the corpus, never from generated ones. What it finds in pictures of the model is
then compared with what it finds in real ones.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.compose import COLOURS, MEDIA, PLACE_NAMES, Composer, Plan, Planner
from training.corpus import load_corpus
from training.optimise import Optimiser, device

WEIGHTS = Path(__file__).with_name("recogniser.safetensors")
"""In the repository, for figures can be compared only where the same judge has given them."""
SIDE = 128
"""It looks at half of the size, which is enough to name things."""


@dataclass(frozen=True)
class Labels:
    """What pictures show.

    subjects: (n, subjects) 0 or 1. The others: indices (n,); the colour is -1 where a thing has its own.
    """

    subjects: Tensor
    medium: Tensor
    place: Tensor
    colour: Tensor


def labels(plans: list[Plan], subjects: int) -> Labels:
    """What these plans show."""
    shown = torch.zeros(len(plans), subjects)
    for row, plan in enumerate(plans):
        for thing in plan.things:
            shown[row, thing.subject] = 1
    colours = [plan.things[0].colour if len(plan.things) == 1 else "" for plan in plans]
    return Labels(
        shown,
        torch.tensor([MEDIA.index(plan.seen_as) for plan in plans]),
        torch.tensor([PLACE_NAMES.index(plan.place) for plan in plans]),
        torch.tensor([COLOURS.index(colour) if colour else -1 for colour in colours]),
    )


@dataclass(frozen=True)
class Seen:
    """What the recogniser thinks: scores for each kind of answer, and the features they come from, (n, width)."""

    subjects: Tensor
    medium: Tensor
    place: Tensor
    colour: Tensor
    features: Tensor


class Block(nn.Module):
    """Two convolutions around which the input is added (He et al., arXiv:1512.03385)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList((nn.BatchNorm2d(out), nn.BatchNorm2d(out)))
        self.skip = nn.Conv2d(channels, out, 1, stride, bias=False) if (channels, 1) != (out, stride) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.skip(x) + self.norms[1](self.second(inside)))


class Recogniser(nn.Module):
    """A small residual network. Takes float (n, 3, SIDE, SIDE) in -1..1."""

    def __init__(self, subjects: int, width: int = 40) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        shapes = ((width, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 2))
        self.blocks = nn.Sequential(*(Block(*shape) for shape in shapes), Block(8 * width, 8 * width, 1))
        self.drop = nn.Dropout(0.2)
        sizes = {"medium": len(MEDIA), "place": len(PLACE_NAMES), "colour": len(COLOURS)}
        self.heads = nn.ModuleDict({name: nn.Linear(16 * width, size) for name, size in sizes.items()})
        self.subjects = nn.Linear(8 * width, subjects)

    def forward(self, pictures: Tensor) -> Seen:
        found = self.blocks(self.stem(pictures))
        # Every place says for itself what it is part of, so that two things in a picture are both seen.
        places = self.subjects(self.drop(found.flatten(2).transpose(1, 2)))
        subjects = places.float().logsumexp(1) - math.log(places.shape[1])
        # The mean tells of medium and place, the maximum of what is only somewhere.
        features = torch.cat((found.mean((2, 3)), found.amax((2, 3))), 1)
        return Seen(
            subjects, **{name: head(self.drop(features)) for name, head in self.heads.items()}, features=features
        )


def look_at(pictures: Tensor) -> Tensor:
    """uint8 pictures (n, 3, h, w) as the recogniser takes them: float32 (n, 3, SIDE, SIDE) in -1..1."""
    return F.interpolate(pictures.float(), (SIDE, SIDE), mode="area") / 127.5 - 1


def disturb(pictures: Tensor) -> Tensor:
    """Mirror, move and zoom each a little, blur some and add noise, so that things are judged and not exact pixels."""
    count = len(pictures)
    like = {"device": pictures.device, "dtype": pictures.dtype}
    turns = torch.zeros(count, 2, 3, **like)
    zoom = 1 + 0.12 * (2 * torch.rand(count, **like) - 1)
    turns[:, 0, 0] = zoom * (2 * torch.randint(0, 2, (count,), **like) - 1)
    turns[:, 1, 1] = zoom
    turns[:, :, 2] = 0.12 * (2 * torch.rand(count, 2, **like) - 1)
    grid = F.affine_grid(turns, list(pictures.shape), align_corners=False)
    pictures = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    if torch.rand(()) < 0.4:
        pictures = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return pictures + torch.rand(()).item() * 0.15 * torch.randn_like(pictures)


def loss_of(seen: Seen, truth: Labels) -> Tensor:
    """Cross-entropies; several subjects share the first one's probability."""
    shown = truth.subjects / truth.subjects.sum(1, keepdim=True).clamp(min=1)
    some = truth.subjects.any(1)
    subjects = -(shown * seen.subjects.float().log_softmax(1)).sum(1)[some].mean()
    colour = F.cross_entropy(seen.colour.float(), truth.colour, ignore_index=-1)
    others = F.cross_entropy(seen.medium.float(), truth.medium) + F.cross_entropy(seen.place.float(), truth.place)
    return subjects + 0.5 * others + 0.5 * torch.nan_to_num(colour)


def on(truth: Labels, where: torch.device) -> Labels:
    return Labels(*(getattr(truth, name).to(where) for name in ("subjects", "medium", "place", "colour")))


def train(minutes: float, pool: int, batch: int, peak: float) -> None:
    """Train for so long on `pool` pictures, of which some are drawn anew all the time, and save. Resumes."""
    corpus = load_corpus()
    composer, rng = Composer(corpus, 2 * SIDE, device()), np.random.default_rng()
    planner = Planner(corpus, rng)
    count = len(corpus.subjects)

    def drawn(number: int) -> tuple[Tensor, list[Plan]]:
        plans = [planner.draw() for _ in range(number)]
        starts = range(0, number, composer.at_once)
        parts = [composer.pictures(plans[start : start + composer.at_once], rng) for start in starts]
        small = torch.cat([F.interpolate(part.float(), (SIDE, SIDE), mode="area").to(torch.uint8) for part in parts])
        return small, plans

    pictures, plans = drawn(pool)
    network = load_recogniser() if WEIGHTS.exists() else Recogniser(count)
    network.to(device(), memory_format=torch.channels_last).train()
    optimiser = Optimiser(network, weight_decay=0.05)
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        chosen = torch.randint(pool, (batch,))
        seen = disturb(look_at(pictures[chosen.to(pictures.device)])).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device().type, torch.bfloat16):
            found = network(seen)
        loss = loss_of(found, on(labels([plans[row] for row in chosen.tolist()], count), device()))
        optimiser.step(loss, peak * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * share)))
        step += 1
        if step % 50 == 0:
            rows = torch.randperm(pool)[: max(1, pool // 20)]
            new, newer = drawn(len(rows))
            pictures[rows.to(pictures.device)] = new
            for row, plan in zip(rows.tolist(), newer, strict=True):
                plans[row] = plan
        if step % 200 == 0:
            print(f"{share:4.0%} step {step} loss {loss.item():.3f}", flush=True)
    save(network)
    print(f"done: {step} steps", flush=True)


def save(network: Recogniser, path: Path = WEIGHTS) -> None:
    """Write the recogniser, its matrices in float16."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file({name: value.half() if value.dim() > 1 else value for name, value in weights.items()}, path)


def load_recogniser(path: Path = WEIGHTS) -> Recogniser:
    """The trained recogniser, in float32 on the CPU."""
    weights = load_file(path)
    network = Recogniser(len(weights["subjects.bias"]), len(weights["stem.0.weight"]))
    network.load_state_dict(weights)
    return network.eval()


@torch.inference_mode()
def see(network: Recogniser, pictures: Tensor) -> Seen:
    """What the network sees in uint8 pictures (n, 3, h, w)."""
    where = next(network.parameters()).device
    parts = [network(look_at(part.to(where))) for part in pictures.split(100)]
    names = ("subjects", "medium", "place", "colour", "features")
    return Seen(*(torch.cat([getattr(part, name) for part in parts]).float().cpu() for name in names))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--pool", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    given = parser.parse_args()
    train(given.minutes, given.pool, given.batch, given.rate)
