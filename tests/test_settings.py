"""Settings from flags and variables, and what is told about wrong ones."""

import os
from dataclasses import fields
from pathlib import Path

import pytest

from studio.errors import SettingsError
from studio.settings import Settings, parse, parser


def test_without_anything_given_the_defaults_hold() -> None:
    assert parse([], {}) == Settings()
    assert (Settings().host, Settings().port) == ("127.0.0.1", 7860)


def test_a_variable_counts_and_a_flag_counts_more() -> None:
    environ = {"EMERGE_PORT": "8000", "EMERGE_HOST": "::1"}
    assert parse([], environ).port == 8000
    settings = parse(["--port", "9000"], environ)
    assert (settings.host, settings.port) == ("::1", 9000)


def test_every_setting_can_be_given_both_ways() -> None:
    folders = os.pathsep.join(["a", "b"])
    values = {
        "host": "0.0.0.0",
        "port": "1234",
        "models_folders": folders,
        "output_folder": "out",
        "device": "cpu",
        "dtype": "float32",
        "auth": "me:secret",
        "allow_pickles": "1",
        "no_browser": "1",
        "steps_kept": "500",
        "allowed_hosts": "studio.example.org,*.Example.net",
        "behind_proxy": "1",
        "root_path": "/studio",
    }
    assert values.keys() == {each.name for each in fields(Settings)} - {"auth_file"}
    wanted = Settings(
        "0.0.0.0", 1234, (Path("a"), Path("b")), Path("out"), "cpu", "float32", "me:secret", None, True, True, 500,
        ("studio.example.org", "*.example.net"), True, "/studio",
    )  # fmt: skip
    assert parse([], {f"EMERGE_{name.upper()}": value for name, value in values.items()}) == wanted
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value != "1"]
    assert parse([*flags, "--no-browser", "--allow-pickles", "--behind-proxy"], {}) == wanted


def test_the_password_can_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("me:s:ecret \nfurther lines do not matter\n", "utf-8")
    assert parse(["--auth-file", str(file)], {}).auth == parse([], {"EMERGE_AUTH_FILE": str(file)}).auth == "me:s:ecret"
    with pytest.raises(SettingsError, match="not both"):
        parse(["--auth-file", str(file), "--auth", "a:b"], {})
    for content in (b"", b"\n", b"nothing else", b":x", b"x:", b"\xff:\xff"):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=r"\.$"):
            parse(["--auth-file", str(file)], {})
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SettingsError, match="cannot be read"):
            parse(["--auth-file", str(path)], {})


def test_models_folders_can_be_given_one_after_another() -> None:
    joined = os.pathsep.join(["b", "~/c"])
    settings = parse(["--models", "a", "--models-folders", joined], {"EMERGE_MODELS_FOLDERS": "d"})
    assert settings.models_folders == (Path("a"), Path("b"), Path.home() / "c")


def test_allowed_hosts_can_be_given_one_after_another() -> None:
    given = ["--allowed-hosts", "Studio.Example.org.", "--allowed-hosts", "*.lan, 192.0.2.7,[2001:DB8::1]"]
    assert parse(given, {}).allowed_hosts == ("studio.example.org", "*.lan", "192.0.2.7", "2001:db8::1")


@pytest.mark.parametrize(
    "name",
    ["*", "*.", "https://studio.example.org", "studio.example.org:443", "a b", "*.*.org", "x.*", "*.1.2", "ä.org"],
)
def test_what_is_no_name_is_not_allowed(name: str) -> None:
    with pytest.raises(SettingsError, match="without http:// and port"):
        parse(["--allowed-hosts", name], {})


@pytest.mark.parametrize("path", ["studio", "/a b", "//a", "/a//b", "/../a", "/a?b", "http://a/b", '/a"><b'])
def test_what_is_no_path_is_not_taken_for_one(path: str) -> None:
    with pytest.raises(SettingsError, match="as /studio"):
        parse(["--root-path", path], {})


def test_a_slash_at_the_end_of_the_root_path_does_not_matter() -> None:
    assert parse(["--root-path", "/a/b/"], {}).root_path == "/a/b" and parse(["--root-path", "/"], {}).root_path == ""


def test_the_help_explains_every_setting_and_its_default() -> None:
    text = " ".join(parser().format_help().split())
    for each in fields(Settings):
        assert f"--{each.name.replace('_', '-')}" in text
        assert " ".join(each.metadata["help"].split())[:30] in text
    assert "(default: 7860)" in text and "(default: off)" in text and "(default: none)" in text


def test_a_home_folder_is_understood() -> None:
    assert parse(["--output-folder", "~/pictures"], {}).output_folder == Path.home() / "pictures"


@pytest.mark.parametrize("text", ["0", "no", "false", "OFF"])
def test_a_switch_can_be_off_in_a_variable(text: str) -> None:
    assert not parse([], {"EMERGE_NO_BROWSER": text}).no_browser


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [
        (["--port", "eighty"], {}, "--port is 'eighty': use a whole number."),
        ([], {"EMERGE_PORT": "-1"}, "EMERGE_PORT is '-1': use a whole number."),
        (["--port", "0"], {}, "use 1 to 65535"),
        (["--port", "65536"], {}, "use 1 to 65535"),
        (["--device", "abacus"], {}, "use one of auto, cpu, cuda, mps"),
        (["--dtype", "float64"], {}, "use one of auto, float32"),
        (["--auth", "nobody"], {}, "user:password"),
        (["--auth", ":secret"], {}, "user:password"),
        ([], {"EMERGE_NO_BROWSER": "perhaps"}, "use 1 for yes or 0 for no"),
    ],
)
def test_a_wrong_value_is_told_in_a_sentence(arguments: list[str], environ: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(arguments, environ)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["host", "port", "output_folder", "models_folders", "device", "no_browser"])
def test_an_empty_variable_counts_as_not_set(name: str) -> None:
    assert parse([], {f"EMERGE_{name.upper()}": ""}) == Settings()


def test_an_unknown_flag_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--colour", "red"], {})
    assert caught.value.code == 2
    assert "--colour" in capsys.readouterr().err
