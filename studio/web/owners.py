"""Whose browser a request comes from: a random id in a cookie that nobody can make up.

What a browser started can be seen and stopped by it alone, and each gets its share of the machine. So an id counts only
with the mark (an HMAC) that this studio gave it, and few are given to one address at a time: whoever leaves the cookie
out, or asks for many, gets no further share by it.
"""

import contextlib
import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path

from studio import disk
from studio.web.pace import Allowance

COOKIE = "emerge_owner"

KEY_FILE = "browsers.key"
"""Beside the pictures, so that a browser finds its own again after a restart. Readable by the studio's account only."""

AT_ONCE, EACH = 64, 5.0
"""New ids that one address gets at once, and the seconds after which it may have one more."""

_SIGNED = re.compile(r"([\w-]{22})\.([\w-]{22})", re.ASCII)


class Owners:
    """Gives ids to browsers, and knows those it gave."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._new = Allowance(AT_ONCE, EACH)

    def known(self, cookie: str) -> str | None:
        """The id in a cookie's value; None if this studio never gave it."""
        match = _SIGNED.fullmatch(cookie)
        return match[1] if match and hmac.compare_digest(match[2], self._mark(match[1])) else None

    def new(self, address: str) -> tuple[str, str] | None:
        """An id for a browser at this address, and the cookie's value; None if it had too many lately."""
        if not self._new.take(address):
            return None
        owner = secrets.token_urlsafe(16)
        return owner, f"{owner}.{self._mark(owner)}"

    def _mark(self, owner: str) -> str:
        digest = hmac.digest(self._key, owner.encode(), hashlib.sha256)
        return urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def nobody(address: str) -> str:
    """Who all those at one address are together that bring no id."""
    return f"at {address}"


def key_in(folder: Path) -> bytes:
    """The key that ids are marked with, from its file; a new one, kept if it can be, where there is none."""
    path = folder / KEY_FILE
    with contextlib.suppress(OSError, ValueError):
        key = bytes.fromhex(disk.content(path, 1000).decode("ascii"))
        if len(key) == 32:
            return key
    key = secrets.token_bytes(32)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        disk.write(path, key.hex().encode(), private=True)
    return key
