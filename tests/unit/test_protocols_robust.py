"""No decoder raises anything but ValueError, whatever the bytes; what is built is read back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.host import TlsHello
from testbed.protocols import arp, dhcp, dns, gcm, http, icmp, igmp, mdns, mqtt, ntp, ssdp, tls, tplink, weave
from testbed.services import ServiceContext, Zone
from testbed.services.registry import build, kinds

if TYPE_CHECKING:
    from collections.abc import Callable

MAC = "50:c7:bf:00:00:01"
ASKED = dns.query(0x1234, "devs.tplinkcloud.com")
ANSWER = dns.reply(
    ASKED,
    (
        ("devs.tplinkcloud.com", "CNAME", 60, "prd.elb.amazonaws.com"),
        ("prd.elb.amazonaws.com", "A", 60, "198.18.0.1"),
    ),
    authority=(("amazonaws.com", "SOA", 60, "ns.a.com mail.a.com 1 2 3 4 5"),),
)
DISCOVER = dhcp.client_message(dhcp.DISCOVER, MAC, 7, hostname="plug", parameters=(1, 3, 6))
RECORDS = (
    mdns.ptr("_http._tcp.local", "A b\\.c._http._tcp.local"),
    mdns.srv("A b\\.c._http._tcp.local", 80, "x.local"),
    mdns.txt("A b\\.c._http._tcp.local", ("a=1",)),
    mdns.address("x.local", "192.168.1.9"),
)
HELLO = TlsHello("devs.tplinkcloud.com")

DECODERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "arp": (arp.parse, arp.request(MAC, "192.168.1.9", "192.168.1.1")),
    "dhcp": (dhcp.parse, DISCOVER),
    "dns question": (dns.question, ASKED),
    "dns answers": (dns.answers, ANSWER),
    "gcm": (gcm.parse, gcm.heartbeat_ping(7)),
    "gcm first": (lambda data: gcm.parse(data, first=True), gcm.login_request(123456, 789)),
    "http complete": (http.complete_response, http.sized_response(300)),
    "http request": (http.parse_request, http.sized_request("POST", "h.example", "/p", 300, 200)),
    "http response": (
        http.parse_response,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    "icmp": (icmp.parse, icmp.echo_request(1, 2)),
    "igmp": (igmp.parse, igmp.v3_report(((igmp.TO_EXCLUDE, "224.0.0.251", ()),))),
    "mdns": (mdns.parse, mdns.announcement(RECORDS)),
    "mqtt": (mqtt.decode, mqtt.Connect("id", 10, False, "u", b"p", mqtt.Will("a", b"b", 1)).encode()),
    "mqtt stream": (lambda data: mqtt.Decoder().feed(data), mqtt.Subscribe(1, (("a/#", 1),)).encode()),
    "ntp": (ntp.decode, ntp.request(3, 4, 1.5e9)),
    "ssdp": (ssdp.parse, ssdp.search()),
    "tls": (tls.records, tls.client_hello(HELLO, bytes(32))),
    "tplink": (tplink.parse, tplink.message(tplink.GET_SYSINFO)),
    "weave": (weave.parse, weave.message(200, source=1, destination=2, message_id=3, exchange_id=4)),
}


@pytest.mark.parametrize("name", DECODERS)
def test_the_sample_is_read(name: str) -> None:
    decode, sample = DECODERS[name]
    decode(sample)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_and_damaged_bytes_raise_only_value_error(name: str, data: st.DataObject) -> None:
    decode, sample = DECODERS[name]
    damaged = bytearray(sample)
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(sample) - 1), st.integers(0, 255)), max_size=4)
    ):
        damaged[at] = value
    cut = data.draw(st.integers(0, len(sample)))
    for message in (bytes(damaged), bytes(damaged[:cut]), data.draw(st.binary(max_size=80))):
        with suppress(ValueError):
            decode(message)


@pytest.mark.parametrize("kind", kinds())
@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=60), max_size=5),
    extra=st.sampled_from([s for _, s in DECODERS.values()]),
)
def test_no_service_breaks_on_any_bytes(kind: str, pieces: list[bytes], extra: bytes) -> None:
    zone = Zone()
    zone.add(["devs.tplinkcloud.com"], ["198.18.0.1"])
    service = build(kind, {}, ServiceContext(kind, zone=zone))
    session = service.session(("192.168.1.9", 4000), 0.0)
    for piece in (extra, *pieces):
        session.receive(piece, 1.0)
        for datagram in service.handle(piece, ("192.168.1.9", 4000), 1.0):
            assert isinstance(datagram.data, bytes)
