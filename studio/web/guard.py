"""Who is let in: one guard in front of everything, which looks at a request before anything else does."""

import base64
import hmac
import ipaddress
import logging
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.engine.shares import share_of
from studio.settings import Settings
from studio.web.forwarded import Asked, asked
from studio.web.owners import Owners
from studio.web.pace import Allowance, Turns

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Gradio's page needs inline scripts, and compiles its templates with Function(). Nothing may come from elsewhere.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
}

WRONG_AT_ONCE, WRONG_EACH = 10, 3.0
"""Wrong passwords that one address may try at once, and the seconds until one more."""

WRONG_BY_ALL, WRONG_BY_ALL_EACH = 200, 0.1
"""The same for all addresses together."""

AT_A_TIME, OF_ADDRESS, WAITING, PATIENCE = 12, 30, 200, 30.0
"""Requests of one browser that are answered at a time, or one could keep all of the server's 40 threads, and of one
address; how many more may wait, and for how many seconds. A browser makes six at a time, but behind a proxy as many as
there are pictures on the page. Streams that have begun do not count."""

STREAMS = ("text/event-stream", "application/x-ndjson")
"""Answers that go on until the page is closed."""

BUSY = "Too much was asked for at once. Wait for the answers, then ask again."

SIGNED_IN_KEPT = 1000
"""Browsers that are known to have the password; the one seen longest ago is forgotten first."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%\w-]+\]|[\w.-]+)(:\d{1,5})?", re.ASCII)

log = logging.getLogger(__name__)


class Guard:
    """Decides who is let in, and marks every answer.

    Host: a page elsewhere can have its own name point to this machine (DNS rebinding) and then counts as ours for a
    browser, so only names that are really this machine's pass, and those that the settings allow. Origin: a page
    elsewhere can send requests here with the person's sign-in; browsers say so, and it is refused. Then sign-in, if the
    settings ask for one: who tries wrong passwords gets few tries, and those who are signed in notice nothing of it.

    Every browser gets an id as a cookie with the page, found in `request.state.owner`: whose job a job is.
    """

    def __init__(self, app: ASGIApp, settings: Settings, owners: Owners) -> None:
        self._app = app
        self._settings = settings
        self._auth = settings.auth
        self._owners = owners
        self._only_loopback = is_loopback(settings.host)
        name = socket.gethostname().lower()
        self._names = {"localhost"} if self._only_loopback else {"localhost", name, f"{name}.local"}
        self._wrong = Allowance(WRONG_AT_ONCE, WRONG_EACH)
        self._wrong_by_all = Allowance(WRONG_BY_ALL, WRONG_BY_ALL_EACH)
        self._signed_in: OrderedDict[str, None] = OrderedDict()
        self._turns = Turns(AT_A_TIME, WAITING, PATIENCE)
        self._at_address = Turns(OF_ADDRESS, WAITING, PATIENCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request = asked(scope, headers, self._settings)
        scope, address = request.scope, _network(request.scope)
        known = next(filter(None, map(self._owners.known, _cookies(headers, self._owners.cookie))), None)
        if refusal := self._refusal(request, headers, known, address):
            await _refuse(refusal, scope, receive, _marked(send))
            return
        cookie, owner = "", known or self._owners.nobody(address)
        if known is None and scope["path"] == "/":
            owner, value = self._owners.new(address)
            cookie = f"{self._owners.cookie}={value}; Path={request.root}/; Max-Age=31536000; HttpOnly; SameSite=Lax"
            cookie += "; Secure" if request.is_secure else ""
        scope.setdefault("state", {}).update(owner=owner, address=address)
        turns: list[Callable[[], None] | None] = []
        try:
            turns.append(await self._turns.take(share_of(owner)))
            turns.append(await self._at_address.take(address))
            if None in turns:
                await _refuse(PlainTextResponse(BUSY, 429, {"Retry-After": "1"}), scope, receive, _marked(send))
            else:
                await self._app(scope, receive, _marked(send, cookie, lambda: _give_back(turns)))
        finally:
            _give_back(turns)

    def _refusal(self, request: Asked, headers: Headers, owner: str | None, address: str) -> Response | None:
        hosts = request.hosts
        if not all(map(self._knows, hosts)) or len(headers.getlist("host")) > 1 or len(headers.getlist("origin")) > 1:
            return PlainTextResponse(
                "This address is not one of this studio's. Open it by the machine's own name or number, or start the "
                "studio with --allowed-hosts and the name.",
                403,
            )
        if not self._is_own(request, headers):
            return PlainTextResponse("This request came from another site's page, and was refused.", 403)
        if self._auth and (refusal := self._unsigned(headers.get("authorization", ""), owner, address)):
            return refusal
        root = self._settings.root_path
        # The page finds its parts below its own address, so that must end with a slash.
        return RedirectResponse(f"{root}/", 308) if root and request.scope["path"] == root else None

    def _knows(self, host: str) -> bool:
        name = _name_in(host)
        if name in self._names or self._allows(name):
            return True
        return is_loopback(name) if self._only_loopback else _is_address(name)

    def _allows(self, name: str) -> bool:
        """Whether the settings name it, or all names below one of its own."""
        return any(
            name.endswith(each.removeprefix("*")) if each.startswith("*.") else name == each
            for each in self._settings.allowed_hosts
        )

    def _is_own(self, request: Asked, headers: Headers) -> bool:
        """Whether it comes from our own page, from the address bar, or from a program that is no browser."""
        scope, site, origin = request.scope, headers.get("sec-fetch-site", "none"), headers.get("origin")
        if origin is not None:
            scheme, _, place = origin.partition("://")
            if scheme not in ("http", "https"):
                return False
            # A proxy may have replaced the Host and not say for what. Then the browser's word counts that page and
            # address are of one origin, which no page can have it say, for names that are allowed.
            vouched = self._settings.behind_proxy and site == "same-origin" and self._allows(_name_in(place))
            if not vouched and _place(place, scheme) not in [_place(host, scheme) for host in request.hosts]:
                return False
        if site in ("none", "same-origin"):
            return True
        # A link on another page may open the studio, and that is all it may do.
        opens = (scope.get("method"), scope["path"], headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
        return opens in [("GET", path, "navigate", "document") for path in ("/", self._settings.root_path)]

    def _unsigned(self, authorization: str, owner: str | None, address: str) -> PlainTextResponse | None:
        """What to answer to somebody who has not signed in; None to somebody who has."""
        given = _given(authorization)
        # A browser that had the password before has tries of its own, or others at its address could lock it out.
        is_known = owner in self._signed_in
        who = f"browser {owner}" if is_known else address
        may_try = self._wrong.left(who) and (is_known or self._wrong_by_all.left(""))
        if given is not None and not may_try:
            return PlainTextResponse(
                "Too many wrong passwords came from your address. Wait some seconds, then try again.",
                429,
                {"Retry-After": str(round(WRONG_EACH))},
            )
        if given is not None and hmac.compare_digest(given, self._auth.encode()):
            self._remember(owner)
            return None
        if given is not None:
            self._wrong.take(who)
            if not is_known:
                self._wrong_by_all.take("")
            log.warning("A wrong password came from %s.", address)
        return PlainTextResponse(
            "Sign in with the user name and password of this studio.",
            401,
            {"WWW-Authenticate": 'Basic realm="Emerge Studio", charset="UTF-8"'},
        )

    def _remember(self, owner: str | None) -> None:
        if owner:
            self._signed_in[owner] = None
            self._signed_in.move_to_end(owner)
            while len(self._signed_in) > SIGNED_IN_KEPT:
                self._signed_in.popitem(last=False)


def _marked(send: Send, cookie: str = "", on_stream: Callable[[], None] = lambda: None) -> Send:
    """Sends every answer with what a browser must know of it, and says when one begins that does not end soon."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                answer[name] = value
            if cookie:
                answer.append("Set-Cookie", cookie)
            if answer.get("content-type", "").startswith(STREAMS):
                on_stream()
        await send(message)

    return marked


