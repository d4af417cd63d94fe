"""Real TLS over the loop's sockets: OpenSSL between memory buffers, the testbed's own certificates.

The ClientHello is brought to the size that the model gives by what real clients differ in: the
number of cipher suites, the padding extension (RFC 7685) and the protocols offered by ALPN.
OpenSSL here makes no TLS below 1.2 with Ed25519 certificates: older versions are played as 1.2.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from testbed.protocols import certs

if TYPE_CHECKING:
    from testbed.host import TlsHello
    from testbed.models import DeviceModel

_RECORD = 65_536
_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA384", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA256", "AES256-SHA256",
)  # fmt: skip
_TLSEXT_PADDING = 1 << 4
_PADDED_RECORD = 517
_ALPN_HEADER = 7
_LONGEST_PROTOCOL = 255
_SERVER_NAME = 0
_NOBODY = ("testbed.invalid", 0)
_PLAYED_AS_12 = {"1.0", "1.1"}
TESTBED = "testbed"
"""Stands for the authority that the testbed's own certificates come from."""


class TlsEnd:
    """One end of a TLS connection: bytes of the wire in and out, plain bytes on the other side."""

    def __init__(
        self, context: ssl.SSLContext, name: str | None = None, session: ssl.SSLSession | None = None,
        *, server: bool = False,
    ) -> None:  # fmt: skip
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=name, session=session
        )
        self.established = False
        self.broken = False

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later connection can resume; None before the handshake is done."""
        return self._tls.session if self.established else None

    @property
    def peer_certificate(self) -> bytes:
        """The certificate that the peer showed, as DER; empty if it showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def begin(self) -> bytes:
        """Return the client's first words."""
        self._shake()
        return self._outgoing.read()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
            self.established = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.broken = True

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Take bytes of the wire; return plain bytes, bytes to send, and whether the peer ended TLS."""
        self._incoming.write(data)
        if not self.established and not self.broken:
            self._shake()
        plain, ended = [], self.broken
        while self.established and not ended:
            try:
                part = self._tls.read(_RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                ended = True
                break
            if not part:
                ended = True
            plain.append(part)
        return b"".join(plain), self._outgoing.read(), ended

    def protect(self, data: bytes) -> bytes:
        """Return `data` as records."""
        self._tls.write(data)
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """Return the close_notify alert."""
        with suppress(ssl.SSLError, ValueError):  # it waits for the peer's, which nobody needs
            self._tls.unwrap()
        return self._outgoing.read()


class Certificates:
    """The servers' certificates, made as large as the clients' models say."""

    def __init__(self) -> None:
        self._wishes: dict[tuple[str, int], dict[str | None, tuple[str, int]]] = {}

    def expect(self, address: str, port: int, hello: TlsHello, service: str) -> None:
        """Prepare the server at an address for a client that will open TLS like this."""
        host = hello.sni or service
        self._wishes.setdefault((address, port), {})[hello.sni] = (host, hello.chain_bytes)

    def server_side(self, at: tuple[str, int], hello: bytes) -> TlsEnd:
        """Return the server's end of a new connection to the address and port that begins with `hello`."""
        wishes = self._wishes.get(at, {})
        wanted = wishes.get(_server_name(hello)) or next(iter(wishes.values()), _NOBODY)
        return TlsEnd(_server_context(*wanted), server=True)


def _server_name(hello: bytes) -> str | None:
    """Return the host that a ClientHello names (RFC 6066 §3); None if it names none, or is cut short."""
    try:
        at = 5 + 4 + 2 + 32  # record, handshake, version, random
        at += 1 + hello[at]  # session
        at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
        at += 1 + hello[at]  # compression
        end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
        at += 2
        while at + 4 <= min(end, len(hello)):
            kind, length = (
                int.from_bytes(hello[at : at + 2], "big"),
                int.from_bytes(hello[at + 2 : at + 4], "big"),
            )
            if kind == _SERVER_NAME:
                return hello[at + 9 : at + 4 + length].decode("ascii")
            at += 4 + length
    except (IndexError, UnicodeDecodeError):
        pass
    return None


