"""A home with any number of devices, half Foobots, half plugs, and a scenario with a short outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_SCENARIO = """name: crowd
title: Many devices lose the Internet at once
topology: crowd
begin: 2018-04-03T00:00:00Z
duration: 15m
warm_up: 3m
states:
  - {name: steady, number: 1, begin: 0, end: 5m}
  - {name: internet-off, number: 2, begin: 5m, end: 10m}
  - {name: internet-back, number: 3, begin: 10m, end: 15m}
events:
  - {action: internet, at: 5m, state: "off"}
  - {action: internet, at: 10m, state: "on"}
"""


def write_crowd(folder: Path, count: int) -> None:
    """Write topology and scenario `crowd` with `count` devices into a folder of models."""
    (folder / "topologies").mkdir(parents=True)
    (folder / "scenarios").mkdir()
    bench = (ROOT / "tests" / "data" / "bench" / "topologies" / "bench.yaml").read_text()
    head, rest = bench.replace("name: bench", "name: crowd").split("devices:\n")
    servers = rest[rest.index("places:") :]
    router = "router: {lan: 192.168.0.0/22, address: 192.168.0.1, dhcp: {first: 100, size: 800}}\n"
    models = ("foobot", "hs110_plug")
    devices = "".join(f"  - {{name: d{n}, model: {models[n % 2]}}}\n" for n in range(count))
    (folder / "topologies" / "crowd.yaml").write_text(f"{head}{router}devices:\n{devices}{servers}")
    (folder / "scenarios" / "crowd.yaml").write_text(_SCENARIO)
