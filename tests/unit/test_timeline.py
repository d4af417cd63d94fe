"""A scenario worked out: whatever the switches, the steps are sane and say what a person would."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.models.device import DeviceModel
from testbed.models.scenario import Scenario
from testbed.models.topology import Topology
from testbed.scenario.timeline import FOREVER, Steps, Timeline, compile_timeline

S = 1_000_000_000
DURATION_S, WARM_UP_S = 600, 60
MODELS = {
    "lamp": DeviceModel.model_validate(
        {
            "name": "lamp", "title": "Lamp", "vendor": "Nobody", "hub_or_sensor": "S", "oui": "02:00:5e",
            "link": {"medium": "wifi", "associate": "3s", "drops_after": "5s", "open_wifi_after": "20s"},
        }
    ),
}  # fmt: skip
TOPOLOGY = Topology.model_validate(
    {
        "name": "nook", "title": "Nook", "open_wifi": True,
        "router": {"boot": "45s", "wan_dhcp": "10s"},
        "devices": [{"name": "lamp", "model": "lamp"}],
    }
)  # fmt: skip


def timeline(
    events: list[dict[str, Any]], *, start: str = "power-on", until_s: float | None = None
) -> Timeline:
    scenario = Scenario.model_validate(
        {
            "name": "play", "title": "Play", "begin": "2018-04-03T00:00:00Z", "duration": f"{DURATION_S}s",
            "warm_up": f"{WARM_UP_S}s", "start": start, "events": events,
        }
    )  # fmt: skip
    return compile_timeline(scenario, TOPOLOGY, MODELS, 1, until_s)


def spoken(steps: Steps[Any]) -> list[tuple[float, Any]]:
    """Return the changes, in seconds."""
    return [(at / S, value) for at, value in zip(steps.times[1:], steps.values[1:], strict=True)]


moment = st.integers(-WARM_UP_S, DURATION_S - 1).map(lambda second: f"{second}s")
switches = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "action": st.just("internet"), "at": moment, "state": st.sampled_from(["on", "off"]),
                "how": st.sampled_from(["auto", "silent", "known"]),
            }
        ),
        st.fixed_dictionaries(
            {"action": st.just("router"), "at": moment, "state": st.sampled_from(["on", "off"])}
        ),
        st.fixed_dictionaries(
            {
                "action": st.just("device"), "at": moment, "device": st.just("lamp"),
                "state": st.sampled_from(["on", "off", "restart"]),
            }
        ),
        st.fixed_dictionaries(
            {
                "action": st.just("stimulus"), "at": moment, "device": st.just("lamp"),
                "kind": st.sampled_from(["used", "join"]),
            }
        ),
    ),
    max_size=12,
)  # fmt: skip


@pytest.mark.slow
@given(events=switches, start=st.sampled_from(["power-on", "stationary"]))
@settings(max_examples=120, deadline=None)
def test_any_combination_of_switches_gives_sane_steps(events: list[dict[str, Any]], start: str) -> None:
    line = timeline(events, start=start)
    every: list[Steps[Any]] = [line.uplink, line.lan, line.power["lamp"], line.link["lamp"]]
    for steps in every:
        assert all(earlier < later for earlier, later in pairwise(steps.times))
        assert all(one != other for one, other in pairwise(steps.values)), "a step that changes nothing"
    ats = [happening.at for happening in line.happenings]
    assert ats == sorted(ats)
    assert all(at < line.end_ns for at in ats)
    for at in {at for steps in every for at in steps.times[1:]}:
        assert (line.uplink.at(at) == "off") == (not line.lan.at(at)), "an uplink of a router that is off"
        if not line.power["lamp"].at(at):
            assert line.link["lamp"].at(at) == "down", "a link of a device that is off"
    # At rest, long after the last switch, everything is where the switches say.
    end = max([0, *ats, *line.lan.times[1:], *line.uplink.times[1:]]) + 3600 * S
    routers = [e["state"] for e in ordered(events) if e["action"] == "router"]
    cables = [e["state"] for e in ordered(events) if e["action"] == "internet"]
    if routers and routers[-1] == "off":
        assert line.uplink.at(end) == "off"
    elif not cables or cables[-1] == "on":
        assert line.uplink.at(end) == "up"
    else:
        assert line.uplink.at(end) in ("silent", "known")
    if line.power["lamp"].at(end) and line.lan.at(end):
        assert line.link["lamp"].at(end) in ("home", "open")
    assert len(line.router_boots) <= routers.count("on")
    for boot in line.router_boots:
        assert line.lan.at(boot) and not line.lan.at(boot - 1)


def ordered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events by time; what happens at once ends as the loader's order has it: off before on."""
    return sorted(events, key=lambda e: (int(e["at"][:-1]), e.get("state", "")))


