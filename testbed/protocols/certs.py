"""X.509 certificate chains of a wanted size, equal for equal names.

Keys are Ed25519, made from a SHA-256 of the name, so that a name always has the same certificate
and no key is kept anywhere; they protect nothing. Certificates hold from 2000 to 2099, whatever a
virtual clock shows. A comment extension fills a chain up to the size that the model gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

_BEGIN = datetime(2000, 1, 1)
_END = datetime(2099, 12, 31, 23, 59, 59)
_COMMENT = ObjectIdentifier("2.16.840.1.113730.1.13")
"""Netscape comment, an IA5String: every dissector knows it, nobody acts on it."""
_ROOT = "Testbed Root CA"
_ISSUER = "Testbed Issuing CA"


@dataclass(frozen=True, slots=True)
class Chain:
    """A server's certificates (leaf, then issuer) as DER, and the leaf's private key."""

    certificates: tuple[bytes, ...]
    key_der: bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of all certificates, without TLS's length fields."""
        return sum(map(len, self.certificates))

    @property
    def certificate_list(self) -> bytes:
        """The certificates as a TLS 1.2 Certificate message lists them (RFC 5246 §7.4.2)."""
        return b"".join(len(der).to_bytes(3, "big") + der for der in self.certificates)

    @property
    def pem(self) -> bytes:
        """The certificates as PEM, leaf first."""
        return b"".join(
            x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in self.certificates
        )

    @property
    def key_pem(self) -> bytes:
        """The leaf's private key as PEM (PKCS #8)."""
        key = load_der_private_key(self.key_der, None)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def root_pem() -> bytes:
    """Return the certificate that every chain leads to, for a client's trust store."""
    key = _key(_ROOT)
    return _build(_ROOT, key, _ROOT, key, authority=True).public_bytes(Encoding.PEM)


@lru_cache(maxsize=1024)
def chain(host: str, total_bytes: int = 0) -> Chain:
    """Return the chain of `host` (a DNS name) with `total_bytes` in all, or the least possible above it."""
    key = _key(host)
    pair = _pair(host, key, 0, 0)
    issuer_fill = max(0, total_bytes - sum(map(len, pair))) * 2 // 5
    leaf_fill = 0
    for _ in range(8):  # a longer extension may need longer DER lengths around it
        pair = _pair(host, key, leaf_fill, issuer_fill)
        miss = total_bytes - sum(map(len, pair))
        if miss == 0 or leaf_fill + miss < 0:
            break
        leaf_fill += miss
    return Chain(pair, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def _pair(host: str, key: Ed25519PrivateKey, leaf_fill: int, issuer_fill: int) -> tuple[bytes, bytes]:
    issuer, root = _key(_ISSUER), _key(_ROOT)
    leaf = _build(host, key, _ISSUER, issuer, leaf_fill).public_bytes(Encoding.DER)
    return leaf, _build(_ISSUER, issuer, _ROOT, root, issuer_fill, authority=True).public_bytes(Encoding.DER)


@lru_cache(maxsize=1024)
def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(b"key of " + name.encode()).digest())


def _build(
    subject: str,
    key: Ed25519PrivateKey,
    issuer: str,
    signer: Ed25519PrivateKey,
    fill: int = 0,
    authority: bool = False,
) -> x509.Certificate:
    serial = int.from_bytes(sha256(f"serial {subject} {fill}".encode()).digest()[:16], "big")
    serial = serial & (1 << 126) - 1 | 1 << 126  # always 16 octets
    builder = (
        x509.CertificateBuilder()
        .subject_name(_common_name(subject))
        .issuer_name(_common_name(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(_key_usage(authority), critical=True)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    if fill > 0:
        text = (b"Filler: brings this chain to the size its model gives. " * (fill // 55 + 1))[:fill]
        comment = b"\x16" + _der_length(fill) + text
        builder = builder.add_extension(x509.UnrecognizedExtension(_COMMENT, comment), critical=False)
    return builder.sign(signer, None)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # X.520 allows 64 characters


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _der_length(length: int) -> bytes:
    if length < 128:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets
