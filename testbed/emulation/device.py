"""A device as the emulated world knows it: its Mininet host, its link, its address, its tasks."""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Protocol

from testbed.emulation import frames, packet_filter
from testbed.emulation.loop import Future
from testbed.emulation.tls import TESTBED
from testbed.host import Board, Lease, LinkDown
from testbed.scenario.addresses import number

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from testbed.emulation.lan import Port
    from testbed.emulation.loop import Loop, Task
    from testbed.emulation.recorder import Recorder
    from testbed.emulation.stations import Interface, Station
    from testbed.host import About, TlsHello
    from testbed.models import DeviceModel
    from testbed.scenario.events import EventLog

INTERFACE = "eth0"
_FIRST_PORT, _PORTS = 32_768, 28_232
"""Linux's range of ephemeral ports."""
_PORT_STEP = 7_919
_DHCP_CLIENT = 68
_UDP_HEADERS = 42
_LARGEST_FRAME = 2048
_IGMP_QUERY = 0x11


class Loses(Protocol):
    """What ends with the link or the power."""

    def vanish(self) -> None:
        """End without a word on the wire."""


class Device:
    """One device: what its tasks share."""

    def __init__(
        self,
        loop: Loop,
        name: str,
        model: DeviceModel,
        mac: str,
        seed: int,
        recorder: Recorder,
        log: EventLog,
        begin_ns: int,
    ) -> None:
        self.loop = loop
        self.name, self.model, self.mac, self.seed = name, model, mac, seed
        self.recorder = recorder
        self.log = log
        self._begin_ns = begin_ns
        self.board = Board()
        self.parent: Device | None = None
        self.station: Station
        self.interface: Interface
        self.port: Port | None = None
        self.lease: Lease | None = None
        self.powered = False
        self.link = "down"
        self.tasks: dict[str, Task] = {}
        self.spawned: dict[str, int] = {}
        self.streams: set[Loses] = set()
        self.tls_sessions: dict[tuple[str, int, str], ssl.SSLSession] = {}
        self.expect_tls: Callable[[tuple[str, int], TlsHello], None]
        self.authorities: str | None = TESTBED
        """Whose certificates it trusts (see `testbed.emulation.tls.client_end`)."""
        self.ping_id = 0
        self._waits: set[Future] = set()
        self._query_waiters: list[Future] = []
        self._igmp: socket.socket | None = None
        self._raw_dhcp: socket.socket | None = None
        self._dhcp_answers: dict[bytes, Future] = {}
        self._groups: socket.socket | None = None
        self._port_index = number(seed, name, "ports") % _PORTS

    def plug_in(self, station: Station, interface: Interface) -> None:
        """Give the device its Mininet host."""
        self.station, self.interface = station, interface
        self._index = station.namespace.call(lambda: socket.if_nametoindex(INTERFACE))
        # A DHCP client listens on its port all the time; without, late answers would be refused.
        self._quiet = station.socket(socket.SOCK_DGRAM)
        self._quiet.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._quiet.bind(("0.0.0.0", _DHCP_CLIENT))

    @property
    def associated(self) -> bool:
        """Whether there is a link."""
        return self.link != "down"

    def next_port(self) -> int:
        """Return a source port: every one of Linux's range before any comes again."""
        self._port_index = (self._port_index + _PORT_STEP) % _PORTS
        return _FIRST_PORT + self._port_index

    # --- what exchanges are written down as --------------------------------------------------

    def claim(self, behaviour: str, about: About, protocol: int, port: int) -> int:
        """Number a new exchange, and tie what goes through the port to it."""
        exchange = self.recorder.exchange(self.name)
        self.recorder.claim(
            self.name, protocol, port, self.recorder.cause(self.name, behaviour, about, exchange)
        )
        return exchange

    def log_exchange(self, behaviour: str, about: About, exchange: int, outcome: str) -> None:
        """Write down how an exchange ended."""
        now_ns = self.loop.now_ns - self._begin_ns
        self.log.exchange(now_ns, self.name, behaviour, about, exchange, outcome)

    def note(self, behaviour: str, event: str, outcome: str = "", why: str = "", **details: object) -> None:
        """Write down anything else."""
        now_ns = self.loop.now_ns - self._begin_ns
        self.log.note(now_ns, self.name, behaviour, event, outcome, why, **details)

    # --- power, link, address ------------------------------------------------------------------

    async def wait(self, future: Future, timeout_s: float | None, otherwise: object) -> object:
        """Wait for an answer; raises LinkDown as soon as the link goes."""
        self._waits.add(future)
        try:
            return await self.loop.within(future, timeout_s, otherwise)
        finally:
            self._waits.discard(future)

    def set_link(self, state: str) -> None:
        """Move the link: `down`, `home`, or `open` on another network; whatever went over it breaks."""
        if self.port is not None:
            self.port.link = "down"
        self.link = state
        self.note("world", "link", "down" if state == "down" else "up", why=state)
        self.lose_connections()
        if self.powered:
            if state == "down":
                self.configure(None)
            self.board.set("associated", state != "down")
        if self.port is not None:
            self.port.link = state

    def lose_connections(self) -> None:
        """Break whatever is under way, because the link or the power went."""
        for stream in list(self.streams):
            stream.vanish()
        for future in list(self._waits):
            future.fail(LinkDown())
        if self.station.tcp is not None:
            self.station.tcp.drop_all()

    def configure(self, lease: Lease | None) -> None:
        """Set or take away the interface's IPv4 configuration."""
        netlink, neighbours = self.station.netlink, self.interface.neighbours
        old = self.lease
        if old is not None and (lease is None or old.address != lease.address):
            if neighbours is not None:
                neighbours.forget_all()
            netlink.remove_address(INTERFACE, old.address, old.prefix)
        if lease is not None and (old is None or old.address != lease.address):
            netlink.add_address(INTERFACE, lease.address, lease.prefix)
            network = IPv4Network((lease.address, lease.prefix), strict=False)
            metrics = self.station.route_metrics
            netlink.add_route(INTERFACE, str(network.network_address), lease.prefix, None, metrics)
        if lease is not None and (old is None or old.router != lease.router or old.address != lease.address):
            netlink.add_route(INTERFACE, "0.0.0.0", 0, lease.router, self.station.route_metrics)
        if neighbours is not None:
            neighbours.address = lease.address if lease is not None else "0.0.0.0"
        if self.port is not None:
            self.port.address = socket.inet_aton(lease.address) if lease is not None else b""
        self.lease = lease
        self.board.set("lease", lease)

    # --- groups ----------------------------------------------------------------------------------

    def group(self, action: str, group: str) -> None:
        """Join or leave a multicast group in the kernel; its own reports are held back."""
        if self._groups is None:
            self._groups = self.station.socket(socket.SOCK_DGRAM)
        option = socket.IP_ADD_MEMBERSHIP if action == "join" else socket.IP_DROP_MEMBERSHIP
        request = struct.pack("4s4si", socket.inet_aton(group), b"\0" * 4, self._index)
        with suppress(OSError):  # joined, or left, already
            self._groups.setsockopt(socket.IPPROTO_IP, option, request)
        self.station.look()
        if self.port is not None:
            (self.port.groups.add if action == "join" else self.port.groups.discard)(socket.inet_aton(group))
        self.board.set(f"group {group}", action == "join")

    def igmp_socket(self) -> socket.socket:
        """Return the socket for IGMP, open from its first use to the power-off."""
        if self._igmp is None:
            opened = self._igmp = self.station.socket(socket.SOCK_RAW, socket.IPPROTO_IGMP)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x94\x04\0\0")  # router alert
            self.multicast_from(opened, 1)
            self.loop.watch(opened.fileno(), self._heard_igmp)
        return self._igmp

    def query(self) -> Future:
        """Return what the next IGMP query on the link resolves."""
        self.igmp_socket()
        future = Future()
        self._query_waiters.append(future)
        return future

    def _heard_igmp(self) -> None:
        assert self._igmp is not None
        try:
            packet = self._igmp.recv(2048)
        except OSError:
            return
        message = packet[(packet[0] & 15) * 4 :]
        if message[:1] == bytes([_IGMP_QUERY]):
            waiting, self._query_waiters = self._query_waiters, []
            for future in waiting:
                future.resolve(message)

    def multicast_from(self, opened: socket.socket, ttl: int) -> None:
        """Let a socket send multicasts over the device's interface."""
        interface = struct.pack("4s4si", b"\0" * 4, b"\0" * 4, self._index)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    @contextmanager
    def dhcp_answer(self, xid: bytes) -> Iterator[tuple[socket.socket, Future]]:
        """Give the packet socket for DHCP, and what an answer to transaction `xid` resolves meanwhile.

        The socket stays open: the kernel takes milliseconds to open or close one.
        """
        if self._raw_dhcp is None:
            opened = self._raw_dhcp = self.station.socket(socket.SOCK_RAW, 0, socket.AF_PACKET)
            packet_filter.attach(opened, packet_filter.for_udp_port(_DHCP_CLIENT))
            opened.bind((INTERFACE, frames.IPV4))
            self.loop.watch(opened.fileno(), self._heard_dhcp)
        answer = self._dhcp_answers[xid] = Future()
        try:
            yield self._raw_dhcp, answer
        finally:
            self._dhcp_answers.pop(xid, None)

    def _heard_dhcp(self) -> None:
        assert self._raw_dhcp is not None
        try:
            message = self._raw_dhcp.recv(_LARGEST_FRAME)[_UDP_HEADERS:]
        except OSError:  # somebody switched the interface off
            return
        if (answer := self._dhcp_answers.get(message[4:8])) is not None:
            answer.resolve(message)

    def power_off(self) -> None:
        """Forget everything a device forgets without power."""
        for task in list(self.tasks.values()):
            task.cancel()
        self.tasks.clear()
        if self.mac and self.lease is not None:
            self.configure(None)
        for opened in (self._igmp, self._groups):
            if opened is not None:
                self.loop.forget(opened.fileno())
                opened.close()
        self._igmp = self._groups = None
        if self.port is not None:
            self.port.groups.clear()
        self._query_waiters.clear()
        self.tls_sessions.clear()
        self.board = Board()
