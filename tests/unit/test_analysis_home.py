"""The analyser on small homes whose every frame is known."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from testbed.analysis import analyse
from testbed.analysis.rows import TABLES, columns
from testbed.errors import UserError
from tests.unit.captures import (
    BEGIN,
    CLOUD,
    HUB,
    HUB_IP,
    OTHER_CLOUD,
    PLUG,
    PLUG_IP,
    ROUTER,
    ROUTER_IP,
    Home,
    client_hello,
    pcap,
    save,
)

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.analysis import Analysis

CONTRACT = {
    "protocols": "device,layer,protocol,direction,packets,bytes",
    "bandwidth": "device,window_start,sent_bytes,received_bytes",
    "periodicity": "device,protocol,cycles_per_week,magnitude,significant",
    "services": "device,protocol,name,address,country,packets,bytes,active_windows_pct",
    "states": "state,number,device,layer,protocol,direction,packets,bytes",
    "dependencies": "device,functionality,continued,disrupted",
    "devices": "device,mac,class,link,protocols,security,energy_w,mean_bytes_per_s",
}


def busy_home(tmp_path: Path) -> Analysis:
    home = Home()
    home.dhcp(0, "request", hostname="plug-7")
    home.arp(0.5)
    home.lookup(1, "cloud.example", CLOUD)
    home.session(2, CLOUD, "cloud.example")
    home.ping(5)
    home.udp(6, True, CLOUD, 123, Raw(b"\x23" + bytes(47)), client=123)
    home.udp(6.1, False, CLOUD, 123, Raw(b"\x24\x02" + bytes(46)), client=123)
    return analyse(home.save(tmp_path / "home.pcap"))


def test_devices_gateway_names_and_addresses_are_found_in_the_capture(tmp_path: Path) -> None:
    result = busy_home(tmp_path)
    (device,) = result.devices
    assert (device.device, device.mac, device.addresses) == ("plug-7", PLUG, PLUG_IP)
    assert device.vendor.startswith("Tp-Link")
    assert result.gateway["macs"] == [ROUTER]
    assert result.gateway["addresses"] == [ROUTER_IP]


def test_each_frame_is_counted_once_by_the_port_rule(tmp_path: Path) -> None:
    result = busy_home(tmp_path)
    nonzero = {name: count for name, count in result.protocol_packets.items() if count}
    assert nonzero == {"DHCP": 1, "ARP": 2, "DNS": 2, "HTTPS": 7, "ICMP": 2, "NTP": 2}
    assert sum(result.protocol_bytes.values()) == result.bytes
    assert list(result.protocol_packets) == [
        "DHCP", "DNS", "mDNS", "SSDP", "NTP", "HTTP", "HTTPS", "MQTT", "Weave", "GCM",
        "ICMP", "ICMPv6", "IGMP", "ARP", "TCP", "UDP", "other",
    ]  # fmt: skip


def test_transport_rows_add_up_to_a_devices_frames(tmp_path: Path) -> None:
    result = busy_home(tmp_path)
    rows = [row for row in result.protocols if row.layer == "transport"]
    assert sum(row.packets for row in rows) == result.frames == 16
    sent = {row.protocol: row.packets for row in rows if row.direction == "sent"}
    assert sent == {"TCP": 4, "UDP": 3, "ICMP": 1, "ARP": 1}


def test_csv_files_have_the_columns_of_the_contract_in_their_order(tmp_path: Path) -> None:
    busy_home(tmp_path).write(tmp_path / "out", parquet=True)
    for name, heads in CONTRACT.items():
        first = (tmp_path / "out" / f"{name}.csv").read_text().splitlines()[0]
        assert first == heads or first.startswith(heads + ","), name
        assert (tmp_path / "out" / f"{name}.parquet").is_file()
    summary = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert summary["protocol_packets"]["HTTPS"] == 7


def test_every_table_is_a_data_frame_with_the_same_columns(tmp_path: Path) -> None:
    result = busy_home(tmp_path)
    result.write(tmp_path / "out")
    for name, row in TABLES.items():
        frame = result.table(name)
        with (tmp_path / "out" / f"{name}.csv").open() as file:
            assert next(csv.reader(file)) == list(frame.columns) == list(columns(row))
        assert len(frame) == len(getattr(result, name))


def test_lists_and_quotes_survive_a_csv_round_trip(tmp_path: Path) -> None:
    home = Home()
    home.dhcp(0, "request", hostname='plug, "kitchen"')
    result = analyse(home.save(tmp_path / "home.pcap"))
    result.write(tmp_path / "out")
    with (tmp_path / "out" / "devices.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["device"] == result.devices[0].device
    assert '"' not in row["device"], "host names are made fit for tables"


def test_a_name_in_the_tls_hello_outweighs_the_lookup(tmp_path: Path) -> None:
    home = Home()
    home.lookup(1, "cdn.example", CLOUD)
    home.session(2, CLOUD, "cloud.example")
    home.session(9, OTHER_CLOUD, "other.example", client=40_001)
    rows = [row for row in analyse(home.save(tmp_path / "a.pcap")).services if row.protocol == "HTTPS"]
    assert {(row.name, row.address, row.packets, row.name_from) for row in rows} == {
        ("cloud.example", CLOUD, 7, "sni"),
        ("other.example", OTHER_CLOUD, 7, "sni"),
    }


def test_one_address_under_two_names_is_told_apart_by_connection(tmp_path: Path) -> None:
    home = Home()
    for i, name in enumerate(("a.example", "b.example")):
        home.lookup(i * 10, name, CLOUD)
        home.session(i * 10 + 1, CLOUD, name, client=40_001 + i)
    home.session(30, CLOUD, None, client=40_009)  # no hello: what the lookup said last
    rows = analyse(home.save(tmp_path / "a.pcap")).services
    assert {row.name: row.packets for row in rows if row.protocol == "HTTPS"} == {
        "a.example": 7,
        "b.example": 13,
    }


def test_a_name_seen_after_the_flow_began_still_names_it(tmp_path: Path) -> None:
    home = Home()
    home.tcp(0, True, CLOUD, 8883, "PA", b"\x17\x03\x03\0\x10" + bytes(16))
    home.tcp(1, False, CLOUD, 8883, "A")
    home.lookup(30, "broker.example", CLOUD)
    (row,) = [row for row in analyse(home.save(tmp_path / "a.pcap")).services if row.protocol == "MQTT"]
    assert (row.name, row.name_from, row.packets) == ("broker.example", "dns, seen later", 2)


def test_names_belong_to_the_device_that_asked(tmp_path: Path) -> None:
    home = Home()
    home.lookup(0, "plug.example", CLOUD)
    query = DNS(id=9, qr=1, qd=DNSQR(qname="hub.example"), an=DNSRR(rrname="hub.example", rdata=CLOUD))
    home.udp(1, False, ROUTER_IP, 53, query, mac=HUB, ip=HUB_IP)
    home.tcp(2, True, CLOUD, 443, "S")
    home.tcp(3, True, CLOUD, 443, "S", mac=HUB, ip=HUB_IP)
    rows = analyse(home.save(tmp_path / "a.pcap")).services
    named = {(row.device, row.name) for row in rows if row.protocol == "HTTPS"}
    assert named == {(PLUG, "plug.example"), (HUB, "hub.example")}


def test_payloads_tell_what_runs_on_foreign_ports_and_against_its_port(tmp_path: Path) -> None:
    home = Home()
    home.tcp(0, True, CLOUD, 4443, "PA", client_hello("x.example"))
    home.tcp(1, True, CLOUD, 80, "PA", client_hello("y.example"), client=40_001)
    home.tcp(2, True, CLOUD, 8080, "PA", b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n", client=40_002)
    home.tcp(3, True, CLOUD, 9001, "PA", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", client=40_003)
    path = home.save(tmp_path / "a.pcap")
    result = analyse(path)
    evidence = result.payload_evidence
    assert {(e["port"], e["payload_says"]) for e in evidence["on_other_ports"]} == {
        (4443, "TLS"), (8080, "HTTP"), (9001, "MQTT"),
    }  # fmt: skip
    assert [(e["port"], e["port_says"], e["payload_says"]) for e in evidence["against_the_port"]] == [
        (80, "http", "TLS")
    ]
    assert result.protocol_packets["HTTP"] == 1 and result.protocol_packets["TCP"] == 3
    by_payload = {
        row.protocol for row in analyse(path, rule="payload").protocols if row.layer == "application"
    }
    assert by_payload == {"HTTP", "HTTPS", "MQTT"}
    assert "web.example" in {row.name for row in result.services}


def test_frames_between_stations_belong_to_who_began_and_count_for_both(tmp_path: Path) -> None:
    home = Home()
    home.arp(0)
    home.udp(1, True, CLOUD, 443, Raw(b"x"))
    phone_asks = (
        Ether(src=HUB, dst=PLUG) / IP(src=HUB_IP, dst=PLUG_IP) / TCP(sport=50_000, dport=9999, flags="S")
    )
    plug_answers = (
        Ether(src=PLUG, dst=HUB) / IP(src=PLUG_IP, dst=HUB_IP) / TCP(sport=9999, dport=50_000, flags="SA")
    )
    home.add(2, phone_asks)
    home.add(2.1, plug_answers)
    result = analyse(home.save(tmp_path / "a.pcap"), keep_frames=True)
    table = result.frame_table()
    assert [table.devices[i] for i in table.device[-2:]] == [HUB, HUB]
    assert table.sent[-2:].tolist() == [True, False]
    tcp = {(row.device, row.direction): row.packets for row in result.protocols if row.protocol == "TCP"}
    assert tcp == {(PLUG, "sent"): 1, (PLUG, "received"): 1, (HUB, "sent"): 1, (HUB, "received"): 1}


def test_the_routers_own_frames_are_the_routers(tmp_path: Path) -> None:
    home = Home()
    home.session(0, CLOUD, "cloud.example")
    query = Ether(src=ROUTER, dst="01:00:5e:00:00:01") / IP(src=ROUTER_IP, dst="224.0.0.1", proto=2, ttl=1)
    home.add(5, query / Raw(b"\x11" + bytes(7)))
    rows = [row for row in analyse(home.save(tmp_path / "a.pcap")).protocols if row.device == "router"]
    assert [(row.layer, row.protocol, row.direction, row.packets) for row in rows] == [
        ("transport", "IGMP", "sent", 1)
    ]


def test_ipv6_devices_with_global_addresses_are_no_gateways(tmp_path: Path) -> None:
    home = Home()
    for i in range(5):
        out = IPv6(src="2001:db8:1::10", dst=f"2001:db8:ff:{i}::1")
        home.add(i, Ether(src=PLUG, dst=ROUTER) / out / TCP(sport=40_000 + i, dport=443, flags="S"))
        back = IPv6(src=f"2001:db8:ff:{i}::1", dst="2001:db8:1::10")
        home.add(i + 0.1, Ether(src=ROUTER, dst=PLUG) / back / TCP(sport=443, dport=40_000 + i, flags="SA"))
    home.add(6, Ether(src=PLUG, dst=ROUTER) / IPv6(src="fe80::10", dst="fe80::1") / ICMPv6EchoRequest())
    result = analyse(home.save(tmp_path / "a.pcap"))
    assert [device.mac for device in result.devices] == [PLUG]
    assert result.gateway["macs"] == [ROUTER]
    assert len([row for row in result.services if row.protocol == "HTTPS"]) == 5


def test_which_side_is_local_can_be_said(tmp_path: Path) -> None:
    home = Home()
    for i in range(3):
        home.udp(i, True, CLOUD, 123, Raw(bytes(48)), ip="203.0.113.5")
    path = home.save(tmp_path / "a.pcap")
    assert [row.device for row in analyse(path, local=["203.0.113.0/24"]).services] == [PLUG]
    with pytest.raises(UserError, match="is not a network"):
        analyse(path, local=["home"])


def test_a_capture_without_macs_knows_devices_by_address(tmp_path: Path) -> None:
    packets = [
        bytes(IP(src=PLUG_IP, dst=CLOUD) / UDP(sport=123, dport=123)),
        bytes(IP(src=CLOUD, dst=PLUG_IP) / UDP(sport=123, dport=123)),
    ]
    path = save(tmp_path / "raw.pcap", pcap([(BEGIN + i, data) for i, data in enumerate(packets)], link=101))
    (device,) = analyse(path).devices
    assert (device.device, device.packets) == (PLUG_IP, 2)


def test_windows_lie_on_quarter_hours_and_add_up(tmp_path: Path) -> None:
    home = Home()
    for minute in (0, 14, 16, 31, 100):
        home.ping(60 * minute)
    result = analyse(home.save(tmp_path / "a.pcap"))
    assert [row.window_start for row in result.bandwidth] == [
        "2018-04-03T00:00:00Z", "2018-04-03T00:15:00Z", "2018-04-03T00:30:00Z", "2018-04-03T01:30:00Z",
    ]  # fmt: skip
    assert sum(row.sent_bytes + row.received_bytes for row in result.bandwidth) == result.bytes


def test_any_span_can_be_looked_at_by_itself(tmp_path: Path) -> None:
    home = Home()
    for minute in range(60):
        home.ping(60 * minute)
    path = home.save(tmp_path / "a.pcap")
    result = analyse(path, begin="2018-04-03T00:10:00Z", end="2018-04-03T00:20:00Z")
    assert result.frames == result.protocol_packets["ICMP"] == 20
    assert result.begin == "2018-04-03T00:10:00Z"
    with pytest.raises(UserError, match="ends before it begins"):
        analyse(path, begin="2018-04-03T00:10:00Z", end="2018-04-03T00:00:00Z")
    with pytest.raises(UserError, match="is not a time"):
        analyse(path, begin="noon")


def test_a_burst_of_bytes_is_a_spike_with_its_cause(tmp_path: Path) -> None:
    home = Home()
    for minute in range(0, 15 * 40, 5):
        home.ping(60 * minute)
    for i in range(200):
        home.tcp(60 * 301 + i, False, CLOUD, 443, "A", bytes(1400))
    home.tcp(60 * 300, True, CLOUD, 443, "PA", client_hello("updates.example"))
    (spike,) = analyse(home.save(tmp_path / "a.pcap")).spikes
    assert (spike.direction, spike.begin, spike.protocol) == ("up", "2018-04-03T05:00:00Z", "HTTPS")
    assert spike.name == "updates.example"
    assert spike.share_pct > 90


def test_security_is_what_payloads_show(tmp_path: Path) -> None:
    secure, both, plain = Home(), Home(), Home()
    for home in (secure, both):
        home.session(0, CLOUD, "a.example")
    for home in (both, plain):
        home.tcp(1, True, CLOUD, 80, "PA", b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", client=40_001)
    verdicts = [analyse(home.save(tmp_path / "a.pcap")).devices[0].security for home in (secure, both, plain)]
    assert verdicts == ["S", "S,I", "I"]


def test_unknown_rule_and_missing_capture_are_the_users_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'payload'"):
        analyse("x.pcap", rule="paylod")
    with pytest.raises(UserError, match="no capture given"):
        analyse([])


def test_an_unanswered_arp_request_names_its_sender(tmp_path: Path) -> None:
    home = Home()
    home.add(
        0, Ether(src=PLUG, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=PLUG, psrc=PLUG_IP, pdst=ROUTER_IP)
    )
    (device,) = analyse(home.save(tmp_path / "a.pcap")).devices
    assert (device.mac, device.addresses) == (PLUG, PLUG_IP)


def test_an_icmp_error_is_icmp_whatever_it_quotes(tmp_path: Path) -> None:
    home = Home()
    quoted = IP(src=PLUG_IP, dst=CLOUD) / UDP(sport=40_000, dport=53)
    home.add(0, Ether(src=ROUTER, dst=PLUG) / IP(src=ROUTER_IP, dst=PLUG_IP) / ICMP(type=3, code=1) / quoted)
    assert analyse(home.save(tmp_path / "a.pcap")).protocol_packets["ICMP"] == 1