def _load(pem: bytes, key_pem: bytes, context: ssl.SSLContext) -> None:
    """Load a chain that exists in memory alone: OpenSSL's binding reads files only."""
    fd = os.memfd_create("chain")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(pem + key_pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@lru_cache(maxsize=1024)
def _server_context(host: str, chain_bytes: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    chain = certs.chain(host, chain_bytes)
    _load(chain.pem, chain.key_pem, context)
    context.num_tickets = 1
    return context


def client_end(
    hello: TlsHello, session: ssl.SSLSession | None, authorities: str | None = TESTBED
) -> TlsEnd:  # fmt: skip
    """Return the client's end of a new connection, shaped as the model says.

    `authorities` are whose certificates it trusts, as PEM; such a server must also show the name that it
    was asked for. `TESTBED` trusts the testbed's own, None whoever answers.
    """
    return TlsEnd(
        _client_context(hello.version, hello.sni, hello.hello_bytes, authorities), hello.sni, session
    )


@lru_cache(maxsize=1024)
def _client_context(
    version: str, name: str | None, hello_bytes: int, authorities: str | None
) -> ssl.SSLContext:  # fmt: skip
    context = _context(version, *_shape(version, name, hello_bytes))
    if authorities is None:
        context.verify_mode = ssl.CERT_NONE
    elif authorities == TESTBED:
        context.load_verify_locations(cadata=certs.root_pem().decode())
    else:
        context.load_verify_locations(cadata=authorities)
        context.check_hostname = name is not None
    return context


def _shape(version: str, name: str | None, hello_bytes: int) -> tuple[int, int, bool]:
    """Return suites, ALPN bytes and padding of the hello nearest to `hello_bytes`, never below the least."""

    def size(suites: int, alpn_bytes: int = 0, padding: bool = False) -> int:
        return len(TlsEnd(_context(version, suites, alpn_bytes, padding), name).begin())

    if hello_bytes == _PADDED_RECORD and size(len(_SUITES), padding=True) == hello_bytes:
        return len(_SUITES), 0, True
    best = 1
    for suites in range(2, len(_SUITES) + 1):
        if size(suites) > hello_bytes:
            break
        best = suites
    if hello_bytes - size(best) <= _ALPN_HEADER:
        return best, 0, False
    count = next((n for n in range(len(_SUITES), 0, -1) if hello_bytes - size(n) > _ALPN_HEADER), 1)
    return count, hello_bytes - size(count), False


def _context(version: str, suites: int, alpn_bytes: int, padding: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    top = ssl.TLSVersion.TLSv1_3 if version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.minimum_version = context.maximum_version = top
    context.set_ciphers(":".join(_SUITES[:suites]))
    context.options &= ~_TLSEXT_PADDING
    if padding:
        context.options |= _TLSEXT_PADDING
    if alpn_bytes > _ALPN_HEADER:
        context.set_alpn_protocols(_protocols(alpn_bytes - _ALPN_HEADER + 1))
    return context


def _protocols(size: int) -> list[str]:
    """Return ALPN names that take `size` bytes, their length bytes included."""
    names = []
    while size > 1:
        take = min(size, _LONGEST_PROTOCOL + 1)
        if size - take == 1:
            take -= 1
        names.append("http/1.1" if take == 9 else "x" * (take - 1))
        size -= take
    return names


def played_as_12(model: DeviceModel) -> bool:
    """Tell whether a device speaks a TLS that is played as 1.2 here."""
    parts = (part for habit in model.habits for part in dict(habit).values())
    endpoints = (end for part in parts for end in (part if isinstance(part, tuple) else (part,)))
    return any(
        tls.version in _PLAYED_AS_12 for end in endpoints if (tls := getattr(end, "tls", None)) is not None
    )
