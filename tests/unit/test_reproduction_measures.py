"""Every measurement tells what holds from what does not, on results made up by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from testbed.analysis import rows as r
from testbed.reproduction.evidence import SETTLED, Amount, Evidence, NotMeasured
from testbed.reproduction.measures import Checks
from tests.unit.doctored import device, evidence, findings, manifest, shown, spectrum_of

Case = tuple[dict[str, Any], Evidence, Evidence]


def of_states(*entries: Any, **tables: Any) -> Evidence:
    return evidence(states=findings(*entries, **tables))


def with_week(states: Evidence) -> Evidence:
    return replace(states, week=findings())


def of_week(*entries: Any, **tables: Any) -> Evidence:
    return evidence(week=findings(*entries, **tables))


def of_month(**tables: Any) -> Evidence:
    return evidence(month=findings(**tables))


def sent(state: str, who: str, what: str, size: int, packets: int = 1) -> tuple[str, str, str, str, int, int]:
    return (state, who, what, "sent", packets, size)


def table_1(**changes: Any) -> list[Any]:
    row = r.DeviceRow(
        "hive_hub", "", "H", "ethernet", "TCP", "S", 1.8, 120.0, "", "", "", "", 1, 1, 100.0, 0.0
    )
    return [row._replace(**changes)]


def exchange(state: str, who: str, what: str, name: str, attempts: int, answers: int) -> Any:
    return r.StateServiceRow(state, who, what, name, attempts, answers, 0, "", None, "", None, None)


def service(who: str, what: str, name: str, packets: int = 10) -> Any:
    return r.ServiceRow(who, what, name, "", "US", packets, 1, 1.0, "", "", None, None, "", 1)


def place(who: str, what: str, country: str, pct: float) -> Any:
    return r.PlaceRow(who, what, country, 1, 1, 1, pct)


def spike(who: str, begin: str, direction: str = "up", name: str = "update.example") -> Any:
    end = begin[:11] + f"{int(begin[11:13]) + 1:02d}" + begin[13:]
    return r.SpikeRow(who, begin, end, direction, 1000, 10.0, "HTTPS", name, 90.0)


def dependency(continued: str, disrupted: str) -> Any:
    return r.DependencyRow("hive_hub", "partial", continued, disrupted, "", "internet-off")


OFF = "internet-off"
DAYS = ["2018-04-03T10:00:00Z", "2018-04-05T10:00:00Z", "2018-04-07T10:00:00Z"]
QUIET = [r.BandwidthRow("hive_hub", f"2018-04-06T0{hour}:00:00Z", 100, 0) for hour in range(1, 9)]
CASES: dict[str, Case] = {
    "amount too large": (
        {
            "amount": {
                "devices": ["hive_hub"],
                "protocols": ["DNS"],
                "when": "S2",
                "least": "1kB",
                "most": "2kB",
            }
        },
        of_states(sent(OFF, "hive_hub", "DNS", 1500)),
        of_states(sent(OFF, "hive_hub", "DNS", 2500)),
    ),
    "amount of one device of several": (
        {"amount": {"devices": "eight", "protocols": ["TCP"], "when": "S2", "unit": "packets", "most": 0}},
        of_states(sent(OFF, "hive_hub", "UDP", 1500)),
        of_states(sent(OFF, "foobot", "TCP", 60)),
    ),
    "amount that only the settled part lacks": (
        {"amount": {"devices": "eight", "protocols": ["TCP"], "when": "S2", "settled": True, "most": 0}},
        of_states(sent(OFF, "hive_hub", "TCP", 1500)),
        of_states(sent(OFF + SETTLED, "hive_hub", "TCP", 60)),
    ),
    "rate per second of a week": (
        {"amount": {"devices": ["hive_hub"], "when": "week", "per": "second", "least": 0.9, "most": 1.1}},
        of_week(sent("", "hive_hub", "TCP", 604800)),
        of_week(sent("", "hive_hub", "TCP", 2 * 604800)),
    ),
    "ratio": (
        {
            "ratio": {
                "devices": ["foobot"],
                "protocols": ["MQTT"],
                "when": "week",
                "to": {"protocols": ["TCP"]},
                "least": 0.5,
            }
        },
        of_week(sent("", "foobot", "MQTT", 60), sent("", "foobot", "TCP", 100)),
        of_week(sent("", "foobot", "MQTT", 40), sent("", "foobot", "TCP", 100)),
    ),
    "ratio of nothing to nothing": (
        {
            "ratio": {
                "devices": ["foobot"],
                "protocols": ["MQTT"],
                "when": "S2",
                "to": {"when": "S3"},
                "least": 0.0,
            }
        },
        of_states(sent(OFF, "foobot", "MQTT", 60), sent("internet-back", "foobot", "MQTT", 60)),
        of_states(),
    ),
    "ratio without the gain": (
        {
            "ratio": {
                "devices": ["foobot"],
                "protocols": ["ICMP"],
                "when": "S2",
                "to": {"when": "S1"},
                "least": 2,
                "gain": "1kB",
            }
        },
        of_states(sent(OFF, "foobot", "ICMP", 1100)),
        of_states(sent(OFF, "foobot", "ICMP", 900)),
    ),
    "ratio of sums": (
        {
            "ratio": {
                "devices": "eight",
                "when": "S3",
                "to": {"when": "S2"},
                "together": True,
                "least": 9,
                "most": 11,
            }
        },
        of_states(sent("internet-back", "foobot", "TCP", 1000), sent(OFF, "hive_hub", "TCP", 100)),
        of_states(sent("internet-back", "foobot", "TCP", 1000), sent(OFF, "hive_hub", "TCP", 10)),
    ),
    "order": (
        {"order": {"of": "rate", "ranks": [["hive_hub"], ["foobot"]]}},
        of_week(sent("", "hive_hub", "TCP", 2), sent("", "foobot", "TCP", 1)),
        of_week(sent("", "hive_hub", "TCP", 1), sent("", "foobot", "TCP", 2)),
    ),
    "order with a tie": (
        {"order": {"of": "traffic", "ranks": [["hive_hub", "foobot"]], "tie": 0.1}},
        of_week(sent("", "hive_hub", "TCP", 105), sent("", "foobot", "TCP", 100)),
        of_week(sent("", "hive_hub", "TCP", 120), sent("", "foobot", "TCP", 100)),
    ),
    "top share": (
        {"top_share": {"count": 1, "protocols": ["DNS"], "least": 0.09, "most": 0.15}},
        of_week(sent("", "hive_hub", "DNS", 12), sent("", "foobot", "UDP", 100)),
        of_week(sent("", "hive_hub", "DNS", 20), sent("", "foobot", "UDP", 100)),
    ),
    "payload": (
        {"payload": {"device": "foobot", "protocol": "Weave", "unit": "packets", "least": 6, "most": 6}},
        evidence(week=replace(findings(), payloads={("foobot", "Weave"): Amount(42, 1)})),
        evidence(week=replace(findings(), payloads={("foobot", "Weave"): Amount(43, 1)})),
    ),
    "days": (
        {"days": {"device": "foobot", "protocols": ["HTTPS"], "first": "2018-04-04", "last": "2018-04-04"}},
        evidence(month=findings(sent("2018-04-04", "foobot", "HTTPS", 1))),
        evidence(
            month=findings(sent("2018-04-04", "foobot", "HTTPS", 1), sent("2018-04-05", "foobot", "HTTPS", 1))
        ),
    ),
    "protocols that must be": (
        {"protocols": {"devices": ["hive_hub"], "when": "S2", "must": ["DNS"]}},
        of_states(sent(OFF, "hive_hub", "DNS", 1)),
        of_states(),
    ),
    "protocols that may not be": (
        {"protocols": {"devices": ["hive_hub"], "when": "S2", "must": ["DNS"]}},
        of_states(sent(OFF, "hive_hub", "DNS", 1)),
        of_states(sent(OFF, "hive_hub", "DNS", 1), sent(OFF, "hive_hub", "NTP", 1)),
    ),
    "number of protocols": (
        {"protocols": {"devices": "eight", "when": "S2", "together": True, "count": [2, 2]}},
        of_states(sent(OFF, "hive_hub", "DNS", 1), sent(OFF, "foobot", "MQTT", 1)),
        of_states(sent(OFF, "hive_hub", "DNS", 1), sent(OFF, "foobot", "DNS", 1)),
    ),
    "protocols with too small a share": (
        {
            "protocols": {
                "devices": ["hive_hub"],
                "layer": "transport",
                "when": "week",
                "share": 0.001,
                "must": ["IGMP"],
                "may": ["any"],
            }
        },
        of_week(sent("", "hive_hub", "TCP", 1000), sent("", "hive_hub", "IGMP", 2)),
        of_week(sent("", "hive_hub", "TCP", 10000), sent("", "hive_hub", "IGMP", 2)),
    ),
    "users": (
        {"users": {"protocols": ["IGMP"], "when": "S3", "devices": ["hive_hub"]}},
        of_states(sent("internet-back", "hive_hub", "IGMP", 1)),
        of_states(sent("internet-back", "hive_hub", "IGMP", 1), sent("internet-back", "foobot", "IGMP", 1)),
    ),
    "number of users": (
        {"users": {"protocols": ["TCP"], "when": "S3", "count": 1}},
        of_states(sent("internet-back", "hive_hub", "TCP", 1)),
        of_states(),
    ),
    "answered": (
        {"answered": {"devices": "eight", "protocols": ["HTTP"], "when": "S2"}},
        of_states(state_services=[exchange(OFF + SETTLED, "foobot", "HTTP", "a", 5, 0)]),
        of_states(state_services=[exchange(OFF + SETTLED, "foobot", "HTTP", "a", 5, 1)]),
    ),
    "continued": (
        {"dependencies": {"device": "hive_hub", "column": "continued", "must": ["DNS"]}},
        of_states(dependencies=[dependency("DNS", "HTTPS")]),
        of_states(dependencies=[dependency("DNS;DHCP", "HTTPS")]),
    ),
    "disrupted": (
        {"dependencies": {"device": "hive_hub", "column": "disrupted", "must": ["HTTPS", "DHCP"]}},
        with_week(of_states(dependencies=[dependency("DNS", "DHCP;HTTPS")])),
        with_week(of_states(dependencies=[dependency("DNS", "HTTPS")])),
    ),
    "a line": (
        {"lines": {"device": "hive_hub", "protocol": "DHCP", "at": [28], "strongest": 28}},
        of_week(periodicity=spectrum_of("hive_hub", "DHCP", {28: 0.9})),
        of_week(periodicity=spectrum_of("hive_hub", "DHCP", {32: 0.9})),
    ),
    "a line too weak": (
        {"lines": {"device": "hive_hub", "protocol": "DNS", "at": [7, 14]}},
        of_week(periodicity=spectrum_of("hive_hub", "DNS", {7: 0.9, 14: 0.2})),
        of_week(periodicity=spectrum_of("hive_hub", "DNS", {7: 0.9, 14: 0.02})),
    ),
    "a line that should be absent": (
        {"lines": {"device": "hive_hub", "protocol": "DNS", "at": [7], "absent": [14]}},
        of_week(periodicity=spectrum_of("hive_hub", "DNS", {7: 0.9})),
        of_week(periodicity=spectrum_of("hive_hub", "DNS", {7: 0.9, 14: 0.9})),
    ),
    "a line in the paper's week": (
        {"lines": {"device": "hive_hub", "protocol": "DNS", "at": [1, 2], "any": True, "when": "paper-week"}},
        evidence(month=replace(findings(), paper_week=spectrum_of("hive_hub", "DNS", {1: 0.9}))),
        evidence(month=replace(findings(), paper_week=spectrum_of("hive_hub", "DNS", {5: 0.9}))),
    ),
    "periodic": (
        {"periodic": {"devices": ["hive_hub"], "protocols": ["DNS"]}},
        of_week(periodicity=spectrum_of("hive_hub", "DNS", {7: 0.9})),
        of_week(periodicity=spectrum_of("hive_hub", "DNS", {})),
    ),
    "aperiodic": (
        {"periodic": {"devices": ["foobot"], "protocols": ["MQTT"], "expected": False}},
        of_week(periodicity=spectrum_of("foobot", "MQTT", {})),
        of_week(periodicity=spectrum_of("foobot", "MQTT", {32: 0.9})),
    ),
    "spikes": (
        {"spikes": {"device": "hive_hub", "when": "month", "name": "update"}},
        of_month(spikes=[spike("hive_hub", DAYS[0])]),
        of_month(spikes=[spike("hive_hub", DAYS[0], name="other.example")]),
    ),
    "a spike at its time": (
        {
            "spikes": {
                "device": "hive_hub",
                "when": "month",
                "begin": "2018-04-05T00:00:00Z",
                "end": "2018-04-06T00:00:00Z",
            }
        },
        of_month(spikes=[spike("hive_hub", DAYS[1])]),
        of_month(spikes=[spike("hive_hub", DAYS[0])]),
    ),
    "regular spikes": (
        {"spikes": {"device": "hive_hub", "when": "week", "least": 3, "regular": True}},
        of_week(spikes=[spike("hive_hub", day) for day in DAYS]),
        of_week(spikes=[spike("hive_hub", day) for day in (DAYS[0], "2018-04-03T13:00:00Z", DAYS[2])]),
    ),
    "dips": (
        {
            "dips": {
                "devices": ["hive_hub"],
                "while_device": "foobot",
                "while_name": "",
                "begin": "2018-04-06T02:00:00Z",
                "end": "2018-04-06T06:00:00Z",
            }
        },
        of_month(
            spikes=[spike("foobot", "2018-04-06T04:00:00Z")],
            bandwidth=[
                row if row.window_start[11:13] != "04" else row._replace(sent_bytes=50) for row in QUIET
            ],
        ),
        of_month(spikes=[spike("foobot", "2018-04-06T04:00:00Z")], bandwidth=QUIET),
    ),
    "places": (
        {"places": {"device": "hive_hub", "protocol": "NTP", "least": 2}},
        of_week(places=[place("hive_hub", "NTP", country, 1) for country in ("DE", "FR")]),
        of_week(places=[place("hive_hub", "NTP", country, 1) for country in ("DE", "DE")]),
    ),
    "active places": (
        {"active_places": {"most": 1, "without": [["foobot", "NTP"]]}},
        of_week(places=[place("hive_hub", "DNS", "DE", 60), place("foobot", "NTP", "FR", 60)]),
        of_week(places=[place("hive_hub", "DNS", "DE", 60), place("foobot", "MQTT", "FR", 60)]),
    ),
    "mostly inactive places": (
        {"active_places": {"most_share": 0.5}},
        of_week(
            places=[
                place("hive_hub", "DNS", "DE", 60),
                *(place("foobot", "MQTT", c, 1) for c in ("FR", "GB")),
            ]
        ),
        of_week(places=[place("hive_hub", "DNS", "DE", 60), place("foobot", "MQTT", "FR", 60)]),
    ),
    "names": (
        {"names": {"device": "hive_hub", "protocol": "NTP", "like": [r"hive\.com$"], "only": True}},
        of_week(services=[service("hive_hub", "NTP", "ntp.hive.com")]),
        of_week(
            services=[service("hive_hub", "NTP", "ntp.hive.com"), service("hive_hub", "NTP", "pool.ntp.org")]
        ),
    ),
    "queries for time servers": (
        {"queries": {"devices": ["hive_hub"], "protocol": "NTP", "least": 100}},
        of_week(services=[service("hive_hub", "NTP", "pool"), service("hive_hub", "DNS", "pool", 1400)]),
        of_week(services=[service("hive_hub", "NTP", "pool"), service("hive_hub", "DNS", "cloud", 1400)]),
    ),
    "few queries": (
        {"queries": {"devices": ["hive_hub"], "most": 20}},
        of_week(sent("", "hive_hub", "DNS", 1, packets=70)),
        of_week(sent("", "hive_hub", "DNS", 1, packets=700)),
    ),
    "new peers": (
        {"new_peers": {"devices": ["foobot"], "protocols": ["HTTP"], "before": ["S1"]}},
        of_states(state_services=[exchange("restart", "foobot", "HTTP", "new", 1, 1)]),
        of_states(
            state_services=[exchange(name, "foobot", "HTTP", "old", 1, 1) for name in ("steady", "restart")]
        ),
    ),
    "operators": (
        {"operators": {"devices": "eight", "protocol": "NTP"}},
        of_week(
            sent("", "hive_hub", "NTP", 1, packets=100),
            sent("", "foobot", "NTP", 1, packets=7),
            services=[service("hive_hub", "NTP", "a"), service("foobot", "NTP", "b")],
        ),
        of_week(
            sent("", "hive_hub", "NTP", 1, packets=100),
            sent("", "foobot", "NTP", 1, packets=7),
            services=[service("hive_hub", "NTP", "a"), service("foobot", "NTP", "a")],
        ),
    ),
    "labels": (
        {"labels": {"device": "hive_hub", "group": "H", "security": "S", "energy_w": 1.8, "mean_rate": True}},
        of_week(devices=table_1()),
        of_week(devices=table_1(security="S,I")),
    ),
    "no power": (
        {"labels": {"device": "hive_hub", "unknown_energy": True}},
        of_week(devices=table_1(energy_w=None)),
        of_week(devices=table_1()),
    ),
    "function throughout": (
        {"function": {"devices": ["foobot"], "when": "S2", "outcomes": ["off-line"], "at": "throughout"}},
        evidence(states=replace(findings(), shown=[shown(1.01, "foobot", "off-line")])),
        evidence(
            states=replace(
                findings(), shown=[shown(1.01, "foobot", "off-line"), shown(1.5, "foobot", "works")]
            )
        ),
    ),
    "function at the end, and locally": (
        {"function": {"devices": ["foobot"], "when": "S2", "outcomes": ["partial"], "local": "lamp"}},
        evidence(states=replace(findings(), shown=[shown(1.5, "foobot", "partial", "its lamp")])),
        evidence(states=replace(findings(), shown=[shown(1.5, "foobot", "partial", "nothing")])),
    ),
    "manifest": (
        {"manifest": {"key": "ip_devices", "equals": "2"}},
        of_states(),
        evidence(states=replace(findings(), manifest=manifest(devices=[device("hive_hub", "H")]))),
    ),
    "state's length": (
        {"state_length": {"when": "S2", "least_s": 3600, "most_s": 3600}},
        of_states(),
        evidence(
            states=replace(
                findings(),
                manifest=manifest(
                    states=[
                        {
                            "name": "x",
                            "number": 2,
                            "device": None,
                            "begin": "2018-04-03T00:00:00Z",
                            "end": "2018-04-03T00:30:00Z",
                        }
                    ]
                ),
            )
        ),
    ),
    "links": (
        {"links": {"wired": ["hive_hub"], "wireless": ["foobot"]}},
        of_states(),
        evidence(
            states=replace(
                findings(),
                manifest=manifest(devices=[device("hive_hub", "H", "wifi"), device("foobot", "S")]),
            )
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_tells_what_holds_from_what_does_not(case: str) -> None:
    check, good, bad = CASES[case]
    checks = Checks.model_validate(check)
    assert checks.measure(good).holds
    assert not checks.measure(bad).holds
    assert checks.accepts()


def test_table_2_is_read_from_what_was_played() -> None:
    def holds(when: str, internet: bool, router: bool, restarted: bool = False) -> bool:
        switches = {"when": when, "internet": internet, "router": router, "restarted": restarted}
        return Checks.model_validate({"switches": switches}).measure(of_states()).holds

    assert holds("S2", internet=False, router=True)
    assert not holds("S2", internet=True, router=True)
    assert holds("S4", internet=False, router=False)
    assert not holds("S5", internet=False, router=False)
    assert holds("S7", internet=True, router=True, restarted=True)
    assert not holds("S7", internet=True, router=True)


def test_the_topology_is_read_from_what_was_played() -> None:
    def holds(key: str, equals: str) -> bool:
        return Checks.model_validate({"topology": {"key": key, "equals": equals}}).measure(of_states()).holds

    assert holds("wan", "yes") and not holds("wan", "no")
    assert holds("open_wifi", "yes") and not holds("open_wifi", "no")


def test_every_measurement_has_a_case() -> None:
    tested = {name for check, _, _ in CASES.values() for name in check} | {"switches", "topology"}
    assert tested == set(Checks.model_fields)


def test_what_was_not_played_is_not_measured() -> None:
    checks = Checks.model_validate({"amount": {"devices": ["hive_hub"], "when": "week", "least": 1}})
    with pytest.raises(NotMeasured, match="no week was played"):
        checks.measure(of_states())


def test_state_1_is_the_mean_hour_of_the_week_if_there_is_one() -> None:
    week, states = findings(sent("", "foobot", "DNS", 1680)), findings(sent("steady", "foobot", "DNS", 7))
    assert evidence(states, week).amount("foobot", ["DNS"], "S1").bytes == 10
    assert evidence(states).amount("foobot", ["DNS"], "S1").bytes == 7


def test_a_check_that_asks_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs least or most"):
        Checks.model_validate({"amount": {"devices": "eight", "when": "week"}})
    with pytest.raises(ValidationError, match="needs must, may or count"):
        Checks.model_validate({"protocols": {"devices": "eight", "when": "week"}})
