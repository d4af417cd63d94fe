"""The simulated network as the hosts use it: what they send becomes records on the tape.

Rules of this file:
- An exchange's outcome and its end are settled when it begins (the timeline knows every change);
  the host then waits once. Frames that a power-off prevents are cut afterwards.
- What a device does elsewhere (on the open Wi-Fi) and before the capture begins leaves no record.
"""

from __future__ import annotations

from random import Random
from struct import pack
from typing import TYPE_CHECKING

from testbed.capture.write import Label
from testbed.host import About, LinkDown, NetError, NoReply, Refused, Unreachable
from testbed.protocols import dns
from testbed.scenario.addresses import number
from testbed.simulation import tape as t
from testbed.simulation.conditions import FORWARDING_NS, Conditions, Server
from testbed.simulation.node import NEVER, Node, ip_number, mac_number
from testbed.simulation.tcp import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simpy import Environment

    from testbed.host import Datagram
    from testbed.models import Topology
    from testbed.scenario.events import EventLog
    from testbed.simulation.streams import Library

BROADCAST_MAC = (1 << 48) - 1
BROADCAST_IP = (1 << 32) - 1
PROBE_AFTER_NS = 5_000_000_000
"""Linux probes a stale neighbour entry 5 s after its first use (delay_first_probe_time)."""
ARP_ANSWER_NS = 200_000
ECHO_BYTES = 56
DNS_PORT = 53
POOL_BYTES = 1 << 20

Exchanged = tuple[int, "type[NetError] | None", bytes, int]
"""When an exchange ends, how (None is success), the answer, and its first record's index."""


def multicast_mac(ip: int) -> int:
    """Return the Ethernet address of an IPv4 group (RFC 1112 §6.4) or of the broadcast address."""
    return BROADCAST_MAC if ip == BROADCAST_IP else 0x01005E000000 | ip & 0x7FFFFF


