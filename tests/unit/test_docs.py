"""The documentation does what it says: commands run, examples load, pages build, nothing is left out."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import console  # noqa: E402  # docs/ is no package
import reference  # noqa: E402

from testbed.behaviours import BEHAVIOURS  # noqa: E402
from testbed.cli import VERBS  # noqa: E402
from testbed.models.load import list_devices, list_scenarios, list_topologies  # noqa: E402
from testbed.models.scenario import Event, State, Stimulus  # noqa: E402
from testbed.models.setup import load_setup  # noqa: E402
from testbed.services.registry import KINDS  # noqa: E402
from tests.conftest import need  # noqa: E402

PAGES = [page for page in console.PAGES if console.blocks(page.read_text())]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    """Numbers may differ, and the order of lines; `python docs/console.py` renews what is shown."""
    if "tshark" in page.read_text():
        need("tshark")
    folder = console.Folder(tmp_path)
    for block in console.blocks(page.read_text()):
        for command, shown in block:
            code, printed = folder.play(command)
            told = any(line.startswith("error: ") for line in shown)  # others say their exit code
            assert code == 0 or told, f"{command}\n" + "\n".join(printed)
            missing = (
                {console.gist(line) for line in shown}
                - {console.gist(line) for line in printed}
                - {console.LEFT_OUT}
            )
            assert not missing, f"{command}\n" + "\n".join(printed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in console.PAGES if "```python\nimport testbed" in page.read_text()],
    ids=lambda page: page.name,
)  # fmt: skip
def test_python_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        assert printed.getvalue() or "print" not in code


@pytest.mark.parametrize("name", list_scenarios((EXAMPLES,)))
def test_the_examples_fit_together(name: str) -> None:
    setup = load_setup(name, folders=(EXAMPLES,), services=KINDS)
    assert setup.devices


def prose() -> str:
    """Return all pages that people write, and those that the code writes."""
    written = [page.read_text() for page in console.PAGES]
    return "\n".join([*written, *reference.pages().values()])


def test_every_command_is_documented() -> None:
    assert [verb for verb in VERBS if f"## testbed {verb}\n" not in reference.pages()["cli"]] == []


def test_every_behaviour_is_documented() -> None:
    assert [name for name in BEHAVIOURS if f"\n## {name}\n" not in reference.pages()["habits"]] == []


def test_every_kind_of_service_is_documented() -> None:
    assert [name for name in KINDS if f"\n## {name}\n" not in reference.pages()["services"]] == []


def test_every_action_and_stimulus_of_a_scenario_is_documented() -> None:
    page = (ROOT / "docs" / "write-a-scenario.md").read_text()
    actions = [get_args(kind.model_fields["action"].annotation)[0] for kind in get_args(get_args(Event)[0])]
    stimuli = get_args(Stimulus.model_fields["kind"].annotation)
    assert [word for word in [*actions, *stimuli, *State.model_fields] if f"`{word}`" not in page] == []


def test_everything_shipped_is_documented() -> None:
    text = prose()
    names = [*list_devices(), *list_topologies(), *list_scenarios()]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [re.split(r"[><=~ ]", line)[0] for line in project["dependencies"]]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) \|", page, re.MULTILINE)[1:]
    assert sorted(set(rows) - {"---"}, key=str.lower) == sorted(needed, key=str.lower)
    extras = [
        re.split(r"[><=~ ]", line)[0] for part in project["optional-dependencies"].values() for line in part
    ]
    assert [name for name in extras if not re.search(rf"\b{name.split('-')[0]}\b", page)] == ["types-PyYAML"]


def test_reference_pages_describe_every_key() -> None:
    """A key without a sentence leaves the last cell of its row empty."""
    empty = [
        line for text in reference.pages().values() for line in text.splitlines() if line.endswith("|  |")
    ]
    assert empty == []


@pytest.mark.slow
def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    from sphinx.cmd.build import build_main

    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees"), str(ROOT / "docs")]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = build_main([*words, str(tmp_path / "html")])
    assert code == 0, told.getvalue()
    assert (tmp_path / "html" / "index.html").stat().st_size > 1000


def test_no_page_knows_this_machine() -> None:
    assert re.findall(rf"{re.escape(os.path.expanduser('~'))}/\w+|/home/\w+|/tmp/\w+", prose()) == []
