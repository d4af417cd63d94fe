"""TLS of simulated connections: handshake messages, record sizes and filler, no cryptography."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

from testbed.protocols import certs, tls
from testbed.simulation.plans import CLIENT, SERVER, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host import TlsHello
    from testbed.simulation.tape import Payload

_sizes = lru_cache(lambda version: lru_cache(4096)(partial(tls.protected_length, version=version)))
"""TLS version -> what tells the bytes on the wire of so many bytes."""
_THINK_NS = 1_000_000
"""Time a server takes for its part of a handshake."""


class Sealing:
    """Turns what the programs say into what goes over the wire; plain without a `hello`."""

    __slots__ = ("_at", "_pool", "_pool_bytes", "_secret", "hello", "host_name", "size")

    def __init__(self, hello: TlsHello | None, secret: bytes, host_name: str, pool: bytes) -> None:
        self.hello = hello
        self.host_name = hello.sni or host_name if hello else host_name
        self._secret = secret
        self._pool, self._pool_bytes = pool, len(pool)
        self._at = int.from_bytes(secret[:3], "big")
        self.size: Callable[[int], int] = _sizes(hello.version) if hello else int
        """Returns the bytes on the wire of a message of so many bytes."""

    def seal(self, data: bytes, size: int) -> Payload:
        """Return what goes over the wire, `size` bytes: the data, or TLS records in its place."""
        if self.hello is None or not data:
            return data
        if len(data) <= tls.MOST_PLAINTEXT:
            at = self._at
            self._at = at + size * 7 + 13
            return -1 - at % (self._pool_bytes - size + tls.RECORD_HEADER_BYTES)
        sizes = tls.record_sizes(len(data), self.hello.version)
        return b"".join(map(self._record, sizes))

    def _record(self, size: int) -> bytes:
        body = size - tls.RECORD_HEADER_BYTES
        at = self._at % (self._pool_bytes - body)
        self._at += size * 7 + 13
        return b"\x17\x03\x03%c%c%b" % (body >> 8, body & 255, self._pool[at : at + body])

    def handshake(self) -> tuple[bytes, bytes, tuple[Message, ...]]:
        """Return the bytes of both sides in a handshake, and their turns (RFC 5246 §7.3)."""
        hello, secret = self.hello, self._secret
        assert hello is not None
        session_id = secret[:32]
        first = tls.client_hello(hello, secret, session_id if hello.resume else b"")
        if hello.resume:
            flight, finish = tls.resumed_server_flight(hello, secret, session_id), b""
            last = tls.resumed_client_flight(hello, secret)
        else:
            chain = certs.chain(self.host_name, hello.chain_bytes)
            flight = tls.server_flight(hello, secret, chain.certificate_list)
            last = tls.client_flight(hello, secret)
            finish = tls.server_finish(hello, secret)
        turns = [
            Message(CLIENT, len(first)),
            Message(SERVER, len(flight), _THINK_NS),
            Message(CLIENT, len(last)),
        ]
        if finish:
            turns.append(Message(SERVER, len(finish), _THINK_NS))
        return first + last, flight + finish, tuple(turns)

    def farewell(self) -> bytes:
        """Return the close_notify that precedes a FIN; nothing without TLS."""
        return tls.alert(self._secret, self.hello.version) if self.hello else b""
