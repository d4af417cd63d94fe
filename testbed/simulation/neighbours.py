"""ARP between a device and its gateway (RFC 826), with Linux's neighbour states.

Rules of this file:
- Each device's entry for the gateway is refreshed as the device uses it, unless TCP confirmed it; the
  router's entry for the device as the router uses it, and forwarding confirms nothing. An entry
  is good for what `testbed.kernel.neighbours` says.
- The router's probe is certain once it is due, so it is recorded ahead; the device's is decided when
  its time has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.host import About
from testbed.kernel.neighbours import PROBE_AFTER_NS, PROBES, RETRY_NS
from testbed.scenario.internet import ROUTER_ANSWERS_NS
from testbed.simulation import tape as t
from testbed.simulation.network import Station
from testbed.simulation.wire import BROADCAST_MAC

if TYPE_CHECKING:
    from testbed.simulation.network import Network
    from testbed.simulation.node import Node

_ARP = About("ARP")
_HEAD = b"\0\1\x08\0\6\4"


def sends(network: Network, node: Node, at: int) -> int:
    """Note that the device sends through its gateway; return the delay (ns) of a first resolution."""
    if at <= node.gateway_fresh_until or node.link != "home":
        return 0
    if node.gateway_stale_at is None:
        delay = 2 * node.lan_ns + ROUTER_ANSWERS_NS
        _ask(network, node, at + node.lan_ns, network.me(node), network.router, broadcast=True)
        _hold_gateway(network, node, at + delay)
        node.gateway_known_at, node.gateway_fresh_until = (
            at + delay,
            at - 1,
        )  # what is sent meanwhile waits, too
        if node.router_stale_at is None:  # the question tells the router where the device is
            node.router_stale_at = at + node.lan_ns
        return delay
    if at < node.gateway_known_at:
        return node.gateway_known_at - at
    if node.confirmed_at > node.gateway_confirmed_at:
        _hold_gateway(network, node, node.confirmed_at)
    node.gateway_fresh_until = node.gateway_stale_at - PROBE_AFTER_NS
    if at > node.gateway_fresh_until:
        probe = max(at, node.gateway_stale_at) + PROBE_AFTER_NS
        node.gateway_fresh_until = probe
        timer = network.env.timeout(probe - network.env.now)
        assert timer.callbacks is not None
        timer.callbacks.append(lambda _: _probe(network, node, at))
    return 0


def hears(network: Network, node: Node, at: int) -> int:
    """Note that the router sends to the device; return the delay (ns) of a first resolution."""
    if at <= node.router_fresh_until or node.link != "home":
        return 0
    router, me = network.router, network.me(node)
    if node.router_stale_at is None:
        if not network.seen(node, at):
            return 0
        delay = 2 * node.lan_ns
        _ask(network, node, at, router, me, broadcast=True)
        _hold_router(network, node, at + delay)
        return delay
    if at <= node.router_stale_at - PROBE_AFTER_NS:
        node.router_fresh_until = node.router_stale_at - PROBE_AFTER_NS
        return 0
    probe = max(at, node.router_stale_at) + PROBE_AFTER_NS
    if network.seen(node, probe):
        _ask(network, node, probe, router, me)
        _hold_router(network, node, probe + 2 * node.lan_ns)
    else:
        _question(network, node, probe, router, me, to=me)
        node.router_stale_at, node.router_fresh_until = None, probe + PROBES * RETRY_NS
    return 0


def seek(network: Network, node: Node, ip: int, at: int) -> int:
    """Ask for a station of the LAN that is not there; return when Linux gives up (3 s)."""
    _question(network, node, at + node.lan_ns, network.me(node), Station(0, ip), to=Station(BROADCAST_MAC, 0))
    return at + PROBES * RETRY_NS


def forget(node: Node) -> None:
    """Empty the device's table: the link or its address changed."""
    node.gateway_stale_at = None
    node.gateway_fresh_until = -t.NEVER


def forgotten_by_router(node: Node) -> None:
    """Drop the router's entry: it restarted."""
    node.router_stale_at = None
    node.router_fresh_until = -t.NEVER


def _hold_gateway(network: Network, node: Node, confirmed: int) -> None:
    node.gateway_confirmed_at = confirmed
    node.gateway_stale_at = confirmed + node.lifetimes.at(network.unix_ns(confirmed))
    node.gateway_fresh_until = node.gateway_stale_at - PROBE_AFTER_NS


def _hold_router(network: Network, node: Node, confirmed: int) -> None:
    node.router_stale_at = confirmed + network.router_lifetimes.at(network.unix_ns(confirmed))
    node.router_fresh_until = node.router_stale_at - PROBE_AFTER_NS


def _probe(network: Network, node: Node, used: int) -> None:
    """Ask the gateway by unicast, unless TCP made progress since the use that made it due."""
    now = network.env.now
    if node.gateway_stale_at is None or node.gateway_fresh_until != now:
        return  # the device has left the network meanwhile
    if node.confirmed_at > used:
        _hold_gateway(network, node, node.confirmed_at)
        return
    if network.seen(node, now + node.lan_ns):
        _ask(network, node, now + node.lan_ns, network.me(node), network.router)
    _hold_gateway(network, node, now + 2 * node.lan_ns + ROUTER_ANSWERS_NS)


def _question(network: Network, node: Node, at: int, asker: Station, asked: Station, *, to: Station) -> None:
    """Record the questions that nobody answers, for as long as the LAN is there."""
    node.exchanges += 1
    label = network.label(node.name, "kernel", _ARP)
    from_router = asker.mac == network.router.mac
    mine = asker.mac.to_bytes(6, "big") + asker.ip.to_bytes(4, "big")
    request = _HEAD + b"\0\1" + mine + bytes(6) + asked.ip.to_bytes(4, "big")
    for attempt in range(PROBES):
        when = at + attempt * RETRY_NS
        if network.conditions.lan_up(when) if from_router else network.seen(node, when):
            network.record(when, label, node.exchanges, int(from_router), asker, to, t.ARP, request)


def _ask(
    network: Network, node: Node, at: int, asker: Station, asked: Station, *, broadcast: bool = False
) -> None:
    """Record a request as it passes the router, and its answer."""
    node.exchanges += 1
    label = network.label(node.name, "kernel", _ARP)
    from_device = asker.mac == node.mac_int
    mine = asker.mac.to_bytes(6, "big") + asker.ip.to_bytes(4, "big")
    theirs = asked.mac.to_bytes(6, "big") + asked.ip.to_bytes(4, "big")
    request = _HEAD + b"\0\1" + mine + bytes(6) + theirs[6:]
    reply = _HEAD + b"\0\2" + theirs + mine
    target = Station(BROADCAST_MAC, 0) if broadcast else asked
    pause = ROUTER_ANSWERS_NS if from_device else 2 * node.lan_ns
    network.record(at, label, node.exchanges, int(not from_device), asker, target, t.ARP, request)
    network.record(at + pause, label, node.exchanges, int(from_device), asked, asker, t.ARP, reply)
