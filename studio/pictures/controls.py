"""What is made of a control's picture before a model reads it: edges, lines, a softened copy, a depth map.

All but the depth map need no model. Pictures in and out are RGB, of the size of the picture to be drawn.
"""

import os
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from studio import disk
from studio.errors import ModelError, RecipeError
from studio.files.folders import read_json
from studio.memory import Recent
from studio.pictures import masks
from studio.pictures.sources import Sources
from studio.recipe.recipe import KINDS, Control, Recipe, size_of

PREPARED = 16 * 2**20
"""Pixels of prepared pictures that are kept, four bytes each."""

LOW, HIGH = 100.0, 200.0
"""Canny's thresholds, those that ControlNets for it were trained with most."""

NO_DEPTH = "There is no depth model. Put one, a folder as transformers saves it, into models/depth."

SOFTENED = 4
"""What "tile" takes away: details smaller than this many pixels."""


class Preparer:
    """Prepares control pictures, and remembers the last of them. Any thread."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._done: Recent[Hashable, Image.Image] = Recent(PREPARED, lambda picture: picture.width * picture.height)
        self._depth: tuple[Path, Any] | None = None

    def of(self, control: Control, recipe: Recipe, depth: Path | None) -> Image.Image:
        """The picture that the control's model reads, in the recipe's size. Raises StorageError, ModelError.

        depth: folder of a depth model (transformers), None if there is none.
        Where only a part of a start picture is worked on, a control picture of the start picture's size is cut alike.
        """
        size = (recipe.width, recipe.height)
        alike = recipe.mask and control.kind != "ip-adapter" and size_of(control.picture) == size_of(recipe.source)
        box = recipe.part if alike else None
        return self._of(control.picture, control.kind, size, box, depth)

    def shown(self, picture: str, kind: str, depth: Path | None) -> Image.Image:
        """What a kind makes of a picture, at most 512 pixels a side, for the person. Raises as `of` does."""
        if kind not in KINDS:
            raise RecipeError(f"A control's picture can be prepared by {', '.join(KINDS)}, not {kind[:40]!r}.")
        across, down = size_of(picture)
        share = min(1.0, 512 / max(across, down))
        return self._of(picture, kind, (max(8, round(across * share)), max(8, round(down * share))), None, depth)

    def _of(
        self, picture: str, kind: str, size: tuple[int, int], box: tuple[int, int, int, int] | None, depth: Path | None
    ) -> Image.Image:
        def make() -> Image.Image:
            image = self._sources.open(picture).convert("RGB")
            if box:
                image = masks.cropped(image, box, size)
            elif kind != "ip-adapter":
                image = masks.fitted(image, *size, "crop")
            return self._prepared(image, kind, depth)

        with self._lock:
            return self._done.get((picture, kind, size, box, depth), make).copy()

    def _prepared(self, picture: Image.Image, kind: str, depth: Path | None) -> Image.Image:
        if kind == "depth":
            if depth is None:
                raise RecipeError(NO_DEPTH)
            if self._depth is None or self._depth[0] != depth:
                self._depth = depth, _depth_model(depth)
            return _depth_map(picture, depth, self._depth[1])
        if kind == "canny":
            return canny(picture)
        if kind == "scribble":
            return scribble(picture)
        return softened(picture) if kind == "tile" else picture


def canny(picture: Image.Image, low: float = LOW, high: float = HIGH) -> Image.Image:
    """White edges on black (Canny, "A computational approach to edge detection", 1986).

    low, high: bounds of the gradient of 0..255 greys, Sobel's of 3x3, as the sum of its two parts. An edge is what is
    above `high`, and what is above `low` and touches an edge.
    """
    grey = np.pad(np.asarray(picture.convert("L"), np.float32), 1, mode="edge")
    smooth_y = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    smooth_x = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    across, down = smooth_y[:, 2:] - smooth_y[:, :-2], smooth_x[2:] - smooth_x[:-2]
    strength = np.abs(across) + np.abs(down)
    edges = _ridges(strength, across, down)
    return Image.fromarray(_connected(edges & (strength > high), edges & (strength > low))).convert("RGB")


def _ridges(strength: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Where the gradient is larger than at its two neighbours along its own direction, rounded to 45 degrees."""
    padded = np.pad(strength, 1)
    height, width = strength.shape

    def beside(dy: int, dx: int) -> np.ndarray:
        return padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    direction = np.round(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    ridges = np.zeros(strength.shape, bool)
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        # Of two equal neighbours one counts, so that a step between two pixels is one line.
        larger = (strength > beside(-dy, -dx)) & (strength >= beside(dy, dx))
        ridges |= larger & (direction == number)
    return ridges


def _connected(sure: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """255 where a possible edge is connected to a sure one, eight neighbours counting. Each pixel is visited once."""
    width = sure.shape[1]
    left = np.pad(possible & ~sure, 1)
    found = np.pad(sure, 1)
    flat_left, flat_found = left.reshape(-1), found.reshape(-1)
    steps = np.array([dy * (width + 2) + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx])
    front = np.flatnonzero(flat_found)
    while len(front):
        near = np.unique(front[:, None] + steps)
        front = near[flat_left[near]]
        flat_left[front], flat_found[front] = False, True
    return found[1:-1, 1:-1].astype(np.uint8) * 255


def scribble(picture: Image.Image) -> Image.Image:
    """White lines on black where the picture is darker than around: of a photo a sketch, of a drawing its lines.

    The difference of two Gaussians (Winnemöller et al., "XDoG", 2012), with a hard threshold.
    """
    grey = picture.convert("L")
    narrow, wide = (np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32) for radius in (0.5, 5))
    return Image.fromarray(np.where(wide - narrow > 16, 255, 0).astype(np.uint8)).convert("RGB")


def softened(picture: Image.Image) -> Image.Image:
    """The picture without its finest details, which the model is to draw anew."""
    small = (max(1, picture.width // SOFTENED), max(1, picture.height // SOFTENED))
    return picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)


def _depth_model(folder: Path) -> Any:
    from transformers import AutoModelForDepthEstimation

    from studio.files import weights

    try:
        disk.check(folder)
        model = AutoModelForDepthEstimation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(
            f"The depth model in {folder} could not be read ({type(error).__name__}). Copy or download it again."
        ) from error
    weights.check(folder, model.state_dict())
    return model.eval()


def _depth_map(picture: Image.Image, folder: Path, model: Any) -> Image.Image:
    """Near is white. The model's own preprocessing: its size, its mean and deviation (preprocessor_config.json)."""
    import torch

    config = (
        read_json(folder / "preprocessor_config.json") if os.path.exists(folder / "preprocessor_config.json") else {}
    )
    wanted = config.get("size") or {}
    edge = wanted.get("shortest_edge") or 384
    size = wanted.get("width") or edge, wanted.get("height") or edge
    values = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    mean, deviation = (np.array(config.get(name) or [0.5] * 3, np.float32) for name in ("image_mean", "image_std"))
    pixels = torch.from_numpy((values - mean) / deviation).permute(2, 0, 1)[None]
    with torch.inference_mode():
        found = model(pixel_values=pixels).predicted_depth[0].float().numpy()
    low, high = float(found.min()), float(found.max())
    shares = (found - low) / (high - low) if high > low else np.zeros_like(found)
    grey = Image.fromarray((shares * 255).round().astype(np.uint8))
    return grey.resize(picture.size, Image.Resampling.BICUBIC).convert("RGB")
