"""DNS messages (RFC 1035) over dnslib.

A device asks the same few questions hundreds of thousands of times, so each message is packed once
and only its 16-bit identifier is patched afterwards; the caches are keyed on everything else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import dnslib
from dnslib import QTYPE, RR, DNSError, DNSHeader, DNSQuestion, DNSRecord
from dnslib.label import DNSLabelError

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)


class Record(NamedTuple):
    """A resource record: names without the final dot, the value as zone files write it."""

    name: str
    type: str
    ttl: int
    value: str


class Reply(NamedTuple):
    """What a stub resolver reads from an answer."""

    ident: int
    rcode: int
    records: tuple[Record, ...]

    def addresses(self, qtype: str = "A") -> tuple[str, ...]:
        """Return the addresses, in the order of the message."""
        return tuple(record.value for record in self.records if record.type == qtype)


def query(ident: int, name: str, qtype: str = "A") -> bytes:
    """Return a recursive query with that identifier; ValueError for an impossible name or type."""
    return ident.to_bytes(2, "big") + _query_tail(name, qtype)


@lru_cache(maxsize=8192)
def _query_tail(name: str, qtype: str) -> bytes:
    try:
        record = DNSRecord(DNSHeader(id=0, rd=1), q=DNSQuestion(name, type_number(qtype)))
        return bytes(record.pack()[2:])
    except (DNSLabelError, DNSError, UnicodeError) as error:
        raise ValueError(f"no DNS question can be made of {name!r} {qtype}: {error}") from None


def question(data: bytes) -> tuple[int, str, str]:
    """Return (identifier, name, type) of a query; ValueError if it is none."""
    if len(data) < 17 or data[2] & 0x80:
        raise ValueError("not a DNS query")
    return (data[0] << 8 | data[1], *_question(data[2:]))


@lru_cache(maxsize=8192)
def _question(tail: bytes) -> tuple[str, str]:
    record = parse(b"\0\0" + tail)
    if not record.questions:
        raise ValueError("a DNS query without a question")
    return name_of(record.q.qname), type_name(record.q.qtype)


def reply(
    query: bytes,
    answers: tuple[tuple[str, str, int, str], ...] = (),
    rcode: int = NOERROR,
    authoritative: bool = False,
    ra: bool = True,
    authority: tuple[tuple[str, str, int, str], ...] = (),
) -> bytes:
    """Return the answer to `query` with these (name, type, ttl, value) records as answers.

    `authority` is the SOA record of a negative answer (RFC 2308 §3), if it has one. The identifier,
    the question and the RD bit are the query's. ValueError if `query` is garbage.
    """
    return query[:2] + _reply_tail(query[2:], answers, rcode, authoritative, ra, authority)


@lru_cache(maxsize=16384)
def _reply_tail(
    tail: bytes,
    answers: tuple[tuple[str, str, int, str], ...],
    rcode: int,
    authoritative: bool,
    ra: bool,
    authority: tuple[tuple[str, str, int, str], ...],
) -> bytes:
    asked = parse(b"\0\0" + tail)
    header = DNSHeader(id=0, qr=1, opcode=asked.header.opcode, aa=authoritative, rd=asked.header.rd, ra=ra)
    header.rcode = rcode
    record = DNSRecord(header, questions=asked.questions)
    for name, rtype, ttl, value in answers:
        record.add_answer(resource(name, rtype, ttl, value))
    for name, rtype, ttl, value in authority:
        record.add_auth(resource(name, rtype, ttl, value))
    return bytes(record.pack()[2:])


def answers(data: bytes) -> Reply:
    """Return (identifier, rcode, records of the answer section); ValueError if it is no DNS answer."""
    if len(data) < 12 or not data[2] & 0x80:
        raise ValueError("not a DNS answer")
    return Reply(data[0] << 8 | data[1], data[3] & 15, _records(data[2:]))


def found(data: bytes, qtype: str) -> tuple[int, tuple[str, ...], float]:
    """Return what a client takes from an answer: rcode, addresses, and for how many seconds they hold.

    ValueError if it is no DNS answer.
    """
    if len(data) < 12 or not data[2] & 0x80:
        raise ValueError("not a DNS answer")
    return _found(data[2:], qtype)


@lru_cache(maxsize=16384)
def _found(tail: bytes, qtype: str) -> tuple[int, tuple[str, ...], float]:
    reply = answers(b"\0\0" + tail)
    ttl_s = min((record.ttl for record in reply.records), default=0)
    return reply.rcode, reply.addresses(qtype), float(ttl_s)


@lru_cache(maxsize=16384)
def _records(tail: bytes) -> tuple[Record, ...]:
    return tuple(record_of(rr) for rr in parse(b"\0\0" + tail).rr)


def matches(answer: bytes, query: bytes) -> bool:
    """Tell whether `answer` answers `query`: same identifier and, where it repeats one, same question."""
    return (
        answer[:2] == query[:2]
        and len(answer) >= 12
        and bool(answer[2] & 0x80)
        and (answer[4:6] != b"\0\1" or answer[12 : len(query)].lower() == query[12:].lower())
    )


def parse(data: bytes) -> DNSRecord:
    """Return the whole message as dnslib has it; ValueError on anything that is no DNS message."""
    try:
        return DNSRecord.parse(data)
    except Exception as error:  # dnslib lets bimap, struct and index errors of broken messages through
        raise ValueError(f"not a DNS message: {error}") from None


def resource(name: Any, rtype: str, ttl: int, value: str) -> RR:
    """Return a dnslib resource record of a type whose data dnslib can write."""
    kind = getattr(dnslib, rtype, None)
    if rtype not in dnslib.dns.RDMAP or kind is None:
        raise ValueError(f"unknown DNS record type {rtype!r}")
    if rtype == "SOA":
        mname, rname, *times = value.split()
        rdata = kind(mname, rname, tuple(map(int, times)))
    else:
        rdata = kind(value)
    return RR(name, type_number(rtype), ttl=ttl, rdata=rdata)


def record_of(rr: RR) -> Record:
    """Return a dnslib record as plain text."""
    value = str(rr.rdata)
    if rr.rtype in (QTYPE.CNAME, QTYPE.PTR, QTYPE.NS):
        value = value.removesuffix(".")
    return Record(name_of(rr.rname), type_name(rr.rtype), rr.ttl, value)


def name_of(label: Any) -> str:
    """Return a dnslib label without the final dot."""
    return str(label).removesuffix(".")


def type_number(qtype: str) -> int:
    """Return the number of a record type; ValueError if it is unknown."""
    number = QTYPE.reverse.get(qtype)
    if number is None:
        raise ValueError(f"unknown DNS record type {qtype!r}")
    return int(number)


def type_name(number: int) -> str:
    """Return the name of a record type, ``TYPE…`` for unknown ones (RFC 3597 §5)."""
    name = QTYPE.forward.get(number)
    return str(name) if name else f"TYPE{number}"
