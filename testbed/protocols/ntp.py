"""NTP and SNTP packets of 48 bytes (RFC 5905 §7.3, RFC 4330 §4); ntplib reads them.

A time server answers every few seconds of virtual time, so requests and replies are packed here by
one struct; the tests hold them against ntplib's own packing.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address
from struct import Struct

import ntplib

PORT = 123
BYTES = 48
UNIX_EPOCH_NTP = 2_208_988_800
"""Seconds from 1900 (NTP era 0) to 1970."""

_PACKET = Struct("!BBbbII4s4Q")
_CLIENT, _SERVER = 3, 4


def timestamp(now: float) -> int:
    """Return Unix seconds as a 64-bit NTP timestamp (32.32 fixed point, modulo its era)."""
    return int((now + UNIX_EPOCH_NTP) * 4294967296) & 0xFFFFFFFFFFFFFFFF


def unix_time(stamp: int, near: float) -> float:
    """Return a 64-bit NTP timestamp as Unix seconds, in the era nearest to `near`."""
    seconds = stamp / 4294967296 - UNIX_EPOCH_NTP
    return seconds + round((near - seconds) / 2**32) * 2**32


@lru_cache(maxsize=256)
def _plain_request(version: int, poll: int) -> bytes:
    return _PACKET.pack(version << 3 | _CLIENT, 0, poll, 0, 0, 0, bytes(4), 0, 0, 0, 0)


def request(version: int = 3, poll: int = 0, now: float | None = None) -> bytes:
    """Return a client request; `now` fills the transmit timestamp, None leaves it zero as some do."""
    head = _plain_request(version, poll)
    return head if now is None else head[:40] + timestamp(now).to_bytes(8, "big")


@lru_cache(maxsize=4096)
def _reply_head(
    first: int, stratum: int, poll: int, precision: int, delay_s: float, dispersion_s: float, ref_id: str
) -> bytes:
    source = ref_id.encode("ascii").ljust(4, b"\0") if stratum < 2 else IPv4Address(ref_id).packed
    if len(source) > 4:
        raise ValueError(f"an NTP reference identifier has at most 4 letters, not {ref_id!r}")
    return _PACKET.pack(
        first,
        stratum,
        poll,
        precision,
        round(delay_s * 65536),
        round(dispersion_s * 65536),
        source,
        0,
        0,
        0,
        0,
    )[:16]


def reply(
    request: bytes,
    now: float,
    stratum: int = 2,
    ref_id: str = "198.18.0.1",
    *,
    precision: int = -20,
    root_delay_s: float = 0.005,
    root_dispersion_s: float = 0.010,
    update_s: float = 64.0,
) -> bytes:
    """Return a server's answer at Unix time `now`; ValueError if `request` is no client request.

    `ref_id` is a clock's name at stratum 1 (a kiss code at 0) and an IPv4 address below. The
    reference timestamp is the last multiple of `update_s`.
    """
    if len(request) < BYTES or request[0] & 7 != _CLIENT:
        raise ValueError("not an NTP client request")
    first = request[0] & 0x38 | _SERVER
    if stratum == 0:
        first |= 0xC0  # alarm: a kiss-o'-death carries no time (RFC 5905 §7.4)
    head = _reply_head(first, stratum, request[2], precision, root_delay_s, root_dispersion_s, ref_id)
    stamp = timestamp(now).to_bytes(8, "big")
    return head + timestamp(now - now % update_s).to_bytes(8, "big") + request[40:48] + stamp + stamp


def decode(data: bytes) -> ntplib.NTPPacket:
    """Return the packet as ntplib reads it (timestamps in NTP seconds); ValueError if it is none."""
    if len(data) < BYTES:
        raise ValueError(f"an NTP packet has at least {BYTES} bytes, not {len(data)}")
    packet = ntplib.NTPPacket()
    packet.from_data(data)
    return packet


def transmit_time(data: bytes, near: float) -> float:
    """Return the Unix time that a server's answer tells."""
    if len(data) < BYTES:
        raise ValueError("not an NTP packet")
    return unix_time(int.from_bytes(data[40:48], "big"), near)


def flaw(reply: bytes, request: bytes) -> str | None:
    """Return why a client must not set its clock by `reply` (RFC 4330 §5), None if it may."""
    if len(reply) < BYTES:
        return "short"
    if reply[0] & 7 != _SERVER:
        return "wrong mode"
    if reply[24:32] != request[40:48]:
        return "not the answer to this request"
    if reply[1] == 0:
        return "kiss-o'-death " + reply[12:16].rstrip(b"\0").decode("ascii", "replace")
    if reply[1] > 15 or reply[0] >> 6 == 3:
        return "server not synchronised"
    return "no time in it" if reply[40:48] == bytes(8) else None


def sane(reply: bytes, request: bytes) -> bool:
    """Tell whether a client may set its clock by `reply`."""
    return flaw(reply, request) is None
