"""A device's TCP connection on a real socket, plain or TLS (see `testbed.host.Stream`)."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from testbed.emulation.frames import TCP
from testbed.emulation.inbox import Inbox
from testbed.emulation.loop import Future
from testbed.emulation.servers import delay_acks, reset, send_pending_ack, vanish
from testbed.emulation.tcp_timers import TcpTimers
from testbed.emulation.tls import client_end
from testbed.host import About, CancelledError, LinkDown, NetError, NoReply, Refused, StreamLost, Unreachable
from testbed.kernel import keepalive

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.emulation.device import Device
    from testbed.emulation.tcp_timers import Connection
    from testbed.emulation.tls import TlsEnd
    from testbed.host import TlsHello

_LARGEST = 65_536
_LINGER_S = 120.0
"""How long a closed connection waits for the peer's FIN."""
_CONNECT_FAILURES: dict[int, type[NetError]] = {
    errno.ECONNREFUSED: Refused,
    errno.ECONNRESET: Refused,
    errno.EHOSTUNREACH: Unreachable,
    errno.ENETUNREACH: Unreachable,
    errno.EACCES: Unreachable,
}


class EmulatedStream:
    """A client's connection."""

    def __init__(
        self,
        device: Device,
        behaviour: str,
        peer: tuple[str, int],
        hello: TlsHello | None,
        keepalive_s: float | None,
    ) -> None:
        self.peer = peer
        self.open = False
        self._device = device
        self._loop = device.loop
        self._behaviour = behaviour
        self._hello = hello
        self._keepalive_s = keepalive_s
        self._about = About("TCP")
        self._tls: TlsEnd | None = None
        self._heard = b""
        self._out = b""
        self._lost: type[NetError] | None = None
        self._waiting: Future | None = None
        self._record: Connection | None = None
        self._finished = False
        self._port = device.next_port()
        self._socket = device.station.socket(socket.SOCK_STREAM)
        self._inbox = Inbox(self._loop, self._socket, self._readable)

    # --- the operations -------------------------------------------------------------------

    async def connect(self, timeout_s: float, about: About) -> None:
        """Open the connection, TLS included; raises how that failed."""
        exchange = self._claim(about)
        deadline = self._loop.now() + timeout_s
        failure: type[NetError] | None = NoReply
        try:
            failure = await self._connected(deadline)
            if failure is None and self._hello is not None:
                failure = await self._shaken(self._hello, deadline)
        except CancelledError:
            self._device.log_exchange(self._behaviour, about, exchange, "cancelled")
            self.abort()
            raise
        self._device.log_exchange(self._behaviour, about, exchange, failure.outcome if failure else "ok")
        if failure is not None:
            self.abort()
            raise failure
        self.open = True

    async def _connected(self, deadline: float) -> type[NetError] | None:
        device, loop = self._device, self._loop
        lease = device.lease
        assert lease is not None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((lease.address, self._port))
        device.streams.add(self)
        tcp = device.station.tcp
        if tcp is not None:
            key = (socket.inet_aton(lease.address), self._port, socket.inet_aton(self.peer[0]), self.peer[1])
            self._record = tcp.program(key, self._acknowledge, self._delay_acks, self._given_up)
        number = self._socket.connect_ex(self.peer)
        device.station.look()
        if number not in (0, errno.EINPROGRESS):
            return _CONNECT_FAILURES.get(number, Unreachable)
        self._waiting = Future()
        loop.watch_writable(self._socket.fileno(), self._connect_ended)
        return await self._outcome(deadline)

    def _connect_ended(self) -> None:
        self._loop.watch_writable(self._socket.fileno(), None)
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._wake(_CONNECT_FAILURES.get(number, NoReply))
        else:
            if self._record is not None:
                delay_acks(self._socket)
            self._loop.watch(self._socket.fileno(), self._readable)
            self._wake(None)

    async def _shaken(self, hello: TlsHello, deadline: float) -> type[NetError] | None:
        """Shake hands; resumes the last session with the same peer if the model says so."""
        device = self._device
        device.expect_tls(self.peer, hello)
        kept = device.tls_sessions.get(self._session_key(hello)) if hello.resume else None
        self._tls = client_end(hello, kept, device.authorities)
        self._waiting = Future()
        self._send(self._tls.begin())
        return await self._outcome(deadline)

    def _session_key(self, hello: TlsHello) -> tuple[str, int, str]:
        return (hello.sni or self.peer[0], self.peer[1], hello.version)

    async def _outcome(self, deadline: float) -> type[NetError] | None:
        """Wait until the step under way succeeds (None) or fails."""
        assert self._waiting is not None
        left_s = max(0.0, deadline - self._loop.now())
        failure: type[NetError] | None = await self._loop.within(self._waiting, left_s, NoReply)
        self._waiting = None
        return failure

    async def request(
        self, data: bytes, complete: Callable[[bytes], bool], timeout_s: float, about: About
    ) -> bytes:
        """Send and return the whole answer (see `testbed.host.Stream.request`)."""
        self._usable()
        exchange = self._claim(about)
        deadline = self._loop.now() + timeout_s
        self._send_plain(data)
        failure: type[NetError] | None = None
        try:
            while failure is None and not complete(self._heard):
                if self._lost is not None:
                    failure = self._lost
                    break
                self._waiting = Future()
                failure = await self._outcome(deadline)
        except CancelledError:
            self._device.log_exchange(self._behaviour, about, exchange, "cancelled")
            raise
        self._device.log_exchange(self._behaviour, about, exchange, failure.outcome if failure else "ok")
        if failure is not None:
            raise failure
        answer, self._heard = self._heard, b""
        return answer

    async def send(self, data: bytes, about: About) -> None:
        """Send without waiting (see `testbed.host.Stream.send`)."""
        self._usable()
        exchange = self._claim(about)
        self._send_plain(data)
        self._device.log_exchange(self._behaviour, about, exchange, "ok")

    async def idle(self, duration_s: float, about: About) -> None:
        """Stay connected (see `testbed.host.Stream.idle`)."""
        self._usable()
        self._about = about
        self._keep_alive(self._keepalive_s)
        try:
            deadline = self._loop.now() + duration_s
            while self._lost is None and (left_s := deadline - self._loop.now()) > 0:
                self._waiting = Future()
                await self._loop.within(self._waiting, left_s, None)
                self._waiting = None
        finally:
            self._keep_alive(None)
        if self._lost is not None:
            raise self._lost

    async def close(self) -> None:
        """Close in good order; the kernel does the rest."""
        if not self.open:
            return
        self._claim(About(*self._about[:2]))
        if self._tls is not None:
            self._send(self._tls.farewell())
        self._finish()

    def abort(self) -> None:
        """Reset the connection."""
        if not self._finished:
            if self.open:  # the exchange that failed is over: this is a decision of its own
                self._claim(About(*self._about[:2], why="abort"))
            self._forget()
            reset(self._socket)
            self._device.station.look()
            self._drop_timers()  # a connect that failed ends without a segment

    def vanish(self) -> None:
        """Lose the connection with the link or the power: nothing more is sent."""
        if self._finished:
            return
        self._forget()
        self._drop_timers()
        vanish(self._socket)
        self._end(LinkDown)

    # --- inside ---------------------------------------------------------------------------

    def _usable(self) -> None:
        if not self.open:
            raise LinkDown if not self._device.associated else self._lost or StreamLost

    def _claim(self, about: About) -> int:
        """Tie what the connection sends and receives from now on to an exchange."""
        self._about = about
        return self._device.claim(self._behaviour, about, TCP, self._port)

    def _acknowledge(self) -> None:
        self._inbox.read_ahead()
        send_pending_ack(self._socket)
        self._device.station.look()

    def _delay_acks(self) -> None:
        delay_acks(self._socket)

    def _given_up(self) -> None:
        """The kernel would have given up: no answer to the SYN, or to data sent often enough."""
        opened = self.open
        self._forget()
        vanish(self._socket)
        self._end(StreamLost if opened else NoReply)

    def _keep_alive(self, idle_s: float | None) -> None:
        tcp = self._device.station.tcp
        if self._finished or self._keepalive_s is None:
            return
        if tcp is not None and self._record is not None:
            tcp.keep_alive(self._record, idle_s, lambda: self._claim(self._about))
            return
        if idle_s is not None:
            self._claim(self._about)  # the kernel sends its probes without a word: one exchange for all
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(idle_s is not None))
        if idle_s is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(idle_s)))
            interval_s = round(keepalive.interval_s(idle_s))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, interval_s))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.PROBES)

    def _send_plain(self, data: bytes) -> None:
        self._send(self._tls.protect(data) if self._tls is not None else data)

    def _send(self, data: bytes) -> None:
        self._out += data
        self._pump()
        self._device.station.look()

    def _pump(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                self._loop.watch_writable(self._socket.fileno(), self._writable)
                return
            except OSError:
                self._drop()
                return
            self._out = self._out[sent:]
        self._loop.watch_writable(self._socket.fileno(), None)

    def _writable(self) -> None:
        self._pump()
        self._device.station.look()

    def _readable(self) -> None:
        try:
            data = self._inbox.read()
        except BlockingIOError:
            return
        except OSError:
            self._drop()
            return
        if self._tls is not None and data:
            shaking = not self._tls.established
            plain, out, ended = self._tls.feed(data)
            if out:
                self._send(out)
            self._heard += plain
            if ended:
                data = b""
            elif shaking and not self._tls.established:
                self._device.station.look()
                return
        else:
            self._heard += data
        if not data:  # the peer closed: close too
            self._finish()
            self._end(StreamLost)
        elif self._waiting is not None:
            self._wake(None)
        self._device.station.look()

    def _wake(self, failure: type[NetError] | None) -> None:
        if self._waiting is not None:
            self._waiting.resolve(failure)

    def _end(self, lost: type[NetError]) -> None:
        self.open = False
        if self._lost is None:
            self._lost = lost
        self._wake(lost)

    def _drop(self) -> None:
        """The kernel says that the connection is gone."""
        self._forget()
        self._socket.close()
        self._device.station.look()
        self._drop_timers()
        self._end(StreamLost)

    def _drop_timers(self) -> None:
        if self._record is not None and self._device.station.tcp is not None:
            self._device.station.tcp.drop(self._record.key)

    def _forget(self) -> None:
        self._finished = True
        self.open = False
        self._inbox.forget()
        if self._record is not None:
            TcpTimers.release(self._record)
        if self._tls is not None and self._hello is not None and self._tls.session is not None:
            self._device.tls_sessions[self._session_key(self._hello)] = self._tls.session
        self._loop.forget(self._socket.fileno())
        self._device.streams.discard(self)

    def _finish(self) -> None:
        """Send the FIN and let a lingering socket see the peer's."""
        if self._finished:
            return
        self._pump()
        if self._socket.fileno() < 0:  # the kernel had dropped the connection
            return
        self._forget()
        Lingering(self._device, self._socket, self._record)


class Lingering:
    """A connection that the program has closed: stays until the peer's FIN, then is gone."""

    def __init__(self, device: Device, connection: socket.socket, record: Connection | None) -> None:
        self._device = device
        self._socket = connection
        self._record = record
        device.streams.add(self)
        if record is not None and device.station.tcp is not None:
            device.station.tcp.program(
                record.key, self._acknowledge, lambda: delay_acks(connection), self.vanish
            )
        self._timer = device.loop.call_later(_LINGER_S, self.vanish)
        device.loop.watch(connection.fileno(), self._readable)
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
        device.station.look()

    def _acknowledge(self) -> None:
        self._readable()
        if self._socket.fileno() >= 0:
            send_pending_ack(self._socket)
        self._device.station.look()

    def _readable(self) -> None:
        try:
            if self._socket.recv(_LARGEST):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close()

    def _close(self) -> None:
        self._leave()
        self._socket.close()
        self._device.station.look()

    def _leave(self) -> None:
        if self._record is not None:
            TcpTimers.release(self._record)
        self._timer.cancel()
        self._device.loop.forget(self._socket.fileno())
        self._device.streams.discard(self)

    def vanish(self) -> None:
        """Be gone without a word."""
        if self._socket.fileno() < 0:
            return
        self._leave()
        if self._record is not None and self._device.station.tcp is not None:
            self._device.station.tcp.drop(self._record.key)
        vanish(self._socket)
