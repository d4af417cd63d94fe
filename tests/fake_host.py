"""A small fake of the host port: virtual time, a scripted network, the project's real services.

`Net` says what the network does at each moment (`lan`, `uplink`); `FakeHost` implements
`testbed.host.Host` on it. Every exchange is kept in `Net.log` with its time, so that a test can
compare what a habit did with what it should have done.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from types import coroutine
from typing import Any, NamedTuple

from testbed.host import (
    About,
    Board,
    CancelledError,
    Lease,
    LinkDown,
    NetError,
    NoReply,
    Refused,
    StreamLost,
    Unreachable,
)
from testbed.models import DeviceModel
from testbed.protocols import dhcp
from testbed.services.context import ServiceContext
from testbed.services.registry import build
from testbed.services.zone import Zone

BEGIN = 1_523_541_600.0  # 2018-04-12 14:00 UTC
RTT_S = 0.05


class Done(NamedTuple):
    """One exchange of a habit: seconds since the begin, task, kind, what for, how it ended."""

    at: float
    task: str
    kind: str
    about: About
    outcome: str
    data: bytes = b""


@coroutine
def _pause(until: float) -> Generator[float, Any, None]:
    yield until


class Signal:
    """A one-shot signal."""

    def __init__(self, net: Net) -> None:
        self._net, self._fired, self._waiting = net, False, []

    def fire(self) -> None:
        if not self._fired:
            self._fired = True
            for task in self._waiting:
                self._net.wake(task)

    async def wait(self, timeout_s: float | None = None) -> bool:
        if self._fired:
            return True
        task = self._net.running
        self._waiting.append(task)
        try:
            await _pause(float("inf") if timeout_s is None else self._net.now + timeout_s)
        finally:
            self._waiting.remove(task)
        return self._fired


class Running:
    """A task: a coroutine and the moment at which it goes on."""

    def __init__(self, net: Net, work: Coroutine[Any, Any, None]) -> None:
        self.net, self.work, self.ticket, self.over = net, work, 0, False

    def cancel(self) -> None:
        if self.over:
            return
        if self is self.net.running:
            raise AssertionError("a task cannot cancel itself")
        before, self.net.running = self.net.running, self
        try:
            self.work.throw(CancelledError())
        except (StopIteration, CancelledError):
            pass
        finally:
            self.net.running = before
        self.over = True


@dataclass
class Net:
    """Virtual time, the network's state, and what was exchanged."""

    lan: bool = True
    uplink: str = "up"
    """`up`, `silent` or `known`, as in `testbed.scenario.timeline`."""
    now: float = BEGIN
    log: list[Done] = field(default_factory=list)
    notes: list[tuple[float, str, str, str]] = field(default_factory=list)
    zone: Zone = field(default_factory=Zone)
    servers: dict[tuple[str, int], Any] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    """Addresses that do not answer."""
    running: Any = None

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, int, Running, int]] = []
        self._order = count()
        self.dhcp = build("dhcp_server", {}, ServiceContext("router"))
        resolver = build("resolver", {}, ServiceContext("router", zone=self.zone))
        self.servers["192.168.1.1", 53] = self.servers["8.8.8.8", 53] = resolver

    def serve(self, kind: str, name: str, address: str, port: int, ttl: int = 60, **options: Any) -> Any:
        """Put a service under a name."""
        service = build(kind, options, ServiceContext(name, address, (name,), self.zone))
        self.servers[address, port] = service
        self.zone.add([name], [address], ttl)
        return service

    def start(self, work: Coroutine[Any, Any, None]) -> Running:
        task = Running(self, work)
        self._push(task, self.now)
        return task

    def wake(self, task: Running) -> None:
        self._push(task, self.now)

    def _push(self, task: Running, when: float) -> None:
        task.ticket += 1
        heapq.heappush(self._queue, (when, next(self._order), task, task.ticket))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, task, ticket = heapq.heappop(self._queue)
            if task.over or ticket != task.ticket:
                continue
            self.now, self.running = max(self.now, when), task
            try:
                self._push(task, task.work.send(None))
            except StopIteration:
                task.over = True
            self.running = None
        self.now = end

    def reach(self, address: str) -> NetError | None:
        """Return what comes in the way of a packet to that address."""
        if not self.lan:
            return LinkDown()
        if address.startswith("192.168."):
            return NoReply() if address in self.deaf else None
        if self.uplink == "known":
            return Unreachable()
        return NoReply() if self.uplink == "silent" or address in self.deaf else None


