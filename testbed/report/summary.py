"""The top of the report: what one should know, in sentences and one row per device."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.analysis import Analysis
    from testbed.analysis.rows import PeriodRow

TOP_SERVICES, TOP_PERIODS = 3, 3
LASTING_PCT = 80.0
"""Share of the capture from which on a schedule counts as lasting, not as one of a disruption."""
CONNECTED = ("HTTPS", "HTTP", "MQTT", "Weave", "GCM")
"""Protocols over TCP: their answer says that a service works again."""
_HOUSEKEEPING = ("ARP", "IGMP")
"""Schedules of these say how the network works, not what the device wants."""


def size(count: float) -> str:
    """Return bytes as one says them: ``1.5 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def every(seconds: float) -> str:
    """Return a period as one says it: ``61 s``, ``2.5 min``, ``6 h``."""
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        value = seconds / length
        if value > 0.995 and abs(value - round(value)) < 0.005 * value:
            return f"{value:.0f} {unit}"
        if value >= 2:
            return f"{value:.1f} {unit}"
    return f"{seconds:.3g} s"


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Return the big numbers: (value, what it is)."""
    encrypted, plain = _shares(analysis)
    names = {row.name or row.address for row in analysis.services}
    places = {row.country for row in analysis.services} - {""}
    out = [
        _counted(sum(bool(row.packets) for row in analysis.devices), "device", "devices"),
        _counted(len(names), "name that is spoken to or asked for", "names that are spoken to or asked for"),
        (f"{encrypted:.0f} %", "of bytes encrypted"),
        (f"{plain:.0f} %", "of bytes readable application data"),
    ]
    if places:
        out.insert(2, _counted(len(places), "country or US state", "countries and US states"))
    if analysis.dependencies:
        lost = sum(bool(row.disrupted) for row in analysis.dependencies)
        out.append((f"{lost} of {len(analysis.dependencies)}", "devices lose services without the Internet"))
    return out


def _counted(count: int, one: str, many: str) -> tuple[str, str]:
    return str(count), one if count == 1 else many


def _shares(analysis: Analysis) -> tuple[float, float]:
    total = sum(row.bytes for row in analysis.devices) or 1
    encrypted = sum(row.bytes * row.encrypted_pct for row in analysis.devices) / total
    return encrypted, sum(row.bytes * row.plaintext_pct for row in analysis.devices) / total


def sentences(analysis: Analysis) -> list[str]:
    """Return the findings as sentences, most important first."""
    out = []
    active = sorted((row for row in analysis.devices if row.packets), key=lambda row: -row.bytes)
    if not active:
        return ["The capture shows no device."]
    total = sum(row.bytes for row in active)
    if len(active) > 1:
        out.append(
            f"{active[0].device} is the busiest device: {100 * active[0].bytes / total:.0f} % of all bytes, "
            f"{size(active[0].mean_bytes_per_s)}/s on average."
        )
    plainest = max(active, key=lambda row: row.plaintext_pct)
    if plainest.plaintext_pct >= 1:
        out.append(
            f"{plainest.device} is the most readable: {plainest.plaintext_pct:.0f} % of its bytes are "
            f"application data in the clear, {plainest.encrypted_pct:.0f} % are encrypted."
        )
    names = {row.device for row in analysis.devices}
    schedules = [row for row in analysis.periods if row.device in names]
    kept = [row for row in schedules if row.protocol not in _HOUSEKEEPING]
    if kept:
        fastest = min(kept, key=lambda row: row.period_s)
        out.append(
            f"{len(schedules)} schedules were found; the fastest is {fastest.device}'s {fastest.protocol}, "
            f"every {every(fastest.period_s)}."
        )
    out += _broken(analysis)
    return out


def _broken(analysis: Analysis) -> list[str]:
    if not analysis.dependencies:
        return []
    state = analysis.dependencies[0].states
    lost: dict[str, int] = defaultdict(int)
    for row in analysis.dependencies:
        for name in _listed(row.disrupted):
            lost[name] += 1
    out = []
    if lost:
        listed = ", ".join(
            f"{name} on {count}" for name, count in sorted(lost.items(), key=lambda item: -item[1])
        )
        out.append(
            f"Without the Internet (state {state}) stopped: {listed} of {len(analysis.dependencies)} devices."
        )
    deaf = [row.device for row in analysis.dependencies if not row.continued]
    if deaf:
        out.append(f"Fell silent altogether: {', '.join(deaf)}.")
    return out


def glance(analysis: Analysis, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per device: who it talks to, how often, how openly, and what it loses."""
    services: dict[str, dict[str, list[Any]]] = defaultdict(dict)
    for row in analysis.services:
        entry = services[row.device].setdefault(row.name or row.address, [0, set()])
        entry[0] += row.bytes
        entry[1] |= {row.country} - {""}
    periods: dict[str, list[PeriodRow]] = defaultdict(list)
    for period in analysis.periods:
        if period.protocol not in _HOUSEKEEPING:
            periods[period.device].append(period)
    lost = {row.device: row for row in analysis.dependencies}
    back = _back(analysis)
    out = []
    for device in analysis.devices:
        if device.device not in names:
            continue
        top = sorted(services[device.device].items(), key=lambda item: -item[1][0])
        fate = lost.get(device.device)
        kept, answered = (_listed(fate.continued), _listed(fate.answered)) if fate else ([], [])
        out.append(
            {
                "device": device.device,
                "what": " · ".join(
                    filter(None, (_GROUPS.get(device.class_, ""), device.link, device.vendor))
                ),
                "rate": f"{size(device.mean_bytes_per_s)}/s",
                "bytes": size(device.bytes),
                "encrypted": device.encrypted_pct,
                "plain": device.plaintext_pct,
                "top": [(name, ", ".join(sorted(places)[:3])) for name, (_, places) in top[:TOP_SERVICES]],
                "more": max(0, len(top) - TOP_SERVICES),
                "periods": _often(periods[device.device]),
                "works": [name for name in kept if name in answered],
                "tried": [name for name in kept if name not in answered],
                "disrupted": _listed(fate.disrupted) if fate else [],
                "known": fate is not None,
                "recovered": back.get(device.device, []),
            }
        )
    return out


