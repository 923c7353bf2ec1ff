"""The web side against a fake worker: who is let in, what a window is told, what a form asks for."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from studio.app import create_app
from studio.engine.engine import Engine
from studio.engine.events import Cancelled, Finished, Paused
from studio.engine.paces import Pace
from studio.errors import ModelBusy, ModelMissing, RecipeError
from studio.families import Facts
from studio.library.library import Library
from studio.models.catalog import Entry
from studio.models.manager import Held, Memory
from studio.pictures.sources import Sources
from studio.recipe.fields import MAX_SEED
from studio.recipe.recipe import RANDOM_SEEDS, Recipe, Turn
from studio.settings import Settings
from studio.web import live, mailbox, pictures
from studio.web.guard import Guard
from studio.web.owners import Owners
from tests.fakes import PATIENCE, Events, FakeKeeper, FakePreview, FakeWorker

HOST = "127.0.0.1:7860"
HERE = f"http://{HOST}"
COOKIE = Owners(b"key").cookie
NASTY = "${alert(1)} {{value}} <img src=x onerror=alert(2)>"


class FakeModels:
    """Two models, one of which cannot be used."""

    folders = ()
    held: tuple[Held, ...] = ()

    def listen(self, listener: Any) -> None:
        self.told = listener

    def memory(self) -> Memory:
        return Memory(False, 8 * 10**9, 3 * 10**9)

    def entries(self) -> list[Entry]:
        pickle = Entry("old.ckpt", Path("old.ckpt"), problem="old.ckpt is a pickle. Use the safetensors version.")
        return [Entry("sketchbook", Path("sketchbook"), "Stable Diffusion"), pickle]

    def entry(self, name: str) -> Entry:
        self.facts(name)
        return self.entries()[0]

    def seen(self, kind: str) -> list[Entry]:
        return []

    def addons(self, kind: str) -> dict[str, Path]:
        return {}

    def facts(self, name: str) -> Facts:
        if name != "sketchbook":
            raise ModelMissing(f"There is no model named {name!r}.")
        return Facts(128, 128, 8, 20, 5.0, "DPM++ 2M")

    def default_recipe(self, name: str) -> Recipe:
        self.facts(name)
        return Recipe()


# Who is let in


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await PlainTextResponse(scope["state"]["owner"])(scope, receive, send)


def guarded(base: str = HERE, **settings: Any) -> TestClient:
    return TestClient(Guard(echo, Settings(**settings), Owners(b"key")), base_url=base)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.2", "localhost."]
)
def test_names_of_this_machine_pass(host: str) -> None:
    assert guarded().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.1.5", "localhost.evil", "", "[", "a b"],
)
def test_other_names_are_refused(host: str) -> None:
    answer = guarded().get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert COOKIE not in answer.headers.get("set-cookie", "")


def test_a_studio_open_to_the_network_is_reached_by_number_and_own_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Painter")
    client = guarded(host="0.0.0.0")
    for host in ("192.168.1.5:7860", "[fe80::1]:7860", "painter", "painter.local:7860", "localhost:7860"):
        assert client.get("/", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "painter.evil.example"):
        assert client.get("/", headers={"Host": host}).status_code == 403, host


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": HERE, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_sites_are_refused(headers: dict[str, str], method: str) -> None:
    assert guarded().request(method, "/", headers=headers).status_code == 403


def test_the_own_page_and_programs_pass() -> None:
    client = guarded()
    assert client.post("/", headers={"Origin": HERE, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert client.post("/").status_code == 200


def test_a_link_elsewhere_may_open_the_page_and_nothing_else() -> None:
    client = guarded()
    click = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=click).status_code == 200
    assert client.get("/pictures", headers=click).status_code == 403
    assert client.post("/", headers=click).status_code == 403


def test_websockets_are_guarded_too() -> None:
    client = guarded()
    for headers in ({"Host": "evil.example"}, {"Host": HOST, "Origin": "http://evil.example"}):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws", headers=headers):
            pass
    with client.websocket_connect("/ws", headers={"Host": HOST, "Origin": HERE}):
        pass


def test_sign_in() -> None:
    client = guarded(auth="ann:pass:wörd")

    def status(authorization: str) -> int:
        return client.get("/", headers={"Authorization": authorization} if authorization else {}).status_code

    def basic(pair: str) -> str:
        return "Basic " + base64.b64encode(pair.encode()).decode()

    assert status(basic("ann:pass:wörd")) == 200
    for wrong in ("", basic("ann:pass"), basic("bob:pass:wörd"), basic(""), "Basic !!!", "Basic", "Bearer x"):
        assert status(wrong) == 401, wrong
    assert client.get("/").headers["www-authenticate"].startswith("Basic")


def test_every_answer_is_marked() -> None:
    headers = guarded().get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert "http:" not in headers["content-security-policy"] and "*" not in headers["content-security-policy"]


def test_a_browser_keeps_its_id_and_nobody_can_choose_one() -> None:
    client = guarded()
    first = client.get("/")
    assert "HttpOnly" in first.headers["set-cookie"] and "SameSite=Lax" in first.headers["set-cookie"]
    again = client.get("/")
    assert again.text == first.text and "set-cookie" not in again.headers
    client.cookies.clear()
    for made_up in ("", "x", "a" * 23, "ä" * 22):
        assert guarded().get("/", headers={b"Cookie": f"{COOKIE}={made_up}".encode()}).text != made_up


# The whole application


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


def owner_in(client: TestClient) -> str:
    """The id in the only cookie that there is."""
    [value] = client.cookies.values()
    return value.partition(".")[0]


class Studio:
    """The application on a fake worker, and a client that stands for one browser."""

    def __init__(self, output: Path, auth: str = "", models: Any = None) -> None:
        self.worker = FakeWorker()
        self.library = Library(output)
        self.sources = Sources(output / "sources")
        self.engine = Engine(self.worker, self.library.add)
        self.events = Events()
        self.engine.subscribe(self.events)
        settings = Settings(auth=auth, output_folder=output)
        offered: Any = models or FakeModels()
        self.app = create_app(settings, self.engine, self.library, offered, self.sources)
        self.client = TestClient(self.app, base_url=HERE)

    def close(self) -> None:
        self.client.close()
        self.engine.close()
        self.library.close()

    def owner(self) -> str:
        self.client.get("/")
        return owner_in(self.client)

    def make(self, **values: Any) -> str:
        """The library id of a finished picture of this browser."""
        [job] = self.engine.submit([Recipe(**values)], self.owner())
        return self.events.final(job.id).picture  # type: ignore[attr-defined]

    def config(self) -> Any:
        """What Gradio tells the page about itself."""
        page = self.client.get("/").text
        return json.JSONDecoder().raw_decode(page, page.index("window.gradio_config = ") + 23)[0]

    def press(self, button: str, event: str = "click", data: dict[str, Any] | None = None, **changes: Any) -> list[Any]:
        """What Gradio answers when the form, changed in these fields, is sent by an event with its data.

        Of the form's own answers (`studio.ui.filling.Answer`) it is the sentence. Numbers are sent as they are typed.
        """
        config = self.config()
        components = {each["id"]: each for each in config["components"]}
        elem_ids = {number: each["props"].get("elem_id") for number, each in components.items()}
        [dependency] = [
            each
            for each in config["dependencies"]
            if each["backend_fn"]
            and any(elem_ids.get(target) == button and kind == event for target, kind in each["targets"])
        ]
        values = {each: components[each]["props"].get("value") for each in dependency["inputs"]}
        labels = {components[each]["props"].get("label"): each for each in dependency["inputs"]}
        typed = {label: str(value) if type(value) in (int, float) else value for label, value in changes.items()}
        values |= {labels[label]: value for label, value in typed.items()}
        body = {"data": list(values.values()), "fn_index": dependency["id"], "session_hash": "test"}
        body["event_data"] = data
        answer = self.client.post(
            "/gradio_api/run/predict", content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        return [sentence_in(each) for each in answer.json()["data"]]


def sentence_in(value: Any) -> Any:
    """The sentence, if that is one of a form's answers; otherwise the value."""
    return json.loads(value)["sentence"] if isinstance(value, str) and value.startswith('{"sentence"') else value


