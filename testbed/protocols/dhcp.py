"""DHCP messages of IPv4 (RFC 2131, options of RFC 2132)."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CLIENT_PORT = 68
SERVER_PORT = 67

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = (
    "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM",
)  # fmt: skip
KINDS = {DISCOVER: 1, OFFER: 2, REQUEST: 3, DECLINE: 4, ACK: 5, NAK: 6, RELEASE: 7, INFORM: 8}
_KIND_OF = {number: kind for kind, number in KINDS.items()}
_FROM_SERVER = (OFFER, ACK, NAK)

MASK, ROUTER, DNS, HOSTNAME, DOMAIN, BROADCAST, REQUESTED_IP = 1, 3, 6, 12, 15, 28, 50
LEASE, OVERLOAD, KIND, SERVER_ID, PARAMETERS, MESSAGE, MAX_SIZE, T1, T2, VENDOR_CLASS, CLIENT_ID = range(
    51, 62
)

_HEAD = Struct("!BBBBIHH4s4s4s4s16s")
_COOKIE = b"\x63\x82\x53\x63"
_LEAST = 240
_BROADCAST_FLAG = 0x8000
_ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class DhcpMessage:
    """A DHCP message as read; times are seconds, addresses dotted strings, None what is absent."""

    kind: str
    xid: int
    mac: str
    secs: int = 0
    broadcast: bool = False
    ciaddr: str = _ANY
    yiaddr: str = _ANY
    siaddr: str = _ANY
    giaddr: str = _ANY
    options: dict[int, bytes] = field(default_factory=dict)
    """Every option as it stands on the wire; split ones joined (RFC 3396)."""

    @property
    def lease_s(self) -> int | None:
        """Option 51."""
        return self._number(LEASE, 4)

    @property
    def t1(self) -> int | None:
        """Option 58, the renewal time."""
        return self._number(T1, 4)

    @property
    def t2(self) -> int | None:
        """Option 59, the rebinding time."""
        return self._number(T2, 4)

    @property
    def max_size(self) -> int | None:
        """Option 57."""
        return self._number(MAX_SIZE, 2)

    @property
    def server_id(self) -> str | None:
        """Option 54."""
        return self._address(SERVER_ID)

    @property
    def requested_ip(self) -> str | None:
        """Option 50."""
        return self._address(REQUESTED_IP)

    @property
    def router(self) -> str | None:
        """The first router of option 3."""
        return self._address(ROUTER)

    @property
    def mask(self) -> str | None:
        """Option 1."""
        return self._address(MASK)

    @property
    def prefix(self) -> int | None:
        """Option 1 as a prefix length."""
        mask = self.options.get(MASK)
        return int.from_bytes(mask[:4], "big").bit_count() if mask and len(mask) >= 4 else None

    @property
    def dns(self) -> tuple[str, ...]:
        """Option 6."""
        data = self.options.get(DNS, b"")
        return tuple(str(IPv4Address(data[at : at + 4])) for at in range(0, len(data) - 3, 4))

    @property
    def hostname(self) -> str | None:
        """Option 12."""
        return self._text(HOSTNAME)

    @property
    def vendor_class(self) -> str | None:
        """Option 60."""
        return self._text(VENDOR_CLASS)

    @property
    def parameters(self) -> tuple[int, ...]:
        """Option 55."""
        return tuple(self.options.get(PARAMETERS, b""))

    def _number(self, code: int, size: int) -> int | None:
        data = self.options.get(code)
        return int.from_bytes(data, "big") if data is not None and len(data) == size else None

    def _address(self, code: int) -> str | None:
        data = self.options.get(code)
        return str(IPv4Address(data[:4])) if data is not None and len(data) >= 4 else None

    def _text(self, code: int) -> str | None:
        data = self.options.get(code)
        return data.rstrip(b"\0").decode("utf-8", "replace") if data is not None else None


def client_message(
    kind: str,
    mac: str,
    xid: int,
    *,
    secs: int = 0,
    hostname: str | None = None,
    vendor_class: str | None = None,
    parameters: Iterable[int] = (),
    client_id: bool = True,
    max_size: int | None = None,
    requested_ip: str | None = None,
    server_id: str | None = None,
    ciaddr: str = _ANY,
    broadcast: bool = False,
    pad_to: int = 300,
) -> bytes:
    """Return a client's message, padded to at least `pad_to` bytes; ValueError for a wrong kind."""
    if kind not in KINDS or kind in _FROM_SERVER:
        raise ValueError(f"a DHCP client sends no {kind!r}")
    hardware = _hardware(mac)
    options: list[tuple[int, bytes]] = []
    if client_id:
        options.append((CLIENT_ID, b"\x01" + hardware))
    if requested_ip is not None:
        options.append((REQUESTED_IP, IPv4Address(requested_ip).packed))
    if server_id is not None:
        options.append((SERVER_ID, IPv4Address(server_id).packed))
    if max_size is not None:
        options.append((MAX_SIZE, max_size.to_bytes(2, "big")))
    if vendor_class is not None:
        options.append((VENDOR_CLASS, vendor_class.encode()))
    if hostname is not None:
        options.append((HOSTNAME, hostname.encode()))
    if kind in (DISCOVER, REQUEST, INFORM) and (asked := bytes(parameters)):
        options.append((PARAMETERS, asked))
    flags = _BROADCAST_FLAG if broadcast else 0
    head = _HEAD.pack(
        1,
        1,
        6,
        0,
        xid,
        min(secs, 65535),
        flags,
        IPv4Address(ciaddr).packed,
        bytes(4),
        bytes(4),
        bytes(4),
        hardware,
    )
    return _message(head, kind, options, pad_to)


