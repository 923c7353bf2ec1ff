"""A model from Hugging Face's hub, when a person asks for one, and by a process of its own.

The studio itself has told every library to stay offline before it was imported. So what goes out is done by
`python -m studio.models.hub.download`: only that process may, and it ends with the download. It writes a line of JSON
for each thing there is to tell, and ends when its standard input does, so that it never outlives the studio.

Files grow under a hidden name beside their place, which tells the version they are of, and are taken up there again
after a break. huggingface_hub gives up what is not whole; so only its requests are used here, and the rest is ours.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from studio import disk
from studio.compat import of_hub
from studio.errors import DownloadError
from studio.files.folders import visible
from studio.models import places
from studio.settings import ROOT

SPARE = 200_000_000
"""Bytes that a download leaves free on the disk."""

_LOOK_SECONDS = 60.0
_CHUNK = 1 << 20

_ID = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)?([\w.-]+/[\w.-]+)(?:/(?:(?:blob|resolve)/[^/]+/)?(.+?))?/?"
)
_ELSEWHERE = re.compile(r"[a-z][a-z+.-]*://|urn:|(www\.)?[\w-]+(\.[\w-]+)*\.[a-z]{2,}(:\d+)?(/|$)", re.I)
_SITE = re.compile(r"(?:[\w-]+\.)+[a-z]{2,}", re.I)
"""The addresses of other sites. No owner on the hub has a dot in the name."""

_WEIGHTS = (".safetensors", ".gguf")
_SMALL = (".json", ".txt", ".model", ".md")
_COMPONENT = re.compile(r"(diffusion_pytorch_model|model|pytorch_model|adapter_model)[^/]*\.safetensors")
_UNUSED = re.compile(r"safety_checker|onnx|openvino|flax|non_ema|ema_only|coreml|\.mlmodel|neuron|(^|/)\.")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a repository. sha256: hexadecimal digits, empty for small ones, whose hash the hub does not tell."""

    name: str
    bytes: int
    sha256: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether its values are of the right kinds, and it is of one that is downloaded: a plan may be made up."""
        texts = isinstance(self.name, str) and isinstance(self.sha256, str)
        return texts and type(self.bytes) is int and self.bytes >= 0 and self.name.endswith((*_WEIGHTS, *_SMALL))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a download would bring. revision: the commit. choices: files of which one must be chosen first.

    skipped: how many weights in formats that are never fetched.
    """

    repository: str
    revision: str
    license: str
    files: tuple[File, ...] = ()
    choices: tuple[File, ...] = ()
    skipped: int = 0

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @classmethod
    def from_values(cls, values: Any) -> "Plan":
        """A plan from JSON. Raises DownloadError if it is none."""
        try:
            files, choices = ([File(**each) for each in values.get(name, ())] for name in ("files", "choices"))
            plan = cls(**{**values, "files": tuple(files), "choices": tuple(choices)})
            repository, _ = parsed(plan.repository)
            whole = all(file.is_whole for file in (*plan.files, *plan.choices))
            known = re.fullmatch(r"[0-9a-f]{40}", plan.revision) and isinstance(plan.license, str)
        except (TypeError, AttributeError, ValueError):
            raise DownloadError("That is nothing that can be downloaded.") from None
        if repository != plan.repository or not whole or not known or type(plan.skipped) is not int:
            raise DownloadError("That is nothing that can be downloaded.")
        return plan


