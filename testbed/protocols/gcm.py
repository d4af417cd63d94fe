"""Google's push channel: the MCS framing (version, tag, varint length, protobuf) inside TLS on 5228.

Source: Chromium's google_apis/gcm/protocol/mcs.proto and connection_handler (MCS version 41).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

PORT = 5228
VERSION = 41

HEARTBEAT_PING, HEARTBEAT_ACK, LOGIN_REQUEST, LOGIN_RESPONSE, CLOSE, IQ_STANZA, DATA_MESSAGE = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
)
_MOST_BYTES = 1 << 20
_MOST_VARINT = 10

Fields = tuple[tuple[int, int | bytes], ...]


class Frame(NamedTuple):
    """A message as read: its tag, its top-level protobuf fields in order, its bytes on the stream."""

    tag: int
    fields: Fields
    length: int

    def first(self, number: int) -> int | bytes | None:
        """Return the first value of a field, None when it is absent."""
        return next((value for field, value in self.fields if field == number), None)


def varint(value: int) -> bytes:
    """Return a protobuf varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int] | None:
    """Return (value, where it ends), None while it is not whole."""
    value = 0
    for index in range(_MOST_VARINT):
        if at + index >= len(data):
            return None
        value |= (data[at + index] & 127) << 7 * index
        if data[at + index] < 128:
            return value, at + index + 1
    raise ValueError("a varint longer than ten bytes")


def frame(tag: int, fields: Fields = (), first: bool = False) -> bytes:
    """Return a message; the `first` one of each side carries the version before it."""
    body = b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )
    return (bytes((VERSION,)) if first else b"") + bytes((tag,)) + varint(len(body)) + body


@lru_cache(maxsize=256)
def login_request(device_id: int, security_token: int) -> bytes:
    """Return what a client sends first."""
    user = str(device_id).encode()
    return frame(LOGIN_REQUEST, (
        (1, b"chrome-65.0.3325.181"), (2, b"mcs.android.com"), (3, user), (4, user),
        (5, str(security_token).encode()), (6, b"android-" + format(device_id, "x").encode()),
        (12, 0), (14, 1), (16, 2), (17, 1),
    ), first=True)  # fmt: skip


def login_response(now: float, ident: bytes = b"chrome-65.0.3325.181") -> bytes:
    """Return what the server sends first; `now` is Unix time, told in milliseconds."""
    return frame(LOGIN_RESPONSE, ((1, ident), (8, int(now * 1000))), first=True)


@lru_cache(maxsize=1024)
def heartbeat_ping(last_stream_id: int = 0) -> bytes:
    """Return a heartbeat of the client."""
    return frame(HEARTBEAT_PING, ((2, last_stream_id),) if last_stream_id else ())


@lru_cache(maxsize=1024)
def heartbeat_ack(last_stream_id: int = 0) -> bytes:
    """Return the server's answer to a heartbeat."""
    return frame(HEARTBEAT_ACK, ((2, last_stream_id),) if last_stream_id else ())


def next_frame(data: bytes, first: bool = False) -> Frame | None:
    """Return the first message of the stream, None while it is not whole; ValueError on garbage.

    `first` tells that the version byte stands before it.
    """
    at = int(first)
    if first and data and data[0] < 38:
        raise ValueError(f"unknown MCS version {data[0]}")
    if len(data) <= at:
        return None
    tag = data[at]
    if tag > 14:
        raise ValueError(f"unknown MCS tag {tag}")
    size = _read_varint(data, at + 1)
    if size is None:
        return None
    if size[0] > _MOST_BYTES:
        raise ValueError("an MCS message longer than 1 MiB")
    end = size[1] + size[0]
    return Frame(tag, _fields(data[size[1] : end]), end) if end <= len(data) else None


def complete(data: bytes, first: bool = False) -> bool:
    """Tell whether `data` begins with a whole message."""
    return next_frame(data, first) is not None


def parse(data: bytes, first: bool = False) -> Frame:
    """Return the first message of the stream; ValueError if it is none or not whole."""
    found = next_frame(data, first)
    if found is None:
        raise ValueError("an MCS message that is not whole")
    return found


@lru_cache(maxsize=1024)
def _fields(body: bytes) -> Fields:
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(body):
        number, at = _whole_varint(body, at)
        if number & 7 == 0:
            value, at = _whole_varint(body, at)
            found.append((number >> 3, value))
            continue
        size, at = _whole_varint(body, at) if number & 7 == 2 else ({1: 8, 5: 4}.get(number & 7, -1), at)
        if size < 0 or at + size > len(body):
            raise ValueError("not a protobuf message")
        found.append((number >> 3, body[at : at + size]))
        at += size
    return tuple(found)


def _whole_varint(body: bytes, at: int) -> tuple[int, int]:
    found = _read_varint(body, at)
    if found is None:
        raise ValueError("a protobuf message is cut off")
    return found
