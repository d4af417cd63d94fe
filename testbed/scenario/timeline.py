"""A scenario worked out: what every link and power switch is at every moment.

Times are nanoseconds from the start of the capture (the warm-up is negative). Only the worlds
read this; devices and services never do.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from testbed.models.scenario import DevicePower, Habits, Impair, Internet, RouterPower, ServiceDown, Stimulus
from testbed.scenario.addresses import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.models import DeviceModel, Scenario, Topology
    from testbed.models.topology import Impairment

T = TypeVar("T")
FOREVER = 1 << 62


def nanoseconds(seconds: float) -> int:
    """Return whole nanoseconds."""
    return round(seconds * 1e9)


class Steps(Generic[T]):
    """A value that changes at known moments."""

    __slots__ = ("times", "values")

    def __init__(self, first: T) -> None:
        self.times: list[int] = [-FOREVER]
        self.values: list[T] = [first]

    def set(self, at: int, value: T) -> None:
        """Change the value from `at` on; moments must not go backwards."""
        assert at >= self.times[-1], "a step before the last one"
        if at == self.times[-1] > -FOREVER:  # two changes at one moment are one, or none
            self.times.pop()
            self.values.pop()
        if value != self.values[-1]:
            self.times.append(at)
            self.values.append(value)

    def at(self, when: int) -> T:
        """Return the value at a moment."""
        return self.values[bisect_right(self.times, when) - 1]

    def index(self, when: int) -> int:
        """Return which of the values holds at a moment."""
        return bisect_right(self.times, when) - 1

    def next_change(self, when: int) -> int:
        """Return the first moment after `when` at which the value changes."""
        index = bisect_right(self.times, when)
        return self.times[index] if index < len(self.times) else FOREVER

    def until(self, when: int, value: T) -> int:
        """Return the first moment from `when` on at which the value is another than `value`."""
        while self.at(when) == value:
            when = self.next_change(when)
            if when == FOREVER:
                break
        return when


class Outage(NamedTuple):
    """A span in which a service or a name does not answer."""

    begin: int
    end: int
    service: str | None
    name: str | None
    refused: bool


class Impaired(NamedTuple):
    """A span in which a link is impaired beyond the topology."""

    begin: int
    end: int
    device: str | None
    link: Impairment


class Happening(NamedTuple):
    """Something the world does to one device: power, link, stimulus or failure of habits."""

    at: int
    kind: str
    device: str
    value: Any


@dataclass
class Timeline:
    """Everything that will happen, by link and by device."""

    begin_ns: int
    """When the warm-up begins (not after 0)."""
    end_ns: int
    uplink: Steps[str]
    """`up`, `silent` (forwards into the void), `known` (says that there is no upstream) or `off`."""
    lan: Steps[bool]
    power: dict[str, Steps[bool]]
    link: dict[str, Steps[str]]
    """`down`, `home` or `open` (the open Wi-Fi), for each device with IP."""
    outages: list[Outage]
    impaired: list[Impaired]
    happenings: list[Happening] = field(default_factory=list)
    router_boots: list[int] = field(default_factory=list)
    """Moments at which a restarted router comes up, having forgotten its state."""

    def changes(self) -> list[int]:
        """Return every moment at which the network changes, in order."""
        moments = {*self.uplink.times, *self.lan.times}
        for steps in self.link.values():
            moments.update(steps.times)
        spans: list[Outage | Impaired] = [*self.outages, *self.impaired]
        for span in spans:
            moments.update((span.begin, span.end))
        return sorted(moment for moment in moments if moment > -FOREVER)


def compile_timeline(
    scenario: Scenario,
    topology: Topology,
    models: Mapping[str, DeviceModel],
    seed: int,
    until_s: float | None,
) -> Timeline:
    """Work a scenario out. `models` maps the topology's model names to the models."""
    begin = -nanoseconds(scenario.warm_up)
    end = nanoseconds(scenario.duration if until_s is None else min(until_s, scenario.duration))
    uplink, lan, boots = _router(scenario, topology, begin)
    power: dict[str, Steps[bool]] = {}
    happenings: list[Happening] = []
    for device in topology.devices:
        power[device.name] = _power(scenario, device.name, begin, seed)
    links: dict[str, Steps[str]] = {}
    for device in topology.devices:
        model = models[device.model]
        steps = power[device.name]
        for at, on in zip(steps.times[1:], steps.values[1:], strict=True):
            happenings.append(Happening(at, "power", device.name, on))
        if model.oui is None:
            continue
        joins = [
            nanoseconds(event.at)
            for event in scenario.events
            if isinstance(event, Stimulus) and event.kind == "join" and event.device == device.name
        ]
        link = _link(model, lan, steps, joins, topology.open_wifi, begin)
        links[device.name] = link
        for at, value in zip(link.times[1:], link.values[1:], strict=True):
            happenings.append(Happening(at, "link", device.name, value))
    outages, impaired = [], []
    for event in scenario.events:
        if isinstance(event, ServiceDown):
            start = nanoseconds(event.at)
            stop = start + nanoseconds(event.duration)
            outages.append(Outage(start, stop, event.service, event.name, event.how == "refused"))
        elif isinstance(event, Impair):
            start = nanoseconds(event.at)
            impaired.append(Impaired(start, start + nanoseconds(event.duration), event.device, event.link))
        elif isinstance(event, Habits):
            happenings.append(Happening(nanoseconds(event.at), "fail", event.device, event.habits))
        elif isinstance(event, Stimulus):
            happenings += _stimuli(event, begin, end, seed)
    happenings = [h for h in happenings if h.at < end]
    order = {"power": 0, "link": 1, "fail": 2}
    happenings.sort(key=lambda h: (h.at, order.get(h.kind, 3)))
    return Timeline(begin, end, uplink, lan, power, links, outages, impaired, happenings, boots)


