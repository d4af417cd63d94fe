"""The frame table: one row per frame, and the codes that its columns use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME = np.dtype(
    [
        ("time_ns", "i8"),  # Unix time, UTC
        ("src", "i8"),  # sender's MAC; without one, `address_as_mac` of the IP address; 0 unknown
        ("dst", "i8"),
        ("sip_hi", "i8"),  # addresses as two halves of 128 bits, IPv4 as ::ffff:a.b.c.d; 0,0 none
        ("sip_lo", "i8"),
        ("dip_hi", "i8"),
        ("dip_lo", "i8"),
        ("at", "i8"),  # where the frame begins in the chunk's bytes
        ("wire", "i8"),  # bytes on the wire
        ("captured", "i4"),  # bytes in the file
        ("payload_at", "i4"),  # where the transport payload begins, counted from `at`
        ("payload", "i4"),  # its captured bytes
        ("link", "i4"),  # link type of the capture (LINKTYPE_ number)
        ("ethertype", "u2"),  # innermost one; 0 where there is none
        ("sport", "u2"),  # ICMP, ICMPv6, IGMP: type; ARP: operation
        ("dport", "u2"),  # ICMP, ICMPv6: code
        ("proto", "u1"),  # IP protocol, after extension headers
        ("version", "u1"),  # IP version, 0 for none
        ("flags", "u1"),  # TCP flags
        ("service", "u1"),  # index into `SERVICES`
        ("transport", "u1"),  # index into `TRANSPORTS`
        ("reason", "u1"),  # index into `REASONS`
        ("evidence", "u1"),  # what the payload is, index into `EVIDENCE`
        ("first", "u1"),  # first byte of a TCP or UDP payload, 0 without one
        ("names", "u1"),  # 1 where the payload may name the server: a TLS hello, an HTTP message
    ],
    align=True,
)
"""Columns of the frame table."""

SERVICES = (
    "arp", "icmp", "icmpv6", "igmp", "dhcp", "dhcpv6", "dns", "mdns", "ssdp", "ntp", "weave", "gcm",
    "mqtt", "mqtts", "http", "https", "quic", "tplink", "tuya", "coap",
    "other-tcp", "other-udp", "ip-fragment", "other-ip", "non-ip",
)  # fmt: skip
"""What the port rule can say, in the order in which it asks."""

(
    ARP, ICMP, ICMPV6, IGMP, DHCP, DHCPV6, DNS, MDNS, SSDP, NTP, WEAVE, GCM,
    MQTT, MQTTS, HTTP, HTTPS, QUIC, TPLINK, TUYA, COAP,
    OTHER_TCP, OTHER_UDP, IP_FRAGMENT, OTHER_IP, NON_IP,
) = range(len(SERVICES))  # fmt: skip

TRANSPORTS = ("TCP", "UDP", "ICMP", "ICMPv6", "IGMP", "ARP", "other")
TCP, UDP, T_ICMP, T_ICMPV6, T_IGMP, T_ARP, T_OTHER = range(len(TRANSPORTS))

APPLICATIONS = ("DHCP", "DNS", "mDNS", "SSDP", "NTP", "HTTP", "HTTPS", "MQTT", "Weave", "GCM")
"""The application protocols of the paper (Table 3), as the CSV files name them."""

APPLICATION_OF_SERVICE: dict[int, str] = {
    DHCP: "DHCP",
    DNS: "DNS",
    MDNS: "mDNS",
    SSDP: "SSDP",
    NTP: "NTP",
    HTTP: "HTTP",
    HTTPS: "HTTPS",
    MQTT: "MQTT",
    MQTTS: "MQTT",
    WEAVE: "Weave",
    GCM: "GCM",
}

EVIDENCE = ("", "DHCP", "DNS", "mDNS", "SSDP", "NTP", "HTTP", "TLS", "MQTT", "QUIC")
"""What a payload's bytes can tell (`testbed.capture.payload`)."""
(NONE, E_DHCP, E_DNS, E_MDNS, E_SSDP, E_NTP, E_HTTP, E_TLS, E_MQTT, E_QUIC) = range(len(EVIDENCE))

REASONS = (
    "placed",
    "link type not supported",
    "frame cut inside the link header",
    "802.11 management or control frame",
    "802.11 frame is encrypted",
    "802.11 data frame without a packet",
    "frame cut inside the IP header",
    "IP header malformed",
    "frame cut inside the transport header",
    "transport header malformed",
)
"""Why a frame, or its inner part, could not be read."""

(
    PLACED, BAD_LINK, CUT_LINK, WIFI_CONTROL, WIFI_ENCRYPTED, WIFI_EMPTY,
    CUT_IP, BAD_IP, CUT_TRANSPORT, BAD_TRANSPORT,
) = range(len(REASONS))  # fmt: skip

_PSEUDO = 1 << 48


def mac_text(mac: int) -> str:
    """Return ``aa:bb:cc:dd:ee:ff``, or ``ip-…`` for an endpoint of a capture without MACs."""
    if mac >> 48:
        return f"ip-{mac & (_PSEUDO - 1):x}"
    return ":".join(f"{mac >> shift & 255:02x}" for shift in range(40, -8, -8))


def mac_number(text: str) -> int:
    """Return the number of a MAC written with colons or dashes; ValueError if it is not one."""
    digits = text.replace(":", "").replace("-", "")
    if len(digits) != 12:
        raise ValueError(f"not a MAC address: {text!r}")
    return int(digits, 16)


def address_text(high: int, low: int) -> str:
    """Return an address's usual form; empty for none."""
    if high == 0 and low == 0:
        return ""
    if high == 0 and low >> 32 == 0xFFFF:
        return f"{low >> 24 & 255}.{low >> 16 & 255}.{low >> 8 & 255}.{low & 255}"
    from ipaddress import IPv6Address

    return str(IPv6Address((high & (1 << 64) - 1) << 64 | (low & (1 << 64) - 1)))


def address_number(text: str) -> tuple[int, int]:
    """Return the two halves under which the frame table keeps an address."""
    from ipaddress import ip_address

    address = ip_address(text)
    value = int(address) | (0xFFFF << 32 if address.version == 4 else 0)
    return signed(value >> 64), signed(value)


def signed(half: int) -> int:
    """Return the lower 64 bits of a number as they stand in a signed column."""
    half &= (1 << 64) - 1
    return half - (1 << 64) if half >> 63 else half


def port_tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return, for TCP and UDP, the service of each port (`OTHER_TCP`, `OTHER_UDP` for the rest).

    Codes stand in the order in which the rule asks, so that of a frame's two ports the lower
    code wins.
    """
    tcp = np.full(65536, OTHER_TCP, np.uint8)
    udp = np.full(65536, OTHER_UDP, np.uint8)
    for table, ports in (
        (udp, {DHCP: (67, 68), DHCPV6: (546, 547), MDNS: (5353,), SSDP: (1900,), NTP: (123,)}),
        (
            udp,
            {DNS: (53,), WEAVE: (11095,), QUIC: (443,), TPLINK: (9999,), TUYA: (6666, 6667), COAP: (5683,)},
        ),
        (tcp, {DNS: (53,), WEAVE: (11095,), GCM: (5228, 5229, 5230), MQTT: (1883,), MQTTS: (8883,)}),
        (tcp, {HTTP: (80,), HTTPS: (443,), TPLINK: (9999,), TUYA: (6668,)}),
    ):
        for service, numbers in ports.items():
            table[list(numbers)] = service
    return tcp, udp
