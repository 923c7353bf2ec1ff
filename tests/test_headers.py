"""What headers tell of weight files, and that no header whatsoever brings the program down."""

import json
import math
import os
import random
import struct
from pathlib import Path

import pytest

from studio.errors import ModelBroken, ModelUnsafe
from studio.files import headers
from studio.files.folders import read_json, visible
from studio.files.identity import identify
from studio.files.identity.identify import Identity
from tests import weights
from tests.weights import (
    CLIP_L,
    FLUX,
    FLUX2,
    LORA,
    QWEN,
    SD1,
    SD2,
    SD3,
    SDXL,
    VAE,
    Z_IMAGE,
    Shapes,
    below,
    unet,
)  # fmt: skip

CASES = 10_000 if os.environ.get("EMERGE_LONG_TESTS") else 400
"""Damaged files that are read: few usually, many before a release (CONTRIBUTING.md)."""


def identity(folder: Path, shapes: Shapes, name: str = "x.safetensors", hint: str = "", **options: object) -> Identity:
    path = weights.safetensors(folder / name, shapes, **options)  # type: ignore[arg-type]
    return identify.identify(headers.read(path), name, hint)


def without(shapes: Shapes, *names: str) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name not in names}


SD35_MEDIUM = {**SD3, "model.diffusion_model.joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536)}
SD35_LARGE = {
    **SD3,
    "model.diffusion_model.x_embedder.proj.weight": (2432, 16, 2, 2),
    "model.diffusion_model.joint_blocks.37.x_block.attn.qkv.weight": (7296, 2432),
}
CONVERTED_FLUX = {
    "x_embedder.weight": (3072, 64),
    "transformer_blocks.18.attn.to_q.weight": (3072, 3072),
    "single_transformer_blocks.0.proj_mlp.weight": (12288, 3072),
    "single_transformer_blocks.37.proj_mlp.weight": (12288, 3072),
}
CONVERTED_UNET = {
    "conv_in.weight": (320, 4, 3, 3),
    "time_embedding.linear_1.weight": (1280, 320),
    **{
        f"{place}.transformer_blocks.0.attn2.to_k.weight": (320, 768)
        for place in (
            *(f"down_blocks.{level}.attentions.{number}" for level in range(3) for number in range(2)),
            *("mid_block.attentions.0",),
            *(f"up_blocks.{level}.attentions.{number}" for level in range(1, 4) for number in range(3)),
        )
    },
}


@pytest.mark.parametrize(
    ("shapes", "base", "variant", "config"),
    [
        (SD1, "sd1", "", "stable-diffusion-v1"),
        (CONVERTED_UNET, "sd1", "", "stable-diffusion-v1"),
        ({**SD1, **unet(768, 9)}, "sd1", "inpainting", "stable-diffusion-v1-inpainting"),
        ({**SD1, **unet(768, 8)}, "sd1", "InstructPix2Pix", ""),
        (SD2, "sd2", "v-prediction", "stable-diffusion-v2-v"),
        ({**SD2, **unet(1024, 9)}, "sd2", "inpainting", "stable-diffusion-v2-inpainting"),
        (SDXL, "sdxl", "", "stable-diffusion-xl"),
        ({**SDXL, **unet(2048, 9)}, "sdxl", "inpainting", "stable-diffusion-xl-inpainting"),
        ({**SDXL, "v_pred": (), "ztsnr": ()}, "sdxl", "v-prediction", "stable-diffusion-xl"),
        (unet(1280, at="input_blocks.4.1"), "sdxl", "refiner", ""),
        (SD3, "sd3", "medium", "stable-diffusion-3"),
        (SD35_MEDIUM, "sd3.5", "medium", "stable-diffusion-3.5-medium"),
        (SD35_LARGE, "sd3.5", "large", "stable-diffusion-3.5-large"),
        (FLUX, "flux1", "dev", "flux-1-dev"),
        (below("model.diffusion_model.", FLUX), "flux1", "dev", "flux-1-dev"),
        (without(FLUX, "guidance_in.in_layer.weight"), "flux1", "schnell", "flux-1-schnell"),
        ({**FLUX, "img_in.weight": (3072, 384)}, "flux1", "fill", "flux-1-fill"),
        (CONVERTED_FLUX, "flux1", "schnell", "flux-1-schnell"),
        (FLUX2, "flux2", "klein 4B", "flux-2-klein"),
        ({**FLUX2, "img_in.weight": (6144, 128)}, "flux2", "dev", ""),
        (below("model.diffusion_model.", QWEN), "qwen-image", "", "qwen-image"),
        (Z_IMAGE, "z-image", "", "z-image"),
    ],
)
def test_models_are_told_apart(tmp_path: Path, shapes: Shapes, base: str, variant: str, config: str) -> None:
    found = identity(tmp_path, shapes, hint="lora")
    assert (found.kind, found.base, found.variant, found.config) == ("model", base, variant, config)
    assert found.precision == "float16" and found.parameters == sum(map(math.prod, shapes.values()))


@pytest.mark.parametrize(
    ("shapes", "kind", "base", "variant"),
    [
        (LORA, "lora", "sd1", ""),
        ({name: (8, 2048) if "down" in name else shape for name, shape in LORA.items()}, "lora", "sdxl", ""),
        ({"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (8, 3072)}, "lora", "flux1", ""),
        ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (8, 3072)}, "lora", "flux1", ""),
        ({"transformer.transformer_blocks.0.attn.add_q_proj.lora_A.weight": (8, 3072)}, "lora", "qwen-image", ""),
        ({"unet.down_blocks.0.attentions.0.attn2.to_k.lora_A.weight": (8, 768)}, "lora", "sd1", ""),
        ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 1280)}, "lora", "sdxl", ""),
        ({"lora_x_attn2_to_k.hada_w1_a": (8, 4), "lora_x_attn2_to_k.hada_w1_b": (4, 768)}, "lora", "sd1", "LoHa"),
        ({"emb_params": (4, 768)}, "embedding", "sd1", "4 tokens"),
        ({"<cat>": (768,)}, "embedding", "sd1", "1 tokens"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "embedding", "sdxl", "2 tokens"),
        ({name.removeprefix("first_stage_model."): shape for name, shape in VAE.items()}, "vae", "sd1", ""),
        (VAE, "vae", "sd1", ""),
        ({"decoder.conv_in.weight": (512, 16, 3, 3), "decoder.conv_out.weight": (3, 1)}, "vae", "flux1", ""),
        ({"decoder.conv1.weight": (384, 16, 3, 3, 3), "decoder.head.2.weight": (3, 1)}, "vae", "qwen-image", ""),
        (
            {"control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)},
            "controlnet", "sd1", "",
        ),
        ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}, "controlnet", "", ""),
        ({"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.latents": (1, 16, 768)}, "ip-adapter", "sd1", "plus"),
        (CLIP_L, "text encoder", "", "clip-l"),
        ({"shared.weight": (32128, 4096)}, "text encoder", "", "t5-xxl"),
        ({"model.embed_tokens.weight": (151936, 2560)}, "text encoder", "", "qwen3-4b"),
        ({"embed_tokens.weight": (151936, 2560)}, "text encoder", "", "qwen3-4b"),
        ({"embeddings.token_embedding.weight": (49408, 1280)}, "text encoder", "", "clip-g"),
        ({"token_embedding.weight": (49408, 1024)}, "text encoder", "", "clip-h"),
        ({"text_model.embeddings.token_embedding.weight": (49408, 512)}, "text encoder", "", "CLIP"),
        ({"shared.weight": (256384, 4096)}, "text encoder", "", "umt5-xxl"),
        ({"vision_model.embeddings.class_embedding": (1280,)}, "image encoder", "", ""),
        ({"body.0.rdb1.conv1.weight": (32, 64, 3, 3)}, "upscaler", "", ""),
        ({f"vision_model.layers.{number}": (4, 4) for number in range(9)}, "image encoder", "", ""),
        ({"head.modulation": (1, 2, 5120), "patch_embedding.weight": (5120, 16, 1, 2, 2),
          **{f"blocks.{number}.x": (4,) for number in range(9)}}, "model", "", "Wan"),
    ],
)  # fmt: skip
def test_what_goes_with_models_is_told_apart(
    tmp_path: Path, shapes: Shapes, kind: str, base: str, variant: str
) -> None:
    found = identity(tmp_path, shapes)
    assert (found.kind, found.base, found.variant) == (kind, base, variant)
    assert not found.config


