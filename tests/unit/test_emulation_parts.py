"""What the emulation takes over from the kernel's timers, each against a clock and nothing else."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from testbed.emulation import frames, requirements
from testbed.emulation.lan import Origins
from testbed.emulation.links import DOWN, UP, Way
from testbed.emulation.loop import NS, Loop
from testbed.emulation.neighbours import Neighbours
from testbed.emulation.recorder import Recorder
from testbed.emulation.router import ErrorLimit
from testbed.emulation.tcp_timers import TcpTimers
from testbed.errors import WorldError
from testbed.host import About
from testbed.kernel.neighbours import Lifetimes
from testbed.models.device import TcpStack
from testbed.models.topology import Impairment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MS = 1_000_000
BEGIN = 1_523_000_000 * NS
HERE, THERE = "02:00:00:00:00:01", "02:00:00:00:00:02"


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop(BEGIN)
    yield made
    made.close()


# --- TCP timers ----------------------------------------------------------------------------------


def tcp(
    payload: bytes = b"",
    flags: str = "A",
    seq: int = 1000,
    ack: int = 5000,
    *,
    back: bool = False,
    options: list[Any] | None = None,
) -> bytes:
    ends = ("10.0.0.1", 40000, "10.0.0.2", 80)
    source, sport, target, dport = ends if not back else (*ends[2:], *ends[:2])
    segment = IP(src=source, dst=target) / TCP(
        sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, options=options or []
    )
    return bytes(Ether(src=HERE, dst=THERE) / segment / Raw(payload))


def test_lost_data_goes_out_again_at_doubling_times_until_the_stack_gives_up(loop: Loop) -> None:
    sent: list[tuple[int, bytes]] = []
    stack = TcpStack(data_retries=3, min_rto="200ms")
    timers = TcpTimers(loop, stack, lambda f: sent.append((loop.now_ns - BEGIN, f)))
    told: list[int] = []
    key = (b"\x0a\0\0\x01", 40000, b"\x0a\0\0\x02", 80)
    conn = timers.program(key, lambda: None, lambda: None, lambda: told.append(loop.now_ns - BEGIN))
    timers.outgoing(tcp(flags="S", seq=999), spontaneous=False)
    loop.call_at(BEGIN + 20 * MS, lambda: timers.arriving(tcp(flags="SA", seq=4999, ack=1000, back=True)))
    loop.run(BEGIN + 20 * MS)
    assert conn.rto_ns == 220 * MS  # the round trip and Linux's floor
    data = tcp(b"x" * 100, "PA")
    timers.outgoing(data, spontaneous=False)
    loop.run(BEGIN + 60 * NS)
    waits = [220, 440, 880, 1760]
    assert [at // MS for at, _ in sent] == [20 + sum(waits[: n + 1]) for n in range(3)]
    assert all(frame == data for _, frame in sent)
    assert [at // MS for at in told] == [20 + sum(waits)]


def test_a_connection_with_sack_sends_its_last_segment_again_before_the_timer_doubles(loop: Loop) -> None:
    """Measured on a kernel in real time: after 0.22 s, as long again, then doubling."""
    sent: list[int] = []
    timers = TcpTimers(loop, TcpStack(), lambda _: sent.append((loop.now_ns - BEGIN) // MS))
    timers.outgoing(tcp(flags="S", seq=999), spontaneous=False)
    answer = tcp(flags="SA", seq=4999, ack=1000, back=True, options=[("MSS", 1460), ("SAckOK", b"")])
    loop.call_at(BEGIN + 20 * MS, lambda: timers.arriving(answer))
    loop.run(BEGIN + 20 * MS)
    timers.outgoing(tcp(b"x" * 100, "PA"), spontaneous=False)
    loop.run(BEGIN + 2 * NS)
    assert sent == [20 + 220 * n for n in (1, 2, 4, 8)]


def test_an_unreachable_takes_a_doubling_back(loop: Loop) -> None:
    """RFC 6069 §4.2, as a kernel does in real time: each error takes one, counted from the last sending."""
    sent: list[int] = []
    timers = TcpTimers(loop, TcpStack(), lambda _: sent.append((loop.now_ns - BEGIN) // MS))
    timers.outgoing(tcp(flags="S", seq=999), spontaneous=False)
    timers.arriving(tcp(flags="SA", seq=4999, ack=1000, back=True))
    loop.run(BEGIN + 20 * MS)
    timers.outgoing(tcp(b"a" * 10, "PA"), spontaneous=False)
    loop.call_at(BEGIN + 40 * MS, lambda: timers.arriving(tcp(seq=5000, ack=1010, back=True)))
    data = tcp(b"x" * 100, "PA", seq=1010)
    loop.call_at(BEGIN + 50 * MS, lambda: timers.outgoing(data, spontaneous=False))
    loop.run(BEGIN + 1700 * MS)
    doubling = [50 + 220 * n for n in (1, 3, 7)]
    assert sent == doubling
    for _ in range(3):
        timers.unreachable(data)
    loop.run(BEGIN + 2300 * MS)
    assert sent == [*doubling, 1590 + 220, 1590 + 220 + 440]


def test_an_acknowledgement_stops_the_timer(loop: Loop) -> None:
    sent: list[bytes] = []
    timers = TcpTimers(loop, TcpStack(), sent.append)
    timers.outgoing(tcp(b"x" * 100, "PA"), spontaneous=False)
    timers.arriving(tcp(seq=5000, ack=1100, back=True))
    assert timers.progressed
    loop.run(BEGIN + 100 * NS)
    assert sent == []


def test_what_a_kernel_timer_sends_again_is_held_back(loop: Loop) -> None:
    timers = TcpTimers(loop, TcpStack(), lambda _: None)
    data = tcp(b"x" * 100, "PA")
    assert timers.outgoing(data, spontaneous=False) == data
    assert timers.outgoing(data, spontaneous=True) is None
    assert timers.suppressed == 1
    assert timers.outgoing(data, spontaneous=False) == data  # a fast retransmission answers a segment


def test_a_keepalive_probe_is_a_valid_segment_just_before_the_window() -> None:
    probe = Ether(frames.probe(tcp(b"x" * 10, "PA")))
    assert (probe[TCP].seq, probe[TCP].flags, len(probe[TCP].payload)) == (1009, "A", 0)
    fresh = Ether(bytes(probe))
    del fresh[IP].chksum, fresh[TCP].chksum
    fresh = Ether(bytes(fresh))
    assert (fresh[IP].chksum, fresh[TCP].chksum) == (probe[IP].chksum, probe[TCP].chksum)


def test_keepalives_go_out_in_silence_and_give_up_after_nine(loop: Loop) -> None:
    sent: list[int] = []
    timers = TcpTimers(loop, TcpStack(), lambda _: sent.append((loop.now_ns - BEGIN) // NS))
    told: list[int] = []
    key = (b"\x0a\0\0\x01", 40000, b"\x0a\0\0\x02", 80)
    conn = timers.program(key, lambda: None, lambda: None, lambda: told.append((loop.now_ns - BEGIN) // NS))
    timers.outgoing(tcp(), spontaneous=False)
    timers.keep_alive(conn, 60)
    loop.run(BEGIN + 5000 * NS)
    assert sent == [60 * n for n in range(1, 10)]
    assert told == [60 * 10]


# --- neighbours ----------------------------------------------------------------------------------


class FakeNetlink:
    """Stands for the kernel's neighbour table; remembers what it was told."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def set_neighbour(self, interface: str, address: str, state: int, mac: bytes | None = None) -> None:
        self.failed.append(address)


