"""Files on disk: opened only if they are plain files, written whole or not at all.

Anybody may have put anything into a folder. A pipe that is opened keeps whoever opens it waiting for ever, and a device
does things of its own, so nothing but regular files is opened here, or links to them.

What is written goes to a temporary name first, and takes its place once it is safely on the disk. Its writer holds a
lock on it, which ends with the program, however that ends: a temporary file that nobody holds is the remains of a kill.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from pathlib import Path
from typing import BinaryIO

STALE = 3600.0
"""Seconds after which a temporary file must be remains, where the disk knows no locks."""

_PART = re.compile(
    r"\.(emerge-[0-9a-f]{16}"
    # as they were called before
    r"|\d{8}-\d{6}-[0-9a-f]{8}\.(png|safetensors)|\d+x\d+-[0-9a-f]{24}\.[0-9a-f]+)\.part"
)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def check(path: Path) -> None:
    """Raise OSError unless this is a regular file, or a folder with no other files in it, nor in those below.

    To be asked before another library opens them by their names.
    """
    state = os.stat(path)
    if not stat.S_ISDIR(state.st_mode):
        _check(state)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a link into nothing
                _check(os.stat(os.path.join(folder, name)))


def opened(path: Path, buffering: int = -1) -> BinaryIO:
    """The file, to be read. Raises OSError, also if it is no regular file."""
    return open(path, "rb", buffering, opener=_opener)


def content(path: Path, limit: int) -> bytes:
    """All of a file. Raises OSError, also if it is no regular file or has more than `limit` bytes."""
    with opened(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes")
    return data


def added_to(path: Path) -> BinaryIO:
    """The file, to be added to at its end; made if it is not there. Raises OSError, also if it is no regular file."""
    return open(path, "ab", opener=_opener)


def write(path: Path, data: bytes | memoryview, private: bool = False) -> None:
    """Write the file so that at any moment, a crash included, it is whole or not there. Raises OSError.

    private: whether only this account may read it.
    """
    mode = 0o600 if private else 0o666
    try:
        _write(path, data, mode)
    except FileNotFoundError:
        # Another studio that was starting took the temporary file in the moment before it was locked.
        _write(path, data, mode)


def append(path: Path, text: str) -> None:
    """Add to the end of a file; on return it is safely on the disk. Raises OSError."""
    with added_to(path) as file:
        is_new = not file.tell()
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(path.parent)


def clear(folder: Path) -> None:
    """Delete the temporary files that kills left in a folder; those that are being written now stay."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_unheld(entry.path)


def _opener(path: str, flags: int) -> int:
    with contextlib.suppress(FileNotFoundError):  # which opening tells, or makes
        _check(os.stat(path))
    handle = os.open(path, flags | _NO_WAIT, 0o666)
    try:
        _check(os.fstat(handle))  # it may have changed in between, so that nothing is waited for either
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def _write(path: Path, data: bytes | memoryview, mode: int) -> None:
    part = path.with_name(f".emerge-{secrets.token_hex(8)}.part")
    held = None
    try:
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            held = _held(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        if held is not None:
            os.close(held)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    # The file is whole and in place.
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the disk know of a new name too. Not every system can (Windows, some network drives)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


if os.name == "nt":

    def _held(handle: int) -> int | None:
        """None: an open file cannot be deleted there, which is all that is wanted, nor be given another name."""
        return None

    def _remove_unheld(path: str) -> None:
        os.unlink(path)

else:
    import fcntl

    def _held(handle: int) -> int | None:
        """A second handle, which keeps the file locked until it has its name; without a lock where there are none."""
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.dup(handle)

    def _remove_unheld(path: str) -> None:
        handle = _opener(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except BlockingIOError:
            pass
        except OSError:
            if time.time() - os.fstat(handle).st_mtime > STALE:
                os.unlink(path)
        finally:
            os.close(handle)
