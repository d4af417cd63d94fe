"""TLS records and handshakes with the right sizes and shapes, without any cryptography.

For the simulation, where TLS is sizes and times: what is secret on a real wire (keys, signatures,
ciphertext) is filler made from the random bytes given. TLS 1.2 is ECDHE-ECDSA with an Ed25519
certificate and AES-128-GCM, as OpenSSL makes it of our certificates; TLS 1.0 and 1.1 are RSA with
AES-128-CBC-SHA; TLS 1.3 is X25519 with AES-128-GCM and hides its handshake in application data.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import shake_256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.host import TlsHello

RECORD_HEADER_BYTES = 5
MOST_PLAINTEXT = 16384
"""Bytes of plaintext in one record (RFC 5246 §6.2.1)."""

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
TICKET_BYTES = 192
"""Size of a session ticket, as OpenSSL makes them (RFC 5077 §4)."""

_VERSIONS = {"1.0": 0x0301, "1.1": 0x0302, "1.2": 0x0303, "1.3": 0x0304}
_SUITES = {"1.0": 0x002F, "1.1": 0x002F, "1.2": 0xC02B, "1.3": 0x1301}
_SUITES_13 = (0x1301, 0x1302, 0x1303)
_SUITES_12 = (0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC009, 0xC013, 0xC00A, 0xC014, 0x009C, 0x009D)
_SUITES_10 = (0x002F, 0x0035, 0xC009, 0xC013, 0xC00A, 0xC014, 0x0033, 0x0039, 0x000A)
_RENEGOTIATION_SCSV = 0x00FF
_RANDOM_AT = 5 + 4 + 2
"""Where the random stands in a hello: behind record header, message header and version."""

_SERVER_NAME, _STATUS_REQUEST, _GROUPS, _POINT_FORMATS, _SIGNATURES, _ALPN, _SCT = 0, 5, 10, 11, 13, 16, 18
_PADDING, _MASTER_SECRET, _TICKET, _SUPPORTED_VERSIONS, _KEY_MODES, _KEY_SHARE = 21, 23, 35, 43, 45, 51
_PRE_SHARED_KEY = 41
_DROPPED_FIRST = (_SCT, _ALPN, _STATUS_REQUEST, _MASTER_SECRET, _POINT_FORMATS)
"""Extensions that a small hello goes without, in this order."""


def client_hello(hello: TlsHello, random32: bytes, session_id: bytes = b"") -> bytes:
    """Return the ClientHello record, of exactly ``hello.hello_bytes`` where that is possible.

    The padding extension (RFC 7685) makes it longer, leaving out extensions and cipher suites makes
    it shorter; below the least possible size it has the least. With ``hello.resume`` and the
    32-byte `session_id` of the earlier connection it offers that session, and its ticket where the
    version has one and it fits.
    """
    _check(hello.version, random32)
    offered = hello.resume and bool(session_id)
    if hello.version == "1.3":  # its key share is random too
        return _client_hello("1.3", hello.sni or "", hello.hello_bytes, offered, random32, session_id)
    same = _client_hello(hello.version, hello.sni or "", hello.hello_bytes, offered, bytes(32), session_id)
    return same[:_RANDOM_AT] + random32 + same[_RANDOM_AT + 32 :]


@lru_cache(maxsize=256)
def _client_hello(
    version: str, sni: str, wanted: int, resume: bool, random32: bytes, session_id: bytes
) -> bytes:
    suites = {"1.3": _SUITES_13 + _SUITES_12, "1.2": _SUITES_12}.get(version, _SUITES_10)
    extensions = _client_extensions(version, sni, resume, random32, session_id)
    if version == "1.3" and not session_id:
        session_id = shake_256(b"id" + random32).digest(32)  # compatibility mode (RFC 8446 §D.4)
    kept = suites
    for leave_out in range(len(_DROPPED_FIRST) + 1):
        chosen = {code: data for code, data in extensions.items() if code not in _DROPPED_FIRST[:leave_out]}
        for kept in (suites, suites[: max(2, len(suites) // 2)], suites[:1]):
            bare = _hello_record(version, random32, session_id, kept, chosen)
            if len(bare) == wanted:
                return bare
            padding = wanted - len(_hello_record(version, random32, session_id, kept, chosen, 0))
            if padding >= 0:
                return _hello_record(version, random32, session_id, kept, chosen, padding)
    if chosen.get(_TICKET):  # the session identifier alone offers the session too
        return _client_hello(version, sni, wanted, False, random32, session_id)
    return _hello_record(version, random32, session_id, kept, chosen)


def _hello_record(
    version: str,
    random32: bytes,
    session_id: bytes,
    suites: tuple[int, ...],
    extensions: dict[int, bytes],
    padding: int | None = None,
) -> bytes:
    numbers = (*suites, _RENEGOTIATION_SCSV)
    blocks = [_extension(code, data) for code, data in extensions.items() if code != _PRE_SHARED_KEY]
    if padding is not None:
        blocks.append(_extension(_PADDING, bytes(padding)))
    if _PRE_SHARED_KEY in extensions:  # must stand last (RFC 8446 §4.2.11)
        blocks.append(_extension(_PRE_SHARED_KEY, extensions[_PRE_SHARED_KEY]))
    body = b"".join((
        _VERSIONS[min(version, "1.2")].to_bytes(2, "big"), random32, _vector(1, session_id),
        _vector(2, b"".join(suite.to_bytes(2, "big") for suite in numbers)), b"\x01\x00",
        _vector(2, b"".join(blocks)) if blocks else b"",
    ))  # fmt: skip
    return record(HANDSHAKE, _message(1, body), 0x0301)  # the first record says 1.0 (RFC 5246 §E.1)


def _client_extensions(
    version: str, sni: str, resume: bool, random32: bytes, session_id: bytes
) -> dict[int, bytes]:
    """Return the extensions in order of their place in the message."""
    found: dict[int, bytes] = {}
    if sni:
        found[_SERVER_NAME] = _vector(2, b"\0" + _vector(2, sni.encode("idna")))
    if version in ("1.0", "1.1"):
        return found
    found[_MASTER_SECRET] = b""
    found[_GROUPS] = _vector(2, bytes.fromhex("001d00170018"))
    found[_POINT_FORMATS] = b"\x01\x00"
    if version == "1.2":
        found[_TICKET] = ticket(session_id) if resume else b""
    found[_ALPN] = _vector(2, b"\x08http/1.1")
    found[_STATUS_REQUEST] = b"\x01\0\0\0\0"
    found[_SIGNATURES] = _vector(2, bytes.fromhex("0403080404010503080505010806060108070201"))
    found[_SCT] = b""
    if version == "1.3":
        found[_KEY_SHARE] = _vector(2, b"\x00\x1d" + _vector(2, shake_256(b"share" + random32).digest(32)))
        found[_KEY_MODES] = b"\x01\x01"
        found[_SUPPORTED_VERSIONS] = b"\x04\x03\x04\x03\x03"
        if resume:
            identity = _vector(2, ticket(session_id)) + shake_256(b"age" + random32).digest(4)
            binder = _vector(1, shake_256(b"binder" + random32).digest(32))
            found[_PRE_SHARED_KEY] = _vector(2, identity) + _vector(2, binder)
    return found


def ticket(session_id: bytes) -> bytes:
    """Return the session ticket that goes with a session."""
    return shake_256(b"ticket" + session_id).digest(TICKET_BYTES)


def server_flight(
    hello: TlsHello, random32: bytes, certificate_list: bytes, session_id: bytes = b""
) -> bytes:
    """Return the server's first flight of a full handshake.

    ServerHello, Certificate, ServerKeyExchange (not for RSA), ServerHelloDone; in TLS 1.3
    ServerHello, ChangeCipherSpec and the encrypted rest. `certificate_list` is as
    `certs.Chain.certificate_list` has it.
    """
    version, number = hello.version, _VERSIONS[min(hello.version, "1.2")]
    _check(version, random32)
    greeting = record(HANDSHAKE, _server_hello(version, random32, session_id), number)
    if version == "1.3":
        count = _certificates(certificate_list)
        hidden = 6 + 4 + 1 + 3 + len(certificate_list) + 2 * count + 4 + 4 + 64 + 4 + 32
        return greeting + _CCS[number] + application_data(hidden, random32, version)
    rest = record(HANDSHAKE, _message(14, b""), number)
    if version == "1.2":
        point = b"\x04" + shake_256(b"point" + random32).digest(64)
        signature = shake_256(b"signature" + random32).digest(64)
        exchange = b"\x03\x00\x17" + _vector(1, point) + b"\x08\x07" + _vector(2, signature)
        rest = record(HANDSHAKE, _message(12, exchange), number) + rest
    return greeting + _certificate_record(certificate_list, number) + rest


@lru_cache(maxsize=256)
def _certificate_record(certificate_list: bytes, number: int) -> bytes:
    return record(HANDSHAKE, _message(11, _vector(3, certificate_list)), number)


def _server_hello(version: str, random32: bytes, session_id: bytes) -> bytes:
    blocks = [_extension(0xFF01, b"\x00")]
    if version == "1.2":
        blocks += [
            _extension(_POINT_FORMATS, b"\x01\x00"),
            _extension(_TICKET, b""),
            _extension(_MASTER_SECRET, b""),
        ]
    if version == "1.3":
        share = b"\x00\x1d" + _vector(2, shake_256(b"share" + random32).digest(32))
        blocks = [_extension(_SUPPORTED_VERSIONS, b"\x03\x04"), _extension(_KEY_SHARE, share)]
    body = b"".join((
        _VERSIONS[min(version, "1.2")].to_bytes(2, "big"), random32, _vector(1, session_id),
        _SUITES[version].to_bytes(2, "big"), b"\x00", _vector(2, b"".join(blocks)),
    ))  # fmt: skip
    return _message(2, body)


def client_flight(hello: TlsHello, random32: bytes) -> bytes:
    """Return the client's second flight: ClientKeyExchange, ChangeCipherSpec, Finished."""
    _check(hello.version, random32)
    number = _VERSIONS[min(hello.version, "1.2")]
    if hello.version == "1.3":
        return _CCS[number] + application_data(4 + 32, random32, "1.3")
    if hello.version == "1.2":
        key = _vector(1, b"\x04" + shake_256(b"client point" + random32).digest(64))
    else:
        key = _vector(2, shake_256(b"premaster" + random32).digest(256))
    return record(HANDSHAKE, _message(16, key), number) + _finish(hello.version, random32)


