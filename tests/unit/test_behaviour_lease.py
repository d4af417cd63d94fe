"""The DHCP client keeps RFC 2131's timers and knows what to do when nobody answers."""

from __future__ import annotations

import itertools

import pytest

from testbed.behaviours import facts
from testbed.behaviours.dhcp_lease import dhcp_lease
from testbed.models.habits import DhcpLease
from testbed.protocols import dhcp
from testbed.services.context import ServiceContext
from testbed.services.registry import build
from tests.fake_host import FakeHost, Net, device

H = 3600.0


def client(**changes: object) -> tuple[Net, FakeHost]:
    net = Net()
    host = FakeHost(net, device(), "dhcp")
    p = DhcpLease.model_validate({"behaviour": "dhcp_lease", "name": "dhcp", "first_delay": 0, **changes})
    net.start(dhcp_lease(host, p))  # type: ignore[arg-type]
    return net, host


def kinds(net: Net, since: float = 0.0) -> list[str]:
    return [done.kind for done in net.log if done.at >= since]


def times(net: Net, kind: str) -> list[float]:
    return [done.at for done in net.log if done.kind == kind]


def test_a_new_device_discovers_then_requests_what_it_was_offered() -> None:
    net, host = client()
    host.link(True)
    net.run(1)
    assert kinds(net) == ["DISCOVER", "REQUEST"]
    discover, request = (dhcp.parse(done.data) for done in net.log)
    assert request.xid == discover.xid and request.server_id == "192.168.1.1"
    assert host.lease is not None and request.requested_ip == host.lease.address
    assert host.lease.lease_s == 12 * H and host.lease.resolvers == ("192.168.1.1",)
    assert host.board.get(facts.FRESH) and host.board.get(facts.OFFLINE)


def test_nothing_is_sent_without_a_link() -> None:
    net, _ = client()
    net.run(60)
    assert net.log == []


def test_the_wait_for_an_answer_doubles_from_four_to_sixty_four_seconds() -> None:
    net, host = client(tries=6, spread=0)
    net.deaf.add("dhcp")
    host.link(True)
    net.run(200)
    gaps = [b - a for a, b in zip(times(net, "DISCOVER"), times(net, "DISCOVER")[1:], strict=False)]
    assert gaps[:6] == pytest.approx([4, 8, 16, 32, 64, 64], abs=0.01)


def test_waits_are_spread_by_a_second() -> None:
    net, host = client(tries=6, spread="1s")
    net.deaf.add("dhcp")
    host.link(True)
    net.run(200)
    at = times(net, "DISCOVER")
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert all(abs(gap - wait) <= 1 for gap, wait in zip(gaps, [4, 8, 16, 32], strict=False))
    assert gaps[:4] != [4, 8, 16, 32]


def test_udhcpc_tries_three_times_three_seconds_and_waits_twenty() -> None:
    net, host = client(retransmit={"first": "3s"}, spread=0, tries=3, pause="20s")
    net.deaf.add("dhcp")
    host.link(True)
    net.run(60)
    assert times(net, "DISCOVER") == pytest.approx([0, 3, 6, 29, 32, 35, 58])


@pytest.mark.parametrize(("share", "hours"), [(0.5, 6), ("43.75%", 5.25), ("77.8%", 9.336)])
def test_the_lease_is_renewed_at_the_devices_share_of_it(share: object, hours: float) -> None:
    net, host = client(renew_at=share)
    host.link(True)
    net.run(3 * hours * H + 60)
    renewals = [done for done in net.log[2:] if done.kind == "REQUEST"]
    gaps = [b.at - a.at for a, b in zip(net.log[1:], renewals, strict=False)]
    assert len(renewals) == 3
    assert gaps == pytest.approx([hours * H] * 3, abs=1)
    first = dhcp.parse(renewals[0].data)
    assert host.lease is not None
    assert first.ciaddr == host.lease.address and first.requested_ip is None and first.server_id is None


def test_renewal_tells_the_other_habits_but_is_no_new_link() -> None:
    net, host = client()
    host.link(True)
    net.run(10)
    link_up = host.board.get(facts.LINK_UP)
    heard = []

    async def listen() -> None:
        await host.board.stimulus(host, facts.RENEWED)  # type: ignore[arg-type]
        heard.append(net.now)

    net.start(listen())
    net.run(7 * H)
    assert heard and host.board.get(facts.LINK_UP) == link_up


