"""Every behaviour, in both worlds: the same exchanges with the same outcomes, whatever happens.

One life is played in each world (`tests.worlds.habits`); each case looks at its own device in it.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from testbed import behaviours
from testbed.api import run
from testbed.behaviours import BEHAVIOURS
from testbed.services.registry import KINDS
from tests.conftest import need
from tests.worlds import habits
from tests.worlds.conftest import EMULATION_NEEDS
from tests.worlds.habits import CASES, PHASES, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

EXPECTED = {
    # A lease of 90 s: DISCOVER and REQUEST, then a renewal every 45 s, whatever the uplink does.
    "dhcp_lease": """
        steady: 4 DHCP ok           silent: 1 DHCP ok      back: 2 DHCP ok        rebooted: 3 DHCP ok
        known: 2 DHCP ok            found: 1 DHCP ok       restarted: 4 DHCP ok
        refused: 1 DHCP ok          served: 1 DHCP ok""",
    # Two names every 15 s; the router answers REFUSED while it knows that it has no uplink.
    "name_batch": """
        steady: 14 DNS ok           silent: 8 DNS no-reply back: 10 DNS ok        rebooted: 14 DNS ok
        known: 8 DNS ok             found: 8 DNS ok        restarted: 14 DNS ok
        refused: 8 DNS ok           served: 8 DNS ok""",
    # Every 20 s; 6 s after a failure, which takes the 2 s of a lookup in silence and no time when refused.
    "clock_sync": """
        steady: 5 DNS ok, 5 NTP ok  silent: 8 DNS no-reply back: 4 DNS ok, 4 NTP ok
        rebooted: 5 DNS ok, 5 NTP ok                       known: 10 DNS ok       found: 3 DNS ok, 3 NTP ok
        restarted: 5 DNS ok, 5 NTP ok
        refused: 9 DNS ok, 18 NTP refused                  served: 3 DNS ok, 3 NTP ok""",
    # Every 20 s a lookup, a connection and its request; 7 s after a failed check.
    "http_check": """
        steady: 5 DNS ok, 10 HTTP ok, 1 belief online      silent: 7 DNS no-reply, 1 belief offline
        back: 5 DNS ok, 10 HTTP ok, 1 belief online        rebooted: 5 DNS ok, 10 HTTP ok, 1 belief online
        known: 8 DNS ok, 1 belief offline                  found: 4 DNS ok, 8 HTTP ok, 1 belief online
        restarted: 5 DNS ok, 10 HTTP ok, 1 belief online
        refused: 8 DNS ok, 8 HTTP refused, 1 belief offline
        served: 4 DNS ok, 8 HTTP ok, 1 belief online""",
    # Its check fails once and leaves the rest to the probe, every 5 s: a name ends it, or the known address.
    "outage_probe": """
        steady: 5 DNS ok, 10 HTTP ok, 1 belief online      silent: 1 belief offline
        back: 1 belief online       rebooted: 5 DNS ok, 10 HTTP ok, 1 belief online
        known: 10 DNS ok, 9 HTTP unreachable, 4 ICMP ok, 4 ICMP no-reply, 1 belief offline
        found: 1 DNS ok, 1 belief online
        restarted: 5 DNS ok, 10 HTTP ok, 1 belief online
        refused: 2 DNS ok, 1 HTTP refused, 1 belief offline, 1 belief online""",
    # Every 15 s the gateway, a host beyond it, and a name.
    "ping_cycle": """
        steady: 14 ICMP ok, 7 DNS ok                       silent: 4 ICMP ok, 4 ICMP no-reply, 4 DNS no-reply
        back: 10 ICMP ok, 5 DNS ok  rebooted: 12 ICMP ok, 6 DNS ok
        known: 4 ICMP ok, 4 ICMP no-reply, 4 DNS ok        found: 8 ICMP ok, 4 DNS ok
        restarted: 14 ICMP ok, 7 DNS ok                    refused: 8 ICMP ok, 4 DNS ok
        served: 8 ICMP ok, 4 DNS ok""",
    # Two reports on joining, one for each query: every 50 s, and 12.5 s after the router's boot.
    "group_membership": """
        steady: 4 IGMP sent         silent: 1 IGMP sent    back: 2 IGMP sent      rebooted: 4 IGMP sent
        known: 1 IGMP sent          found: 1 IGMP sent     restarted: 4 IGMP sent
        refused: 1 IGMP sent        served: 2 IGMP sent""",
    # Three probes, two announcements, and questions 0, 1, 3, 7, 15, 31, 63, 127 s after each link-up.
    "mdns": """
        steady: 12 mDNS sent        silent: 1 mDNS sent    rebooted: 12 mDNS sent known: 1 mDNS sent
        restarted: 12 mDNS sent     refused: 1 mDNS sent""",
    # Two messages every 30 s.
    "ssdp": """
        steady: 8 SSDP sent         silent: 4 SSDP sent    back: 4 SSDP sent      rebooted: 8 SSDP sent
        known: 4 SSDP sent          found: 4 SSDP sent     restarted: 8 SSDP sent
        refused: 4 SSDP sent        served: 4 SSDP sent""",
    # Connection, CONNECT, SUBSCRIBE, its first news; a reading every 15 s, a ping 10 s after each. A ping
    # without an answer ends it; it comes back every 8 s, after a restart every 5 s.
    "mqtt_session": """
        steady: 1 DNS ok, 16 MQTT ok, 1 belief online
        silent: 1 MQTT no-reply, 1 belief offline, 5 DNS no-reply
        back: 1 DNS ok, 12 MQTT ok, 1 belief online        rebooted: 1 DNS ok, 13 MQTT ok, 1 belief online
        known: 1 MQTT no-reply, 1 belief offline, 6 DNS ok found: 1 DNS ok, 8 MQTT ok, 1 belief online
        restarted: 1 DNS ok, 15 MQTT ok, 1 belief online
        refused: 2 MQTT ok, 7 DNS ok, 7 MQTT refused       served: 1 DNS ok, 10 MQTT ok, 1 belief online""",
    # Connection and three exchanges of registration (one of resumption), then a heartbeat every 10 s.
    "cloud_session": """
        steady: 1 DNS ok, 13 HTTPS ok, 1 belief online
        silent: 1 HTTPS no-reply, 1 belief offline, 5 DNS no-reply
        back: 1 DNS ok, 9 HTTPS ok, 1 belief online        rebooted: 1 DNS ok, 11 HTTPS ok, 1 belief online
        known: 1 HTTPS no-reply, 1 belief offline, 6 DNS ok
        found: 1 DNS ok, 7 HTTPS ok, 1 belief online       restarted: 1 DNS ok, 13 HTTPS ok, 1 belief online
        refused: 2 HTTPS ok, 7 DNS ok, 7 HTTPS refused     served: 1 DNS ok, 9 HTTPS ok, 1 belief online""",
    # Every 20 s two endpoints: lookup, connection, exchange; a second try 2 s after a failed one.
    "short_session": """
        steady: 10 DNS ok, 10 HTTPS ok, 10 HTTP ok         silent: 12 DNS no-reply
        back: 8 DNS ok, 8 HTTPS ok, 8 HTTP ok              rebooted: 10 DNS ok, 10 HTTPS ok, 10 HTTP ok
        known: 12 DNS ok            found: 6 DNS ok, 6 HTTPS ok, 6 HTTP ok
        restarted: 10 DNS ok, 10 HTTPS ok, 10 HTTP ok
        refused: 12 DNS ok, 6 HTTPS refused, 6 HTTP refused
        served: 6 DNS ok, 6 HTTPS ok, 6 HTTP ok""",
    # A contact after each link-up (connection, two messages, one more to register), then every 30 s.
    "weave_checkin": """
        steady: 4 DNS ok, 13 Weave ok, 1 belief online     silent: 3 DNS no-reply, 1 belief offline
        back: 3 DNS ok, 9 Weave ok, 1 belief online        rebooted: 5 DNS ok, 16 Weave ok, 1 belief online
        known: 4 DNS ok, 1 belief offline                  found: 2 DNS ok, 6 Weave ok, 1 belief online
        restarted: 4 DNS ok, 13 Weave ok, 1 belief online
        refused: 3 DNS ok, 3 Weave refused, 1 belief offline
        served: 3 DNS ok, 9 Weave ok, 1 belief online""",
    # Connection, login, a heartbeat every 12 s.
    "push_channel": """
        steady: 1 DNS ok, 10 GCM ok silent: 1 GCM no-reply, 4 DNS no-reply        back: 1 DNS ok, 8 GCM ok
        rebooted: 1 DNS ok, 8 GCM ok                       known: 1 GCM no-reply, 6 DNS ok
        found: 1 DNS ok, 6 GCM ok   restarted: 1 DNS ok, 9 GCM ok
        refused: 2 GCM ok, 7 DNS ok, 7 GCM refused         served: 1 DNS ok, 6 GCM ok""",
    # 300 kB, 200 kB and 100 kB in chunks of 64 kB; each failure is tried again 6 s later.
    "firmware_update": """
        steady: 1 firmware begins, 1 DNS ok, 6 HTTP ok, 1 firmware complete
        silent: 1 firmware begins, 1 DNS no-reply
        back: 1 DNS ok, 5 HTTP ok, 1 firmware complete
        refused: 1 firmware begins, 9 DNS ok, 9 HTTP refused
        served: 1 DNS ok, 3 HTTP ok, 1 firmware complete""",
    # Nine seconds of polls every two, with the plug next door: the uplink is no matter.
    "local_control": """
        steady: 1 DNS ok, 6 TCP ok  silent: 1 DNS ok, 6 TCP ok                    back: 1 DNS ok, 6 TCP ok
        known: 1 DNS ok, 6 TCP ok   restarted: 1 DNS ok, 6 TCP ok""",
    # The door tells every 40 s; what its hub makes of it goes over IP.
    "radio_child": """
        steady: 2 DNS ok, 4 HTTP ok silent: 2 DNS no-reply back: 2 DNS ok, 4 HTTP ok
        rebooted: 2 DNS ok, 4 HTTP ok                      known: 2 DNS ok        found: 1 DNS ok, 2 HTTP ok
        restarted: 2 DNS ok, 4 HTTP ok                     refused: 1 DNS ok, 1 HTTP refused
        served: 2 DNS ok, 4 HTTP ok""",
}
"""Behaviour -> what its device does in each phase, counted by hand from its parameters; else nothing."""

OF_THE_KERNEL = {("outage-probe", "probe"): ("silent", "back")}
"""Where the uplink is silently gone, a connect fails by the router's ICMP error, or in silence: that goes by
the moments of the router's search for its next hop, which the simulation keeps per device (docs/limits.md);
and when the rounds are, until the outage ends, goes by that. The table has what is sure there; the rest of a
round must agree."""

SAME_TIME_S, SEARCH_S = 0.1, 1.0
"""Both worlds make the same waits; what a download takes depends on TCP's own timers. When a silent uplink
returns, what waits for the router's next hop goes out with the next probe of the search, one a second."""


