"""Writes the lock files again, by the Python of an environment that has uv: `python .ci/lock.py`.

What pyproject.toml asks for is found for all platforms at once, and each package keeps the version that its line says.
So a new version is written into its line first, and a line that is taken out comes back with the newest that fits.
At the end every platform is asked whether it finds all of its files. requirements-cpu.lock is written by hand.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BASE, CUDA, TEST, AUDIT = (ROOT / f"requirements{kind}.lock" for kind in ("", "-cuda", "-test", "-audit"))

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc")
OLDEST_MACOS = "14.0"

ONLY_FOR_CUDA = re.compile("(cuda|nvidia|triton)\\b")

HEADS = {
    BASE: """
# Everything that `python launch.py` installs, each at the version that was tested, with the hash of every file of the
# package index that may be taken for it. There are files for Python 3.11 to 3.14 on Linux (x86-64 and ARM64, glibc 2.28
# or later), macOS 14 or later (Apple silicon) and Windows (x86-64).
""",
    CUDA: """
# What torch needs beside requirements.lock where it is the build for NVIDIA's cards: the package index's, on Linux.
""",
    TEST: """
# What `python launch.py test` and the checks install beside requirements.lock.
""",
    AUDIT: """
# What looks for known holes in the other lock files, in an environment of its own: see .ci/audit.
""",
}
SOURCE = "# Written by .ci/lock.py; how to change a version is in CONTRIBUTING.md.\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins"
        pins.write_text("\n".join(pinned(*HEADS)))
        studio = found(pins, "pyproject.toml")
        tests = found(pins, "pyproject.toml", "--extra", "test")
        audit = found(pins, "--group", "audit")
    cuda = {name for name in studio if ONLY_FOR_CUDA.match(name)}
    write(BASE, [studio[name] for name in studio if name not in cuda])
    write(CUDA, [studio[name] for name in studio if name in cuda])
    write(TEST, [tests[name] for name in tests if name not in studio])
    write(AUDIT, list(audit.values()))
    for platform in PLATFORMS:
        for python in PYTHONS:
            check(platform, python)
    print(f"Written, and found whole on {len(PLATFORMS)} platforms with Python {', '.join(PYTHONS)}.")


def pinned(*locks: Path) -> list[str]:
    """The pins that stand in lock files, as `numpy==2.4.6`. The first file that names a package decides."""
    text = "\n".join(lock.read_text() for lock in reversed(locks) if lock.exists())
    return [f"{name}=={version}" for name, version in dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", text)).items()]


def found(pins: Path, *asked: str) -> dict[str, str]:
    """All packages that are needed for what is asked, on any platform: name → its lines in a lock file."""
    answer = pins.with_name("pylock.toml")
    answer.unlink(missing_ok=True)
    where = ("--universal", "--python-version", PYTHONS[0])
    uv("compile", *asked, *where, "--constraints", str(pins), "--output-file", str(answer))
    packages = tomllib.loads(answer.read_text())["packages"]
    return {each["name"]: lines(each) for each in packages if "== 'emscripten'" not in each.get("marker", "")}


def lines(package: dict[str, Any]) -> str:
    """Pin, marker and hashes, as pip reads them. Wheels only: building one from source would run unknown tools."""
    pin = f"{package['name']}=={package['version']}"
    marker = f"; {package['marker']}" if "marker" in package else ""
    hashes = [wheel["hashes"]["sha256"] for wheel in package["wheels"]]
    return pin + marker + "".join(f" \\\n    --hash=sha256:{value}" for value in sorted(hashes)) + "\n"


def write(lock: Path, entries: list[str]) -> None:
    lock.write_text(HEADS[lock].lstrip() + SOURCE + "".join(entries))


def check(platform: str, python: str) -> None:
    """Ends with uv's words if a platform does not find all of its files among the hashes."""
    with tempfile.TemporaryDirectory() as folder:
        where = ("--target", folder, "--python-platform", platform, "--python-version", python)
        locks = (part for lock in (BASE, CUDA, TEST) for part in ("--requirements", str(lock)))
        uv("install", "--dry-run", "--no-deps", "--require-hashes", *where, *locks)


def uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", *arguments, "--quiet", "--only-binary", ":all:"]
    environ = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS}
    if subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL).returncode:
        sys.exit("Nothing more is written: above, uv says why.")


if __name__ == "__main__":
    main()
