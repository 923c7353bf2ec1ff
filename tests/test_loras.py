"""LoRAs and their kin: the layers that published files mean, and each kind held against weights merged by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import Tensor, nn

from studio.drawing.worker import TorchWorker
from studio.errors import ModelBroken, ModelError
from studio.families.addons import adapters
from studio.families.addons.adapters import Loras
from studio.families.addons.lora_names import DENOISERS, Names, shape
from studio.families.stable_diffusion import StableDiffusion
from studio.files.addons import File
from studio.files.identity import loras
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.words.tags import Lora
from tests import published, tiny, tiny_transformers, tiny_xl
from tests.inside import use
from tests.test_worker import draw, recipe

SETS = published.key_sets()
CONFIGS = Path(__file__).parents[1] / "assets" / "configs"
MADE_OF = {
    "sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2", "sdxl": "stable-diffusion-xl", "flux1": "flux-1-dev",
    "sd3.5": "stable-diffusion-3.5-large", "qwen-image": "qwen-image", "z-image": "z-image",
}  # fmt: skip


# Which layers a file means


def real(name: str) -> dict[str, nn.Module]:
    """The denoiser and the text encoders of a published model, without memory for their weights."""
    index, parts = json.loads((CONFIGS / name / "model_index.json").read_text()), {}
    with init_empty_weights():
        for part in (each for each in index if each in DENOISERS or each.startswith("text_encoder")):
            library, kind = index[part]
            if library == "diffusers":
                made: Any = getattr(diffusers, kind)
                parts[part] = made.from_config(made.load_config(CONFIGS / name / part))
            elif library == "transformers":
                config = transformers.AutoConfig.from_pretrained(CONFIGS / name / part)
                parts[part] = getattr(transformers, kind)(config)
    return parts


@pytest.mark.parametrize("base", MADE_OF)
def test_every_tensor_of_a_published_lora_has_its_layer(base: str) -> None:
    """In the names of kohya's scripts, PEFT, diffusers, ai-toolkit, OneTrainer, LyCORIS and XLabs, and their shapes."""
    names, seen = Names(real(MADE_OF[base])), 0
    for case in published.cases():
        if case.kind != "lora" or case.base != base or "control" in case.keys:
            continue
        tensors = SETS[case.keys]
        found, others = loras.layers(tensors)
        assert all(name.startswith(("bundle_emb.", "lora_unet_")) for name in others), case.file
        for layer, roles in found.items():
            targets = names.targets(layer)
            assert targets, (case.file, layer)
            writes, reads = sum(shape(each.module)[0] for each in targets), shape(targets[0].module)[1]
            if "up" in roles and "mid" not in roles:
                assert tensors[roles["up"]].shape[0] == writes, (case.file, layer)
                assert tensors[roles["down"]].shape[1] == reads, (case.file, layer)
        seen += 1
    assert seen


# What each kind adds

LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
NORM = "down_blocks.1.attentions.0.transformer_blocks.0.norm1"
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("loras")
    tiny.stable_diffusion(folder / "sd")
    return use(Manager([folder], device="cpu", dtype="float32"), "sd", StableDiffusion).unet


def rand(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed + sum(size))) * 0.3


