"""Make a large capture of a smart home, for speed measurements: the frames of one day of a few
devices, repeated with new times and new client ports until there are enough.

    python benchmarks/synthetic_capture.py OUT.pcap [--frames 2000000]

The mix is meant to be that of a home of IoT devices (short cloud sessions over TLS, a lookup before
each, NTP, MQTT heartbeats, DHCP, discovery by multicast, some bulk), about 235 bytes a frame. It is
the load of a benchmark, not a data set; `testbed run` makes those.
"""

from __future__ import annotations

import argparse
import random
import struct
from pathlib import Path

import numpy as np

BEGIN_S = 1_522_713_600  # 3 April 2018
DAY_S = 86_400
DEVICES = 9
FRAMES_A_DAY = 40_000


def checksum_free_ip(src: bytes, dst: bytes, proto: int, body: bytes, ttl: int = 64) -> bytes:
    """An IPv4 packet without checksums: nothing measured here looks at them."""
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0x4000, ttl, proto, 0, src, dst) + body


def ethernet(src: bytes, dst: bytes, ethertype: int, body: bytes) -> bytes:
    return (dst + src + struct.pack("!H", ethertype) + body).ljust(60, b"\0")


def dns_name(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def client_hello(name: str) -> bytes:
    sni = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name.encode()
    extensions = sni + struct.pack("!HH", 21, 180) + bytes(180)
    body = (
        b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + struct.pack("!H", 4) + b"\x13\x01\xc0\x2f" + b"\x01\0"
    )
    body += struct.pack("!H", len(extensions)) + extensions
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack("!H", len(hello)) + hello


def record(kind: int, size: int) -> bytes:
    """A TLS record of so many bytes."""
    return struct.pack("!BHH", kind, 0x0303, size) + bytes([1]) * size


def server_hello() -> bytes:
    body = b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + b"\x13\x01" + b"\0" + b"\0\0"
    hello = b"\x02" + len(body).to_bytes(3, "big") + body
    return struct.pack("!BHH", 22, 0x0303, len(hello)) + hello


class Home:
    """Builds the frames of one day."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.frames: list[tuple[float, bytes, int, int]] = []
        """Time, bytes, where a client's port may stand, and number of the exchange."""
        self.exchange = 0
        self.sequence = {True: 0, False: 0}
        self.router = bytes.fromhex("204e7f000001")
        self.router_ip = bytes([192, 168, 1, 1])

    def mac(self, device: int) -> bytes:
        return bytes.fromhex("50c7bf0000") + bytes([16 + device])

    def ip(self, device: int) -> bytes:
        return bytes([192, 168, 1, 100 + device])

    def udp(
        self, at: float, device: int, sent: bool, peer: bytes, port: int, data: bytes, client: int
    ) -> None:
        ports = (client, port) if sent else (port, client)
        self.ip_frame(at, device, sent, peer, 17, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data, sent)

    def tcp(
        self, at: float, device: int, sent: bool, peer: bytes, port: int, flags: int, data: bytes
    ) -> None:
        ports = (40_000, port) if sent else (port, 40_000)
        numbers = (self.sequence[sent], self.sequence[not sent] if flags & 16 else 0)
        header = struct.pack("!HHIIBBHHH", *ports, *numbers, 0x80, flags, 29_200, 0, 0)
        stamps = b"\x01\x01\x08\x0a" + struct.pack("!II", int(at * 250), 0)
        self.ip_frame(at, device, sent, peer, 6, header + stamps + data, sent)
        self.sequence[sent] += len(data) + (flags & 2) // 2 + (flags & 1)

    def ip_frame(
        self, at: float, device: int, sent: bool, peer: bytes, proto: int, body: bytes, source: bool
    ) -> None:
        src, dst = (self.ip(device), peer) if sent else (peer, self.ip(device))
        ends = (self.mac(device), self.router) if sent else (self.router, self.mac(device))
        frame = ethernet(*ends, 0x0800, checksum_free_ip(src, dst, proto, body))
        self.add(at, frame, 34 if source else 36)

    def add(self, at: float, frame: bytes, port_at: int) -> None:
        """Add a frame; of the current exchange, if it has a client's port at `port_at`."""
        self.frames.append((at, frame, port_at, self.exchange))

    def lookup(self, at: float, device: int, name: str, address: bytes) -> None:
        self.exchange += 1
        question = dns_name(name) + b"\0\1\0\1"
        query = struct.pack("!HHHHHH", self.exchange & 0xFFFF, 0x0100, 1, 0, 0, 0) + question
        answer = struct.pack("!HHHHHH", self.exchange & 0xFFFF, 0x8180, 1, 2, 0, 0) + question
        for last in (0, 1):
            record = bytes([*address[:3], address[3] ^ last])
            answer += b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + record
        self.udp(at, device, True, self.router_ip, 53, query, 40_000)
        self.udp(at + 0.02, device, False, self.router_ip, 53, answer, 40_000)

    def session(self, at: float, device: int, name: str, address: bytes, port: int, segments: int) -> None:
        self.lookup(at, device, name, address)
        at += 0.05
        self.exchange += 1
        self.sequence = {True: 1000, False: 5000}
        flight = server_hello() + record(23, 1150)
        plan: list[tuple[bool, int, bytes]] = [
            (True, 2, b""), (False, 18, b""), (True, 16, b""), (True, 24, client_hello(name)),
            (False, 24, flight), (True, 16, b""), (True, 24, record(20, 1) + record(23, 69)),
        ]  # fmt: skip
        for _ in range(segments):
            asked = record(23, 40 + self.chance.randrange(280))
            plan += [(True, 24, asked), (False, 16, b""), (False, 24, record(23, 1056)), (True, 16, b"")]
        plan += [(True, 17, b""), (False, 17, b""), (True, 16, b"")]
        for sent, flags, body in plan:
            self.tcp(at, device, sent, address, port, flags, body)
            at += 0.02

    def day(self) -> None:
        """A day of every device: about `FRAMES_A_DAY` frames."""
        for device in range(DEVICES):
            servers = [
                (f"cloud{n}.vendor{device}.example", bytes([198, 18, device, 10 + n])) for n in range(4)
            ]
            for at in np.arange(self.chance.random() * 300, DAY_S, 300 + 20 * device):
                name, address = self.chance.choice(servers)
                port = 8883 if device == 2 else 443
                self.session(float(at), device, name, address, port, 4)
            for at in np.arange(device, DAY_S, 900):
                pool = bytes([198, 18, 100, self.chance.randrange(40)])
                self.lookup(float(at), device, f"{device % 4}.pool.example", pool)
                self.udp(float(at) + 0.1, device, True, pool, 123, b"\x23" + bytes(47), 123)
                self.udp(float(at) + 0.2, device, False, pool, 123, b"\x24\x02" + bytes(46), 123)
            for at in np.arange(device * 7, DAY_S, 125):
                search = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n"
                datagram = struct.pack("!HHHH", 40_000, 1900, 8 + len(search), 0) + search
                packet = checksum_free_ip(self.ip(device), bytes([239, 255, 255, 250]), 17, datagram)
                query = ethernet(self.mac(device), bytes.fromhex("01005e7ffffa"), 0x0800, packet)
                self.exchange += 1
                self.add(float(at), query, 34)
                arp = (
                    struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + self.mac(device) + self.ip(device) + bytes(6)
                )
                arp += self.router_ip
                self.add(float(at) + 1, ethernet(self.mac(device), self.router, 0x0806, arp), 0)
            for at in np.arange(device * 3.0, DAY_S, 120):
                self.ip_frame(float(at), device, True, self.router_ip, 1, b"\x08\0" + bytes(54), True)
                self.ip_frame(float(at) + 0.01, device, False, self.router_ip, 1, b"\0\0" + bytes(54), False)
        self.frames.sort(key=lambda frame: frame[0])


def write(path: Path, frames: int, seed: int = 1) -> None:
    """Write the capture; patches times and client ports of whole days at once."""
    home = Home(seed)
    home.day()
    times = np.array([at for at, *_ in home.frames])
    starts = np.zeros(len(home.frames), np.int64)
    image = bytearray()
    for i, (_, frame, *_) in enumerate(home.frames):
        starts[i] = len(image)
        image += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    day = np.frombuffer(bytes(image), np.uint8).copy()
    ports = np.array([port_at for *_, port_at, _ in home.frames])
    exchange = np.array([number for *_, number in home.frames])
    patched = np.flatnonzero(ports)
    # Only client ports vary; a frame whose port here is a server's keeps it.
    port_at = starts[patched] + 16 + ports[patched]
    is_client = (day[port_at].astype(np.int64) << 8 | day[port_at + 1]) == 40_000
    port_at, exchange = port_at[is_client], exchange[patched[is_client]]
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        left, number = frames, 0
        while left > 0:
            now = times + BEGIN_S + number * DAY_S
            seconds = now.astype(np.uint32)
            micros = ((now - seconds) * 1e6).astype(np.uint32)
            for shift in range(4):
                day[starts + shift] = seconds >> 8 * shift & 255
                day[starts + 4 + shift] = micros >> 8 * shift & 255
            client = 33_000 + (exchange * 7 + number * 131) % 27_000
            day[port_at] = client >> 8
            day[port_at + 1] = client & 255
            whole = len(home.frames) <= left
            file.write(day.data if whole else day[: starts[left]].data)
            left -= len(home.frames)
            number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=2_000_000)
    options = parser.parse_args()
    write(options.out, options.frames)
    print(f"{options.out}: {options.frames:,} frames, {options.out.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
