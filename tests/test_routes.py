"""Anything may be asked of any route: the answer is a status below 500, and a sentence, never a traceback."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.models.manager import Manager
from tests.test_gradio_gate import OURS
from tests.test_web import Studio

ODD = [
    "", "0", "-1", "9" * 30, "1e309", "nan", "true", "null", ".", "..", "../../etc/passwd", "a/b", "a\\b", "%00", "\0",
    "\r\nX: y", "x" * 300, "é", "\ud800", "\u202e", "<b>", "${1}", "'", '"', ";", "*", "?", "CON", "~", "/etc/passwd",
    "C:\\x", "text_to_image", "model/sd", "sd", "sketchbook", "8x8-" + 24 * "0", "20261130-000000-00000000", "gif",
]  # fmt: skip
TEXT = st.sampled_from(ODD) | st.text(max_size=20)
NAMES = re.compile(r"{(\w+)(?::path)?}")
QUERIES = [
    "count", "before", "download", "stars", "id", "place", "left", "top", "right", "bottom", "source", "picture",
    "background", "key", "text", "choice", "name", "model",
]  # fmt: skip
HEADERS = [
    "Range", "If-Range", "If-None-Match", "If-Modified-Since", "Accept", "Accept-Encoding", "Accept-Language", "Cookie",
    "Content-Type", "Content-Encoding", "User-Agent", "Referer", "X-Forwarded-For", "X-Forwarded-Proto", "Expect",
    "Upgrade",
]  # fmt: skip


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, models: Manager) -> Iterator[Studio]:
    with ExitStack() as stack:
        made = Studio(tmp_path_factory.mktemp("output"), models=models)
        stack.callback(made.close)
        stack.enter_context(made.client)
        yield made


@pytest.fixture(scope="module")
def picture(studio: Studio) -> str:
    return studio.make(prompt="a", steps=1)


def asked(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


ASKING = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("route", sorted(OURS - {"GET /live", "GET /models/tasks"}))
@ASKING
@given(
    parts=st.lists(TEXT, min_size=3, max_size=3),
    query=st.dictionaries(st.sampled_from(QUERIES), TEXT, max_size=5),
    body=st.sampled_from([b"", b"{", b"[]", b"{}", b"\xff", b'{"a": [1e999]}', b"[" * 2000, b"\x89PNG\r\n\x1a\n"])
    | st.binary(),
)
def test_odd_paths_queries_and_bodies(
    studio: Studio, route: str, parts: list[str], query: dict[str, str], body: bytes
) -> None:
    method, path = route.split(" ", 1)
    left = iter(parts)
    path = NAMES.sub(lambda _: asked(next(left)), path)
    address = f"{path}?" + "&".join(f"{name}={asked(value)}" for name, value in query.items())
    answer = studio.client.request(method, address, content=body if method == "POST" else None)
    assert answer.status_code < 500, (method, address, answer.text[:200])
    if answer.status_code >= 400 and "json" in answer.headers.get("content-type", ""):
        assert set(answer.json()) & {"error", "detail"}


@ASKING
@given(
    path=st.sampled_from(
        ["/", "/theme.css", "/page/common/studio.css", "/page/nothing", "/pictures", "{}.png", "{}", "/thumbnails/{}"]
    ),
    headers=st.dictionaries(
        st.sampled_from(HEADERS),
        st.sampled_from(
            [
                "bytes=0-",
                "bytes=5-2",
                "bytes=-0",
                "bytes=0-1,2-3",
                "bytes=" + "1-2," * 500,
                "*",
                'W/"x"',
                "",
                "é",
                "\x7f",
            ]
        )
        | st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"), max_size=30),
        max_size=6,
    ),
)
def test_odd_headers(studio: Studio, picture: str, path: str, headers: dict[str, str]) -> None:
    path = path.replace("{}", f"/pictures/{picture}") if path.startswith("{") else path.replace("{}", picture)
    answer = studio.client.get(
        path, headers={name.encode(): value.encode("latin-1") for name, value in headers.items()}
    )
    assert answer.status_code < 500, (path, headers)


def test_no_file_outside_of_its_folder_is_given_out(studio: Studio, output: Path = Path("/etc")) -> None:
    for route in sorted(route for route in OURS if "{" in route and route.startswith("GET")):
        path = route.split(" ", 1)[1]
        for odd in (
            "../../../../../../etc/passwd",
            "..%2f..%2f..%2f..%2fetc%2fpasswd",
            "/etc/passwd",
            "%2fetc%2fpasswd",
        ):
            answer = studio.client.get(NAMES.sub(odd, path))
            assert "root:" not in answer.text and answer.status_code >= 400, route
