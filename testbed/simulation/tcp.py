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
from testbed.simulation.resending import Resending
from testbed.simulation.side import STOPPED, Side

if TYPE_CHECKING:
    from testbed.kernel.acks import AckState
    from testbed.simulation.plans import Path, Plan, Stack

MAX_WINDOW_SEGMENTS = 64
NIC_BITS_PER_S = 100_000_000
_HEADERS = 66
_BARE_HEADER, _STAMPED_HEADER = 20, 32
"""TCP headers without and with the timestamps option, bytes."""


def play(plan: Plan, client: Stack, server: Stack, path: Path, start: int, deadline: int) -> Played:
    """Run both kernels through `plan` from `start`; the client's program gives up at `deadline`.

    Both are absolute nanoseconds; the result is relative to `start`.
    """
    return _Play(plan, client, server, path, start, deadline).run()


class _Play(Resending):
    def __init__(
        self, plan: Plan, client: Stack, server: Stack, path: Path, start: int, deadline: int
    ) -> None:
        self.plan, self.path, self.start, self.deadline = plan, path, start, deadline
        self.sides = (
            Side(client, server, plan, CLIENT, start),
            Side(server, client, plan, SERVER, start),
        )
        self.timestamps = client.timestamps and server.timestamps
        self.header = _STAMPED_HEADER if self.timestamps else _BARE_HEADER
        self.before_delay: AckState | None = None
        """What the client's kernel knew before its delayed ACK, if that was the last it sent."""
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
        mine, theirs = (side.acks.state(self.start) for side in sides)
        result.used = True
        result.acks = (mine, theirs)
        result.acks_cut = (self.before_delay or mine, theirs)
        result.acks_rested = (mine.rested(), theirs.rested())
        result.rests = max(mine.heard_ns + sides[CLIENT].rto, theirs.heard_ns + sides[SERVER].rto, 0)
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
            me.last = (me.next, length, ACK | (PSH if me.next + length in me.marks else 0))
            self.transmit(now, side, *me.last)
            me.next += length
            sent = True
        if me.fin_wanted and me.next == me.limit:
            me.last = (me.next, 0, ACK | FIN)
            self.transmit(now, side, *me.last)
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
        if flags & ACK:
            me.acks.sent(now, data=length > 0)
        if side == CLIENT and not delayed:
            self.before_delay = None
        number = me.sent_count
        me.sent_count += 1
        fate = self.path.up(depart, size) if side == CLIENT else self.path.down(depart, size)
        start = self.start
        if fate.captured is not None:
            segment = Segment(
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
            self.result.segments.append(segment)
            if fate.unreachable is not None:
                self.result.unreachable.append((fate.unreachable - start, segment, number))
                self.push(fate.unreachable, "unreachable", side, (seq,))
        if me.timed is None and (length or flags & (SYN | FIN)):
            me.timed = (seq + length + bool(flags & (SYN | FIN)), depart)
        if fate.arrives is not None:
            echo = me.heard_sent if self.timestamps else BEFORE
            ranges = [edge for held in sorted(me.held.items()) for edge in held] if me.sack else []
            self.push(
                fate.arrives, "segment", 1 - side, (seq, length, flags, me.heard, depart, echo, *ranges)
            )
            if not delayed:
                self.result.quiet = max(self.result.quiet, fate.arrives - start)

    # --- receiving ------------------------------------------------------------------------

    def on_segment(self, now: int, side: int, data: tuple[int, ...]) -> None:
        seq, length, flags, ack, sent, echo, *ranges = data
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
            me.sacked = tuple(zip(ranges[::2], ranges[1::2], strict=True))
            self.on_ack(now, side, ack, echo, pure=length == 0 and not flags & FIN)
        if length or flags & FIN:
            self.on_data(now, side, seq, length, fin=bool(flags & FIN), push=bool(flags & PSH))

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
                self.repair(now, side)
            else:
                me.lossy = False
            if me.una < me.next:
                self.arm(now, side)
            self.pump(now, side)
        elif pure and ack == me.una and me.una < me.next:
            me.duplicates += 1
            if me.una < me.recover and me.sacked:
                self.repair(now, side)
            elif me.duplicates == 3 and me.una >= me.recover:
                self.lose(now, side)

    def on_data(self, now: int, side: int, seq: int, length: int, *, fin: bool, push: bool) -> None:
        me = self.sides[side]
        end = seq + length + fin
        if seq > me.heard:
            me.held[seq] = max(end, me.held.get(seq, 0))
            self.transmit(now, side, me.next, 0, ACK)
            return
        if end <= me.heard:
            me.acks.repeated()
            self.transmit(now, side, me.next, 0, ACK)
            return
        filled = bool(me.held)
        me.heard = end
        while starts := [s for s in me.held if s <= me.heard]:
            for start in starts:
                me.heard = max(me.heard, me.held.pop(start))
        at_once = length > 0 and me.acks.received(now, me.rto, length, self.header, push=push)
        if at_once or filled:
            self.transmit(now, side, me.next, 0, ACK)
            self.delivered(now, side)
            return
        count = me.sent_count
        self.delivered(now, side)
        if me.sent_count != count:  # the program answered at once and carried the ACK
            return
        if fin:
            self.transmit(now, side, me.next, 0, ACK)
            return
        left = me.delack_at - now if me.delack_at != STOPPED else None
        delay = me.acks.delay_ns(me.smoothed, left)
        if delay == 0:
            self.transmit(now, side, me.next, 0, ACK)
        elif delay != left:
            me.delack_at = now + delay
            self.push(me.delack_at, "delack", side)

    def on_delack(self, now: int, side: int, _: tuple[int, ...]) -> None:
        me = self.sides[side]
        if me.delack_at != now:
            return
        before = me.acks.state(self.start) if side == CLIENT else None
        me.acks.missed(me.rto)
        self.transmit(now, side, me.next, 0, ACK, delayed=side == CLIENT)
        if before is not None:
            self.before_delay = before
