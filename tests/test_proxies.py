"""Names of its own and servers in front: what passes the guard, what does not, and what of the request is believed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from studio.settings import ROOT, Settings
from studio.web.guard import Guard
from studio.web.owners import Owners

NAME = "studio.example.org"
ORIGIN = f"https://{NAME}"
OWN = {"Sec-Fetch-Site": "same-origin"}
PASSED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1, 192.0.2.9"}


async def tell(scope: Any, receive: Any, send: Any) -> None:
    told = {"path": scope["path"], "address": scope["state"]["address"], "scheme": scope["scheme"]}
    await JSONResponse(told)(scope, receive, send)


def studio(**settings: Any) -> TestClient:
    app = Guard(tell, Settings(**{"allowed_hosts": (NAME, "*.example.net"), **settings}), Owners(b"key"))
    return TestClient(app, base_url="http://127.0.0.1:7860", client=("127.0.0.1", 5), follow_redirects=False)


def status(client: TestClient, host: str, path: str = "/live", **headers: str) -> int:
    return client.get(path, headers={"Host": host, **headers}).status_code


@pytest.mark.parametrize("host", [NAME, f"{NAME}:8443", "Studio.Example.ORG.", "a.example.net", "b.a.example.net"])
def test_allowed_names_pass(host: str) -> None:
    assert status(studio(), host) == 200
    assert status(studio(allowed_hosts=()), host) == 403


@pytest.mark.parametrize(
    "host",
    ["example.org", "x.studio.example.org", "example.net", "badexample.net", "evil", "192.0.2.7", "*.example.net", ""],
)
def test_others_do_not(host: str) -> None:
    answer = studio().get("/live", headers={"Host": host})
    assert answer.status_code == 403 and "--allowed-hosts" in answer.text


def test_with_its_host_kept_a_page_is_known() -> None:
    client = studio()
    assert status(client, NAME, Origin=ORIGIN, **OWN) == 200
    assert status(client, f"{NAME}:443", Origin=ORIGIN, **OWN) == 200  # nginx's $host:$server_port
    assert status(client, NAME, Origin="https://a.example.net", **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert status(client, NAME, Origin=f"{ORIGIN}:8443", **{"Sec-Fetch-Site": "same-site"}) == 403
    assert status(client, NAME, Origin=ORIGIN, **{"Sec-Fetch-Site": "cross-site"}) == 403


def test_with_its_host_replaced_a_page_is_known_by_what_the_proxy_or_the_browser_says() -> None:
    behind, alone, host = studio(behind_proxy=True), studio(), "127.0.0.1:7860"
    assert status(behind, host, Origin=ORIGIN, **{"X-Forwarded-Host": NAME}) == 200
    assert status(behind, host, Origin=ORIGIN, **OWN) == 200
    assert status(behind, host, Origin="https://a.example.net", **OWN) == 200
    # Without a word of the browser's it could be another port's page, or another site's.
    assert status(behind, host, Origin=ORIGIN) == 403
    for site in ("same-site", "cross-site"):
        assert status(behind, host, Origin=ORIGIN, **{"Sec-Fetch-Site": site}) == 403
    assert status(behind, host, Origin="https://evil.example", **OWN) == 403
    # Where the settings say of no proxy, there is none.
    assert status(alone, host, Origin=ORIGIN, **{"X-Forwarded-Host": NAME, **OWN}) == 403


def test_a_forwarded_host_never_stands_in_for_one_that_is_refused() -> None:
    """A page whose own name was pointed here can add any header to its requests."""
    behind = studio(behind_proxy=True)
    assert status(behind, "evil.example", Origin="http://evil.example", **{"X-Forwarded-Host": NAME, **OWN}) == 403
    assert status(behind, NAME, **{"X-Forwarded-Host": "evil.example"}) == 403
    assert status(behind, NAME, **{"X-Forwarded-Host": f"evil.example, {NAME}"}) == 403
    assert status(behind, NAME, Origin="https://evil.example", **{"X-Forwarded-Host": NAME, **OWN}) == 403


def test_what_a_proxy_says_is_believed_only_if_the_settings_say_so() -> None:
    told = studio(behind_proxy=True).get("/live", headers=PASSED).json()
    assert told == {"path": "/live", "address": "192.0.2.9", "scheme": "https"}  # what came before it is anybody's word
    told = studio().get("/live", headers=PASSED).json()
    assert told == {"path": "/live", "address": "127.0.0.1", "scheme": "http"}


@pytest.mark.parametrize("value", ["", ",", "evil", "javascript", "https\x01", "1.2.3.4.5, ::::", "[::1%lo"])
def test_odd_words_of_a_proxy_do_no_harm(value: str) -> None:
    names = ("Proto", "For", "Prefix")
    answer = studio(behind_proxy=True).get("/", headers={f"X-Forwarded-{name}": value for name in names})
    assert answer.status_code == 200 and answer.json()["scheme"] == "http"
    assert "; Path=/; " in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("settings", "path", "headers", "wanted"),
    [
        ({}, "/", {}, "Path=/"),
        ({"root_path": "/studio"}, "/studio/", {}, "Path=/studio/"),
        ({"root_path": "/studio"}, "/", {}, "Path=/"),
        ({"behind_proxy": True}, "/", {"X-Forwarded-Prefix": "/studio/"}, "Path=/studio/"),
        ({"behind_proxy": True}, "/", {"X-Forwarded-Prefix": "/x; Domain=evil"}, "Path=/"),
        ({}, "/", {"X-Forwarded-Prefix": "/studio"}, "Path=/"),
    ],
)
def test_the_cookie_is_for_the_studios_own_path(settings: Any, path: str, headers: Any, wanted: str) -> None:
    cookie = studio(**settings).get(path, headers=headers).headers["set-cookie"]
    assert wanted in cookie.split("; ") and "Secure" not in cookie and "HttpOnly" in cookie


def test_over_https_the_cookie_never_travels_without_it() -> None:
    assert "Secure" in studio(behind_proxy=True).get("/", headers=PASSED).headers["set-cookie"].split("; ")
    assert "Secure" not in studio().get("/", headers=PASSED).headers["set-cookie"]


def test_a_path_may_be_kept_or_taken_away_by_the_proxy() -> None:
    client = studio(root_path="/studio")
    paths = {
        "/studio/live": "/live",
        "/live": "/live",
        "/studio/": "/",
        "/studio/studio/x": "/studio/x",
        "/studios": "/studios",
    }
    assert {path: client.get(path).json()["path"] for path in paths} == paths
    opened = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = client.get("/studio", headers=opened)
    assert (answer.status_code, answer.headers["location"]) == (308, "/studio/")


def test_without_a_password_no_path_is_told() -> None:
    assert studio(root_path="/studio", auth="ann:secret").get("/studio").status_code == 401


SCRIPTS = [
    *(ROOT / "studio" / "ui").rglob("*.js"),
    *(ROOT / "studio" / "ui").rglob("*.css"),
    *(ROOT / "studio" / "ui").rglob("*.py"),
]
ABSOLUTE = re.compile(r"""["'`(=]/[a-z_]+[/?."'`$]""")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_page_asks_for_everything_below_its_own_address(path: Path) -> None:
    """An address that begins with a slash leads out of the path that a proxy has the studio under."""
    found = [
        line
        for line in path.read_text("utf-8").splitlines()
        if ABSOLUTE.search(line) and not line.lstrip().startswith("//")
    ]
    assert not found


def test_the_manifest_names_nothing_by_a_whole_path() -> None:
    manifest = json.loads((ROOT / "studio" / "ui" / "page" / "manifest.json").read_text("utf-8"))
    assert [manifest["start_url"], manifest["icons"][0]["src"]] == [".", "page/icon.svg"]
