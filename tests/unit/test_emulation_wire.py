"""Frames of a packet socket are made what a cable would have carried."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from testbed.emulation.wire import Wire, on_cable
from testbed.errors import UserError

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
ADDRESSES = IP(src="10.0.0.1", dst="10.0.0.2", id=65_535)
NEEDS_CHECKSUM, TCP4 = 1, 1


def headed(
    frame: bytes, flags: int = 0, kind: int = 0, size: int = 0, start: int = 0, offset: int = 0
) -> bytes:
    return struct.pack("=BBHHHH", flags, kind, 0, size, start, offset) + frame


def pseudo_sum(frame: bytes, protocol: int) -> int:
    """What the kernel leaves in the field: the sum of the pseudo header, not inverted."""
    total = sum(struct.unpack("!4H", frame[26:34])) + protocol + int.from_bytes(frame[16:18], "big") - 20
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_whole_frame_stays_as_it_is() -> None:
    frame = bytes(ETHER / ADDRESSES / UDP(sport=1, dport=2) / Raw(b"hello"))
    assert on_cable(headed(frame)) == [frame]


@pytest.mark.parametrize("data", [b"", b"x", b"hello", bytes(1400)])
@pytest.mark.parametrize("layer", [UDP(sport=53, dport=4000), TCP(sport=80, dport=4000, flags="PA")])
def test_a_checksum_left_to_the_hardware_is_completed(layer: UDP | TCP, data: bytes) -> None:
    whole = bytes(ETHER / ADDRESSES / layer / Raw(data))
    offset = 6 if isinstance(layer, UDP) else 16
    at = 34 + offset
    left = whole[:at] + pseudo_sum(whole, whole[23]).to_bytes(2, "big") + whole[at + 2 :]
    assert on_cable(headed(left, NEEDS_CHECKSUM, start=34, offset=offset)) == [whole]


def test_joined_segments_are_cut_apart_as_the_sender_would_have_sent_them() -> None:
    data = bytes(number % 251 for number in range(3 * 1448 + 100))
    options = [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))]

    def segment(part: bytes, number: int, flags: str) -> bytes:
        ident = (65_535 + number) % 65_536
        tcp = TCP(sport=443, dport=4000, flags=flags, seq=2**32 - 100 + 1448 * number, options=options)
        tcp.seq %= 2**32
        return bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2", id=ident) / tcp / Raw(part))

    wanted = [
        segment(data[at : at + 1448], number, "A") for number, at in enumerate(range(0, 3 * 1448, 1448))
    ]
    wanted.append(segment(data[3 * 1448 :], 3, "PA"))
    joined = segment(data, 0, "PA")
    assert on_cable(headed(joined, NEEDS_CHECKSUM, TCP4, 1448, 34, 16)) == wanted


def test_an_interface_that_is_not_there_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="there is no interface 'loo'; did you mean 'lo'"):
        Wire("loo", "02:00:00:00:00:01")
