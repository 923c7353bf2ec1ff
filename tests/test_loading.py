"""Single files: the same model as the folder they were made from, offline, and a sentence for all that can be wrong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio.drawing.worker import TorchWorker
from studio.errors import ModelBroken, ModelError, ModelUnsafe
from studio.files import weights
from studio.files.identity.identify import Identity
from studio.files.identity.parts import CONFIGS, NEEDS, PARTS, size_of
from studio.models import catalog, loading
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from tests import original, tiny, tiny_transformers

SD = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
FLUX = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "transformer", "vae", "scheduler")


def configs(folder: Path, goal: Path) -> Path:
    """A folder's configs and tokenizers without its weights, as in assets/configs."""
    shutil.copytree(folder, goal, ignore=shutil.ignore_patterns("*.safetensors"))
    return goal


@pytest.fixture(scope="module")
def sd(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The tiny Stable Diffusion as a single file."""
    home = tmp_path_factory.mktemp("single")
    return entry(models_folder / "sd", original.stable_diffusion(models_folder / "sd", home / "sd.safetensors"), home)


def scanned(folder: Path) -> Entry:
    """What the catalog says of a diffusers folder."""
    return next(each for each in catalog.scan([folder.parent]) if each.path == folder)


def entry(folder: Path, file: Path, home: Path) -> Entry:
    """What a scan says of a file that was made from a folder: its own configs instead of published ones."""
    described = scanned(folder)
    return Entry(
        file.name,
        file,
        family=described.family,
        parameters=described.parameters,
        facts=described.facts,
        config=configs(folder, home / f"configs of {file.stem}"),
        single=True,
    )


def load(each: Entry, needed: tuple[str, ...] = SD, dtype: torch.dtype = torch.float32, **more: Any) -> dict[str, Any]:
    return loading.load_parts(each, needed, dtype, lambda read, size: None, **more)


def folder_parts(folder: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    return load(Entry(folder.name, folder, config=folder), needed)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_same(parts: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, part in expected.items():
        if isinstance(part, torch.nn.Module):
            assert same(parts[name], part), name
            assert not parts[name].training and not any(each.requires_grad for each in parts[name].parameters())
        elif name == "scheduler":
            assert parts[name] == part


def picture(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> bytes:
    if entries:
        monkeypatch.setattr(catalog.Catalog, "everything", lambda self: list(entries))
    worker = TorchWorker(Manager([folder], "cpu", "float32"), Sources(folder / "sources"))
    worker.load(name, lambda read, size: None)
    run = worker.begin(Recipe(model=name, prompt="a red apple", width=64, height=64, steps=3, sampler="Euler"))
    while run.done < run.total:
        worker.step([run])
    return worker.decode(run).tobytes()


def test_a_single_file_draws_the_picture_of_its_folder(
    sd: Entry, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_folder = picture(models_folder, "sd", monkeypatch)
    assert picture(models_folder, "sd.safetensors", monkeypatch, sd) == from_folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_those_of_the_folder_in_every_type(sd: Entry, models_folder: Path, dtype: torch.dtype) -> None:
    parts, expected = load(sd, dtype=dtype), folder_parts(models_folder / "sd", SD)
    assert_same(parts, {name: part.to(dtype) if hasattr(part, "to") else part for name, part in expected.items()})


@pytest.mark.parametrize("home", ["diffusion_model.", "unet."])
def test_a_denoiser_lies_below_any_of_the_names_that_people_use(sd: Entry, tmp_path: Path, home: str) -> None:
    state = {name.replace("model.diffusion_model.", home): tensor for name, tensor in load_file(sd.path).items()}
    original.save(tmp_path / "other.safetensors", state)
    assert_same(load(replace(sd, path=tmp_path / "other.safetensors"), ("unet",)), load(sd, ("unet",)))


def test_types_change_on_the_way_as_torch_would_change_them(tmp_path: Path) -> None:
    given = {"a": torch.randn(600_000).half(), "b": torch.randn(3, 5), "c": torch.arange(4), "d": torch.tensor(2.5)}
    original.save(tmp_path / "a.safetensors", given)
    stored = weights.header(tmp_path / "a.safetensors")
    for dtype in (torch.float32, torch.float16, torch.bfloat16, None):
        for mapped in (False, True):
            found = weights.read(tmp_path / "a.safetensors", stored, dtype, mapped=mapped)
            for name, tensor in given.items():
                goal = tensor.dtype if name == "c" or dtype is None else dtype
                assert torch.equal(found[name], tensor.to(goal)) and found[name].dtype == goal


def test_second_generation_text_encoders_come_in_openclips_names(models_folder: Path, tmp_path: Path) -> None:
    file = original.stable_diffusion(models_folder / "sd", tmp_path / "sd2.safetensors", open_clip_names=True)
    single = entry(models_folder / "sd", file, tmp_path)
    assert_same(load(single), folder_parts(models_folder / "sd", SD))


def test_first_models_lack_a_part_of_the_text_encoders_names(sd: Entry, models_folder: Path, tmp_path: Path) -> None:
    state = load_file(sd.path)
    older = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in state.items()}
    original.save(tmp_path / "nai.safetensors", older)
    assert_same(load(entry(models_folder / "sd", tmp_path / "nai.safetensors", tmp_path)), load(sd))


def test_inpainting_and_a_diffusers_unet_alone(models_folder: Path, tmp_path: Path) -> None:
    file = original.stable_diffusion(models_folder / "inpaint", tmp_path / "inpaint.safetensors")
    whole = load(entry(models_folder / "inpaint", file, tmp_path))
    assert whole["unet"].config.in_channels == 9
    shutil.copy(models_folder / "inpaint" / "unet" / "diffusion_pytorch_model.safetensors", tmp_path / "u.safetensors")
    apart = load(entry(models_folder / "inpaint", tmp_path / "u.safetensors", tmp_path), ("unet",))
    assert same(apart["unet"], whole["unet"])


def test_the_two_text_encoders_of_sdxl_are_told_apart(tmp_path: Path) -> None:
    folder = sdxl(tmp_path / "xl")
    file = original.stable_diffusion_xl(folder, tmp_path / "xl.safetensors")
    home = configs(folder, tmp_path / "configs")
    single = Entry("xl", file, family="Stable Diffusion XL", config=home, single=True)
    needed = ("text_encoder", "text_encoder_2", "unet", "vae", "scheduler")
    assert_same(load(single, needed), folder_parts(folder, needed))


def test_what_is_known_of_a_file_is_drawn(
    sd: Entry, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that says velocity and zero terminal SNR draws what a folder draws whose scheduler's config says so."""
    folder = Path(shutil.copytree(models_folder / "sd", tmp_path / "sd"))
    config = folder / "scheduler" / "scheduler_config.json"
    known = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    config.write_text(json.dumps(json.loads(config.read_text()) | known))
    expected = picture(tmp_path, "sd", monkeypatch)
    told = replace(sd, identity=Identity(base="sd1", prediction_type="v_prediction", zero_snr=True))
    assert picture(tmp_path, sd.name, monkeypatch, told) == expected
    assert picture(tmp_path, sd.name, monkeypatch, sd) != expected


def sdxl(folder: Path) -> Path:
    """A Stable Diffusion XL of some thousand weights: a UNet that also reads sizes and a pooled text."""
    torch.manual_seed(3)
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=40,
        attention_head_dim=8,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=72,
        use_linear_projection=True,
        transformer_layers_per_block=2,
    )
    second = transformers.CLIPTextModelWithProjection(
        transformers.CLIPTextConfig(
            vocab_size=len(tiny.WORDS),
            hidden_size=24,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
            projection_dim=24,
        )
    )
    tiny._save(
        folder,
        "StableDiffusionXLPipeline",
        unet=unet,
        text_encoder=tiny._clip(),
        text_encoder_2=second,
        vae=tiny._vae(),
    )
    tiny._scheduler(folder, "EulerDiscreteScheduler", num_train_timesteps=1000)
    return folder


