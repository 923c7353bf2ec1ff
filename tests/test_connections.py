"""Connections that say nothing, too little, too slowly, or too many of them: a real server on this machine."""

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import launch
from studio.errors import RequestError
from studio.web import bodies, connections
from tests.fakes import PATIENCE
from tests.test_launch import ROOT, SERVE

LONG = 10**9
"""Seconds that do not pass in a test."""


async def short(request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


async def large(request: Request) -> StreamingResponse:
    async def parts() -> Any:
        for _ in range(300):
            yield bytes(10**5)

    return StreamingResponse(parts())


async def whole(request: Request) -> Response:
    return Response(bytes(3 * 10**7))


async def take(request: Request) -> JSONResponse:
    try:
        return JSONResponse({"bytes": len(await bodies.body_of(request, 10**6))})
    except RequestError as error:
        return JSONResponse({"error": str(error)}, error.status)


class Server:
    """Uvicorn with our connections on a free port, on a thread."""

    def __init__(self, files: int | None) -> None:
        ways = [Route("/", short), Route("/large", large), Route("/whole", whole)]
        app = Starlette(routes=[*ways, Route("/take", take, methods=["POST"])])
        kind = connections.kind(files)
        config = uvicorn.Config(app, http=kind, ws="none", log_config=None, timeout_graceful_shutdown=1)
        self.listener = launch.bind("127.0.0.1", 20000)
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: self.uvicorn.run(sockets=[self.listener]))
        self.thread.start()

    def close(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(PATIENCE)
        self.listener.close()

    def connect(self) -> socket.socket:
        made = socket.create_connection(self.listener.getsockname(), timeout=PATIENCE)
        return made

    def ask(self, path: str = "/") -> bytes:
        with self.connect() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return rest_of(client)


def rest_of(client: socket.socket) -> bytes:
    """All that still comes until the other side closes. Waits for that."""
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := client.recv(10**5):
            data += part
    return bytes(data)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def make(files: int | None = None) -> Server:
            server = Server(files)
            stack.callback(server.close)
            return server

        yield make


@pytest.mark.parametrize(
    "said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: "], ids=["nothing", "line", "head"]
)
def test_who_does_not_finish_a_head_is_let_go(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    server = serve()
    with server.connect() as client:
        client.sendall(said)
        assert rest_of(client) == b""
    assert b"here" in server.ask()


def test_who_has_had_an_answer_is_let_go_too(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with serve().connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET /")
        assert rest_of(client).count(b"here") == 2


def test_a_body_that_nobody_reads_keeps_no_connection(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with serve().connect() as client:
        client.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
        assert b"404" in rest_of(client)


def test_among_many_that_wait_the_one_that_has_waited_longest_makes_room(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", LONG)
    monkeypatch.setattr(connections, "WAITING", 4)
    server = serve()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(10)]
        assert b"here" in server.ask()
        for client in silent[:6]:
            assert rest_of(client) == b""
        silent[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"here" in rest_of(silent[-1])


def test_connections_are_bounded_and_who_is_at_work_stays(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", LONG)
    server = serve(connections.RESERVED + 20)  # of which one address has ten
    with contextlib.ExitStack() as stack:
        working = [stack.enter_context(server.connect()) for _ in range(8)]
        for client in working:
            head = b"POST /take HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n"
            client.sendall(head + b"Expect: 100-continue\r\n\r\n")
            assert b"100" in client.recv(1000), "it is at work"
        silent = [stack.enter_context(server.connect()) for _ in range(30)]
        for client in silent[:20]:
            assert rest_of(client) == b""
        for client in working:
            client.sendall(b"12345")
            assert b'{"bytes":5}' in rest_of(client)


def test_who_does_not_read_the_answer_is_let_go(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.05)
    server = serve()
    with server.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in client.recv(20)
        while server.uvicorn.server_state.connections:
            threading.Event().wait(0.01)
        assert len(rest_of(client)) < 3 * 10**7
    monkeypatch.setattr(connections, "STALLED_SECONDS", LONG)
    assert server.ask("/large").count(b"\0") == 3 * 10**7, "who reads gets all of it"


def test_who_reads_slowly_gets_all_of_it(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer counts as sent when it waits to be read; that is not yet the time to wait for another request."""
    monkeypatch.setattr(connections, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    with serve().connect() as client:
        client.sendall(b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in client.recv(20)
        threading.Event().wait(0.3)  # long after the answer was given to the system, as far as that took it
        assert rest_of(client).count(b"\0") == 3 * 10**7


@pytest.mark.parametrize("part", [b"", b"some", b"x" * 5000])
def test_a_body_that_stops_is_given_up(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.05)
    monkeypatch.setattr(bodies, "SLOWEST", 10**6)
    with serve().connect() as client:
        client.sendall(b"POST /take HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9999\r\n\r\n" + part)
        answer = rest_of(client)
    assert b"408" in answer and b"too slowly" in answer


def test_a_body_that_says_it_is_too_large_is_not_read(serve: Callable[..., Server]) -> None:
    with serve().connect() as client:
        client.sendall(b"POST /take HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000001\r\n\r\n")
        answer = rest_of(client)
    assert b"413" in answer and b"larger than 1 MB" in answer


def test_a_body_that_breaks_off_says_nothing_in_the_log(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    with server.connect() as client:
        client.sendall(b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\nExpect: 100-continue\r\n\r\n")
        assert b"100" in client.recv(20)
        client.sendall(b"some")
    while server.uvicorn.server_state.tasks:
        threading.Event().wait(0.01)
    assert b"here" in server.ask() and not caplog.records


def test_large_bodies_wait_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Any] = []
    spooled = tempfile.SpooledTemporaryFile

    def noted(size: int) -> Any:
        files.append(spooled(size))
        return files[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", noted)
    monkeypatch.setattr(bodies, "IN_MEMORY", 1000)
    parts = iter([b"a" * 900, b"b" * 900, b""])
    rolled = []

    async def receive() -> Any:
        rolled.append(bool(files and files[0]._rolled))
        part = next(parts)
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    assert asyncio.run(bodies.body_of(request, 10**6)) == b"a" * 900 + b"b" * 900
    assert rolled == [False, False, True]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit.")
def test_a_process_with_few_files_lets_people_in_beside_silent_connections() -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 320))

    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", SERVE, "--no-browser", "--port", "20100"]
    with subprocess.Popen(command, cwd=ROOT, preexec_fn=few, **pipes) as process, contextlib.ExitStack() as stack:
        assert process.stdout and process.stderr
        port = next(int(line.rpartition(b":")[2]) for line in process.stdout if b" at http" in line)
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(600)
        ]
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert b"here" in rest_of(client)
                client.close()
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                client.sendall(b"\0 what is this\r\n\r\n")
                rest_of(client)
        process.terminate()
        complaints = process.communicate(timeout=PATIENCE)[1]
    assert len(silent) == 600
    assert 0 < complaints.count(b"\n") <= 2 * 10, complaints[:2000]


def test_as_many_files_may_be_open_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert connections.raise_files() == 4096 == limits[-1][0]
    limits[:] = [(1024, resource.RLIM_INFINITY)]
    assert connections.raise_files() == connections.OPEN + connections.RESERVED == limits[-1][0]
    limits[:] = [(resource.RLIM_INFINITY, resource.RLIM_INFINITY)]
    assert connections.raise_files() is None and len(limits) == 1