def server_finish(hello: TlsHello, random32: bytes, session_id: bytes = b"") -> bytes:
    """Return the server's second flight: NewSessionTicket, ChangeCipherSpec, Finished.

    TLS 1.3 has two encrypted tickets there; TLS 1.0 and 1.1 resume by session identifier, without.
    """
    _check(hello.version, random32)
    if hello.version == "1.3":
        # type and length, lifetime, age_add, nonce, ticket, no extensions (RFC 8446 §4.6.1)
        return b"".join(
            application_data(4 + 4 + 4 + 9 + 2 + TICKET_BYTES + 2, part + random32, "1.3")
            for part in (b"a", b"b")
        )
    if hello.version == "1.2":
        fresh = _message(4, (7200).to_bytes(4, "big") + _vector(2, ticket(session_id)))
        return record(HANDSHAKE, fresh, 0x0303) + _finish("1.2", random32)
    return _finish(hello.version, random32)


def resumed_server_flight(hello: TlsHello, random32: bytes, session_id: bytes) -> bytes:
    """Return the server's only flight of an abbreviated handshake: ServerHello, CCS, Finished."""
    _check(hello.version, random32)
    number = _VERSIONS[min(hello.version, "1.2")]
    greeting = record(HANDSHAKE, _server_hello(hello.version, random32, session_id), number)
    if hello.version == "1.3":
        return greeting + _CCS[number] + application_data(6 + 4 + 32, random32, "1.3")
    return greeting + _finish(hello.version, random32)


