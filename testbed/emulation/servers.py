"""Services on real sockets: datagrams and connections go in, what the service answers comes out."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from testbed.emulation.inbox import Inbox
from testbed.emulation.tcp_timers import TcpTimers
from testbed.host import Answer, Session
from testbed.services.datagrams import DatagramsOnly

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.emulation.loop import Loop, Timer
    from testbed.emulation.stations import Station
    from testbed.emulation.tcp_timers import Connection as TcpRecord
    from testbed.emulation.tls import Certificates, TlsEnd
    from testbed.host import Service

_LARGEST = 65_536
_TLS_HANDSHAKE = b"\x16\x03"
_CLIENT_HELLO = 1
_TCP_QUICKACK = 12
_TCP_REPAIR = 19
_SEND_PENDING_ACK = 2
"""A value of TCP_QUICKACK that sends the delayed ACK and leaves the mode as it was."""


def vanish(connection: socket.socket) -> None:
    """Close a connection without a word to the peer, as a kernel that gave it up does."""
    with suppress(OSError):  # no longer connected: closing says nothing either
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    connection.close()


def send_pending_ack(connection: socket.socket) -> None:
    """Make the kernel send the ACK it is delaying, if it is."""
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, _SEND_PENDING_ACK)


def delay_acks(connection: socket.socket) -> None:
    """Make the kernel delay ACKs wherever it may (its interactive mode)."""
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 0)


def reset(connection: socket.socket) -> None:
    """Close a connection with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def open_ports(
    loop: Loop,
    station: Station,
    at: tuple[str, int],
    service: Service,
    origin: Callable[[int, tuple[str, int], str, int], tuple[str, int]],
    certificates: Certificates,
) -> list[DatagramPort | ConnectionPort]:
    """Let a service answer at an address and port, by datagrams and, where it can, connections."""
    datagrams = DatagramPort(loop, station, *at, service, origin)
    if isinstance(service, DatagramsOnly):
        return [datagrams]
    return [datagrams, ConnectionPort(loop, station, *at, service, origin, certificates)]


class DatagramPort:
    """A service's UDP socket at one address."""

    def __init__(
        self,
        loop: Loop,
        station: Station,
        address: str,
        port: int,
        service: Service,
        origin: Callable[[int, tuple[str, int], str, int], tuple[str, int]],
    ) -> None:
        """Answer at `address`:`port`; `origin` tells the client from what the NAT shows."""
        self._loop = loop
        self._station = station
        self._address = (address, port)
        self._service = service
        self._origin = origin
        self._socket: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Begin to answer."""
        if self._socket is None:
            opened = self._socket = self._station.socket(socket.SOCK_DGRAM)
            opened.bind(self._address)
            self._loop.watch(opened.fileno(), self._readable)

    def close(self) -> None:
        """Answer no more: the kernel says that the port is unreachable."""
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data, peer = self._socket.recvfrom(_LARGEST)
        except OSError:
            return
        client = self._origin(socket.IPPROTO_UDP, peer, *self._address)
        for reply in self._service.handle(data, client, self._loop.now()):
            if reply.delay_s:
                self._loop.call_later(reply.delay_s, lambda answer=reply.data: self._send(answer, peer))  # type: ignore[misc]
            else:
                self._send(reply.data, peer)

    def _send(self, data: bytes, peer: tuple[str, int]) -> None:
        if self._socket is not None:
            with suppress(OSError):  # no way to the client: the answer is lost
                self._socket.sendto(data, peer)
            self._station.look()


class ConnectionPort:
    """A service's listening TCP socket at one address."""

    def __init__(
        self,
        loop: Loop,
        station: Station,
        address: str,
        port: int,
        service: Service,
        origin: Callable[[int, tuple[str, int], str, int], tuple[str, int]],
        certificates: Certificates,
    ) -> None:
        """Take connections at `address`:`port`, TLS ones too."""
        self.loop = loop
        self.station = station
        self.address = (address, port)
        self.service = service
        self.certificates = certificates
        self._origin = origin
        self._socket: socket.socket | None = None
        self.connections: set[Connection] = set()
        self.open()

    def open(self) -> None:
        """Begin to listen."""
        if self._socket is None:
            opened = self._socket = self.station.socket(socket.SOCK_STREAM)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(self.address)
            opened.listen(512)
            self.loop.watch(opened.fileno(), self._readable)

    def close(self) -> None:
        """Listen no more: the kernel refuses connections."""
        if self._socket is not None:
            self.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def drop_connections(self) -> None:
        """Forget every connection without a word (the host lost its power)."""
        for connection in list(self.connections):
            connection.vanish()

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            accepted, peer = self._socket.accept()
        except OSError:
            return
        accepted.setblocking(False)
        client = self._origin(socket.IPPROTO_TCP, peer, *self.address)
        self.connections.add(Connection(self, accepted, peer, client))


