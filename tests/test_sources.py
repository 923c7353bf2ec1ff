"""Start pictures: every kind of file comes in right or is refused with a sentence, and what is stored stays."""

import io
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request
from PIL import Image, ImageCms, ImageDraw, ImageFile
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from studio.errors import SourceError, StorageError, StudioError
from studio.library.library import Library
from studio.pictures import sources as sources_module
from studio.pictures.sources import Source, Sources
from studio.recipe.recipe import Recipe, size_of
from studio.web import sources as web
from studio.web.bodies import Uploads

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
"""Top left, top right, bottom left, bottom right."""


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "sources")


def quarters(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Four colours, so that turning and mirroring show."""
    result = Image.new("RGB", size)
    x, y = size[0] // 2, size[1] // 2
    for colour, corner in zip(COLOURS, [(0, 0), (x, 0), (0, y), (x, y)], strict=True):
        result.paste(colour, (*corner, corner[0] + x, corner[1] + y))
    return result


def data(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    result = io.BytesIO()
    image.save(result, kind, **options)
    return result.getvalue()


def corners(image: Image.Image) -> list[Any]:
    """The colours in the middle of each quarter."""
    x, y = image.width // 4, image.height // 4
    return [image.getpixel(at) for at in ((x, y), (3 * x, y), (x, 3 * y), (3 * x, 3 * y))]


def close(found: Any, wanted: Any, levels: int = 6) -> bool:
    return bool(np.abs(np.array(found, int) - np.array(wanted, int)).max() <= levels)


def png_with_header(width: int, height: int) -> bytes:
    """A PNG file that says it has this size, with next to nothing in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def refusal(sources: Sources, content: bytes, **options: Any) -> str:
    """The sentence that a file is refused with; nothing is left on the disk."""
    with pytest.raises(SourceError) as caught:
        sources.add(content, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".") and sentence[0] in "ATW'" and "Error" not in sentence
    assert not list(sources.folder.glob("*")) if sources.folder.exists() else True
    return sentence


# What comes in


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
    ],
)
def test_every_kind_of_file(sources: Sources, kind: str, options: dict[str, Any]) -> None:
    source = sources.add(data(quarters(), kind, **options))
    assert (source.width, source.height, source.note) == (48, 32, "")
    assert size_of(source.name) == (48, 32)
    stored = sources.open(source.name)
    assert stored.mode == "RGB" and close(corners(stored), COLOURS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(sources: Sources, kind: str, orientation: int) -> None:
    upright = quarters()
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation → Pillow's operation that undoes its correction
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = sources.add(data(stored, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {"lossless": True})))
    assert (source.width, source.height, source.note) == (48, 32, "")
    assert close(corners(sources.open(source.name)), COLOURS, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_cannot_be_read_does_no_harm(sources: Sources) -> None:
    source = sources.add(data(quarters(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 40))
    assert (source.width, source.height) == (48, 32)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_large_pictures_are_turned_when_they_are_small(sources: Sources, kind: str, orientation: int) -> None:
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = quarters((8200, 40)).transpose(Image.Transpose(turns[orientation]))
    source = sources.add(data(stored, kind, exif=exif))
    assert (source.width, source.height) == (4096, 20)
    assert "scaled down from 8200x40 to 4096x20" in source.note
    assert close(corners(sources.open(source.name)), COLOURS, 40)


GREY = Image.linear_gradient("L").resize((48, 32))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(sources: Sources, kind: str) -> None:
    source = sources.add(data(quarters().convert("CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {})))
    assert close(corners(sources.open(source.name)), COLOURS, 12)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_greys(sources: Sources, kind: str) -> None:
    deep = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    stored = sources.open(sources.add(data(deep, kind)).name)
    assert stored.mode == "RGB" and (np.asarray(stored) == np.asarray(GREY)[..., None]).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
def test_scaling_down_strip_by_strip_is_scaling_down(mode: str) -> None:
    picture = Image.effect_noise((700, 1900), 80).convert("RGB").resize((701, 1901))
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture = picture.convert(mode)
    whole = sources_module._in_8_bits(picture).resize((301, 817), Image.Resampling.LANCZOS)
    parts = sources_module._scaled_down(picture, (301, 817))
    assert parts.mode == whole.mode
    if parts.mode == "RGBA":  # what is nearly transparent may have any colour
        parts, whole = (each.convert("RGBa") for each in (parts, whole))
    assert close(np.asarray(parts), np.asarray(whole), 3)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_greys_of_many_rows(sources: Sources, mode: str) -> None:
    rows = np.linspace(0, 1, 900)[:, None] * np.ones(10)
    values: dict[str, np.ndarray] = {
        "I;16": (rows * 65535).astype(np.uint16),
        "I": (rows * 70000).astype(np.int32),
        "F": rows.astype(np.float32),
    }
    image = Image.fromarray(values[mode])
    assert image.mode == mode
    stored = np.asarray(sources.open(sources.add(data(image, "TIFF")).name))
    assert close(stored[..., 0], np.round(rows * 255), 1)


def test_16_bit_colours(sources: Sources) -> None:
    """Pillow does not write these: big-endian samples, straight into the file."""
    values = (np.asarray(quarters()).astype(">u2") * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 32, 16, 2, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert corners(sources.open(sources.add(file).name)) == COLOURS


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.linspace(0, 1, 48, dtype=np.float32), 1.0),
        (np.linspace(0, 300, 48, dtype=np.float32), 300.0),
        (np.linspace(0, 65535, 48).astype(np.int32), 65535.0),
        (np.linspace(0, 2**31 - 1, 48).astype(np.int32), 2**31 - 1.0),
        (np.linspace(0, 1, 48).round().astype(np.int32), 65535.0),
    ],
)
def test_greys_of_any_range(sources: Sources, values: np.ndarray, white: float) -> None:
    image = Image.fromarray(np.tile(values, (32, 1)))
    assert image.mode in ("I", "F")
    stored = np.asarray(sources.open(sources.add(data(image, "TIFF")).name))
    assert close(stored[0, :, 0], values.astype(np.float64) / white * 255, 1)


def test_greys_that_are_no_numbers(sources: Sources) -> None:
    values = np.full((32, 48), 0.5, np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    stored = np.asarray(sources.open(sources.add(data(Image.fromarray(values), "TIFF")).name))
    assert (stored[1:] == 128).all() and (stored[0, :3] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_few_colours(sources: Sources, mode: str) -> None:
    image = quarters().convert(mode)
    source = sources.add(data(image))
    assert source.note == "" and corners(sources.open(source.name)) == corners(image.convert("RGB"))


# Transparency


def see_through(mode: str) -> bytes:
    """A file of which the left half is transparent."""
    clear = quarters()
    if mode == "P":
        indexed = clear.quantize(8)
        index = indexed.getpixel((5, 5)), indexed.getpixel((5, 25))
        indexed.info["transparency"] = bytes(0 if number in index else 255 for number in range(8))
        return data(indexed, transparency=indexed.info["transparency"])
    if mode == "RGB with a transparent colour":
        clear.paste((1, 2, 3), (0, 0, 24, 32))
        return data(clear, transparency=(1, 2, 3))
    if mode == "L with a transparent grey":
        grey = Image.new("L", (48, 32), 255)
        grey.paste(7, (0, 0, 24, 32))
        return data(grey, transparency=7)
    alpha = Image.new("L", clear.size, 255)
    alpha.paste(0, (0, 0, 24, 32))
    clear = clear.convert("LA" if mode == "LA" else "RGBA")
    clear.putalpha(alpha)
    return data(clear, "GIF" if mode == "GIF" else "WEBP" if mode == "WEBP" else "PNG")


@pytest.mark.parametrize(
    "mode", ["RGBA", "LA", "P", "GIF", "WEBP", "RGB with a transparent colour", "L with a transparent grey"]
)
@pytest.mark.parametrize("background", ["#ffffff", "#20A0e0"])
def test_transparency_is_put_on_a_colour(sources: Sources, mode: str, background: str) -> None:
    source = sources.add(see_through(mode), background)
    assert source.note == f"What was transparent is {background.lower()} now."
    stored = sources.open(source.name)
    wanted = (255, 255, 255) if background == "#ffffff" else (0x20, 0xA0, 0xE0)
    assert stored.mode == "RGB" and corners(stored)[0] == corners(stored)[2] == wanted


def test_half_transparent_is_mixed_and_opaque_is_not_spoken_of(sources: Sources) -> None:
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 51))
    assert sources.open(sources.add(data(half)).name).getpixel((5, 5)) == (204, 204, 204)
    assert sources.add(data(Image.new("RGBA", (20, 20), (9, 9, 9, 255)))).note == ""


@pytest.mark.parametrize("background", ["white", "", "#fff", "#12345g", "#1234567", "url(x)"])
def test_what_is_no_colour_is_told(sources: Sources, background: str) -> None:
    assert "is not a colour. Use one like #ffffff." in refusal(sources, data(quarters()), background=background)


# Colour profiles


def swapped_profile() -> bytes:
    """A colour profile in which red is what is green elsewhere, and the other way round."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_profile_is_applied_and_then_forgotten(sources: Sources, mode: str) -> None:
    image = quarters().convert(mode)
    source = sources.add(data(image, icc_profile=swapped_profile()))
    stored = sources.open(source.name)
    red, green, blue, white = COLOURS
    assert close(corners(stored), [green, red, blue, white], 3)
    with Image.open(sources.path(source.name)) as file:
        assert "icc_profile" not in file.info
    assert "icc_profile" not in stored.info


def test_the_profile_that_everyone_means_changes_no_pixel(sources: Sources) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.effect_noise((48, 32), 90).convert("RGB")
    stored = sources.open(sources.add(data(image, icc_profile=profile)).name)
    assert stored.tobytes() == image.tobytes()


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 200, swapped_profile()[:300]])
def test_a_profile_that_cannot_be_used_is_left_out(sources: Sources, profile: bytes) -> None:
    for image in (quarters(), quarters().convert("RGBA")):
        assert corners(sources.open(sources.add(data(image, icc_profile=profile)).name)) == COLOURS


def test_a_profile_of_other_colours_is_left_out(sources: Sources) -> None:
    cmyk = sources.add(data(quarters().convert("CMYK"), "TIFF", icc_profile=swapped_profile()))
    assert close(corners(sources.open(cmyk.name)), COLOURS, 3)
    grey = sources.add(data(GREY, icc_profile=swapped_profile()))
    assert sources.open(grey.name).mode == "RGB"


# Sizes


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(("size", "fits"), [((8200, 100), (4096, 50)), ((60, 5000), (49, 4096))])
def test_a_huge_picture_is_scaled_down_with_a_note(
    sources: Sources, kind: str, size: tuple[int, int], fits: tuple[int, int]
) -> None:
    source = sources.add(data(quarters(size), kind))
    assert (source.width, source.height) == fits == size_of(source.name)
    assert source.note == f"It was scaled down from {size[0]}x{size[1]} to {fits[0]}x{fits[1]} pixels."
    assert close(corners(sources.open(source.name)), COLOURS, 12)


def test_a_huge_photo_that_lies_on_its_side(sources: Sources) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = sources.add(data(quarters((8400, 90)), "JPEG", exif=exif))
    assert (source.width, source.height) == (44, 4096)
    assert source.note == "It was scaled down from 90x8400 to 44x4096 pixels."


def test_the_largest_and_the_smallest_that_need_no_scaling(sources: Sources) -> None:
    assert sources.add(data(Image.new("L", (4096, 8)))).note == ""
    assert sources.add(data(Image.new("L", (8, 8)))).note == ""


@pytest.fixture
def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Any) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)


@pytest.mark.usefixtures("nothing_is_decoded")
@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((30_000, 500), "The picture has 30,000 x 500 pixels, and a side can have up to 20,000. Scale it down"),
        ((500, 30_000), "500 x 30,000"),
        ((7, 300), "The picture has 7x300 pixels, and each side needs at least 8. Use a larger picture."),
        ((1, 1), "1x1"),
        ((19_000, 10), "The picture has 19,000 x 10 pixels, a strip too narrow to work with."),
        ((9_400, 9_400), ""),
        ((10_100, 10_100), "10,100 x 10,100 pixels, which is too large to be opened safely: the most is 100 million"),
        ((60_000, 60_000), "The picture is too large to be opened safely"),
        ((2**31 - 1, 2**31 - 1), "too large"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_header_is_judged_before_anything_is_decoded(sources: Sources, size: tuple[int, int], words: str) -> None:
    content = png_with_header(*size)
    if words:
        assert words in refusal(sources, content)
    else:
        with pytest.raises(SourceError, match="cut short or damaged"):
            sources.add(content)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "JPEG"])
def test_too_wide_in_any_kind_of_file(sources: Sources, kind: str) -> None:
    wide = Image.new("L", (16_383 if kind == "WEBP" else 30_000, 9))
    sentence = refusal(sources, data(wide, kind))
    assert "30,000 x 9 pixels" in sentence or (kind == "WEBP" and "too narrow" in sentence)


# What cannot be used


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty: it has 0 bytes."),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "This is a PDF, not a picture, whatever its name says."),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "This is an SVG drawing"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x --><SVG width="9"></SVG>', "This is an SVG drawing"),
        (b"<!DOCTYPE html><html><body><svg></svg>", "SVG"),
        (b"<!DOCTYPE html><html><body>", "This is a web page, not a picture."),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "This is a HEIC photo"),
        (b"hello", "This is no picture that the studio can read. Use a PNG, JPEG, WebP"),
        (bytes(5000), "This is no picture"),
        (b"\x89PNG\r\n\x1a\n", "The picture is cut short or damaged."),
        (b"\xff\xd8\xff", "The picture is cut short or damaged."),
        (b"GIF89a", "The picture is cut short or damaged."),
        (b"II*\0", "The picture is cut short or damaged."),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "This is no picture"),
    ],
)
def test_what_is_no_picture(sources: Sources, content: bytes, words: str) -> None:
    assert words in refusal(sources, content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_files_cut_short(sources: Sources, kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    content = data(noise, kind)
    sentence = refusal(sources, content[: max(16, int(len(content) * share))])
    assert "cut short or damaged" in sentence


def test_a_gif_cut_short_in_its_first_picture(sources: Sources) -> None:
    content = data(Image.effect_noise((90, 120), 80), "GIF")
    assert "cut short or damaged" in refusal(sources, content[: len(content) // 2])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_damaged_files_are_refused_or_read_and_nothing_else(sources: Sources, kind: str) -> None:
    """Bytes overwritten at random: a sentence or a picture, whatever the damage is."""
    whole, random = data(quarters(), kind), np.random.default_rng(5)
    for _ in range(60):
        content = bytearray(whole)
        for at in random.integers(0, len(content), 6):
            content[at] = random.integers(256)
        try:
            source = sources.add(bytes(content))
        except SourceError as error:
            assert str(error).endswith(".")
        else:
            assert sources.open(source.name).size == (source.width, source.height)


def test_too_little_memory_is_told(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert "too little memory" in refusal(sources, data(quarters(), "BMP"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_several_pictures_the_first_is_taken(sources: Sources, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    frames = [Image.new("RGB", (48, 32), (0, 0, 9 * number)) for number in range(3)]
    source = sources.add(data(quarters(), kind, save_all=True, append_images=frames, **options))
    pages = "Only the first page of the file is used."
    assert source.note == (pages if kind == "TIFF" else "Only the first picture of the animation is used.")
    assert close(corners(sources.open(source.name)), COLOURS, 30)


def test_a_photo_with_previews_beside_it_is_one_photo(sources: Sources) -> None:
    source = sources.add(data(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (20, 20))]))
    assert (source.width, source.note) == (48, "")


def test_several_notes_at_once(sources: Sources) -> None:
    wide = Image.new("RGBA", (5000, 20), (0, 0, 0, 0))
    source = sources.add(data(wide, "PNG", save_all=True, append_images=[Image.new("RGBA", wide.size, (1, 2, 3, 255))]))
    assert source.note == (
        "Only the first picture of the animation is used. It was scaled down from 5000x20 to 4096x16 pixels. "
        "What was transparent is #ffffff now."
    )


# Masks


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
def test_the_greys_of_a_file_are_the_mask(sources: Sources, mode: str) -> None:
    grey = GREY if mode != "1" else GREY.point([0] * 128 + [255] * 128)
    mask = sources.open(sources.add_mask(data(grey.convert(mode)), (48, 32)))
    assert mask.mode == "L" and close(np.asarray(mask), np.asarray(grey), 2 if mode == "P" else 0)


def test_16_bit_masks(sources: Sources) -> None:
    deep = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
    assert sources.open(sources.add_mask(data(deep), (48, 32))).tobytes() == GREY.tobytes()


def test_what_is_transparent_in_a_mask_is_black(sources: Sources) -> None:
    painted = Image.new("RGBA", (48, 32), (255, 255, 255, 0))
    ImageDraw.Draw(painted).rectangle((10, 10, 20, 20), fill=(255, 255, 255, 255))
    ImageDraw.Draw(painted).rectangle((30, 10, 40, 20), fill=(255, 255, 255, 100))
    mask = sources.open(sources.add_mask(data(painted), (48, 32)))
    assert [mask.getpixel(at) for at in ((0, 0), (15, 15), (35, 15))] == [0, 255, 100]


@pytest.mark.usefixtures("nothing_is_decoded")
def test_a_mask_of_another_size(sources: Sources) -> None:
    for size in ((33, 48), (48, 31), (10_000, 8_000)):
        with pytest.raises(SourceError) as caught:
            sources.add_mask(png_with_header(*size), (48, 32))
        words = f"{size[0]}x{size[1]}" if size[0] < 9999 else "10,000 x 8,000"
        assert str(caught.value) == (
            f"The mask has {words} pixels and the picture 48x32. Use a mask of the picture's size."
        )


def test_a_mask_that_lies_on_its_side(sources: Sources) -> None:
    with pytest.raises(SourceError, match="The mask has 32x48 pixels and the picture 48x32"):
        sources.add_mask(data(Image.new("L", (32, 48))), (48, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    name = sources.add_mask(data(Image.new("L", (32, 48), 255), "PNG", exif=exif), (48, 32))
    assert size_of(name) == (48, 32)


def test_a_mask_that_is_no_picture(sources: Sources) -> None:
    for content in (b"", b"%PDF-1.7", data(quarters())[:80]):
        with pytest.raises(SourceError):
            sources.add_mask(content, (48, 32))


# The store


def test_a_name_says_what_is_in_the_file(sources: Sources) -> None:
    picture = quarters()
    name = sources.add_image(picture)
    assert name == sources.add_image(picture.copy()) == sources.add(data(picture)).name
    assert name != sources.add_image(picture.transpose(Image.Transpose.ROTATE_180))
    assert name.startswith("48x32-") and len(name) == 30
    assert sources.path(name) == sources.folder / f"{name}.png"
    assert sources.open(name).tobytes() == picture.tobytes()
    assert sources.add_image(Image.new("L", (24, 24))) != sources.add_image(Image.new("RGB", (24, 8)))


def test_pictures_of_other_modes_become_rgb(sources: Sources) -> None:
    assert sources.open(sources.add_image(quarters().convert("HSV"))).mode == "RGB"


def test_a_stored_file_is_not_written_again(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    name = sources.add_image(quarters())
    monkeypatch.setattr(Sources, "_write", lambda *_: pytest.fail("written again"))
    assert sources.add_image(quarters()) == name


def test_what_is_handed_out_is_the_callers_own(sources: Sources) -> None:
    given = quarters()
    name = sources.add_image(given)
    given.paste((1, 2, 3), (0, 0, 48, 32))
    sources.open(name).paste((4, 5, 6), (0, 0, 48, 32))
    assert sources.open(name).tobytes() == quarters().tobytes()
    fresh = Sources(sources.folder)
    fresh.open(name).paste((4, 5, 6), (0, 0, 48, 32))
    assert fresh.open(name).tobytes() == quarters().tobytes()


@pytest.mark.parametrize(
    "name", ["", "nothing", "../48x32-" + 24 * "0", "48x32-" + 24 * "g", "48x32-" + 24 * "0" + "\n"]
)
def test_what_is_no_name(sources: Sources, name: str) -> None:
    for ask in (sources.open, sources.path):
        with pytest.raises(StorageError, match=r"That is not the name of a start picture\."):
            ask(name)


def test_a_picture_that_is_gone_or_damaged(sources: Sources) -> None:
    name = sources.add_image(quarters())
    fresh = Sources(sources.folder)
    sources.path(name).write_bytes(b"\x89PNG no more")
    with pytest.raises(StorageError, match=r"cannot be read: the file is damaged\."):
        fresh.open(name)
    (sources.folder / f"{name}.png").unlink()
    with pytest.raises(StorageError, match=r"^The start picture is not there any more\."):
        fresh.open(name)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def repainted(path: Path) -> None:
    quarters().transpose(Image.Transpose.ROTATE_180).save(path)


def enlarged(path: Path) -> None:
    quarters((96, 64)).save(path)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [emptied, cut, repainted, enlarged, gone])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_damaged_file_is_written_again_when_its_picture_is_brought(
    sources: Sources, damage: Callable[[Path], None], restarted: bool
) -> None:
    name = sources.add(data(quarters())).name
    path = sources.path(name)
    whole = path.read_bytes()
    damage(path)
    again = Sources(sources.folder) if restarted else sources
    if restarted or damage is gone:
        with pytest.raises(StorageError):
            again.path(name)
    else:
        assert again.path(name).read_bytes() == whole, "its pixels were still in memory"
        damage(path)
    assert again.add(data(quarters())).name == name and path.read_bytes() == whole
    assert Sources(sources.folder).open(name).tobytes() == quarters().tobytes()


def test_a_whole_file_is_looked_at_once(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    name = sources.add_image(quarters())
    fresh = Sources(sources.folder)
    fresh.path(name)
    monkeypatch.setattr(Sources, "_read", lambda *_: pytest.fail("read again"))
    fresh.path(name)
    assert fresh.add_image(quarters()) == name


def test_what_is_known_of_files_is_bounded(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "WHOLE_KEPT", 2)
    for number in range(4):
        sources.add_image(Image.new("RGB", (48, 32), (number, 0, 0)))
    assert len(sources._whole) == 2


def test_decoded_pictures_are_kept_within_bounds(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "CACHED", 3 * 4 * 48 * 32)
    names = [sources.add_image(Image.new("RGB", (48, 32), (number, 0, 0))) for number in range(4)]
    assert list(sources._decoded) == names[1:]
    sources.open(names[1])
    sources.open(names[0])
    assert list(sources._decoded) == [names[3], names[1], names[0]]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = Sources(tmp_path / "file" / "sources")
    with pytest.raises(StorageError) as caught:
        blocked.add(data(quarters()))
    assert str(tmp_path) in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(("number", "words"), [(28, "is full"), (13, "cannot be written to"), (5, "Then try again")])
def test_what_is_told_when_writing_fails(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(StorageError, match=words):
        sources.add_image(quarters())
    assert list(sources.folder.iterdir()) == []


def test_many_at_once(sources: Sources) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(sources.add(data(quarters())).name)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 8 and len(set(names)) == 1
    assert [path.name for path in sources.folder.iterdir()] == [f"{names[0]}.png"]


def test_what_nobody_uses_is_pruned(sources: Sources) -> None:
    names = [sources.add_image(Image.new("RGB", (48, 32), (number, 0, 0))) for number in range(4)]
    old, used, looked_at, young = names
    part = sources.folder / f".{old}.12ab34cd.part"
    others = [sources.folder / "photo.png", sources.folder / ".hidden.part", sources.folder / f"{old}.jpg"]
    for path in (part, *others):
        path.write_bytes(b"")
    long_ago = time.time() - 1000
    for path in (part, *others, *(sources.folder / f"{name}.png" for name in (old, used, looked_at))):
        os.utime(path, (long_ago, long_ago))
    sources.path(looked_at)
    Sources(sources.folder).prune({used}, 500)
    left = {path.name for path in sources.folder.iterdir()}
    assert left == {f"{name}.png" for name in (used, looked_at, young)} | {path.name for path in others}
    Sources(sources.folder / "nowhere").prune(set(), 0)
    Sources(sources.folder).prune(None, 0)
    assert {path.name for path in sources.folder.iterdir()} == left, "when nobody knows what is used"


# Routes


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library(tmp_path / "library")
    yield made
    made.close()


@pytest.fixture
def client(sources: Sources, library: Library) -> TestClient:
    app = FastAPI()

    @app.exception_handler(StudioError)
    def sentence(_request: Request, error: StudioError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.middleware("http")
    async def owned(request: Request, call_next: Any) -> Any:
        request.state.owner, request.state.address = "somebody", "somewhere"
        return await call_next(request)

    app.include_router(web.routes(sources, library, Uploads()))
    return TestClient(app)


def test_a_file_is_brought_in_and_shown(client: TestClient, sources: Sources) -> None:
    answer = client.post("/sources", content=data(quarters(), "BMP")).json()
    assert answer == {"name": answer["name"], "width": 48, "height": 32, "note": ""}
    shown = client.get(f"/sources/{answer['name']}.png")
    assert shown.content == sources.path(answer["name"]).read_bytes()
    assert shown.headers["content-type"] == "image/png" and "immutable" in shown.headers["cache-control"]
    assert "content-disposition" not in shown.headers
    saved = client.get(f"/sources/{answer['name']}.png?download=1")
    assert saved.headers["content-disposition"] == f'attachment; filename="{answer["name"]}.png"'


def test_a_damaged_file_is_not_shown(client: TestClient, sources: Sources) -> None:
    name = sources.add_image(quarters())
    other = Sources(sources.folder)  # as after a restart
    cut(other.path(name))
    sources._decoded.clear()
    answer = client.get(f"/sources/{name}.png")
    assert answer.status_code == 400 and "the file is damaged. Bring the picture in again." in answer.json()["error"]
    assert "immutable" not in answer.headers.get("cache-control", "")
    client.post("/sources", content=data(quarters()))
    assert client.get(f"/sources/{name}.png").status_code == 200


def test_the_colour_under_what_is_transparent(client: TestClient, sources: Sources) -> None:
    answer = client.post("/sources", params={"background": "#102030"}, content=see_through("RGBA")).json()
    assert "#102030" in answer["note"]
    assert sources.open(answer["name"]).getpixel((1, 1)) == (0x10, 0x20, 0x30)


def test_a_picture_of_the_library_is_brought_in(client: TestClient, sources: Sources, library: Library) -> None:
    picture = library.add(quarters(), Recipe(), 20)
    answer = client.post(f"/sources?picture={picture}").json()
    assert sources.open(answer["name"]).tobytes() == quarters().tobytes() and answer["note"] == ""
    missing = client.post("/sources?picture=nothing")
    assert missing.status_code == 400 and missing.json()["error"].endswith(".")
    library.get(picture).path.write_bytes(b"")
    assert client.post(f"/sources?picture={picture}").json()["error"].startswith("The file is empty")


def test_masks_are_brought_in(client: TestClient, sources: Sources) -> None:
    source = sources.add_image(quarters())
    answer = client.post(f"/sources/masks?source={source}", content=data(GREY))
    assert sources.open(answer.json()["name"]).tobytes() == GREY.tobytes()
    wrong = client.post(f"/sources/masks?source={source}", content=data(quarters((40, 40))))
    assert wrong.json()["error"].startswith("The mask has 40x40 pixels and the picture 48x32.")
    assert "not the name" in client.post("/sources/masks?source=nothing", content=data(GREY)).json()["error"]


def test_a_picture_is_extended(client: TestClient, sources: Sources) -> None:
    name = sources.add_image(quarters())
    answer = client.post(f"/sources/{name}/extended?left=16&bottom=8").json()
    source = answer["source"]
    assert (source["width"], source["height"], source["note"]) == (64, 40, "")
    assert sources.open(source["name"]).crop((16, 0, 64, 32)).tobytes() == quarters().tobytes()
    mask = sources.open(answer["mask"])
    assert (mask.size, mask.mode, mask.getpixel((0, 0)), mask.getpixel((50, 10))) == ((64, 40), "L", 255, 0)
    for query, words in (
        ("", "Nothing would be added"),
        ("left=wide", "'wide' is not a whole number of pixels."),
        ("left=2.5", "'2.5' is not a whole number of pixels."),
        ("left=-8", "not cut"),
        ("top=9000", "the most is 4,096"),
    ):
        assert words in client.post(f"/sources/{name}/extended?{query}").json()["error"]
    assert client.post("/sources/nothing/extended?left=8").status_code == 400


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7", png_with_header(30_000, 500), data(quarters())[:80]])
def test_bad_files_are_told(client: TestClient, sources: Sources, content: bytes) -> None:
    name = sources.add_image(quarters())
    for path in ("/sources", f"/sources/masks?source={name}"):
        answer = client.post(path, content=content)
        assert answer.status_code == 400 and answer.json()["error"].endswith(".")
    assert len(list(sources.folder.iterdir())) == 1


def test_a_file_that_is_too_large_is_not_taken_in(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_UPLOAD", 2**20)
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(40):
            taken += 2**18
            yield bytes(2**18)

    for path in ("/sources", "/sources/masks?source=48x32-" + 24 * "0"):
        for content in (bytes(2**21), endless()):
            answer = client.post(path, content=content)
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("The file is larger than 1 MB, the most that is taken in.")


@pytest.mark.parametrize("name", ["nothing", "..%2F..%2Fetc%2Fpasswd", "%00", "48x32-" + 24 * "0"])
def test_a_start_picture_that_is_not_there(client: TestClient, name: str) -> None:
    answer = client.get(f"/sources/{name}.png")
    assert answer.status_code in (400, 404) and "root:" not in answer.text
    if "%2F" not in name:
        assert answer.json()["error"].endswith(".")


def test_a_source_is_a_plain_value() -> None:
    assert Source("1x1-" + 24 * "0", 1, 1) == Source("1x1-" + 24 * "0", 1, 1, "")