def server_message(
    kind: str,
    request: DhcpMessage,
    *,
    server_id: str,
    yiaddr: str = _ANY,
    options: Iterable[tuple[int, bytes]] = (),
    pad_to: int = 300,
) -> bytes:
    """Return a server's answer to `request` (RFC 2131 table 3); ValueError for a wrong kind.

    `options` follow message type and server identifier in the order given. An ACK repeats the
    client's address; a NAK carries none.
    """
    if kind not in _FROM_SERVER:
        raise ValueError(f"a DHCP server sends no {kind!r}")
    head = _HEAD.pack(
        2, 1, 6, 0, request.xid, 0,
        _BROADCAST_FLAG if request.broadcast else 0,
        IPv4Address(request.ciaddr if kind == ACK else _ANY).packed,
        IPv4Address(yiaddr).packed,
        IPv4Address(_ANY if kind == NAK else server_id).packed,
        IPv4Address(request.giaddr).packed,
        _hardware(request.mac),
    )  # fmt: skip
    return _message(head, kind, [(SERVER_ID, IPv4Address(server_id).packed), *options], pad_to)


def _message(head: bytes, kind: str, options: list[tuple[int, bytes]], pad_to: int) -> bytes:
    parts = [head, bytes(192), _COOKIE, bytes((KIND, 1, KINDS[kind]))]
    for code, data in options:
        if len(data) > 255:
            raise ValueError(f"DHCP option {code} has {len(data)} bytes, more than 255")
        parts.append(bytes((code, len(data))) + data)
    parts.append(b"\xff")
    return b"".join(parts).ljust(pad_to, b"\0")


def parse(data: bytes) -> DhcpMessage:
    """Return the message; ValueError if it is no whole DHCP message of an Ethernet client."""
    if len(data) < _LEAST or data[236:240] != _COOKIE:
        raise ValueError("not a DHCP message")
    op, htype, hlen, _, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, hardware = _HEAD.unpack_from(data)
    options: dict[int, bytes] = {}
    _read_options(data[240:], options)
    overload = options.get(OVERLOAD, b"")[:1]
    if overload in (b"\x01", b"\x03"):
        _read_options(data[108:236], options)
    if overload in (b"\x02", b"\x03"):
        _read_options(data[44:108], options)
    kind = _KIND_OF.get(options.get(KIND, b"\0")[0] if options.get(KIND) else 0)
    if kind is None or htype != 1 or hlen != 6 or op != (2 if kind in _FROM_SERVER else 1):
        raise ValueError("not a DHCP message of an Ethernet client")
    own, given, server, relay = (str(IPv4Address(packed)) for packed in (ciaddr, yiaddr, siaddr, giaddr))
    mac, broadcast = hardware[:6].hex(":"), bool(flags & _BROADCAST_FLAG)
    return DhcpMessage(kind, xid, mac, secs, broadcast, own, given, server, relay, options)


def _read_options(data: bytes, into: dict[int, bytes]) -> None:
    at = 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise ValueError(f"DHCP option {data[at]} is cut off")
        value = data[at + 2 : at + 2 + data[at + 1]]
        into[data[at]] = into.get(data[at], b"") + value
        at += 2 + len(value)


def target(answer: DhcpMessage) -> str:
    """Return where a server sends `answer`: 255.255.255.255 or the client's address (RFC 2131 §4.1)."""
    if answer.giaddr != _ANY:
        return answer.giaddr
    if answer.kind == NAK:
        return "255.255.255.255"
    if answer.ciaddr != _ANY:
        return answer.ciaddr
    return "255.255.255.255" if answer.broadcast else answer.yiaddr


def _hardware(mac: str) -> bytes:
    hardware = bytes.fromhex(mac.replace(":", ""))
    if len(hardware) != 6:
        raise ValueError(f"not a MAC address: {mac!r}")
    return hardware
