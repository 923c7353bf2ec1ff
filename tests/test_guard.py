"""The guard and what it counts: any header, wrong passwords, made-up browsers, and a log that nobody can flood."""

import asyncio
import base64
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from studio import logs
from studio.engine.shares import share_of
from studio.settings import Settings
from studio.web import guard, owners
from studio.web.guard import WRONG_AT_ONCE, WRONG_EACH, Guard
from studio.web.owners import AT_ONCE, KEY_FILE, Owners
from studio.web.pace import Allowance, Rounds
from tests.test_launch import ROOT
from tests.test_web import HERE, HOST, echo

KEY = b"k" * 32
COOKIE = Owners(KEY).cookie
PAIR = "ann:secret"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (guard, owners):
        monkeypatch.setattr(module, "Allowance", lambda at_once, each: Allowance(at_once, each, made))
    return made


def let_in(app: Guard, address: str = "192.0.2.7", base: str = HERE) -> TestClient:
    return TestClient(app, base_url=base, client=(address, 50000))


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


# Anything may stand in a header

ANY = st.binary(max_size=60).filter(lambda value: b"\0" not in value)
ODD = st.sampled_from(
    [
        b"x@127.0.0.1", b"127.0.0.1:7860, evil", b"127.0.0.1:7860\t", b"[::1", b"[::1]:x", b"[::1%25lo]:7860", b"127.1",
        b"0x7f.1", b"localhost:99999", b"localhost:", b"[v1.x]", b"[]", b"\xc2\xb2", b"http://[", b"http://[::1",
        b"null", b"http://127.0.0.1:7860@evil", b"Basic \xff", b"Basic =", b"Basic " + b"A" * 5, b"basic",
        b"Basic  YTpi", b"a=b;;=;", COOKIE.encode() + b"=\xff",
        COOKIE.encode() + b"=" + b"a" * 22 + b"." + b"\xe9" * 22,
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    headers=st.dictionaries(
        st.sampled_from(
            [b"host", b"origin", b"authorization", b"cookie", b"sec-fetch-site", b"content-length", b"range"]
        ),
        ANY | ODD,
        max_size=5,
    ),
    path=st.sampled_from(["/", "/live", "/gradio_api/run/predict", "//x", "/%00"]),
    auth=st.sampled_from(["", PAIR]),
)
def test_no_header_makes_the_guard_stumble(headers: dict[bytes, bytes], path: str, auth: str) -> None:
    app = Guard(echo, Settings(auth=auth), Owners(KEY))
    answer = ask(app, path, list({b"host": HOST.encode(), **headers}.items()))
    assert answer in ((200, 403) if not auth else (401, 403))


HEAD = [(b"host", HOST.encode())]


def ask(app: Any, path: str, headers: list[tuple[bytes, bytes]], client: Any = ("192.0.2.7", 5)) -> int:
    """The status of the answer to a request as it comes from the network, which a client would not send."""
    return asyncio.run(status(app, path, headers, client))


async def status(app: Any, path: str, headers: list[tuple[bytes, bytes]], client: Any = ("192.0.2.7", 5)) -> int:
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b"", "client": client}
    await app(scope, receive, send)
    return int(told[0]["status"])


@pytest.mark.parametrize(
    "host", ["x@127.0.0.1", "127.0.0.1:7860, evil", "[::1", "127.0.0.1:7860 ", "a:b@127.0.0.1:7860"]
)
def test_a_host_is_a_name_and_a_port(host: str) -> None:
    assert ask(Guard(echo, Settings(), Owners(KEY)), "/", [(b"host", host.encode())]) == 403


def test_two_hosts_are_none() -> None:
    twice = [(b"host", HOST.encode()), (b"host", b"evil.example")]
    assert ask(Guard(echo, Settings(), Owners(KEY)), "/", twice) == 403