@pytest.mark.parametrize(
    ("name", "metadata", "prediction", "config"),
    [
        ("v2-1_768-ema.safetensors", {}, "v_prediction", "stable-diffusion-v2-v"),
        ("v2-1_512-base.safetensors", {}, "epsilon", "stable-diffusion-v2"),
        ("sd_turbo.safetensors", {}, "epsilon", "stable-diffusion-v2"),
        ("mine.safetensors", {"modelspec.prediction_type": "epsilon"}, "epsilon", "stable-diffusion-v2"),
        ("512.safetensors", {"modelspec.prediction_type": "v"}, "v_prediction", "stable-diffusion-v2-v"),
        ("x.safetensors", {"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon", "stable-diffusion-v2"),
    ],
)
def test_what_a_model_was_trained_to_predict(
    tmp_path: Path, name: str, metadata: dict[str, str], prediction: str, config: str
) -> None:
    found = identity(tmp_path, SD2, name, metadata=metadata)
    assert (found.prediction_type, found.config) == (prediction, config)
    assert identity(tmp_path, {**SDXL, "v_pred": (), "ztsnr": ()}).zero_snr


@pytest.mark.parametrize(
    ("name", "steps"),
    [("sdxl_lightning_8step.safetensors", 8), ("sd_xl_turbo.safetensors", 4), ("base.safetensors", 0)],
)
def test_distilled_models_are_known_by_name(tmp_path: Path, name: str, steps: int) -> None:
    assert identity(tmp_path, SDXL, name).steps == steps


def test_parts_that_lie_in_a_file(tmp_path: Path) -> None:
    assert identity(tmp_path, SDXL).parts == ("unet", "vae", "text_encoder", "text_encoder_2")
    assert identity(tmp_path, unet(768)).parts == ("unet",)
    assert identity(tmp_path, FLUX).parts == ("transformer",)
    small = {**SDXL, "conditioner.embedders.1.model.token_embedding.weight": (49408, 1024)}
    assert identity(tmp_path, small).parts == ("unet", "vae", "text_encoder")


def test_what_the_metadata_tells(tmp_path: Path) -> None:
    tags = json.dumps({"10_cat": {"a cat": 10, "indoors": 3}, "5_dog": {"a dog": 7, "a cat": 1}})
    metadata = {
        "modelspec.title": "Cats", "modelspec.author": "Ann", "modelspec.license": "CC0", "ss_tag_frequency": tags,
        "modelspec.description": "Draws cats.\nAnd dogs.", "ss_base_model_version": "sdxl_base_v1-0",
        "modelspec.thumbnail": "data:image/png;base64,AAAA",
    }  # fmt: skip
    found = identity(tmp_path, LORA, metadata=metadata)
    assert (found.title, found.author, found.license) == ("Cats", "Ann", "CC0")
    assert found.notes.startswith("Draws cats.") and found.has_thumbnail
    assert found.triggers == ("a cat", "a dog", "indoors") and found.base == "sdxl"
    named = identity(tmp_path, LORA, metadata={"modelspec.trigger_phrase": "sks cat, whiskers", "ss_v2": "True"})
    assert named.triggers == ("sks cat", "whiskers") and named.base == "sd2"


@pytest.mark.parametrize("tags", ["[", "[1]", '{"a": 1}', '{"a": {"b": "x"}}', "[" * 90_000, '{"a": {"b": 1e999}}'])
def test_tags_that_are_none_are_passed_over(tmp_path: Path, tags: str) -> None:
    assert identity(tmp_path, LORA, metadata={"ss_tag_frequency": tags}).triggers == ()


def test_precisions(tmp_path: Path) -> None:
    assert identity(tmp_path, FLUX, dtype="F8_E4M3").precision == "fp8 (e4m3)"
    assert identity(tmp_path, {**FLUX, "a.quant_state.bitsandbytes__nf4": (3,)}, dtype="U8").precision == "nf4"


def test_a_gguf_is_read_too(tmp_path: Path) -> None:
    told = {"general.architecture": "flux", "general.alignment": 32, "general.name": "Mine", "tokens": ["a", "b"]}
    path = weights.gguf(tmp_path / "x.gguf", FLUX, told)
    found = identify.identify(headers.read(path), path.name)
    assert (found.base, found.variant, found.config, found.precision) == ("flux1", "dev", "flux-1-dev", "Q8_0")
    assert found.title == "Mine" and found.parameters == sum(map(math.prod, FLUX.values()))
    for size in (0, 3, 20, 100, path.stat().st_size - 40):
        os.truncate(path, size) if size < path.stat().st_size else None
        with pytest.raises(ModelBroken, match="damaged"):
            headers.read(path)
        weights.gguf(path, FLUX, told)


def entry(begin: int, end: int, **more: object) -> dict:
    return {"dtype": "F16", "shape": [(end - begin) // 2], "data_offsets": [begin, end], **more}


@pytest.mark.parametrize(
    ("header", "data", "told"),
    [
        ({"a": entry(0, 4), "b": entry(2, 6)}, 6, "overlap"),
        ({"a": entry(0, 4), "b": entry(6, 8)}, 8, "a hole"),
        ({"a": entry(0, 4)}, 8, "its tensors take 4 bytes, and there are 8"),
        ({"a": entry(0, 8)}, 4, "its tensors take 8 bytes, and there are 4"),
        ({"a": entry(0, 4, shape=[3])}, 4, "another size than its shape"),
        ({"a": entry(0, 4, shape=[-2])}, 4, "makes no sense"),
        ({"a": entry(0, 4, shape=[True, 2])}, 4, "makes no sense"),
        ({"a": entry(0, 4, shape=[10**30, 10**30])}, 4, "another size"),
        ({"a": entry(0, 4, shape=[2.0])}, 4, "makes no sense"),
        ({"a": entry(0, 4, shape="2")}, 4, "makes no sense"),
        ({"a": entry(0, 4, dtype="F17")}, 4, "unknown type"),
        ({"a": entry(0, 4, dtype=["F16"])}, 4, "unknown type"),
        ({"a": entry(0, 4, data_offsets=[4, 0])}, 4, "another size"),
        ({"a": entry(0, 4, data_offsets=[0])}, 4, "makes no sense"),
        ({"a": 1}, 0, "without its place"),
        ([1, 2], 0, "no list of tensors"),
    ],
)
def test_headers_that_lie_are_told(tmp_path: Path, header: object, data: int, told: str) -> None:
    path = weights.raw(tmp_path / "x.safetensors", json.dumps(header), b"\0" * data)
    with pytest.raises(ModelBroken, match=told):
        headers.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 100_000,
        '{"__metadata__": {"x": NaN}}',
        '{"a": {"dtype": "F16", "shape": [Infinity], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F16", "shape": [' + "9" * 10_000 + '], "data_offsets": [0, 4]}}',
        "{" + ",".join(['"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}'] * 2) + "}",
        b"\xff\xfe{}",
        "",
    ],
    ids=["deep list", "deep objects", "NaN", "infinity", "huge number", "twice", "no text", "empty"],
)
def test_headers_that_are_no_headers_are_told(tmp_path: Path, text: str | bytes) -> None:
    path = weights.raw(tmp_path / "x.safetensors", text, b"\0" * 4)
    with pytest.raises(ModelBroken, match="damaged"):
        headers.read(path)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 30_000_000, 3])
