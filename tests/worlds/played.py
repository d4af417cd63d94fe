"""Play a scenario in simulation and look at it as a table of labelled frames."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from testbed.models.setup import load_setup
from testbed.simulation.run import run_simulation

EIGHT = (
    "hive_hub",
    "hs110_plug",
    "google_home_mini",
    "echo_dot",
    "arlo_base",
    "foobot",
    "nest_protect",
    "dlink_motion",
)
"""The devices of the paper's statistics."""
_RECORD = struct.Struct("<4I")


def play(folder: Path, scenario: str | Path, seed: int = 1, until_s: float | None = None) -> Path:
    """Play a scenario and return its run folder."""
    folder.mkdir()
    setup = load_setup(scenario)
    run_simulation(setup.scenario, setup.topology, setup.devices, seed=seed, out=folder, until_s=until_s)
    return folder


def write_scenario(folder: Path, name: str, hours: float, events: list[str], **more: str) -> Path:
    """Write a scenario of the lab with these events, and return its file."""
    keys = {"begin": "2018-04-12T14:00:00Z", "warm_up": "90m", "start": "power-on", **more}
    lines = [f"name: {name}", "title: A perturbation", "topology: home", f"duration: {hours:g}h"]
    lines += [f"{key}: {value}" for key, value in keys.items()]
    lines += ["events:", *(f"  - {{{event}}}" for event in events)]
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def frames(run: Path) -> pd.DataFrame:
    """Return the labels of a run, with each frame's bytes and its second since the first one."""
    table = pd.read_parquet(run / "labels.parquet")
    data = (run / "capture.pcap").read_bytes()
    sizes = np.empty(len(table), dtype=np.int64)
    at = 24
    for index in range(len(table)):
        _, _, kept, size = _RECORD.unpack_from(data, at)
        sizes[index] = size
        at += _RECORD.size + kept
    assert at == len(data), "as many frames as labels"
    for column in ("device", "direction", "behaviour", "protocol", "service", "state"):
        table[column] = table[column].astype(str)
    return table.assign(bytes=sizes, second=(table["time_ns"] - table["time_ns"].min()) / 1e9)


def events(run: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of a run's event log of that kind."""
    lines = (json.loads(line) for line in (run / "events.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == event]
