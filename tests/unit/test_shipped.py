"""Every shipped model, topology and scenario loads, fits together, and pleases its own editor schema."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import pytest

from testbed.models.document import read_document
from testbed.models.load import list_devices, list_scenarios, list_topologies, load_device
from testbed.models.schema import json_schema
from testbed.models.setup import load_setup
from testbed.services.registry import KINDS

DEVICES, TOPOLOGIES, SCENARIOS = list_devices(), list_topologies(), list_scenarios()

schema = cache(json_schema)


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_model_loads_with_every_number_sourced(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert device.habits


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_fits_its_topology_and_devices(name: str) -> None:
    setup = load_setup(name, services=KINDS)
    assert setup.topology.name == setup.scenario.topology


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_can_be_played_on(topology: str) -> None:
    setup = load_setup("steady-week", topology, services=KINDS)
    assert setup.topology.name == topology


FILES = [
    *(("device", name) for name in DEVICES),
    *(("topology", name) for name in TOPOLOGIES),
    *(("scenario", name) for name in SCENARIOS),
]


def data(kind: str, name: str) -> Any:
    files = {"device": DEVICES, "topology": TOPOLOGIES, "scenario": SCENARIOS}[kind]
    return read_document(files[name]).data


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), FILES)
def test_the_schema_accepts_what_the_loader_accepts(kind: Any, name: str) -> None:
    jsonschema.validate(data(kind, name), schema(kind))


@pytest.mark.parametrize(("kind", "name"), [FILES[0], FILES[-1]])
def test_the_schema_refuses_a_misspelt_key(kind: Any, name: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match="'tilte' was unexpected"):
        jsonschema.validate({**data(kind, name), "tilte": "x"}, schema(kind))


def test_the_paper_has_thirteen_devices_of_which_eight_count() -> None:
    devices = [load_device(name) for name in DEVICES]
    eight = {"hive_hub", "hs110_plug", "google_home_mini", "echo_dot", "arlo_base", "foobot", "nest_protect"}
    eight.add("dlink_motion")
    assert {device.name for device in devices if device.paper.in_statistics} == eight
    assert {"hive_motion", "parrot_pot", "mi_band", "bt_tracker", "smartphone"} <= set(DEVICES)
