"""From a frame's bytes to its row of the frame table: network and transport headers.

Rules of this file:
- Every function is given `end`, the first byte after the captured frame, and reads nothing at or
  beyond it.
- The outermost IP packet decides: tunnels are not opened, ICMP errors keep their own protocol.
- What cannot be read is named by a reason and still counted.

The service of a frame is the port rule, frame by frame: ARP by ethertype; ICMP, ICMPv6 and IGMP by
protocol; else the first match over both ports of a first fragment, in the order of `SERVICES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.capture import frame as f
from testbed.capture.frame import port_tables
from testbed.capture.kernel import byte, kernel
from testbed.capture.link import IPV4, IPV6, address_as_mac, be16, be32, be64, link_layer
from testbed.capture.payload import NAME_BYTES, recognise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.capture.kernel import Record

Tables = Any
"""Services of TCP ports, of UDP ports, and room for a name."""

ARP_TYPE = 0x0806
MAPPED = 0xFFFF << 32
UNKNOWN = 255
"""Protocol number (reserved) of a packet of which it was not captured."""


@kernel
def transport_layer(
    buf: NDArray[np.uint8], at: int, end: int, row: Record, tcp: NDArray[np.uint8], udp: NDArray[np.uint8]
) -> None:
    """Read the transport header of an unfragmented packet or first fragment."""
    if row.proto == 6:
        row.transport = f.TCP
        row.service = f.OTHER_TCP
        if at + 4 > end:
            row.reason = f.CUT_TRANSPORT
            return
        row.sport = be16(buf, at)
        row.dport = be16(buf, at + 2)
        row.service = min(byte(tcp, row.sport), byte(tcp, row.dport))
        if at + 14 > end:
            row.reason = f.CUT_TRANSPORT
            return
        row.flags = byte(buf, at + 13)
        size = (byte(buf, at + 12) >> 4) * 4
        if size < 20:
            row.reason = f.BAD_TRANSPORT
        elif at + size < end:
            row.payload_at = at + size - row.at
            row.payload = end - at - size
    elif row.proto == 17:
        row.transport = f.UDP
        row.service = f.OTHER_UDP
        if at + 4 > end:
            row.reason = f.CUT_TRANSPORT
            return
        row.sport = be16(buf, at)
        row.dport = be16(buf, at + 2)
        row.service = min(byte(udp, row.sport), byte(udp, row.dport))
        if at + 8 > end:
            row.reason = f.CUT_TRANSPORT
            return
        size = be16(buf, at + 4)
        if size >= 8:
            end = min(end, at + size)
        elif size > 0:
            row.reason = f.BAD_TRANSPORT
        if at + 8 < end:
            row.payload_at = at + 8 - row.at
            row.payload = end - at - 8


@kernel
def by_number(buf: NDArray[np.uint8], row: Record, end: int, offset: int) -> None:
    """Place a packet whose protocol number alone was captured; `offset` is the fragment's."""
    if messages(buf, end, end, row):
        return
    if offset > 0:
        row.service = f.IP_FRAGMENT
    elif row.proto == 6:
        row.service, row.transport = f.OTHER_TCP, f.TCP
    elif row.proto == 17:
        row.service, row.transport = f.OTHER_UDP, f.UDP


@kernel
def ipv4(
    buf: NDArray[np.uint8], at: int, end: int, row: Record, tcp: NDArray[np.uint8], udp: NDArray[np.uint8]
) -> None:
    """Read an IPv4 packet (RFC 791)."""
    row.service = f.OTHER_IP
    row.version = 4
    if at + 20 > end:
        row.reason = f.CUT_IP
        if at + 8 <= end:
            row.proto = byte(buf, at + 9) if at + 10 <= end else UNKNOWN
            by_number(buf, row, end, be16(buf, at + 6) & 0x1FFF)
        return
    size = (byte(buf, at) & 15) * 4
    if byte(buf, at) >> 4 != 4 or size < 20:
        row.reason = f.BAD_IP
        return
    row.proto = byte(buf, at + 9)
    row.sip_lo = MAPPED | be32(buf, at + 12)
    row.dip_lo = MAPPED | be32(buf, at + 16)
    total = be16(buf, at + 2)
    if total >= size:  # 0 where the network card does the segmenting
        end = min(end, at + total)
    elif total > 0:
        row.reason = f.BAD_IP
    offset = be16(buf, at + 6) & 0x1FFF
    if messages(buf, at + size if offset == 0 else end, end, row):
        return
    if offset > 0:
        row.service = f.IP_FRAGMENT
        return
    transport_layer(buf, at + size, end, row, tcp, udp)