class Connection:
    """One connection of a client, seen from its server."""

    def __init__(
        self, port: ConnectionPort, accepted: socket.socket, peer: tuple[str, int], client: tuple[str, int]
    ) -> None:
        self._port = port
        self._loop = port.loop
        self._socket = accepted
        self._inbox = Inbox(self._loop, accepted, self._readable)
        self._tls: TlsEnd | None = None
        self._first = True
        self._out = b""
        self._closing = False
        self._waiting: list[Timer] = []
        self._record: TcpRecord | None = None
        self._session: Session = port.service.session(client, self._loop.now())
        station = port.station
        if station.tcp is not None:
            address, number = accepted.getsockname()
            key = (socket.inet_aton(address), number, socket.inet_aton(peer[0]), peer[1])
            delay_acks(accepted)
            self._record = station.tcp.program(
                key, self._acknowledge, lambda: delay_acks(accepted), self.vanish
            )
        self._loop.watch(accepted.fileno(), self._readable)

    def _acknowledge(self) -> None:
        self._inbox.read_ahead()
        send_pending_ack(self._socket)
        self._port.station.look()

    def _readable(self) -> None:
        try:
            data = self._inbox.read()
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        if self._first and data:
            self._first = False
            if data[:2] == _TLS_HANDSHAKE and len(data) > 5 and data[5] == _CLIENT_HELLO:
                self._tls = self._port.certificates.server_side(self._port.address, data)
        if not data:
            self._hang_up()
            return
        if self._tls is None:
            self._heard(data)
        else:
            plain, out, ended = self._tls.feed(data)
            if out:
                self._send(out)
            if plain:
                self._heard(plain)
            if ended and not self._closing:
                self._hang_up()
        self._port.station.look()

    def _heard(self, data: bytes) -> None:
        now = self._loop.now()
        expired = getattr(self._session, "expired", None)
        if expired is not None and expired(now):
            self._reset()
            return
        answer = self._session.receive(data, now)
        if answer is None:
            return
        if answer.think_s:
            self._waiting.append(self._loop.call_later(answer.think_s, lambda: self._say(answer)))
        else:
            self._say(answer)

    def _say(self, answer: Answer) -> None:
        if self._closing:
            return
        if answer.data:
            self._send(self._tls.protect(answer.data) if self._tls is not None else answer.data)
        if answer.close:
            self._hang_up()
        self._port.station.look()

    def _send(self, data: bytes) -> None:
        self._out += data
        self._pump()

    def _pump(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                self._loop.watch_writable(self._socket.fileno(), self._writable)
                return
            except OSError:
                self._end()
                return
            self._out = self._out[sent:]
        if self._socket.fileno() >= 0:
            self._loop.watch_writable(self._socket.fileno(), None)
            if self._closing:
                self._shut()

    def _writable(self) -> None:
        self._pump()
        self._port.station.look()

    def _hang_up(self) -> None:
        """Close in good order, once everything is sent."""
        if self._closing:
            self._end()
            return
        self._closing = True
        if not self._out:
            self._shut()

    def _shut(self) -> None:
        """Send the FIN; the socket stays until the client's comes."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._end()

    def _reset(self) -> None:
        self._forget()
        reset(self._socket)
        self._port.station.look()

    def vanish(self) -> None:
        """Drop the connection silently."""
        self._forget()
        vanish(self._socket)

    def _end(self) -> None:
        self._forget()
        self._socket.close()
        self._port.station.look()

    def _forget(self) -> None:
        self._inbox.forget()
        if self._record is not None:
            TcpTimers.release(self._record)
        for timer in self._waiting:
            timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
        self._port.connections.discard(self)
        self._closing = True