def test_absurd_lengths_are_told(tmp_path: Path, length: int) -> None:
    path = weights.raw(tmp_path / "x.safetensors", "{}", b"\0" * 10, length)
    if length == 30_000_000:
        os.truncate(path, 40_000_000)
    with pytest.raises(ModelBroken, match="damaged"):
        headers.read(path)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelBroken, match="is gone"):
        headers.read(tmp_path / "none.safetensors")
    with pytest.raises(ModelBroken, match="cannot be read"):
        headers.read(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")
        with pytest.raises(ModelBroken, match="no regular file"):
            headers.read(tmp_path / "pipe.safetensors")


def test_json_files_are_judged_alike(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in ("[" * 200_000, '{"a":' * 100_000, "9" * 10_000):
        path.write_text(text)
        with pytest.raises(ModelBroken, match="damaged"):
            read_json(path)
    with open(path, "wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(ModelBroken, match="damaged"):
        read_json(path)


def test_infinity_which_schedulers_have_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"lambda_min_clipped": -Infinity}')
    assert read_json(tmp_path / "config.json") == {"lambda_min_clipped": -math.inf}


def test_what_is_invisible_is_written_out() -> None:
    assert visible("a\u202eb\nc\x07\udcff\u2028") == r"a\u202eb\x0ac\x07\udcff\u2028"
    assert visible("two\nlines", lines=True) == "two\nlines"
    assert visible("Grüße, कीड़ा, 👩‍🎨, שלום") == "Grüße, कीड़ा, 👩‍🎨, שלום"


def test_a_pickle_that_may_be_read_is_looked_into_without_running_it(tmp_path: Path) -> None:
    import torch

    shapes = {**unet(768), "alpha": ()}
    torch.save({"state_dict": {name: torch.zeros(shape) for name, shape in shapes.items()}}, tmp_path / "x.ckpt")
    found = headers.read_pickle(tmp_path / "x.ckpt")
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == shapes
    assert identify.identify(found, "x.ckpt").base == "sd1"
    torch.save(Path("/"), tmp_path / "evil.ckpt")
    with pytest.raises(ModelUnsafe, match="more than weights"):
        headers.read_pickle(tmp_path / "evil.ckpt")
    (tmp_path / "broken.ckpt").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(ModelBroken, match="damaged"):
        headers.read_pickle(tmp_path / "broken.ckpt")


# Whatever is in a file


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The start of a file, damaged in one to four ways."""
    parts = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(parts)) if parts else 0
        way = chance.randrange(7)
        if way == 0 and parts:
            parts[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            del parts[at:]
        elif way == 2:
            parts[at:at] = chance.randbytes(chance.randint(1, 9))
        elif way == 3 and len(parts) > 8:
            parts[:8] = struct.pack("<Q", chance.choice((0, 1, 2**31, 2**63, len(parts), len(parts) + 9, at)))
        elif way == 4:
            digits = [index for index, byte in enumerate(parts) if 48 <= byte <= 57]
            if digits:
                parts[chance.choice(digits)] = chance.randrange(48, 58)
        elif way == 5:
            words = (
                b"NaN",
                b"null",
                b"-1",
                b"1e400",
                b"[[[[",
                b'{"a":',
                b"9" * 400,
                b'"\\ud800"',
                b"true",
                b"[]",
                b"{}",
            )
            old = chance.choice((b"[", b'"F16"', b'"x', b"0", b"{", b'"dtype"'))
            parts = bytearray(bytes(parts).replace(old, chance.choice(words), chance.randint(1, 3)))
        else:
            parts[at : at + chance.randint(1, 40)] = b""
    return bytes(parts)


def whole(path: Path) -> bytes:
    return path.read_bytes()


def test_no_damage_does_more_than_say_so(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    small: Shapes = {name: tuple(min(side, 5) for side in shape) for name, shape in {**SD1, **LORA}.items()}
    tags = json.dumps({"x": {"a": 1}})
    starts = [
        whole(
            weights.safetensors(tmp_path / "a.safetensors", small, {"ss_tag_frequency": tags, "modelspec.title": "T"})
        ),
        whole(weights.safetensors(tmp_path / "b.safetensors", {"emb_params": (2, 768)})),
        whole(
            weights.gguf(
                tmp_path / "c.gguf", {"img_in.weight": (4, 32)}, {"general.name": "x", "a": ["b", "c"], "n": 3}
            )
        ),
    ]
    read = told = 0
    for number in range(CASES):
        kind = number % len(starts)
        path = tmp_path / ("x.gguf" if kind == 2 else "x.safetensors")
        path.write_bytes(mutated(starts[kind], chance))
        try:
            found = identify.identify(headers.read(path), path.name)
            json.dumps([found.kind, found.title]).encode()
            read += 1
        except ModelBroken as error:
            assert str(error).startswith("The file ") and str(error).endswith(".")
            told += 1
    assert read + told == CASES and told > CASES / 2
