"""The router's DHCP server (RFC 2131 §4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from testbed.host import Datagram
from testbed.models.base import Model
from testbed.models.units import Duration
from testbed.protocols import dhcp
from testbed.services.datagrams import DatagramsOnly

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from testbed.services.context import ServiceContext

_OFFER_HOLDS_S = 60.0
_DECLINED_FOR_S = 3600.0


class DhcpServerOptions(Model):
    """A DHCP server for one network."""

    network: IPv4Network = IPv4Network("192.168.1.0/24")
    """The network that it gives addresses of."""
    address: IPv4Address = IPv4Address("192.168.1.1")
    """Of the server; also the router and resolver that it names, unless told otherwise."""
    router: IPv4Address | None = None
    """Option 3; null is its own address."""
    resolvers: tuple[IPv4Address, ...] = ()
    """Option 6; empty is its own address."""
    lease: Duration = Field("12h", ge=60)
    """Duration of a lease."""
    first: int = Field(100, ge=1, le=65534)
    """Host number of the first address of the pool."""
    size: int = Field(150, ge=1, le=65534)
    """Addresses in the pool."""
    domain: str | None = "lan"
    """Option 15."""
    fixed: dict[str, IPv4Address] = {}
    """MAC (in lower case) -> its fixed address."""
    times: bool = False
    """Send options 58 and 59 (T1, T2) too."""
    authoritative: bool = False
    """Confirm a free address that a client remembers, though no lease of it is known."""
    think: Duration = 0
    """Time until it answers."""

    @model_validator(mode="after")
    def _inside(self) -> DhcpServerOptions:
        last = self.network.num_addresses - 2
        if self.first + self.size - 1 > last:
            raise ValueError(
                f"the pool ends at host {self.first + self.size - 1}, {self.network} ends at {last}"
            )
        for name, address in (("address", self.address), *self.fixed.items()):
            if address not in self.network:
                raise ValueError(f"{name}: {address} is not in {self.network}")
        return self


@dataclass(slots=True)
class Binding:
    """An address that a client holds, or was offered."""

    address: str
    until: float
    bound: bool
    """False while it is only offered."""


def allot(
    macs: Iterable[str],
    network: IPv4Network,
    first: int,
    size: int,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return an address for each MAC: its fixed one, else by hash with linear probing, in order.

    A MAC further back in the list never changes what those before it get. ValueError when the pool
    is too small.
    """
    found: dict[str, str] = {}
    taken = set((fixed or {}).values())
    for mac in macs:
        address = (fixed or {}).get(mac) or _probe(mac, network, first, size, taken)
        if address is None:
            raise ValueError(f"the pool of {size} addresses is too small for {mac}")
        found[mac] = address
        taken.add(address)
    return found


def _probe(mac: str, network: IPv4Network, first: int, size: int, taken: set[str]) -> str | None:
    start = int.from_bytes(sha256(mac.encode()).digest()[:8], "big")
    for step in range(size):
        address = str(network.network_address + first + (start + step) % size)
        if address not in taken:
            return address
    return None


