"""The lab: Table 1's labels, what users see, and how it was set up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from testbed.analysis.run import parse_time
from testbed.models.load import load_scenario, load_topology
from testbed.reproduction.evidence import NotMeasured, When
from testbed.reproduction.measures.base import (
    Devices,
    Finding,
    Measure,
    bounds,
    listed,
    number,
    short,
    within,
)

if TYPE_CHECKING:
    from testbed.reproduction.evidence import Evidence, Findings


class Labels(Measure):
    """A device's row of Table 1, as the analyser has it."""

    device: str
    group: Literal["H", "S", "phone", ""] = ""
    link: str = ""
    security: str = ""
    """S, I or S,I: by what its traffic shows."""
    energy_w: float | None = None
    unknown_energy: bool = False
    mean_rate: bool | None = None
    """Whether it has a rate: false for what sends nothing over IP."""
    through: str = ""
    """The hub or phone that it acts through."""

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.week or evidence.any
        row: Any = next((row for row in findings.tables["devices"] if row.device == self.device), None)
        if row is None:
            return Finding("no such device", False)
        found, good = [], []
        for wanted, value in (
            (self.group, row.class_), (self.link, row.link), (self.security, row.security),
        ):  # fmt: skip
            if wanted:
                found.append(value or "nothing")
                good.append(value == wanted)
        if self.energy_w is not None or self.unknown_energy:
            found.append("none" if row.energy_w is None else f"{row.energy_w:g} W")
            good.append(row.energy_w == self.energy_w)
        if self.mean_rate is not None:
            found.append(f"{number(row.mean_bytes_per_s)} B/s")
            good.append((row.mean_bytes_per_s > 0) == self.mean_rate)
        if self.through:
            entry = next(entry for entry in findings.manifest["devices"] if entry["name"] == self.device)
            found.append(f"through {entry['through']}")
            good.append(entry["through"] == self.through)
        return Finding(", ".join(found), bool(good) and all(good))

    def accepts(self) -> str:
        parts = [self.group, self.link, self.security]
        parts += [f"{self.energy_w:g} W"] if self.energy_w is not None else []
        parts += ["no power"] if self.unknown_energy else []
        parts += [] if self.mean_rate is None else ["a rate" if self.mean_rate else "no traffic of its own"]
        parts += [f"through {self.through}"] if self.through else []
        return ", ".join(part for part in parts if part)


class Function(Measure):
    """What users see of each device in a state, by the devices' own log."""

    devices: Devices
    without: tuple[str, ...] = ()
    when: When
    outcomes: tuple[Literal["works", "partial", "off-line"], ...]
    at: Literal["end", "throughout", "sometime"] = "end"
    """At the state's end, all of its last nine tenths, or at some moment."""
    local: str = ""
    """Pattern for what still works locally."""

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.findings(self.when)
        seen, wrong = {}, []
        for device in evidence.devices(self.devices, self.without):
            outcomes, local = self._seen(findings, device)
            seen[device] = "/".join(outcomes)
            accepted = [outcome in self.outcomes for outcome in outcomes]
            right = any(accepted) if self.at == "sometime" else all(accepted)
            if not right or (self.local and not re.search(self.local, local)):
                wrong.append(device)
        shown = wrong or list(seen)
        words = {seen[name] for name in shown}
        text = (
            words.pop()
            if len(words) == 1 and not wrong
            else ", ".join(f"{short(n)} {seen[n]}" for n in shown)
        )
        return Finding(text, bool(seen) and not wrong)

    def accepts(self) -> str:
        where = {
            "end": "at its end",
            "throughout": "throughout, after its first tenth",
            "sometime": "sometime",
        }
        return f"{' or '.join(self.outcomes)} {where[self.at]}"

    def _seen(self, findings: Findings, device: str) -> tuple[list[str], str]:
        state = findings.state(int(self.when[1:]), device)
        begin, end = parse_time(state["begin"]), parse_time(state["end"])
        if self.at == "throughout":
            begin += (end - begin) // 10
        own = [shown for shown in findings.shown if shown.device == device and shown.time_ns < end]
        if not own and not findings.shown:
            raise NotMeasured("the log has no changes of function")
        # A device that has logged no change since its power-on works: it logs the first one that does not.
        before = [shown.outcome for shown in own if shown.time_ns < begin][-1:] or ["works"]
        inside = [shown.outcome for shown in own if shown.time_ns >= begin]
        local = own[-1].local if own else next((s.local for s in findings.shown if s.device == device), "")
        if self.at == "end":
            return [(before + inside)[-1]], local
        return list(dict.fromkeys(before + inside)), local


