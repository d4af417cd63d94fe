"""What disruptions do: services continued and disrupted, recovery, retries (Figures 7 to 10, Table 3).

*Continued* is a protocol that the device still uses once the disruption has settled, *disrupted*
one that it normally uses and then does not. Normal is the baseline, where one is given, else the
states before the first disruption, else everything outside of disruptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.analysis.attempts import answers, attempts, refusals, unreachables
from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.order import by_number, distinct, group_rows, median, quantiles
from testbed.analysis.rows import DependencyRow, StateServiceRow
from testbed.analysis.tables import BY_DST
from testbed.capture.frame import APPLICATIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger
    from testbed.analysis.run import State
    from testbed.analysis.services import Services

SETTLE_S = 300.0
"""Start of a disruption that is not looked at: what was under way runs out (at most a tenth of it)."""
FEWEST_RETRIES = 3
CONSTANT_SPREAD = 0.25
"""Relative spread (interquartile range over median) of waits up to which a retry is constant."""
GROWTH = 1.4
"""Median ratio of successive waits from which on a retry is a back-off."""
Normal = dict[str, set[str]]


class Retry(NamedTuple):
    """How something that fails is tried again."""

    pattern: str
    """constant, exponential, irregular, or none."""
    wait_s: float | None
    """Median wait; of a back-off, the first."""
    factor: float | None
    """By which the waits of a back-off grow."""


def offline(ledger: Ledger, state: State) -> bool:
    """Return whether in a state nothing came from beyond the gateway although devices tried."""
    cells = ledger.cells[ledger.in_state(state)]
    settled = cells["last_ns"] >= state.begin_ns + settle_ns(state)
    inbound = ledger.roles.remote & (ledger.roles.dst >= 0) & ~unreachables(ledger)
    arrived = inbound[cells["key"]] & settled
    tried = attempts(ledger)[cells["key"]]
    return bool(tried.any()) and not bool(arrived.any())


def settle_ns(state: State) -> int:
    """Return how much of a state's begin is not looked at, in ns."""
    return int(min(SETTLE_S * 1e9, 0.1 * (state.end_ns - state.begin_ns)))


def applications_in(ledger: Ledger, state: State | None, *, settled: bool = False) -> Normal:
    """Return the application protocols that each device sent in a state (or in the whole capture)."""
    events = ledger.tables.events
    if state is not None:
        begin = state.begin_ns + (settle_ns(state) if settled else 0)
        span = np.searchsorted(events["time_ns"], [begin, state.end_ns])
        events = events[slice(*span.tolist())]
    own = (ledger.roles.src >= 0) & (ledger.application >= 0) & (ledger.keys["role"] != BY_DST)
    key = distinct(events["key"])
    key = key[own[key]]
    pairs = distinct(ledger.roles.src[key].astype(np.int64) * len(APPLICATIONS) + ledger.application[key])
    out: Normal = {}
    for pair in pairs.tolist():
        device, application = divmod(pair, len(APPLICATIONS))
        out.setdefault(ledger.roles.name(device), set()).add(APPLICATIONS[application])
    return out


def dependency_rows(ledger: Ledger, baseline: Normal | None) -> list[DependencyRow]:
    """Return Table 3: what each device goes on using without the Internet, and what it loses.

    Looks at the first state without Internet (of every device that is there).
    """
    house = [state for state in ledger.states if state.device is None]
    without = [state for state in house if offline(ledger, state)]
    if not without:
        return []
    first = without[0]
    normal = baseline if baseline is not None else _normal(ledger, house, without)
    continued = applications_in(ledger, first, settled=True)
    answered = _answered(ledger, first)
    rows = []
    for device in ledger.roles.devices:
        usual = normal.get(device.name, set())
        now = continued.get(device.name, set())
        if not usual and not now:
            continue
        lost = usual - now
        rows.append(
            DependencyRow(
                device=device.name,
                functionality="none" if not now else ("partial" if lost else "full"),
                continued=_listed(now),
                disrupted=_listed(lost),
                answered=_listed(answered.get(device.name, set())),
                states=first.name,
            )
        )
    return rows


def _normal(ledger: Ledger, house: list[State], without: list[State]) -> Normal:
    before = [state for state in house if state.end_ns <= without[0].begin_ns]
    chosen = before or [state for state in house if state not in without]
    out: Normal = {}
    for state in chosen:
        for device, used in applications_in(ledger, state).items():
            out.setdefault(device, set()).update(used)
    return out


def _answered(ledger: Ledger, state: State) -> Normal:
    cells = ledger.cells[ledger.in_state(state)]
    settled = cells["last_ns"] >= state.begin_ns + settle_ns(state)
    key = cells["key"][answers(ledger)[cells["key"]] & settled]
    key = key[ledger.application[key] >= 0]
    out: Normal = {}
    for device, application in {
        (int(ledger.roles.dst[k]), int(ledger.application[k])) for k in distinct(key)
    }:
        out.setdefault(ledger.roles.name(device), set()).add(APPLICATIONS[application])
    return out


def _listed(names: set[str]) -> str:
    return ";".join(name for name in APPLICATIONS if name in names)


