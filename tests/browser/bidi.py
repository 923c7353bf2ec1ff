"""A small client of WebDriver BiDi, for browsers that Playwright does not drive: https://w3c.github.io/webdriver-bidi.

Only what the tests need: one page, scripts in it, keys, the pointer and files.
"""

import base64
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

SECONDS = 60
"""After which an answer will not come."""


class Socket:
    """Texts over a WebSocket, as RFC 6455 has it: what is sent is masked, and what comes may be in pieces."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self.socket = socket.create_connection((host, port), SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.file = self.socket.makefile("rb")
        status = self.file.readline()
        assert b" 101 " in status, status
        while self.file.readline().strip():
            pass

    def send(self, text: str) -> None:
        data, mask = text.encode(), os.urandom(4)
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        if len(data) >= 1 << 16:
            length = b"\xff" + struct.pack(">Q", len(data))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.socket.sendall(b"\x81" + length + mask + masked)

    def receive(self) -> str:
        parts = []
        while True:
            first, second = self.file.read(2)
            length = second & 127
            if length > 125:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
            data = self.file.read(length)
            if first & 15 < 8:  # not a ping or a pong
                parts.append(data)
                if first & 128:
                    return b"".join(parts).decode()


class Firefox:
    """A Firefox without a window, with one page."""

    def __init__(self, path: str) -> None:
        self.profile = tempfile.mkdtemp(prefix="emerge-firefox-")
        command = [path, "--headless", "--no-remote", "--profile", self.profile, "--remote-debugging-port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        found = None
        for line in self.process.stderr:
            if found := re.search(r"WebDriver BiDi listening on ws://([\d.]+):(\d+)", line):
                break
        assert found, "Firefox did not start"
        # What it says later must not fill the pipe, or it would wait.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.socket = Socket(found[1], int(found[2]), "/session")
        self.count = 0
        self.ask("session.new", capabilities={})
        self.page = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command. Fails with what the browser says against it."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.receive())
            if answer.get("id") == self.count:
                assert answer["type"] == "success", answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, address: str, width: int = 1440, height: int = 900) -> None:
        self.ask("browsingContext.setViewport", context=self.page, viewport={"width": width, "height": height})
        self.ask("browsingContext.navigate", context=self.page, url=address, wait="complete")

    def run(self, expression: str) -> Any:
        """What a script comes to, once it does: a text, a number, a truth value or null."""
        script = {"expression": expression, "awaitPromise": True, "target": {"context": self.page}}
        answer = self.ask("script.evaluate", **script)
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        frames = SECONDS * 60
        found = self.run(
            f"(async () => {{ for (let left = {frames}; left > 0; left--) {{ if ({condition}) return true;"
            " await new Promise((done) => setTimeout(done, 16)); } return false; })()"
        )
        assert found, f"this never became true: {condition}"

    def files(self, selector: str, *paths: Path) -> None:
        """Choose files in a field for them."""
        script = {"expression": f"document.querySelector({json.dumps(selector)})", "awaitPromise": False}
        found = self.ask("script.evaluate", **script, target={"context": self.page}, resultOwnership="root")
        element = {"sharedId": found["result"]["sharedId"]}
        self.ask("input.setFiles", context=self.page, element=element, files=[str(path) for path in paths])

    def pointer(self, *places: tuple[float, float]) -> None:
        """Press at the first of these places of the window, move through the others, and let go."""
        moves = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 50} for x, y in places]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        source = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self.ask("input.performActions", context=self.page, actions=[source])

    def key(self, value: str) -> None:
        actions = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        self.ask("input.performActions", context=self.page, actions=[{"type": "key", "id": "keys", "actions": actions}])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)
        shutil.rmtree(self.profile, ignore_errors=True)
