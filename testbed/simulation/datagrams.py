"""UDP, DHCP and IGMP of simulated hosts: what comes of a datagram is settled when it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.host import LinkDown, Refused, Unreachable
from testbed.protocols import dhcp, dns
from testbed.scenario.internet import ROUTER_ANSWERS_NS
from testbed.simulation import neighbours
from testbed.simulation import tape as t
from testbed.simulation.network import Station
from testbed.simulation.node import NEVER
from testbed.simulation.wire import (
    BROADCAST_IP,
    BROADCAST_MAC,
    group_mac,
    ip_number,
    is_group,
    udp_packet,
)

if TYPE_CHECKING:
    from testbed.host import About
    from testbed.simulation.conditions import Server
    from testbed.simulation.network import Exchanged, Network
    from testbed.simulation.node import Node

DNS_PORT, DHCP_SERVER_PORT, DHCP_CLIENT_PORT = 53, 67, 68
PORT_UNREACHABLE = 3
_UDP = t.meta(t.UDP, 0, t.DONT_FRAGMENT)
HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP headers."""
IGMP_HEADERS = 38
"""Bytes of Ethernet and IPv4 headers, router alert included."""


_Answers = tuple[list[tuple[int, bytes]], int | None, int]
"""Answers, each with when it passes the router; or the code of an ICMP error, and when that passes."""


def _ask(
    network: Network,
    node: Node,
    source: tuple[str, int],
    jitter: int,
    calm: bool,
    server: Server | None,
    port: int,
    data: bytes,
    seen: int,
) -> _Answers:
    """Let a server answer what passes the router at `seen`; `calm` says what the WAN is until it changes."""
    if port == DNS_PORT and network.is_gateway(server):
        return _forward(network, node, source, jitter, calm, data, seen)
    if server is not None and not server.delay_ns:
        there = seen + (server.station.lan_ns if server.station else 0)
        service = server.ports.get(port)
        if service is None:
            return [], PORT_UNREACHABLE, there + ROUTER_ANSWERS_NS
        replies = service.handle(data, source, network.unix(there))
        return [(there + ROUTER_ANSWERS_NS + round(r.delay_s * 1e9), r.data) for r in replies], None, 0
    conditions = network.conditions
    elsewhere = node.link == "open"
    extra: int | None = 0
    if not elsewhere:
        if not calm or seen >= conditions.next_change:
            if conditions.uplink_at(seen) != "up":
                when = network.next_hop.error_at(node, seen)
                return [], None if when is None else network.code(seen), when or 0
            calm = False
        extra = conditions.cross(node, seen, len(data) + HEADERS, True)
    if server is None or extra is None:
        return [], None, 0
    away = server.delay_ns + conditions.wan_ns + jitter
    there = seen + away + extra
    if not calm and (how := conditions.down(server, there)) is not None:
        return [], PORT_UNREACHABLE if how == "refused" else None, there + away
    service = server.ports.get(port)
    if service is None:
        return [], PORT_UNREACHABLE, there + away
    found = []
    for answer, delay_s in service.handle(data, source, network.unix(there)):
        leaves = there + round(delay_s * 1e9)
        passes = leaves + away
        if not elsewhere:
            if (not calm or passes >= conditions.next_change) and conditions.uplink_at(passes) != "up":
                continue
            extra = conditions.cross(node, leaves, len(answer) + HEADERS, False)
            if extra is None:
                continue
            passes += extra
        found.append((passes, answer))
    return found, None, 0


