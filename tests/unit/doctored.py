"""A small lab as evidence: two devices, a few tables, every value by hand."""

from __future__ import annotations

from typing import Any

from testbed.analysis import rows as r
from testbed.reproduction.evidence import Evidence, Findings, Shown

HOUR_NS = 3600 * 10**9
BEGIN = "2018-04-03T00:00:00Z"


def device(name: str, group: str, link: str = "wifi", **more: Any) -> dict[str, Any]:
    mac = more.pop("mac", f"02:00:00:00:00:{len(name):02x}")
    return {"name": name, "class": group, "link": link, "mac": mac, "in_statistics": mac is not None,
            "through": None, "energy_w": 1.5, **more}  # fmt: skip


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "scenario": {"name": "all-states"},
        "topology": {"name": "home"},
        "begin": BEGIN,
        "end": "2018-04-10T00:00:00Z",
        "devices": [
            device("hive_hub", "H", "ethernet", energy_w=1.8),
            device("foobot", "S"),
            device("hive_motion", "S", "zigbee", mac=None, through="hive_hub", energy_w=None),
        ],
        "states": [
            state("steady", 1, 0),
            state("internet-off", 2, 1),
            state("internet-back", 3, 2),
            state("restart", 7, 3, "foobot"),
        ],
        **more,
    }


def state(name: str, number: int, hour: int, concerns: str | None = None) -> dict[str, Any]:
    times = [f"2018-04-03T0{hour}:00:00Z", f"2018-04-03T0{hour + 1}:00:00Z"]
    return {"name": name, "number": number, "device": concerns, "begin": times[0], "end": times[1]}


def traffic(*entries: tuple[str, str, str, str, int, int]) -> list[Any]:
    """Rows of state, device, protocol, direction, packets, bytes; an empty state is the whole capture."""
    return [r.StateRow(name, None, who, "", what, way, n, size) for name, who, what, way, n, size in entries]


def findings(*entries: tuple[str, str, str, str, int, int], **tables: list[Any]) -> Findings:
    whole = [r.ProtocolRow(*row[2:]) for row in traffic(*entries) if not row.state]
    parts = [row for row in traffic(*entries) if row.state]
    return Findings(manifest(), {"protocols": whole, "states": parts, **_empty(), **tables})


def _empty() -> dict[str, list[Any]]:
    names = ("devices", "spikes", "periodicity", "periods", "services", "places", "state_services",
             "dependencies", "bandwidth")  # fmt: skip
    return {name: [] for name in names}


def evidence(
    states: Findings | None = None, week: Findings | None = None, month: Findings | None = None
) -> Evidence:
    return Evidence(1, states, week, month)


def spectrum_of(device_: str, protocol: str, lines: dict[int, float], count: int = 100) -> list[Any]:
    """Rows of a spectrum: noise of 0.01, and these lines; lines above 0.5 are significant."""
    return [
        r.LineRow(device_, protocol, float(line), lines.get(line, 0.01), lines.get(line, 0) > 0.5, 0.5)
        for line in range(1, count + 1)
    ]


def shown(hour: float, who: str, outcome: str, local: str = "") -> Shown:
    from testbed.analysis.run import parse_time

    return Shown(parse_time(BEGIN) + int(hour * HOUR_NS), who, outcome, local)
