"""Multicast DNS messages (RFC 6762) over dnslib: queries, probes, announcements, goodbyes.

Instance names may hold any character: a dot inside a label is written ``\\.``. Identifiers are 0
(§18.1) and messages repeat, so building is cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import dnslib
from dnslib import QTYPE, RR, DNSError, DNSHeader, DNSLabel, DNSQuestion, DNSRecord
from dnslib.label import DNSLabelError

from testbed.protocols.dns import parse as parse_dns
from testbed.protocols.dns import type_name, type_number

GROUP = "224.0.0.251"
PORT = 5353
TTL = 255
HOST_TTL_S = 120
OTHER_TTL_S = 4500
SERVICES = "_services._dns-sd._udp.local"

_IN = 1
_TOP_BIT = 0x8000
"""Of the class: unicast answer wanted in a question (§5.4), cache flush in a record (§10.2)."""


class Question(NamedTuple):
    """A question; `unicast` is the QU bit."""

    name: str
    type: str = "PTR"
    unicast: bool = False


class Record(NamedTuple):
    """A record; `value` holds the target (PTR), address (A, AAAA), strings (TXT), or
    priority, weight, port and target (SRV). `unique` is the cache-flush bit.
    """

    name: str
    type: str
    value: tuple[str, ...]
    ttl: int
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A message as read."""

    response: bool
    questions: tuple[Question, ...]
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]


def ptr(service: str, instance: str, ttl: int = OTHER_TTL_S) -> Record:
    """Return the shared record that `instance` offers `service`."""
    return Record(service, "PTR", (instance,), ttl)


def srv(instance: str, port: int, host: str, ttl: int = HOST_TTL_S) -> Record:
    """Return the unique record where `instance` listens."""
    return Record(instance, "SRV", ("0", "0", str(port), host), ttl, True)


def txt(instance: str, strings: tuple[str, ...] = (), ttl: int = OTHER_TTL_S) -> Record:
    """Return the unique record with the strings of `instance`."""
    return Record(instance, "TXT", strings or ("",), ttl, True)


def address(host: str, ip: str, ttl: int = HOST_TTL_S) -> Record:
    """Return the unique record with the address of `host`."""
    return Record(host, "A", (ip,), ttl, True)


@lru_cache(maxsize=2048)
def query(questions: tuple[Question, ...], known: tuple[Record, ...] = ()) -> bytes:
    """Return a query with its known answers (§7.1)."""
    message = DNSRecord(DNSHeader(id=0, bitmap=0), questions=[_question(asked) for asked in questions])
    message.add_answer(*map(_resource, known))
    return _pack(message)


@lru_cache(maxsize=2048)
def probe(name: str, records: tuple[Record, ...]) -> bytes:
    """Return a probe for `name`: ANY with the QU bit, the records it wants as authority (§8.1)."""
    message = DNSRecord(DNSHeader(id=0, bitmap=0), questions=[_question(Question(name, "ANY", True))])
    message.add_auth(*(_resource(record._replace(unique=False)) for record in records))
    return _pack(message)


@lru_cache(maxsize=2048)
def announcement(answers: tuple[Record, ...], additional: tuple[Record, ...] = ()) -> bytes:
    """Return a response with these records, as announcements and answers are (§8.3)."""
    message = DNSRecord(DNSHeader(id=0, bitmap=0, qr=1, aa=1))
    message.add_answer(*map(_resource, answers))
    message.add_ar(*map(_resource, additional))
    return _pack(message)


def goodbye(records: tuple[Record, ...]) -> bytes:
    """Return the response that takes the records back: TTL 0 (§10.1)."""
    return announcement(tuple(record._replace(ttl=0) for record in records))


def _pack(message: DNSRecord) -> bytes:
    try:
        return bytes(message.pack())
    except (DNSLabelError, DNSError) as error:
        raise ValueError(f"no mDNS message can be made of this: {error}") from None


def _question(asked: Question) -> DNSQuestion:
    return DNSQuestion(_label(asked.name), type_number(asked.type), _IN | (_TOP_BIT if asked.unicast else 0))


def _resource(record: Record) -> RR:
    rdata: dnslib.RD
    if record.type == "PTR":
        rdata = dnslib.PTR(_label(record.value[0]))
    elif record.type == "SRV":
        priority, weight, port, target = record.value
        rdata = dnslib.SRV(int(priority), int(weight), int(port), _label(target))
    elif record.type == "TXT":
        rdata = dnslib.TXT([text.encode() for text in record.value])
    elif record.type in ("A", "AAAA"):
        rdata = getattr(dnslib, record.type)(record.value[0])
    else:
        raise ValueError(f"no mDNS record of type {record.type!r} is known")
    flag = _TOP_BIT if record.unique else 0
    return RR(_label(record.name), type_number(record.type), _IN | flag, record.ttl, rdata)


def _label(name: str) -> DNSLabel:
    """Split a name at its dots, except escaped ones, into UTF-8 labels (§16)."""
    marked = name.replace("\\.", "\0").split(".")
    return DNSLabel(tuple(part.replace("\0", ".").encode() for part in marked if part))


def _text(label: DNSLabel) -> str:
    return ".".join(part.decode("utf-8", "replace").replace(".", "\\.") for part in label.label)


def parse(data: bytes) -> Message:
    """Return the message; ValueError if it is no DNS message."""
    found = parse_dns(data)
    questions = tuple(
        Question(_text(asked.qname), type_name(asked.qtype), bool(asked.qclass & _TOP_BIT))
        for asked in found.questions
    )
    sections = (tuple(_record(rr) for rr in section) for section in (found.rr, found.auth, found.ar))
    return Message(bool(found.header.qr), questions, *sections)


def _record(rr: RR) -> Record:
    rdata = rr.rdata
    value: tuple[str, ...]
    if rr.rtype == QTYPE.PTR:
        value = (_text(rdata.label),)
    elif rr.rtype == QTYPE.SRV:
        value = (str(rdata.priority), str(rdata.weight), str(rdata.port), _text(rdata.target))
    elif rr.rtype == QTYPE.TXT:
        value = tuple(text.decode("utf-8", "replace") for text in rdata.data)
    else:
        value = (str(rdata),)
    return Record(_text(rr.rname), type_name(rr.rtype), value, rr.ttl, bool(rr.rclass & _TOP_BIT))
