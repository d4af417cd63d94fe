"""Disruptions: found from the capture alone, and what they broke, against the scenario and the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.analysis.run import parse_time
from testbed.capture.frame import APPLICATIONS
from testbed.validation.result import Check, Difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.analysis import Analysis
    from testbed.analysis.rows import DependencyRow, FoundStateRow
    from testbed.models import Scenario, Topology
    from testbed.validation.truth import Truth

NETWORK_OFF, INTERNET_OFF = "network-off", "internet-off"
WITHIN_S = 60.0
"""How far a boundary that was found may lie from the true one: a capture shows an outage only once a
device tries and gets no answer, and its end once something comes back."""
SETTLE_S, SETTLE_SHARE = 300.0, 0.1
"""A disruption has settled after this time, at most this share of it; what went on before does not count."""


class Outage(NamedTuple):
    """A span (Unix ns) in which the Internet, or the whole network, was gone."""

    kind: str
    begin_ns: int
    end_ns: int


def true_outages(scenario: Scenario, topology: Topology, begin_ns: int, end_ns: int) -> list[Outage]:
    """Return the outages that the scenario makes within the capture, in order."""
    start = round(scenario.begin.timestamp()) * 10**9
    off = _spans(
        [(event.at, event.state == "off") for event in scenario.events if event.action == "internet"]
    )
    dark = _spans([(event.at, event.state == "off") for event in scenario.events if event.action == "router"])
    dark = [(begin, end + topology.router.boot) for begin, end in dark]
    out = [Outage(NETWORK_OFF, start + round(a * 1e9), start + round(min(b, 1e10) * 1e9)) for a, b in dark]
    for begin, end in off:
        for lo, hi in dark:
            if lo < end and hi > begin:
                if lo > begin:
                    out.append(Outage(INTERNET_OFF, start + round(begin * 1e9), start + round(lo * 1e9)))
                begin = hi
        if begin < end:
            out.append(Outage(INTERNET_OFF, start + round(begin * 1e9), start + round(min(end, 1e10) * 1e9)))
    clipped = [Outage(kind, max(a, begin_ns), min(b, end_ns)) for kind, a, b in out]
    return sorted((o for o in clipped if o.end_ns > o.begin_ns), key=lambda o: o.begin_ns)


def _spans(switches: Sequence[tuple[float, bool]]) -> list[tuple[float, float]]:
    """Return the spans (s) from each switching off to the next switching on."""
    spans, since = [], None
    for at, off in sorted(switches):
        if off and since is None:
            since = at
        elif not off and since is not None:
            spans.append((since, at))
            since = None
    if since is not None:
        spans.append((since, float("inf")))
    return spans


def check_boundaries(
    outages: Sequence[Outage], found: Sequence[FoundStateRow]
) -> tuple[list[Check], list[Difference]]:
    """Compare what the capture alone shows with the true outages: each found once, at its time."""
    told = [
        Outage(row.kind, parse_time(row.begin), parse_time(row.end)) for row in found if row.kind != "online"
    ]
    wrong, worst = [], 0.0
    left = list(told)
    for outage in outages:
        match = next((t for t in left if t.kind == outage.kind and _overlap(t, outage) > 0.5), None)
        if match is None:
            wrong.append(Difference("outage", _text(outage), ""))
            continue
        left.remove(match)
        error = max(abs(match.begin_ns - outage.begin_ns), abs(match.end_ns - outage.end_ns)) / 1e9
        worst = max(worst, error)
        if error > WITHIN_S:
            wrong.append(Difference("outage", _text(outage), _text(match)))
    missed = sum(not d.answer for d in wrong)
    wrong += [Difference("outage", "", _text(t)) for t in left]
    detail = f"{len(outages) - missed} of {len(outages)} found, {len(left)} false"
    checks = [
        Check("outages missed or false", float(missed + len(left)), 0, "most", "", detail),
        Check("error of their boundaries", worst if len(outages) > missed else None, WITHIN_S, "most", "s"),
    ]
    return checks, wrong


def _overlap(one: Outage, other: Outage) -> float:
    """Return the overlap of two spans as a share of both together."""
    shared = min(one.end_ns, other.end_ns) - max(one.begin_ns, other.begin_ns)
    return shared / (max(one.end_ns, other.end_ns) - min(one.begin_ns, other.begin_ns))


def _text(outage: Outage) -> str:
    begin, end = (str(np.datetime64(ns, "ns"))[:19] + "Z" for ns in outage[1:])
    return f"{outage.kind} {begin} to {end}"


def check_dependencies(
    truth: Truth, analysis: Analysis, outages: Sequence[Outage]
) -> tuple[list[Check], list[Difference]]:
    """Compare Table 3 with the labels: what each device still sent without the Internet, and no longer.

    Looks at the first state of the whole house that lies within an outage of the Internet. Normal is
    what the device began before it.
    """
    state = next((s for s in truth.run["states"] if s["device"] is None and _without(s, outages)), None)
    if state is None:
        rows = [row.device for row in analysis.dependencies]
        return [Check("dependencies that are wrong", float(len(rows)), 0, "most", "", "none is due")], [
            Difference("dependencies", "", name) for name in rows
        ]
    expected = _dependencies(truth, parse_time(state["begin"]), parse_time(state["end"]))
    answered = {row.device: _answer(row) for row in analysis.dependencies}
    wrong = [
        Difference(f"dependencies of {name}", _told(expected.get(name)), _told(answered.get(name)))
        for name in sorted({*expected, *answered})
        if expected.get(name) != answered.get(name)
    ]
    detail = f"of {len(expected)} devices, in {state['name']}"
    return [Check("dependencies that are wrong", float(len(wrong)), 0, "most", "", detail)], wrong


Dependency = tuple[frozenset[str], frozenset[str]]
"""Application protocols that continued, and that were disrupted."""


def _without(state: dict[str, str], outages: Sequence[Outage]) -> bool:
    begin, end = parse_time(state["begin"]), parse_time(state["end"])
    return any(o.kind == INTERNET_OFF and o.begin_ns <= begin and end <= o.end_ns for o in outages)


def _answer(row: DependencyRow) -> Dependency:
    return frozenset(filter(None, row.continued.split(";"))), frozenset(
        filter(None, row.disrupted.split(";"))
    )


def _dependencies(truth: Truth, begin_ns: int, end_ns: int) -> dict[str, Dependency]:
    labels = truth.labels
    settled_ns = begin_ns + int(min(SETTLE_S * 1e9, SETTLE_SHARE * (end_ns - begin_ns)))
    own = labels.direction.mask("sent") & labels.protocol.mask(*APPLICATIONS)
    out: dict[str, Dependency] = {}
    for device in [str(entry["name"]) for entry in truth.run["devices"]]:
        mine = own & labels.device.mask(device)
        before = _protocols(truth, mine & (labels.time_ns < begin_ns))
        after = _protocols(truth, mine & (labels.time_ns >= settled_ns) & (labels.time_ns < end_ns))
        if before or after:
            out[device] = (after, before - after)
    return out


def _protocols(truth: Truth, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> frozenset[str]:
    protocol = truth.labels.protocol
    return frozenset(protocol.names[code] for code in np.unique(protocol.codes[chosen]).tolist())


def _told(dependency: Dependency | None) -> str:
    if dependency is None:
        return "no row"
    continued, disrupted = (
        ";".join(name for name in APPLICATIONS if name in part) or "-" for part in dependency
    )
    return f"continued {continued}, disrupted {disrupted}"
