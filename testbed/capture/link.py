"""Link headers: from a frame's first bytes to the packet in it, and the two stations.

Rules of this file:
- Every function is given `end`, the first byte after the captured frame, and reads nothing at or
  beyond it.
- What carries no packet gives ethertype 0; what cannot be read gives a reason too.

Sources: the link-layer header types of libpcap; IEEE 802.1Q, 802.2, 802.11 §9.2; radiotap.org;
RFC 2516 (PPPoE), 3032 (MPLS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.capture import frame as f
from testbed.capture.kernel import byte, kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IPV4, IPV6 = 0x0800, 0x86DD
PSEUDO = 1 << 48
NETLINK = 824
"""Type of link (ARPHRD) whose "protocol" in a Linux cooked header is no ethertype."""


@kernel
def be16(buf: NDArray[np.uint8], at: int) -> int:
    """Return the two bytes at `at`, network order."""
    return byte(buf, at) << 8 | byte(buf, at + 1)


@kernel
def be32(buf: NDArray[np.uint8], at: int) -> int:
    """Return the four bytes at `at`, network order."""
    return byte(buf, at) << 24 | byte(buf, at + 1) << 16 | byte(buf, at + 2) << 8 | byte(buf, at + 3)


@kernel
def be48(buf: NDArray[np.uint8], at: int) -> int:
    """Return the six bytes at `at` (a MAC), network order."""
    return be16(buf, at) << 32 | be32(buf, at + 2)


@kernel
def be64(buf: NDArray[np.uint8], at: int) -> int:
    """Return the eight bytes at `at`, network order, as a signed number."""
    return be32(buf, at) << 32 | be32(buf, at + 4)


@kernel
def reversed_bits(mac: int) -> int:
    """Return a MAC of FDDI with the bits of each octet in Ethernet's order."""
    out = 0
    for shift in range(0, 48, 8):
        octet = mac >> shift & 255
        for bit in range(8):
            if octet >> bit & 1:
                out |= 1 << (shift + 7 - bit)
    return out


@kernel
def address_as_mac(high: int, low: int) -> int:
    """Return a stand-in for the MAC of an endpoint known by its IP address only."""
    if high == 0 and low >> 32 == 0xFFFF:
        return PSEUDO | low & 0xFFFFFFFF
    folded = (high * -7046029254386353131) ^ (low * -4417276706812531889)
    return PSEUDO | 1 << 47 | (folded >> 16 & 0x7FFFFFFFFFFF)


