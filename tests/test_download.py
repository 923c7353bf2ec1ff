"""Fetching models from a hub on this machine: what is chosen, how it is taken up again, and what is refused."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from studio.errors import DownloadError
from studio.models.hub import download
from studio.models.hub.download import File, Plan, chosen, destination, fetch, parsed, place_of
from studio.models.hub.tasks import Tasks
from studio.settings import ROOT
from tests import hub as hubs
from tests.hub import Hub

BIG = os.urandom(1 << 20) * 24
"""More than two of the pieces that huggingface_hub takes in at once, so that a break leaves something behind."""


@pytest.fixture(scope="module")
def only_hub() -> Iterator[Hub]:
    with hubs.running() as hub:
        yield hub


@pytest.fixture
def hub(only_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    only_hub.repositories = {"ann/lora": {"lora.safetensors": b"x" * 5000, "README.md": b"# A LoRA", "old.ckpt": b"p"}}
    only_hub.denied, only_hub.breaks, only_hub.asked, only_hub.licenses = {}, {}, [], {}
    monkeypatch.setenv("HF_ENDPOINT", only_hub.address)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return only_hub


FOLDER = Path("/home/ann/models")


def look(text: str) -> Plan:
    return download.look(text, FOLDER)


def get(folder: Path, plan: Plan) -> list[int]:
    told: list[int] = []
    fetch(folder, plan, told.append, lambda end: None)
    return told


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("stabilityai/sdxl-turbo", ("stabilityai/sdxl-turbo", "")),
        (" ann/some.lora_v1/sub/file.safetensors ", ("ann/some.lora_v1", "sub/file.safetensors")),
        ("https://huggingface.co/ann/lora", ("ann/lora", "")),
        ("huggingface.co/ann/lora/", ("ann/lora", "")),
        ("hf.co/ann/lora", ("ann/lora", "")),
        ("https://huggingface.co/ann/lora/blob/main/a.safetensors", ("ann/lora", "a.safetensors")),
    ],
)
def test_what_a_person_types_is_understood(text: str, found: tuple[str, str]) -> None:
    assert parsed(text) == found


@pytest.mark.parametrize(
    "text", ["", "sdxl", "../x", "a/..", "a b/c", "https://evil.example/a/b", "-x/y", "a/.b", "x" * 2000]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(DownloadError, match="no name on the hub"):
        parsed(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://civitai.com/models/4201?modelVersionId=130072",
        "civitai.com/models/4201",
        "www.example.org/model.safetensors",
        "urn:air:sdxl:checkpoint:civitai:4201@130072",
        "https://github.com/ann/model/releases",
        "file:///home/ann/model.safetensors",
    ],
)
def test_an_address_elsewhere_is_answered_with_what_to_do(text: str) -> None:
    with pytest.raises(DownloadError) as caught:
        look(text)
    told = str(caught.value)
    assert "fetches from huggingface.co alone" in told and f"put it into {FOLDER}." in told
    assert told.startswith(f"'{text[:80]}' is no name on the hub")


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "C:\\x", "a\\..\\x", "a//x", "./x", "a\nb", "a\u202eb", "x.", "D:x", ""]
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="refused"):
        place_of(tmp_path, "ann/lora", name)


def names(files: list[File]) -> set[str]:
    return {file.name for file in files}


def test_of_a_diffusers_folder_only_what_is_needed_is_taken() -> None:
    listed = [
        "model_index.json", "README.md", "sd.safetensors", "scheduler/scheduler_config.json", "tokenizer/merges.txt",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin", "unet/model.onnx", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "safety_checker/model.safetensors", "unet_ema_only/x.safetensors", "picture.png", ".gitattributes",
    ]  # fmt: skip
    wanted, choices = chosen("a/b", [File(name, 10) for name in listed])
    assert not choices
    assert names(wanted) == {
        "model_index.json", "README.md", "scheduler/scheduler_config.json", "tokenizer/merges.txt", "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip


def test_of_several_files_one_is_chosen_first() -> None:
    files = [File("a.safetensors", 1), File("b.gguf", 2), File("notes.txt", 1)]
    wanted, choices = chosen("a/b", files)
    assert not wanted and names(choices) == {"a.safetensors", "b.gguf"}
    plan = Plan("a/b", hubs.REVISION, "", choices=tuple(choices))
    assert names(list(download.with_choice(plan, "b.gguf").files)) == {"b.gguf"}
    with pytest.raises(DownloadError, match="not among"):
        download.with_choice(plan, "c.gguf")


def test_a_component_comes_with_its_config() -> None:
    listed = [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "x/y.json",
    ]
    wanted, _ = chosen("a/controlnet", [File(name, 1) for name in listed])
    assert names(wanted) == {"config.json", "diffusion_pytorch_model.fp16.safetensors"}


def test_a_pickle_is_never_chosen() -> None:
    with pytest.raises(DownloadError, match="any code"):
        chosen("a/b", [File("a.ckpt", 1)], "a.ckpt")


def test_size_and_licence_come_first_and_then_the_file(hub: Hub, tmp_path: Path) -> None:
    hub.licenses["ann/lora"] = "openrail++"
    plan = look("ann/lora")
    assert (plan.license, plan.bytes, plan.skipped) == ("openrail++", 5000, 1)
    assert not [path for path, _ in hub.asked if "resolve" in path]
    told = get(tmp_path, plan)
    assert (tmp_path / "ann/lora/lora.safetensors").read_bytes() == b"x" * 5000
    assert told[0] == 0 and told[-1] == 5000
    asked = len(hub.asked)
    assert get(tmp_path, plan)[0] == 5000 and len(hub.asked) == asked


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["ann/big"] = {"big.safetensors": BIG}
    hub.breaks["big.safetensors"] = 15 << 20
    plan = look("ann/big")
    told = get(tmp_path, plan)
    assert (tmp_path / "ann/big/big.safetensors").read_bytes() == BIG
    ranges = [wanted for path, wanted in hub.asked if "resolve" in path]
    assert ranges[0] == "" and ranges[1].startswith("bytes=10485760-")
    assert told == sorted(told) and told[-1] == len(BIG)
    assert [path.name for path in (tmp_path / "ann/big").iterdir()] == ["big.safetensors"]


def test_a_cancelled_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["ann/big"] = {"big.safetensors": BIG}
    plan = look("ann/big")
    hub.hold, hub.half = threading.Event(), threading.Event()
    tasks, arrived = Tasks(), threading.Event()
    ended = threading.Event()

    def hear(values: dict) -> None:
        if values["done"]:
            arrived.set()
        if values["state"] != "running":
            ended.set()

    tasks.listen(hear)
    task = tasks.start(
        "download", plan.repository, plan.bytes, lambda task, report: fetch(tmp_path, plan, report, task.on_cancel)
    )
    assert arrived.wait(60), "nothing arrived"
    tasks.cancel(task.id)
    assert ended.wait(60) and task.state == "cancelled" and not task.sentence
    hub.hold.set()
    hub.hold = None
    assert not (tmp_path / "ann/big/big.safetensors").exists()
    asked = len(hub.asked)
    told = get(tmp_path, plan)
    assert told[0] == 10 << 20 and hub.asked[asked][1] == "bytes=10485760-"
    assert (tmp_path / "ann/big/big.safetensors").read_bytes() == BIG


def test_what_arrives_damaged_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.spoiled = {"lora.safetensors"}
    get(tmp_path, look("ann/lora"))
    assert (tmp_path / "ann/lora/lora.safetensors").read_bytes() == b"x" * 5000


@pytest.mark.parametrize(
    ("denied", "told"),
    [
        ((401, "GatedRepo"), "accept its licence"),
        ((403, "GatedRepo"), "accept its licence"),
        ((401, "RepoNotFound"), "no model of this name, or it is private"),
        ((401, ""), "sign-in"),
        ((403, ""), "sign-in"),
        ((500, ""), "error 500"),
    ],
)
def test_what_the_hub_refuses_is_told(hub: Hub, denied: tuple[int, str], told: str) -> None:
    hub.denied["ann/lora"] = denied
    with pytest.raises(DownloadError, match=told):
        look("ann/lora")


def test_a_wrong_name_is_told(hub: Hub) -> None:
    with pytest.raises(DownloadError, match="no model of this name"):
        look("ann/nothing")
    with pytest.raises(DownloadError, match="has no file"):
        look("ann/lora/other.safetensors")


def test_a_hub_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A look-up began nothing, so nothing is kept; a download did."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="could not be reached") as caught:
        look("ann/lora")
    assert "kept" not in str(caught.value)
    assert f"from https://huggingface.co/ann/lora, and put it into {FOLDER}." in str(caught.value)
    with pytest.raises(DownloadError, match=r"could not be reached.*What has arrived is kept; start it again to go on"):
        get(tmp_path, Plan("ann/lora", "0" * 40, "", (File("lora.safetensors", 5),)))


def test_a_refused_look_up_says_nothing_of_what_is_kept(hub: Hub) -> None:
    hub.denied["ann/lora"] = 500, ""
    with pytest.raises(DownloadError) as caught:
        look("ann/lora")
    assert str(caught.value).endswith("answered with error 500. Look it up again later.")


def test_a_file_that_went_away_is_told(hub: Hub, tmp_path: Path) -> None:
    plan = look("ann/lora")
    del hub.repositories["ann/lora"]["lora.safetensors"]
    with pytest.raises(DownloadError, match="not on the hub any more"):
        get(tmp_path, plan)


def test_a_hostile_hub_writes_nothing_elsewhere(hub: Hub, tmp_path: Path) -> None:
    evil = f"{tmp_path}/evil.safetensors"
    hub.repositories["ann/evil"] = {"model_index.json": b"{}", "unet/../../../evil.safetensors": b"x", evil: b"x"}
    plan = look("ann/evil")
    assert names(list(plan.files)) == {"model_index.json", evil}
    for files in (plan.files, (File("../../../evil.safetensors", 1),)):
        with pytest.raises(DownloadError, match="refused"):
            get(tmp_path / "models", replace(plan, files=files))
        with pytest.raises(DownloadError, match="refused"):  # the process judges for itself too
            download._get(tmp_path / "models", replace(plan, files=files))
    assert not list(tmp_path.rglob("*evil*"))


def test_a_repository_of_pickles_is_refused(hub: Hub) -> None:
    hub.repositories["ann/old"] = {"pytorch_model.bin": b"p", "config.json": b"{}"}
    with pytest.raises(DownloadError, match=r"no weights as \.safetensors"):
        look("ann/old")


def test_no_room_on_the_disk_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=3 * 10**9))
    download.check_room(tmp_path, 2 * 10**9)
    with pytest.raises(DownloadError, match=r"3\.0 GB free, and 5\.2 GB are needed"):
        download.check_room(tmp_path, 5 * 10**9)


def test_the_first_folder_that_can_be_written_to_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "webui" / "models").mkdir(parents=True)
    assert destination([tmp_path / "file" / "x", tmp_path / "new"]) == tmp_path / "new"
    assert destination([tmp_path / "webui"]) == tmp_path / "webui" / "models"
    with pytest.raises(DownloadError, match="No models folder"):
        destination([tmp_path / "file"])


@pytest.mark.parametrize(
    "change",
    [{"repository": "../x"}, {"revision": "main"}, {"files": [{"name": "a", "bytes": -1}]}, {"files": [1]}, {"x": 1}],
)
def test_a_plan_from_elsewhere_is_judged(change: dict) -> None:
    plan = Plan("ann/lora", hubs.REVISION, "", (File("a.safetensors", 1),))
    assert Plan.from_values(asdict(plan)) == plan
    with pytest.raises(DownloadError, match=r"nothing that can be downloaded|no name on the hub"):
        Plan.from_values({**asdict(plan), **change})
    with pytest.raises(DownloadError, match="No file is chosen"):
        fetch(Path(), replace(plan, files=()), lambda done: None, lambda end: None)


def test_the_process_ends_when_the_studio_does(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["ann/big"] = {"big.safetensors": BIG}
    plan = look("ann/big")
    hub.hold, hub.half = threading.Event(), threading.Event()
    with download._start(["get", str(tmp_path)]) as child:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(asdict(plan)) + "\n")
        child.stdin.flush()
        assert hub.half.wait(60)
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        assert child.wait(30) == 1
    hub.hold.set()
    hub.hold = None


def test_its_command_says_how_it_is_called() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "studio.models.hub.download", "steal"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2 and "look OWNER/NAME" in result.stderr
