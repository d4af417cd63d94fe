"""tshark dissects what the codecs build, finds it whole, and reads in it what was meant."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from testbed.host import TlsHello
from testbed.protocols import arp, certs, dhcp, dns, http, icmp, igmp, mdns, mqtt, ntp, ssdp, tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scapy.packet import Packet

pytestmark = pytest.mark.system

WARNING = 0x600000
"""tshark's severity of a warning; errors are above it, notes and chats below."""
MAC, ROUTER_MAC = "50:c7:bf:00:00:01", "20:4e:7f:00:00:01"
ME, SERVER = "192.168.1.9", "198.18.0.1"
RANDOM, OTHER = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def read(needs: Callable[..., None], tmp_path: Path) -> Callable[..., list[list[str]]]:
    """Give a function that has tshark print fields of frames, having checked that none is bad."""
    needs("tshark")

    def tshark(frames: list[Packet], *fields: str, only: str = "") -> list[list[str]]:
        file = tmp_path / "frames.pcap"
        wrpcap(str(file), frames)
        checks = [f"{name}.check_checksum:TRUE" for name in ("ip", "udp", "tcp")]
        call = ["tshark", "-r", str(file)] + [part for check in checks for part in ("-o", check)]
        bad = f"_ws.malformed || _ws.expert.severity >= {WARNING} || icmp.checksum.status == 0"
        bad = f"({bad}) && !(mdns && (dns.retransmit_request || dns.retransmit_response))"  # their id is 0
        assert run([*call, "-Y", bad]) == []
        return [
            line.split("\t") for line in run([*call, "-Y", only or "frame", "-T", "fields", *both(fields)])
        ]

    def both(fields: tuple[str, ...]) -> list[str]:
        return [part for field in fields for part in ("-e", field)]

    def run(call: list[str]) -> list[str]:
        done = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.splitlines()

    return tshark


def up(layer: Packet, source: str = ME, target: str = SERVER) -> Packet:
    return Ether(src=MAC, dst=ROUTER_MAC) / IP(src=source, dst=target) / layer


def datagram(data: bytes, sport: int, dport: int, target: str = SERVER, source: str = ME) -> Packet:
    return up(UDP(sport=sport, dport=dport) / data, source, target)


def conversation(port: int, *turns: tuple[str, bytes], sport: int = 40000) -> list[Packet]:
    """Return the frames of a TCP connection in which (``c``lient | ``s``erver, bytes) are said."""
    sent = {"c": 1000, "s": 5000}
    ends = {"c": (MAC, ROUTER_MAC, ME, SERVER, sport, port), "s": (ROUTER_MAC, MAC, SERVER, ME, port, sport)}

    def segment(side: str, flags: str, data: bytes = b"") -> Packet:
        src, dst, source, target, own, other = ends[side]
        ack = 0 if flags == "S" else sent["s" if side == "c" else "c"]
        tcp = TCP(sport=own, dport=other, flags=flags, seq=sent[side], ack=ack)
        sent[side] += len(data) or (1 if "S" in flags else 0)
        return Ether(src=src, dst=dst) / IP(src=source, dst=target) / tcp / data

    frames = [segment("c", "S"), segment("s", "SA"), segment("c", "A")]
    for side, data in turns:
        frames += [segment(side, "PA", data[at : at + 1400]) for at in range(0, len(data), 1400)]
    return frames


def test_dns(read: Callable[..., list[list[str]]]) -> None:
    asked = dns.query(0x1234, "devs.tplinkcloud.com")
    answered = dns.reply(asked, (
        ("devs.tplinkcloud.com", "CNAME", 60, "elb.amazonaws.com"), ("elb.amazonaws.com", "A", 60, SERVER),
    ))  # fmt: skip
    frames = [datagram(asked, 4000, 53), datagram(answered, 53, 4000, ME, SERVER)]
    assert read(frames, "dns.id", "dns.qry.name", "dns.cname", "dns.a", "dns.flags.response") == [
        ["0x1234", "devs.tplinkcloud.com", "", "", "0"],
        ["0x1234", "devs.tplinkcloud.com", "elb.amazonaws.com", SERVER, "1"],
    ]


