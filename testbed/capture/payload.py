"""What payloads say: kernels that recognise a protocol by its bytes and read names out of it.

Rules of this file:
- A payload is ``buf[at:end]``; nothing at or beyond `end` is read, and every loop has a bound.
- Recognition is structural (a TLS record header, an MQTT CONNECT, a DNS question that parses):
  ports are asked only where the bytes alone leave two protocols possible (DNS and mDNS).

Sources: RFC 1035 §4, 6762 §18 (DNS, mDNS); 2131/2132 (DHCP); 5905 §7.3 (NTP); 8446 §4.1.2, 5.1 and
6066 §3 (TLS, SNI); 9112 §3 (HTTP); MQTT 3.1.1 §3.1; 9000 §17.2 (QUIC); UPnP DA 1.1 §1 (SSDP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.capture import frame as f
from testbed.capture.kernel import byte, kernel
from testbed.capture.link import be16, be32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from testbed.capture.kernel import Record

NAME_BYTES = 256
"""Room for a name with its dots (RFC 1035 §2.3.4)."""

NTP_EPOCH = 2_208_988_800
YEAR = 366 * 86_400

ANSWERED, EMPTY, NO_SUCH_NAME, SERVER_FAILURE, REFUSED, OTHER_ANSWER = 1, 2, 3, 4, 5, 6
"""Kinds of DNS message beside 0, the query."""


@kernel
def be24(buf: NDArray[np.uint8], at: int) -> int:
    """Return the three bytes at `at`, network order."""
    return byte(buf, at) << 16 | be16(buf, at + 1)


@kernel
def domain_name(
    buf: NDArray[np.uint8], base: int, at: int, end: int, out: NDArray[np.uint8]
) -> tuple[int, int]:
    """Write the name at `at` into `out`, lower case with dots; return (length, byte after it).

    The length is -1 for a name that does not parse. Compression pointers only lead backwards, as
    RFC 1035 §4.1.4 has it, which also ends every loop.
    """
    size = 0
    after = -1
    limit = at
    while True:
        if at >= end:
            return -1, end
        length = byte(buf, at)
        if length == 0:
            return size, at + 1 if after < 0 else after
        if length >= 0xC0:
            if at + 2 > end:
                return -1, end
            if after < 0:
                after = at + 2
            at = base + (be16(buf, at) & 0x3FFF)
            if at >= limit:
                return -1, end
            limit = at
            continue
        if length > 63 or at + 1 + length > end or size + length + 1 >= 256:
            return -1, end
        if size > 0:
            out[size] = 46
            size += 1
        for i in range(length):
            letter = byte(buf, at + 1 + i)
            if 65 <= letter <= 90:
                letter += 32
            out[size + i] = letter
        size += length
        at += 1 + length


@kernel
def is_dns(buf: NDArray[np.uint8], at: int, end: int, scratch: NDArray[np.uint8]) -> bool:
    """Return whether the payload is a DNS message: flags, counts and a first name that parse."""
    if at + 17 > end:
        return False
    flags = be16(buf, at + 2)
    if flags & 0x7840 or flags & 15 > 5:  # an opcode other than query, the reserved bit, a rare code
        return False
    questions, answers = be16(buf, at + 4), be16(buf, at + 6)
    if questions > 16 or answers > 128 or (questions == 0 and answers == 0):
        return False
    size, after = domain_name(buf, at, at + 12, end, scratch)
    if size < 0 or after + 4 > end:
        return False
    kind, group = be16(buf, after), be16(buf, after + 2) & 0x7FFF
    return 0 < kind < 300 and (group == 1 or group == 255)


@kernel
def is_ntp(buf: NDArray[np.uint8], at: int, end: int, unix_s: int, port_123: bool) -> bool:
    """Return whether the payload is an NTP packet of a client or server."""
    if end - at < 48 or end - at > 2048:
        return False
    first = byte(buf, at)
    version, mode = first >> 3 & 7, first & 7
    if version == 0 or version > 4 or mode == 0 or mode > 5 or byte(buf, at + 1) > 16:
        return False
    if port_123:
        return True
    return abs(be32(buf, at + 40) - NTP_EPOCH - unix_s) < YEAR


@kernel
def is_tls(buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Return whether the payload begins with a TLS record header."""
    if at + 5 > end or byte(buf, at + 1) != 3 or byte(buf, at + 2) > 4:
        return False
    length = be16(buf, at + 3)
    return 20 <= byte(buf, at) <= 23 and 0 < length <= 16_640


