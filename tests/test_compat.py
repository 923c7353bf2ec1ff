"""Every private name of another package that the studio uses, used once: after an upgrade, look here first.

Each test is named after what the studio wants of it. What fails here is mended in `studio/compat` alone.
"""

import ast
import asyncio
import io
import logging
import re
from pathlib import Path
from typing import Any

import diffusers
import gradio
import pytest
import torch
import transformers
import uvicorn
from PIL import Image
from uvicorn.server import ServerState

from studio.compat import of_diffusers, of_gradio, of_hub, of_uvicorn
from studio.settings import ROOT
from tests import hub as hubs
from tests import tiny, tiny_addons, tiny_stock

# diffusers: weights into parts


def test_diffusers_marks_the_models_whose_class_it_chooses_itself() -> None:
    assert of_diffusers.has_other_classes(diffusers.Transformer2DModel)
    assert not of_diffusers.has_other_classes(diffusers.UNet2DConditionModel)


def test_diffusers_and_transformers_say_which_weights_stay_in_float32() -> None:
    assert of_diffusers.is_partly_exact(diffusers.HeliosTransformer3DModel)
    assert not of_diffusers.is_partly_exact(diffusers.UNet2DConditionModel)
    assert of_diffusers.is_partly_exact(transformers.T5EncoderModel)
    assert not of_diffusers.is_partly_exact(transformers.CLIPTextModel)


def test_diffusers_says_which_tensors_may_be_left_over() -> None:
    assert of_diffusers.may_be_left_over(diffusers.WanTransformer3DModel) == ("norm_added_q",)
    assert of_diffusers.may_be_left_over(diffusers.UNet2DConditionModel) == ()
    assert hasattr(diffusers.ModelMixin, "_keys_to_ignore_on_load_unexpected")  # else nothing is ever left over


def test_diffusers_fills_a_part_that_has_no_weights() -> None:
    whole = tiny_stock.kl()
    state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    with torch.device("meta"):
        part = type(whole).from_config(whole.config)
    of_diffusers.fill(part, dict(state), torch.float32)
    filled = part.state_dict()
    assert filled.keys() == state.keys()
    assert all(torch.equal(filled[name], state[name]) for name in state)
    assert filled["quant_conv.weight"].data_ptr() == state["quant_conv.weight"].data_ptr()  # not copied


def test_diffusers_renames_the_tensors_of_old_files() -> None:
    vae = tiny_stock.kl()
    state = vae.state_dict()
    block = "encoder.mid_block.attentions.0"
    old = dict(zip(("to_q", "to_k", "to_v", "to_out.0"), ("query", "key", "value", "proj_attn"), strict=True))
    file = dict(state)
    for now, before in old.items():
        for kind in ("weight", "bias"):
            file[f"{block}.{before}.{kind}"] = file.pop(f"{block}.{now}.{kind}")
    assert file.keys() != state.keys()
    of_diffusers.rename(vae, file)
    assert file.keys() == state.keys()
    assert torch.equal(file[f"{block}.to_k.weight"], state[f"{block}.to_k.weight"])


def test_diffusers_makes_a_clip_of_the_tensors_of_a_single_file(tmp_path: Path) -> None:
    own = tiny_stock.clip()
    own.config.save_pretrained(tmp_path / "text_encoder")
    state = {f"cond_stage_model.transformer.text_model.{name}": tensor for name, tensor in own.state_dict().items()}
    made = of_diffusers.clip_of_makers(type(own), state, torch.float32, **where(tmp_path))
    same(made, own)


def test_diffusers_makes_a_t5_of_the_tensors_of_a_single_file(tmp_path: Path) -> None:
    own = tiny_stock.t5()
    own.config.save_pretrained(tmp_path / "text_encoder")
    state = {f"text_encoders.t5xxl.transformer.{name}": tensor for name, tensor in own.state_dict().items()}
    made = of_diffusers.t5_of_makers(type(own), state, torch.float32, **where(tmp_path))
    same(made, own)


