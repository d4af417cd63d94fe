"""The starts of what devices do by themselves, as series in time.

An event is the start of a burst that the device sent and began itself; what answers is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.order import by_number
from testbed.analysis.tables import BY_DST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger

MERGE_S = 1.0
"""Starts of the same series closer than this are one."""
MAX_SPAN_NS = 50_000 * 900 * 10**9
"""Longest stretch that is looked at for regularity (about 520 days)."""
SILENCE_NS = 7 * 86_400 * 10**9


@dataclass
class Events:
    """Starts of activity as series: rows ``times[starts[s]:starts[s + 1]]`` belong to series s."""

    times: NDArray[np.float64]
    """Seconds since `Events.origin_ns`."""
    starts: NDArray[np.int64]
    label: NDArray[np.int64]
    """Per series: device index * len(PROTOCOLS) + protocol."""
    origin_ns: int

    def series(self, s: int) -> NDArray[np.float64]:
        """Return the times of one series."""
        return self.times[self.starts[s] : self.starts[s + 1]]


def own_events(ledger: Ledger) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (time in ns, key) of all starts of what devices sent by themselves, in order of time."""
    events = ledger.tables.events
    key = events["key"]
    roles = ledger.roles
    own = (roles.device >= 0) & (ledger.sender() == roles.device) & (ledger.keys["role"] != BY_DST)
    chosen = (events["onward"] == 0) & own[key]
    return events["time_ns"][chosen], key[chosen].astype(np.int64)


def gather(
    time_ns: NDArray[np.int64],
    group: NDArray[np.int64],
    groups: int,
    label: NDArray[np.int64],
    origin_ns: int,
) -> Events:
    """Sort events into series by group; starts close together are merged."""
    order, starts = by_number(group, groups)
    times = (time_ns[order] - origin_ns) / 1e9
    return thin(Events(times, starts, label, origin_ns), MERGE_S)


def thin(events: Events, silence_s: float, *, most: float = 1.0) -> Events:
    """Keep of each series the events that follow a silence: the begins of its rounds.

    A series that keeps more than the share `most` of its events is emptied: it has no rounds.
    """
    keep = np.ones(len(events.times), bool)
    keep[1:] = np.diff(events.times) >= silence_s
    inner = events.starts[:-1]
    keep[inner[inner < len(keep)]] = True
    if most < 1:
        kept = np.diff(np.concatenate([[0], np.cumsum(keep)])[events.starts])
        size = np.diff(events.starts)
        keep &= np.repeat(kept <= most * size, size)
    shift = np.concatenate([[0], np.cumsum(keep)])
    return Events(events.times[keep], shift[events.starts], events.label, events.origin_ns)


def stretch(ledger: Ledger, time_ns: NDArray[np.int64]) -> tuple[int, int]:
    """Return the span that is transformed: the capture, or of a very long one its busiest stretch."""
    begin, end = ledger.begin_ns, ledger.end_ns
    if end - begin <= MAX_SPAN_NS or not len(time_ns):
        return begin, end
    breaks = np.flatnonzero(np.diff(time_ns) > SILENCE_NS)
    edges = np.concatenate([[0], breaks + 1, [len(time_ns)]])
    longest = int(np.argmax(np.diff(edges)))
    begin, end = int(time_ns[edges[longest]]), int(time_ns[edges[longest + 1] - 1]) + 1
    return begin, min(end, begin + MAX_SPAN_NS)
