"""A run's manifest, `run.json`, and the summary that a run returns."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from testbed.capture.write import StateSpan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from testbed.models import DeviceModel, Scenario, Topology
    from testbed.scenario.internet import Site


@dataclass(frozen=True)
class RunSummary:
    """What a run came to."""

    out: Path
    """The run's folder."""
    frames: int
    bytes: int
    virtual_s: float
    """Captured virtual time."""
    wall_s: float
    complete: bool
    """False when it was stopped before its end."""
    ended_at: datetime
    """Virtual time (UTC) at which the capture ends."""
    warnings: list[str] = field(default_factory=list)
    per_device: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Frames and bytes of each device, by its labels."""


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with a ``Z``, with microseconds where there are any."""
    return moment.isoformat().replace("+00:00", "Z")


def state_spans(scenario: Scenario, until_s: float) -> list[StateSpan]:
    """Return the states in Unix nanoseconds, cut at the capture's end; later ones are left out."""
    begin = round(scenario.begin.timestamp()) * 10**9
    return [
        StateSpan(s.name, begin + round(s.begin * 1e9), begin + round(min(s.end, until_s) * 1e9), s.device)
        for s in scenario.states
        if s.begin < until_s
    ]


def programs_left_out(topology: Topology) -> list[str]:
    """Return the warning that the topology's programs did not run, for worlds that run none."""
    if not topology.programs:
        return []
    hosts = ", ".join(dict.fromkeys(program.host for program in topology.programs))
    return [f"programs run under the real clock only; left out in: {hosts}"]


def write_manifest(
    path: Path,
    *,
    scenario: Scenario,
    topology: Topology,
    models: Mapping[str, DeviceModel],
    macs: Mapping[str, str | None],
    addresses: Mapping[str, str],
    sites: Sequence[Site],
    seed: int,
    world: str,
    clock: str,
    until_s: float,
    complete: bool,
    frames: int,
    warnings: Sequence[str],
    router: Mapping[str, str | None] | None = None,
) -> None:
    """Write `run.json`; `router` is what is known of a router that is not the topology's."""
    begin = scenario.begin
    devices: list[dict[str, Any]] = []
    for device in topology.devices:
        model = models[device.model]
        devices.append(
            {
                "name": device.name,
                "model": model.name,
                "title": model.title,
                "vendor": model.vendor,
                "mac": macs.get(device.name),
                "ip": addresses.get(device.name),
                "class": model.hub_or_sensor,
                "link": model.link.medium,
                "through": device.through or model.link.through,
                "energy_w": model.energy_w,
                "security": model.paper.security,
                "in_statistics": model.paper.in_statistics and model.oui is not None,
            }
        )
    states = [
        {
            "name": state.name,
            "number": state.number,
            "device": state.device,
            "begin": iso(begin + timedelta(seconds=state.begin)),
            "end": iso(begin + timedelta(seconds=min(state.end, until_s))),
        }
        for state in scenario.states
        if state.begin < until_s
    ]
    services = [
        {
            "name": site.entry.name,
            "kind": site.entry.service,
            "names": list(site.entry.names),
            "address": site.address,
            "ports": list(site.entry.ports),
            "place": site.place.name,
            "country": site.place.country,
            "state": site.place.state,
            "registry": site.registry,
            "latitude": site.place.latitude,
            "longitude": site.place.longitude,
        }
        for site in sites
    ]
    document = {
        "format": 1,
        "seed": seed,
        "versions": _versions(),
        "world": world,
        "clock": clock,
        "scenario": {"name": scenario.name, "title": scenario.title},
        "topology": {"name": topology.name, "title": topology.title},
        "begin": iso(begin),
        "end": iso(begin + timedelta(seconds=until_s)),
        "complete": complete,
        "frames": frames,
        "warnings": list(warnings),
        "router": router
        or {
            "name": topology.router.name,
            "mac": topology.router.mac,
            "ip": str(topology.router.address),
            "lan": str(topology.router.lan),
        },
        "devices": devices,
        "states": states,
        "services": services,
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("iot-testbed", "simpy", "numpy", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
