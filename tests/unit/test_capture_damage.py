from __future__ import annotations

import gzip
import os
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from testbed.analysis import analyse
from testbed.analysis.run import State
from testbed.capture.read import Capture
from testbed.errors import TestbedError, UserError
from tests.unit.captures import BEGIN, HUB, PLUG, Home, block, frame, interface, packet, pcap, save, section

if TYPE_CHECKING:
    from pathlib import Path

FRAME = frame(Ether(src=PLUG, dst=HUB) / IP() / UDP(sport=123, dport=123))
GOOD = pcap([(BEGIN + i, FRAME) for i in range(3)])
RECORD = 16 + len(FRAME)
NG = section() + interface() + b"".join(packet(0, i, FRAME) for i in range(3))


def read(path: str) -> Capture:
    capture = Capture([path])
    for _ in capture.chunks():
        pass
    return capture


@pytest.mark.parametrize(
    ("data", "frames", "byte", "record", "why"),
    [
        (GOOD[:-5], 2, 24 + 2 * RECORD, 3, "ends inside"),
        (GOOD[: 24 + RECORD + 7], 1, 24 + RECORD, 2, "ends inside"),
        (GOOD + struct.pack("<IIII", 1, 1, 0xFFFFFFFF, 60), 3, len(GOOD), 4, "more than 262144"),
        (GOOD[:20], 0, 0, 1, "inside its header"),
        (NG[:-9], 2, len(NG) - len(packet(0, 0, FRAME)), 3, "ends inside"),
        (NG + struct.pack("<II", 6, 0) + bytes(20), 3, len(NG), 4, "length is impossible"),
        (NG + struct.pack("<II", 6, 1 << 30) + bytes(20), 3, len(NG), 4, "longer than"),
        (NG + block(6, bytes(40))[:-4] + b"\x01\0\0\0", 3, len(NG), 4, "two lengths differ"),
        (NG + packet(7, 0, FRAME), 3, len(NG), 4, "interface that was not described"),
        (NG + block(6, struct.pack("<IIIII", 0, 0, 0, 500, 500) + bytes(20)), 3, len(NG), 4, "than its"),
        (NG + block(0x0BAD, bytes(64))[:30], 3, len(NG) + 30, 4, "ends inside"),
        (section() + struct.pack("<II", 1, 8) + bytes(8), 0, 28, 1, "length is impossible"),
    ],
)  # fmt: skip
def test_damage_ends_a_file_and_says_where_and_why(
    tmp_path: Path, data: bytes, frames: int, byte: int, record: int, why: str
) -> None:
    capture = read(save(tmp_path / "damaged", data))
    (damage,) = capture.damages
    assert (capture.frames, damage.byte, damage.record) == (frames, byte, record)
    assert why in damage.why