@pytest.fixture(scope="module")
def studio(output: Path) -> Iterator[Studio]:
    with ExitStack() as stack:
        made = Studio(output)
        stack.callback(made.close)
        stack.enter_context(made.client)
        yield made


@pytest.fixture(scope="module")
def locked(output: Path) -> Iterator[Studio]:
    with ExitStack() as stack:
        made = Studio(output, auth="ann:secret")
        stack.callback(made.close)
        stack.enter_context(made.client)
        yield made


def test_the_page_names_no_other_site(studio: Studio) -> None:
    page = studio.client.get("/")
    assert page.status_code == 200
    assert "Emerge Studio" in page.text
    assert "fonts.googleapis" not in page.text
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert "swagger" not in studio.client.get(path).text.lower()


def test_gradios_side_doors_are_shut(studio: Studio) -> None:
    config = studio.config()
    assert config["run_history"] is False
    assert config["analytics_enabled"] is False
    assert config["connect_heartbeat"] is False  # it would hold one of the browser's six connections
    assert all(each["api_visibility"] == "private" for each in config["dependencies"])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/gradio_api/info",
        "/gradio_api/queue/data?session_hash=x",
        "/live",
        "/pictures",
        "/page/stage/stage.js",
    ],
)
def test_sign_in_is_in_front_of_everything(locked: Studio, path: str) -> None:
    assert locked.client.get(path).status_code == 401


def test_posts_need_sign_in_and_an_own_page(studio: Studio, locked: Studio) -> None:
    body = {"data": [], "fn_index": 0, "session_hash": "x"}
    for path in ("/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/upload", "/jobs/x/cancel"):
        assert locked.client.post(path, json=body).status_code == 401, path
        assert studio.client.post(path, json=body, headers={"Origin": "http://evil.example"}).status_code == 403, path
    assert locked.client.get("/theme.css", auth=("ann", "secret")).status_code == 200


def test_scripts_come_from_here_with_their_types(studio: Studio) -> None:
    assert studio.client.get("/page/stage/stage.js").headers["content-type"].partition(";")[0].endswith("javascript")
    assert studio.client.get("/page/common/studio.css").headers["content-type"].startswith("text/css")
    assert studio.client.get("/page/..%2F..%2Fweb%2Fserver.py").status_code == 404


# Pictures


def test_a_picture_is_served_as_what_it_is(studio: Studio) -> None:
    name = studio.make(prompt="a red apple")
    answer = studio.client.get(f"/pictures/{name}.png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == studio.library.get(name).path.read_bytes()
    assert "content-disposition" not in answer.headers
    saved = studio.client.get(f"/pictures/{name}.png?download=1")
    assert saved.headers["content-disposition"] == 'attachment; filename="a-red-apple-0.png"'
    assert studio.client.get(f"/thumbnails/{name}").headers["content-type"].startswith("image/")


def test_what_the_page_knows_of_a_picture(studio: Studio) -> None:
    name = studio.make(prompt=NASTY, seed=7)
    told = studio.client.get(f"/pictures/{name}").json()
    assert Recipe.from_values(told["recipe"]) == Recipe(prompt=NASTY, seed=7) and told["steps_done"] == 20
    assert studio.client.get("/pictures?count=1").json()["pictures"][0] == told
    assert studio.client.get("/pictures").headers["content-type"] == "application/json"


def test_a_picture_is_rated(studio: Studio) -> None:
    name, other = studio.make(), studio.make()
    assert studio.client.post(f"/pictures/{name}/rating?stars=4").json() == {"rating": 4}
    assert studio.client.get(f"/pictures/{name}").json()["rating"] == 4
    asked = studio.client.get("/ratings", params=[("id", name), ("id", other), ("id", "nobody")])
    assert asked.json() == {"ratings": {name: 4, other: 0}}
    for path, status in ((f"/pictures/{name}/rating?stars=6", 404), ("/pictures/nobody/rating?stars=1", 404)):
        answer = studio.client.post(path)
        assert answer.status_code == status and answer.json()["error"].endswith(".")
    assert studio.client.get("/ratings", params=[("id", "x")] * 101).status_code == 422


@pytest.mark.parametrize("name", ["nothing", "..%2F..%2Fetc%2Fpasswd", "%00", "a b"])
def test_a_picture_that_is_not_there(studio: Studio, name: str) -> None:
    for path in (f"/pictures/{name}.png", f"/pictures/{name}", f"/thumbnails/{name}"):
        answer = studio.client.get(path)
        assert answer.status_code == 404, path
        if "%2F" not in path:
            assert answer.json()["error"].endswith(".")


def test_names_of_saved_files() -> None:
    assert pictures.file_name(Recipe(prompt="A cat, 3d render!", seed=5)) == "A-cat-3d-render-5.png"
    assert pictures.file_name(Recipe(prompt="../../etc/passwd\n\x00")) == "etc-passwd-0.png"
    assert pictures.file_name(Recipe()) == "picture-0.png"


# Acting on jobs


def test_only_the_browser_that_started_a_job_can_act_on_it(studio: Studio) -> None:
    studio.worker.by_hand = True
    [job] = studio.engine.submit([Recipe()], studio.owner())
    studio.worker.next_call()
    stranger = TestClient(studio.app, base_url=HERE)
    for act in ("pause", "resume", "cancel"):
        answer = stranger.post(f"/jobs/{job.id}/{act}")
        assert answer.status_code == 404 and "another browser" in answer.json()["error"]
    assert studio.client.post(f"/jobs/{job.id}/cancel").status_code == 200
    studio.worker.go_freely()
    assert type(studio.events.final(job.id)).__name__ == "Cancelled"
    assert studio.client.post(f"/jobs/{job.id}/dance").status_code == 404
    missing = studio.client.post("/jobs/nothing/pause")
    assert missing.status_code == 404 and missing.json()["error"].endswith(".")
    assert studio.client.get(f"/jobs/{job.id}/cancel").status_code in (404, 405)
    for act in ("pause", "resume", "cancel"):
        over = studio.client.post(f"/jobs/{job.id}/{act}")
        assert over.status_code == 404 and "not in the making any more" in over.json()["error"]


# The button


def test_generate_makes_as_many_pictures_as_asked_with_seeds_counting_up(studio: Studio) -> None:
    assert studio.press("text_to_image-start", Prompt=NASTY, Seed="41", Pictures=3) == [""]
    owner = studio.owner()
    jobs = studio.engine.jobs(owner)[-3:]
    assert [job.recipe.seed for job in jobs] == [41, 42, 43]
    assert {job.recipe.prompt for job in jobs} == {NASTY}
    for job in jobs:
        studio.events.final(job.id)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Width": 100}, "width of 100 pixels"),
        ({"Height": 100_000}, "height of 100000 pixels"),
        ({"Steps": 0}, "0 steps"),
        ({"Steps": 10_000}, "10,000 steps"),
        ({"Steps": None}, "Steps is empty"),
        ({"Steps": 2.5}, "whole number"),
        ({"Guidance scale": ""}, "Guidance scale is empty"),
        ({"Seed": "-1"}, "seed"),
        ({"Seed": str(MAX_SEED + 1)}, "seed"),
        ({"Seed": str(MAX_SEED), "Pictures": 2}, "seed"),
        ({"Seed": "cat"}, "'cat'"),
        ({"Pictures": 0}, "Pictures can be 1 to 64, not 0"),
        ({"Pictures": 65}, "Pictures can be 1 to 64, not 65"),
        ({"Pictures": "many"}, "Pictures is no number: 'many'"),
        ({"Prompt": "x" * 100_000}, "100,000 characters"),
        ({"Preview": "sideways"}, "Previews"),
        ({"Model": None}, "No model is chosen"),
    ],
)
def test_bad_input_is_told_in_a_sentence_and_harms_nothing(studio: Studio, changes: dict[str, Any], words: str) -> None:
    before = len(studio.engine.jobs())
    [sentence] = studio.press("text_to_image-start", **changes)
    assert words in sentence and sentence.endswith(".") and "Error" not in sentence
    assert len(studio.engine.jobs()) == before
    assert studio.press("text_to_image-start", Steps=1) == [""]


