"""The port every behaviour is written against, and the one every service offers.

Rules of this file:
- A behaviour is a plain ``async def habit(host, params)``. It sees the network only through
  `Host`, and gets time and chance from it and from nowhere else.
- A service only reacts: it gets bytes and the time, and returns bytes. It does no I/O.
- Times are seconds of Unix time (UTC), durations are seconds, both floats; addresses are
  dotted strings; sizes are bytes.
- Failure is an exception of `NetError`, and *refused* is not *no reply*: devices react
  differently to them.

Both worlds implement `Host`, `Stream` and `Wakeup`; what is built on them (`Board`) is shared.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from random import Random

    from testbed.models import DeviceModel

__all__ = [
    "About",
    "Answer",
    "Board",
    "CancelledError",
    "Datagram",
    "Host",
    "Lease",
    "LinkDown",
    "NetError",
    "NoReply",
    "Outcome",
    "Refused",
    "Service",
    "Session",
    "Stream",
    "StreamLost",
    "Task",
    "TlsHello",
    "Unreachable",
    "Wakeup",
]


class NetError(Exception):
    """The network did not do what was asked; the subclasses say in which way."""

    outcome = "failed"


class NoReply(NetError):
    """Silence until the time allowed was over."""

    outcome = "no-reply"


class Refused(NetError):
    """The peer answered with an active no (TCP RST, ICMP port unreachable)."""

    outcome = "refused"


class Unreachable(NetError):
    """A router said that the peer cannot be reached (ICMP net or host unreachable)."""

    outcome = "unreachable"


class LinkDown(NetError):
    """The host has no association or no address (it was lost, or never got)."""

    outcome = "link-down"


class StreamLost(NetError):
    """An established stream ended: reset or closed by the peer, or given up by the kernel."""

    outcome = "lost"


class Outcome:
    """The words that an exchange can end with, as `events.jsonl` has them."""

    OK = "ok"
    SENT = "sent"
    """A message that nobody answers went out."""
    CANCELLED = "cancelled"


class About(NamedTuple):
    """What an exchange is for: becomes its label and its line in the event log.

    `protocol` is the application protocol as the contract names it (DHCP, DNS, mDNS, SSDP, NTP,
    HTTP, HTTPS, MQTT, Weave, GCM), or ICMP, IGMP; anything else as ``TCP`` or ``UDP``.
    `service` is the name of what is asked (a host name, a group); `attempt` counts from 0 and
    `why` names the rule that caused an attempt beyond the routine one.
    """

    protocol: str
    service: str = ""
    attempt: int = 0
    why: str = ""


class Lease(NamedTuple):
    """An IPv4 configuration as DHCP gave it."""

    address: str
    prefix: int
    router: str
    resolvers: tuple[str, ...]
    server: str
    lease_s: float
    obtained: float


@dataclass(frozen=True, slots=True)
class TlsHello:
    """How a client opens TLS: what shapes the handshake's size."""

    sni: str | None
    version: str = "1.2"
    hello_bytes: int = 517
    """Bytes of the ClientHello record, header included."""
    chain_bytes: int = 3200
    """Bytes of the server's certificate chain."""
    resume: bool = False
    """Offer the session of an earlier connection: an abbreviated handshake, no certificate."""


class Datagram(NamedTuple):
    """A UDP datagram that a service sends."""

    data: bytes
    delay_s: float = 0.0


