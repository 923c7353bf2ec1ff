"""What a server in front of the studio does to requests, undone: who asked, by which address, and for which path.

A proxy speaks for whoever is behind it, in headers that anybody else can send too. So they count only where the
settings say that there is one. It may have replaced the Host, the scheme and the path; a page finds its own parts by
its own address, so only what judges requests needs to know.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from studio.settings import PREFIX, Settings


@dataclass(frozen=True)
class Asked:
    """A request as whoever sent it sees it.

    scope: the request for the application, with the path below the root, and the client that asked. hosts: all Host
    headers and what they were replaced for; each must be the studio's own. root: the path that a cookie is for, "" for
    the whole host. is_secure: whether it came by https.
    """

    scope: Scope
    hosts: Sequence[str]
    root: str
    is_secure: bool


def asked(scope: Scope, headers: Headers, settings: Settings) -> Asked:
    """What was asked for before a server in front passed it on."""
    passed = _Passed(headers if settings.behind_proxy else Headers())
    scope = dict(scope)
    root = settings.root_path
    if root and scope["path"].startswith(f"{root}/"):
        scope["path"] = scope["path"].removeprefix(root)
        scope["raw_path"] = scope.get("raw_path", b"").removeprefix(root.encode())
    else:
        # A proxy may have taken the path away; only if it says so is it known that there was one.
        root = passed.prefix
    if passed.client:
        scope["client"] = (passed.client, 0)
    if passed.scheme:
        scope["scheme"] = passed.scheme
    hosts = [*(headers.getlist("host") or [""]), *passed.hosts]
    return Asked(scope, hosts, root, scope.get("scheme") == "https")


class _Passed:
    """What a proxy wrote about a request. It writes behind what was there already, so of addresses the last counts."""

    def __init__(self, headers: Headers) -> None:
        schemes, clients = _parts(headers, "x-forwarded-proto"), _parts(headers, "x-forwarded-for")
        prefixes = _parts(headers, "x-forwarded-prefix")
        self.hosts = _parts(headers, "x-forwarded-host")
        self.client = clients[-1] if clients else ""
        self.scheme = schemes[-1] if schemes and schemes[-1] in ("http", "https") else ""
        prefix = prefixes[-1].rstrip("/") if prefixes else ""
        self.prefix = prefix if PREFIX.fullmatch(prefix) else ""


def _parts(headers: Headers, name: str) -> list[str]:
    return [part.strip() for line in headers.getlist(name) for part in line.split(",") if part.strip()]