def parsed(text: str, folder: Path | None = None) -> tuple[str, str]:
    """Repository and file (or empty) of what a person typed: `owner/name`, `owner/name/file`, or the page's address.

    folder: where files go that a person brings from elsewhere. Raises DownloadError.
    """
    match = _ID.fullmatch(text.strip()) if len(text) < 1000 else None
    if (match is None and _ELSEWHERE.match(text.strip())) or (match and _SITE.fullmatch(match[1].partition("/")[0])):
        raise DownloadError(
            f"{visible(text.strip()[:80])!r} is no name on the hub, and the studio fetches from huggingface.co alone. "
            f"Download the model's .safetensors file there with your browser, and put it into "
            f"{visible(str(folder or 'a models folder'))}. It shows up here by itself."
        )
    if not match or ".." in match[1] or match[1].startswith((".", "-")) or "/." in match[1] or "/-" in match[1]:
        raise DownloadError(
            f"{visible(text.strip()[:80])!r} is no name on the hub. Write owner/name, as stabilityai/sdxl-turbo, "
            "or owner/name/file.safetensors."
        )
    return match[1], match[2] or ""


def place_of(folder: Path, repository: str, name: str) -> Path:
    """Where a file of a repository goes. Raises DownloadError if its name leads anywhere else."""
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)
    strange = not parts or name != "/".join(parts) or name.startswith("/") or windows.drive or "\\" in name
    if strange or any(part in ("..", ".") or not part.isprintable() or part.endswith((".", " ")) for part in parts):
        raise DownloadError(
            f"The repository has a file {visible(name[:80])!r}, whose name leads out of its folder. It is refused."
        )
    return folder.joinpath(*repository.split("/"), *parts)


def chosen(repository: str, files: Sequence[File], only: str = "") -> tuple[list[File], list[File]]:
    """The files of a repository that are needed, and those of which one must be chosen. Raises DownloadError.

    only: the one file that was asked for. Of a diffusers folder the 16-bit variant is taken where there is one;
    pickles, duplicates in other formats and safety checkers never.
    """
    if only:
        found = [file for file in files if file.name == only]
        if not found:
            raise DownloadError(f"{repository} has no file {visible(only[:120])!r}.")
        if not only.endswith(_WEIGHTS):
            raise DownloadError("Only .safetensors and .gguf files are downloaded: other formats can run any code.")
        return found, []
    usable = [file for file in files if not _UNUSED.search(file.name)]
    small = [file for file in usable if file.name.endswith(_SMALL) and file.bytes < 50_000_000]
    weights = [file for file in usable if file.name.endswith(_WEIGHTS)]
    if any(file.name == "model_index.json" for file in files):
        return small + _leaner(file for file in weights if "/" in file.name), []
    parts = [file for file in weights if _COMPONENT.fullmatch(file.name)]
    if parts and any(file.name == "config.json" for file in small):
        return [file for file in small if "/" not in file.name] + _leaner(parts), []
    return (weights, []) if len(weights) == 1 else ([], weights)


def _leaner(files: Iterable[File]) -> list[File]:
    """Of each folder the files marked fp16, or all where none is."""
    folders: dict[str, list[File]] = {}
    for file in files:
        folders.setdefault(file.name.rpartition("/")[0], []).append(file)
    halves = {name: [file for file in found if ".fp16" in file.name] for name, found in folders.items()}
    return [file for name, found in folders.items() for file in halves[name] or found]


def check_room(folder: Path, need: int) -> None:
    """Raises DownloadError if the disk has no room for so many bytes more."""
    free = shutil.disk_usage(folder).free
    if need + SPARE > free:
        raise DownloadError(
            f"The disk with {folder} has {free / 1e9:.1f} GB free, and {(need + SPARE) / 1e9:.1f} GB are needed. "
            "Make room there, or start the studio with another first --models folder."
        )


# In the studio


def first(folders: Iterable[Path]) -> Path:
    """The models folder that a person is told of, whether it is there yet or not."""
    return places.home(next(iter(folders), ROOT / "models"))


def destination(folders: Iterable[Path]) -> Path:
    """The first models folder that can be written to, or the `models` in it; made if need be. Raises DownloadError."""
    for folder in folders:
        folder = places.home(folder)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise DownloadError("No models folder can be written to. Start the studio with --models and one that can.")


