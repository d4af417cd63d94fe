"""An installed package adds devices, habits and services by entry points, without touching this code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CODE = '''\
from typing import Literal

from testbed.host import About, Host
from testbed.models.device import Habit
from testbed.models.units import Duration


class Shout(Habit):
    """Say the same thing to everybody."""

    behaviour: Literal["shout"]
    every: Duration


async def shout(host: Host, params: Shout) -> None:
    """Broadcast a datagram with a period."""
    await host.board.wait(host, "lease")
    while True:
        host.udp_send("255.255.255.255", 7777, b"hello", About("UDP", "neighbours"))
        await host.sleep(params.every)


SHOUT = (Shout, shout)
'''
DEVICE = """\
name: crier
title: A town crier
vendor: Nobody
hub_or_sensor: S
oui: "02:00:5e"
link: {medium: wifi}
habits:
  - {behaviour: dhcp_lease, name: dhcp}
  - {behaviour: shout, name: shout, every: 10s, sources: {every: "assumed: an example"}}
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Lay out an installed package with a device and a habit."""
    (tmp_path / "crier").mkdir()
    (tmp_path / "crier" / "__init__.py").write_text(CODE)
    (tmp_path / "crier" / "crier.yaml").write_text(DEVICE)
    info = tmp_path / "crier-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crier\nVersion: 1.0\n")
    points = "[testbed.behaviours]\nshout = crier:SHOUT\n\n[testbed.models]\ncrier = crier\n"
    (info / "entry_points.txt").write_text(points)
    return tmp_path


def call(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    command = [sys.executable, "-m", "testbed", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_its_device_is_listed_and_its_habit_described(plugin: Path) -> None:
    assert "A town crier" in call(plugin, "list", "devices").stdout
    assert "Shout" in json.loads(call(plugin, "schema", "device").stdout)["$defs"]


@pytest.mark.slow
def test_its_habit_is_played(plugin: Path, tmp_path: Path) -> None:
    small = ROOT / "tests" / "data" / "small"
    text = (small / "topologies" / "nook.yaml").read_text().replace("model: lamp", "model: crier")
    (plugin / "nook.yaml").write_text(text)
    out = tmp_path / "run"
    done = call(
        plugin, "run", small / "scenarios" / "blink.yaml", "--topology", plugin / "nook.yaml", "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert (out / "capture.pcap").read_bytes().count(b"hello") == 60


@pytest.mark.slow
def test_a_broken_entry_point_is_named(plugin: Path) -> None:
    (plugin / "crier" / "__init__.py").write_text("SHOUT = 5\n")
    done = call(plugin, "show", "device", "lamp", "--models", ROOT / "tests" / "data" / "small")
    assert done.returncode == 1
    assert (
        "error: entry point 'shout' of testbed.behaviours is not (parameter type, behaviour)" in done.stderr
    )