def _forward(
    network: Network, node: Node, source: tuple[str, int], jitter: int, calm: bool, data: bytes, seen: int
) -> _Answers:
    """Be the router's DNS forwarder: it knows the home, and forwards, refuses or keeps silent else."""
    if node.link == "home" and (own := network.home_names.answer(data, source[0])) is not None:
        return [(seen + ROUTER_ANSWERS_NS, own)], None, 0
    uplink = "up" if node.link == "open" else network.conditions.uplink_at(seen)
    if uplink == "known":
        return [(seen + ROUTER_ANSWERS_NS, dns.reply(data, (), rcode=dns.REFUSED))], None, 0
    if network.upstream is None:
        return [], None, 0
    if uplink != "up":  # the forwarder itself gets the error about its query
        network.next_hop.error_at(node, seen)
        return [], None, 0
    found, _, _ = _ask(network, node, source, jitter, calm, network.upstream, DNS_PORT, data, seen)
    return [(at + ROUTER_ANSWERS_NS, answer) for at, answer in found], None, 0


def request(
    network: Network,
    node: Node,
    behaviour: str,
    address: str,
    port: int,
    data: bytes,
    timeout_ns: int,
    about: About,
    source_port: int | None,
) -> Exchanged:
    """Send a datagram and settle its answer; raises LinkDown at once without a lease."""
    lease = node.lease
    if lease is None or node.link == "down":
        raise LinkDown
    now = network.env.now
    conditions = network.conditions
    exchange = node.exchanges = node.exchanges + 1
    sport = source_port or node.port()
    server = network.find(node, address)
    label = network.label(node.name, behaviour, about)
    at = now if now <= node.gateway_fresh_until else now + neighbours.sends(network, node, now)
    visible = node.link == "home"
    well_until = conditions.well_until(now) if visible else -NEVER
    if well_until > node.link_until:
        well_until = node.link_until
    calm = now < well_until or not visible or conditions.calm(now)
    source, jitter = (lease.address, sport), conditions.jitter_ns(node)
    seen = at + node.lan_ns
    deadline = now + timeout_ns
    if seen >= well_until:
        lost, extra = conditions.access(node, at, len(data) + HEADERS, upwards=True)
        seen += extra
        if lost or not network.alive(node, seen):
            return network.silence(node, deadline, label)
    me = (node.mac_int, node.ip, sport)
    peer_mac = server.mac_int if server is not None and server.mac_int else network.router.mac
    peer = (peer_mac, ip_number(address), port)
    record = network.record
    if visible:
        record(seen, label, exchange, 0, me, peer, _UDP | node.ttl << 8, data)
    answers, code, when = _ask(network, node, source, jitter, calm, server, port, data, seen)
    if code is not None:
        when += neighbours.hears(network, node, when)
        quoted = udp_packet(node.ttl, me[1:], peer[1:], data)
        refuser = server if code == PORT_UNREACHABLE else None
        network.unreachable(node, when, label, exchange, quoted, code, refuser)
        failure = Refused if code == PORT_UNREACHABLE else Unreachable
        if when + node.lan_ns <= deadline and when + node.lan_ns < node.link_until:
            return when + node.lan_ns, failure, b"", label, exchange
        return network.silence(node, deadline, label)
    end, result = deadline + 1, b""
    for leaves, answer in answers:
        if leaves > node.router_fresh_until:
            leaves += neighbours.hears(network, node, leaves)
        lost, extra = False, 0
        if leaves >= well_until:
            lost, extra = conditions.access(node, leaves, len(answer) + HEADERS, upwards=False)
            if not network.alive(node, leaves):
                continue
        if visible:
            ttl = server.ttl if server is not None else 64
            record(leaves, label, exchange, 1, peer, me, _UDP | ttl << 8, answer)
        arrives = leaves + node.lan_ns + extra
        if not lost and arrives < end:
            end, result = arrives, answer
    if end > deadline or end >= node.link_until:
        return network.silence(node, deadline, label)
    return end, None, result, label, exchange


