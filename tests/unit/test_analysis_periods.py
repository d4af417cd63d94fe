from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from testbed.analysis import analyse
from testbed.analysis import chains as c
from testbed.analysis.periodicity import FALSE_ALARM
from testbed.analysis.spectra import spectrum
from tests.unit.captures import BEGIN, CLOUD, PLUG, PLUG_IP, ROUTER, ROUTER_IP, frame, pcap, save

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WEEK = 604_800.0
LIMIT = log(FALSE_ALARM / 1200)


def schedules(times: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return (period, error) of what is found in one series."""
    times = np.sort(times)
    out, counts = np.zeros((1, c.ROUNDS, c.COLUMNS)), np.zeros(1, np.int64)
    c.find_schedules(times, np.array([0, len(times)]), 0, 1, LIMIT, out, counts, c.workspace(len(times)))
    return [(row[c.PERIOD], row[c.ERROR]) for row in out[0, : counts[0]]]


def renewal(
    rng: np.random.Generator, period: float, jitter: float, count: int | None = None
) -> NDArray[np.float64]:
    """Return events of a timer that is set anew after each, up to the end of the week."""
    count = count or int(WEEK / period)
    return rng.uniform(0, period) + np.cumsum(period * (1 + rng.uniform(-jitter, jitter, count)))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("period", "jitter"),
    [(10, 0.01), (25, 0.0), (61, 0.05), (300, 0.1), (3600, 0.02), (21_600, 0.01), (86_400, 0.002)],
)
def test_a_schedule_is_found_within_one_percent(period: float, jitter: float, seed: int) -> None:
    times = renewal(np.random.default_rng(seed), period, jitter)
    found = schedules(times)
    assert found
    assert all(value == pytest.approx(period, rel=0.01) for value, _ in found)


def test_five_cycles_are_enough() -> None:
    ((period, error),) = schedules(np.arange(6) * 100_800.0 + [0, 50, -30, 20, 60, -10])
    assert period == pytest.approx(100_800, rel=0.001)
    assert abs(period - 100_800) < 4 * error + 20


def test_lost_events_and_strangers_do_not_hide_a_schedule() -> None:
    rng = np.random.default_rng(3)
    times = renewal(rng, 300, 0.02)
    times = np.concatenate([times[rng.random(len(times)) > 0.1], rng.uniform(0, WEEK, 1500)])
    assert schedules(times)[0][0] == pytest.approx(300, rel=0.01)


def test_interleaved_schedules_are_told_apart() -> None:
    rng = np.random.default_rng(4)
    found = schedules(np.concatenate([renewal(rng, 25, 0.01), renewal(rng, 61, 0.01)]))
    assert sorted(round(period) for period, _ in found) == [25, 61]


def test_a_wait_that_adapts_has_no_period() -> None:
    waits = 180 * 1.005 ** np.arange(60)  # a heartbeat that is put off a little more each time
    assert schedules(np.cumsum(waits)) == []


def test_two_near_periods_are_not_averaged() -> None:
    steps = np.concatenate([np.full(12, 19.2), np.full(5, 20.0)])
    found = schedules(np.cumsum(np.tile(steps, 20)))
    assert found[0][0] == pytest.approx(19.2, rel=0.002)


def test_a_daily_batch_is_one_period_not_a_comb() -> None:
    hours = np.array([0, 1.5, 9, 10.5])
    times = (np.arange(7)[:, None] * 24 + hours).ravel() * 3600
    assert [round(period) for period, _ in schedules(times)] == [86_400]


@pytest.mark.parametrize("seed", range(3))
def test_chance_makes_no_schedule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for count in (10, 30, 100, 1000, 5000):
        starts = rng.uniform(0, WEEK, max(2, count // 8))
        waits = np.cumsum([0, 1, 2, 4, 8, 16, 32, 64])
        for times in (
            rng.uniform(0, WEEK, count),
            np.cumsum(rng.lognormal(np.log(WEEK / count), 1, count)),
            np.cumsum(rng.gamma(2, WEEK / count / 2, count)),
            (starts[:, None] + np.cumsum(rng.exponential(5, (len(starts), 5)), axis=1)).ravel(),
            (starts[:, None] + waits).ravel(),  # back-off trains
        ):
            assert schedules(times) == []


def test_the_spectrum_of_a_comb_is_one_and_of_noise_is_low() -> None:
    magnitude, height = spectrum(np.arange(28) * 21_600.0, 672)
    assert magnitude[27] == pytest.approx(1, abs=0.01)  # 28 cycles a week
    assert magnitude[26] < 0.01
    _, height = spectrum(np.random.default_rng(5).uniform(0, WEEK, 2000), 672)
    assert height.max() < log(336 / 0.0001)


def test_schedules_faster_than_the_windows_leave_no_alias() -> None:
    magnitude, _ = spectrum(np.arange(0, WEEK, 61.0), 672)
    assert magnitude.max() < 0.02


def test_lines_and_periods_of_a_capture_belong_together(tmp_path: Path) -> None:
    ping = frame(Ether(src=PLUG, dst=ROUTER) / IP(src=PLUG_IP, dst=CLOUD) / ICMP())
    lookup = frame(Ether(src=PLUG, dst=ROUTER) / IP(src=PLUG_IP, dst=ROUTER_IP) / UDP(sport=4000, dport=53))
    noise = np.random.default_rng(6).uniform(0, WEEK, 40)
    frames = [(BEGIN + 100 + i * 21_600, ping) for i in range(28)] + [(BEGIN + at, lookup) for at in noise]
    result = analyse(save(tmp_path / "week.pcap", pcap(sorted(frames))))
    (row,) = result.periods
    assert (row.device, row.protocol, row.kind) == (PLUG, "ICMP", "schedule")
    assert row.period_s == pytest.approx(21_600, abs=1e-3)
    assert row.cycles == 27
    lines = [line for line in result.periodicity if line.significant]
    assert {line.protocol for line in lines} == {"ICMP"}
    assert lines[0].cycles_per_week == pytest.approx(28, abs=0.6)
    assert all(
        line.cycles_per_week / 28 == pytest.approx(round(line.cycles_per_week / 28), abs=0.03)
        for line in lines
    )


def test_lookups_on_the_lattice_of_another_schedule_are_no_schedules_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    queries = []
    for letter in b"abcd":
        query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x01" + bytes([letter]) + b"\0\0\1\0\1"
        packet = IP(src=PLUG_IP, dst=ROUTER_IP) / UDP(sport=4000, dport=53) / query
        queries.append(frame(Ether(src=PLUG, dst=ROUTER) / packet))
    frames = [(BEGIN + i * 300.0, queries[rng.integers(4)]) for i in range(2000)]
    rows = analyse(save(tmp_path / "a.pcap", pcap(frames))).periods
    assert [(row.protocol, round(row.period_s)) for row in rows] == [("DNS", 300)]


def test_a_sample_full_of_something_else_does_not_double_a_period() -> None:
    minutes = np.arange(0, 10_800, 61.0)
    noise = np.random.default_rng(5).uniform(3_600, 7_200, 300)
    times = np.sort(np.concatenate([minutes, noise]))
    found, work = np.zeros(c.COLUMNS), c.workspace(len(times))
    found[c.PERIOD], found[c.TOLERANCE] = 122.0, 0.003
    c.find_finer(times, found, work)
    assert found[c.PERIOD] == pytest.approx(61.0, rel=1e-4)
    found[c.PERIOD] = 61.0
    c.find_finer(times, found, work)
    assert found[c.PERIOD] == 61.0


def test_a_cycle_of_retries_that_falls_into_step_is_one_schedule(tmp_path: Path) -> None:
    """Seen of a Google Home behind a router without an upstream."""
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x01a\0\0\1\0\1"
    packet = frame(
        Ether(src=PLUG, dst=ROUTER) / IP(src=PLUG_IP, dst=ROUTER_IP) / UDP(sport=4000, dport=53) / query
    )
    waits = [12.0, 10.01, 10.01, 1.0] * 7 + [12.0, 10.01, 10.01] * 100
    moments = 100 + np.concatenate([np.cumsum(waits), 10_000 + np.array([0.0, 7_000])])
    rows = analyse(save(tmp_path / "a.pcap", pcap([(BEGIN + at, packet) for at in moments]))).periods
    assert [(row.protocol, round(row.period_s, 2)) for row in rows] == [("DNS", 32.02)]