@pytest.fixture
def flux(models_folder: Path, tmp_path: Path) -> Entry:
    """The tiny FLUX.1 as people have it: the transformer alone, and what it lacks in the models folder beside it."""
    folder, home = models_folder / "flux", tmp_path / "models"
    companions: dict[str, Path] = {}
    for name, file, state in (
        ("transformer", "unet/flux1-dev", original.part(folder, "transformer")),
        ("text_encoder", "text_encoders/clip_l", original.clip(original.part(folder, "text_encoder"))),
        ("text_encoder_2", "text_encoders/t5xxl_fp16", original.part(folder, "text_encoder_2")),
        ("vae", "vae/ae", original.vae(original.part(folder, "vae"))),
    ):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        prefix = "model.diffusion_model." if name == "transformer" else ""
        companions[name] = original.save(home / f"{file}.safetensors", original.under(prefix, state))
    alone = entry(folder, companions.pop("transformer"), tmp_path)
    return replace(alone, companions=tuple(companions.items()))


def test_parts_that_a_file_lacks_are_read_from_its_companions(flux: Entry, models_folder: Path) -> None:
    parts = load(flux, FLUX)
    assert_same(parts, folder_parts(models_folder / "flux", FLUX))
    count = loading.weigh(flux, FLUX)
    assert sum(count.values()) == sum(loading.weigh(Entry("f", models_folder / "flux"), FLUX).values())