def used(parts: dict[str, Any], file: Path, tensors: Tensors, weight: float = 1.0, **metadata: str) -> tuple[str, ...]:
    """Put a LoRA of these tensors onto the parts; gives what is told of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: each.clone().contiguous() for name, each in tensors.items()}, file, metadata or None)
    lora = Lora(file.stem, weight, weight, File.of(file.stem, file))
    hooked = Loras(parts, torch.float32)
    parts["loras"] = hooked  # so that it stays until the end of the test
    return hooked.use((lora,), "a model")


def given(
    layer: nn.Module, difference: Tensor | None, bias: Tensor | None = None, lengths: Tensor | None = None
) -> Any:
    """Something to give to the layer, and what one with these weights merged by hand would make of it."""
    x = rand(2, 5, layer.in_features) if hasattr(layer, "in_features") else rand(2, shape(layer)[1], 6, 6)
    weight = layer.weight.detach().clone()
    if difference is not None:
        weight += difference
    if lengths is not None:
        axes = tuple(axis for axis in range(weight.ndim) if lengths.shape[axis] == 1) if lengths.ndim > 1 else (1,)
        weight *= lengths.reshape(
            [1 if axis in axes else -1 for axis in range(weight.ndim)]
        ) / torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
    own = getattr(layer, "bias", None)
    total = own if bias is None else (bias if own is None else own + bias)
    if isinstance(layer, nn.Conv2d):
        return x, nn.functional.conv2d(x, weight, total, layer.stride, layer.padding)
    return x, nn.functional.linear(x, weight, total)


def kronecker(one: Tensor, two: Tensor) -> Tensor:
    """By the definition: each number of the one times all of the other."""
    rows = [torch.cat([value * two for value in line], 1) for line in one]
    return torch.cat(rows, 0)


def kinds(layer: nn.Module) -> dict[str, tuple[Tensors, Tensor]]:
    """Kind → the tensors of a file for this layer, and what they stand for, worked out the long way."""
    out, read = shape(layer)[:2]
    core, kernel = shape(layer)[2:], shape(layer)[2:]
    down, up = rand(4, read, *kernel), rand(out, 4, *(1,) * len(kernel))
    a1, b1, a2, b2 = rand(out, 2), rand(2, read, seed=1), rand(out, 2, seed=2), rand(2, read, seed=3)
    full = sum(torch.einsum("o,i...->oi...", up.flatten(1)[:, each], down[each]) for each in range(4))
    result = {
        "LoRA": ({"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(2.0)}, full * 0.5),
        "LoRA without alpha": ({"lora_A.weight": down, "lora_B.weight": up}, full),
        "of an adapter": ({"lora_A.default.weight": down, "lora_B.default.weight": up}, full),
        "older": ({"lora.down.weight": down, "lora.up.weight": up}, full),
        "difference": ({"diff": full}, full),
    }
    if not kernel:
        hada = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(1.0)}
        wide = {"hada_w1_a": rand(out, 16), "hada_w1_b": rand(16, read), "hada_w2_a": rand(out, 16, seed=5)}
        wide["hada_w2_b"] = rand(16, read, seed=6)
        left, right, one, two = rand(4, 4), rand(out // 4, read // 4), rand(out // 4, 2), rand(2, read // 4)
        result |= {
            "LoHa": (hada, (a1 @ b1) * (a2 @ b2) * 0.5),
            "LoHa of high rank": (
                wide,
                (wide["hada_w1_a"] @ wide["hada_w1_b"]) * (wide["hada_w2_a"] @ wide["hada_w2_b"]),
            ),
            # Without a rank its alpha means nothing.
            "LoKr": ({"lokr_w1": left, "lokr_w2": right, "alpha": torch.tensor(9.0)}, kronecker(left, right)),
            "LoKr of a product": (
                {"lokr_w1": left, "lokr_w2_a": one, "lokr_w2_b": two, "alpha": torch.tensor(1.0)},
                kronecker(left, one @ two) * 0.5,
            ),
            "LoKr of two products": (
                {"lokr_w1_a": rand(4, 3), "lokr_w1_b": rand(3, 4), "lokr_w2_a": one, "lokr_w2_b": two},
                kronecker(rand(4, 3) @ rand(3, 4), one @ two),
            ),
        }
        weight = layer.weight.detach()
        a1, a2, b1, b2 = rand(2, read, seed=7), rand(read, 2), rand(2, read, seed=8), rand(out, 2, seed=9)
        by_a = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": torch.tensor(1.0)}
        turned = {"a2.weight": a1, "a1.weight": a2, "b2.weight": b1, "b1.weight": b2, "alpha": torch.tensor(1.0)}
        of_a = (weight @ a2 @ a1 + b2 @ b1) * 0.5
        result |= {
            "GLoRA": (by_a, of_a),
            "GLoRA, the other way round": (turned, of_a),
            "IA3 of what is given": (
                {"weight": rand(out), "on_input": torch.tensor(0)},
                weight * rand(out)[:, None],
            ),
            "IA3 of what is read": ({"weight": rand(read), "on_input": torch.tensor(1)}, weight * rand(read)),
        }
    if out % 4 == 0:
        blocks, lengths, weight = rand(4, out // 4, out // 4), rand(out).abs(), layer.weight.detach()
        for most in (0.0, 0.01):
            odd = blocks - blocks.transpose(1, 2)
            odd = odd * min(1.0, most * out / odd.norm()) if most else odd
            rotations = [(torch.eye(out // 4) + each) @ torch.inverse(torch.eye(out // 4) - each) for each in odd]
            pairs = zip(rotations, weight.flatten(1).chunk(4), strict=True)
            rotated = torch.cat([rotation.T @ rows for rotation, rows in pairs]).reshape(weight.shape)
            result |= {f"OFT within {most}": ({"oft_blocks": blocks, "alpha": torch.tensor(most)}, rotated - weight)}
        longer = rotated * lengths.reshape(-1, *[1] * (weight.ndim - 1))
        rescaled = {"oft_blocks": blocks, "alpha": torch.tensor(most), "rescale": lengths}
        result |= {"OFT with lengths": (rescaled, longer - weight)}
    if kernel:
        middle, narrow = rand(4, 4, *core), rand(4, read, 1, 1)
        tucker = torch.einsum("op,pqkl,qi->oikl", up.flatten(1), middle, narrow.flatten(1))
        left, right = rand(2, 2), rand(out // 2, read // 2, *kernel)
        flat = [rand(2, read * math.prod(kernel), seed=each) for each in (1, 3)]
        taps = [kronecker(left, right[:, :, y, x]) for y in range(kernel[0]) for x in range(kernel[1])]
        result |= {
            "LoCon": ({"lora_down.weight": narrow, "lora_mid.weight": middle, "lora_up.weight": up}, tucker),
            # Without a core the kernel lies in the rows.
            "LoHa": (
                {"hada_w1_a": a1, "hada_w1_b": flat[0], "hada_w2_a": a2, "hada_w2_b": flat[1]},
                ((a1 @ flat[0]) * (a2 @ flat[1])).reshape(out, read, *kernel),
            ),
            "LoKr of a product": (
                {"lokr_w1": left, "lokr_w2_a": rand(out // 2, 2), "lokr_w2_b": rand(2, right[0].numel())},
                kronecker(left, rand(out // 2, 2) @ rand(2, right[0].numel())).reshape(out, read, *kernel),
            ),
            "LoKr": ({"lokr_w1": left, "lokr_w2": right}, torch.stack(taps, -1).reshape(out, read, *kernel)),
        }
    return result


def both() -> list[tuple[str, str]]:
    linear, convolution = nn.Linear(32, 32), nn.Conv2d(16, 16, 3)
    return [(LINEAR, kind) for kind in kinds(linear)] + [(CONVOLUTION, kind) for kind in kinds(convolution)]


@pytest.mark.parametrize(("name", "kind"), both())
@pytest.mark.parametrize("weight", [1.0, -0.4])
def test_a_layer_gives_what_one_with_merged_weights_gives(
    unet: Any, tmp_path: Path, name: str, kind: str, weight: float
) -> None:
    layer = unet.get_submodule(name)
    tensors, difference = kinds(layer)[kind]
    flat = f"lora_unet_{name.replace('.', '_')}"
    with torch.no_grad():
        x, expected = given(layer, difference * weight)
        before = layer(x)
        parts = {"unet": unet}
        assert (
            used(parts, tmp_path / "a.safetensors", {f"{flat}.{end}": each for end, each in tensors.items()}, weight)
            == ()
        )
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)
        parts["loras"].use((), "a model")
        assert torch.equal(layer(x), before)


@pytest.mark.parametrize("name", [LINEAR, CONVOLUTION])
@pytest.mark.parametrize("per", ["given", "read", "given, flat"])
def test_a_dora_has_lengths_of_its_own(unet: Any, tmp_path: Path, name: str, per: str) -> None:
    """kohya's and OneTrainer's, for either side of the weights, and PEFT's."""
    layer = unet.get_submodule(name)
    tensors, difference = kinds(layer)["LoRA"]
    sides = {"given": (0, 1), "read": (1, 0), "given, flat": (0, 1)}[per]
    lengths = rand(shape(layer)[sides[0]]).abs() + 0.5
    shaped = lengths.reshape([-1 if axis == sides[0] else 1 for axis in range(len(shape(layer)))])
    flat = f"lora_unet_{name.replace('.', '_')}"
    file = {f"{flat}.{end}": each for end, each in tensors.items()}
    file |= {f"{flat}.lora_magnitude_vector": lengths} if "flat" in per else {f"{flat}.dora_scale": shaped}
    with torch.no_grad():
        x, expected = given(layer, difference, lengths=shaped)
        own = layer(x)
        for weight in (1.0, 0.5):
            parts = {"unet": unet}
            used(parts, tmp_path / f"{weight}.safetensors", file, weight)
            # Half of it is half the way, as in stable-diffusion-webui and ComfyUI.
            torch.testing.assert_close(layer(x), own + weight * (expected - own), atol=1e-4, rtol=1e-4)
            parts["loras"].use((), "a model")