def test_a_studio_without_models_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModels, "entries", lambda _self: [])
    bare = Studio(tmp_path)
    components = bare.config()["components"]
    notes = [each["props"].get("value") for each in components if each["type"] == "html"]
    assert any("No model was found" in (note or "") for note in notes)
    [sentence] = bare.press("text_to_image-start", Prompt="a cat")
    assert "No model is chosen" in sentence
    bare.close()


# Event streams


def told(message: str) -> tuple[str, Any]:
    """Kind and data of a server-sent event."""
    kind, _, data = message.rstrip("\n").partition("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def until(stream: AsyncIterator[str], kind: str, **values: Any) -> Any:
    """The first message of this kind with these values, read within the tests' patience."""
    async with asyncio.timeout(PATIENCE):
        async for message in stream:
            if message.startswith(":"):
                continue
            name, data = told(message)
            if name == kind and all(data.get(key) == value for key, value in values.items()):
                return data
    raise AssertionError(f"no {kind} with {values}")


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(by_hand=True)


@pytest.fixture
def engine(worker: FakeWorker) -> Iterator[Engine]:
    made = Engine(worker, FakeKeeper())
    yield made
    worker.go_freely()
    made.close()


def test_a_window_that_opens_in_mid_run_is_told_how_things_stand_and_then_what_happens(
    engine: Engine, worker: FakeWorker
) -> None:
    async def scene() -> None:
        streams = live.Live(engine)
        jobs = engine.submit([Recipe(prompt=NASTY, steps=3)], "ann")
        streams.show("ann", "text_to_image", jobs)
        [job] = jobs
        await asyncio.to_thread(worker.next_call)
        async with aclosing(streams.stream("ann")) as stream:
            _, snapshot = told(await anext(stream))
            assert snapshot["shown"] == {"text_to_image": [job.id]}
            [now] = snapshot["jobs"]
            assert now["state"] == "step" and now["done"] == 0 and now["total"] == 3
            assert base64.b64decode(now["preview"]) == b"JPEG 0"
            assert now["recipe"]["prompt"] == NASTY
            worker.go_freely()
            done = await until(stream, "job", id=job.id, state="finished")
            assert done["picture"] == "picture-0" and "recipe" not in done

    asyncio.run(scene())


def test_a_window_hears_of_its_own_browsers_jobs_only(engine: Engine, worker: FakeWorker) -> None:
    async def scene() -> None:
        worker.go_freely()
        streams = live.Live(engine)
        async with aclosing(streams.stream("ann")) as stream:
            await anext(stream)
            engine.submit([Recipe(prompt="of bob", steps=1)], "bob")
            [own] = engine.submit([Recipe(prompt="of ann", steps=1)], "ann")
            streams.show("ann", "text_to_image", [own])
            heard: list[Any] = []
            async with asyncio.timeout(PATIENCE):
                # The two come in either order: a quick job is over before its place is told.
                while '"finished"' not in "".join(heard) or "event: shown" not in "".join(heard):
                    heard.append(await anext(stream))
            assert "of bob" not in "".join(heard)
            first = next(values for kind, values in map(told, heard) if kind == "job")
            assert first["recipe"]["prompt"] == "of ann"
            assert ("shown", {"shown": {"text_to_image": [own.id]}, "layouts": {"text_to_image": None}}) in map(
                told, heard
            )

    asyncio.run(scene())


def test_previews_that_the_window_does_not_show_are_not_encoded(
    engine: Engine, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def noted(preview: FakePreview) -> bytes:
        encoded.append(preview.done)
        return b""

    monkeypatch.setattr(FakePreview, "jpeg", noted)

    async def step() -> None:
        worker.go()
        await asyncio.to_thread(worker.next_call)

    async def scene() -> None:
        engine.submit([Recipe(steps=50)], "bob")
        await asyncio.to_thread(worker.next_call)
        async with aclosing(live.Live(engine).stream("ann")) as stream:
            await anext(stream)
            for _ in range(10):
                await step()
            [own] = engine.submit([Recipe(steps=50)], "ann")
            for _ in range(3):
                await step()
            done = (await until(stream, "job", id=own.id, state="step"))["done"]
        assert encoded and max(encoded) <= done < 10

    asyncio.run(scene())


def test_a_slow_window_gets_the_newest_preview_and_skips_the_rest(engine: Engine, worker: FakeWorker) -> None:
    async def scene() -> None:
        streams = live.Live(engine)
        [job] = engine.submit([Recipe(steps=50)], "ann")
        await asyncio.to_thread(worker.next_call)
        async with aclosing(streams.stream("ann")) as stream:
            await anext(stream)
            for _ in range(30):
                worker.go()
                await asyncio.to_thread(worker.next_call)
            await asyncio.sleep(0)
            assert (await until(stream, "job", id=job.id))["done"] == 30

    asyncio.run(scene())


def test_a_reader_that_is_gone_is_forgotten(engine: Engine) -> None:
    async def scene() -> None:
        streams = live.Live(engine)
        stream = streams.stream("ann")
        await anext(stream)
        assert len(engine._listeners) == 1
        await stream.aclose()
        assert engine._listeners == [] and streams._readers == []

    asyncio.run(scene())


def test_a_silent_stream_says_that_it_is_there(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr(live, "HEARTBEAT", 0.01)
        async with aclosing(live.Live(engine).stream("ann")) as stream:
            await anext(stream)
            assert told(await anext(stream)) == ("beat", {})

    asyncio.run(scene())


def test_a_silent_stream_says_so_beside_others_who_are_busy_too(
    engine: Engine, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to others' pictures wakes every reader, and is no sign of life for whoever hears nothing of it."""

    async def scene() -> None:
        monkeypatch.setattr(live, "HEARTBEAT", 0.2)
        streams = live.Live(engine)
        [theirs] = engine.submit([Recipe(steps=3)], "bob")

        async def be_busy() -> None:
            while True:
                for reader in streams._readers:
                    reader.mailbox.put(theirs.id, theirs.event)
                await asyncio.sleep(0.001)

        async with aclosing(streams.stream("ann")) as stream:
            await anext(stream)
            busy = asyncio.create_task(be_busy())
            async with asyncio.timeout(PATIENCE):
                assert told(await anext(stream)) == ("beat", {})
            busy.cancel()

    asyncio.run(scene())


def events_in(text: str) -> list[tuple[str, Any]]:
    return [told(f"{each}\n\n") for each in text.split("\n\n") if each]


def test_who_no_stream_reaches_asks_for_the_same(engine: Engine, worker: FakeWorker) -> None:
    async def scene() -> None:
        streams = live.Live(engine)
        [job] = engine.submit([Recipe(steps=3)], "ann")
        streams.show("ann", "text_to_image", [job])
        await asyncio.to_thread(worker.next_call)
        [(kind, snapshot)] = events_in(await streams.news("ann", "me", 0))
        assert kind == "jobs" and [each["id"] for each in snapshot["jobs"]] == [job.id]
        assert events_in(await streams.news("ann", "me", 0)) == []
        engine.submit([Recipe(prompt="of bob", steps=1)], "bob")
        worker.go_freely()
        states = []
        async with asyncio.timeout(PATIENCE):
            while "finished" not in states:
                found = events_in(await streams.news("ann", "me", live.WAIT))
                assert all(values["id"] == job.id for _, values in found)
                states += [values["state"] for _, values in found]
        # Another name is another reader; without one it is only told how things stand.
        for name in ("other", ""):
            [(kind, snapshot)] = events_in(await streams.news("ann", name, 0))
            assert kind == "jobs" and snapshot["shown"] == {"text_to_image": [job.id]}
        assert len(streams._readers) == 2

    asyncio.run(scene())


def test_who_does_not_ask_any_more_is_forgotten(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr(live, "ASKER_KEPT", 0.01)
        streams = live.Live(engine)
        await streams.news("ann", "me", 0)
        async with asyncio.timeout(PATIENCE):
            while streams._readers:
                await asyncio.sleep(0.005)
        assert streams._askers == {} and engine._listeners == []
        [(kind, _)] = events_in(await streams.news("ann", "me", 0))
        assert kind == "jobs"

    asyncio.run(scene())


def test_a_reader_that_asks_begins_again_when_the_studio_lets_it_go(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        monkeypatch.setattr(live, "STREAMS", 2)
        streams = live.Live(engine)
        for name in ("first", "second", "third"):
            await streams.news("ann", name, 0)
        assert await streams.news("ann", "first", live.WAIT) == ""  # at once: it has to make room
        while ("ann", "first") in streams._askers:
            await asyncio.sleep(0)
        [(kind, _)] = events_in(await streams.news("ann", "first", 0))
        assert kind == "jobs"

    asyncio.run(scene())


def test_streams_end_when_everything_is_told(engine: Engine, worker: FakeWorker) -> None:
    async def scene() -> None:
        streams = live.Live(engine)
        [job] = engine.submit([Recipe(steps=50)], "ann")
        await asyncio.to_thread(worker.next_call)
        stream, idle = streams.stream("ann"), streams.stream("bob")
        for each in (stream, idle):
            await anext(each)
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        while not engine._closing:
            await asyncio.sleep(0.001)
        worker.go_freely()  # only now, or it would be finished before
        await closing
        streams.close()
        async with asyncio.timeout(PATIENCE):
            *_, last = [message async for message in stream]
            assert told(last)[1]["state"] == "paused" and "was stopped" in told(last)[1]["reason"]
            assert [message async for message in idle] == []
            # One that comes now is told how things stand, and no more.
            [only] = [message async for message in streams.stream("ann")]
            assert [each["id"] for each in told(only)[1]["jobs"]] == [job.id]
        assert streams._readers == []

    asyncio.run(scene())


def test_what_tabs_show_is_bounded_and_nobody_is_pushed_out(
    engine: Engine, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "OWNERS_KEPT", 2)
    monkeypatch.setattr(live, "STAGES_KEPT", 2)
    streams = live.Live(engine)
    [mine] = engine.submit([Recipe(steps=5)], "ann")
    for place in ("one", "two", "three"):
        streams.show("ann", place, [mine], {"cells": []})
    assert streams.shown("ann", "one") == [] and streams.layout("ann", "one") is None
    for number in range(5):
        streams.show(f"nobody {number}", "one", [])
    assert streams.shown("ann", "two") == streams.shown("ann", "three") == [mine]
    assert len(streams._shown) <= 3


def test_a_stage_is_of_a_window_and_a_tab() -> None:
    assert live.stage_of("3f9", "compare") == "3f9/compare"
    for odd in ("", None, 5, "A", "a/b", "../x", "x" * 33, "<b>", ["a"]):
        assert live.stage_of(odd, "compare") == "compare"


def test_what_is_under_way_in_another_window_can_be_brought_over(engine: Engine, worker: FakeWorker) -> None:
    async def scene() -> None:
        streams = live.Live(engine)
        events = Events()
        engine.subscribe(events)
        worker.go_freely()
        [done] = engine.submit([Recipe(steps=1)], "ann")
        events.final(done.id)
        worker.by_hand = True
        moving, own = engine.submit([Recipe(steps=3), Recipe(steps=3)], "ann")
        streams.show("ann", "a/text_to_image", [done, moving])
        streams.show("ann", "b/text_to_image", [own])
        async with aclosing(streams.stream("ann")) as stream:
            await anext(stream)
            for to in ("a/text_to_image", "b/compare"):
                streams.bring("ann", "a/text_to_image", to)  # nowhere else, or of another tab: nothing happens
            streams.bring("bob", "a/text_to_image", "b/text_to_image")
            streams.bring("ann", "nowhere/text_to_image", "b/text_to_image")
            assert streams.shown("ann", "a/text_to_image") == [done, moving]
            streams.bring("ann", "a/text_to_image", "b/text_to_image")
            assert streams.shown("ann", "a/text_to_image") == [done]
            assert streams.shown("ann", "b/text_to_image") == [own, moving]
            news = [(await until(stream, "shown"))["shown"] for _ in range(2)]
            wanted = {"a/text_to_image": [done.id], "b/text_to_image": [own.id, moving.id]}
            assert {**news[0], **news[1]} == wanted

    asyncio.run(scene())


def test_grids_of_two_windows_change_places(engine: Engine, worker: FakeWorker) -> None:
    streams = live.Live(engine)
    one, other = engine.submit([Recipe(steps=3), Recipe(steps=3)], "ann")
    streams.show("ann", "a/compare", [one], {"cells": [[one.id]]})
    streams.bring("ann", "a/compare", "b/compare")
    assert streams.shown("ann", "b/compare") == [one] and streams.shown("ann", "a/compare") == []
    assert streams.layout("ann", "b/compare") == {"cells": [[one.id]]} and streams.layout("ann", "a/compare") is None
    streams.show("ann", "a/compare", [other], {"cells": [[other.id]]})
    streams.bring("ann", "a/compare", "b/compare")
    assert streams.shown("ann", "a/compare") == [one] and streams.layout("ann", "b/compare") == {"cells": [[other.id]]}


def test_only_the_owners_stages_are_moved(studio: Studio) -> None:
    owner = studio.owner()
    [job] = studio.engine.submit([Recipe(steps=1)], owner)
    studio.app.state.live.show(owner, "a/compare", [job], {"cells": [[job.id]]})
    stranger = TestClient(studio.app, base_url=HERE)
    stranger.get("/")
    for client, wanted in ((stranger, []), (studio.client, [job])):
        assert client.post("/stages/bring?stage=a/compare&place=compare&window=b").status_code == 200
        assert studio.app.state.live.shown(owner, "b/compare") == wanted
    for query in (
        "stage=a/compare&place=../x&window=b",
        "stage=a/compare&place=compare&window=B",
        "place=compare&window=b",
    ):
        assert studio.client.post(f"/stages/bring?{query}").status_code == 422


def test_what_a_tab_shows(engine: Engine, worker: FakeWorker) -> None:
    """What still moves stays beside what is new; what is done or stopped makes room."""
    streams = live.Live(engine)
    events = Events()
    engine.subscribe(events)
    worker.go_freely()
    [done] = engine.submit([Recipe(steps=1)], "ann")
    events.final(done.id)
    worker.by_hand = True
    [moving] = engine.submit([Recipe(steps=5)], "ann")
    worker.next_call()
    streams.show("ann", "text_to_image", [done, moving])
    [new] = engine.submit([Recipe(steps=5)], "ann")
    streams.show("ann", "text_to_image", [new])
    assert [job.id for job in streams.shown("ann", "text_to_image")] == [moving.id, new.id]
    assert streams.shown("bob", "text_to_image") == [] and streams.shown("ann", "compare") == []
    streams.bring_back("ann", "text_to_image", new)
    streams.bring_back("ann", "never seen", done)
    assert streams.shown("ann", "never seen") == []
    streams.bring_back("ann", "text_to_image", done)
    assert [job.id for job in streams.shown("ann", "text_to_image")] == [moving.id, new.id, done.id]


# The tabs that start from a picture


class Start:
    """A picture of 200 x 120 pixels in the store, with a mask of its middle."""

    def __init__(self, studio: Studio) -> None:
        self.picture = Image.linear_gradient("L").resize((200, 120)).convert("RGB")
        self.mask = Image.new("L", (200, 120))
        self.mask.paste(255, (80, 40, 120, 80))
        self.names = {
            "source": studio.sources.add_image(self.picture),
            "mask": studio.sources.add_image(self.mask),
        }


def latest(studio: Studio, count: int = 1) -> list[Recipe]:
    """The recipes of this browser's newest jobs, once they are done."""
    jobs = sorted(studio.engine.jobs(studio.owner()), key=lambda job: job.number)[-count:]
    for job in jobs:
        studio.events.final(job.id)
    return [job.recipe for job in jobs]


def test_image_to_image_starts_from_the_picture_at_the_size_asked_for(studio: Studio) -> None:
    start = Start(studio)
    sent: dict[str, Any] = {"Width": 128, "Height": 64, "Strength": 0.5, "Steps": 4, "Seed": "5"}
    assert studio.press("image_to_image-easel", "start", {**start.names, "mask": ""}, **sent) == [""]
    [recipe] = latest(studio)
    assert (recipe.strength, recipe.steps_run, recipe.mask) == (0.5, 2, "")
    assert studio.sources.open(recipe.source).size == (128, 64)


def test_inpainting_works_on_a_box_around_the_mask(studio: Studio) -> None:
    start = Start(studio)
    sent: dict[str, Any] = {"Margin": 10, "Feather": 0, "Work at": 128, "Steps": 4, "Seed": "5"}
    assert studio.press("inpainting-easel", "start", start.names, **sent) == [""]
    [recipe] = latest(studio)
    assert recipe.box == (70, 30, 130, 90) and (recipe.width, recipe.height) == (128, 128)
    assert recipe.source == start.names["source"] and recipe.mask == start.names["mask"]
    [sentence] = studio.press(
        "inpainting-easel", "start", start.names, Repaint="outside", **{**sent, "The model works on": "whole"}
    )
    assert sentence == ""
    [recipe] = latest(studio)
    assert recipe.box == (0, 0, 200, 120) and recipe.width > recipe.height
    assert studio.sources.open(recipe.mask).getpixel((100, 60)) == 0


@pytest.mark.parametrize(
    ("place", "data", "changes", "told"),
    [
        ("image_to_image", {}, {}, "no picture to start from"),
        ("image_to_image", {"source": "x"}, {}, "picture"),
        ("image_to_image", {"source": "9x9-" + "0" * 24}, {}, "not there"),
        ("image_to_image", None, {"Strength": 2}, "strength of 2"),
        ("image_to_image", None, {"Width": 30_000}, "Width can be 64 to 4096"),
        ("image_to_image", None, {"Width": None}, "Width is empty"),
        ("inpainting", {}, {}, "no picture to paint on"),
        ("inpainting", None, {"Feather": -1}, "Feather can be 0 to 512"),
        ("inpainting", None, {"Grow": 2.5}, "whole number"),
        ("inpainting", None, {"Repaint": "sideways"}, "not known"),
        ("inpainting", "empty", {}, "mask is empty"),
        ("inpainting", "full", {}, "covers the whole picture"),
        ("inpainting", "smaller", {}, "differ in size"),
    ],
)
def test_what_cannot_be_started_is_told(studio: Studio, place: str, data: Any, changes: dict, told: str) -> None:
    start = Start(studio)
    masks = {"empty": ((200, 120), 0), "full": ((200, 120), 255), "smaller": ((64, 64), None)}
    if isinstance(data, str):
        size, value = masks[data]
        mask = Image.new("L", size, value or 0)
        if value is None:
            mask.paste(255, (8, 8, 16, 16))
        data = {**start.names, "mask": studio.sources.add_image(mask)}
    [sentence] = studio.press(f"{place}-easel", "start", start.names if data is None else data, **changes)
    assert told in sentence and sentence.endswith("."), sentence


def test_variations_of_a_result(studio: Studio) -> None:
    name = studio.make(prompt="a boat", seed=3)
    data = {"picture": {"id": name}, "strength": 0.35}
    assert studio.press("image_to_image-easel", "vary", data) == [""]
    recipes = latest(studio, 4)
    assert len(recipes) == 4 == len({recipe.seed for recipe in recipes})
    assert {(recipe.prompt, recipe.strength) for recipe in recipes} == {("a boat", 0.35)}


# The form


def test_shapes_keep_the_number_of_pixels_and_are_recognised() -> None:
    from studio.ui import form

    for native in ((128, 128), (256, 256), (512, 512), (1024, 1024)):
        for shape in form.SHAPES:
            width, height = form.size_of_shape(shape, *native)
            Recipe(width=width, height=height).check()
            assert 0.7 < width * height / (native[0] * native[1]) < 1.35, (shape, native)
            assert form.shape_of_size(width, height, native) == shape
    assert form.size_of_shape("1:1", 512, 512) == (512, 512)
    assert form.shape_of_size(100, None, (128, 128)) is None


def test_an_empty_seed_is_a_new_one_each_time() -> None:
    from studio.ui import form

    values = {**asdict(Recipe()), "seed": " ", "pictures": 1, "previews": "clean"}
    seeds = {form.read(values)[0][0].seed for _ in range(20)}
    assert len(seeds) > 15 and max(seeds) < RANDOM_SEEDS
    with pytest.raises(RecipeError):
        form.read({**values, "seed": "0x10"})


def test_only_what_fits_is_restored_from_a_browser() -> None:
    from studio.ui import form

    good = {"prompt": NASTY, "steps": "7,5", "seed": "", "previews": "noisy"}
    assert form.restored(json.dumps({**good, "width": "w" * 41, "other": 1, "height": True, "model": 5})) == good
    numbers = json.dumps({"steps": 30, "guidance_scale": 7.5})
    assert form.restored(numbers) == {"steps": "30", "guidance_scale": "7.5"}
    assert form.restored(json.dumps({"previews": "sideways"})) == {}
    for odd in ("nonsense", None, "", "[1]", "3", "null", "[" * 100_000, {"prompt": "no text"}):
        assert form.restored(odd) == {}


def test_pictures_of_the_fake_worker_are_pictures(studio: Studio) -> None:
    name = studio.make()
    assert Image.open(studio.library.get(name).path).size == (8, 8)


def test_a_grid_tells_how_it_stands(engine: Engine, worker: FakeWorker) -> None:
    async def scene() -> None:
        worker.go_freely()
        streams = live.Live(engine)
        jobs = engine.submit([Recipe(seed=1), Recipe(seed=2)], "ann")
        layout = {"rows": [""], "columns": ["seed 1", "seed 2"], "cells": [[job.id for job in jobs]], "note": ""}
        streams.show("ann", "compare", jobs, layout)
        async with aclosing(streams.stream("ann")) as stream:
            _, snapshot = told(await anext(stream))
            assert snapshot["layouts"] == {"compare": layout}
            streams.show("ann", "compare", jobs[:1], {**layout, "note": "new"})
            news = await until(stream, "shown")
            assert news["layouts"]["compare"]["note"] == "new" and news["shown"]["compare"] == [jobs[0].id]

    asyncio.run(scene())


# The compare tab


def test_a_grid_of_seeds_and_guidance(studio: Studio) -> None:
    sent: dict[str, Any] = {
        "Prompt": "a {red|blue} boat",
        "Seed": "5",
        "Steps": 3,
        "Columns: values": "1, 4",
        "Rows": "sampler",
    }
    assert studio.press("compare-start", **{**sent, "Rows: values": "Euler, DDIM"}) == [""]
    recipes = latest(studio, 8)
    found = [(each.guidance_scale, each.sampler, each.prompt.split()[1]) for each in recipes]
    assert found == [
        (guidance, sampler, word) for word in ("red", "blue") for sampler in ("Euler", "DDIM") for guidance in (1, 4)
    ]
    assert {each.seed for each in recipes} == {5}


def test_how_many_and_about_how_long_is_told_before_starting(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {"Prompt": "a boat", "Steps": 4, "Guidance end": 1, "Columns: values": "1, 4", "Rows": ""}
    monkeypatch.setattr(studio.engine, "_pace", Pace())
    assert studio.press("compare-grid", "ended", {}, **sent)[0] == "2 pictures, 8 steps in all"
    recipe = Recipe(guidance_scale=4)
    studio.engine._pace.called([(recipe, 0)] * 2, 3.0)
    studio.engine._pace.ended(recipe, 1.0)
    assert studio.press("compare-grid", "ended", {}, **sent)[0] == "2 pictures, 8 steps in all, about 11 s"
    half: dict[str, Any] = {**sent, "Guidance end": 0.5}
    assert studio.press("compare-grid", "ended", {}, **half)[0] == "2 pictures, 8 steps in all, about 10 s"
    monkeypatch.undo()
    studio.press("compare-start", **sent)
    latest(studio, 2)
    assert studio.engine.seconds_for([recipe]) is not None


def test_values_added_to_an_axis_are_added_to_the_grid(studio: Studio) -> None:
    sent: dict[str, Any] = {"Prompt": "a tower", "Steps": 3, "Columns: values": "1, 4", "Rows": ""}
    studio.press("compare-start", **sent)
    two = latest(studio, 2)
    made = len(studio.engine.jobs(studio.owner()))
    studio.press("compare-start", **{**sent, "Columns: values": "1, 4, 9"})
    assert len(studio.engine.jobs(studio.owner())) == made + 1
    [third] = latest(studio)
    assert third.guidance_scale == 9 and third.seed == two[0].seed
    # The same again is made anew, with another seed.
    studio.press("compare-start", **{**sent, "Columns: values": "1, 4, 9"})
    assert len(studio.engine.jobs(studio.owner())) == made + 4
    assert {each.seed for each in latest(studio, 3)} != {third.seed}


def test_what_was_dropped_from_a_grid_is_made_again_in_its_place(studio: Studio) -> None:
    sent: dict[str, Any] = {"Prompt": "a tower", "Steps": 3, "Columns: values": "1, 4, 9", "Rows": ""}
    studio.press("compare-start", **sent)
    latest(studio, 3)
    layout = studio.app.state.live.layout(studio.owner(), "compare")
    assert layout
    [[first, second, third]] = layout["cells"]
    assert studio.press("compare-grid", "again", {"jobs": [third, first, third, "none"]}) == [""]
    latest(studio, 2)
    now = studio.app.state.live.layout(studio.owner(), "compare")
    assert now and now["rows"] == layout["rows"] and now["cells"][0][1] == second
    made = [studio.engine.job(each) for each in now["cells"][0]]
    assert [job.recipe for job in made] == [studio.engine.job(each).recipe for each in (first, second, third)]
    assert not {first, third} & {job.id for job in studio.app.state.live.shown(studio.owner(), "compare")}
    assert studio.press("compare-grid", "again", {"jobs": [first]}) == ["That grid is not on the page any more."]


def test_two_that_are_brought_back_at_the_same_time_both_come_back(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {"Prompt": "a tower", "Steps": 3, "Columns: values": "1, 4, 9", "Rows": ""}
    studio.press("compare-start", **sent)
    latest(studio, 3)
    live = studio.app.state.live
    [[first, second, third]] = live.layout(studio.owner(), "compare")["cells"]
    submit = studio.engine.submit

    def slow_submit(*given: Any) -> Any:
        """While the first is being made, the third is asked for and made."""
        monkeypatch.setattr(studio.engine, "submit", submit)
        assert studio.press("compare-grid", "again", {"jobs": [third]}) == [""]
        return submit(*given)

    monkeypatch.setattr(studio.engine, "submit", slow_submit)
    assert studio.press("compare-grid", "again", {"jobs": [first]}) == [""]
    [now] = live.layout(studio.owner(), "compare")["cells"]
    assert now[1] == second and not {first, third} & set(now)
    assert {job.id for job in live.shown(studio.owner(), "compare")} == set(now)


def test_what_comes_back_to_a_grid_that_has_gone_is_not_made(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {"Prompt": "a tower", "Steps": 3, "Columns: values": "1, 4", "Rows": ""}
    studio.press("compare-start", **sent)
    latest(studio, 2)
    [[first, _]] = studio.app.state.live.layout(studio.owner(), "compare")["cells"]
    submit = studio.engine.submit

    def slow_submit(*given: Any) -> Any:
        monkeypatch.setattr(studio.engine, "submit", submit)
        studio.press("compare-start", **{**sent, "Prompt": "a mill"})
        latest(studio, 2)
        studio.worker.by_hand = True
        return submit(*given)

    monkeypatch.setattr(studio.engine, "submit", slow_submit)
    studio.press("compare-grid", "again", {"jobs": [first]})
    studio.worker.go_freely()
    [now] = studio.app.state.live.layout(studio.owner(), "compare")["cells"]
    assert {studio.engine.job(each).recipe.prompt for each in now} == {"a mill"}
    last = studio.engine.jobs(studio.owner())[-1]
    assert last.id not in now and isinstance(studio.events.final(last.id), Cancelled)


def test_of_two_grids_that_are_asked_for_at_once_one_stands_and_nothing_goes_on_unseen(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {"Prompt": "a tower", "Steps": 3, "Columns: values": "1, 4", "Rows": ""}
    submit, before = studio.engine.submit, len(studio.engine.jobs(studio.owner()))
    studio.worker.by_hand = True

    def slow_submit(*given: Any) -> Any:
        """While the first grid is about to be made, another one is asked for, made and shown."""
        monkeypatch.setattr(studio.engine, "submit", submit)
        studio.press("compare-start", **sent)
        return submit(*given)

    monkeypatch.setattr(studio.engine, "submit", slow_submit)
    studio.press("compare-start", **sent)
    studio.worker.go_freely()
    shown = {job.id for job in studio.app.state.live.shown(studio.owner(), "compare")}
    made = [job for job in studio.engine.jobs(studio.owner())[before:] if job.id not in shown]
    assert len(shown) == len(made) == 2
    for job in made:
        studio.events.until(job.id, Paused)


def test_an_empty_seed_is_one_for_the_whole_grid(studio: Studio) -> None:
    sent: dict[str, Any] = {"Columns: values": "1-4", "Rows": ""}
    assert studio.press("compare-start", **sent) == [""]
    recipes = latest(studio, 4)
    assert len({each.seed for each in recipes}) == 1 and len(set(recipes)) == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"Columns: values": ""}, "Guidance scale has no values"),
        ({"Columns: values": "1-9999 +0.5"}, "values, and 64 pictures are the most"),
        ({"Rows": "guidance_scale", "Rows: values": "2"}, "chosen twice"),
        ({"Steps": None}, "Steps is empty"),
    ],
)
def test_a_grid_that_cannot_be_made_is_told(studio: Studio, changes: dict, told: str) -> None:
    before = len(studio.engine.jobs(studio.owner()))
    [sentence] = studio.press("compare-start", **changes)
    assert told in sentence
    assert len(studio.engine.jobs(studio.owner())) == before


def test_a_contact_sheet_brings_its_grid_back(studio: Studio) -> None:
    sent: dict[str, Any] = {
        "Prompt": "a boat",
        "Seed": "5",
        "Steps": 3,
        "Columns: values": "1, 4",
        "Rows": "seed",
        "Rows: values": "8-9",
    }
    assert studio.press("compare-start", **sent) == [""]
    latest(studio, 4)
    saved = studio.client.get("/sheets/compare.png")
    assert saved.headers["content-type"] == "image/png" and "attachment" in saved.headers["content-disposition"]
    told = studio.client.post("/sheets", content=saved.content).json()
    assert told["axes"] == [["guidance_scale", "1, 4"], ["seed", "8-9"]] and told["recipe"]["prompt"] == "a boat"
    answer = studio.press("compare-grid", "restore", told)
    assert "a boat" in answer and "8-9" in answer
    assert studio.client.post("/sheets", content=b"x").status_code == 422
    stranger = TestClient(studio.app, base_url=HERE)
    assert stranger.get("/sheets/compare.png").status_code == 404


# Going back into a picture


def test_the_steps_of_a_picture_can_be_looked_at_by_its_owner(studio: Studio) -> None:
    [job] = studio.engine.submit([Recipe(steps=4)], studio.owner())
    studio.events.final(job.id)
    answer = studio.client.get(f"/jobs/{job.id}/steps/2.jpg")
    assert answer.content == b"JPEG 2" and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["emerge-step"] == "2"
    assert studio.client.get(f"/jobs/{job.id}/steps/9.jpg").status_code == 404
    assert TestClient(studio.app, base_url=HERE).get(f"/jobs/{job.id}/steps/2.jpg").status_code == 404


def test_what_is_shown_for_a_step_that_was_thinned_out_says_which_step_it_is(studio: Studio) -> None:
    [job] = studio.engine.submit([Recipe("a", steps=9)], studio.owner())
    studio.events.final(job.id)
    job.run.every = 4  # type: ignore[union-attr]
    answers = [studio.client.get(f"/jobs/{job.id}/steps/{step}.jpg") for step in (3, 4, 7, 9)]
    assert [each.headers["emerge-step"] for each in answers] == ["0", "4", "4", "8"]
    assert answers[2].content == b"JPEG 4"
    sent: dict[str, Any] = {"Prompt": "b", "Guidance scale": 5, "Sampler": "DPM++ 2M"}
    for step, told in ((8, ""), (7, "goes on from step 4"), (3, "no longer remembered")):
        [sentence] = studio.press("text_to_image-canvas", "fork", {"job": job.id, "step": step}, **sent)
        assert told in sentence and bool(told) == bool(sentence)


def test_a_film_shows_each_step_that_is_remembered_once(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[bytes]] = []

    def noted(frames: Iterable[bytes], kind: str) -> bytes:
        shown.append(list(frames))
        return b"film"

    monkeypatch.setattr(live, "_film", noted)
    [job] = studio.engine.submit([Recipe(steps=9)], studio.owner())
    studio.events.final(job.id)
    assert studio.client.get(f"/jobs/{job.id}/steps.gif").content == b"film"
    job.run.every = 4  # type: ignore[union-attr]
    studio.client.get(f"/jobs/{job.id}/steps.webp")
    assert shown == [[b"JPEG %d" % step for step in range(10)], [b"JPEG 0", b"JPEG 4", b"JPEG 8"]]


def test_a_reader_that_takes_nothing_holds_only_so_much_and_begins_again(
    engine: Engine, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "NEWS_KEPT", 5)
    worker.go_freely()
    events = Events()
    engine.subscribe(events)

    async def read() -> None:
        async with aclosing(live.Live(engine).stream("ann")) as stream:
            await anext(stream)
            jobs = engine.submit([Recipe(steps=1) for _ in range(9)], "ann")
            for job in jobs:
                await asyncio.to_thread(events.final, job.id)
            with pytest.raises(StopAsyncIteration):
                while True:
                    await anext(stream)

    asyncio.run(read())


def test_only_so_many_tabs_of_a_browser_are_remembered(studio: Studio) -> None:
    streams = live.Live(studio.engine)
    [job] = studio.engine.submit([Recipe(steps=1)], "ann")
    for number in range(live.STAGES_KEPT):
        streams.show("ann", f"{number}", [job], {"cells": [[job.id]]})
    streams.show("ann", "0", [job])
    streams.show("ann", "more", [job], {"cells": [[job.id]]})
    for kept in ("0", "2", "more"):
        assert streams.shown("ann", kept) == [job] and streams.layout("ann", kept)
    assert not streams.shown("ann", "1") and not streams.layout("ann", "1")
    assert len(streams._shown["ann"]) == len(streams._layouts["ann"]) == live.STAGES_KEPT


def test_a_fork_takes_the_form_as_it_is_now(studio: Studio) -> None:
    [job] = studio.engine.submit([Recipe("a boat", steps=4)], studio.owner())
    studio.events.final(job.id)
    sent: dict[str, Any] = {"Prompt": "a ship", "Guidance scale": 5, "Sampler": "DPM++ 2M"}
    assert studio.press("text_to_image-canvas", "fork", {"job": job.id, "step": 2}, **sent) == [""]
    [recipe] = latest(studio)
    assert recipe == Recipe("a boat", steps=4, turns=(Turn(2, prompt="a ship"),))
    [sentence] = studio.press("text_to_image-canvas", "fork", {"job": job.id, "step": 7}, **sent)
    assert "no step 7" in sentence
    [sentence] = studio.press("text_to_image-canvas", "turn", {"job": job.id}, **sent)
    assert "is finished" in sentence
    [sentence] = studio.press("text_to_image-canvas", "turn", {"job": "nothing"}, **sent)
    assert "no longer" in sentence


def test_a_fork_takes_another_sampler_and_fresh_noise(studio: Studio) -> None:
    [job] = studio.engine.submit([Recipe("a", steps=6)], studio.owner())
    finished = studio.events.final(job.id)
    sent: dict[str, Any] = {"Prompt": "a", "Negative prompt": "", "Guidance scale": 5, "Sampler": "Euler"}
    assert studio.press("text_to_image-canvas", "fork", {"job": job.id, "step": 2, "noise": 0.5}, **sent) == [""]
    fork = studio.engine.jobs(studio.owner())[-1]
    [turn] = fork.recipe.turns
    assert (turn.step, turn.sampler, turn.noise[0], turn.guidance_scale) == (2, "Euler", 0.5, None)  # type: ignore[index]
    made = studio.events.final(fork.id).picture  # type: ignore[attr-defined]
    assert studio.press("text_to_image-canvas", "fork", {"job": fork.id, "step": 4}, **sent) == [""]
    studio.events.final(studio.engine.jobs(studio.owner())[-1].id)
    for noise, told in (
        ("much", "a strength and a seed"),
        (2, "strength 2 is out of range"),
        (-1, "strength -1 is out"),
    ):
        event = {"job": job.id, "step": 2, "noise": noise}
        [sentence] = studio.press("text_to_image-canvas", "fork", event, **sent)
        assert told in sentence

    lineage = studio.client.get(f"/pictures/{made}/lineage").json()
    assert (lineage["parent"]["id"], lineage["step"], lineage["gone"]) == (finished.picture, 2, False)  # type: ignore[attr-defined]
    assert [(each["recipe"]["turns"][-1]["step"], each["step"]) for each in lineage["forks"]] == [(2, 4)]
    studio.library.get(finished.picture).path.unlink()  # type: ignore[attr-defined]
    lineage = studio.client.get(f"/pictures/{made}/lineage").json()
    assert (lineage["parent"], lineage["gone"]) == (None, True)


def test_a_picture_of_the_library_stands_on_the_stage_again(studio: Studio) -> None:
    made = studio.make(prompt="of yesterday", steps=4)
    other = TestClient(studio.app, base_url=HERE)
    other.get("/")
    owner = owner_in(other)
    assert other.post(f"/pictures/{made}/recall?place=text_to_image").json() == {}
    [job] = studio.engine.jobs(owner)
    assert (job.recipe.prompt, job.event) == ("of yesterday", Finished(job.id, made))
    missing = other.get(f"/jobs/{job.id}/steps/2.jpg")
    assert missing.status_code == 404 and "no longer remembered" in missing.json()["error"]
    assert other.post("/pictures/nothing/recall?place=text_to_image").status_code == 404
    assert other.post(f"/pictures/{made}/recall?place=../x").status_code == 422
    # Its steps are run again.
    fork = studio.engine.fork(job.id, 2, {"prompt": "b"})
    assert isinstance(studio.events.final(fork.id), Finished) and fork.owner == owner


def test_a_fork_of_a_picture_whose_model_is_gone_is_told(studio: Studio) -> None:
    made = studio.make(prompt="of a model that is gone", steps=4)
    [job] = [job for job in studio.engine.jobs(studio.owner()) if getattr(job.event, "picture", "") == made]
    studio.worker.fault = lambda what, _prompts: ModelMissing("There is no such model.") if what == "check" else None
    sent: dict[str, Any] = {"Prompt": "a ship", "Guidance scale": 5, "Sampler": "Euler"}
    assert studio.press("text_to_image-canvas", "fork", {"job": job.id, "step": 2}, **sent) == [
        "There is no such model."
    ]
    studio.worker.fault = lambda _what, _prompts: None


def test_changes_on_the_way_are_read_from_the_form(studio: Studio) -> None:
    sent: dict[str, Any] = {"Prompt": "a boat", "Changes on the way": "2: guidance 9\n3: prompt a ship"}
    studio.press("text_to_image-start", **sent)
    [recipe] = latest(studio)
    assert recipe.turns == (Turn(2, guidance_scale=9.0), Turn(3, prompt="a ship"))
    sent = {"Changes on the way": "later: a ship"}
    [sentence] = studio.press("text_to_image-start", **sent)
    assert "no change on the way" in sentence


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_of_the_steps(kind: str) -> None:
    frames = []
    for shade in (0, 120, 250):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(file, "JPEG")
        frames.append(file.getvalue())
    with Image.open(io.BytesIO(live._film(frames, kind))) as film:
        assert film.n_frames == 3 and film.size == (32, 32)  # type: ignore[attr-defined]


def test_what_is_in_memory_is_told_and_freed_on_request(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    models = (Held("sketchbook", 10**9, "bfloat16", "Its layers come one after the other."),)
    monkeypatch.setattr(FakeModels, "held", models)
    answer = studio.client.get("/models/memory").json()
    assert answer["models"] == [asdict(models[0])]
    assert (answer["card"], answer["bytes"], answer["free"]) == (False, 8 * 10**9, 3 * 10**9)
    studio.make(prompt="so that it is loaded", steps=1)
    assert studio.worker.model == "sketchbook"
    assert studio.client.post("/models/free", params={"name": "sketchbook"}).json() == {}
    assert studio.worker.model == ""
    refused: Future[None] = Future()
    refused.set_exception(ModelBusy("A picture is being made with it."))
    monkeypatch.setattr(studio.engine, "free", lambda name: refused)
    answer = studio.client.post("/models/free", params={"name": "sketchbook"})
    assert answer.status_code == 400 and answer.json() == {"error": "A picture is being made with it."}


def test_every_window_is_told_of_ratings_and_of_memory(engine: Engine) -> None:
    async def scene() -> None:
        streams = live.Live(engine)
        async with aclosing(streams.stream("ann")) as ann, aclosing(streams.stream("bob")) as bob:
            await anext(ann)
            await anext(bob)
            streams.tell("rating x", "rating", {"id": "x", "rating": 2})
            streams.tell("rating x", "rating", {"id": "x", "rating": 3})
            streams.tell("memory", "memory", {})
            for stream in (ann, bob):
                assert await until(stream, "rating") == {"id": "x", "rating": 3}
                assert await until(stream, "memory") == {}

    asyncio.run(scene())