def test_a_silent_server_is_asked_at_half_the_remaining_time_then_anyone_then_the_lease_ends() -> None:
    net, host = client(renew_at=0.5, spread=0, tries=1)
    host.link(True)
    net.run(10)
    net.deaf.add("dhcp")
    net.run(12 * H + 60)
    renewing = [done for done in net.log[2:] if done.kind == "REQUEST"]
    t1 = net.log[1].at + 6 * H
    t2 = net.log[1].at + 10.5 * H
    assert renewing[0].at == pytest.approx(t1, abs=1)
    assert renewing[1].at == pytest.approx(t1 + (t2 - t1) / 2, abs=30)
    before = [done for done in renewing if done.at < t2 - 1]
    gaps = [b.at - a.at for a, b in itertools.pairwise(before)]
    assert min(gaps) >= 60, "RFC 2131 wants at least 60 s between retransmissions"
    rebinding = [done for done in renewing if done.at >= t2 - 1]
    assert rebinding and {done.about.why for done in rebinding} == {"T2"}
    assert host.lease is None, "the lease has expired"
    assert kinds(net, t1 + 6 * H)[-1] == "DISCOVER"


def test_a_lease_that_is_refused_is_given_up_and_got_anew() -> None:
    net, host = client(init_reboot=True)
    host.link(True)
    net.run(10)
    host.link(False)
    net.run(5)
    other = {"network": "10.0.0.0/24", "address": "10.0.0.1"}
    net.dhcp = build("dhcp_server", other, ServiceContext("router"))
    host.link(True)
    net.run(10)
    assert kinds(net, 11) == ["REQUEST", "DISCOVER", "REQUEST"], "INIT-REBOOT, NAK, then from the start"
    assert host.lease is not None and host.lease.address.startswith("10.0.0.")


def test_init_reboot_asks_for_the_last_address_without_discover() -> None:
    net, host = client(init_reboot=True)
    host.link(True)
    net.run(10)
    assert host.lease is not None
    address = host.lease.address
    host.link(False)
    net.run(5)
    assert not host.board.get(facts.OFFLINE) and not host.board.get(facts.FRESH)
    host.link(True)
    net.run(10)
    assert kinds(net, 11) == ["REQUEST"]
    assert dhcp.parse(net.log[-1].data).requested_ip == address == host.lease.address


def test_a_second_asker_has_a_period_of_its_own() -> None:
    net, host = client(also_every="7h")
    host.link(True)
    net.run(22 * H)
    whys = [(round(done.at / H, 1), done.about.why) for done in net.log[2:]]
    assert [at for at, why in whys if why == "T1"] == [6.0, 12.0, 18.0]
    assert [at for at, why in whys if why != "T1"] == [7.0, 14.0, 21.0]


def test_a_nightly_asker_keeps_to_its_time_of_day() -> None:
    net, host = client(also_at=["03:30"])
    begun = host.now() / H
    host.link(True)
    net.run(40 * H)
    clock = [round((begun + done.at / H) % 24, 2) for done in net.log[2:] if done.about.why != "T1"]
    assert clock == [3.5, 3.5]


@pytest.mark.parametrize(
    ("how", "expected"), [("discover", ["DISCOVER", "REQUEST"]), ("request", ["REQUEST"])]
)
def test_an_off_line_device_suspects_its_lease(how: str, expected: list[str]) -> None:
    net, host = client(offline_every="8min", offline_with=how)
    host.link(True)
    net.run(10)
    facts.went_online(host, "test")  # type: ignore[arg-type]
    net.run(H)
    assert len(net.log) == 2, "nothing while online"
    facts.went_offline(host, "test")  # type: ignore[arg-type]
    net.run(17 * 60)
    assert kinds(net, 10) == expected * 2
    assert host.board.get(facts.LOST), "the lease stayed, and so did what is known of the link"


def test_a_sleeping_radio_renews_nothing_and_asks_again_when_woken_after_expiry() -> None:
    net, host = client(sleeps=True, init_reboot=True)
    host.link(True)
    net.run(13 * H)
    assert kinds(net) == ["DISCOVER", "REQUEST"] and host.lease is None
    link_up = host.board.get(facts.LINK_UP)
    host.board.stimulate(facts.WAKE)
    net.run(10)
    assert kinds(net) == ["DISCOVER", "REQUEST", "REQUEST"] and host.lease is not None
    assert host.board.get(facts.LINK_UP) == link_up, "an expired lease is no new link"
