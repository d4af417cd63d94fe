"""What a simulated network does to packets: loss, delay, rate, dead services, devices that go away."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed.models.setup import load_setup
from tests.worlds.played import events, play, write_scenario

pytestmark = pytest.mark.slow


UPDATE = "update"
"""The Google Home's habit of fetching firmware."""


def lab(folder: Path, *happenings: str, minutes: int = 30, seed: int = 3) -> Path:
    """Play the lab with these events, after a warm-up of half an hour."""
    scenario = write_scenario(folder, "fault", minutes / 60, list(happenings), warm_up="30m")
    return play(folder / "run", scenario, seed=seed)


def exchanges(run: Path, **wanted: Any) -> pd.DataFrame:
    """Return the exchanges of the event log with these values, and the second at which each ended."""
    table = pd.DataFrame(events(run, "exchange"))
    begin = pd.Timestamp(json.loads((run / "run.json").read_text())["begin"])
    table["second"] = (pd.to_datetime(table["time"], format="ISO8601") - begin).dt.total_seconds()
    for key, value in wanted.items():
        table = table[table[key] == value]
    return table


def frames(run: Path, **wanted: Any) -> pd.DataFrame:
    table = pd.read_parquet(run / "labels.parquet")
    begin = pd.Timestamp(json.loads((run / "run.json").read_text())["begin"])
    table["second"] = (table["time_ns"] - begin.value) / 1e9
    for key, value in wanted.items():
        table = table[table[key].astype(str) == value]
    return table


def round_trips(run: Path, device: str, protocol: str) -> pd.Series:
    """Return seconds between the first frame sent and the first one received of each exchange."""
    table = frames(run, device=device, protocol=protocol)
    first = table.groupby(["exchange", table["direction"].astype(str)])["second"].min().unstack()
    return (first["received"] - first["sent"]).set_axis(first["sent"]).dropna()


def within(series: pd.Series, first_s: float, last_s: float) -> pd.Series:
    return series[(series.index > first_s) & (series.index < last_s)]


def downloads(run: Path) -> pd.Series:
    """Return the seconds at which the Google Home heard of its firmware."""
    update = frames(run, device="google_home_mini", behaviour=UPDATE, direction="received")
    return update["second"]


def test_loss_on_the_wan_loses_that_share(tmp_path: Path) -> None:
    run = lab(tmp_path, "action: impair, at: 5m, duration: 20m, link: {loss: 30%}")
    names = exchanges(run, protocol="DNS")
    lost = names["outcome"] == "no-reply"
    assert not lost[names["second"] < 300].any()
    # A query and its answer both have to pass: 1 - 0.7 * 0.7.
    assert 0.35 < lost[names["second"].between(310, 1500)].mean() < 0.65
    # TCP repeats what is lost, so that most requests go through all the same.
    heartbeats = exchanges(run, protocol="HTTPS")
    good = heartbeats["outcome"] == "ok"
    assert good[heartbeats["second"] < 300].all()
    assert good[heartbeats["second"].between(310, 1500)].mean() > 0.8


def test_delay_on_the_wan_delays_both_ways(tmp_path: Path) -> None:
    run = lab(tmp_path, "action: impair, at: 5m, duration: 20m, link: {delay: 300ms}")
    trips = round_trips(run, "dlink_motion", "DNS")
    calm, slow = within(trips, 0, 290), within(trips, 300, 1490)
    assert len(calm) > 3 and len(slow) > 3
    assert slow.median() - calm.median() == pytest.approx(0.6, abs=0.01)


def test_a_device_with_a_bad_link_suffers_alone(tmp_path: Path) -> None:
    """Loss on its access link touches all that it says: names, pings, leases, multicast."""
    plain = lab(tmp_path, "action: internet, at: 0, state: 'on'")  # as it is
    (tmp_path / "bad").mkdir()
    bad = lab(
        tmp_path / "bad", "action: impair, at: 0, duration: 30m, device: dlink_motion, link: {loss: 40%}"
    )
    before, after = (len(frames(run, device="dlink_motion", protocol="mDNS")) for run in (plain, bad))
    assert 0 < after < 0.85 * before
    names = exchanges(bad, device="dlink_motion", protocol="DNS")
    assert 0.4 < (names["outcome"] == "no-reply").mean() < 0.85  # 1 - 0.6 * 0.6
    for device in ("foobot", "hive_hub", "arlo_base", "hs110_plug"):
        one, other = (frames(run, device=device)["time_ns"].tolist() for run in (plain, bad))
        assert one == other, device


def test_a_slow_access_link_bounds_what_its_device_pulls(tmp_path: Path) -> None:
    run = lab(
        tmp_path,
        "action: stimulus, at: 1m, device: google_home_mini, kind: firmware, size: 5MB",
        "action: impair, at: 1m, duration: 20m, device: google_home_mini, link: {rate: 1Mbit/s, burst: 64kB}",
        minutes=20,
    )
    pulled = downloads(run)
    assert 40 <= pulled.max() - pulled.min() < 120, "5 MB at 1 Mbit/s, with what the full queue drops"


