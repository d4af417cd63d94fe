"""A scenario, a topology and device models that do not fit together are refused, each misfit by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.models.base import Model
from testbed.models.check import check
from testbed.models.device import DeviceModel, Link, Port
from testbed.models.load import read_scenario, read_topology
from testbed.models.units import Duration

TOPOLOGY = """\
name: flat
title: A flat
devices:
  - {name: lamp, model: lamp}
  - {name: hub, model: hub, ip: 192.168.1.10}
  - {name: sensor, model: sensor, through: hub}
places:
  - {name: dublin, country: IE, latitude: 53.3, longitude: -6.3, delay: 5ms}
services:
  - {name: isp_resolver, service: resolver, place: dublin, ports: [53]}
  - {name: clock, service: ntp, names: [ntp.example.org], place: dublin, ports: [123], options: {stratum: 1}}
"""

SCENARIO = """\
name: cut
title: Cut the cable
topology: flat
begin: 2018-04-03T00:00:00Z
duration: 2h
states:
  - {name: before, number: 1, begin: 0, end: 1h}
  - {name: after, number: 2, begin: 1h, end: 2h}
events:
  - {action: device, at: 10m, device: lamp, state: restart}
  - {action: service_down, at: 20m, duration: 5m, service: clock}
  - {action: service_down, at: 30m, duration: 5m, name: ntp.example.org}
  - {action: stimulus, at: 40m, device: sensor, kind: motion}
  - {action: fail, at: 50m, device: lamp, habits: []}
"""


class NtpOptions(Model):
    stratum: int = 2
    delay: Duration = 0


KINDS = {"resolver": Model, "ntp": NtpOptions, "broker": Model}


def model(name: str, through: str | None = None, listens: tuple[Port, ...] = ()) -> DeviceModel:
    link = Link(medium="zigbee" if through else "wifi", through=through)
    return DeviceModel(name=name, title=name, vendor="V", hub_or_sensor="S", link=link, listens=listens)


MODELS = {"lamp": model("lamp"), "hub": model("hub"), "sensor": model("sensor", "hub")}


def misfits(folder: Path, topology: str = TOPOLOGY, scenario: str = SCENARIO) -> str:
    """Return the error's text without the folder, nothing when all fits."""
    (folder / "flat.yaml").write_text(topology)
    (folder / "cut.yaml").write_text(scenario)
    net, play = read_topology(folder / "flat.yaml"), read_scenario(folder / "cut.yaml")
    documents = {("topology", "flat"): net.document, ("scenario", "cut"): play.document}
    try:
        check(play.model, net.model, MODELS, KINDS, documents)
    except UserError as error:
        return str(error).replace(f"{folder}/", "")
    return ""