def resumed_client_flight(hello: TlsHello, random32: bytes) -> bytes:
    """Return the client's second flight of an abbreviated handshake: ChangeCipherSpec, Finished."""
    _check(hello.version, random32)
    if hello.version == "1.3":
        return client_flight(hello, random32)
    return _finish(hello.version, random32)


def _finish(version: str, random32: bytes) -> bytes:
    """Return ChangeCipherSpec and the encrypted Finished (12 bytes of verify data, RFC 5246 §7.4.9)."""
    number = _VERSIONS[version]
    return _CCS[number] + record(HANDSHAKE, _sealed(4 + 12, b"finished" + random32, version), number)


def application_data(plaintext_len: int, filler: bytes = b"", version: str = "1.2") -> bytes:
    """Return the records that carry `plaintext_len` bytes, with ciphertext made from `filler`."""
    number = _VERSIONS[min(version, "1.2")]
    return b"".join(
        record(APPLICATION_DATA, _sealed(size, filler + index.to_bytes(2, "big"), version), number)
        for index, size in enumerate(_plain_sizes(plaintext_len))
    )


def record_sizes(plaintext_len: int, version: str = "1.2") -> tuple[int, ...]:
    """Return the bytes of each record, header included, that carries `plaintext_len` bytes."""
    return tuple(5 + _sealed_bytes(size, version) for size in _plain_sizes(plaintext_len))