def where(folder: Path) -> dict[str, Any]:
    return {"config": str(folder), "subfolder": "text_encoder", "local_files_only": True}


def same(made: torch.nn.Module, own: torch.nn.Module) -> None:
    found, wanted = made.state_dict(), own.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_diffusers_knows_the_names_of_the_original_autoencoder() -> None:
    file = {f"first_stage_model.{name}": torch.ones(2) for name in ("encoder.conv_in.weight", "decoder.norm_out.bias")}
    config = {"down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]}
    assert of_diffusers.converted_kl(file, config).keys() == {"encoder.conv_in.weight", "decoder.conv_norm_out.bias"}


def test_diffusers_knows_the_names_of_wans_autoencoder() -> None:
    file = {name: torch.ones(2) for name in ("conv1.weight", "encoder.middle.0.residual.2.bias")}
    found = of_diffusers.converted_wan(file, {})
    assert found.keys() == {"quant_conv.weight", "encoder.mid_block.resnets.0.conv1.bias"}


def test_diffusers_has_the_parts_of_wuerstchen_where_they_have_moved() -> None:
    import importlib

    home = importlib.import_module(of_diffusers.WUERSTCHEN)
    for name in ("WuerstchenPrior", "WuerstchenDiffNeXt", "PaellaVQModel"):
        assert issubclass(getattr(home, name), torch.nn.Module)


# diffusers: schedulers


def stepped(scheduler: Any, steps: int) -> Any:
    latents = torch.ones(1, 1, 2, 2)
    for timestep in scheduler.timesteps[:steps]:
        latents = scheduler.step(latents / 2, timestep, latents, return_dict=False)[0]
    return latents


def solver() -> Any:
    scheduler = diffusers.UniPCMultistepScheduler()
    scheduler.set_timesteps(6)
    return scheduler


def test_what_a_scheduler_holds_is_all_that_it_knows_in_mid_run() -> None:
    ran, fresh = solver(), solver()
    latents = stepped(ran, 3)
    of_diffusers.put_state(fresh, of_diffusers.state_of(of_diffusers.copied(ran)))
    next_ones = [
        each.step(latents / 2, each.timesteps[3], latents, return_dict=False)[0] for each in (ran, fresh, solver())
    ]
    assert torch.equal(next_ones[0], next_ones[1])
    assert not torch.equal(next_ones[0], next_ones[2])  # one without history comes to something else


def test_a_copied_scheduler_has_a_history_of_its_own() -> None:
    ran = solver()
    latents = stepped(ran, 2)
    other = of_diffusers.copied(ran)
    before = list(other.model_outputs)
    ran.step(latents / 2, ran.timesteps[2], latents)
    assert all(found is wanted for found, wanted in zip(other.model_outputs, before, strict=True))


def test_a_scheduler_goes_on_from_where_it_is_told_to() -> None:
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(6)
    stepped(scheduler, 1)
    of_diffusers.go_on_from(scheduler, 4)
    latents = torch.ones(1, 1, 2, 2)
    found = scheduler.step(torch.ones_like(latents), scheduler.timesteps[4], latents, return_dict=False)[0]
    assert torch.allclose(found, latents + (scheduler.sigmas[5] - scheduler.sigmas[4]))  # Euler's step at call 4
    assert scheduler.step_index == 5


def test_a_solver_of_several_steps_remembers_the_clean_picture_last() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", prediction_type="sample")
    scheduler.set_timesteps(4)
    latents = torch.ones(1, 1, 2, 2)
    assert of_diffusers.last_prediction(scheduler) is None
    scheduler.step(latents / 4, scheduler.timesteps[0], latents)
    assert torch.equal(of_diffusers.last_prediction(scheduler), latents / 4)
    assert of_diffusers.last_prediction(diffusers.DDIMScheduler()) is None


def test_each_step_of_a_scheduler_is_told_with_its_arguments_by_name() -> None:
    scheduler = diffusers.DDIMScheduler()
    scheduler.set_timesteps(3)
    heard: list[tuple[Any, Any]] = []
    of_diffusers.watch(scheduler, lambda given, result: heard.append((given, result)))
    output, latents = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    result = scheduler.step(output, scheduler.timesteps[0], latents, return_dict=False)
    [(given, gave)] = heard
    assert gave is result and given["model_output"] is output and given["sample"] is latents


# diffusers: pipelines


def test_the_guidance_of_a_pipeline_can_be_set_and_read() -> None:
    pipeline = diffusers.StableDiffusionPipeline(
        None, None, None, None, None, None, None, requires_safety_checker=False
    )
    of_diffusers.set_guidance(pipeline, 3.5)
    assert pipeline.guidance_scale == 3.5


def test_pipelines_with_perturbed_attention_are_known() -> None:
    assert of_diffusers.exchanges_attention(diffusers.StableDiffusionPAGPipeline)
    assert not of_diffusers.exchanges_attention(diffusers.StableDiffusionPipeline)


def test_flux2s_timetable_is_shifted_as_in_its_makers_code() -> None:
    # black-forest-labs/flux2, sampling.py: from 4300 tokens on, a straight line that steps do not move.
    assert of_diffusers.flux2_mu(5000, 20) == of_diffusers.flux2_mu(5000, 50) == pytest.approx(1.3030166)
    # Below, between the lines for 10 and 200 steps.
    assert of_diffusers.flux2_mu(4096, 10) == pytest.approx(8.73809524e-05 * 4096 + 1.89833333)
    assert of_diffusers.flux2_mu(4096, 200) == pytest.approx(0.00016927 * 4096 + 0.45666666)


def test_flux2s_language_model_is_told_what_it_is_there_for() -> None:
    assert of_diffusers.flux2_system_message().startswith("You are an AI that reasons about image descriptions")


def test_ip_adapters_are_read_into_a_unet_without_a_pipeline(tmp_path: Path) -> None:
    tiny.stable_diffusion(tmp_path / "sd")
    unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "sd" / "unet")
    file = tiny_addons.ip_adapter(tmp_path / "adapter.safetensors", unet)
    holder = of_diffusers.ip_adapters_of(unet)
    holder.load_ip_adapter(
        [str(file.parent)], subfolder=[""], weight_name=[file.name], image_encoder_folder=None, local_files_only=True
    )
    assert unet.config.encoder_hid_dim_type == "ip_image_proj"
    assert any(hasattr(each, "scale") for each in unet.attn_processors.values())


