"""What of Gradio can be reached. The list below is the whole of it; a route that it doesn't name must not answer."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gradio
import pytest
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from studio.web import gradio_gate
from studio.web.gradio_gate import PREDICT, GradioGate
from tests.test_web import HERE, Studio

OURS = {
    "GET /addons",
    "GET /favicon.ico",
    "GET /manifest.json",
    "GET /help",
    "GET /help/{name}",
    "POST /jobs/{job_id}/{act}",
    "GET /jobs/{job_id}/steps.{kind}",
    "GET /jobs/{job_id}/steps/{step}.jpg",
    "GET /live",
    "GET /live/here",
    "GET /live/news",
    "GET /models",
    "GET /models/beginnings",
    "POST /models/defaults",
    "POST /models/distilled",
    "POST /models/folder",
    "POST /models/free",
    "POST /models/hash",
    "POST /models/hub/get",
    "POST /models/hub/look",
    "GET /models/memory",
    "POST /models/notes",
    "GET /models/one",
    "POST /models/part",
    "GET /models/tasks",
    "POST /models/tasks/{task_id}/cancel",
    "GET /models/thumbnail",
    "GET /pictures",
    "GET /pictures/{picture_id}",
    "GET /pictures/{picture_id}.png",
    "GET /pictures/{picture_id}/lineage",
    "POST /pictures/{picture_id}/rating",
    "POST /pictures/{picture_id}/recall",
    "GET /ratings",
    "POST /recipes",
    "POST /sheets",
    "GET /sheets/{place}.png",
    "POST /sources",
    "POST /sources/masks",
    "GET /sources/{name}.png",
    "POST /sources/{name}/extended",
    "GET /sources/{name}/prepared/{kind}.png",
    "POST /stages/bring",
    "POST /styles",
    "GET /thumbnails/{picture_id}",
}
"""Routes of our own."""

GRADIOS = {"GET /", "HEAD /", "GET /theme.css", "GET /assets/{path:path}", "GET /static/{path:path}", f"POST {PREDICT}"}
"""Routes of Gradio that the page asks for."""

PASSWD = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Gradio would put copies of files."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Studio]:
    with ExitStack() as stack:
        made = Studio(tmp_path_factory.mktemp("output"))
        stack.callback(made.close)
        stack.enter_context(made.client)
        made.client.get("/")
        yield made


def gate(studio: Studio) -> GradioGate:
    [mount] = [each for each in studio.app.routes if isinstance(each, Mount) and each.path == ""]
    assert isinstance(mount.app, GradioGate)
    return mount.app


def functions(studio: Studio) -> list[dict[str, Any]]:
    return [each for each in studio.config()["dependencies"] if each["backend_fn"]]


def body(function: dict[str, Any], **changes: Any) -> dict[str, Any]:
    sent = {"data": [None] * len(function["inputs"]), "fn_index": function["id"], "session_hash": "w"}
    return {**sent, "event_data": None, "trigger_id": None} | changes


def events(function: dict[str, Any]) -> list[str]:
    return [name for _, name in function["targets"]]


# Routes


def flat(routes: list[BaseRoute], before: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of each route, those of routers within routers too."""
    for route in routes:
        if isinstance(route, Route):
            yield from ((method, before + route.path) for method in route.methods or ())
        elif isinstance(route, Mount):
            yield "*", f"{before}{route.path}/{{path:path}}"
        else:
            included: Any = route  # as FastAPI keeps a router that was included
            yield from flat(included.original_router.routes, before + included.include_context.prefix)


def test_the_list_names_every_route_of_our_own(studio: Studio) -> None:
    found = {f"{method} {path}" for method, path in flat(studio.app.routes) if method != "HEAD"}
    assert found - {"* /page/{path:path}", "* /help/pictures/{path:path}", "* /{path:path}"} == OURS


def test_no_other_route_of_gradio_answers(studio: Studio) -> None:
    inner = gate(studio)._app
    routes = {f"{method} {path}" for method, path in flat(inner.routes)}  # type: ignore[attr-defined]
    assert len(routes) > 60, "these are not Gradio's routes"
    for route in sorted(routes - GRADIOS):
        method, path = route.split(" ", 1)
        path = re.sub(r"{[^}]*}", "predict2", path)
        for each in {path, path.rstrip("/"), path + "/"} - {"/favicon.ico", "/manifest.json"}:
            answer = studio.client.request(method, each)
            assert (answer.status_code, answer.text) in (
                (404, "There is nothing at this address."),
                (404, ""),  # to HEAD
            ), (method, each)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://evil.example/x.png",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file//etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/run/predict",
        "/config",
        "/config/",
        "/info",
        "/gradio_api/heartbeat/x",
        "/gradio_api/queue/data?session_hash=x",
        "/gradio_api/custom_component/a/client/b/c.js",
        "/gradio_api/dev/reload",
        "/gradio_api/deep_link?session_hash=w",
        "/static/../config",
        "/static/.%2e/config",
        "/static/%2e%2e/%2e%2e/routes.py",
        "/assets//etc/passwd",
        "/assets/%2fetc/passwd",
        "/assets/..%5c..%5croutes.py",
        "/theme.css/",
        "/theme.css%00",
        "/%2e/config",
        "/svelte/x.js",
        "/nothing",
    ],
)
def test_side_doors_are_shut(studio: Studio, path: str) -> None:
    for method in ("GET", "POST", "PUT", "OPTIONS", "DELETE"):
        if (method, path) != ("POST", PREDICT):
            answer = studio.client.request(method, path)
            assert answer.status_code == 404, (method, path)