def protected_length(plaintext_len: int, version: str = "1.2") -> int:
    """Return the bytes on the wire of `plaintext_len` bytes of application data."""
    if plaintext_len <= MOST_PLAINTEXT:
        return 5 + _sealed_bytes(plaintext_len, version) if plaintext_len else 0
    return sum(record_sizes(plaintext_len, version))


def alert(random32: bytes, version: str = "1.2") -> bytes:
    """Return the encrypted close_notify that precedes a FIN."""
    if version == "1.3":
        return application_data(2, b"alert" + random32, version)
    return record(ALERT, _sealed(2, b"alert" + random32, version), _VERSIONS[version])


def plain_alert(description: int, version: str = "1.2") -> bytes:
    """Return an unencrypted fatal alert, as a refused handshake ends (40 is handshake_failure)."""
    return record(ALERT, bytes((2, description)), _VERSIONS[min(version, "1.2")])


def record(content_type: int, payload: bytes, version: int = 0x0303) -> bytes:
    """Return one record: content type, version, length, payload."""
    return bytes((content_type,)) + version.to_bytes(2, "big") + _vector(2, payload)


def records(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return (content type, version, payload) of whole records; ValueError on anything else."""
    found, at = [], 0
    while at < len(data):
        if at + 5 > len(data):
            raise ValueError("a TLS record header is cut off")
        kind, version, size = data[at], data[at + 1] << 8 | data[at + 2], data[at + 3] << 8 | data[at + 4]
        if (
            not CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA
            or version >> 8 != 3
            or size > MOST_PLAINTEXT + 2048
        ):
            raise ValueError("not a TLS record")
        if at + 5 + size > len(data):
            raise ValueError("a TLS record is cut off")
        found.append((kind, version, data[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


def _plain_sizes(total: int) -> Iterable[int]:
    full, rest = divmod(total, MOST_PLAINTEXT)
    return [MOST_PLAINTEXT] * full + ([rest] if rest else [])


def _sealed_bytes(plaintext_len: int, version: str) -> int:
    if version == "1.2":
        return plaintext_len + 8 + 16  # explicit nonce and tag (RFC 5288 §3)
    if version == "1.3":
        return plaintext_len + 1 + 16  # inner content type and tag (RFC 8446 §5.2)
    blocks = (plaintext_len + 20) // 16 + 1  # HMAC-SHA1, then 1 to 16 bytes of padding
    return blocks * 16 + (16 if version == "1.1" else 0)  # explicit IV since 1.1 (RFC 4346 §6.2.3.2)


@lru_cache(maxsize=2048)
def _sealed(plaintext_len: int, filler: bytes, version: str) -> bytes:
    return shake_256(filler).digest(_sealed_bytes(plaintext_len, version))


def _certificates(certificate_list: bytes) -> int:
    count = at = 0
    while at + 3 <= len(certificate_list):
        at += 3 + int.from_bytes(certificate_list[at : at + 3], "big")
        count += 1
    return count


def _message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _vector(3, body)


def _extension(code: int, data: bytes) -> bytes:
    return code.to_bytes(2, "big") + _vector(2, data)


def _vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _check(version: str, random32: bytes) -> None:
    if version not in _VERSIONS:
        raise ValueError(f"TLS {version!r} is not known; valid: {', '.join(_VERSIONS)}")
    if len(random32) != 32:
        raise ValueError(f"a TLS random has 32 bytes, not {len(random32)}")


_CCS = {number: record(CHANGE_CIPHER_SPEC, b"\x01", number) for number in _VERSIONS.values()}
