"""The names that a home router answers for itself: its devices under `.lan`, as dnsmasq on OpenWrt does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.protocols import dns
from testbed.services.zone import Zone

if TYPE_CHECKING:
    from collections.abc import Mapping

SUFFIX = "lan"
_ENDS = b"\x03lan\x00"


class HomeNames:
    """Answers questions about the home, whatever has become of the uplink; `addresses` are by device."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._zone = Zone()
        for device, address in addresses.items():
            self._zone.add([f"{device}.{SUFFIX}"], [address], ttl=0)

    def answer(self, query: bytes, client: str) -> bytes | None:
        """Return the answer to a client's question; None when it is not about the home."""
        if _ENDS not in query.lower():
            return None
        try:
            _, name, qtype = dns.question(query)
        except ValueError:
            return None
        if not name.lower().removesuffix(".").endswith(f".{SUFFIX}"):
            return None
        rcode, answers = self._zone.lookup(name, qtype, client)
        return dns.reply(query, answers, rcode)
