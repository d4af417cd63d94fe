"""tshark, asked frame by frame by the written port rule, counts as the analyser does."""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from testbed.analysis import analyse
from testbed.api import run
from testbed.capture.frame import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIELDS = ("frame.len", "eth.type", "ip.proto", "ip.frag_offset", "tcp.srcport", "tcp.dstport", "udp.srcport",
          "udp.dstport", "eth.src", "eth.dst")  # fmt: skip
OFF = ("ip.defragment", "tcp.desegment_tcp_streams", "ipv6.defragment")
BY_PORT = (
    ("dhcp", "udp", (67, 68)),
    ("dns", "udp", (53,)),
    ("dns", "tcp", (53,)),
    ("mdns", "udp", (5353,)),
    ("ssdp", "udp", (1900,)),
    ("ntp", "udp", (123,)),
    ("weave", "tcp", (11095,)),
    ("gcm", "tcp", (5228, 5229, 5230)),
    ("mqtt", "tcp", (1883,)),
    ("mqtts", "tcp", (8883,)),
    ("http", "tcp", (80,)),
    ("https", "tcp", (443,)),
    ("quic", "udp", (443,)),
    ("tplink", "tcp", (9999,)),
    ("tplink", "udp", (9999,)),
)


def by_tshark(path: Path) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return packets and bytes of each service, and frames of each sender."""
    options = [word for name in OFF for word in ("-o", f"{name}:FALSE")]
    fields = [word for name in FIELDS for word in ("-e", name)]
    command = ["tshark", "-n", "-r", str(path), *options, "-T", "fields", "-E", "occurrence=f", *fields]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    packets: Counter[str] = Counter()
    size: Counter[str] = Counter()
    senders: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        length, ethertype, proto, offset, *rest = line.split("\t")
        service = service_of(ethertype, proto, offset, rest[:4])
        packets[service] += 1
        size[service] += int(length)
        senders[rest[4]] += 1
    return packets, size, senders


def service_of(ethertype: str, proto: str, offset: str, ports: list[str]) -> str:
    if ethertype == "0x0806":
        return "arp"
    if proto in ("1", "2"):
        return {"1": "icmp", "2": "igmp"}[proto]
    transport = "tcp" if proto == "6" else "udp"
    numbers = {int(port) for port in ports if port}
    if int(offset or 0) == 0 and numbers:
        for service, over, known in BY_PORT:
            if over == transport and numbers & set(known):
                return service
        return f"other-{transport}"
    return "ip-fragment" if proto and int(offset or 0) else ("other-ip" if proto else "non-ip")


@pytest.mark.system
@pytest.mark.slow
def test_tshark_counts_the_same_packets_and_bytes(tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("tshark")
    run("router-restart", out=tmp_path / "run", seed=5, until_s=3600)
    packets, size, senders = by_tshark(tmp_path / "run" / "capture.pcap")
    result = analyse(tmp_path / "run" / "capture.pcap")
    counted = {name: (entry["packets"], entry["bytes"]) for name, entry in result.services_by_port.items()}
    assert counted == {name: (packets[name], size[name]) for name in packets}
    assert set(packets) <= set(SERVICES)
    sent: Counter[str] = Counter()
    macs = {device.device: device.mac for device in result.devices}
    for row in result.protocols:
        if row.layer == "transport" and row.direction == "sent":
            sent[macs.get(row.device, "")] += row.packets
    for mac in macs.values():
        assert sent[mac] == senders[mac], mac