class Wakeup(Protocol):
    """A one-shot signal between tasks of one host."""

    def fire(self) -> None:
        """Wake whoever waits; firing twice does nothing more."""

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return True once fired, False when `timeout_s` passed first."""


class Task(Protocol):
    """A running behaviour."""

    def cancel(self) -> None:
        """End the task: `CancelledError` is raised where it waits."""


class Stream(Protocol):
    """A TCP connection, plain or TLS, as a client sees it."""

    peer: tuple[str, int]
    open: bool

    async def request(
        self,
        data: bytes,
        complete: Callable[[bytes], bool],
        timeout_s: float,
        about: About,
    ) -> bytes:
        """Send `data` and return the answer, once `complete(answer so far)` is true.

        Raises NoReply after `timeout_s` without a whole answer, StreamLost when the connection
        ended, LinkDown when the interface went away. After any of them the stream is useless:
        `abort` it.
        """

    async def send(self, data: bytes, about: About) -> None:
        """Send `data`, expecting no answer; delivery is the kernel's affair."""

    async def idle(self, duration_s: float, about: About) -> None:
        """Stay connected for `duration_s`; raises StreamLost when the connection ends meanwhile.

        With `keepalive_s` given to `open_stream`, TCP keep-alive probes go out meanwhile.
        """

    async def close(self) -> None:
        """Close in good order (FIN)."""

    def abort(self) -> None:
        """Drop the connection at once (RST), whatever is still under way."""


class Host(Protocol):
    """What one task of a device can do. Each task has its own `Host` (own `rng`, own name)."""

    @property
    def device(self) -> DeviceModel:
        """The device's model."""

    @property
    def mac(self) -> str:
        """The device's MAC address."""

    @property
    def rng(self) -> Random:
        """The task's own random stream."""

    @property
    def board(self) -> Board:
        """What the device's tasks tell each other."""

    @property
    def parent(self) -> Board | None:
        """The board of the hub or phone a device without IP acts through; None for the others."""

    @property
    def lease(self) -> Lease | None:
        """The current IPv4 configuration; None before DHCP and after the link was lost."""

    @property
    def associated(self) -> bool:
        """Whether the interface has carrier (Ethernet) or an association (Wi-Fi)."""

    def now(self) -> float:
        """Return Unix time in seconds."""

    def sleep(self, seconds: float) -> Awaitable[None]: ...

    def sleep_until(self, when: float) -> Awaitable[None]: ...

    def spawn(self, name: str, work: Callable[[Host], Coroutine[Any, Any, None]]) -> Task:
        """Run `work(host)` beside this task, with a host (and random stream) of its own.

        `name` must be unique among this task's children that run at the same time; an equal name
        gets a fresh continuation of the same stream family (name#2, name#3, …).
        """

    def wakeup(self) -> Wakeup: ...

    def configure(self, lease: Lease | None) -> None:
        """Set or take away the interface's IPv4 configuration; sets `lease` and the board key."""

    async def dhcp_exchange(
        self, message: bytes, server: str | None, timeout_s: float, about: About
    ) -> bytes:
        """Send a DHCP message (broadcast if `server` is None) and return the answer to its xid."""

    async def udp_request(
        self,
        address: str,
        port: int,
        data: bytes,
        timeout_s: float,
        about: About,
        source_port: int | None = None,
    ) -> bytes:
        """Send a datagram and return the first answer from that peer.

        Raises NoReply, Refused, Unreachable or LinkDown.
        """

    def udp_send(
        self,
        address: str,
        port: int,
        data: bytes,
        about: About,
        source_port: int | None = None,
        ttl: int = 64,
    ) -> None:
        """Send a datagram that nobody answers (multicast, broadcast); lost without a lease."""

    async def ping(self, address: str, count: int, interval_s: float, timeout_s: float, about: About) -> int:
        """Send `count` echo requests `interval_s` apart; return how many were answered.

        Raises LinkDown; an unreachable peer is 0 answers.
        """

    def igmp_send(self, group: str, message: bytes, about: About) -> None:
        """Send an IGMP message (IP TTL 1, router alert) to `group`."""

    async def igmp_query(self) -> bytes:
        """Wait for the next IGMP query on the link and return its bytes."""

    def groups(self, action: str, group: str) -> None:
        """Tell the kernel to receive (`join`) or no longer receive (`leave`) a multicast group.

        The membership reports are the behaviour's to send, so that both worlds send the same.
        """

    async def open_stream(
        self,
        address: str,
        port: int,
        timeout_s: float,
        about: About,
        tls: TlsHello | None = None,
        keepalive_s: float | None = None,
    ) -> Stream:
        """Connect (and shake hands when `tls` is given).

        Raises NoReply when `timeout_s` or the kernel's SYN retries ran out, Refused, Unreachable
        or LinkDown.
        """

    def note(self, event: str, outcome: str = "", why: str = "", **details: Any) -> None:
        """Write a line to the run's event log (exchanges are logged by themselves)."""


