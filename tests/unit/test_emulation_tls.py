"""Real TLS between memory buffers: sizes as the models give them, names, resumption."""

from __future__ import annotations

import pytest

from testbed.emulation.tls import Certificates, TlsEnd, client_end
from testbed.host import TlsHello

AT, ELSEWHERE = ("198.18.1.1", 443), ("198.18.2.2", 443)


def shake(client: TlsEnd, certificates: Certificates, at: tuple[str, int]) -> list[int]:
    """Shake hands; return the sizes of the flights in turn."""
    out = client.begin()
    server = certificates.server_side(at, out)
    sizes = [len(out)]
    for _ in range(4):
        _, back, _ = server.feed(out)
        _, out, _ = client.feed(back)
        sizes += [len(back), len(out)]
        if not out:
            break
    assert client.established
    assert server.established
    plain, _, _ = server.feed(client.protect(b"hello"))
    assert plain == b"hello"
    return sizes


@pytest.mark.parametrize("size", [150, 222, 307, 400, 517, 600])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", ["api.example.com", None])
def test_the_client_hello_is_as_large_as_the_model_says(size: int, version: str, name: str | None) -> None:
    sent = client_end(TlsHello(name, version, size), None).begin()
    least = len(client_end(TlsHello(name, version, 0), None).begin())
    assert abs(len(sent) - max(size, least)) <= 7  # ALPN costs 7 bytes before its first name
    assert sent[:1] == b"\x16"


def test_the_certificate_chain_is_as_large_as_the_model_says() -> None:
    sizes = {}
    for chain in (2500, 6000):
        certificates = Certificates()
        hello = TlsHello("api.example.com", "1.2", 222, chain)
        certificates.expect(*AT, hello, "cloud")
        sizes[chain] = shake(client_end(hello, None), certificates, AT)[1]
    assert sizes[6000] - sizes[2500] == 3500


def test_servers_of_several_names_know_them_apart() -> None:
    certificates = Certificates()
    hellos = [TlsHello(name, "1.2", 222, 3000) for name in ("a.example.com", "b.example.com", None)]
    for hello in hellos:
        certificates.expect(*AT, hello, "cloud")
    for hello in hellos:
        client = client_end(hello, None)
        shake(client, certificates, AT)
        expected = hello.sni or "cloud"
        assert expected.encode() in client.peer_certificate


def test_a_session_is_resumed_at_another_address_of_the_same_service() -> None:
    certificates = Certificates()
    for at in (AT, ELSEWHERE):
        certificates.expect(*at, TlsHello("other.example.com", chain_bytes=2000), "cloud")
        certificates.expect(*at, TlsHello("api.example.com", chain_bytes=5000), "cloud")
    hello = TlsHello("api.example.com", "1.2", 222, 5000, resume=True)
    first = client_end(hello, None)
    full = shake(first, certificates, AT)
    again = shake(client_end(hello, first.session), certificates, ELSEWHERE)
    assert full[1] > 5000
    assert again[1] < 500


def test_garbage_breaks_the_connection_not_the_program() -> None:
    certificates = Certificates()
    certificates.expect(*AT, TlsHello("api.example.com"), "cloud")
    server = certificates.server_side(AT, b"\x16\x03\x01\x00\x05\x01\x00")
    _, _, ended = server.feed(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + b"x" * 100)
    assert ended
