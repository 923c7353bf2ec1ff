"""What calls take of memory, beside what the studio expects of them: `python -m benchmarks.needs`.

The bundled model, and the denoisers of Stable Diffusion 1.5 and XL with the former's autoencoder, of real size with
weights of nothing, each call in a fresh state. Linux alone, on the processor, in bfloat16; some 6 GB of memory.
"""

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from studio.families import placement
from studio.models import needs
from studio.models.manager import Manager

ASSETS = Path(__file__).resolve().parent.parent / "assets"
CPU, TYPE = torch.device("cpu"), torch.bfloat16
MODELS = {
    "Sketchbook": "models/sketchbook",
    "SD 1.5": "configs/stable-diffusion-v1",
    "SDXL": "configs/stable-diffusion-xl",
}


def main() -> None:
    print("| model | call | pixels | expected, MB | measured, MB | measured / expected |\n|---|---|---|---|---|---|")
    with torch.inference_mode():
        for name, folder in MODELS.items():
            measure(name, empty(ASSETS / folder))


@dataclass(eq=False)
class Empty:
    """As much of a model as counts here."""

    unet: Any
    vae: Any
    dtype: torch.dtype = TYPE


def empty(folder: Path) -> Empty:
    """The denoiser and the autoencoder that a folder's configs describe, every weight 0."""
    parts = {}
    for part in ("unet", "vae"):
        config = json.loads((folder / part / "config.json").read_text())
        made = getattr(diffusers, config["_class_name"]).from_config(config).to(TYPE).eval()
        for weight in made.parameters():
            weight.data.zero_()
        parts[part] = made
    return Empty(**parts)


def measure(name: str, model: Empty) -> None:
    unet, vae = model.unet, model.vae
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    known = needs.Needs(Manager(device="cpu"))
    for side, samples in ((512, 1), (512, 2), (768, 1)):
        latents = torch.zeros(samples, unet.config.in_channels, side // factor, side // factor, dtype=TYPE)
        words = torch.zeros(samples, 77, unet.config.cross_attention_dim, dtype=TYPE)
        told = {}
        if unet.config.addition_embed_type == "text_time":
            told = {
                "text_embeds": torch.zeros(samples, 1280, dtype=TYPE),
                "time_ids": torch.zeros(samples, 6, dtype=TYPE),
            }
        took = height(lambda: unet(latents, torch.tensor(5.0), words, added_cond_kwargs=told))  # noqa: B023
        row(name, f"step, {samples}", side, samples * known.step(model, side * side), took)
    for side in (256, 512, 768):
        latents = torch.zeros(1, vae.config.latent_channels, side // factor, side // factor, dtype=TYPE)
        row(name, "decode", side, known.picture(model, side * side), height(lambda: vae.decode(latents)))  # noqa: B023
        picture = torch.zeros(1, 3, side, side, dtype=TYPE)
        row(name, "encode", side, known.picture(model, side * side), height(lambda: vae.encode(picture)))  # noqa: B023


def height(work: Callable[[], object]) -> int:
    """Bytes by which the process grows at most while it works."""
    gc.collect()
    placement.give_back(CPU)
    before = needs._reset(CPU)
    if before is None:
        raise SystemExit("This system does not tell the highest use of memory of a while. Run it on Linux.")
    work()
    return needs._peak(CPU) - before


def row(name: str, what: str, side: int, expected: int, took: int) -> None:
    print(f"| {name} | {what} | {side} | {expected / 1e6:.0f} | {took / 1e6:.0f} | {took / expected:.2f} |", flush=True)


if __name__ == "__main__":
    main()
