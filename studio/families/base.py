"""What a run asks of a loaded model that is stepped by the studio itself, whatever its architecture.

Such a family is one subclass of `Model` in one file: facts about its folders, and the calls encode, predict, decode.
"""

import copy
import hashlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.families import previews
from studio.families.addons import autoencoders
from studio.families.addons.adapters import Loras
from studio.families.addons.embeddings import Embeddings
from studio.families.addons.guides import Guide
from studio.families.family import Family
from studio.families.samplers import Sampler
from studio.files import unused
from studio.files.addons import File
from studio.files.folders import read_json
from studio.memory import Recent
from studio.recipe.recipe import AS_PUBLISHED, Control, Recipe
from studio.words import prompts
from studio.words.tags import Lora

PROMPTS_HELD = 256 * 2**20
"""Bytes of encoded prompts kept for each loaded model; a prompt of 77 tokens takes 0.1 to 4 MB."""

PICTURES_HELD = 16 * 2**20
"""Bytes of encoded start pictures kept for each loaded model; one of a megapixel takes 0.3 to 1 MB."""

VAES_KEPT = 2
"""Autoencoders kept for each loaded model beside its own; one takes some 170 MB."""


@dataclass(frozen=True, slots=True)
class Row:
    """One job's part of a shared model call: its input (1, c, h, w), timestep (0-d, CPU), prompts and guidance.

    beside: what the model reads beside its input, (1, c', h, w), as `Model.beside` gave it. guides: those at work now.
    guidance_rescale: as in the recipe.
    """

    model_input: Tensor
    timestep: Tensor
    prompts: "Prompts"
    guidance_scale: float
    beside: Tensor | None = None
    guides: tuple[Guide, ...] = ()
    guidance_rescale: float | None = None


@dataclass(frozen=True, slots=True)
class Prompts:
    """Encoded prompts. `key` is equal for those that can stand in one call together.

    more: prompts that guide beside the positive one. weights: of that one and of these.
    """

    positive: Any
    negative: Any
    key: tuple
    more: tuple[Any, ...] = ()
    weights: tuple[float, ...] = (1.0,)

    @property
    def all(self) -> tuple[Any, ...]:
        """What the model is called with, a sample each: the negative prompt first, if there is one."""
        return tuple(each for each in (self.negative, self.positive, *self.more) if each is not None)

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in tensors(self.all))


