"""The uplinks and the Internet behind them: carried by the loop between routers and servers.

The loop is the ISP's gateway (it answers ARP on the uplink) and every router behind it. Each server
is as far away as its place; servers take no part in ARP. Nothing leaves the run's namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from socket import inet_aton
from typing import TYPE_CHECKING

from testbed.emulation import frames
from testbed.emulation.links import DOWN, UP, Way
from testbed.emulation.loop import NS

if TYPE_CHECKING:
    from random import Random

    from testbed.emulation.loop import Loop
    from testbed.emulation.stations import Interface
    from testbed.models.topology import Impairment

GATEWAY = "198.18.0.1"
"""The ISP's router, as a home router's WAN side sees it."""
PREFIX = 24
GATEWAY_MAC = "02:00:c6:12:00:01"
_ANSWER_NS = 200_000
_FLOWS_KEPT = 65_536


@dataclass(eq=False)
class Site:
    """A server's address, and how far away it is."""

    service: str
    interface: Interface
    delay_ns: int


@dataclass(eq=False)
class Uplink:
    """A home's cable to the Internet; `way` holds its impairments except delay and jitter."""

    interface: Interface
    way: Way
    delay_ns: int = 0
    jitter_ns: int = 0
    plugged: bool = True


class Internet:
    """Every uplink and every server, and what is between them."""

    def __init__(self, loop: Loop, rng: Random) -> None:
        """Begin empty; `rng` draws each flow's jitter."""
        self._loop = loop
        self._rng = rng
        self._uplinks: dict[bytes, Uplink] = {}
        self._sites: dict[bytes, Site] = {}
        self._flows: dict[bytes, tuple[int, list[int]]] = {}
        self._gateway_mac = frames.mac_bytes(GATEWAY_MAC)
        self.silent: set[str] = set()
        """Services whose servers are cut off."""

    def uplink(self, address: str, interface: Interface, impairment: Impairment | None) -> Uplink:
        """Connect a router's WAN side, which has `address`."""
        if impairment is None:
            uplink = Uplink(interface, Way(None, self._rng))
        else:
            rest = impairment.model_copy(update={"delay": 0.0, "jitter": 0.0})
            uplink = Uplink(
                interface, Way(rest, self._rng), round(impairment.delay * NS), round(impairment.jitter * NS)
            )
        self._uplinks[inet_aton(address)] = uplink
        interface.cable = lambda frame: self._from_router(uplink, frame)
        return uplink

    def server(self, address: str, site: Site) -> None:
        """Put a server's address on the Internet."""
        self._sites[inet_aton(address)] = site
        site.interface.cable = self._from_site

    def _from_router(self, uplink: Uplink, frame: bytes) -> None:
        if not uplink.plugged:
            return
        ethertype, _ = frames.kind(frame)
        if ethertype == frames.ARP:
            self._answer_arp(uplink, frame)
        elif ethertype == frames.IPV4:
            site = self._sites.get(frame[30:34])
            if site is not None and site.service not in self.silent:
                when_ns = self._way_ns(uplink, site, frame, UP)
                if when_ns is not None:
                    passed = site.interface.mac + self._gateway_mac + frame[12:]
                    self._loop.call_at(when_ns, lambda: site.interface.receive(passed))

    def _answer_arp(self, uplink: Uplink, frame: bytes) -> None:
        operation, mac, sender, target = frames.arp_fields(frame)
        if operation == 1 and target == inet_aton(GATEWAY):
            reply = frames.arp_reply(self._gateway_mac, target, mac, sender)
            self._loop.call_at(self._loop.now_ns + _ANSWER_NS, lambda: _deliver(uplink, reply))

    def _from_site(self, frame: bytes) -> None:
        ethertype, _ = frames.kind(frame)
        site = self._sites.get(frame[26:30])
        uplink = self._uplinks.get(frame[30:34])
        if ethertype != frames.IPV4 or site is None or uplink is None or site.service in self.silent:
            return
        when_ns = self._way_ns(uplink, site, frame, DOWN)
        if when_ns is not None:
            passed = uplink.interface.mac + self._gateway_mac + frame[12:]
            self._loop.call_at(when_ns, lambda: _deliver(uplink, passed))

    def _way_ns(self, uplink: Uplink, site: Site, frame: bytes, direction: int) -> int | None:
        """Return when a packet arrives, in order within its flow; None if it is lost."""
        jitter_ns, last_ns = self._flow(uplink, frame, direction)
        delay_ns = uplink.delay_ns + site.delay_ns + jitter_ns
        when_ns = uplink.way.arrival_ns(self._loop.now_ns, delay_ns, len(frame), direction)
        if when_ns is None:
            return None
        last_ns[direction] = max(when_ns, last_ns[direction])
        return last_ns[direction]

    def _flow(self, uplink: Uplink, frame: bytes, direction: int) -> tuple[int, list[int]]:
        """Return a flow's own delay, drawn when it begins, and when its last packets arrive."""
        at = 14 + (frame[14] & 15) * 4
        if direction == UP:
            key = frame[23:24] + frame[26:34] + frame[at : at + 4]
        else:
            key = frame[23:24] + frame[30:34] + frame[26:30] + frame[at + 2 : at + 4] + frame[at : at + 2]
        flow = self._flows.get(key)
        if flow is None:
            jitter_ns = round(self._rng.random() * uplink.jitter_ns) if uplink.jitter_ns else 0
            flow = self._flows[key] = (jitter_ns, [0, 0])
            if len(self._flows) > _FLOWS_KEPT:
                del self._flows[next(iter(self._flows))]
        return flow


def _deliver(uplink: Uplink, frame: bytes) -> None:
    if uplink.plugged:
        uplink.interface.receive(frame)
