"""ControlNets (Zhang et al., arXiv:2302.05543): copies of a UNet's first half that read a picture too."""

import json
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio import disk
from studio.errors import ModelError
from studio.families import placement
from studio.families.addons.guides import Guide
from studio.files import unused, weights
from studio.files.addons import File
from studio.files.folders import read_json

KEPT = 3
"""ControlNets that stay in memory; beyond it, the one used longest ago leaves. One for SD 1.5 takes 0.7 GB."""


class ControlNets:
    """The ControlNets of one UNet, on its device. channels: of the latents."""

    def __init__(self, unet: Any, channels: int, device: torch.device, dtype: torch.dtype) -> None:
        self._unet, self._channels, self._device, self._dtype = unet, channels, device, dtype
        self._loaded: OrderedDict[File, Any] = OrderedDict()

    def use(self, file: File, model: str) -> Any:
        """The ControlNet, loaded if it must be. Raises ModelError if it does not fit. model: for the sentence."""
        if file not in self._loaded:
            try:
                disk.check(file.path)
                net = self._from_folder(file) if file.path.is_dir() else self._from_file(file)
            except (MemoryError, ModelError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise ModelError(
                    f"The ControlNet {file.name} could not be read, or does not fit {model} ({type(error).__name__}). "
                    "Choose one that was made for models of its kind."
                ) from error
            ours, theirs = self._unet.config, net.config
            if any(ours[name] != theirs[name] for name in ("cross_attention_dim", "block_out_channels")):
                raise ModelError(
                    f"The ControlNet {file.name} was made for another kind of model than {model}. "
                    "Choose one that was made for models of its kind."
                )
            weights.check(file.path, net.state_dict())
            placement.place({"unet": net.eval().requires_grad_(False)}, self._device, placement.Plan(self._dtype, 0))
            while len(self._loaded) >= KEPT:
                self._loaded.popitem(last=False)
            self._loaded[file] = net
        self._loaded.move_to_end(file)
        return self._loaded[file]

    def residuals(
        self, guides: Sequence[Sequence[Guide]], sample: Tensor, timesteps: Tensor, conditioning: dict[str, Any]
    ) -> dict[str, Any]:
        """What the UNet is given: the sum of what the ControlNets say. Empty if there are none.

        guides: for each row of the sample (n, c, h, w), the same ControlNets in the same order.
        """
        down: list[Tensor] = []
        middle: Tensor | None = None
        for column in zip(*guides, strict=True):
            net = self.use(column[0].file, column[0].model)
            weights = torch.tensor([guide.weight for guide in column], device=sample.device, dtype=sample.dtype)
            samples, last = net(
                sample,
                timesteps,
                controlnet_cond=torch.cat([guide.given for guide in column]).to(sample.device, sample.dtype),
                conditioning_scale=weights[:, None, None, None],
                return_dict=False,
                **conditioning,
            )
            down = [one + more for one, more in zip(down, samples, strict=True)] if down else list(samples)
            middle = last if middle is None else middle + last
        if middle is None:
            return {}
        return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}

    def _from_folder(self, file: File) -> Any:
        from diffusers import ControlNetModel  # a second's import, which few need

        kind = read_json(file.path / "config.json").get("_class_name")
        if kind != "ControlNetModel":
            raise ModelError(f"{file.name} is a {kind!s:.60}, which is no ControlNet that can be used here.")
        net, told = ControlNetModel.from_pretrained(
            file.path, torch_dtype=self._dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        net.unused = unused.sentence(file.name, told["unexpected_keys"])
        return net

    def _from_file(self, file: File) -> Any:
        from diffusers import ControlNetModel

        # A file has no config; the UNet's own says what it must be to fit.
        with tempfile.TemporaryDirectory() as folder, torch.device("meta"):
            ControlNetModel.from_unet(self._unet, load_weights_from_unet=False).save_config(folder)
            config = Path(folder) / "config.json"
            config.write_text(json.dumps({**read_json(config), "in_channels": self._channels}))
            with torch.device("cpu"), unused.heard() as odd:
                net = ControlNetModel.from_single_file(
                    str(file.path), config=folder, torch_dtype=self._dtype, local_files_only=True
                )
        net.unused = unused.of_file(file.name, file.path, net, odd)
        return net
