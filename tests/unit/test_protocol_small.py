"""IGMP, ICMP and ARP against scapy; SSDP, Weave, MCS and local control against their descriptions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.igmp import IGMP, IGMPv3_MQ, IGMPv3_MR, IGMPv3_MR_Group
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP

from testbed.protocols import arp, gcm, icmp, igmp, ssdp, tplink, weave
from testbed.protocols.checksum import internet_checksum

GROUP = "239.255.255.250"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (igmp.v2_report(GROUP), IGMP(type=0x16, mrcode=0, gaddr=GROUP)),
        (igmp.leave(GROUP), IGMP(type=0x17, mrcode=0, gaddr=GROUP)),
        (igmp.query(), IGMP(type=0x11, mrcode=100, gaddr="0.0.0.0")),
        (igmp.query(GROUP, 1.0), IGMP(type=0x11, mrcode=10, gaddr=GROUP)),
        (
            igmp.v3_report(((igmp.TO_EXCLUDE, GROUP, ()), (igmp.ALLOW_NEW, "224.0.0.251", ("10.0.0.1",)))),
            IGMPv3_MR(type=0x22, records=[
                IGMPv3_MR_Group(rtype=4, maddr=GROUP),
                IGMPv3_MR_Group(rtype=5, maddr="224.0.0.251", srcaddrs=["10.0.0.1"]),
            ]),
        ),
        (igmp.query(version=3), IGMPv3_MQ(type=0x11, mrcode=100, gaddr="0.0.0.0", qrv=2, qqic=125)),
    ],
)  # fmt: skip
def test_igmp_is_built_as_scapy_builds_it(ours: bytes, theirs: IGMP) -> None:
    expected = bytes(theirs)
    checksum = internet_checksum(expected[:2] + b"\0\0" + expected[4:]).to_bytes(2, "big")
    assert ours == expected[:2] + checksum + expected[4:]
    assert internet_checksum(ours) == 0


def test_igmp_is_read() -> None:
    assert igmp.parse(igmp.query()).general
    assert igmp.parse(igmp.query(GROUP, 1.0)) == igmp.Igmp("query", 2, GROUP, 1.0)
    assert igmp.parse(igmp.v2_report(GROUP)) == igmp.Igmp("report", 2, GROUP)
    assert igmp.parse(igmp.leave(GROUP)) == igmp.Igmp("leave", 2, GROUP)
    report = igmp.parse(
        igmp.v3_report(((igmp.IS_EXCLUDE, GROUP, ()), (igmp.BLOCK_OLD, GROUP, ("10.0.0.1",))))
    )
    assert report.groups == (igmp.Group(2, GROUP), igmp.Group(6, GROUP, ("10.0.0.1",)))


@given(st.integers(0, 31743))
def test_a_v3_response_time_is_coded_within_its_precision(tenths: int) -> None:
    read = igmp.parse(igmp.query(max_response_s=tenths / 10, version=3)).max_response_s * 10
    assert read == pytest.approx(tenths, rel=1 / 16)


@given(st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=70))
def test_echoes_are_scapys(ident: int, sequence: int, payload: bytes) -> None:
    ours = icmp.echo_request(ident, sequence, payload)
    assert ours == bytes(ICMP(type=8, id=ident, seq=sequence) / payload)
    assert icmp.echo_reply(ours) == bytes(ICMP(type=0, id=ident, seq=sequence) / payload)


def test_unreachable_quotes_the_packet() -> None:
    packet = bytes(IP(src="192.168.1.9", dst="8.8.8.8") / UDP(sport=4000, dport=53) / (b"x" * 1000))
    message = icmp.unreachable(icmp.HOST_UNREACHABLE, packet)
    read = ICMP(message)
    assert (read.type, read.code) == (3, 1)
    assert read.payload.dst == "8.8.8.8"
    assert message[8:] == packet[:548]
    assert icmp.parse(icmp.unreachable(icmp.PORT_UNREACHABLE, packet)).payload[:20] == packet[:20]


def test_arp_is_scapys() -> None:
    mac, other = "50:c7:bf:00:00:01", "20:4e:7f:00:00:01"
    asked = arp.request(mac, "192.168.1.9", "192.168.1.1")
    assert asked == bytes(
        ARP(op=1, hwsrc=mac, psrc="192.168.1.9", hwdst="00:00:00:00:00:00", pdst="192.168.1.1")
    )
    answered = arp.reply(other, "192.168.1.1", mac, "192.168.1.9")
    assert answered == bytes(ARP(op=2, hwsrc=other, psrc="192.168.1.1", hwdst=mac, pdst="192.168.1.9"))
    assert arp.parse(answered + bytes(18)) == arp.Arp(2, other, "192.168.1.1", mac, "192.168.1.9")
    assert arp.parse(arp.probe(mac, "192.168.1.9")).sender_ip == "0.0.0.0"


def test_ssdp_messages_say_what_upnp_wants() -> None:
    search = ssdp.parse(ssdp.search("urn:dial-multiscreen-org:service:dial:1", 1))
    assert (search.kind, search.target) == ("M-SEARCH", "urn:dial-multiscreen-org:service:dial:1")
    assert search.headers["man"] == '"ssdp:discover"'
    assert search.headers["mx"] == "1"
    alive = ssdp.parse(
        ssdp.alive("upnp:rootdevice", "uuid:1::upnp:rootdevice", "http://192.168.1.4/d.xml", "Linux")
    )
    assert (alive.kind, alive.target, alive.headers["nts"]) == ("NOTIFY", "upnp:rootdevice", "ssdp:alive")
    assert ssdp.parse(ssdp.byebye("upnp:rootdevice", "u")).headers["nts"] == "ssdp:byebye"
    assert (
        ssdp.parse(ssdp.answer("upnp:rootdevice", "u", "http://192.168.1.4/", "Linux")).target
        == "upnp:rootdevice"
    )


@given(
    st.integers(weave.LEAST_BYTES, 3000),
    st.integers(weave.LEAST_BYTES, 3000) | st.just(0),
    st.integers(0, 2**32 - 1),
)
def test_weave_messages_have_the_sizes_asked_for(total: int, answer: int, ident: int) -> None:
    data = weave.message(
        total, source=1, destination=2**63, message_id=ident, exchange_id=9, answer_bytes=answer
    )
    read = weave.parse(data + b"next")
    assert len(data) == total == read.total_bytes
    assert not weave.complete(data[:-1])
    reply = weave.answer(read)
    assert len(reply) == answer
    if reply:
        back = weave.parse(reply)
        assert (back.source, back.destination, back.exchange_id, back.initiator) == (2**63, 1, 9, False)


def test_a_weave_message_too_small_names_the_least_bytes() -> None:
    with pytest.raises(ValueError, match=f"{weave.LEAST_BYTES} to 65537 bytes"):
        weave.message(20, source=1, destination=2, message_id=3, exchange_id=4)


@given(
    st.integers(0, 13),
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 2**63) | st.binary(max_size=40))),
)
def test_mcs_frames_round_trip(tag: int, fields: list[tuple[int, int | bytes]]) -> None:
    data = gcm.frame(tag, tuple(fields), first=True)
    read = gcm.parse(data + b"more", first=True)
    assert (read.tag, read.fields, read.length) == (tag, tuple(fields), len(data))


def test_mcs_begins_with_its_version_and_a_login() -> None:
    data = gcm.login_request(0x3F2504E0, 77)
    assert data[:2] == bytes((41, 2))
    read = gcm.parse(data, first=True)
    assert read.first(2) == b"mcs.android.com"
    assert read.first(6) == b"android-3f2504e0"
    with pytest.raises(ValueError, match="unknown MCS version 5"):
        gcm.parse(b"\x05\x00\x00", first=True)


def test_the_plugs_cipher_is_the_published_one() -> None:
    # the first bytes of {"system":{"get_sysinfo":{}}} as softScheck's tool sends them
    assert tplink.scramble(b'{"system"').hex() == "d0f281f88bff9af7d5"
    assert tplink.parse(tplink.message(tplink.set_relay(True))) == {
        "system": {"set_relay_state": {"state": 1}}
    }


@given(st.binary(max_size=200))
def test_the_plugs_cipher_is_undone(plain: bytes) -> None:
    assert tplink.unscramble(tplink.scramble(plain)) == plain


def test_local_control_is_json_behind_a_length() -> None:
    data = tplink.message(tplink.GET_REALTIME)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert json.loads(tplink.unscramble(data[4:])) == tplink.GET_REALTIME
    assert not tplink.complete(data[:-1])
