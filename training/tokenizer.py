"""The text side: a tokenizer in CLIP's format over the words of captions, and over names of things in other languages.

Byte-pair encoding (Sennrich et al., arXiv:1508.07909) on bytes, so that no text in any script is without tokens.
English words that captions use become single tokens; every other word is spelled out. A name that has several words, or
is in another language, is a token that is added whole, as a word of textual inversion is: to be spelled, each would
need several tokens more that mean nothing.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from training.captions import ADJECTIVES, DOINGS, FILLERS, LANGUAGES_BY_USE, WORDS_FOR, plural
from training.compose import COLOURS, PLACE_NAMES, RELATIONS
from training.corpus import CACHE, Corpus, load_corpus

TOKENIZER = CACHE / "tokenizer"
LENGTH = 48
"""Tokens in a chunk, start and end included. Most captions have fewer; of the longest the end is cut off."""
VOCABULARY = 5500
"""Tokens at most: as many names in other languages as fit, of the languages that come up most often first."""
START, END = "<|startoftext|>", "<|endoftext|>"
FRAME = "a an the of on in with and as to style background painting picture photo two three four five"
"""Words between the others in captions."""
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of languages that write words without spaces between them."""


def learn_tokenizer() -> CLIPTokenizer:
    """The tokenizer, from all the words that captions can hold, the usual ones most often."""
    if (TOKENIZER / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(TOKENIZER)
    corpus = load_corpus()
    words = [FRAME] * 50
    words += [*COLOURS, *PLACE_NAMES, *RELATIONS, *(word for ways in WORDS_FOR.values() for word in ways)] * 50
    words += [*FILLERS, *ADJECTIVES, *DOINGS] * 80
    for subject in (corpus.subjects[i] for i in corpus.learnt()):
        words += [*subject.words] * 200
        words += [plural(word) for word in subject.words] * 20
    return train_tokenizer(words, TOKENIZER, names=[*long_names(corpus), *names_in_tongues(corpus)])


def train_tokenizer(
    texts: Sequence[str], folder: Path, size: int = VOCABULARY, names: Sequence[str] = ()
) -> CLIPTokenizer:
    """Learn merges from lower-case texts, add names whole as long as there is room, and write all to `folder`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - 258, end_of_word_suffix="</w>", initial_alphabet=letters, show_progress=False
    )
    learner.train_from_iterator((text.lower() for text in texts), trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    # CLIP's order: the bytes, the bytes as ends of words, the merges, the two special tokens.
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [token for token in ("".join(pair) for pair in merges) if token not in set(tokens)]
    tokens += [START, END]
    made = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[tuple(pair) for pair in merges],
        model_max_length=LENGTH,
    )
    whole = [AddedToken(name, single_word=not _UNSPACED.search(name), normalized=True) for name in names]
    made.add_tokens(whole[: max(0, size - len(made))])
    write_tokenizer(made, folder)
    return CLIPTokenizer.from_pretrained(folder)


def write_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write it into a folder of its own, without the spaces that make up a third of the file."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")), ensure_ascii=False, separators=(",", ":")), "utf-8")


def encode(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids, each row LENGTH long: start, words, end, padding."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH).input_ids


def long_names(corpus: Corpus) -> list[str]:
    """Names that are no single word: each is a token, so that a name elsewhere can mean what it means."""
    names = (corpus.subjects[i].words[0] for i in corpus.learnt())
    return [name for name in names if re.search(r"\W", name)]


def names_in_tongues(corpus: Corpus) -> dict[str, str]:
    """What things are called in other languages → the English name, the languages that come up most often first.

    English words of captions mean what they say, also where another language has the word for something else ("and" is
    a Danish duck).
    """
    english = [FRAME, *PLACE_NAMES, *COLOURS, *RELATIONS, *ADJECTIVES, *DOINGS, *FILLERS]
    english += [words for ways in (*WORDS_FOR.values(), *(each.words for each in corpus.subjects)) for words in ways]
    taken = {word for words in english for word in words.lower().split()} | {*english}
    found: dict[str, str] = {}
    for language in LANGUAGES_BY_USE:
        for subject in (corpus.subjects[i] for i in corpus.learnt()):
            names = subject.tongues.get(language, ())
            # Where a label has several words ("the head of a fox"), people ask with the one among them that names it.
            stems = tuple(word[:3] for word in names[0].split()) if names else ()
            for name in names:
                if name not in taken and (name == names[0] or name.startswith(stems)):
                    found.setdefault(name, subject.words[0])
    return found


def same_words(tokenizer: CLIPTokenizer, corpus: Corpus) -> Tensor:
    """For each token (tokens,) the one that it is learnt as: of a thing's name in another language the English name's.

    So a language costs no learning, where both names are one token.
    """

    def number(words: str) -> int | None:
        ids = tokenizer(words, add_special_tokens=False).input_ids
        return ids[0] if len(ids) == 1 else None

    same = torch.arange(len(tokenizer))
    for name, word in names_in_tongues(corpus).items():
        there, english = number(name), number(word)
        if there is not None and english is not None:
            same[there] = english
    return same
