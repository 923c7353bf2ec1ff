"""The Models tab's requests, on real files and a real catalog."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from studio.app import _sentence
from studio.engine.engine import Engine
from studio.errors import StudioError
from studio.library.library import Library
from studio.models import sidecars
from studio.models.catalog import Catalog
from studio.models.hub.tasks import Tasks
from studio.models.manager import Manager
from studio.recipe.recipe import Recipe
from studio.web import models as models_web
from tests import weights
from tests.fakes import FakeWorker
from tests.test_loading import t5
from tests.weights import LORA, SDXL

NASTY = "<img src=x onerror=alert(1)>\u202e${alert(2)}"


def picture(kind: str = "PNG", size: tuple[int, int] = (600, 400)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "#c04020").save(data, kind)
    return data.getvalue()


def embedded(data: bytes, kind: str = "png") -> dict[str, str]:
    return {"modelspec.thumbnail": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    weights.safetensors(root / "Lora/ann.safetensors", LORA, {"modelspec.description": NASTY, **embedded(picture())})
    return root


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    library = Library(tmp_path / "out")
    yield library
    library.close()


@pytest.fixture
def engine(library: Library) -> Iterator[Engine]:
    engine = Engine(FakeWorker(), library.add)
    yield engine
    engine.close()


@pytest.fixture
def client(folder: Path, models_folder: Path, library: Library, engine: Engine) -> TestClient:
    app = FastAPI()
    app.add_exception_handler(StudioError, _sentence)
    manager = Manager(Catalog([folder, models_folder]), "cpu")
    app.include_router(models_web.routes(manager, library, engine, [folder, folder / "none"], Tasks()))
    return TestClient(app)


def listed(client: TestClient) -> dict[str, dict]:
    return {each["key"]: each for each in client.get("/models").json()["models"]}


def test_the_list_says_what_there_is(client: TestClient, library: Library) -> None:
    library.add(Image.new("RGB", (64, 64)), Recipe(model="sd"), 20)
    newest = library.add(Image.new("RGB", (64, 64)), Recipe(model="sd", seed=1), 20)
    found = listed(client)
    assert {"model/sketchbook", "model/sd", "model/flux", "lora/ann"} <= set(found)
    assert found["lora/ann"]["base"] == "sd1" and found["lora/ann"]["thumbnail"]
    assert found["model/sd"]["picture"] == newest and not found["model/flux"]["picture"]
    folders = client.get("/models").json()["folders"]
    assert [each["there"] for each in folders] == [True, False]


@pytest.mark.parametrize("ending", [".preview.png", ".png", ".jpg", ".webp"])
def test_a_picture_beside_a_model_is_its_thumbnail(folder: Path, client: TestClient, ending: str) -> None:
    (folder / f"Lora/ann{ending}").write_bytes(picture({".jpg": "JPEG", ".webp": "WEBP"}.get(ending, "PNG"), (30, 60)))
    answer = client.get("/models/thumbnail", params={"key": "lora/ann"})
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (30, 60)


def test_pictures_of_cards_are_shown_without_a_walk_through_the_folders(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listed(client)["lora/ann"]["thumbnail"]
    monkeypatch.setattr("studio.models.catalog.look", lambda *_: pytest.fail("the folders were looked at again"))
    answer = client.get("/models/thumbnail", params={"key": "lora/ann", "version": before})
    assert answer.status_code == 200


def test_the_embedded_picture_is_encoded_anew(client: TestClient) -> None:
    answer = client.get("/models/thumbnail", params={"key": "lora/ann", "version": "1"})
    assert Image.open(io.BytesIO(answer.content)).size == (384, 256) and "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "data",
    [b"", b"<svg onload=alert(1)/>", b"\x89PNG\r\n\x1a\n and no more", picture("GIF")],
    ids=["empty", "svg", "cut", "gif"],
)
def test_what_is_no_picture_is_not_shown(folder: Path, client: TestClient, data: bytes) -> None:
    weights.safetensors(folder / "Lora/ann.safetensors", LORA, embedded(data))
    (folder / "Lora/ann.png").write_bytes(data)
    answer = client.get("/models/thumbnail", params={"key": "lora/ann"})
    assert answer.status_code == 400 and "no picture" in answer.json()["error"]


def test_a_picture_that_would_fill_the_memory_is_not_decoded(folder: Path, client: TestClient) -> None:
    bomb = Image.new("1", (8000, 8000))
    data = io.BytesIO()
    bomb.save(data, "PNG")
    (folder / "Lora/ann.png").write_bytes(data.getvalue())
    weights.safetensors(folder / "Lora/ann.safetensors", LORA)
    assert client.get("/models/thumbnail", params={"key": "lora/ann"}).status_code == 400


def test_notes_come_from_all_sidecars(folder: Path, client: TestClient) -> None:
    lora = folder / "Lora"
    (lora / "ann.txt").write_text("Plain notes")
    html = "<p>From <b>Civitai</b></p><script>alert(1)</script>"
    info = {"description": html, "trainedWords": ["ann woman", 3], "model": {"name": "Ann"}}
    (lora / "ann.civitai.info").write_text(json.dumps(info))
    (lora / "ann.json").write_text(json.dumps({"activation text": "ann, smile", "preferred weight": 0.7}))
    (lora / "ann.md").write_bytes(b"\xff\xfe broken \x00 text")
    (lora / "annother.txt").write_text("not hers")
    one = client.get("/models/one", params={"key": "lora/ann"}).json()
    assert "Plain notes" in one["notes"] and "From Civitai" in one["notes"] and "alert(1)</" not in one["notes"]
    assert "not hers" not in one["notes"] and "\u202e" not in one["notes"] and "\x00" not in one["notes"]
    assert one["triggers"] == ["ann woman", "ann", "smile"] and one["weight"] == 0.7


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "[]", '{"model": 3, "description": {}, "trainedWords": 1}', '"x"']
)
def test_sidecars_that_are_damaged_are_passed_over(folder: Path, client: TestClient, text: str) -> None:
    (folder / "Lora/ann.civitai.info").write_text(text)
    (folder / "Lora/ann.json").write_text(text)
    assert client.get("/models/one", params={"key": "lora/ann"}).status_code == 200


def test_own_notes_are_kept_by_the_studio(folder: Path, client: TestClient) -> None:
    before = sorted(folder.rglob("*"))
    assert client.post("/models/notes", params={"key": "lora/ann"}, content=NASTY.encode()).status_code == 200
    assert client.get("/models/one", params={"key": "lora/ann"}).json()["own"] == NASTY.replace("\u202e", "\\u202e")
    assert "onerror" in listed(client)["lora/ann"]["own"] and sorted(folder.rglob("*")) == before
    refused = client.post("/models/notes", params={"key": "lora/ann"}, content=b"x" * 20_001)
    assert refused.status_code == 422 and "20,000" in refused.json()["error"]
    assert client.post("/models/notes", params={"key": "lora/nobody"}, content=b"x").status_code == 404


def test_defaults_are_judged_and_kept(client: TestClient) -> None:
    def keep(**values: object) -> str:
        return client.post("/models/defaults", params={"key": "model/sd"}, json=values).json().get("error", "")

    assert not keep(steps=7, sampler="Euler", width="", colour="red")
    one = client.get("/models/one", params={"key": "model/sd"}).json()
    assert one["defaults"] == {"steps": 7, "sampler": "Euler"} and one["suited"]["steps"] == 25
    assert "DDIM" in one["samplers"]
    assert {"guidance_end", "guidance_rescale"} <= set(one["suited"])
    flux = client.get("/models/one", params={"key": "model/flux"}).json()["suited"]
    assert "steps" in flux and not {"guidance_end", "guidance_rescale"} & set(flux)
    assert "must be a number" in keep(steps="many")
    assert "no sampler" in keep(sampler="Magic")
    assert "does not go with the schedule 'Beta'" in keep(sampler="DPM2", schedule="Beta")
    assert not keep(sampler="DPM2", schedule="Karras") and {"Karras", "Trailing"} <= set(one["schedules"])
    assert keep(steps=0) and keep(width=65)
    assert not keep()
    assert client.get("/models/one", params={"key": "model/sd"}).json()["defaults"] == {}


def test_what_a_person_says_of_a_name_is_kept_and_taken_back(folder: Path, client: TestClient) -> None:
    weights.safetensors(folder / "Stable-diffusion/turbo_painter.safetensors", SDXL)
    client.get("/models")
    key = {"key": "model/turbo_painter.safetensors"}

    def one() -> dict:
        return client.get("/models/one", params=key).json()

    assert one()["distillations"][:2] == ["no", "turbo"] and one()["suited"]["steps"] == 4
    assert client.post("/models/distilled", params={**key, "kind": "no"}).json() == {"note": ""}
    assert (one()["distilled"], one()["suited"]["steps"]) == ("no", 25)
    assert "cannot be distilled by" in client.post("/models/distilled", params={**key, "kind": "magic"}).json()["error"]
    client.post("/models/distilled", params=key)
    assert (one()["distilled"], one()["suited"]["steps"]) == ("", 4)
    assert client.get("/models/one", params={"key": "model/sd"}).json()["distillations"] == []


def test_a_hash_is_worked_out_once_and_forgotten_when_the_file_changes(folder: Path, client: TestClient) -> None:
    import hashlib

    path = folder / "Lora/ann.safetensors"
    task = client.post("/models/hash", params={"key": "lora/ann"}).json()
    assert task["total"] == path.stat().st_size
    lines = [json.loads(line) for line in client.get("/models/tasks").text.splitlines() if line]
    assert lines[-1]["state"] == "finished" and lines[-1]["done"] == task["total"]
    digits = hashlib.sha256(path.read_bytes()).hexdigest()
    assert client.get("/models/one", params={"key": "lora/ann"}).json()["sha256"] == digits
    weights.safetensors(path, LORA, {"changed": "yes"})
    assert client.get("/models/one", params={"key": "lora/ann"}).json()["sha256"] == ""
    assert client.post("/models/hash", params={"key": "model/sd"}).status_code == 400


def test_what_is_sent_to_download_is_judged(client: TestClient) -> None:
    assert "no name on the hub" in client.post("/models/hub/look", params={"text": "../.."}).json()["error"]
    for body in (b"[" * 100_000, b"[]", b"{}", b'{"repository": "../x", "revision": "", "license": ""}'):
        answer = client.post("/models/hub/get", content=body)
        assert answer.status_code in (400, 422) and answer.json()["error"].endswith(".")
    files = [{"name": "../../x.safetensors", "bytes": 1}]
    evil = {"repository": "a/b", "revision": "0" * 40, "license": "", "files": files}
    client.post("/models/hub/get", json=evil)
    lines = [json.loads(line) for line in client.get("/models/tasks").text.splitlines() if line]
    assert lines[-1]["state"] == "failed" and "refused" in lines[-1]["sentence"]


def test_a_thumbnail_needs_no_sidecar_to_be_asked_for(client: TestClient) -> None:
    assert not listed(client)["model/sd"]["thumbnail"]
    assert client.get("/models/thumbnail", params={"key": "model/sd"}).status_code == 400
    assert sidecars.SIDE == 384


def test_what_serves_as_a_part_is_told_and_can_be_chosen(folder: Path, client: TestClient) -> None:
    """The file of the usual name by itself; another one as soon as it is wanted, and as long as it is there."""
    weights.flux_in_parts(folder)
    weights.safetensors(folder / "vae/finetuned.safetensors", weights.FLUX_VAE)
    weights.safetensors(folder / "vae/sd3.safetensors", weights.FLUX_VAE)
    t5(folder / "t5_tokenizer")
    key = "model/flux1-dev.safetensors"

    def parts() -> dict[str, dict]:
        return {each["part"]: each for each in client.get("/models/one", params={"key": key}).json()["parts"]}

    def choose(part: str, choice: str) -> str:
        answer = client.post("/models/part", params={"key": key, "part": part, "choice": choice})
        return answer.json().get("error", "")

    assert {part: each["serves"] for part, each in parts().items()} == {
        "vae": "vae/ae", "text_encoder": "text encoder/clip_l", "text_encoder_2": "text encoder/t5xxl_fp16",
    }  # fmt: skip
    assert [file["key"] for file in parts()["vae"]["files"]] == ["vae/ae", "vae/finetuned"]
    assert not choose("vae", "vae/finetuned")
    assert (parts()["vae"]["serves"], parts()["vae"]["chosen"]) == ("vae/finetuned", "vae/finetuned")
    assert "cannot serve as the VAE of FLUX.1" in choose("vae", "vae/sd3") and "takes no unet" in choose(
        "unet", "vae/ae"
    )
    assert parts()["vae"]["serves"] == "vae/finetuned"
    (folder / "vae/finetuned.safetensors").rename(folder / "away")
    assert (parts()["vae"]["serves"], parts()["vae"]["chosen"]) == ("vae/ae", "")
    (folder / "away").rename(folder / "vae/finetuned.safetensors")
    assert parts()["vae"]["serves"] == "vae/finetuned" and not choose("vae", "")
    assert parts()["vae"]["serves"] == "vae/ae"
    assert client.get("/models/one", params={"key": "lora/ann"}).json()["parts"] == []
