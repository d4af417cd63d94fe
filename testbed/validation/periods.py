"""The periods that were found, against those that were planted.

Each planted period with at least `FEWEST_CYCLES` cycles in the labels must be among those found for
its device and protocol, within 1 %. Periods whose steps vary by more than that (a jitter) are told,
not demanded. A period that was found but not planted may still be true: retries and timeouts make
rhythms that no single parameter names. It is, if what the labels give to one habit (its exchanges, those
with one service, or the bursts of its frames) repeats with that period at least five times on end, all
of it, each within 1 % or twice the jitter that was found with it, a beat left out now and then;
otherwise it is false. ARP follows the device's other
traffic, so a strict period of that is true of it too. A period that the labels of no habit repeat,
such as the mean of two habits' waits, is false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from testbed.validation.planted import (
    FEWEST_CYCLES,
    SAME,
    TOGETHER_S,
    Planted,
    Played,
    cycles,
    plant,
    repeats,
)
from testbed.validation.result import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.analysis.rows import PeriodRow
    from testbed.validation.truth import Truth

FOUND, MISSED, HIDDEN, LOOSE, EMERGED, FALSE = "found", "missed", "hidden", "loose", "emerged", "false"
"""What becomes of a period: planted and found; planted and missed; in step with a faster one of the same
habit and therefore not told apart; jittered and not found; not planted but true; false."""


def check_periods(truth: Truth, found: Sequence[PeriodRow]) -> tuple[list[Check], list[dict[str, Any]]]:
    """Return the checks, and a row for each planted and each other period."""
    played = Played(truth.labels)
    everything = plant(truth)
    planted = [(item, count) for item in everything if (count := _played(item, played)) >= FEWEST_CYCLES]
    rows = [_planted_row(item, count, found) for item, count in planted]
    for row in found:
        near = [
            item
            for item in everything
            if item.device == row.device and item.matches(row.period_s, row.cycles)
        ]
        if not any(item.protocol == row.protocol for item in near):
            follows = row.protocol == "ARP" and any(item.strict for item in near)
            rows.append(_found_row(row, played, follows))
    fates = [row["fate"] for row in rows]
    due = [
        row for row, (item, _) in zip(rows, planted, strict=False) if item.strict and row["fate"] != HIDDEN
    ]
    hit = sum(row["fate"] == FOUND for row in due)
    checks = [
        Check(
            "planted periods found",
            100.0 * hit / len(due) if due else None,
            100,
            "least",
            "%",
            f"{hit} of {len(due)}",
        ),
        Check(
            "false periods",
            float(fates.count(FALSE)) if found or due else None,
            0,
            "most",
            "",
            f"of {len(found)}",
        ),
    ]
    return checks, rows


def _played(item: Planted, played: Played) -> int:
    slack = min(SAME * item.period_s, TOGETHER_S) + item.drift * item.period_s + item.spread_s
    times = played.times(item.device, item.protocol, None if item.turns else item.habit)
    return max((cycles(series, item.period_s, slack, alone=item.alone) for series in times), default=0)


def _same_flow(item: Planted, row: PeriodRow) -> bool:
    return (item.device, item.protocol) == (row.device, row.protocol)


def _planted_row(item: Planted, count: int, found: Sequence[PeriodRow]) -> dict[str, Any]:
    near = [row for row in found if _same_flow(item, row) and item.matches(row.period_s, row.cycles)]
    best = min(near, key=lambda row: abs(row.period_s - item.period_s), default=None)
    if best is not None:
        fate = FOUND
    elif item.within_s is not None:
        fate = HIDDEN
    else:
        fate = MISSED if item.strict else LOOSE
    return {
        "fate": fate,
        "device": item.device,
        "protocol": item.protocol,
        "true_s": item.period_s,
        "found_s": None if best is None else best.period_s,
        "cycles": count,
        "strict": item.strict,
        "from": f"{item.habit}: {item.why}",
    }


def _found_row(row: PeriodRow, played: Played, follows: bool) -> dict[str, Any]:
    series = played.times(row.device, row.protocol)
    steps = max((repeats(times, row.period_s, row.jitter_s) for times in series), default=0)
    return {
        "fate": EMERGED if follows or steps >= FEWEST_CYCLES else FALSE,
        "device": row.device,
        "protocol": row.protocol,
        "true_s": None,
        "found_s": row.period_s,
        "cycles": row.cycles,
        "strict": False,
        "from": row.flow,
    }