class Exchanges:
    """Attempts and what came of them, by (device, protocol, name)."""

    def __init__(self, ledger: Ledger, services: Services) -> None:
        self.ledger = ledger
        roles, keys = ledger.roles, ledger.keys
        self.masks = attempts(ledger), answers(ledger), refusals(ledger)
        relevant = self.masks[0] | self.masks[1] | self.masks[2]
        # The multicast habits want no answer but may fall silent: their own frames are attempts.
        quiet = np.isin(ledger.application, [APPLICATIONS.index("mDNS"), APPLICATIONS.index("SSDP")])
        own = (roles.src >= 0) & (roles.src == roles.device) & (keys["role"] != BY_DST) & quiet
        self.masks = (self.masks[0] | own, self.masks[1], self.masks[2])
        relevant |= own
        group, first = group_rows(
            *(column[relevant] for column in (roles.device, ledger.protocol, services.name))
        )
        self.sample = np.flatnonzero(relevant)[first]
        """Per group of a device, protocol and name: one of its keys."""
        device, protocol, self.name = roles.device, ledger.protocol, services.name
        sample = self.sample
        self.order = np.lexsort((self.name[sample], protocol[sample], device[sample])).tolist()
        self.group = np.full(len(keys), -1, np.int64)
        self.group[relevant] = group
        events = ledger.tables.events
        self.time_ns = events["time_ns"]
        self.key = events["key"]
        self.event_group = self.group[self.key]
        self.is_attempt = self.masks[0][self.key] & (events["onward"] == 0)
        self.is_answer = self.masks[1][self.key]

    def rows(self) -> list[StateServiceRow]:
        """Return what was tried in each state, and what came of it."""
        out = []
        before: State | None = None
        for state in self.ledger.states:
            out += self._rows(state, recovering=before is not None and offline(self.ledger, before))
            if state.device is None:
                before = state
        return out

    def _rows(self, state: State, *, recovering: bool) -> list[StateServiceRow]:
        cells = self.ledger.cells[self.ledger.in_state(state)]
        group = self.group[cells["key"]]
        count = len(self.sample)
        amounts = []
        for mask in self.masks:
            chosen = mask[cells["key"]] & (group >= 0)
            amounts.append(np.bincount(group[chosen], cells["packets"][chosen], count).astype(int).tolist())
        span = slice(*np.searchsorted(self.time_ns, [state.begin_ns, state.end_ns]).tolist())
        order, starts = by_number(self.event_group[span] + 1, count + 1)  # first those in no group
        times, tried, came = (c[span][order] for c in (self.time_ns, self.is_attempt, self.is_answer))
        rows = []
        for g in self.order:
            attempted, answered, refused = (amount[g] for amount in amounts)
            if not attempted + answered + refused:
                continue
            key = int(self.sample[g])
            device, protocol = int(self.ledger.roles.device[key]), int(self.ledger.protocol[key])
            name = int(self.name[key])
            mine = slice(starts[g + 1], starts[g + 2])
            first = times[mine][came[mine]]
            retry = retry_pattern(times[mine][tried[mine]] / 1e9) if not answered else Retry("", None, None)
            recovered = (
                round((int(first[0]) - state.begin_ns) / 1e9, 3) if recovering and len(first) else None
            )
            rows.append(
                StateServiceRow(
                    state=state.name,
                    device=self.ledger.roles.name(device),
                    protocol=PROTOCOLS[protocol],
                    name=self.ledger.tables.text(name),
                    attempts=attempted,
                    answers=answered,
                    refusals=refused,
                    outcome=_outcome(PROTOCOLS[protocol], attempted, answered, refused),
                    recovered_after_s=recovered,
                    retry=retry.pattern,
                    retry_s=retry.wait_s,
                    retry_factor=retry.factor,
                )
            )
        return rows


def _outcome(protocol: str, attempted: int, answered: int, refused: int) -> str:
    if answered:
        return "continued"
    if protocol in ("mDNS", "SSDP"):
        return "announced"
    return "refused" if refused else "unanswered"


def retry_pattern(times: NDArray[np.float64]) -> Retry:
    """Return how attempts at these times (seconds, in order) follow each other.

    Waits below a second are one attempt. A back-off may end at a cap, and may start anew.
    """
    if not len(times):
        return Retry("", None, None)
    waits = np.diff(times[np.concatenate([[True], np.diff(times) >= 1.0])])
    if len(waits) < FEWEST_RETRIES:
        return Retry("none", None, None)
    low, middle, high = quantiles(waits, (0.25, 0.5, 0.75))
    ratios = waits[1:] / waits[:-1]
    ramp = ratios[: int(np.argmax(np.append(ratios, 0) < GROWTH))]
    if len(ramp) >= 2 and waits[0] < 0.5 * high:  # it may end at a cap, which looks constant
        return Retry("exponential", round(float(waits[0]), 3), round(median(ramp), 2))
    if high - low <= CONSTANT_SPREAD * middle:
        return Retry("constant", round(middle, 3), None)
    grows = ratios >= GROWTH
    twice = int((grows[1:] & grows[:-1]).sum())  # three waits in a row that grow
    if twice and 2 * int(grows.sum()) > len(ratios) and 3 * twice >= int(grows.sum()):
        return Retry("exponential", round(low, 3), round(median(ratios[grows]), 2))
    return Retry("irregular", round(middle, 3), None)
