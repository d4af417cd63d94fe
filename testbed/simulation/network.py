"""The simulated network: who answers where, and the records of what passes the router.

Rules of this file and of those that build on it (neighbours, datagrams, echo, streams):
- An exchange's outcome and its end are settled when it begins (the timeline knows every change);
  the host then waits once. Frames that a power-off prevents are cut afterwards.
- What a device does elsewhere (on the open Wi-Fi) and before the capture begins leaves no record.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from random import Random
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from testbed.capture.write import Label
from testbed.host import About, LinkDown, NetError, NoReply
from testbed.kernel.neighbours import BASE_REACHABLE_S, Lifetimes
from testbed.scenario.addresses import fraction, number
from testbed.services.home_names import HomeNames
from testbed.simulation import tape as t
from testbed.simulation.next_hop import NextHop
from testbed.simulation.node import Node
from testbed.simulation.wire import ip_number, mac_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.models import Topology
    from testbed.simulation.conditions import Conditions, Server
    from testbed.simulation.journal import Journal
    from testbed.simulation.library import Library
    from testbed.simulation.plans import Stack
    from testbed.simulation.waiting import Clock

POOL_BYTES = 1 << 20
MOST_QUOTED = 548
"""An ICMP error is at most 576 bytes long (RFC 1812 §4.3.2.3)."""


class Station(NamedTuple):
    """One end of a frame."""

    mac: int
    ip: int
    port: int = 0


Exchanged = tuple[int, type[NetError] | None, bytes, int, int]
"""How an exchange will end: when, the failure or the answer, its label and its number."""


class Network:
    """The LAN, the router, the WAN and the fake Internet."""

    library: Library

    def __init__(
        self,
        env: Clock,
        topology: Topology,
        conditions: Conditions,
        servers: Mapping[str, Server],
        log: Journal,
        begin_s: float,
        server_stack: Stack,
        seed: int,
    ) -> None:
        self.env, self.topology, self.conditions, self.log = env, topology, conditions, log
        self.servers = dict(servers)
        self.begin_s = begin_s
        self.server_stack = server_stack
        self.tape = t.Tape(Random(number(seed, "ciphertext")).randbytes(POOL_BYTES))
        self.record = self.tape.record
        self.labels: list[Label] = []
        self._label_index: dict[tuple[str, str, About], int] = {}
        router = topology.router
        self.router_name = router.name
        self.router = Station(mac_number(router.mac), ip_number(str(router.address)))
        self.router_server = self.servers[str(router.address)]
        self.home_names = HomeNames({})
        """What the router's DNS forwarder answers by itself."""
        self.upstream: Server | None = None
        """The resolver that the router's forwarder asks."""
        self.elsewhere: Server | None = None
        """The gateway and DHCP server of the open Wi-Fi."""
        self.next_hop = NextHop(
            conditions.timeline,
            Lifetimes(
                round(BASE_REACHABLE_S * 1e9),
                lambda index: fraction(seed, router.name, "wan", "neighbours", index),
            ),
            round(begin_s) * 1_000_000_000,
            round(router.arp_failure * 1e9),
        )
        self.router_lifetimes = Lifetimes(
            round(router.arp_reachable * 1e9),
            lambda index: fraction(seed, router.name, "neighbours", index),
        )

    def unix(self, at: int) -> float:
        """Return Unix seconds of a moment."""
        return self.begin_s + at / 1e9

    def unix_ns(self, at: int) -> int:
        """Return Unix nanoseconds of a moment."""
        return round(self.begin_s) * 1_000_000_000 + at

    def label(self, device: str, behaviour: str, about: About) -> int:
        """Return the number of a label."""
        key = (device, behaviour, about)
        index = self._label_index.get(key)
        if index is None:
            index = self._label_index[key] = len(self.labels)
            protocol, service, attempt, why = about
            self.labels.append(Label(device, behaviour, protocol, attempt, service, why))
        return index

    def me(self, node: Node, port: int = 0) -> Station:
        """Return a device as an end of a frame."""
        return Station(node.mac_int, node.ip, port)

    def find(self, node: Node, address: str) -> Server | None:
        """Return who answers at an address, seen from a device; None if nobody does."""
        if node.link == "open" and node.lease is not None and address == node.lease.router:
            return self.elsewhere
        server = self.servers.get(address)
        if server is None or server.delay_ns:
            return server
        here = node.link == "home" and (server.station is None or server.station.link == "home")
        return server if here else None

    def on_lan(self, address: str) -> bool:
        """Tell whether an address is of the home's own network."""
        return IPv4Address(address) in self.topology.router.lan

    def is_gateway(self, server: Server | None) -> bool:
        """Tell whether this is the router, or the open Wi-Fi's."""
        return server is not None and (server is self.router_server or server is self.elsewhere)

    def alive(self, node: Node, at: int) -> bool:
        """Tell whether the device's network carries frames to and from it at a moment."""
        return at < node.link_until and (node.link == "open" or self.conditions.lan_up(at))

    def seen(self, node: Node, at: int) -> bool:
        """Tell whether a frame of the device passes the captured LAN at a moment."""
        return node.link == "home" and at < node.link_until and self.conditions.lan_up(at)

    def ready(self, node: Node) -> None:
        """Raise LinkDown unless the device can send."""
        if node.lease is None or node.link == "down":
            raise LinkDown

    def silence(self, node: Node, deadline: int, label: int) -> Exchanged:
        """Return the end of an exchange that nothing answers."""
        if node.link_until <= deadline:
            return node.link_until, LinkDown, b"", label, node.exchanges
        return deadline, NoReply, b"", label, node.exchanges

    def unreachable(
        self, node: Node, when: int, label: int, exchange: int, quoted: bytes, code: int, peer: Server | None
    ) -> int:
        """Record an ICMP destination unreachable (RFC 792) from `peer`, or the router; return its label."""
        behind = self.labels[label]
        icmp = self.label(node.name, behind.behaviour, About("ICMP", behind.service, behind.attempt))
        if not self.seen(node, when):
            return icmp
        source = self.router if peer is None else self.station(peer)
        ttl = 64 if peer is None else peer.ttl
        body = pack(">BBHI", 3, code, 0, 0) + quoted[:MOST_QUOTED]
        ident = node.rng.getrandbits(16)
        self.record(when, icmp, exchange, 1, source, self.me(node), t.meta(t.ICMP, ttl), body, ident)
        return icmp

    def station(self, server: Server, port: int = 0) -> Station:
        """Return a server as the LAN sees it: behind the router's MAC unless it is a station itself."""
        return Station(server.mac_int or self.router.mac, server.ip, port)

    def code(self, at: int) -> int:
        """Return the code of the router's ICMP unreachable at a moment: 0 net, 1 host."""
        return 0 if self.conditions.uplink_at(at) == "known" else 1
