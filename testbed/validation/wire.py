"""A second reading of a run's capture, apart from the analyser's: what the labels are held against.

Only what the testbed itself writes: classic little-endian pcap of Ethernet frames, without VLANs.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_HEADER, _RECORD = 24, 16
_ETHERNET = 14
_IPV4 = 0x0800
_TCP, _SYN_ACK = 6, 0x12


@dataclass(frozen=True)
class Wire:
    """One entry per frame."""

    length: NDArray[np.int64]
    """Bytes on the wire."""
    src: NDArray[np.int64]
    """Sender's MAC as a number."""
    dst: NDArray[np.int64]
    sip: NDArray[np.int64]
    """IPv4 address as a number; 0 for none."""
    dip: NDArray[np.int64]
    accepts: NDArray[np.bool_]
    """Whether it is a TCP SYN-ACK: a connection begins."""

    def __len__(self) -> int:
        return len(self.length)


def read_wire(path: Path) -> Wire:
    """Read lengths and addresses of all frames; raises UserError if the file is not what a run leaves."""
    size = path.stat().st_size
    data: Any = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
    if data[:4].tobytes() != b"\xd4\xc3\xb2\xa1":
        raise UserError(f"{path}: is not the classic little-endian pcap that a run leaves")
    starts = array("q")
    at, unpack = _HEADER, struct.Struct("<I").unpack_from
    try:
        while at < size:
            starts.append(at)
            at += _RECORD + unpack(data, at + 8)[0]
    except struct.error:
        at = size + 1
    if at != size:
        raise UserError(f"{path}: ends in the middle of frame {len(starts):,}; the run is damaged")
    start = np.frombuffer(starts, np.int64)
    captured = _little(data, start + 8)
    if len(start) and int(captured.min()) < _ETHERNET:
        raise UserError(f"{path}: frame {int(captured.argmin()) + 1:,} is shorter than an Ethernet header")
    frame = start + _RECORD
    ethertype = _big(data, frame + 12, 2)
    has_ip = (ethertype == _IPV4) & (captured >= _ETHERNET + 20)
    sip, dip = np.zeros(len(start), np.int64), np.zeros(len(start), np.int64)
    sip[has_ip] = _big(data, frame[has_ip] + 26, 4)
    dip[has_ip] = _big(data, frame[has_ip] + 30, 4)
    accepts = np.zeros(len(start), bool)
    header = (data[frame[has_ip] + _ETHERNET] & 15).astype(np.int64) * 4
    tcp = (data[frame[has_ip] + 23] == _TCP) & (captured[has_ip] >= _ETHERNET + header + 20)
    flags = data[frame[has_ip][tcp] + _ETHERNET + header[tcp] + 13]
    accepts[np.flatnonzero(has_ip)[tcp]] = (flags & _SYN_ACK) == _SYN_ACK
    return Wire(_little(data, start + 12), _big(data, frame + 6, 6), _big(data, frame, 6), sip, dip, accepts)


def _little(data: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    out = np.zeros(len(at), np.int64)
    for i in range(4):
        out |= data[at + i].astype(np.int64) << (8 * i)
    return out


def _big(data: NDArray[np.uint8], at: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    out = np.zeros(len(at), np.int64)
    for i in range(size):
        out = out << 8 | data[at + i]
    return out


def ipv4_text(number: int) -> str:
    """Return the dotted form of an address."""
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