def test_mdns(read: Callable[..., list[list[str]]]) -> None:
    record, instance = mdns.address("abc.local", ME), "a._x._tcp.local"
    known = mdns.ptr("_x._tcp.local", instance)
    messages = [
        mdns.query((mdns.Question("_googlecast._tcp.local", unicast=True),), (known,)),
        mdns.probe("abc.local", (record,)),
        mdns.announcement((record, mdns.srv(instance, 80, "abc.local"), mdns.txt(instance, ("k=v",)))),
        mdns.goodbye((record,)),
    ]  # fmt: skip
    frames = [datagram(data, 5353, 5353, mdns.GROUP) for data in messages]
    rows = read(
        frames, "dns.qry.qu", "dns.resp.cache_flush", "dns.resp.ttl", "dns.count.auth_rr", only="mdns"
    )
    assert rows == [
        ["1", "0", "4500", "0"],
        ["1", "0", "120", "1"],
        ["", "1,1,1", "120,120,4500", "0"],
        ["", "1", "0", "0"],
    ]


def test_ntp(read: Callable[..., list[list[str]]]) -> None:
    request = ntp.request(3, 4, 1_522_746_000.0)
    frames = [
        datagram(request, 4001, 123),
        datagram(ntp.reply(request, 1_522_746_000.5), 123, 4001, ME, SERVER),
    ]
    rows = read(frames, "ntp.flags.vn", "ntp.flags.mode", "ntp.stratum", "ntp.xmt")
    assert [row[:3] for row in rows] == [["3", "3", "0"], ["3", "4", "2"]]
    assert rows[1][3].startswith("Apr  3, 2018 09:00:00.5")


def test_dhcp(read: Callable[..., list[list[str]]]) -> None:
    asked = dhcp.client_message("REQUEST", MAC, 7, hostname="HS110", parameters=(1, 3), requested_ip=ME)
    acked = dhcp.server_message(
        "ACK",
        dhcp.parse(asked),
        server_id="192.168.1.1",
        yiaddr=ME,
        options=((dhcp.LEASE, bytes(2) + b"\xa8\xc0"),),
    )
    frames = [
        datagram(asked, 68, 67, "255.255.255.255", "0.0.0.0"),
        datagram(acked, 67, 68, ME, "192.168.1.1"),
    ]
    assert read(frames, "dhcp.option.dhcp", "dhcp.option.hostname", "dhcp.option.ip_address_lease_time") == [
        ["3", "HS110", ""],
        ["5", "", "43200"],
    ]


def test_ssdp(read: Callable[..., list[list[str]]]) -> None:
    messages = [
        ssdp.search("upnp:rootdevice"),
        ssdp.alive("upnp:rootdevice", "u", "http://192.168.1.9/", "Linux"),
    ]
    messages.append(ssdp.byebye("upnp:rootdevice", "u"))
    frames = [datagram(data, 1900, 1900, ssdp.GROUP) for data in messages]
    rows = read(frames, "http.request.method", "http.unknown_header", only="ssdp")
    assert [row[0] for row in rows] == ["M-SEARCH", "NOTIFY", "NOTIFY"]
    assert "NTS: ssdp:byebye" in rows[2][1]


