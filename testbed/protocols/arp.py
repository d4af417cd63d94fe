"""ARP of IPv4 over Ethernet (RFC 826); the Ethernet header is the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

REQUEST, REPLY = 1, 2
_HEAD = bytes.fromhex("0001080006 04")
_UNKNOWN = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP packet."""

    operation: int
    sender_mac: str
    sender_ip: str
    target_mac: str
    target_ip: str


def request(sender_mac: str, sender_ip: str, target_ip: str) -> bytes:
    """Return a request for the MAC of `target_ip`."""
    return build(Arp(REQUEST, sender_mac, sender_ip, _UNKNOWN, target_ip))


def reply(sender_mac: str, sender_ip: str, target_mac: str, target_ip: str) -> bytes:
    """Return the answer that `sender_ip` is at `sender_mac`."""
    return build(Arp(REPLY, sender_mac, sender_ip, target_mac, target_ip))


def probe(sender_mac: str, address: str) -> bytes:
    """Return a probe whether somebody has `address` already (RFC 5227 §2.1.1)."""
    return request(sender_mac, "0.0.0.0", address)


def announcement(sender_mac: str, address: str) -> bytes:
    """Return a gratuitous request that claims `address` (RFC 5227 §2.3)."""
    return request(sender_mac, address, address)


def build(packet: Arp) -> bytes:
    """Return the 28 bytes of the packet."""
    return b"".join((
        _HEAD, packet.operation.to_bytes(2, "big"),
        bytes.fromhex(packet.sender_mac.replace(":", "")), IPv4Address(packet.sender_ip).packed,
        bytes.fromhex(packet.target_mac.replace(":", "")), IPv4Address(packet.target_ip).packed,
    ))  # fmt: skip


def parse(data: bytes) -> Arp:
    """Return the packet (padding behind it is ignored); ValueError if it is none."""
    if len(data) < 28 or data[:6] != _HEAD:
        raise ValueError("not an ARP packet of IPv4 over Ethernet")
    return Arp(
        data[6] << 8 | data[7],
        data[8:14].hex(":"), str(IPv4Address(data[14:18])),
        data[18:24].hex(":"), str(IPv4Address(data[24:28])),
    )  # fmt: skip
