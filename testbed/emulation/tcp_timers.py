"""The TCP timers of one kernel, kept by the loop's clock instead of the kernel's.

Under the virtual clock a kernel's own timers run about a thousand times too slowly, and in a busy
moment too fast. So no timer of the kernel shapes a frame; what it would do, this does in virtual time:
- retransmission (`testbed.kernel.retransmission`): the routes carry a least timeout of 100 s, and a
  copy of what is not acknowledged is sent again from here, loss probes included;
- the delayed ACK: the kernel always delays, and is asked with TCP_QUICKACK when it is time
  (`AckPolicy` says when);
- keep-alive probes: made here from the side's last segment;
- giving up after the stack's number of retries: the program is told.
What the kernel's timers send all the same (a *spontaneous* frame) is held back or dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from testbed.emulation.frames import ACK, FIN, PSH, RST, SYN, Segment, after, permits_sack, probe
from testbed.emulation.loop import NS
from testbed.kernel import keepalive
from testbed.kernel.acks import AckPolicy
from testbed.kernel.retransmission import ORPHAN_RETRIES, loss_probe_ns, patience_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.emulation.loop import Loop, Timer
    from testbed.models.device import TcpStack

Key = tuple[bytes, int, bytes, int]
"""Local address and port, remote address and port."""


class _Held(NamedTuple):
    """A segment sent and not yet acknowledged."""

    end: int
    frame: bytes
    sent_ns: int


@dataclass(slots=True)
class Connection:
    """What is known of one connection from the frames that pass."""

    key: Key
    policy: AckPolicy
    sent_to: int | None = None
    """Sequence number after the last byte sent."""
    acknowledged: int | None = None
    """Highest acknowledgement that this side has sent."""
    held: deque[_Held] = field(default_factory=deque)
    srtt_ns: int = 0
    variance_ns: int = 0
    rto_ns: int = 0
    retries: int = 0
    backoff: int = 0
    """Doublings of the timer in force."""
    first_retry_ns: int = 0
    resent_ns: int = 0
    sack: bool = False
    probing: bool = False
    """Whether the timer that runs is that of a loss probe."""
    probed_until: int | None = None
    """While set, no further probe until this is acknowledged."""
    resent_until: int | None = None
    """While set, acknowledgements below it make the next held segment go out again."""
    retry: Timer | None = None
    delayed: Timer | None = None
    early_ack: bytes | None = None
    """An ACK that the kernel's own timer sent before its virtual time."""
    last_frame: bytes = b""
    last_heard_ns: int = 0
    closing: bool = False
    """Whether this side has sent its FIN."""
    peer_closed: bool = False
    quick: bool = False
    """Whether the last data is to be acknowledged at once."""
    due: int | None = None
    """The data up to here is to be acknowledged."""
    acknowledge: Callable[[], None] | None = None
    """Makes the program read what has come, and the kernel send the ACK it is delaying."""
    delay: Callable[[], None] | None = None
    """Makes the kernel delay its ACKs again."""
    given_up: Callable[[], None] | None = None
    """Tells the program that the kernel would have given up."""
    keepalive: Timer | None = None
    probes: int = 0

    def stop(self) -> None:
        """Cancel all timers."""
        for timer in (self.retry, self.delayed, self.keepalive):
            if timer is not None:
                timer.cancel()
        self.retry = self.delayed = self.keepalive = None
        self.held.clear()