class FakeHost:
    """One task's view of the device."""

    def __init__(self, net: Net, device: DeviceModel, task: str = "", board: Board | None = None) -> None:
        self.net, self.device, self.task = net, device, task
        self.mac = "50:c7:bf:00:00:01"
        self.board = board or Board()
        self.parent: Board | None = None
        self.rng = Random(f"{task}")
        self._shared: dict[str, Any] = {}
        self.queries: list[Signal] = []

    @property
    def lease(self) -> Lease | None:
        return self.board.get("lease")

    @property
    def associated(self) -> bool:
        return bool(self.board.get("associated"))

    def link(self, up: bool, lease: bool = False) -> None:
        """What the world does when the link comes or goes; with `lease` an address comes with it."""
        self.net.lan = up
        self.board.set("associated", up)
        if not up:
            self.configure(None)
        elif lease:
            self.configure(
                Lease("192.168.1.50", 24, "192.168.1.1", ("192.168.1.1",), "192.168.1.1", 43200, self.net.now)
            )

    def now(self) -> float:
        return self.net.now

    async def sleep(self, seconds: float) -> None:
        await _pause(self.net.now + max(0.0, seconds))

    async def sleep_until(self, when: float) -> None:
        if when > self.net.now:
            await _pause(when)

    def spawn(self, name: str, work: Callable[[Any], Coroutine[Any, Any, None]]) -> Running:
        child = FakeHost(self.net, self.device, f"{self.task}/{name}", self.board)
        child.mac, child.parent, child.queries = self.mac, self.parent, self.queries
        return self.net.start(work(child))

    def wakeup(self) -> Signal:
        return Signal(self.net)

    def configure(self, lease: Lease | None) -> None:
        self.board.set("lease", lease)

    def _done(self, kind: str, about: About, outcome: str, data: bytes = b"") -> None:
        self.net.log.append(Done(round(self.net.now - BEGIN, 3), self.task, kind, about, outcome, data))

    async def _answer(
        self, kind: str, about: About, data: bytes, timeout_s: float, failure: Any, got: Any
    ) -> bytes:
        """Wait as the network does, log the exchange at its begin, and end it."""
        outcome = failure.outcome if failure is not None else "ok" if got is not None else "no-reply"
        self._done(kind, about, outcome, data)
        if failure is None and got is None:
            failure = NoReply()
        await self.sleep(timeout_s if isinstance(failure, NoReply) else RTT_S)
        if failure is not None:
            raise failure
        return bytes(got)

    async def dhcp_exchange(
        self, message: bytes, server: str | None, timeout_s: float, about: About
    ) -> bytes:
        failure = None if self.net.lan else LinkDown()
        got = None
        if failure is None and "dhcp" not in self.net.deaf:
            found = self.net.dhcp.handle(message, ("0.0.0.0", 68), self.net.now)
            got = found[0].data if found else None
        return await self._answer(dhcp.parse(message).kind, about, message, timeout_s, failure, got)

    async def udp_request(
        self,
        address: str,
        port: int,
        data: bytes,
        timeout_s: float,
        about: About,
        source_port: int | None = None,
    ) -> bytes:
        failure = self.net.reach(address)
        service = self.net.servers.get((address, port))
        if address == "192.168.1.1" and self.net.uplink == "silent":
            failure = NoReply()
        elif address == "192.168.1.1" and self.net.uplink == "known":
            refusal = data[:2] + b"\x81\x85" + data[4:]
            return await self._answer("udp", about, data, timeout_s, None, refusal)
        if failure is None and service is None:
            failure = Refused()
        got = None
        if failure is None:
            found = service.handle(data, ("192.168.1.50", 40000), self.net.now)
            got = found[0].data if found else None
        return await self._answer("udp", about, data, timeout_s, failure, got)

    def udp_send(
        self,
        address: str,
        port: int,
        data: bytes,
        about: About,
        source_port: int | None = None,
        ttl: int = 64,
    ) -> None:
        if self.net.lan and self.lease:
            self._done("send", about, "sent", data)

    async def ping(self, address: str, count: int, interval_s: float, timeout_s: float, about: About) -> int:
        failure = self.net.reach(address)
        if isinstance(failure, LinkDown):
            raise failure
        self._done("ping", about, "no-reply" if failure else "ok")
        await self.sleep((count - 1) * interval_s + (timeout_s if failure else RTT_S))
        return 0 if failure else count

    def igmp_send(self, group: str, message: bytes, about: About) -> None:
        if self.net.lan and self.lease:
            self._done("igmp", about, "sent", message)

    async def igmp_query(self) -> bytes:
        signal = Signal(self.net)
        self.queries.append(signal)
        await signal.wait()
        return self._shared_query

    _shared_query: bytes = b""

    def query(self, message: bytes) -> None:
        """What the world does when the router queries."""
        FakeHost._shared_query = message
        waiting, self.queries[:] = list(self.queries), []
        for signal in waiting:
            signal.fire()

    def groups(self, action: str, group: str) -> None:
        self.board.set(f"group {group}", action == "join")

    async def open_stream(
        self, address: str, port: int, timeout_s: float, about: About, tls: Any = None,
        keepalive_s: float | None = None,
    ) -> FakeStream:  # fmt: skip
        failure = self.net.reach(address)
        service = self.net.servers.get((address, port))
        if failure is None and service is None:
            failure = Refused()
        await self._answer("open", about, b"", timeout_s, failure, b"")
        stream = FakeStream(self, address, port, service.session(("192.168.1.50", 40000), self.net.now))
        stream.hello = tls
        return stream

    def note(self, event: str, outcome: str = "", why: str = "", **details: Any) -> None:
        self.net.notes.append((round(self.net.now - BEGIN, 3), event, outcome, why))