def look(text: str, folder: Path) -> Plan:
    """What a download of this into the folder would bring: asks the hub. Raises DownloadError."""
    repository, only = parsed(text, folder)
    child = _start(["look", repository, only, str(folder)])
    try:
        out, _ = child.communicate(timeout=_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise DownloadError("The hub did not answer within a minute. Try again later.") from None
    answer = json.loads(out.splitlines()[-1]) if out.strip() else {}
    if "plan" not in answer:
        raise DownloadError(answer.get("error") or "The hub could not be asked. The studio's window tells more.")
    return Plan.from_values(answer["plan"])


def fetch(
    folder: Path, plan: Plan, report: Callable[[int], None], on_cancel: Callable[[Callable[[], None]], None]
) -> None:
    """Download what the plan says, reporting the bytes that are there. What is there already is not fetched again.

    on_cancel: gets what ends the download at once; what has arrived stays for the next time. Raises DownloadError.
    """
    if not plan.files:
        raise DownloadError("No file is chosen. Choose one first.")
    for file in plan.files:
        place_of(folder, plan.repository, file.name)
    child = _start(["get", str(folder)])
    on_cancel(child.terminate)
    told = ""
    assert child.stdin and child.stdout
    with child, contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(asdict(plan)) + "\n")
        child.stdin.flush()
        for line in child.stdout:
            said = json.loads(line)
            if "done" in said:
                report(int(said["done"]))
            told = said.get("error", told)
    if child.returncode and not told:
        told = "The download ended before it was complete. Start it again to go on."
    if told:
        raise DownloadError(told)