@pytest.mark.parametrize("hidden", [False, True])
def test_a_picture_is_encoded_for_ip_adapters_without_a_pipeline(hidden: bool) -> None:
    config = transformers.CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        projection_dim=6,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    encoder = transformers.CLIPVisionModelWithProjection(config).eval()
    holder = of_diffusers.ip_adapters_of(None)
    reader = transformers.CLIPImageProcessorPil(size=16, crop_size=16)
    holder.register_modules(image_encoder=encoder, feature_extractor=reader)
    picture = Image.new("RGB", (20, 20), "red")
    with torch.inference_mode():
        positive, negative = of_diffusers.encoded_picture(holder, picture, torch.device("cpu"), hidden)
        pixels = torch.from_numpy(reader(picture, return_tensors="np").pixel_values)
        own = encoder(pixels, output_hidden_states=True)
    wanted = own.hidden_states[-2] if hidden else own.image_embeds
    assert torch.equal(positive, wanted)
    assert negative.shape == positive.shape and not torch.equal(negative, positive)
    assert hidden or not negative.any()  # a summary of nothing is zero


# Gradio


def test_what_an_event_of_gradio_carries_is_a_dictionary() -> None:
    event = gradio.EventData(None, {"picture": {"id": "a"}, "strength": 0.5})
    assert of_gradio.carried(event) == {"picture": {"id": "a"}, "strength": 0.5}


