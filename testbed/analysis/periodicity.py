"""The schedules behind what devices do: periods in seconds, each once, told from their harmonics.

They are found as chains of equal steps in the event times (`testbed.analysis.chains`), in whole
protocols and in single flows of them. A daily batch is one period here, and a comb of lines in the
spectrum (`testbed.analysis.spectra`).
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import exp, floor, inf, log
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis import chains as c
from testbed.analysis.events import gather, own_events, stretch, thin
from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.order import group_rows
from testbed.analysis.roles import far_address
from testbed.analysis.rows import PeriodRow
from testbed.analysis.spectra import WEEK_S, WINDOW_S, is_harmonic, spectra
from testbed.capture.frame import address_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from testbed.analysis.events import Events
    from testbed.analysis.ledger import Ledger
    from testbed.analysis.rows import LineRow

FALSE_ALARM = 0.01
"""Chance of a single false period in the whole analysis."""
FEWEST_EVENTS = 6
SAME = 0.01
"""Periods closer than this are the same."""
LEAST_PRESENCE = 0.25
"""Share of the time from its first to its last event that a schedule's steps must fill."""
EPISODE_PCT = 10.0
"""Below this share of the capture, what was found is an episode and no schedule of the device."""
ROUND_S = 300.0
"""A flow's rounds begin after this much silence; they are looked at by themselves too."""
MOST_THREADS = 4
EVENTS_A_JOB = 50_000
"""Events that a thread searches at a time."""
NO_SCHEDULE = frozenset({"ARP"})
"""What follows from other traffic and has no schedule of its own."""
ON_LATTICE = 0.7
"""Share of a flow's events with a step of another schedule before them, from which on it is timed by it."""


class Regularity:
    """Looks for regularity in a ledger; the search runs in the background until it is asked for.

    `names` is, per key, the fact that names its far end (`Services.name`).
    """

    def __init__(self, ledger: Ledger, names: NDArray[np.int64]) -> None:
        self.ledger = ledger
        time_ns, key = own_events(ledger)
        begin, end = stretch(ledger, time_ns)
        inside = slice(np.searchsorted(time_ns, begin), np.searchsorted(time_ns, end, side="right"))
        time_ns, key = time_ns[inside], key[inside]
        self.duration_s = (end - begin) / 1e9
        label = ledger.roles.device.astype(np.int64) * len(PROTOCOLS) + ledger.protocol
        groups = (len(ledger.roles.devices) + 1) * len(PROTOCOLS)
        self.whole = gather(time_ns, key, label, np.arange(groups), begin)
        self.workers = _Workers()
        self.of_whole = _Search(self.whole, self.workers)
        flow_of_key, self.key_of_flow = _flows(ledger, label, names)
        self.names = names
        self.flows = gather(time_ns, key, flow_of_key, label[self.key_of_flow], begin)
        self.of_flows = _Search(self.flows, self.workers)
        self.rounds = thin(self.flows, ROUND_S, 0.5)
        self.of_rounds = _Search(self.rounds, self.workers)

    def text(self, flow: int) -> str:
        """Return what names a flow: its name, or its far address without one."""
        key = int(self.key_of_flow[flow])
        roles, row = self.ledger.roles, self.ledger.keys[key]
        far = ("dip_hi", "dip_lo") if roles.src[key] == roles.device[key] else ("sip_hi", "sip_lo")
        return self.ledger.tables.text(int(self.names[key])) or address_text(
            *(int(row[half]) for half in far)
        )

    def rows(self) -> tuple[list[LineRow], list[PeriodRow]]:
        """Return the spectra and the schedules."""
        self.workers.finish()
        periods = _merge(self)
        lines, significant = spectra(self.ledger, self.whole, self.duration_s, periods)
        resolution = WEEK_S / max(self.duration_s, WINDOW_S)
        return lines, [_with_lines(row, significant, resolution) for row in periods]


