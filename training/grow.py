"""Start another vocabulary, or a larger autoencoder, from a model's weights: `python -m training.grow FOLDER`.

FOLDER is a Sketchbook. What it knows is kept: tokens that both vocabularies have mean what they meant, and new ones the
mean of the pieces that their words were spelled with. Channels that FOLDER's latents have not are neither looked at nor
drawn at first; the autoencoder that fills them is trained next (`training.vae --like FOLDER`).
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training import denoiser
from training import vae as autoencoder
from training.captions import WORDS_FOR
from training.corpus import Corpus, load_corpus
from training.media import FILTERS
from training.tokenizer import learn_tokenizer, one_word

LOUD = 1.0
"""The length of an embedding that has learnt to mean something."""


def grow_pair(older: StableDiffusionPipeline) -> denoiser.Pair:
    """Text encoder and denoiser with all that the older ones know."""
    tokenizer = learn_tokenizer()
    pair = denoiser.Pair(tokenizer)
    state = pair.state_dict()
    start = {f"unet.{name}": value for name, value in older.unet.state_dict().items()}
    start |= {f"text_encoder.{name}": value for name, value in older.text_encoder.state_dict().items()}
    for name, value in start.items():
        if name.endswith("token_embedding.weight"):
            value = grow_vocabulary(tokenizer, older.tokenizer, value, load_corpus())
        state[name] = grown(value, torch.zeros_like(state[name]))
    pair.load_state_dict(state)
    return pair


def grow_vocabulary(
    tokenizer: PreTrainedTokenizerFast, older: PreTrainedTokenizerFast, meanings: Tensor, corpus: Corpus
) -> Tensor:
    """Embeddings (tokens, width) of the new tokens: what they meant, or the mean of the pieces they were spelled with.

    Names of subjects and media that are taught, but were in no caption so far, are too short to be heard: they get
    something of their own, up to LOUD.
    """
    numbers = older.get_vocab()
    names = {one_word(name): name for name in (each.words[0] for each in corpus.subjects)}
    found = torch.zeros(len(tokenizer), meanings.shape[1])
    for token, number in tokenizer.get_vocab().items():
        if token in numbers:
            found[number] = meanings[numbers[token]]
        else:
            word = tokenizer.decode([number]).strip()
            pieces = older(names.get(word, word), add_special_tokens=False).input_ids
            found[number] = meanings[pieces].mean(0) if pieces else meanings.mean(0)
    torch.manual_seed(0)
    for name in [*names, *(word for medium in FILTERS for each in WORDS_FOR[medium] for word in each.split())]:
        ids = tokenizer(name, add_special_tokens=False).input_ids
        if len(ids) == 1 and (missing := LOUD**2 - found[ids[0]].square().sum()) > 0:
            found[ids[0]] += missing.sqrt() * torch.nn.functional.normalize(torch.randn(meanings.shape[1]), dim=0)
    return found


def grow_autoencoder(older: AutoencoderTiny) -> AutoencoderTiny:
    """One of today's size that begins about where the older one was: wider, with more channels and more blocks.

    A new block comes last in its level, and adds little at first.
    """
    vae = AutoencoderTiny(**autoencoder.CONFIG)
    for grows, side in ((vae.encoder, older.encoder), (vae.decoder, older.decoder)):
        for layers, known in zip(_levels(grows.layers), _levels(side.layers), strict=True):
            for layer, before in zip(layers, known, strict=False):
                layer.load_state_dict(
                    {name: grown(value, layer.state_dict()[name]) for name, value in before.state_dict().items()}
                )
            for block in layers[len(known) :]:
                with torch.no_grad():
                    block.conv[-1].weight.mul_(autoencoder.QUIET)
    return vae


def _levels(layers: torch.nn.Sequential) -> list[list[torch.nn.Module]]:
    """Layers in parts that each begin with what is no block, and hold the blocks after it."""
    levels: list[list[torch.nn.Module]] = []
    for layer in layers:
        if isinstance(layer, AutoencoderTinyBlock):
            levels[-1].append(layer)
        else:
            levels.append([layer])
    return levels


def grown(weight: Tensor, into: Tensor) -> Tensor:
    """A larger weight: its first rows and columns are this one, and what is new does not reach the first rows."""
    into = into.clone()
    into[: len(weight)] = 0
    into[tuple(slice(size) for size in weight.shape)] = weight
    return into


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    older = StableDiffusionPipeline.from_pretrained(parser.parse_args().folder, dtype=torch.float32)
    pair = grow_pair(older)
    denoiser.save(pair.state_dict(), pair, 1000, older.vae.config.scaling_factor)
    autoencoder.save(grow_autoencoder(older.vae).state_dict(), autoencoder.CHECKPOINT)


if __name__ == "__main__":
    main()
