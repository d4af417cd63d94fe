"""Which protocols a device uses, and which devices use a protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from testbed.capture.frame import APPLICATIONS
from testbed.reproduction.evidence import TRANSPORTS, NotMeasured, When
from testbed.reproduction.measures.base import Devices, Finding, Measure, Way, bounds, listed, short, within

if TYPE_CHECKING:
    from testbed.reproduction.evidence import Evidence


class Protocols(Measure):
    """The set of protocols of each device (or of all together) is as said."""

    devices: Devices
    without: tuple[str, ...] = ()
    when: When
    layer: Literal["application", "transport"] = "application"
    must: tuple[str, ...] = ()
    may: tuple[str, ...] | None = None
    """What else is allowed: nothing by default, anything with ``[any]``."""
    count: tuple[int, int] | None = None
    """Fewest and most of them."""
    together: bool = False
    settled: bool = False
    way: Way = "both"
    share: float = 0.0
    """Least share of the device's bytes from which on a protocol counts."""

    @model_validator(mode="after")
    def _asks_something(self) -> Protocols:
        if not self.must and self.count is None and self.may is None:
            raise ValueError("needs must, may or count")
        return self

    def measure(self, evidence: Evidence) -> Finding:
        devices = evidence.devices(self.devices, self.without)
        used = {name: self._used(evidence, name) for name in devices}
        if self.together:
            everyone = set().union(*used.values())
            used = {"together": {name for name in self._names() if name in everyone}}
        wrong = {name: found for name, found in used.items() if not self._right(found)}
        shown = wrong or used
        texts = [f"{short(name)}: {self._told(found)}" for name, found in shown.items()]
        text = (
            self._told(next(iter(shown.values()))) if len(shown) == 1 and len(used) == 1 else "; ".join(texts)
        )
        return Finding(text, bool(used) and not wrong)

    def accepts(self) -> str:
        parts = []
        if self.count is not None:
            parts.append(f"{bounds(*self.count)} protocols")
        if self.must or self.may == ():
            open_ended = self.may == ("any",) or (self.may is None and self.count is not None)
            parts.append(("at least " if open_ended else "") + listed(self.must))
        if self.may and self.may != ("any",):
            parts.append(f"allowing {listed(self.may)}")
        return ", ".join(parts)

    def _right(self, found: set[str]) -> bool:
        if not set(self.must) <= found:
            return False
        if self.count is not None and not within(len(found), *self.count):
            return False
        if self.may == ("any",) or (self.may is None and self.count is not None):
            return True
        return found <= {*self.must, *(self.may or ())}

    def _names(self) -> tuple[str, ...]:
        return APPLICATIONS if self.layer == "application" else TRANSPORTS[:5]

    def _used(self, evidence: Evidence, device: str) -> set[str]:
        whole = evidence.amount(device, ("all",), self.when, self.way, settled=self.settled).bytes
        out = set()
        for name in self._names():
            amount = evidence.amount(device, (name,), self.when, self.way, settled=self.settled).bytes
            if amount > self.share * whole:
                out.add(name)
        return out

    def _told(self, found: set[str]) -> str:
        names = listed(name for name in self._names() if name in found)
        return f"{len(found)}: {names}" if self.count is not None else names


class Users(Measure):
    """The devices that use a protocol are exactly these."""

    protocols: tuple[str, ...]
    when: When
    devices: tuple[str, ...] = ()
    """Who they must be."""
    count: int | None = None
    """How many they must be, instead."""
    way: Way = "sent"
    settled: bool = False
    share: float = 0.0
    """Least share of a device's IP bytes from which on it counts."""

    def measure(self, evidence: Evidence) -> Finding:
        found = []
        for name in evidence.devices("eight"):
            amount = evidence.amount(name, self.protocols, self.when, self.way, settled=self.settled).bytes
            whole = evidence.amount(name, ("IP",), self.when, self.way, settled=self.settled).bytes
            if amount > self.share * whole:
                found.append(name)
        right = len(found) == self.count if self.count is not None else set(found) == set(self.devices)
        return Finding(listed(found), right)

    def accepts(self) -> str:
        who = f"{self.count} devices" if self.count is not None else f"exactly {listed(self.devices)}"
        return who + (f" with more than {100 * self.share:g} % of their bytes" if self.share else "")


class Answered(Measure):
    """Completed exchanges of a protocol in a state: SYNs and queries without an answer do not count."""

    devices: Devices
    without: tuple[str, ...] = ()
    protocols: tuple[str, ...]
    when: When
    settled: bool = True
    most: int = 0

    def measure(self, evidence: Evidence) -> Finding:
        from testbed.reproduction.evidence import SETTLED

        findings = evidence.findings(self.when)
        wanted = set(evidence.devices(self.devices, self.without))
        name = findings.state(int(self.when[1:]))["name"] + (SETTLED if self.settled else "")
        rows = [
            row
            for row in findings.tables["state_services"]
            if row.state == name and row.device in wanted and row.protocol in self.protocols
        ]
        answers = sum(row.answers for row in rows)
        tries = sum(row.attempts for row in rows)
        return Finding(f"{answers} answers to {tries} attempts", answers <= self.most)

    def accepts(self) -> str:
        return f"at most {self.most} answers" + (" from the fifth minute on" if self.settled else "")


class Dependencies(Measure):
    """What the analyser's Table 3 lists as continued or disrupted, or how it calls the whole."""

    device: str
    column: Literal["continued", "disrupted", "functionality"]
    must: tuple[str, ...]
    may: tuple[str, ...] = ()

    def measure(self, evidence: Evidence) -> Finding:
        table = evidence.findings("S2").tables["dependencies"]
        if self.column != "continued" and evidence.week is None:
            raise NotMeasured("no week was played, and one hour does not show all that is normal")
        rows = [row for row in table if row.device == self.device]
        if not rows:
            return Finding("no row", False)
        text = str(getattr(rows[0], self.column))
        found = set(text.split(";")) - {""}
        return Finding(
            listed(text.split(";") if text else ()), set(self.must) <= found <= {*self.must, *self.may}
        )

    def accepts(self) -> str:
        return listed(self.must) + (f", allowing {listed(self.may)}" if self.may else "")