class Event(NamedTuple):
    """A line of the event log."""

    second: float
    device: str
    behaviour: str
    what: tuple[str, str, int, str, str]
    """Protocol, service, attempt, outcome, why; of what is no exchange: the event in place of a protocol."""

    @property
    def told(self) -> str:
        return f"{self.what[0]} {self.what[3]}"

    @property
    def phase(self) -> str:
        return next(name for name, (begin, end) in PHASES.items() if begin <= self.second < end)


class Life(NamedTuple):
    """What was written down of a life."""

    folder: Path
    events: list[Event]

    def of(self, device: str, *names: str) -> list[Event]:
        return [e for e in self.events if e.device == device and e.behaviour in names]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Life]]:
    """Give a life in a world, played when it is first asked for."""
    folder = tmp_path_factory.mktemp("lives")
    habits.write(folder)

    @cache
    def play(world: str) -> Life:
        run("life", out=folder / world, models=[folder], seed=5, world=world)
        return Life(folder / world, list(read(folder / world)))

    yield play


def read(folder: Path) -> Iterator[Event]:
    for line in (folder / "events.jsonl").read_text().splitlines():
        entry: dict[str, Any] = json.loads(line)
        hour, minute, second = entry["time"].rstrip("Z").partition("T")[2].split(":")
        what = (
            entry.get("protocol", entry["event"]), entry.get("service", ""), entry.get("attempt", 0),
            entry.get("outcome", ""), entry.get("why", ""),
        )  # fmt: skip
        moment = (int(hour) - 12) * 3600 + int(minute) * 60 + float(second)
        yield Event(moment, entry["device"], entry["behaviour"], what)