@kernel
def is_http(buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Return whether the payload begins with an HTTP/1 request or status line."""
    if at + 8 > end:
        return False
    word = be32(buf, at)
    fifth = byte(buf, at + 4)
    if word == 0x48545450:  # HTTP
        return fifth == 47 and byte(buf, at + 5) == 49
    if word == 0x47455420 or word == 0x50555420:  # "GET ", "PUT "
        return fifth == 47 or fifth == 104 or fifth == 42
    if word == 0x504F5354 or word == 0x48454144:  # POST, HEAD
        return fifth == 32
    if word == 0x4F505449:  # OPTIons
        return fifth == 79
    if word == 0x44454C45:  # DELEte
        return fifth == 84
    if word == 0x50415443:  # PATCh
        return fifth == 72
    return False


@kernel
def is_mqtt(buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Return whether the payload is an MQTT CONNECT, or a whole CONNACK, PINGREQ or PINGRESP."""
    size = end - at
    if size < 2:
        return False
    first = byte(buf, at)
    if size == 2:
        return (first == 0xC0 or first == 0xD0) and byte(buf, at + 1) == 0
    if size == 4:
        return first == 0x20 and byte(buf, at + 1) == 2 and byte(buf, at + 2) <= 1 and byte(buf, at + 3) <= 5
    if first != 0x10:
        return False
    after = at + 1
    for _ in range(4):
        if after >= end:
            return False
        after += 1
        if byte(buf, after - 1) < 128:
            break
    if after + 6 > end or byte(buf, after) != 0:
        return False
    word = be32(buf, after + 2)
    return (byte(buf, after + 1) == 4 and word == 0x4D515454) or (
        byte(buf, after + 1) == 6 and word == 0x4D514973
    )


@kernel
def is_ssdp(buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Return whether the payload begins with an SSDP start line (of a datagram)."""
    if at + 10 > end:
        return False
    word, next_word = be32(buf, at), be32(buf, at + 4)
    return (
        (word == 0x4D2D5345 and next_word == 0x41524348)  # M-SEARCH
        or (word == 0x4E4F5449 and next_word == 0x4659202A)  # NOTIFY *
        or (word == 0x48545450 and next_word == 0x2F312E31)  # HTTP/1.1
    )


@kernel
def is_quic(buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Return whether the payload begins with a QUIC long header of a known version."""
    if at + 20 > end or byte(buf, at) & 0xC0 != 0xC0:
        return False
    version = be32(buf, at + 1)
    return version == 1 or version == 0x6B3343CF or version >> 8 == 0xFF0000 or version >> 16 == 0x5130


@kernel
def recognise(buf: NDArray[np.uint8], row: Record, scratch: NDArray[np.uint8]) -> int:
    """Return which protocol (`EVIDENCE`) a frame's payload is by its bytes, 0 for none that is known."""
    at = row.at + row.payload_at
    end = at + row.payload
    if row.transport == f.TCP:
        if is_tls(buf, at, end):
            return f.E_TLS
        if is_http(buf, at, end):
            return f.E_HTTP
        if is_mqtt(buf, at, end):
            return f.E_MQTT
        if end - at >= 19 and be16(buf, at) == end - at - 2 and is_dns(buf, at + 2, end, scratch):
            return f.E_DNS
        return f.NONE
    low_port, high_port = min(row.sport, row.dport), max(row.sport, row.dport)
    if end - at >= 240 and be32(buf, at + 236) == 0x63825363 and 1 <= byte(buf, at) <= 2:
        return f.E_DHCP
    if is_ssdp(buf, at, end):
        return f.E_SSDP
    if is_quic(buf, at, end):
        return f.E_QUIC
    if low_port == 5353 or high_port == 5353:
        return f.E_MDNS if is_dns(buf, at, end, scratch) else f.NONE
    # NetBIOS names and LLMNR borrow the format of DNS
    if low_port != 137 and low_port != 5355 and high_port != 5355 and is_dns(buf, at, end, scratch):
        return f.E_DNS
    if is_ntp(buf, at, end, row.time_ns // 1_000_000_000, low_port == 123):
        return f.E_NTP
    return f.NONE


@kernel
def dns_kind(buf: NDArray[np.uint8], at: int, end: int) -> int:
    """Return the kind of a DNS message: 0 for a query, else how it was answered."""
    if at + 12 > end:
        return OTHER_ANSWER
    flags = be16(buf, at + 2)
    if flags < 0x8000:
        return 0
    code = flags & 15
    if code == 0:
        return ANSWERED if be16(buf, at + 6) > 0 else EMPTY
    if code == 3:
        return NO_SUCH_NAME
    if code == 2:
        return SERVER_FAILURE
    if code == 5:
        return REFUSED
    return OTHER_ANSWER


@kernel
def server_name(buf: NDArray[np.uint8], at: int, end: int, out: NDArray[np.uint8]) -> int:
    """Write the SNI of a ClientHello into `out`; return its length, 0 for none."""
    if at + 44 > end or byte(buf, at) != 22 or byte(buf, at + 5) != 1:
        return 0
    cursor = at + 43
    cursor += 1 + byte(buf, cursor)  # session
    if cursor + 2 > end:
        return 0
    cursor += 2 + be16(buf, cursor)  # cipher suites
    if cursor + 1 > end:
        return 0
    cursor += 1 + byte(buf, cursor)  # compression methods
    if cursor + 2 > end:
        return 0
    limit = min(end, cursor + 2 + be16(buf, cursor))
    cursor += 2
    for _ in range(64):
        if cursor + 4 > limit:
            return 0
        kind, size = be16(buf, cursor), be16(buf, cursor + 2)
        if kind == 0:
            if cursor + 9 > limit:
                return 0
            length = be16(buf, cursor + 7)
            if byte(buf, cursor + 6) != 0 or length > 255 or cursor + 9 + length > limit:
                return 0
            return lower(buf, cursor + 9, length, out)
        cursor += 4 + size
    return 0


@kernel
def lower(buf: NDArray[np.uint8], at: int, length: int, out: NDArray[np.uint8]) -> int:
    """Copy a name in lower case into `out`, up to the first byte no name has; return its length."""
    for i in range(length):
        letter = byte(buf, at + i)
        if 65 <= letter <= 90:
            letter += 32
        if letter <= 32 or letter >= 127:
            return i
        out[i] = letter
    return length


@kernel
def host_header(buf: NDArray[np.uint8], at: int, end: int, out: NDArray[np.uint8]) -> int:
    """Write the Host of an HTTP request into `out`, without a port; return its length, 0 for none."""
    end = min(end, at + 2048)
    while at + 7 < end:
        if byte(buf, at) == 10:
            if byte(buf, at + 1) == 13:
                return 0
            # "host:" in any case
            if (
                byte(buf, at + 1) | 32 == 104
                and byte(buf, at + 2) | 32 == 111
                and byte(buf, at + 3) | 32 == 115
                and byte(buf, at + 4) | 32 == 116
                and byte(buf, at + 5) == 58
            ):
                at += 6
                while at < end and byte(buf, at) == 32:
                    at += 1
                size = lower(buf, at, min(end - at, 255), out)
                for i in range(size):
                    if out[i] == 58:
                        return i
                return size
        at += 1
    return 0


@kernel
def dhcp_option(buf: NDArray[np.uint8], at: int, end: int, wanted: int) -> tuple[int, int]:
    """Return (first byte, length) of a DHCP option's value, (0, 0) if it is absent."""
    cursor = at + 240
    for _ in range(256):
        if cursor >= end:
            return 0, 0
        code = byte(buf, cursor)
        if code == 0:
            cursor += 1
            continue
        if code == 255 or cursor + 2 > end:
            return 0, 0
        size = byte(buf, cursor + 1)
        if cursor + 2 + size > end:
            return 0, 0
        if code == wanted:
            return cursor + 2, size
        cursor += 2 + size
    return 0, 0
