"""Files as they are published: each is taken for what it is, and none is offered as another."""

import re
from pathlib import Path

import pytest

from studio.files.headers import Header, Tensor
from studio.files.identity.identify import Identity, identify
from studio.models.catalog import Catalog, Entry
from tests import published
from tests.published import Case, Tensors

SETS = published.key_sets()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Entry]]:
    return published.judged(tmp_path_factory.mktemp("published"))


def test_every_file_is_taken_for_what_it_is(judged: list[tuple[Case, Entry]]) -> None:
    """The table is of the makers' files; what it says of each was written from their model cards."""
    wrong = {case.file: published.wrong(case, entry) for case, entry in judged}
    assert {file: why for file, why in wrong.items() if why} == {}


def test_each_part_is_the_right_one(judged: list[tuple[Case, Entry]]) -> None:
    """All files of all kinds in one folder: those that makers publish for a model stand before those that also do."""
    parts = {
        case.file: {part: path.name for part, path in entry.companions}
        for case, entry in judged
        if not entry.problem and entry.companions
    }
    assert parts["z_image_bf16"]["text_encoder"] == "qwen_3_4b_fp8_mixed.safetensors"
    assert parts["flux1-dev"]["vae"] == "ae.safetensors" and parts["flux1-dev"]["text_encoder"] == "clip_l.safetensors"
    assert parts["flux1-dev"]["text_encoder_2"] == "t5xxl_fp16.safetensors"
    assert parts["qwen_image_bf16"]["vae"] == "qwen_image_vae_comfy.safetensors"
    assert parts["sd15_unet_dm"]["vae"] == "vae-ft-mse-840000-ema-pruned.safetensors"
    assert parts["sdxl_lightning_4step_unet"]["vae"] == "sdxl_vae.safetensors"
    assert parts["flux2-klein-4b"]["vae"] == "flux2-vae.safetensors"


def told(tensors: Tensors, name: str = "x.safetensors", **metadata: str) -> Identity:
    return identify(Header(tensors, metadata, 0), name)


def usable(found: Identity) -> bool:
    return found.kind == "model" and bool(found.config) and not found.packed


# Kin of what the table has, made of it


