"""The text side: a byte-pair tokenizer over the words of the captions, in CLIP's format.

Byte-pair encoding (Sennrich et al., arXiv:1508.07909) on bytes, so that no text in any script is without tokens. Words
that captions use become single tokens; every other word is spelled out.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

LENGTH = 48
"""Tokens in a chunk, start and end included. Most captions have fewer; of the longest the end is cut off."""
VOCABULARY = 5600
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(texts: list[str], folder: Path, size: int = VOCABULARY) -> CLIPTokenizer:
    """Learn merges from lower-case texts and write them, with CLIP's file names, to `folder`."""
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
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}
    config |= {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return CLIPTokenizer.from_pretrained(folder)


def encode(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids, each row LENGTH long: start, words, end, padding."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH).input_ids
