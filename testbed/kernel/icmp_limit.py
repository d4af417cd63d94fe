"""Linux's limit on ICMP errors to one destination (net/ipv4/icmp.c, route.c, inetpeer.c).

One bucket of a token a second serves two checks: routing lets a burst of five *network unreachable*
pass (ip_error), sending any error a burst of six (icmpv4_xrlim_allow). So each of the former takes
two tokens, and packets that come faster than one in two seconds get none after the first two.
"""

from __future__ import annotations

_SENDING_BURST, _ROUTING_BURST = 6, 5
_TOKEN_NS = 1_000_000_000


class ErrorBucket:
    """What one destination may still be told; times are nanoseconds of the caller's clock."""

    __slots__ = ("_since_ns", "_tokens_ns")

    def __init__(self) -> None:
        self._tokens_ns = _SENDING_BURST * _TOKEN_NS
        self._since_ns: int | None = None

    def allows(self, now_ns: int, *, no_route: bool) -> bool:
        """Tell whether an error may be sent now; `no_route` is for *network unreachable*."""
        if no_route and not self._take(now_ns, _ROUTING_BURST):
            return False
        return self._take(now_ns, _SENDING_BURST)

    def _take(self, now_ns: int, burst: int) -> bool:
        since_ns = now_ns if self._since_ns is None else self._since_ns
        tokens_ns = min(burst * _TOKEN_NS, self._tokens_ns + max(0, now_ns - since_ns))
        allowed = tokens_ns >= _TOKEN_NS
        self._tokens_ns = tokens_ns - _TOKEN_NS * allowed
        self._since_ns = max(now_ns, since_ns)
        return allowed
