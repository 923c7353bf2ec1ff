"""Starts Emerge Studio on a machine that has only Python 3.11 to 3.14: `python launch.py`.

What is needed is installed once into `.venv` beside this file (or into the virtual environment that is
already active), exactly as requirements.lock says: only these versions, and only files with these hashes. A stamp
in there remembers that it is complete, so that the next start goes straight on; without it pip runs again, which
also completes an interrupted installation.
`python launch.py test` does the same for the tests and then runs them.

At import this file needs nothing but Python itself, so `--help` answers at once.
"""

import contextlib
import errno
import gc
import hashlib
import ipaddress
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from studio import settings as studio_settings
from studio.errors import SettingsError, StudioError
from studio.settings import Settings

ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "requirements.lock"
CPU_LOCK = ROOT / "requirements-cpu.lock"
CUDA_LOCK = ROOT / "requirements-cuda.lock"
TEST_LOCK = ROOT / "requirements-test.lock"
PYTHONS = ((3, 11), (3, 14))
"""The oldest and the newest that the lock files have files for."""
PIP_INSTALL = ("pip", "install", "--disable-pip-version-check", "--require-hashes", "--no-deps", "--only-binary=:all:")
"""Nothing is looked up beyond a lock file, and nothing is built, since the tools for that would come without a hash."""

PORTS_TRIED = 100
TWICE = 1.0
"""Seconds within which a second Ctrl+C is the same one: some programs that start others hand it on twice."""

GRACE = 1
"""Seconds that open connections get at the end. Event streams never end by themselves."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""Read by the libraries as they are imported: none of them may call out."""


MOST_CORES = 4
"""For the tests: each takes two gigabytes, and a browser and a studio of its own."""


class InstallError(StudioError):
    """The environment could not be made."""


def main(arguments: Sequence[str]) -> int:
    """Run the studio or its tests. Returns the exit code: 2 for a wrong flag, 1 if it could not start."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return _complain("Emerge Studio needs Python 3.11 to 3.14, and this is " + platform.python_version() + ".", 2)
    try:
        if arguments[:1] == ["test"]:
            prepare([CPU_LOCK, LOCK, CUDA_LOCK, TEST_LOCK])
            return test(arguments[1:])
        settings = studio_settings.parse(arguments)
        prepare([CPU_LOCK, LOCK, CUDA_LOCK])
        serve(settings)
    except SettingsError as error:
        return _complain(str(error), 2)
    except StudioError as error:
        return _complain(str(error), 1)
    except ModuleNotFoundError as error:
        return _complain(f"{error.name} is missing in {sys.prefix}. Delete that folder and start again.", 1)
    except KeyboardInterrupt:
        pass  # where the signal is ignored, as in the background of a shell script, the server ends without it
    with contextlib.suppress(OSError):  # the terminal may be gone
        print("\nStopped.", flush=True)
    return 0


def _complain(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return code


# The environment


def prepare(locks: Sequence[Path]) -> None:
    """Make sure that this program runs in an environment that has all that the lock files name.

    Goes on in that environment's Python if it is another one, and then doesn't return. Raises InstallError.
    """
    os.environ.update(QUIET)
    inside = sys.prefix != sys.base_prefix
    prefix = Path(sys.prefix) if inside else ROOT / ".venv"
    install(prefix, [lock for lock in locks if not stamped(prefix, lock)])
    if not inside:
        _go_on_with(python_of(prefix))


def install(prefix: Path, locks: Sequence[Path]) -> None:
    """Install what the lock files name and stamp it as complete. Raises InstallError."""
    if not locks:
        return
    python = python_of(prefix)
    if not (python.exists() and _config(prefix).exists()):
        print(f"Making a Python environment in {prefix}.", flush=True)
        _call(
            [sys.executable, "-m", "venv", "--clear", str(prefix)],
            "The environment could not be made. On Debian and Ubuntu install the package python3-venv, "
            "then start again.",
        )
    if not _succeeds([str(python), "-m", "pip", "--version"]):
        _call(
            [str(python), "-m", "ensurepip", "--upgrade"],
            f"The environment {prefix} has no pip. Delete it, or leave it by 'deactivate', and start again.",
        )
    print(
        f"Installing what the studio needs into {prefix}. This happens once. About 0.5 GB is downloaded, "
        "or 3 GB on Linux, where NVIDIA's libraries come with it.",
        flush=True,
    )
    for lock in locks:
        _install(python, lock)
        _stamp_file(prefix, lock).write_text(_stamp(prefix, lock))


def _install(python: Path, lock: Path) -> None:
    """Let pip install what the lock file names, and nothing else. Raises InstallError.

    No line can choose between torch's builds for the processor alone and for NVIDIA's cards: they have one name and
    run on the same systems. So the first is tried beforehand, and only the second brings its libraries.
    """
    command = [str(python), "-m", *PIP_INSTALL, "-r", str(lock)]
    if lock == CPU_LOCK:
        _succeeds(command)  # it does where pip is told of a place that has this build; the package index does not
    elif lock != CUDA_LOCK or _asks_for_cuda(python):
        _call(
            command,
            "The installation did not finish; above, pip says why. A file that does not match its hash is not the one "
            "that was tested, so it was not installed: find out where it comes from. In other cases start again to go "
            f"on from there. {LOCK.name} begins with the systems that there are files for.",
        )


def _asks_for_cuda(python: Path) -> bool:
    """Whether the torch that was installed needs NVIDIA's libraries beside it."""
    code = "import importlib.metadata as m, sys; sys.exit('nvidia' not in str(m.requires('torch')))"
    return sys.platform == "linux" and _succeeds([str(python), "-c", code])