def test_a_silent_service_times_out_and_a_refusing_one_says_no(tmp_path: Path) -> None:
    silent = lab(tmp_path, "action: service_down, at: 5m, duration: 20m, service: dns")
    (tmp_path / "no").mkdir()
    refused = lab(
        tmp_path / "no", "action: service_down, at: 5m, duration: 20m, service: google_dns, how: refused"
    )
    names = exchanges(silent, protocol="DNS")
    there = names["second"].between(330, 1490)
    assert set(names["outcome"][there]) == {"no-reply"}
    assert set(names["outcome"][~there & (names["second"] < 300)]) == {"ok"}
    names = exchanges(refused, device="google_home_mini", protocol="DNS")
    assert "refused" in set(names["outcome"][names["second"].between(330, 1490)])
    errors = frames(refused, device="google_home_mini", protocol="ICMP", direction="received")
    assert len(errors), "a closed port answers by ICMP"


def test_a_name_that_is_down_stops_whoever_needs_it(tmp_path: Path) -> None:
    down = "action: service_down, at: 1m, duration: 20m, name: broker-gw-nc.foobot.io"
    run = lab(tmp_path, down, "action: device, at: 2m, device: foobot, state: restart, off_for: 10s")
    mqtt = frames(run, device="foobot", protocol="MQTT")["second"]
    assert not mqtt.between(150, 1260).any() and mqtt.gt(1260).any()
    said = {
        (line["event"], line["outcome"]) for line in events(run, "function") if line["device"] == "foobot"
    }
    assert ("function", "off-line") in said


def test_an_outage_in_the_middle_of_a_download_is_survived(tmp_path: Path) -> None:
    update = "action: stimulus, at: 1m, device: google_home_mini, kind: firmware, size: 20MB"
    begin = downloads(lab(tmp_path, update, minutes=15)).min()
    off, on = f"at: {begin + 2:.3f}s, state: 'off'", f"at: {begin + 100:.3f}s, state: 'on'"
    (tmp_path / "cut").mkdir()
    run = lab(tmp_path / "cut", update, f"action: internet, {off}", f"action: internet, {on}", minutes=30)
    mine = downloads(run)
    assert mine.between(begin, begin + 2).sum() > 500
    # What comes from the Internet ends; the router's ICMP errors are labelled as such.
    tcp = frames(run, device="google_home_mini", behaviour=UPDATE, direction="received", protocol="HTTPS")
    assert not tcp["second"].between(begin + 2.01, begin + 100).any(), "bytes from an Internet that is gone"
    last = [line["outcome"] for line in events(run, "function") if line["device"] == "google_home_mini"]
    assert last[-1:] in ([], ["works"])


def test_a_filled_uplink_makes_the_others_wait(tmp_path: Path) -> None:
    big = "action: stimulus, at: 10m, device: google_home_mini, kind: firmware, size: 20MB"
    run = lab(tmp_path, big, minutes=20)
    trips = round_trips(run, "foobot", "MQTT")
    pulled = downloads(run)
    begin, end = pulled.min(), pulled.max()
    rate = load_setup("internet-outage").topology.wan.rate
    assert rate is not None
    least = 20e6 * 8 / rate
    assert 0.95 * least <= end - begin < 2 * least, "a link of that rate, shared with others"
    others = exchanges(run)
    others = others[(others["device"] != "google_home_mini") & others["protocol"].isin(["DNS", "MQTT"])]
    bad = ~others["outcome"].isin(["ok", "sent"])
    busy = others["second"].between(begin, end + 5)
    assert bad[busy].any() or within(trips, begin, end).max() > 2 * within(trips, 0, 590).max()
    assert not bad[others["second"] < begin].any()


def test_a_device_that_loses_power_says_no_more(tmp_path: Path) -> None:
    """Restarts a moment apart, in the middle of exchanges: each is silent while it is off."""
    moments = {"echo_dot": 61.0, "google_home_mini": 62.5, "arlo_base": 63.0, "hs110_plug": 64.25}
    cuts = [
        f"action: device, at: {at + again}s, device: {device}, state: restart, off_for: 1500ms"
        for device, at in moments.items()
        for again in (0, 6, 11.5)
    ]
    run = lab(tmp_path, *cuts, minutes=10)
    for device, at in moments.items():
        seen = frames(run, device=device)
        for again in (0, 6, 11.5):
            off = seen[seen["second"].between(at + again + 0.001, at + again + 1.499)]
            # The router may look for a neighbour that is gone, and a server does not know it yet.
            assert not (off["direction"] == "sent").any(), (device, off)
        assert (seen["second"] > at + 20).sum() > 20, "it never came back"