def test_companions_may_be_folders_of_shards(flux: Entry, models_folder: Path, tmp_path: Path) -> None:
    whole = folder_parts(models_folder / "flux", FLUX)
    companions = dict(flux.companions)
    for part in ("text_encoder", "text_encoder_2", "vae"):
        companions[part] = tmp_path / "shards" / part
        whole[part].save_pretrained(companions[part], max_shard_size="2KB")
        assert len(list(companions[part].glob("*.safetensors"))) > 1
    sharded = replace(flux, companions=tuple(companions.items()))
    assert_same(load(sharded, FLUX), whole)
    assert loading.weigh(sharded, FLUX) == loading.weigh(flux, FLUX)


@pytest.mark.parametrize("make", [tiny_transformers.z_image, tiny_transformers.flux2, tiny_transformers.qwen_image])
def test_language_models_are_read_from_folders_of_their_own(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """With the names that transformers gives them: with the model's own prefix, and without it."""
    folder = make(tmp_path / "folder")
    denoiser = next((folder / "transformer").glob("*.safetensors"))
    companions = tuple((part, folder / part) for part in ("text_encoder", "vae"))
    single = Entry("x", denoiser, config=folder, single=True, companions=companions)
    assert_same(load(single, ("text_encoder", "vae")), folder_parts(folder, ("text_encoder", "vae")))


def test_a_companion_that_became_something_else_is_named(flux: Entry, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "models/vae/ae.safetensors", tmp_path / "models/text_encoders/clip_l.safetensors")
    with pytest.raises(ModelBroken, match=r"text_encoder that .* needs is not in .*clip_l.safetensors any more"):
        load(flux, FLUX)
    (tmp_path / "models/vae/ae.safetensors").unlink()
    with pytest.raises(ModelBroken, match=r"vae.ae.safetensors is gone"):
        load(flux, ("transformer", "vae"))


def test_flux_in_its_publishers_names_fills_every_parameter() -> None:
    """At the real width, which diffusers' converter takes for granted, on tensors without content."""
    from diffusers import FluxTransformer2DModel
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=2, num_single_layers=2, guidance_embeds=True)
    state = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    published = original.flux(state, 2, 2)
    back = convert_flux_transformer_checkpoint_to_diffusers(dict(published))
    assert {name: tensor.shape for name, tensor in back.items()} == {name: each.shape for name, each in state.items()}


