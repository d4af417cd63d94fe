"""The shipped device models fit together with the lab: every name, fact and stimulus leads somewhere."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.behaviours import behaviours, facts
from testbed.models import DeviceModel
from testbed.models.load import list_devices, list_scenarios, list_topologies, load_device, load_topology
from testbed.models.setup import load_setup

NAMES = [
    "arlo_base",
    "bt_tracker",
    "dlink_motion",
    "echo_dot",
    "foobot",
    "google_home_mini",
    "hive_hub",
    "hive_motion",
    "hs110_plug",
    "mi_band",
    "nest_protect",
    "parrot_pot",
    "smartphone",
]
TABLE_1 = {
    "hive_hub": ("H", 1.8, 120), "hs110_plug": ("H", 2.05, 100), "google_home_mini": ("H", 1.4, 125),
    "echo_dot": ("H", 1.95, 125), "arlo_base": ("H", 4.6, 70), "foobot": ("S", 1.79, 18),
    "nest_protect": ("S", None, 0.02), "dlink_motion": ("S", 1.4, None),
}  # fmt: skip
"""Class, power in watts, mean bytes per second (Table 1)."""
BOARD_FACTS = {
    facts.LEASE, facts.ONLINE, facts.OFFLINE, facts.FRESH, facts.LOST, facts.REGISTERED, facts.CLOCK,
}  # fmt: skip
OUTSIDE = {"used", "motion", "firmware", "join"}
ANNOUNCED = {facts.RENEWED, facts.RESUMED, facts.REGISTERED}


@pytest.fixture(scope="module")
def models() -> dict[str, DeviceModel]:
    return {name: load_device(name) for name in list_devices()}


def test_all_twelve_devices_and_the_phone_are_there(models: dict[str, DeviceModel]) -> None:
    assert sorted(models) == NAMES


def test_the_models_carry_table_1(models: dict[str, DeviceModel]) -> None:
    for name, row in TABLE_1.items():
        model = models[name]
        assert (model.hub_or_sensor, model.energy_w, model.paper.mean_bytes_per_s) == row, name
        assert model.paper.in_statistics


@pytest.mark.parametrize("name", NAMES)
def test_every_habit_can_run(name: str, models: dict[str, DeviceModel]) -> None:
    model = models[name]
    names = [habit.name for habit in model.habits]
    assert len(set(names)) == len(names)
    known = BOARD_FACTS | set(names)
    told = {habit.tells for child in models.values() for habit in child.habits if hasattr(habit, "tells")}
    for habit in model.habits:
        assert habit.behaviour in behaviours()
        assert set(habit.requires) <= known, f"{habit.name} waits for a fact that nobody sets"
        heard = getattr(habit, "on", None) or getattr(habit, "again_on", None)
        assert heard is None or heard in OUTSIDE | ANNOUNCED | told, f"{habit.name} waits for '{heard}'"
    assert set(model.function.needs) <= known


def _names_asked_for(value: Any, key: str = "") -> set[str]:
    """Collect the DNS names in a habit's parameters, its `sources` left out."""
    if isinstance(value, dict):
        return {
            name
            for inner, part in value.items()
            if inner != "sources"
            for name in _names_asked_for(part, inner)
        }
    if isinstance(value, list | tuple):
        return {name for part in value for name in _names_asked_for(part, key)}
    return {value} if key in ("host", "names", "servers", "remembered") else set()


def test_the_labs_internet_has_every_name_that_a_device_asks_for(models: dict[str, DeviceModel]) -> None:
    lab = load_topology("home")
    offered = {name for service in lab.services for name in service.names}
    asked = {
        (model.name, name)
        for model in models.values()
        for habit in model.habits
        for name in _names_asked_for(habit.model_dump())
    }
    assert asked and {(device, name) for device, name in asked if name not in offered} == set()


def test_the_labs_time_servers_stand_in_tens_of_countries() -> None:
    lab = load_topology("home")
    countries = {place.name: place.country for place in lab.places}
    places = {
        place
        for service in lab.services
        if service.service == "ntp"
        for place in service.places or (service.place,)
    }
    assert len({countries[place] for place in places if place}) >= 30


@pytest.mark.parametrize("scenario", sorted(list_scenarios()))
def test_every_shipped_scenario_plays_on_the_lab(scenario: str) -> None:
    setup = load_setup(scenario)
    assert setup.topology.name == "home"


def test_twenty_homes_share_the_labs_internet() -> None:
    assert set(list_topologies()) >= {"home", "twenty-homes"}
    setup = load_setup("internet-outage", "twenty-homes")
    assert len(setup.topology.devices) >= 150
    assert setup.topology.services == load_topology("home").services


def test_the_seven_states_have_the_lengths_of_the_paper() -> None:
    states = load_setup("all-states").scenario.states
    lengths = {state.number: state.end - state.begin for state in states}
    assert lengths == {1: 3600, 2: 3600, 3: 3600, 4: 645, 5: 3600, 6: 3600, 7: 300}
    assert len([state for state in states if state.number == 7 and state.device]) == 8