class FakeStream:
    """A connection to a service."""

    def __init__(self, host: FakeHost, address: str, port: int, session: Any) -> None:
        self.host, self.peer, self.open, self.session = host, (address, port), True, session
        self.hello: Any = None

    async def request(
        self, data: bytes, complete: Callable[[bytes], bool], timeout_s: float, about: About
    ) -> bytes:
        if not self.open:
            raise StreamLost
        failure = self.host.net.reach(self.peer[0])
        got = None
        if failure is None:
            answer = self.session.receive(data, self.host.net.now)
            got = answer.data if answer is not None and complete(answer.data) else None
        elif isinstance(failure, Unreachable):
            failure = NoReply()
        return await self.host._answer("request", about, data, timeout_s, failure, got)

    async def send(self, data: bytes, about: About) -> None:
        if not self.open:
            raise StreamLost
        failure = self.host.net.reach(self.peer[0])
        if failure is None:
            self.session.receive(data, self.host.net.now)
        self.host._done("stream-send", about, "ok" if failure is None else failure.outcome, data)

    async def idle(self, duration_s: float, about: About) -> None:
        self.host._done("idle", about, "ok")
        await self.host.sleep(duration_s)
        failure = self.host.net.reach(self.peer[0])
        if failure is not None:
            raise StreamLost

    async def close(self) -> None:
        if self.open:
            self.host._done("close", About("TCP"), "ok")
        self.open = False

    def abort(self) -> None:
        if self.open:
            self.host._done("abort", About("TCP"), "ok")
        self.open = False


def device(habits: list[Any] | None = None, **changes: Any) -> DeviceModel:
    """Return a device model with these habits."""
    base: dict[str, Any] = {
        "name": "thing", "title": "Thing", "vendor": "Nobody", "hub_or_sensor": "S", "oui": "50:c7:bf",
        "link": {"medium": "wifi"}, "boot": "1s", "habits": habits or [],
    }  # fmt: skip
    return DeviceModel.model_validate({**base, **changes})


def online(host: FakeHost) -> None:
    """Give the host a link, an address, and the facts that the DHCP habit sets."""
    from testbed.behaviours.facts import link_came_up

    host.link(True, lease=True)
    link_came_up(host)  # type: ignore[arg-type]
