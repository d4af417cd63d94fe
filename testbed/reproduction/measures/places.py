"""With whom: names, servers and places (Figures 5 and 6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from testbed.reproduction.evidence import When
from testbed.reproduction.measures.base import Devices, Finding, Measure, listed, number, short

if TYPE_CHECKING:
    from testbed.reproduction.evidence import Evidence


class Places(Measure):
    """A device's protocol reaches at least so many countries."""

    device: str
    protocol: str
    least: int

    def measure(self, evidence: Evidence) -> Finding:
        rows = evidence.findings("week").tables["places"]
        found = {row.country for row in rows if (row.device, row.protocol) == (self.device, self.protocol)}
        return Finding(f"{len(found)} countries and US states", len(found) >= self.least)

    def accepts(self) -> str:
        return f"at least {self.least}"


class ActivePlaces(Measure):
    """Few (device, place) pairs are active in most windows."""

    most: int | None = None
    most_share: float | None = None
    above_pct: float = 50.0
    without: tuple[tuple[str, str], ...] = ()
    """(device, protocol) pairs that the paper left out."""

    def measure(self, evidence: Evidence) -> Finding:
        active: dict[tuple[str, str], float] = {}
        eight = set(evidence.devices("eight"))
        for row in evidence.findings("week").tables["places"]:
            if row.device in eight and (row.device, row.protocol) not in self.without:
                pair = (row.device, row.country)
                active[pair] = max(active.get(pair, 0.0), row.active_windows_pct)
        busy = sum(share > self.above_pct for share in active.values())
        holds = bool(active)
        if self.most is not None:
            holds = holds and busy <= self.most
        if self.most_share is not None:
            holds = holds and busy < self.most_share * len(active)
        return Finding(
            f"{busy} of {len(active)} are active in more than {self.above_pct:g} % of windows", holds
        )

    def accepts(self) -> str:
        if self.most is not None:
            return f"at most {self.most}"
        return f"less than {100 * (self.most_share or 0):g} % of them"


class Names(Measure):
    """The names that a device speaks to by a protocol match these patterns."""

    device: str
    protocol: str
    like: tuple[str, ...]
    """Regular expressions: each must match some name."""
    only: bool = False
    """Whether every name must match one of them."""

    def measure(self, evidence: Evidence) -> Finding:
        rows = evidence.findings("week").tables["services"]
        names = sorted(
            {r.name for r in rows if (r.device, r.protocol) == (self.device, self.protocol) and r.name}
        )
        holds = all(any(re.search(pattern, name) for name in names) for pattern in self.like)
        if self.only:
            holds = holds and all(any(re.search(p, name) for p in self.like) for name in names)
        shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
        return Finding(", ".join(shown) or "none", holds and bool(names))

    def accepts(self) -> str:
        return ("only " if self.only else "") + "names like " + ", ".join(self.like)


class Queries(Measure):
    """DNS queries a day for the names of the servers of another protocol."""

    devices: Devices
    without: tuple[str, ...] = ()
    protocol: str = ""
    """Whose names are counted; empty counts all queries."""
    least: float | None = None
    most: float | None = None

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.findings("week")
        days = findings.duration_s / 86_400
        counts = {}
        for device in evidence.devices(self.devices, self.without):
            if not self.protocol:
                counts[device] = evidence.amount(device, ("DNS",), "week", "sent").packets / days
                continue
            rows = [row for row in findings.tables["services"] if row.device == device]
            wanted = {row.name for row in rows if row.protocol == self.protocol}
            packets = sum(row.packets for row in rows if row.protocol == "DNS" and row.name in wanted)
            counts[device] = packets / 2 / days  # a query and its answer
        holds = all(
            (self.least is None or n >= self.least) and (self.most is None or n <= self.most)
            for n in counts.values()
        )
        return Finding(
            ", ".join(f"{short(name)} {number(n)}" for name, n in counts.items()) + " a day", holds
        )

    def accepts(self) -> str:
        side = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return f"{side} queries a day" + (f" for names of {self.protocol} servers" if self.protocol else "")


class NewPeers(Measure):
    """In a state a device tries names that it did not try in others."""

    devices: Devices
    protocols: tuple[str, ...]
    when: When = "S7"
    before: tuple[When, ...]
    least_devices: int | Literal["all"] = "all"

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.findings(self.when)
        earlier = {findings.state(int(when[1:]))["name"] for when in self.before}
        new = {}
        devices = evidence.devices(self.devices)
        for device in devices:
            own = findings.state(int(self.when[1:]), device)["name"]
            tried = [r for r in findings.tables["state_services"] if r.device == device and r.attempts]
            tried = [row for row in tried if row.protocol in self.protocols and row.name]
            known = {(row.protocol, row.name) for row in tried if row.state in earlier}
            found = {row.name for row in tried if row.state == own and (row.protocol, row.name) not in known}
            if found:
                new[device] = sorted(found)
        wanted = len(devices) if self.least_devices == "all" else self.least_devices
        text = "; ".join(f"{short(d)}: {', '.join(names[:3])}" for d, names in new.items()) or "none"
        return Finding(text, len(new) >= wanted)

    def accepts(self) -> str:
        who = "each" if self.least_devices == "all" else f"at least {self.least_devices} device(s)"
        return f"{who} with a new name by {listed(self.protocols)}"


class Operators(Measure):
    """Time servers differ between devices: each pair of devices has another set."""

    devices: Devices
    protocol: str

    def measure(self, evidence: Evidence) -> Finding:
        rows = evidence.findings("week").tables["services"]
        eight = evidence.devices(self.devices)
        names = {
            d: frozenset(r.name for r in rows if (r.device, r.protocol) == (d, self.protocol)) for d in eight
        }
        users = {device: found for device, found in names.items() if found}
        rates = {
            device: evidence.amount(device, (self.protocol,), "week", "sent").packets / 7 for device in users
        }
        text = ", ".join(f"{short(d)} {len(users[d])} names, {number(rates[d])} a day" for d in users)
        apart = len(set(users.values())) == len(users) and len(users) > 1
        return Finding(text, apart and max(rates.values()) >= 10 * min(rates.values()))

    def accepts(self) -> str:
        return "no two devices with the same servers, frequencies ten times apart"
