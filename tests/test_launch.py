"""The launcher: quick answers without anything installed, the environment's stamp, ports and plain sentences."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import launch
from studio.errors import StudioError
from studio.settings import Settings

ROOT = Path(launch.__file__).parent


def bare(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run launch.py in a Python that sees none of the installed packages."""
    command = [sys.executable, "-S", "-X", "importtime", str(ROOT / "launch.py"), *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("EMERGE_")}
    return subprocess.run(command, env={**plain, **environ}, capture_output=True, text=True, timeout=60)


# Before anything is installed


def test_help_answers_at_once_and_needs_nothing_installed() -> None:
    start = time.perf_counter()
    done = bare("--help")
    assert time.perf_counter() - start < 1
    assert done.returncode == 0
    assert all(flag in done.stdout for flag in ("--host", "--port", "--models-folders", "--auth", "--no-browser"))
    for package in ("torch", "gradio", "numpy", "PIL", "diffusers"):
        assert f" {package}\n" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [
        (["--port", "eighty"], {}, "--port is 'eighty': use a whole number."),
        ([], {"EMERGE_DEVICE": "abacus"}, "use one of auto, cpu, cuda, mps"),
        (["--colour"], {}, "--colour"),
    ],
)
def test_a_wrong_flag_is_told_in_a_sentence_with_code_2(
    arguments: list[str], environ: dict[str, str], told: str
) -> None:
    done = bare(*arguments, **environ)
    assert done.returncode == 2
    assert told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("served", [((2, 7), (3, 10)), ((4, 0), (4, 1))])
def test_a_python_without_files_in_the_locks_is_told_so(
    served: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "PYTHONS", served)
    assert launch.main(["--help"]) == 2
    assert "needs Python" in capsys.readouterr().err


# The environment


class Machine:
    """Records what would be run, and does as much of it as the launcher can see."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.calls = folder / ".venv", list[list[str]]()
        self.works, self.pip_works = True, True
        self.locks = [folder / "a.lock", folder / "b.lock"]
        for lock in self.locks:
            lock.write_text(f"{lock.name}==1\n")

    def call(self, command: list[str], complaint: str) -> None:
        self.calls.append(command[1:])
        if not self.works:
            raise launch.InstallError(complaint)
        if "venv" in command:
            python = launch.python_of(self.prefix)
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
            (self.prefix / "pyvenv.cfg").write_text("version = 3.11.7\n")

    def install(self) -> list[str]:
        """Install what is not stamped, and name what was run."""
        self.calls.clear()
        launch.install(self.prefix, [lock for lock in self.locks if not launch.stamped(self.prefix, lock)])
        return [command[1] for command in self.calls]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    result = Machine(tmp_path)
    monkeypatch.setattr(launch, "_call", result.call)
    monkeypatch.setattr(launch, "_succeeds", lambda _: result.pip_works)
    return result


def test_the_first_start_installs_and_the_second_does_not_even_start_pip(machine: Machine) -> None:
    assert machine.install() == ["venv", "pip", "pip"]
    assert [call[-2:] for call in machine.calls[1:]] == [["-r", str(lock)] for lock in machine.locks]
    assert machine.install() == []


def test_an_interrupted_installation_is_completed_at_the_next_start(machine: Machine) -> None:
    machine.install()
    for stamp in machine.prefix.glob("*.stamp"):
        stamp.unlink()
    machine.works = False
    with pytest.raises(StudioError, match="did not finish"):
        machine.install()
    machine.works = True
    assert machine.install() == ["pip", "pip"]
    assert machine.install() == []


def test_a_changed_lock_file_is_installed_alone(machine: Machine) -> None:
    machine.install()
    machine.locks[1].write_text("b.lock==2\n")
    assert machine.install() == ["pip"]
    assert machine.calls[0][-2:] == ["-r", str(machine.locks[1])]


def test_another_python_in_the_environment_installs_again(machine: Machine) -> None:
    machine.install()
    (machine.prefix / "pyvenv.cfg").write_text("version = 3.12.1\n")
    assert machine.install() == ["pip", "pip"]


def test_an_environment_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    machine.install()
    launch.python_of(machine.prefix).unlink()
    assert machine.install() == ["venv", "pip", "pip"]


def test_a_missing_pip_is_added(machine: Machine) -> None:
    machine.install()
    machine.locks[0].write_text("a.lock==2\n")
    machine.pip_works = False
    assert machine.install() == ["ensurepip", "pip"]


def test_the_libraries_are_told_not_to_call_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in launch.QUIET:
        monkeypatch.setenv(name, "unset")
    monkeypatch.setattr(launch, "install", lambda *_: None)
    monkeypatch.setattr(launch, "_go_on_with", lambda _: None)
    launch.prepare([])
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


# Ports and addresses


@pytest.fixture
def taken() -> Iterator[int]:
    """A port with a free one behind it, and something else that listens on it."""
    while True:
        first, second = launch.bind("127.0.0.1", 20000 + os.getpid() % 20000), None
        try:
            port = first.getsockname()[1]
            second = launch.bind("127.0.0.1", port + 1)
            if second.getsockname()[1] == port + 1:
                second.close()
                yield port
                return
        finally:
            first.close()
            if second:
                second.close()


def test_a_taken_port_gives_the_next_free_one(taken: int) -> None:
    with launch.bind("127.0.0.1", taken) as listener:
        assert listener.getsockname()[1] == taken + 1
        told = launch.notes(Settings(port=taken), "127.0.0.1", taken + 1)
    assert told == [f"Port {taken} is taken, so the studio uses {taken + 1}."]


def test_the_port_is_held_from_the_start(taken: int) -> None:
    with launch.bind("127.0.0.1", taken) as listener:
        where = listener.getsockname()
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(where)
        socket.create_connection(where, timeout=5).close()  # and whoever comes early waits instead of failing


def test_no_free_port_is_a_sentence(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PORTS_TRIED", 1)
    with pytest.raises(StudioError, match=f"No port from {taken} to {taken} is free"):
        launch.bind("127.0.0.1", taken)


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "a" * 300])
def test_a_host_that_is_not_this_machine_is_a_sentence(host: str) -> None:
    with pytest.raises(StudioError, match=r"not (known|an address of this machine)"):
        launch.bind(host, 7860)


def test_the_address_can_be_typed_into_a_browser() -> None:
    assert launch.address("127.0.0.1", 7860) == "http://127.0.0.1:7860"
    assert launch.address("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert launch.address("::", 80) == launch.address("::1", 80) == "http://[::1]:80"


@pytest.mark.parametrize(
    ("host", "auth", "warned"),
    [
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("0.0.0.0", "", True),
        ("192.168.1.5", "", True),
        ("0.0.0.0", "me:secret", False),
    ],
)
def test_an_open_door_is_warned_about(host: str, auth: str, warned: bool) -> None:
    told = " ".join(launch.notes(Settings(auth=auth), host, 7860))
    assert ("--auth" in told) == warned


def test_a_password_that_everybody_can_read_is_warned_about() -> None:
    settings = Settings(auth="me:secret")
    for arguments in (["--auth", "me:secret"], ["--port", "80", "--auth=me:secret"]):
        [note] = launch.notes(settings, "127.0.0.1", 7860, arguments)
        assert "list of processes" in note and "secret" not in note
    assert launch.notes(settings, "127.0.0.1", 7860, ["--auth-file", "x"]) == []


def test_a_browser_is_opened_only_where_there_is_a_desktop() -> None:
    assert launch.has_browser("darwin", {}) and launch.has_browser("win32", {})
    assert not launch.has_browser("linux", {}) and not launch.has_browser("linux", {"DISPLAY": ""})
    assert launch.has_browser("linux", {"DISPLAY": ":0"})
    assert launch.has_browser("linux", {"WAYLAND_DISPLAY": "wayland-0"})


# Serving, with an application of three lines instead of the studio


SERVE = """
import sys, launch
from contextlib import ExitStack
from studio.settings import parse

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here", "more_body": scope["path"] == "/endless"})
        if scope["path"] == "/endless":
            await __import__("asyncio").sleep(1000)

