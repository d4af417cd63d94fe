"""What the report says: an analysis as plain data, cut to what a page can show."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.analysis.run import parse_time
from testbed.analysis.states import offline
from testbed.report.atlas import project
from testbed.report.palette import APPLICATION_ORDER, TRANSPORT_ORDER, WHOLE_ORDER
from testbed.report.summary import CONNECTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from testbed.analysis import Analysis
    from testbed.analysis.rows import PeriodRow

MOST_DEVICES = 40
"""More devices than these are left to the tables."""
MOST_POINTS = 800
"""Points of a bandwidth line; a longer capture is drawn in wider windows."""
MOST_ROWS = 400
"""Rows of a table on the page."""
HIGHEST_LINE = 60.0
"""Cycles per week up to which spectra are drawn."""
WEEK_S = 604_800.0


def content(analysis: Analysis) -> dict[str, Any]:
    """Return everything that the page draws."""
    ranked = sorted(analysis.devices, key=lambda row: -row.bytes)
    names = [row.device for row in analysis.devices if row in ranked[:MOST_DEVICES] and row.packets]
    return {
        "devices": names,
        "left_out": sum(bool(row.packets) for row in ranked) - len(names),
        "order": {
            "application": APPLICATION_ORDER,
            "transport": TRANSPORT_ORDER,
            "whole": WHOLE_ORDER,
        },
        "whole": [
            {
                "protocol": name,
                "packets": analysis.protocol_packets[name],
                "bytes": analysis.protocol_bytes[name],
            }
            for name in WHOLE_ORDER
            if analysis.protocol_packets.get(name)
        ],
        "breakdown": _breakdown(analysis, names),
        "bandwidth": bandwidth_series(analysis, names),
        "states": _states(analysis, names),
        "spectra": _spectra(analysis, names),
        "periods": _periods(analysis.periods, names),
        "services": _services(analysis, names),
        "places": _places(analysis, names),
        "recovery": _recovery(analysis, names),
        "retries": _retries(analysis, names),
    }


def _breakdown(analysis: Analysis, names: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Return bytes by layer, device and protocol; sent and received together."""
    out: dict[str, dict[str, dict[str, int]]] = {
        layer: {name: {} for name in names} for layer in ("application", "transport")
    }
    for row in analysis.protocols:
        if row.device in out[row.layer]:
            cell = out[row.layer][row.device]
            cell[row.protocol] = cell.get(row.protocol, 0) + row.bytes
    return out