def test_flux_2s_autoencoder_keeps_its_statistics(tmp_path: Path) -> None:
    from diffusers import AutoencoderKLFlux2

    torch.manual_seed(7)
    model = AutoencoderKLFlux2(
        block_out_channels=(4, 8, 8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip
    model.bn.running_mean.copy_(torch.randn(model.bn.running_mean.shape))
    model.save_pretrained(tmp_path / "config" / "vae")
    index = {"_class_name": "Flux2KleinPipeline", "vae": ["diffusers", "AutoencoderKLFlux2"]}
    (tmp_path / "config" / "model_index.json").write_text(json.dumps(index))
    state = model.state_dict()
    own = {name: tensor for name, tensor in state.items() if name.startswith("bn.")}
    named = original.vae({name: tensor for name, tensor in state.items() if name not in own})
    original.save(tmp_path / "flux2-vae.safetensors", named, own)
    single = Entry("vae", tmp_path / "flux2-vae.safetensors", config=tmp_path / "config", single=True)
    assert same(load(single, ("vae",))["vae"], model)


def test_float8_is_widened_and_scaled(sd: Entry, models_folder: Path, tmp_path: Path) -> None:
    state = load_file(sd.path)
    given, expected = dict(state), dict(state)
    for name, tensor in state.items():
        if name.startswith("model.diffusion_model.") and tensor.dim() == 2:
            given[name] = (tensor / 0.5).to(torch.float8_e4m3fn)
            given[name.removesuffix("weight") + "scale_weight"] = torch.tensor(0.5)
            expected[name] = given[name].float() * 0.5
    given["model.diffusion_model.scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    original.save(tmp_path / "fp8.safetensors", given)
    original.save(tmp_path / "plain.safetensors", expected)
    parts = [load(entry(models_folder / "sd", tmp_path / f"{name}.safetensors", tmp_path)) for name in ("fp8", "plain")]
    assert_same(parts[0], parts[1])
    assert not same(parts[0]["unet"], load(sd)["unet"])


def test_gguf_goes_through_diffusers_quantizer(flux: Entry, models_folder: Path, tmp_path: Path) -> None:
    """Quantised blocks of 32: what comes out is near the folder's answer, and exactly what the blocks say."""
    import gguf
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(5)
    model = FluxTransformer2DModel(
        in_channels=32, num_layers=1, num_single_layers=1, attention_head_dim=32, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(8, 8, 16),
    )  # fmt: skip
    model.save_pretrained(tmp_path / "config" / "transformer")
    (tmp_path / "config" / "model_index.json").write_text(
        json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]})
    )
    writer = gguf.GGUFWriter(str(tmp_path / "flux-Q8_0.gguf"), "flux")
    for name, tensor in model.state_dict().items():
        kind = gguf.GGMLQuantizationType.Q8_0 if tensor.dim() == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    single = Entry("q", tmp_path / "flux-Q8_0.gguf", config=tmp_path / "config", single=True)
    found = load(single, ("transformer",))["transformer"]
    inputs = {
        "hidden_states": torch.randn(1, 4, 32),
        "encoder_hidden_states": torch.randn(1, 3, 32),
        "pooled_projections": torch.randn(1, 32),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(3, 3),
    }
    with torch.inference_mode():
        near, exact = found(**inputs).sample, model(**inputs).sample
    assert 0 < (near - exact).abs().max() < 0.05 * exact.abs().max()


