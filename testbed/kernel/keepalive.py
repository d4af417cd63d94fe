"""TCP keep-alive (RFC 9293 §3.8.4) as Linux does it (net/ipv4/tcp_timer.c, tcp_keepalive_timer)."""

from __future__ import annotations

PROBES = 9
"""Unanswered probes until a connection is given up (tcp_keepalive_probes)."""
_INTERVAL_S = 75.0
"""Between unanswered probes (tcp_keepalive_intvl)."""


def interval_s(idle_s: float) -> float:
    """Return the time until the next probe while none is answered.

    Linux does not look at the connection sooner, even if it is answered; so firmware whose probes
    come every `idle_s` must have set an interval no longer than that (TCP_KEEPINTVL).
    """
    return min(_INTERVAL_S, idle_s)
