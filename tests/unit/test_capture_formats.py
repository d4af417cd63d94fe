from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zstandard
from scapy.layers.dhcp import BOOTP
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.packet import Raw

from testbed.capture.frame import REASONS, SERVICES, mac_number
from testbed.capture.read import Capture
from testbed.errors import UserError
from tests.unit.captures import (
    BEGIN,
    HUB,
    PLUG,
    PLUG_IP,
    block,
    frame,
    interface,
    packet,
    pcap,
    save,
    section,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

ETHER = Ether(src=PLUG, dst=HUB)
QUERY = IP(src=PLUG_IP, dst="8.8.8.8") / UDP(sport=4000, dport=53) / DNS(qd=DNSQR(qname="a.example"))
QUERY6 = IPv6(src="fe80::1", dst="fe80::2") / UDP(sport=4000, dport=53) / DNS(qd=DNSQR(qname="a.example"))


def rows(*files: str) -> np.ndarray:
    parts = [chunk.frames.copy() for chunk in Capture(list(files)).chunks()]
    return np.concatenate(parts)


def services(tmp_path: Path, layers: Any, link: int = 1) -> list[str]:
    data = pcap([(BEGIN, bytes(layers) if not isinstance(layers, bytes) else layers)], link=link)
    return [SERVICES[row["service"]] for row in rows(save(tmp_path / "one.pcap", data))]


@pytest.mark.parametrize(
    ("layers", "service"),
    [
        (ETHER / ARP(), "arp"),
        (ETHER / IP() / ICMP(), "icmp"),
        (ETHER / IPv6() / ICMPv6EchoRequest(), "icmpv6"),
        (ETHER / IPv6() / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest(), "icmpv6"),
        (ETHER / IP(proto=2) / Raw(b"\x16" + bytes(7)), "igmp"),
        (ETHER / IP() / UDP(sport=68, dport=67) / BOOTP(), "dhcp"),
        (ETHER / IPv6() / UDP(sport=546, dport=547), "dhcpv6"),
        (ETHER / QUERY, "dns"),
        (ETHER / IP() / TCP(dport=53), "dns"),
        (ETHER / IP() / UDP(sport=5353, dport=5353), "mdns"),
        (ETHER / IP() / UDP(sport=1900, dport=40000), "ssdp"),
        (ETHER / IP() / UDP(sport=123, dport=123), "ntp"),
        (ETHER / IP() / TCP(dport=11095), "weave"),
        (ETHER / IP() / TCP(sport=5229, dport=40000), "gcm"),
        (ETHER / IP() / UDP(sport=40000, dport=5228), "other-udp"),
        (ETHER / IP() / TCP(dport=1883), "mqtt"),
        (ETHER / IP() / TCP(dport=8883), "mqtts"),
        (ETHER / IP() / TCP(dport=80, flags="S"), "http"),
        (ETHER / IP() / TCP(sport=443, dport=40000, flags="A"), "https"),
        (ETHER / IP() / UDP(sport=443, dport=40000), "quic"),
        (ETHER / IP() / UDP(sport=40000, dport=9999), "tplink"),
        (ETHER / IP() / TCP(dport=6668), "tuya"),
        (ETHER / IP() / UDP(sport=40000, dport=6668), "other-udp"),
        (ETHER / IP() / UDP(sport=40000, dport=5683), "coap"),
        (ETHER / IP() / TCP(sport=40000, dport=40001), "other-tcp"),
        (ETHER / IP() / UDP(sport=53, dport=68), "dhcp"),  # the rule's order, not the lower port
        (ETHER / IP(flags="MF") / UDP(sport=40000, dport=53), "dns"),
        (ETHER / IP(frag=100, proto=17) / Raw(bytes(64)), "ip-fragment"),
        (ETHER / IP(frag=100, proto=1) / Raw(bytes(64)), "icmp"),
        (ETHER / IPv6() / IPv6ExtHdrFragment(offset=9, nh=17) / Raw(bytes(64)), "ip-fragment"),
        (ETHER / IP() / IP() / UDP(dport=53), "other-ip"),
        (ETHER / IP(proto=50) / Raw(bytes(64)), "other-ip"),
        (Ether(type=0x88CC) / Raw(bytes(40)), "non-ip"),
        (Ether(type=0x8035) / Raw(bytes(40)), "non-ip"),  # RARP is not ethertype 0x0806
        (Dot3() / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(30)), "non-ip"),
        (Dot3() / LLC() / SNAP() / IP() / UDP(dport=53), "dns"),
        (Dot3() / LLC(dsap=6, ssap=0x42, ctrl=3) / IP() / UDP(dport=53), "dns"),  # the SAP of IP
        (Ether(type=0x86DD) / IP() / UDP(dport=53), "non-ip"),  # no IPv6 packet, whatever it is
        (ETHER / Dot1Q(vlan=5) / QUERY, "dns"),
        (ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / QUERY6, "dns"),
        (Ether(type=0x88A8) / Dot1Q(vlan=5) / PPPoE() / PPP() / QUERY, "dns"),
        (Ether(type=0x8864) / PPPoE() / PPP() / QUERY, "dns"),
        (Ether(type=0x8847) / Raw(b"\x00\x01\x01\xff" + bytes(QUERY)), "dns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_port_rule_is_followed_to_the_letter(tmp_path: Path, layers: Any, service: str) -> None:
    assert services(tmp_path, layers) == [service]


@pytest.mark.parametrize(
    ("layers", "captured", "service"),
    [
        (ETHER / IP() / TCP(dport=443), 26, "other-tcp"),
        (ETHER / IP() / UDP(dport=53), 26, "other-udp"),
        (ETHER / IP() / ICMP(), 24, "icmp"),
        (ETHER / IP(frag=9) / UDP(dport=53), 24, "ip-fragment"),
        (ETHER / IP() / TCP(dport=443), 23, "other-ip"),
        (ETHER / IPv6() / TCP(dport=443), 21, "other-tcp"),
        (ETHER / IPv6() / UDP(dport=53), 40, "other-udp"),
        (ETHER / IPv6() / ICMPv6EchoRequest(), 21, "icmpv6"),
        (ETHER / IPv6() / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest(), 55, "icmpv6"),
        (ETHER / IPv6() / IPv6ExtHdrHopByHop() / UDP(dport=53), 55, "other-udp"),
        (ETHER / IPv6() / IPv6ExtHdrFragment(nh=17) / UDP(dport=53), 58, "other-ip"),
        (ETHER / IPv6() / UDP(dport=53), 20, "other-ip"),
    ],
)  # fmt: skip
def test_of_a_frame_cut_in_its_ip_header_the_protocol_number_still_counts(
    tmp_path: Path, layers: Any, captured: int, service: str
) -> None:
    assert services(tmp_path, frame(layers)[:captured]) == [service]


def test_a_cooked_frame_of_netlink_holds_no_ethertype(tmp_path: Path) -> None:
    v1 = bytes.fromhex("00000338000000000000000000000800")
    v2 = bytes.fromhex("0800000000000001033800000000000000000000")
    assert services(tmp_path, v1 + bytes(QUERY), 113) == ["non-ip"]
    assert services(tmp_path, v2 + bytes(QUERY), 276) == ["non-ip"]


WIFI_DATA = bytes.fromhex("08020000") + bytes.fromhex("50c7bf000001204e7f000001aabbccddeeff") + b"\0\0"
SNAP_IP = bytes.fromhex("aaaa030000000800")


@pytest.mark.parametrize(
    ("link", "head"),
    [
        (113, bytes.fromhex("0000" "0001" "0006" "50c7bf0000010000" "0800")),
        (276, bytes.fromhex("0800" "0000" "00000001" "0001" "00" "06" "50c7bf0000010000")),
        (101, b""),
        (12, b""),
        (14, b""),
        (228, b""),
        (0, bytes.fromhex("02000000")),
        (0, bytes.fromhex("00000002")),
        (108, bytes.fromhex("00000002")),
        (9, bytes.fromhex("ff030021")),
        (9, bytes.fromhex("0021")),
        (10, bytes.fromhex("50" "0ae3fd000080" "04727e000080") + SNAP_IP),
        (105, WIFI_DATA + SNAP_IP),
        (105, b"\x88" + WIFI_DATA[1:] + b"\0\0" + SNAP_IP),
        (127, bytes.fromhex("0000080000000000") + WIFI_DATA + SNAP_IP),
        (127, bytes.fromhex("0000 1200 2e48 0000 10 02 6c09 a000 f001 0000") + WIFI_DATA + SNAP_IP),
    ],
)  # fmt: skip
def test_every_link_type_leads_to_the_packet(tmp_path: Path, link: int, head: bytes) -> None:
    assert services(tmp_path, head + bytes(QUERY), link) == ["dns"]


def test_bare_ip_packets_of_both_versions_are_told_apart(tmp_path: Path) -> None:
    assert services(tmp_path, bytes(QUERY6), 101) == ["dns"]
    assert services(tmp_path, bytes(QUERY6), 229) == ["dns"]
    assert services(tmp_path, bytes.fromhex("1e000000") + bytes(QUERY6), 0) == ["dns"]


@pytest.mark.parametrize(
    ("link", "data", "reason"),
    [
        (220, bytes(60), "link type not supported"),
        (1, bytes(9), "frame cut inside the link header"),
        (105, b"\x80\x00" + bytes(40), "802.11 management or control frame"),
        (105, b"\x08\x42" + WIFI_DATA[2:] + bytes(30), "802.11 frame is encrypted"),
        (105, b"\x48\x02" + WIFI_DATA[2:], "802.11 data frame without a packet"),
        (1, bytes(ETHER / QUERY)[:24], "frame cut inside the IP header"),
        (1, bytes(Ether(type=0x0800)) + b"\x65" + bytes(40), "IP header malformed"),
        (1, bytes(ETHER / IP() / TCP())[:40], "frame cut inside the transport header"),
        (1, bytes(ETHER / IP() / TCP(dataofs=2)), "transport header malformed"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path: Path, link: int, data: bytes, reason: str) -> None:
    (row,) = rows(save(tmp_path / "one.pcap", pcap([(BEGIN, data)], link=link)))
    assert REASONS[row["reason"]] == reason


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_times_are_read_in_both_units_and_orders(tmp_path: Path, order: str, nano: bool) -> None:
    data = pcap([(BEGIN + 0.25, frame(ETHER / QUERY))], order=order, nano=nano)
    (row,) = rows(save(tmp_path / "one.pcap", data))
    assert row["time_ns"] == int(BEGIN) * 10**9 + 250_000_000
    assert row["wire"] == len(frame(ETHER / QUERY))
    assert row["src"] == mac_number(PLUG)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_interfaces_keep_their_own_unit_and_origin(tmp_path: Path, order: str) -> None:
    dns = frame(ETHER / QUERY)
    data = section(order) + interface(1, order) + interface(101, order, tsresol=9, offset_s=1000)
    data += interface(1, order, tsresol=0x8A)  # units of 2**-10 s
    data += packet(0, 5_000_000, dns, order) + packet(1, 5_000_000_007, bytes(QUERY), order)
    data += block(0x0BAD, bytes(20), order)  # unknown blocks are stepped over
    data += packet(2, 5 << 10 | 512, dns, order)
    data += block(3, struct.pack(f"{order}I", len(dns)) + dns, order)  # a simple packet: time of the last
    old = struct.pack(f"{order}HHIIII", 0, 0, 0, 7_000_000, len(dns), len(dns)) + dns
    data += block(2, old, order)
    table = rows(save(tmp_path / "one.pcapng", data))
    assert table["time_ns"].tolist() == [5 * 10**9, 1005 * 10**9 + 7, 5_500_000_000, 5_500_000_000, 7 * 10**9]
    assert {SERVICES[code] for code in table["service"]} == {"dns"}


def test_a_second_section_may_turn_the_byte_order(tmp_path: Path) -> None:
    dns = frame(ETHER / QUERY)
    data = b"".join(section(o) + interface(1, o) + packet(0, 1_000_000, dns, o) for o in "<>")
    assert rows(save(tmp_path / "one.pcapng", data))["time_ns"].tolist() == [10**9, 10**9]


def test_rotated_captures_are_read_in_order_of_time_whatever_their_names(tmp_path: Path) -> None:
    dns = frame(ETHER / QUERY)
    files = [
        save(tmp_path / name, pcap([(BEGIN + at, dns)]))
        for name, at in (("a.pcap", 20.0), ("b.pcap", 10.0), ("c.pcap", 30.0))
    ]
    assert np.all(np.diff(rows(*files)["time_ns"]) > 0)


def test_compressed_captures_are_read_as_they_are(tmp_path: Path) -> None:
    plain = pcap([(BEGIN + i, frame(ETHER / QUERY)) for i in range(100)])
    expected = rows(save(tmp_path / "plain.pcap", plain))
    for name, data in (
        ("a.gz", gzip.compress(plain)),
        ("b.zst", zstandard.compress(plain)),
        ("two-members.gz", gzip.compress(plain[:1000]) + gzip.compress(plain[1000:])),
        ("two-frames.zst", zstandard.compress(plain[:1000]) + zstandard.compress(plain[1000:])),
    ):
        assert np.array_equal(rows(save(tmp_path / name, data))["time_ns"], expected["time_ns"]), name


def test_captures_larger_than_a_window_lose_no_frame_at_its_edges(tmp_path: Path) -> None:
    sizes = [60 + 97 * i % 1400 for i in range(15_000)]
    head = bytes(ETHER / IP() / UDP(sport=123, dport=123))
    data = pcap((BEGIN + i / 100, head.ljust(size, b"\0")) for i, size in enumerate(sizes))
    table = rows(save(tmp_path / "long.pcap", data))
    assert len(data) > 2 << 22
    assert table["wire"].tolist() == [max(size, len(head)) for size in sizes]
    assert np.all(table["service"] == SERVICES.index("ntp"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"ab", "too short"),
        (b"#!/bin/sh\necho", "begins with 23 21 2f 62"),
        (pcap([])[:4] + b"\x09\0\x09\0" + pcap([])[8:], "version 9.9"),
        (gzip.compress(b"hello world", mtime=0), "begins with 68 65 6c 6c"),
        (b"\x1f\x8b" + bytes(40), "damaged"),
    ],
)
def test_a_file_that_is_no_capture_is_the_users_mistake(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says):
        rows(save(tmp_path / "file", data))


def test_a_missing_file_and_a_folder_are_the_users_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        rows(str(tmp_path / "nowhere.pcap"))
    with pytest.raises(UserError, match="is a folder"):
        rows(str(tmp_path))
