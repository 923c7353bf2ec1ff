"""Whose browser a request comes from: a random id in a cookie that nobody can make up.

What a browser started can be seen and stopped by it alone, so an id counts only with the mark (an HMAC) that this
studio gave it. And each browser has a share of the machine; so that nobody gets many shares by asking for many ids, an
address gets few that have one of their own. Further ones, and requests that bring no id, have theirs together with all
those of their address (`studio.engine.shares.share_of`).
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path

from studio import disk
from studio.web.pace import Allowance

KEY_FILE = "browsers.key"
"""Beside the pictures, so that a browser finds its own again after a restart. Readable by the studio's account only."""

AT_ONCE, EACH = 64, 5.0
"""New ids with a share of their own that one address gets at once, and the seconds after which it may have one more."""

_SIGNED = re.compile(r"([\w-]{22}(?:~[\w-]{12})?)\.([\w-]{22})", re.ASCII)


class Owners:
    """Gives ids to browsers, and knows those it gave.

    cookie: the name of the cookie. Studios on other ports of one host see it too, and have names of their own.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.cookie = f"emerge_owner_{self._mark('cookie')[:8]}"
        self._new = Allowance(AT_ONCE, EACH)

    def known(self, value: str) -> str | None:
        """The id in a cookie's value; None if this studio never gave it."""
        match = _SIGNED.fullmatch(value)
        return match[1] if match and hmac.compare_digest(match[2], self._mark(match[1])) else None

    def new(self, address: str) -> tuple[str, str]:
        """An id for a browser at this address, and the cookie's value."""
        owner = secrets.token_urlsafe(16)
        if not self._new.take(address):
            owner = self._together(owner, address)
        return owner, f"{owner}.{self._mark(owner)}"

    def keep(self, folder: Path) -> None:
        """Have the key in its file again, if that is gone: the folder may have been deleted meanwhile."""
        with contextlib.suppress(OSError):
            if not (folder / KEY_FILE).exists():
                _place(folder / KEY_FILE, self._key.hex().encode())

    def nobody(self, address: str) -> str:
        """An id for a single request that brings none."""
        return self._together(secrets.token_urlsafe(16), address)

    def _together(self, owner: str, address: str) -> str:
        return f"{owner}~{self._mark(address)[:12]}"

    def _mark(self, text: str) -> str:
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def key_in(folder: Path) -> bytes:
    """The key that ids are marked with, from its file; a new one, kept if it can be, where there is none."""
    path = folder / KEY_FILE
    if key := _read(path):
        return key
    key = secrets.token_bytes(32)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _place(path, key.hex().encode())
    return _read(path) or key


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(OSError, ValueError):
        key = bytes.fromhex(disk.content(path, 1000).decode("ascii"))
        return key if len(key) == 32 else None
    return None


def _place(path: Path, data: bytes) -> None:
    """Put the file there unless another studio that starts on this folder was quicker. Raises OSError."""
    made = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
    disk.write(made, data, private=True)
    try:
        with contextlib.suppress(OSError):  # another was quicker, or there are no links on this disk
            os.link(made, path)
        if not _read(path):
            os.replace(made, path)
    finally:
        made.unlink(missing_ok=True)
