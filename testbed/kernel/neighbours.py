"""The times of Linux's neighbour table (net/core/neighbour.c; RFC 4861 §7.3.2, §10).

A confirmed entry is good for a span that the kernel draws for the whole interface, anew every five
minutes. An entry in use is then probed by unicast, five seconds later, unless progress of TCP
confirms it meanwhile; *in use* means used in the last five seconds of the span, or after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROBES = 3
"""Questions, a `RETRY_NS` apart, until an entry fails (mcast_solicit, ucast_solicit)."""
RETRY_NS = 1_000_000_000
"""retrans_time_ms."""
PROBE_AFTER_NS = 5_000_000_000
"""delay_first_probe_time."""
BASE_REACHABLE_S = 30.0
"""base_reachable_time, where nothing sets another."""
REDRAWN_NS = 300_000_000_000
"""How often the span is drawn (neigh_periodic_work)."""


class Lifetimes:
    """How long confirmations of one interface's neighbours hold."""

    def __init__(self, base_ns: int, draw: Callable[[int], float]) -> None:
        """`base_ns` is the mean; `draw` returns 0 to 1 for the how-many-th five minutes since 1970."""
        self._base_ns = base_ns
        self._draw = draw
        self._drawn = -1
        self._span_ns = base_ns

    def at(self, unix_ns: int) -> int:
        """Return how long a confirmation of that moment holds: half to one and a half of the mean."""
        index = unix_ns // REDRAWN_NS
        if index != self._drawn:
            self._drawn = index
            self._span_ns = round(self._base_ns * (0.5 + self._draw(index)))
        return self._span_ns
