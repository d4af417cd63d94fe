"""The periods that a run was given: what the parameters of its models say, and what its labels show.

A habit's parameters name its period (`plant`). Whether the run had time for it is seen from the
labels: the starts of that habit's own exchanges, one habit at a time (`Played`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.models.habits import (
    ClockSync,
    CloudSession,
    DhcpLease,
    GroupMembership,
    HttpCheck,
    LocalControl,
    Mdns,
    MqttSession,
    NameBatch,
    PingCycle,
    PushChannel,
    ShortSession,
    Ssdp,
    WeaveCheckin,
)
from testbed.models.habits.parts import Scheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from testbed.models import Topology
    from testbed.models.device import DeviceModel, Habit
    from testbed.models.habits.parts import Endpoint
    from testbed.validation.truth import Labels, Truth

DAY_S = 86_400.0
FEWEST_CYCLES = 5
SAME = 0.01
"""A period is found if it is right within this share; one whose steps vary by more is no strict period."""
MOST_JITTER = 0.05
"""Share of a period that may be called its jitter; beyond, it is no period."""
TOGETHER_S = 1.0
"""Exchanges of one habit that begin this close are one event to whoever sees the capture."""
MOST_IN_ROUND = 64
"""Events that a repeating round may have."""
_PORTS = {80: "HTTP", 443: "HTTPS", 1883: "MQTT", 8883: "MQTT", 5228: "GCM", 11095: "Weave"}


@dataclass(frozen=True)
class Planted:
    """A period that a habit's parameters give to the traffic of one protocol."""

    device: str
    protocol: str
    period_s: float
    habit: str
    why: str
    """The parameter."""
    drift: float = 0.0
    """Each step is drawn within ± this share of the period, from the step before."""
    spread_s: float = 0.0
    """Each event is put off by up to this, from a fixed beat."""
    within_s: float | None = None
    """A faster period of the same habit, in step with this one: its events are among that one's."""
    turns: bool = False
    """Only each of several names or servers that take turns has this period."""
    alone: bool = False
    """The habit has another, faster period off-line: a step of this one has nothing in its second half."""

    @property
    def strict(self) -> bool:
        """Whether it must be found: its steps are equal within `SAME`, and nothing takes turns in it."""
        return not self.turns and self.drift <= SAME and self.spread_s <= SAME * self.period_s

    def matches(self, period_s: float, cycles: int) -> bool:
        """Return whether a period that was found over so many cycles is this one.

        The mean of n steps that are drawn within ± d of the period has a standard error of
        d / sqrt(3 n); three of these are allowed.
        """
        slack = SAME * self.period_s + 3 * self.drift * self.period_s / np.sqrt(3 * max(1, cycles))
        return bool(abs(period_s - self.period_s) <= slack)


def plant(truth: Truth) -> list[Planted]:
    """Return every period of every device of the run; needs its models."""
    assert truth.setup is not None
    out: list[Planted] = []
    for name, model in truth.model_of().items():
        device = truth.setup.devices.get(model)
        if device is None or device.link.through is not None:
            continue
        for habit in device.habits:
            out += _of_habit(habit, name, device, truth.setup.topology)
    return list(dict.fromkeys(out))


