"""TCP between a device and a server, segment by segment, as the router's LAN side sees it.

Rules of this file:
- One exchange on a connection is a `Plan` (see `testbed.simulation.plans`): messages in turn, each
  sent when the one before it has wholly arrived (plus the time its sender thinks). `play` runs both
  kernels through it and returns the segments that the capture point sees, and how it ended for the
  client.
- A `Path` says what becomes of each segment. On a clean path the result depends on the plan, the
  stacks and the delays alone: callers keep it.

Sources: RFC 9293 (states), RFC 6298 (retransmission), RFC 5681 (slow start, delayed ACK, fast
retransmit), RFC 7323 (timestamps). Congestion avoidance is left out: exchanges are short.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from testbed.simulation.plans import ACK, BEFORE, CLIENT, FIN, PSH, RST, SERVER, SYN, Played, Segment, Timer

if TYPE_CHECKING:
    from testbed.simulation.plans import Path, Plan, Stack

MAX_WINDOW_SEGMENTS = 64
ORPHAN_RETRIES = 8
"""Retransmissions of a FIN after the program closed the socket (Linux tcp_orphan_retries)."""
NIC_BITS_PER_S = 100_000_000
_HEADERS = 66
STOPPED = -(1 << 62)
"""Time of a timer that does not run, earlier than any: in the warm-up all times are negative."""


class _Side:
    """One kernel's half of a connection."""

    __slots__ = (
        "cwnd", "delack_at", "duplicates", "fin_wanted", "heard", "heard_sent", "held",
        "limit", "marks", "mss", "next", "nic_free", "peer_window", "recover", "retries", "retry_at", "rto",
        "sent_count", "smoothed", "stack", "timed", "una", "undone", "varies",
    )  # fmt: skip

    def __init__(self, stack: Stack, peer: Stack, cwnd: int, rtt: int, timer: Timer | None) -> None:
        self.stack = stack
        self.mss = min(stack.mss, peer.mss) - (12 if stack.timestamps and peer.timestamps else 0)
        self.cwnd = cwnd
        self.peer_window = peer.receive_window
        self.next = self.una = self.limit = 0
        self.heard = 0  # next byte expected from the peer
        self.heard_sent = BEFORE  # send time of the latest segment heard
        self.held: dict[int, int] = {}  # out-of-order data: start -> end
        self.marks: list[int] = []  # ends of messages: PSH
        self.fin_wanted = False
        self.nic_free = STOPPED
        self.smoothed = self.varies = 0
        self.rto = stack.syn_timeout
        self.timed: tuple[int, int] | None = None  # a sequence number and when what ends there was sent
        if timer is not None:
            self.smoothed, self.varies, self.rto = timer
        elif rtt:
            self.sample(rtt)
        self.retry_at = self.delack_at = STOPPED
        self.retries = self.duplicates = self.undone = self.sent_count = 0
        self.recover = -1

    def sample(self, rtt: int) -> None:
        """Learn a round trip (RFC 6298 §2; the least time comes on top of it, as in Linux)."""
        if self.smoothed:
            self.varies += (abs(self.smoothed - rtt) - self.varies) // 4
            self.smoothed += (rtt - self.smoothed) // 8
        else:
            self.smoothed, self.varies = rtt, rtt // 2
        stack = self.stack
        self.rto = min(stack.max_rto, self.smoothed + max(stack.min_rto, 4 * self.varies))


def play(plan: Plan, client: Stack, server: Stack, path: Path, start: int, deadline: int) -> Played:
    """Run both kernels through `plan` from `start`; the client's program gives up at `deadline`.

    Both are absolute nanoseconds; the result is relative to `start`.
    """
    return _Play(plan, client, server, path, start, deadline).run()


