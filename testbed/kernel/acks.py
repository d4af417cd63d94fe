"""When Linux acknowledges data (net/ipv4/tcp_input.c, tcp_output.c, tcp_timer.c of Linux 6.18).

Linux acknowledges at once while it is *quick* (at the beginning, and again after a pause), and while
a connection is not *interactive*: it becomes so when data goes out soon after data came, and then
ACKs wait for data to travel with. Times are integer nanoseconds of whatever clock the caller has.
Programs read what arrives at once.
"""

from __future__ import annotations

from typing import NamedTuple

MOST_QUICK = 16
"""Linux TCP_MAX_QUICKACKS."""
_FEWEST_QUICK = 2
_LONGEST_NS = 200_000_000
"""Linux TCP_DELACK_MAX."""
_LARGEST_PAUSE_NS = 500_000_000
"""Most that a receiver of full segments waits (tcp_send_delayed_ack: HZ / 2)."""
_FIRST_SEGMENT, _LEAST_SEGMENT = 536, 88
"""Linux TCP_MSS_DEFAULT and TCP_MIN_MSS, bytes."""
_TCP_HEADER = 20
_JIFFY_NS = 4_000_000
"""Resolution at which a state is kept from one exchange to the next (Linux with HZ=250)."""
LONG_AGO = -(1 << 60)
"""`AckState.heard_ns` when no rule looks at it any more."""


class AckState(NamedTuple):
    """What a policy remembers between exchanges; coarse, so that like exchanges have like states."""

    interactive: bool = False
    quick: int = 0
    ato_ns: int = 0
    segment: int = _FIRST_SEGMENT
    last_size: int = 0
    heard_ns: int = LONG_AGO
    """When data last came, counted from the beginning of the exchange."""

    def later(self, passed_ns: int) -> AckState:
        """Return the state when so much time has passed."""
        if self.heard_ns == LONG_AGO:
            return self
        interactive, quick, ato_ns, segment, last_size, heard_ns = self
        heard_ns = (heard_ns - passed_ns) // _JIFFY_NS * _JIFFY_NS
        return AckState(interactive, quick, ato_ns, segment, last_size, heard_ns)

    def rested(self) -> AckState:
        """Return the state after a pause longer than the retransmission time: it will be quick again."""
        return self._replace(quick=0, heard_ns=LONG_AGO)


class AckPolicy:
    """The delayed-ACK engine of one side of a connection."""

    __slots__ = (
        "_ato_ns", "_heard_ns", "_last_size", "_least_ns", "_pushed", "_quick", "_segment", "_window",
        "interactive", "pending", "unacknowledged",
    )  # fmt: skip

    def __init__(self, least_ns: int, window: int, state: AckState | None = None, now_ns: int = 0) -> None:
        """`least_ns` is the stack's delayed-ACK time (Linux TCP_ATO_MIN), `window` its bytes to receive.

        `state` is what it remembers at `now_ns`.
        """
        self._least_ns = least_ns
        self._window = window
        state = state or AckState()
        self.interactive = state.interactive
        self._quick, self._ato_ns = state.quick, state.ato_ns
        self._segment, self._last_size = state.segment, state.last_size
        self._heard_ns = LONG_AGO if state.heard_ns == LONG_AGO else now_ns + state.heard_ns
        self._pushed = 0
        self.pending = False
        """Whether data waits to be acknowledged."""
        self.unacknowledged = 0
        """Bytes that wait for it."""

    def state(self, now_ns: int) -> AckState:
        """Return what it remembers, its times counted from `now_ns`."""
        heard_ns = LONG_AGO if self._heard_ns == LONG_AGO else self._heard_ns - now_ns
        ato_ns = -(-self._ato_ns // _JIFFY_NS) * _JIFFY_NS
        return AckState(self.interactive, self._quick, ato_ns, self._segment, self._last_size, heard_ns)

    def received(self, now_ns: int, rto_ns: int, size: int, header: int, *, push: bool) -> bool:
        """Take the arrival of new data in order; return whether its ACK is due at once.

        `size` is the segment's payload and `header` its TCP header in bytes, `rto_ns` the present
        retransmission time.
        """
        self.pending = True
        self.unacknowledged += size
        self._measure(size, header, push)
        if self._ato_ns == 0:
            self._be_quick()
            self._ato_ns = self._least_ns
        else:
            gap_ns = now_ns - self._heard_ns
            if gap_ns <= self._least_ns // 2:
                self._ato_ns = self._ato_ns // 2 + self._least_ns // 2
            elif gap_ns < self._ato_ns:
                self._ato_ns = min(self._ato_ns // 2 + gap_ns, rto_ns)
            elif gap_ns > rto_ns:  # the sender paused: it may need to open its window again
                self._be_quick()
        self._heard_ns = now_ns
        if self.unacknowledged > self._segment or self._pushed == 2:
            return True
        return not self.interactive and (self._quick > 0 or self._pushed > 0)

    def _measure(self, size: int, header: int, push: bool) -> None:
        """Estimate the peer's full segment, and note small ones (tcp_measure_rcv_mss)."""
        if size >= self._segment:
            self._segment = size
            self._pushed = max(self._pushed, int(push))
            return
        if size + header >= (_FIRST_SEGMENT if push else _LEAST_SEGMENT) + _TCP_HEADER:
            same = size == self._last_size
            self._last_size = size
            if same:
                self._segment = size
                return
        self._pushed = min(2, self._pushed + 1)

    def _be_quick(self) -> None:
        count = self._window // (2 * self._segment) or _FEWEST_QUICK
        self._quick = max(self._quick, min(count, MOST_QUICK))

    def sent(self, now_ns: int, *, data: bool) -> None:
        """Take the sending of a segment; it acknowledges all that has come."""
        if self.pending and self._quick > 0:
            self._quick -= 1
            if self._quick == 0:
                self._ato_ns = self._least_ns
        self.pending = False
        self.unacknowledged = self._pushed = 0
        if data and now_ns - self._heard_ns < self._ato_ns:
            self.interactive = True

    def delay_ns(self, srtt_ns: int, left_ns: int | None = None) -> int:
        """Return how long the ACK is held back; `left_ns` of an earlier delay remain, if one runs."""
        ato_ns = self._ato_ns or self._least_ns
        if ato_ns > self._least_ns:
            most_ns = _LONGEST_NS if self.interactive or self._pushed else _LARGEST_PAUSE_NS
            if srtt_ns:
                most_ns = min(most_ns, max(srtt_ns, self._least_ns))
            ato_ns = min(ato_ns, most_ns)
        ato_ns = min(ato_ns, _LONGEST_NS)
        if left_ns is None:
            return ato_ns
        return 0 if left_ns <= ato_ns // 4 else min(left_ns, ato_ns)

    def missed(self, rto_ns: int) -> None:
        """Take that the time of a delayed ACK passed without a reply to carry it."""
        if self.interactive:
            self.interactive = False
            self._ato_ns = self._least_ns
        else:
            self._ato_ns = min(self._ato_ns * 2, rto_ns)

    def repeated(self) -> None:
        """Take that known data arrived once more: Linux acknowledges quickly from then on."""
        self._be_quick()
        self.interactive = False
        self._ato_ns = self._least_ns

    def closed_by_peer(self) -> None:
        """Take the peer's FIN while this side is still open: its ACK waits for this side's own."""
        self.pending = True
        self.interactive = True
