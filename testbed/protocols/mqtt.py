"""MQTT 3.1.1 packets (OASIS standard of 29 October 2014; section numbers are its own), sans I/O.

Every packet type is a frozen class with `encode()`; `Decoder` takes the stream in pieces and gives
packets. What the standard calls malformed is refused with `Malformed`, a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.protocols.mqtt_fields import (
    Malformed,
    Reader,
    binary,
    check_some,
    check_topic,
    checked_qos,
    ident_bytes,
    matches,
    number,
    string,
    topic_filter,
)

__all__ = [
    "Connack", "Connect", "Decoder", "Disconnect", "Malformed", "Packet", "Pingreq", "Pingresp", "Puback",
    "Pubcomp", "Publish", "Pubrec", "Pubrel", "Suback", "Subscribe", "Unsuback", "Unsubscribe", "Will",
    "complete", "decode", "matches", "packet_length",
]  # fmt: skip

PORT = 1883
MOST_REMAINING = 268_435_455
"""Largest remaining length (§2.2.3)."""

ACCEPTED, BAD_PROTOCOL, BAD_CLIENT_ID, UNAVAILABLE, BAD_LOGIN, NOT_AUTHORISED = range(6)
SUBSCRIBE_FAILED = 0x80


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the client is lost."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """The client's first packet."""

    TYPE: ClassVar[int] = 1
    client_id: str
    keep_alive_s: int = 60
    clean_session: bool = True
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        if self.password is not None and self.username is None:
            raise Malformed("a password needs a user name (§3.1.2.9)")
        flags = self.clean_session << 1
        tail = [string(self.client_id)]
        if self.will is not None:
            flags |= 0x04 | checked_qos(self.will.qos) << 3 | self.will.retain << 5
            tail += [string(self.will.topic), binary(self.will.payload)]
        if self.username is not None:
            flags |= 0x80
            tail.append(string(self.username))
        if self.password is not None:
            flags |= 0x40
            tail.append(binary(self.password))
        head = b"\0\4MQTT\4" + bytes((flags,)) + number(self.keep_alive_s)
        return _packet(self.TYPE, 0, head + b"".join(tail))


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to Connect."""

    TYPE: ClassVar[int] = 2
    session_present: bool = False
    code: int = ACCEPTED

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _packet(self.TYPE, 0, bytes((self.session_present, self.code)))


@dataclass(frozen=True, slots=True)
class Publish:
    """An application message; `ident` is 0 exactly at QoS 0."""

    TYPE: ClassVar[int] = 3
    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    ident: int = 0

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        check_topic(self.topic)
        if bool(self.ident) != bool(self.qos) or (self.duplicate and not self.qos):
            raise Malformed("packet identifier and DUP belong to QoS 1 and 2 (§2.3.1, §3.3.1.1)")
        head = string(self.topic) + (number(self.ident) if self.qos else b"")
        return _packet(
            self.TYPE, self.duplicate << 3 | checked_qos(self.qos) << 1 | self.retain, head + self.payload
        )


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A packet of nothing but an identifier."""

    TYPE: ClassVar[int] = 0
    FLAGS: ClassVar[int] = 0
    ident: int

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _packet(self.TYPE, self.FLAGS, ident_bytes(self.ident))


class Puback(_Numbered):
    """Acknowledges a QoS 1 publish."""

    TYPE = 4


class Pubrec(_Numbered):
    """Says that a QoS 2 publish was received."""

    TYPE = 5


class Pubrel(_Numbered):
    """Releases a QoS 2 publish."""

    TYPE, FLAGS = 6, 2


class Pubcomp(_Numbered):
    """Completes a QoS 2 publish."""

    TYPE = 7


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Asks for topics, each with its greatest QoS."""

    TYPE: ClassVar[int] = 8
    ident: int
    topics: tuple[tuple[str, int], ...]

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        check_some(self.topics)
        body = b"".join(topic_filter(topic) + bytes((checked_qos(qos),)) for topic, qos in self.topics)
        return _packet(self.TYPE, 2, ident_bytes(self.ident) + body)


@dataclass(frozen=True, slots=True)
class Suback:
    """Grants a QoS to each topic asked for, or `SUBSCRIBE_FAILED`."""

    TYPE: ClassVar[int] = 9
    ident: int
    codes: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _packet(self.TYPE, 0, ident_bytes(self.ident) + bytes(self.codes))


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Gives up topics."""

    TYPE: ClassVar[int] = 10
    ident: int
    topics: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        check_some(self.topics)
        return _packet(self.TYPE, 2, ident_bytes(self.ident) + b"".join(map(topic_filter, self.topics)))


class Unsuback(_Numbered):
    """Acknowledges Unsubscribe."""

    TYPE = 11


@dataclass(frozen=True, slots=True)
class _Empty:
    """A packet of two bytes."""

    TYPE: ClassVar[int] = 0

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _packet(self.TYPE, 0, b"")


class Pingreq(_Empty):
    """Keeps the connection alive."""

    TYPE = 12


class Pingresp(_Empty):
    """The broker is alive too."""

    TYPE = 13


class Disconnect(_Empty):
    """The client leaves in good order, and its will is forgotten."""

    TYPE = 14


Packet = (
    Connect | Connack | Publish | Puback | Pubrec | Pubrel | Pubcomp | Subscribe | Suback
    | Unsubscribe | Unsuback | Pingreq | Pingresp | Disconnect
)  # fmt: skip

