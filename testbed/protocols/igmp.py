"""IGMP messages, versions 2 (RFC 2236) and 3 (RFC 3376), checksums included; IP is the caller's.

A v2 report goes to its group, a leave to `ALL_ROUTERS`, a v3 report to `V3_ROUTERS`, a general query
to `ALL_SYSTEMS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from testbed.protocols.checksum import internet_checksum

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL_SYSTEMS = "224.0.0.1"
ALL_ROUTERS = "224.0.0.2"
V3_ROUTERS = "224.0.0.22"

QUERY, V1_REPORT, V2_REPORT, LEAVE, V3_REPORT = 0x11, 0x12, 0x16, 0x17, 0x22
IS_INCLUDE, IS_EXCLUDE, TO_INCLUDE, TO_EXCLUDE, ALLOW_NEW, BLOCK_OLD = range(1, 7)
"""Types of a v3 group record (RFC 3376 §4.2.12)."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group record of a v3 report."""

    record: int
    group: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Igmp:
    """An IGMP message as read."""

    kind: str
    """query, report or leave."""
    version: int
    group: str
    """Group of a query, v2 report or leave; 0.0.0.0 in a general query and in a v3 report."""
    max_response_s: float = 0.0
    groups: tuple[Group, ...] = ()
    """Group records of a v3 report."""
    sources: tuple[str, ...] = ()
    """Sources of a v3 group-and-source-specific query."""

    @property
    def general(self) -> bool:
        """Whether it is a query for every group."""
        return self.kind == "query" and self.group == "0.0.0.0"


def _packed(group: str) -> bytes:
    return IPv4Address(group).packed


def _signed(message: bytes) -> bytes:
    """Fill in the checksum at octets 2 and 3."""
    return message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]


@lru_cache(maxsize=1024)
def v2_report(group: str) -> bytes:
    """Return a membership report for `group`."""
    return _signed(bytes((V2_REPORT, 0, 0, 0)) + _packed(group))


@lru_cache(maxsize=1024)
def leave(group: str) -> bytes:
    """Return a leave message for `group`."""
    return _signed(bytes((LEAVE, 0, 0, 0)) + _packed(group))


@lru_cache(maxsize=1024)
def query(
    group: str = "0.0.0.0",
    max_response_s: float = 10.0,
    version: int = 2,
    interval_s: float = 125.0,
    robustness: int = 2,
) -> bytes:
    """Return a query; the default group makes it a general one. v3 tells the interval too."""
    code = min(round(max_response_s * 10), 255)
    if version == 2:
        return _signed(bytes((QUERY, code, 0, 0)) + _packed(group))
    if version != 3:
        raise ValueError(f"IGMP queries have version 2 or 3, not {version}")
    tail = bytes((robustness & 7, _float_code(round(interval_s)), 0, 0))
    return _signed(bytes((QUERY, _float_code(round(max_response_s * 10)), 0, 0)) + _packed(group) + tail)


def v3_report(records: Iterable[tuple[int, str, tuple[str, ...]]]) -> bytes:
    """Return a v3 report of (record type, group, sources) records."""
    return _v3_report(tuple(records))


@lru_cache(maxsize=1024)
def _v3_report(records: tuple[tuple[int, str, tuple[str, ...]], ...]) -> bytes:
    parts = [bytes((V3_REPORT, 0, 0, 0, 0, 0)) + len(records).to_bytes(2, "big")]
    for record, group, sources in records:
        if not IS_INCLUDE <= record <= BLOCK_OLD:
            raise ValueError(f"no IGMPv3 group record has type {record}")
        parts.append(bytes((record, 0)) + len(sources).to_bytes(2, "big") + _packed(group))
        parts.extend(map(_packed, sources))
    return _signed(b"".join(parts))


def _float_code(value: int) -> int:
    """Return the code of a time: as it is below 128, then 4 bits of mantissa, 3 of exponent (§4.1.1)."""
    if value < 128:
        return value
    exponent = min(max(value.bit_length() - 8, 0), 7)
    return 0x80 | exponent << 4 | min(value >> exponent + 3, 31) & 15


def _float_value(code: int) -> int:
    return code if code < 128 else ((code & 15) | 16) << ((code >> 4 & 7) + 3)


def parse(data: bytes) -> Igmp:
    """Return the message; ValueError if it is no IGMP, or its checksum is wrong."""
    if len(data) < 8 or internet_checksum(data) != 0:
        raise ValueError("not an IGMP message, or a damaged one")
    kind, code, group = data[0], data[1], str(IPv4Address(data[4:8]))
    if kind == QUERY:
        if len(data) < 12:
            return Igmp("query", 2 if code else 1, group, code / 10 if code else 10.0)
        return Igmp("query", 3, group, _float_value(code) / 10, sources=_addresses(data, 12, data[10:12]))
    if kind in (V1_REPORT, V2_REPORT):
        return Igmp("report", 1 if kind == V1_REPORT else 2, group)
    if kind == LEAVE:
        return Igmp("leave", 2, group)
    if kind == V3_REPORT:
        return Igmp("report", 3, "0.0.0.0", groups=_records(data))
    raise ValueError(f"unknown IGMP type {kind:#x}")


def _addresses(data: bytes, at: int, count: bytes) -> tuple[str, ...]:
    end = at + 4 * int.from_bytes(count, "big")
    if end > len(data):
        raise ValueError("an IGMP message is cut off")
    return tuple(str(IPv4Address(data[here : here + 4])) for here in range(at, end, 4))


def _records(data: bytes) -> tuple[Group, ...]:
    found, at = [], 8
    for _ in range(int.from_bytes(data[6:8], "big")):
        if at + 8 > len(data):
            raise ValueError("an IGMP message is cut off")
        sources = _addresses(data, at + 8, data[at + 2 : at + 4])
        found.append(Group(data[at], str(IPv4Address(data[at + 4 : at + 8])), sources))
        at += 8 + 4 * len(sources) + 4 * data[at + 1]
    return tuple(found)