def test_what_the_page_needs_is_there(studio: Studio) -> None:
    page = studio.client.get("/")
    assert page.status_code == 200 and studio.client.head("/").status_code == 200
    assert "--" in studio.client.get("/theme.css?v=1").text
    scripts = set(re.findall(r"(?:src|href)=\"\./?((?:assets|static)/[^\"?]+)", page.text))
    assert scripts
    for path in scripts:
        assert studio.client.get(f"/{path}").status_code == 200, path


def test_the_address_in_the_page_is_the_studios_own(studio: Studio) -> None:
    for headers in (
        {"X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/x"},
        {"X-Gradio-Server": "http://evil.example"},
        {"Forwarded": "host=evil.example"},
        {"X-Direct-Url": "http://evil.example"},
    ):
        answer = studio.client.get("/?deep_link=..%2f..%2fx&view=api", headers=headers)
        assert answer.status_code == 200 and "evil.example" not in answer.text
        # Its address in the browser counts, which no server behind a proxy knows.
        assert '"root":"."' in answer.text.replace(": ", ":") and "studio.invalid" not in answer.text
        assert 'href="/' not in answer.text and 'src="/' not in answer.text
        assert "page/common/before.js" in answer.text and 'href="manifest.json"' in answer.text


# Values


FILES: list[Any] = [
    PASSWD,
    {"path": "http://evil.example/x.png", "meta": {"_type": "gradio.FileData"}},
    {"path": "/dev/zero", "meta": {"_type": "gradio.FileData"}, "is_stream": True},
    {"url": "http://evil.example/x.png"},
    {"path": "/etc/passwd"},
    [PASSWD],
    {"value": PASSWD},
    {"prompt": [[{"deep": PASSWD}]]},
    {"__type__": "update", "value": "x"},
]


@pytest.mark.parametrize("value", FILES, ids=str)
def test_no_value_of_any_function_may_describe_a_file(studio: Studio, cache: Path, value: Any) -> None:
    for function in functions(studio):
        for place in range(len(function["inputs"])):
            sent = body(function)
            sent["data"][place] = value
            answer = studio.client.post(PREDICT, json=sent)
            assert answer.status_code == 422, (function["id"], place, answer.text)
    assert list(cache.rglob("*")) == []


def test_no_event_may_carry_the_description_of_a_file(studio: Studio, cache: Path) -> None:
    tried = 0
    for function in functions(studio):
        for name in events(function):
            if name in ("use_settings", "reuse_seed", "restore", "vary"):
                tried += 1
                carried = {"recipe": {"source": PASSWD}, "axes": [PASSWD], "picture": {"id": PASSWD}, "strength": 1}
                answer = studio.client.post(PREDICT, json=body(function, event_data=carried))
                assert answer.status_code == 422, (name, answer.text)
    assert tried > 10
    assert list(cache.rglob("*")) == []


def test_even_past_the_gate_gradio_copies_no_file(studio: Studio, cache: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("name,prompt\na,b\n")
    past = TestClient(gate(studio)._app, base_url=HERE)
    [count, *_] = [each for each in functions(studio) if len(each["inputs"]) == 3]
    for path in (secret, "/etc/passwd", "/dev/zero", "/proc/self/environ"):
        described = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        answer = past.post(PREDICT, json=body(count, data=[described, None, None]))
        assert answer.status_code == 500, answer.text
    assert secret.exists() and not any(path.is_file() for path in cache.rglob("*"))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event_data": [' + b"[[]]," * 20_000 + b"1]}",
        b'{"data": ' + b"[" * 100 + b"]" * 100 + b"}",
        json.dumps({"data": []}).encode(),
        json.dumps({"data": [], "fn_index": -1, "session_hash": "w"}).encode(),
        json.dumps({"data": [], "fn_index": True, "session_hash": "w"}).encode(),
        json.dumps({"data": [], "fn_index": 7.0, "session_hash": "w"}).encode(),
        json.dumps({"data": [], "fn_index": "7", "session_hash": "w"}).encode(),
        json.dumps({"data": [], "fn_index": 10**400, "session_hash": "w"}).encode(),
        json.dumps({"data": {}, "fn_index": 0, "session_hash": "w"}).encode(),
    ],
)
def test_what_the_page_would_not_send_is_refused_in_a_sentence(studio: Studio, sent: bytes) -> None:
    answer = studio.client.post(PREDICT, content=sent)
    assert answer.status_code == 422
    assert answer.json()["error"].endswith("Reload the page.")


