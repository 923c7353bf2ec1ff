"""How long a prompt is for a model's text encoder, from its tokenizer alone: the model itself is not loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from studio import disk
from studio.errors import StudioError
from studio.families import Family, clip
from studio.families.clip import Chunk
from studio.files import addons
from studio.files.folders import read_json
from studio.models import catalog, loading
from studio.models.catalog import Entry
from studio.words import prompts, tags, unread
from studio.words.wildcards import Wildcards

_READINGS = 16
"""Of a prompt whose words take turns, so many of its texts are counted."""


@dataclass(frozen=True, slots=True)
class Length:
    """A prompt as its text encoder sees it: the longest of its texts, if words take turns.

    tokens: without start, end and padding where it is read in chunks. room: how many tokens a chunk has room for, or
    the most that are read; 0 if that is not known. words: as a person counts them. begins: the first word of the second
    chunk and of each after it.
    """

    tokens: int
    room: int
    words: int = 0
    begins: tuple[str, ...] = ()

    @property
    def chunks(self) -> int:
        return 1 + len(self.begins)


def measure(entry: Entry, family: type[Family], text: str) -> Length | None:
    """The length of a prompt without tags for a model; None if that cannot be told."""
    # Without the encoder that reads the most, the first of the others is the measure.
    name, most = family.counted if family.counted[0] not in entry.without else ("tokenizer", 0)
    try:
        room = most or (_room(entry.config, name) if family.weights else 0)
        home = dict(entry.companions).get(name, entry.config / name)
        tokenizer = _tokenizer(entry, name, (home / "tokenizer_config.json").stat().st_mtime_ns)
        texts = prompts.readings(text)[:_READINGS]
        lengths = [_length(tokenizer, family, each, room) for each in texts]
    except Exception:
        # Tokenizers are other people's files and code. A line under the prompt is all that hangs on them.
        return None
    return max(lengths, key=lambda length: (length.chunks, length.tokens))


def sentence(length: Length) -> str:
    """The length in words, with the word at which each further chunk begins."""
    if length.begins:
        words = [f"‘{word}’" for word in length.begins[:3]] + ["…"] * (len(length.begins) > 3)
        begins = f"the second begins at {words[0]}" if len(length.begins) == 1 else f"they go on at {', '.join(words)}"
        return f"Read in {length.chunks} parts ({length.tokens} tokens): {begins}"
    if not length.room:
        return f"{length.tokens} tokens long"
    counted = f"({length.tokens} of {length.room} tokens)"
    if length.tokens > length.room:
        over = _words(length, length.tokens - length.room)
        return f"Too long for this model by about {_counted(over)} {counted}: shorten it"
    if not (left := _words(length, length.room - length.tokens)):
        return f"Full, and all of it is read at once {counted}"
    return f"Room for about {_counted(left, 'more ')} {counted}"


def _words(length: Length, tokens: int) -> int:
    """About how many words of this prompt's kind so many tokens are; a word of another script takes many of them."""
    # A few words of plain English, three to four tokens, stand in for what a short prompt cannot tell.
    count = int(tokens * (length.words + 3) / (length.tokens + 4))
    return max(count - count % 5 if count > 20 else count, min(tokens, 1))


def _counted(words: int, kind: str = "") -> str:
    return f"{words} {kind}word{'s' * (words != 1)}"


def line(
    entry: Entry,
    text: str,
    seed: int,
    wildcards: Wildcards,
    stream: str,
    embeddings: Mapping[str, Path] = MappingProxyType({}),
) -> str:
    """What there is to say under a prompt: its length, and what the model does not understand. Empty if it is empty.

    Wildcards and choices are counted as this seed makes them. embeddings: those on disk, by name.
    """
    try:
        resolved = wildcards.resolve(text, seed, stream)
        family = catalog.family(entry)
        words, _ = tags.split(resolved)
    except StudioError as error:
        return str(error)
    length = measure(entry, family, words) if text.strip() else None
    sentences = []
    if length:
        sentences.append(sentence(length))
        if resolved != text:
            sentences.append("other choices are longer or shorter")
    if not family.weights and prompts.weighted(resolved):
        sentences.append(f"{family.family} reads {_example(resolved)} as plain words")
    elif (count := len(prompts.composed(words))) > 1:
        is_word = stream == "negative_prompt"
        sentences.append("AND is read as a word here" if is_word else f"{count} prompts guide together")
    if family.reads_embeddings:
        sentences += tags.embedding_remarks(words, embeddings, addons.belongs(entry.config))
    sentences += [*tags.remarks(resolved), *unread.remarks(words)]
    return " · ".join(sentences)


def _example(text: str) -> str:
    """The first sign in a prompt that would need weights."""
    found = re.search(r"\([^()]*\)|\[[^\[\]]*\]|\bBREAK\b|\bAND\b|\w*::[-\d.]*", text)
    return found[0] if found and len(found[0]) <= 24 else "(word:1.2)"


def _length(tokenizer: Any, family: type[Family], text: str, room: int) -> Length:
    words = len(re.findall(r"\w+", text))
    if not family.weights:
        # The start and end of its own count too: there is but one window.
        return Length(len(tokenizer(prompts.plain(text), verbose=False).input_ids), room, words)
    texts = [each for each, _ in prompts.composed(text)]
    parts = [clip.cut(tokenizer, part.sections, room) for each in texts for part in prompts.parse(each)]
    longest = max(parts, key=len)
    tokens = sum(len(chunk.ids) for part in parts for chunk in part)
    return Length(tokens, room, words, tuple(_first_word(tokenizer, chunk) for chunk in longest[1:]))


def _first_word(tokenizer: Any, chunk: Chunk) -> str:
    words = tokenizer.decode(chunk.ids[:12]).split()
    return next((word for word in words if any(map(str.isalnum, word))), "".join(words[:1]))[:16]


def _room(folder: Path, name: str) -> int:
    encoder = read_json(folder / name.replace("tokenizer", "text_encoder") / "config.json")
    longest = read_json(folder / name / "tokenizer_config.json").get("model_max_length", 77)
    return min(int(longest), int(encoder.get("max_position_embeddings", 77))) - 2


@lru_cache(8)
def _tokenizer(entry: Entry, name: str, changed: int) -> Any:
    """changed: when its config was written, so that another one is read anew."""
    import transformers

    library, kind = read_json(entry.config / "model_index.json")[name]
    if library != "transformers":
        raise ValueError(f"{library} is not trusted")
    found = getattr(transformers, kind)
    if entry.single:
        return loading.tokenizer(entry, name, found)
    disk.check(entry.config / name)
    return found.from_pretrained(entry.config / name, local_files_only=True)
