"""Write what was trained as an ordinary diffusers folder: `python -m training.export`.

Takes the mean (EMA) weights from the checkpoint, in float16 safetensors. `--restore` goes the other way.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from transformers import PreTrainedTokenizerFast

from training import denoiser
from training import vae as autoencoder
from training.tokenizer import CLASS, TOKENIZER, learn_tokenizer, write_tokenizer

MODEL = Path(__file__).resolve().parent.parent / "assets" / "models" / "sketchbook"
KEPT = ("README.md", "NOTICE", "media.webp", "range.webp", "guidance.webp", "defaults.json")
"""Files beside the weights that the export leaves as they are."""


def pipeline() -> StableDiffusionPipeline:
    """The checkpoints as a pipeline, in float32."""
    saved = torch.load(denoiser.CHECKPOINT, map_location="cpu", weights_only=True)
    tokenizer = learn_tokenizer()
    pair = denoiser.Pair(tokenizer)
    pair.load_state_dict(saved["mean"])
    vae = AutoencoderTiny(**autoencoder.CONFIG, scaling_factor=saved["scale"])
    vae.load_state_dict(autoencoder.load().state_dict())
    return assemble(vae, pair, tokenizer)


def assemble(vae: AutoencoderTiny, pair: denoiser.Pair, tokenizer: PreTrainedTokenizerFast) -> StableDiffusionPipeline:
    """The parts as an ordinary pipeline, with the schedule they were trained on."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=pair.text_encoder,
        tokenizer=tokenizer,
        unet=pair.unet,
        scheduler=DDIMScheduler(**denoiser.SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(made: StableDiffusionPipeline, folder: Path = MODEL) -> None:
    """Write in float16 beside the present folder, and change the two when all is on disk."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    made.to(dtype=torch.float16).save_pretrained(part, safe_serialization=True)
    write_tokenizer(made.tokenizer, part / "tokenizer")
    index = json.loads((part / "model_index.json").read_text()) | {"tokenizer": ["transformers", CLASS]}
    (part / "model_index.json").write_text(json.dumps(index, indent=2))
    for name in KEPT:
        if (folder / name).exists():
            shutil.copy(folder / name, part / name)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def restore(folder: Path = MODEL) -> None:
    """Make checkpoints of an exported folder, to train on from it on another machine."""
    made = StableDiffusionPipeline.from_pretrained(folder)
    autoencoder.CHECKPOINT.parent.mkdir(exist_ok=True)
    shutil.copytree(folder / "tokenizer", TOKENIZER, dirs_exist_ok=True)
    autoencoder.save(made.vae.state_dict(), autoencoder.CHECKPOINT)
    pair = denoiser.Pair(made.tokenizer)
    pair.text_encoder.load_state_dict(made.text_encoder.state_dict())
    pair.unet.load_state_dict(made.unet.state_dict())
    weights, scale = pair.state_dict(), made.vae.config.scaling_factor
    torch.save({"weights": weights, "mean": weights, "step": 1000, "scale": scale}, denoiser.CHECKPOINT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restore", action="store_true", help="the other way: checkpoints from what ships")
    if parser.parse_args().restore:
        restore()
    else:
        export(pipeline())
    size = sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file())
    print(f"{MODEL}: {size / 1e6:.1f} MB")
