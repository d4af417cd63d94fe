"""Disruptions that a capture shows by itself: the Internet gone, the network off, the recorder stopped.

- *Internet off*: for much longer than usual nothing comes from beyond the gateway, while devices
  try (lookups, connections, requests).
- *network off*: for much longer than usual there is no frame at all, and afterwards most devices
  ask for an address again: their link had gone.
- *recorder stopped*: the same silence, but devices go on as if nothing had happened.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.analysis.attempts import attempts, unreachables
from testbed.analysis.order import distinct, quantiles
from testbed.analysis.run import State
from testbed.capture.frame import DHCP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger

INTERNET_OFF, NETWORK_OFF, RECORDER_STOPPED = "internet-off", "network-off", "recorder-stopped"
LEAST_S = 180.0
"""Shortest silence that is called a disruption."""
USUAL_FACTOR = 10.0
USUAL_SHARE = 0.99
"""How many times longer it must be than this share of all silences."""
FEWEST_ATTEMPTS = 5
"""Attempts that must have failed for the Internet to be called off."""
SETTLE_S = 180.0
"""Time after a silence in which devices whose link had gone ask for their addresses."""


class Disruption(NamedTuple):
    """A disruption that was found; times in Unix ns."""

    kind: str
    begin_ns: int
    end_ns: int
    why: str


def find_disruptions(ledger: Ledger) -> list[Disruption]:
    """Return the disruptions in order of time."""
    events = ledger.tables.events
    if len(events) < 3:
        return []
    time_ns, key = np.ascontiguousarray(events["time_ns"]), events["key"]
    silences = _silences(time_ns)
    found = _Silences(ledger, time_ns).found(silences) if silences else []
    inbound = ledger.roles.remote & (ledger.roles.dst >= 0) & ~unreachables(ledger)
    arrivals = time_ns[inbound[key]]
    gaps = _silences(arrivals) if len(arrivals) >= 3 else []
    tried = time_ns[attempts(ledger)[key]] if gaps else arrivals
    for begin, end in gaps:
        # The part of the gap in which the network was up and recorded.
        for lo, hi in _without(begin, end, silences):
            failed = tried[np.searchsorted(tried, lo, side="right") : np.searchsorted(tried, hi)]
            if hi - lo >= LEAST_S * 1e9 and len(failed) >= FEWEST_ATTEMPTS:
                start = (lo + int(failed[0])) // 2 if lo == begin else lo
                why = f"{len(failed)} attempts and no answer from the Internet"
                found.append(Disruption(INTERNET_OFF, start, hi, f"{why} in {(hi - start) / 1e9:.0f} s"))
    return sorted(found, key=lambda disruption: disruption.begin_ns)


def _silences(time_ns: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the gaps that are far longer than usual."""
    gaps = np.diff(time_ns)
    if not len(gaps) or gaps.max() < LEAST_S * 1e9:
        return []
    least = LEAST_S * 1e9
    if np.count_nonzero(gaps > least / USUAL_FACTOR) >= (1 - USUAL_SHARE) * len(gaps) - 1:
        (usual,) = quantiles(gaps, (USUAL_SHARE,))
        least = max(least, USUAL_FACTOR * usual)
    return [(int(time_ns[i]), int(time_ns[i + 1])) for i in np.flatnonzero(gaps >= least)]


def _without(begin: int, end: int, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return a span without the holes in it, which are in order."""
    parts = []
    for lo, hi in holes[bisect_left(holes, begin, key=lambda hole: hole[1]) :]:
        if lo >= end:
            break
        if hi <= begin or lo >= end:
            continue
        if lo > begin:
            parts.append((begin, lo))
        begin = max(begin, hi)
    if begin < end:
        parts.append((begin, end))
    return parts


class _Silences:
    """Tells a network that was off from a recorder that stopped."""

    def __init__(self, ledger: Ledger, time_ns: NDArray[np.int64]) -> None:
        roles = ledger.roles
        key = ledger.tables.events["key"]
        sent = (roles.src >= 0) & (roles.src == roles.device)
        self.first_ns = np.full(len(roles.devices) + 1, np.iinfo(np.int64).max)
        """Of each device, its first frame."""
        np.minimum.at(self.first_ns, roles.src[sent], ledger.sums.first_ns[sent])
        asks = (sent & (ledger.keys["service"] == DHCP))[key]
        self.asked_ns, self.asking = time_ns[asks], roles.src[key[asks]]

    def found(self, silences: list[tuple[int, int]]) -> list[Disruption]:
        """Return each silence with what it was."""
        return [self._found(begin, end) for begin, end in silences]

    def _found(self, begin: int, end: int) -> Disruption:
        settled = end + int(SETTLE_S * 1e9)
        asking = self.asking[
            np.searchsorted(self.asked_ns, end) : np.searchsorted(self.asked_ns, settled, side="right")
        ]
        before = self.first_ns <= begin
        count = int(before.sum())
        renewed = int(before[distinct(asking)].sum())
        back = count > 0 and 2 * renewed >= count
        why = (
            f"no frame for {(end - begin) / 1e9:.0f} s, then {renewed} of {count} devices "
            f"asked for an address{'' if back else ', the others went on'}"
        )
        return Disruption(NETWORK_OFF if back else RECORDER_STOPPED, begin, end, why)


def as_states(disruptions: list[Disruption], begin_ns: int, end_ns: int) -> tuple[State, ...]:
    """Return the capture as states: each disruption, and the steady spans around them."""
    if not disruptions:
        return ()
    states = []
    counts: dict[str, int] = {}
    at = begin_ns

    def add(kind: str, begin: int, end: int) -> None:
        if end > begin:
            counts[kind] = counts.get(kind, 0) + 1
            states.append(State(f"{kind}-{counts[kind]}", begin, end))

    for disruption in disruptions:
        add("online", at, disruption.begin_ns)
        add(disruption.kind, max(at, disruption.begin_ns), disruption.end_ns)
        at = max(at, disruption.end_ns)
    add("online", at, end_ns + 1)
    return tuple(states)