@kernel
def llc(buf: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Return (ethertype, next byte) after an 802.2 header; ethertype 0 when it carries none."""
    if at + 3 > end:
        return 0, at
    if byte(buf, at) == 0xAA and byte(buf, at + 1) == 0xAA and byte(buf, at + 2) == 3:
        if (
            at + 8 <= end
            and byte(buf, at + 3) == 0
            and byte(buf, at + 4) == 0
            and (byte(buf, at + 5) == 0 or byte(buf, at + 5) == 0xF8)
        ):
            return be16(buf, at + 6), at + 8
        return 0, at
    if byte(buf, at) == 6 and byte(buf, at + 2) == 3:  # the SAP of IP
        return IPV4, at + 3
    return 0, at


@kernel
def by_nibble(buf: NDArray[np.uint8], at: int, end: int) -> int:
    """Return the ethertype of a bare IP packet, 0 if it is neither version."""
    if at >= end:
        return 0
    if byte(buf, at) >> 4 == 4:
        return IPV4
    if byte(buf, at) >> 4 == 6:
        return IPV6
    return 0


@kernel
def shims(buf: NDArray[np.uint8], at: int, end: int, ethertype: int) -> tuple[int, int]:
    """Step over VLAN tags, MPLS labels and PPPoE; return (ethertype, next byte)."""
    for _ in range(16):
        if ethertype in (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300):
            if at + 4 > end:
                return 0, at
            ethertype = be16(buf, at + 2)
            at += 4
            if ethertype <= 1500:
                return llc(buf, at, end)
        elif ethertype == 0x8847 or ethertype == 0x8848:
            if at + 4 > end:
                return 0, at
            bottom = byte(buf, at + 2) & 1
            at += 4
            if bottom:
                return by_nibble(buf, at, end), at
        elif ethertype == 0x8864:
            if at + 8 > end or byte(buf, at + 1) != 0:
                return 0, at
            inner = be16(buf, at + 6)
            at += 8
            if inner == 0x0021:
                return IPV4, at
            if inner == 0x0057:
                return IPV6, at
            return 0, at
        else:
            return ethertype, at
    return 0, at


@kernel
def wifi(buf: NDArray[np.uint8], at: int, end: int) -> tuple[int, int, int, int, int]:
    """Read an 802.11 data frame; return (ethertype, next byte, src, dst, reason)."""
    if at + 10 > end:
        return 0, at, 0, 0, f.CUT_LINK
    control = byte(buf, at)
    flags = byte(buf, at + 1)
    kind = control >> 2 & 3
    subtype = control >> 4
    if control & 3 != 0 or kind != 2:
        return 0, at, 0, 0, f.WIFI_CONTROL
    if at + 24 > end:
        return 0, at, 0, 0, f.CUT_LINK
    to_ds, from_ds = flags & 1, flags >> 1 & 1
    header = 24
    if to_ds and from_ds:
        if at + 30 > end:
            return 0, at, 0, 0, f.CUT_LINK
        dst, src = be48(buf, at + 16), be48(buf, at + 24)
        header = 30
    elif to_ds:
        dst, src = be48(buf, at + 16), be48(buf, at + 10)
    elif from_ds:
        dst, src = be48(buf, at + 4), be48(buf, at + 16)
    else:
        dst, src = be48(buf, at + 4), be48(buf, at + 10)
    aggregated = False
    if subtype & 8:
        if at + header + 2 > end:
            return 0, at, src, dst, f.CUT_LINK
        aggregated = byte(buf, at + header) & 0x80 != 0
        header += 2
        if flags & 0x80:
            header += 4
    if subtype & 4:
        return 0, at, src, dst, f.WIFI_EMPTY
    if flags & 0x40:
        return 0, at, src, dst, f.WIFI_ENCRYPTED
    at += header
    if aggregated:  # the first of the frames it carries stands for all
        if at + 14 > end:
            return 0, at, src, dst, f.CUT_LINK
        dst, src = be48(buf, at), be48(buf, at + 6)
        at += 14
    ethertype, at = llc(buf, at, end)
    return ethertype, at, src, dst, 0


@kernel
def radiotap(buf: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Return (length of the radiotap header, 1 if the 802.11 header is padded); length -1 if cut."""
    if at + 8 > end:
        return -1, 0
    length = byte(buf, at + 2) | byte(buf, at + 3) << 8
    if length < 8 or at + length > end:
        return -1, 0
    present = byte(buf, at + 4)
    words = at + 4
    while byte(buf, words + 3) & 0x80:
        words += 4
        if words + 4 > at + length:
            return length, 0
    field = words + 4
    if present & 1:  # TSFT: eight bytes, aligned from the start of the header
        field = at + (field - at + 7) // 8 * 8 + 8
    if present & 2 and field < at + length:
        return length, byte(buf, field) >> 5 & 1
    return length, 0


@kernel
def link_layer(buf: NDArray[np.uint8], at: int, end: int, link: int) -> tuple[int, int, int, int, int]:
    """Read the link header; return (ethertype, next byte, src, dst, reason)."""
    if link == 1:
        if at + 14 > end:
            return 0, at, 0, 0, f.CUT_LINK
        dst, src = be48(buf, at), be48(buf, at + 6)
        ethertype = be16(buf, at + 12)
        if ethertype == IPV4:
            return ethertype, at + 14, src, dst, 0
        if ethertype <= 1500:
            ethertype, at = llc(buf, at + 14, end)
        else:
            at += 14
        ethertype, at = shims(buf, at, end, ethertype)
        return ethertype, at, src, dst, 0
    if link == 113:  # Linux cooked v1
        if at + 16 > end:
            return 0, at, 0, 0, f.CUT_LINK
        src = be48(buf, at + 6) if be16(buf, at + 4) == 6 else 0
        ethertype = 0 if be16(buf, at + 2) == NETLINK else be16(buf, at + 14)
        if ethertype == 4:
            ethertype, at = llc(buf, at + 16, end)
        else:
            at += 16
        ethertype, at = shims(buf, at, end, ethertype)
        return ethertype, at, src, 0, 0
    if link == 276:  # Linux cooked v2
        if at + 20 > end:
            return 0, at, 0, 0, f.CUT_LINK
        src = be48(buf, at + 12) if byte(buf, at + 11) == 6 else 0
        ethertype = 0 if be16(buf, at + 8) == NETLINK else be16(buf, at)
        if ethertype == 4:
            ethertype, at = llc(buf, at + 20, end)
        else:
            at += 20
        ethertype, at = shims(buf, at, end, ethertype)
        return ethertype, at, src, 0, 0
    if link == 101 or link == 12 or link == 14:
        return by_nibble(buf, at, end), at, 0, 0, 0 if at < end else f.CUT_LINK
    if link == 228:
        return IPV4, at, 0, 0, 0
    if link == 229:
        return IPV6, at, 0, 0, 0
    if link == 0 or link == 108:
        if at + 4 > end:
            return 0, at, 0, 0, f.CUT_LINK
        family = be32(buf, at)
        if family > 0xFFFF:  # null: in the order of the machine that captured
            family = (
                byte(buf, at + 3) << 24 | byte(buf, at + 2) << 16 | byte(buf, at + 1) << 8 | byte(buf, at)
            )
        if family == 2:
            return IPV4, at + 4, 0, 0, 0
        if family == 24 or family == 28 or family == 30:
            return IPV6, at + 4, 0, 0, 0
        return 0, at + 4, 0, 0, 0
    if link == 105:
        return wifi(buf, at, end)
    if link == 127:
        length, padded = radiotap(buf, at, end)
        if length < 0:
            return 0, at, 0, 0, f.CUT_LINK
        ethertype, after, src, dst, reason = wifi(buf, at + length, end)
        if padded and reason == 0 and ethertype == 0:
            ethertype, after = llc(buf, after + 2, end)
        return ethertype, after, src, dst, reason
    if link == 10:  # FDDI
        if at + 13 > end:
            return 0, at, 0, 0, f.CUT_LINK
        dst, src = reversed_bits(be48(buf, at + 1)), reversed_bits(be48(buf, at + 7))
        ethertype, at = llc(buf, at + 13, end)
        return ethertype, at, src, dst, 0
    if link == 9:  # PPP, with or without address and control
        if at + 4 > end:
            return 0, at, 0, 0, f.CUT_LINK
        if byte(buf, at) == 0xFF and byte(buf, at + 1) == 3:
            at += 2
        inner = be16(buf, at)
        return IPV4 if inner == 0x21 else (IPV6 if inner == 0x57 else 0), at + 2, 0, 0, 0
    return 0, at, 0, 0, f.BAD_LINK
