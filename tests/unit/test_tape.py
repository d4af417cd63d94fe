"""Records into frames: nothing lost or doubled between batches, and bytes that foreign tools agree with."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.capture.write import PcapWriter
from testbed.models.device import TcpStack
from testbed.simulation import tape as t
from testbed.simulation.library import Library
from testbed.simulation.plans import CLIENT, SERVER, Message, Plan, Stack, Steady
from testbed.simulation.render import Frames, _put_ciphertext, render
from testbed.simulation.tcp import play
from tests.conftest import need

if TYPE_CHECKING:
    from collections.abc import Sequence

MS, S = 1_000_000, 1_000_000_000
LAN, WAN = 2 * MS, 20 * MS
BEGIN_US = 1_522_713_600_000_000
CLIENTS = [
    Stack.of(TcpStack()),
    Stack.of(TcpStack(window_scale=None, timestamps=False, sack=False, window=5840)),
    Stack.of(TcpStack(timestamps=True, sack=False, window_scale=None)),
    Stack.of(TcpStack(timestamps=False, sack=True, mss=1200)),
]
SERVERS = Stack.of(TcpStack(window=28_960, window_scale=7))
PLANS = [
    Plan((Message(CLIENT, 300), Message(SERVER, 4000, MS)), True),
    Plan((Message(CLIENT, 20), Message(SERVER, 20)), rtt=44 * MS),
    Plan((Message(CLIENT, 8000),), rtt=44 * MS),
    Plan((Message(CLIENT, 0, 0, True), Message(SERVER, 0, 0, True)), rtt=44 * MS),
]


class Deck:
    """A tape with what the simulation would put on it: random datagrams and connections."""

    def __init__(self, seed: int) -> None:
        self.tape = t.Tape()
        self.library = Library(self.tape, SERVERS)
        self.rng = Random(seed)
        self.now = 0

    def add(self) -> int | None:
        """Put one record on the tape, up to a second ahead; return the number of a plan."""
        tape, rng = self.tape, self.rng
        self.now += rng.randrange(300 * MS)
        if rng.random() < 0.4:
            protocol = rng.choice([t.UDP, t.ICMP, t.IGMP, t.ARP])
            data = (
                b"\x16\x00\x09\xff\xe0\x00\x00\xfb"
                if protocol == t.IGMP
                else rng.randbytes(rng.randrange(28, 300))
            )
            flags = (
                t.DONT_FRAGMENT | t.ROUTER_ALERT if protocol == t.IGMP else rng.choice([0, t.DONT_FRAGMENT])
            )
            tape.datagram(
                self.now + rng.randrange(S), t.NEVER, rng.randrange(3), rng.randrange(9), rng.randrange(2),
                0x0200_5E00_0001, 0x0200_5E00_0002, 0xC0A8_0101, 0xC0A8_0102, 5353, 5353,
                t.meta(protocol, 64, flags), rng.getrandbits(16), tape.payload(data), len(data),
            )  # fmt: skip
            return None
        client = rng.choice(CLIENTS)
        plan = rng.choice(PLANS)
        script = self.library.find((plan, client)) or self.library.make(
            (plan, client), plan, client, LAN, WAN, 0
        )
        sizes = [sum(m.size for m in plan.messages if m.side == side) for side in (CLIENT, SERVER)]
        up, down = (tape.payload(rng.randbytes(size)) for size in sizes)
        return tape.plan(t.pack_plan(
            self.now, t.NEVER, t.NEVER, rng.randrange(3), rng.randrange(9), script.number,
            0x0200_5E00_0001, 0x0200_5E00_0002, 0xC0A8_0101, 0xC612_0001, rng.randrange(1024, 65_536), 443,
            64 | 50 << 8, rng.getrandbits(32), rng.getrandbits(32), rng.getrandbits(16), rng.getrandbits(16),
            up, down, *sizes, rng.getrandbits(31), rng.getrandbits(31), self.now - S, self.now - S,
        ))  # fmt: skip


def records(frames: Sequence[Frames]) -> list[tuple[int, bytes]]:
    """Return time (µs) and bytes of each frame, and hold the label columns against them."""
    result = []
    for batch in frames:
        data, at = batch.pcap.tobytes(), 0
        for index in range(len(batch.label)):
            second, micro, kept, size = struct.unpack_from("<IIII", data, at)
            assert kept == size == batch.length[index]
            assert second * 1_000_000 + micro == BEGIN_US + batch.time_us[index]
            result.append((second * 1_000_000 + micro, data[at + 16 : at + 16 + kept]))
            at += 16 + kept
        assert at == len(data), "more bytes than labels"
        for column in (batch.exchange, batch.received, batch.time_us):
            assert len(column) == len(batch.label)
    return result


def played(seed: int, count: int, cuts: set[int], takes: set[int]) -> list[Frames]:
    """Play the same records with batches taken at other moments."""
    deck, found = Deck(seed), []
    for index in range(count):
        number = deck.add()
        if number is not None and index in cuts:
            deck.tape.cut_plan(number, deck.now + 30 * MS)
        if index in takes:
            found.append(render(deck.tape.take(deck.now - 1), BEGIN_US))
    found.append(render(deck.tape.take(deck.now + 60 * S), BEGIN_US))
    return found


@pytest.mark.slow
@given(
    seed=st.integers(0, 1 << 20), cuts=st.sets(st.integers(0, 30)), takes=st.sets(st.integers(0, 30)),
    least=st.booleans(),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_many_batches_hold_the_frames_of_one(seed: int, cuts: set[int], takes: set[int], least: bool) -> None:
    whole = records(played(seed, 30, cuts, set()))
    with pytest.MonkeyPatch.context() as patch:
        if least:  # scripts are dropped after every batch
            patch.setattr(t, "SCRIPT_ROWS", 1)
        parts = records(played(seed, 30, cuts, takes))
    assert parts == whole
    assert [at for at, _ in whole] == sorted(at for at, _ in whole)


def test_nothing_before_the_capture_is_rendered_even_after_an_early_batch() -> None:
    tape = t.Tape()
    script = tape.script(
        play(PLANS[0], CLIENTS[0], SERVERS, Steady(LAN, WAN, WAN), 0, 1 << 61), CLIENTS[0], SERVERS
    )
    up, down = tape.payload(bytes(300)), tape.payload(bytes(4000))
    tape.plan(t.pack_plan(
        -60 * MS, t.NEVER, t.NEVER, 0, 1, script.number, 1, 2, 3, 4, 5, 6, 64, 0, 0, 0, 0, up, down, 300,
        4000, 0, 0, -S, -S,
    ))  # fmt: skip
    early = render(tape.take(-70 * MS), BEGIN_US)
    late = render(tape.take(S), BEGIN_US)
    assert len(early.label) == 0
    assert 0 < len(late.label) < len(script.played.segments)
    assert late.time_us.min() >= 0


def test_a_cut_takes_back_what_comes_after_it_and_nothing_else() -> None:
    full, cut = Deck(3), Deck(3)
    numbers = [(full.add(), cut.add())[1] for _ in range(12)]
    plan = next(number for number in numbers if number is not None)
    cut.tape.cut_plan(plan, 10 * MS)
    everything = records([render(full.tape.take(60 * S), BEGIN_US)])
    less = records([render(cut.tape.take(60 * S), BEGIN_US)])
    missing = [record for record in everything if record not in less]
    assert missing and all(at > BEGIN_US + 10_000 for at, _ in missing)
    assert len(less) + len(missing) == len(everything)


def test_the_datagrams_of_one_exchange_are_taken_back_after_a_moment() -> None:
    tape = t.Tape()
    for at, label, exchange in ((5, 1, 1), (15, 1, 1), (15, 1, 2), (15, 2, 1)):
        tape.datagram(
            at * MS,
            t.NEVER,
            label,
            exchange,
            0,
            1,
            2,
            3,
            4,
            5,
            6,
            t.meta(t.UDP, 64),
            0,
            tape.payload(b"x"),
            1,
        )
    tape.cut_datagrams(1, 1, 10 * MS)
    frames = render(tape.take(S), BEGIN_US)
    assert sorted(zip(frames.label.tolist(), frames.exchange.tolist(), strict=True)) == [
        (1, 1),
        (1, 2),
        (2, 1),
    ]


def written(folder: Path, seed: int, count: int = 60) -> tuple[Path, list[tuple[int, bytes]]]:
    """Write a random tape as a capture."""
    frames = played(seed, count, set(), set())
    with PcapWriter(folder / "tape.pcap") as pcap:
        for batch in frames:
            pcap.records(batch.pcap)
    return folder / "tape.pcap", records(frames)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_scapy_builds_the_same_bytes(seed: int) -> None:
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import ARP, Ether

    kinds: dict[str, int] = {}
    for _, frame in records(played(seed, 60, set(), set())):
        parsed: Any = Ether(frame)
        if ARP in parsed:
            continue
        kinds[parsed[IP].payload.name] = kinds.get(parsed[IP].payload.name, 0) + 1
        again: Any = Ether(frame)
        for layer in (IP, TCP, UDP):
            if layer in again:
                del again[layer].chksum
                if layer is UDP:
                    del again[layer].len
        del again[IP].len, again[IP].ihl
        if TCP in again:
            del again[TCP].dataofs
        if "ICMP" in again:
            del again["ICMP"].chksum
        assert bytes(again) == frame
    assert kinds["TCP"] > 50 and kinds["UDP"] > 1 and len(kinds) >= 4, "the tape held too little"


@pytest.mark.slow
def test_scapy_reads_the_options_that_the_stacks_offer() -> None:
    from scapy.layers.inet import TCP
    from scapy.layers.l2 import Ether

    for client in CLIENTS:
        tape = t.Tape()
        library = Library(tape, SERVERS)
        script = library.make(("x",), PLANS[0], client, LAN, WAN, 0)
        up, down = tape.payload(bytes(300)), tape.payload(bytes(4000))
        tape.plan(t.pack_plan(
            0, t.NEVER, t.NEVER, 0, 1, script.number, 1, 2, 3, 4, 5, 443, 64, 7, 9, 0, 0, up, down, 300, 4000,
            1000, 2000, -t.NEVER, -t.NEVER,
        ))  # fmt: skip
        segments: list[Any] = [Ether(frame)[TCP] for _, frame in records([render(tape.take(S), BEGIN_US)])]
        offers = [(client, segments[0]), (SERVERS, segments[1])]
        assert [str(s.flags) for _, s in offers] == ["S", "SA"]
        for stack, segment in offers:
            options = dict(segment.options)
            assert options["MSS"] == stack.mss
            assert segment.window == stack.window
            assert options.get("WScale") == (None if client.window_scale is None else stack.window_scale)
            assert ("SAckOK" in options) == (stack.sack and client.sack)
            assert ("Timestamp" in options) == (client.timestamps and SERVERS.timestamps)
        if client.timestamps:
            stamps = [dict(s.options)["Timestamp"] for s in segments]
            # Each echoes the other's latest clock, in milliseconds since it was switched on.
            assert stamps[0] == (1000, 0)
            assert stamps[1] == (2000 + (LAN + WAN) // MS, 1000)
            assert stamps[2][1] == stamps[1][0]


@pytest.mark.slow
@pytest.mark.system
def test_tshark_finds_nothing_wrong(tmp_path: Path) -> None:
    need("tshark")
    path, found = written(tmp_path, 4)
    checks = [f"-o{layer}.check_checksum:TRUE" for layer in ("ip", "tcp", "udp")]
    fields = ["-Tfields", "-eip.checksum.status", "-etcp.checksum.status", "-eudp.checksum.status"]
    seen = subprocess.run(
        ["tshark", "-r", str(path), *checks, *fields], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(seen) == len(found)
    states = [state for line in seen for cell in line.split("\t") for state in cell.split(",") if state]
    # ICMP errors quote headers whose checksums tshark leaves unverified (2).
    assert states.count("1") > len(found) and "0" not in states


def test_time_and_order_survive_equal_moments() -> None:
    tape = t.Tape()
    for index in range(50):
        data = struct.pack(">I", index)
        tape.datagram(
            7 * MS, t.NEVER, 0, index, 0, 1, 2, 3, 4, 5, 6, t.meta(t.UDP, 64), 0, tape.payload(data), 4
        )
    frames = render(tape.take(S), BEGIN_US)
    assert np.array_equal(frames.exchange, np.arange(50)), "equal moments must keep the order of the tape"


@given(st.integers(0, 99), st.lists(st.integers(1, 40), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_a_record_of_ciphertext_is_the_same_from_the_pool_however_it_is_cut(
    place: int, cuts: list[int]
) -> None:
    """What the tape holds as a place in the pool goes out as if its bytes had been laid on the tape."""
    pool = Random(7).randbytes(1000)
    total = sum(cuts) + 5
    record = b"\x17\x03\x03" + (total - 5).to_bytes(2, "big") + pool[place : place + total - 5]
    out, begin = np.zeros(total, np.uint8), 0
    for size in (*cuts, 5):
        _put_ciphertext(out, begin, begin, size, place, total, np.frombuffer(pool, np.uint8))
        begin += size
    assert out.tobytes() == record


@pytest.mark.parametrize("late", [False, True], ids=["in-one-batch", "carried-over"])
def test_ciphertext_is_taken_from_the_pool(late: bool) -> None:
    """The same exchange, its two records in the pool and on the tape, rendered whole or in two batches."""
    pool = Random(8).randbytes(20_000)
    plan = Plan((Message(CLIENT, 300), Message(SERVER, 4000, MS)), rtt=44 * MS)
    sides = [(300, 11), (4000, 77)]
    told = []
    for sealed in (False, True):
        tape = t.Tape(pool)
        script = Library(tape, SERVERS).make((plan,), plan, CLIENTS[0], LAN, WAN, 0)
        payloads: list[t.Payload] = [
            -1 - at if sealed else b"\x17\x03\x03" + (size - 5).to_bytes(2, "big") + pool[at : at + size - 5]
            for size, at in sides
        ]
        tape.payload(b"something else lies first")
        tape.plan(t.pack_plan(
            S, t.NEVER, t.NEVER, 0, 1, script.number, 1, 2, 3, 4, 5, 443, 64, 0, 0, 0, 0,
            *map(tape.payload, payloads), 300, 4000, 0, 0, 0, 0,
        ))  # fmt: skip
        moments = [S + 3 * MS, 9 * S] if late else [9 * S]
        told.append(records([render(tape.take(moment), BEGIN_US) for moment in moments]))
    assert told[0] == told[1]
    assert sum(len(frame) for _, frame in told[0]) > 4300
