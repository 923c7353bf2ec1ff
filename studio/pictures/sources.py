"""Start pictures and masks: files of any kind from anywhere, made into plain pictures and kept by name.

A name is the size and a part of the hash of the pixels, so the same picture is stored once, a name always means the
same pixels, the page knows a picture's size without asking, and a file that was damaged is known for it. What comes in
is untrusted: its header is judged before anything is decoded.
"""

import contextlib
import errno
import hashlib
import io
import logging
import math
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms

from studio import disk
from studio.errors import SourceError, StorageError
from studio.pictures.gate import Gate
from studio.recipe.fields import MAX_SIDE
from studio.recipe.recipe import SOURCE_NAME, size_of

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"

MIN_SIDE = 8
MAX_FILE_SIDE = 20_000
MAX_FILE_PIXELS = 100_000_000
"""A picture with more is not decoded: it would take some 400 MB of memory, and as much again to convert."""

STRIP = 256
"""Rows that are worked on at a time where numbers are larger than pixels."""

CACHED = 128 * 2**20
"""Bytes of decoded pictures held in memory."""

UNUSED_KEPT = 30 * 86400.0
"""Seconds for which a start picture that no picture of the library came from is kept after its last use."""

WHOLE_KEPT = 10_000
"""Files of which it is remembered that they were whole."""

log = logging.getLogger(__name__)

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_SIGNATURE = re.compile(rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8|BM|II\*\0|MM\0\*|....ftypavi[fs]", re.DOTALL)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each of EXIF's orientations."""

_GREYS_BEYOND_8_BITS = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, slots=True)
class Source:
    """A stored start picture.

    width, height: its pixels.
    note: sentences for the person on what was done to the file; "" if there is nothing to tell.
    """

    name: str
    width: int
    height: int
    note: str = ""