_NUMBERED: dict[int, type[_Numbered]] = {cls.TYPE: cls for cls in (Puback, Pubrec, Pubrel, Pubcomp, Unsuback)}
_EMPTY: dict[int, type[_Empty]] = {cls.TYPE: cls for cls in (Pingreq, Pingresp, Disconnect)}
_FLAGS_2 = (Pubrel.TYPE, Subscribe.TYPE, Unsubscribe.TYPE)


def packet_length(data: bytes | bytearray | memoryview) -> int | None:
    """Return the bytes of the first packet, None while that cannot be told; Malformed if never."""
    remaining = shift = 0
    for at in range(1, min(len(data), 5)):
        remaining |= (data[at] & 127) << shift
        if data[at] < 128:
            return at + 1 + remaining
        shift += 7
    if len(data) >= 5:
        raise Malformed("a remaining length of more than four bytes (§2.2.3)")
    return None


def complete(data: bytes) -> bool:
    """Tell whether `data` begins with a whole packet."""
    length = packet_length(data)
    return length is not None and length <= len(data)


def decode(data: bytes) -> Packet:
    """Return the packet that `data` is; Malformed if it is not exactly one."""
    length = packet_length(data)
    if length is None or length != len(data):
        raise Malformed("not exactly one MQTT packet")
    kind, flags = data[0] >> 4, data[0] & 15
    start = next(at for at in range(1, 5) if data[at] < 128) + 1
    if kind != Publish.TYPE and flags != (2 if kind in _FLAGS_2 else 0):
        raise Malformed(f"reserved flags {flags:#x} of packet type {kind} (§2.2.2)")
    body = Reader(data, start)
    packet = _decode_body(kind, flags, body)
    body.end()
    return packet


def _decode_body(kind: int, flags: int, body: Reader) -> Packet:
    if kind == Publish.TYPE:
        return _publish(flags, body)
    if kind in _NUMBERED:
        return _NUMBERED[kind](body.ident())  # type: ignore[return-value]
    if kind in _EMPTY:
        return _EMPTY[kind]()  # type: ignore[return-value]
    if kind == Connect.TYPE:
        return _connect(body)
    if kind == Connack.TYPE:
        present, code = body.byte(), body.byte()
        if present > 1 or code > NOT_AUTHORISED or (present and code):
            raise Malformed("reserved bits of CONNACK (§3.2.2)")
        return Connack(bool(present), code)
    if kind == Subscribe.TYPE:
        ident, topics = body.ident(), []
        while body.left():
            topics.append((body.filter(), checked_qos(body.byte())))
        check_some(topics)
        return Subscribe(ident, tuple(topics))
    if kind == Suback.TYPE:
        ident, codes = body.ident(), tuple(body.rest())
        if not codes or any(code > 2 and code != SUBSCRIBE_FAILED for code in codes):
            raise Malformed("reserved return codes of SUBACK (§3.9.3)")
        return Suback(ident, codes)
    if kind == Unsubscribe.TYPE:
        ident, names = body.ident(), []
        while body.left():
            names.append(body.filter())
        check_some(names)
        return Unsubscribe(ident, tuple(names))
    raise Malformed(f"packet type {kind} is reserved (§2.2.1)")


def _publish(flags: int, body: Reader) -> Publish:
    qos = checked_qos(flags >> 1 & 3)
    duplicate = bool(flags & 8)
    if duplicate and not qos:
        raise Malformed("DUP at QoS 0 (§3.3.1.1)")
    topic = body.string()
    check_topic(topic)
    ident = body.ident() if qos else 0
    return Publish(topic, body.rest(), qos, bool(flags & 1), duplicate, ident)


def _connect(body: Reader) -> Connect:
    if body.string() != "MQTT" or body.byte() != 4:
        raise Malformed("not protocol MQTT, level 4 (§3.1.2.1)")
    flags, keep_alive_s = body.byte(), body.number()
    if flags & 1 or (not flags & 4 and flags & 0x38) or (flags & 0x40 and not flags & 0x80):
        raise Malformed("connect flags that contradict each other (§3.1.2.3)")
    client_id = body.string()
    will = None
    if flags & 4:
        topic = body.string()
        check_topic(topic)
        will = Will(topic, body.binary(), checked_qos(flags >> 3 & 3), bool(flags & 0x20))
    username = body.string() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    return Connect(client_id, keep_alive_s, bool(flags & 2), username, password, will)


class Decoder:
    """Turns a stream, fed in pieces of any size, into packets."""

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        self._buffer = bytearray()
        self._most_bytes = most_bytes

    @property
    def empty(self) -> bool:
        """Whether no packet has been begun."""
        return not self._buffer

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that `data` completes; Malformed ends the stream's use."""
        self._buffer += data
        packets: list[Packet] = []
        while (length := packet_length(self._buffer)) is not None:
            if length > self._most_bytes:
                raise Malformed(f"a packet of {length} bytes, more than this side takes")
            if length > len(self._buffer):
                break
            packets.append(decode(bytes(self._buffer[:length])))
            del self._buffer[:length]
        return packets


def _packet(kind: int, flags: int, body: bytes) -> bytes:
    if len(body) > MOST_REMAINING:
        raise Malformed(f"a packet of {len(body)} bytes is longer than MQTT allows")
    length, left = bytearray(), len(body)
    while True:
        length.append(left & 127 | (128 if left > 127 else 0))
        left >>= 7
        if not left:
            return bytes((kind << 4 | flags,)) + bytes(length) + body