class _Play:
    def __init__(
        self, plan: Plan, client: Stack, server: Stack, path: Path, start: int, deadline: int
    ) -> None:
        self.plan, self.path, self.start, self.deadline = plan, path, start, deadline
        self.sides = (
            _Side(client, server, plan.cwnd[CLIENT], plan.rtt, plan.timers and plan.timers[CLIENT]),
            _Side(server, client, plan.cwnd[SERVER], plan.rtt, plan.timers and plan.timers[SERVER]),
        )
        self.timestamps = client.timestamps and server.timestamps
        self.result = Played()
        self.events: list[tuple[int, int, str, int, tuple[int, ...]]] = []
        self.order = 0
        self.turn = 0  # index of the message in progress
        self.targets = [0, 0]  # bytes each side will have sent once the current message is out
        self.ended = False  # the client's program has its answer (or its error)
        self.dead = False
        self.handshaking = plan.handshake
        self.reply_wanted = any(message.side == SERVER for message in plan.messages)

    def run(self) -> Played:
        if self.handshaking:
            self.transmit(self.start, CLIENT, 0, 0, SYN)
            self.sides[CLIENT].next = 1
            self.arm(self.start, CLIENT)
        else:
            self.speak(self.start)
        if not self.handshaking and not self.reply_wanted:
            self.finish(self.start, "ok")  # a program that only sends does not wait
        while self.events and not self.dead:
            at, _, kind, side, data = heappop(self.events)
            if at > self.deadline and not self.ended:
                self.finish(self.deadline, "no-reply")
                self.dead = True
                break
            getattr(self, "on_" + kind)(at, side, data)
        if not self.ended:
            self.finish(self.deadline, "no-reply")
        sides = self.sides
        result = self.result
        result.advance = (sides[CLIENT].next, sides[SERVER].next)
        result.cwnd = (sides[CLIENT].cwnd, sides[SERVER].cwnd)
        result.counts = (sides[CLIENT].sent_count, sides[SERVER].sent_count)
        heard = (sides[SERVER].heard_sent, sides[CLIENT].heard_sent)
        result.last_sent = (self.since(heard[0]), self.since(heard[1]))
        result.timers = (
            Timer(sides[CLIENT].smoothed, sides[CLIENT].varies, sides[CLIENT].rto),
            Timer(sides[SERVER].smoothed, sides[SERVER].varies, sides[SERVER].rto),
        )
        result.acknowledged = sides[CLIENT].una == sides[CLIENT].next
        result.segments.sort(key=lambda segment: segment.at)
        return result

    def since(self, moment: int) -> int:
        """Return a moment relative to the start."""
        return moment - self.start if moment != BEFORE else BEFORE

    # --- programs -------------------------------------------------------------------------

    def speak(self, now: int) -> None:
        """Start the messages whose turn has come."""
        if self.turn < len(self.plan.messages):
            message = self.plan.messages[self.turn]
            if message.think:
                self.push(now + message.think, "speak", message.side)
            else:
                self.on_speak(now, message.side, ())

    def on_speak(self, now: int, side: int, _: tuple[int, ...]) -> None:
        message = self.plan.messages[self.turn]
        me = self.sides[side]
        me.limit = max(me.limit, me.next) + message.size
        me.marks.append(me.limit)
        me.fin_wanted = me.fin_wanted or message.fin
        self.targets[side] = me.limit + (1 if message.fin else 0)
        self.pump(now, side)

    def delivered(self, now: int, receiver: int) -> None:
        """Bytes reached a program: is it its turn?"""
        while self.turn < len(self.plan.messages):
            message = self.plan.messages[self.turn]
            if message.side == receiver or self.targets[message.side] == 0:
                return
            if self.sides[receiver].heard < self.targets[message.side]:
                return
            self.turn += 1
            if receiver == CLIENT and not any(m.side == SERVER for m in self.plan.messages[self.turn :]):
                self.finish(now, "ok")
            self.speak(now)
            return

    def finish(self, now: int, outcome: str) -> None:
        if not self.ended:
            self.ended = True
            self.result.outcome = outcome
            self.result.done = now - self.start

    # --- sending --------------------------------------------------------------------------

    def push(self, at: int, kind: str, side: int, data: tuple[int, ...] = ()) -> None:
        self.order += 1
        heappush(self.events, (at, self.order, kind, side, data))

    def pump(self, now: int, side: int) -> None:
        """Send what the windows allow."""
        me = self.sides[side]
        sent = False
        while me.next < me.limit:
            length = min(me.mss, me.limit - me.next)
            if me.next > me.una and me.next + length - me.una > min(me.cwnd * me.mss, me.peer_window):
                break
            self.transmit(now, side, me.next, length, ACK | (PSH if me.next + length in me.marks else 0))
            me.next += length
            sent = True
        if me.fin_wanted and me.next == me.limit:
            self.transmit(now, side, me.next, 0, ACK | FIN)
            me.next += 1
            me.fin_wanted = False
            sent = True
        if sent and me.retry_at == STOPPED:
            self.arm(now, side)

    def transmit(
        self, now: int, side: int, seq: int, length: int, flags: int, *, delayed: bool = False
    ) -> None:
        me = self.sides[side]
        size = _HEADERS + length
        depart = max(now, me.nic_free)
        me.nic_free = depart + size * 8 * 1_000_000_000 // NIC_BITS_PER_S
        me.delack_at = STOPPED
        me.undone = 0
        number = me.sent_count
        me.sent_count += 1
        fate = self.path.up(depart, size) if side == CLIENT else self.path.down(depart, size)
        start = self.start
        if fate.captured is not None:
            self.result.segments.append(
                Segment(
                    fate.captured - start,
                    side,
                    flags,
                    seq,
                    me.heard,
                    seq - self.plan.handshake,
                    length,
                    depart - start,
                    self.since(me.heard_sent),
                    delayed,
                )
            )
        if fate.unreachable is not None:
            self.result.unreachable.append((fate.unreachable - start, seq, number))
            self.push(fate.unreachable, "unreachable", side)
        if me.timed is None and (length or flags & (SYN | FIN)):
            me.timed = (seq + length + bool(flags & (SYN | FIN)), depart)
        if fate.arrives is not None:
            echo = me.heard_sent if self.timestamps else BEFORE
            self.push(fate.arrives, "segment", 1 - side, (seq, length, flags, me.heard, depart, echo))
            if not delayed:
                self.result.quiet = max(self.result.quiet, fate.arrives - start)

    def arm(self, now: int, side: int) -> None:
        me = self.sides[side]
        me.retry_at = now + me.rto
        self.push(me.retry_at, "retry", side)

    def on_retry(self, now: int, side: int, _: tuple[int, ...]) -> None:
        """The retransmission timer: the oldest segment again, the timer doubled (RFC 6298 §5)."""
        me = self.sides[side]
        if me.retry_at != now or me.una >= me.next:
            return
        me.retry_at = STOPPED
        me.retries += 1
        orphan = (
            self.ended
            and side == CLIENT
            and me.next > me.limit > 0
            and self.turn >= len(self.plan.messages) - 1
        )
        limit = (
            me.stack.syn_retries if self.handshaking else ORPHAN_RETRIES if orphan else me.stack.data_retries
        )
        if me.retries > limit:
            if side == CLIENT:
                self.finish(now, "no-reply" if self.handshaking else "lost")
                self.result.quiet = max(self.result.quiet, now - self.start)
                self.dead = True
            return
        me.rto = min(me.rto * 2, me.stack.max_rto)
        me.cwnd = 1
        me.recover = me.next
        self.resend(now, side)
        self.arm(now, side)
        if not self.handshaking:
            self.result.quiet = max(self.result.quiet, now - self.start)

    def resend(self, now: int, side: int) -> None:
        """Send the oldest unacknowledged segment again; what is timed no longer counts (Karn)."""
        me = self.sides[side]
        me.timed = (1 << 62, 0)
        if self.handshaking and side == CLIENT:
            self.transmit(now, side, 0, 0, SYN)
        elif self.plan.handshake and me.una == 0 and side == SERVER:
            self.transmit(now, side, 0, 0, SYN | ACK)
        elif me.una >= me.limit:
            self.transmit(now, side, me.una, 0, ACK | FIN)
        else:
            length = min(me.mss, me.limit - me.una, me.next - me.una)
            self.transmit(now, side, me.una, length, ACK | (PSH if me.una + length in me.marks else 0))

    # --- receiving ------------------------------------------------------------------------

    def on_unreachable(self, now: int, side: int, _: tuple[int, ...]) -> None:
        """ICMP unreachable ends a connect; an established connection keeps trying (RFC 1122 §4.2.3.9)."""
        if self.handshaking and side == CLIENT:
            self.finish(now, "unreachable")
            self.dead = True

    def on_segment(self, now: int, side: int, data: tuple[int, ...]) -> None:
        seq, length, flags, ack, sent, echo = data
        me = self.sides[side]
        if flags & RST:
            self.finish(now, "refused" if self.handshaking else "lost")
            self.dead = True
            return
        if side == SERVER and flags & SYN:
            self.on_syn(now, sent)
            return
        if side == SERVER and self.path.forgotten(now):
            self.transmit(now, SERVER, me.next, 0, RST | ACK)
            return
        me.heard_sent = sent
        if side == CLIENT and flags & SYN:
            if not self.handshaking:  # the SYN-ACK again: our ACK was lost
                self.transmit(now, CLIENT, me.next, 0, ACK)
                return
            self.handshaking = False
            self.learn(now, CLIENT, 1, echo)
            me.una, me.heard, me.retry_at, me.retries = 1, 1, STOPPED, 0
            me.limit = 1
            self.transmit(now, CLIENT, 1, 0, ACK)
            if not self.reply_wanted:
                self.finish(now, "ok")
            self.speak(now)
            return
        if flags & ACK:
            self.on_ack(now, side, ack, echo, pure=length == 0 and not flags & FIN)
        if length or flags & FIN:
            self.on_data(now, side, seq, length, bool(flags & FIN))

    def on_syn(self, now: int, sent: int) -> None:
        me = self.sides[SERVER]
        takes = self.path.listening(now)
        if takes is None:
            return
        me.heard_sent, me.heard = sent, 1
        if not takes:
            me.heard_sent = BEFORE
            self.transmit(now, SERVER, 0, 0, RST | ACK)
            return
        again = me.next > 0
        me.next = me.limit = 1
        self.transmit(now, SERVER, 0, 0, SYN | ACK)
        if not again:
            self.arm(now, SERVER)

    def learn(self, now: int, side: int, ack: int, echo: int) -> None:
        """Time the round trip by the echoed timestamp, else by a segment that was sent only once."""
        me = self.sides[side]
        if echo != BEFORE:
            me.sample(now - echo)
        elif me.timed is not None and ack >= me.timed[0]:
            me.sample(now - me.timed[1])
        if me.timed is not None and (ack >= me.timed[0] or ack >= me.next):
            me.timed = None

    def on_ack(self, now: int, side: int, ack: int, echo: int, *, pure: bool) -> None:
        me = self.sides[side]
        if ack > me.una:
            self.learn(now, side, ack, echo)
            newly = -(-(ack - me.una) // me.mss)
            me.una = ack
            me.retries = me.duplicates = 0
            me.cwnd = min(MAX_WINDOW_SEGMENTS, me.cwnd + newly)
            me.retry_at = STOPPED
            if me.una < me.recover:
                self.resend(now, side)
            if me.una < me.next:
                self.arm(now, side)
            self.pump(now, side)
        elif pure and ack == me.una and me.una < me.next:
            me.duplicates += 1
            if me.duplicates == 3 and me.una >= me.recover:  # fast retransmit (RFC 5681 §3.2)
                me.cwnd = max(2, me.cwnd // 2)
                me.recover = me.next
                self.resend(now, side)

    def on_data(self, now: int, side: int, seq: int, length: int, fin: bool) -> None:
        me = self.sides[side]
        end = seq + length + fin
        if seq > me.heard:
            me.held[seq] = max(end, me.held.get(seq, 0))
            self.transmit(now, side, me.next, 0, ACK)
            return
        if end <= me.heard:
            self.transmit(now, side, me.next, 0, ACK)
            return
        filled = bool(me.held)
        me.heard = end
        while starts := [s for s in me.held if s <= me.heard]:
            for start in starts:
                me.heard = max(me.heard, me.held.pop(start))
        me.undone += 1
        count = me.sent_count
        self.delivered(now, side)
        if me.sent_count != count:  # the program answered at once and carried the ACK
            return
        if me.undone >= 2 or filled or fin:
            self.transmit(now, side, me.next, 0, ACK)
        elif me.delack_at == STOPPED:
            me.delack_at = now + me.stack.delayed_ack
            self.push(me.delack_at, "delack", side)

    def on_delack(self, now: int, side: int, _: tuple[int, ...]) -> None:
        me = self.sides[side]
        if me.delack_at == now:
            self.transmit(now, side, me.next, 0, ACK, delayed=side == CLIENT)
