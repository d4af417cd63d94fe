"""The fields that MQTT 3.1.1 packets are made of (section numbers are the standard's).

What is wrong is refused with `Malformed`, in both directions.
"""

from __future__ import annotations


class Malformed(ValueError):
    """Bytes that are no MQTT 3.1.1; the connection must be closed (§4.8)."""


class Reader:
    """Reads the fields of one packet in order."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def left(self) -> bool:
        """Tell whether bytes are left."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise Malformed("a packet that ends inside a field")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """Return a 16-bit number."""
        return int.from_bytes(self.take(2), "big")

    def ident(self) -> int:
        """Return a packet identifier."""
        ident = self.number()
        if ident == 0:
            raise Malformed("packet identifier 0 (§2.3.1)")
        return ident

    def binary(self) -> bytes:
        """Return bytes behind their length."""
        return self.take(self.number())

    def string(self) -> str:
        """Return UTF-8 text behind its length."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise Malformed("a string that is not UTF-8 (§1.5.3)") from None
        if "\0" in text:
            raise Malformed("a string with a null character (§1.5.3)")
        return text

    def filter(self) -> str:
        """Return a topic filter."""
        text = self.string()
        check_filter(text)
        return text

    def rest(self) -> bytes:
        """Return all bytes that are left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Refuse bytes that are left."""
        if self.left():
            raise Malformed("bytes behind the last field")


def number(value: int) -> bytes:
    """Return a 16-bit number."""
    if not 0 <= value <= 65535:
        raise Malformed(f"{value} does not fit into 16 bits")
    return value.to_bytes(2, "big")


def ident_bytes(value: int) -> bytes:
    """Return a packet identifier."""
    if value == 0:
        raise Malformed("packet identifier 0 (§2.3.1)")
    return number(value)


def binary(data: bytes) -> bytes:
    """Return bytes behind their length."""
    return number(len(data)) + data


def string(text: str) -> bytes:
    """Return UTF-8 text behind its length."""
    if "\0" in text:
        raise Malformed("a string with a null character (§1.5.3)")
    return binary(text.encode())


def topic_filter(text: str) -> bytes:
    """Return a topic filter."""
    check_filter(text)
    return string(text)


def checked_qos(value: int) -> int:
    """Return `value`, refused if it is no QoS."""
    if not 0 <= value <= 2:
        raise Malformed(f"QoS {value} (§4.3)")
    return value


def check_topic(topic: str) -> None:
    """Refuse what is no topic name."""
    if not topic or "+" in topic or "#" in topic:
        raise Malformed(f"not a topic name: {topic!r} (§4.7)")


def check_filter(text: str) -> None:
    """Refuse what is no topic filter."""
    levels = text.split("/")
    wild = any(len(level) > 1 and ("+" in level or "#" in level) for level in levels)
    if not text or wild or "#" in levels[:-1]:
        raise Malformed(f"not a topic filter: {text!r} (§4.7.1)")


def check_some(topics: object) -> None:
    """Refuse an empty list of topics."""
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
