"""MQTT 3.1.1: every packet round-trips, and what the standard forbids is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.protocols import mqtt

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
TOPIC = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=12)
FILTER = st.sampled_from(["#", "+", "a/#", "+/b", "a/+/c", "/", "a//b"]) | TOPIC
IDENT = st.integers(1, 65535)
QOS = st.integers(0, 2)
WILL = st.builds(mqtt.Will, TOPIC, st.binary(max_size=9), QOS, st.booleans())


def publish(topic: str, payload: bytes, qos: int, retain: bool, duplicate: bool, ident: int) -> mqtt.Publish:
    return mqtt.Publish(topic, payload, qos, retain, duplicate and qos > 0, ident if qos else 0)


PASSWORD = st.none() | st.binary(max_size=9)
NUMBERED = (mqtt.Puback, mqtt.Pubrec, mqtt.Pubrel, mqtt.Pubcomp, mqtt.Unsuback)
CODES = st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=4).map(tuple)
PACKETS = st.one_of(
    st.builds(mqtt.Connect, TEXT, st.integers(0, 65535), st.booleans(), TEXT, PASSWORD, st.none() | WILL),
    st.sampled_from([mqtt.Connack(False, code) for code in range(6)] + [mqtt.Connack(True)]),
    st.builds(publish, TOPIC, st.binary(max_size=300), QOS, st.booleans(), st.booleans(), IDENT),
    st.one_of([st.builds(kind, IDENT) for kind in NUMBERED]),
    st.builds(mqtt.Subscribe, IDENT, st.lists(st.tuples(FILTER, QOS), min_size=1, max_size=4).map(tuple)),
    st.builds(mqtt.Suback, IDENT, CODES),
    st.builds(mqtt.Unsubscribe, IDENT, st.lists(FILTER, min_size=1, max_size=4).map(tuple)),
    st.sampled_from([mqtt.Pingreq(), mqtt.Pingresp(), mqtt.Disconnect()]),
)  # fmt: skip


@given(PACKETS)
def test_every_packet_round_trips(packet: mqtt.Packet) -> None:
    assert mqtt.decode(packet.encode()) == packet


@given(st.lists(PACKETS, max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_a_stream_cut_anywhere_gives_the_same_packets(packets: list[mqtt.Packet], cuts: list[int]) -> None:
    stream = b"".join(packet.encode() for packet in packets)
    decoder, found, at = mqtt.Decoder(), [], 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        found += decoder.feed(stream[at : at + size])
        at += size
    assert found == packets
    assert decoder.empty


def test_foobots_packets_have_the_sizes_of_its_budget() -> None:
    assert mqtt.Pingreq().encode() == b"\xc0\x00"
    assert mqtt.Pingresp().encode() == b"\xd0\x00"


@pytest.mark.parametrize("length", [0, 127, 128, 16383, 16384, 2097152])
def test_the_remaining_length_is_read_at_its_borders(length: int) -> None:
    data = mqtt.Publish("t", bytes(max(0, length - 3))).encode()
    assert mqtt.packet_length(data) == len(data)
    assert mqtt.complete(data)
    assert not mqtt.complete(data[:-1])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00\x00", "reserved"),
        (b"\xf0\x00", "reserved"),
        (b"\xc1\x00", "reserved flags"),
        (b"\x80\x02\x00\x01", "reserved flags"),
        (b"\x82\x02\x00\x01", "at least one topic"),
        (b"\x82\x06\x00\x01\x00\x01a\x03", "QoS 3"),
        (b"\x82\x06\x00\x00\x00\x01a\x00", "identifier 0"),
        (b"\x36\x05\x00\x01a\x00\x01", "QoS 3"),
        (b"\x38\x03\x00\x01a", "DUP at QoS 0"),
        (b"\x30\x03\x00\x01#", "not a topic name"),
        (b"\x30\x04\x00\x02\xff\xff", "not UTF-8"),
        (b"\x30\x03\x00\x01\x00", "null character"),
        (b"\x30\x02\x00\x05", "ends inside a field"),
        (b"\x40\x03\x00\x01\x00", "behind the last field"),
        (b"\x20\x02\x01\x05", "reserved bits"),
        (b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x0a\x00\x00", "level 4"),
        (b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x0a\x00\x00", "connect flags"),
        (b"\x10\x0c\x00\x04MQTT\x04\x42\x00\x0a\x00\x00", "connect flags"),
        (b"\x30\xff\xff\xff\xff\x01", "more than four bytes"),
    ],
)
def test_what_the_standard_forbids_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(mqtt.Malformed, match=why):
        mqtt.Decoder().feed(data)


def test_a_packet_larger_than_this_side_takes_is_refused_early() -> None:
    with pytest.raises(mqtt.Malformed, match="more than this side takes"):
        mqtt.Decoder(most_bytes=100).feed(b"\x30\x80\x01")


@pytest.mark.parametrize(
    ("pattern", "topic", "taken"),
    [
        ("a/b", "a/b", True), ("a/b", "a/b/c", False), ("a/+", "a/b", True), ("a/+", "a", False),
        ("a/+", "a/b/c", False), ("a/#", "a", True), ("a/#", "a/b/c", True), ("#", "a/b", True),
        ("#", "$SYS/x", False), ("+/x", "$SYS/x", False), ("$SYS/#", "$SYS/x", True), ("+", "", True),
        ("/+", "/a", True), ("+/+", "/a", True), ("a", "A", False),
    ],
)  # fmt: skip
def test_filters_take_the_topics_that_the_standard_says(pattern: str, topic: str, taken: bool) -> None:
    assert mqtt.matches(pattern, topic) is taken
