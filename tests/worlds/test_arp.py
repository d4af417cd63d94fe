"""Who asks whom by ARP: entries are refreshed as they are used, unless TCP confirms them."""

from __future__ import annotations

import pytest

from tests.pcap import Packet, read_pcap
from tests.worlds.played import play

pytestmark = pytest.mark.slow
ROUTER, HUB, NEST, PLUG = "204e7f360002", "001c2b", "18b430", "50c7bf"
BROADCAST = b"\xff" * 6


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, Packet]]:
    """Every ARP request of an hour with the Internet and an hour without, with its second."""
    run = play(tmp_path_factory.mktemp("arp") / "run", "internet-outage", seed=2, until_s=7200)
    packets = read_pcap(run / "capture.pcap")
    begin = 1_523_541_600
    return [
        (packet.time_ns / 1e9 - begin, packet)
        for packet in packets
        if packet.frame[12:14] == b"\x08\x06" and packet.frame[21] == 1
    ]


def asked(questions: list[tuple[float, Packet]], asker: str, target: str, first: float, last: float) -> int:
    return sum(
        first <= second < last
        and packet.frame[6:12].hex().startswith(asker)
        and packet.frame[:6].hex().startswith(target)
        for second, packet in questions
    )


def test_the_router_asks_whom_it_sends_to_every_minute_or_so(
    questions: list[tuple[float, Packet]],
) -> None:
    """55 s, times a half to one and a half, and 5 s until the probe; forwarding confirms nothing."""
    assert 40 <= asked(questions, ROUTER, HUB, 0, 3600) <= 3600 / 32.5
    assert 40 <= asked(questions, ROUTER, PLUG, 0, 3600) <= 3600 / 32.5


def test_nobody_asks_for_whom_he_has_nothing(questions: list[tuple[float, Packet]]) -> None:
    """A smoke alarm sleeps; a plug whose lookups nobody answers gets nothing."""
    assert asked(questions, ROUTER, NEST, 0, 7200) == asked(questions, NEST, ROUTER, 0, 7200) == 0
    assert asked(questions, ROUTER, PLUG, 4500, 7200) < 5 < asked(questions, PLUG, ROUTER, 4500, 7200)


def test_tcp_confirms_the_gateway(questions: list[tuple[float, Packet]]) -> None:
    assert asked(questions, HUB, ROUTER, 0, 3600) == 0
    assert asked(questions, HUB, ROUTER, 4000, 7200) > 5


def test_refreshes_are_unicast(questions: list[tuple[float, Packet]]) -> None:
    assert all(packet.frame[:6] != BROADCAST for second, packet in questions)