def _router(scenario: Scenario, topology: Topology, begin: int) -> tuple[Steps[str], Steps[bool], list[int]]:
    """Play the router's two switches: its power and its uplink cable."""
    router = topology.router
    boot, wan_dhcp = nanoseconds(router.boot), nanoseconds(router.wan_dhcp)
    pending: list[tuple[int, int, str, str]] = []
    for event in scenario.events:
        if isinstance(event, Internet):
            heappush(pending, (nanoseconds(event.at), 1, event.state, event.how))
        elif isinstance(event, RouterPower):
            heappush(pending, (nanoseconds(event.at), 0, "power-" + event.state, ""))
    uplink, lan = Steps("up"), Steps(True)
    plugged, powered, running, leased, how = True, True, True, True, "auto"
    boots: list[int] = []
    booted = found = FOREVER  # when it will have booted; when its DHCP client will have found the uplink
    while pending:
        at, _, what, manner = heappop(pending)
        if what == "off":
            plugged, how, found = False, manner, FOREVER
        elif what == "on":
            plugged = True
            if running and not leased and found == FOREVER:  # found by and by
                found = at + wan_dhcp
                heappush(pending, (found, 3, "found", ""))
        elif what == "power-off":
            powered = running = leased = False
            booted = found = FOREVER
        elif what == "power-on":
            if not powered:
                booted = at + boot
                heappush(pending, (booted, 2, "booted", ""))
            powered = True
        elif what == "booted" and at == booted:
            running, booted = True, FOREVER
            leased = plugged
            boots.append(at)
        elif what == "found" and at == found:
            leased, found = True, FOREVER
        lan.set(at, running)
        if not running:
            uplink.set(at, "off")
        elif plugged and leased:
            uplink.set(at, "up")
        elif how == "silent" or (how == "auto" and leased):
            uplink.set(at, "silent")
        else:
            uplink.set(at, "known")
    return uplink, lan, boots


def _power(scenario: Scenario, device: str, begin: int, seed: int) -> Steps[bool]:
    steps = Steps(False)
    start = begin
    if scenario.start == "stationary":
        start += Random(number(seed, device, "power-on")).randrange(max(1, -begin))
    steps.set(start, True)
    switches = []
    for event in scenario.events:
        if isinstance(event, DevicePower) and event.device == device:
            at = nanoseconds(event.at)
            switches.append((at, event.state == "on"))
            if event.state == "restart":
                switches.append((at + nanoseconds(event.off_for), True))
    for at, on in sorted(switches):
        steps.set(max(at, start), on)
    return steps


def _link(
    model: DeviceModel,
    lan: Steps[bool],
    power: Steps[bool],
    joins: Sequence[int],
    open_wifi: bool,
    begin: int,
) -> Steps[str]:
    """Work out a device's association from the power of both ends and the operator's hand."""
    link = model.link
    associate, patience = nanoseconds(link.associate), nanoseconds(link.drops_after)
    wander = nanoseconds(link.open_wifi_after) if open_wifi and link.open_wifi_after is not None else None
    moments = sorted({*lan.times[1:], *power.times[1:], *joins})
    steps: Steps[str] = Steps("down")
    state, ready = "down", FOREVER  # ready: when a pending association completes
    gone = FOREVER  # when the home network will have been missed for too long
    roam = FOREVER  # when the device will settle for the open Wi-Fi

    def advance(until: int) -> None:
        """Complete what was pending before `until`."""
        nonlocal state, ready, gone, roam
        while (due := min(ready, gone, roam)) < until:
            if due == gone:
                state, gone = "down", FOREVER
                steps.set(due, state)
                if wander is not None:
                    roam = due + wander
            elif due == roam:
                state, roam, ready = "open", FOREVER, FOREVER
                steps.set(due, state)
            else:
                state, ready, roam = "home", FOREVER, FOREVER
                steps.set(due, state)

    for at in moments:
        advance(at)
        if not power.at(at):
            if state != "down":
                steps.set(at, "down")
            state, ready, gone, roam = "down", FOREVER, FOREVER, FOREVER
        elif not lan.at(at):
            ready = FOREVER
            if state == "home" and gone == FOREVER:
                gone = at + patience
        else:
            gone = FOREVER if state == "home" else gone
            joining = at in joins
            if state == "open" and joining:
                steps.set(at, "down")
                state, ready = "down", at + associate
            elif state == "down" and ready == FOREVER:
                ready = at + associate
                if roam < ready:
                    ready = FOREVER  # it has its mind on the open network already
    advance(FOREVER)
    return steps


def _stimuli(event: Stimulus, begin: int, end: int, seed: int) -> list[Happening]:
    at = nanoseconds(event.at)
    if event.kind == "join":  # the world's hand on the radio: worked into the link
        return []
    if event.every is None:
        return [Happening(at, event.kind, event.device, event.size)]
    rng = Random(number(seed, event.device, event.kind, "stimulus"))
    period = nanoseconds(event.every)
    result: list[Happening] = []
    count = 0
    while at < end and (event.times is None or count < event.times):
        shift = round(period * event.jitter * (2 * rng.random() - 1))
        result.append(Happening(max(begin, at + shift), event.kind, event.device, event.size))
        at += period
        count += 1
    return result
