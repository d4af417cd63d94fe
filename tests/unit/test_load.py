"""A wrong model, topology or scenario gives file, line, key, what is wrong, and the nearest valid one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from testbed.errors import UserError
from testbed.models.base import Backoff
from testbed.models.device import Habit
from testbed.models.load import load_device, load_scenario, load_topology
from testbed.models.units import Duration, Size


class Chat(Habit):
    """A small habit, so that these tests do not depend on the shipped ones."""

    behaviour: Literal["chat"]
    every: Duration
    up: Size = 0
    down: Size = 0
    retry: Backoff | None = None


HABITS: dict[str, type[Habit]] = {"chat": Chat}

DEVICE = """\
name: lamp
title: A lamp
vendor: Lampmaker
hub_or_sensor: S
oui: "50:c7:bf"
link:
  medium: wifi
  delay: 2ms
  sources: {delay: "assumed: Wi-Fi"}
habits:
  - behaviour: chat
    name: talk
    every: 30s
    up: 1.5kB
    down: 300B
    retry: {first: 5s, factor: 2}
    sources:
      every: "cap: seen"
      up, down: "doc: said"
      retry.first: "paper: written"
      retry.factor: "assumed: doubles"
"""

SCENARIO = """\
name: cut
title: Cut the cable
topology: home
begin: 2018-04-03T00:00:00Z
duration: 2h
states:
  - {name: before, number: 1, begin: 0, end: 1h}
events:
  - action: internet
    at: 1h
    state: off
  - action: device
    at: 90m
    device: lamp
    state: restart
"""

TOPOLOGY = """\
name: flat
title: A flat
wan:
  rate: 10Mbit/s
  loss: 1%
devices:
  - {name: lamp, model: lamp}
places:
  - {name: dublin, country: IE, latitude: 53.3, longitude: -6.3, delay: 5ms}
services:
  - {name: isp_resolver, service: resolver, place: dublin, ports: [53]}