def test_biases_and_norms_are_changed_too(unet: Any, tmp_path: Path) -> None:
    norm, layer, flat = unet.get_submodule(NORM), unet.get_submodule(CONVOLUTION), "lora_unet_"
    width, bias = shape(norm)[0], rand(shape(layer)[0])
    tensors = {
        f"{flat}{NORM.replace('.', '_')}.w_norm": rand(width),
        f"{flat}{NORM.replace('.', '_')}.b_norm": rand(width, seed=1),
        f"{flat}{CONVOLUTION.replace('.', '_')}.diff_b": bias,
    }
    with torch.no_grad():
        x, expected = given(layer, None, bias)
        y = rand(2, 5, width)
        changed = nn.functional.layer_norm(
            y, (width,), norm.weight + rand(width), norm.bias + rand(width, seed=1), norm.eps
        )
        parts = {"unet": unet}
        assert used(parts, tmp_path / "a.safetensors", tensors) == ()
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(norm(y), changed, atol=1e-5, rtol=1e-5)
        parts["loras"].use((), "a model")


@pytest.mark.parametrize(
    ("told", "factor"),
    [
        ({}, 1.0),
        ({"unet.lora_alpha": 2, "unet.r": 4}, 0.5),
        ({"unet.lora_alpha": 2, "unet.r": 4, "unet.use_rslora": True}, 1.0),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {LINEAR: 6}}, 1.5),
        ({"transformer.lora_alpha": 2}, 1.0),
    ],
)
def test_a_factor_may_stand_in_the_metadata(unet: Any, tmp_path: Path, told: dict[str, Any], factor: float) -> None:
    """diffusers writes peft's configuration there; scales: peft's alpha / r, and rsLoRA's alpha / √r."""
    layer = unet.get_submodule(LINEAR)
    tensors, difference = kinds(layer)["LoRA without alpha"]
    file = {f"unet.{LINEAR}.{end}": each for end, each in tensors.items()}
    with torch.no_grad():
        x, expected = given(layer, difference * factor)
        parts = {"unet": unet}
        used(parts, tmp_path / "a.safetensors", file, lora_adapter_metadata=json.dumps(told))
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)
        parts["loras"].use((), "a model")


