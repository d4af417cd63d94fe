"""Zone, resolver and time server."""

from __future__ import annotations

import ntplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.protocols import dns, ntp
from testbed.services import ServiceContext, Zone
from testbed.services.registry import build

PEER = ("192.168.1.9", 4000)
POOL = tuple(f"198.18.0.{number}" for number in range(1, 11))


def pool_zone() -> Zone:
    zone = Zone()
    zone.add(["uk.pool.ntp.org", "de.pool.ntp.org"], POOL, ttl=150, answers=4)
    zone.add(["devs.tplinkcloud.com"], ["198.18.9.1"], ttl=60, chain=["a.example.net", "b.example.net"])
    return zone


def addresses(zone: Zone, name: str, client: str) -> tuple[str, ...]:
    return tuple(value for _, rtype, _, value in zone.lookup(name, "A", client)[1] if rtype == "A")


def test_answers_rotate_through_the_whole_pool() -> None:
    zone = pool_zone()
    given = [addresses(zone, "uk.pool.ntp.org", "10.0.0.1") for _ in range(10)]
    assert {len(answer) for answer in given} == {4}
    assert {answer[0] for answer in given} == set(POOL)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["uk.pool.ntp.org", "UK.pool.ntp.org", "devs.tplinkcloud.com", "no.example"]),
            st.sampled_from(["A", "AAAA"]),
            st.sampled_from(["10.0.0.2", "10.0.0.3"]),
            st.integers(0, 65_535),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_a_message_that_is_packed_once_says_what_a_lookup_does(
    asked: list[tuple[str, str, str, int, bool]],
) -> None:
    zone, other = pool_zone(), pool_zone()
    for name, qtype, client, ident, down in asked:
        for each in (zone, other):
            each.down_names = {"b.example.net"} if down else set()
        query = dns.query(ident, name, qtype)
        rcode, records = other.lookup(name, qtype, client)
        authority = () if records or rcode == dns.SERVFAIL else other.authority(name)
        message = zone.respond(query, client)
        assert message == dns.reply(query, records, rcode, authority=authority)
        read = dns.answers(message)
        assert dns.found(message, qtype)[:2] == (read.rcode, read.addresses(qtype))
        if read.records:
            assert dns.found(message, qtype)[2] == min(record.ttl for record in read.records)


@given(st.lists(st.sampled_from(["10.0.0.2", "10.0.0.3"]), max_size=12))
def test_what_others_ask_does_not_change_a_clients_answers(others: list[str]) -> None:
    alone, crowded = pool_zone(), pool_zone()
    expected = [addresses(alone, "uk.pool.ntp.org", "10.0.0.1") for _ in range(12)]
    found = []
    for turn in range(12):
        for other in others[:turn]:
            crowded.lookup("uk.pool.ntp.org", "A", other)
        crowded.lookup("de.pool.ntp.org", "A", "10.0.0.1")
        found.append(addresses(crowded, "uk.pool.ntp.org", "10.0.0.1"))
    assert found == expected


def test_clients_go_through_a_pool_in_different_orders() -> None:
    zone = pool_zone()
    firsts = {addresses(zone, "uk.pool.ntp.org", f"10.0.0.{number}")[0] for number in range(1, 30)}
    assert len(firsts) > 5


def test_a_name_added_again_gets_the_further_addresses() -> None:
    zone = pool_zone()
    addresses(zone, "uk.pool.ntp.org", "10.0.0.1")
    zone.add(["uk.pool.ntp.org"], ["198.18.7.7", "198.18.0.1"])
    assert {addresses(zone, "uk.pool.ntp.org", "10.0.0.1")[0] for _ in range(11)} == {*POOL, "198.18.7.7"}


def test_an_alias_chain_leads_to_the_address() -> None:
    rcode, records = pool_zone().lookup("Devs.TPlinkCloud.com", "A", "10.0.0.1")
    assert rcode == dns.NOERROR
    assert records == (
        ("Devs.TPlinkCloud.com", "CNAME", 60, "a.example.net"),
        ("a.example.net", "CNAME", 60, "b.example.net"),
        ("b.example.net", "A", 60, "198.18.9.1"),
    )
    assert addresses(pool_zone(), "b.example.net", "10.0.0.1") == ("198.18.9.1",)


def test_unknown_is_nxdomain_other_types_are_nodata_and_down_is_servfail() -> None:
    zone = pool_zone()
    assert zone.lookup("nobody.example", "A", "10.0.0.1") == (dns.NXDOMAIN, ())
    assert zone.lookup("uk.pool.ntp.org", "AAAA", "10.0.0.1") == (dns.NOERROR, ())
    zone.lookup("devs.tplinkcloud.com", "A", "10.0.0.1")
    zone.down_names.add("b.example.net")
    assert zone.lookup("devs.tplinkcloud.com", "A", "10.0.0.1") == (dns.SERVFAIL, ())
    zone.down_names.clear()
    assert zone.lookup("devs.tplinkcloud.com", "A", "10.0.0.1")[0] == dns.NOERROR


def test_the_resolver_answers_with_the_zone_and_soa_where_there_is_nothing() -> None:
    resolver = build("resolver", {"think": "10ms"}, ServiceContext("isp", zone=pool_zone()))
    (good,) = resolver.handle(dns.query(7, "devs.tplinkcloud.com"), PEER, 0.0)
    assert good.delay_s == 0.01
    assert dns.answers(good.data).addresses() == ("198.18.9.1",)
    (bad,) = resolver.handle(dns.query(8, "nobody.example"), PEER, 0.0)
    assert dns.answers(bad.data) == (8, dns.NXDOMAIN, ())
    assert dns.parse(bad.data).auth[0].rname == "nobody.example."
    assert resolver.handle(b"rubbish", PEER, 0.0) == ()
    assert resolver.handle(good.data, PEER, 0.0) == ()


@pytest.mark.parametrize(
    ("options", "stratum", "source"),
    [
        ({}, 2, bytes((198, 18, 0, 1))),
        ({"stratum": 1}, 1, b"GPS\0"),
        ({"stratum": 3, "ref_id": "10.9.8.7"}, 3, bytes((10, 9, 8, 7))),
    ],
)
def test_ntplib_reads_the_time_servers_answer(
    options: dict[str, object], stratum: int, source: bytes
) -> None:
    now = 1_522_746_000.5
    server = build("ntp", options, ServiceContext("pool"))
    request = ntplib.NTPPacket(version=3, tx_timestamp=now + ntp.UNIX_EPOCH_NTP).to_data()
    (answer,) = server.handle(request, PEER, now + 0.25)
    read = ntplib.NTPStats()
    read.from_data(answer.data)
    read.dest_timestamp = now + 0.5 + ntp.UNIX_EPOCH_NTP
    assert read.stratum == stratum
    assert answer.data[12:16] == source
    assert read.offset == pytest.approx(0, abs=1e-5)
    assert read.delay == pytest.approx(0.5, abs=1e-5)


def test_stratum_0_refuses_by_a_kiss() -> None:
    server = build("ntp", {"stratum": 0}, ServiceContext("pool"))
    request = ntp.request(3, 4, 1.5e9)
    (answer,) = server.handle(request, PEER, 1.5e9)
    assert ntp.flaw(answer.data, request) == "kiss-o'-death RATE"


def test_a_clock_may_be_wrong() -> None:
    server = build("ntp", {"offset": "90s"}, ServiceContext("pool"))
    (answer,) = server.handle(ntp.request(3), PEER, 1.5e9)
    assert ntp.transmit_time(answer.data, 1.5e9) == 1.5e9 + 90
