"""Start a larger model from a smaller one's weights: `python -m training.grow FOLDER`.

FOLDER is a Sketchbook for pictures of half the side, 128 pixels. What it knows is most of what a processor can learn in
hours, so it is kept. Its autoencoder gets one more level at either end: the encoder finds the same latents, in pictures
of twice the side, so that the denoiser needs no change; the decoder has the new level to learn. The text encoder gets
the weights that new words and longer captions need. The same serves to give the present model another vocabulary.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTokenizer

from training import denoiser
from training import vae as autoencoder
from training.corpus import load_corpus
from training.tokenizer import LENGTH


def numbered(older: dict[str, Tensor], prefix: str, shift: int, last: int, new_last: int) -> dict[str, Tensor]:
    """The layers of a tiny encoder or decoder at their places in a deeper one; the last keeps to the end."""
    found = {}
    for name, value in older.items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            place = new_last if int(number) == last else int(number) + shift
            found[f"{prefix}{place}.{rest}"] = value
    return found


def grow_autoencoder(older: AutoencoderTiny) -> AutoencoderTiny:
    """One level more at either end: the same latents, from pictures of twice the side."""
    grown = AutoencoderTiny(**autoencoder.CONFIG)
    weights = dict(older.named_parameters())
    start = numbered(weights, "encoder.layers.", 1, 10, 11) | numbered(weights, "decoder.layers.", 0, 16, 19)
    stem, bias = start.pop("encoder.layers.1.weight"), start.pop("encoder.layers.1.bias")
    with torch.no_grad():
        state = grown.state_dict()
        for name, value in start.items():
            state[name].copy_(value)
        _stretch_stem(
            state["encoder.layers.0.weight"],
            state["encoder.layers.0.bias"],
            state["encoder.layers.1.weight"],
            stem,
            bias,
        )
        state["decoder.layers.16.conv.4.weight"].zero_()
        state["decoder.layers.16.conv.4.bias"].zero_()
        state["decoder.layers.18.weight"].zero_()[:, :, 1, 1] = torch.eye(autoencoder.WIDTH)
    grown.load_state_dict(state)
    return grown


def _stretch_stem(spread: Tensor, spread_bias: Tensor, strided: Tensor, stem: Tensor, bias: Tensor) -> None:
    """Two convolutions that do to a picture what `stem` does to the picture at half the side.

    The first, `spread`, makes copies of the colours moved by -1, 0 and 1; the second, with a stride of 2, takes from
    each copy the one place that belongs to a weight of `stem`.
    """
    spread.zero_()
    spread_bias.zero_()
    strided.zero_()
    taps = {-1: ((0, 0.5), (1, 0.5)), 0: ((1, 0.5), (2, 0.5)), 1: ((2, 1.0),)}
    copy = 0
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            for colour in range(3):
                for y, part in taps[down]:
                    for x, share in taps[across]:
                        spread[copy, colour, y, x] = part * share
                strided[:, copy, 1 + down, 1 + across] = stem[:, colour, 1 + down, 1 + across]
                copy += 1
    spread_bias[copy] = 1.0
    strided[:, copy, 1, 1] = bias


def grow_pair(older: StableDiffusionPipeline) -> denoiser.Pair:
    """Text encoder and denoiser with all that the older ones know."""
    tokenizer = denoiser.learn_tokenizer()
    pair = denoiser.Pair(len(tokenizer))
    state = pair.state_dict()
    start = {f"unet.{name}": value for name, value in older.unet.state_dict().items()}
    start |= {f"text_encoder.{name}": value for name, value in older.text_encoder.state_dict().items()}
    for name, value in start.items():
        if name.endswith("position_embedding.weight"):
            value = torch.cat((value, value[-1:].expand(LENGTH - len(value), -1)))
        if name.endswith("token_embedding.weight"):
            value = grow_vocabulary(tokenizer, older.tokenizer, value)
        state[name].copy_(value)
    pair.load_state_dict(state)
    return pair


def grow_vocabulary(tokenizer: CLIPTokenizer, older: CLIPTokenizer, meanings: Tensor) -> Tensor:
    """Embeddings (tokens, width) of the new tokens: what they meant, or the mean of the pieces they were spelled with.

    A subject's name in another language, where it is one token, starts as a copy of its English name.
    """
    numbers = older.get_vocab()

    def meant(word: str) -> Tensor:
        return meanings[older(word, add_special_tokens=False).input_ids].mean(0)

    found = torch.zeros(len(tokenizer), meanings.shape[1])
    for token, number in tokenizer.get_vocab().items():
        if token in numbers:
            found[number] = meanings[numbers[token]]
        else:
            text = tokenizer.decode([number]).strip()
            found[number] = meant(text) if text else meanings.mean(0)
    for subject in load_corpus().named():
        for name in (name for names in subject.tongues.values() for name in names):
            ids = tokenizer(name, add_special_tokens=False).input_ids
            if len(ids) == 1 and name not in numbers:
                found[ids[0]] = meant(subject.words[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "part", choices=("vae", "denoiser"), help="the autoencoder first; the denoiser once there is a bank"
    )
    given = parser.parse_args()
    older = StableDiffusionPipeline.from_pretrained(given.folder, dtype=torch.float32)
    if given.part == "vae":
        autoencoder.save(grow_autoencoder(older.vae).state_dict(), autoencoder.CHECKPOINT)
    else:
        pair = grow_pair(older)
        denoiser.save(pair.state_dict(), pair, 1000, older.vae.config.scaling_factor)


if __name__ == "__main__":
    main()
