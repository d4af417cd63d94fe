"""What the paper saw in its seven states comes out of the devices' own rules (section 4).

Measured on labels and capture of one run; the claims' full list is checked elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.worlds.played import EIGHT, events, frames, play

APPLICATION = ("DHCP", "DNS", "mDNS", "SSDP", "NTP", "HTTP", "HTTPS", "MQTT", "Weave", "GCM")
OVER_TCP = ("HTTP", "HTTPS", "MQTT", "Weave", "GCM", "TCP")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield play(tmp_path_factory.mktemp("states") / "run", "all-states")


@pytest.fixture(scope="module")
def seen(run: Path) -> pd.DataFrame:
    table = frames(run)
    return table[table["device"].isin(EIGHT)]


def amount(
    seen: pd.DataFrame,
    state: str,
    device: str | None = None,
    *protocols: str,
    direction: str | None = None,
    after_s: float = 0.0,
) -> int:
    """Return bytes in a state; `after_s` leaves out its beginning."""
    part = seen[seen["state"] == state]
    if after_s:
        part = part[part["second"] >= part["second"].min() + after_s]
    if device:
        part = part[part["device"] == device]
    if protocols:
        part = part[part["protocol"].isin(protocols)]
    if direction:
        part = part[part["direction"] == direction]
    return int(part["bytes"].sum())


def speaks(seen: pd.DataFrame, state: str, device: str, after_s: float = 0.0) -> set[str]:
    return {p for p in APPLICATION if amount(seen, state, device, p, after_s=after_s)}


def udp(seen: pd.DataFrame, state: str, device: str) -> int:
    return amount(seen, state, device, "DHCP", "DNS", "mDNS", "SSDP", "NTP", direction="sent")


def test_without_the_internet_tcp_dies_but_for_foobot_and_bare_echo_syns(seen: pd.DataFrame) -> None:
    """P-4.2-02, -03, -14 to -16: after five minutes in which kernels give up."""
    for device in EIGHT:
        tcp = amount(seen, "internet-off", device, *OVER_TCP, after_s=300)
        assert (tcp > 0) == (device in ("foobot", "echo_dot")), device
    assert speaks(seen, "internet-off", "foobot", 300) >= {"MQTT", "DNS", "DHCP"}
    assert speaks(seen, "internet-off", "echo_dot", 300) == {"DNS", "HTTP"}
    assert amount(seen, "internet-off", "foobot", "MQTT") > amount(seen, "internet-off", "echo_dot", "HTTP")


def test_without_the_internet_names_are_sought_in_vain(seen: pd.DataFrame) -> None:
    """P-4.2-01, -04: UDP grows, and most of it is DNS."""
    for device in ("hive_hub", "foobot", "google_home_mini", "echo_dot", "arlo_base"):
        assert udp(seen, "internet-off", device) > 1.5 * udp(seen, "steady", device), device
    for device in set(EIGHT) - {"nest_protect"}:
        dns = amount(seen, "internet-off", device, "DNS", direction="sent")
        assert dns > udp(seen, "internet-off", device) / 2, device


def test_hubs_ping_and_others_do_not(seen: pd.DataFrame) -> None:
    """P-4.2-08 to -13."""
    for device in ("hive_hub", "google_home_mini", "echo_dot", "arlo_base"):
        before = amount(seen, "steady", device, "ICMP", direction="sent")
        assert amount(seen, "internet-off", device, "ICMP", direction="sent") > max(1000, 2 * before), device
    for device in ("foobot", "nest_protect", "dlink_motion", "hs110_plug"):
        assert amount(seen, "internet-off", device, "ICMP", direction="sent") == 0, device


def test_arlo_asks_for_names_and_leases(seen: pd.DataFrame) -> None:
    """P-4.2-05, -06 and P-4.3-17: ~30 kB of DNS, ~10 kB of DHCP, then ~1 kB of DNS."""
    assert 24e3 < amount(seen, "internet-off", "arlo_base", "DNS") < 38e3
    assert 8e3 < amount(seen, "internet-off", "arlo_base", "DHCP") < 12e3
    assert 0.8e3 < amount(seen, "internet-back", "arlo_base", "DNS") < 1.2e3


def test_nest_sleeps_through_it(seen: pd.DataFrame) -> None:
    """P-4.2-17."""
    assert amount(seen, "internet-off", "nest_protect") == 0


def test_with_the_internet_back_most_are_still_backing_off(seen: pd.DataFrame) -> None:
    """P-4.3-01 to -16."""
    back = "internet-back"
    assert {d for d in EIGHT if amount(seen, back, d, "ICMP")} == {"hive_hub", "google_home_mini"}
    assert {d for d in EIGHT if amount(seen, back, d, "IGMP")} == {"hive_hub", "dlink_motion"}
    tcp = {d for d in EIGHT if amount(seen, back, d, *OVER_TCP)}
    assert tcp == {"hive_hub", "google_home_mini", "echo_dot", "arlo_base", "foobot"}
    assert speaks(seen, back, "hs110_plug") == {"DNS", "NTP"}
    assert speaks(seen, back, "dlink_motion") == {"DNS", "NTP"}
    assert speaks(seen, back, "google_home_mini") == {"GCM", "HTTP", "DNS"}
    assert speaks(seen, back, "echo_dot") == speaks(seen, back, "arlo_base") == {"DNS", "HTTPS"}


def test_queries_more_than_halve_when_they_are_answered(seen: pd.DataFrame) -> None:
    """P-4.3-10."""
    sent = seen[(seen["protocol"] == "DNS") & (seen["direction"] == "sent")]
    count = sent.groupby(["device", "state"]).size()
    for device in set(EIGHT) - {"nest_protect", "foobot"}:
        assert count[device, "internet-back"] < 0.5 * count[device, "internet-off"], device


def test_after_a_router_restart_without_the_internet_all_shout(seen: pd.DataFrame) -> None:
    """P-4.5-01 to -08."""
    assert amount(seen, "router-on", None, *OVER_TCP) == 0
    assert amount(seen, "router-on", "echo_dot") == 0
    over_udp = ("DHCP", "DNS", "mDNS", "SSDP", "NTP")
    for device in set(EIGHT) - {"echo_dot"}:
        both = amount(seen, "router-on", device, *over_udp)
        assert both > 20e3 and both > amount(seen, "internet-off", device, *over_udp), device
        # The Foobot asks as often as before; what is more are the refusals.
        assert udp(seen, "router-on", device) > udp(seen, "internet-off", device) or device == "foobot"
    google = amount(seen, "router-on", "google_home_mini", "ICMP", "DNS", "SSDP")
    assert google > 250e3
    assert speaks(seen, "router-on", "google_home_mini") == {"DNS", "SSDP", "DHCP"}


def test_the_recovery_after_a_restart_is_ten_times_the_other(seen: pd.DataFrame) -> None:
    """P-4.6-01 to -07, -11."""
    assert {p for d in EIGHT for p in speaks(seen, "all-back", d)} == set(APPLICATION)
    assert 6 < amount(seen, "all-back") / amount(seen, "internet-back") < 14
    plug, google, arlo = (
        amount(seen, "all-back", d, "DNS") for d in ("hs110_plug", "google_home_mini", "arlo_base")
    )
    assert plug > google > arlo
    assert plug == pytest.approx(55e3, rel=0.2) and google == pytest.approx(45e3, rel=0.2)
    assert arlo == pytest.approx(15e3, rel=0.2)


def test_a_restarted_device_says_as_much_in_five_minutes_as_all_in_that_hour(seen: pd.DataFrame) -> None:
    """P-4.7-01 to -04."""
    restarts = sum(amount(seen, f"restart-{d.replace('_', '-')}", d) for d in EIGHT)
    assert 0.5 < restarts / amount(seen, "all-back") < 2
    assert amount(seen, "restart-nest-protect", "nest_protect") == pytest.approx(35e3, rel=0.2)
    echo = seen[seen["device"] == "echo_dot"]
    before = set(echo[~echo["state"].str.startswith("restart")]["service"])
    for protocol in ("HTTP", "HTTPS"):
        new = echo[(echo["state"] == "restart-echo-dot") & (echo["protocol"] == protocol)]["service"]
        assert set(new) - before, f"{protocol} names of a kind not seen before"


def test_users_see_what_the_paper_says(run: Path) -> None:
    """P-4.2-21 to -25, P-4.3-12, P-4.6-02: the devices' own view of their function."""
    shown: dict[str, list[tuple[str, str]]] = {}
    for line in events(run, "function"):
        shown.setdefault(line["device"], []).append((line["time"][11:19], line["outcome"]))

    def at(device: str, clock: str) -> str:
        earlier = [outcome for when, outcome in shown.get(device, []) if when <= clock]
        return earlier[-1] if earlier else "works"

    off = {d: at(d, "15:30:00") for d in EIGHT}
    assert off == {
        "hive_hub": "off-line", "foobot": "off-line", "arlo_base": "off-line", "dlink_motion": "off-line",
        "hs110_plug": "partial", "google_home_mini": "partial", "echo_dot": "partial",
        "nest_protect": "works",
    }  # fmt: skip
    assert at("google_home_mini", "16:59:00") == "partial"
    assert {at(d, "19:00:00") for d in EIGHT} == {"works"}