@pytest.mark.parametrize("client", [None, ("", 0), ("unix", 0), ("fe80::1%eth0", 1), ("::ffff:192.0.2.7", 1)])
def test_any_address_is_somebodys(client: Any) -> None:
    assert ask(Guard(echo, Settings(), Owners(KEY)), "/pictures", [(b"host", HOST.encode())], client) == 200


# Wrong passwords


def test_who_tries_passwords_has_to_wait_and_nobody_else_has(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    app = Guard(echo, Settings(auth=PAIR), Owners(KEY))
    here, elsewhere = let_in(app), let_in(app, "192.0.2.8")
    # A browser that has signed in before, at the same address.
    known = let_in(app)
    assert known.get("/", headers={"Authorization": basic(PAIR)}).status_code == 200
    assert known.get("/live", headers={"Authorization": basic(PAIR)}).status_code == 200
    for number in range(WRONG_AT_ONCE):
        assert here.get("/", headers={"Authorization": basic(f"ann:{number}")}).status_code == 401
    refused = here.get("/", headers={"Authorization": basic(PAIR)})
    assert refused.status_code == 429 and "Wait" in refused.text and int(refused.headers["retry-after"]) >= WRONG_EACH
    assert here.get("/").status_code == 401, "who tries nothing is asked to sign in"
    assert elsewhere.get("/", headers={"Authorization": basic(PAIR)}).status_code == 200
    assert known.get("/live", headers={"Authorization": basic(PAIR)}).status_code == 200
    for status in [401] * WRONG_AT_ONCE + [429]:  # it has tries of its own
        assert known.get("/live", headers={"Authorization": basic("ann:x")}).status_code == status
    clock.now += WRONG_EACH
    assert here.get("/", headers={"Authorization": basic(PAIR)}).status_code == 200
    assert "192.0.2.7" in caplog.text
    assert "ann" not in caplog.text and "secret" not in caplog.text


def test_many_addresses_together_have_to_wait_too(clock: Clock) -> None:
    app = Guard(echo, Settings(auth=PAIR), Owners(KEY))
    for number in range(guard.WRONG_BY_ALL):
        client = let_in(app, f"2001:db8:{number:x}::1")
        assert client.get("/", headers={"Authorization": basic("ann:x")}).status_code == 401
    assert let_in(app, "2001:db8:ffff::1").get("/", headers={"Authorization": basic(PAIR)}).status_code == 429


def test_addresses_of_one_household_count_as_one(clock: Clock) -> None:
    app = Guard(echo, Settings(auth=PAIR), Owners(KEY))
    for number in range(WRONG_AT_ONCE):
        let_in(app, f"2001:db8::{number:x}").get("/", headers={"Authorization": basic("ann:x")})
    assert let_in(app, "2001:db8::ffff").get("/", headers={"Authorization": basic(PAIR)}).status_code == 429
    assert let_in(app, "2001:db8:0:1::1").get("/", headers={"Authorization": basic(PAIR)}).status_code == 200


# Whose browser it is


def test_nobody_can_make_up_a_browser() -> None:
    app = Guard(echo, Settings(), Owners(KEY))
    client = let_in(app)
    owner = client.get("/").text
    value = client.cookies[COOKIE]
    assert value.startswith(owner + ".") and share_of(owner) == owner
    forged = [owner, owner + ".", f"{owner}.{'A' * 22}", f"{'A' * 22}.{value.partition('.')[2]}", value + "x", "", ";"]
    forged += [f"{owner}~{'A' * 12}.{value.partition('.')[2]}"]
    for cookie in forged:
        answer = let_in(app, "192.0.2.9").get("/live", headers={"Cookie": f"{COOKIE}={cookie}"})
        assert answer.text != owner and share_of(answer.text) != answer.text, cookie


def test_who_brings_no_cookie_is_alone_and_shares_with_all_others_at_that_address() -> None:
    app = Guard(echo, Settings(), Owners(KEY))
    answers = [let_in(app).post("/gradio_api/run/predict") for _ in range(3)]
    assert len({each.text for each in answers}) == 3, "none can see what another started"
    assert len({share_of(each.text) for each in answers}) == 1
    assert share_of(let_in(app, "192.0.2.8").post("/").text) != share_of(answers[0].text)
    assert not any("set-cookie" in each.headers for each in answers)


def test_one_address_gets_few_shares_at_a_time_and_ids_without_end(clock: Clock) -> None:
    app = Guard(echo, Settings(), Owners(KEY))
    found = [let_in(app).get("/").text for _ in range(AT_ONCE)]
    assert len({share_of(each) for each in found}) == AT_ONCE
    later = [let_in(app) for _ in range(2)]
    one, two = (client.get("/").text for client in later)
    assert one != two and share_of(one) == share_of(two) != one
    assert later[0].get("/live").text == one, "it is known by its cookie like any other"
    other = let_in(app, "192.0.2.8").get("/").text
    assert share_of(other) == other
    clock.now += owners.EACH
    again = let_in(app).get("/").text
    assert share_of(again) == again


def test_a_cookie_of_another_program_on_this_host_hides_none(clock: Clock) -> None:
    app = Guard(echo, Settings(), Owners(KEY))
    client = let_in(app)
    owner = client.get("/").text
    value = client.cookies[COOKIE]
    for line in (f"{COOKIE}=x; {COOKIE}={value}", f"{COOKIE}={value}; {COOKIE}=x", f"a=b; {COOKIE}=; {COOKIE}={value}"):
        assert let_in(app).get("/live", headers={"Cookie": line}).text == owner
    assert Owners(b"another").cookie != COOKIE


def test_a_browser_is_known_after_a_restart(tmp_path: Path) -> None:
    first = Owners(owners.key_in(tmp_path / "new"))
    owner, cookie = first.new("")
    assert Owners(owners.key_in(tmp_path / "new")).known(cookie) == owner
    assert Owners(owners.key_in(tmp_path / "other")).known(cookie) is None
    assert (tmp_path / "new" / KEY_FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"\xff", b"00", b"zz" * 32])
