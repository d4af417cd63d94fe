"""Weave messages on TCP 11095, framed as OpenWeave's message layer frames them.

On a wire the exchange header and payload are encrypted (AES-128-CTR with HMAC-SHA1); here they are
plain bytes of the same length, and the message says itself encrypted only so that sizes and
dissection are right. How long the answer shall be stands in the first four bytes of the payload:
that is the testbed's own convention, by which a device model fixes both directions.
Source: OpenWeave, WeaveMessageLayer and WeaveExchangeMgr (header fields and their order).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct

from testbed.protocols import WrongSize

PORT = 11095

_VERSION_1, _AES128_CTR_SHA1 = 1, 1
_HAS_DESTINATION, _HAS_SOURCE = 0x0100, 0x0200
_SESSION_KEY = 0x2001
_TAG_BYTES = 20
_HEADER = Struct("<HHIQQH")
_EXCHANGE = Struct("<BBHI")
_INITIATOR = 0x01
_MOST_BYTES = 65535
LEAST_BYTES = _HEADER.size + _EXCHANGE.size + 4 + _TAG_BYTES
"""Bytes of the smallest message, length prefix and the size wished for included."""

ECHO, SERVICE_DIRECTORY, DATA_MANAGEMENT = 0x00000001, 0x00000003, 0x0000000B


@dataclass(frozen=True, slots=True)
class Message:
    """A message as read; `total_bytes` is its length on the stream, prefix included."""

    message_id: int
    source: int
    destination: int
    exchange_id: int
    profile: int
    kind: int
    initiator: bool
    answer_bytes: int
    total_bytes: int


@lru_cache(maxsize=4096)
def message(
    total_bytes: int,
    *,
    source: int,
    destination: int,
    message_id: int,
    exchange_id: int,
    answer_bytes: int = 0,
    profile: int = DATA_MANAGEMENT,
    kind: int = 1,
    initiator: bool = True,
) -> bytes:
    """Return a message of exactly `total_bytes` that asks for an answer of `answer_bytes` (0: none).

    ValueError outside of `LEAST_BYTES` to 65,537.
    """
    if not LEAST_BYTES <= total_bytes <= _MOST_BYTES + 2:
        raise WrongSize(
            f"a Weave message has {LEAST_BYTES} to {_MOST_BYTES + 2} bytes, {total_bytes} were asked for"
        )
    if answer_bytes and answer_bytes < LEAST_BYTES:
        raise WrongSize(f"a Weave answer has at least {LEAST_BYTES} bytes, {answer_bytes} were asked for")
    flags = _VERSION_1 << 12 | _AES128_CTR_SHA1 << 4 | _HAS_DESTINATION | _HAS_SOURCE
    header = _HEADER.pack(total_bytes - 2, flags, message_id, source, destination, _SESSION_KEY)
    exchange = _EXCHANGE.pack(1 << 4 | (_INITIATOR if initiator else 0), kind, exchange_id, profile)
    body = header + exchange + answer_bytes.to_bytes(4, "little")
    return body + bytes(total_bytes - len(body))


def answer(request: Message) -> bytes:
    """Return the answer to `request`, of the length it asks for (nothing when it asks for none)."""
    if not request.answer_bytes:
        return b""
    return message(
        request.answer_bytes,
        source=request.destination,
        destination=request.source,
        message_id=request.message_id,
        exchange_id=request.exchange_id,
        profile=request.profile,
        kind=request.kind + 1 & 0xFF,
        initiator=False,
    )


def length(data: bytes) -> int | None:
    """Return the bytes of the first message in the stream, None while it is not whole."""
    if len(data) < 2:
        return None
    total = 2 + int.from_bytes(data[:2], "little")
    if total < LEAST_BYTES:
        raise ValueError("not a Weave message")
    return total if total <= len(data) else None


def complete(data: bytes) -> bool:
    """Tell whether `data` begins with a whole message."""
    return length(data) is not None


def parse(data: bytes) -> Message:
    """Return the first message of the stream; ValueError if it is none or not whole."""
    total = length(data)
    if total is None:
        raise ValueError("a Weave message that is not whole")
    return _parse(data[:total])


@lru_cache(maxsize=4096)
def _parse(data: bytes) -> Message:
    _, flags, message_id, source, destination, _ = _HEADER.unpack_from(data)
    if flags != _VERSION_1 << 12 | _AES128_CTR_SHA1 << 4 | _HAS_DESTINATION | _HAS_SOURCE:
        raise ValueError("not a Weave message of this testbed's kind")
    version, kind, exchange_id, profile = _EXCHANGE.unpack_from(data, _HEADER.size)
    at = _HEADER.size + _EXCHANGE.size
    wished = int.from_bytes(data[at : at + 4], "little")
    if version >> 4 != 1 or (wished and not LEAST_BYTES <= wished <= _MOST_BYTES + 2):
        raise ValueError("not a Weave message of this testbed's kind")
    initiator = bool(version & _INITIATOR)
    return Message(message_id, source, destination, exchange_id, profile, kind, initiator, wished, len(data))