@dataclass(slots=True)
class Answer:
    """What a session of a stream service does with a whole message."""

    data: bytes = b""
    think_s: float = 0.0
    """Time the service takes before it answers."""
    close: bool = False
    """Close the connection after the answer."""


class Session(Protocol):
    """One connection to a stream service."""

    def receive(self, data: bytes, now: float) -> Answer | None:
        """Take bytes of the client; None means: not a whole message yet, or nothing to say."""


class Service(Protocol):
    """What answers at an address and port. Datagrams go to `handle`, connections to `session`."""

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Answer a datagram (an empty sequence is silence)."""

    def session(self, peer: tuple[str, int], now: float) -> Session:
        """Open the state of a new connection."""


@dataclass(slots=True)
class Board:
    """What the tasks of one device tell each other: facts, locks and stimuli.

    A fact is a key with a value that stays until it changes (``clock_synced``, ``lease``). A lock
    is a firmware thread: the habits on it wait for each other. A stimulus is something that
    happens to the device from outside (``used``, ``motion``, ``firmware``), delivered once to
    each task that listens at that moment.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    _waiting: dict[str, list[Wakeup]] = field(default_factory=dict)
    _holders: dict[str, deque[Wakeup]] = field(default_factory=dict)
    _listeners: dict[str, list[tuple[Wakeup, list[Any]]]] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """Return the fact's value, None when never set."""
        return self.facts.get(key)

    def set(self, key: str, value: Any) -> None:
        """Set a fact and wake those who wait for a change of it."""
        if self.facts.get(key) == value:
            return
        self.facts[key] = value
        for wakeup in self._waiting.pop(key, ()):
            wakeup.fire()

    async def change(self, host: Host, key: str, timeout_s: float | None = None) -> bool:
        """Wait until the fact changes; False when `timeout_s` passed first."""
        wakeup = host.wakeup()
        waiting = self._waiting.setdefault(key, [])
        waiting.append(wakeup)
        try:
            return await wakeup.wait(timeout_s)
        finally:
            if wakeup in waiting:
                waiting.remove(wakeup)

    async def wait(self, host: Host, *keys: str) -> None:
        """Wait until every named fact is true."""
        while missing := next((key for key in keys if not self.facts.get(key)), None):
            await self.change(host, missing)

    async def acquire(self, host: Host, thread: str) -> None:
        """Wait for the firmware thread and hold it (first come, first served)."""
        queue = self._holders.get(thread)
        if queue is None:
            self._holders[thread] = deque()
            return
        turn = host.wakeup()
        queue.append(turn)
        try:
            await turn.wait()
        except CancelledError:
            if turn in queue:
                queue.remove(turn)
            else:  # the turn had just been given: pass it on
                self.release(thread)
            raise

    def release(self, thread: str) -> None:
        """Give the firmware thread to the next in line."""
        queue = self._holders[thread]
        if queue:
            queue.popleft().fire()
        else:
            del self._holders[thread]

    def stimulate(self, kind: str, value: Any = None) -> None:
        """Deliver a stimulus to every task that listens for it now."""
        for wakeup, box in self._listeners.pop(kind, ()):
            box.append(value)
            wakeup.fire()

    async def stimulus(self, host: Host, kind: str, timeout_s: float | None = None) -> Any:
        """Wait for the next stimulus of this kind and return its value; None on timeout."""
        wakeup = host.wakeup()
        box: list[Any] = []
        entry = (wakeup, box)
        listeners = self._listeners.setdefault(kind, [])
        listeners.append(entry)
        try:
            await wakeup.wait(timeout_s)
        finally:
            if entry in listeners:
                listeners.remove(entry)
        return box[0] if box else None
