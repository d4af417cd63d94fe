"""Small captures made by the tests: scapy builds the packets, a few lines of struct the files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PLUG, HUB, ROUTER = "50:c7:bf:00:00:01", "00:1c:2b:00:00:02", "20:4e:7f:00:00:01"
PLUG_IP, HUB_IP, ROUTER_IP = "192.168.1.10", "192.168.1.11", "192.168.1.1"
CLOUD, OTHER_CLOUD = "198.18.0.7", "198.18.0.8"
BEGIN = 1_522_713_600.0
"""3 April 2018, as the paper's week."""

Timed = tuple[float, bytes]


def pcap(
    frames: Iterable[Timed], *, link: int = 1, order: str = "<", nano: bool = False, snaplen: int = 262_144
) -> bytes:
    """Return a pcap file of (Unix time, frame)."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    unit = 10**9 if nano else 10**6
    for at, frame in frames:
        ticks = int(at) * unit + round(at % 1 * unit)
        kept = frame[:snaplen]
        out.append(struct.pack(f"{order}IIII", ticks // unit, ticks % unit, len(kept), len(frame)) + kept)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a pcapng block."""
    body = body.ljust((len(body) + 3) // 4 * 4, b"\0")
    total = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + total + body + total


def section(order: str = "<") -> bytes:
    """Return a pcapng section header."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    link: int = 1, order: str = "<", tsresol: int | None = None, offset_s: int | None = None
) -> bytes:
    """Return a pcapng interface block, with a time unit and origin if wanted."""
    options = b""
    if tsresol is not None:
        options += struct.pack(f"{order}HHB3x", 9, 1, tsresol)
    if offset_s is not None:
        options += struct.pack(f"{order}HHq", 14, 8, offset_s)
    return block(1, struct.pack(f"{order}HHI", link, 0, 262_144) + options, order)


def packet(number: int, ticks: int, frame: bytes, order: str = "<") -> bytes:
    """Return a pcapng enhanced packet block."""
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, head + frame, order)


def save(path: Path, data: bytes) -> str:
    """Write a file and return its name."""
    path.write_bytes(data)
    return str(path)


def frame(layers: Any) -> bytes:
    """Return scapy layers as bytes, padded to Ethernet's least frame."""
    return bytes(layers).ljust(60, b"\0")


class Home:
    """Writes down what happens in a home with a plug, a hub and a router."""

    def __init__(self) -> None:
        self.frames: list[Timed] = []

    def save(self, path: Path) -> str:
        """Write all frames, in order of time, and return the file's name."""
        return save(path, pcap(sorted(self.frames, key=lambda timed: timed[0])))

    def add(self, at: float, layers: Any) -> None:
        """Add a frame `at` seconds after the begin."""
        self.frames.append((BEGIN + at, frame(layers)))

    def udp(
        self,
        at: float,
        sent: bool,
        peer: str,
        port: int,
        data: Any,
        client: int = 40_000,
        mac: str = PLUG,
        ip: str = PLUG_IP,
    ) -> None:
        """Add a datagram between a device and a peer behind the router."""
        if sent:
            self.add(
                at, Ether(src=mac, dst=ROUTER) / IP(src=ip, dst=peer) / UDP(sport=client, dport=port) / data
            )
        else:
            self.add(
                at, Ether(src=ROUTER, dst=mac) / IP(src=peer, dst=ip) / UDP(sport=port, dport=client) / data
            )

    def tcp(
        self,
        at: float,
        sent: bool,
        peer: str,
        port: int,
        flags: str,
        data: bytes = b"",
        client: int = 40_000,
        mac: str = PLUG,
        ip: str = PLUG_IP,
    ) -> None:
        """Add a segment between a device and a peer behind the router."""
        if sent:
            ends = (
                Ether(src=mac, dst=ROUTER) / IP(src=ip, dst=peer) / TCP(sport=client, dport=port, flags=flags)
            )
        else:
            ends = (
                Ether(src=ROUTER, dst=mac) / IP(src=peer, dst=ip) / TCP(sport=port, dport=client, flags=flags)
            )
        self.add(at, ends / Raw(data) if data else ends)

    def lookup(
        self, at: float, name: str, address: str | None, *, code: int = 0, client: int = 40_000
    ) -> None:
        """Add a DNS query of the plug and, unless `address` is None and `code` 0, its answer."""
        self.udp(at, True, ROUTER_IP, 53, DNS(id=7, rd=1, qd=DNSQR(qname=name)), client)
        if address is None and code == 0:
            return
        answers = DNSRR(rrname=name, ttl=60, rdata=address) if address else None
        reply = DNS(id=7, qr=1, rcode=code, qd=DNSQR(qname=name), an=answers, ancount=1 if address else 0)
        self.udp(at + 0.02, False, ROUTER_IP, 53, reply, client)

    def arp(self, at: float) -> None:
        """Add the plug's question for the router, and the answer."""
        self.add(
            at, Ether(src=PLUG, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=PLUG, psrc=PLUG_IP, pdst=ROUTER_IP)
        )
        self.add(
            at,
            Ether(src=ROUTER, dst=PLUG) / ARP(op=2, hwsrc=ROUTER, psrc=ROUTER_IP, hwdst=PLUG, pdst=PLUG_IP),
        )

    def ping(self, at: float, peer: str = CLOUD, *, answered: bool = True) -> None:
        """Add an echo request of the plug, and its reply."""
        self.add(at, Ether(src=PLUG, dst=ROUTER) / IP(src=PLUG_IP, dst=peer) / ICMP())
        if answered:
            self.add(at + 0.02, Ether(src=ROUTER, dst=PLUG) / IP(src=peer, dst=PLUG_IP) / ICMP(type=0))

    def dhcp(self, at: float, kind: str, *, hostname: str = "plug", mac: str = PLUG) -> None:
        """Add a DHCP message of a client."""
        chaddr = bytes.fromhex(mac.replace(":", "")).ljust(16, b"\0")
        options = [("message-type", kind), ("hostname", hostname), "end"]
        ends = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255")
        self.add(at, ends / UDP(sport=68, dport=67) / BOOTP(chaddr=chaddr) / DHCP(options=options))

    def session(
        self, at: float, peer: str, name: str | None, *, port: int = 443, client: int = 40_000
    ) -> None:
        """Add a whole TCP connection of the plug: handshake, TLS hello (with SNI), data, close."""
        self.tcp(at, True, peer, port, "S", client=client)
        self.tcp(at + 0.01, False, peer, port, "SA", client=client)
        self.tcp(at + 0.02, True, peer, port, "A", client=client)
        if name is not None:
            self.tcp(at + 0.03, True, peer, port, "PA", client_hello(name), client=client)
        self.tcp(at + 0.04, False, peer, port, "PA", b"\x17\x03\x03\x00\x40" + bytes(64), client=client)
        self.tcp(at + 0.05, True, peer, port, "FA", client=client)
        self.tcp(at + 0.06, False, peer, port, "FA", client=client)


def client_hello(name: str) -> bytes:
    """Return a TLS record with a ClientHello that names its server."""
    sni = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name.encode()
    other = struct.pack("!HH", 0x17, 0)
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\xc0\x2f" + b"\x01\0"
    body += struct.pack("!H", len(other + sni)) + other + sni
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack("!H", len(hello)) + hello
