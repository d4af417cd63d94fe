"""Two runs of the same scenario held against each other: two worlds, two clocks, two versions.

What is compared is what happened, by the labels: exchanges, frames and bytes of each device,
protocol and state, the gaps between exchanges, and the frames of each hour.
"""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from testbed.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from testbed.validation.truth import Truth

APPLICATIONS = ("DHCP", "DNS", "mDNS", "SSDP", "NTP", "HTTP", "HTTPS", "MQTT", "Weave", "GCM")
EXCHANGES_TOLERANCE, BYTES_TOLERANCE, HOURS_TOLERANCE = 0.02, 0.10, 0.10
"""Allowed difference, as a share of the larger: of a cell's exchanges, of its bytes, of an hour's frames."""
EDGE_EXCHANGES = 1
"""An exchange more or less is allowed: it may fall to either side of a state's edge."""
LEAST_FRAMES = 50
"""Hours of a protocol with fewer frames are not judged."""
LEAST_HOURS_SHARE = 0.9
_HOUR_NS = 3_600_000_000_000
_LEAST_GAPS = 5
"""Fewer gaps than this have no distribution worth comparing."""


@dataclass(frozen=True)
class Cell:
    """One device, protocol and state in both runs, named a and b."""

    device: str
    protocol: str
    state: str
    exchanges_a: int
    exchanges_b: int
    packets_a: int
    packets_b: int
    bytes_a: int
    bytes_b: int
    median_gap_a_s: float | None
    """Middle of the times between the beginnings of exchanges; the period of what is periodic."""
    median_gap_b_s: float | None
    gap_distance: float | None
    """Greatest difference between the shares of gaps below a length (Kolmogorov-Smirnov), 0 to 1."""
    exchanges_agree: bool
    bytes_agree: bool


@dataclass(frozen=True)
class Hour:
    """The frames of one protocol in one hour since the capture's start, in both runs."""

    hour: int
    protocol: str
    frames_a: int
    frames_b: int
    agree: bool


@dataclass(frozen=True)
class Comparison:
    """How two runs differ."""

    cells: list[Cell]
    hours: list[Hour]

    @property
    def hours_share(self) -> float:
        """Share of the judged hours that agree; 1 when there are none."""
        return sum(hour.agree for hour in self.hours) / len(self.hours) if self.hours else 1.0

    @property
    def within(self) -> bool:
        """Whether everything is within the tolerances."""
        cells = all(cell.exchanges_agree and cell.bytes_agree for cell in self.cells)
        return cells and self.hours_share >= LEAST_HOURS_SHARE


def compare(a: Truth, b: Truth) -> Comparison:
    """Compare two runs; UserError when they are not of the same scenario and topology."""
    for key in ("scenario", "topology"):
        if a.run[key]["name"] != b.run[key]["name"]:
            raise UserError(
                f"{a.folder} and {b.folder} cannot be compared: {key} '{a.run[key]['name']}' "
                f"there, '{b.run[key]['name']}' here"
            )
    ours, theirs = _cells(a), _cells(b)
    cells = [
        _cell(key, ours.get(key, _NOTHING), theirs.get(key, _NOTHING)) for key in sorted({*ours, *theirs})
    ]
    first, second = _hours(a), _hours(b)
    hours = []
    for hour, protocol in sorted({*first, *second}):
        frames = first.get((hour, protocol), 0), second.get((hour, protocol), 0)
        if max(frames) >= LEAST_FRAMES:
            hours.append(Hour(hour, protocol, *frames, _near(*frames, HOURS_TOLERANCE)))
    return Comparison(cells, hours)


def write_cells(path: Path, comparison: Comparison) -> None:
    """Write every cell as CSV; columns are named as the fields of `Cell`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Cell)])
        writer.writerows(astuple(cell) for cell in comparison.cells)


@dataclass(frozen=True)
class _Measured:
    exchanges: int
    packets: int
    size: int
    gaps_s: NDArray[np.float64]


_NOTHING = _Measured(0, 0, 0, np.zeros(0))


def _cells(truth: Truth) -> dict[tuple[str, str, str], _Measured]:
    labels = truth.labels
    columns = (labels.device, labels.protocol, labels.state)
    code = np.zeros(len(labels), np.int64)
    for column in columns:
        code = code * len(column.names) + column.codes
    found: dict[tuple[str, str, str], _Measured] = {}
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    for rows in np.split(order, starts[1:]) if len(order) else ():
        names = tuple(column.names[column.codes[rows[0]]] for column in columns)
        exchanges, firsts = np.unique(labels.exchange[rows], return_index=True)
        times_s = np.sort(labels.time_ns[rows][firsts]) / 1e9
        measured = _Measured(len(exchanges), len(rows), int(truth.wire.length[rows].sum()), np.diff(times_s))
        found[names[0], names[1], names[2]] = measured
    return found


def _cell(key: tuple[str, str, str], a: _Measured, b: _Measured) -> Cell:
    edge = abs(a.exchanges - b.exchanges) <= EDGE_EXCHANGES
    near = _near(a.exchanges, b.exchanges, EXCHANGES_TOLERANCE)
    enough = min(len(a.gaps_s), len(b.gaps_s)) >= _LEAST_GAPS
    return Cell(
        *key,
        a.exchanges, b.exchanges, a.packets, b.packets, a.size, b.size,
        float(np.median(a.gaps_s)) if enough else None,
        float(np.median(b.gaps_s)) if enough else None,
        _distance(a.gaps_s, b.gaps_s) if enough else None,
        key[1] not in APPLICATIONS or near or edge,
        _near(a.size, b.size, BYTES_TOLERANCE) or (edge and a.exchanges != b.exchanges),
    )  # fmt: skip


def _near(a: int, b: int, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(a, b)


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    at = np.concatenate((a, b))
    below_a = np.searchsorted(np.sort(a), at, side="right") / len(a)
    below_b = np.searchsorted(np.sort(b), at, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def _hours(truth: Truth) -> dict[tuple[int, str], int]:
    from datetime import datetime

    labels = truth.labels
    begin_ns = round(datetime.fromisoformat(truth.run["begin"]).timestamp()) * 10**9
    hours = (labels.time_ns - begin_ns) // _HOUR_NS
    code = hours * len(labels.protocol.names) + labels.protocol.codes
    values, counts = np.unique(code, return_counts=True)
    names = labels.protocol.names
    return {
        (int(value) // len(names), names[int(value) % len(names)]): int(count)
        for value, count in zip(values, counts, strict=True)
    }