def test_the_phone_switches_the_plug_and_sees_when_it_is_gone(tmp_path: Path) -> None:
    run = lab(
        tmp_path,
        "action: stimulus, at: 2m, device: smartphone, kind: used",
        "action: device, at: 2m20s, device: hs110_plug, state: restart, off_for: 10s",
        "action: device, at: 5m, device: hs110_plug, state: 'off'",
        "action: stimulus, at: 6m, device: smartphone, kind: used",
        "action: device, at: 8m, device: hs110_plug, state: 'on'",
        "action: internet, at: 9m, state: 'off'",
        "action: stimulus, at: 10m, device: smartphone, kind: used",
        minutes=15,
    )
    polls = frames(run, device="smartphone", behaviour="plug_app", protocol="TCP")
    heard = polls["second"][polls["direction"] == "received"]
    assert heard.between(120, 140).sum() > 8
    assert not heard.between(140, 480).any(), "a plug that is off answers"
    assert heard.between(600, 661).sum() > 25, "the local network works without the Internet"
    asked = frames(run, device="smartphone", protocol="ARP")["second"]
    assert asked.between(360, 364).sum() >= 3, "nobody looked for the plug"
    said = [(line["outcome"], line["why"]) for line in events(run, "local_control")]
    assert ("unreachable", "the device does not answer") in said
    assert ("no-reply", "the device no longer answers") in said


def test_the_echo_settles_for_the_open_network_and_is_not_seen_there(tmp_path: Path) -> None:
    run = lab(
        tmp_path,
        "action: router, at: 5m, state: 'off'",
        "action: router, at: 15m, state: 'on'",
        "action: stimulus, at: 25m, device: echo_dot, kind: join",
        minutes=35,
    )
    echo = frames(run, device="echo_dot")["second"]
    assert echo.lt(300).any() and not echo.between(300, 1500).any() and echo.gt(1500).any()
    links = [line["why"] for line in events(run, "link") if line["device"] == "echo_dot"]
    assert links == ["down", "open", "down", "home"]
    done = exchanges(run, device="echo_dot")
    assert (done["second"].between(1000, 1490) & (done["outcome"] == "ok")).any(), "idle on the open network"


def test_a_restarted_router_has_forgotten_whom_it_knew(tmp_path: Path) -> None:
    run = lab(tmp_path, "action: router, at: 5m, state: 'off'", "action: router, at: 6m, state: 'on'")
    everyone = frames(run)
    assert not everyone["second"].between(300.001, 404.999).any()
    leases = frames(run, protocol="DHCP")
    back = leases[leases["second"].between(405, 600)]
    assert set(back["device"].astype(str)) >= {"hive_hub", "hs110_plug", "arlo_base", "foobot"}
    asked = frames(run, protocol="ARP")
    assert asked["second"].between(405, 600).any()


TOY = """
    name: toy
    title: A toy that asks a server that nobody runs
    vendor: Nobody
    hub_or_sensor: S
    oui: "02:00:5e"
    link: {medium: wifi}
    habits:
      - {behaviour: dhcp_lease, name: dhcp, sources: {}}
      - behaviour: clock_sync
        name: time
        servers: [time.example.org]
        every: 20s
        sources: {"servers, every": "assumed: an example"}
"""


def test_a_user_plays_a_device_and_a_home_of_their_own(tmp_path: Path) -> None:
    """The tiny example, twice the same device: both get the time before, neither during the outage."""
    (tmp_path / "toy.yaml").write_text(textwrap.dedent(TOY))
    (tmp_path / "den.yaml").write_text(
        textwrap.dedent(
            """
            name: den
            title: A den
            devices: [{name: one, model: toy}, {name: two, model: toy}]
            places:
              - {name: dublin, country: IE, city: Dublin, latitude: 53.35, longitude: -6.26, delay: 5ms}
            services:
              - {name: isp_resolver, service: resolver, place: dublin, ports: [53]}
              - {name: clock, service: ntp, names: [time.example.org], place: dublin, ports: [123]}
            """
        )
    )
    off = "{action: internet, at: 4m, state: 'off', how: known}, {action: internet, at: 6m, state: 'on'}"
    (tmp_path / "gap.yaml").write_text(
        "name: gap\ntitle: A gap\ntopology: den\nbegin: 2018-04-03T00:00:00Z\nduration: 10m\nwarm_up: 2m\n"
        f"events: [{off}]\n"
    )
    run = play(tmp_path / "run", tmp_path / "gap.yaml")
    for device in ("one", "two"):
        times = exchanges(run, device=device, protocol="NTP")
        good = times["second"][times["outcome"] == "ok"]
        assert good.lt(240).sum() >= 9 and good.gt(360).sum() >= 9
        assert not good.between(241, 359).any()
    assert (frames(run, protocol="ICMP")["second"].between(240, 360)).all()
