"""A home router: a Linux host that forwards and translates, with DHCP, DNS and the group querier.

Forwarding, NAT (nftables) and every ICMP error are the kernel's. The programs on it are ours: the
DHCP server and the DNS forwarder on real sockets, the IGMP querier on a raw one. Linux limits its
ICMP errors by real time; under the virtual clock the loop keeps that limit.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from testbed.emulation import frames
from testbed.emulation.device import INTERFACE
from testbed.emulation.loop import NS
from testbed.emulation.wan import GATEWAY, PREFIX
from testbed.errors import WorldError
from testbed.host import About
from testbed.kernel.icmp_limit import ErrorBucket
from testbed.protocols import dhcp, dns, igmp

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.emulation.loop import Loop, Timer
    from testbed.emulation.recorder import Recorder
    from testbed.emulation.stations import Interface, Station
    from testbed.emulation.wan import Uplink
    from testbed.host import Service
    from testbed.models.topology import IgmpQuerier
    from testbed.services.home_names import HomeNames

WAN = "wan0"
ALL_SYSTEMS = "224.0.0.1"
QUERIER = "igmp_querier"
_DISCARD, _DNS = 9, 53
_LARGEST = 65_536
_FORWARDER_WAITS_S = 10.0
_STARTUP_QUERIES = 2
_NET_UNREACHABLE = (3, 0)
_ICMP_ERRORS = (3, 4, 11, 12)
"""Unreachable, source quench, time exceeded, parameter problem: the types Linux limits."""

_RULES = f"""
table ip nat {{
  chain postrouting {{
    type nat hook postrouting priority 100;
    oifname "{WAN}" masquerade
  }}
}}
table ip uplink {{
  chain forward {{
    type filter hook forward priority 0;
  }}
}}
"""
_NO_UPSTREAM = f'add rule ip uplink forward oifname "{WAN}" reject with icmp type net-unreachable'
_UPSTREAM = "flush chain ip uplink forward"


class ErrorLimit:
    """The limit on ICMP errors, by the loop's clock.

    An error about a translated packet goes to the router itself first, over its loopback, and is not
    limited.
    """

    def __init__(self, loop: Loop, wan_address: str) -> None:
        self._loop = loop
        self._behind_nat = socket.inet_aton(wan_address)
        self._buckets: dict[bytes, ErrorBucket] = {}

    def passes(self, frame: bytes) -> bool:
        """Tell whether an ICMP message may go out."""
        kind, code = frame[14 + (frame[14] & 15) * 4 :][:2]
        if kind not in _ICMP_ERRORS or frame[26:30] == self._behind_nat:
            return True
        bucket = self._buckets.setdefault(frame[30:34], ErrorBucket())
        return bucket.allows(self._loop.now_ns, no_route=(kind, code) == _NET_UNREACHABLE)


class Router:
    """The router of a home: power, uplink, and the programs on it."""

    def __init__(
        self,
        loop: Loop,
        station: Station,
        lan: Interface,
        wan: Interface,
        address: tuple[str, int],
        wan_address: str,
        dhcp_server: Service,
        upstream: str | None,
        home_names: HomeNames,
    ) -> None:
        """Configure the host; `address` is the LAN's with its prefix, `upstream` the ISP's resolver."""
        self._loop, self._station = loop, station
        self._lan, self._wan = lan, wan
        self._address, self._prefix = address
        self._wan_address = wan_address
        self._dhcp = dhcp_server
        self._upstream = upstream
        self._home_names = home_names
        self._knows_upstream = True
        self._port = 0
        self.forwarded: dict[int, tuple[str, int]] = {}
        """Port of a forwarded DNS query -> the client that asked."""
        station.namespace.settings({"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.send_redirects": 0,
                                    "net.ipv4.conf.default.send_redirects": 0,
                                    f"net.ipv4.conf.{INTERFACE}.send_redirects": 0})  # fmt: skip
        netlink = station.netlink
        netlink.add_address(INTERFACE, self._address, self._prefix)
        netlink.add_address(WAN, wan_address, PREFIX)
        for interface, own in ((lan, self._address), (wan, wan_address)):
            if interface.neighbours is not None:
                interface.neighbours.address = own
        if not loop.real:
            lan.limit_error = ErrorLimit(loop, wan_address).passes
        _filter(station, _RULES)
        netlink.add_route(WAN, "0.0.0.0", 0, GATEWAY)
        self._dhcp_socket = self._listen(dhcp.SERVER_PORT, "0.0.0.0", self._heard_dhcp)
        self._dns_socket = self._listen(_DNS, self._address, self._heard_dns)
        self._raw = station.socket(socket.SOCK_RAW, socket.htons(frames.IPV4), socket.AF_PACKET)
        self._raw.bind((INTERFACE, 0))

    def _listen(self, port: int, address: str, readable: Callable[[], None]) -> socket.socket:
        opened = self._station.socket(socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        opened.bind((address, port))
        self._loop.watch(opened.fileno(), readable)
        return opened

    # --- uplink and power --------------------------------------------------------------------

    def set_uplink(self, state: str, uplink: Uplink) -> None:
        """Be `up`, `silent` (the cable is out and the router does not know), `known`, or `off`."""
        uplink.plugged = state == "up"
        knows = state in ("up", "silent")
        if knows == self._knows_upstream:
            return
        if knows:
            self._loop.call_soon(self.greet)
        self._knows_upstream = knows
        if not self._loop.real:
            # Without a route the kernel limits its errors by real time; a rule makes the same error.
            _filter(self._station, _UPSTREAM if knows else _NO_UPSTREAM)
        elif knows:
            self._station.netlink.add_route(WAN, "0.0.0.0", 0, GATEWAY)
        else:
            self._station.netlink.remove_route(WAN, "0.0.0.0", 0)

    def greet(self) -> None:
        """Say something to the ISP's gateway, as its DHCP and time clients would."""
        with suppress(OSError), self._station.socket(socket.SOCK_DGRAM) as opened:
            opened.sendto(b"", (GATEWAY, _DISCARD))
        self._station.look()

    def restart(self) -> None:
        """Forget what a router without a disk forgets: connections, neighbours, leases."""
        self._station.netlink.forget_connections()
        for interface in (self._lan, self._wan):
            if interface.neighbours is not None:
                interface.neighbours.forget_all()
        forget = getattr(self._dhcp, "forget", None)
        if forget is not None:
            forget()

    # --- DHCP ----------------------------------------------------------------------------------

    def _heard_dhcp(self) -> None:
        try:
            data, peer = self._dhcp_socket.recvfrom(_LARGEST)
        except OSError:
            return
        for reply in self._dhcp.handle(data, peer, self._loop.now()):
            self._loop.call_later(reply.delay_s, lambda answer=reply.data: self._answer_dhcp(answer))  # type: ignore[misc]

    def _answer_dhcp(self, data: bytes) -> None:
        """Send an answer straight to the client's hardware: it may have no address to ask ARP for."""
        message = dhcp.parse(data)
        target = dhcp.target(message)
        mac = frames.BROADCAST if target == "255.255.255.255" else frames.mac_bytes(message.mac)
        frame = frames.udp_frame(
            self._lan.mac, mac, (self._address, dhcp.SERVER_PORT), (target, dhcp.CLIENT_PORT), data
        )
        self._raw.send(frame)
        self._station.look()

    # --- DNS -----------------------------------------------------------------------------------

    def _heard_dns(self) -> None:
        try:
            query, client = self._dns_socket.recvfrom(_LARGEST)
        except OSError:
            return
        if (own := self._home_names.answer(query, client[0])) is not None:
            self._dns_socket.sendto(own, client)
            self._station.look()
        elif not self._knows_upstream:
            self._dns_socket.sendto(dns.reply(query, (), dns.REFUSED), client)
            self._station.look()
        elif self._upstream is not None:
            self._forward(query, client, self._upstream)

    def _forward(self, query: bytes, client: tuple[str, int], upstream: str) -> None:
        """Pass a query on from a port of its own, and the answer back."""
        self._port = (self._port + 1) % 16_384
        port = 16_384 + self._port
        opened = self._station.socket(socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((self._wan_address, port))
        self.forwarded[port] = client

        def done() -> None:
            timer.cancel()
            self._loop.forget(opened.fileno())
            opened.close()
            self.forwarded.pop(port, None)

        def readable() -> None:
            try:
                answer = opened.recv(_LARGEST)
            except OSError:
                done()
                return
            done()
            with suppress(OSError):  # the client is gone
                self._dns_socket.sendto(answer, client)
            self._station.look()

        timer: Timer = self._loop.call_later(_FORWARDER_WAITS_S, done)
        self._loop.watch(opened.fileno(), readable)
        try:
            opened.connect((upstream, _DNS))
            opened.send(query)
        except OSError:
            done()
        self._station.look()

    # --- groups --------------------------------------------------------------------------------

    async def query_groups(
        self,
        querier: IgmpQuerier,
        recorder: Recorder,
        name: str,
        boots_ns: list[int],
        running: Callable[[], bool],
    ) -> None:
        """Be the IGMP querier of the LAN (RFC 2236 §3): general queries, faster at first."""
        loop = self._loop
        opened = self._station.socket(socket.SOCK_RAW, socket.IPPROTO_IGMP)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x94\x04\0\0")  # router alert
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        index = self._station.namespace.call(lambda: socket.if_nametoindex(INTERFACE))
        interface = struct.pack("4s4si", b"\0" * 4, b"\0" * 4, index)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        message = igmp.query(version=querier.version, max_response_s=querier.max_response)
        interval_ns = round(querier.interval * NS)
        startup = _STARTUP_QUERIES
        due_ns = loop.now_ns
        while True:
            await loop.sleep_until_ns(due_ns)
            booted = next((at for at in boots_ns if at > loop.now_ns), None)
            if running():
                about = About("IGMP", ALL_SYSTEMS)
                recorder.claim(
                    name, frames.IGMP, 0, recorder.cause(name, QUERIER, about, recorder.exchange(name))
                )
                self._lan.igmp_expected += 1
                opened.sendto(message, (ALL_SYSTEMS, 0))
                self._station.look()
                self._lan.igmp_expected = 0
            startup = max(0, startup - 1)
            due_ns = loop.now_ns + (interval_ns // 4 if startup else interval_ns)
            if booted is not None and booted <= due_ns:
                due_ns, startup = booted, _STARTUP_QUERIES


def _filter(station: Station, rules: str) -> None:
    """Hand rules to nftables in the router's namespace."""
    done = station.namespace.call(
        lambda: subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    )
    if done.returncode:
        raise WorldError(f"nftables refused the router's rules: {done.stderr.strip()}")