def bandwidth_series(analysis: Analysis, names: Sequence[str]) -> dict[str, Any]:
    """Return bytes sent and received in each window, beginning at `begin_s` (Unix time), `step_s` long.

    Windows are joined where there are too many, so that no capture makes a long list.
    """
    if not analysis.bandwidth:
        return {"begin_s": 0, "step_s": analysis.window_s, "devices": {}}
    stamp = {text: parse_time(text) // 10**9 for text in {row.window_start for row in analysis.bandwidth}}
    first, last = min(stamp.values()), max(stamp.values())
    width = int(analysis.window_s)
    joined = -(-((last - first) // width + 1) // MOST_POINTS)
    step = width * joined
    count = (last - first) // step + 1
    series = {name: ([0] * count, [0] * count) for name in names}
    for row in analysis.bandwidth:
        if row.device in series:
            slot = (stamp[row.window_start] - first) // step
            series[row.device][0][slot] += row.sent_bytes
            series[row.device][1][slot] += row.received_bytes
    return {
        "begin_s": first,
        "step_s": step,
        "devices": {name: {"sent": sent, "received": got} for name, (sent, got) in series.items()},
    }


def _states(analysis: Analysis, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the states in order, with bytes by layer, device and protocol."""
    cells: dict[str, dict[str, dict[str, dict[str, int]]]] = defaultdict(
        lambda: {"application": defaultdict(dict), "transport": defaultdict(dict)}
    )
    shown = set(names)
    for row in analysis.states:
        if row.device in shown:
            cell = cells[row.state][row.layer][row.device]
            cell[row.protocol] = cell.get(row.protocol, 0) + row.bytes
    return [
        {
            "name": span.name,
            "number": span.number,
            "device": span.device,
            "begin_s": span.begin_ns / 1e9,
            "end_s": span.end_ns / 1e9,
            "offline": analysis.ledger is not None and offline(analysis.ledger, span),
            "bytes": cells[span.name],
        }
        for span in analysis.state_spans
    ]


def _spectra(
    analysis: Analysis, names: Sequence[str]
) -> dict[str, dict[str, list[tuple[float, float, bool]]]]:
    """Return each device's and protocol's lines up to `HIGHEST_LINE`: (cycles a week, size, significant)."""
    out: dict[str, dict[str, list[tuple[float, float, bool]]]] = {}
    shown = set(names)
    for row in analysis.periodicity:
        if row.device in shown and row.cycles_per_week <= HIGHEST_LINE and row.protocol in APPLICATION_ORDER:
            lines = out.setdefault(row.device, {}).setdefault(row.protocol, [])
            lines.append((round(row.cycles_per_week, 3), round(row.magnitude, 4), row.significant))
    return {name: out[name] for name in names if name in out}


def _periods(rows: Iterable[PeriodRow], names: Sequence[str]) -> list[dict[str, Any]]:
    shown = set(names)
    return [
        {
            "device": row.device,
            "protocol": row.protocol,
            "flow": row.flow,
            "period_s": row.period_s,
            "error_s": row.error_s,
            "cycles": row.cycles,
            "jitter_s": row.jitter_s,
            "coverage_pct": row.coverage_pct,
        }
        for row in rows
        if row.device in shown
    ]


def _services(analysis: Analysis, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row for each device, protocol and name; a name's addresses are joined."""
    shown = set(names)
    joined: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in analysis.services:
        if row.device not in shown:
            continue
        entry = joined.setdefault(
            (row.device, row.protocol, row.name or row.address),
            {"addresses": set(), "countries": set(), "packets": 0, "bytes": 0, "active": 0.0},
        )
        entry["addresses"].add(row.address)
        entry["countries"] |= {row.country} - {""}
        entry["packets"] += row.packets
        entry["bytes"] += row.bytes
        entry["active"] = max(entry["active"], row.active_windows_pct)
    rows = [
        {
            "device": device,
            "protocol": protocol,
            "name": name,
            "addresses": len(entry["addresses"]),
            "countries": sorted(entry["countries"]),
            "packets": entry["packets"],
            "bytes": entry["bytes"],
            "active_pct": round(entry["active"], 1),
        }
        for (device, protocol, name), entry in joined.items()
    ]
    return sorted(rows, key=lambda row: -row["bytes"])[: 2 * MOST_ROWS]


def _places(analysis: Analysis, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the points of the map: what was exchanged with each place, by device."""
    shown = set(names)
    points: dict[tuple[float, float], dict[str, Any]] = {}
    for row in analysis.services:
        if row.device not in shown or row.latitude is None or row.longitude is None:
            continue
        point = points.setdefault(
            (row.latitude, row.longitude),
            {
                "countries": set(),
                "registries": set(),
                "by_device": defaultdict(int),
                "names": defaultdict(int),
            },
        )
        point["countries"] |= {row.place or row.country}
        point["registries"] |= {row.registry} - {""}
        point["by_device"][row.device] += row.bytes
        point["names"][row.name or row.address] += row.bytes
    out = []
    for (latitude, longitude), point in points.items():
        x, y = project(latitude, longitude)
        top = sorted(point["names"].items(), key=lambda item: -item[1])
        out.append(
            {
                "x": round(x, 1),
                "y": round(y, 1),
                "place": "/".join(sorted(point["countries"])),
                "registered": "/".join(sorted(point["registries"])),
                "bytes": sum(point["by_device"].values()),
                "by_device": dict(point["by_device"]),
                "names": [name for name, _ in top[:5]],
                "more": max(0, len(top) - 5),
            }
        )
    return sorted(out, key=lambda point: -point["bytes"])


def _recovery(analysis: Analysis, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for each device after each outage, when its first and when half of its services answered."""
    times: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for row in analysis.state_services:
        if row.recovered_after_s is not None and row.device in names and row.protocol in APPLICATION_ORDER:
            times[row.state, row.device].append((row.recovered_after_s, f"{row.protocol} {row.name}".strip()))
    out = []
    for (state, device), found in times.items():
        found.sort()
        connected = [(after, what) for after, what in found if what.partition(" ")[0] in CONNECTED]
        out.append(
            {
                "state": state,
                "device": device,
                "first_s": found[0][0],
                "first": found[0][1],
                "service_s": connected[0][0] if connected else None,
                "service": connected[0][1] if connected else "",
                "services": len(found),
                "median_s": float(np.median([after for after, _ in found])),
            }
        )
    return out


def _retries(analysis: Analysis, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return how each device tried again what got no answer: the services it tried most."""
    rows: list[dict[str, Any]] = [
        {
            "state": row.state,
            "device": row.device,
            "protocol": row.protocol,
            "name": row.name,
            "attempts": row.attempts,
            "outcome": row.outcome,
            "pattern": row.retry,
            "wait_s": row.retry_s,
            "factor": row.retry_factor,
        }
        for row in analysis.state_services
        if row.device in names and row.outcome in ("unanswered", "refused") and row.attempts > 2
    ]
    return sorted(rows, key=lambda row: -row["attempts"])[:MOST_ROWS]
