"""What a device sends on a connection that the other side has dropped."""

from __future__ import annotations

import struct
from pathlib import Path

import testbed

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
RST = 4


def resets(capture: Path) -> int:
    """Count TCP segments with RST; the frames are Ethernet and IPv4."""
    data, at, count = capture.read_bytes(), 24, 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at + 8)
        frame = data[at + 16 : at + 16 + size]
        at += 16 + size
        if frame[12:14] == b"\x08\x00" and frame[23] == 6:
            count += bool(frame[14 + 4 * (frame[14] & 15) + 13] & RST)
    return count


def test_one_reset_ends_a_connection_with_more_to_send(tmp_path: Path) -> None:
    """Two thermostats publish without waiting, while their broker is silent and forgets them.

    What they wrote meanwhile waits in the kernel behind the first message, and dies with it.
    """
    testbed.run("broker-down", out=tmp_path / "run", models=[EXAMPLES])
    assert resets(tmp_path / "run" / "capture.pcap") == 2
