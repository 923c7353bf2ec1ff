"""Embeddings (textual inversion, Gal et al., arXiv:2208.01618): words of a person's own, as vectors for CLIP.

Each vector gets a token of its own that nobody types, from Unicode's supplementary private use area, one character a
vector. A name in the prompt is replaced by its characters, so however a prompt is weighed and cut into chunks, the
tokenizer sees them, and prompts without the name are read as before.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from torch import Tensor

from studio import disk
from studio.errors import ModelBroken, ModelError
from studio.files import weights
from studio.files.addons import ENCODERS, File

_FIRST = 0xF0000


class Embeddings:
    """The embeddings that a model has learned so far.

    parts: with `tokenizer` and `text_encoder`, and with `tokenizer_2` and `text_encoder_2` if there are two.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        numbers = [number for number in ("", "_2") if parts.get(f"text_encoder{number}") is not None]
        self._readers = {number: (parts[f"tokenizer{number}"], parts[f"text_encoder{number}"]) for number in numbers}
        self._words: dict[File, str] = {}
        self._next = _FIRST

    def words(self, files: Iterable[File], model: str, allow_pickles: bool = False) -> dict[str, str]:
        """What stands for each of these embeddings in a prompt, by name. Raises ModelError.

        model: its name, for the sentence.
        """
        for file in files:
            if file not in self._words:
                with torch.inference_mode():
                    self._words[file] = self._learn(file, model, allow_pickles)
        return {file.name: self._words[file] for file in files}

    def _learn(self, file: File, model: str, allow_pickles: bool) -> str:
        vectors = self._fitting(_read(file, allow_pickles), file, model)
        count = len(next(iter(vectors.values())))
        word = "".join(chr(self._next + index) for index in range(count))
        self._next += count
        for number, (tokenizer, encoder) in self._readers.items():
            tokenizer.add_tokens([AddedToken(letter, normalized=False) for letter in word])
            ids = tokenizer.convert_tokens_to_ids(list(word))
            _grow(encoder, max(ids) + 1, tokenizer.eos_token_id)
            weight = encoder.get_input_embeddings().weight
            weight.data[ids] = vectors[number].to(weight.device, weight.dtype)
        return word

    def _fitting(self, found: dict[str, Tensor], file: File, model: str) -> dict[str, Tensor]:
        """(vectors, width) for each encoder of the model. Raises ModelError if they are for others."""
        if found.keys() <= ENCODERS.keys():
            vectors = {ENCODERS[key]: value for key, value in found.items()}
        else:
            vectors = {"": next(iter(found.values()))} if len(found) == 1 else {}
        vectors = {number: value.reshape(-1, value.shape[-1]) for number, value in vectors.items() if value.dim()}
        weights.check(file.path, found)
        if not vectors:
            raise ModelBroken(f"The file of the embedding {file.name} is damaged, or none. Copy or download it again.")
        widths = {
            number: encoder.get_input_embeddings().weight.shape[1] for number, (_, encoder) in self._readers.items()
        }
        if {number: value.shape[1] for number, value in vectors.items()} != widths:
            raise ModelError(
                f"The embedding {file.name} was made for another kind of model than {model}. "
                "Take it out of the prompt, or choose a model that it was made for."
            )
        return vectors


def _grow(encoder: Any, size: int, end: int) -> None:
    """Room for `size` tokens in a text encoder; those that were there keep their vectors, bit for bit."""
    if size <= encoder.get_input_embeddings().weight.shape[0]:
        return
    # Old configs have CLIP look for the end of a prompt by the largest token. New tokens are larger.
    if encoder.config.eos_token_id == 2 and end == encoder.get_input_embeddings().weight.shape[0] - 1:
        encoder.config.eos_token_id = end
        for module in encoder.modules():
            if getattr(module, "eos_token_id", None) == 2:
                module.eos_token_id = end
    encoder.resize_token_embeddings(size, mean_resizing=False)


def _read(file: File, allow_pickles: bool) -> dict[str, Tensor]:
    """The tensors of a file by name. Formats: stable-diffusion-webui's (`emb_params`, `string_to_param`), diffusers'
    (one tensor named as the token), and those of SDXL with `clip_l` and `clip_g`. Raises ModelBroken.
    """
    try:
        disk.check(file.path)
        if file.path.suffix.lower() == ".safetensors":
            found = load_file(file.path)
        elif allow_pickles:
            found = torch.load(file.path, "cpu", weights_only=True)
        else:
            raise ValueError("a pickle")
        inside = found.get("string_to_param")
        found = dict(inside) if isinstance(inside, Mapping) else found
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}
    except MemoryError:
        raise
    except Exception as error:
        raise ModelBroken(
            f"The file of the embedding {file.name} could not be read. Copy or download it again."
        ) from error