def stamped(prefix: Path, lock: Path) -> bool:
    """Whether the environment has been completed with exactly this lock file, and is still usable."""
    try:
        return python_of(prefix).exists() and _stamp_file(prefix, lock).read_text() == _stamp(prefix, lock)
    except OSError:
        return False


def python_of(prefix: Path) -> Path:
    """The Python of a virtual environment."""
    return prefix / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _stamp_file(prefix: Path, lock: Path) -> Path:
    return prefix / f"emerge-{lock.name}.stamp"


def _stamp(prefix: Path, lock: Path) -> str:
    """What the installed packages depend on: the lock file, and the Python that pyvenv.cfg names."""
    return hashlib.sha256(lock.read_bytes() + _config(prefix).read_bytes()).hexdigest()


def _config(prefix: Path) -> Path:
    """The file by which Python knows a virtual environment."""
    return prefix / "pyvenv.cfg"


def _call(command: Sequence[str], complaint: str) -> None:
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        raise InstallError(complaint)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return not subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode
    except OSError:
        return False


def _go_on_with(python: Path) -> None:
    """Continue as this Python: in the same process where the system can do that."""
    command = [str(python), str(Path(__file__).resolve()), *sys.argv[1:]]
    if os.name != "nt":
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the child gets Ctrl+C as well, and ends in its own time
            sys.exit(child.wait())


# The studio


def serve(settings: Settings) -> None:
    """Run the studio until Ctrl+C or SIGTERM. Raises StudioError if it cannot start."""
    _end_as_ctrl_c_does()
    listener = bind(settings.host, settings.port)
    print("Starting Emerge Studio…", flush=True)
    with contextlib.closing(listener):
        app, stop, closing = _wire(settings)
        with closing:
            host, port = listener.getsockname()[:2]
            for line in notes(settings, host, port, sys.argv[1:]):
                print(line, flush=True)
            _run(app, listener, lambda: _announce(settings, address(host, port)), stop)


def _wire(settings: Settings) -> tuple[Any, Callable[[], None], contextlib.ExitStack]:
    """Settings → library → models → engine → web. Returns the application, what stops it, and what closes the rest.

    Stopping keeps what is in the making and tells the pages. After it, or instead of it, the rest is closed.
    """
    with contextlib.ExitStack() as stack:
        # Seconds of importing, nearly all of it under Python's lock: threads would make it no quicker.
        from studio.app import create_app
        from studio.drawing.moments import Moments
        from studio.drawing.worker import TorchWorker
        from studio.engine.engine import Engine
        from studio.library.library import Library
        from studio.models.catalog import Catalog
        from studio.models.hashes import Hasher
        from studio.models.manager import Manager
        from studio.models.places import hub_cache
        from studio.models.records import Records
        from studio.models.signatures import signatures
        from studio.pictures.sources import UNUSED_KEPT, Sources
        from studio.web import unfinished

        # What was imported stays. Looking through it again and again would double the time of reading many headers.
        gc.freeze()
        library = Library(settings.output_folder)
        stack.callback(library.close)
        records = Records(settings.output_folder / "models.sqlite")
        stack.callback(records.close)
        catalog = Catalog((*settings.models_folders, hub_cache()), settings.allow_pickles, records)
        manager = Manager(catalog, settings.device, settings.dtype)
        library.signatures = partial(signatures, manager)
        sources = Sources(settings.output_folder / "sources")
        sources.prune(library.sources(), UNUSED_KEPT)
        moments = Moments(settings.output_folder / "steps", settings.steps_kept * 10**6, library.has)
        engine = Engine(TorchWorker(manager, sources, moments), library.add)
        stack.callback(engine.close)
        hasher = Hasher(catalog)
        engine.subscribe(hasher.heard)
        app = create_app(settings, engine, library, manager, sources)
        live, owners, folder = app.state.live, app.state.owners, settings.output_folder
        keep = partial(unfinished.keep, unfinished.file_in(folder), engine, live, owners.cookie)
        # In the reverse order: what is unfinished is written down; the engine is closed, which keeps partial pictures;
        # what is unfinished then is written down again; the pages' streams end; and the hashes, for which nobody waits.
        stop = stack.enter_context(contextlib.ExitStack())
        hasher.start()
        stop.callback(hasher.close)
        stop.callback(live.close)
        stop.callback(owners.keep, folder)
        stop.callback(keep)
        stop.callback(engine.close)
        stop.callback(keep)
        unfinished.bring_back(folder, engine, live, library, owners.cookie)
        return app, stop.close, stack.pop_all()


