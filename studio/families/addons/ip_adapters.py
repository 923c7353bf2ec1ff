"""IP-Adapters (Ye et al., arXiv:2308.06721): a picture as a prompt, read by attention layers of its own.

diffusers puts these layers into a UNet in place of its attention processors. Both sets are kept, and switched between
calls, so that a call without an IP-Adapter computes what it computed before there was one.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from studio import disk
from studio.compat import of_diffusers
from studio.errors import ModelError
from studio.families.addons.guides import Guide
from studio.files import weights
from studio.files.addons import File
from studio.files.folders import read_json

SETS_KEPT = 2
"""Combinations of IP-Adapters kept for each model; one for SD 1.5 takes 45 MB."""

PICTURES_KEPT = 32


class IpAdapters:
    """The IP-Adapters of one UNet, on its device."""

    def __init__(self, unet: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._unet, self._device, self._dtype = unet, device, dtype
        self._plain = _State.of(unet)
        self._now: tuple[File, ...] = ()
        self._sets: OrderedDict[tuple[File, ...], _State] = OrderedDict()
        self._encoder: tuple[Path, Any] | None = None
        self._read: OrderedDict[tuple[File, str], tuple[Tensor, Tensor]] = OrderedDict()

    def read(
        self, file: File, name: str, picture: Image.Image, model: str, encoders: Iterable[Path]
    ) -> tuple[Tensor, Tensor]:
        """What the adapter is given of a picture of this name, and in its place for the negative prompt.

        encoders: folders of image encoders besides those near the adapter. Raises ModelError. model: for the sentence.
        """
        if (file, name) not in self._read:
            self._set((file,), model)
            self._read[file, name] = self._encoded(file, picture, encoders)
            while len(self._read) > PICTURES_KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end((file, name))
        return self._read[file, name]

    def use(self, guides: Sequence[Guide]) -> None:
        """Let these alone work in the calls that follow, with their weights."""
        files = tuple(guide.file for guide in guides)
        if files != self._now:
            (self._set(files, guides[0].model) if files else self._plain).put_into(self._unet)
            self._now = files
        if files:
            for processor in self._unet.attn_processors.values():
                if hasattr(processor, "scale"):
                    processor.scale = [guide.weight for guide in guides]

    def embeddings(self, rows: Sequence[Sequence[Guide]], are_negative: Sequence[bool]) -> list[Tensor]:
        """One batch for each adapter: its picture in each row, or what stands in its place for a negative prompt."""
        return [
            torch.cat([guide.given[1 if negative else 0] for guide, negative in zip(column, are_negative, strict=True)])
            for column in zip(*rows, strict=True)
        ]

    def _set(self, files: tuple[File, ...], model: str) -> "_State":
        if files not in self._sets:
            try:
                for file in files:
                    disk.check(file.path)
                    weights.check_file(file.path)
                self._plain.put_into(self._unet)
                folders = [str(file.path.parent) for file in files]
                of_diffusers.ip_adapters_of(self._unet).load_ip_adapter(
                    folders,
                    subfolder=[""] * len(files),
                    weight_name=[file.path.name for file in files],
                    image_encoder_folder=None,
                    local_files_only=True,
                )
                self._sets[files] = _State.of(self._unet)
            except (MemoryError, ModelError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise ModelError(
                    f"The IP-Adapter {files[-1].name} could not be read, or does not fit {model}. "
                    "Choose one that was made for models of its kind."
                ) from error
            finally:
                self._plain.put_into(self._unet)
                self._now = ()
            while len(self._sets) > SETS_KEPT:
                self._sets.popitem(last=False)
        self._sets.move_to_end(files)
        return self._sets[files]

    def _encoded(self, file: File, picture: Image.Image, encoders: Iterable[Path]) -> tuple[Tensor, Tensor]:
        from transformers import CLIPImageProcessorPil

        with safe_open(file.path, "pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in list(tensors.keys())}
        # The plain kind reads the encoder's summary, the others its last hidden state but one.
        hidden = "image_proj.proj.weight" not in shapes
        names = ("image_proj.proj_in.weight", "image_proj.proj.0.weight") if hidden else ("image_proj.proj.weight",)
        width = next(shapes[name][-1] for name in names if name in shapes)
        near = [folder / "image_encoder" for folder in (file.path.parent, file.path.parent.parent)]
        encoder = self._image_encoder(file, (*near, *encoders), "hidden_size" if hidden else "projection_dim", width)
        side = encoder.config.image_size
        holder = of_diffusers.ip_adapters_of(self._unet)
        holder.register_modules(
            image_encoder=encoder, feature_extractor=CLIPImageProcessorPil(size=side, crop_size=side)
        )
        positive, negative = of_diffusers.encoded_picture(holder, picture, self._device, hidden)
        return positive[None].to(self._dtype), negative[None].to(self._dtype)

    def _image_encoder(self, file: File, folders: Iterable[Path], field: str, width: int) -> Any:
        for folder in folders:
            if os.path.exists(folder / "config.json") and read_json(folder / "config.json").get(field) == width:
                if self._encoder is None or self._encoder[0] != folder:
                    self._encoder = None
                    self._encoder = folder, self._loaded(folder)
                return self._encoder[1]
        raise ModelError(
            f"The IP-Adapter {file.name} needs an image encoder whose {field} is {width}. "
            "Put its folder, image_encoder, beside the adapter, or into models/clip_vision."
        )

    def _loaded(self, folder: Path) -> Any:
        from transformers import CLIPVisionModelWithProjection

        try:
            disk.check(folder)
            encoder = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=self._dtype, use_safetensors=True, local_files_only=True
            )
        except MemoryError:
            raise
        except Exception as error:
            raise ModelError(
                f"The image encoder in {folder} could not be read ({type(error).__name__}). Copy or download it again."
            ) from error
        weights.check(folder, encoder.state_dict())
        return encoder.eval().requires_grad_(False).to(self._device)


@dataclass(frozen=True)
class _State:
    """A UNet's attention processors, and what reads pictures in front of them."""

    processors: dict[str, Any]
    projection: Any
    kind: Any

    @classmethod
    def of(cls, unet: Any) -> "_State":
        # What reads the pictures may have attention of its own, which is no part of the UNet's.
        own = {name: each for name, each in unet.attn_processors.items() if not name.startswith("encoder_hid_proj")}
        return cls(own, unet.encoder_hid_proj, unet.config.encoder_hid_dim_type)

    def put_into(self, unet: Any) -> None:
        unet.encoder_hid_proj = None
        unet.set_attn_processor(dict(self.processors))
        unet.encoder_hid_proj = self.projection
        unet.config.encoder_hid_dim_type = self.kind
