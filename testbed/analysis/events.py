"""The starts of what devices do by themselves, as series in time.

An event is the start of a burst that the device sent and began itself; what answers is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.tables import BY_DST
from testbed.capture.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger
    from testbed.capture.kernel import Records

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


@kernel
def select(
    events: Records, chosen: NDArray[np.bool_], time_ns: NDArray[np.int64], key: NDArray[np.int64]
) -> int:
    """Copy time and key of the starts whose key is chosen; return how many."""
    count = 0
    for i in range(len(events)):
        event = events[i]
        if event.onward == 0 and chosen[event.key]:
            time_ns[count], key[count] = event.time_ns, event.key
            count += 1
    return count


def own_events(ledger: Ledger) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (time in ns, key) of all starts of what devices sent by themselves, in order of time."""
    events = ledger.tables.events
    roles = ledger.roles
    own = (roles.device >= 0) & (ledger.sender() == roles.device) & (ledger.keys["role"] != BY_DST)
    time_ns, key = np.empty(len(events), np.int64), np.empty(len(events), np.int64)
    count = select(events, own, time_ns, key)
    return time_ns[:count], key[:count]


@kernel
def into_series(
    time_ns: NDArray[np.int64],
    key: NDArray[np.int64],
    group_of_key: NDArray[np.int64],
    origin_ns: int,
    silence_s: float,
    last: NDArray[np.float64],
    starts: NDArray[np.int64],
    times: NDArray[np.float64],
) -> None:
    """Sort events into the series of their keys, those alone that follow a silence.

    Fills `times`, and `starts` (zeros) with where each series begins. `last` has room for a number per
    series, and one more than that stands in `starts`.
    """
    groups = len(last)
    for again in range(2):
        for g in range(groups):
            last[g] = -1e300
        for i in range(len(key)):
            g = group_of_key[key[i]]
            time_s = (time_ns[i] - origin_ns) / 1e9
            if time_s - last[g] >= silence_s:
                if again:
                    times[starts[g]] = time_s
                    starts[g] += 1
                else:
                    starts[g + 1] += 1
            last[g] = time_s
        if not again:
            for g in range(groups):
                starts[g + 1] += starts[g]
    for g in range(groups, 0, -1):  # each begin had moved to the next one's
        starts[g] = starts[g - 1]
    starts[0] = 0


def gather(
    time_ns: NDArray[np.int64],
    key: NDArray[np.int64],
    group_of_key: NDArray[np.int64],
    label: NDArray[np.int64],
    origin_ns: int,
) -> Events:
    """Sort events into one series for each entry of `label`; starts close together are merged."""
    starts, times = np.zeros(len(label) + 1, np.int64), np.empty(len(key))
    last = np.empty(len(label))
    into_series(time_ns, key, group_of_key, origin_ns, MERGE_S, last, starts, times)
    return Events(times[: starts[-1]], starts, label, origin_ns)


@kernel
def thin_series(
    times: NDArray[np.float64],
    starts: NDArray[np.int64],
    silence_s: float,
    most: float,
    kept: NDArray[np.float64],
    kept_starts: NDArray[np.int64],
) -> int:
    """Copy of each series the events that follow a silence, unless they are more than the share `most`."""
    count = 0
    for s in range(len(starts) - 1):
        kept_starts[s] = count
        for i in range(starts[s], starts[s + 1]):
            if i == starts[s] or times[i] - times[i - 1] >= silence_s:
                kept[count] = times[i]
                count += 1
        if count - kept_starts[s] > most * (starts[s + 1] - starts[s]):
            count = kept_starts[s]
    kept_starts[len(starts) - 1] = count
    return count


def thin(events: Events, silence_s: float, most: float) -> Events:
    """Keep of each series the events that follow a silence: the begins of its rounds.

    A series that keeps more than the share `most` of its events is emptied: it has no rounds.
    """
    kept, starts = np.empty(len(events.times)), np.empty(len(events.starts), np.int64)
    count = thin_series(events.times, events.starts, silence_s, most, kept, starts)
    return Events(kept[:count], starts, events.label, events.origin_ns)


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