def _of_habit(habit: Habit, device: str, model: DeviceModel, net: Topology) -> Iterator[Planted]:
    def period(protocol: str, period_s: float, why: str, **more: Any) -> Planted:
        return Planted(device, protocol, period_s, habit.name, why, **more)

    if isinstance(habit, DhcpLease):
        if not habit.sleeps:
            yield period(
                "DHCP",
                habit.renew_at * net.router.dhcp.lease,
                "renew_at of the lease",
                drift=habit.renew_jitter,
            )
        if habit.also_every is not None:
            t1 = habit.renew_at * net.router.dhcp.lease
            in_step = t1 if (habit.also_every / t1).is_integer() and not habit.renew_jitter else None
            yield period("DHCP", habit.also_every, "also_every", within_s=in_step)
        if habit.offline_every is not None:
            yield period("DHCP", habit.offline_every, "offline_every")
    elif isinstance(habit, ClockSync):
        turns = len(dict.fromkeys(habit.servers)) if habit.next_server == "always" else 1
        if habit.every is not None:
            for protocol in ("NTP", "DNS"):
                yield period(protocol, habit.every, "every", drift=habit.jitter)
                if turns > 1:
                    yield period(
                        protocol,
                        habit.every * len(habit.servers),
                        "every, times the servers",
                        drift=habit.jitter,
                        turns=True,
                    )
        if habit.at:
            for protocol in ("NTP", "DNS"):
                yield period(protocol, DAY_S, "at")
    elif isinstance(habit, PingCycle):
        for protocol in ("ICMP", "DNS") if habit.names else ("ICMP",):
            yield period(protocol, habit.every, "every", alone=habit.every_offline is not None)
            if habit.every_offline is not None:
                yield period(protocol, habit.every_offline, "every_offline")
    elif isinstance(habit, CloudSession):
        beats = {"heartbeat.every": habit.heartbeat.every}
        if habit.telemetry is not None:
            beats["telemetry.every"] = habit.telemetry.every
        if habit.keepalive is not None and habit.keepalive < min(beats.values()):
            beats["keepalive"] = habit.keepalive
        yield from _beats(_protocol(habit.endpoint), beats, period)
    elif isinstance(habit, MqttSession):
        beats = {"keep_alive": float(habit.keep_alive), "publish_every": habit.publish_every}
        yield from _beats(_protocol(habit.endpoint), beats, period)
    elif isinstance(habit, PushChannel):
        yield period(_protocol(habit.endpoint), habit.heartbeat_every, "heartbeat_every")
    elif isinstance(habit, Mdns):
        if habit.again_every is not None:
            yield period("mDNS", habit.again_every, "again_every")
        if habit.browse and habit.browse_times is None:
            yield period("mDNS", habit.browse_most, "browse_most")
    elif isinstance(habit, GroupMembership):
        if net.router.igmp is not None:
            igmp = net.router.igmp
            yield period("IGMP", igmp.interval, "the querier's interval", spread_s=igmp.max_response)
    elif isinstance(habit, Scheduled):
        yield from _of_rounds(habit, period)


def _of_rounds(habit: Scheduled, period: Callable[..., Planted]) -> Iterator[Planted]:
    """Return the periods of a habit that has rounds."""
    protocols, turns = _of_round(habit)
    if isinstance(habit, LocalControl):
        yield period("TCP", habit.poll_every, "poll_every")
    for protocol in protocols:
        if habit.every is not None:
            alone = isinstance(habit, HttpCheck) and habit.every_offline is not None
            yield period(protocol, habit.every, "every", drift=habit.jitter, alone=alone)
            if turns > 1:
                yield period(
                    protocol, habit.every * turns, "every, times the names", drift=habit.jitter, turns=True
                )
        if habit.at:
            yield period(protocol, DAY_S, "at", spread_s=habit.spread)


def _of_round(habit: Scheduled) -> tuple[tuple[str, ...], int]:
    """Return the protocols of a habit's round, and how many names take turns in them."""
    if isinstance(habit, HttpCheck):
        return ("HTTP", "DNS"), 1
    if isinstance(habit, ShortSession):
        protocols = tuple(dict.fromkeys(_protocol(endpoint) for endpoint in habit.endpoints))
        return (*protocols, "DNS"), len(habit.endpoints) if habit.walk else 1
    if isinstance(habit, NameBatch):
        return ("DNS",), len(habit.names) if habit.walk else 1
    if isinstance(habit, Ssdp):
        return ("SSDP",), 1
    if isinstance(habit, WeaveCheckin):
        return (_protocol(habit.endpoint), "DNS"), 1
    return (), 1


def _protocol(endpoint: Endpoint) -> str:
    return endpoint.protocol or _PORTS.get(endpoint.port, "TCP")


def _beats(protocol: str, beats: dict[str, float], period: Callable[..., Planted]) -> Iterator[Planted]:
    """Return the beats within one connection; a multiple of another beat falls together with it."""
    for why, every in beats.items():
        faster = [other for other in beats.values() if other < every and (every / other).is_integer()]
        yield period(protocol, every, why, within_s=min(faster, default=None))


