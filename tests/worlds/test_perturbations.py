"""Devices react sensibly to disruptions that the paper did not play: they come back, and calm down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.played import EIGHT, events, frames, play, write_scenario

OFF, ON = "action: internet, state: 'off', at", "action: internet, state: 'on', at"
CASES = {
    "short-outage": [f"{OFF}: 1h", f"{ON}: 1h20m"],
    "two-outages": [f"{OFF}: 1h", f"{ON}: 1h10m", f"{OFF}: 1h40m", f"{ON}: 2h"],
    "router-restart-online": [
        "action: router, state: 'off', at: 1h", "action: router, state: 'on', at: 1h3m",
    ],
    "known-outage": [f"{OFF}: 1h, how: known", f"{ON}: 2h"],
    "night-outage": [f"{OFF}: 1h", f"{ON}: 2h30m"],
    "dns-down": ["action: service_down, service: dns, at: 1h, duration: 30m"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_traffic_returns_to_its_steady_state(name: str, tmp_path: Path) -> None:
    hours = 8
    begin = "2018-04-13T00:20:00Z" if name == "night-outage" else "2018-04-12T14:00:00Z"
    scenario = write_scenario(tmp_path, name, hours, CASES[name], begin=begin)
    run = play(tmp_path / "run", scenario, seed=3)
    table = frames(run)
    hour = table["second"] // 3600
    steady = table[hour == 0].groupby("device")["bytes"].sum()
    late = table[(hour == hours - 2) | (hour == hours - 1)].groupby("device")["bytes"].sum() / 2
    for device in set(EIGHT) - {"nest_protect"}:
        assert late[device] == pytest.approx(steady[device], rel=0.15), device
    last = {line["device"]: line["outcome"] for line in events(run, "function")}
    assert {device: last.get(device, "works") for device in EIGHT} == dict.fromkeys(EIGHT, "works")