def test_values_are_of_the_kind_that_the_field_holds(studio: Studio) -> None:
    components = {each["id"]: each["type"] for each in studio.config()["components"]}
    wrong: dict[str, list[Any]] = {
        "textbox": [5, True, ["x"], {}],
        "dropdown": [{}, [["x"]], [{}], True],
        "html": [[], {}, 1],
    }
    tried = set()
    for function in functions(studio):
        for place, number in enumerate(function["inputs"]):
            for value in wrong.get(components[number], ()):
                sent = body(function)
                sent["data"][place] = value
                assert studio.client.post(PREDICT, json=sent).status_code == 422, (components[number], value)
                tried.add(components[number])
        for values in ([None] * (len(function["inputs"]) + 1), None, "x"):
            assert studio.client.post(PREDICT, json=body(function, data=values)).status_code == 422
        not_a_number = json.dumps(body(function, event_data={"noise": float("nan")}))
        assert studio.client.post(PREDICT, content=not_a_number).status_code == 422
    assert tried == set(wrong)


def test_a_choice_of_one_is_no_list_and_a_choice_of_several_is_one(studio: Studio) -> None:
    components = {each["id"]: each for each in studio.config()["components"]}
    tried = set()
    for function in functions(studio):
        for place, number in enumerate(function["inputs"]):
            if components[number]["type"] == "dropdown":
                several = bool(components[number]["props"].get("multiselect"))
                tried.add(several)
                for value in ["x", 5] if several else [["x"], []]:
                    sent = body(function)
                    sent["data"][place] = value
                    assert studio.client.post(PREDICT, json=sent).status_code == 422, (several, value)
    assert tried == {True, False}


def test_half_a_character_is_replaced_by_what_can_be_written(studio: Studio) -> None:
    told = studio.press("text_to_image-start", Prompt="a \ud83d cat \udc00", Steps=1, Seed="\ud800")
    assert "'\ufffd'" in told[0] and "whole number" in told[0]


def test_events_carry_what_they_are_there_to_carry(studio: Studio) -> None:
    """An event of odd shape is refused before it can make a function stumble."""
    shapes: list[Any] = [None, [], "x", 1, {}, {"recipe": None, "job": [], "step": "x", "model": 5, "picture": "x"}]
    for function in functions(studio):
        own = set(events(function)) - gradio_gate.PLAIN_EVENTS - {"ended", "brought", "start"}
        for shape in shapes:
            answer = studio.client.post(PREDICT, json=body(function, event_data=shape))
            assert (answer.status_code == 422) == bool(own), (own, shape, answer.text)


def test_a_page_that_was_not_opened_is_no_window(studio: Studio) -> None:
    function = functions(studio)[0]
    for session in (None, "", "x" * 100, "../x", "W", 5, ["w"]):
        assert studio.client.post(PREDICT, json=body(function, session_hash=session)).status_code == 422


def test_a_large_form_is_refused(studio: Studio) -> None:
    sent = body(functions(studio)[0], padding="x" * gradio_gate.MOST)
    assert studio.client.post(PREDICT, json=sent).status_code == 413


def test_a_function_that_fails_says_so_in_a_sentence_and_once_in_the_log(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(studio.engine), "job", broken)
    [fork, *_] = [each for each in functions(studio) if "fork" in events(each)]
    answer = studio.client.post(PREDICT, json=body(fork, event_data={"job": "x", "step": 1}))
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("Something inside the studio failed.")
    assert "A function of the page failed." in caplog.text
    assert "Traceback" not in "".join(capfd.readouterr())


def test_gradio_remembers_few_windows_and_mixes_nobodys(studio: Studio) -> None:
    function = functions(studio)[0]
    for number in range(3 * gradio_gate.SESSIONS):
        assert studio.client.post(PREDICT, json=body(function, session_hash=f"w{number}")).status_code == 200
    holder = gate(studio)._app.state_holder  # type: ignore[attr-defined]
    assert len(holder.session_data) <= gradio_gate.SESSIONS
    assert all(name.startswith(studio.owner() + ".") for name in holder.session_data)


def test_what_no_page_can_send_is_found_when_the_page_is_built() -> None:
    def nothing(*_: Any) -> None: ...

    with gradio.Blocks() as blocks:
        gradio.Button().click(nothing, inputs=gradio.File())
    with pytest.raises(TypeError, match="File"):
        GradioGate(blocks.app, blocks, {}, nothing)
    with gradio.Blocks() as blocks:
        gradio.Textbox().select(nothing)
    with pytest.raises(TypeError, match="select"):
        GradioGate(blocks.app, blocks, {}, nothing)


def test_no_file_of_the_studio_is_left_in_gradios_cache(cache: Path) -> None:
    assert list(cache.rglob("*")) == []
    assert tempfile.gettempdir() != str(cache)
