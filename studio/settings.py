"""Every setting, defined once: name, default, help. Flags, EMERGE_* variables and the docs are made from here.

Plain Python only: `launch.py --help` imports this module on a machine where nothing is installed yet.
"""

import argparse
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from studio.errors import SettingsError

ROOT = Path(__file__).resolve().parent.parent

_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
"""A machine's name as it may be allowed, perhaps for all names below it."""

PREFIX = re.compile(r"(/[\w~-][\w.~-]*)+", re.ASCII)
"""A path that the studio may be found under."""


def _setting(default: Any, help: str, choices: Sequence[str] = (), short: str = "") -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "short": short})


@dataclass(frozen=True)
class Settings:
    """The studio's settings. `--models-folders` is EMERGE_MODELS_FOLDERS is `settings.models_folders`."""

    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 lets other machines in (set --auth then)")
    port: int = _setting(7860, "port to listen on; if it is taken, the next free one is used")
    models_folders: tuple[Path, ...] = _setting(
        (ROOT / "models",),
        f"folders with models, or installations of other programs: several by repeating it or separated by "
        f"'{os.pathsep}'; the bundled model is always there",
        short="--models",
    )
    output_folder: Path = _setting(ROOT / "outputs", "folder that finished pictures are kept in")
    device: str = _setting("auto", "where models run", ("auto", "cpu", "cuda", "mps"))
    dtype: str = _setting(
        "auto",
        "precision of the models; auto takes the fastest good one",
        ("auto", "float32", "bfloat16", "float16"),
    )
    auth: str = _setting("", "user:password that a browser must give; empty lets everyone in who reaches the port")
    auth_file: Path | None = _setting(
        None,
        "file whose first line is user:password, which other accounts of this machine cannot read as they can --auth",
    )
    allow_pickles: bool = _setting(
        False, "read .ckpt, .pt and .bin too, by PyTorch's reader of weights alone; others are refused"
    )
    no_browser: bool = _setting(False, "do not open a browser at the start")
    steps_kept: int = _setting(
        1000, "megabytes of pictures' steps kept on disk, for going back into them; the oldest leave first"
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        "further names that the studio answers to, as studio.example.org, or *.example.org for all below it: several "
        "by repeating it or separated by ','",
    )
    behind_proxy: bool = _setting(
        False, "believe what a server in front says in X-Forwarded-* headers; only that server may reach the port then"
    )
    root_path: str = _setting("", "path that a server in front has the studio under, as /studio")


def parse(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags, else from EMERGE_* variables, else defaults. Raises SettingsError; exits for --help."""
    given = vars(parser().parse_args(arguments))
    values: dict[str, Any] = {}
    for name, kind in get_type_hints(Settings).items():
        source, text = f"--{name.replace('_', '-')}", given[name]
        if text is None:
            source, text = f"EMERGE_{name.upper()}", environ.get(f"EMERGE_{name.upper()}") or None
        if text is not None:
            values[name] = _read(source, text if isinstance(text, str) else _between(kind).join(text), kind)
    settings = Settings(**{**values, "root_path": values.get("root_path", "").rstrip("/")})
    _check(settings)
    return replace(settings, auth=_in_file(settings.auth_file)) if settings.auth_file else settings


def parser() -> argparse.ArgumentParser:
    """The command line: one flag for each setting."""
    result = argparse.ArgumentParser(
        prog="launch.py",
        description="Emerge Studio: paint with diffusion models in the browser.",
        epilog="Each flag can also be given as a variable: --output-folder is EMERGE_OUTPUT_FOLDER. "
        "'launch.py test' runs the tests.",
    )
    hints = get_type_hints(Settings)
    for each in fields(Settings):
        flag = f"--{each.name.replace('_', '-')}"
        text = f"{each.metadata['help']} (default: {_shown(each.default)})"
        flags = [flag, each.metadata["short"]] if each.metadata["short"] else [flag]
        if hints[each.name] is bool:
            result.add_argument(flag, action="store_const", const="true", help=text)
        elif hints[each.name] in SEVERAL:
            metavar = "FOLDER" if hints[each.name] == tuple[Path, ...] else "NAME"
            result.add_argument(*flags, action="append", metavar=metavar, help=text.replace("%", "%%"))
        else:
            result.add_argument(flag, metavar=each.name.upper(), help=text.replace("%", "%%"))
    return result


SEVERAL = (tuple[Path, ...], tuple[str, ...])
"""Kinds of settings that can be given more than once."""


def _between(kind: Any) -> str:
    """What separates several values in one text."""
    return "," if kind == tuple[str, ...] else os.pathsep


def _shown(default: Any) -> str:
    if isinstance(default, tuple) and default:
        return os.pathsep.join(map(str, default))
    return str(default) if default not in ("", None, False, ()) else "off" if default is False else "none"


def _read(source: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
            raise SettingsError(f"{source} is {text!r}: use 1 for yes or 0 for no.")
        return text.lower() in ("1", "true", "yes", "on")
    if kind is int:
        if not text.isdecimal():
            raise SettingsError(f"{source} is {text!r}: use a whole number.")
        return int(text)
    if kind in (Path, Path | None):
        return Path(text).expanduser()
    if kind is str:
        return text
    parts = [part.strip() for part in text.split(_between(kind)) if part.strip()]
    return tuple(map(_host, parts)) if kind == tuple[str, ...] else tuple(Path(part).expanduser() for part in parts)


def _host(text: str) -> str:
    """A name or number of --allowed-hosts as it is compared. Raises SettingsError."""
    name = text.lower().strip("[]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        if _NAME.fullmatch(name) and not name.removeprefix("*.").replace(".", "").isdecimal():
            return name
    raise SettingsError(
        f"The allowed host {text!r} is no name: write it without http:// and port, as studio.example.org or "
        "*.example.org."
    )


def _check(settings: Settings) -> None:
    for each in fields(settings):
        value, choices = getattr(settings, each.name), each.metadata["choices"]
        if choices and value not in choices:
            raise SettingsError(f"The setting {each.name} is {value!r}: use one of {', '.join(choices)}.")
    if not 1 <= settings.port <= 65535:
        raise SettingsError(f"The port {settings.port} does not exist: use 1 to 65535.")
    if settings.root_path and not PREFIX.fullmatch(settings.root_path):
        raise SettingsError(
            f"The root path {settings.root_path!r} is no path: write it with a slash before it and none after it, as "
            "/studio."
        )
    if settings.auth and not is_pair(settings.auth):
        raise SettingsError("The setting auth must be written user:password.")
    if settings.auth and settings.auth_file:
        raise SettingsError("Give either auth or auth_file, not both.")


def is_pair(text: str) -> bool:
    """Whether this is a user's name and a password, with a colon between them."""
    return all(text.partition(":")[::2])


def _in_file(path: Path) -> str:
    """The `user:password` in a file. Raises SettingsError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"The file {path} with the password cannot be read: {reason}.") from None
    if not lines or not is_pair(lines[0].strip()):
        raise SettingsError(f"The first line of {path} must be written user:password.")
    return lines[0].strip()