class Network:
    """The LAN, the router, the WAN and the fake Internet."""

    def __init__(
        self,
        env: Environment,
        topology: Topology,
        conditions: Conditions,
        servers: Mapping[str, Server],
        log: EventLog,
        begin_s: float,
        server_stack: Stack,
        seed: int,
    ) -> None:
        self.env, self.topology, self.conditions, self.log = env, topology, conditions, log
        self.servers = dict(servers)
        self.begin_s = begin_s
        self.server_stack = server_stack
        self.tape = t.Tape()
        self.library: Library
        self.pool = Random(number(seed, "ciphertext")).randbytes(POOL_BYTES)
        """What encrypted records are filled with."""
        self.labels: list[Label] = []
        self._label_index: dict[Label, int] = {}
        router = topology.router
        self.router_name = router.name
        self.router_mac = mac_number(router.mac)
        self.router_ip = ip_number(str(router.address))
        self.router_server = self.servers[str(router.address)]
        self.upstream: Server | None = None
        """The resolver that the router's forwarder asks."""
        self.dhcp_home: Server = self.router_server
        self.dhcp_elsewhere: Server | None = None
        self.router_reachable_ns = round(router.arp_reachable * 1e9)

    # --- helpers --------------------------------------------------------------------------

    def unix(self, at: int) -> float:
        """Return Unix seconds of a moment."""
        return self.begin_s + at / 1e9

    def label(self, device: str, behaviour: str, about: About) -> int:
        """Return the number of a label."""
        key = Label(device, behaviour, about.protocol, about.attempt, about.service)
        index = self._label_index.get(key)
        if index is None:
            index = self._label_index[key] = len(self.labels)
            self.labels.append(key)
        return index

    def gateway_of(self, node: Node) -> int:
        """Return the Ethernet address that the device's packets to other networks go to."""
        return self.router_mac

    def find(self, node: Node, address: str) -> Server | None:
        """Return who answers at an address, seen from a device; None if nobody does."""
        if node.link == "open" and node.lease is not None and address == node.lease.router:
            return self.dhcp_elsewhere
        server = self.servers.get(address)
        if server is not None and (server.station or server is self.router_server):
            if node.link != "home" or (server.station and server.station.link != "home"):
                return None
        return server

    def record(
        self, at: int, label: int, exchange: int, received: int, source: tuple[int, int, int],
        destination: tuple[int, int, int], meta: int, data: bytes, ident: int = 0,
    ) -> None:  # fmt: skip
        """Put one datagram on the tape; source and destination are MAC, IP, port."""
        if at < 0:
            return
        self.tape.datagrams.append(
            [
                at, NEVER, label, exchange, received, source[0], destination[0], source[1], destination[1],
                source[2], destination[2], meta, ident, self.tape.payload(data), len(data),
            ]  # fmt: skip
        )

    def cut(self, first: int, label_exchange: tuple[int, int], now: int) -> None:
        """Take back the datagrams of an exchange that would be captured after `now`."""
        for row in self.tape.datagrams[first:]:
            if row[t.D_AT] > now and (row[t.D_LABEL], row[t.D_EXCHANGE]) == label_exchange:
                row[t.D_CUT] = now

    # --- neighbours -----------------------------------------------------------------------

    def arp(
        self, at: int, node: Node, asker: tuple[int, int], asked: tuple[int, int], *, broadcast: bool, device_asks: bool
    ) -> None:
        """Record an ARP request and its answer (RFC 826); `asker` and `asked` are MAC, IP."""
        about = About("ARP")
        node.exchanges += 1
        target = BROADCAST_MAC if broadcast else asked[0]
        owner = self.router_name if broadcast and not device_asks else node.name
        label = self.label(owner, "kernel", about)
        answer = self.label(node.name, "kernel", about)
        head = b"\0\1\x08\0\6\4"
        request = (
            head + b"\0\1" + asker[0].to_bytes(6, "big") + asker[1].to_bytes(4, "big")
            + (b"\0" * 6 if broadcast else asked[0].to_bytes(6, "big")) + asked[1].to_bytes(4, "big")
        )  # fmt: skip
        reply = (
            head + b"\0\2" + asked[0].to_bytes(6, "big") + asked[1].to_bytes(4, "big")
            + asker[0].to_bytes(6, "big") + asker[1].to_bytes(4, "big")
        )  # fmt: skip
        sent = 0 if device_asks or owner == self.router_name else 1
        pause = ARP_ANSWER_NS if device_asks else ARP_ANSWER_NS + 2 * node.lan_ns
        self.record(at, label, node.exchanges, sent, (asker[0], 0, 0), (target, 0, 0), t.ARP, request)
        self.record(at + pause, answer, node.exchanges, int(device_asks), (asked[0], 0, 0), (asker[0], 0, 0), t.ARP, reply)

    def neighbour(self, node: Node, at: int, *, confirmed: bool) -> int:
        """Keep the entries of device and gateway for each other; return the delay of a first ARP.

        Linux's states (RFC 4861 §7.3.2 names): a stale entry in use is probed by unicast 5 s later,
        unless TCP progress confirms it meanwhile.
        """
        if node.link != "home":
            return 0
        me, gateway = (node.mac_int, node.ip), (self.router_mac, self.router_ip)
        delay = 0
        if node.gateway_stale is None:
            self.arp(at + node.lan_ns, node, me, gateway, broadcast=True, device_asks=True)
            delay = 2 * node.lan_ns + ARP_ANSWER_NS
            node.gateway_stale = at + node.reachable_ns()
            node.router_stale = at + node.reachable_ns()
        elif at > node.gateway_stale:
            if confirmed:
                node.gateway_stale = at + node.reachable_ns()
            else:
                probe = at + PROBE_AFTER_NS
                if self.usable(node, probe):
                    self.arp(probe + node.lan_ns, node, me, gateway, broadcast=False, device_asks=True)
                node.gateway_stale = probe + node.reachable_ns()
        elif confirmed:
            node.gateway_stale = max(node.gateway_stale, at + round(node.model.link.arp_reachable * 0.5e9))
        if node.router_stale is not None and at > node.router_stale:
            probe = at + PROBE_AFTER_NS
            if self.usable(node, probe):
                self.arp(probe, node, gateway, me, broadcast=False, device_asks=False)
            spread = 0.5 + node.rng.random()
            node.router_stale = probe + round(self.router_reachable_ns * spread)
        return delay

    def usable(self, node: Node, at: int) -> bool:
        """Tell whether a device will still be on the captured LAN at a later moment."""
        return node.link == "home" and at < node.link_until and self.conditions.lan_up(at)

    # --- datagrams ------------------------------------------------------------------------

    def datagram(
        self, node: Node, behaviour: str, address: str, port: int, data: bytes, timeout: int, about: About,
        source_port: int | None,
    ) -> Exchanged:  # fmt: skip
        """Send a datagram and settle what comes of it."""
        now = self.env.now
        if node.lease is None or node.link == "down":
            raise LinkDown
        node.exchanges += 1
        first = len(self.tape.datagrams)
        visible = node.link == "home"
        jitter = self.conditions.jitter_ns(node)
        sport = source_port or node.port()
        ip = ip_number(address)
        server = self.find(node, address)
        at = now + self.neighbour(node, now, confirmed=False)
        lost, extra = self.conditions.lan_loss(node, at) if self.conditions.disturbed else (False, 0)
        seen = at + node.lan_ns + extra
        deadline = now + timeout
        label = self.label(node.name, behaviour, about)
        me = (node.mac_int, node.ip, sport)
        peer_mac = self.router_mac if server is None or server.station is None else server.mac_int
        peer = (peer_mac, ip, port)
        kind = t.meta(t.UDP, node.model.ttl, t.DONT_FRAGMENT)
        if not self._carried(node, seen, lost):
            return self._silence(node, deadline, first)
        if visible:
            self.record(seen, label, node.exchanges, 0, me, peer, kind, data)
        answers, error, when = self._answer(node, server, port, data, (address, sport), seen, jitter, len(data) + 42)
        if error is not None:
            self._error(node, when, label, me, peer, data, kind, server, error)
            failure = Refused if error == 3 else Unreachable
            if when + node.lan_ns <= deadline and when < node.link_until:
                return when + node.lan_ns, failure, b"", first
            return self._silence(node, deadline, first)
        result: tuple[int, bytes] | None = None
        back = t.meta(t.UDP, server.ttl if server else 64, t.DONT_FRAGMENT)
        for leaves, answer in answers:
            lost, extra = self.conditions.lan_loss(node, leaves) if self.conditions.disturbed else (False, 0)
            if not self._alive(node, leaves):
                continue
            if visible:
                self.record(leaves, label, node.exchanges, 1, peer, me, back, answer)
            arrives = leaves + node.lan_ns + extra
            if not lost and arrives <= deadline and (result is None or arrives < result[0]):
                result = (arrives, answer)
        if result is None or result[0] >= node.link_until:
            return self._silence(node, deadline, first)
        self.neighbour(node, result[0], confirmed=False)
        return result[0], None, result[1], first

    def _carried(self, node: Node, seen: int, lost: bool) -> bool:
        return not lost and seen < node.link_until and self._alive(node, seen)

    def _alive(self, node: Node, at: int) -> bool:
        return at < node.link_until and (node.link == "open" or self.conditions.lan_up(at))

    def _silence(self, node: Node, deadline: int, first: int) -> Exchanged:
        if node.link_until <= deadline:
            return node.link_until, LinkDown, b"", first
        return deadline, NoReply, b"", first

    def _answer(
        self, node: Node, server: Server | None, port: int, data: bytes, peer: tuple[str, int], seen: int,
        jitter: int, size: int,
    ) -> tuple[Sequence[tuple[int, bytes]], int | None, int]:  # fmt: skip
        """Return the answers with the times at which they pass the router, or an ICMP error's code and time."""
        elsewhere = node.link == "open"
        gateway = server is self.router_server or (elsewhere and server is self.dhcp_elsewhere)
        if gateway and port == DNS_PORT:
            return self._forwarded(node, data, peer, seen, jitter)
        conditions = self.conditions
        calm = elsewhere or (conditions.calm(self.env.now) and seen < conditions.next_change)
        if server is not None and not server.delay_ns:  # on the LAN
            there = seen + (server.station.lan_ns if server.station else 0)
            service = server.ports.get(port)
            if service is None:
                return (), 3, there + FORWARDING_NS
            replies = service.handle(data, (self._source(node), peer[1]), self.unix(there))
            return [(there + FORWARDING_NS + round(r.delay_s * 1e9), r.data) for r in replies], None, 0
        crossing = 0
        if not elsewhere:
            if not calm and conditions.timeline.uplink.at(seen) != "up":
                when = conditions.unreachable_at(node, seen)
                if when is None:
                    return (), None, 0
                return (), 0 if conditions.timeline.uplink.at(seen) == "known" else 1, when
            extra = conditions.cross(node, seen, size, upwards=True) if self._crowded(calm) else 0
            if extra is None:
                return (), None, 0
            crossing = extra
        if server is None:
            return (), None, 0
        away = server.delay_ns + conditions.wan_ns + jitter
        there = seen + away + crossing
        if not calm and (how := conditions.down(server, port, there)) is not None:
            return (), 3 if how == "refused" else None, there + away
        service = server.ports.get(port)
        if service is None:
            return (), 3, there + away
        source = (self._source(node), peer[1])
        found: list[tuple[int, bytes]] = []
        for reply in service.handle(data, source, self.unix(there)):
            leaves = self._home(node, there + round(reply.delay_s * 1e9), away, len(reply.data) + 42, calm)
            if leaves is not None:
                found.append((leaves, reply.data))
        return found, None, 0

    def _crowded(self, calm: bool) -> bool:
        return not calm or self.conditions.up_bucket is not None

    def _home(self, node: Node, leaves: int, away: int, size: int, calm: bool) -> int | None:
        """Return when a packet from the Internet passes the router, None if it is lost."""
        if node.link == "open":
            return leaves + away
        conditions = self.conditions
        if not (calm and leaves + away < conditions.next_change) and conditions.timeline.uplink.at(leaves + away) != "up":
            return None
        extra = conditions.cross(node, leaves, size, upwards=False) if self._crowded(calm) else 0
        return None if extra is None else leaves + away + extra

    def _source(self, node: Node) -> str:
        """Return the client's address as the servers tell clients apart (before NAT: see docs, limits)."""
        return node.lease.address if node.lease else node.name

    def _forwarded(
        self, node: Node, data: bytes, peer: tuple[str, int], seen: int, jitter: int
    ) -> tuple[Sequence[tuple[int, bytes]], int | None, int]:
        """Ask the router's DNS forwarder: it forwards, refuses, or keeps silent, as its uplink is."""
        uplink = "up" if node.link == "open" else self.conditions.timeline.uplink.at(seen)
        if uplink == "known":
            return [(seen + FORWARDING_NS, dns.reply(data, (), rcode=5))], None, 0
        if uplink != "up" or self.upstream is None:
            return (), None, 0
        found, _, _ = self._answer(node, self.upstream, DNS_PORT, data, peer, seen + FORWARDING_NS, jitter, len(data) + 42)
        return [(at + FORWARDING_NS, answer) for at, answer in found], None, 0

    def _error(
        self, node: Node, when: int, label: int, me: tuple[int, int, int], peer: tuple[int, int, int], data: bytes,
        kind: int, server: Server | None, code: int,
    ) -> None:  # fmt: skip
        """Record an ICMP destination unreachable that quotes a UDP datagram (RFC 792)."""
        udp = pack(">HHHH", me[2], peer[2], len(data) + 8, _udp_checksum(me, peer, data))
        quoted = _ip_header(28 + len(data), 0, kind >> 8 & 255, 17, me[1], peer[1]) + udp + data
        self.unreachable(node, when, label, quoted, code, server if code == 3 else None, peer[1])

    def unreachable(
        self, node: Node, when: int, label: int, quoted: bytes, code: int, server: Server | None, peer_ip: int
    ) -> None:
        """Record an ICMP destination unreachable: from the peer itself, or from the router."""
        if not self._alive(node, when) or node.link != "home":
            return
        source = peer_ip if server is not None else self.router_ip
        ttl = server.ttl if server is not None else 64
        mac = server.mac_int if server is not None else self.router_mac
        about = About("ICMP", self.labels[label].service, self.labels[label].attempt)
        icmp = self.label(node.name, self.labels[label].behaviour, about)
        body = pack(">BBHI", 3, code, 0, 0) + quoted[:548]
        self.record(
            when, icmp, node.exchanges, 1, (mac, source, 0), (node.mac_int, node.ip, 0),
            t.meta(t.ICMP, ttl), body, node.rng.getrandbits(16),
        )  # fmt: skip

    def send(
        self, node: Node, behaviour: str, address: str, port: int, data: bytes, about: About, source_port: int | None,
        ttl: int,
    ) -> int | None:  # fmt: skip
        """Send a datagram that nobody answers; return its exchange, None if it went nowhere."""
        if node.lease is None or node.link == "down":
            return None
        node.exchanges += 1
        now = self.env.now
        seen = now + node.lan_ns
        if node.link == "home" and self.conditions.lan_up(seen) and seen < node.link_until:
            ip = ip_number(address)
            local = ip == BROADCAST_IP or ip >> 28 == 14
            mac = multicast_mac(ip) if local else self.router_mac
            self.record(
                seen, self.label(node.name, behaviour, about), node.exchanges, 0,
                (node.mac_int, node.ip, source_port or node.port()), (mac, ip, port),
                t.meta(t.UDP, ttl, t.DONT_FRAGMENT), data,
            )  # fmt: skip
        return node.exchanges

    def igmp(self, node: Node, behaviour: str, group: str, message: bytes, about: About) -> int | None:
        """Send an IGMP message (IP TTL 1, router alert)."""
        if node.lease is None or node.link == "down":
            return None
        node.exchanges += 1
        seen = self.env.now + node.lan_ns
        if self.usable(node, seen):
            ip = ip_number(group)
            self.record(
                seen, self.label(node.name, behaviour, about), node.exchanges, 0, (node.mac_int, node.ip, 0),
                (multicast_mac(ip), ip, 0), t.meta(t.IGMP, 1, t.DONT_FRAGMENT | t.ROUTER_ALERT), message,
            )  # fmt: skip
        return node.exchanges

    def dhcp(self, node: Node, behaviour: str, message: bytes, server: str | None, timeout: int, about: About) -> Exchanged:
        """Exchange a DHCP message with the network's server (RFC 2131 §4.1)."""
        now = self.env.now
        if node.link == "down":
            raise LinkDown
        node.exchanges += 1
        first = len(self.tape.datagrams)
        there = self.dhcp_home if node.link == "home" else self.dhcp_elsewhere
        seen = now + node.lan_ns
        deadline = now + timeout
        if there is None or not self._carried(node, seen, False):
            return self._silence(node, deadline, first)
        label = self.label(node.name, behaviour, about)
        unicast = server is not None and node.lease is not None
        me = (node.mac_int, node.ip if unicast else 0, 68)
        to = (self.router_mac, there.ip, 67) if unicast else (BROADCAST_MAC, BROADCAST_IP, 67)
        visible = node.link == "home"
        if visible:
            self.record(seen, label, node.exchanges, 0, me, to, t.meta(t.UDP, node.model.ttl), message, node.exchanges & 0xFFFF)
        service = there.ports[67]
        result: tuple[int, bytes] | None = None
        source = (node.lease.address if unicast and node.lease else "0.0.0.0", 68)
        for reply in service.handle(message, source, self.unix(seen)):
            leaves = seen + FORWARDING_NS + round(reply.delay_s * 1e9)
            if not self._alive(node, leaves):
                continue
            if visible:
                ip = ip_number(dhcp_target(reply))
                mac = BROADCAST_MAC if ip == BROADCAST_IP else node.mac_int
                self.record(
                    leaves, label, node.exchanges, 1, (self.router_mac, there.ip, 67), (mac, ip, 68),
                    t.meta(t.UDP, 64), reply.data, node.exchanges & 0xFFFF,
                )  # fmt: skip
            arrives = leaves + node.lan_ns
            if result is None and arrives <= deadline:
                result = (arrives, reply.data)
        if result is None or result[0] >= node.link_until:
            return self._silence(node, deadline, first)
        return result[0], None, result[1], first

    def ping(
        self, node: Node, behaviour: str, address: str, count: int, interval: int, timeout: int, about: About
    ) -> tuple[int, int, int]:
        """Send echo requests (RFC 792); return when it ends, how many answers came, the first record."""
        now = self.env.now
        if node.lease is None or node.link == "down":
            raise LinkDown
        node.exchanges += 1
        node.ping_id = node.ping_id % 0xFFFF + 1
        first = len(self.tape.datagrams)
        label = self.label(node.name, behaviour, about)
        ip = ip_number(address)
        server = self.find(node, address)
        jitter = self.conditions.jitter_ns(node)
        visible = node.link == "home"
        mac = server.mac_int if server is not None and server.station else self.router_mac
        start = now + self.neighbour(node, now, confirmed=False)
        answered, last = 0, now
        filler = bytes(range(8, 8 + ECHO_BYTES))
        for sequence in range(1, count + 1):
            sent = start + (sequence - 1) * interval
            seen = sent + node.lan_ns
            last = max(last, sent + timeout) if sequence == count and answered < count - 1 else max(last, sent)
            if not self._alive(node, seen):
                continue
            tail = pack(">HH", node.ping_id, sequence) + filler
            if visible:
                self.record(
                    seen, label, node.exchanges, 0, (node.mac_int, node.ip, 0), (mac, ip, 0),
                    t.meta(t.ICMP, node.model.ttl, t.DONT_FRAGMENT), b"\x08\0\0\0" + tail,
                )  # fmt: skip
            back = self._echoed(node, server, seen, jitter, label, tail, ip)
            if back is not None and self._alive(node, back):
                if visible:
                    self.record(
                        back, label, node.exchanges, 1, (mac, ip, 0), (node.mac_int, node.ip, 0),
                        t.meta(t.ICMP, server.ttl if server else 64), b"\0\0\0\0" + tail, node.exchanges & 0xFFFF,
                    )  # fmt: skip
                if back + node.lan_ns <= sent + timeout:
                    answered += 1
                    last = max(last, back + node.lan_ns)
                    continue
            last = max(last, sent + timeout)
        return last, answered, first

    def _echoed(
        self, node: Node, server: Server | None, seen: int, jitter: int, label: int, tail: bytes, ip: int
    ) -> int | None:
        """Return when the echo reply passes the router; record the ICMP error if there is one."""
        conditions = self.conditions
        if server is not None and not server.delay_ns:
            return seen + FORWARDING_NS + (2 * server.station.lan_ns if server.station else 0)
        if node.link != "open":
            if conditions.timeline.uplink.at(seen) != "up":
                when = conditions.unreachable_at(node, seen)
                if when is not None:
                    body = b"\x08\0" + _checksum(b"\x08\0\0\0" + tail).to_bytes(2, "big") + tail
                    quoted = _ip_header(20 + len(body), 0, node.model.ttl, 1, node.ip, ip) + body
                    code = 0 if conditions.timeline.uplink.at(seen) == "known" else 1
                    self.unreachable(node, when, label, quoted, code, None, ip)
                return None
            extra = conditions.cross(node, seen, 98, upwards=True)
            if extra is None:
                return None
            seen += extra
        if server is None or conditions.down(server, 0, seen) == "silent":
            return None
        away = server.delay_ns + conditions.wan_ns + jitter
        return self._home(node, seen + away, away, 98, conditions.calm(self.env.now))