class DhcpServer(DatagramsOnly):
    """Hands out addresses; `forget` is what a restart does to a server without a disk."""

    def __init__(self, options: DhcpServerOptions, context: ServiceContext) -> None:
        self._options = options
        self._server = str(options.address)
        self._fixed = {mac.lower(): str(address) for mac, address in options.fixed.items()}
        self._owners = {address: mac for mac, address in self._fixed.items()}
        self._declined: dict[str, float] = {}
        self.bindings: dict[str, Binding] = {}
        """MAC -> what it holds or was offered."""

    def forget(self) -> None:
        """Lose all leases."""
        self.bindings.clear()
        self._declined.clear()

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Answer a client's message; `dhcp.target` tells where an answer goes."""
        try:
            message = dhcp.parse(data)
        except ValueError:
            return ()
        if message.kind == dhcp.DISCOVER:
            answer = self._discover(message, now)
        elif message.kind == dhcp.REQUEST:
            answer = self._request(message, now)
        elif message.kind == dhcp.INFORM:
            answer = self._build(dhcp.ACK, message, "0.0.0.0", lease=False)
        else:
            answer = None
            self._given_back(message, now)
        return () if answer is None else (Datagram(answer, self._options.think),)

    def _discover(self, message: dhcp.DhcpMessage, now: float) -> bytes | None:
        address = self._choose(message, now)
        if address is None:
            return None
        held = self.bindings.get(message.mac)
        if held is None or held.address != address or held.until < now + _OFFER_HOLDS_S:
            self.bindings[message.mac] = Binding(address, now + _OFFER_HOLDS_S, bound=False)
        return self._build(dhcp.OFFER, message, address)

    def _choose(self, message: dhcp.DhcpMessage, now: float) -> str | None:
        """Return the address to offer, in the order of RFC 2131 §4.3.1."""
        own = self._fixed.get(message.mac)
        if own is not None:
            return own
        held = self.bindings.get(message.mac)
        if held is not None and self._free(held.address, message.mac, now):
            return held.address
        wished = message.requested_ip
        if wished is not None and self._in_pool(wished) and self._free(wished, message.mac, now):
            return wished
        taken = {self._server, *self._owners}
        taken.update(
            bound.address for mac, bound in self.bindings.items() if mac != message.mac and bound.until > now
        )
        taken.update(address for address, until in self._declined.items() if until > now)
        return _probe(message.mac, self._options.network, self._options.first, self._options.size, taken)

    def _request(self, message: dhcp.DhcpMessage, now: float) -> bytes | None:
        held = self._held(message.mac)
        if message.server_id is not None:  # answers an offer (SELECTING)
            if message.server_id != self._server:
                if held is not None and not held.bound:
                    del self.bindings[message.mac]
                return None
            known = held is not None and held.address == message.requested_ip
            return self._bind(message, message.requested_ip, now) if known else self._refuse(message)
        if message.ciaddr == "0.0.0.0":  # asks for the address of an earlier time (INIT-REBOOT)
            wanted = message.requested_ip
            if wanted is None:
                return None
            if IPv4Address(wanted) not in self._options.network:
                return self._refuse(message)
        else:  # RENEWING or REBINDING
            wanted = message.ciaddr
        if held is not None:
            return self._bind(message, wanted, now) if held.address == wanted else self._refuse(message)
        if self._options.authoritative and self._in_pool(wanted) and self._free(wanted, message.mac, now):
            return self._bind(message, wanted, now)
        if message.ciaddr == "0.0.0.0" and not self._options.authoritative:
            return None  # no record: another server may know it (RFC 2131 §4.3.2)
        return self._refuse(message)

    def _held(self, mac: str) -> Binding | None:
        own = self._fixed.get(mac)
        return Binding(own, 0.0, bound=True) if own is not None else self.bindings.get(mac)

    def _bind(self, message: dhcp.DhcpMessage, address: str | None, now: float) -> bytes | None:
        if address is None or not self._free(address, message.mac, now):
            return self._refuse(message)
        self.bindings[message.mac] = Binding(address, now + self._options.lease, bound=True)
        return self._build(dhcp.ACK, message, address)

    def _refuse(self, message: dhcp.DhcpMessage) -> bytes:
        return dhcp.server_message(dhcp.NAK, message, server_id=self._server)

    def _given_back(self, message: dhcp.DhcpMessage, now: float) -> None:
        held = self.bindings.get(message.mac)
        if message.kind == dhcp.RELEASE and held is not None and held.address == message.ciaddr:
            del self.bindings[message.mac]
        if message.kind == dhcp.DECLINE and held is not None and held.address == message.requested_ip:
            self._declined[held.address] = now + _DECLINED_FOR_S
            del self.bindings[message.mac]

    def _in_pool(self, address: str) -> bool:
        number = int(IPv4Address(address)) - int(self._options.network.network_address)
        return self._options.first <= number < self._options.first + self._options.size

    def _free(self, address: str, mac: str, now: float) -> bool:
        """Tell whether nobody but `mac` has a right to the address."""
        if address == self._server or self._owners.get(address, mac) != mac:
            return False
        if self._declined.get(address, now) > now:
            return False
        return not any(
            other != mac and bound.address == address and bound.until > now
            for other, bound in self.bindings.items()
        )

    def _build(self, kind: str, message: dhcp.DhcpMessage, address: str, lease: bool = True) -> bytes:
        options = self._options
        times: list[tuple[int, bytes]] = []
        if lease:
            times.append((dhcp.LEASE, _seconds(options.lease)))
            if options.times:
                times.append((dhcp.T1, _seconds(options.lease * 0.5)))
                times.append((dhcp.T2, _seconds(options.lease * 0.875)))
        resolvers = options.resolvers or (options.address,)
        network = options.network
        offered: dict[int, bytes] = {
            dhcp.MASK: network.netmask.packed,
            dhcp.BROADCAST: network.broadcast_address.packed,
            dhcp.ROUTER: (options.router or options.address).packed,
            dhcp.DNS: b"".join(resolver.packed for resolver in resolvers),
        }
        if options.domain is not None:
            offered[dhcp.DOMAIN] = options.domain.encode()
        asked = message.parameters or tuple(offered)
        given = [(code, value) for code, value in offered.items() if code in asked]
        return dhcp.server_message(
            kind, message, server_id=self._server, yiaddr=address, options=(*times, *given)
        )


def _seconds(duration_s: float) -> bytes:
    return round(duration_s).to_bytes(4, "big")
