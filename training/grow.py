"""Start another vocabulary, or more channels of latents, from a model's weights: `python -m training.grow FOLDER`.

FOLDER is a Sketchbook. What it knows is most of what a processor can learn in hours, so it is kept: tokens that both
vocabularies have mean what they meant, and new ones the mean of the pieces that their words were spelled with. Channels
that FOLDER's latents have not are neither looked at nor drawn at first; the autoencoder that fills them is trained
before (`training.vae --like FOLDER`).
"""

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTokenizer

from training import denoiser
from training import vae as autoencoder
from training.captions import WORDS_FOR
from training.corpus import load_corpus
from training.media import FILTERS
from training.tokenizer import LENGTH, learn_tokenizer, same_words

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
        if name.endswith("position_embedding.weight"):
            value = torch.cat((value, value[-1:].expand(LENGTH - len(value), -1)))
        if name.endswith("token_embedding.weight"):
            value = grow_vocabulary(tokenizer, older.tokenizer, value)
        state[name] = autoencoder.grown(value, torch.zeros_like(state[name]))
    pair.load_state_dict(state)
    return pair


def grow_vocabulary(tokenizer: CLIPTokenizer, older: CLIPTokenizer, meanings: Tensor) -> Tensor:
    """Embeddings (tokens, width) of the new tokens: what they meant, or the mean of the pieces they were spelled with.

    Names of subjects and media that are taught, but were in no caption so far, are too short to be heard: they get
    something of their own, up to LOUD. A name in another language, where it is one token, starts as a copy of its
    English name.
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
    corpus = load_corpus()
    torch.manual_seed(0)
    names = [name for index in corpus.learnt() for name in corpus.subjects[index].words]
    names += [name for medium in FILTERS for name in WORDS_FOR[medium]]
    for word in (word for name in names for word in (name, *name.split())):
        ids = tokenizer(word, add_special_tokens=False).input_ids
        if len(ids) == 1 and (missing := LOUD**2 - found[ids[0]].square().sum()) > 0:
            found[ids[0]] += missing.sqrt() * torch.nn.functional.normalize(torch.randn(meanings.shape[1]), dim=0)
    return found[same_words(tokenizer, corpus)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    older = StableDiffusionPipeline.from_pretrained(parser.parse_args().folder, dtype=torch.float32)
    pair = grow_pair(older)
    denoiser.save(pair.state_dict(), pair, 1000, older.vae.config.scaling_factor)


if __name__ == "__main__":
    main()
