"""MQTT 3.1.1 packets (OASIS standard of 29 October 2014; section numbers are its own), sans I/O.

Every packet type is a frozen class with `encode()`; `Decoder` takes the stream in pieces and gives
packets. What the standard calls malformed is refused with `Malformed`, a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

PORT = 1883
MOST_REMAINING = 268_435_455
"""Largest remaining length (§2.2.3)."""

ACCEPTED, BAD_PROTOCOL, BAD_CLIENT_ID, UNAVAILABLE, BAD_LOGIN, NOT_AUTHORISED = range(6)
SUBSCRIBE_FAILED = 0x80


class Malformed(ValueError):
    """Bytes that are no MQTT 3.1.1; the connection must be closed (§4.8)."""


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
        tail = [_string(self.client_id)]
        if self.will is not None:
            flags |= 0x04 | _qos(self.will.qos) << 3 | self.will.retain << 5
            tail += [_string(self.will.topic), _binary(self.will.payload)]
        if self.username is not None:
            flags |= 0x80
            tail.append(_string(self.username))
        if self.password is not None:
            flags |= 0x40
            tail.append(_binary(self.password))
        head = b"\0\4MQTT\4" + bytes((flags,)) + _number(self.keep_alive_s)
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
        _check_topic(self.topic)
        if bool(self.ident) != bool(self.qos) or (self.duplicate and not self.qos):
            raise Malformed("packet identifier and DUP belong to QoS 1 and 2 (§2.3.1, §3.3.1.1)")
        head = _string(self.topic) + (_number(self.ident) if self.qos else b"")
        return _packet(
            self.TYPE, self.duplicate << 3 | _qos(self.qos) << 1 | self.retain, head + self.payload
        )


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A packet of nothing but an identifier."""

    TYPE: ClassVar[int] = 0
    FLAGS: ClassVar[int] = 0
    ident: int

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _packet(self.TYPE, self.FLAGS, _ident(self.ident))


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
        _check_some(self.topics)
        body = b"".join(_filter(topic) + bytes((_qos(qos),)) for topic, qos in self.topics)
        return _packet(self.TYPE, 2, _ident(self.ident) + body)


@dataclass(frozen=True, slots=True)
class Suback:
    """Grants a QoS to each topic asked for, or `SUBSCRIBE_FAILED`."""

    TYPE: ClassVar[int] = 9
    ident: int
    codes: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _packet(self.TYPE, 0, _ident(self.ident) + bytes(self.codes))


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Gives up topics."""

    TYPE: ClassVar[int] = 10
    ident: int
    topics: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        _check_some(self.topics)
        return _packet(self.TYPE, 2, _ident(self.ident) + b"".join(map(_filter, self.topics)))


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
    body = _Reader(data, start)
    packet = _decode_body(kind, flags, body)
    body.end()
    return packet


def _decode_body(kind: int, flags: int, body: _Reader) -> Packet:
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
            topics.append((body.filter(), _qos(body.byte())))
        _check_some(topics)
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
        _check_some(names)
        return Unsubscribe(ident, tuple(names))
    raise Malformed(f"packet type {kind} is reserved (§2.2.1)")


def _publish(flags: int, body: _Reader) -> Publish:
    qos = _qos(flags >> 1 & 3)
    duplicate = bool(flags & 8)
    if duplicate and not qos:
        raise Malformed("DUP at QoS 0 (§3.3.1.1)")
    topic = body.string()
    _check_topic(topic)
    ident = body.ident() if qos else 0
    return Publish(topic, body.rest(), qos, bool(flags & 1), duplicate, ident)


def _connect(body: _Reader) -> Connect:
    if body.string() != "MQTT" or body.byte() != 4:
        raise Malformed("not protocol MQTT, level 4 (§3.1.2.1)")
    flags, keep_alive_s = body.byte(), body.number()
    if flags & 1 or (not flags & 4 and flags & 0x38) or (flags & 0x40 and not flags & 0x80):
        raise Malformed("connect flags that contradict each other (§3.1.2.3)")
    client_id = body.string()
    will = None
    if flags & 4:
        topic = body.string()
        _check_topic(topic)
        will = Will(topic, body.binary(), _qos(flags >> 3 & 3), bool(flags & 0x20))
    username = body.string() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    return Connect(client_id, keep_alive_s, bool(flags & 2), username, password, will)


class Decoder:
    """Turns a stream, fed in pieces of any size, into packets."""

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        self._buffer = bytearray()
        self._most_bytes = most_bytes

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


class _Reader:
    """Reads the fields of one packet in order."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise Malformed("a packet that ends inside a field")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def ident(self) -> int:
        ident = self.number()
        if ident == 0:
            raise Malformed("packet identifier 0 (§2.3.1)")
        return ident

    def binary(self) -> bytes:
        return self.take(self.number())

    def string(self) -> str:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise Malformed("a string that is not UTF-8 (§1.5.3)") from None
        if "\0" in text:
            raise Malformed("a string with a null character (§1.5.3)")
        return text

    def filter(self) -> str:
        text = self.string()
        _check_filter(text)
        return text

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self.left():
            raise Malformed("bytes behind the last field")


def _packet(kind: int, flags: int, body: bytes) -> bytes:
    if len(body) > MOST_REMAINING:
        raise Malformed(f"a packet of {len(body)} bytes is longer than MQTT allows")
    length, left = bytearray(), len(body)
    while True:
        length.append(left & 127 | (128 if left > 127 else 0))
        left >>= 7
        if not left:
            return bytes((kind << 4 | flags,)) + bytes(length) + body


def _number(value: int) -> bytes:
    if not 0 <= value <= 65535:
        raise Malformed(f"{value} does not fit into 16 bits")
    return value.to_bytes(2, "big")


def _ident(value: int) -> bytes:
    if value == 0:
        raise Malformed("packet identifier 0 (§2.3.1)")
    return _number(value)


def _binary(data: bytes) -> bytes:
    return _number(len(data)) + data


def _string(text: str) -> bytes:
    if "\0" in text:
        raise Malformed("a string with a null character (§1.5.3)")
    return _binary(text.encode())


def _filter(text: str) -> bytes:
    _check_filter(text)
    return _string(text)


def _qos(value: int) -> int:
    if not 0 <= value <= 2:
        raise Malformed(f"QoS {value} (§4.3)")
    return value


def _check_topic(topic: str) -> None:
    if not topic or "+" in topic or "#" in topic:
        raise Malformed(f"not a topic name: {topic!r} (§4.7)")


def _check_filter(text: str) -> None:
    levels = text.split("/")
    wild = any(len(level) > 1 and ("+" in level or "#" in level) for level in levels)
    if not text or wild or "#" in levels[:-1]:
        raise Malformed(f"not a topic filter: {text!r} (§4.7.1)")


def _check_some(topics: object) -> None:
    if not topics:
        raise Malformed("at least one topic (§3.8.3, §3.10.3)")


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a topic filter takes a topic name (§4.7)."""
    if topic.startswith("$") and pattern[:1] in "+#":
        return False  # wildcards at the root do not take the server's own topics (§4.7.2)
    wanted, given = pattern.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(given) or level not in ("+", given[at]):
            return False
    return len(wanted) == len(given)
