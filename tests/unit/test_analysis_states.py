"""States: given by a run or a file, or found in the capture, and what happens in them."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from testbed.analysis import analyse
from testbed.analysis.run import load_run, load_states, parse_time
from testbed.analysis.states import retry_pattern
from testbed.errors import UserError
from tests.unit.captures import CLOUD, HUB, PLUG, PLUG_IP, ROUTER, ROUTER_IP, Home

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600
BEGIN = "2018-04-03T00:00:00Z"


@cache
def outage(*, dhcp_after: bool = False, silent: bool = False) -> Home:
    """An hour with a cloud session every minute, an hour without answers, and an hour with them again.

    Off-line the plug asks DNS every 20 s and pings with a back-off; with `silent` nothing is captured.
    """
    home = Home()
    for minute in range(60):
        home.lookup(minute * 60, "cloud.example", CLOUD)
        home.session(minute * 60 + 1, CLOUD, "cloud.example", client=41_000 + minute)
        home.udp(minute * 60 + 30, True, CLOUD, 123, b"\x23" + bytes(47), client=123)
        home.udp(minute * 60 + 30.1, False, CLOUD, 123, b"\x24\x02" + bytes(46), client=123)
    if not silent:
        for step in range(180):
            home.lookup(HOUR + step * 20, "cloud.example", None)
        wait, at = 2.0, HOUR + 5.0
        while at < 2 * HOUR:
            home.ping(at, answered=False)
            at += wait
            wait *= 2
    if dhcp_after:
        home.dhcp(2 * HOUR, "request")
    for minute in range(60):
        home.lookup(2 * HOUR + 10 + minute * 60, "cloud.example", CLOUD)
        home.session(2 * HOUR + 11 + minute * 60, CLOUD, "cloud.example", client=42_000 + minute)
    return home


def states_file(tmp_path: Path) -> str:
    path = tmp_path / "states.csv"
    path.write_text(
        "name,number,begin,end\n"
        "steady,1,2018-04-03T00:00:00Z,2018-04-03T01:00:00Z\n"
        "internet-off,2,2018-04-03T01:00:00Z,2018-04-03T02:00:00Z\n"
        "internet-back,3,2018-04-03T02:00:00Z,2018-04-03T02:30:00Z\n"
    )
    return str(path)


def test_an_outage_is_found_in_the_capture_itself(tmp_path: Path) -> None:
    result = analyse(outage().save(tmp_path / "a.pcap"))
    assert result.states_from == "capture"
    assert [row.kind for row in result.found_states] == ["online", "internet-off", "online"]
    off = result.found_states[1]
    assert abs(parse_time(off.begin) - parse_time(BEGIN) - HOUR * 10**9) < 30e9
    assert abs(parse_time(off.end) - parse_time(BEGIN) - (2 * HOUR + 10) * 10**9) < 30e9
    counted = sum(row.packets for row in result.states if row.layer == "transport")
    assert counted == result.frames


def test_a_recorder_that_stopped_is_no_outage(tmp_path: Path) -> None:
    result = analyse(outage(silent=True).save(tmp_path / "a.pcap"))
    assert [row.kind for row in result.found_states] == ["online", "recorder-stopped", "online"]
    assert result.dependencies == []


def test_a_network_that_was_off_shows_by_what_devices_ask_afterwards(tmp_path: Path) -> None:
    result = analyse(outage(silent=True, dhcp_after=True).save(tmp_path / "a.pcap"))
    assert [row.kind for row in result.found_states] == ["online", "network-off", "online"]


def test_a_quiet_home_is_not_off_line(tmp_path: Path) -> None:
    home = Home()
    for hour in range(10):
        home.lookup(hour * HOUR, "cloud.example", CLOUD)
        home.session(hour * HOUR + 1, CLOUD, "cloud.example", client=41_000 + hour)
    assert analyse(home.save(tmp_path / "a.pcap")).found_states == []


def test_frames_fall_into_their_states_to_the_nanosecond(tmp_path: Path) -> None:
    home = Home()
    for at in (3599.999999, 3600.0, 7199.999999, 7200.0, 9000.0):
        home.ping(at, answered=False)
    result = analyse(home.save(tmp_path / "a.pcap"), states=states_file(tmp_path))
    icmp = {row.state: row.packets for row in result.states if row.protocol == "ICMP"}
    assert icmp == {"steady": 1, "internet-off": 2, "internet-back": 1, "between": 1}
    assert {row.state: row.number for row in result.states}["internet-off"] == 2


def test_a_state_of_one_device_leaves_the_others_between(tmp_path: Path) -> None:
    home = Home()
    home.ping(10)
    home.udp(11, True, CLOUD, 123, bytes(48), mac=HUB, ip="192.168.1.11")
    path = tmp_path / "states.csv"
    path.write_text(f"name,number,begin,end,device\nrestart,7,{BEGIN},2018-04-03T00:05:00Z,{PLUG}\n")
    result = analyse(home.save(tmp_path / "a.pcap"), states=path)
    rows = {(row.state, row.device) for row in result.states}
    assert rows == {("restart", PLUG), ("between", HUB)}


def test_what_goes_on_and_what_is_lost_without_the_internet(tmp_path: Path) -> None:
    result = analyse(outage().save(tmp_path / "a.pcap"), states=states_file(tmp_path))
    (row,) = result.dependencies
    assert (row.device, row.continued, row.disrupted) == (PLUG, "DNS", "NTP;HTTPS")
    assert (row.functionality, row.answered, row.states) == ("partial", "", "internet-off")


def test_a_routers_errors_from_its_outer_address_are_no_internet(tmp_path: Path) -> None:
    """As Linux sends them for what it had translated already; an outage is one all the same."""
    home = Home()
    home.frames += outage().frames
    cited = IP(src=PLUG_IP, dst=CLOUD) / ICMP()
    for step in range(60):
        error = IP(src="198.51.100.1", dst=PLUG_IP) / ICMP(type=3, code=1) / cited
        home.add(HOUR + 10 + step * 60, Ether(src=ROUTER, dst=PLUG) / error)
    capture = home.save(tmp_path / "a.pcap")
    assert analyse(capture, states=states_file(tmp_path)).dependencies[0].states == "internet-off"
    assert [row.kind for row in analyse(capture).found_states] == ["online", "internet-off", "online"]


def test_a_baseline_knows_what_an_hour_misses(tmp_path: Path) -> None:
    steady = Home()
    steady.frames = list(outage().frames)
    steady.tcp(5, True, CLOUD, 1883, "S", client=45_000)
    baseline = steady.save(tmp_path / "steady.pcap")
    result = analyse(outage().save(tmp_path / "a.pcap"), states=states_file(tmp_path), baseline=baseline)
    assert result.dependencies[0].disrupted == "NTP;HTTPS;MQTT"


def test_recovery_and_retries_are_timed(tmp_path: Path) -> None:
    result = analyse(outage().save(tmp_path / "a.pcap"), states=states_file(tmp_path))
    rows = {(row.state, row.protocol): row for row in result.state_services}
    lookups = rows["internet-off", "DNS"]
    assert (lookups.attempts, lookups.answers, lookups.outcome) == (180, 0, "unanswered")
    assert (lookups.retry, lookups.retry_s) == ("constant", 20.0)
    pings = rows["internet-off", "ICMP"]
    assert (pings.retry, pings.retry_s, pings.retry_factor) == ("exponential", 2.0, 2.0)
    back = rows["internet-back", "HTTPS"]
    assert back.outcome == "continued"
    assert back.recovered_after_s == pytest.approx(11.01, abs=0.001)
    assert rows["steady", "HTTPS"].recovered_after_s is None


@pytest.mark.parametrize(
    ("waits", "pattern"),
    [
        ([20] * 10, "constant"),
        ([20, 21, 19, 20.5, 19.5], "constant"),
        ([1, 2, 4, 8, 16, 32], "exponential"),
        ([1.5, 3, 6, 12, 1.5, 3, 6, 12], "exponential"),
        ([1, 2, 4, 8, 16, *[20] * 40], "exponential"),  # to a cap
        ([3, 50, 7, 200, 5, 90], "irregular"),
        ([10], "none"),
    ],
)
def test_retry_patterns(waits: list[float], pattern: str) -> None:
    assert retry_pattern(np.concatenate([[0.0], np.cumsum(waits)])).pattern == pattern


def run_folder(tmp_path: Path, **changes: object) -> Path:
    device = {"name": "plug", "mac": PLUG, "class": "H", "link": "wifi", "energy_w": 2.05}
    data = {
        "begin": BEGIN,
        "end": "2018-04-03T03:00:00Z",
        "router": {"name": "router", "mac": ROUTER, "ip": ROUTER_IP, "lan": "192.168.1.0/24"},
        "devices": [
            device,
            {"name": "sensor", "mac": None, "class": "S", "link": "zigbee", "through": "plug"},
        ],
        "states": [
            {"name": "steady", "number": 1, "device": None, "begin": BEGIN, "end": "2018-04-03T01:00:00Z"},
            {"name": "off", "number": 2, "begin": "2018-04-03T01:00:00Z", "end": "2018-04-03T02:00:00.5Z"},
        ],
        **changes,
    }
    (tmp_path / "run.json").write_text(json.dumps(data))
    return tmp_path


def test_a_runs_folder_gives_names_states_and_span(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    result = analyse(outage().save(folder / "capture.pcap"), run=folder)
    plug, sensor = result.devices
    assert (plug.device, plug.class_, plug.link, plug.energy_w) == ("plug", "H", "wifi", 2.05)
    assert (sensor.device, sensor.mac, sensor.packets) == ("sensor", "", 0)
    assert plug.mean_bytes_per_s == pytest.approx(result.bytes / (3 * HOUR), rel=1e-4)
    assert (result.begin, result.end, result.states_from) == (BEGIN, "2018-04-03T03:00:00Z", "run")
    assert [state.end_ns % 10**9 for state in load_run(folder).states] == [0, 500_000_000]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"devices": [{"mac": PLUG}]}, "key 'name' is missing"),
        ({"devices": [{"name": "x", "mac": "50:c7"}]}, "not a MAC address"),
        ({"begin": "yesterday"}, "run.json"),
        ({"states": [{"name": "x", "begin": BEGIN}]}, "key 'end' is missing"),
    ],
)
def test_a_broken_run_json_is_told_by_file_and_key(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        load_run(run_folder(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,begin\nx,1\n", "missing column end"),
        ("name,begin,end\nx,1,soon\n", "line 2"),
        ("name,begin,end\nx,5,1\n", "ends before it begins"),
        ("name,begin,end\n", "holds no state"),
    ],
)
def test_a_broken_list_of_states_is_told_by_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        load_states(tmp_path / "s.csv")


def test_unix_seconds_and_zones_are_understood(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(
        "name,begin,end\na,1522713600,1522713600.5\nb,2018-04-03T02:00:00+02:00,2e9\n"
    )
    first, second = load_states(tmp_path / "s.csv")
    assert first.begin_ns == second.begin_ns == parse_time(BEGIN)
    assert first.end_ns - first.begin_ns == 500_000_000


def test_states_of_a_device_that_never_spoke_are_empty(tmp_path: Path) -> None:
    home = Home()
    home.udp(1, True, CLOUD, 123, bytes(48), ip=PLUG_IP)
    (tmp_path / "s.csv").write_text(f"name,begin,end,device\nx,{BEGIN},2018-04-03T00:05:00Z,nobody\n")
    rows = analyse(home.save(tmp_path / "a.pcap"), states=tmp_path / "s.csv").states
    assert {row.state for row in rows} == {"between"}