def test_igmp_icmp_and_arp(read: Callable[..., list[list[str]]]) -> None:
    def group(message: bytes, target: str) -> Packet:
        ip = IP(src=ME, dst=target, ttl=1, proto=2, options=[IPOption_Router_Alert()])
        return Ether(src=MAC, dst="01:00:5e:00:00:16") / ip / message

    frames = [
        group(igmp.v2_report(ssdp.GROUP), ssdp.GROUP),
        group(igmp.leave(ssdp.GROUP), igmp.ALL_ROUTERS),
        group(igmp.query(), igmp.ALL_SYSTEMS),
        group(igmp.v3_report(((igmp.TO_EXCLUDE, mdns.GROUP, ()),)), igmp.V3_ROUTERS),
    ]
    assert read(frames, "igmp.type", "igmp.version", "igmp.checksum.status") == [
        ["0x16", "2", "1"], ["0x17", "2", "1"], ["0x11", "2", "1"], ["0x22", "3", "1"],
    ]  # fmt: skip
    lost = bytes(IP(src=ME, dst="8.8.8.8") / UDP(sport=4000, dport=53) / dns.query(1, "a.example"))
    echo = icmp.echo_request(3, 4)
    frames = [
        Ether(src=MAC, dst=ROUTER_MAC) / IP(src=ME, dst=SERVER, proto=1) / message
        for message in (echo, icmp.echo_reply(echo), icmp.unreachable(icmp.HOST_UNREACHABLE, lost))
    ]
    rows = read(frames, "icmp.type", "icmp.code", "icmp.checksum.status", "dns.qry.name")
    assert rows == [["8", "0", "1", ""], ["0", "0", "1", ""], ["3", "1", "1", "a.example"]]
    frames = [Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff", type=0x0806) / arp.request(MAC, ME, "192.168.1.1")]
    assert read(frames, "arp.opcode", "arp.dst.proto_ipv4") == [["1", "192.168.1.1"]]


def test_http(read: Callable[..., list[list[str]]]) -> None:
    frames = conversation(
        80,
        ("c", http.sized_request("GET", "check.example", "/generate_204", 200, 400, "ua")),
        ("s", http.sized_response(27, 204)),
        ("c", http.sized_request("POST", "check.example", "/v1", 2000, 30000)),
        ("s", http.sized_response(30000)),
    )  # fmt: skip
    rows = read(frames, "http.request.method", "http.response.code", "http.content_length", only="http")
    assert [row[:2] for row in rows] == [["GET", ""], ["", "204"], ["POST", ""], ["", "200"]]


def test_mqtt(read: Callable[..., list[list[str]]]) -> None:
    frames = conversation(
        1883,
        ("c", mqtt.Connect("uuid", 10, False, "device", b"pw", mqtt.Will("t", b"x", 1, True)).encode()),
        ("s", mqtt.Connack().encode()),
        ("c", mqtt.Subscribe(1, (("a/#", 1),)).encode()), ("s", mqtt.Suback(1, (1,)).encode()),
        ("c", mqtt.Publish("a/b", b"x" * 200, 2, ident=2).encode()), ("s", mqtt.Pubrec(2).encode()),
        ("c", mqtt.Pubrel(2).encode()), ("s", mqtt.Pubcomp(2).encode()),
        ("c", mqtt.Pingreq().encode()), ("s", mqtt.Pingresp().encode()), ("c", mqtt.Disconnect().encode()),
    )  # fmt: skip
    rows = read(frames, "mqtt.msgtype", only="mqtt")
    assert [row[0] for row in rows] == ["1", "2", "8", "9", "3", "5", "6", "7", "12", "13", "14"]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3"])
@pytest.mark.parametrize("resume", [False, True])
def test_tls(read: Callable[..., list[list[str]]], version: str, resume: bool) -> None:
    hello = TlsHello("devs.tplinkcloud.com", version, 517, 3200, resume)
    chain = certs.chain("devs.tplinkcloud.com", 3200).certificate_list
    greeting = tls.client_hello(hello, RANDOM, OTHER if resume else b"")
    if resume:
        flights = [tls.resumed_server_flight(hello, OTHER, OTHER), tls.resumed_client_flight(hello, RANDOM)]
    else:
        flights = [tls.server_flight(hello, OTHER, chain), tls.client_flight(hello, RANDOM)]
        flights.append(tls.server_finish(hello, OTHER))
    turns = [("c", greeting), *zip("scs", flights, strict=False)]
    turns += [
        ("c", tls.application_data(700, RANDOM, version)),
        ("s", tls.application_data(20000, OTHER, version)),
    ]
    turns += [("c", tls.alert(RANDOM, version)), ("s", tls.alert(OTHER, version))]
    data_type = "tls.record.opaque_type" if version == "1.3" else "tls.record.content_type"
    rows = read(
        conversation(443, *turns), "tls.handshake.extensions_server_name", "tls.handshake.type",
        "tls.handshake.certificate_length", data_type, only="tls",
    )  # fmt: skip
    kinds = [kind for row in rows for kind in row[1].split(",") if kind]
    assert rows[0][0] == "devs.tplinkcloud.com"
    seen = {("1.2", False): ["1", "2", "11", "12", "14", "16", "4"]}.get((version, resume))
    if version in ("1.0", "1.1"):
        seen = ["1", "2"] if resume else ["1", "2", "11", "14", "16"]
    assert kinds == (seen or ["1", "2"])
    certificates = [int(size) for row in rows for size in row[2].split(",") if size]
    shown = version != "1.3" and not resume
    assert sum(certificates) == (certs.chain("devs.tplinkcloud.com", 3200).total_bytes if shown else 0)
    assert any("23" in row[3].split(",") for row in rows)  # 1.3 shows its type as opaque