def _end_as_ctrl_c_does() -> None:
    """Have SIGTERM, and a terminal that is closed, end this program as Ctrl+C does.

    Uvicorn takes the signals over while it runs, and passes them on when it has ended.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # and not ignored, as by nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _run(app: Any, listener: socket.socket, announce: Callable[[], None], stop: Callable[[], None]) -> None:
    import asyncio

    import uvicorn

    from studio import logs
    from studio.web import connections

    logs.set_up()

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if not self.should_exit:
                print("\nKeeping what is in the making. Ctrl+C once more ends at once.", flush=True)
                self.told_at = now
            elif sig == signal.SIGINT and now - self.told_at > TWICE:
                os._exit(130)  # nothing is waited for, neither a step nor the disk
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # The pages that still watch are cut off; uvicorn would show that as an error, with a traceback for each.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            # While the pages still listen: they are told how their pictures stand.
            await asyncio.to_thread(stop)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        http=connections.kind(connections.raise_files()),
        ws="none",
        log_config=None,
        access_log=False,
        backlog=connections.BACKLOG,
        server_header=False,
        proxy_headers=False,  # `studio.web.forwarded` reads them, where the settings say so
        timeout_graceful_shutdown=GRACE,
    )
    Server(config).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on the port, or on the next free one. Raises StudioError.

    It is held from here on, so no other program can take the port while the studio gets ready.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise StudioError(f"The host {host!r} is not known. Use an address of this machine, as 127.0.0.1.") from None
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        listener = socket.socket(family, kind, protocol)
        if os.name != "nt":  # there it would let two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((where[0], candidate, *where[2:]))
            listener.listen()
            return listener
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise StudioError(f"The host {host!r} is not an address of this machine. Use 127.0.0.1.") from None
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise StudioError(f"The port {candidate} cannot be used: {error.strerror}.") from None
    raise StudioError(
        f"No port from {port} to {candidate} is free (those below 1024 may need an administrator). "
        "Choose another with --port."
    )


def address(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def notes(settings: Settings, host: str, port: int, arguments: Sequence[str] = ()) -> list[str]:
    """What the person should know before it starts."""
    result = []
    if port != settings.port:
        result.append(f"Port {settings.port} is taken, so the studio uses {port}.")
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback and not settings.auth:
        result.append(
            "Warning: everyone who reaches this machine over the network can use the studio and see its "
            "pictures. Start it with --auth-file to ask for a password."
        )
    if any(each.partition("=")[0] == "--auth" for each in arguments):
        result.append(
            "Warning: every account of this machine can read a password that is given with --auth in the list of "
            "processes. Put it into a file for --auth-file, or into the variable EMERGE_AUTH."
        )
    return result


def _announce(settings: Settings, where: str) -> None:
    print(f"Emerge Studio is ready at {where}", flush=True)
    if not settings.no_browser and has_browser(sys.platform, os.environ):
        # In a thread of its own: some browsers keep the caller waiting until they are closed.
        threading.Thread(target=webbrowser.open, args=[where], daemon=True).start()


def has_browser(system: str, environ: Mapping[str, str]) -> bool:
    """Whether a window can be opened: on Linux only where there is a desktop."""
    return system in ("win32", "darwin") or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


# The tests


def test(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments, the browser tests too if there is or can be a Chromium.

    Without arguments that is the whole suite, on several cores, a file of tests at a time.
    """
    chromium = find_chromium() or _get_chromium()
    environ = {**os.environ, "EMERGE_TEST_CHROMIUM": chromium or ""}
    if not chromium:
        print("There is no Chromium and none could be installed, so the browser tests are skipped.", flush=True)
    cores = min(os.cpu_count() or 1, MOST_CORES)
    arguments = arguments or ["-n", str(cores), "--dist", "loadfile"]
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environ).returncode


def find_chromium() -> str | None:
    """The Chromium (or Chrome) that is on this machine."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        if path := shutil.which(name):
            return path
    return None


def _get_chromium() -> str | None:
    if path := _playwrights_chromium():
        return path
    if shutil.which("apt-get") and getattr(os, "geteuid", lambda: 1)() == 0:
        print("Installing Debian's Chromium for the browser tests.", flush=True)
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["install", "-y", "chromium"], ["update"], ["install", "-y", "chromium"]):
            subprocess.run(["apt-get", "-q", *command], stdin=subprocess.DEVNULL, env=environ)
            if path := find_chromium():
                return path
    print("Installing Playwright's Chromium for the browser tests.", flush=True)
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], stdin=subprocess.DEVNULL)
    return _playwrights_chromium()


def _playwrights_chromium() -> str | None:
    code = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as playwright: print(playwright.chromium.executable_path)"
    )
    found = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    path = found.stdout.strip()
    return path if path and Path(path).exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