def _back(analysis: Analysis) -> dict[str, list[tuple[str, str]]]:
    """Return, for each device, when after each outage a server first answered it over TCP."""
    soonest: dict[str, dict[str, float]] = defaultdict(dict)
    for row in analysis.state_services:
        if row.recovered_after_s is not None and row.protocol in CONNECTED:
            known = soonest[row.device].get(row.state, row.recovered_after_s)
            soonest[row.device][row.state] = min(known, row.recovered_after_s)
    states = [
        name
        for name in dict.fromkeys(row.state for row in analysis.state_services)
        if any(name in known for known in soonest.values())
    ]
    return {
        row.device: [
            (
                state,
                f"back after {every(soonest[row.device][state])}"
                if state in soonest[row.device]
                else "no connection",
            )
            for state in states
        ]
        for row in analysis.dependencies
    }


def _listed(text: str) -> list[str]:
    return [name for name in text.split(";") if name]


_GROUPS = {"H": "hub", "S": "sensor", "phone": "phone"}


def _often(periods: list[PeriodRow]) -> list[str]:
    """Return the schedules that say most of a device: one for each protocol, lasting ones first."""
    best: dict[str, PeriodRow] = {}
    for period in sorted(periods, key=lambda row: (row.coverage_pct < LASTING_PCT, -row.cycles)):
        best.setdefault(period.protocol, period)
    lasting = [row for row in best.values() if row.coverage_pct >= LASTING_PCT] or [*best.values()]
    return [f"{row.protocol} every {every(row.period_s)}" for row in lasting[:TOP_PERIODS]]
