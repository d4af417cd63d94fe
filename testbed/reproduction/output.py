"""The table of claims as CSV, and what it comes to in a few lines."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.reproduction.verdict import Result

COLUMNS = ("id", "claim", "expected", "measured", "verdict", "reason", "where", "kind", "tolerance", "held",
           "seeds", "note")  # fmt: skip
"""Of `claims.csv`; the first six are relied on from outside."""
ORDER = ("fails", "not-checkable", "reported", "holds")
"""Verdicts, what needs attention first."""


def csv_text(results: Sequence[Result]) -> str:
    """Return `claims.csv`: one row for each claim, in the paper's order (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        claim = result.claim
        writer.writerow(
            (
                claim.id, claim.claim, claim.expected, result.measured, result.verdict, result.reason,
                claim.where, claim.kind, result.tolerance, result.held, result.measured_in, claim.note,
            )
        )  # fmt: skip
    return out.getvalue()


def counts(results: Sequence[Result]) -> dict[str, int]:
    """Return the number of claims with each verdict."""
    found = Counter(result.verdict for result in results)
    return {verdict: found[verdict] for verdict in ORDER}  # type: ignore[index]


def summary(results: Sequence[Result]) -> str:
    """Return the tally in one line."""
    number = counts(results)
    checked = number["holds"] + number["fails"]
    share = f" ({100 * number['holds'] / checked:.1f} %)" if checked else ""
    return (
        f"{number['holds']} of {checked} checkable claims hold{share}; "
        f"{number['not-checkable']} cannot be checked, {number['reported']} conjectures are reported only"
    )


def share(result: Result) -> str:
    """Return in how many of the seeds a claim holds, such as ``5/5``; empty without any."""
    return f"{result.held}/{result.measured_in}" if result.measured_in else ""


def by_verdict(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Return the results of each verdict that occurs, what needs attention first."""
    groups = [(verdict, [r for r in results if r.verdict == verdict]) for verdict in ORDER]
    return [(verdict, group) for verdict, group in groups if group]
