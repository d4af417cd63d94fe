"""Ethernet frames as the carried links see them: just enough of their headers."""

from __future__ import annotations

import struct
from socket import inet_aton

ARP, IPV4 = 0x0806, 0x0800
ICMP, IGMP, TCP, UDP = 1, 2, 6, 17
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
BROADCAST = b"\xff" * 6

_NO_OPERATION, _SACK_PERMITTED = 1, 4

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_TCP_HEAD = struct.Struct("!HHIIBB")
_IP_HEAD = struct.Struct("!BBHHHBBH4s4s")


def mac_bytes(text: str) -> bytes:
    """Return six octets for ``aa:bb:…``."""
    return bytes.fromhex(text.replace(":", ""))


def kind(frame: bytes) -> tuple[int, int]:
    """Return (EtherType, IP protocol); the protocol is 0 for what is not IPv4."""
    if frame[12:14] == b"\x08\x00" and len(frame) >= 34:
        return IPV4, frame[23]
    return int.from_bytes(frame[12:14], "big"), 0


def ports(frame: bytes) -> tuple[int, int]:
    """Return source and destination port of a TCP or UDP frame."""
    at = 14 + (frame[14] & 15) * 4
    return int.from_bytes(frame[at : at + 2], "big"), int.from_bytes(frame[at + 2 : at + 4], "big")


def is_dhcp_answer(frame: bytes) -> bool:
    """Tell whether this is a message of a DHCP server to a client."""
    return kind(frame) == (IPV4, UDP) and ports(frame) == (67, 68)


class Segment:
    """A TCP segment: its connection, numbers and size."""

    __slots__ = ("ack", "flags", "frame", "header", "header_length", "key", "length", "seq")

    def __init__(self, frame: bytes) -> None:
        """Read a frame that is known to hold TCP over IPv4."""
        self.header = at = 14 + (frame[14] & 15) * 4
        source, target, seq, ack, offset, flags = _TCP_HEAD.unpack_from(frame, at)
        self.seq: int = seq
        self.ack: int = ack
        self.flags: int = flags
        self.frame = frame
        self.header_length = (offset >> 4) * 4
        self.length = int.from_bytes(frame[16:18], "big") - (at - 14) - self.header_length
        self.key = (frame[26:30], source, frame[30:34], target)

    @property
    def end(self) -> int:
        """Sequence number after this segment."""
        flags = self.flags
        length: int = self.length + (flags & SYN > 0) + (flags & FIN > 0)
        return (self.seq + length) & 0xFFFF_FFFF

    @property
    def takes_space(self) -> bool:
        """Whether it has to be acknowledged."""
        return self.length > 0 or self.flags & (SYN | FIN) != 0


def after(one: int, other: int) -> bool:
    """Return whether sequence number `one` is later than `other` (RFC 9293 §3.4)."""
    return 0 < (one - other) & 0xFFFF_FFFF < 0x8000_0000


def permits_sack(segment: Segment) -> bool:
    """Tell whether a SYN carries the SACK-permitted option (RFC 2018 §2)."""
    at, end = segment.header + 20, segment.header + segment.header_length
    while at < end and segment.frame[at] != 0:
        kind = segment.frame[at]
        if kind == _SACK_PERMITTED:
            return True
        at += 1 if kind == _NO_OPERATION else max(2, segment.frame[at + 1])
    return False


def unreachable_segment(frame: bytes) -> bytes | None:
    """Return the TCP segment that an ICMP net or host unreachable quotes, as a frame; None for others."""
    at = 14 + (frame[14] & 15) * 4
    if frame[at] != 3 or frame[at + 1] not in (0, 1) or len(frame) < at + 8 + 40:
        return None
    quoted = frame[:14] + frame[at + 8 :]
    return quoted if quoted[23] == TCP else None


def probe(frame: bytes) -> bytes:
    """Return the keep-alive probe that follows from a side's last segment (RFC 9293 §3.8.4)."""
    segment = Segment(frame)
    at = segment.header
    header = (frame[at + 12] >> 4) * 4
    tcp = bytearray(frame[at : at + header])
    tcp[4:8] = ((segment.end - 1) & 0xFFFF_FFFF).to_bytes(4, "big")
    tcp[13] = ACK
    tcp[16:18] = b"\0\0"
    pseudo = frame[26:34] + struct.pack("!HH", TCP, len(tcp))
    tcp[16:18] = checksum(pseudo + tcp).to_bytes(2, "big")
    return frame[:14] + _renewed_ip(frame[14:at], len(tcp)) + bytes(tcp)


def _renewed_ip(header: bytes, payload: int) -> bytes:
    fresh = bytearray(header)
    fresh[2:4] = (len(header) + payload).to_bytes(2, "big")
    fresh[10:12] = b"\0\0"
    fresh[10:12] = checksum(bytes(fresh)).to_bytes(2, "big")
    return bytes(fresh)


def checksum(data: bytes | bytearray) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp_request(mac: bytes, address: str, wanted: str, to: bytes = BROADCAST) -> bytes:
    """Return the question who has `wanted`, asked of `to` (unicast when it is a refresh)."""
    body = _ARP.pack(1, IPV4, 6, 4, 1, mac, inet_aton(address), bytes(6), inet_aton(wanted))
    return to + mac + b"\x08\x06" + body


def arp_reply(mac: bytes, address: bytes, to_mac: bytes, to_address: bytes) -> bytes:
    """Return the answer that `address` (packed) is at `mac`."""
    body = _ARP.pack(1, IPV4, 6, 4, 2, mac, address, to_mac, to_address)
    return to_mac + mac + b"\x08\x06" + body


def arp_fields(frame: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Return (operation, sender MAC, sender address, target address), the addresses packed."""
    _, _, _, _, operation, mac, sender, _, target = _ARP.unpack_from(frame, 14)
    return operation, mac, sender, target


def udp_frame(
    source_mac: bytes, target_mac: bytes, source: tuple[str, int], target: tuple[str, int], data: bytes,
    ttl: int = 64,
) -> bytes:  # fmt: skip
    """Return a whole UDP datagram for a raw socket (a DHCP client has no address to send from)."""
    addresses = inet_aton(source[0]) + inet_aton(target[0])
    length = 8 + len(data)
    udp = struct.pack("!HHHH", source[1], target[1], length, 0) + data
    check = checksum(addresses + struct.pack("!HH", UDP, length) + udp) or 0xFFFF
    udp = udp[:6] + check.to_bytes(2, "big") + udp[8:]
    head = _IP_HEAD.pack(0x45, 0, 20 + length, 0, 0, ttl, UDP, 0, addresses[:4], addresses[4:])
    return target_mac + source_mac + b"\x08\x00" + _renewed_ip(head, length) + udp
