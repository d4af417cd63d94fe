"""Checks of the Internet, discovery and groups: when they speak, and what makes them stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from testbed.behaviours import facts, run_device
from testbed.behaviours.group_membership import group_membership
from testbed.behaviours.http_check import http_check
from testbed.behaviours.local_control import local_control
from testbed.behaviours.mdns import mdns
from testbed.behaviours.outage_probe import outage_probe
from testbed.behaviours.ping_cycle import ping_cycle
from testbed.behaviours.radio_child import radio_child
from testbed.behaviours.resolver import resolve
from testbed.behaviours.ssdp import ssdp
from testbed.host import Board
from testbed.models.habits import (
    HABITS,
    GroupMembership,
    HttpCheck,
    LocalControl,
    Mdns,
    OutageProbe,
    PingCycle,
    RadioChild,
    Ssdp,
)
from testbed.protocols import igmp
from testbed.protocols import mdns as codec
from testbed.protocols import ssdp as ssdp_codec
from tests.fake_host import BEGIN, Done, FakeHost, Net, device, online


def start(habit: Callable[..., Coroutine[Any, Any, None]], p: Any, **resolver: Any) -> tuple[Net, FakeHost]:
    net = Net()
    net.serve("web", "check.example", "198.18.0.20", 80, paths={"/generate_204": {"status": 204}})
    host = FakeHost(net, device(resolver={"tries": 1, **resolver}), "habit")
    net.start(habit(host, p))
    online(host)
    return net, host


def of(net: Net, *kinds: str, since: float = 0.0) -> list[Done]:
    return [done for done in net.log if done.kind in kinds and done.at >= since]


def gaps(done: list[Done]) -> list[float]:
    return [b.at - a.at for a, b in itertools.pairwise(done)]


# --- HTTP checks ------------------------------------------------------------------------------

CHECK = {
    "behaviour": "http_check", "name": "check", "every": "61s", "every_offline": {"first": "10s"},
    "targets": [{"host": "check.example", "path": "/generate_204", "status": 204}],
}  # fmt: skip


def test_a_good_page_means_online_and_its_loss_off_line() -> None:
    net, host = start(http_check, HttpCheck.model_validate(CHECK))
    net.run(200)
    assert host.board.get(facts.ONLINE)
    assert gaps(of(net, "open")) == pytest.approx([61] * 3)
    net.uplink = "known"
    net.run(120)
    assert host.board.get(facts.LOST)
    since = net.now - BEGIN
    net.run(60)
    assert gaps(of(net, "udp", since=since)) == pytest.approx([10.05] * 5)
    net.uplink = "up"
    net.run(200)
    assert host.board.get(facts.ONLINE) and gaps(of(net, "open"))[-1] == pytest.approx(61)


def test_a_portals_page_is_not_the_internet() -> None:
    p = HttpCheck.model_validate(
        {**CHECK, "targets": [{"host": "check.example", "path": "/", "status": 204}]}
    )
    net, host = start(http_check, p)
    net.run(30)
    assert host.board.get(facts.OFFLINE) and of(net, "request")


def test_a_check_that_does_not_decide_leaves_the_belief_alone() -> None:
    net, host = start(http_check, HttpCheck.model_validate({**CHECK, "decides": False}))
    net.run(200)
    assert of(net, "request") and host.board.get(facts.OFFLINE)


# --- probes and pings -------------------------------------------------------------------------

PROBE = {
    "behaviour": "outage_probe", "name": "probe", "names": ["check.example"],
    "wait": {"first": "60s", "factor": 2, "cap": "10min"},
    "pings": [{"target": "gateway", "count": 5}, {"target": "resolver", "count": 5}],
    "remembered": ["check.example"], "timeout": "5s",
}  # fmt: skip


def test_a_probe_sleeps_until_the_internet_is_gone() -> None:
    net, host = start(outage_probe, OutageProbe.model_validate(PROBE))
    facts.went_online(host, "test")  # type: ignore[arg-type]
    net.run(3600)
    assert net.log == []


def test_a_probe_asks_then_pings_then_tries_remembered_addresses_ever_less_often() -> None:
    net, host = start(outage_probe, OutageProbe.model_validate(PROBE), timeout="5s")
    net.start(_forget(resolve(host, "check.example")))  # type: ignore[arg-type]
    net.run(1)
    facts.went_online(host, "test")  # type: ignore[arg-type]
    net.uplink = "silent"
    facts.went_offline(host, "test")  # type: ignore[arg-type]
    since = net.now - BEGIN
    net.run(3600)
    seen = of(net, "udp", "ping", "open", since=since)
    assert [done.kind for done in seen[:4]] == ["udp", "ping", "ping", "open"]
    assert seen[3].about.protocol == "HTTP" and "remembered" in seen[3].about.why
    rounds = gaps([done for done in seen if done.kind == "udp"])
    assert rounds[0] < rounds[1] < rounds[2] and rounds[-1] == pytest.approx(600, abs=30)
    net.uplink = "up"
    net.run(700)
    assert host.board.get(facts.ONLINE)
    assert of(net, "ping", since=since + 3600) == [], "the answer ends the outage before anything is pinged"


async def _forget(work: Coroutine[Any, Any, Any]) -> None:
    await work


def test_a_remembered_address_that_answers_ends_the_outage_too() -> None:
    net, host = start(outage_probe, OutageProbe.model_validate({**PROBE, "names": ["gone.example"]}))
    net.start(_forget(resolve(host, "check.example")))  # type: ignore[arg-type]
    net.run(70)
    assert host.board.get(facts.ONLINE) and of(net, "close")


def test_pings_quicken_as_soon_as_the_device_believes_itself_off_line() -> None:
    p = PingCycle.model_validate(
        {"behaviour": "ping_cycle", "name": "ping", "targets": [{"target": "gateway"}, {"target": "8.8.8.8"}],
         "every": "64s", "every_offline": "16s", "first": "64s", "names": ["check.example"]}
    )  # fmt: skip
    net, host = start(ping_cycle, p)
    facts.went_online(host, "test")  # type: ignore[arg-type]
    net.run(300)
    cycles = [done for done in of(net, "ping") if done.about.service == "gateway"]
    assert [done.at for done in cycles] == pytest.approx([64, 128, 192, 256])
    assert len(of(net, "udp")) == 4
    facts.went_offline(host, "test")  # type: ignore[arg-type]
    since = net.now - BEGIN
    net.run(100)
    cycles = [done for done in of(net, "ping", since=since) if done.about.service == "gateway"]
    assert cycles[0].at == pytest.approx(since) and gaps(cycles) == pytest.approx([16] * 6)


# --- multicast --------------------------------------------------------------------------------


def test_groups_are_joined_reported_on_queries_and_left_with_what_they_serve() -> None:
    p = GroupMembership.model_validate(
        {"behaviour": "group_membership", "name": "g", "groups": ["224.0.0.251", "239.255.255.250"],
         "requires": ["registered"]}
    )  # fmt: skip
    net, host = start(group_membership, p)
    net.run(10)
    assert net.log == []
    host.board.set(facts.REGISTERED, True)
    net.run(10)
    joins = [igmp.parse(done.data) for done in of(net, "igmp")]
    assert len(joins) == 4 and {record.groups[0].group for record in joins} == set(p.groups)
    assert host.board.get("group 224.0.0.251")
    since = net.now - BEGIN
    host.query(igmp.query(max_response_s=10.0))
    net.run(60)
    answers = of(net, "igmp", since=since)
    assert {igmp.parse(done.data).group for done in answers} == set(p.groups)
    assert all(since < done.at <= since + 10 for done in answers)
    host.query(igmp.query(version=3))
    net.run(60)
    assert igmp.parse(of(net, "igmp")[-1].data).version == 3
    host.board.set(facts.REGISTERED, False)
    net.run(1)
    assert [done.about.why for done in of(net, "igmp")[-2:]] == ["leave", "leave"]
    count = len(net.log)
    host.query(igmp.query())
    net.run(60)
    assert len(net.log) == count and not host.board.get("group 224.0.0.251")


def test_a_version_2_host_reports_to_the_group_itself() -> None:
    p = GroupMembership.model_validate(
        {"behaviour": "group_membership", "name": "g", "groups": ["239.255.255.250"], "join_version": 2,
         "repeat_within": "10s"}
    )  # fmt: skip
    net, _ = start(group_membership, p)
    net.run(20)
    reports = [igmp.parse(done.data) for done in of(net, "igmp")]
    assert [(report.kind, report.version, report.group) for report in reports] == [
        ("report", 2, "239.255.255.250")
    ] * 2


MDNS = {
    "behaviour": "mdns", "name": "m", "hostname": "thing-{mac}",
    "services": [{"type": "_http._tcp.local", "instance": "Thing {mac}", "port": 80, "text": ["path=/"]}],
    "announcements": ["0s", "1s", "3s"],
}  # fmt: skip


def test_mdns_probes_three_times_then_announces() -> None:
    net, _ = start(mdns, Mdns.model_validate(MDNS))
    net.run(60)
    sent = of(net, "send")
    assert [done.about.why for done in sent] == ["probe"] * 3 + ["announce"] * 3
    assert sent[0].at <= 0.25 and gaps(sent)[:2] == pytest.approx([0.25, 0.25], abs=0.002)
    assert gaps(sent)[3:] == pytest.approx([1, 2], abs=0.002)
    announced = codec.parse(sent[3].data)
    assert announced.response and {record.type for record in announced.answers} == {"A", "PTR", "SRV", "TXT"}
    probe = codec.parse(sent[0].data)
    assert probe.questions[0].type == "ANY" and probe.authority


def test_browsing_doubles_up_to_an_hour_and_starts_anew_with_the_link() -> None:
    p = Mdns.model_validate({**MDNS, "browse": ["_hue._tcp.local"], "browse_at": ["0s", "1s", "3s"]})
    net, host = start(mdns, p)
    net.run(6 * 3600)
    asked = [done for done in of(net, "send") if done.about.service == "_hue._tcp.local"]
    assert gaps(asked)[:6] == pytest.approx([1, 2, 4, 8, 16, 32]) and gaps(asked)[-1] == pytest.approx(3600)
    host.link(False)
    facts.link_went_down(host)  # type: ignore[arg-type]
    net.run(10)
    online(host)
    since = net.now - BEGIN
    net.run(20)
    again = [done for done in of(net, "send", since=since) if done.about.service == "_hue._tcp.local"]
    assert gaps(again) == pytest.approx([1, 2, 4, 8])


def test_browsing_can_stop_after_some_queries() -> None:
    net, _ = start(mdns, Mdns.model_validate({**MDNS, "browse": ["_hue._tcp.local"], "browse_times": 3}))
    net.run(86400)
    assert len([done for done in of(net, "send") if done.about.service == "_hue._tcp.local"]) == 3


@pytest.mark.parametrize(("more", "times"), [({"again_every": "60s"}, 9), ({"again_on": "renewed"}, 1)])
def test_announcements_come_again_by_period_or_stimulus(more: dict[str, str], times: int) -> None:
    net, host = start(mdns, Mdns.model_validate({**MDNS, **more, "queries_itself": True}))
    net.run(10)
    host.board.stimulate("renewed")
    since = net.now - BEGIN
    net.run(540)
    again = of(net, "send", since=since)
    assert [done.about.why for done in again].count(
        next(iter(more.values())) if times == 1 else "again_every"
    ) == times
    assert codec.parse(again[1].data).questions, "each announcement is followed by a query for itself"


def test_a_busy_thread_holds_multicast_back() -> None:
    net, host = start(mdns, Mdns.model_validate({**MDNS, "thread": "main"}), timeout="10s", tries=3)
    net.uplink = "silent"
    net.start(_forget_failure(resolve(host, "check.example", "main")))  # type: ignore[arg-type]
    net.run(29)
    assert of(net, "send") == []
    net.run(5)
    assert of(net, "send")


async def _forget_failure(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except Exception:
        return


def test_ssdp_searches_in_bursts_and_announces_itself() -> None:
    p = Ssdp.model_validate(
        {"behaviour": "ssdp", "name": "s", "every": "20s",
         "search": ["ssdp:all"], "notify": ["upnp:rootdevice"],
         "repeat": 3, "requires": ["fresh"]}
    )  # fmt: skip
    net, host = start(ssdp, p)
    net.run(50)
    messages = [ssdp_codec.parse(done.data) for done in of(net, "send")]
    assert [message.kind for message in messages[:2]] == ["M-SEARCH", "NOTIFY"] and len(messages) == 18
    assert "192.168.1.50" in messages[1].headers["location"]
    facts.went_online(host, "test")  # type: ignore[arg-type]
    count = len(net.log)
    net.run(300)
    assert len(net.log) == count


# --- the home ---------------------------------------------------------------------------------


def test_an_app_polls_the_plug_while_it_is_used() -> None:
    p = LocalControl.model_validate(
        {"behaviour": "local_control", "name": "app", "on": "used", "peer": "plug.lan", "lasts": "10s"}
    )
    net, host = start(local_control, p)
    net.serve("local_control", "plug.lan", "192.168.1.60", 9999)
    net.run(10)
    host.board.stimulate("used")
    net.run(60)
    assert len(of(net, "request")) == 5 and len(of(net, "close")) == 1
    net.deaf.add("192.168.1.60")
    host.board.stimulate("used")
    net.run(60)
    assert net.notes[-1][2] == "no-reply"


def test_a_radio_child_tells_its_hub() -> None:
    p = RadioChild.model_validate(
        {"behaviour": "radio_child", "name": "motion", "on": "motion", "tells": "sensor"}
    )
    net = Net()
    hub, child = Board(), FakeHost(net, device(), "motion")
    child.parent = hub
    heard: list[Any] = []

    async def listen() -> None:
        heard.append(await hub.stimulus(child, "sensor"))  # type: ignore[arg-type]

    net.start(listen())
    net.start(radio_child(child, p))  # type: ignore[arg-type]
    net.run(10)
    child.board.stimulate("motion")
    net.run(1)
    assert heard == [100] and net.log == []


def test_a_device_boots_runs_its_habits_and_tells_what_its_user_sees() -> None:
    net = Net()
    net.serve("cloud", "cloud.example", "198.18.0.10", 443)
    habits = [HABITS[written["behaviour"]].model_validate(written) for written in _WRITTEN]
    function = {"needs": ["cloud"], "without": "partial", "without_link": "off-line"}
    host = FakeHost(net, device(habits, boot="5s", function=function))
    host.link(True)
    net.start(run_device(host))  # type: ignore[arg-type]
    net.run(4)
    assert net.log == []
    net.run(60)
    net.uplink = "silent"
    net.run(120)
    net.uplink = "up"
    net.run(120)
    host.link(False)
    net.run(10)
    shown = [note[2] for note in net.notes if note[1] == "function"]
    assert shown == ["off-line", "partial", "works", "partial", "works", "off-line"]


_WRITTEN: list[dict[str, Any]] = [
    {"behaviour": "dhcp_lease", "name": "dhcp"},
    {"behaviour": "cloud_session", "name": "cloud", "main": True, "endpoint": {"host": "cloud.example"},
     "heartbeat": {"every": "30s", "up": "300B", "down": "200B"},
     "retries": {"unvalidated": {"first": "10s"}, "validated": {"first": "10s"}}},
]  # fmt: skip
