"""Verdicts: one for each seed, and the seeds' vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from testbed.reproduction.evidence import NotMeasured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.reproduction.claims import Claim
    from testbed.reproduction.evidence import Evidence

Verdict = Literal["holds", "fails", "not-checkable", "reported"]
SHARE_NEEDED = 0.8
"""Share of seeds in which a claim must hold: four of five. What holds by luck does not hold."""


@dataclass(frozen=True)
class OneSeed:
    """What one seed shows of a claim; `holds` is None where the evidence is missing."""

    seed: int
    measured: str
    holds: bool | None


@dataclass(frozen=True)
class Result:
    """A claim and what came of it."""

    claim: Claim
    verdict: Verdict
    measured: str
    reason: str
    seeds: tuple[OneSeed, ...] = ()

    @property
    def held(self) -> int:
        """Number of seeds in which it holds."""
        return sum(one.holds is True for one in self.seeds)

    @property
    def measured_in(self) -> int:
        """Number of seeds in which it could be measured."""
        return sum(one.holds is not None for one in self.seeds)

    @property
    def tolerance(self) -> str:
        """What is accepted, in words."""
        return self.claim.check.accepts() if self.claim.check is not None else ""


def judge(claims: Sequence[Claim], evidence: Sequence[Evidence]) -> list[Result]:
    """Measure every claim in every seed and let the seeds vote."""
    return [_judge(claim, evidence) for claim in claims]


def _judge(claim: Claim, evidence: Sequence[Evidence]) -> Result:
    if claim.check is None:
        return Result(claim, "not-checkable" if claim.judged else "reported", "", claim.reason)
    seeds = tuple(_measure(claim, one) for one in evidence)
    counted = [one for one in seeds if one.holds is not None]
    if not counted:
        missing = seeds[0].measured if seeds else "nothing was played"
        return Result(claim, "not-checkable" if claim.judged else "reported", "", missing, seeds)
    held = sum(one.holds is True for one in counted)
    holds = held >= SHARE_NEEDED * len(counted)
    typical = next(one for one in counted if one.holds == (2 * held >= len(counted)))
    if not claim.judged:
        return Result(claim, "reported", typical.measured, claim.note, seeds)
    if holds:
        return Result(claim, "holds", typical.measured, "", seeds)
    # The seed that shows the failure is the one to tell.
    failing = next(one for one in counted if not one.holds)
    reason = claim.reason or f"outside what is accepted: {claim.check.accepts()}"
    return Result(claim, "fails", failing.measured, reason, seeds)


def _measure(claim: Claim, evidence: Evidence) -> OneSeed:
    assert claim.check is not None
    try:
        finding = claim.check.measure(evidence)
    except NotMeasured as error:
        return OneSeed(evidence.seed, str(error), None)
    return OneSeed(evidence.seed, finding.measured, finding.holds)