def router(at: int, state: str) -> dict[str, Any]:
    return {"action": "router", "at": f"{at}s", "state": state}


def internet(at: int, state: str, how: str = "auto") -> dict[str, Any]:
    return {"action": "internet", "at": f"{at}s", "state": state, "how": how}


def test_a_pulled_cable_is_silent_and_back_at_once() -> None:
    line = timeline([internet(60, "off"), internet(120, "on")])
    assert spoken(line.uplink) == [(60, "silent"), (120, "up")]
    assert spoken(line.lan) == []


def test_a_router_that_boots_without_a_cable_knows_it_and_finds_the_uplink_by_and_by() -> None:
    line = timeline([router(60, "off"), internet(70, "off"), router(80, "on"), internet(200, "on")])
    assert spoken(line.lan) == [(60, False), (125, True)]
    assert spoken(line.uplink) == [(60, "off"), (125, "known"), (210, "up")]
    assert [at / S for at in line.router_boots] == [125]


def test_a_cable_plugged_for_a_moment_gives_no_uplink() -> None:
    line = timeline([router(60, "off"), internet(70, "off"), router(80, "on"), internet(200, "on"),
                     internet(205, "off"), internet(300, "on")])  # fmt: skip
    assert spoken(line.uplink)[1:] == [(125, "known"), (310, "up")]


def test_power_that_fails_during_the_boot_starts_it_over() -> None:
    line = timeline([router(60, "off"), router(100, "on"), router(110, "off"), router(120, "on")])
    assert spoken(line.lan) == [(60, False), (165, True)]
    assert spoken(line.uplink) == [(60, "off"), (165, "up")]
    assert [at / S for at in line.router_boots] == [165]


def test_a_router_switched_on_twice_boots_once() -> None:
    line = timeline([router(60, "off"), router(100, "on"), router(120, "on")])
    assert spoken(line.lan) == [(60, False), (145, True)]


def test_two_outages_in_a_row_are_two() -> None:
    events = [internet(60, "off"), internet(61, "on"), internet(62, "off", "known"), internet(90, "on")]
    assert spoken(timeline(events).uplink) == [(60, "silent"), (61, "up"), (62, "known"), (90, "up")]


def test_a_device_misses_its_network_settles_for_the_open_one_and_is_brought_back() -> None:
    join = {"action": "stimulus", "at": "400s", "device": "lamp", "kind": "join"}
    line = timeline([router(60, "off"), router(300, "on"), join])
    assert spoken(line.link["lamp"]) == [
        (3 - WARM_UP_S, "home"), (65, "down"), (85, "open"), (400, "down"), (403, "home"),
    ]  # fmt: skip


def test_a_device_keeps_its_association_over_a_short_gap() -> None:
    assert spoken(timeline([]).link["lamp"]) == [(3 - WARM_UP_S, "home")]
    restart = {"action": "device", "at": "60s", "device": "lamp", "state": "restart", "off_for": "10s"}
    assert spoken(timeline([restart]).link["lamp"])[1:] == [(60, "down"), (73, "home")]


def test_stimuli_of_the_warm_up_stay_there() -> None:
    event = {
        "action": "stimulus", "at": "-60s", "device": "lamp", "kind": "used", "every": "20s", "jitter": "50%"
    }  # fmt: skip
    used = [h.at / S for h in timeline([event]).happenings if h.kind == "used"]
    assert sum(at < 0 for at in used) in (2, 3, 4)
    assert min(used) >= -WARM_UP_S
    assert len(set(used)) == len(used), "stimuli were heaped up at one moment"


@pytest.mark.parametrize(("until_s", "end_s"), [(None, DURATION_S), (90.0, 90), (1e9, DURATION_S)])
def test_until_ends_the_run_early_and_never_late(until_s: float | None, end_s: int) -> None:
    line = timeline([internet(60, "off"), internet(120, "on")], until_s=until_s)
    assert line.end_ns == end_s * S


def test_steps_tell_their_next_change_and_how_long_a_value_lasts() -> None:
    steps: Steps[str] = Steps("a")
    for at, value in ((10, "b"), (20, "c"), (20, "b"), (30, "a"), (30, "b"), (40, "d")):
        steps.set(at, value)
    assert (steps.times[1:], steps.values) == ([10, 40], ["a", "b", "d"])
    assert [steps.at(at) for at in (9, 10, 39, 40)] == ["a", "b", "b", "d"]
    assert (steps.next_change(10), steps.next_change(40)) == (40, FOREVER)
    assert (steps.until(0, "a"), steps.until(0, "b"), steps.until(50, "d")) == (10, 0, FOREVER)
    with pytest.raises(AssertionError):
        steps.set(39, "a")
