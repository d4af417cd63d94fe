"""Stacked, tunnelled, fragmented and cut frames of every link type: tshark, asked by the written port
rule, places each as the analyser does.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.dot11 import Dot11
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.packet import Raw

from testbed.capture.frame import SERVICES
from testbed.capture.read import read
from tests.unit.captures import pcap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FRAMES = 300
PORTS = (53, 67, 68, 80, 443, 123, 1883, 8883, 5353, 1900, 5228, 5231, 11095, 9999, 6666, 6668, 5683, 546,
         22, 40000, 0)  # fmt: skip
ENDS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
SNAP_OF = {IP: 0x800, IPv6: 0x86DD, ARP: 0x806}


class Odd:
    """Makes frames by chance."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)

    def pick(self, *values: Any) -> Any:
        return self.chance.choice(values)

    def inner(self, six: bool) -> Any:
        ends = {"sport": self.pick(*PORTS), "dport": self.pick(*PORTS)}
        data = Raw(self.chance.randbytes(self.pick(0, 3, 40)))
        echo = ICMPv6EchoRequest() if six else ICMP()
        quoted = UDP(sport=4000, dport=53) / Raw(bytes(8))
        error = ICMPv6DestUnreach() / IPv6() / quoted if six else ICMP(type=3, code=3) / IP() / quoted
        return self.pick(TCP(**ends) / data, UDP(**ends) / data, echo, error)

    def four(self, inner: Any = None, proto: int | None = None) -> Any:
        packet = IP(src="10.0.0.1", dst="8.8.8.8", options=self.pick([], [], [IPOption_NOP()] * 4))
        if proto is not None:
            packet.proto = proto
        return packet / (self.inner(six=False) if inner is None else inner)

    def six(self) -> Any:
        packet = IPv6(src="fe80::1", dst="2001:db8::1")
        for _ in range(self.pick(0, 0, 1, 2)):
            packet /= self.pick(IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting)()
        return packet / self.inner(six=True)

    def packet(self) -> Any:
        fragment = IPv6ExtHdrFragment(offset=self.pick(0, 5), m=1, nh=17)
        return self.pick(
            self.four, self.six, self.four, self.six,
            lambda: self.four(self.four(), 4), lambda: self.four(GRE() / self.four(), 47),
            lambda: self.four(self.six(), 41), lambda: self.four(Raw(bytes(20)), self.pick(50, 89, 2, 0)),
            lambda: IP(frag=self.pick(0, 9), flags="MF", proto=17) / Raw(b"\0\x35" * 20),
            lambda: IPv6() / fragment / Raw(b"\0\x35" * 20), lambda: IPv6(nh=59) / Raw(bytes(24)),
        )()  # fmt: skip

    def ethernet(self) -> bytes:
        packet, ether = self.packet(), Ether(**ENDS)
        arp = self.pick(packet, ARP())
        snap = LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=SNAP_OF[type(arp)])
        number = 0x21 if isinstance(packet, IP) else 0x57
        return bytes(
            self.pick(
                ether / arp, ether / packet, ether / Dot1Q(vlan=5) / arp,
                ether / Dot1Q(vlan=5) / Dot1Q(vlan=6) / Dot1Q(vlan=7) / packet,
                Ether(type=0x88A8, **ENDS) / Dot1AD(vlan=5) / Dot1Q(vlan=6) / packet,
                ether / Dot1Q(vlan=5) / PPPoE(sessionid=3) / PPP(proto=number) / packet,
                ether / PPPoE(sessionid=3) / PPP(proto=0xC021) / Raw(b"\1\1\0\4"),
                Ether(type=0x8847, **ENDS) / Raw(b"\0\x01\x01\x09" + bytes(packet)),
                Dot3(**ENDS) / snap / arp, Dot3(**ENDS) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(38)),
                Dot3(**ENDS) / LLC(dsap=6, ssap=self.pick(6, 0x42), ctrl=3) / self.four(),
                Ether(type=self.pick(0x88CC, 0x88E5, 0x9000, 0x600), **ENDS) / Raw(bytes(48)),
            )
        )  # fmt: skip

    def cooked(self, version: int) -> bytes:
        packet = self.pick(self.packet(), self.packet(), ARP())
        link, size = self.pick(1, 772, 512, 802, 65534, 824), self.pick(6, 6, 0, 8)
        protocol, station = SNAP_OF[type(packet)], self.chance.randbytes(8)
        if version == 1:
            return struct.pack("!HHH", 0, link, size) + station + struct.pack("!H", protocol) + bytes(packet)
        return struct.pack("!HHIHBB", protocol, 0, 3, link, 0, size) + station + bytes(packet)

    def wifi(self) -> bytes:
        packet = self.pick(self.packet(), self.packet(), ARP())
        ways, quality, hidden = self.pick(0, 1, 2, 3), self.pick(False, True), self.pick(0, 0, 0, 0x40)
        stations = {f"addr{i}": f"02:00:00:00:00:0{i}" for i in range(1, 5 if ways == 3 else 4)}
        head = bytes(Dot11(type=2, subtype=8 * quality, FCfield=ways | hidden, **stations))
        body = bytes(LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=SNAP_OF[type(packet)]) / packet)
        if quality and self.pick(False, True):
            body = bytes(12) + struct.pack("!H", len(body)) + body
            return head + struct.pack("<H", 0x80) + body
        return head + (struct.pack("<H", self.pick(0, 7)) if quality else b"") + body

    def radiotap(self) -> bytes:
        head = self.pick(
            struct.pack("<BBHI", 0, 0, 8, 0),
            struct.pack("<BBHIB", 0, 0, 9, 2, 0),
            struct.pack("<BBHIQB", 0, 0, 17, 3, 12345, 0),
        )
        return bytes(head) + self.wifi()

    def family(self, order: str, six: tuple[int, ...]) -> bytes:
        packet = self.packet()
        number = 2 if isinstance(packet, IP) else self.pick(*six)
        return struct.pack(f"{order}I", number) + bytes(packet)

    def ppp(self) -> bytes:
        packet = self.packet()
        number = 0x21 if isinstance(packet, IP) else 0x57
        return bytes(self.pick(b"\xff\x03", b"")) + struct.pack("!H", number) + bytes(packet)