"""


def message(folder: Path, kind: str, text: str) -> str:
    """Return the message of the error that loading `text` gives, without the folder."""
    name = {"device": "lamp", "scenario": "cut", "topology": "flat"}[kind]
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        if kind == "device":
            load_device(path, habits=HABITS)
        elif kind == "scenario":
            load_scenario(path)
        else:
            load_topology(path)
    return str(caught.value).replace(f"{folder}/", "")


def test_what_is_right_loads(tmp_path: Path) -> None:
    for name, text in (("lamp", DEVICE), ("cut", SCENARIO), ("flat", TOPOLOGY)):
        (tmp_path / f"{name}.yaml").write_text(text)
    talk = load_device(tmp_path / "lamp.yaml", habits=HABITS).habits[0]
    assert isinstance(talk, Chat)
    assert (talk.every, talk.up, talk.down) == (30.0, 1500, 300)
    assert load_scenario(tmp_path / "cut.yaml").events[0].state == "off"
    assert load_topology(tmp_path / "flat.yaml").wan.rate == 10e6


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "every: 30s\n    up",
            "evry: 30s\n    up",
            "lamp.yaml:11: habits[0].every: is missing\n"
            "lamp.yaml:13: habits[0].evry: unknown key; did you mean 'every'?",
        ),
        (
            "vendor",
            "vender",
            "lamp.yaml:1: vendor: is missing\nlamp.yaml:3: vender: unknown key; did you mean 'vendor'?",
        ),
        (
            "every: 30s\n    up",
            "every: 30\n    up",
            "lamp.yaml:13: habits[0].every: needs a unit, such as 90s or 6h (got 30)",
        ),
        (
            "every: 30s\n    up",
            "every: -30s\n    up",
            "lamp.yaml:13: habits[0].every: must not be negative (got '-30s')",
        ),
        (
            "every: 30s\n    up",
            "every: 30kB\n    up",
            "lamp.yaml:13: habits[0].every: cannot read '30kB'; write it like 90s or 6h "
            "(units: us, ms, s, m, min, h, d, w)",
        ),
        ("first: 5s", "first: 0s", "lamp.yaml:16: habits[0].retry.first: must be more than 0 (got '0s')"),
        (
            "factor: 2",
            "factro: 2",
            "lamp.yaml:16: habits[0].retry.factro: unknown key; did you mean 'factor'?",
        ),
        (
            "behaviour: chat",
            "behaviour: chta",
            "lamp.yaml:11: habits[0].behaviour: unknown behaviour 'chta'; did you mean 'chat'?",
        ),
        ("behaviour: chat", "behave: chat", "lamp.yaml:11: habits[0]: needs the key behaviour"),
        ("wifi", "wify", "lamp.yaml:7: link.medium: cannot be 'wify'; did you mean 'wifi'?"),
        (
            '"50:c7:bf"',
            "50:C7:BF",
            "lamp.yaml:5: oui: must be the first three octets of a MAC in lower case, "
            "such as 50:c7:bf (got '50:C7:BF')",
        ),
        (
            "name: talk",
            "name: Talk",
            "lamp.yaml:12: habits[0].name: must be a name of lower-case letters, digits, "
            "'_' and '-', beginning with a letter (got 'Talk')",
        ),
        (
            "name: lamp",
            "name: lump",
            "lamp.yaml:1: name: is 'lump', but the file is called lamp.yaml; they must be the same",
        ),
        (
            "habits:",
            "energy_w: 2.5\nhabits:",
            "lamp.yaml:10: energy_w: has no source; add it to this block's 'sources' "
            '(energy_w: "assumed: why this value")',
        ),
        ("habits:", "ttl: many\nhabits:", "lamp.yaml:10: ttl: must be a whole number (got 'many')"),
        (
            "habits:",
            'ttl: 0\nsources: {ttl: "std: x"}\nhabits:',
            "lamp.yaml:10: ttl: must be at least 1 (got 0)",
        ),
        (
            'every: "cap: seen"',
            'evry: "cap: seen"',
            "lamp.yaml:13: habits[0].every: has no source; add it to this "
            "block's 'sources' (every: \"assumed: why this value\")\n"
            "lamp.yaml:18: habits[0].sources.evry: 'evry' is no parameter of this block; did you mean 'every'?",
        ),
        (
            "cap: seen",
            "seen",
            "lamp.yaml:18: habits[0].sources.every: must be a confidence "
            "(paper, cap, doc, inf, std, assumed), a colon, and the source",
        ),
        (
            "cap: seen",
            "guess: seen",
            "lamp.yaml:18: habits[0].sources.every: must be a confidence "
            "(paper, cap, doc, inf, std, assumed), a colon, and the source",
        ),
        (
            '      retry.factor: "assumed: doubles"\n',
            "",
            "lamp.yaml:16: habits[0].retry: has no source; add it to "
            "this block's 'sources' (retry: \"assumed: why this value\")",
        ),
        (
            "habits:",
            "habits: none\nzzzz:",
            "lamp.yaml:10: habits: must be a list (got 'none')\n"
            "lamp.yaml:11: zzzz: unknown key; valid: boot, dhcp, ",
        ),
    ],
)
def test_a_wrong_device_model(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in DEVICE
    got = message(tmp_path, "device", DEVICE.replace(old, new, 1))
    assert got.startswith(expected) if expected.endswith(" ") else got == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("duration: 2h", "duration: -2h", "cut.yaml:5: duration: must not be negative (got '-2h')"),
        ("duration: 2h", "duration: 0", "cut.yaml:5: duration: must be more than 0 (got 0)"),
        (
            "duration: 2h",
            "duration: 2 parsecs",
            "cut.yaml:5: duration: cannot read '2 parsecs'; write it like 90s "
            "or 6h (units: us, ms, s, m, min, h, d, w)",
        ),
        (
            "action: internet",
            "action: intrenet",
            "cut.yaml:9: events[0]: unknown action 'intrenet'; did you mean 'internet'?",
        ),
        ("  - action: internet\n    at", "  - at", "cut.yaml:9: events[0]: needs the key 'action'"),
        ("    at: 90m\n", "", "cut.yaml:12: events[1].at: is missing"),
        ("state: off", "state: of", "cut.yaml:11: events[0].state: cannot be 'of'; did you mean 'off'?"),
        (
            "device: lamp",
            "devise: lamp",
            "cut.yaml:12: events[1].device: is missing\n"
            "cut.yaml:14: events[1].devise: unknown key; did you mean 'device'?",
        ),
        ("number: 1", "number: 8", "cut.yaml:7: states[0].number: must be at most 7 (got 8)"),
        (
            "2018-04-03T00:00:00Z",
            "yesterday",
            "cut.yaml:4: begin: must be a time such as 2018-04-03T00:00:00Z (got 'yesterday')",
        ),
        ("states:", "sates:", "cut.yaml:6: sates: unknown key; did you mean 'states'?"),
    ],
)
def test_a_wrong_scenario(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in SCENARIO
    assert message(tmp_path, "scenario", SCENARIO.replace(old, new, 1)) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "10Mbit/s",
            "10MB",
            "flat.yaml:4: wan.rate: cannot read '10MB'; write it like 10Mbit/s "
            "(units: bit/s, kbit/s, Mbit/s, Gbit/s)",
        ),
        ("1%", "101%", "flat.yaml:5: wan.loss: must be at most 1 (got '101%')"),
        ("1%", "little", "flat.yaml:5: wan.loss: cannot read 'little'; write it like 20% or 0.2"),
        ("1%", "x%", "flat.yaml:5: wan.loss: cannot read 'x%'; write it like 20% or 0.2"),
        (
            "country: IE",
            "country: Ireland",
            "flat.yaml:9: places[0].country: must be two capital letters, such as IE (got 'Ireland')",
        ),
        (
            "latitude: 53.3",
            "latitude: 153.3",
            "flat.yaml:9: places[0].latitude: must be at most 90 (got 153.3)",
        ),
        ("ports: [53]", "ports: []", "flat.yaml:11: services[0].ports: needs at least 1 of them"),
        (
            "ports: [53]",
            "prots: [53]",
            "flat.yaml:11: services[0].ports: is missing\n"
            "flat.yaml:11: services[0].prots: unknown key; did you mean 'ports'?",
        ),
        (
            "wan:",
            "router: {address: 192.168.1}\nwan:",
            "flat.yaml:3: router.address: must be an IPv4 address such as 192.168.1.7 (got '192.168.1')",
        ),
    ],
)
def test_a_wrong_topology(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TOPOLOGY
    assert message(tmp_path, "topology", TOPOLOGY.replace(old, new, 1)) == expected


def test_many_mistakes_are_counted_not_all_shown(tmp_path: Path) -> None:
    lines = message(
        tmp_path, "scenario", SCENARIO + "".join(f"extra{n}: 1\n" for n in range(30))
    ).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 10 more"


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "cut.yaml").write_text(SCENARIO)
    assert load_scenario("cut", [tmp_path]).name == "cut"
    with pytest.raises(UserError, match=r"^unknown scenario 'ctu'; did you mean 'cut'\?$"):
        load_scenario("ctu", [tmp_path])


def test_a_path_that_is_not_there_is_said_so() -> None:
    with pytest.raises(UserError, match=r"^nowhere/cut\.yaml: no such file$"):
        load_scenario("nowhere/cut.yaml")
    with pytest.raises(UserError, match=r"^/nowhere: no such folder of models$"):
        load_scenario("cut", ["/nowhere"])


def test_the_users_folder_comes_before_the_shipped_data(tmp_path: Path) -> None:
    (tmp_path / "lamp.yaml").write_text(DEVICE)
    other = tmp_path / "other"
    other.mkdir()
    (other / "lamp.yaml").write_text(DEVICE.replace("A lamp", "Another lamp"))
    assert load_device("lamp", [tmp_path, other], HABITS).title == "A lamp"
    assert load_device("lamp", [other, tmp_path], HABITS).title == "Another lamp"


def test_a_folder_may_mix_kinds(tmp_path: Path) -> None:
    for name, text in (("lamp", DEVICE), ("cut", SCENARIO), ("flat", TOPOLOGY)):
        (tmp_path / f"{name}.yaml").write_text(text)
    assert load_topology("flat", [tmp_path]).name == "flat"
    with pytest.raises(UserError, match="unknown device 'flat'"):
        load_device("flat", [tmp_path], HABITS)


def test_times_without_a_zone_are_utc(tmp_path: Path) -> None:
    (tmp_path / "cut.yaml").write_text(SCENARIO.replace("00:00:00Z", "00:00:00"))
    assert load_scenario(tmp_path / "cut.yaml").begin.isoformat() == "2018-04-03T00:00:00+00:00"
