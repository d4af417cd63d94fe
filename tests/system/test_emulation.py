"""Emulated runs: real sockets in Mininet hosts, as faithful and as repeatable as they claim."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from testbed.api import run
from tests.conftest import need
from tests.crowd import write_crowd
from tests.pcap import read_pcap, without_kernel_choices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.scenario.manifest import RunSummary

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "data" / "bench"
NEEDED = ("root", "mnexec", "brctl", "nft", "ip", "bridge", "ifconfig", "setpriv", "unshare")


def play(scenario: str, out: Path, seed: int = 3, **options: Any) -> RunSummary:
    return run(scenario, out=out, models=[BENCH], seed=seed, world="emulation", **options)


def events(folder: Path, **wanted: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines())
    return [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every kind of disruption, under the virtual clock."""
    need(*NEEDED)
    folder = tmp_path_factory.mktemp("hours") / "run"
    summary = play("hours", folder)
    assert summary.complete
    return folder


@pytest.fixture(scope="module")
def hours_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(*NEEDED)
    folder = tmp_path_factory.mktemp("again") / "run"
    play("hours", folder)
    return folder


# --- the run's folder --------------------------------------------------------------------------


def test_every_frame_has_its_label(hours: Path) -> None:
    packets = read_pcap(hours / "capture.pcap")
    labels = pq.read_table(hours / "labels.parquet").to_pylist()
    manifest = json.loads((hours / "run.json").read_text())
    assert len(packets) == len(labels) == manifest["frames"]
    macs = {device["mac"]: device["name"] for device in manifest["devices"]}
    for number, (packet, label) in enumerate(zip(packets, labels, strict=True), 1):
        assert label["frame"] == number
        assert label["time_ns"] == packet.time_ns
        sender = macs.get(packet.frame[6:12].hex(":"), "router")
        assert (label["direction"] == "sent") == (label["device"] == sender), number
    assert [p.time_ns for p in packets] == sorted(p.time_ns for p in packets)


def test_programs_and_kernel_are_told_apart(hours: Path) -> None:
    labels = pq.read_table(hours / "labels.parquet").to_pandas()
    by_protocol = labels.groupby("protocol", observed=True)["behaviour"].agg(lambda names: set(names))
    assert by_protocol["ARP"] == {"kernel"}
    assert by_protocol["NTP"] == {"time"}
    assert by_protocol["MQTT"] == {"broker"}
    assert by_protocol["HTTPS"] == {"cloud", "telemetry"}
    assert by_protocol["DHCP"] == {"dhcp"}
    assert by_protocol["IGMP"] == {"igmp_querier"}


