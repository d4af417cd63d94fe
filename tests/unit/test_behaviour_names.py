"""Resolver, name batches and clocks: what each firmware's rules make of answers, refusals and silence."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from testbed.behaviours import facts
from testbed.behaviours.clock_sync import clock_sync
from testbed.behaviours.name_batch import name_batch
from testbed.behaviours.resolver import NotResolved, last_address, resolve
from testbed.host import LinkDown
from testbed.models.habits import ClockSync, NameBatch
from testbed.protocols import dns, ntp
from tests.fake_host import BEGIN, FakeHost, Net, device, online

UCLIBC = {"timeout": "10s", "tries": 3, "on_error": "fail", "idents": "counter"}


def thing(resolver: dict[str, Any] | None = None) -> tuple[Net, FakeHost]:
    net = Net()
    net.zone.add(["cloud.example"], ["198.18.0.10", "198.18.0.11"], 60)
    host = FakeHost(net, device(resolver=resolver or {}), "task")
    online(host)
    return net, host


def ask(net: Net, host: FakeHost, name: str = "cloud.example", seconds: float = 120, **more: Any) -> Any:
    """Look a name up and return the addresses, or the failure."""
    result: list[Any] = []

    async def work() -> None:
        try:
            result.append(await resolve(host, name, **more))  # type: ignore[arg-type]
        except (NotResolved, LinkDown) as problem:
            result.append(problem)

    net.start(work())
    net.run(seconds)
    return result[0] if result else None


def questions(net: Net) -> list[tuple[str, str]]:
    return [dns.question(done.data)[1:] for done in net.log if done.about.protocol == "DNS"]


def at(net: Net) -> list[float]:
    return [done.at for done in net.log if done.about.protocol == "DNS"]


def test_a_name_is_resolved_by_the_leases_resolver() -> None:
    net, host = thing()
    assert set(ask(net, host)) == {"198.18.0.10", "198.18.0.11"}
    assert questions(net) == [("cloud.example", "A")]
    assert last_address(host, "cloud.example") in ("198.18.0.10", "198.18.0.11")  # type: ignore[arg-type]


def test_a_silent_resolver_costs_uclibc_three_tries_of_ten_seconds() -> None:
    net, host = thing(UCLIBC)
    net.uplink = "silent"
    problem = ask(net, host)
    assert problem.outcome == "no-reply"
    assert at(net) == [0, 10, 20]


def test_waits_can_grow_from_try_to_try() -> None:
    net, host = thing({"timeout": "1s", "timeout_factor": 2, "tries": 3})
    net.uplink = "silent"
    ask(net, host)
    assert at(net) == [0, 1, 3]


@pytest.mark.parametrize(("on_error", "queries"), [("fail", 1), ("next", 2)])
def test_a_refusal_ends_the_lookup_or_leads_on(on_error: str, queries: int) -> None:
    net, host = thing({"on_error": on_error, "tries": 2})
    net.uplink = "known"
    assert ask(net, host).outcome == "refused"
    assert len(at(net)) == queries


def test_an_unknown_name_is_asked_for_once() -> None:
    net, host = thing({"tries": 3})
    assert ask(net, host, "nowhere.example").outcome == "no such name"
    assert len(at(net)) == 1


def test_uclibc_counts_its_identifiers_from_two() -> None:
    net, host = thing(UCLIBC)
    for _ in range(3):
        ask(net, host)
    assert [dns.question(done.data)[0] for done in net.log] == [2, 3, 4]


def test_nothing_is_cached_unless_the_model_says_so() -> None:
    net, host = thing()
    ask(net, host, seconds=1)
    ask(net, host, seconds=1)
    assert len(at(net)) == 2


def test_a_cache_honours_the_ttl() -> None:
    net, host = thing({"cache": True})
    ask(net, host, seconds=30)
    ask(net, host, seconds=1)
    assert len(at(net)) == 1
    net.run(60)
    ask(net, host, seconds=1)
    assert len(at(net)) == 2


@pytest.mark.parametrize(("first", "types"), [(True, ["AAAA", "A"]), (False, ["A", "AAAA"])])
def test_aaaa_is_asked_for_before_or_after(first: bool, types: list[str]) -> None:
    net, host = thing({"aaaa": ["cloud.example"], "aaaa_first": first})
    assert ask(net, host)
    assert [qtype for _, qtype in questions(net)] == types


def test_fixed_servers_replace_the_leases() -> None:
    net, host = thing({"servers": ["8.8.8.8"]})
    net.deaf.add("192.168.1.1")
    assert ask(net, host)


def test_servers_are_tried_in_turn_and_rotated() -> None:
    net, host = thing({"servers": ["8.8.8.8", "192.168.1.1"], "rotate": True, "tries": 1})
    net.deaf.add("8.8.8.8")
    assert ask(net, host)
    assert len(at(net)) == 1, "the turn of the second server"
    assert ask(net, host)
    assert len(at(net)) == 3, "the first server was silent, then the second answered"


def test_all_servers_can_be_asked_at_once() -> None:
    net, host = thing({"servers": ["8.8.8.8", "192.168.1.1"], "together": True})
    net.deaf.add("8.8.8.8")
    assert ask(net, host, seconds=1)
    assert at(net) == [0, 0]
    net.deaf.add("192.168.1.1")
    assert ask(net, host, seconds=30).outcome == "no-reply"


def test_a_failure_can_be_remembered() -> None:
    net, host = thing({"failure_kept": "60s", "tries": 1})
    net.uplink = "known"
    ask(net, host, seconds=1)
    assert ask(net, host, seconds=1).outcome == "failed lately"
    assert len(at(net)) == 1


def test_a_blocked_lookup_stalls_the_habits_on_its_thread() -> None:
    net, host = thing(UCLIBC)
    net.uplink = "silent"
    ask(net, host, seconds=1, thread="main")
    free: list[float] = []

    async def other() -> None:
        await facts.turn(host, "main")  # type: ignore[arg-type]
        free.append(net.now - BEGIN)

    net.start(other())
    net.run(60)
    assert free == [30.0]


def test_an_address_is_forgotten_when_the_link_is_another() -> None:
    net, host = thing()
    ask(net, host)
    host.link(False)
    facts.link_went_down(host)  # type: ignore[arg-type]
    online(host)
    assert last_address(host, "cloud.example") is None  # type: ignore[arg-type]


def test_a_lost_link_ends_the_lookup_as_such() -> None:
    net, host = thing()
    net.lan = False
    assert isinstance(ask(net, host), LinkDown)


# --- batches ---------------------------------------------------------------------------------


def run(
    habit: Callable[..., Coroutine[Any, Any, None]], p: Any, resolver: dict[str, Any] | None = None
) -> tuple[Net, FakeHost]:
    net, host = thing(resolver)
    net.zone.add(["b.example"], ["198.18.0.12"], 60)
    net.start(habit(host, p))
    return net, host


def test_a_daily_batch_comes_at_its_hours_and_asks_for_each_name() -> None:
    p = NameBatch.model_validate(
        {
            "behaviour": "name_batch",
            "name": "n",
            "at": ["15:00", "18:30"],
            "names": ["cloud.example", "b.example"],
        }
    )
    net, _ = run(name_batch, p)
    net.run(48 * 3600)
    assert [round(when / 3600, 1) for when in at(net)[::2]] == [1.0, 4.5, 25.0, 28.5]
    assert questions(net)[:2] == [("cloud.example", "A"), ("b.example", "A")]


def test_an_off_line_batch_runs_only_off_line_and_notices_the_end() -> None:
    p = NameBatch.model_validate(
        {"behaviour": "name_batch", "name": "n", "every": "30s", "requires": ["offline"],
         "names": ["cloud.example"], "counts_as_online": True}
    )  # fmt: skip
    net, host = run(name_batch, p, {"timeout": "5s", "tries": 2})
    facts.went_online(host, "test")  # type: ignore[arg-type]
    net.run(3600)
    assert at(net) == []
    net.uplink = "silent"
    facts.went_offline(host, "test")  # type: ignore[arg-type]
    net.run(120)
    count = len(at(net))
    assert count >= 6
    net.uplink = "up"
    net.run(600)
    assert host.board.get(facts.ONLINE) and len(at(net)) == count + 1


# --- clocks ----------------------------------------------------------------------------------


def clock(resolver: dict[str, Any] | None = None, **changes: Any) -> tuple[Net, FakeHost]:
    net, host = thing(resolver)
    for number in range(4):
        net.serve("ntp", f"t{number}.example", f"198.18.1.{number}", 123)
    p = ClockSync.model_validate(
        {"behaviour": "clock_sync", "name": "time",
         "servers": [f"t{number}.example" for number in range(4)], **changes}
    )  # fmt: skip
    net.start(clock_sync(host, p))  # type: ignore[arg-type]
    return net, host


def asked(net: Net, protocol: str = "NTP") -> list[tuple[float, str]]:
    return [(done.at, done.about.service) for done in net.log if done.about.protocol == protocol]


def test_one_answer_sets_the_clock_once_for_all() -> None:
    net, host = clock()
    net.run(86400)
    assert len(asked(net)) == 1 and host.board.get(facts.CLOCK)


def test_silent_servers_get_three_requests_five_seconds_apart_and_the_next_name_six_later() -> None:
    net, host = clock(requests=3, retry={"first": "6s"})
    net.deaf.update(f"198.18.1.{number}" for number in range(4))
    net.run(60)
    walked = asked(net)
    assert [name for _, name in walked[:9:3]] == ["t0.example", "t1.example", "t2.example"]
    assert [when for when, _ in walked[:3]] == pytest.approx([0.05, 5.05, 10.05])
    names = [when for when, _ in asked(net, "DNS")]
    assert names[1] - walked[2][0] == pytest.approx(11, abs=0.2), "5 s for the answer, 6 s pause"
    assert not host.board.get(facts.CLOCK)


def test_a_list_is_walked_even_when_all_answer() -> None:
    net, _ = clock(next_server="always", every="25s")
    net.run(110)
    assert [name for _, name in asked(net)] == [f"t{number % 4}.example" for number in range(5)]
    assert [when for when, _ in asked(net)] == pytest.approx([0.05, 25.05, 50.05, 75.05, 100.05])


def test_a_failed_lookup_walks_on_with_back_off() -> None:
    net, host = clock({"tries": 1, "on_error": "fail"}, retry={"first": "10s", "factor": 2})
    net.uplink = "known"
    net.run(100)
    assert [name for _, name in asked(net, "DNS")] == ["t0.example", "t1.example", "t2.example", "t3.example"]
    gaps = [b - a for (a, _), (b, _) in zip(asked(net, "DNS"), asked(net, "DNS")[1:], strict=False)]
    assert gaps == pytest.approx([10.05, 20.05, 40.05])
    net.uplink = "up"
    net.run(200)
    assert host.board.get(facts.CLOCK)


def test_fixed_hours_are_kept() -> None:
    net, _ = clock(at=["20:00", "05:00"])
    net.run(48 * 3600)
    assert [round(when / 3600, 1) for when, _ in asked(net)] == [0.0, 6.0, 15.0, 30.0, 39.0]


def test_an_unsynchronised_server_is_not_believed() -> None:
    net, host = clock(retry={"first": "10s"})
    net.serve("ntp", "t0.example", "198.18.1.0", 123, stratum=0, ref_id="RATE")
    net.run(5)
    assert not host.board.get(facts.CLOCK), "a kiss-o'-death sets no clock"
    net.run(10)
    assert host.board.get(facts.CLOCK), "the next server does"


def test_the_request_is_the_one_the_model_describes() -> None:
    net, _ = clock(version=4, poll=10, stamps=False)
    net.run(1)
    request = next(done.data for done in net.log if done.about.protocol == "NTP")
    assert request == ntp.request(4, 10, None)