@kernel
def messages(buf: NDArray[np.uint8], at: int, end: int, row: Record) -> bool:
    """Place f.ICMP and f.IGMP, which the protocol number alone decides; return whether it was one."""
    if row.proto == 1 and row.version == 4:
        row.service, row.transport = f.ICMP, f.T_ICMP
    elif row.proto == 2 and row.version == 4:
        row.service, row.transport = f.IGMP, f.T_IGMP
    elif row.proto == 58 and row.version == 6:
        row.service, row.transport = f.ICMPV6, f.T_ICMPV6
    else:
        return False
    if at + 2 <= end:
        row.sport = byte(buf, at)
        row.dport = byte(buf, at + 1) if row.proto != 2 else 0
        row.payload_at = at - row.at
        row.payload = end - at
    return True


@kernel
def ipv6(
    buf: NDArray[np.uint8], at: int, end: int, row: Record, tcp: NDArray[np.uint8], udp: NDArray[np.uint8]
) -> None:
    """Read an IPv6 packet and its extension headers (RFC 8200)."""
    if at < end and byte(buf, at) >> 4 != 6:
        row.reason = f.BAD_IP
        return
    row.service = f.OTHER_IP
    row.version = 6
    if at + 40 > end:
        row.reason = f.CUT_IP
        if at + 7 <= end:
            row.proto = byte(buf, at + 6)
            by_number(buf, row, end, 0)
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
                row.reason = f.CUT_IP
                return
            offset = be16(buf, at + 2) >> 3
            proto = byte(buf, at)
            at += 8
            if offset > 0:  # what follows is data, whatever it looks like
                break
        elif proto in (0, 43, 60, 51, 135, 139, 140):
            if at + 8 > end:
                row.reason = f.CUT_IP
                if at < end:
                    row.proto = byte(buf, at)
                    by_number(buf, row, end, 0)
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
        row.service = f.IP_FRAGMENT
        return
    transport_layer(buf, at, end, row, tcp, udp)


@kernel
def arp(buf: NDArray[np.uint8], at: int, end: int, row: Record) -> None:
    """Read an f.ARP message: its operation, and its two IPv4 addresses (RFC 826)."""
    row.service, row.transport = f.ARP, f.T_ARP
    if at + 8 > end:
        row.reason = f.CUT_TRANSPORT
        return
    row.sport = be16(buf, at + 6)
    if be16(buf, at + 2) == IPV4 and byte(buf, at + 4) == 6 and byte(buf, at + 5) == 4:
        if at + 28 > end:
            row.reason = f.CUT_TRANSPORT
            return
        row.sip_lo = MAPPED | be32(buf, at + 14)
        row.dip_lo = MAPPED | be32(buf, at + 24)


@kernel
def dissect(buf: NDArray[np.uint8], row: Record, tables: Tables) -> None:
    """Fill the columns of a row whose `at`, `captured` and `link` are set."""
    tcp, udp, scratch = tables
    row.sip_hi, row.sip_lo, row.dip_hi, row.dip_lo = 0, 0, 0, 0
    row.payload_at, row.payload = 0, 0
    row.sport, row.dport = 0, 0
    row.proto, row.version, row.flags, row.reason = 0, 0, 0, 0
    row.evidence, row.first, row.names = 0, 0, 0
    row.service = f.NON_IP
    row.transport = f.T_OTHER
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
    if row.payload > 0 and (row.transport == f.TCP or row.transport == f.UDP):
        # What the bytes tell is noted here, where they are at hand: whoever counts the frames later
        # would have to fetch them again.
        begin = row.at + row.payload_at
        row.evidence = recognise(buf, row, scratch)
        row.first = byte(buf, begin)
        if row.evidence == f.E_HTTP:
            row.names = 1
        elif row.evidence == f.E_TLS and row.first == 22 and row.payload > 5:
            row.names = 1 if byte(buf, begin + 5) == 1 else 0


def dissection_tables() -> Tables:
    """Return what `dissect` needs, for one thread: the services of TCP and UDP ports, room for a name."""
    return *port_tables(), np.zeros(NAME_BYTES, np.uint8)
