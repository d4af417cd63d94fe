"""DNS, mDNS: what dnslib and scapy read in our messages is what we meant."""

from __future__ import annotations

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.protocols import dns, mdns

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABEL, min_size=1, max_size=5).map(".".join)
ADDRESSES = st.ip_addresses(v=4).map(str)
CHAIN = (
    ("devs.tplinkcloud.com", "CNAME", 300, "prd-elb.eu-west-1.elb.amazonaws.com"),
    ("prd-elb.eu-west-1.elb.amazonaws.com", "A", 60, "198.18.0.1"),
    ("prd-elb.eu-west-1.elb.amazonaws.com", "A", 60, "198.18.0.2"),
)


@given(st.integers(0, 65535), NAMES, st.sampled_from(["A", "AAAA", "PTR", "SRV"]))
def test_a_query_says_what_was_asked(ident: int, name: str, qtype: str) -> None:
    data = dns.query(ident, name, qtype)
    assert dns.question(data) == (ident, name, qtype)
    theirs = dnslib.DNSRecord.question(name, qtype)
    theirs.header.id = ident
    assert data == theirs.pack()


@given(st.integers(0, 65535), NAMES, st.lists(ADDRESSES, max_size=6), st.integers(0, 2**31 - 1))
def test_an_answer_is_read_back(ident: int, name: str, addresses: list[str], ttl: int) -> None:
    records = tuple((name, "A", ttl, address) for address in addresses)
    data = dns.reply(dns.query(ident, name), records)
    read = dns.answers(data)
    assert (read.ident, read.rcode, read.records) == (ident, 0, records)
    assert read.addresses() == tuple(addresses)
    assert dns.matches(data, dns.query(ident, name))
    assert not dns.matches(data, dns.query(ident ^ 1, name))


def test_an_alias_chain_is_compressed_and_read_by_scapy() -> None:
    from scapy.layers.dns import DNS

    data = dns.reply(dns.query(7, "devs.tplinkcloud.com"), CHAIN)
    read = DNS(data)
    assert (read.id, read.qr, read.rd, read.ra, read.ancount) == (7, 1, 1, 1, 3)
    assert [record.type for record in read.an] == [5, 1, 1]
    assert read.an[0].rdata == b"prd-elb.eu-west-1.elb.amazonaws.com."
    assert [record.rdata for record in read.an[1:]] == ["198.18.0.1", "198.18.0.2"]
    alias = 2 + 10 + len("prd-elb.eu-west-1.elb.amazonaws") + 1 + 2  # both names end in pointers
    assert len(data) == len(dns.query(7, "devs.tplinkcloud.com")) + alias + 2 * (2 + 10 + 4)


def test_an_answer_to_another_question_does_not_match() -> None:
    asked = dns.query(7, "a.example.com")
    assert not dns.matches(dns.reply(dns.query(7, "b.example.com")), asked)
    assert not dns.matches(asked, asked)
    assert dns.matches(dns.reply(dns.query(7, "A.example.com")), asked)


@pytest.mark.parametrize("rcode", [dns.SERVFAIL, dns.NXDOMAIN, dns.REFUSED])
def test_a_negative_answer_carries_its_code_and_soa(rcode: int) -> None:
    soa = (("example.com", "SOA", 300, "ns1.example.com admin.example.com 1 7200 900 1209600 300"),)
    data = dns.reply(dns.query(1, "x.example.com"), rcode=rcode, authority=soa)
    assert dns.answers(data) == (1, rcode, ())
    read = dnslib.DNSRecord.parse(data)
    assert len(read.auth) == 1
    assert read.auth[0].rdata.times == (1, 7200, 900, 1209600, 300)


@pytest.mark.parametrize("name", ["a" * 64 + ".com", ".".join(["abcdefgh"] * 40)])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no DNS question"):
        dns.query(1, name)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown DNS record type 'XYZ'"):
        dns.query(1, "example.com", "XYZ")


INSTANCE = "Living\\.Room Mini._googlecast._tcp.local"
RECORDS = (
    mdns.ptr("_googlecast._tcp.local", INSTANCE),
    mdns.srv(INSTANCE, 8009, "abc.local"),
    mdns.txt(INSTANCE, ("id=0123", "md=Google Home Mini")),
    mdns.address("abc.local", "192.168.1.4"),
)


def test_an_announcement_flushes_caches_only_for_unique_records() -> None:
    data = mdns.announcement(RECORDS)
    assert data[:4] == b"\0\0\x84\0"  # identifier 0, authoritative response (RFC 6762 §18)
    read = mdns.parse(data)
    assert read.response
    assert read.answers == RECORDS
    assert [record.unique for record in read.answers] == [False, True, True, True]


def test_a_goodbye_is_the_announcement_with_ttl_0() -> None:
    assert [record.ttl for record in mdns.parse(mdns.goodbye(RECORDS)).answers] == [0, 0, 0, 0]


def test_a_query_carries_questions_known_answers_and_the_unicast_bit() -> None:
    questions = (mdns.Question("_googlecast._tcp.local"), mdns.Question("abc.local", "A", unicast=True))
    read = mdns.parse(mdns.query(questions, RECORDS[:1]))
    assert not read.response
    assert read.questions == questions
    assert read.answers == RECORDS[:1]


def test_a_probe_asks_for_anything_and_says_what_it_wants() -> None:
    read = mdns.parse(mdns.probe("abc.local", RECORDS[3:]))
    assert read.questions == (mdns.Question("abc.local", "ANY", unicast=True),)
    assert read.authority == (RECORDS[3]._replace(unique=False),)


@given(st.text(st.characters(exclude_characters="\0\\", codec="utf-8"), min_size=1, max_size=15))
def test_an_instance_name_may_hold_any_character(label: str) -> None:
    instance = label.replace(".", "\\.") + "._http._tcp.local"
    record = mdns.ptr("_http._tcp.local", instance)
    assert mdns.parse(mdns.announcement((record,))).answers == (record,)
