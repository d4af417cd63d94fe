"""TLS: sizes are exact, records add up, certificates are real and equal for equal names."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from testbed.host import TlsHello
from testbed.protocols import certs, tls

RANDOM, OTHER = bytes(range(32)), bytes(range(32, 64))
VERSIONS = ["1.0", "1.1", "1.2", "1.3"]


@given(st.sampled_from(VERSIONS), st.integers(230, 900), st.sampled_from([None, "devs.tplinkcloud.com"]))
def test_a_hello_has_exactly_the_size_of_the_model(version: str, size: int, sni: str | None) -> None:
    data = tls.client_hello(TlsHello(sni, version, size), RANDOM)
    assert len(data) == size
    (record,) = tls.records(data)
    assert record[:2] == (tls.HANDSHAKE, 0x0301)
    assert (b"devs.tplinkcloud.com" in data) is (sni is not None)


def test_a_hello_that_cannot_be_so_small_has_the_least_size() -> None:
    least = len(tls.client_hello(TlsHello("devs.tplinkcloud.com", "1.2", 0), RANDOM))
    assert 100 < least < 160
    assert len(tls.client_hello(TlsHello("devs.tplinkcloud.com", "1.2", least), RANDOM)) == least


def test_a_resuming_hello_offers_ticket_and_session_in_the_same_size() -> None:
    fresh = tls.client_hello(TlsHello(None, "1.2", 517), RANDOM)
    again = tls.client_hello(TlsHello(None, "1.2", 517, resume=True), RANDOM, OTHER)
    assert len(fresh) == len(again) == 517
    assert OTHER in again
    assert tls.ticket(OTHER) in again
    assert tls.ticket(OTHER) in tls.server_finish(TlsHello(None), RANDOM, OTHER)


@pytest.mark.parametrize("version", VERSIONS)
def test_handshakes_are_whole_records_and_resuming_spares_the_certificate(version: str) -> None:
    hello = TlsHello("a.example", version)
    chain = certs.chain("a.example", 3200).certificate_list
    full = tls.server_flight(hello, OTHER, chain) + tls.server_finish(hello, OTHER)
    short = tls.resumed_server_flight(hello, OTHER, RANDOM)
    for flight in (full, short, tls.client_flight(hello, RANDOM), tls.resumed_client_flight(hello, RANDOM)):
        assert tls.records(flight)
    assert 3200 < len(full) < 3200 + 900
    assert len(short) < 300


@pytest.mark.parametrize(
    ("version", "plain", "wire"),
    [("1.2", 1, 30), ("1.2", 700, 729), ("1.2", 16384, 16413), ("1.2", 16385, 16413 + 30), ("1.3", 700, 722),
     ("1.0", 700, 5 + 736), ("1.1", 700, 5 + 736 + 16), ("1.2", 0, 0)],
)  # fmt: skip
def test_application_data_grows_by_its_overhead(version: str, plain: int, wire: int) -> None:
    assert tls.protected_length(plain, version) == wire
    assert len(tls.application_data(plain, RANDOM, version)) == wire
    assert sum(tls.record_sizes(plain, version)) == wire


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"TLS '0.9' is not known; valid: 1.0, 1.1, 1.2, 1.3"):
        tls.client_hello(TlsHello(None, "0.9"), RANDOM)


@pytest.mark.parametrize("total", [900, 1600, 3200, 4800, 9000])
def test_a_chain_has_the_size_of_the_model(total: int) -> None:
    chain = certs.chain("devs.tplinkcloud.com", total)
    assert abs(chain.total_bytes - total) <= 4
    assert len(chain.certificate_list) == chain.total_bytes + 3 * len(chain.certificates)


def test_equal_names_have_equal_certificates_and_others_have_others() -> None:
    first = certs.chain("a.example", 3000)
    certs.chain.cache_clear()
    assert certs.chain("a.example", 3000) == first
    assert certs.chain("b.example", 3000).certificates[0] != first.certificates[0]


def test_a_chain_is_valid_for_its_name_over_the_century() -> None:
    leaf, issuer = map(x509.load_der_x509_certificate, certs.chain("a.example", 3000).certificates)
    root = x509.load_pem_x509_certificate(certs.root_pem())
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)
    assert leaf.not_valid_before_utc.year == 2000
    assert leaf.not_valid_after_utc.year == 2099
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]


def test_openssl_shakes_hands_with_the_chain(tmp_path) -> None:  # type: ignore[no-untyped-def]
    chain = certs.chain("a.example", 3000)
    file = tmp_path / "chain.pem"
    file.write_bytes(chain.pem + chain.key_pem)
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.load_cert_chain(file)
    theirs.load_verify_locations(cadata=certs.root_pem().decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(up, down, server_side=True)
    client = theirs.wrap_bio(down, up, server_hostname="a.example")
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert client.getpeercert(binary_form=True) == chain.certificates[0]