def send(
    network: Network,
    node: Node,
    behaviour: str,
    address: str,
    port: int,
    data: bytes,
    about: About,
    source_port: int | None,
    ttl: int,
) -> int | None:
    """Send a datagram that nobody answers; return its label, None if it did not go out."""
    if node.lease is None or node.link == "down":
        return None
    node.exchanges += 1
    label = network.label(node.name, behaviour, about)
    seen = _passes(network, node, len(data) + HEADERS)
    if seen is not None:
        ip = ip_number(address)
        me = network.me(node, source_port or node.port())
        to = Station(group_mac(ip) if is_group(ip) else network.router.mac, ip, port)
        network.record(seen, label, node.exchanges, 0, me, to, t.meta(t.UDP, ttl, t.DONT_FRAGMENT), data)
    return label


def _passes(network: Network, node: Node, size: int) -> int | None:
    """Return when a frame that the device sends now passes the captured LAN, None if it never does."""
    lost, extra = network.conditions.access(node, network.env.now, size, upwards=True)
    seen = network.env.now + node.lan_ns + extra
    return seen if not lost and network.seen(node, seen) else None


def igmp(
    network: Network, node: Node, behaviour: str, group: str, message: bytes, about: About
) -> int | None:
    """Send an IGMP message (IP TTL 1, router alert); return its label, None if it did not go out."""
    if node.lease is None or node.link == "down":
        return None
    node.exchanges += 1
    label = network.label(node.name, behaviour, about)
    seen = _passes(network, node, len(message) + IGMP_HEADERS)
    if seen is not None:
        ip = ip_number(group)
        meta = t.meta(t.IGMP, 1, t.DONT_FRAGMENT | t.ROUTER_ALERT)
        to = Station(group_mac(ip), ip)
        network.record(seen, label, node.exchanges, 0, network.me(node), to, meta, message)
    return label


def lease(
    network: Network,
    node: Node,
    behaviour: str,
    message: bytes,
    server_address: str | None,
    timeout_ns: int,
    about: About,
) -> Exchanged:
    """Exchange a DHCP message with the network's server (RFC 2131 §4.1)."""
    if node.link == "down":
        raise LinkDown
    now = network.env.now
    node.exchanges += 1
    exchange = node.exchanges
    label = network.label(node.name, behaviour, about)
    server = network.router_server if node.link == "home" else network.elsewhere
    conditions = network.conditions
    lost, extra = conditions.access(node, now, len(message) + HEADERS, upwards=True)
    seen, deadline = now + node.lan_ns + extra, now + timeout_ns
    if lost or server is None or not network.alive(node, seen):
        return network.silence(node, deadline, label)
    unicast = server_address is not None and node.lease is not None
    me = Station(node.mac_int, node.ip if unicast else 0, DHCP_CLIENT_PORT)
    here = network.station(server, DHCP_SERVER_PORT)
    to = here if unicast else Station(BROADCAST_MAC, BROADCAST_IP, DHCP_SERVER_PORT)
    visible = node.link == "home"
    ident = exchange & 0xFFFF
    if visible:
        network.record(seen, label, exchange, 0, me, to, t.meta(t.UDP, node.model.ttl), message, ident)
    end, result = deadline + 1, b""
    source = (node.lease.address if unicast and node.lease else "0.0.0.0", DHCP_CLIENT_PORT)
    for reply in server.ports[DHCP_SERVER_PORT].handle(message, source, network.unix(seen)):
        leaves = seen + ROUTER_ANSWERS_NS + round(reply.delay_s * 1e9)
        lost, extra = conditions.access(node, leaves, len(reply.data) + HEADERS, upwards=False)
        if not network.alive(node, leaves):
            continue
        if visible:
            ip = ip_number(dhcp.target(dhcp.parse(reply.data)))
            client = Station(BROADCAST_MAC if ip == BROADCAST_IP else node.mac_int, ip, DHCP_CLIENT_PORT)
            network.record(leaves, label, exchange, 1, here, client, t.meta(t.UDP, 64), reply.data, ident)
        arrives = leaves + node.lan_ns + extra
        if not lost and arrives < end:
            end, result = arrives, reply.data
    if end > deadline or end >= node.link_until:
        return network.silence(node, deadline, label)
    return end, None, result, label, exchange
