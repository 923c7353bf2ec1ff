"""Prompts through CLIP's text encoders: chunks, weights, BREAK, clip skip, several prompts mixed.

A text encoder reads 77 tokens at a time, start and end included. Longer prompts are cut into chunks, each read by
itself, and the UNet attends to the hidden states of all of them. As in A1111's web UI (modules/sd_hijack_clip.py), a
chunk that is full ends after its last comma, if that is among its last 20 tokens, and BREAK ends one early.

Weights are A1111's too (EmphasisOriginal in modules/sd_emphasis.py): with the hidden states z of a chunk, (length,
width), and a weight w for each token, 1 for start, end and padding,

    z' = z w · mean(z) / mean(z w)

where both means are over the whole chunk. Where all weights are 1 nothing is computed.

Prompts with weights of their own, `apple::2 tart::1`, are read apart, and mixed as the weighted mean of their hidden
states, Σ wᵢ zᵢ / Σ wᵢ. (Midjourney, whose signs these are, has not said how it mixes.) A negative weight moves away
from what its words say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from studio.errors import RecipeError
from studio.words import prompts
from studio.words.prompts import Piece

COMMA_WITHIN = 20
"""A full chunk of 75 tokens ends at a comma no further back than this (A1111's comma_padding_backtrack)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the text encoder reads at once, without start, end and padding: token ids, and a weight for each."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """hidden: (1, chunks * length, width). pooled: the first chunk's summary, (1, width), where the encoder has one."""

    hidden: Tensor
    pooled: Tensor | None


class Clip:
    """A CLIP text encoder with its tokenizer.

    device: where the model is called, wherever its weights are kept meanwhile.
    layer: which hidden states the model was trained on, counted from the last, 0: SDXL reads those before the last
    layer, 1, and without the norm that comes after the last one, as diffusers does.
    """

    def __init__(self, tokenizer: Any, encoder: Any, device: torch.device, layer: int = 0) -> None:
        self.tokenizer, self.encoder, self.device, self.layer = tokenizer, encoder, device, layer

    def chunks(self, text: str) -> list[tuple[list[Chunk], float]]:
        """The chunks of each part of the prompt, and its weight."""
        room = room_of(self.tokenizer, self.encoder.config.max_position_embeddings)
        return [(cut(self.tokenizer, part.sections, room), part.weight) for part in prompts.parse(text)]

    def read(self, parts: Sequence[tuple[list[Chunk], float]], count: int, clip_skip: int) -> Encoded:
        """The parts of a prompt, mixed, each filled up with empty chunks to `count` of them."""
        read = [self._read([*chunks, *[Chunk()] * (count - len(chunks))], clip_skip) for chunks, _ in parts]
        if len(read) == 1:
            return read[0]
        weights = tuple(weight for _, weight in parts)
        pooled = [each.pooled for each in read if each.pooled is not None]
        return Encoded(_mixed([each.hidden for each in read], weights), _mixed(pooled, weights) if pooled else None)

    def _read(self, chunks: Sequence[Chunk], clip_skip: int) -> Encoded:
        tokens = torch.tensor([self._filled(chunk) for chunk in chunks], device=self.device)
        hidden, pooled = self._hidden(tokens, clip_skip)
        if any(weight != 1 for chunk in chunks for weight in chunk.weights):
            length = tokens.shape[1]
            rows = [[1.0, *chunk.weights, *[1.0] * (length - 1 - len(chunk.weights))] for chunk in chunks]
            hidden = _weighted(hidden, torch.tensor(rows, device=hidden.device))
        return Encoded(hidden.reshape(1, -1, hidden.shape[-1]), pooled)

    def _filled(self, chunk: Chunk) -> list[int]:
        """Its ids between start and end, as long as the text encoder's window."""
        tokenizer = self.tokenizer
        room = room_of(tokenizer, self.encoder.config.max_position_embeddings)
        padding = [tokenizer.pad_token_id] * (room - len(chunk.ids))
        return [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id, *padding]

    def _hidden(self, tokens: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """Hidden states (n, length, width) of the layer asked for, and the first row's summary, if there is one."""
        back = max(clip_skip - 1, self.layer)
        if not back:
            return self.encoder(tokens)[0], None
        answer = self.encoder(tokens, output_hidden_states=True)
        # The first of the hidden states are the embeddings, before any layer.
        if back >= len(answer.hidden_states) - 1:
            most = len(answer.hidden_states) - 1
            raise RecipeError(f"A clip skip of {clip_skip} leaves nothing of this text encoder. Use 1 to {most}.")
        hidden = answer.hidden_states[-1 - back]
        if self.layer:
            return hidden, answer[0][:1] if answer[0].ndim == 2 else None
        return getattr(self.encoder, "text_model", self.encoder).final_layer_norm(hidden), None


def encode(
    readers: Sequence[Clip], texts: Sequence[str], dtype: torch.dtype, clip_skip: int = 1
) -> tuple[list[Encoded], int]:
    """Each text as the readers see it, side by side along the width, in equally many chunks; and how many that is.

    clip_skip: counted from the last layer, 1; what lies behind the layer that the model was trained on is never read.
    pooled: of the last reader that has one.
    """
    cuts = [[reader.chunks(text) for reader in readers] for text in texts]
    count = max(len(chunks) for text in cuts for parts in text for chunks, _ in parts)
    found = []
    for text in cuts:
        read = [reader.read(parts, count, clip_skip) for reader, parts in zip(readers, text, strict=True)]
        hidden = read[0].hidden if len(read) == 1 else torch.cat([each.hidden for each in read], -1)
        pooled = [each.pooled.to(dtype) for each in read if each.pooled is not None]
        found.append(Encoded(hidden.to(dtype), pooled[-1] if pooled else None))
    return found, count


def room_of(tokenizer: Any, positions: int) -> int:
    """How many tokens a chunk has room for, beside its start and end."""
    return min(tokenizer.model_max_length, positions) - 2


def cut(tokenizer: Any, sections: Sequence[Sequence[Piece]], room: int) -> list[Chunk]:
    """The sections in chunks of at most `room` tokens. At least one; a section begins a chunk of its own."""
    chunks: list[Chunk] = []
    comma = _comma(tokenizer)
    for section in sections:
        ids: list[int] = []
        weights: list[float] = []
        for piece in section:
            found = tokenizer(piece.text, add_special_tokens=False, verbose=False).input_ids
            ids += found
            weights += [piece.weight] * len(found)
        borders = pairwise(_borders(ids, room, comma))
        chunks += [Chunk(tuple(ids[a:b]), tuple(weights[a:b])) for a, b in borders] or [Chunk()]
    return chunks


def _borders(ids: list[int], room: int, comma: int | None) -> list[int]:
    """Where chunks begin and end: 0, the borders, and the number of ids."""
    borders = [0]
    while len(ids) - borders[-1] > room:
        end = borders[-1] + room
        near = range(end - 1, max(end - 1 - room * COMMA_WITHIN // 75, borders[-1]), -1)
        after_comma = next((place + 1 for place in near if ids[place] == comma), end)
        # A comma that would begin the next chunk is not one to look behind.
        borders.append(end if ids[end] == comma else after_comma)
    return [*borders, len(ids)] if ids else borders


def _comma(tokenizer: Any) -> int | None:
    ids = tokenizer(",", add_special_tokens=False).input_ids
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def _weighted(hidden: Tensor, weights: Tensor) -> Tensor:
    """hidden: (n, length, width). weights: (n, length). Computed in float32."""
    wide = hidden.float()
    scaled = wide * weights[..., None]
    change = wide.mean((1, 2), keepdim=True) / scaled.mean((1, 2), keepdim=True)
    # Where weights bring the mean near zero, restoring it would blow everything up.
    change = change.nan_to_num(1.0, 1.0, 1.0).clamp(-prompts.MAX_WEIGHT, prompts.MAX_WEIGHT)
    return (scaled * change).to(hidden.dtype)


def _mixed(states: Sequence[Tensor], weights: tuple[float, ...]) -> Tensor:
    total = sum(weight * state.float() for weight, state in zip(weights, states, strict=True))
    return (total / prompts.divisor(weights)).to(states[0].dtype)