def _flows(
    ledger: Ledger, label: NDArray[np.int64], names: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group keys into flows: same device, protocol, kind, port, and name (or far address without one).

    Returns the flow of each key, and a key of each flow.
    """
    keys = ledger.keys
    hi, lo = (np.where(names == 0, half, 0) for half in far_address(keys, ledger.roles))
    return group_rows(label, keys["kind"], keys["port"], names, hi, lo)


@dataclass
class _Found:
    """A schedule of one series."""

    series: int
    label: int
    values: NDArray[np.float64]
    share: float
    """Of the series' events that are part of it."""
    times: NDArray[np.float64]
    """Of the series."""
    of_protocol: bool = False
    """Found in the whole protocol, not in one flow of it."""
    text: str = ""
    """What names the flow."""

    @property
    def period_s(self) -> float:
        return float(self.values[c.PERIOD])

    def members(self) -> NDArray[np.float64]:
        """Return the events of the series that have one a period before or after them."""
        return self.times[_step_before(self.times, self) | _step_before(self.times, self, -1)]

    def coverage_pct(self, duration_s: float) -> float:
        """Return the share of the capture from its first to its last event."""
        active = float(self.values[c.LAST] - self.values[c.FIRST]) + self.period_s
        return round(min(100.0, 100 * active / max(duration_s, active)), 2)


class _Workers:
    """Threads that do jobs in turn; compiled code runs on all of them at once."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        count = min(MOST_THREADS, os.cpu_count() or 1)
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            try:
                job()
            except BaseException as error:  # raised on the thread that waits
                self.failure = error

    def finish(self) -> None:
        """Wait until all jobs are done."""
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            thread.join()
        if self.failure is not None:
            raise self.failure


class _Search:
    """Finds the schedules of series on the threads of `workers`; ask `found` when they have finished."""

    def __init__(self, events: Events, workers: _Workers) -> None:
        self.events = events
        self.size = np.diff(events.starts)
        self.used = np.flatnonzero(self.size >= FEWEST_EVENTS)
        self.out = np.zeros((len(self.size), c.ROUNDS, c.COLUMNS))
        self.counts = np.zeros(len(self.size), np.int64)
        if not len(self.used):
            return
        # Bonferroni: every series, tolerance and candidate is a trial.
        limit = log(FALSE_ALARM / (len(self.used) * len(c.TOLERANCES) * c.CANDIDATES))
        parts = np.arange(EVENTS_A_JOB, len(events.times), EVENTS_A_JOB)
        cuts = sorted({0, *np.searchsorted(events.starts, parts).tolist(), len(self.size)})
        for first, until in pairwise(cuts):
            workers.jobs.put(partial(self._search, first, until, limit))

    def _search(self, first: int, until: int, limit: float) -> None:
        work = c.workspace(int(self.size[first:until].max()))
        c.find_schedules(
            self.events.times, self.events.starts, first, until, limit, self.out, self.counts, work
        )

    def found(self) -> list[_Found]:
        """Return what was found."""
        return [
            _Found(
                s,
                int(self.events.label[s]),
                self.out[s, k],
                float(self.out[s, k, c.MEMBERS]) / int(self.size[s]),
                self.events.series(s),
            )
            for s in self.used.tolist()
            for k in range(int(self.counts[s]))
        ]


def _merge(search: Regularity) -> list[PeriodRow]:
    """Join what was found in whole protocols, in single flows and in their rounds: each schedule once."""
    trials = (len(search.flows.starts) - 1) * len(c.TOLERANCES) * c.CANDIDATES
    limit = log(FALSE_ALARM / max(1, trials))
    found = search.of_whole.found()
    for one in found:
        one.of_protocol = True
    for part in (search.of_flows, search.of_rounds):
        for one in part.found():
            one.text = search.text(one.series)
            found.append(one)
    found = [
        one
        for one in found
        if _presence(one) >= LEAST_PRESENCE  # else short trains within bursts, again and again
        and PROTOCOLS[one.label % len(PROTOCOLS)] not in NO_SCHEDULE
    ]
    queries = _querier(search, found)
    taken: dict[int, list[_Found]] = {}
    rows = []
    for one in sorted(found, key=lambda one: (one.label, one.values[c.LOG_P])):
        known = taken.setdefault(one.label, [])
        if any(_same(one, other) or _in_step(one, other) for other in known):
            continue
        if any(_off_its_step(one, other, search.duration_s) for other in known):
            continue
        if any(_by_the_lattice(one, other) > limit for other in known):
            continue
        if _interleaved(one, found, search.duration_s) or _of_queries(one, queries):
            continue
        known.append(one)
        rows.append(_row(search.ledger, one, search.duration_s))
    return rows


def _presence(found: _Found) -> float:
    values = found.values
    return float(values[c.STEPS] * values[c.PERIOD] / max(values[c.LAST] - values[c.FIRST], values[c.PERIOD]))


def _same(found: _Found, other: _Found) -> bool:
    """Return whether two periods are as near as their jitter."""
    slack = max(SAME * other.period_s, float(found.values[c.JITTER]), float(other.values[c.JITTER]))
    return abs(found.period_s - other.period_s) <= slack


def _off_its_step(found: _Found, other: _Found, duration_s: float) -> bool:
    """Return whether an episode is another schedule of its flow while one of its waits was longer or shorter.

    Retries wait for answers, errors and limits; their cycle has a neighbouring length now and then,
    such as before it falls into step.
    """
    mine, others = found.values[[c.FIRST, c.LAST]], other.values[[c.FIRST, c.LAST]]
    return (
        (other.of_protocol or found.text == other.text)
        and found.coverage_pct(duration_s) < EPISODE_PCT
        and abs(found.period_s - other.period_s) <= c.TOLERANCES[-1] * other.period_s
        and bool(mine[0] <= others[1] + other.period_s)
        and bool(others[0] <= mine[1] + other.period_s)
    )


def _on_lattice(found: _Found, other: _Found) -> bool:
    """Return whether nearly all events of a schedule come one step after an event of another's series."""
    members = found.members()
    return len(members) > 0 and float(np.mean(_step_before(members, other))) >= ON_LATTICE


def _step_before(times: NDArray[np.float64], schedule: _Found, direction: int = 1) -> NDArray[np.bool_]:
    """Return at which times the schedule's series has an event one period earlier (or later, by -1)."""
    slack = max(float(schedule.values[c.TOLERANCE]) * schedule.period_s, 0.01)
    out = np.zeros(len(times), np.bool_)
    c.near(times, schedule.times, direction * schedule.period_s, slack, out)
    return out


def _in_step(found: _Found, other: _Found) -> bool:
    """Return whether a flow's period is a multiple of one that explains nearly all of the protocol,
    and in step with it: names that take turns.
    """
    multiple = round(found.period_s / other.period_s)
    return (
        other.of_protocol
        and not found.of_protocol
        and other.share >= 0.8
        and multiple >= 2
        and abs(found.period_s - multiple * other.period_s) <= SAME * found.period_s
        and _on_lattice(found, other)
    )


def _by_the_lattice(found: _Found, other: _Found) -> float:
    """Return the logarithm of the chance of a chain among events that another schedule times.

    Lookups that a device makes every 300 s, now for one name and now for another, put each name's
    events on a lattice of 300 s. There a multiple of 300 s comes by chance far more often than
    among events at any time: with r the share of the lattice's sites that are taken, and m sites
    within the tolerance, r * m successors are expected.
    """
    base, period = other.period_s, found.period_s
    if period < 1.5 * base or not _on_lattice(found, other):
        return -inf
    times = found.members()
    taken = min(1.0, len(times) * base / max(float(times[-1] - times[0]), base))
    sites = 2 * (floor(2 * float(found.values[c.TOLERANCE]) * period / base) + 1)
    return log(len(times)) + float(found.values[c.LONGEST]) * log(taken * sites)


def _interleaved(found: _Found, everything: list[_Found], duration_s: float) -> bool:
    """Return whether an episode of a protocol is flows with a longer period that happen to alternate.

    Names that take turns each have a multiple of the protocol's period; if fewer flows have it than
    would be needed for that, the shorter period is nobody's.
    """
    if not found.of_protocol or found.coverage_pct(duration_s) >= EPISODE_PCT:
        return False
    flows: dict[int, set[str]] = {}
    for other in everything:
        multiple = round(other.period_s / found.period_s)
        if (
            other.label == found.label
            and not other.of_protocol
            and 2 <= multiple <= 16
            and abs(other.period_s - multiple * found.period_s) <= SAME * other.period_s
        ):
            flows.setdefault(multiple, set()).add(other.text)
    return any(len(names) < (multiple + 1) // 2 + 1 for multiple, names in flows.items())


def _querier(search: Regularity, found: list[_Found]) -> list[_Found]:
    """Return the schedules of the router's own IGMP queries."""
    label = search.ledger.roles.router_index * len(PROTOCOLS) + PROTOCOLS.index("IGMP")
    return [one for one in found if one.label == label]


def _of_queries(found: _Found, queries: list[_Found]) -> bool:
    """Return whether reports come at a multiple of the queries: others answered the queries between."""
    if PROTOCOLS[found.label % len(PROTOCOLS)] != "IGMP":
        return False
    return any(
        (multiple := round(found.period_s / query.period_s)) >= 2
        and abs(found.period_s - multiple * query.period_s) <= SAME * found.period_s
        for query in queries
    )


def _row(ledger: Ledger, found: _Found, duration_s: float) -> PeriodRow:
    values, period = found.values, found.period_s
    coverage = found.coverage_pct(duration_s)
    device, protocol = divmod(found.label, len(PROTOCOLS))
    return PeriodRow(
        device=ledger.roles.name(device),
        protocol=PROTOCOLS[protocol],
        flow=found.text,
        period_s=round(period, 6),
        error_s=float(f"{max(float(values[c.ERROR]), 1e-6):.3g}"),
        cycles=int(values[c.STEPS]),
        jitter_s=float(f"{float(values[c.JITTER]):.3g}"),
        coverage_pct=coverage,
        cycles_per_week=round(WEEK_S / period, 4),
        lines="",
        kind="schedule" if coverage >= EPISODE_PCT else "episode",
        p_value=float(f"{exp(max(float(values[c.LOG_P]), -700.0)):.3g}"),
    )


def _with_lines(
    row: PeriodRow, significant: dict[tuple[str, str], list[float]], resolution: float
) -> PeriodRow:
    """Note which significant lines of the spectrum are the period's fundamental and harmonics."""
    lines = np.array(significant.get((row.device, row.protocol), ()), np.float64)
    chosen = lines[is_harmonic(lines, row.cycles_per_week, resolution)].tolist()
    return row._replace(lines=";".join(f"{line:g}" for line in chosen[:50]))
