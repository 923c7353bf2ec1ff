"""The lock files, and how a real pip installs by them: what they know and nothing else."""

import hashlib
import io
import itertools
import os
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import launch

ROOT = Path(launch.__file__).parent
AUDIT_LOCK = ROOT / "requirements-audit.lock"
INSTALLED = (launch.LOCK, launch.CUDA_LOCK, launch.TEST_LOCK)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

SYSTEMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
]
PYTHONS = [f"{launch.PYTHONS[0][0]}.{minor}" for minor in range(launch.PYTHONS[0][1], launch.PYTHONS[1][1] + 1)]


def entries(*locks: Path) -> list[str]:
    """The requirements of lock files with their hashes, each on one line."""
    text = "".join(lock.read_text(encoding="utf-8") for lock in locks).replace("\\\n", "")
    return [line for line in text.splitlines() if not line.startswith("#")]


def requirement(entry: str) -> Requirement:
    return Requirement(entry.partition(" --hash")[0])


# What is in them


@pytest.mark.parametrize("lock", [*INSTALLED, launch.CPU_LOCK, AUDIT_LOCK], ids=lambda lock: lock.name)
def test_every_line_is_one_version_and_its_hashes(lock: Path) -> None:
    for entry in entries(lock):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+(\+cpu)?(; [^#@]*?)?( +--hash=sha256:[0-9a-f]{64})+", entry), entry


def test_what_is_installed_together_names_each_package_once() -> None:
    names = [requirement(entry).name for entry in entries(*INSTALLED)]
    assert sorted(names) == sorted(set(names))


def test_torchs_builds_are_of_one_version() -> None:
    """And the lines of the locks that all systems share name no build, so that each takes its own."""
    here, builds = ([entry.split()[0].strip(";") for entry in entries(lock)] for lock in (launch.LOCK, launch.CPU_LOCK))
    assert [build for build in builds if build.removesuffix("+cpu") not in here] == []
    assert not any("+" in pin for pin in here)


def test_the_locks_are_within_the_ranges_of_the_project() -> None:
    pins = {
        requirement(entry).name: str(requirement(entry).specifier).removeprefix("==") for entry in entries(*INSTALLED)
    }
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        asked = Requirement(line)
        assert pins[asked.name] in asked.specifier, line


def test_the_pythons_are_those_of_the_project() -> None:
    served = SpecifierSet(PROJECT["requires-python"])
    first, last = launch.PYTHONS
    assert all(f"{version}.0" in served for version in PYTHONS)
    assert f"{first[0]}.{first[1] - 1}.0" not in served and f"{last[0]}.{last[1] + 1}.0" not in served


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "system", SYSTEMS, ids=lambda system: "-".join((system["sys_platform"], system["platform_machine"]))
)
def test_what_is_locked_needs_nothing_that_is_not(system: dict[str, str], python: str) -> None:
    """As far as it is installed here: nothing is looked up when the locks are installed, so nothing may be missing."""
    here = {**system, "python_version": python, "python_full_version": python + ".0"}
    lines = [line for line in map(requirement, entries(*INSTALLED)) if holds(line.marker, here)]
    locked = {line.name: str(line.specifier).removeprefix("==") for line in lines}
    asked = [(name, "") for name in sorted(locked)]
    for name, extra in asked:  # grows on the way, by the extras that are asked for
        for line in map(Requirement, needs(name)):
            if holds(line.marker, {**here, "extra": extra}):
                target = canonicalize_name(line.name)
                assert target in locked and locked[target] in line.specifier, f"{name} needs {line}"
                asked += [pair for pair in itertools.product([target], line.extras) if pair not in asked]


def needs(name: str) -> Sequence[str]:
    try:
        return metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        return ()


def holds(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate({"extra": "", **environment})


# How they are installed


class Shop:
    """A folder of packages, all that pip knows, and an environment like that of a fresh machine."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.goods = folder / "environment", folder / "goods"
        self._locks = folder / "locks"
        self.goods.mkdir()
        self._locks.mkdir()

    def wheel(self, name: str, needs: str = "", version: str = "1", text: str = "") -> str:
        """Put a package in, and give its line for a lock file."""
        about = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": text,
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
        target = self.goods / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(target, "w") as archive:
            for path, content in {**files, f"{about}/RECORD": record}.items():
                archive.writestr(zipfile.ZipInfo(path), content)
        return line(target, f"{name}=={version}")

    def source(self, name: str) -> str:
        """The same for a package that would have to be built."""
        target = self.goods / f"{name}-1.tar.gz"
        with tarfile.open(target, "w:gz") as archive:
            for path, content in (("PKG-INFO", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"), ("setup.py", "")):
                member = tarfile.TarInfo(f"{name}-1/{path}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
        return line(target, f"{name}==1")

    def lock(self, *lines: str) -> Path:
        result = self._locks / f"{len(list(self._locks.iterdir()))}.lock"
        result.write_text("\n".join(lines) + "\n")
        return result

    def versions(self, name: str) -> list[str]:
        """Which of it are installed."""
        return [found.name.split("-")[1].removesuffix(".dist") for found in self.prefix.rglob(f"{name}-*.dist-info")]


def line(file: Path, pin: str) -> str:
    return f"{pin} --hash=sha256:{digest(file)}"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    result = Shop(tmp_path_factory.mktemp("shop"))
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("PIP_CONFIG_FILE", os.devnull)
        environ.setenv("PIP_FIND_LINKS", str(result.goods))
        environ.setenv("PIP_NO_INDEX", "1")
        environ.setenv("PIP_NO_CACHE_DIR", "1")
        environ.delenv("PIP_CONSTRAINT", raising=False)
        yield result


def test_what_a_lock_knows_is_installed(shop: Shop) -> None:
    lock = shop.lock(shop.wheel("known"))
    launch.install(shop.prefix, [lock])
    assert shop.versions("known") == ["1"] and launch.stamped(shop.prefix, lock)


def replaced(shop: Shop) -> list[str]:
    lines = [shop.wheel("company"), shop.wheel("doubtful")]
    shop.wheel("doubtful", text="print('not what was tested')")
    return lines


def without_hashes(shop: Shop) -> list[str]:
    return [line.partition(" ")[0] for line in (shop.wheel("company"), shop.wheel("doubtful"))]


def to_be_built(shop: Shop) -> list[str]:
    return [shop.wheel("company"), shop.source("unbuilt")]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (replaced, "DO NOT MATCH THE HASHES"),
        (without_hashes, "Hashes are required"),
        (to_be_built, "No matching distribution found for unbuilt==1"),
    ],
)
def test_what_a_lock_does_not_know_is_refused_with_all_that_came_with_it(
    shop: Shop, lines: Callable[[Shop], list[str]], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lock = shop.lock(*lines(shop))
    with pytest.raises(launch.InstallError, match=r"above, pip says why\..* does not match its hash"):
        launch.install(shop.prefix, [lock])
    assert told in capfd.readouterr().err
    assert not any(map(shop.versions, ("company", "doubtful", "unbuilt"))) and not launch.stamped(shop.prefix, lock)


def test_what_a_package_wants_beside_the_lock_is_not_installed(shop: Shop) -> None:
    shop.wheel("stranger")
    launch.install(shop.prefix, [shop.lock(shop.wheel("talker", "Requires-Dist: stranger\n"))])
    assert shop.versions("talker") and not shop.versions("stranger")


@pytest.fixture
def index(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index beside the folder. Unlike a folder it tells hashes, and pip prefers files whose hash it knows."""
    result = shop.goods.with_name("index")
    result.mkdir(exist_ok=True)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", result.as_uri())
    return result


@pytest.mark.skipif(sys.platform != "linux", reason="Only on Linux does torch need NVIDIA's libraries beside it.")
@pytest.mark.parametrize("there", ["a CPU build", "a replaced one", "none"])
def test_torchs_cpu_build_is_taken_where_there_is_one_and_nvidias_libraries_come_with_the_other(
    there: str, shop: Shop, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = f"{len(there)}"  # another one each time, so that the torch which is installed does not do
    cpu = shop.lock(shop.wheel("torch", version=f"{version}+cpu", text="cpu = True"))
    if there != "a CPU build":
        shop.wheel("torch", version=f"{version}+cpu", text="cpu = 'replaced'")
    if there == "none":
        (shop.goods / f"torch-{version}+cpu-py3-none-any.whl").unlink()
    usual = shop.lock(shop.wheel("torch", 'Requires-Dist: nvidia-library; sys_platform == "linux"\n', version))
    move_to(index, shop.goods / f"torch-{version}-py3-none-any.whl")
    cuda = shop.lock(shop.wheel("nvidia_library", version=version))
    monkeypatch.setattr(launch, "CPU_LOCK", cpu)
    monkeypatch.setattr(launch, "CUDA_LOCK", cuda)
    launch.install(shop.prefix, [cpu, usual, cuda])
    assert shop.versions("torch") == [version if there != "a CPU build" else f"{version}+cpu"]
    assert (version in shop.versions("nvidia_library")) == (there != "a CPU build")
    assert all(launch.stamped(shop.prefix, lock) for lock in (cpu, usual, cuda))


def move_to(index: Path, wheel: Path) -> None:
    folder = index / wheel.name.partition("-")[0]
    folder.mkdir(exist_ok=True)
    wheel = wheel.rename(folder / wheel.name)
    (folder / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest(wheel)}">{wheel.name}</a>')