def test_tshark_reads_it_without_complaint(hours: Path) -> None:
    need("tshark")
    checks = [f"-o{kind}.check_checksum:TRUE" for kind in ("ip", "tcp", "udp")]
    # Linux writes a TCP checksum of 0 as 0xffff (skb_checksum_help): the same sum, but not RFC 1624's way.
    bad = "_ws.malformed || ip.checksum.status==0 || udp.checksum.status==0"
    bad += " || (tcp.checksum.status==0 && tcp.checksum != 0xffff)"
    bad += " || icmp.checksum.status==0 || igmp.checksum.status==0"
    command = ["tshark", "-r", str(hours / "capture.pcap"), *checks]
    done = subprocess.run([*command, "-Y", bad], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    for name in ("dhcp", "dns", "ntp", "mqtt", "tls.handshake.certificate", "icmp", "igmp", "arp"):
        done = subprocess.run(
            [*command, "-Y", name, "-c", "20000"], capture_output=True, text=True, check=True
        )
        assert done.stdout, f"tshark finds no {name}"


# --- what the devices lived through --------------------------------------------------------------


def test_every_device_works_again_after_every_disruption(hours: Path) -> None:
    def ok(device: str, protocol: str, since: str, until: str) -> int:
        found = events(hours, device=device, protocol=protocol, outcome="ok")
        return sum(since <= event["time"][11:19] < until for event in found)

    for since, until in (("00:10:00", "00:20:00"), ("00:36:00", "00:50:00"), ("01:07:00", "01:20:00")):
        assert ok("foobot", "MQTT", since, until) > 50
        assert ok("hs110_plug", "NTP", since, until) > 10
    assert ok("hs110_plug", "HTTPS", "00:10:00", "00:20:00") > 10
    assert ok("hs110_plug", "HTTPS", "01:07:00", "01:20:00") > 10
    assert ok("foobot", "DHCP", "00:55:00", "00:58:00") == 2  # after the router's restart
    assert ok("hs110_plug", "DHCP", "01:20:00", "01:21:00") == 2  # after its own


def test_an_uplink_that_fails_in_silence_is_answered_by_the_kernel_three_seconds_later(hours: Path) -> None:
    off = events(hours, device="foobot", behaviour="broker", outcome="unreachable")
    assert off
    assert all("00:20:00" < event["time"][11:19] < "00:35:10" for event in off)
    silent = events(hours, device="hs110_plug", behaviour="time", protocol="DNS", outcome="no-reply")
    assert sum("00:20:00" < event["time"][11:19] < "00:35:00" for event in silent) > 20


def test_a_router_that_booted_without_uplink_refuses_names(hours: Path) -> None:
    packets = read_pcap(hours / "capture.pcap")
    begin = packets[0].time_ns // 10**9 // 3600 * 3600
    refused = [
        p for p in packets
        if p.frame[23] == 17 and p.frame[34:36] == b"\0\x35" and p.frame[45] & 15 == 5
    ]  # fmt: skip
    assert len(refused) > 50
    minutes = {(p.time_ns // 10**9 - begin) // 60 for p in refused}
    assert minutes <= set(range(55, 66))


def test_round_trips_are_right_in_virtual_time(hours: Path) -> None:
    """The plug's access link takes 2 ms a crossing, the uplink 2 ms, the place 5 ms."""
    asked: dict[bytes, int] = {}
    trips = []
    for packet in read_pcap(hours / "capture.pcap"):
        frame = packet.frame
        if frame[12:14] == b"\x08\0" and frame[23] == 17 and 123 in (frame[35], frame[37]):
            if frame[37] == 123 and frame[36] == 0:
                asked[frame[34:36]] = packet.time_ns
            elif frame[36:38] in asked:
                trips.append(packet.time_ns - asked.pop(frame[36:38]))
    usual = Counter(round(trip / 1e6) for trip in trips).most_common(1)[0]
    assert usual[0] == 14
    assert usual[1] > 0.8 * len(trips)


def test_nothing_is_sent_while_the_router_is_off(hours: Path) -> None:
    packets = read_pcap(hours / "capture.pcap")
    hour = packets[0].time_ns // 10**9 // 3600 * 3600
    inside = [p for p in packets if 50 * 60 < p.time_ns / 1e9 - hour < 55 * 60]
    assert inside == []


def test_a_program_that_failed_stays_silent(hours: Path) -> None:
    assert not [event for event in events(hours, behaviour="time") if event["time"][11:19] > "01:47:01"]


# --- the same again ------------------------------------------------------------------------------


def test_equal_seeds_give_equal_events(hours: Path, hours_again: Path) -> None:
    assert (hours / "events.jsonl").read_bytes() == (hours_again / "events.jsonl").read_bytes()
    assert pq.read_table(hours / "labels.parquet").equals(pq.read_table(hours_again / "labels.parquet"))


def test_equal_seeds_give_equal_frames_but_for_what_kernel_and_tls_choose(
    hours: Path, hours_again: Path
) -> None:
    """The kernel chooses IP ids, sequence numbers, timestamps and PSH; TLS its randoms and ciphertext."""
    one, other = read_pcap(hours / "capture.pcap"), read_pcap(hours_again / "capture.pcap")
    assert [p.time_ns for p in one] == [p.time_ns for p in other]
    for number, (a, b) in enumerate(zip(one, other, strict=True), 1):
        assert without_kernel_choices(a.frame) == without_kernel_choices(b.frame), f"frame {number}"


def test_another_seed_gives_another_run(hours: Path, tmp_path: Path) -> None:
    play("hours", tmp_path / "other", seed=4, until_s=300)
    mine = [event["time"] for event in events(hours)][:50]
    theirs = [event["time"] for event in events(tmp_path / "other")][:50]
    assert mine != theirs


def test_both_worlds_agree_where_nothing_is_out_of_order(hours: Path, tmp_path: Path) -> None:
    run("hours", out=tmp_path / "simulated", models=[BENCH], seed=3)
    counts = []
    for folder in (tmp_path / "simulated", hours):
        table = pq.read_table(folder / "labels.parquet").to_pandas()
        table = table[table.state.isin(["steady", "internet-back", "router-alone", "router-back"])]
        table = table[(table.behaviour != "kernel") & (table.protocol != "ICMP")]  # the programs' own
        keys = ["device", "behaviour", "protocol", "state"]
        counts.append(table.groupby(keys, observed=True)["exchange"].nunique().to_dict())
    simulated, emulated = counts
    assert len(simulated) > 20
    for key in simulated | emulated:
        here, there = simulated.get(key, 0), emulated.get(key, 0)
        assert abs(here - there) <= max(1, 0.02 * here), (key, here, there)


# --- many at once ----------------------------------------------------------------------------------


def test_a_hundred_devices_get_leases_lose_the_internet_and_recover(tmp_path: Path) -> None:
    need(*NEEDED)
    crowd = tmp_path / "crowd"
    write_crowd(crowd, 100)
    run("crowd", out=tmp_path / "run", models=[crowd], seed=3, world="emulation")
    works: dict[str, set[str]] = defaultdict(set)
    for event in events(tmp_path / "run", outcome="ok"):
        if event["time"][14:16] < "05":
            works["before"].add(event["device"])
        elif event["time"][14:16] >= "11":
            works["after"].add(event["device"])
    assert len(works["before"]) == len(works["after"]) == 100


# --- ending early ----------------------------------------------------------------------------------


def test_a_run_that_is_stopped_keeps_what_it_has(tmp_path: Path) -> None:
    need(*NEEDED)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 2

    summary = play("hours", tmp_path / "run", stop=stop, clock="real", speed=20.0)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not summary.complete and not manifest["complete"]
    assert any("stopped by the user" in warning for warning in manifest["warnings"])
    assert read_pcap(tmp_path / "run" / "capture.pcap") is not None


def test_the_shell_gives_mininets_command_line_and_keeps_the_capture(tmp_path: Path) -> None:
    need(*NEEDED, "ping")
    command = [
        sys.executable,
        "-m",
        "testbed",
        "shell",
        "bench",
        "--models",
        BENCH,
        "--out",
        tmp_path / "run",
    ]
    with subprocess.Popen(
        [*map(str, command)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        said: list[str] = []
        listening = threading.Thread(target=lambda: said.extend(iter(child.stdout.readline, "")))
        listening.start()
        limit = time.monotonic() + 60  # in real time the devices associate, ask for leases, and talk
        while time.monotonic() < limit and not re.search("eth0.* REACHABLE", "".join(said)):
            child.stdin.write("router ip -brief address\nrouter ip neigh\n")
            child.stdin.flush()
            time.sleep(1)
        time.sleep(3)
        for typed in ("hs110_plug ping -c 1 router", "power foobot off", "devices", "power fobot on", "exit"):
            child.stdin.write(f"{typed}\n")
        child.stdin.close()
        child.wait(timeout=60)
        listening.join(timeout=10)
    assert child.returncode == 0
    told = "".join(said)
    assert "192.168.1.1/24" in told
    assert "1 packets transmitted, 1 received" in told
    assert re.search(r"foobot +- +no link +off", told)
    assert re.search(r"hs110_plug +192\.168\.1\.\d+ +linked", told)
    assert "'fobot' cannot stand there; did you mean 'foobot'?" in told
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (manifest["scenario"]["name"], manifest["clock"]) == ("shell", "real")
    assert manifest["frames"] > 10


# --- the real clock ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The same forty seconds three times at once: real clock, with mosquitto, and virtual clock."""
    need(*NEEDED, "mosquitto", "tcpdump")
    folder = tmp_path_factory.mktemp("real")
    seen = folder / "seen.pcap"
    options = {
        "real": ["--clock", "real", "--exec", "foobot", f"timeout 39 tcpdump -i eth0 -U -w {seen}"],
        "mosquitto": ["--clock", "real", "--topology", "mosquitto"],  # it stands in the topology's programs
        "virtual": [],
    }
    children = []
    for name, words in options.items():
        command = ["run", "blip", "--models", str(BENCH), "--world", "emulation", "--seed", "3", *words]
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "testbed", *command, "--quiet", "--out", str(folder / name)], cwd=ROOT
            )
        )
    codes = [child.wait(120) for child in children]
    assert codes == [0, 0, 0]
    yield {name: folder / name for name in options} | {"seen": seen}


def conversations(folder: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Return what each device and the router sent each other: (sender, length, TCP flags)."""
    manifest = json.loads((folder / "run.json").read_text())
    macs = {device["mac"]: device["name"] for device in manifest["devices"]}
    found: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for packet in read_pcap(folder / "capture.pcap"):
        frame = packet.frame
        sender, receiver = macs.get(frame[6:12].hex(":")), macs.get(frame[:6].hex(":"))
        device = sender or receiver
        if device is not None and frame[12:14] == b"\x08\0":
            flags = frame[14 + 20 + 13] if frame[23] == 6 else 0
            found[device].append((sender or "router", len(frame), flags))
    return found


def test_the_virtual_clock_sends_what_the_kernel_sends_in_real_time(real: dict[str, Path]) -> None:
    """Handshakes, ACKs, retransmissions in an outage, resets: the same frames in the same order.

    A machine under load may swap neighbours or fire a timer late: one frame in twenty may differ.
    """
    from difflib import SequenceMatcher

    virtual, kernel = conversations(real["virtual"]), conversations(real["real"])
    assert virtual.keys() == kernel.keys() == {"foobot", "hs110_plug"}
    for device, frames in kernel.items():
        matcher = SequenceMatcher(None, frames, virtual[device], autojunk=False)
        same = sum(block.size for block in matcher.get_matching_blocks())
        assert same >= 0.95 * max(len(frames), len(virtual[device])), device


def test_mosquitto_serves_a_foobot_through_an_outage(real: dict[str, Path]) -> None:
    log = (real["mosquitto"] / "program-1-foobot_broker.log").read_text()
    assert log.count("New client connected") == 2
    answers = events(real["mosquitto"], device="foobot", behaviour="broker", protocol="MQTT")
    outcomes = [event["outcome"] for event in answers]
    lost = next(number for number, outcome in enumerate(outcomes) if outcome != "ok")
    assert outcomes[lost] in ("no-reply", "lost")  # the Foobot's patience and mosquitto's end together
    assert set(outcomes[lost + 1 :]) == {"ok"}
    times = [event["time"] for event in answers]
    connect = next(event for event in answers[lost + 1 :])
    waited = float(connect["time"][17:26]) - float(times[lost][17:26])
    assert 10 <= waited < 12  # the model's retry
    assert connect["why"].startswith("retry validated")
    plug = events(real["mosquitto"], device="hs110_plug", behaviour="cloud", protocol="HTTPS")
    assert {event["outcome"] for event in plug} == {"ok"}  # its heartbeat outlasts ten seconds
    assert plug[-1]["time"] > connect["time"][:17] + "30"


def test_programs_of_the_topology_run_beside_and_leave_what_they_write(real: dict[str, Path]) -> None:
    folder = real["mosquitto"]
    assert len(read_pcap(folder / "wan.pcap")) > 50  # the router's tcpdump was ended in good order
    assert events(folder, device="hs110_plug", protocol="NTP", outcome="ok")  # beside a program, not replaced
    manifest = json.loads((folder / "run.json").read_text())
    failed = "the program in time had ended with exit code 127; see program-3-time.log"
    assert failed in manifest["warnings"]
    assert "no-such-program" in (folder / "program-3-time.log").read_text()


def test_a_program_beside_sees_the_same_frames(real: dict[str, Path]) -> None:
    seen = [packet.frame for packet in read_pcap(real["seen"])]
    captured = {packet.frame for packet in read_pcap(real["real"] / "capture.pcap")}
    common = [frame for frame in seen if frame in captured]
    assert len(seen) > 20
    assert len(common) >= 0.9 * len(seen)