class Sources:
    """Start pictures and masks in one folder. All methods may be called from any thread.

    gate: before all that requests do with whole pictures of this folder; files that are brought in pass it here.
    Making one never fails: a folder that cannot be written is told when there is a picture to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        self.gate = Gate()
        self._lock = threading.Lock()
        self._decoded: OrderedDict[str, Image.Image] = OrderedDict()
        self._whole: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        disk.clear(self.folder)

    def add(self, data: bytes, background: str = "#ffffff") -> Source:
        """Store the picture in an untrusted file: upright, in sRGB, the longer side at most 4096 pixels.

        background: "#rrggbb", put under what is transparent. Raises SourceError if the file holds no picture that can
        be used, StorageError if it cannot be stored, Busy if too many are being opened.
        """
        if not _COLOUR.fullmatch(background):
            raise SourceError(f"{background[:40]!r} is not a colour. Use one like #ffffff.")
        file = _opened(data)
        _check_size(*file.size)
        with self.gate(file.width * file.height):
            return self._added(file, background)

    def _added(self, file: Image.Image, background: str) -> Source:
        notes = [_first_only(file)]
        size = file.size
        profile = file.info.get("icc_profile")
        picture = _decoded(file)
        if _is_turned(size, picture.size):
            size = size[::-1]
        if max(size) > MAX_SIDE:
            notes.append(f"It was scaled down from {_by(*size)} to {_by(*picture.size)} pixels.")
        colours = _in_srgb(picture, profile)
        if picture.mode == "RGBA" and _lowest(alpha := picture.getchannel("A")) < 255:
            colours = Image.composite(colours, Image.new("RGB", colours.size, background), alpha)
            notes.append(f"What was transparent is {background.lower()} now.")
        return Source(self.add_image(colours), *colours.size, " ".join(filter(None, notes)))

    def add_image(self, image: Image.Image) -> str:
        """Store a picture (RGB) or a mask (L) of our own and return its name. Raises StorageError."""
        plain = image.copy() if image.mode in ("RGB", "L") else image.convert("RGB")
        # What else the file had to say, a colour profile for one, is not true of these pixels any more.
        plain.info = {}
        name = _name(plain)
        if not self._is_whole(name):
            self._write(plain, name)
        self._used(name)
        self._remember(name, plain)
        return name

    def add_mask(self, data: bytes, size: tuple[int, int]) -> str:
        """Store the mask in an untrusted file: its greys, from black (keep) to white (change); transparent is black.

        size: width and height that it must have. Raises SourceError and StorageError as `add` does.
        """
        file = _opened(data)
        if file.size not in (size, size[::-1]):
            raise _another_size(file.size, size)
        with self.gate(file.width * file.height):
            return self._added_mask(file, size)

    def _added_mask(self, file: Image.Image, size: tuple[int, int]) -> str:
        picture = _decoded(file)
        if picture.size != size:
            raise _another_size(picture.size, size)
        mask = picture.convert("RGB").convert("L")
        if picture.mode == "RGBA":
            mask = ImageChops.multiply(mask, picture.getchannel("A"))
        return self.add_image(mask)

    def open(self, name: str) -> Image.Image:
        """The picture (RGB) or mask (L) of this name, a copy of the caller's own. Raises StorageError."""
        with self._lock:
            if name in self._decoded:
                self._decoded.move_to_end(name)
                return self._decoded[name].copy()
        self._check_there(name)
        picture = self._read(name)
        self._used(name)
        self._remember(name, picture)
        return picture.copy()

    def path(self, name: str) -> Path:
        """The file of this name, which is whole and counts as used just now. Raises StorageError if there is none."""
        self._check_there(name)
        if not self._is_whole(name):
            with self._lock:
                picture = self._decoded.get(name)
            self._write(picture or self._read(name), name)
        self._used(name)
        return self._path(name)

    def prune(self, used: Collection[str] | None, older: float) -> None:
        """Delete the files whose name is not in `used` and that nobody has used for `older` seconds.

        None means that nobody knows which are used: all stay. Files with other names are not ours and stay.
        """
        if used is None:
            return
        before = time.time() - older
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                name = entry.name.removesuffix(".png")
                ours = SOURCE_NAME.fullmatch(name) and name not in used
                with contextlib.suppress(OSError):
                    if ours and entry.stat().st_mtime < before:
                        os.unlink(entry.path)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def _check_there(self, name: str) -> None:
        """Raise StorageError if this is no name, or there is no file of it."""
        if not SOURCE_NAME.fullmatch(name):
            raise StorageError("That is not the name of a start picture.")
        if not self._path(name).is_file():
            raise StorageError("The start picture is not there any more. It may have been moved or deleted.")

    def _read(self, name: str) -> Image.Image:
        """The picture in a file, which has the pixels that its name says. Raises StorageError."""
        path = self._path(name)
        try:
            with disk.opened(path) as file, Image.open(file, formats=["PNG"]) as image:
                if image.size == size_of(name):
                    image.load()
                    picture = image.copy()
                    picture.info = {}
                    if _name(picture) == name:
                        return picture
            error: Exception = ValueError("other pixels")
        except Exception as caught:  # as in `_opened`: Pillow raises many things, as the damage is
            error = caught
        raise StorageError(
            f"The start picture {path.name} cannot be read: the file is damaged. Bring the picture in again."
        ) from error

    def _is_whole(self, name: str) -> bool:
        """Whether the file is as it was written. It is read when it is first asked for, and when it has changed."""
        stamp = _stamp(self._path(name))
        with self._lock:
            if stamp and self._whole.get(name) == stamp:
                return True
        try:
            self._read(name)
        except StorageError:
            return False
        return True

    def _used(self, name: str) -> None:
        """Mark a whole file as used just now, if the folder allows it."""
        path = self._path(name)
        with contextlib.suppress(OSError):
            os.utime(path)
        with self._lock:
            self._whole[name] = _stamp(path)
            self._whole.move_to_end(name)
            while len(self._whole) > WHOLE_KEPT:
                self._whole.popitem(last=False)

    def _write(self, image: Image.Image, name: str) -> None:
        data = io.BytesIO()
        # Little effort for a somewhat larger file: at 2048x2048 this is what takes the time.
        image.save(data, "PNG", compress_level=1)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            disk.write(self._path(name), data.getbuffer())
        except OSError as error:
            raise StorageError(_sentence(error, self.folder)) from error

    def _remember(self, name: str, image: Image.Image) -> None:
        with self._lock:
            self._decoded[name] = image
            self._decoded.move_to_end(name)
            total = sum(map(_bytes, self._decoded.values()))
            while total > CACHED:
                total -= _bytes(self._decoded.popitem(last=False)[1])


