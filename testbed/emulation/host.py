"""The host port over real sockets (see `testbed.host.Host`)."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, cast

from testbed.behaviours import guarded
from testbed.emulation import frames
from testbed.emulation.loop import NS, Future, Signal
from testbed.emulation.stream import EmulatedStream
from testbed.host import About, CancelledError, LinkDown, NetError, NoReply, Refused, Unreachable
from testbed.protocols import dhcp
from testbed.scenario.addresses import number

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from testbed.emulation.device import Device
    from testbed.host import Board, Host, Lease, Stream, Task, TlsHello, Wakeup
    from testbed.models import DeviceModel

_LARGEST = 65_536
_IP_RECVERR = 11
_ECHO = bytes(range(8, 64))
_UNANSWERED = object()


class EmulatedHost:
    """One task's view of its device and of the network."""

    def __init__(self, device: Device, task: str) -> None:
        self._device, self._task = device, task
        self._loop = device.loop
        self._rng: Random | None = None
        self.behaviour = task.split("/")[0].split("#")[0] or "device"
        """The habit's name, as labels and log lines have it."""

    @property
    def rng(self) -> Random:
        """The task's own random stream."""
        if self._rng is None:
            self._rng = Random(number(self._device.seed, self._device.name, self._task))
        return self._rng

    @property
    def device(self) -> DeviceModel:
        """The device's model."""
        return self._device.model

    @property
    def mac(self) -> str:
        """The device's MAC address."""
        return self._device.mac

    @property
    def board(self) -> Board:
        """What the device's tasks tell each other."""
        return self._device.board

    @property
    def parent(self) -> Board | None:
        """The board of the hub or phone it acts through."""
        return self._device.parent.board if self._device.parent is not None else None

    @property
    def lease(self) -> Lease | None:
        """The present IPv4 configuration."""
        return self._device.lease

    @property
    def associated(self) -> bool:
        """Whether there is a link."""
        return self._device.associated

    def now(self) -> float:
        """Return Unix time in seconds."""
        return self._loop.now()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._loop.sleep(seconds)

    async def sleep_until(self, when: float) -> None:
        """Wait until a moment of Unix time; not at all when it has passed."""
        when_ns = round(when * NS)
        if when_ns > self._loop.now_ns:
            await self._loop.sleep_until_ns(when_ns)

    def spawn(self, name: str, work: Callable[[Host], Coroutine[Any, Any, None]]) -> Task:
        """Run a task beside this one."""
        device = self._device
        path = f"{self._task}/{name}" if self._task else name
        count = device.spawned[path] = device.spawned.get(path, 0) + 1
        if count > 1:
            path = f"{path}#{count}"
        child = EmulatedHost(device, path)

        def ended() -> None:
            device.tasks.pop(path, None)

        task = self._loop.task(guarded(child, child.behaviour, work), f"{device.name}/{path}", ended)
        device.tasks[path] = task
        return task

    def wakeup(self) -> Wakeup:
        """Return a one-shot signal."""
        return Signal(self._loop)

    def configure(self, lease: Lease | None) -> None:
        """Set or take away the IPv4 configuration."""
        self._device.configure(lease)

    # --- exchanges -------------------------------------------------------------------------

    async def _answer(
        self, opened: socket.socket, about: About, exchange: int, timeout_s: float, xid: bytes = b""
    ) -> bytes:
        """Wait for a datagram (with `xid`, one of that DHCP transaction); close the socket in any case."""
        answer = Future()

        def readable() -> None:
            try:
                data = opened.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError as problem:
                answer.fail(_failure(problem))
                return
            if data[4:8] == xid or not xid:
                answer.resolve(data)

        self._loop.watch(opened.fileno(), readable)
        try:
            return await self._outcome(answer, about, exchange, timeout_s)
        finally:
            self._loop.forget(opened.fileno())
            opened.close()

    async def _outcome(self, answer: Future, about: About, exchange: int, timeout_s: float) -> bytes:
        """Wait for an answer and log how that ended."""
        device = self._device
        outcome = "ok"
        try:
            result = await device.wait(answer, timeout_s, _UNANSWERED)
            if result is _UNANSWERED:
                raise NoReply
            return cast("bytes", result)
        except CancelledError:
            outcome = "cancelled"
            raise
        except NetError as problem:
            outcome = problem.outcome
            raise
        finally:
            device.log_exchange(self.behaviour, about, exchange, outcome)

    async def dhcp_exchange(
        self, message: bytes, server: str | None, timeout_s: float, about: About
    ) -> bytes:
        """Exchange a DHCP message: from a packet socket, or from the leased address when renewing."""
        device = self._device
        if not device.associated:
            raise LinkDown
        xid = message[4:8]
        exchange = device.claim(self.behaviour, about, frames.UDP, dhcp.CLIENT_PORT)
        if server is not None and device.lease is not None:
            opened = device.station.socket(socket.SOCK_DGRAM)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((device.lease.address, dhcp.CLIENT_PORT))
            opened.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            opened.connect((server, dhcp.SERVER_PORT))
            _send(opened, message)
            device.station.look()
            return await self._answer(opened, about, exchange, timeout_s, xid)
        frame = frames.udp_frame(
            frames.mac_bytes(device.mac), frames.BROADCAST, ("0.0.0.0", dhcp.CLIENT_PORT),
            ("255.255.255.255", dhcp.SERVER_PORT), message, device.model.ttl,
        )  # fmt: skip
        with device.dhcp_answer(xid) as (opened, answer):
            _send(opened, frame)
            device.station.look()
            return await self._outcome(answer, about, exchange, timeout_s)

    async def udp_request(
        self,
        address: str,
        port: int,
        data: bytes,
        timeout_s: float,
        about: About,
        source_port: int | None = None,
    ) -> bytes:
        """Send a datagram and wait for its answer."""
        device = self._device
        if device.lease is None or not device.associated:
            raise LinkDown
        number = source_port or device.next_port()
        exchange = device.claim(self.behaviour, about, frames.UDP, number)
        opened = device.station.socket(socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((device.lease.address, number))
        opened.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)  # hear of ICMP unreachable, host ones too
        try:
            opened.connect((address, port))
            opened.send(data)
        except OSError as problem:
            opened.close()
            device.log_exchange(self.behaviour, about, exchange, _failure(problem).outcome)
            raise _failure(problem) from None
        device.station.look()
        return await self._answer(opened, about, exchange, timeout_s)

    def udp_send(
        self,
        address: str,
        port: int,
        data: bytes,
        about: About,
        source_port: int | None = None,
        ttl: int = 64,
    ) -> None:
        """Send a datagram that nobody answers."""
        device = self._device
        if device.lease is None or not device.associated:
            return
        number = source_port or device.next_port()
        exchange = device.claim(self.behaviour, about, frames.UDP, number)
        with device.station.socket(socket.SOCK_DGRAM) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(("0.0.0.0", number))
            device.multicast_from(opened, ttl)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            _send(opened, data, (address, port))
            device.station.look()
        device.log_exchange(self.behaviour, about, exchange, "sent")

    async def ping(self, address: str, count: int, interval_s: float, timeout_s: float, about: About) -> int:
        """Send echo requests; return how many were answered."""
        device, loop = self._device, self._loop
        if device.lease is None or not device.associated:
            raise LinkDown
        device.ping_id = device.ping_id % 0xFFFF + 1
        ident = device.ping_id
        exchange = device.claim(self.behaviour, about, frames.ICMP, ident)
        opened = device.station.socket(socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        opened.bind((device.lease.address, ident))
        answered: set[int] = set()
        sent: dict[int, float] = {}
        everything = Future()

        def readable() -> None:
            try:
                reply = opened.recv(_LARGEST)
            except OSError:
                return
            sequence = int.from_bytes(reply[6:8], "big")
            if loop.now() <= sent.get(sequence, 0.0) + timeout_s:
                answered.add(sequence)
            if len(answered) == count:
                everything.resolve()

        loop.watch(opened.fileno(), readable)
        outcome = "cancelled"
        try:
            start = loop.now()
            for sequence in range(1, count + 1):
                sent[sequence] = loop.now()
                _send(opened, b"\x08\0\0\0\0\0" + sequence.to_bytes(2, "big") + _ECHO, (address, 0))
                device.station.look()
                pause_s = start + sequence * interval_s - loop.now() if sequence < count else timeout_s
                await device.wait(everything if sequence == count else Future(), pause_s, None)
            outcome = "ok" if len(answered) == count else "partial" if answered else "no-reply"
        except LinkDown:
            outcome = LinkDown.outcome
            raise
        finally:
            loop.forget(opened.fileno())
            opened.close()
            device.log_exchange(self.behaviour, about, exchange, outcome)
        return len(answered)

    def igmp_send(self, group: str, message: bytes, about: About) -> None:
        """Send an IGMP message (IP TTL 1, router alert)."""
        device = self._device
        if device.lease is None or not device.associated:
            return
        exchange = device.claim(self.behaviour, about, frames.IGMP, 0)
        device.interface.igmp_expected += 1
        _send(device.igmp_socket(), message, (group, 0))
        device.station.look()
        device.interface.igmp_expected = 0
        device.log_exchange(self.behaviour, about, exchange, "sent")

    async def igmp_query(self) -> bytes:
        """Wait for the next IGMP query."""
        return cast("bytes", await self._device.query())

    def groups(self, action: str, group: str) -> None:
        """Join or leave a multicast group in the kernel."""
        self._device.group(action, group)

    async def open_stream(
        self, address: str, port: int, timeout_s: float, about: About, tls: TlsHello | None = None,
        keepalive_s: float | None = None,
    ) -> Stream:  # fmt: skip
        """Connect, with TLS if asked."""
        if self._device.lease is None or not self._device.associated:
            raise LinkDown
        stream = EmulatedStream(self._device, self.behaviour, (address, port), tls, keepalive_s)
        await stream.connect(timeout_s, about)
        return stream

    def note(self, event: str, outcome: str = "", why: str = "", **details: Any) -> None:
        """Write to the event log."""
        self._device.note(self.behaviour, event, outcome, why, **details)


def start_device(device: Device, work: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    """Start a device's first program; its habits are spawned by it."""

    def ended() -> None:
        device.tasks.pop("", None)

    device.tasks[""] = device.loop.task(work(EmulatedHost(device, "")), device.name, ended)


def _send(opened: socket.socket, data: bytes, to: tuple[str, int] | None = None) -> None:
    """Send; what the kernel cannot send now is lost, as on a cable."""
    with suppress(OSError):
        if to is None:
            opened.send(data)
        else:
            opened.sendto(data, to)


def _failure(problem: OSError) -> NetError:
    if problem.errno == errno.ECONNREFUSED:
        return Refused()
    if problem.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES):
        return Unreachable()
    return NoReply()
