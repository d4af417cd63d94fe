"""Token buckets, the network's state at a moment, and addresses that depend on names alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import UserError
from testbed.kernel.neighbours import Lifetimes
from testbed.models.load import load_device
from testbed.models.topology import HomeDevice, Impairment, Topology
from testbed.protocols import dns
from testbed.scenario.addresses import device_mac, internet_addresses, lan_addresses
from testbed.scenario.internet import ROUTER_ANSWERS_NS
from testbed.scenario.timeline import Impaired, Steps, Timeline
from testbed.services.home_names import HomeNames
from testbed.simulation.conditions import Bucket, Conditions
from testbed.simulation.next_hop import NextHop
from testbed.simulation.node import Node

S = 1_000_000_000
FOOBOT = load_device("foobot")


def link(**values: Any) -> Impairment:
    return Impairment.model_validate(values)


def test_traffic_below_the_burst_passes_undelayed_and_more_waits_its_turn() -> None:
    bucket = Bucket(link(rate="8kbit/s", burst="1kB", queue="2s"))
    assert [bucket.take(0, 500) for _ in range(2)] == [0, 0]
    assert bucket.take(0, 1000) == 0  # this one runs into debt
    assert bucket.take(0, 1000) == 1 * S
    assert bucket.take(0, 1000) == 2 * S
    assert bucket.take(0, 1000) is None, "the queue is full"
    assert bucket.wait(3 * S) == 0
    assert bucket.room(4 * S, 1000) and not bucket.room(4 * S, 1)
    assert bucket.room(1000 * S, 1000) and not bucket.room(1000 * S, 1), "more than the burst was saved up"


@pytest.mark.slow
@given(
    sizes=st.lists(st.integers(1, 1500), min_size=2, max_size=60),
    gaps=st.lists(st.integers(0, S), min_size=60),
)
@settings(max_examples=60, deadline=None)
def test_no_bucket_lets_more_pass_than_its_rate_and_burst(sizes: list[int], gaps: list[int]) -> None:
    bucket = Bucket(link(rate="80kbit/s", burst="3kB", queue="1s"))
    at, left, passed = 0, [], 0
    for size, gap in zip(sizes, gaps, strict=False):
        at += gap
        wait = bucket.take(at, size)
        if wait is not None:
            assert 0 <= wait <= S
            left.append(at + wait)
            passed += size
            # All but the last packet was paid for by the burst and by time.
            assert passed - size <= 3000 + left[-1] * 1e-5 + 1
    assert all(earlier <= later + 1 for earlier, later in pairwise(left)), "packets overtake each other"


def conditions(*impaired: Impaired) -> Conditions:
    timeline = Timeline(0, 100 * S, Steps("up"), Steps(True), {}, {}, [], list(impaired))
    return Conditions(timeline, link())


def test_an_impairment_holds_from_its_begin_to_its_end_whenever_it_is_asked_about() -> None:
    """Also for packets of the future, which a play settles before their time."""
    node = Node("foobot", FOOBOT, "02:00:5e:00:00:01", 1)
    state = conditions(
        Impaired(10 * S, 20 * S, None, link(delay="100ms")),
        Impaired(30 * S, 40 * S, "foobot", link(loss=1.0)),
    )
    assert state.calm(0)
    wan = [state.cross(node, at * S, 100, upwards=True) for at in (9, 10, 19, 20)]
    assert wan == [0, S // 10, S // 10, 0]
    access = [state.access(node, at * S, 100, upwards=False)[0] for at in (10, 29, 30, 39, 40)]
    assert access == [False, False, True, True, False]
    other = Node("hive_hub", FOOBOT, "02:00:5e:00:00:02", 1)
    assert state.access(other, 35 * S, 100, upwards=True) == (False, 0)


def hop(states: list[tuple[int, str]]) -> NextHop:
    uplink = Steps("up")
    for at, state in states:
        uplink.set(at * S, state)
    timeline = Timeline(0, 1000 * S, uplink, Steps(True), {}, {}, [], [])
    return NextHop(timeline, Lifetimes(30 * S, lambda _: 0.5), 0, 3 * S)


def test_a_router_in_the_void_complains_once_its_next_hop_has_failed_and_each_search_after() -> None:
    """Confirmed at 0, 35, 70 …; the refresh at 105 finds nothing: failed three seconds later."""
    node = Node("foobot", FOOBOT, "02:00:5e:00:00:01", 1)
    router = hop([(100, "silent"), (200, "up")])
    moments = [router.error_at(node, at * S) for at in (99, 101, 107, 108, 110, 111, 199)]
    later = ROUTER_ANSWERS_NS
    assert moments == [None, None, None, 111 * S + later, 111 * S + later, 114 * S + later, None]


def test_packets_of_the_future_do_not_hold_up_a_search() -> None:
    node = Node("foobot", FOOBOT, "02:00:5e:00:00:01", 1)
    router = hop([(100, "silent")])
    assert [router.error_at(node, at * S) for at in (140, 120, 121, 141)] == [
        moment * S + ROUTER_ANSWERS_NS for moment in (143, 123, 123, 143)
    ]


def test_a_router_without_an_upstream_complains_at_once_within_its_limit() -> None:
    node = Node("foobot", FOOBOT, "02:00:5e:00:00:01", 1)
    router = hop([(10, "known")])
    moments = [router.error_at(node, 20 * S + n * S // 4) for n in range(8)]
    assert [moment is not None for moment in moments] == [True, True] + [False] * 6


# --- addresses --------------------------------------------------------------------------------


def home(*names: str, **router: Any) -> Topology:
    return Topology.model_validate(
        {
            "name": "home", "title": "Home", "router": router,
            "devices": [{"name": name, "model": "foobot"} for name in names],
        }
    )  # fmt: skip


@pytest.mark.slow
@given(
    names=st.lists(
        st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True), min_size=2, max_size=40, unique=True
    )
)
@settings(max_examples=50, deadline=None)
def test_a_device_added_at_the_end_changes_nobodys_address(names: list[str]) -> None:
    models = {"foobot": FOOBOT}
    fewer, more = home(*names[:-1]), home(*names)
    before, after = lan_addresses(fewer, models), lan_addresses(more, models)
    assert {name: after[name] for name in before} == before
    assert len(set(after.values())) == len(after)
    for name in names[:-1]:
        assert device_mac(fewer, name, models) == device_mac(more, name, models)


def test_a_pool_that_is_full_or_does_not_fit_is_the_users_mistake() -> None:
    models = {"foobot": FOOBOT}
    small = {"dhcp": {"first": 100, "size": 2}}
    assert len(lan_addresses(home("a", "b", **small), models)) == 2
    with pytest.raises(UserError, match="more devices than the DHCP pool of 2 holds"):
        lan_addresses(home("a", "b", "c", **small), models)
    with pytest.raises(UserError, match="does not fit"):
        lan_addresses(home("a", dhcp={"first": 200, "size": 100}), models)


def test_a_fixed_address_is_taken_from_nobody() -> None:
    models = {"foobot": FOOBOT}
    free = lan_addresses(home("a", "b"), models)
    wanted = HomeDevice.model_validate({"name": "c", "model": "foobot", "ip": free["a"]})
    crowded = home("a", "b").model_copy(update={"devices": (*home("a", "b").devices, wanted)})
    given = lan_addresses(crowded, models)
    assert given["c"] == free["a"] != given["a"] and given["b"] == free["b"]


def test_a_service_added_at_the_end_moves_no_other() -> None:
    place = {"name": "x", "country": "IE", "latitude": 0, "longitude": 0, "delay": "1ms"}
    services = [{"name": f"s{i}", "service": "ntp", "place": "x", "ports": [123]} for i in range(30)]
    nets = [
        Topology.model_validate(
            {"name": "n", "title": "N", "devices": [], "places": [place], "services": services[:count]}
        )
        for count in (29, 30)
    ]
    before, after = (internet_addresses(net) for net in nets)
    assert {name: after[name] for name in before} == before
    assert len({address for sites in after.values() for address, _ in sites}) == 30


def test_the_router_knows_its_home_and_leaves_the_rest_to_others() -> None:
    names = HomeNames({"hs110_plug": "192.168.1.102"})
    found = names.answer(dns.query(7, "HS110_plug.lan"), "192.168.1.120")
    assert found is not None
    assert dns.answers(found).addresses() == ("192.168.1.102",)
    unknown = names.answer(dns.query(8, "teapot.lan"), "192.168.1.120")
    assert unknown is not None and dns.answers(unknown).rcode == dns.NXDOMAIN
    for other in ("wlan", "lan.example.org", "api.vlan.example"):
        assert names.answer(dns.query(9, other), "192.168.1.120") is None
    assert names.answer(b"\x03lan\x00", "192.168.1.120") is None
