"""When Linux acknowledges data, decided by the loop's clock (net/ipv4/tcp_input.c, tcp_output.c).

Linux answers at once in *quick* mode and delays in *interactive* mode, and changes between them by
the times at which data came and went. Under the virtual clock those times mean nothing to the
kernel; so its sockets are held in interactive mode, in which it acknowledges only what does not
depend on time (every second full segment, gaps, FIN), and this says when the rest is due.
"""

from __future__ import annotations

_MOST_QUICK = 16
"""Linux TCP_MAX_QUICKACKS."""
_LONGEST_NS = 200_000_000
"""Linux TCP_DELACK_MAX."""


class AckPolicy:
    """The delayed-ACK engine of one side of a connection; times are nanoseconds."""

    __slots__ = ("_ato_ns", "_heard_ns", "_least_ns", "_quick", "interactive")

    def __init__(self, least_ns: int) -> None:
        """`least_ns` is the stack's delayed-ACK time (Linux TCP_ATO_MIN)."""
        self._least_ns = least_ns
        self._ato_ns = 0
        self._heard_ns = 0
        self._quick = 0
        self.interactive = False

    def received(self, now_ns: int, rto_ns: int, small: bool) -> bool:
        """Take the arrival of data; return whether its ACK is due at once.

        `small` says that the segment ends what the peer had to say for now: the ACK then goes out
        as the program reads it, which here is at once.
        """
        if self._ato_ns == 0:
            self._quick = _MOST_QUICK
            self._ato_ns = self._least_ns
        else:
            gap_ns = now_ns - self._heard_ns
            if gap_ns <= self._least_ns // 2:
                self._ato_ns = self._ato_ns // 2 + self._least_ns // 2
            elif gap_ns < self._ato_ns:
                self._ato_ns = min(self._ato_ns // 2 + gap_ns, rto_ns)
            elif gap_ns > rto_ns:  # the sender paused: it may need to open its window again
                self._quick = _MOST_QUICK
        self._heard_ns = now_ns
        return not self.interactive and (self._quick > 0 or small)

    def sent_data(self, now_ns: int) -> None:
        """Take the sending of data: a reply soon after data makes the connection interactive."""
        if now_ns - self._heard_ns < self._ato_ns:
            self.interactive = True

    def acknowledged(self) -> None:
        """Take the sending of an ACK that was due."""
        if self._quick > 0:
            self._quick -= 1
            if self._quick == 0:
                self._ato_ns = self._least_ns

    def delay_ns(self, srtt_ns: int) -> int:
        """Return how long an ACK is held back."""
        if self._ato_ns <= self._least_ns:
            return self._ato_ns or self._least_ns
        return min(self._ato_ns, _LONGEST_NS, max(srtt_ns, self._least_ns))

    def missed(self, rto_ns: int) -> None:
        """Take that the time of a delayed ACK passed without a reply to carry it."""
        if self.interactive:
            self.interactive = False
            self._ato_ns = self._least_ns
        else:
            self._ato_ns = min(self._ato_ns * 2, rto_ns)

    def gap(self) -> None:
        """Take that data arrived out of order: Linux acknowledges quickly from then on."""
        self.interactive = False
        self._quick = _MOST_QUICK
        self._ato_ns = self._least_ns