def names_of(behaviour: str) -> list[str]:
    return [habit["name"] for habit in CASES[behaviour].habits] or ["dhcp"]


def expected(behaviour: str) -> dict[str, Counter[str]]:
    """Read the table."""
    found: dict[str, Counter[str]] = {}
    phase = ""
    for word in EXPECTED[behaviour].split():
        if word.endswith(":"):
            phase = word[:-1]
            found[phase], parts = Counter(), []
            continue
        parts.append(word.rstrip(","))
        if len(parts) == 3:
            found[phase][" ".join(parts[1:])] = int(parts[0])
            parts = []
    return found


@pytest.mark.parametrize("behaviour", CASES)
def test_each_behaviour_does_what_its_rules_say(
    behaviour: str, world: str, live: Callable[[str], Life]
) -> None:
    device = name_of(behaviour)
    done: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
    for event in live(world).of(device, *names_of(behaviour)):
        done[event.phase][event.told] += 1
    for phase in (p for (name, _), phases in OF_THE_KERNEL.items() if name == device for p in phases):
        sure = expected(behaviour)[phase]
        done[phase] = Counter({told: number for told, number in done[phase].items() if told in sure})
    assert {phase: dict(did) for phase, did in done.items() if did} == {
        phase: dict(does) for phase, does in expected(behaviour).items()
    }


