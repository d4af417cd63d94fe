"""Sending again what is not acknowledged: the timers of both kernels in a play of a plan.

Sources: RFC 6298 (timer), RFC 8985 §7 (loss probe), RFC 6069 (ICMP errors), and what Linux makes of
them (`testbed.kernel.retransmission`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from testbed.kernel.retransmission import ORPHAN_RETRIES, loss_probe_ns
from testbed.simulation.plans import ACK, CLIENT, FIN, PSH, SERVER, SYN, Played
from testbed.simulation.side import STOPPED

if TYPE_CHECKING:
    from testbed.simulation.plans import Plan
    from testbed.simulation.side import Side


class Resending(ABC):
    """The part of a play that runs the retransmission timers."""

    plan: Plan
    sides: tuple[Side, Side]
    result: Played
    start: int
    turn: int
    """Index of the message in progress."""
    ended: bool
    """Whether the client's program has its answer, or its error."""
    dead: bool
    handshaking: bool

    @abstractmethod
    def push(self, at: int, kind: str, side: int, data: tuple[int, ...] = ()) -> None:
        """Let something happen at a moment."""

    @abstractmethod
    def transmit(
        self, now: int, side: int, seq: int, length: int, flags: int, *, delayed: bool = False
    ) -> None:
        """Send a segment."""

    @abstractmethod
    def finish(self, now: int, outcome: str) -> None:
        """Tell the client's program how it ended."""

    def arm(self, now: int, side: int) -> None:
        """Start the timer for what is unanswered: that of the loss probe, if there is one."""
        me = self.sides[side]
        connected = not self.handshaking and (me.una > 0 or not self.plan.handshake)
        me.probing = connected and me.may_probe()
        delay = me.rto
        if me.probing:
            segments = max(1, -(-(me.next - me.una) // me.mss))
            delay = loss_probe_ns(me.smoothed, me.rto, me.stack.min_rto, segments)
        me.retry_at = now + delay
        self.push(me.retry_at, "retry", side)

    def on_retry(self, now: int, side: int, _: tuple[int, ...]) -> None:
        """The retransmission timer: the oldest segment again, the timer doubled (RFC 6298 §5)."""
        me = self.sides[side]
        if me.retry_at != now or me.una >= me.next:
            return
        if not self.handshaking:
            self.result.quiet = max(self.result.quiet, now - self.start)
        if me.probing:
            me.probing = False
            me.probed = me.next
            me.timed = (1 << 62, 0)
            me.retry_at = now + me.rto
            self.transmit(now, side, *me.last)
            self.push(me.retry_at, "retry", side)
            return
        me.retry_at = STOPPED
        saying = self.turn < len(self.plan.messages) - 1
        orphan = self.ended and side == CLIENT and me.next > me.limit > 0 and not saying
        if self.handshaking:
            over = me.retries >= me.stack.syn_retries
        else:
            over = me.gives_up(now, ORPHAN_RETRIES if orphan else me.stack.data_retries)
        if over:
            if side == CLIENT:
                self.finish(now, "no-reply" if self.handshaking else "lost")
                self.result.quiet = max(self.result.quiet, now - self.start)
                self.dead = True
            return
        me.retries += 1
        me.backoff += 1
        me.rto = min(me.rto * 2, me.stack.max_rto)
        me.cwnd = 1
        me.recover, me.lossy = me.next, True
        if me.retries == 1:
            me.first_retry = now
        me.resent_at = now
        me.retry_at = now + me.rto
        self.resend(now, side)
        self.push(me.retry_at, "retry", side)

    def resend(self, now: int, side: int, begin: int | None = None) -> None:
        """Send a segment again, the oldest if none is named; what is timed no longer counts (Karn)."""
        me = self.sides[side]
        me.timed = (1 << 62, 0)
        seq = me.una if begin is None else begin
        if self.handshaking and side == CLIENT:
            self.transmit(now, side, 0, 0, SYN)
        elif self.plan.handshake and seq == 0 and side == SERVER:
            self.transmit(now, side, 0, 0, SYN | ACK)
        elif seq >= me.limit:
            me.hole = seq + 1
            self.transmit(now, side, seq, 0, ACK | FIN)
        else:
            held = min((first for first, _ in me.sacked if first > seq), default=me.limit)
            length = min(me.mss, me.limit - seq, me.next - seq, held - seq)
            me.hole = seq + length
            self.transmit(now, side, seq, length, ACK | (PSH if seq + length in me.marks else 0))

    def lose(self, now: int, side: int) -> None:
        """Take the oldest segment for lost after three duplicates, and send it again (RFC 5681 §3.2)."""
        me = self.sides[side]
        me.cwnd = max(2, me.cwnd // 2)
        me.recover = me.next
        self.resend(now, side)

    def repair(self, now: int, side: int) -> None:
        """Send again what is lost, as far as the window allows: holes by SACK (RFC 6675 §5) or by timeout."""
        me = self.sides[side]
        if not me.sack and not me.lossy:
            self.resend(now, side)  # one for each partial acknowledgement (RFC 6582)
            return
        known = me.recover if me.lossy else max((end for _, end in me.sacked), default=0)
        while me.in_flight() + me.mss <= me.cwnd * me.mss or me.hole <= me.una:
            begin = max(me.hole, me.una)
            for first, last in me.sacked:
                if first <= begin < last:
                    begin = last
            if begin >= known:
                return
            self.resend(now, side, begin)

    def on_unreachable(self, now: int, side: int, data: tuple[int, ...]) -> None:
        """ICMP unreachable ends a connect; an established one takes a doubling back (RFC 6069 §4.2)."""
        if side != CLIENT:
            return
        if self.handshaking:
            self.finish(now, "unreachable")
            self.dead = True
            return
        me = self.sides[side]
        if data[0] != me.una or not me.backoff or not me.smoothed:
            return
        me.backoff -= 1
        me.rto = min(me.timeout() << me.backoff, me.stack.max_rto)
        me.retry_at = max(now, me.resent_at + me.rto)
        if me.retry_at == now:  # at once: a second error finds the timer as this one leaves it
            self.on_retry(now, side, ())
        else:
            self.push(me.retry_at, "retry", side)
