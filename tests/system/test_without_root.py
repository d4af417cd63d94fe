"""What a person without root, or with a container's root, is told: what to do, and what works anyway."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import need

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65_534
SMALL = ROOT / "tests" / "data" / "small"


def unprivileged(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command as nobody, who may read everything: the interpreter may be in a closed folder."""
    may = "-all,+dac_read_search"
    drop = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    drop += ["--inh-caps", may, "--ambient-caps", may, "--bounding-set", may]
    command = ["setpriv", *drop, "--", sys.executable, "-m", "testbed", *map(str, words)]
    environment = {**os.environ, "HOME": str(home)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may write to, as pytest's are not."""
    need("root", "setpriv")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_the_simulation_needs_no_root(open_folder: Path) -> None:
    done = unprivileged(open_folder, "run", "blink", "--models", SMALL, "--out", open_folder / "run")
    assert done.returncode == 0, done.stderr
    assert (open_folder / "run" / "capture.pcap").stat().st_uid == NOBODY


@pytest.mark.parametrize(
    "words",
    [
        ["run", "blink", "--models", SMALL, "--world", "emulation", "--out", "run"],
        ["shell", "--out", "run"],
        ["device", "hs110_plug", "--interface", "lo"],
    ],
)
def test_what_needs_root_says_so(words: list[object], open_folder: Path) -> None:
    places = [open_folder / word if word == "run" and at else word for at, word in enumerate(words)]
    done = unprivileged(open_folder, *places)
    assert done.returncode == 1
    assert "lacks\n  root: run it with sudo" in done.stderr
    if words[0] != "device":
        assert "the simulation needs no root" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in open_folder.iterdir() if "run" in path.name]


def test_doctor_says_what_root_is_needed_for(open_folder: Path) -> None:
    done = unprivileged(open_folder, "doctor")
    assert done.returncode == 0, done.stderr
    assert "missing  root: no (the simulation and the analyser need none)" in done.stdout
    assert "can      play scenarios in simulation" in done.stdout
    assert "cannot   have what the emulation needs" in done.stdout


@pytest.mark.parametrize("name", ["sys_admin", "net_admin", "net_raw"])
def test_a_containers_root_is_told_which_capability_it_lacks(name: str, tmp_path: Path) -> None:
    need("root", "setpriv")
    drop = ["--inh-caps", f"-{name}", "--bounding-set", f"-{name}"]
    words = ["run", "blink", "--models", str(SMALL), "--world", "emulation"]
    words += ["--out", str(tmp_path / "run")]
    done = subprocess.run(
        ["setpriv", *drop, "--", sys.executable, "-m", "testbed", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"start the container with --cap-add {name.upper()}\n" in done.stderr
