"""From the bytes of a pcap or pcapng file to rows: kernels that find each frame, and dissect it.

Rules of this file:
- A kernel takes a window of the file and stops before the first record that is not whole in it.
- It never trusts a length: a record beyond `MAX_FRAME` ends the file as damaged.
- Interfaces and sections of pcapng are rare; the kernel hands their blocks back to Python.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.capture.dissect import dissect
from testbed.capture.kernel import byte, kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from testbed.capture.dissect import Tables
    from testbed.capture.kernel import Records

MAX_FRAME = 262_144
"""Longest captured frame (libpcap's MAXIMUM_SNAPLEN, also Wireshark's limit)."""
MAX_BLOCK = 1 << 20
"""Longest pcapng block that holds a packet, an interface or a section."""

WANT_BYTES, ROWS_FULL, BLOCK, DAMAGED = range(4)
"""Why a kernel stopped: the window ended, the table is full, a block for Python, damage."""

(
    TOO_LONG, BAD_BLOCK_LENGTH, TRAILER_DIFFERS, NO_INTERFACE, PACKET_EXCEEDS_BLOCK, PCAP_HEADER,
    BLOCK_TOO_LONG, TOO_MANY_PARTS,
) = range(1, 9)  # fmt: skip

DAMAGE_TEXT = {
    TOO_LONG: f"the record claims to hold more than {MAX_FRAME} bytes",
    BAD_BLOCK_LENGTH: "the block's length is impossible",
    TRAILER_DIFFERS: "the block's two lengths differ",
    NO_INTERFACE: "the packet names an interface that was not described",
    PACKET_EXCEEDS_BLOCK: "the packet is longer than its block",
    PCAP_HEADER: "a second file header stands where a record should be",
    TOO_MANY_PARTS: "it has more sections or interfaces than any capture has",
    BLOCK_TOO_LONG: f"the block is longer than {MAX_BLOCK} bytes",
}

# Slots of the state that a pcap kernel keeps.
BIG_ENDIAN, TO_NS, LINK, HEADER_BYTES, DAMAGE = range(5)
# Slots of the state that the pcapng kernel keeps, beside BIG_ENDIAN and DAMAGE.
INTERFACES, LAST_TIME, SKIP = 1, 2, 3

# Columns of the interface table.
IF_LINK, IF_PER_SECOND, IF_POWER_OF_2, IF_OFFSET_S, IF_SNAPLEN = range(5)
MAX_INTERFACES = 4096

MAX_SECONDS = 9_223_372_036
"""Seconds that fit the table's time in nanoseconds; later times are held there."""


@kernel
def u32(buf: NDArray[np.uint8], at: int, big: int) -> int:
    """Return the four bytes at `at` as a number."""
    if big:
        return byte(buf, at) << 24 | byte(buf, at + 1) << 16 | byte(buf, at + 2) << 8 | byte(buf, at + 3)
    return byte(buf, at + 3) << 24 | byte(buf, at + 2) << 16 | byte(buf, at + 1) << 8 | byte(buf, at)


@kernel
def u16(buf: NDArray[np.uint8], at: int, big: int) -> int:
    """Return the two bytes at `at` as a number."""
    if big:
        return byte(buf, at) << 8 | byte(buf, at + 1)
    return byte(buf, at + 1) << 8 | byte(buf, at)


@kernel
def pcap_records(
    buf: NDArray[np.uint8],
    start: int,
    end: int,
    state: NDArray[np.int64],
    rows: Records,
    tables: Tables,
) -> tuple[int, int, int]:
    """Fill `rows` with the records in ``buf[start:end]``; return (rows, next byte, why stopped)."""
    big, tick_ns = state[BIG_ENDIAN], state[TO_NS]
    link, header = state[LINK], state[HEADER_BYTES]
    count = 0
    at = start
    while at + header <= end:
        if count == len(rows):
            return count, at, ROWS_FULL
        captured = u32(buf, at + 8, big)
        seconds = u32(buf, at, big)
        if captured > MAX_FRAME or (
            seconds in (0xA1B2C3D4, 0xA1B23C4D, 0xD4C3B2A1, 0x4D3CB2A1)
            and u32(buf, at + 4, big) in (0x00040002, 0x00020004, 0x04000200, 0x02000400)
        ):
            state[DAMAGE] = TOO_LONG if captured > MAX_FRAME else PCAP_HEADER
            return count, at, DAMAGED
        if at + header + captured > end:
            break
        row = rows[count]
        row.time_ns = seconds * 1_000_000_000 + u32(buf, at + 4, big) * tick_ns
        row.wire = u32(buf, at + 12, big)
        row.captured = captured
        row.at = at + header
        row.link = link
        dissect(buf, row, tables)
        count += 1
        at += header + captured
    return count, at, WANT_BYTES