def _start(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    online = {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(
        [sys.executable, "-m", "studio.models.hub.download", *arguments],
        cwd=ROOT,
        env={**os.environ, **online, **quiet},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


# In the process of its own


def main(arguments: Sequence[str]) -> int:
    """`look OWNER/NAME FILE FOLDER` (FILE may be empty), or `get FOLDER` with the plan as a line of standard input."""
    verb, *more = arguments or [""]
    if (verb, len(more)) not in (("look", 3), ("get", 1)):
        print("The studio starts this itself: look OWNER/NAME FILE FOLDER, or get FOLDER.", file=sys.stderr)
        return 2
    try:
        if verb == "look":
            repository, only, folder = more
            after = (
                "Is this machine online? Without a connection, download the model on another machine, from "
                f"https://huggingface.co/{repository}, and put it into {visible(folder)}."
            )
            with _sentences("Look it up again later.", after):
                _tell(plan=asdict(_plan(repository, only)))
        else:
            with _sentences("What has arrived is kept; start it again to go on."):
                plan = Plan.from_values(json.loads(sys.stdin.readline()))
                threading.Thread(target=_end_with_the_studio, daemon=True).start()
                _get(Path(more[0]), plan)
    except DownloadError as error:
        _tell(error=str(error))
        return 1
    return 0


def _end_with_the_studio() -> None:
    sys.stdin.read()
    os._exit(1)


def _tell(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _plan(repository: str, only: str) -> Plan:
    from huggingface_hub import HfApi

    info = HfApi().model_info(repository, files_metadata=True, timeout=30)
    files = [_file(each) for each in info.siblings or () if each.rfilename]
    wanted, choices = chosen(repository, files, only)
    if not wanted and not choices:
        raise DownloadError(f"{repository} has no weights as .safetensors or .gguf, which alone are downloaded.")
    if not any(file.name.endswith(_WEIGHTS) for file in wanted) and not choices:
        raise DownloadError(f"The weights of {repository} are pickles, which could run any code. They are not fetched.")
    card = info.card_data.to_dict() if info.card_data else {}
    license = str(card.get("license_name") or card.get("license") or "")
    pickles = sum(file.name.endswith((".bin", ".ckpt", ".pt", ".pth")) for file in files)
    return Plan(repository, str(info.sha), visible(license[:100]), tuple(wanted), tuple(choices), pickles)


def _file(sibling: Any) -> File:
    lfs = getattr(sibling, "lfs", None)
    sha256 = (lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", "")) or ""
    return File(str(sibling.rfilename), int(sibling.size or 0), sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else "")


def _get(folder: Path, plan: Plan) -> None:
    places = [(file, place_of(folder, plan.repository, file.name)) for file in plan.files]
    there = [_there(file, place) for file, place in places]
    check_room(folder, plan.bytes - sum(there))
    before = sum(there)
    _tell(done=before)
    for (file, place), had in zip(places, there, strict=True):
        before -= had

        def tell(done: int, before: int = before) -> None:
            _tell(done=before + done)

        _get_file(plan, file, place, tell)
        before += file.bytes
    _tell(done=plan.bytes)


def _there(file: File, place: Path) -> int:
    """The bytes of a file that are on disk already."""
    for path in (place, _part(file, place)):
        if path.is_file():
            return min(path.stat().st_size, file.bytes)
    return 0


def _part(file: File, place: Path) -> Path:
    """Where a file grows: a part of another version has another name."""
    version = hashlib.sha256(f"{file.sha256} {file.bytes}".encode()).hexdigest()[:12]
    return place.with_name(f".{place.name}.{version}.part")


def _get_file(plan: Plan, file: File, place: Path, tell: Callable[[int], None]) -> None:
    if place.is_file() and place.stat().st_size == file.bytes and (not file.sha256 or _sha256(place) == file.sha256):
        return
    from huggingface_hub import hf_hub_url

    place.parent.mkdir(parents=True, exist_ok=True)
    part = _part(file, place)
    for attempt in (1, 2):
        with disk.added_to(part) as growing:
            begun = growing.tell()
            if begun < file.bytes or not file.bytes:
                url = hf_hub_url(plan.repository, file.name, revision=plan.revision)
                of_hub.get(url, _Counted(growing, tell), begun, file.bytes or None)
        if not file.sha256 or _sha256(part) == file.sha256:
            os.replace(part, place)
            return
        part.unlink()  # what was taken up was of another version, or the disk spoiled it
        if attempt == 2:
            raise DownloadError(f"{visible(file.name)} arrived damaged twice. Try again later.")


class _Counted:
    """A file that tells how large it has become."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], None]) -> None:
        self._file, self._tell = file, tell

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._tell(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with disk.opened(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _sentences(next_step: str, unreached: str = "") -> Iterator[None]:
    """The hub's refusals, and the network's and the disk's, as sentences.

    next_step: what stays of what was begun, and what to do. unreached: the same where the hub could not be reached.
    """
    from huggingface_hub import errors

    try:
        yield
    except DownloadError:
        raise
    except errors.GatedRepoError:
        raise DownloadError(
            "This model is given only to those who accept its licence. Accept it on its page at huggingface.co, then "
            "sign in on this machine: `.venv/bin/hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError("The hub has no model of this name, or it is private. Look for a slip in it.") from None
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError):
        raise DownloadError("A file of this model is not on the hub any more. Look at it anew.") from None
    except errors.HfHubHTTPError as error:
        code = getattr(error.response, "status_code", 0)
        why = "asks for a sign-in (`.venv/bin/hf auth login`)" if code in (401, 403) else f"answered with error {code}"
        raise DownloadError(f"The hub {why}. {next_step}") from None
    except errors.HFValidationError:
        raise DownloadError("That is no name on the hub. Write owner/name, as stabilityai/sdxl-turbo.") from None
    except Exception as error:  # the network library's own errors have no root of their own
        if isinstance(error, OSError) and not unreached:
            why = error.strerror or "the file is not as long as the hub says"
            raise DownloadError(f"The download stopped: {why}. {next_step}") from None
        raise DownloadError(
            f"The hub could not be reached, or broke off ({type(error).__name__}). {unreached or next_step}"
        ) from None


def with_choice(plan: Plan, name: str) -> Plan:
    """The plan with one of its choices made. Raises DownloadError."""
    found = tuple(file for file in plan.choices if file.name == name)
    if not found:
        raise DownloadError("That file is not among those to choose from.")
    return replace(plan, files=found, choices=())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
