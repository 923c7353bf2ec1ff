"""Behind a real nginx, set up as docs/settings.md says: on a name with https, Host kept or replaced; under a path."""

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import FLAGS, OPEN, PATIENCE, ROOT, Studio, launched
from tests.fakes import PATIENCE as SECONDS

NAME = "studio.example.org"
DOCUMENT = (ROOT / "docs" / "settings.md").read_text("utf-8")
SERVER, LOCATION = re.findall(r"```nginx\n(.*?)```", DOCUMENT, re.S)
PLAIN = "location / { proxy_pass http://127.0.0.1:7860; proxy_set_header X-Forwarded-Proto https; }"
"""What people write who know nothing of it: nginx then replaces the Host."""
REST = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ }}
http {{
    access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;
    fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    {server}
}}
"""


@dataclass(frozen=True)
class Front:
    """An nginx in front of a studio."""

    address: str


@pytest.fixture(scope="module")
def nginx() -> str:
    path = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if not path:
        pytest.skip("There is no nginx on this machine. On Debian: apt-get install nginx-light.")
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the name, and its key, that nobody but this test trusts."""
    if not shutil.which("openssl"):
        pytest.skip("There is no openssl on this machine to make a certificate with.")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    subprocess.run(
        [*command, "-keyout", "studio.key", "-out", "studio.pem"], cwd=folder, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def studio(chromium: str) -> Iterator[Studio]:
    """A studio as the document says to start it, with a path for those that are under one."""
    with launched("--allowed-hosts", NAME, "--behind-proxy", "--root-path", "/studio") as made:
        yield made


@contextmanager
def front(nginx: str, certificate: Path, studio: Studio, server: str, folder: Path) -> Iterator[str]:
    """nginx, with this server of the document at a free port and before this studio. Yields where it is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    upstream = studio.address.removeprefix("http://")
    server = server.replace("listen 443", f"listen 127.0.0.1:{port}").replace("127.0.0.1:7860", upstream)
    server = server.replace("/etc/ssl/", f"{certificate}/")
    (folder / "nginx.conf").write_text(REST.format(folder=folder, server=server))
    process = subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    )
    try:
        until = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < until and process.poll() is None, (folder / "error.log").read_text()
        yield f"https://{NAME}:{port}"
    finally:
        process.terminate()
        process.wait(SECONDS)


def server_with(location: str) -> str:
    """The document's server, with another location."""
    return re.sub(r" *location .*?\n    \}\n", lambda _: location, SERVER, flags=re.S)


CASES = {
    "as the document says": (SERVER, "/"),
    "with its Host replaced": (server_with(PLAIN), "/"),
    "under a path, as the document says": (server_with(LOCATION), "/studio/"),
    "under a path that is taken away": (server_with(LOCATION.replace(":7860;", ":7860/;")), "/studio/"),
    "under a path, with its Host replaced": (server_with(PLAIN.replace("location /", "location /studio/")), "/studio/"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_picture_comes_to_life_behind_nginx(
    case: str, nginx: str, certificate: Path, studio: Studio, browser: Browser, chromium: str, tmp_path: Path
) -> None:
    server, path = CASES[case]
    flags = [each for each in FLAGS if "host-resolver" not in each]
    flags += [f"--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with ExitStack() as stack:
        address = stack.enter_context(front(nginx, certificate, studio, server, tmp_path))
        own = browser.browser_type.launch(executable_path=chromium, args=[*flags, "--ignore-certificate-errors"])
        stack.callback(own.close)
        context = own.new_context(ignore_https_errors=True)
        context.add_init_script(OPEN)
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page = context.new_page()
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda each: None if each.url.startswith((address + path, "data:", "blob:")) else faults.append(each.url),
        )
        page.on("response", lambda each: faults.append(f"{each.status} {each.url}") if each.status >= 400 else None)
        page.goto(address + path)
        draw_live(page)
        assert not faults
        [cookie] = context.cookies()
        assert (cookie["path"], cookie["httpOnly"]) == ("/studio/" if _is_told(server, path) else "/", True)
        assert cookie["secure"]


def _is_told(server: str, path: str) -> bool:
    """Whether the studio knows the path: it is told if the proxy leaves it in the request."""
    return path != "/" and ":7860/;" not in server


def draw_live(page: Page) -> None:
    """Watch a picture come to life: with previews, by a stream, and as a file at the end."""
    page.locator("html[data-restored~=text_to_image]").wait_for(state="attached")
    page.get_by_label("Prompt", exact=True).first.fill("a red apple")
    page.get_by_label("Steps", exact=True).first.fill("60")
    page.get_by_role("button", name="Generate").click()
    page.locator(".tile[data-state=step][data-drawn]").wait_for()
    asked = page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert not [each for each in asked if "/live/news" in each]
    expect(page.locator(".tile[data-state=finished][data-kept]")).to_have_count(1)
    page.locator(".strip .thumbnail img").first.wait_for()
    page.get_by_role("tab", name="Models").click()
    page.locator("#models-panel").get_by_text("sketchbook").first.wait_for()
    page.get_by_role("tab", name="Inpainting").click()
    page.locator("#inpainting-panel .easel[data-ready]").wait_for()


def test_another_name_is_refused(nginx: str, certificate: Path, studio: Studio, tmp_path: Path) -> None:
    server = SERVER.replace(f"server_name {NAME}", "server_name _")
    with front(nginx, certificate, studio, server, tmp_path) as address:
        port = int(address.rpartition(":")[2])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 403")