class Manifest(Measure):
    """A value in `run.json` is as said."""

    key: Literal["devices", "ip_devices", "begin", "end", "days", "classes", "macs"]
    equals: str

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.month if self.key in ("begin", "end", "days") else evidence.any
        if findings is None:
            raise NotMeasured("no month was played")
        devices = [entry for entry in findings.manifest["devices"] if entry["class"] in ("H", "S")]
        values = {
            "devices": str(len(devices)),
            "ip_devices": str(sum(entry["mac"] is not None for entry in devices)),
            "macs": str(len({entry["mac"] for entry in devices if entry["mac"]})),
            "classes": ", ".join(f"{sum(e['class'] == word for e in devices)} {word}" for word in "HS"),
            "begin": str(findings.manifest["begin"])[:10],
            "end": str(findings.manifest["end"])[:10],
            "days": f"{findings.duration_s / 86_400:g}",
        }
        return Finding(values[self.key], values[self.key] == self.equals)

    def accepts(self) -> str:
        return self.equals


class StateLength(Measure):
    """How long a state is, in seconds."""

    when: When
    least_s: float
    most_s: float

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.findings(self.when)
        number_ = int(self.when[1:])
        lengths = [
            (parse_time(state["end"]) - parse_time(state["begin"])) / 1e9
            for state in findings.manifest["states"]
            if state["number"] == number_
        ]
        if not lengths:
            raise NotMeasured(f"no state #{number_} was played")
        text = f"{number(min(lengths))} s" + (f", {len(lengths)} of them" if len(lengths) > 1 else "")
        return Finding(text, all(within(length, self.least_s, self.most_s) for length in lengths))

    def accepts(self) -> str:
        return bounds(self.least_s, self.most_s, "s")


class Switches(Measure):
    """What is on in a state, by the scenario that was played (Table 2)."""

    when: When
    internet: bool
    router: bool
    restarted: bool = False
    """Whether the state begins with the power-on of the device that it concerns."""

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.findings(self.when)
        scenario = load_scenario(findings.manifest["scenario"]["name"])
        wanted = int(self.when[1:])
        spans = [state for state in scenario.states if state.number == wanted]
        if not spans:
            raise NotMeasured(f"no state #{wanted} in '{scenario.name}'")
        found = []
        for span in spans:
            middle = (span.begin + span.end) / 2
            on = {"internet": True, "router": True}
            back = False
            for event in sorted(scenario.events, key=lambda event: event.at):
                if event.at <= middle and event.action in on:
                    on[event.action] = event.state == "on"  # type: ignore[union-attr]
                if event.action == "device" and event.device == span.device and event.state == "restart":
                    back = back or abs(event.at + event.off_for - span.begin) < 1
            found.append((on["internet"], on["router"], back))
        internet, router, back = found[0]
        words = {True: "on", False: "off"}
        text = f"Internet {words[internet]}, router {words[router]}" + (", device restarted" if back else "")
        return Finding(text, all(entry == (self.internet, self.router, self.restarted) for entry in found))

    def accepts(self) -> str:
        words = {True: "on", False: "off"}
        text = f"Internet {words[self.internet]}, router {words[self.router]}"
        return text + (", the device restarted as it begins" if self.restarted else "")


class Topology(Measure):
    """Something about the topology that was played."""

    key: Literal["wan", "router_igmp", "open_wifi"]
    equals: str

    def measure(self, evidence: Evidence) -> Finding:
        topology = load_topology(evidence.any.manifest["topology"]["name"])
        words = {True: "yes", False: "no"}
        values = {
            "wan": words[topology.wan is not None],
            "router_igmp": f"IGMPv{topology.router.igmp.version}" if topology.router.igmp else "none",
            "open_wifi": words[topology.open_wifi],
        }
        return Finding(values[self.key], values[self.key] == self.equals)

    def accepts(self) -> str:
        return self.equals


class Links(Measure):
    """The medium by which devices reach the router."""

    wired: tuple[str, ...]
    wireless: tuple[str, ...]

    def measure(self, evidence: Evidence) -> Finding:
        links = {entry["name"]: entry["link"] for entry in evidence.any.manifest["devices"]}
        wired = [name for name, link in links.items() if link == "ethernet"]
        wireless = [name for name, link in links.items() if link == "wifi"]
        good = set(self.wired) <= set(wired) and set(self.wireless) <= set(wireless)
        return Finding(f"Ethernet: {listed(wired)}; Wi-Fi: {listed(wireless)}", good)

    def accepts(self) -> str:
        parts = [f"Ethernet: {listed(self.wired)}"] if self.wired else []
        return "; ".join(parts + ([f"Wi-Fi: {listed(self.wireless)}"] if self.wireless else []))