# Layers that their makers have as one

Build = Callable[[Path], object]


def fused(*names: str) -> Callable[[nn.Module], Tensor]:
    return lambda model: torch.cat([model.get_submodule(name).weight for name in names])


MODELS: dict[str, Build] = {
    "flux": tiny.flux,
    "sd3": tiny_transformers.stable_diffusion_3,
    "flux2": tiny_transformers.flux2,
    "qwen": tiny_transformers.qwen_image,
    "z": tiny_transformers.z_image,
}
CASES = [
    tuple(line.split())
    for line in """
flux   diffusion_model.double_blocks.0.img_attn.qkv        transformer_blocks.0.attn.      to_q to_k to_v
flux   double_blocks.0.txt_attn.qkv transformer_blocks.0.attn.  add_q_proj add_k_proj add_v_proj
flux   diffusion_model.single_blocks.0.linear1 single_transformer_blocks.0. attn.to_q attn.to_k attn.to_v proj_mlp
flux   diffusion_model.final_layer.adaLN_modulation.1      norm_out.                       linear
sd3    diffusion_model.joint_blocks.0.x_block.attn.qkv     transformer_blocks.0.attn.      to_q to_k to_v
flux2  diffusion_model.double_blocks.0.img_attn.qkv        transformer_blocks.0.attn.      to_q to_k to_v
flux2  diffusion_model.single_blocks.0.linear1             single_transformer_blocks.0.    attn.to_qkv_mlp_proj
flux2  base_model.model.transformer_blocks.0.attn.to_q     transformer_blocks.0.attn.      to_q
qwen   diffusion_model.transformer_blocks.0.img_mlp.net.2  transformer_blocks.0.img_mlp.   net.2
qwen   transformer_blocks.0.attn.to_out.0                  transformer_blocks.0.attn.      to_out.0
z      diffusion_model.layers.0.attention.qkv              layers.0.attention.             to_q to_k to_v
z      diffusion_model.layers.0.attention.out              layers.0.attention.             to_out.0
""".strip().splitlines()
]
"""A model, a layer as its makers call it, where it is in diffusers, and the layers there that it is."""


