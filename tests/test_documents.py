"""What the documents promise is there: settings, samplers, commands, files."""

import dataclasses
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from studio.settings import ROOT, Settings

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "training" / "README.md"]


def commands() -> list[str]:
    """Every `python …` line in a code block of a document."""
    blocks = [block for path in DOCUMENTS for block in re.findall(r"```\n(.*?)```", path.read_text("utf-8"), re.S)]
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if re.match(r"(EMERGE_\w+=\S+ )?python ", line)})


def test_there_are_commands_to_test() -> None:
    assert {"python launch.py", "python launch.py test"} <= set(commands())


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each documented command, with --help after it: its flags must be known, and then nothing is started."""
    words = shlex.split(re.sub(r"^EMERGE_\w+=\S+ ", "", command))[1:]
    flags = [word for word in words if word.startswith("--")]
    if words[0] == "-m":
        # In this process, which imports torch once for all of them.
        monkeypatch.setattr(sys, "argv", [words[1], "--help"])
        with pytest.raises(SystemExit) as end:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        code, told = end.value.code, capsys.readouterr().out
    else:
        result = subprocess.run([sys.executable, words[0], "--help"], cwd=ROOT, capture_output=True, text=True)
        code, told = result.returncode, result.stdout
    assert code == 0
    for flag in flags:
        assert flag in told


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for field in dataclasses.fields(Settings):
        assert f"`--{field.name.replace('_', '-')}`" in text
        assert f"`EMERGE_{field.name.upper()}`" in text


def test_every_sampler_and_schedule_is_named() -> None:
    from studio.families import samplers

    text = re.sub(r"\s+", " ", (ROOT / "docs" / "text-to-image.md").read_text("utf-8"))
    for label in (*samplers.DIFFUSION, *samplers.all_schedules(samplers.DIFFUSION)):
        assert f"**{label}**" in text


def test_the_table_of_what_models_begin_with_is_made_from_the_code() -> None:
    from docs import numbers

    text = numbers.PAGE.read_text("utf-8")
    assert numbers.page(text) == text, "write it again: python -m docs.numbers"
    assert text.count(numbers.BEGIN) == text.count(numbers.END) == 1


def test_the_tables_of_what_models_take_are_made_from_the_code() -> None:
    from docs import addons

    text = addons.PAGE.read_text("utf-8")
    assert addons.page(text) == text, "write them again: python -m docs.addons"
    assert text.count("python -m docs.addons -->\n") == text.count(addons.END) == len(addons.TABLES)


def test_every_kind_of_control_has_a_line() -> None:
    from docs import addons
    from studio.recipe.recipe import KINDS

    assert addons.PREPARED.keys() == {*KINDS} - {"ip-adapter"}
    assert addons.controls().count("\n") == 2 + len(addons.PREPARED)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_files_that_documents_name_are_there() -> None:
    path = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|js|css|toml))`")
    named = {name for each in DOCUMENTS for name in path.findall(each.read_text("utf-8"))}
    assert len(named) > 30
    bases = [ROOT, ROOT / "studio", ROOT / "studio" / "ui"]
    assert not [name for name in named if not any((base / name).is_file() for base in bases)]