def dhcp_target(reply: Datagram) -> str:
    """Return the address a DHCP server's message goes to."""
    from testbed.protocols import dhcp

    return dhcp.target(dhcp.parse(reply.data))


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ip_header(length: int, ident: int, ttl: int, protocol: int, source: int, destination: int) -> bytes:
    """Return an IPv4 header without options, don't-fragment set."""
    head = pack(">BBHHHBBHII", 0x45, 0, length, ident, 0x4000, ttl, protocol, 0, source, destination)
    return head[:10] + _checksum(head).to_bytes(2, "big") + head[12:]


def _udp_checksum(me: tuple[int, int, int], peer: tuple[int, int, int], data: bytes) -> int:
    size = len(data) + 8
    pseudo = pack(">IIBBH", me[1], peer[1], 0, 17, size) + pack(">HHHH", me[2], peer[2], size, 0)
    return _checksum(pseudo + data) or 0xFFFF


def quote_segment(
    ttl: int, ident: int, source: tuple[int, int], destination: tuple[int, int], seq: int, ack: int, size: int
) -> bytes:
    """Return what a router quotes of a TCP segment: its IP header and the first 8 bytes behind it."""
    head = _ip_header(size, ident, ttl, 6, source[0], destination[0])
    return head + pack(">HHI", source[1], destination[1], seq & 0xFFFFFFFF)
