"""Headers that are needed one at a time, as bytes: what ICMP errors quote, and address numbers."""

from __future__ import annotations

from functools import lru_cache
from struct import pack

BROADCAST_MAC = (1 << 48) - 1
BROADCAST_IP = (1 << 32) - 1


@lru_cache(maxsize=4096)
def ip_number(address: str) -> int:
    """Return an IPv4 address as a number."""
    a, b, c, d = address.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)


def mac_number(mac: str) -> int:
    """Return a MAC address as a number."""
    return int(mac.replace(":", ""), 16)


def group_mac(ip: int) -> int:
    """Return the Ethernet address of an IPv4 group (RFC 1112 §6.4) or of the broadcast address."""
    return BROADCAST_MAC if ip == BROADCAST_IP else 0x01005E000000 | ip & 0x7FFFFF


def is_group(ip: int) -> bool:
    """Tell whether an address is multicast or the broadcast address."""
    return ip >> 28 == 14 or ip == BROADCAST_IP


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_header(length: int, ident: int, ttl: int, protocol: int, source: int, destination: int) -> bytes:
    """Return an IPv4 header without options, don't-fragment set (RFC 791)."""
    head = pack(">BBHHHBBHII", 0x45, 0, length, ident, 0x4000, ttl, protocol, 0, source, destination)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:]


def udp_packet(ttl: int, source: tuple[int, int], destination: tuple[int, int], data: bytes) -> bytes:
    """Return an IPv4 packet with a UDP datagram; source and destination are address, port."""
    size = len(data) + 8
    head = pack(">HHHH", source[1], destination[1], size, 0)
    pseudo = pack(">IIBBH", source[0], destination[0], 0, 17, size)
    check = checksum(pseudo + head + data) or 0xFFFF
    return (
        ip_header(20 + size, 0, ttl, 17, source[0], destination[0])
        + head[:6]
        + check.to_bytes(2, "big")
        + data
    )


def echo_packet(ttl: int, source: int, destination: int, tail: bytes) -> bytes:
    """Return an IPv4 packet with an ICMP echo request; `tail` is what follows its checksum."""
    check = checksum(b"\x08\0\0\0" + tail)
    return (
        ip_header(24 + len(tail), 0, ttl, 1, source, destination)
        + b"\x08\0"
        + check.to_bytes(2, "big")
        + tail
    )


def tcp_packet(
    ttl: int, ident: int, source: tuple[int, int], destination: tuple[int, int], numbers: tuple[int, int],
    flags: int, window: int, options: bytes, data: bytes,
) -> bytes:  # fmt: skip
    """Return an IPv4 packet with a TCP segment; `numbers` are its sequence number and acknowledgement."""
    size = 20 + len(options) + len(data)
    head = pack(
        ">HHIIBBHHH", source[1], destination[1], numbers[0] & 0xFFFFFFFF, numbers[1] & 0xFFFFFFFF,
        (20 + len(options)) << 2, flags, window, 0, 0,
    )  # fmt: skip
    pseudo = pack(">IIBBH", source[0], destination[0], 0, 6, size)
    check = checksum(pseudo + head + options + data)
    head = head[:16] + check.to_bytes(2, "big") + head[18:]
    return ip_header(20 + size, ident, ttl, 6, source[0], destination[0]) + head + options + data