@pytest.mark.system
@pytest.mark.parametrize("behaviour", CASES)
def test_both_worlds_see_the_same_exchanges_at_the_same_times(
    behaviour: str, live: Callable[[str], Life]
) -> None:
    need(*EMULATION_NEEDS)
    device = name_of(behaviour)
    for habit in dict.fromkeys([*names_of(behaviour), "dhcp", "device", "world"]):
        phases = OF_THE_KERNEL.get((device, habit), ())
        simulated, emulated = (
            [event for event in live(world).of(device, habit) if event.phase not in phases]
            for world in ("simulation", "emulation")
        )
        if phases:  # what went before has shifted its rounds, and their numbers
            assert [event.told for event in simulated] == [event.told for event in emulated], habit
            continue
        assert [event.what for event in simulated] == [event.what for event in emulated], habit
        for here, there in zip(simulated, emulated, strict=True):
            same_s = SEARCH_S if here.phase == "back" else SAME_TIME_S
            assert abs(here.second - there.second) < same_s, (here, there)


@pytest.mark.system
@pytest.mark.parametrize(("device", "habit"), OF_THE_KERNEL)
def test_what_depends_on_the_routers_errors_agrees_in_all_else(
    device: str, habit: str, live: Callable[[str], Life]
) -> None:
    need(*EMULATION_NEEDS)
    rounds, failures = [], []
    for world in ("simulation", "emulation"):
        done = [event for event in live(world).of(device, habit) if event.phase == "silent"]
        rounds.append([event.what for event in done if event.what[0] != "HTTP"])
        failures.append({event.what[3] for event in done if event.what[0] == "HTTP"})
    least = min(map(len, rounds))
    assert least > 6
    assert rounds[0][: least - 1] == rounds[1][: least - 1]
    assert failures[0] | failures[1] <= {"no-reply", "unreachable"}


@pytest.mark.system
def test_labels_count_the_same_exchanges_in_both_worlds(live: Callable[[str], Life]) -> None:
    """Except for the device whose rounds depend on the router's errors."""
    need(*EMULATION_NEEDS)
    found = []
    keys = ["device", "behaviour", "protocol", "service", "attempt", "state"]
    for world in ("simulation", "emulation"):
        table = pq.read_table(live(world).folder / "labels.parquet").to_pandas()
        table = table[(table.behaviour != "kernel") & (table.protocol != "ICMP")]
        table = table[(table.device != "outage-probe") & (table.device != "router")]
        found.append(
            table.astype({"device": str}).groupby(keys, observed=True)["exchange"].nunique().to_dict()
        )
    simulated, emulated = found
    assert len(simulated) > 200
    assert simulated == emulated


# --- nothing is left out -------------------------------------------------------------------------


def test_every_behaviour_has_a_case() -> None:
    folder = Path(behaviours.__file__).parent
    habits_there = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef) and node.name == path.stem and len(node.args.args) == 2
    } - {"resolver"}
    assert habits_there == set(BEHAVIOURS)
    assert sorted(habits_there - set(CASES)) == [], "behaviours that no case of tests/worlds/habits.py covers"
    assert sorted(set(CASES) - set(EXPECTED)) == []


def test_every_kind_of_service_is_asked(live: Callable[[str], Life]) -> None:
    offered = {kind for _, kind, *_ in habits.SERVICES} | {"dhcp_server", "local_control"}
    assert sorted({*KINDS} - offered) == [], "kinds that no service of tests/worlds/habits.py has"
    answered = {event.what[0] for event in live("simulation").events if event.what[3] == "ok"}
    assert answered == {"DHCP", "DNS", "NTP", "HTTP", "HTTPS", "MQTT", "Weave", "GCM", "ICMP", "TCP"}
