"""What a validation found: checks with their thresholds, and the tables behind them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Sense = Literal["least", "most"]


@dataclass(frozen=True)
class Check:
    """A measured number, and the threshold it must keep; `value` is None if there was nothing to check."""

    name: str
    value: float | None
    threshold: float
    sense: Sense
    """Whether the threshold is the least or the most that is right."""
    unit: str = ""
    detail: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the threshold is kept; None if there was nothing to check."""
        if self.value is None:
            return None
        return self.value >= self.threshold if self.sense == "least" else self.value <= self.threshold


@dataclass(frozen=True)
class Confusion:
    """How often each true name got each answer: ``counts[truth, answer]`` frames."""

    what: str
    truths: tuple[str, ...]
    answers: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def right(self) -> int:
        """Frames whose answer is the truth."""
        place = {name: i for i, name in enumerate(self.answers)}
        return sum(int(self.counts[i, place[name]]) for i, name in enumerate(self.truths) if name in place)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def errors(self) -> list[tuple[str, str, int]]:
        """Return (truth, answer, frames) of what is wrong, most frames first."""
        wrong = [
            (truth, answer, int(self.counts[i, j]))
            for i, truth in enumerate(self.truths)
            for j, answer in enumerate(self.answers)
            if truth != answer and self.counts[i, j]
        ]
        return sorted(wrong, key=lambda item: -item[2])

    def per_truth(self) -> list[tuple[str, int, int, float, float]]:
        """Return (name, frames, right ones, recall, precision) for each true name."""
        place = {name: i for i, name in enumerate(self.answers)}
        rows = []
        for i, name in enumerate(self.truths):
            frames = int(self.counts[i].sum())
            right = int(self.counts[i, place[name]]) if name in place else 0
            answered = int(self.counts[:, place[name]].sum()) if name in place else 0
            rows.append(
                (
                    name,
                    frames,
                    right,
                    right / frames if frames else 1.0,
                    right / answered if answered else 0.0,
                )
            )
        return rows

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "frames": self.total,
            "right": self.right,
            "truths": list(self.truths),
            "answers": list(self.answers),
            "counts": self.counts.tolist(),
        }


@dataclass(frozen=True)
class Difference:
    """Something in which truth and answer differ."""

    what: str
    truth: str
    answer: str


@dataclass
class Validation:
    """The outcome of a validation."""

    run: str
    subject: str
    """What was scored: the analyser, or a file of predictions."""
    checks: list[Check] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    periods: list[dict[str, Any]] = field(default_factory=list)
    """Each planted period with what became of it, and each period that was found but not planted."""
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and why."""

    @property
    def passed(self) -> bool:
        """Whether no check fell below its threshold."""
        return all(check.passed is not False for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "run": self.run,
            "subject": self.subject,
            "passed": self.passed,
            "checks": [asdict(check) | {"passed": check.passed} for check in self.checks],
            "confusions": [confusion.as_json() for confusion in self.confusions],
            "periods": self.periods,
            "differences": [asdict(difference) for difference in self.differences],
            "notes": self.notes,
        }


def f1(truth: set[Any], answer: set[Any]) -> float | None:
    """Return the harmonic mean of precision and recall; None if both sets are empty."""
    if not truth and not answer:
        return None
    return 2 * len(truth & answer) / (len(truth) + len(answer))


def tally(what: str, truth: Sequence[str], answer: Sequence[str], pairs: NDArray[np.int64]) -> Confusion:
    """Return a confusion from counts of (truth index, answer index); unused names are left out."""
    rows = [i for i in range(len(truth)) if pairs[i].any()]
    columns = [j for j in range(len(answer)) if pairs[:, j].any()]
    return Confusion(
        what,
        tuple(truth[i] for i in rows),
        tuple(answer[j] for j in columns),
        pairs[np.ix_(rows, columns)],
    )