def test_gradios_queue_looks_for_work_less_often() -> None:
    blocks = gradio.Blocks(analytics_enabled=False)
    queue = blocks._queue
    assert queue.sleep_when_free < 0.02 or queue.sleep_when_free == 0.05  # on Windows
    assert queue.progress_update_sleep_when_free < 0.2
    of_gradio.calm(blocks)
    assert (queue.sleep_when_free, queue.progress_update_sleep_when_free) == (0.02, 0.1)


def test_gradio_means_by_an_update_what_the_page_sends() -> None:
    told = gradio.update(visible=True)
    assert told["__type__"] == "update" and told["visible"] is True
    assert of_gradio.shown_if("chosen === 1") == "(chosen) => ({ __type__: 'update', visible: chosen === 1 })"


# huggingface_hub


def test_the_hubs_client_goes_on_with_a_file_from_a_byte_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    # As in the process of its own that a download is; other tests have had the studio shut this one off.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hubs.running() as hub:
        hub.repositories = {"ann/lora": {"lora.safetensors": bytes(range(100))}}
        url = f"{hub.address}/ann/lora/resolve/{hubs.REVISION}/lora.safetensors"
        for begun in (0, 60):
            file = io.BytesIO()
            of_hub.get(url, file, begun, 100)
            assert file.getvalue() == bytes(range(begun, 100))
        assert [sent for _, sent in hub.asked] == ["", "bytes=60-"]


# uvicorn


def test_uvicorns_connection_answers_and_says_nothing_of_websockets(caplog: pytest.LogCaptureFixture) -> None:
    happened: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    class Connection(of_uvicorn.Http):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            assert self in self.connections and self.client and self.client[0] == "127.0.0.1"
            assert self.transport is transport and self.loop is asyncio.get_running_loop()
            happened.append("made")

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                happened.append("head")

        def on_response_complete(self) -> None:
            happened.append("answered")
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            assert self not in self.connections
            happened.append("lost")
            lost.set()

    lost = asyncio.Event()

    async def talk() -> bytes:
        config = uvicorn.Config(app, http=Connection, ws="none", log_config=None, access_log=False)
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.close()
        await asyncio.wait_for(lost.wait(), 60)
        server.close()
        return answer

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(talk()).startswith(b"HTTP/1.1 204")
    assert happened == ["made", "head", "answered", "lost"]
    assert not caplog.records


# Nothing of the kind stands elsewhere

PRIVATE = re.compile(
    r"(^|\.)_[a-z]|single_file_utils|model_loading_utils|modeling_utils|deprecated|file_download|uvicorn\.protocols"
    r"|diffusers\.pipelines\.|transformers\.models\."
)
"""Modules of other packages that their documents do not speak of, and names with an underscore."""

SCRIPTS = [each for each in sorted((ROOT / "studio").rglob("*.py")) if each.parent.name != "compat"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_of_other_packages_stand_in_compat_alone(script: Path) -> None:
    assert not strangers(script.read_text("utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "from diffusers.loaders import single_file_utils",
        "from huggingface_hub.utils._headers import build_hf_headers",
        "import diffusers.pipelines.deprecated.wuerstchen",
        "blocks._queue.start()",
        "self._scheduler._step_index = None",
        "getattr(kind, '_keep_in_fp32_modules', None)",
    ],
)
def test_a_private_name_elsewhere_is_found(line: str) -> None:
    assert strangers(line)


def strangers(source: str) -> list[str]:
    """Expressions that use what begins with an underscore and is not of the same file, or a private module."""
    nodes = list(ast.walk(ast.parse(source)))
    ours = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    ours |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and is_own(node.value)}
    ours |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)} | {"_exit"}
    found = []
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("studio"):
            names = [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.Attribute) and not is_own(node.value) and node.attr not in ours:
            names = [node.attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            names = [str(each.value) for each in node.args[1:2] if isinstance(each, ast.Constant)]
        found += [ast.unparse(node) for name in names if PRIVATE.search(name)]
    return found


def is_own(value: ast.expr) -> bool:
    return ast.unparse(value) in ("self", "cls", "super()")