# Opening what comes from outside


def _opened(data: bytes) -> Image.Image:
    """The file with its header read and nothing decoded. Raises SourceError."""
    if not data:
        raise SourceError("The file is empty: it has 0 bytes. Choose it again, or save it anew.")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large("The picture") from None
    except Exception as error:
        # OSError, SyntaxError, ValueError, zlib.error, struct.error and more, as the damage is.
        log.debug("A file could not be opened: %r", error)
        raise SourceError(_what_it_is(data)) from error


def _what_it_is(data: bytes) -> str:
    """What to tell about a file that cannot be opened."""
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if _SIGNATURE.match(data):
        return "The picture is cut short or damaged. Download or export it again."
    if b"%pdf-" in start[:1024]:
        return "This is a PDF, not a picture, whatever its name says. Export the page as PNG and use that."
    if start.startswith(b"<") and b"<svg" in start:
        return "This is an SVG drawing, which has no pixels yet, whatever its name says. Export it as PNG and use that."
    if start.startswith((b"<!doctype html", b"<html")):
        return "This is a web page, not a picture. Save the picture itself and use that."
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
        return f"This is a HEIC photo, which the studio cannot read. Save it as {KINDS}."
    return f"This is no picture that the studio can read. Use a {KINDS} file."


def _check_size(width: int, height: int) -> None:
    """Raise SourceError if a picture of this size cannot be used."""
    what = f"The picture has {_by(width, height)} pixels"
    if max(width, height) > MAX_FILE_SIDE:
        raise SourceError(f"{what}, and a side can have up to {MAX_FILE_SIDE:,}. Scale it down or cut it first.")
    if min(width, height) < MIN_SIDE:
        raise SourceError(f"{what}, and each side needs at least {MIN_SIDE}. Use a larger picture.")
    if min(_scaled(width, height)) < MIN_SIDE:
        raise SourceError(f"{what}, a strip too narrow to work with. Cut it to a shape less long.")


def _decoded(file: Image.Image) -> Image.Image:
    """The first picture in the file, upright: mode L, RGB, RGBA or CMYK, the longer side at most 4096 pixels.

    Nothing else may be asked of the file afterwards. Raises SourceError.
    """
    size = _scaled(*file.size)
    if file.format == "JPEG" and max(file.size) > MAX_SIDE:
        # JPEG can be decoded at a half, a quarter or an eighth of its size, at a fraction of the cost.
        file.draft(None, size)
    if file.width * file.height > MAX_FILE_PIXELS:
        raise _too_large(f"The picture has {_by(*file.size)} pixels, which")
    try:
        file.load()
        turn = _turn(file)
        picture = _grey_in_8_bits(file) if file.mode in _GREYS_BEYOND_8_BITS else file
        picture = _in_8_bits(picture) if picture.size == size else _scaled_down(picture, size)
        if picture is not file:
            file.close()  # which gives up all its pixels
        return picture.transpose(turn) if turn is not None else picture
    except MemoryError:
        raise SourceError("There is too little memory to open this picture. Scale it down first.") from None
    except Exception as error:
        log.debug("A file could not be decoded: %r", error)
        raise SourceError(
            "The picture is cut short or damaged: only a part of it can be read. Download or export it again."
        ) from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright, by its EXIF. EXIF that cannot be read says nothing."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:
        log.debug("The EXIF of a picture could not be read: %r", error)
        return None