def _give_back(turns: Sequence[Callable[[], None] | None]) -> None:
    for turn in turns:
        if turn:
            turn()


async def _refuse(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await refusal(scope, receive, send)


def _given(authorization: str) -> bytes | None:
    """The `user:password` that was given, None if none was."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except ValueError:  # binascii.Error is one, and so is what letters beyond ASCII raise
        return b""


def _cookies(headers: Headers, wanted: str) -> Iterator[str]:
    """The values of all cookies of this name: another program on this host may have set one, for a longer path."""
    for line in headers.getlist("cookie"):
        for part in line.split(";"):
            name, _, value = part.strip().partition("=")
            if name == wanted:
                yield value


def _network(scope: Scope) -> str:
    """The address that a request comes from; of IPv6 the network, which is what one household has."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0]) if client else None
    except ValueError:
        address = None
    if address is None:
        return "elsewhere"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)


def _name_in(host: str) -> str:
    """The name in a Host header, without port and brackets; empty if it is not written as one."""
    if not _HOST.fullmatch(host):
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _place(host: str, scheme: str) -> str:
    """A host as it is compared: in small letters, and without the port that goes without saying."""
    return host.lower().removesuffix(":443" if scheme == "https" else ":80")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def asks_from_this_machine(request: Request) -> bool:
    """Whether a request comes from a browser on this machine, and through no proxy, which tells of itself."""
    host = request.client.host if request.client else ""
    told = {"forwarded", "x-forwarded-for", "x-real-ip", "via"} & set(request.headers)
    return is_loopback(host) and is_loopback(_name_in(request.headers.get("host", ""))) and not told


def is_loopback(name: str) -> bool:
    """Whether only this machine itself can reach an address of this name."""
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
