"""Whatever ends a run, and whenever: the machine is as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.api import run
from tests.conftest import need
from tests.machine import machine, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "data" / "bench"
NEEDED = ("root", "mnexec", "brctl", "nft", "ip", "bridge", "ifconfig", "setpriv", "unshare")
MARK = "TESTBED_TEST_RUN"
SEED = 7

VIRTUAL = ["run", "hours", "--world", "emulation"]
REAL = ["run", "blip", "--world", "emulation", "--clock", "real"]
BESIDE = [*REAL, "--exec", "router", "sleep 1000 & sleep 1000", "--exec", "foobot", "sleep 1000"]
SHELL = ["shell", "bench"]
KINDS = {"virtual": VIRTUAL, "programs": BESIDE, "shell": SHELL}

ENDS = [
    *[("virtual", signal.SIGKILL, "outer")] * 6,
    *[("virtual", signal.SIGTERM, "outer")] * 2,
    *[("virtual", signal.SIGINT, "outer")] * 2,
    *[("virtual", signal.SIGKILL, "inner")] * 4,
    *[("programs", signal.SIGKILL, "outer")] * 2,
    *[("programs", signal.SIGTERM, "outer"), ("programs", signal.SIGKILL, "inner")],
    *[("shell", signal.SIGKILL, "outer"), ("shell", signal.SIGHUP, "outer")],
]
"""Twenty ends: what runs, which signal, and to whom: the command itself, or any process of its namespaces."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The machine, after a first run: modules that it made the kernel load are there from then on."""
    need(*NEEDED)
    first = tmp_path_factory.mktemp("first") / "run"
    run("hours", out=first, models=[BENCH], world="emulation", until_s=60)
    return machine()


def mark_of(folder: Path) -> str:
    return f"{MARK}={folder}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a run and for its temporary files; what runs at the end is killed."""
    (tmp_path / "temporary").mkdir()
    yield tmp_path
    for pid in processes_with(mark_of(tmp_path)):
        os.kill(pid, signal.SIGKILL)


def start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, MARK: str(folder), "TMPDIR": str(folder / "temporary")}
    command = [sys.executable, "-m", "testbed", *words, "--models", str(BENCH), "--out", str(folder / "run")]
    return subprocess.Popen(
        command,
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment, start_new_session=True,
    )  # fmt: skip


def gone(folder: Path, limit_s: float = 30.0) -> bool:
    end = time.monotonic() + limit_s
    while processes_with(mark_of(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return not processes_with(mark_of(folder))


@pytest.mark.parametrize(
    ("number", "kind", "how", "whom"),
    [(number, *end) for number, end in enumerate(ENDS)],
    ids=[f"{kind}-{how.name}-{whom}-{number}" for number, (kind, how, whom) in enumerate(ENDS)],
)
def test_nothing_is_left_of_a_run_that_ends_at_a_random_moment(
    number: int, kind: str, how: signal.Signals, whom: str, folder: Path, before: dict[str, Any]
) -> None:
    chance = random.Random(f"{SEED} {number}")
    with start(KINDS[kind], folder) as child:
        time.sleep(0.4 + 2.6 * chance.random())
        victims = [pid for pid in processes_with(mark_of(folder)) if pid != child.pid]
        if whom == "outer":
            child.send_signal(how)
        elif victims:
            os.kill(chance.choice(sorted(victims)), how)
        if kind != "virtual" and whom == "inner":  # a host that lost its shell is a host still
            time.sleep(1)
            child.send_signal(signal.SIGTERM)
        child.wait(60)
    assert gone(folder)
    assert list((folder / "temporary").iterdir()) == []
    assert {path.name for path in folder.iterdir()} - {"run"} == {"temporary"}
    if (folder / "run").exists():
        assert (folder / "run" / "run.json").exists(), "a run's folder is complete or absent"
    after = machine()
    for part, state in before.items():
        assert after[part] == state, part


def test_a_run_that_ends_by_itself_leaves_its_folder_only(folder: Path, before: dict[str, Any]) -> None:
    with start([*VIRTUAL, "--until", "10m"], folder) as child:
        assert child.wait(60) == 0
    assert gone(folder, 1.0)
    assert list((folder / "temporary").iterdir()) == []
    assert {path.name for path in folder.iterdir()} == {"run", "temporary"}
    after = machine()
    for part, state in before.items():
        assert after[part] == state, part


def test_runs_side_by_side_do_not_meet(folder: Path, before: dict[str, Any]) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "temporary").mkdir()
    with start(VIRTUAL, folder) as one, start(VIRTUAL, folder / "other") as two:
        assert (one.wait(100), two.wait(100)) == (0, 0)
    first, second = (each / "run" / "events.jsonl" for each in (folder, folder / "other"))
    assert first.read_bytes() == second.read_bytes()
    after = machine()
    for part, state in before.items():
        assert after[part] == state, part
