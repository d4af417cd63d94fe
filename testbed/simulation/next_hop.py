"""The router's ICMP errors about packets that its dead or unknown uplink cannot carry.

Rules of this file:
- A router that knows of no upstream answers at once, as often as Linux's limit allows.
- One that forwards into the void loses packets until its entry for the next hop has failed; then it
  searches, for `arp_failure` at a time, and when a search has failed every packet that waited for it
  gets its error, without a limit (it is sent to the translated address, which is the router's own).
- **A search is kept per device**, so that devices do not see each other: a real router keeps one,
  which another device's packet may have begun.
- Packets of the future are settled before their time, so a device's searches do not come in order.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from testbed.kernel.neighbours import PROBE_AFTER_NS, PROBES, RETRY_NS, Lifetimes
from testbed.scenario.internet import ROUTER_ANSWERS_NS
from testbed.simulation.node import NEVER

if TYPE_CHECKING:
    from testbed.scenario.timeline import Timeline
    from testbed.simulation.node import Node

_SEARCHES_KEPT = 100


class NextHop:
    """What the router says about packets for the Internet while the uplink is gone."""

    def __init__(self, timeline: Timeline, lifetimes: Lifetimes, unix_ns: int, search_ns: int) -> None:
        """`unix_ns` is the Unix time of the capture's start, `search_ns` how long a search takes."""
        self._timeline, self._lifetimes = timeline, lifetimes
        self._unix_ns, self._search_ns = unix_ns, search_ns
        self._failures: dict[int, int] = {}

    def error_at(self, node: Node, at: int) -> int | None:
        """Return when the error about a device's packet leaves the router; None if it sends none."""
        uplink = self._timeline.uplink
        state = uplink.at(at)
        if state == "known":
            when = at + ROUTER_ANSWERS_NS
            return when if node.errors.allows(when, no_route=True) else None
        if state != "silent" or at < self._failed_at(at):
            return None
        searches = node.searches
        place = bisect_right(searches, at)
        began = searches[place - 1] if place else -NEVER
        if began + self._search_ns <= at:
            began = at
            insort(searches, began)
            del searches[:-_SEARCHES_KEPT]
        when = began + self._search_ns + ROUTER_ANSWERS_NS
        return when if uplink.at(when) == "silent" else None

    def _failed_at(self, at: int) -> int:
        """Return when the entry for the next hop fails that was good when the uplink went silent."""
        uplink = self._timeline.uplink
        index = uplink.index(at)
        failed = self._failures.get(index)
        if failed is None:
            went = uplink.times[index]
            if index == 0 or uplink.values[index - 1] != "up":
                failed = max(went, self._timeline.begin_ns) + self._search_ns
            else:
                failed = self._refreshed(max(uplink.times[index - 1], self._timeline.begin_ns), went)
            self._failures[index] = failed
        return failed

    def _refreshed(self, confirmed: int, until: int) -> int:
        """Return when the first refresh after `until` fails, of an entry that is always in use."""
        while True:
            probe = confirmed + self._lifetimes.at(self._unix_ns + confirmed) + PROBE_AFTER_NS
            if probe > until:
                return probe + PROBES * RETRY_NS
            confirmed = probe
