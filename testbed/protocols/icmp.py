"""ICMP messages of IPv4 (RFC 792), checksums included; IP is the caller's."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.protocols.checksum import internet_checksum

ECHO_REPLY, UNREACHABLE, ECHO_REQUEST, TIME_EXCEEDED = 0, 3, 8, 11
NET_UNREACHABLE, HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, PORT_UNREACHABLE = range(4)

LINUX_PING = bytes(range(0x10, 0x38))
"""What `ping` of iputils carries after its 16-byte timestamp."""


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP message as read."""

    type: int
    code: int
    ident: int = 0
    sequence: int = 0
    payload: bytes = b""
    """Payload of an echo, or the quoted packet of an error."""


def echo_request(ident: int, sequence: int, payload: bytes = bytes(16) + LINUX_PING) -> bytes:
    """Return an echo request."""
    return _echo(ECHO_REQUEST, ident, sequence, payload)


def echo_reply(request: bytes) -> bytes:
    """Return the reply to an echo request; ValueError if it is none."""
    asked = parse(request)
    if asked.type != ECHO_REQUEST:
        raise ValueError("not an ICMP echo request")
    return _echo(ECHO_REPLY, asked.ident, asked.sequence, asked.payload)


def _echo(kind: int, ident: int, sequence: int, payload: bytes) -> bytes:
    numbers = (ident & 0xFFFF).to_bytes(2, "big") + (sequence & 0xFFFF).to_bytes(2, "big")
    return _signed(bytes((kind, 0, 0, 0)) + numbers + payload)


def unreachable(code: int, packet: bytes, quoted_bytes: int = 548) -> bytes:
    """Return a destination-unreachable that quotes the start of the IP `packet`.

    The default quotes as much as fits into 576 bytes (RFC 1812 §4.3.2.3), as Linux does.
    """
    if not packet or packet[0] >> 4 != 4:
        raise ValueError("an ICMP error quotes an IPv4 packet")
    return _signed(bytes((UNREACHABLE, code)) + bytes(6) + packet[:quoted_bytes])


def _signed(message: bytes) -> bytes:
    return message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]


def parse(data: bytes) -> Icmp:
    """Return the message; ValueError if it is too short or its checksum is wrong."""
    if len(data) < 8 or internet_checksum(data) != 0:
        raise ValueError("not an ICMP message, or a damaged one")
    if data[0] in (ECHO_REQUEST, ECHO_REPLY):
        ident, sequence = int.from_bytes(data[4:6], "big"), int.from_bytes(data[6:8], "big")
        return Icmp(data[0], data[1], ident, sequence, data[8:])
    return Icmp(data[0], data[1], payload=data[8:])
