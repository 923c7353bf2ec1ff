"""The help that the studio serves: every document, every link in them, and every setting's sentence."""

import re
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from studio.app import _sentence
from studio.errors import StudioError
from studio.settings import ROOT
from studio.ui.explained import EXPLAINED, script
from studio.web import help


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.add_exception_handler(StudioError, _sentence)
    app.mount("/help/pictures", help.screenshots())
    app.include_router(help.routes())
    return TestClient(app)


def sections(text: str) -> set[str]:
    return set(re.findall(r'<h\d id="([^"]+)"', text))


def test_every_document_is_a_page(client: TestClient) -> None:
    assert set(help.PAGES) == {path.stem for path in (ROOT / "docs").glob("*.md")}
    contents = client.get("/help").text
    for name in help.PAGES:
        assert f'href="help/{name}"' in contents
        assert "<h1" in client.get(f"/help/{name}").text


def test_every_link_within_the_help_leads_somewhere(client: TestClient) -> None:
    for name in help.PAGES:
        text = client.get(f"/help/{name}").text
        for target in re.findall(r'(?:href|src)="(?!https://|#)([^"]*)"', text):
            # As a browser does; a proxy may have all of it below a path, so none begins with a slash.
            address, _, place = urljoin(f"http://testserver/help/{name}", target).partition("#")
            assert not target.startswith("/"), f"{name} leads to {target}"
            if "/help" not in address:
                continue
            answer = client.get(address)
            assert answer.status_code == 200, f"{name} leads to {target}"
            assert not place or place in sections(answer.text), f"{name} leads to {target}"
        for place in re.findall(r'href="#([^"]+)"', text):
            assert place in sections(text), f"{name} leads to #{place}"


def test_every_sentence_leads_to_its_section(client: TestClient) -> None:
    for label, (text, page) in EXPLAINED.items():
        address, _, place = page.partition("#")
        answer = client.get(f"/help/{address}")
        assert answer.status_code == 200 and (not place or place in sections(answer.text)), label
        assert text.endswith((".", ").")) and len(text) < 230, label


@pytest.mark.parametrize("name", ["nothing", "..%2fREADME", "%2e%2e", "pictures/..%2f..%2fstyles.csv"])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/help/{name}").status_code == 404


def test_html_in_a_document_is_text() -> None:
    assert "<img" not in help._html("a <img src=x onerror=alert(1)> b\n\n<script>alert(2)</script>")
    assert "javascript:" not in help._html("[a](javascript:alert(1))").replace("[a](javascript:alert(1))", "")


def test_the_table_cannot_end_its_element() -> None:
    assert script().count("<") == 2 and script().startswith('<script type="application/json"')
