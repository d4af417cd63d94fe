"""From a frame's bytes to its row of the frame table: link, network and transport headers.

Rules of this file:
- Every function is given `end`, the first byte after the captured frame, and reads nothing at or
  beyond it.
- The outermost IP packet decides: tunnels are not opened, ICMP errors keep their own protocol.
- What cannot be read is named by a reason and still counted.

The service of a frame is the port rule, frame by frame: ARP by ethertype; ICMP, ICMPv6 and IGMP by
protocol; else the first match over both ports of a first fragment, in the order of `SERVICES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.capture import frame as f
from testbed.capture.kernel import byte, kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Numba freezes module globals into the kernel, so the codes are bound here once by name.
ARP, ICMP, ICMPV6, IGMP = f.ARP, f.ICMP, f.ICMPV6, f.IGMP
OTHER_TCP, OTHER_UDP, IP_FRAGMENT, OTHER_IP, NON_IP = f.OTHER_TCP, f.OTHER_UDP, f.IP_FRAGMENT, f.OTHER_IP, f.NON_IP
T_TCP, T_UDP, T_ICMP, T_ICMPV6, T_IGMP, T_ARP, T_OTHER = f.TCP, f.UDP, f.T_ICMP, f.T_ICMPV6, f.T_IGMP, f.T_ARP, f.T_OTHER
BAD_LINK, CUT_LINK, WIFI_CONTROL, WIFI_ENCRYPTED, WIFI_EMPTY = (
    f.BAD_LINK, f.CUT_LINK, f.WIFI_CONTROL, f.WIFI_ENCRYPTED, f.WIFI_EMPTY,
)  # fmt: skip
CUT_IP, BAD_IP, CUT_TRANSPORT, BAD_TRANSPORT = f.CUT_IP, f.BAD_IP, f.CUT_TRANSPORT, f.BAD_TRANSPORT

IPV4, IPV6, ARP_TYPE = 0x0800, 0x86DD, 0x0806
MAPPED = 0xFFFF << 32
PSEUDO = 1 << 48


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
        if at + 8 <= end and byte(buf, at + 3) == 0 and byte(buf, at + 4) == 0 and (byte(buf, at + 5) == 0 or byte(buf, at + 5) == 0xF8):
            return be16(buf, at + 6), at + 8
        return 0, at
    if byte(buf, at) == 6 and byte(buf, at + 1) == 6 and byte(buf, at + 2) == 3:
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
        return 0, at, 0, 0, CUT_LINK
    control = byte(buf, at)
    flags = byte(buf, at + 1)
    kind = control >> 2 & 3
    subtype = control >> 4
    if control & 3 != 0 or kind != 2:
        return 0, at, 0, 0, WIFI_CONTROL
    if at + 24 > end:
        return 0, at, 0, 0, CUT_LINK
    to_ds, from_ds = flags & 1, flags >> 1 & 1
    header = 24
    if to_ds and from_ds:
        if at + 30 > end:
            return 0, at, 0, 0, CUT_LINK
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
            return 0, at, src, dst, CUT_LINK
        aggregated = byte(buf, at + header) & 0x80 != 0
        header += 2
        if flags & 0x80:
            header += 4
    if subtype & 4:
        return 0, at, src, dst, WIFI_EMPTY
    if flags & 0x40:
        return 0, at, src, dst, WIFI_ENCRYPTED
    at += header
    if aggregated:  # the first of the frames it carries stands for all
        if at + 14 > end:
            return 0, at, src, dst, CUT_LINK
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
            return 0, at, 0, 0, CUT_LINK
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
            return 0, at, 0, 0, CUT_LINK
        src = be48(buf, at + 6) if be16(buf, at + 4) == 6 else 0
        ethertype = be16(buf, at + 14)
        if ethertype == 4:
            ethertype, at = llc(buf, at + 16, end)
        else:
            at += 16
        ethertype, at = shims(buf, at, end, ethertype)
        return ethertype, at, src, 0, 0
    if link == 276:  # Linux cooked v2
        if at + 20 > end:
            return 0, at, 0, 0, CUT_LINK
        src = be48(buf, at + 12) if byte(buf, at + 11) == 6 else 0
        ethertype = be16(buf, at)
        if ethertype == 4:
            ethertype, at = llc(buf, at + 20, end)
        else:
            at += 20
        ethertype, at = shims(buf, at, end, ethertype)
        return ethertype, at, src, 0, 0
    if link == 101 or link == 12 or link == 14:
        return by_nibble(buf, at, end), at, 0, 0, 0 if at < end else CUT_LINK
    if link == 228:
        return IPV4, at, 0, 0, 0
    if link == 229:
        return IPV6, at, 0, 0, 0
    if link == 0 or link == 108:
        if at + 4 > end:
            return 0, at, 0, 0, CUT_LINK
        family = be32(buf, at)
        if family > 0xFFFF:  # null: in the order of the machine that captured
            family = byte(buf, at + 3) << 24 | byte(buf, at + 2) << 16 | byte(buf, at + 1) << 8 | byte(buf, at)
        if family == 2:
            return IPV4, at + 4, 0, 0, 0
        if family == 10 or family == 24 or family == 28 or family == 30:
            return IPV6, at + 4, 0, 0, 0
        return 0, at + 4, 0, 0, 0
    if link == 105:
        return wifi(buf, at, end)
    if link == 127:
        length, padded = radiotap(buf, at, end)
        if length < 0:
            return 0, at, 0, 0, CUT_LINK
        ethertype, after, src, dst, reason = wifi(buf, at + length, end)
        if padded and reason == 0 and ethertype == 0:
            ethertype, after = llc(buf, after + 2, end)
        return ethertype, after, src, dst, reason
    if link == 10:  # FDDI
        if at + 13 > end:
            return 0, at, 0, 0, CUT_LINK
        dst, src = reversed_bits(be48(buf, at + 1)), reversed_bits(be48(buf, at + 7))
        ethertype, at = llc(buf, at + 13, end)
        return ethertype, at, src, dst, 0
    if link == 9:  # PPP, with or without address and control
        if at + 4 > end:
            return 0, at, 0, 0, CUT_LINK
        if byte(buf, at) == 0xFF and byte(buf, at + 1) == 3:
            at += 2
        inner = be16(buf, at)
        return IPV4 if inner == 0x21 else (IPV6 if inner == 0x57 else 0), at + 2, 0, 0, 0
    return 0, at, 0, 0, BAD_LINK


@kernel
def transport_layer(
    buf: NDArray[np.uint8], at: int, end: int, row: np.void, tcp: NDArray[np.uint8], udp: NDArray[np.uint8]
) -> None:
    """Read the transport header of an unfragmented packet or first fragment."""
    if row.proto == 6:
        row.transport = T_TCP
        row.service = OTHER_TCP
        if at + 4 > end:
            row.reason = CUT_TRANSPORT
            return
        row.sport = be16(buf, at)
        row.dport = be16(buf, at + 2)
        row.service = min(byte(tcp, row.sport), byte(tcp, row.dport))
        if at + 14 > end:
            row.reason = CUT_TRANSPORT
            return
        row.flags = byte(buf, at + 13)
        size = (byte(buf, at + 12) >> 4) * 4
        if size < 20:
            row.reason = BAD_TRANSPORT
        elif at + size < end:
            row.payload_at = at + size - row.at
            row.payload = end - at - size
    elif row.proto == 17:
        row.transport = T_UDP
        row.service = OTHER_UDP
        if at + 4 > end:
            row.reason = CUT_TRANSPORT
            return
        row.sport = be16(buf, at)
        row.dport = be16(buf, at + 2)
        row.service = min(byte(udp, row.sport), byte(udp, row.dport))
        if at + 8 > end:
            row.reason = CUT_TRANSPORT
            return
        size = be16(buf, at + 4)
        if size >= 8:
            end = min(end, at + size)
        elif size > 0:
            row.reason = BAD_TRANSPORT
        if at + 8 < end:
            row.payload_at = at + 8 - row.at
            row.payload = end - at - 8


@kernel
def ipv4(buf: NDArray[np.uint8], at: int, end: int, row: np.void, tcp: NDArray[np.uint8], udp: NDArray[np.uint8]) -> None:
    """Read an IPv4 packet (RFC 791)."""
    row.service = OTHER_IP
    row.version = 4
    if at + 20 > end:
        row.reason = CUT_IP
        if at + 10 <= end:
            row.proto = byte(buf, at + 9)
            messages(buf, end, end, row)
        return
    size = (byte(buf, at) & 15) * 4
    if byte(buf, at) >> 4 != 4 or size < 20:
        row.reason = BAD_IP
        return
    row.proto = byte(buf, at + 9)
    row.sip_lo = MAPPED | be32(buf, at + 12)
    row.dip_lo = MAPPED | be32(buf, at + 16)
    total = be16(buf, at + 2)
    if total >= size:  # 0 where the network card does the segmenting
        end = min(end, at + total)
    elif total > 0:
        row.reason = BAD_IP
    offset = be16(buf, at + 6) & 0x1FFF
    if messages(buf, at + size if offset == 0 else end, end, row):
        return
    if offset > 0:
        row.service = IP_FRAGMENT
        return
    transport_layer(buf, at + size, end, row, tcp, udp)


@kernel
def messages(buf: NDArray[np.uint8], at: int, end: int, row: np.void) -> bool:
    """Place ICMP and IGMP, which the protocol number alone decides; return whether it was one."""
    if row.proto == 1 and row.version == 4:
        row.service, row.transport = ICMP, T_ICMP
    elif row.proto == 2 and row.version == 4:
        row.service, row.transport = IGMP, T_IGMP
    elif row.proto == 58 and row.version == 6:
        row.service, row.transport = ICMPV6, T_ICMPV6
    else:
        return False
    if at + 2 <= end:
        row.sport = byte(buf, at)
        row.dport = byte(buf, at + 1) if row.proto != 2 else 0
        row.payload_at = at - row.at
        row.payload = end - at
    return True


@kernel
def ipv6(buf: NDArray[np.uint8], at: int, end: int, row: np.void, tcp: NDArray[np.uint8], udp: NDArray[np.uint8]) -> None:
    """Read an IPv6 packet and its extension headers (RFC 8200)."""
    row.service = OTHER_IP
    row.version = 6
    if at + 40 > end:
        row.reason = CUT_IP
        return
    if byte(buf, at) >> 4 != 6:
        row.reason = BAD_IP
        return
    row.sip_hi, row.sip_lo = be64(buf, at + 8), be64(buf, at + 16)
    row.dip_hi, row.dip_lo = be64(buf, at + 24), be64(buf, at + 32)
    proto = byte(buf, at + 6)
    size = be16(buf, at + 4)
    at += 40
    if size > 0:  # 0 is a jumbogram
        end = min(end, at + size)
    offset = 0
    for _ in range(24):
        row.proto = proto
        if proto == 44:
            if at + 8 > end:
                row.reason = CUT_IP
                return
            offset = be16(buf, at + 2) >> 3
            proto = byte(buf, at)
            at += 8
            if offset > 0:  # what follows is data, whatever it looks like
                break
        elif proto in (0, 43, 60, 51, 135, 139, 140):
            if at + 8 > end:
                row.reason = CUT_IP
                return
            step = (byte(buf, at + 1) + 2) * 4 if proto == 51 else (byte(buf, at + 1) + 1) * 8
            proto = byte(buf, at)
            at += step
        else:
            break
    row.proto = proto
    if messages(buf, at if offset == 0 else end, end, row):
        return
    if offset > 0:
        row.service = IP_FRAGMENT
        return
    transport_layer(buf, at, end, row, tcp, udp)


@kernel
def arp(buf: NDArray[np.uint8], at: int, end: int, row: np.void) -> None:
    """Read an ARP message: its operation, and its two IPv4 addresses (RFC 826)."""
    row.service, row.transport = ARP, T_ARP
    if at + 8 > end:
        row.reason = CUT_TRANSPORT
        return
    row.sport = be16(buf, at + 6)
    if be16(buf, at + 2) == IPV4 and byte(buf, at + 4) == 6 and byte(buf, at + 5) == 4:
        if at + 28 > end:
            row.reason = CUT_TRANSPORT
            return
        row.sip_lo = MAPPED | be32(buf, at + 14)
        row.dip_lo = MAPPED | be32(buf, at + 24)


@kernel
def dissect(buf: NDArray[np.uint8], rows: np.ndarray, count: int, tcp: NDArray[np.uint8], udp: NDArray[np.uint8]) -> None:
    """Fill the columns of the first `count` rows, whose `at`, `captured` and `link` are set."""
    for i in range(count):
        row = rows[i]
        row.sip_hi, row.sip_lo, row.dip_hi, row.dip_lo = 0, 0, 0, 0
        row.payload_at, row.payload = 0, 0
        row.sport, row.dport = 0, 0
        row.proto, row.version, row.flags, row.reason = 0, 0, 0, 0
        row.service = NON_IP
        row.transport = T_OTHER
        end = row.at + row.captured
        ethertype, at, src, dst, reason = link_layer(buf, row.at, end, row.link)
        row.ethertype = ethertype
        row.reason = reason
        if ethertype == IPV4:
            ipv4(buf, at, end, row, tcp, udp)
        elif ethertype == IPV6:
            ipv6(buf, at, end, row, tcp, udp)
        elif ethertype == ARP_TYPE:
            arp(buf, at, end, row)
        if src == 0 and row.version:
            src = address_as_mac(row.sip_hi, row.sip_lo)
        if dst == 0 and row.version:
            dst = address_as_mac(row.dip_hi, row.dip_lo)
        row.src = src
        row.dst = dst