@kernel
def to_ns(ticks_hi: int, ticks_lo: int, interface: NDArray[np.int64]) -> int:
    """Return Unix nanoseconds of a pcapng timestamp (if_tsresol, if_tsoffset)."""
    per_second, power = interface[IF_PER_SECOND], interface[IF_POWER_OF_2]
    if power >= 0:
        if power >= 63 or ticks_hi >= 1 << 31:
            return MAX_SECONDS * 1_000_000_000
        ticks = ticks_hi << 32 | ticks_lo
        seconds = ticks >> power
        rest = ticks & ((1 << power) - 1)
        if power > 30:  # keep rest * 1e9 within 63 bits
            rest >>= power - 30
            power = 30
        rest_ns = rest * 1_000_000_000 >> power
    else:
        if ticks_hi >= 1 << 31:
            return MAX_SECONDS * 1_000_000_000
        ticks = ticks_hi << 32 | ticks_lo
        seconds = ticks // per_second
        rest = ticks - seconds * per_second
        rest_ns = (
            rest * (1_000_000_000 // per_second)
            if per_second <= 1_000_000_000
            else (rest // (per_second // 1_000_000_000))
        )
    seconds += interface[IF_OFFSET_S]
    if seconds >= MAX_SECONDS or seconds < -MAX_SECONDS:
        return MAX_SECONDS * 1_000_000_000
    time_ns: int = seconds * 1_000_000_000 + rest_ns
    return time_ns


@kernel
def pcapng_records(
    buf: NDArray[np.uint8],
    start: int,
    end: int,
    state: NDArray[np.int64],
    interfaces: NDArray[np.int64],
    rows: Records,
    tables: Tables,
) -> tuple[int, int, int]:
    """Fill `rows` with the packets in ``buf[start:end]``; return (rows, next byte, why stopped).

    Stops with BLOCK before a section or interface block that is whole in the window.
    """
    big = state[BIG_ENDIAN]
    count = 0
    at = start
    while True:
        if state[SKIP] > 0:  # the rest of a block that is skipped
            skipped = min(state[SKIP], end - at)
            state[SKIP] -= skipped
            at += skipped
            if state[SKIP] > 0:
                return count, at, WANT_BYTES
        if at + 12 > end:
            return count, at, WANT_BYTES
        kind = u32(buf, at, big)
        if kind == 0x0A0D0D0A:
            return count, at, BLOCK
        total = u32(buf, at + 4, big)
        if total < 12 or total & 3:
            state[DAMAGE] = BAD_BLOCK_LENGTH
            return count, at, DAMAGED
        if kind != 6 and kind != 3 and kind != 2 and kind != 1:
            state[SKIP] = total
            continue
        if total > MAX_BLOCK:
            state[DAMAGE] = BLOCK_TOO_LONG
            return count, at, DAMAGED
        if at + total > end:
            return count, at, WANT_BYTES
        if u32(buf, at + total - 4, big) != total:
            state[DAMAGE] = TRAILER_DIFFERS
            return count, at, DAMAGED
        if kind == 1:
            return count, at, BLOCK
        if count == len(rows):
            return count, at, ROWS_FULL
        fixed = 32 if kind != 3 else 16
        if total < fixed:
            state[DAMAGE] = BAD_BLOCK_LENGTH
            return count, at, DAMAGED
        if kind == 6:
            interface = u32(buf, at + 8, big)
        elif kind == 2:
            interface = u16(buf, at + 8, big)
        else:
            interface = 0
        if interface >= state[INTERFACES]:
            state[DAMAGE] = NO_INTERFACE
            return count, at, DAMAGED
        if kind == 3:
            wire = u32(buf, at + 8, big)
            captured = min(wire, total - 16)
            snap = interfaces[interface, IF_SNAPLEN]
            if snap > 0:
                captured = min(captured, snap)
            data = at + 12
            time_ns = state[LAST_TIME]  # a simple packet has no time: the one before it
        else:
            captured = u32(buf, at + 20, big)
            wire = u32(buf, at + 24, big)
            data = at + 28
            time_ns = to_ns(u32(buf, at + 12, big), u32(buf, at + 16, big), interfaces[interface])
        if captured > MAX_FRAME:
            state[DAMAGE] = TOO_LONG
            return count, at, DAMAGED
        if data + captured > at + total - 4:
            state[DAMAGE] = PACKET_EXCEEDS_BLOCK
            return count, at, DAMAGED
        row = rows[count]
        row.time_ns = time_ns
        row.wire = wire
        row.captured = captured
        row.at = data
        row.link = interfaces[interface, IF_LINK]
        state[LAST_TIME] = time_ns
        dissect(buf, row, tables)
        count += 1
        at += total