def below(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


FOREIGN = {
    "Hunyuan Video": "hunyuan_video", "Hunyuan Image": "hunyuan_image21", "Chroma": "chroma_bare", "Bria": "d_bria",
    "PixArt": "pixart_sigma", "Lumina 2": "lumina2_bare", "HiDream": "hidream_bare", "Wan": "wan22_ti2v_5b",
    "Sana": "d_sana",
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_another_architecture_is_named_in_every_layout(name: str) -> None:
    """Bare, as people of ComfyUI keep it, and as GGUF, whose names are the same and whose types are others."""
    tensors = SETS[FOREIGN[name]]
    packed = {each: Tensor("Q4_K", tensor.shape) for each, tensor in tensors.items()}
    for file, each in (
        ("x.safetensors", tensors), ("x.gguf", packed), ("x.safetensors", below("model.diffusion_model.", tensors)),
    ):  # fmt: skip
        found = told(each, file)
        assert (found.kind, found.base, found.variant, usable(found)) == ("model", "", name, False)


def fewer(tensors: Tensors, group: str, blocks: int) -> Tensors:
    number = re.compile(rf"{group}\.(\d+)\.")
    return {name: each for name, each in tensors.items() if not (m := number.match(name)) or int(m[1]) < blocks}


def test_a_model_of_fewer_blocks_is_another() -> None:
    """FLUX.1 lite has 8 of the 19 double blocks (its config at huggingface.co/Freepik/flux.1-lite-8B)."""
    lite = told(fewer(SETS["flux_dev_bare"], "double_blocks", 8))
    assert (lite.base, lite.variant, usable(lite)) == ("flux1", "with 8 and 38 blocks", False)
    assert not usable(told(fewer(SETS["qwen_image_bare"], "transformer_blocks", 40)))
    for keys, variant in (
        ("ckpt_SSD_1B", "SSD-1B"),
        ("ckpt_Segmind_Vega", "Segmind Vega"),
        ("ckpt_KOALA_700M", "KOALA"),
    ):
        found = told(SETS[keys])
        assert (found.base, found.variant, usable(found)) == ("sdxl", variant, False)


@pytest.mark.parametrize(
    ("keys", "more"),
    [
        ("flux_dev_bare", {"new_layer.weight": (3072, 3072)}),
        ("flux_dev_bare", {"vector_in.in_layer.weight": (3072, 1280)}),
        ("flux_dev_bare", {"txt_in.weight": (3072, 3584)}),
        ("d_unet_sd15", {"time_embedding.cond_proj.weight": (320, 256)}),
        ("ckpt_sd15", {"model.diffusion_model.position_net.linears.0.weight": (512, 768)}),
        ("ckpt_sd15", {"cc_projection.weight": (768, 772)}),
        ("ckpt_sd15", {"model.diffusion_model.out.2.weight": (8, 320, 3, 3)}),
        ("ckpt_sdxl", {"model.diffusion_model.label_emb.0.0.weight": (1280, 5632)}),
        ("d_zimage", {"siglip_embedder.0.weight": (1152,)}),
        ("ckpt_sd35_large", {"model.diffusion_model.controlnet_blocks.0.weight": (2432, 2432)}),
    ],
)
def test_a_tensor_that_is_not_accounted_for_makes_a_file_another(keys: str, more: dict[str, tuple[int, ...]]) -> None:
    """LCM's guidance embedding, GLIGEN's boxes, Zero123's camera, Kolors' encoder, Z-Image Omni's eyes and others."""
    assert usable(told(SETS[keys]))
    found = told({**SETS[keys], **{name: Tensor("F16", shape) for name, shape in more.items()}})
    assert found.kind == "model" and not usable(found)


@pytest.mark.parametrize(
    ("kind", "more", "label"),
    [
        ("I8", {}, "INT8"),
        ("U8", {"img_in.weight_scale_2": Tensor("F32", ())}, "NVFP4"),
        ("U8", {"img_in.weight.quant_state.bitsandbytes__nf4": Tensor("U8", (90,))}, "NF4"),
        ("I32", {}, "whole numbers"),
        ("F8_E4M3", {"scaled_fp8": Tensor("F8_E4M3", (0,)), "img_in.scale_weight": Tensor("F32", ())}, ""),
    ],
)
def test_what_is_packed_is_said_in_the_list(tmp_path: Path, kind: str, more: Tensors, label: str) -> None:
    packed = {
        name: Tensor(kind, each.shape) if len(each.shape) > 1 else each for name, each in SETS["flux_dev_bare"].items()
    }
    published.write(tmp_path / "x.safetensors", {**packed, **more})
    entry = next(each for each in Catalog([tmp_path]).entries() if each.path.name == "x.safetensors")
    assert entry.identity.packed == label
    assert (f"packed as {label} in a single file" if label else "holds only a part of its model") in entry.problem


@pytest.mark.parametrize("name", ["sd_turbo.safetensors", "sd-turbo_fp16.safetensors"])
def test_sd_turbo_predicts_noise(name: str) -> None:
    """It was distilled from SD 2.1 at 512 px; its published scheduler_config.json says prediction_type epsilon."""
    found = told(SETS["ckpt_sd21"], name)
    assert (found.prediction_type, found.config) == ("epsilon", "stable-diffusion-v2")


@pytest.mark.parametrize(
    ("file", "keys", "variant"),
    [
        ("flux1-dev-kontext_fp8_scaled", "flux_dev_bare", "Kontext"),
        ("Qwen-Image-Edit-2511-Q4", "qwen_image_bare", "Edit"),
        ("credited", "qwen_image_bare", ""),
    ],
)
def test_what_changes_pictures_is_said_to(tmp_path: Path, file: str, keys: str, variant: str) -> None:
    assert told(SETS[keys], f"{file}.safetensors").variant == variant
    newer = {**SETS["qwen_image_bare"], "__index_timestep_zero__": Tensor("F32", ())}
    assert told(newer).variant == "Edit" and usable(told(newer))


@pytest.mark.parametrize(
    ("keys", "more", "file", "variant"),
    [
        ("ckpt_sdxl", "edm_mean", "x", "Playground 2.5"),
        ("d_unet_sdxl", "", "playground-v2.5-1024px-aesthetic.fp16", "Playground 2.5"),
        ("ckpt_sdxl", "edm_vpred.sigma_max", "x", "CosXL"),
        ("ckpt_sdxl", "", "cosxl_edit", "CosXL"),
    ],
)
def test_a_model_that_sees_noise_otherwise_is_not_drawn_with(keys: str, more: str, file: str, variant: str) -> None:
    """EDM's preconditioning (arXiv:2206.00364), which both of these SDXLs were trained on with."""
    found = told(SETS[keys] | ({more: Tensor("F32", (1,))} if more else {}), f"{file}.safetensors")
    assert (found.base, found.variant, usable(found)) == ("sdxl", variant, False)


# Parts


def qwen3(prefix: str = "model.", **more: tuple[int, ...]) -> Tensors:
    shapes = {
        f"{prefix}embed_tokens.weight": (151936, 2560),
        f"{prefix}layers.0.self_attn.q_norm.weight": (128,),
        **more,
    }
    return {name: Tensor("BF16", shape) for name, shape in shapes.items()}


def test_a_language_model_that_sees_is_not_the_one_that_reads() -> None:
    """Qwen3-VL-4B has words as many and as wide as Qwen3-4B's (their published config.json)."""
    assert told(qwen3()).variant == "qwen3-4b"
    assert told(qwen3("model.language_model.")).variant == "qwen-vl"
    assert told(qwen3("model.", **{"model.visual.blocks.0.attn.qkv.weight": (3072, 1024)})).variant == "qwen-vl"
    gguf = {"token_embd.weight": Tensor("Q8_0", (151936, 2560)), "blk.0.attn_q_norm.weight": Tensor("F32", (128,))}
    assert told(gguf, "x.gguf", **{"general.architecture": "qwen3"}).variant == "qwen3-4b"
    assert told(gguf, "x.gguf", **{"general.architecture": "qwen3vl"}).variant == "qwen-vl"


def test_a_language_model_without_eyes_is_the_one_that_sees_only_by_its_name() -> None:
    """Qwen2.5-7B has words as many and as wide as Qwen2.5-VL-7B's (their published config.json)."""
    whole = SETS["qwen25vl_7b_comfy"]
    blind = {each: tensor for each, tensor in whole.items() if not each.startswith("visual.")}
    assert told(whole).variant == "qwen2.5-vl-7b" == told(blind, "qwen_2.5_VL_7b_text.safetensors").variant
    assert told(blind, "qwen_2.5_7b_instruct.safetensors").variant == "qwen2.5-7b"


@pytest.mark.parametrize(
    "name", ["AutoencoderKLAllegro", "AutoencoderKLTemporalDecoder", "AsymmetricAutoencoderKL", "VQModel"]
)
def test_an_autoencoder_with_other_layers_is_no_vae_of_ours(name: str) -> None:
    """By diffusers' own classes: some have as many latent channels as Stable Diffusion's."""
    import diffusers
    from accelerate import init_empty_weights

    with init_empty_weights():
        state = getattr(diffusers, name)().state_dict()
    found = told({each: Tensor("F32", tuple(tensor.shape)) for each, tensor in state.items()})
    assert (found.kind, found.base) == ("vae", "")


# LoRAs


def lora(style: str, modules: dict[str, tuple[int, int]]) -> Tensors:
    """Modules of these widths, written and read, in the names of a trainer."""
    shapes: dict[str, tuple[int, ...]] = {}
    for module, (writes, reads) in modules.items():
        flat = module.replace(".", "_")
        of_style: dict[str, dict[str, tuple[int, ...]]] = {
            "peft": {
                f"transformer.{module}.lora_A.weight": (8, reads),
                f"transformer.{module}.lora_B.weight": (writes, 8),
            },
            "kohya": {
                f"lora_unet_{flat}.lora_down.weight": (8, reads),
                f"lora_unet_{flat}.lora_up.weight": (writes, 8),
            },
            "lokr": {f"lycoris_{flat}.lokr_w1": (4, 4), f"lycoris_{flat}.lokr_w2": (writes // 4, reads // 4)},
            "loha": {f"lora_unet_{flat}.hada_w1_a": (writes, 8), f"lora_unet_{flat}.hada_w1_b": (8, reads)},
            "oft": {f"oft_unet_{flat}.oft_blocks": (4, writes // 4, writes // 4)},
        }
        shapes |= of_style[style]
    return {name: Tensor("F16", shape) for name, shape in shapes.items()}


MADE_OF = {
    "flux_dev_bare": "flux1", "d_flux_dev": "flux1", "d_flux2_klein9b": "flux2", "d_flux2_dev": "flux2",
    "d_sd3_medium": "sd3", "d_sd35_large": "sd3.5", "qwen_image_bare": "qwen-image", "d_zimage": "z-image",
    "hunyuan_video": "", "d_hunyuanvideo": "", "hunyuan_image21": "", "d_auraflow": "", "auraflow_dm": "", "d_ltx": "",
    "d_lumina2": "", "d_pixart": "", "d_sana": "", "d_cogview4": "", "d_wan": "", "d_hidream": "",
    "cosmos_predict2_2b": "", "d_unet_sd15": "sd1", "d_unet_sdxl": "sdxl",
}  # fmt: skip


@pytest.mark.parametrize("keys", MADE_OF)
@pytest.mark.parametrize("style", ["peft", "kohya", "lokr", "loha", "oft"])
def test_a_lora_is_of_the_model_whose_layers_it_changes(keys: str, style: str) -> None:
    """All attention of each model, by its published names and shapes, in the layouts of the trainers."""
    modules = {
        name.removesuffix(".weight"): (each.shape[0], each.shape[1])
        for name, each in SETS[keys].items()
        if re.search(r"\d.*(?:attn|attention)", name) and name.endswith(".weight") and len(each.shape) == 2
    }
    found = told(lora(style, modules))
    assert (found.kind, found.base) == ("lora", MADE_OF[keys])


@pytest.mark.parametrize("keys", ["d_unet_sd15", "d_unet_sdxl"])
def test_a_slider_is_of_the_model_whose_blocks_it_names(keys: str) -> None:
    """They leave cross attention alone, which is as wide as the prompts; but where there is attention tells too."""
    modules = {name.removesuffix(".weight"): (8, 8) for name in SETS[keys] if "attn1.to_" in name and "weight" in name}
    assert told(lora("kohya", modules)).base == MADE_OF[keys]


@pytest.mark.parametrize(
    ("said", "base"), [("chroma", ""), ("hunyuan_video", ""), ("flux1", "flux1"), ("Flux.1-dev/lora", "flux1")]
)
def test_what_a_trainer_says_comes_before_what_layers_tell(said: str, base: str) -> None:
    tensors = lora("kohya", {"double_blocks.0.img_attn.qkv": (9216, 3072)})
    key = "modelspec.architecture" if "/" in said else "ss_base_model_version"
    assert told(tensors, **{key: said}).base == base
    assert told(tensors, "my-chroma-style.safetensors").base == ""


@pytest.mark.parametrize(
    ("shapes", "base"),
    [
        ({"clip_l": (2, 768), "clip_g": (2, 1280), "t5xxl": (2, 4096)}, "sd3"),
        ({"clip_l": (2, 768), "t5": (2, 4096)}, "flux1"),
        ({"clip_l": (2, 768), "t5xxl": (2, 4096)}, "flux1"),
        ({"text_encoders_0": (2, 768), "text_encoders_1": (2, 1280)}, "sdxl"),
    ],
)
def test_an_embedding_is_of_the_models_that_have_its_encoders(shapes: dict[str, tuple[int, ...]], base: str) -> None:
    found = told({name: Tensor("F32", shape) for name, shape in shapes.items()})
    assert (found.kind, found.base) == ("embedding", base)


@pytest.mark.parametrize(
    ("shapes", "base", "variant"),
    [
        ({"pos_embed_input.proj.weight": (1536, 16, 2, 2), "controlnet_blocks.0.weight": (1536, 1536)}, "sd3", ""),
        ({"controlnet_blocks.0.weight": (2432, 2432)}, "sd3.5", ""),
        ({"controlnet_x_embedder.weight": (3072, 64), "txt_norm.weight": (3584,)}, "qwen-image", ""),
        ({"controlnet_blocks.0.weight": (3072, 3072), "vector_in.in_layer.weight": (3072, 768)}, "flux1", ""),
        (
            {"controlnet_mode_embedder.weight": (10, 3072),
             "time_text_embed.text_embedder.linear_1.weight": (3072, 768)},
            "flux1", "union",
        ),
        (
            {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "encoder_hid_proj.weight": (2048, 4096),
             "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048)},
            "", "",
        ),
        ({"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight": (64, 640)}, "sdxl", "LLLite"),
    ],
)  # fmt: skip
def test_a_controlnet_is_of_the_model_that_it_is_built_like(
    shapes: dict[str, tuple[int, ...]], base: str, variant: str
) -> None:
    """InstantX's and Stability's for SD 3, InstantX's for Qwen-Image, XLabs' and Shakker's for FLUX.1, and others."""
    found = told({name: Tensor("F16", shape) for name, shape in shapes.items()})
    assert (found.kind, found.base, found.variant) == ("controlnet", base, variant)