def neighbours(loop: Loop) -> tuple[Neighbours, FakeNetlink, list[tuple[int, bytes]]]:
    sent: list[tuple[int, bytes]] = []
    kernel = FakeNetlink()
    made = Neighbours(
        loop, kernel, "eth0", frames.mac_bytes(HERE),  # type: ignore[arg-type]
        lambda f: sent.append(((loop.now_ns - BEGIN) // MS, f)), lambda: None,
        Lifetimes(30 * NS, lambda _: 0.5),
    )  # fmt: skip
    made.address = "10.0.0.1"
    return made, kernel, sent


QUESTION = frames.arp_request(frames.mac_bytes(HERE), "10.0.0.1", "10.0.0.2")
ANSWER = frames.arp_reply(
    frames.mac_bytes(THERE), bytes([10, 0, 0, 2]), frames.mac_bytes(HERE), bytes([10, 0, 0, 1])
)


def test_a_neighbour_that_never_answers_fails_after_three_seconds(loop: Loop) -> None:
    table, kernel, sent = neighbours(loop)
    assert table.outgoing_arp(QUESTION, spontaneous=False)
    loop.run(BEGIN + 10 * NS)
    assert [at for at, _ in sent] == [1000, 2000]
    assert all(frame == QUESTION for _, frame in sent)
    assert kernel.failed == ["10.0.0.2"]


def test_an_old_entry_in_use_is_probed_by_unicast_five_seconds_later(loop: Loop) -> None:
    table, kernel, sent = neighbours(loop)
    table.outgoing_arp(QUESTION, spontaneous=False)
    table.arriving(ANSWER)
    loop.call_at(BEGIN + 100 * NS, lambda: table.outgoing_ip(frames.mac_bytes(THERE)))
    loop.run(BEGIN + 105 * NS)
    assert [at for at, _ in sent] == [105_000]
    probe = Ether(sent[0][1])
    assert (probe.dst, probe[ARP].op, probe[ARP].pdst) == (THERE, 1, "10.0.0.2")
    table.arriving(ANSWER)
    loop.run(BEGIN + 200 * NS)
    assert len(sent) == 1
    assert kernel.failed == []


def test_an_entry_used_in_its_last_seconds_is_probed_without_another_use(loop: Loop) -> None:
    """Measured on a kernel in real time: the probe comes five seconds after the lifetime's end."""
    table, _, sent = neighbours(loop)
    table.outgoing_arp(QUESTION, spontaneous=False)
    table.arriving(ANSWER)
    for second in (24, 26):
        loop.call_at(BEGIN + second * NS, lambda: table.outgoing_ip(frames.mac_bytes(THERE)))
    loop.run(BEGIN + 35 * NS)
    assert [at for at, _ in sent] == [35_000]


def test_tcp_progress_spares_the_probe(loop: Loop) -> None:
    table, _, sent = neighbours(loop)
    table.outgoing_arp(QUESTION, spontaneous=False)
    table.arriving(ANSWER)
    loop.call_at(BEGIN + 100 * NS, lambda: table.outgoing_ip(frames.mac_bytes(THERE)))
    loop.call_at(BEGIN + 101 * NS, lambda: table.confirmed(frames.mac_bytes(THERE)))
    loop.run(BEGIN + 300 * NS)
    assert sent == []


def test_the_kernels_own_questions_are_held_back(loop: Loop) -> None:
    table, _, _ = neighbours(loop)
    assert not table.outgoing_arp(QUESTION, spontaneous=True)


# --- ICMP errors -----------------------------------------------------------------------------------


def error(code: int, source: str) -> bytes:
    quoted = IP(src="10.0.0.9", dst="198.18.5.5") / UDP(sport=1, dport=2)
    return bytes(Ether() / IP(src=source, dst="10.0.0.9") / ICMP(type=3, code=code) / Raw(bytes(quoted)))


def test_network_unreachable_is_sent_as_seldom_as_the_kernel_sends_it(loop: Loop) -> None:
    """Measured on a kernel in real time: of 40 packets 250 ms apart, the first two get an error."""
    limit = ErrorLimit(loop, "198.18.0.2")
    passed: list[int] = []
    for number in range(40):
        at = BEGIN + number * 250 * MS
        loop.call_at(at, lambda n=number: passed.append(n) if limit.passes(error(0, "10.0.0.254")) else None)  # type: ignore[misc]
    loop.run(BEGIN + 20 * NS)
    assert passed == [0, 1]


def test_errors_about_translated_packets_are_not_limited(loop: Loop) -> None:
    """Measured on a kernel in real time: of 40 packets 250 ms apart, every one gets its error."""
    limit = ErrorLimit(loop, "198.18.0.2")
    assert all(limit.passes(error(1, "198.18.0.2")) for _ in range(40))


def test_port_unreachable_comes_six_at_once_then_one_a_second(loop: Loop) -> None:
    limit = ErrorLimit(loop, "198.18.0.2")
    assert [limit.passes(error(3, "10.0.0.254")) for _ in range(8)] == [True] * 6 + [False] * 2
    loop.run(BEGIN + 2 * NS)
    assert [limit.passes(error(3, "10.0.0.254")) for _ in range(3)] == [True, True, False]


# --- links -----------------------------------------------------------------------------------------


def test_a_rate_limit_delays_beyond_its_burst_and_drops_beyond_its_queue() -> None:
    way = Way(Impairment(rate="8kbit/s", burst="1000B", queue="2s"), Random(1))
    arrivals = [way.arrival_ns(0, 5 * MS, 500, UP) for _ in range(8)]
    assert [None if at is None else round(at / MS) for at in arrivals] == [
        5,
        5,
        5,
        505,
        1005,
        1505,
        2005,
        None,
    ]
    assert way.arrival_ns(0, 5 * MS, 500, DOWN) == 5 * MS  # the other direction has its own


def test_loss_and_delay_end_with_the_impairment() -> None:
    way = Way(None, Random(1))
    link = Impairment(loss=1, delay="100ms")
    way.add(link)
    assert way.arrival_ns(0, 0, 100, UP) is None
    way.remove(link)
    assert way.arrival_ns(0, 7, 100, UP) == 7


def test_a_server_learns_which_device_is_behind_the_nat() -> None:
    origins = Origins()
    frame = bytes(
        Ether(src=HERE, dst=THERE) / IP(src="10.0.0.1", dst="198.18.1.1") / UDP(sport=4000, dport=53)
    )
    origins.remember(frame, frames.mac_bytes(THERE))
    assert origins.find(17, 4000, bytes([198, 18, 1, 1]), 53) == "10.0.0.1"
    assert origins.find(17, 4001, bytes([198, 18, 1, 1]), 53) is None


# --- frames and machine --------------------------------------------------------------------------


def test_a_raw_datagram_is_what_scapy_would_build() -> None:
    ours = frames.udp_frame(
        frames.mac_bytes(HERE), frames.BROADCAST, ("0.0.0.0", 68), ("255.255.255.255", 67), b"odd"
    )
    theirs = Ether(src=HERE, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255", id=0)
    assert ours == bytes(theirs / UDP(sport=68, dport=67) / Raw(b"odd"))


def test_a_machine_that_lacks_things_is_told_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(
        requirements.shutil, "which", lambda name: None if name == "nft" else f"/usr/bin/{name}"
    )
    with pytest.raises(WorldError) as caught:
        requirements.require()
    text = str(caught.value)
    assert "simulation needs no root" in text
    assert "nft: apt-get install nftables" in text
    assert "mnexec" not in text


# --- whose frame it is -----------------------------------------------------------------------------

ROUTER_MAC, LAMP_MAC, PHONE_MAC = "02:00:00:00:00:fe", "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def recorded(tmp_path: Path, *sent: bytes) -> list[tuple[str, str, str, str]]:
    """Return (device, behaviour, protocol, direction) of frames, once a lamp has asked for a name."""
    recorder = Recorder(
        tmp_path / "c.pcap", tmp_path / "l.parquet", [], BEGIN, BEGIN + NS, "gate", ROUTER_MAC
    )  # fmt: skip
    recorder.station("lamp", frames.mac_bytes(LAMP_MAC))
    recorder.station("phone", frames.mac_bytes(PHONE_MAC))
    number = recorder.exchange("lamp")
    recorder.claim("lamp", frames.UDP, 4000, recorder.cause("lamp", "names", About("DNS", "x.org"), number))
    for at, frame in enumerate(sent):
        recorder.frame(BEGIN + at * MS, frame)
    recorder.close()
    rows = pq.read_table(tmp_path / "l.parquet").to_pylist()
    return [(row["device"], row["behaviour"], row["protocol"], row["direction"]) for row in rows]


def test_question_answer_and_errors_belong_to_who_asked(tmp_path: Path) -> None:
    lamp, gate = "10.0.0.10", "10.0.0.254"
    question = IP(src=lamp, dst=gate) / UDP(sport=4000, dport=53) / Raw(b"?")
    answer = IP(src=gate, dst=lamp) / UDP(sport=53, dport=4000) / Raw(b"!")
    unreachable = IP(src=gate, dst=lamp) / ICMP(type=3, code=1) / Raw(bytes(question))
    too_late = IP(src=lamp, dst=gate) / ICMP(type=3, code=3) / Raw(bytes(answer))
    up, down = Ether(src=LAMP_MAC, dst=ROUTER_MAC), Ether(src=ROUTER_MAC, dst=LAMP_MAC)
    found = recorded(
        tmp_path, bytes(up / question), bytes(down / answer), bytes(down / unreachable), bytes(up / too_late)
    )
    assert found == [
        ("lamp", "names", "DNS", "sent"),
        ("lamp", "names", "DNS", "received"),
        ("lamp", "names", "ICMP", "received"),
        ("lamp", "names", "ICMP", "sent"),
    ]


def test_what_no_program_asked_for_is_the_kernels(tmp_path: Path) -> None:
    arp = Ether(src=LAMP_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, psrc="10.0.0.10", pdst="10.0.0.254")
    stray = Ether(src=ROUTER_MAC, dst=LAMP_MAC) / IP(dst="10.0.0.10") / TCP(sport=80, dport=4001, flags="R")
    query = (
        Ether(src=ROUTER_MAC, dst="01:00:5e:00:00:01")
        / IP(dst="224.0.0.1", proto=2)
        / Raw(b"\x11" + bytes(7))
    )
    assert recorded(tmp_path, bytes(arp), bytes(stray), bytes(query)) == [
        ("lamp", "kernel", "ARP", "sent"),
        ("lamp", "kernel", "TCP", "received"),
        ("gate", "kernel", "IGMP", "sent"),
    ]


def test_traffic_between_two_devices_belongs_to_the_one_that_began_it(tmp_path: Path) -> None:
    between = Ether(src=LAMP_MAC, dst=PHONE_MAC) / IP(src="10.0.0.10", dst="10.0.0.11")
    back = Ether(src=PHONE_MAC, dst=LAMP_MAC) / IP(src="10.0.0.11", dst="10.0.0.10")
    found = recorded(
        tmp_path, bytes(between / UDP(sport=4000, dport=9999)), bytes(back / UDP(sport=9999, dport=4000))
    )
    assert found == [("lamp", "names", "DNS", "sent"), ("lamp", "names", "DNS", "received")]


def test_a_frame_keeps_the_exchange_it_was_sent_for(tmp_path: Path) -> None:
    """Two announcements leave one port at once; both are under way when the second claims it."""
    recorder = Recorder(
        tmp_path / "c.pcap", tmp_path / "l.parquet", [], BEGIN, BEGIN + NS, "gate", ROUTER_MAC
    )  # fmt: skip
    recorder.station("lamp", frames.mac_bytes(LAMP_MAC))
    packet = Ether(src=LAMP_MAC, dst="01:00:5e:00:00:fb") / IP(src="10.0.0.10", dst="224.0.0.251")
    frame = bytes(packet / UDP(sport=5353, dport=5353))
    traced = []
    for _ in range(2):
        number = recorder.exchange("lamp")
        recorder.claim("lamp", frames.UDP, 5353, recorder.cause("lamp", "mdns", About("mDNS"), number))
        traced.append(recorder.trace(frame))
    for one in traced:
        recorder.frame(BEGIN, frame, one)
    recorder.close()
    assert pq.read_table(tmp_path / "l.parquet")["exchange"].to_pylist() == [1, 2]
