"""A validation as plain text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.validation.result import Check, Validation

MOST_LINES = 15
"""More differences of one kind than these are counted, not shown."""
_WORDS = {True: "ok", False: "FAILS", None: "-"}


class Table(Protocol):
    """Lays out rows in columns."""

    def __call__(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
    ) -> str: ...


def number(value: float | None, unit: str) -> str:
    """Return a value with its unit, with as many digits as it takes to tell 99.9995 from 100."""
    if value is None:
        return "nothing to check"
    if unit == "%" and 99.9 <= value < 100:
        text = f"{value:.6f}".rstrip("0")
    else:
        text = f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
    return f"{text} {unit}" if unit else text


def threshold(check: Check) -> str:
    """Return what a check demands."""
    return f"{'≥' if check.sense == 'least' else '≤'} {number(check.threshold, check.unit)}"


def told(result: Validation, table: Table) -> str:
    """Return the checks, then what is wrong."""
    rows = [
        (_WORDS[check.passed], check.name, number(check.value, check.unit), threshold(check), check.detail)
        for check in result.checks
    ]
    parts = [
        f"{result.subject} on {result.run}",
        table(("", "check", "value", "must be", ""), rows, ("value",)),
    ]
    for confusion in result.confusions:
        errors = confusion.errors()
        if errors:
            wrong = [(truth, answer, f"{frames:,}") for truth, answer, frames in errors]
            parts.append(_listed(f"Wrong {confusion.what}s", ("truth", "answer", "frames"), wrong, table))
    parts += _periods(result.periods, table)
    differences = [(item.what, item.truth or "-", item.answer or "-") for item in result.differences]
    if differences:
        parts.append(_listed("Differences", ("what", "truth", "answer"), differences, table))
    parts += result.notes
    parts.append("All thresholds are kept." if result.passed else "Some thresholds are NOT kept.")
    return "\n\n".join(parts)


def _periods(periods: Sequence[dict[str, Any]], table: Table) -> list[str]:
    if not periods:
        return []
    counts: dict[str, int] = {}
    for row in periods:
        counts[row["fate"]] = counts.get(row["fate"], 0) + 1
    parts = ["Periods: " + ", ".join(f"{count} {fate}" for fate, count in counts.items())]
    bad = [row for row in periods if row["fate"] in ("missed", "false")]
    if bad:
        rows = [
            (
                row["fate"],
                row["device"],
                row["protocol"],
                _seconds(row["true_s"] or row["found_s"]),
                row["from"],
            )
            for row in bad
        ]
        parts.append(_listed("Periods that are wrong", ("", "device", "protocol", "s", "of"), rows, table))
    return parts


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"


def _listed(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], table: Table) -> str:
    shown = table(heads, rows[:MOST_LINES])
    more = f"\n… and {len(rows) - MOST_LINES} more" if len(rows) > MOST_LINES else ""
    return f"{title}\n{shown}{more}"
