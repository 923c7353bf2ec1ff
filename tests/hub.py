"""A hub on this machine with the few routes that a download needs, which can misbehave as real and hostile ones do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name, each with its files. Its attributes can be changed while it runs.

    breaks: file name → after how many bytes each connection that sends it is cut; taken away once it was done.
    denied: repository → status, and the hub's code for why. asked: what was asked for, with the range.
    waiting: if set, files are sent only as far as their first half until it is set.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.licenses: dict[str, str] = {}
        self.breaks: dict[str, int] = {}
        self.denied: dict[str, tuple[int, str]] = {}
        self.spoiled: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.half = threading.Event()
        self.hold: threading.Event | None = None
        self.address = ""


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that listens on a free port of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((path, self.headers.get("Range", "")))
            if path.startswith("/api/models/"):
                self._info(path.removeprefix("/api/models/"))
            elif "/resolve/" in path:
                repository, _, rest = path[1:].partition("/resolve/")
                self._file(repository, rest.partition("/")[2])
            else:
                self._answer(404, b"{}")

        def _info(self, repository: str) -> None:
            if self._refused(repository):
                return
            siblings = []
            for name, data in hub.repositories[repository].items():
                each: dict[str, Any] = {"rfilename": name, "size": len(data)}
                if name.endswith(("safetensors", "gguf", "bin")):
                    each["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
                siblings.append(each)
            card = {"license": hub.licenses.get(repository, "apache-2.0")}
            info = {"id": repository, "sha": REVISION, "siblings": siblings, "tags": [], "cardData": card}
            self._answer(200, json.dumps({**info, "downloads": 0, "likes": 0, "private": False}).encode())

        def _refused(self, repository: str) -> bool:
            if repository in hub.denied:
                status, code = hub.denied[repository]
                self._answer(status, b'{"error": "no"}', {"X-Error-Code": code} if code else {})
                return True
            if repository not in hub.repositories:
                self._answer(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
                return True
            return False

        def _file(self, repository: str, name: str) -> None:
            if self._refused(repository):
                return
            data = hub.repositories[repository].get(name)
            if data is None:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            if name in hub.spoiled:
                hub.spoiled.discard(name)
                data = b"\0" * len(data)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            end = hub.breaks.pop(name, len(data))
            half = start + (len(data) - start) // 2
            self.wfile.write(data[start : min(half, end)])
            self.wfile.flush()
            if hub.hold:
                hub.half.set()
                hub.hold.wait(60)
            self.wfile.write(data[half:end])
            if end < len(data):
                self.close_connection = True

        def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a download that is cancelled hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            if hub.hold:
                hub.hold.set()
            server.shutdown()
