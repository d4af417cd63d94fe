"""An analysis in a few lines, to be read in ten seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.cli.words import size, table

if TYPE_CHECKING:
    from testbed.analysis import Analysis

MOST_DEVICES = 20
MOST_STATES = 9
MOST_PERIODS = 12


def summary(analysis: Analysis) -> str:
    """Return who talked how much, in which state, how regularly, and what broke."""
    if not analysis.frames:
        return "no frames"
    parts = [_head(analysis), _devices(analysis)]
    parts += [part for part in (_states(analysis), _dependencies(analysis), _periods(analysis)) if part]
    if analysis.warnings:
        parts.append("\n".join(f"note: {warning}" for warning in analysis.warnings[:8]))
    return "\n\n".join(parts)


def _head(analysis: Analysis) -> str:
    speaking = sum(1 for device in analysis.devices if device.packets)
    behind = ", ".join(analysis.gateway["addresses"][:2])
    return (
        f"{analysis.begin} to {analysis.end} ({_duration(analysis.duration_s)}): "
        f"{analysis.frames:,} frames, {size(analysis.bytes)}, {speaking} devices"
        + (f" behind {behind}" if behind else "")
    )


def _duration(seconds: float) -> str:
    """Return a duration as one says it, in its two largest units: 7 d 3 h."""
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count:,} {unit}")
    return " ".join(parts[:2]) or f"{seconds:.3g} s"


def _devices(analysis: Analysis) -> str:
    rows = [
        [
            device.device,
            f"{device.packets:,}",
            size(device.bytes),
            f"{device.mean_bytes_per_s:.2f}",
            f"{device.encrypted_pct:.0f}%",
            " ".join((device.applications or device.protocols).split(";")),
        ]
        for device in analysis.devices
        if device.packets
    ]
    more = f"\n… and {len(rows) - MOST_DEVICES} more devices" if len(rows) > MOST_DEVICES else ""
    heads = ("device", "frames", "bytes", "B/s", "encrypted", "applications")
    return table(heads, rows[:MOST_DEVICES], right=("frames", "bytes", "B/s", "encrypted")) + more


def _states(analysis: Analysis) -> str:
    names = list(dict.fromkeys(row.state for row in analysis.states if row.state != "between"))
    if not names:
        return ""
    amounts: dict[tuple[str, str], int] = {}
    for row in analysis.states:
        if row.layer == "transport":
            amounts[row.device, row.state] = amounts.get((row.device, row.state), 0) + row.bytes
    shown = names[:MOST_STATES]
    devices = [device.device for device in analysis.devices if device.packets][:MOST_DEVICES]
    rows = [
        [device, *(size(amounts[device, name]) if (device, name) in amounts else "-" for name in shown)]
        for device in devices
    ]
    origin = {"run": "", "file": "", "capture": " (found in the capture)"}.get(analysis.states_from, "")
    more = f"\n… and {len(names) - MOST_STATES} more states" if len(names) > MOST_STATES else ""
    return f"Bytes by state{origin}\n" + table(("device", *shown), rows, right=shown) + more


def _dependencies(analysis: Analysis) -> str:
    rows = [
        [row.device, " ".join(row.continued.split(";")) or "-", " ".join(row.disrupted.split(";")) or "-"]
        for row in analysis.dependencies
    ][:MOST_DEVICES]
    if not rows:
        return ""
    return "Without the Internet\n" + table(("device", "continued", "disrupted"), rows)


def _periods(analysis: Analysis) -> str:
    if not analysis.periods:
        return ""
    schedules = [row for row in analysis.periods if row.kind == "schedule"]
    best = sorted(schedules, key=lambda row: row.p_value)[:MOST_PERIODS]
    rows = [
        [row.device, row.protocol, row.flow, f"{row.period_s:,.2f}", f"{row.error_s:.2g}", f"{row.cycles:,}"]
        for row in sorted(best, key=lambda row: (row.device, row.period_s))
    ]
    left = len(schedules) - len(best)
    more = f"\n… and {left} more" if left > 0 else ""
    heads = ("device", "protocol", "flow", "every s", "± s", "cycles")
    return "Schedules\n" + table(heads, rows, right=("every s", "± s", "cycles")) + more
