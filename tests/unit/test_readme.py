"""What the README tells people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from testbed.cli import VERBS, cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(word: str) -> list[str]:
    """Return the command lines in the README's code (blocks and spans) that begin with `word`."""
    code = re.findall(r"```.*?\n(.*?)```|`([^`\n]+)`", README, re.DOTALL)
    lines = [
        line.strip().removeprefix("$ ") for block in code for text in block for line in text.splitlines()
    ]
    return [line.split("#")[0].strip() for line in lines if line.startswith(f"{word} ")]


def test_the_readme_shows_the_two_commands() -> None:
    assert {"make run", "make test"} <= set(commands("make"))


@pytest.mark.parametrize("line", commands("make"))
def test_make_targets_exist(line: str) -> None:
    assert line.split()[1] in TARGETS


@pytest.mark.parametrize("line", commands("testbed"))
def test_commands_and_their_options_exist(line: str) -> None:
    verb, *rest = shlex.split(line.replace("[", "").replace("]", ""))[1:]
    assert verb in VERBS
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known
