"""A station on the simulated LAN: its addresses, link, neighbour entries and counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from testbed.host import Board, Lease
from testbed.scenario.addresses import number
from testbed.simulation.plans import Stack
from testbed.simulation.wire import mac_number

if TYPE_CHECKING:
    from simpy import Event, Process

    from testbed.host import Service
    from testbed.models import DeviceModel
    from testbed.simulation.streams import SimStream

NEVER = 1 << 62
ICMP_BURST = 6
"""Errors that Linux sends to one destination at once before its limit of one a second binds."""


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
    gateway_stale: int | None = None
    """When its entry for the gateway goes stale; None before the first ARP on this link."""
    router_stale: int | None = None
    """When the router's entry for it goes stale."""
    fresh_until: int = -NEVER
    """Until when neither entry needs a look."""
    confirmed_at: int = -NEVER
    """When TCP last made progress through the gateway."""
    half_reachable_ns: int = field(init=False)
    hop_failure: int = -NEVER
    """When the router's present search for the dead next hop, on its behalf, will have failed."""
    hop_waiting: int = 0
    error_credit: float = ICMP_BURST
    error_at: int = -NEVER

    mac_int: int = field(init=False)
    ttl: int = field(init=False)
    lan_ns: int = field(init=False)
    stack: Stack = field(init=False)
    rng: Random = field(init=False)
    """Chance of its kernel and its link: ports, sequence numbers, jitter, neighbour timers."""
    loss_rng: Random = field(init=False)
    spawned: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.mac_int = mac_number(self.mac)
        self.ttl = self.model.ttl
        self.lan_ns = round(self.model.link.delay * 1e9)
        self.half_reachable_ns = round(self.model.link.arp_reachable * 0.5e9)
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

    def reachable_ns(self) -> int:
        """Return a neighbour entry's lifetime: half to one and a half of the base (RFC 4861 §6.3.2)."""
        return round(self.model.link.arp_reachable * 1e9 * (0.5 + self.rng.random()))

    def may_send_error(self, at: int) -> bool:
        """Tell whether the router's ICMP rate limit lets an error to this device pass."""
        if self.error_at > -NEVER:
            self.error_credit = min(ICMP_BURST, self.error_credit + max(0, at - self.error_at) / 1e9)
        self.error_at = max(at, self.error_at)
        if self.error_credit < 1:
            return False
        self.error_credit -= 1
        return True
