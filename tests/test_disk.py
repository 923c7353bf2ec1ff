"""Reading only plain files, and writing whole files or none."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio import disk

PART = f".emerge-{7:016x}.part"


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """What can lie in a folder beside files."""
    found = {kind: tmp_path / kind for kind in ("pipe", "link to a pipe", "device", "folder", "socket", "nothing")}
    os.mkfifo(found["pipe"])
    found["link to a pipe"].symlink_to("pipe")
    found["device"].symlink_to("/dev/zero")
    found["folder"].mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsencode(found["socket"]))
        yield found


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="There are no named pipes in folders here.")


@needs_pipes
def test_only_plain_files_are_opened(odd: dict[str, Path]) -> None:
    del odd["nothing"]
    for path in odd.values():
        for act in (
            disk.opened,
            disk.added_to,
            lambda path: disk.content(path, 10),
            lambda path: disk.append(path, "x"),
        ):
            with pytest.raises(OSError):
                act(path)


@needs_pipes
def test_what_other_libraries_open_is_looked_at_before(odd: dict[str, Path]) -> None:
    folder = odd.pop("folder")
    (folder / "below").mkdir()
    (folder / "below" / "plain").write_text("text")
    (folder / "link").symlink_to("below/plain")
    (folder / "dangling").symlink_to("nothing")
    for path in (folder, folder / "link"):
        disk.check(path)
    for path in odd.values():
        with pytest.raises(OSError):
            disk.check(path)
    os.mkfifo(folder / "below" / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        disk.check(folder)


@needs_pipes
def test_what_turns_into_a_pipe_meanwhile_is_not_waited_for(
    odd: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda path: plain)
    with pytest.raises(OSError, match="no regular file"):
        disk.opened(odd["pipe"])


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert disk.content(tmp_path / "link", 4) == b"text"
    with pytest.raises(OSError, match="more than 3 bytes"):
        disk.content(tmp_path / "link", 3)


def test_a_file_is_written_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"first", b"second", b""):
        disk.write(path, data)
        assert path.read_bytes() == data and list(tmp_path.iterdir()) == [path]


def test_a_refused_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    disk.write(path, b"first")
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
            with pytest.raises(OSError, match="full"):
                disk.write(path, b"second")
        assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_lines_are_added(tmp_path: Path) -> None:
    for text in ("\none", "\nzwei ü"):
        disk.append(tmp_path / "a", text)
    assert (tmp_path / "a").read_text("utf-8") == "\none\nzwei ü"
    assert (tmp_path / "a").stat().st_mode & 0o111 == 0


WRITER = """
import os, sys
from pathlib import Path
from studio import disk
def halted(handle):  # in the middle of writing, until it is killed
    print("writing", flush=True)
    sys.stdin.read()
disk.os.fsync = halted
disk.write(Path(sys.argv[1]), b"half")
"""


def test_remains_of_a_kill_leave_at_once_and_a_file_being_written_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()) as writer:
        assert writer.stdout and writer.stdout.readline() == b"writing\n"
        disk.clear(tmp_path)
        [part] = tmp_path.iterdir()
        writer.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        writer.wait()
    assert list(tmp_path.iterdir()) == [part]
    disk.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_cleared_away(tmp_path: Path) -> None:
    ours = [
        PART, ".20260101-000000-00000000.png.part", f".48x32-{'0' * 24}.12ab34cd.part",
        ".20260101-000000-00000000.safetensors.part",
    ]  # fmt: skip
    others = [PART[1:], ".somebody.png.part", ".emerge-1.part", "a.part", f"{PART}.png"]
    for name in (*ours, *others):
        (tmp_path / name).write_bytes(b"half")
    disk.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)
    disk.clear(tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="Files are not locked there.")
def test_where_there_are_no_locks_remains_leave_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    disk.write(tmp_path / "a", b"whole")
    young, old = tmp_path / PART, tmp_path / f".emerge-{8:016x}.part"
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    disk.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", PART}


def test_a_temporary_file_that_another_start_took_is_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = disk._held
    taken: list[Path] = []

    def take(handle: int) -> int | None:
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        return held(handle)

    monkeypatch.setattr(disk, "_held", take)
    disk.write(tmp_path / "a", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and taken
