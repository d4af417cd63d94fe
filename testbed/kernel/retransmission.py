"""When Linux sends again, and when it gives up (net/ipv4/tcp_timer.c, tcp_output.c, tcp_ipv4.c).

Beside the doubling timer of RFC 6298 there are three rules that show in captures: a *loss probe*
sends the last segment again before the first timeout (RFC 8985 §7); an ICMP host or net unreachable
takes one doubling back (RFC 6069); and the number of retries stands for a span of time.
"""

from __future__ import annotations

ORPHAN_RETRIES = 8
"""Retries once the program has closed the socket (tcp_orphan_retries)."""
_FIRST_TIMEOUT_NS = 1_000_000_000
"""TCP_TIMEOUT_INIT: taken for a round trip that is not known."""
_LEAST_TIMEOUT_NS = 8_000_000
"""TCP_TIMEOUT_MIN: two jiffies (of HZ=250)."""


def loss_probe_ns(srtt_ns: int, rto_ns: int, least_rto_ns: int, segments: int) -> int:
    """Return after which time the last of so many unanswered segments is sent again (RFC 8985 §7.2).

    Never later than the timeout itself: then the probe comes in its place, and the timer starts anew.
    """
    if srtt_ns == 0:
        return min(_FIRST_TIMEOUT_NS, rto_ns)
    more_ns = least_rto_ns if segments == 1 else _LEAST_TIMEOUT_NS
    return min(2 * srtt_ns + more_ns, rto_ns)


def patience_ns(retries: int, least_rto_ns: int, most_rto_ns: int) -> int:
    """Return the time from the first retransmission until Linux gives up (tcp_model_timeout).

    That of so many retries that double from the least timeout up to the longest.
    """
    doublings = (most_rto_ns // least_rto_ns).bit_length() - 1
    if retries <= doublings:
        return ((2 << retries) - 1) * least_rto_ns
    return ((2 << doublings) - 1) * least_rto_ns + (retries - doublings) * most_rto_ns
