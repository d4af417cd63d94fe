"""Classic BPF programs for packet sockets: what a socket does not want never wakes it."""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Step = tuple[int, int, int, int]
"""Operation, steps to leave out if true, if false, and operand (linux/filter.h)."""

LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
LOAD_IP_HEADER_SIZE, LOAD_HALF_BEYOND = 0xB1, 0x48
IF_EQUAL, IF_SET, RETURN = 0x15, 0x45, 0x06
VLAN_PRESENT = 0xFFFF_F000 + 48
"""Where a byte says whether the frame carried a VLAN tag (SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)."""
PASS, DROP = (RETURN, 0, 0, 0xFFFF_FFFF), (RETURN, 0, 0, 0)

_SO_ATTACH_FILTER = 26


def attach(opened: socket.socket, program: Sequence[Step]) -> None:
    """Let only what the program passes reach the socket, from now on."""
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    address, _ = code.buffer_info()
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))


def for_mac(mac: bytes) -> list[Step]:
    """Pass what is for `mac` or for a group, and carries no VLAN tag."""
    return [
        (LOAD_BYTE, 0, 0, VLAN_PRESENT),
        (IF_EQUAL, 0, 7, 0),
        (LOAD_BYTE, 0, 0, 0),
        (IF_SET, 4, 0, 1),  # the group bit
        (LOAD_WORD, 0, 0, 0),
        (IF_EQUAL, 0, 3, int.from_bytes(mac[:4], "big")),
        (LOAD_HALF, 0, 0, 4),
        (IF_EQUAL, 0, 1, int.from_bytes(mac[4:], "big")),
        PASS,
        DROP,
    ]


def for_everyone() -> list[Step]:
    """Pass what carries no VLAN tag."""
    return [(LOAD_BYTE, 0, 0, VLAN_PRESENT), (IF_EQUAL, 0, 1, 0), PASS, DROP]


def for_udp_port(port: int) -> list[Step]:
    """Pass UDP over IPv4 to a port, in frames that are known to hold IPv4."""
    return [
        (LOAD_BYTE, 0, 0, 23),
        (IF_EQUAL, 0, 4, socket.IPPROTO_UDP),
        (LOAD_IP_HEADER_SIZE, 0, 0, 14),
        (LOAD_HALF_BEYOND, 0, 0, 16),
        (IF_EQUAL, 0, 1, port),
        PASS,
        DROP,
    ]
