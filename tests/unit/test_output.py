"""An output folder is complete or absent, and nothing that is not ours is ever replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.output import new_folder


def make(out: Path, text: str = "{}", *, force: bool = False) -> None:
    with new_folder(out, force=force, mark="run.json") as folder:
        (folder / "run.json").write_text(text)


def test_a_new_folder_appears_whole_with_its_parents(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    with new_folder(out, force=False, mark="run.json") as folder:
        assert not out.exists()
        (folder / "run.json").write_text("{}")
    assert [path.name for path in out.iterdir()] == ["run.json"]
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_an_existing_folder_is_refused_without_force(tmp_path: Path) -> None:
    make(tmp_path / "run", "old")
    with pytest.raises(UserError, match="exists already; choose another folder, or replace it with --force"):
        make(tmp_path / "run", "new")
    assert (tmp_path / "run" / "run.json").read_text() == "old"


def test_force_replaces_a_folder_of_ours(tmp_path: Path) -> None:
    make(tmp_path / "run", "old")
    (tmp_path / "run" / "more").mkdir()
    make(tmp_path / "run", "new", force=True)
    assert (tmp_path / "run" / "run.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not (tmp_path / "run" / "more").exists()


def test_force_replaces_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "run", "new", force=True)
    assert (tmp_path / "run" / "run.json").read_text() == "new"


def test_force_does_not_replace_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds no run\.json, so it is not ours to replace"):
        make(tmp_path, force=True)
    with pytest.raises(UserError, match="exists and is not a folder"):
        make(tmp_path / "thesis.txt", force=True)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="exists and is not a folder"):
        make(tmp_path / "link", force=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path / "run", "old")
    with (
        pytest.raises(ZeroDivisionError),
        new_folder(tmp_path / "run", force=True, mark="run.json") as folder,
    ):
        (folder / "run.json").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "run" / "run.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_a_killed_process_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f".run.partial-{gone.pid}", f".run.partial-{os.getppid()}", ".run.partial-notes"):
        (tmp_path / name).mkdir()
    make(tmp_path / "run")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"run", f".run.partial-{os.getppid()}", ".run.partial-notes"}


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_no_folder(tmp_path: Path) -> None:
    script = (
        "import sys, time; from testbed.output import new_folder\n"
        "with new_folder(sys.argv[1], force=False, mark='run.json', even_if_killed=True) as folder:\n"
        "    (folder / 'half').write_text('done'); print('there', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "there\n"
        assert [path.name for path in tmp_path.iterdir()] == [f".run.partial-{child.pid}"]
        child.kill()
    limit = time.monotonic() + 10
    while list(tmp_path.iterdir()) and time.monotonic() < limit:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
