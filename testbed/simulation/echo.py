"""ICMP echo of simulated hosts (RFC 792)."""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from testbed.scenario.internet import ROUTER_ANSWERS_NS
from testbed.simulation import neighbours
from testbed.simulation import tape as t
from testbed.simulation.network import Station
from testbed.simulation.wire import echo_packet, ip_number

if TYPE_CHECKING:
    from simpy import Event

    from testbed.host import About
    from testbed.simulation.conditions import Server
    from testbed.simulation.network import Network
    from testbed.simulation.node import Node

_FILLER = bytes(range(8, 64))
"""56 bytes of data: frames of 98 bytes, as ping sends."""
_FRAME_BYTES = 98


class Echoed(NamedTuple):
    """How a round of echo requests will end."""

    end: int
    answered: int
    label: int
    exchange: int
    errors: tuple[Event, ...]
    """Moments at which the router decides whether to complain."""


def ping(
    network: Network,
    node: Node,
    behaviour: str,
    address: str,
    count: int,
    interval_ns: int,
    timeout_ns: int,
    about: About,
) -> Echoed:
    """Send `count` echo requests; raises LinkDown at once without a lease.

    The round ends with the last answer, or when the last unanswered request has timed out.
    """
    network.ready(node)
    now = network.env.now
    node.exchanges += 1
    exchange = node.exchanges
    node.ping_id = node.ping_id % 0xFFFF + 1
    server = network.find(node, address)
    start = now + neighbours.sends(network, node, now)
    label = network.label(node.name, behaviour, about)
    jitter = network.conditions.jitter_ns(node)
    me = network.me(node)
    peer = Station(server.mac_int if server and server.mac_int else network.router.mac, ip_number(address))
    visible = node.link == "home"
    answered, end = 0, now
    errors = []
    for sequence in range(1, count + 1):
        sent = start + (sequence - 1) * interval_ns
        lost, extra = network.conditions.access(node, sent, _FRAME_BYTES, upwards=True)
        seen = sent + node.lan_ns + extra
        arrives = None
        if not lost and network.alive(node, seen):
            tail = pack(">HH", node.ping_id, sequence) + _FILLER
            if visible:
                meta = t.meta(t.ICMP, node.model.ttl, t.DONT_FRAGMENT)
                network.record(seen, label, exchange, 0, me, peer, meta, b"\x08\0\0\0" + tail)
            back = _answered(network, node, server, seen, jitter)
            if back is None and visible and network.conditions.uplink_at(seen) != "up" and _far(server):
                quoted = echo_packet(node.model.ttl, node.ip, peer.ip, tail)
                errors.append(_refuse(network, node, seen, label, exchange, quoted))
            if back is not None and network.alive(node, back):
                back += neighbours.hears(network, node, back)
                lost, extra = network.conditions.access(node, back, _FRAME_BYTES, upwards=False)
                if visible:
                    meta = t.meta(t.ICMP, server.ttl if server else 64)
                    network.record(
                        back, label, exchange, 1, peer, me, meta, bytes(4) + tail, exchange & 0xFFFF
                    )
                arrives = None if lost else back + node.lan_ns + extra
        if arrives is not None and arrives <= sent + timeout_ns:
            answered += 1
            end = max(end, arrives)
        else:
            end = max(end, sent + timeout_ns)
    return Echoed(end, answered, label, exchange, tuple(errors))


def _far(server: Server | None) -> bool:
    """Tell whether an address is beyond the uplink."""
    return server is None or server.delay_ns > 0


def _refuse(network: Network, node: Node, seen: int, label: int, exchange: int, quoted: bytes) -> Event:
    """Let the router answer with an ICMP error, if it then does: its limit knows the packets before."""

    def decide(_: Event) -> None:
        when = network.next_hop.error_at(node, seen)
        if when is not None:
            when += neighbours.hears(network, node, when)
            network.unreachable(node, when, label, exchange, quoted, network.code(seen), None)

    timer = network.env.timeout(max(0, seen - network.env.now))
    assert timer.callbacks is not None
    timer.callbacks.append(decide)
    return timer


def _answered(network: Network, node: Node, server: Server | None, seen: int, jitter: int) -> int | None:
    """Return when the echo reply passes the router; None if none does."""
    conditions = network.conditions
    if server is not None and not server.delay_ns:
        return seen + ROUTER_ANSWERS_NS + (2 * server.station.lan_ns if server.station else 0)
    away = conditions.wan_ns + jitter + (server.delay_ns if server else 0)
    if node.link == "open":
        return seen + 2 * away if server is not None else None
    if conditions.uplink_at(seen) != "up":
        return None
    there = conditions.cross(node, seen, _FRAME_BYTES, upwards=True)
    if there is None or server is None or conditions.down(server, seen) == "silent":
        return None
    leaves = seen + there + away
    if conditions.uplink_at(leaves + away) != "up":
        return None
    back = conditions.cross(node, leaves, _FRAME_BYTES, upwards=False)
    return None if back is None else leaves + away + back
