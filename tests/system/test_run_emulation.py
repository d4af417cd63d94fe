"""`testbed run --world emulation` leaves the same kind of folder, and cleans up whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests" / "data" / "small"


@pytest.mark.slow
@pytest.mark.system
def test_the_same_scenario_plays_in_emulation(tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("root", "mnexec", "brctl", "nft", "ip", "ifconfig", "setpriv", "unshare")
    words = ["run", "blink", "--models", SMALL, "--world", "emulation", "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "testbed", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "blink: 10m of virtual time" in done.stdout
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (manifest["world"], manifest["clock"], manifest["complete"]) == ("emulation", "virtual", True)
    assert (tmp_path / "run" / "capture.pcap").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