@pytest.fixture(scope="module")
def denoisers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("denoisers")
    for name, build in MODELS.items():
        build(folder / name)
    models = Manager([folder], device="cpu", dtype="float32")
    return {name: models.use(name).transformer for name in MODELS}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["LoRA", "LoHa", "LoKr", "DoRA"])
@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_a_layer_that_is_several_here_is_divided(
    denoisers: dict[str, Any], tmp_path: Path, case: tuple[str, ...], kind: str
) -> None:
    """The makers' layer gives q, k, v and so on one after another; the last norm has its two halves turned."""
    model, name, home, *parts = case
    transformer = denoisers[model]
    layers = [transformer.get_submodule(home + part) for part in parts]
    whole = nn.Linear(layers[0].in_features, sum(each.out_features for each in layers))
    tensors, difference = kinds(whole)["LoRA" if kind == "DoRA" else kind]
    order = [0, 1] if "final_layer" not in name else [1, 0]
    weights = torch.cat([each.weight for each in layers])
    weights = torch.cat([weights.chunk(2)[each] for each in order])
    merged = weights + difference
    if kind == "DoRA":
        tensors["dora_scale"] = rand(len(weights), 1).abs() + 0.5
        merged = merged * tensors["dora_scale"] / merged.norm(dim=1, keepdim=True)
    merged = torch.cat([merged.chunk(2)[each] for each in order])
    with torch.no_grad():
        held = {"transformer": transformer}
        assert used(held, tmp_path / "a.safetensors", {f"{name}.{end}": each for end, each in tensors.items()}) == ()
        x = rand(2, 5, whole.in_features)
        for layer, rows in zip(layers, merged.split([each.out_features for each in layers]), strict=True):
            torch.testing.assert_close(layer(x), nn.functional.linear(x, rows, layer.bias), atol=1e-4, rtol=1e-4)
        held["loras"].use((), "a model")


def test_a_layer_that_a_file_has_twice_counts_once(denoisers: dict[str, Any], tmp_path: Path) -> None:
    transformer = denoisers["z"]
    layer = transformer.get_submodule("layers.0.attention.to_q")
    tensors, difference = kinds(layer)["LoRA"]
    whole, _ = kinds(nn.Linear(layer.in_features, 3 * layer.out_features))["LoRA"]
    file = {f"diffusion_model.layers.0.attention.qkv.{end}": each for end, each in whole.items()}
    file |= {f"diffusion_model.layers.0.attention.to_q.{end}": each for end, each in tensors.items()}
    with torch.no_grad():
        held = {"transformer": transformer}
        used(held, tmp_path / "a.safetensors", file)
        x, expected = given(layer, difference)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)
        held["loras"].use((), "a model")


