"""When: spectral lines, schedules, and windows that stand out (Figures 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from testbed.analysis.run import parse_time
from testbed.reproduction.evidence import NotMeasured
from testbed.reproduction.measures.base import Devices, Finding, Measure, listed, number, short

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.reproduction.evidence import Evidence

SPREAD = 1
"""Lines either side that a peak may be off, in cycles per week."""
NEIGHBOURHOOD = 12
"""Lines either side that a peak is compared with."""
PROMINENCE = 3.0
"""A peak is so many times the median of its neighbourhood: among lines of noise (Rayleigh) one in 500."""
FAINTEST = 0.05
"""Part of the highest line up to `SHOWN` below which nothing is called a peak: plots are normalised."""
SHOWN = 56
"""Lines that the paper's plots reach, as far as its text tells."""


def visible(magnitude: NDArray[np.float64], line: int) -> bool:
    """Return whether a spectrum (entry 0 is line 1) has a peak at a line, as one sees it in a plot."""
    at = line - 1
    if at >= len(magnitude):
        return False
    window = magnitude[max(0, at - SPREAD) : at + SPREAD + 1]
    peak = float(window.max())
    low, high = max(0, at - NEIGHBOURHOOD), at + NEIGHBOURHOOD + 1
    around = np.concatenate([magnitude[low : max(0, at - SPREAD)], magnitude[at + SPREAD + 1 : high]])
    return peak >= FAINTEST * float(magnitude[:SHOWN].max()) and 0 < peak >= PROMINENCE * float(
        np.median(around)
    )


def _spectrum(evidence: Evidence, device: str, protocol: str, when: str) -> NDArray[np.float64]:
    findings = evidence.findings("month" if when == "paper-week" else "week")
    rows = findings.paper_week if when == "paper-week" else findings.tables["periodicity"]
    found = {
        round(r.cycles_per_week): r.magnitude for r in rows if (r.device, r.protocol) == (device, protocol)
    }
    if not found:
        return np.zeros(0)
    return np.array([found.get(line, 0.0) for line in range(1, max(found) + 1)])


class Lines(Measure):
    """A spectrum has these lines (and not those)."""

    device: str
    protocol: str
    at: tuple[int, ...] = Field(min_length=1)
    any: bool = False
    """Whether one of them is enough."""
    absent: tuple[int, ...] = ()
    strongest: int | None = None
    """Which of the lines up to 49 a week is the highest (within a line either side)."""
    when: Literal["week", "paper-week"] = "week"
    """A week played by itself, or the paper's own week cut from the month."""

    def measure(self, evidence: Evidence) -> Finding:
        magnitude = _spectrum(evidence, self.device, self.protocol, self.when)
        if not len(magnitude):
            return Finding("no activity", False)
        seen = [line for line in self.at if visible(magnitude, line)]
        wrong = [line for line in self.absent if visible(magnitude, line)]
        holds = (bool(seen) if self.any else len(seen) == len(self.at)) and not wrong
        text = f"peaks at {', '.join(map(str, seen)) or 'none'}"
        if len(seen) < len(self.at) and not self.any:
            text += f"; not at {', '.join(str(line) for line in self.at if line not in seen)}"
        if wrong:
            text += f"; also at {', '.join(map(str, wrong))}"
        if self.strongest is not None:
            top = int(magnitude[:49].argmax()) + 1
            holds = holds and abs(top - self.strongest) <= SPREAD
            text += f"; highest at {top}"
        return Finding(text, holds)

    def accepts(self) -> str:
        text = ("a peak at one of " if self.any else "peaks at ") + ", ".join(map(str, self.at))
        text += " a week, each within 1"
        text += f"; not at {', '.join(map(str, self.absent))}" if self.absent else ""
        return text + (f"; highest at {self.strongest}" if self.strongest is not None else "")


