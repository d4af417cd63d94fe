"""A reader of classic pcap for tests, and what two runs of the same seed may differ in."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_PUSH = 8
_TLS_PORTS = {443, 5228, 8883}


class Packet(NamedTuple):
    time_ns: int
    frame: bytes


def read_pcap(path: Path) -> list[Packet]:
    """Return the packets of a little-endian microsecond pcap."""
    data = path.read_bytes()
    assert data[:4] == bytes.fromhex("d4c3b2a1")
    at, packets = 24, []
    while at + 16 <= len(data):
        seconds, micros, captured, length = struct.unpack_from("<IIII", data, at)
        assert captured == length
        packets.append(Packet(seconds * 10**9 + micros * 1000, data[at + 16 : at + 16 + captured]))
        at += 16 + captured
    assert at == len(data)
    return packets


def without_kernel_choices(frame: bytes) -> bytes:
    """Return the frame with zeros where kernel and TLS draw by their own chance."""
    if frame[12:14] != b"\x08\0":
        return frame
    masked = bytearray(frame)
    return bytes(masked[:14]) + _packet(masked[14:])


def _packet(packet: bytearray) -> bytes:
    header = (packet[0] & 15) * 4
    packet[4:6] = packet[10:12] = b"\0\0"  # id and checksum
    if packet[9] == 6:
        _segment(packet, header)
    elif packet[9] == 1 and packet[header] == 3:  # an ICMP error quotes such a packet
        packet[header + 2 : header + 4] = b"\0\0"
        quoted = _packet(packet[header + 8 :])
        return bytes(packet[: header + 8]) + quoted
    return bytes(packet)


def _segment(packet: bytearray, at: int) -> None:
    packet[at + 4 : at + 12] = bytes(8)[: max(0, len(packet) - at - 4)]
    if len(packet) < at + 20:
        return
    packet[at + 16 : at + 18] = b"\0\0"
    packet[at + 13] &= ~_PUSH  # set where a buffer of the kernel ends, and memory is shared
    data = at + (packet[at + 12] >> 4) * 4
    option = at + 20
    while option < min(data, len(packet)):
        kind = packet[option]
        if kind in (0, 1):
            option += 1
            continue
        length = packet[option + 1]
        if kind in (5, 8):  # SACK blocks are sequence numbers, timestamps run with the machine
            packet[option + 2 : option + length] = bytes(length - 2)
        option += length
    ports = struct.unpack_from("!HH", packet, at)
    if _TLS_PORTS.intersection(ports) and len(packet) > data:
        packet[data:] = bytes(len(packet) - data)
