"""Which addresses are local, and which can be one host's."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import numpy as np

from testbed.capture.frame import signed
from testbed.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Address = tuple[int, int]
"""Both halves of an address, as the frame table has them."""

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
           "fe80::/10", "fc00::/7", "::1/128")  # fmt: skip
"""Addresses that are local unless something else is said. 198.18.0.0/15 is not among them: it
serves as the Internet of test networks."""


class Nets:
    """A set of networks to ask addresses of."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.four: list[tuple[int, int]] = []
        self.six: list[tuple[int, int]] = []
        self.halves: set[int] = set()
        """Upper halves of IPv6 addresses that are local: a /64 each."""
        for text in texts:
            try:
                net = ip_network(text, strict=False)
            except ValueError:
                raise UserError(f"'{text}' is not a network; write it like 192.168.1.0/24") from None
            base, mask = int(net.network_address), int(net.netmask)
            (self.four if net.version == 4 else self.six).append((base, mask))

    def cover(self, hi: NDArray[np.int64], lo: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which addresses lie in one of the networks."""
        four = (hi == 0) & (lo >> 32 == 0xFFFF)
        out = np.zeros(len(hi), bool)
        for base, mask in self.four:
            out |= four & ((lo & 0xFFFFFFFF & mask) == base)
        if not four.all():
            for base, mask in self.six:
                upper, lower = (signed(mask >> 64), signed(base >> 64)), (signed(mask), signed(base))
                out |= ~four & (hi & upper[0] == upper[1]) & (lo & lower[0] == lower[1])
            out |= ~four & np.isin(hi, np.array(sorted(self.halves), np.int64))
        return out


def is_unicast(address: Address) -> bool:
    """Return whether an address can be one host's."""
    hi, lo = address
    if hi == 0 and lo >> 32 == 0xFFFF:
        value = lo & 0xFFFFFFFF
        return value != 0 and value < 0xE0000000
    return (hi, lo) != (0, 0) and (hi >> 56) & 0xFF != 0xFF


def are_unicast(hi: NDArray[np.int64], lo: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which addresses can be one host's."""
    four = (hi == 0) & (lo >> 32 == 0xFFFF)
    value = lo & 0xFFFFFFFF
    six = ((hi != 0) | (lo != 0)) & (hi >> 56 & 0xFF != 0xFF)
    out: NDArray[np.bool_] = np.where(four, (value != 0) & (value < 0xE0000000), six)
    return out
