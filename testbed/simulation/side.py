"""One kernel's half of a simulated connection: counters, windows, and what it knows of the round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.kernel.acks import AckPolicy
from testbed.kernel.retransmission import patience_ns
from testbed.simulation.plans import BEFORE

if TYPE_CHECKING:
    from testbed.simulation.plans import Plan, Stack

STOPPED = -(1 << 62)
"""Time of a timer that does not run, earlier than any: in the warm-up all times are negative."""


class Side:
    """What one kernel knows of its half of a connection."""

    __slots__ = (
        "acks", "backoff", "cwnd", "delack_at", "duplicates", "fin_wanted", "first_retry", "heard",
        "heard_sent", "held", "hole", "last", "limit", "lossy", "marks", "mss", "next", "nic_free",
        "peer_window", "probed", "probing", "recover", "resent_at", "retries", "retry_at", "rto",
        "sack", "sacked", "sent_count", "smoothed", "stack", "timed", "una", "varies",
    )  # fmt: skip

    def __init__(self, stack: Stack, peer: Stack, plan: Plan, side: int, start: int) -> None:
        self.stack = stack
        self.acks = AckPolicy(stack.delayed_ack, stack.window, plan.acks[side], start)
        self.mss = min(stack.mss, peer.mss) - (12 if stack.timestamps and peer.timestamps else 0)
        self.cwnd = plan.cwnd[side]
        self.peer_window = peer.receive_window(stack)
        self.next = self.una = self.limit = 0
        self.heard = 0  # next byte expected from the peer
        self.heard_sent = BEFORE  # send time of the latest segment heard
        self.held: dict[int, int] = {}  # out-of-order data: start -> end
        self.marks: list[int] = []  # ends of messages: PSH
        self.fin_wanted = False
        self.nic_free = STOPPED
        self.smoothed = self.varies = 0
        self.backoff = 0  # doublings of the timer in force
        self.rto = stack.syn_timeout
        self.timed: tuple[int, int] | None = None  # a sequence number and when what ends there was sent
        if plan.timers is not None:
            self.smoothed, self.varies, self.rto = plan.timers[side]
        elif plan.rtt:
            self.sample(plan.rtt)
        self.retry_at = self.delack_at = STOPPED
        self.retries = self.duplicates = self.sent_count = 0
        self.first_retry = self.resent_at = STOPPED
        self.recover = -1  # while `una` is below it, losses are being repaired
        self.lossy = False  # … after a timeout: all that is not known to have arrived counts as lost
        self.hole = 0  # up to here losses have been sent again
        self.sacked: tuple[tuple[int, int], ...] = ()  # what the peer has beyond a gap, as it last said
        self.sack = stack.sack and peer.sack
        self.last: tuple[int, int, int] = (0, 0, 0)  # the last segment sent: seq, length, flags
        self.probing = False  # the timer that runs is that of a loss probe
        self.probed = -1  # no further probe until this is acknowledged

    def sample(self, rtt: int) -> None:
        """Learn a round trip (RFC 6298 §2; the least time comes on top of it, as in Linux)."""
        if self.smoothed:
            self.varies += (abs(self.smoothed - rtt) - self.varies) // 4
            self.smoothed += (rtt - self.smoothed) // 8
        else:
            self.smoothed, self.varies = rtt, rtt // 2
        self.rto = self.timeout()
        self.backoff = 0

    def timeout(self) -> int:
        """Return the retransmission time without doublings."""
        stack = self.stack
        if not self.smoothed:
            return stack.syn_timeout
        return min(stack.max_rto, self.smoothed + max(stack.min_rto, 4 * self.varies))

    def may_probe(self) -> bool:
        """Tell whether a loss probe comes before the timeout: with SACK, while nothing is known lost."""
        return self.sack and self.retries == 0 and self.una >= self.recover and self.una >= self.probed

    def in_flight(self) -> int:
        """Return the bytes under way: not acknowledged, not known to have arrived, not taken for lost."""
        beyond = self.next if self.lossy else max((end for _, end in self.sacked), default=self.hole)
        gone = self.unsacked(max(self.hole, self.una), min(beyond, self.recover))
        return self.unsacked(self.una, self.next) - gone

    def unsacked(self, begin: int, end: int) -> int:
        """Return the bytes of a span that the peer has not said to have."""
        held = sum(max(0, min(end, last) - max(begin, first)) for first, last in self.sacked)
        return max(0, end - begin) - held

    def gives_up(self, now: int, retries: int) -> bool:
        """Tell whether the time that so many retries stand for has passed."""
        patience = patience_ns(retries, self.stack.min_rto, self.stack.max_rto)
        return self.retries > 0 and now - self.first_retry >= patience
