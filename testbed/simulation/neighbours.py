"""ARP between a device and its gateway (RFC 826), with Linux's neighbour states (RFC 4861 §7.3.2).

An entry is fresh for a random time around `arp_reachable`; a stale one that is used is probed by
unicast 5 s later, unless TCP progress confirmed it meanwhile. The router keeps an entry for each
device in the same way, and forwarding confirms nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.host import About
from testbed.simulation import tape as t
from testbed.simulation.network import Station
from testbed.simulation.wire import BROADCAST_MAC

if TYPE_CHECKING:
    from testbed.simulation.network import Network
    from testbed.simulation.node import Node

PROBE_AFTER_NS = 5_000_000_000
"""Linux probes a stale entry 5 s after its first use (delay_first_probe_time)."""
ANSWER_NS = 200_000
SEEKS, SEEK_AGAIN_NS = 3, 1_000_000_000
_ARP = About("ARP")
_HEAD = b"\0\1\x08\0\6\4"


def confirm(node: Node, at: int) -> None:
    """Note that TCP made progress through the gateway."""
    node.confirmed_at = at


def keep(network: Network, node: Node, at: int) -> int:
    """Keep both entries up as they are used; return the delay (ns) of a first resolution."""
    if at <= node.fresh_until or node.link != "home":
        return 0
    gateway, me = network.router, network.me(node)
    if node.gateway_stale is None or node.router_stale is None:
        delay = 2 * node.lan_ns + ANSWER_NS
        _ask(network, node, at + node.lan_ns, me, gateway, broadcast=True)
        node.gateway_stale = at + node.reachable_ns()
        node.router_stale = at + node.reachable_ns()
    else:
        delay = 0
        if at > node.gateway_stale:
            if node.confirmed_at + node.half_reachable_ns > at:
                node.gateway_stale = node.confirmed_at + node.reachable_ns()
            else:
                probe = at + PROBE_AFTER_NS
                if network.seen(node, probe + node.lan_ns):
                    _ask(network, node, probe + node.lan_ns, me, gateway)
                node.gateway_stale = probe + node.reachable_ns()
        if at > node.router_stale:
            probe = at + PROBE_AFTER_NS
            if network.seen(node, probe):
                _ask(network, node, probe, gateway, me)
            node.router_stale = probe + round(network.router_reachable_ns * (0.5 + node.rng.random()))
    node.fresh_until = min(node.gateway_stale, node.router_stale)
    return delay


def seek(network: Network, node: Node, ip: int, at: int) -> int:
    """Ask for a station of the LAN that is not there; return when Linux gives up (3 s)."""
    mine = node.mac_int.to_bytes(6, "big") + node.ip.to_bytes(4, "big")
    request = _HEAD + b"\0\1" + mine + bytes(6) + ip.to_bytes(4, "big")
    node.exchanges += 1
    label = network.label(node.name, "kernel", _ARP)
    for attempt in range(SEEKS):
        seen = at + attempt * SEEK_AGAIN_NS + node.lan_ns
        if network.seen(node, seen):
            nobody = Station(BROADCAST_MAC, 0)
            network.record(seen, label, node.exchanges, 0, network.me(node), nobody, t.ARP, request)
    return at + SEEKS * SEEK_AGAIN_NS


def forget(node: Node) -> None:
    """Drop the entries: the link or an address changed."""
    node.gateway_stale = node.router_stale = None
    node.fresh_until = -t.NEVER


def _ask(
    network: Network, node: Node, at: int, asker: Station, asked: Station, *, broadcast: bool = False
) -> None:
    """Record a request as it passes the router, and its answer."""
    node.exchanges += 1
    label = network.label(node.name, "kernel", _ARP)
    from_device = asker.mac == node.mac_int
    known = bytes(6) if broadcast else asked.mac.to_bytes(6, "big")
    mine = asker.mac.to_bytes(6, "big") + asker.ip.to_bytes(4, "big")
    theirs = asked.mac.to_bytes(6, "big") + asked.ip.to_bytes(4, "big")
    request = _HEAD + b"\0\1" + mine + known + theirs[6:]
    reply = _HEAD + b"\0\2" + theirs + mine
    target = Station(BROADCAST_MAC, 0) if broadcast else asked
    pause = ANSWER_NS if from_device else ANSWER_NS + 2 * node.lan_ns
    network.record(at, label, node.exchanges, int(not from_device), asker, target, t.ARP, request)
    network.record(at + pause, label, node.exchanges, int(from_device), asked, asker, t.ARP, reply)
