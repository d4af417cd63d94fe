"""A station on the simulated LAN: its addresses, link, neighbour entries and counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from testbed.host import Board, Lease
from testbed.kernel.icmp_limit import ErrorBucket
from testbed.kernel.neighbours import Lifetimes
from testbed.scenario.addresses import fraction, number
from testbed.simulation.plans import Stack
from testbed.simulation.wire import mac_number

if TYPE_CHECKING:
    from simpy import Event, Process

    from testbed.host import Service
    from testbed.models import DeviceModel
    from testbed.simulation.streams import SimStream

NEVER = 1 << 62


@dataclass(eq=False, slots=True)
class Node:
    """One device as the network knows it."""

    name: str
    model: DeviceModel
    mac: str
    seed: int
    parent: Node | None = None
    board: Board = field(default_factory=Board)
    services: dict[int, Service] = field(default_factory=dict)
    """What answers on its own ports."""
    powered: bool = False
    boots: int = 0
    link: str = "down"
    """`down`, `home` (captured) or `open` (elsewhere, not captured)."""
    link_until: int = NEVER
    """When the link next changes."""
    lease: Lease | None = None
    ip: int = 0
    tasks: dict[str, Process] = field(default_factory=dict)
    streams: set[SimStream] = field(default_factory=set)
    query_waiters: list[Event] = field(default_factory=list)
    exchanges: int = 0
    next_port: int = 0
    ping_id: int = 0
    stamp: int = 0
    """Offset of its TCP timestamp clock, ms, since the present boot (RFC 7323 §5.4)."""
    gateway_stale_at: int | None = None
    """When its entry for the gateway goes stale; None before the first ARP on this link."""
    gateway_known_at: int = -NEVER
    """When the first ARP on this link is answered."""
    gateway_confirmed_at: int = -NEVER
    """When that entry was last confirmed."""
    gateway_fresh_until: int = -NEVER
    """Until when nobody needs to look at it."""
    router_stale_at: int | None = None
    """When the router's entry for it goes stale; None when the router does not know it."""
    router_fresh_until: int = -NEVER
    confirmed_at: int = -NEVER
    """When TCP last made progress through the gateway."""
    lifetimes: Lifetimes = field(init=False)
    """Of its neighbours."""
    errors: ErrorBucket = field(default_factory=ErrorBucket)
    """The router's limit on ICMP errors to it."""
    searches: list[int] = field(default_factory=list)
    """When the router's searches for the dead next hop began, on its behalf."""

    mac_int: int = field(init=False)
    ttl: int = field(init=False)
    lan_ns: int = field(init=False)
    stack: Stack = field(init=False)
    rng: Random = field(init=False)
    """Chance of its kernel and its link: ports, sequence numbers, jitter."""
    loss_rng: Random = field(init=False)
    spawned: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.mac_int = mac_number(self.mac)
        self.ttl = self.model.ttl
        self.lan_ns = round(self.model.link.delay * 1e9)
        self.lifetimes = Lifetimes(
            round(self.model.link.arp_reachable * 1e9),
            lambda index: fraction(self.seed, self.name, "neighbours", index),
        )
        self.stack = Stack.of(self.model.tcp)
        self.rng = Random(number(self.seed, self.name, "kernel"))
        self.loss_rng = Random(number(self.seed, self.name, "loss"))
        self.next_port = 32_768 + self.rng.randrange(28_000)

    def port(self) -> int:
        """Return the next ephemeral port (Linux's range)."""
        self.next_port += 1
        if self.next_port > 60_999:
            self.next_port = 32_768
        return self.next_port