class Played:
    """When each habit's exchanges began, by the labels."""

    def __init__(self, labels: Labels) -> None:
        order = np.lexsort((labels.time_ns, labels.exchange, labels.device.codes))
        device, exchange = labels.device.codes[order], labels.exchange[order]
        first = np.ones(len(order), bool)
        first[1:] = (device[1:] != device[:-1]) | (exchange[1:] != exchange[:-1])
        begins = np.sort(order[first])
        self._sent = labels.direction.mask("sent")
        begins = begins[self._sent[begins]]
        self._labels = labels
        self._begins = begins[np.argsort(labels.time_ns[begins], kind="stable")]

    def times(self, device: str, protocol: str, habit: str | None = None) -> list[NDArray[np.float64]]:
        """Return the starts (s) of a device's exchanges by a protocol: of one habit, or of each habit and
        of each service of it, and then the bursts of each habit's frames, which its kernel may send again.
        """
        labels, begins = self._labels, self._begins
        mine = begins[(labels.device.mask(device) & labels.protocol.mask(protocol))[begins]]
        if habit is not None:
            return [self._times(mine[labels.behaviour.mask(habit)[mine]])]
        out = []
        for behaviour in np.unique(labels.behaviour.codes[mine]).tolist():
            its = mine[labels.behaviour.codes[mine] == behaviour]
            out.append(self._times(its))
            out += [
                self._times(its[labels.service.codes[its] == service])
                for service in np.unique(labels.service.codes[its]).tolist()
            ]
            sent = self._sent & labels.device.mask(device) & labels.protocol.mask(protocol)
            out.append(self._times(np.flatnonzero(sent & (labels.behaviour.codes == behaviour))))
        return out

    def _times(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        times = self._labels.time_ns[rows] / 1e9
        keep = np.ones(len(times), bool)
        keep[1:] = np.diff(times) >= TOGETHER_S
        return np.asarray(times[keep])


def cycles(times: NDArray[np.float64], period_s: float, slack_s: float, *, alone: bool = False) -> int:
    """Return the length of the longest chain of events of which each comes a period after the one before.

    With `alone`, nothing else may happen in the second half of a step.
    """
    if not len(times):
        return 0
    after = np.searchsorted(times, times + period_s - slack_s)
    until = np.searchsorted(times, times + period_s + slack_s, side="right")
    if alone:
        until = np.where(np.searchsorted(times, times + period_s / 2) < after, after, until)
    length = np.zeros(len(times), np.int64)
    for i in range(len(times) - 1, -1, -1):
        if until[i] > after[i]:
            length[i] = 1 + int(length[after[i] : until[i]].max())
    return int(length.max())


def repeats(times: NDArray[np.float64], period_s: float, jitter_s: float = 0.0) -> int:
    """Return for how many periods on end the events repeat, all of them, each within `SAME`.

    Or within twice the jitter that is claimed for the period, which may be `MOST_JITTER` of it.

    A round of retries has several events (lookup, again after a second, again after twelve); it
    repeats if each event has its like a period later, m events on. One that leaves out a beat now and
    then repeats too, if most of its steps are single ones.
    """
    slack_s = max(SAME * period_s, 2 * min(jitter_s, MOST_JITTER * period_s))
    best = 0
    for m in range(1, min(MOST_IN_ROUND, len(times) - 1) + 1):
        same = np.abs(times[m:] - times[:-m] - period_s) <= slack_s
        for first, until in _stretches(same):
            best = max(best, (until - first) // m)
    steps = np.diff(times)
    single = np.abs(steps - period_s) <= slack_s
    for first, until in _stretches(single | (np.abs(steps - 2 * period_s) <= slack_s)):
        beats = int(single[first:until].sum())
        if 2 * beats > until - first:
            best = max(best, beats)
    return best


def _stretches(true: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (first, until) of each stretch on which all is true."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], true.astype(np.int8), [0]])))
    return list(zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True))