class TcpTimers:
    """The connections of one host and their timers."""

    def __init__(self, loop: Loop, stack: TcpStack, send: Callable[[bytes], None]) -> None:
        """Take over for a host with this stack; `send` puts a frame on its link."""
        self._loop = loop
        self._stack = stack
        self._send = send
        self._connections: dict[Key, Connection] = {}
        self.suppressed = 0
        """Frames of the kernel's own timers that were held back."""
        self.progressed = False
        """Whether the last segment that arrived acknowledged something new."""

    def connection(self, key: Key) -> Connection:
        """Return the record of a connection, new if need be."""
        found = self._connections.get(key)
        if found is None:
            policy = AckPolicy(round(self._stack.delayed_ack * NS), self._stack.window)
            rto_ns = round(self._stack.syn_timeout * NS)
            found = self._connections[key] = Connection(key, policy, rto_ns=rto_ns)
        return found

    def program(
        self,
        key: Key,
        acknowledge: Callable[[], None],
        delay: Callable[[], None],
        given_up: Callable[[], None],
    ) -> Connection:
        """Tie a connection to the socket of its program, and return its record."""
        conn = self.connection(key)
        conn.acknowledge, conn.delay, conn.given_up = acknowledge, delay, given_up
        return conn

    @staticmethod
    def release(conn: Connection) -> None:
        """Note that the program's socket is gone."""
        conn.acknowledge = conn.delay = conn.given_up = None

    def drop(self, key: Key) -> None:
        """Forget a connection and its timers."""
        found = self._connections.pop(key, None)
        if found is not None:
            found.stop()

    def drop_all(self) -> None:
        """Forget everything (the device lost its power or its link)."""
        for key in list(self._connections):
            self.drop(key)

    def outgoing(self, frame: bytes, spontaneous: bool) -> bytes | None:
        """Take a segment that the kernel sends; return what goes on the link, if anything."""
        segment = Segment(frame)
        if segment.flags & RST:
            self.drop(segment.key)
            return frame
        found = self._connections.get(segment.key)
        if found is None and not segment.takes_space:
            return frame  # the last word of a connection that is over
        conn = found or self.connection(segment.key)
        self._note_options(conn, segment)
        if segment.takes_space:
            if conn.sent_to is not None and not after(segment.end, conn.sent_to):
                if spontaneous:
                    self.suppressed += 1
                    return None
            else:
                conn.held.append(_Held(segment.end, frame, self._loop.now_ns))
                conn.sent_to = segment.end
                conn.closing = conn.closing or segment.flags & FIN != 0
                if conn.retry is None:
                    self._arm(conn)
        elif spontaneous and conn.delayed is not None:
            self.suppressed += 1
            conn.early_ack = frame
            if conn.delay is not None:
                conn.delay()  # the kernel's timer has ended its interactive mode
            return None
        if segment.flags & ACK:
            self._acknowledged(conn, segment)
        conn.last_frame = frame
        return frame

    def _acknowledged(self, conn: Connection, segment: Segment) -> None:
        conn.acknowledged = segment.ack
        conn.due = None
        conn.policy.sent(self._loop.now_ns, data=segment.length > 0)
        conn.early_ack = None
        if conn.delayed is not None:
            conn.delayed.cancel()
            conn.delayed = None

    @staticmethod
    def _note_options(conn: Connection, segment: Segment) -> None:
        if segment.flags & SYN and segment.flags & ACK:
            conn.sack = permits_sack(segment)

    def arriving(self, frame: bytes) -> Connection | None:
        """Take a segment before the kernel gets it; return its connection if an ACK may be due after."""
        self.progressed = False
        segment = Segment(frame)
        source, source_port, target, target_port = segment.key
        key = (target, target_port, source, source_port)
        conn = self._connections.get(key)
        if conn is None:
            if segment.flags & SYN and not segment.flags & ACK:
                self.connection(key)
            return None
        conn.last_heard_ns = self._loop.now_ns
        conn.probes = 0
        self._note_options(conn, segment)
        if segment.flags & RST:
            self.drop(key)
            return None
        if segment.flags & ACK:
            self._progress(conn, segment.ack)
        conn.peer_closed = conn.peer_closed or segment.flags & FIN != 0
        if conn.peer_closed and conn.closing and not conn.held:
            self.drop(key)  # both sides are done
            return None
        if not segment.length:
            return None
        expected = conn.due if conn.due is not None else conn.acknowledged
        if expected is not None and not after(segment.end, expected):
            conn.policy.repeated()
            return None  # the kernel acknowledges what it knows at once
        if expected is not None and after(segment.seq, expected):
            return None  # and asks for what is missing at once
        conn.due = segment.end
        conn.quick = conn.policy.received(
            self._loop.now_ns, conn.rto_ns, segment.length, segment.header_length,
            push=segment.flags & PSH != 0,
        )  # fmt: skip
        return conn

    def arrived(self, conn: Connection) -> None:
        """Note that the kernel has dealt with data: get its ACK at once, or time it."""
        if conn.due is None:
            return
        now_ns = self._loop.now_ns
        left_ns = conn.delayed.when_ns - now_ns if conn.delayed is not None else None
        delay_ns = 0 if conn.quick else conn.policy.delay_ns(conn.srtt_ns, left_ns)
        if conn.delayed is not None and delay_ns != left_ns:
            conn.delayed.cancel()
            conn.delayed = None
        if delay_ns == 0:
            if conn.acknowledge is not None:
                conn.acknowledge()
        elif conn.delayed is None:
            conn.delayed = self._loop.call_at(now_ns + delay_ns, lambda: self._ack_due(conn))

    def _ack_due(self, conn: Connection) -> None:
        conn.delayed = None
        conn.policy.missed(conn.rto_ns)
        if conn.early_ack is not None:
            frame, conn.early_ack = conn.early_ack, None
            self._acknowledged(conn, Segment(frame))
            self._send(frame)
        elif conn.acknowledge is not None:
            conn.acknowledge()

    def _progress(self, conn: Connection, ack: int) -> None:
        """Let go of what is acknowledged, measure the round trip, time what remains."""
        moved = False
        while conn.held and not after(conn.held[0].end, ack):
            segment = conn.held.popleft()
            moved = True
            if conn.retries == 0 and conn.resent_until is None:
                self._measure(conn, self._loop.now_ns - segment.sent_ns)
        if not moved:
            return
        self.progressed = True
        conn.retries = conn.backoff = 0
        if conn.probed_until is not None and not after(conn.probed_until, ack):
            conn.probed_until = None
        self._compute_rto(conn)
        if conn.retry is not None:
            conn.retry.cancel()
            conn.retry = None
        if conn.resent_until is not None and not after(conn.resent_until, ack):
            conn.resent_until = None
        if conn.held:
            self._arm(conn)
            if conn.resent_until is not None:
                self._send(conn.held[0].frame)

    def _measure(self, conn: Connection, sample_ns: int) -> None:
        if conn.srtt_ns == 0:
            conn.srtt_ns, conn.variance_ns = sample_ns, sample_ns // 2
        else:
            conn.variance_ns += (abs(conn.srtt_ns - sample_ns) - conn.variance_ns) // 4
            conn.srtt_ns += (sample_ns - conn.srtt_ns) // 8

    def _compute_rto(self, conn: Connection) -> None:
        """RFC 6298 §2 with Linux's floor under the variance, not under the sum."""
        if conn.srtt_ns:
            spread = max(4 * conn.variance_ns, round(self._stack.min_rto * NS))
            conn.rto_ns = min(conn.srtt_ns + spread, round(self._stack.max_rto * NS))

    def _arm(self, conn: Connection) -> None:
        """Start the timer for what is unanswered: that of the loss probe, if there is one."""
        delay_ns = conn.rto_ns
        lossless = conn.retries == 0 and conn.resent_until is None and conn.probed_until is None
        conn.probing = conn.sack and lossless and not Segment(conn.held[0].frame).flags & SYN
        if conn.probing:
            least_ns = round(self._stack.min_rto * NS)
            delay_ns = loss_probe_ns(conn.srtt_ns, conn.rto_ns, least_ns, len(conn.held))
        self._retry_at(conn, self._loop.now_ns + delay_ns)

    def _retry_at(self, conn: Connection, when_ns: int) -> None:
        if conn.retry is not None:
            conn.retry.cancel()
        conn.retry = self._loop.call_at(when_ns, lambda: self._retry(conn))

    def _retry(self, conn: Connection) -> None:
        if conn.retry is not None:
            conn.retry.cancel()
            conn.retry = None
        if not conn.held:
            return
        now_ns = self._loop.now_ns
        if conn.probing:
            conn.probing = False
            conn.probed_until = conn.sent_to
            self._retry_at(conn, now_ns + conn.rto_ns)
            self._send(conn.held[-1].frame)
            return
        if self._gives_up(conn):
            self._give_up(conn)
            return
        if conn.retries == 0:
            conn.first_retry_ns = now_ns
        conn.retries += 1
        conn.backoff += 1
        conn.resent_ns = now_ns
        conn.rto_ns = min(conn.rto_ns * 2, round(self._stack.max_rto * NS))
        conn.resent_until = conn.sent_to
        self._retry_at(conn, now_ns + conn.rto_ns)
        self._send(conn.held[0].frame)

    def unreachable(self, quoted: bytes) -> None:
        """Take an ICMP host or net unreachable about a segment: a doubling is taken back (RFC 6069 §4.2).

        `quoted` is the quoted packet as a frame.
        """
        segment = Segment(quoted)
        conn = self._connections.get(segment.key)
        if conn is None or not conn.backoff or not conn.held or conn.srtt_ns == 0:
            return
        if segment.seq != Segment(conn.held[0].frame).seq:
            return
        conn.backoff -= 1
        self._compute_rto(conn)
        conn.rto_ns = min(conn.rto_ns << conn.backoff, round(self._stack.max_rto * NS))
        due_ns = conn.resent_ns + conn.rto_ns
        self._retry_at(conn, due_ns)
        if due_ns <= self._loop.now_ns:  # at once: a second error finds the timer as this one leaves it
            self._retry(conn)

    def _gives_up(self, conn: Connection) -> bool:
        """Tell whether the kernel has tried often enough (a SYN), or long enough."""
        stack = self._stack
        if Segment(conn.held[0].frame).flags & SYN:
            return conn.retries >= stack.syn_retries
        retries = min(ORPHAN_RETRIES, stack.data_retries) if conn.closing else stack.data_retries
        patience = patience_ns(retries, round(stack.min_rto * NS), round(stack.max_rto * NS))
        return conn.retries > 0 and self._loop.now_ns - conn.first_retry_ns >= patience

    def _give_up(self, conn: Connection) -> None:
        told = conn.given_up
        self.drop(conn.key)
        if told is not None:
            told()

    def keep_alive(
        self, conn: Connection, idle_s: float | None, before: Callable[[], object] = lambda: None
    ) -> None:
        """Probe the peer after `idle_s` of silence, from now on; None ends that.

        `before` is called before each probe.
        """
        if idle_s is None:
            if conn.keepalive is not None:
                conn.keepalive.cancel()
            conn.keepalive, conn.probes = None, 0
            return
        conn.last_heard_ns = max(conn.last_heard_ns, self._loop.now_ns)
        self._next_probe(conn, conn.last_heard_ns + round(idle_s * NS), idle_s, before)

    def _next_probe(
        self, conn: Connection, when_ns: int, idle_s: float, before: Callable[[], object]
    ) -> None:
        if conn.keepalive is not None:
            conn.keepalive.cancel()
        conn.keepalive = self._loop.call_at(when_ns, lambda: self._probe(conn, idle_s, before))

    def _probe(self, conn: Connection, idle_s: float, before: Callable[[], object]) -> None:
        now_ns = self._loop.now_ns
        due_ns = conn.last_heard_ns + round(idle_s * NS)
        if conn.probes == 0 and due_ns > now_ns:
            self._next_probe(conn, due_ns, idle_s, before)
        elif conn.probes >= keepalive.PROBES:
            self._give_up(conn)
        else:
            conn.probes += 1
            if not conn.held:
                before()
                self._send(probe(conn.last_frame))
            self._next_probe(conn, now_ns + round(keepalive.interval_s(idle_s) * NS), idle_s, before)