class Periodic(Measure):
    """Each device uses the protocol by a schedule (or, if so said, none of the protocols has one)."""

    devices: Devices
    without: tuple[str, ...] = ()
    protocols: tuple[str, ...]
    expected: bool = True

    def measure(self, evidence: Evidence) -> Finding:
        tables = evidence.findings("week").tables
        lines = {(r.device, r.protocol) for r in tables["periodicity"] if r.significant}
        for row in tables["periods"]:
            if row.kind == "schedule" and self.expected:
                lines.add((row.device, row.protocol))
        wrong = [
            f"{short(device)} {protocol}"
            for device in evidence.devices(self.devices, self.without)
            for protocol in self.protocols
            if ((device, protocol) in lines) != self.expected
        ]
        good, bad = ("a schedule", "no schedule") if self.expected else ("no line", "a line")
        return Finding(f"{bad}: {', '.join(wrong)}" if wrong else f"{good} each", not wrong)

    def accepts(self) -> str:
        return "a schedule or significant line each" if self.expected else "no significant line"


class Spikes(Measure):
    """Windows in which a device's traffic stands out."""

    device: str
    when: Literal["week", "month"]
    direction: Literal["up", "down"] = "up"
    least: int = 1
    most: int | None = None
    name: str = ""
    """Part of the name of the service that explains it."""
    begin: str = ""
    end: str = ""
    """Where one of them must lie, if anywhere."""
    regular: bool = False
    """Whether they must come at like intervals: the middle half of them within a factor of two."""

    def measure(self, evidence: Evidence) -> Finding:
        rows = [
            row
            for row in evidence.findings(self.when).tables["spikes"]
            if row.device == self.device and row.direction == self.direction and self.name in row.name
        ]
        if self.begin:
            rows = [row for row in rows if row.end > self.begin and row.begin < self.end]
        holds = len(rows) >= self.least and (self.most is None or len(rows) <= self.most)
        text = f"{len(rows)} {self.direction}"
        if rows:
            text += f" (first {rows[0].begin[:16]}Z, {rows[0].protocol} {rows[0].name})".replace(" )", ")")
        if self.regular and len(rows) > 2:
            starts = np.array([parse_time(row.begin) for row in rows])
            low, middle, high = np.quantile(np.diff(starts) / 3.6e12, [0.25, 0.5, 0.75]).tolist()
            holds = holds and high <= 2 * low
            text += f", every {number(middle)} h (middle half {number(low)} to {number(high)} h)"
        return Finding(text, holds)

    def accepts(self) -> str:
        text = f"at least {self.least}" + (f", at most {self.most}" if self.most is not None else "")
        text += f" of '{self.name}'" if self.name else ""
        text += f" between {self.begin[:16]}Z and {self.end[:16]}Z" if self.begin else ""
        return text + (", at like intervals" if self.regular else "")


class Dips(Measure):
    """While one device's traffic has a spike, that of some others dips."""

    devices: tuple[str, ...]
    below: float = 0.9
    """Share of its usual bytes in a window that counts as a dip."""
    while_device: str
    while_name: str
    begin: str
    end: str
    least: int = 1

    def measure(self, evidence: Evidence) -> Finding:
        spikes = [
            row
            for row in evidence.findings("month").tables["spikes"]
            if row.device == self.while_device and self.while_name in row.name
            and row.end > self.begin and row.begin < self.end
        ]  # fmt: skip
        if not spikes:
            raise NotMeasured(f"{short(self.while_device)} has no such spike")
        windows: dict[str, dict[str, int]] = {name: {} for name in self.devices}
        for row in evidence.findings("month").tables["bandwidth"]:
            if row.device in windows:
                windows[row.device][row.window_start] = row.sent_bytes + row.received_bytes
        parts = {}
        for name in self.devices:
            usual = float(np.median(list(windows[name].values()) or [0]))
            inside = [v for at, v in windows[name].items() if spikes[0].begin <= at < spikes[-1].end]
            parts[name] = min(inside, default=0) / usual if usual else 1.0
        dipped = [name for name in self.devices if parts[name] < self.below]
        text = ", ".join(f"{short(name)} {parts[name]:.0%} of usual" for name in self.devices)
        return Finding(text, len(dipped) >= self.least)

    def accepts(self) -> str:
        return f"at least {self.least} of {listed(self.devices)} below {self.below:.0%} of their usual window"