@pytest.mark.parametrize(
    "name",
    [
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_te1_text_model_encoder_layers_0_self_attn_out_proj",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
        "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.k_proj",
        "lora_te2_text_model_encoder_layers_0_self_attn_v_proj",
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc2",
        "text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc2",
        "lora_te2_text_projection",
    ],
)
def test_text_encoders_are_changed_too(tmp_path: Path, name: str) -> None:
    """In kohya's names, PEFT's and ComfyUI's; the attention of CLIP among them."""
    parts: dict[str, Any] = {"text_encoder": tiny_xl.clip(transformers.CLIPTextModel)}
    parts["text_encoder_2"] = tiny_xl.clip(transformers.CLIPTextModelWithProjection)
    part = "text_encoder_2" if "2" in name.split("text_model")[0] or "clip_g" in name else "text_encoder"
    end = name.partition("text_model_")[2] or name.partition("text_model.")[2] or "text_projection"
    flat = {path.replace(".", "_"): module for path, module in parts[part].named_modules()}
    layer = next(module for path, module in flat.items() if path.removeprefix("text_model_") == end.replace(".", "_"))
    tensors, difference = kinds(layer)["LoRA"]
    with torch.no_grad():
        assert (
            used(parts, tmp_path / "a.safetensors", {f"{name}.{each}": value for each, value in tensors.items()}) == ()
        )
        x, expected = given(layer, difference)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


# What cannot be used


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("refused")
    tiny.stable_diffusion(folder / "sd")
    tiny.flux(folder / "flux")
    return folder


@pytest.fixture(scope="module")
def worker(place: Path, tmp_path_factory: pytest.TempPathFactory) -> TorchWorker:
    models = Manager([place], device="cpu", dtype="float32")
    return TorchWorker(models, Sources(tmp_path_factory.mktemp("sources")))


def kept(place: Path, name: str, tensors: Tensors, **metadata: str) -> str:
    (place / "loras").mkdir(exist_ok=True)
    save_file(
        {each: value.clone().contiguous() for each, value in tensors.items()},
        place / "loras" / f"{name}.safetensors",
        metadata,
    )
    return f"a cat <lora:{name}>"