def as_gguf(path: Path, module: torch.nn.Module, architecture: Any, layers: int, prefix: str = "") -> Path:
    """The module's weights as llama.cpp writes them: in its names, matrices in blocks of 8 bits where these fit."""
    import gguf

    names = gguf.get_tensor_name_map(architecture, layers)
    writer = gguf.GGUFWriter(str(path), gguf.MODEL_ARCH_NAMES[architecture])
    written: dict[str, Any] = {}
    for name, tensor in module.state_dict().items():
        if known := names.get_name(prefix + name, (".weight", ".bias")):  # none for T5's second name of one table
            written[known] = tensor.numpy()
    for name, values in written.items():
        blocks = values.ndim == 2 and values.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if blocks else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_t5_as_gguf_is_read_for_flux(flux: Entry, models_folder: Path, tmp_path: Path) -> None:
    import gguf
    from transformers import T5Config, T5EncoderModel

    config = shutil.copytree(models_folder / "flux", tmp_path / "config")
    sizes = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 2, "vocab_size": 16}
    torch.manual_seed(5)
    t5 = T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")).eval()
    t5.save_pretrained(config / "text_encoder_2")
    path = as_gguf(tmp_path / "t5-Q8_0.GGUF", t5, gguf.MODEL_ARCH.T5ENCODER, 2)
    companions = dict(flux.companions) | {"text_encoder_2": path}
    packed = replace(flux, config=config, companions=tuple(companions.items()))
    parts = load(packed, FLUX)
    expected = folder_parts(models_folder / "flux", FLUX)
    del expected["text_encoder_2"]
    assert_same(parts, expected)
    ids = torch.tensor([[1, 5, 2, 7]])
    with torch.inference_mode():
        near, exact = (each(input_ids=ids).last_hidden_state for each in (parts["text_encoder_2"], t5))
    assert 0 < (near - exact).abs().max() < 0.05 * exact.abs().max()  # 8 bits a weight lose a little
    assert loading.weigh(packed, FLUX)["text_encoder_2"] == sum(each.numel() for each in t5.parameters())


def test_a_qwen3_as_gguf_is_read_for_z_image(tmp_path: Path) -> None:
    """This one is so small that nothing of it fits into blocks, so nothing is lost."""
    import gguf

    folder = tiny_transformers.z_image(tmp_path / "folder")
    denoiser = next((folder / "transformer").glob("*.safetensors"))
    whole = folder_parts(folder, ("text_encoder", "vae"))
    qwen = whole["text_encoder"]
    layers = qwen.config.num_hidden_layers
    path = as_gguf(tmp_path / "qwen.gguf", qwen, gguf.MODEL_ARCH.QWEN3, layers, "model.")
    single = Entry(
        "x", denoiser, config=folder, single=True, companions=(("text_encoder", path), ("vae", folder / "vae"))
    )
    assert_same({"text_encoder": load(single, ("text_encoder", "vae"))["text_encoder"]}, {"text_encoder": qwen})


def test_a_language_model_that_lacks_a_tensor_is_not_filled_up_by_chance(tmp_path: Path) -> None:
    import gguf

    folder = tiny_transformers.z_image(tmp_path / "folder")
    denoiser = next((folder / "transformer").glob("*.safetensors"))
    qwen = folder_parts(folder, ("text_encoder",))["text_encoder"]
    path = next((folder / "text_encoder").glob("*.safetensors"))
    state = load_file(path)
    del state["layers.0.mlp.down_proj.weight"], qwen.layers[0].mlp.down_proj
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ModelBroken, match=r"text_encoder.*Copy or download"):
        folder_parts(folder, ("text_encoder",))
    packed = as_gguf(tmp_path / "q.gguf", qwen, gguf.MODEL_ARCH.QWEN3, qwen.config.num_hidden_layers, "model.")
    for companion in (folder / "text_encoder", packed):
        companions = (("text_encoder", companion), ("vae", folder / "vae"))
        with pytest.raises(ModelBroken, match="lacks tensors that the text_encoder"):
            load(Entry("x", denoiser, config=folder, single=True, companions=companions), ("text_encoder",))