def _scaled_down(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture at a smaller size, in one of the modes of `_in_8_bits`.

    Strip by strip: where a mode must be changed first, as for transparency, a whole one takes many times its memory.
    """
    scale = image.height / size[1]
    parts = []
    for top in range(0, size[1], STRIP):
        bottom = min(top + STRIP, size[1])
        # Lanczos' filter reads three pixels of the result around each.
        first, last = max(0, int((top - 4) * scale)), min(image.height, math.ceil((bottom + 4) * scale))
        strip = _in_8_bits(image.crop((0, first, image.width, last)))
        box = (0, top * scale - first, image.width, min(bottom * scale - first, strip.height))
        parts.append((top, strip.resize((size[0], bottom - top), Image.Resampling.LANCZOS, box=box)))
    result = Image.new(parts[0][1].mode, size)
    for top, part in parts:
        result.paste(part, (0, top))
    return result


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes of 8 bits as L, RGB, CMYK, or RGBA if there is transparency."""
    if image.mode in ("RGBA", "CMYK", "L", "RGB") and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _grey_in_8_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 bits, or shares from 0 to 1; where there are larger values, the largest is white."""

    def strips() -> Iterator[tuple[int, np.ndarray]]:
        """From the top, where each begins: as numbers a whole picture takes many times its memory."""
        for top in range(0, image.height, STRIP):
            strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
            yield top, np.nan_to_num(np.asarray(strip).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)

    white = 1.0 if image.mode == "F" else 65535.0
    largest = max(white, *(float(values.max()) for _, values in strips()))
    result = np.empty((image.height, image.width), np.uint8)
    for top, values in strips():
        result[top : top + STRIP] = np.clip(values * (255 / largest) + 0.5, 0, 255)
    return Image.fromarray(result)


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours of L, RGB, RGBA or CMYK as RGB, by their colour profile if there is one that can be used."""
    try:
        if profile and (converted := _by_profile(picture, profile)):
            return converted
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        log.debug("A colour profile could not be used: %r", error)
    return picture.convert("RGB")


def _by_profile(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """Converted to sRGB; None if the profile already is sRGB, or one for other colours than these."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}.get(source.profile.xcolor_space.strip())
    if not mode or (mode == "CMYK") != (picture.mode == "CMYK"):
        return None
    if "srgb" in (source.profile.profile_description or "").lower():
        return None
    return ImageCms.profileToProfile(picture.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB")


def _first_only(file: Image.Image) -> str:
    """A sentence if the file holds more pictures than the one that is used."""
    try:
        several = bool(getattr(file, "is_animated", False))
    except Exception:  # damage farther back in the file, which does not matter to the first picture
        several = False
    if not several or file.format not in FORMATS:
        # Cameras put previews beside their photo (Pillow's format MPO), which is nothing to speak of.
        return ""
    if file.format == "TIFF":
        return "Only the first page of the file is used."
    return "Only the first picture of the animation is used."


# Small tools


def _is_turned(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one of the two sizes is upright and the other is not."""
    return (size[0] > size[1]) != (other[0] > other[1]) and size[0] != size[1]


def _scaled(width: int, height: int) -> tuple[int, int]:
    """The size with its longer side brought down to the most that a recipe takes."""
    scale = min(1.0, MAX_SIDE / max(width, height))
    return round(width * scale), round(height * scale)


def _by(width: int, height: int) -> str:
    return f"{width:,} x {height:,}" if max(width, height) > 9999 else f"{width}x{height}"


def _too_large(what: str) -> SourceError:
    return SourceError(
        f"{what} is too large to be opened safely: the most is {MAX_FILE_PIXELS // 10**6} million pixels. "
        "Scale it down first."
    )


def _another_size(given: tuple[int, int], wanted: tuple[int, int]) -> SourceError:
    return SourceError(
        f"The mask has {_by(*given)} pixels and the picture {_by(*wanted)}. Use a mask of the picture's size."
    )


def _lowest(channel: Image.Image) -> float:
    lowest = channel.getextrema()[0]
    return lowest if isinstance(lowest, int | float) else lowest[0]


def _bytes(image: Image.Image) -> int:
    """What Pillow holds in memory for an image: four bytes for a pixel in colour."""
    return image.width * image.height * (1 if image.mode == "L" else 4)


def _name(image: Image.Image) -> str:
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return f"{image.width}x{image.height}-{digest.hexdigest()[:24]}"


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes whenever the file does; empty if there is none."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _sentence(error: OSError, folder: Path) -> str:
    """What to tell the person when a start picture cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk with the folder {folder} is full. Make room on it, then try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"The folder {folder} cannot be written to. Allow writing there, or start the studio with another "
            "--output-folder."
        )
    return f"The start picture could not be written to {folder}: {error.strerror or error}. Then try again."