def test_a_damaged_key_is_made_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    key = owners.key_in(tmp_path)
    assert len(key) == 32 and owners.key_in(tmp_path) == key


def test_studios_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(owners.key_in, [folder] * 8))) == 1
        assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def test_without_a_disk_a_key_lasts_as_long_as_the_studio(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert len(owners.key_in(tmp_path / "file")) == 32


async def holding(app: Guard, ways: list[tuple[str, str]]) -> list[asyncio.Task[int]]:
    """Requests with cookies from addresses, which are not answered until the test lets them."""
    return [
        asyncio.create_task(status(app, "/pictures", [*HEAD, (b"cookie", cookie.encode())], (address, 1)))
        for cookie, address in ways
    ]


def test_one_browser_and_one_address_cannot_keep_all_threads() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        arrived.append(scope["state"]["owner"])
        await ending.wait()
        await PlainTextResponse("done")(scope, receive, send)

    async def run() -> None:
        owners = Owners(KEY)
        app = Guard(endless, Settings(), owners)
        cookies = [f"{COOKIE}={owners.new('x')[1]}" for _ in range(9)]
        here, there = "192.0.2.7", "192.0.2.8"
        tasks = await holding(app, [(cookies[0], here)] * (guard.AT_A_TIME + guard.WAITING))
        while len(arrived) < guard.AT_A_TIME:
            await asyncio.sleep(0)
        refused = await holding(app, [(cookies[0], here)] * 2)
        assert [await each for each in refused] == [429, 429]
        tasks += await holding(app, [(cookies[1], there)])
        while len(arrived) == guard.AT_A_TIME:
            await asyncio.sleep(0)
        arrived.clear()
        tasks += await holding(app, [(cookie, here) for cookie in cookies[2:] for _ in range(guard.AT_A_TIME)])
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(arrived) == guard.OF_ADDRESS - guard.AT_A_TIME
        ending.set()
        assert {await each for each in tasks} == {200}
        assert app._turns._lines == app._at_address._lines == {}

    arrived: list[str] = []
    ending = asyncio.Event()
    asyncio.run(run())


def test_streams_that_have_begun_keep_nobody_out() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/pictures":
            await PlainTextResponse("here")(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        begun.append(scope)
        await ending.wait()

    async def run() -> None:
        app = Guard(stream, Settings(), Owners(KEY))
        tasks = await holding(app, [(f"{COOKIE}={Owners(KEY).new('x')[1]}", "192.0.2.7")] * 3 * guard.AT_A_TIME)
        while len(begun) < len(tasks):
            await asyncio.sleep(0)
        assert await status(app, "/", HEAD) == 200
        ending.set()
        assert {await each for each in tasks} == {200}

    begun: list[Any] = []
    ending = asyncio.Event()
    asyncio.run(run())


def test_who_waits_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        app = Guard(endless, Settings(), Owners(KEY))
        cookie = f"{COOKIE}={Owners(KEY).new('x')[1]}"
        tasks = await holding(app, [(cookie, "192.0.2.7")] * guard.AT_A_TIME)
        await asyncio.sleep(0)
        assert await (await holding(app, [(cookie, "192.0.2.7")]))[0] == 429
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert app._turns._lines == app._at_address._lines == {}

    monkeypatch.setattr(guard, "PATIENCE", 0.02)
    asyncio.run(run())


# How often


def test_an_allowance_comes_back_with_time() -> None:
    clock = Clock()
    allowance = Allowance(2, 5.0, clock)
    assert [allowance.take("a") for _ in range(3)] == [True, True, False]
    assert allowance.take("b") and not allowance.left("a")
    clock.now = 5.0
    assert [allowance.take("a") for _ in range(2)] == [True, False]
    clock.now = 100.0
    assert [allowance.take("a") for _ in range(3)] == [True, True, False], "no more than at once, after however long"


def test_an_allowance_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.web.pace.REMEMBERED", 3)
    allowance = Allowance(1, 1e6, Clock())
    for number in range(10):
        assert allowance.take(number)
    assert not allowance.left(9) and len(allowance._free_at) == 3


def test_who_waits_gets_a_turn_in_rounds() -> None:
    async def run() -> None:
        rounds, order = Rounds(1), list[str]()
        first = asyncio.Event()

        async def work(who: str) -> None:
            async with rounds.turn(who[0]):
                await first.wait()
                order.append(who)

        tasks = [asyncio.create_task(work(who)) for who in ("a0", "a1", "a2", "a3", "b1", "c1", "b2")]
        await asyncio.sleep(0)
        tasks[2].cancel()  # one that left keeps nobody waiting
        await asyncio.sleep(0)
        first.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == ["a0", "a1", "b1", "c1", "b2", "a3"]
        assert rounds._busy == 0 and not rounds._waiting

    asyncio.run(run())


# The log


def test_the_log_cannot_be_flooded() -> None:
    clock = Clock()
    sparing = logs.Sparing(clock)
    heard: list[str] = []

    def say(words: str, line: int = 1) -> None:
        record = logging.LogRecord("x", logging.WARNING, "file.py", line, words, (), None)
        if sparing.filter(record):
            heard.append(record.getMessage())

    for number in range(1000):
        say(f"wrong {number}")
    say("something else", 2)
    assert len(heard) == logs.AT_ONCE + 1 and heard[-1] == "something else"
    clock.now = logs.SPAN
    say("wrong again %s and 100%")
    assert heard[-1] == "wrong again %s and 100% (990 more like this were left out.)"


def test_warnings_of_libraries_are_measured_out_too(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import warnings; from studio import logs; logs.set_up(); warnings.simplefilter('always')\n"
    code += "for number in range(500): warnings.warn(f'odd size {number}')\n"
    code += "warnings.warn('another')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    told = capfd.readouterr().err
    assert told.count("odd size") == logs.AT_ONCE and "another" in told