def test_a_damaged_lora_is_told_to_be_damaged_before_anything_is_drawn(place: Path, worker: TorchWorker) -> None:
    (place / "loras").mkdir(exist_ok=True)
    whole = place / "loras" / "whole.safetensors"
    save_file({f"unet.{LINEAR}.lora_A.weight": rand(2, 32), f"unet.{LINEAR}.lora_B.weight": rand(32, 2)}, whole)
    contents = {
        "empty": b"",
        "cut": whole.read_bytes()[:-20],
        "page": b"<!DOCTYPE html><html><body>Not found</body></html>" * 9,
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    }
    for name, content in contents.items():
        (place / "loras" / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(ModelBroken, match=rf"{name}\.safetensors is (?:damaged|a web page|a pointer)") as told:
            worker.check(recipe(prompt=f"a cat <lora:{name}>"))
        assert "bytes" not in str(told.value) or name == "cut"


@pytest.mark.parametrize(
    ("ends", "label"),
    [
        ({"oft_diag": (4, 8, 8)}, "BOFT, or OFT of PEFT"),
        ({"oft_R.weight": (4, 28)}, "BOFT, or OFT of PEFT"),
    ],
)
def test_a_kind_that_cannot_be_used_is_refused_by_its_name(
    place: Path, worker: TorchWorker, ends: dict[str, tuple[int, ...]], label: str
) -> None:
    flat = f"lora_unet_{LINEAR.replace('.', '_')}"
    prompt = kept(place, next(iter(ends)).lower(), {f"{flat}.{end}": torch.ones(size) for end, size in ends.items()})
    with pytest.raises(ModelError, match=f"is of the kind {label}, which cannot be used"):
        worker.check(recipe(prompt=prompt))


def test_what_is_no_lora_is_told(place: Path, worker: TorchWorker) -> None:
    with pytest.raises(ModelError, match="weights is no LoRA"):
        worker.check(recipe(prompt=kept(place, "weights", {"conv_in.weight": rand(4, 4, 3, 3)})))


def test_a_lora_of_another_base_is_refused_at_submit(place: Path, worker: TorchWorker) -> None:
    """By the width of what cross attention reads: 2048 in SDXL, 768 in Stable Diffusion 1.x."""
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    file = {f"{name}.lora_down.weight": rand(4, 2048), f"{name}.lora_up.weight": rand(640, 4)}
    kept(place, "xl", file)
    lora = Lora("xl", file=File.of("xl", place / "loras" / "xl.safetensors"))
    with pytest.raises(
        ModelError, match=r"LoRA xl was made for Stable Diffusion XL and does not fit sd, which is Stable"
    ):
        adapters.check(lora, "sd", "sd1")
    adapters.check(lora, "sd", "sdxl")
    # Of a model whose base is not known, only the layers tell.
    with pytest.raises(ModelError, match="made for weights of 640 x 2048"):
        worker.begin(recipe(prompt="a cat <lora:xl>"))


def test_the_layer_that_does_not_fit_is_named(place: Path, worker: TorchWorker) -> None:
    name = f"unet.{LINEAR}"
    prompt = kept(place, "wide", {f"{name}.lora_A.weight": rand(4, 48), f"{name}.lora_B.weight": rand(16, 4)})
    with pytest.raises(ModelError, match=r"weights of 16 x 48, and these are of 16 x 16, in its layer down_blocks_1"):
        worker.begin(recipe(prompt=prompt))


def test_a_control_lora_of_flux_is_refused_by_what_it_widens(place: Path, worker: TorchWorker) -> None:
    """black-forest-labs' control LoRAs give `img_in` twice as many channels to read."""
    file = {"img_in.lora_A.weight": rand(4, 128), "img_in.lora_B.weight": rand(32, 4)}
    file["double_blocks.0.img_attn.norm.key_norm.scale"] = torch.ones(8)
    with pytest.raises(ModelError, match=r"made for weights of 32 x 128.*in its layer img_in"):
        worker.begin(recipe("flux", prompt=kept(place, "control", file)))


def test_what_is_not_used_of_a_lora_is_told_with_the_picture(place: Path, worker: TorchWorker) -> None:
    pair = {"lora_A.weight": rand(4, 16), "lora_B.weight": rand(16, 4)}
    file = {f"unet.{LINEAR}.{end}": each for end, each in pair.items()}
    file |= {f"unet.{LINEAR.replace('to_q', 'to_k')}.{end}": each for end, each in pair.items()}
    file |= {f"unet.down_blocks.9.attentions.0.to_q.{end}": each for end, each in pair.items()}
    file["bundle_emb.ink.string_to_param.*"] = rand(1, 16)
    [run] = draw(worker, recipe(prompt=kept(place, "some", file)))
    assert "1 of the 3 layers of the LoRA some are not in this model, and are left out." in run.notes
    assert any("embedding inside the LoRA some is not used" in note for note in run.notes)
    file["unet.odd"] = rand(3)
    del file["bundle_emb.ink.string_to_param.*"]
    [run] = draw(worker, recipe(prompt=kept(place, "odd", file)))
    assert any("1 tensors of the LoRA odd are of a kind that is not known" in note for note in run.notes)


def test_tensors_that_are_missing_are_told(place: Path, worker: TorchWorker) -> None:
    prompt = kept(place, "half", {f"unet.{LINEAR}.lora_A.weight": rand(4, 32)})
    with pytest.raises(ModelError, match="tensors are missing beside down, in its layer down_blocks_1"):
        worker.begin(recipe(prompt=prompt))


@pytest.mark.parametrize("value", [math.nan])
def test_numbers_that_are_none_are_refused(place: Path, worker: TorchWorker, value: float) -> None:
    bad = rand(4, 32)
    bad[1, 2] = value
    prompt = kept(
        place, f"bad{value}", {f"unet.{LINEAR}.lora_A.weight": bad, f"unet.{LINEAR}.lora_B.weight": rand(32, 4)}
    )
    with pytest.raises(ModelBroken, match="holds values that are no numbers"):
        worker.begin(recipe(prompt=prompt))


def test_kinds_are_those_of_the_headers(tmp_path: Path) -> None:
    for case in published.cases():
        if case.kind == "lora":
            kind = loras.kind(SETS[case.keys])
            assert kind, case.file
            words = {
                "loha": "LoHa",
                "lokr": "LoKr",
                "glora": "GLoRA",
                "ia3": "IA³",
                "full_diff": "full difference",
                "dora": "DoRA",
            }
            expected = next((label for word, label in words.items() if word in case.file), None)
            assert expected is None or kind.label in (expected, "DoRA"), case.file