def wire(settings):
    closing = ExitStack()
    closing.callback(print, "The engine is closed.", flush=True)
    return app, lambda: print("The engine is stopped.", flush=True), closing

launch._wire, launch.prepare = wire, lambda locks: None
sys.exit(launch.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals.")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_when_it_is_ready_and_closes_the_engine_at_the_end(taken: int, ending: signal.Signals) -> None:
    command = [sys.executable, "-c", SERVE, "--no-browser", "--port", str(taken + 1)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "Starting Emerge Studio…\n"
        assert process.stdout.readline() == f"Emerge Studio is ready at http://127.0.0.1:{taken + 1}\n"
        with socket.create_connection(("127.0.0.1", taken + 1), timeout=10) as connection:
            # A page that watches stays connected for ever; that must not keep the studio from ending.
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(1000)
            process.send_signal(ending)
            rest, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (0, "")
    assert "The engine is closed." in rest and "Stopped." in rest


# The tests' own start


class Commands:
    """In the place of `subprocess.run`: notes every command, and lets one of them bring a Chromium."""

    def __init__(self, brings: str = "", folder: Path | None = None) -> None:
        self.made: list[list[str]] = []
        self.environ: dict[str, str] = {}
        self._brings, self._folder = brings, folder

    def __call__(self, command: list[str], **options: dict[str, str]) -> subprocess.CompletedProcess[str]:
        self.made.append(command[1:] if command[0] == sys.executable else command)
        self.environ = options.get("env") or {}
        if self._brings and self._brings in command and self._folder:
            (self._folder / "chromium").touch(mode=0o755)
        return subprocess.CompletedProcess(command, 5, stdout="")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one folder in which there is only apt-get."""
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    return tmp_path


def test_the_chromium_that_is_there_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / "chromium-browser").touch(mode=0o755)
    monkeypatch.setattr(subprocess, "run", commands := Commands())
    assert launch.test(["-k", "engine"]) == 5  # pytest's own code
    assert commands.made == [["-m", "pytest", "-k", "engine"]]
    assert commands.environ["EMERGE_TEST_CHROMIUM"] == str(path / "chromium-browser")


def test_debians_chromium_is_installed_by_root(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", commands := Commands("chromium", path))
    launch.test([])
    assert ["apt-get", "-q", "install", "-y", "chromium"] in commands.made
    assert commands.environ["EMERGE_TEST_CHROMIUM"] == str(path / "chromium")


def test_without_any_chromium_the_tests_run_and_it_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(subprocess, "run", commands := Commands())
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    launch.test([])
    assert ["-m", "playwright", "install", "chromium"] in commands.made
    assert not any("apt-get" in command for command in commands.made)
    assert (
        commands.made[-1] == ["-m", "pytest", "-n", "3", "--dist", "loadfile"]
        and commands.environ["EMERGE_TEST_CHROMIUM"] == ""
    )
    assert "browser tests are skipped" in capsys.readouterr().out
