"""The measurements that claims name: few and general; each has a test in which it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.models.base import Model
from testbed.reproduction.measures.base import Finding, Measure
from testbed.reproduction.measures.lab import (
    Function,
    Labels,
    Links,
    Manifest,
    StateLength,
    Switches,
    Topology,
)
from testbed.reproduction.measures.places import ActivePlaces, Names, NewPeers, Operators, Places, Queries
from testbed.reproduction.measures.protocols import Answered, Dependencies, Protocols, Users
from testbed.reproduction.measures.spectrum import Dips, Lines, Periodic, Spikes
from testbed.reproduction.measures.traffic import AmountOf, Days, Order, Payload, Ratio, TopShare

if TYPE_CHECKING:
    from testbed.reproduction.evidence import Evidence

__all__ = ["Checks", "Finding", "Measure"]


class Checks(Model):
    """One or more measurements; a claim holds if all of them do."""

    amount: AmountOf | tuple[AmountOf, ...] | None = None
    ratio: Ratio | tuple[Ratio, ...] | None = None
    order: Order | None = None
    top_share: TopShare | None = None
    payload: Payload | None = None
    days: Days | None = None
    protocols: Protocols | tuple[Protocols, ...] | None = None
    users: Users | None = None
    answered: Answered | None = None
    dependencies: Dependencies | tuple[Dependencies, ...] | None = None
    lines: Lines | tuple[Lines, ...] | None = None
    periodic: Periodic | None = None
    spikes: Spikes | None = None
    dips: Dips | None = None
    places: Places | None = None
    active_places: ActivePlaces | None = None
    names: Names | tuple[Names, ...] | None = None
    queries: Queries | tuple[Queries, ...] | None = None
    new_peers: NewPeers | None = None
    operators: Operators | None = None
    labels: Labels | tuple[Labels, ...] | None = None
    function: Function | tuple[Function, ...] | None = None
    manifest: Manifest | tuple[Manifest, ...] | None = None
    state_length: StateLength | None = None
    switches: Switches | None = None
    topology: Topology | None = None
    links: Links | None = None

    def all(self) -> list[Measure]:
        """Return the measurements in the order of their names here."""
        out: list[Measure] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                out += value if isinstance(value, tuple) else [value]
        return out

    def measure(self, evidence: Evidence) -> Finding:
        """Return what all measurements show together."""
        findings = [measure.measure(evidence) for measure in self.all()]
        text = "; ".join(dict.fromkeys(finding.measured for finding in findings))
        return Finding(text, bool(findings) and all(finding.holds for finding in findings))

    def accepts(self) -> str:
        """Return in words what is accepted."""
        return "; ".join(dict.fromkeys(measure.accepts() for measure in self.all()))
