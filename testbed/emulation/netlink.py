"""The few rtnetlink and conntrack requests a run makes, without starting a process for each.

Message layouts: linux/rtnetlink.h, linux/neighbour.h, linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.emulation.namespaces import Namespace

_REQUEST, _ACK, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_NEW_LINK, _NEW_ADDRESS, _DELETE_ADDRESS, _NEW_ROUTE, _DELETE_ROUTE, _NEW_NEIGHBOUR = 16, 20, 21, 24, 25, 28
_CONNTRACK_DELETE = 1 << 8 | 2
_UP = 1
_NETFILTER = 12
NUD_FAILED, NUD_PERMANENT = 0x20, 0x80
RTAX_WINDOW, RTAX_ADVMSS, RTAX_INITCWND, RTAX_RTO_MIN, RTAX_INITRWND = 3, 8, 11, 13, 14

_ERRNO = struct.Struct("=i")
_HEAD = struct.Struct("=IHHII")


def _attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("=HH", length, kind) + data + b"\0" * (-length % 4)


class Netlink:
    """Requests to the kernel about one namespace; each raises WorldError when it is refused."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._route = namespace.call(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        self._indices: dict[str, int] = {}

    def close(self) -> None:
        """Close the socket."""
        self._route.close()

    def _index(self, interface: str) -> int:
        if interface not in self._indices:
            self._indices[interface] = self._namespace.call(lambda: socket.if_nametoindex(interface))
        return self._indices[interface]

    def _ask(self, kind: int, flags: int, body: bytes, what: str, harmless: tuple[int, ...] = ()) -> None:
        self._route.send(_HEAD.pack(_HEAD.size + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
        _check(self._route.recv(65536), what, harmless)

    def up(self, interface: str) -> None:
        """Switch an interface on."""
        body = struct.pack("=BxHiII", 0, 0, self._index(interface), _UP, _UP)
        self._ask(_NEW_LINK, 0, body, f"switching {interface} on")

    def set_mac(self, interface: str, mac: str) -> None:
        """Give an interface its hardware address."""
        body = struct.pack("=BxHiII", 0, 0, self._index(interface), 0, 0)
        body += _attribute(1, bytes.fromhex(mac.replace(":", "")))
        self._ask(_NEW_LINK, 0, body, f"address {mac} of {interface}")

    def add_address(self, interface: str, address: str, prefix: int) -> None:
        """Give an interface an address."""
        self._address(_NEW_ADDRESS, _CREATE | _REPLACE, interface, address, prefix)

    def remove_address(self, interface: str, address: str, prefix: int) -> None:
        """Take an address away, and with it the routes that used it."""
        self._address(_DELETE_ADDRESS, 0, interface, address, prefix)

    def _address(self, kind: int, flags: int, interface: str, address: str, prefix: int) -> None:
        packed = socket.inet_aton(address)
        mask = (0xFFFF_FFFF << (32 - prefix)) & 0xFFFF_FFFF
        broadcast = struct.pack("!I", struct.unpack("!I", packed)[0] | (~mask & 0xFFFF_FFFF))
        body = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, 0, self._index(interface))
        body += _attribute(2, packed) + _attribute(1, packed)
        if prefix < 31 and kind == _NEW_ADDRESS:
            body += _attribute(4, broadcast)
        self._ask(kind, flags, body, f"address {address}/{prefix} of {interface}", harmless=(17, 99))

    def add_route(
        self,
        interface: str,
        network: str,
        prefix: int,
        via: str | None = None,
        metrics: Mapping[int, int] | None = None,
    ) -> None:
        """Set the route to a network; `metrics` are numbers of TCP over it, by their RTAX number."""
        body = _attribute(4, struct.pack("=i", self._index(interface)))
        if via is not None:
            body += _attribute(5, socket.inet_aton(via))
        if metrics:
            packed = (_attribute(kind, struct.pack("=I", value)) for kind, value in sorted(metrics.items()))
            body += _attribute(8, b"".join(packed))
        self._route_message(
            _NEW_ROUTE, _CREATE | _REPLACE, network, prefix, 0 if via else 253, body, bool(via)
        )

    def remove_route(self, interface: str, network: str, prefix: int) -> None:
        """Forget the route to a network; it may be gone already."""
        body = _attribute(4, struct.pack("=i", self._index(interface)))
        self._route_message(_DELETE_ROUTE, 0, network, prefix, 255, body, False)

    def _route_message(
        self, kind: int, flags: int, network: str, prefix: int, scope: int, attributes: bytes, onlink: bool
    ) -> None:
        main_table, boot_protocol, unicast, onlink_flag = 254, 3, 1, 4
        body = struct.pack(
            "=BBBBBBBBI",
            socket.AF_INET, prefix, 0, 0, main_table, boot_protocol, scope, unicast, onlink_flag * onlink,
        )  # fmt: skip
        if prefix:
            body += _attribute(1, socket.inet_aton(network))
        self._ask(kind, flags, body + attributes, f"route {network}/{prefix}", harmless=(3,))

    def set_neighbour(self, interface: str, address: str, state: int, mac: bytes | None = None) -> None:
        """Tell the kernel what it knows of a neighbour; `NUD_FAILED` ends a resolution under way."""
        body = struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, self._index(interface), state, 0, 0)
        body += _attribute(1, socket.inet_aton(address))
        if mac is not None:
            body += _attribute(2, mac)
        self._ask(_NEW_NEIGHBOUR, _CREATE | _REPLACE, body, f"neighbour {address}")

    def forget_connections(self) -> None:
        """Empty the connection tracking table, as a router's restart does."""
        with self._namespace.call(
            lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
        ) as tracker:
            body = struct.pack("=BBH", socket.AF_INET, 0, 0)
            head = _HEAD.pack(_HEAD.size + len(body), _CONNTRACK_DELETE, _REQUEST | _ACK, 1, 0)
            tracker.send(head + body)
            _check(tracker.recv(65536), "emptying the connection table")


def _check(answer: bytes, what: str, harmless: tuple[int, ...] = ()) -> None:
    number = -_ERRNO.unpack_from(answer, _HEAD.size)[0]
    if number and number not in harmless:
        raise WorldError(f"the kernel refused {what}: {os.strerror(number)}")
