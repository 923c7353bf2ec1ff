"""Families whose prompts a language model reads: hidden states from within it are what their transformer is given."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from studio.errors import RecipeError
from studio.families import samplers
from studio.families.base import Model, Prompts
from studio.words.tags import Lora


class ReadByLanguageModel(Model):
    """A transformer trained by flow matching beside one language model, whose `counted` names its longest prompt."""

    samplers = samplers.FLOW
    needed = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.tokenizer, self.text_encoder = parts["tokenizer"], parts["text_encoder"]
        self.transformer = parts["transformer"]
        super().__init__(parts, device, dtype)

    @abstractmethod
    def _read(self, text: str) -> Tensor:
        """What the transformer is given of a prompt. Raises RecipeError if it is too long."""

    def _encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple[Lora, ...] = ()
    ) -> Prompts:
        return Prompts(self._read(prompt), self._read(negative_prompt) if guided else None, ())

    def _check_length(self, tokens: int) -> None:
        """Raise RecipeError for more tokens than are read."""
        most = self.counted[1]
        if tokens > most:
            raise RecipeError(f"{self.family} reads prompts of up to {most} tokens, and this has {tokens}. Shorten it.")

    def _hidden_states(self, ids: Sequence[int], there: Sequence[int] | None = None) -> tuple[Tensor, ...]:
        """The hidden states (1, n, width) between the language model's layers, what the first one reads at first.

        there: 1 for each token and 0 for filling, which is masked for the model and yet has hidden states.
        """
        options: dict[str, Any] = {"output_hidden_states": True, "use_cache": False}
        if hasattr(self.text_encoder, "lm_head"):
            options["logits_to_keep"] = 1  # nobody reads them, and all of them would be hundreds of megabytes
        mask = torch.tensor([there or [1] * len(ids)], device=self.device)
        return self.text_encoder(torch.tensor([ids], device=self.device), attention_mask=mask, **options).hidden_states


def asked(tokenizer: Any, text: str, thinking: bool) -> str:
    """A prompt as the question in a chat with a Qwen3, up to where the answer begins.

    thinking: False puts an empty thought before the answer, as Qwen3 wants it. A tokenizer without a chat template, as
    single files are given, gets the published one for a single question (https://huggingface.co/Qwen/Qwen3-4B).
    """
    if getattr(tokenizer, "chat_template", None):
        chat = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=thinking)
    thought = "" if thinking else "<think>\n\n</think>\n\n"
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n{thought}"