def test_nf4_says_what_would_be_right(sd: Entry, tmp_path: Path, models_folder: Path) -> None:
    original.save(
        tmp_path / "nf4.safetensors",
        load_file(sd.path),
        {"model.diffusion_model.x.weight.quant_state.bitsandbytes__nf4": torch.zeros(4, dtype=torch.uint8)},
    )
    with pytest.raises(ModelError, match="NF4 in a single file"):
        load(entry(models_folder / "sd", tmp_path / "nf4.safetensors", tmp_path))
    shutil.copytree(models_folder / "sd", tmp_path / "nf4")
    path = tmp_path / "nf4" / "unet" / "config.json"
    config = {**json.loads(path.read_text()), "quantization_config": {"quant_method": "bitsandbytes"}}
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="Install bitsandbytes"):
        folder_parts(tmp_path / "nf4", SD)


class Bomb:
    def __reduce__(self) -> tuple:
        return __import__("os").system, ("touch exploded",)


def test_pickles_are_read_only_where_allowed_and_then_as_weights_alone(
    sd: Entry, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": load_file(sd.path), "epoch": 3}, tmp_path / "sd.ckpt")
    pickle = entry(models_folder / "sd", tmp_path / "sd.ckpt", tmp_path)
    with pytest.raises(ModelUnsafe, match="--allow-pickles"):
        load(pickle)
    assert_same(load(pickle, allow_pickles=True), load(sd))
    torch.save({"state_dict": load_file(sd.path), "bomb": Bomb()}, tmp_path / "sd.ckpt")
    with pytest.raises(ModelBroken, match="more than weights"):
        load(pickle, allow_pickles=True)
    assert not (tmp_path / "exploded").exists()


def test_progress_is_in_bytes_and_ends_at_one(sd: Entry) -> None:
    told: list[tuple[int, int]] = []
    loading.load_parts(sd, SD, torch.float16, lambda *bytes: told.append(bytes))
    size = told[-1][1]
    assert told == sorted(told) and told[-1] == (size, size) and len(told) > 20


def test_tensors_are_parameters_without_a_copy(sd: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[int, Tensor] = {}
    original_read = weights.read

    def watch(*args: Any, **more: Any) -> dict[str, Tensor]:
        found = original_read(*args, **more)
        read.update({each.data_ptr(): each for each in found.values()})
        return found

    monkeypatch.setattr(weights, "read", watch)
    parts = load(sd, dtype=torch.bfloat16)
    for name in ("unet", "text_encoder", "vae"):
        assert all(each.data_ptr() in read for each in parts[name].parameters())


@pytest.mark.parametrize("folder", sorted(CONFIGS.glob("*/model_index.json")), ids=lambda path: path.parent.name)
def test_shipped_configs_make_the_parts_they_name(folder: Path) -> None:
    """On the meta device, at full size: every class takes its config."""
    index = json.loads(folder.read_text())
    for name, (library, kind) in ((name, each) for name, each in index.items() if isinstance(each, list)):
        if "tokenizer" in name:
            continue
        found = loading._class(folder.parent, name, [library, kind])
        if name == "scheduler":
            found.from_config(json.loads((folder.parent / name / "scheduler_config.json").read_text()))
            continue
        with torch.device("meta"):
            if library == "diffusers":
                found.from_config(found.load_config(folder.parent / name))
            else:
                found(found.config_class.from_pretrained(folder.parent / name))


@pytest.mark.parametrize(
    ("name", "weights_of_unet"), [("stable-diffusion-v1", 859_520_964), ("stable-diffusion-xl", 2_567_463_684)]
)
def test_shipped_configs_have_the_published_sizes(name: str, weights_of_unet: int) -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / name / "unet"))
    assert sum(each.numel() for each in unet.parameters()) == weights_of_unet


