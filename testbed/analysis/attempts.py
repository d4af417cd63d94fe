"""Which frames are attempts, answers and refusals, by protocol."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.tables import BY_DST, BY_SRC, TCP_RESET, TCP_SYN
from testbed.capture import frame as f
from testbed.capture.payload import ANSWERED, EMPTY, NO_SUCH_NAME, REFUSED, SERVER_FAILURE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger

    Mask = NDArray[np.bool_]

DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
ECHO_REQUEST, ECHO_REPLY, UNREACHABLE, TIME_EXCEEDED = 8, 0, 3, 11


def of_ledger(function: Callable[[Ledger], Mask]) -> Callable[[Ledger], Mask]:
    """Make a function find its answer once for each ledger, which it keeps."""

    @wraps(function)
    def asked(ledger: Ledger) -> Mask:
        if function.__name__ not in ledger.masks:
            ledger.masks[function.__name__] = function(ledger)
        return ledger.masks[function.__name__]

    return asked


def _sent(ledger: Ledger) -> NDArray[np.bool_]:
    roles = ledger.roles
    return np.asarray((roles.device >= 0) & (roles.device < roles.router_index) & (roles.src == roles.device))


def _received(ledger: Ledger) -> NDArray[np.bool_]:
    roles = ledger.roles
    return np.asarray((roles.device >= 0) & (roles.device < roles.router_index) & (roles.dst == roles.device))


@of_ledger
def attempts(ledger: Ledger) -> NDArray[np.bool_]:
    """Return, per key, whether its frames each begin something that wants an answer.

    A DNS query, a TCP SYN (its retransmissions too), a DHCP DISCOVER or REQUEST, an NTP or echo
    request, any other UDP datagram of an exchange that the device began and that is no multicast.
    """
    keys = ledger.keys
    service, kind, transport = keys["service"], keys["kind"], keys["transport"]
    multicast = (keys["dst"] >> 40 & 1).astype(bool) & (keys["dst"] < 1 << 48)
    plain_udp = (transport == f.UDP) & ~np.isin(service, (f.DNS, f.DHCP, f.MDNS, f.SSDP)) & ~multicast
    wants = (
        ((service == f.DNS) & (transport == f.UDP) & (kind == 0))
        | ((transport == f.TCP) & (kind == TCP_SYN))
        | ((service == f.DHCP) & ((kind == DISCOVER) | (kind == REQUEST)))
        | ((service == f.ICMP) & (kind == ECHO_REQUEST))
        | plain_udp
    )
    return np.asarray(_sent(ledger) & (keys["role"] == BY_SRC) & wants)


@of_ledger
def answers(ledger: Ledger) -> NDArray[np.bool_]:
    """Return, per key, whether its frames show that the other end works (a negative DNS answer does)."""
    keys = ledger.keys
    service, kind, transport = keys["service"], keys["kind"], keys["transport"]
    good = (
        ((service == f.DNS) & (transport == f.UDP) & np.isin(kind, (ANSWERED, EMPTY, NO_SUCH_NAME)))
        | ((transport == f.TCP) & (kind != TCP_RESET) & (kind != TCP_SYN))
        | ((service == f.DHCP) & ((kind == OFFER) | (kind == ACK)))
        | ((service == f.ICMP) & (kind == ECHO_REPLY))
        | (
            (transport == f.UDP)
            & ~np.isin(service, (f.DNS, f.DHCP, f.MDNS, f.SSDP))
            & (keys["role"] == BY_DST)
        )
    )
    return np.asarray(_received(ledger) & good)


@of_ledger
def unreachables(ledger: Ledger) -> NDArray[np.bool_]:
    """Return, per key, whether its frames are ICMP errors: those tell nothing of the far end they come from.

    A router may send them from its outer address, with no Internet behind it.
    """
    keys = ledger.keys
    errors = (UNREACHABLE, TIME_EXCEEDED)
    return np.asarray((keys["service"] == f.ICMP) & np.isin(keys["kind"], errors))


@of_ledger
def refusals(ledger: Ledger) -> NDArray[np.bool_]:
    """Return, per key, whether its frames say no: RST, REFUSED, SERVFAIL, NAK, ICMP unreachable."""
    keys = ledger.keys
    service, kind, transport = keys["service"], keys["kind"], keys["transport"]
    bad = (
        ((service == f.DNS) & np.isin(kind, (REFUSED, SERVER_FAILURE)))
        | ((transport == f.TCP) & (kind == TCP_RESET) & (keys["role"] == BY_DST))
        | ((service == f.DHCP) & (kind == NAK))
        | unreachables(ledger)
    )
    return np.asarray(_received(ledger) & bad)
