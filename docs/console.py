"""Plays the `console` blocks of the documentation, to check them and to renew the output they show.

`python docs/console.py` puts the present output into README.md and the pages; a test compares the two.

A block is commands (``$ testbed …``), each followed by what it prints. A line ``…`` stands for lines
that are left out. Commands run in one folder for each page, with `docs/examples` in it as `my-home`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from testbed.models.load import list_devices

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LEFT_OUT = "…"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d.,:]*(e-?\d+)?( ?(B|kB|MB|GB|ms|s|min|h|d|%))?\b%?")
DEVICES = {*list_devices(), "hall_thermostat", "bedroom_thermostat", "router", "all"}
_SHIM = '#!/bin/sh\nPYTHONPATH="{root}" exec "{python}" -m testbed "$@"\n'


class Step(NamedTuple):
    """A command and the output that its page shows."""

    command: str
    shown: list[str]


def blocks(text: str) -> list[list[Step]]:
    """Return the steps of each console block."""
    return [_steps(match[1]) for match in _BLOCK.finditer(text)]


def _steps(block: str) -> list[Step]:
    steps: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append(Step(line[2:], []))
        else:
            steps[-1].shown.append(line)
    return steps


class Folder:
    """A place where a page's commands run, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path / "work"
        shutil.copytree(ROOT / "docs" / "examples", self.path / "my-home")
        tools = path / "bin"
        tools.mkdir()
        (tools / "testbed").write_text(_SHIM.format(root=ROOT, python=sys.executable))
        (tools / "testbed").chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "100"}

    def play(self, command: str) -> tuple[int, list[str]]:
        """Run a command; return its exit code and the lines that a terminal would show."""
        if command.startswith("make "):
            return self._make(command)
        done = subprocess.run(
            ["bash", "-c", f"{{ {command}\n}} 2>&1"],
            cwd=self.path, env=self._environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        return done.returncode, [line.rstrip() for line in done.stdout.rstrip("\n").splitlines()]

    def _make(self, command: str) -> tuple[int, list[str]]:
        """Play what a target of the Makefile does with `testbed`, the set-up left aside."""
        recipe = subprocess.run(
            ["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True
        )
        lines: list[str] = []
        for line in recipe.stdout.splitlines():
            if "/testbed " in line:
                code, printed = self.play("testbed " + line.partition("/testbed ")[2])
                lines += [line, *printed]
                if code:
                    return code, lines
        return recipe.returncode, lines


def gist(line: str) -> str:
    """Return what must not change in a line of output: its words; of a row about a device, the device."""
    words = line.split()
    if words and words[0] in DEVICES:
        return words[0]
    return " ".join(_NUMBER.sub("#", line).split())


def abridged(shown: list[str], printed: list[str]) -> list[str]:
    """Return the present output, left out where the page leaves out.

    Each passage that the page shows begins at the same line as before, and is as long.
    """
    if LEFT_OUT not in shown:
        return printed
    lines: list[str] = []
    at = 0
    passages = [list(part) for mark, part in groupby(shown, LEFT_OUT.__eq__) if not mark]
    for passage in passages:
        begin = next((i for i in range(at, len(printed)) if gist(printed[i]) == gist(passage[0])), None)
        if begin is None:
            raise SystemExit(f"no longer printed: {passage[0]}")
        lines += [LEFT_OUT] * (begin > at) + printed[begin : begin + len(passage)]
        at = begin + len(passage)
    return lines + [LEFT_OUT] * (at < len(printed))


def renew(page: Path) -> None:
    """Put the present output into a page."""

    def replaced(match: re.Match[str]) -> str:
        lines: list[str] = []
        for step in _steps(match[1]):
            _, printed = folder.play(step.command)
            lines += [f"$ {step.command}", *(abridged(step.shown, printed) if step.shown else [])]
        return "```console\n" + "\n".join(lines) + "\n```"

    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place))
        text = page.read_text()
        page.write_text(_BLOCK.sub(replaced, text))


if __name__ == "__main__":
    for name in PAGES:
        renew(name)
