"""DHCP: scapy reads our messages as meant, and ours reads scapy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from testbed.protocols import dhcp

MAC = "50:c7:bf:00:c7:03"
HARDWARE = bytes.fromhex(MAC.replace(":", ""))


def options(data: bytes) -> dict[str, object]:
    return {
        item[0]: item[1] if len(item) == 2 else item[1:]
        for item in BOOTP(data)[DHCP].options
        if isinstance(item, tuple)
    }


def test_a_plugs_discover_is_read_by_scapy() -> None:
    data = dhcp.client_message(
        dhcp.DISCOVER, MAC, 0xDEADBEEF, secs=3, hostname="HS110(EU)", vendor_class="udhcp 0.9.9-pre",
        parameters=(1, 3, 6, 12, 15, 28), max_size=576, broadcast=True, pad_to=548,
    )  # fmt: skip
    head = BOOTP(data)
    assert len(data) == 548
    assert (head.op, head.xid, head.secs, int(head.flags)) == (1, 0xDEADBEEF, 3, 0x8000)
    assert head.chaddr[:6].hex(":") == MAC
    read = options(data)
    assert read["message-type"] == 1
    assert read["hostname"] == b"HS110(EU)"
    assert read["vendor_class_id"] == b"udhcp 0.9.9-pre"
    assert read["param_req_list"] == [1, 3, 6, 12, 15, 28]
    assert read["max_dhcp_size"] == 576
    assert read["client_id"] == b"\x01" + bytes.fromhex(MAC.replace(":", ""))


def test_scapys_answer_is_read() -> None:
    data = bytes(
        BOOTP(op=2, xid=5, yiaddr="192.168.1.9", siaddr="192.168.1.1", chaddr=HARDWARE)
        / DHCP(options=[
            ("message-type", "ack"), ("server_id", "192.168.1.1"), ("lease_time", 43200),
            ("renewal_time", 21600),
            ("rebinding_time", 37800), ("subnet_mask", "255.255.255.0"), ("router", "192.168.1.1"),
            ("name_server", "192.168.1.1", "8.8.8.8"), ("hostname", b"plug"), "end",
        ])
    )  # fmt: skip
    read = dhcp.parse(data)
    assert (read.kind, read.xid, read.mac, read.yiaddr, read.siaddr) == (
        "ACK",
        5,
        MAC,
        "192.168.1.9",
        "192.168.1.1",
    )
    assert (read.lease_s, read.t1, read.t2) == (43200, 21600, 37800)
    assert (read.server_id, read.mask, read.prefix, read.router) == (
        "192.168.1.1",
        "255.255.255.0",
        24,
        "192.168.1.1",
    )
    assert read.dns == ("192.168.1.1", "8.8.8.8")
    assert read.hostname == "plug"


@given(
    st.sampled_from(["DISCOVER", "REQUEST", "DECLINE", "RELEASE", "INFORM"]),
    st.integers(0, 2**32 - 1),
    st.ip_addresses(v=4).map(str),
    st.none() | st.ip_addresses(v=4).map(str),
    st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    st.integers(240, 576),
)
def test_a_client_message_is_read_back(
    kind: str, xid: int, ciaddr: str, requested: str | None, hostname: str | None, pad_to: int
) -> None:
    data = dhcp.client_message(
        kind, MAC, xid, ciaddr=ciaddr, requested_ip=requested, hostname=hostname, pad_to=pad_to
    )
    read = dhcp.parse(data)
    assert len(data) >= pad_to
    assert (read.kind, read.xid, read.mac, read.ciaddr) == (kind, xid, MAC, ciaddr)
    assert (read.requested_ip, read.hostname) == (requested, hostname)


def test_options_split_and_overloaded_are_joined() -> None:
    data = bytearray(dhcp.client_message(dhcp.DISCOVER, MAC, 1, client_id=False, pad_to=300))
    tail = bytes((53, 1, 1, 52, 1, 3, 12, 2)) + b"ab" + bytes((12, 1)) + b"c\xff"
    data[240 : 240 + len(tail)] = tail
    data[108:112] = bytes((12, 1)) + b"d\xff"  # in `file`
    data[44:48] = bytes((12, 1)) + b"e\xff"  # in `sname`
    assert dhcp.parse(bytes(data)).hostname == "abcde"


@pytest.mark.parametrize("kind", ["OFFER", "ACK", "NAK", "HELLO"])
def test_a_client_sends_no_answers(kind: str) -> None:
    with pytest.raises(ValueError, match="client sends no"):
        dhcp.client_message(kind, MAC, 1)


def test_an_answer_goes_where_rfc_2131_says() -> None:
    def answer(kind: str = dhcp.OFFER, **wishes: object) -> str:
        request = dhcp.parse(dhcp.client_message(dhcp.REQUEST, MAC, 1, **wishes))  # type: ignore[arg-type]
        data = dhcp.server_message(kind, request, server_id="192.168.1.1", yiaddr="192.168.1.9")
        return dhcp.target(dhcp.parse(data))

    assert answer() == "192.168.1.9"
    assert answer(broadcast=True) == "255.255.255.255"
    assert answer(dhcp.ACK, ciaddr="192.168.1.7") == "192.168.1.7"
    assert answer(dhcp.NAK, ciaddr="192.168.1.7") == "255.255.255.255"