def test_a_cut_gzip_keeps_what_it_holds(tmp_path: Path) -> None:
    data = gzip.compress(pcap([(BEGIN + i, FRAME) for i in range(5000)]), compresslevel=0)
    capture = read(save(tmp_path / "cut.gz", data[: len(data) // 2]))
    assert 2000 < capture.frames < 3000
    assert "end in the middle" in capture.damages[0].why


def test_one_damaged_file_of_several_does_not_stop_the_others(tmp_path: Path) -> None:
    files = [save(tmp_path / "a.pcap", GOOD[:-5]), save(tmp_path / "b.pcap", pcap([(BEGIN + 9, FRAME)]))]
    result = analyse(files)
    assert result.frames == 3
    assert [damage.file for damage in result.damages] == [files[0]]


def test_a_capture_glued_behind_another_is_read_on(tmp_path: Path) -> None:
    capture = read(save(tmp_path / "glued.pcap", GOOD + pcap([(BEGIN, FRAME)], order=">")))
    assert (capture.frames, capture.damages) == (4, [])
    assert "second capture begins" in capture.notes[0]


def test_times_centuries_apart_and_backwards_build_nothing_dense(tmp_path: Path) -> None:
    times = [0.0, 4_294_967_295.0, 1.0, 2_000_000_000.0, 86_400.0, 4_000_000_000.0]
    start = time.perf_counter()
    result = analyse(save(tmp_path / "ages.pcap", pcap([(at, FRAME) for at in times for _ in range(3)])))
    assert time.perf_counter() - start < 2 + 20  # compiling on a fresh machine
    assert result.frames == 18
    assert len(result.bandwidth) <= 12
    assert any("earlier than the one before" in warning for warning in result.warnings)


def test_many_stations_and_ports_stay_exact_in_bounded_tables(tmp_path: Path) -> None:
    frames = []
    for i in range(3000):
        mac = bytes.fromhex("02") + struct.pack("!I", i) + b"\x01"
        frames.append((BEGIN + i, mac + FRAME[:6] + FRAME[12:]))
        frames.append((BEGIN + i, FRAME[:6] + mac + FRAME[12:]))
    result = analyse(save(tmp_path / "flood.pcap", pcap(frames)))
    assert result.protocol_packets["NTP"] == 6000
    assert len(result.devices) <= 1025
    counted = sum(
        row.packets for row in result.protocols if row.layer == "transport" and row.direction == "sent"
    )
    assert counted == 6000


@pytest.fixture(scope="module")
def good_captures(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    home = Home()
    home.dhcp(0, "request")
    home.arp(1)
    for i in range(10):
        home.lookup(2 + i * 10, "cloud.example", "198.18.0.7", client=41_000 + i)
        home.session(3 + i * 10, "198.18.0.7", "cloud.example", client=42_000 + i)
        home.ping(5 + i * 10)
    frames = sorted(home.frames, key=lambda timed: timed[0])
    ng = section() + interface() + b"".join(packet(0, round(at * 1e6), data) for at, data in frames)
    return [pcap(frames), pcap(frames, order=">", nano=True), ng]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutation_of_a_capture_crashes_or_miscounts(
    tmp_path: Path, good_captures: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(good_captures)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert", "length"]))
        if change == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif change == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            content[at : at + 4] = struct.pack(
                "<I", data.draw(st.sampled_from([0, 1, 65_535, 1 << 31, (1 << 32) - 1]))
            )
        if not content:
            break
    start = time.perf_counter()
    try:
        result = analyse(save(tmp_path / "mutation", bytes(content)))
    except TestbedError:
        return
    assert sum(result.protocol_packets.values()) == result.frames
    assert time.perf_counter() - start < 30  # compiling included


@pytest.mark.parametrize("twice", [True, False])
def test_a_pipe_is_read_once_and_keeps_its_name(tmp_path: Path, twice: bool) -> None:
    pipe = tmp_path / "pipe.pcap"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:  # in dribs, the first shorter than a magic number
            for i in range(0, len(GOOD), 3):
                file.write(GOOD[i : i + 3])
            file.write(b"\x00" * 5)

    writer = threading.Thread(target=write)
    writer.start()
    states = None if twice else [State("all", int(BEGIN) * 10**9, int(BEGIN + 9) * 10**9)]
    result = analyse(pipe, states=states)
    writer.join()
    assert result.frames == 3
    assert result.captures == [str(pipe)]
    assert [damage.file for damage in result.damages] == [str(pipe)]


@pytest.mark.parametrize("begin", [b"", b"\0\0", b"\0\0\0\0"])
def test_what_comes_through_a_pipe_and_is_no_capture_is_not_copied(tmp_path: Path, begin: bytes) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(begin))
    writer.start()
    with pytest.raises(UserError, match=f"'{pipe}' is not a capture"):
        analyse(pipe)
    writer.join()


def test_a_device_that_never_ends_is_refused_at_its_first_bytes() -> None:
    with pytest.raises(UserError, match="begins with 00 00 00 00"):
        analyse("/dev/zero")