KINDS: dict[str, tuple[int, Callable[[Odd], bytes]]] = {
    "ethernet": (1, Odd.ethernet),
    "cooked-1": (113, lambda odd: odd.cooked(1)),
    "cooked-2": (276, lambda odd: odd.cooked(2)),
    "wifi": (105, Odd.wifi),
    "radiotap": (127, Odd.radiotap),
    "null": (0, lambda odd: odd.family("<", (24, 28, 30))),
    "loop": (108, lambda odd: odd.family(">", (24,))),
    "raw": (101, lambda odd: bytes(odd.packet())),
    "ppp": (9, Odd.ppp),
}

NEXT = {0: "ipv6.hopopts.nxt", 60: "ipv6.dstopts.nxt", 43: "ipv6.routing.nxt", 44: "ipv6.fraghdr.nxt"}
FIELDS = ("frame.protocols", "ip.proto", "ip.frag_offset", "ipv6.nxt", *NEXT.values(), "ipv6.fraghdr.offset",
          "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport")  # fmt: skip
OFF = ("ip.defragment", "ipv6.defragment", "tcp.desegment_tcp_streams", "wlan.defragment")
UDP_PORTS = {67: "dhcp", 68: "dhcp", 546: "dhcpv6", 547: "dhcpv6", 53: "dns", 5353: "mdns", 1900: "ssdp",
             123: "ntp", 11095: "weave", 443: "quic", 9999: "tplink", 6666: "tuya", 6667: "tuya",
             5683: "coap"}  # fmt: skip
TCP_PORTS = {53: "dns", 11095: "weave", 5228: "gcm", 5229: "gcm", 5230: "gcm", 1883: "mqtt", 8883: "mqtts",
             80: "http", 443: "https", 9999: "tplink", 6668: "tuya"}  # fmt: skip
ORDER = ("dhcp", "dhcpv6", "dns", "mdns", "ssdp", "ntp", "weave", "gcm", "mqtt", "mqtts", "http", "https",
         "quic", "tplink", "tuya", "coap")  # fmt: skip


def numbers(text: str) -> list[int]:
    return [int(part, 0) for part in text.split(",") if part]


def by_the_rule(row: dict[str, str]) -> str:
    """Place a frame by what tshark saw of its outermost packet."""
    layers = row["frame.protocols"].split(":")
    outer = next((layer for layer in layers if layer in ("ip", "ipv6", "arp")), "non-ip")
    if outer in ("arp", "non-ip"):
        return outer
    offset = 0
    if outer == "ip":
        number = numbers(row["ip.proto"])[0] if row["ip.proto"] else -1
        offset = (numbers(row["ip.frag_offset"]) or [0])[0]
        if number in (1, 2):
            return "icmp" if number == 1 else "igmp"
    else:
        number = numbers(row["ipv6.nxt"])[0] if row["ipv6.nxt"] else -1
        seen: Counter[int] = Counter()
        while number in NEXT and offset == 0 and seen[number] < len(numbers(row[NEXT[number]])):
            if number == 44:
                offset = numbers(row["ipv6.fraghdr.offset"])[seen[44]]
            seen[number] += 1
            number = numbers(row[NEXT[number]])[seen[number] - 1]
        if number == 58:
            return "icmpv6"
    if offset:
        return "ip-fragment"
    if number not in (6, 17):
        return "other-ip"
    name, ports = ("tcp", TCP_PORTS) if number == 6 else ("udp", UDP_PORTS)
    ends = [(numbers(row[f"{name}.{end}"]) or [-1])[0] for end in ("srcport", "dstport")]
    return min((ports[end] for end in ends if end in ports), key=ORDER.index, default=f"other-{name}")


def by_tshark(path: Path) -> Iterator[str]:
    options = [word for name in OFF for word in ("-o", f"{name}:FALSE")]
    fields = [word for name in FIELDS for word in ("-e", name)]
    command = ["tshark", "-n", "-r", str(path), *options, "-T", "fields", "-E", "aggregator=,", *fields]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        yield by_the_rule(dict(zip(FIELDS, line.split("\t"), strict=True)))


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("captured", [48, 68, None], ids=lambda size: f"{size or 'whole'}")
@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_is_placed_alike(
    kind: str, captured: int | None, tmp_path: Path, needs: Callable[..., None]
) -> None:
    needs("tshark")
    link, make = KINDS[kind]
    odd = Odd(kind)
    frames = [make(odd) for _ in range(FRAMES)]
    path = tmp_path / "odd.pcap"
    path.write_bytes(
        pcap([(i, data) for i, data in enumerate(frames)], link=link, snaplen=captured or 262_144)
    )
    ours: list[str] = []
    read([str(path)], lambda chunk: ours.extend(SERVICES[i] for i in chunk.frames["service"].tolist()))
    theirs = list(by_tshark(path))
    assert len(ours) == len(theirs) == FRAMES
    differ = [(i, *both) for i, both in enumerate(zip(ours, theirs, strict=True), 1) if both[0] != both[1]]
    assert not differ, "frame, analyser, tshark"