def test_the_shipped_tokenizer_is_clips() -> None:
    """Ids as the published tokenizer gives them; both generations share the vocabulary and differ in their padding."""
    for config, part, padding in (("v1", "tokenizer", 49407), ("v2", "tokenizer", 0), ("xl", "tokenizer_2", 0)):
        each = Entry("model", Path("x"), config=CONFIGS / f"stable-diffusion-{config}", single=True)
        tokenizer = loading.tokenizer(each, part, transformers.CLIPTokenizer)
        assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
        assert tokenizer.pad_token_id == padding and tokenizer.model_max_length == 77


def t5(home: Path) -> Path:
    """A T5's tokenizer that knows one word."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁apple", -1.0), ("▁", -2.0)]
    transformers.T5TokenizerFast(vocab=vocabulary, extra_ids=0).save_pretrained(home)
    return home


def test_a_tokenizer_that_does_not_ship_is_a_companion_too(tmp_path: Path) -> None:
    home = t5(tmp_path / "ComfyUI" / "comfy" / "text_encoders" / "t5_tokenizer")
    config = CONFIGS / "flux-1-dev"
    each = Entry("flux", Path("x"), config=config, single=True, companions=(("tokenizer_2", home),))
    found = loading.tokenizer(each, "tokenizer_2", transformers.T5TokenizerFast)
    assert found("apple").input_ids[0] == 3 and found.model_max_length == 512


@pytest.mark.parametrize(
    "config", sorted(path.parent for path in CONFIGS.glob("*/model_index.json")), ids=lambda path: path.name
)
def test_what_the_catalog_looks_for_is_what_the_configs_need(config: Path) -> None:
    """The table by which files are known, against the parts that are built and filled."""
    bases = {
        "flux-1": "flux1", "flux-2": "flux2", "qwen-image": "qwen-image", "z-image": "z-image",
        "stable-diffusion-3.5": "sd3.5", "stable-diffusion-3": "sd3", "stable-diffusion-v1": "sd1",
        "stable-diffusion-v2": "sd2", "stable-diffusion-xl": "sdxl",
    }  # fmt: skip
    base = next(base for start, base in bases.items() if config.name.startswith(start))
    index = json.loads((config / "model_index.json").read_text())
    needed = {part for part in index if part == "vae" or part.startswith("text_encoder")}
    assert needed == set(NEEDS[base])
    for part, want in NEEDS[base].items():
        kind = index[part][1]
        assert size_of(kind, json.loads((config / part / "config.json").read_text())) == PARTS[want].size
        # Other classes of one kind read the same files.
        assert kind[:4] == PARTS[want].kind[:4]


def test_a_folder_is_read_with_progress_too(models_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    parts = loading.load_parts(scanned(models_folder / "sd"), SD, torch.float32, lambda *bytes: told.append(bytes))
    files = sum(file.stat().st_size for name in SD for file in (models_folder / "sd" / name).glob("*.safetensors"))
    assert told == sorted(told) and told[-1] == (files, files) and len(told) > 20
    assert_same(parts, folder_parts(models_folder / "sd", SD))


def test_a_part_in_several_files_is_read_as_its_index_says(models_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models_folder / "sd", tmp_path / "sd")
    unet = tmp_path / "sd" / "unet"
    whole = load_file(unet / "diffusion_pytorch_model.safetensors")
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    names = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    placed = {key: names[index % 2] for index, key in enumerate(sorted(whole))}
    for name in names:
        save_file({key: value for key, value in whole.items() if placed[key] == name}, unet / name)
    index = {"metadata": {}, "weight_map": placed}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(load(scanned(tmp_path / "sd")), folder_parts(models_folder / "sd", SD))
    (unet / names[1]).unlink()
    with pytest.raises(ModelBroken, match="unet"):
        load(scanned(tmp_path / "sd"))


def test_a_folder_with_values_that_are_no_numbers_is_refused(models_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models_folder / "sd", tmp_path / "sd")
    path = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    next(iter(state.values())).fill_(float("nan"))
    save_file(state, path)
    with pytest.raises(ModelBroken, match="no numbers"):
        load(scanned(tmp_path / "sd"))