def test_what_fits_passes(tmp_path: Path) -> None:
    assert misfits(tmp_path) == ""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "model: lamp",
            "model: lmap",
            "flat.yaml:4: devices[0].model: unknown device model 'lmap'; did you mean 'lamp'?",
        ),
        (
            "name: hub,",
            "name: lamp,",
            "flat.yaml:5: devices[1].name: 'lamp' is given twice\n"
            "flat.yaml:6: devices[2].through: unknown device 'hub'; valid: lamp",
        ),
        (
            "through: hub",
            "through: hbu",
            "flat.yaml:6: devices[2].through: unknown device 'hbu'; did you mean 'hub'?",
        ),
        ("model: hub,", "model: lamp,", ""),
        (
            "model: lamp}",
            "model: lamp, through: hub}",
            "flat.yaml:4: devices[0].through: 'lamp' speaks IP itself, it needs no hub",
        ),
        (
            "192.168.1.10",
            "10.0.0.1",
            "flat.yaml:5: devices[1].ip: 10.0.0.1 is outside the LAN 192.168.1.0/24",
        ),
        ("192.168.1.10", "192.168.1.1", "flat.yaml:5: devices[1].ip: 192.168.1.1 is the address of 'router'"),
        (
            "place: dublin, ports: [53]",
            "place: dubln, ports: [53]",
            "flat.yaml:10: services[0].place: unknown place 'dubln'; did you mean 'dublin'?",
        ),
        ("place: dublin, ports: [53]", "ports: [53]", "flat.yaml:10: services[0]: needs a place (or places)"),
        (
            "isp_resolver",
            "resolver2",
            "flat.yaml:1: router.dns.upstream: unknown service 'isp_resolver'; did you mean 'resolver2'?",
        ),
        (
            "service: ntp",
            "service: ntpd",
            "flat.yaml:11: services[1].service: unknown kind of service 'ntpd'; did you mean 'ntp'?",
        ),
        (
            "stratum: 1",
            "startum: 1",
            "flat.yaml:11: services[1].options.startum: unknown key; did you mean 'stratum'?",
        ),
        (
            "stratum: 1",
            "delay: 5",
            "flat.yaml:11: services[1].options.delay: needs a unit, such as 90s or 6h (got 5)",
        ),
    ],
)
def test_a_topology_that_dangles(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TOPOLOGY
    scenario = SCENARIO if "name: lamp," not in new else SCENARIO.replace("device: hub", "device: lamp")
    assert misfits(tmp_path, TOPOLOGY.replace(old, new, 1), scenario) == expected


def test_a_sensor_without_its_hub_is_refused(tmp_path: Path) -> None:
    topology = TOPOLOGY.replace("  - {name: hub, model: hub, ip: 192.168.1.10}\n", "").replace(
        ", through: hub", ""
    )
    assert (
        misfits(tmp_path, topology)
        == "flat.yaml:5: devices[1]: 'sensor' speaks through a 'hub', and there is none"
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "device: lamp, state",
            "device: lapm, state",
            "cut.yaml:10: events[0].device: unknown device 'lapm'; did you mean 'lamp'?",
        ),
        ("at: 10m", "at: 2h", "cut.yaml:10: events[0].at: lies beyond the scenario's end (2h)"),
        (
            "service: clock",
            "service: cloc",
            "cut.yaml:11: events[1].service: unknown service 'cloc'; did you mean 'clock'?",
        ),
        ("service: clock", "service: dns", ""),
        ("service: clock", "how: silent", "cut.yaml:11: events[1]: needs either a service or a name"),
        (
            "name: ntp.example.org",
            "name: ntp.example.com",
            "cut.yaml:12: events[2].name: no service is called 'ntp.example.com'; did you mean 'ntp.example.org'?",
        ),
        (
            "habits: []",
            "habits: [talk]",
            "cut.yaml:14: events[4].habits[0]: 'lamp' has no habit 'talk'; none exist",
        ),
        ("end: 2h", "end: 3h", "cut.yaml:8: states[1].end: lies beyond the scenario's end (2h)"),
        (
            "begin: 1h, end: 2h",
            "begin: 30m, end: 2h",
            "cut.yaml:8: states[1].begin: overlaps 'before', which ends at 1h",
        ),
        (
            "begin: 1h, end: 2h",
            "begin: 1h, end: 1h",
            "cut.yaml:8: states[1].end: ends at 1h, not after its begin (1h)",
        ),
        ("name: after", "name: before", "cut.yaml:8: states[1].name: 'before' is given twice"),
        (
            "number: 2",
            "number: 7, device: lapm",
            "cut.yaml:8: states[1].device: unknown device 'lapm'; did you mean 'lamp'?",
        ),
    ],
)
def test_a_scenario_that_dangles(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in SCENARIO
    assert misfits(tmp_path, scenario=SCENARIO.replace(old, new, 1)) == expected


def test_states_of_two_devices_may_overlap_but_not_of_one(tmp_path: Path) -> None:
    states = (
        "  - {name: a, device: lamp, begin: 1h, end: 2h}\n  - {name: b, device: hub, begin: 70m, end: 2h}\n"
    )
    two = SCENARIO.replace("  - {name: after, number: 2, begin: 1h, end: 2h}\n", states)
    assert misfits(tmp_path, scenario=two) == ""
    one = two.replace("device: hub", "device: lamp")
    assert misfits(tmp_path, scenario=one) == "cut.yaml:9: states[2].begin: overlaps 'a', which ends at 2h"


def test_a_device_that_answers_itself_names_a_known_kind(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(TOPOLOGY)
    (tmp_path / "cut.yaml").write_text(SCENARIO)
    listening = {**MODELS, "lamp": model("lamp", listens=(Port(port=9999, service="brokr"),))}
    net, play = read_topology(tmp_path / "flat.yaml").model, read_scenario(tmp_path / "cut.yaml").model
    with pytest.raises(UserError) as caught:
        check(play, net, listening, KINDS)
    assert str(caught.value) == (
        "device lamp: listens[0].service: unknown kind of service 'brokr'; did you mean 'broker'?"
    )


def test_programs_name_hosts_that_can_run_one(tmp_path: Path) -> None:
    text = TOPOLOGY + "programs:\n"
    for host in ("router", "lamp", "clock"):
        text += f"  - {{host: {host}, command: 'true'}}\n"
    assert misfits(tmp_path, text) == ""
    text += "  - {host: sensor, command: 'true'}\n  - {host: clok, command: 'true'}\n"
    assert misfits(tmp_path, text) == (
        "flat.yaml:16: programs[3].host: there is no host 'sensor'; did you mean 'isp_resolver'?\n"
        "flat.yaml:17: programs[4].host: there is no host 'clok'; did you mean 'clock'?"
    )