class Model(Family):
    """A checkpoint on its device. Only the engine's thread calls it.

    parts: the diffusers folder's components by name, on `device`, in `dtype`, and its `model_index`.
    """

    varies: ClassVar[bool] = True

    def __init__(self, parts: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(parts, device, dtype)
        self.vae = parts["vae"]
        self.scheduler_config: Mapping[str, Any] = parts["scheduler"]
        self.published_config: Mapping[str, Any] = parts.get("published", parts["scheduler"])
        self.encoded: Recent[Hashable, Prompts] = Recent(PROMPTS_HELD, lambda prompts: prompts.bytes)
        self.pictures_read = 0
        """How often the autoencoder has read pictures: what is remembered is not read again."""
        self._pictures: Recent[Hashable, Tensor] = Recent(PICTURES_HELD, lambda latents: latents.nbytes)
        self.loras = Loras(parts, dtype)
        self.embeddings = Embeddings(parts) if self.reads_embeddings else None
        self._with_vae: OrderedDict[File, Self] = OrderedDict()
        self.projection = previews.fit(self._encode_pictures, self.vae_factor).to(device)

    def encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple[Lora, ...] = ()
    ) -> Prompts:
        """Both prompts encoded (`_encode`), by what is remembered if they were encoded lately."""
        asked = (prompt, negative_prompt, guided, clip_skip, loras)
        return self.encoded.get(asked, lambda: self._encode(*asked))

    @abstractmethod
    def _encode(
        self, prompt: str, negative_prompt: str, guided: bool, clip_skip: int = 1, loras: tuple[Lora, ...] = ()
    ) -> Prompts:
        """Encode both prompts; the negative one only if `guided`.

        clip_skip: which of CLIP's layers is read, for families that read one of choice (`studio.recipe.recipe.Recipe`).
        loras: those at work, only part of the cache's key, since they change the encoder.
        """

    def words(self, text: str, done: int, total: int) -> str:
        """What the text encoders are given of a prompt for the step after `done` of `total` steps."""
        text = prompts.at(text, done, total)
        return text if self.weights else prompts.plain(text)

    @abstractmethod
    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        """One call for all rows: each one's output with its own guidance, (1, c, h, w) float32."""

    def with_vae(self, file: File, name: str) -> Self:
        """This model with another autoencoder, and previews fitted to that one. All else is shared. Raises ModelError.

        name: the model's, for the sentence.
        """
        if file not in self._with_vae:
            other = copy.copy(self)
            other.vae = autoencoders.load(file, self.vae, self.device, self.dtype, name)
            other.notes = (*self.notes, *unused.sentences([other.vae]))
            other._pictures = Recent(PICTURES_HELD, lambda latents: latents.nbytes)
            other.projection = previews.fit(other._encode_pictures, other.vae_factor).to(self.device)
            while len(self._with_vae) >= VAES_KEPT:
                self._with_vae.popitem(last=False)
            self._with_vae[file] = other
        self._with_vae.move_to_end(file)
        return self._with_vae[file]

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        return self.vae.config.latent_channels

    def guided(self, recipe: Recipe) -> bool:
        """Whether the model is called with the negative prompt too: a guidance scale of 1 needs no second row."""
        return recipe.guidance_scale != 1

    def sampler(self, recipe: Recipe) -> Sampler:
        """A fresh sampler for a job."""
        return self._sampler(recipe, self._timetable(recipe))

    def _timetable(self, recipe: Recipe) -> Mapping[str, Any]:
        """The scheduler's config for a job."""
        return self.published_config if recipe.schedule == AS_PUBLISHED else self.scheduler_config

    def _sampler(
        self, recipe: Recipe, config: Mapping[str, Any], shift: float | None = None, spaced: bool = True
    ) -> Sampler:
        steps, run = recipe.steps, recipe.steps_run
        return Sampler(self.samplers, recipe.sampler, config, steps, shift, run, spaced, recipe.schedule)

    def noise(self, recipe: Recipe, generator: torch.Generator) -> Tensor:
        """Unit noise (1, c, h, w) float32, drawn on the CPU, so that a seed means the same on every device."""
        shape = (1, self.latent_channels, recipe.height // self.vae_factor, recipe.width // self.vae_factor)
        return torch.randn(shape, generator=generator).to(self.device)

    def encode_picture(self, picture: Image.Image) -> Tensor:
        """Latents (1, c, h, w) float32 of an RGB picture whose sides the model can take, which nobody may write to.

        The cells of a grid mostly begin with the same picture, so it is encoded once. It is known by its pixels.
        """
        key = picture.size, hashlib.blake2b(picture.tobytes()).digest()
        return self._pictures.get(key, lambda: self._encode_pictures(to_pixels(picture)).float())

    def beside(self, recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None) -> Tensor | None:
        """What `predict` shall be given beside the latents of a job: nothing, for most models.

        picture: RGB of the recipe's size, what the job starts from. mask: of the same size, 255 where it changes.
        """
        return None

    def guide(
        self, control: Control, file: File, name: str, picture: Image.Image, encoders: Sequence[Path] = ()
    ) -> Guide:
        """A control of a job, its model loaded. Only where `takes_controls`. Raises ModelError if it does not fit.

        picture: prepared, of the recipe's size (`studio.pictures.controls`). name: of this model, for sentences.
        encoders: folders of image encoders that an IP-Adapter may need.
        """
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Image.Image:
        """The picture of latents (1, c, h, w)."""
        mean, spread = self._latent_statistics()
        pixels = self._vae_decode((latents * spread + mean).to(self.vae.dtype))[0].float()
        pixels = (pixels / 2 + 0.5).clamp(0, 1).permute(1, 2, 0)
        return Image.fromarray((pixels * 255).round().to(torch.uint8).cpu().numpy())

    def _encode_pictures(self, pictures: Tensor) -> Tensor:
        """Latents, as the sampler sees them, of pictures (n, 3, H, W) in -1..1."""
        self.pictures_read += 1
        mean, spread = self._latent_statistics()
        return (self._vae_encode(pictures.to(self.device, self.vae.dtype)) - mean) / spread

    def _vae_encode(self, pictures: Tensor) -> Tensor:
        """The autoencoder's own latents (n, c, h, w)."""
        encoded = self.vae.encode(pictures)
        # A KL autoencoder answers with a distribution, a tiny one with the latents themselves.
        return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents

    def _vae_decode(self, latents: Tensor) -> Tensor:
        """Pictures (n, 3, H, W) in -1..1, about, of the autoencoder's own latents."""
        return self.vae.decode(latents, return_dict=False)[0]

    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of the autoencoder's latents, (1, c or 1, 1, 1): the sampler sees (latents - mean) / spread.

        Some configs name one shift and one scale for all channels, some a mean and a deviation for each of them.
        """
        config = self.vae.config
        mean = getattr(config, "latents_mean", None) or getattr(config, "shift_factor", None) or 0.0
        spread = getattr(config, "latents_std", None) or 1.0
        scale = getattr(config, "scaling_factor", None) or 1.0
        mean, spread = (torch.tensor(each, device=self.device).reshape(1, -1, 1, 1) for each in (mean, spread))
        return mean, spread / scale


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in what a model is given: one, several, a record of some, or none."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from tensors(getattr(value, each.name))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)


def sides(rows: Sequence[Row]) -> list[tuple[Row, Any]]:
    """What a call calculates for rows: each with its positive prompt, then with its negative one if it has one."""
    return [(row, each) for row in rows for each in (row.prompts.positive, row.prompts.negative) if each is not None]


def guided(
    rows: Sequence[Row], outputs: Iterable[Tensor], guide: Callable[[Tensor, Tensor, float], Tensor] | None = None
) -> list[Tensor]:
    """One output for each row from those of its `sides`, each (1, ...).

    guide: positive, negative and scale → output, for rows that have both; left out, the negative output is moved
    away from by the scale (Ho & Salimans, arXiv:2207.12598).
    """
    guide = guide or (lambda positive, negative, scale: negative + scale * (positive - negative))
    left = iter(outputs)
    results = []
    for row in rows:
        positive = next(left)
        results.append(positive if row.prompts.negative is None else guide(positive, next(left), row.guidance_scale))
    return results


def size_shift(config: Mapping[str, Any], tokens: int) -> float | None:
    """`mu` of a flow schedule for a picture of so many tokens: more pixels need more noise (arXiv:2403.03206, 5.3.2).

    config: the scheduler's; None if it does not shift with the size.
    """
    if not config.get("use_dynamic_shifting"):
        return None
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return low + (high - low) * (tokens - few) / (many - few)


def called(folder: Path, word: str) -> bool:
    """Whether a checkpoint goes by this word: its folder, its repository in the hub's cache, or its configs."""
    snapshot = folder.parent.parent if folder.parent.name == "snapshots" else folder
    names = [snapshot.name] + [
        str(read_json(folder / each).get("_name_or_path", ""))
        for each in ("model_index.json", "transformer/config.json")
    ]
    return any(word in name.lower() for name in names)


def hidden_part(recipe: Recipe, picture: Image.Image | None, mask: Image.Image | None) -> tuple[Tensor, Tensor]:
    """What inpainting checkpoints read: 1 where it is masked, (1, 1, h, w), and the pixels of the rest, (1, 3, h, w).

    Without a mask everything counts as masked: so such a checkpoint draws from words alone too.
    """
    if not (picture and mask):
        return torch.ones(1, 1, recipe.height, recipe.width), torch.zeros(1, 3, recipe.height, recipe.width)
    covered = torch.from_numpy(np.array(mask) >= 128)[None, None].float()
    return covered, to_pixels(picture) * (1 - covered)


def to_pixels(picture: Image.Image) -> Tensor:
    """(1, 3, h, w) float32 in -1..1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
