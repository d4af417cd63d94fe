"""The host port in the simulation (see `testbed.host.Host`)."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from testbed.behaviours import guarded
from testbed.host import (
    About,
    CancelledError,
    Lease,
    LinkDown,
    NetError,
    NoReply,
    Outcome,
    TlsHello,
    Unreachable,
)
from testbed.scenario.addresses import number
from testbed.simulation import datagrams, echo, neighbours
from testbed.simulation.streams import SimStream
from testbed.simulation.waiting import PASSED, SimWakeup, pause, until
from testbed.simulation.wire import ip_number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from simpy import Process

    from testbed.host import Board, Host, Stream, Task, Wakeup
    from testbed.simulation.network import Exchanged, Network
    from testbed.simulation.node import Node

_OK = Outcome.OK


class SimTask:
    """A running behaviour (see `testbed.host.Task`)."""

    __slots__ = ("process",)

    def __init__(self, process: Process) -> None:
        self.process = process

    def cancel(self) -> None:
        """End the task where it waits."""
        if self.process.is_alive:
            self.process.interrupt()


class SimHost:
    """One task's view of its device and of the network."""

    def __init__(self, network: Network, node: Node, task: str) -> None:
        self.network, self.node, self.task = network, node, task
        self.device, self.mac = node.model, node.mac
        self.env = network.env
        self.behaviour = task.split("/")[0].split("#")[0] or "device"
        """The habit's name, as labels and log lines have it."""
        self._rng: Random | None = None

    @property
    def rng(self) -> Random:
        """The task's own random stream."""
        if self._rng is None:
            self._rng = Random(number(self.node.seed, self.node.name, self.task))
        return self._rng

    @property
    def board(self) -> Board:
        """What the device's tasks tell each other."""
        return self.node.board

    @property
    def parent(self) -> Board | None:
        """The board of the hub or phone it acts through."""
        return self.node.parent.board if self.node.parent else None

    @property
    def lease(self) -> Lease | None:
        """The present IPv4 configuration."""
        return self.node.lease

    @property
    def associated(self) -> bool:
        """Whether there is a link."""
        return self.node.link != "down"

    def now(self) -> float:
        """Return Unix time in seconds."""
        return self.network.begin_s + self.env.now / 1e9

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""
        return pause(self.env, max(0, round(seconds * 1e9)))

    def sleep_until(self, when: float) -> Awaitable[None]:
        """Wait until a moment of Unix time; not at all when it has passed."""
        delay_ns = round((when - self.network.begin_s) * 1e9) - self.env.now
        return pause(self.env, delay_ns) if delay_ns > 0 else PASSED

    def spawn(self, name: str, work: Callable[[Host], Coroutine[Any, Any, None]]) -> Task:
        """Run a task beside this one."""
        path = f"{self.task}/{name}" if self.task else name
        count = self.node.spawned[path] = self.node.spawned.get(path, 0) + 1
        if count > 1:
            path = f"{path}#{count}"
        child = SimHost(self.network, self.node, path)
        process = self.env.task(_supervise(child, work))
        self.node.tasks[path] = process
        return SimTask(process)

    def wakeup(self) -> Wakeup:
        """Return a one-shot signal."""
        return SimWakeup(self.env)

    def configure(self, lease: Lease | None) -> None:
        """Set or take away the IPv4 configuration."""
        node = self.node
        if lease is not None and (node.lease is None or node.lease.address != lease.address):
            neighbours.forget(node)
        node.lease = lease
        node.ip = ip_number(lease.address) if lease else 0
        node.board.set("lease", lease)

    async def dhcp_exchange(
        self, message: bytes, server: str | None, timeout_s: float, about: About
    ) -> bytes:
        """Exchange a DHCP message with the network's server."""
        timeout_ns = round(timeout_s * 1e9)
        exchanged = datagrams.lease(
            self.network, self.node, self.behaviour, message, server, timeout_ns, about
        )
        return await self._finish(exchanged)

    def udp_request(
        self,
        address: str,
        port: int,
        data: bytes,
        timeout_s: float,
        about: About,
        source_port: int | None = None,
    ) -> Coroutine[Any, Any, bytes]:
        """Send a datagram and wait for its answer."""
        timeout_ns = round(timeout_s * 1e9)
        exchanged = datagrams.request(
            self.network, self.node, self.behaviour, address, port, data, timeout_ns, about, source_port
        )
        return self._finish(exchanged)

    async def _finish(self, exchanged: Exchanged) -> bytes:
        network, env = self.network, self.env
        end, failure, answer, label, exchange = exchanged
        try:
            await pause(env, end - env.now)
        except CancelledError:
            network.tape.cut_datagrams(label, exchange, env.now)
            network.log.exchange(env.now, label, exchange, Outcome.CANCELLED)
            raise
        network.log.exchange(end, label, exchange, failure.outcome if failure else _OK)
        if failure is not None:
            raise failure
        return answer

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
        label = datagrams.send(
            self.network, self.node, self.behaviour, address, port, data, about, source_port, ttl
        )
        self._sent(label)

    def _sent(self, label: int | None) -> None:
        if label is not None:
            self.network.log.exchange(self.env.now, label, self.node.exchanges, Outcome.SENT)

    async def ping(self, address: str, count: int, interval_s: float, timeout_s: float, about: About) -> int:
        """Send echo requests; return how many were answered."""
        network, node, env = self.network, self.node, self.env
        interval_ns, timeout_ns = round(interval_s * 1e9), round(timeout_s * 1e9)
        echoed = echo.ping(network, node, self.behaviour, address, count, interval_ns, timeout_ns, about)
        end = min(echoed.end, node.link_until)
        try:
            await pause(env, end - env.now)
        except CancelledError:
            network.tape.cut_datagrams(echoed.label, echoed.exchange, env.now)
            for error in echoed.errors:
                if error.callbacks is not None:
                    error.callbacks.clear()
            network.log.exchange(env.now, echoed.label, echoed.exchange, Outcome.CANCELLED)
            raise
        outcome = Outcome.OK if echoed.answered else NoReply.outcome
        if end < echoed.end:
            outcome = LinkDown.outcome
        network.log.exchange(end, echoed.label, echoed.exchange, outcome)
        if end < echoed.end:
            raise LinkDown
        return echoed.answered

    def igmp_send(self, group: str, message: bytes, about: About) -> None:
        """Send an IGMP message."""
        self._sent(datagrams.igmp(self.network, self.node, self.behaviour, group, message, about))

    async def igmp_query(self) -> bytes:
        """Wait for the next IGMP query."""
        event = self.env.event()
        self.node.query_waiters.append(event)
        query: bytes = await until(event)
        return query

    def groups(self, action: str, group: str) -> None:
        """Note a group membership: the simulated LAN floods multicast."""
        key = f"group {group}"
        self.node.board.set(key, action == "join")

    async def open_stream(
        self, address: str, port: int, timeout_s: float, about: About, tls: TlsHello | None = None,
        keepalive_s: float | None = None,
    ) -> Stream:  # fmt: skip
        """Connect, with TLS if asked."""
        node = self.node
        if node.lease is None or node.link == "down":
            raise LinkDown
        server = self.network.find(node, address)
        if server is None and node.link == "home" and self.network.on_lan(address):
            await self._seek(address, timeout_s, about)
        stream = SimStream(self.network, node, self.behaviour, server, port, address, tls, keepalive_s)
        await stream.connect(timeout_s, about)
        return stream

    async def _seek(self, address: str, timeout_s: float, about: About) -> None:
        """Look in vain for a station of the LAN: raise Unreachable (EHOSTUNREACH), NoReply or LinkDown."""
        network, node, env = self.network, self.node, self.env
        label = network.label(node.name, self.behaviour, about)
        deadline = env.now + round(timeout_s * 1e9)
        end = neighbours.seek(network, node, ip_number(address), env.now)
        failure: type[NetError] = Unreachable
        exchange = node.exchanges
        if deadline < end:
            end, failure = deadline, NoReply
        if node.link_until <= end:
            end, failure = node.link_until, LinkDown
        await self._finish((end, failure, b"", label, exchange))

    def note(self, event: str, outcome: str = "", why: str = "", **details: Any) -> None:
        """Write to the event log."""
        self.network.log.note(self.env.now, self.node.name, self.behaviour, event, outcome, why, **details)


def start_device(root: SimHost, work: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    """Start a device's first program; its habits are spawned by it."""
    root.node.tasks[""] = root.env.task(_supervise(root, work))


async def _supervise(host: SimHost, work: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    """Run a task to its end; power-off ends it quietly, a crash ends the run loudly."""
    try:
        await guarded(host, host.behaviour, work)
    except CancelledError:
        return
    finally:
        host.node.tasks.pop(host.task, None)
