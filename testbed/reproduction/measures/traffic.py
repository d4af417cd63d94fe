"""How much: amounts, their ratios, and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from testbed.models.base import Model
from testbed.reproduction.evidence import When
from testbed.reproduction.measures.base import (
    Devices,
    Finding,
    Measure,
    Quantity,
    Selection,
    Way,
    bounds,
    listed,
    number,
    short,
    within,
    worst_first,
)

if TYPE_CHECKING:
    from testbed.reproduction.evidence import Evidence


class AmountOf(Selection, Measure):
    """Traffic of each device (or of all together) lies between bounds."""

    per: Literal["all", "second", "day"] = "all"
    """In all, or per second or day of the capture."""
    together: bool = False
    least: Quantity | None = None
    most: Quantity | None = None

    @model_validator(mode="after")
    def _bounded(self) -> AmountOf:
        if self.least is None and self.most is None:
            raise ValueError("needs least or most")
        return self

    def measure(self, evidence: Evidence) -> Finding:
        values = self.each(evidence)
        if self.per != "all":
            span = evidence.findings(self.when).duration_s / {"second": 1, "day": 86_400}[self.per]
            values = {name: value / span for name, value in values.items()}
        if self.together:
            total = sum(values.values())
            return Finding(number(total, self._unit()), within(total, self.least, self.most))
        good = {name: within(value, self.least, self.most) for name, value in values.items()}
        return Finding(worst_first(values, good, self._unit()), bool(values) and all(good.values()))

    def accepts(self) -> str:
        return bounds(self.least, self.most, self._unit())

    def _unit(self) -> str:
        if self.per == "all":
            return self.unit
        short_unit = "B" if self.unit == "bytes" else self.unit
        return f"{short_unit}{'/s' if self.per == 'second' else '/day'}"


class Against(Model):
    """The other side of a ratio: what differs from the first."""

    devices: Devices | None = None
    without: tuple[str, ...] | None = None
    protocols: tuple[str, ...] | None = None
    when: When | None = None
    way: Way | None = None
    settled: bool | None = None


class Ratio(Selection, Measure):
    """Traffic over other traffic, of each device or of all together, lies between bounds."""

    to: Against
    together: bool = False
    least: float | None = None
    most: float | None = None
    gain: Quantity | None = None
    """How much more it must be at least, for where the other is nearly nothing."""

    def measure(self, evidence: Evidence) -> Finding:
        values, others = self.each(evidence), self._other().each(evidence)
        if self.together or set(values) != set(others):
            values, others = {"all": sum(values.values())}, {"all": sum(others.values())}
        ratios = {name: _quotient(values[name], others[name]) for name in values}
        good = {
            name: within(ratios[name], self.least, self.most)
            and (self.gain is None or values[name] - others[name] >= self.gain)
            for name in values
        }
        text = worst_first(ratios, good, "")
        if len(values) == 1:
            (value,), (other,) = values.values(), others.values()
            text += f" ({number(value, self.unit)} to {number(other, self.unit)})"
        return Finding(text, bool(values) and all(good.values()))

    def accepts(self) -> str:
        text = bounds(self.least, self.most)
        return text + (f", and {number(self.gain, self.unit)} more" if self.gain is not None else "")

    def _other(self) -> Selection:
        own = {name: getattr(self, name) for name in Selection.model_fields}
        changed = {name: value for name, value in self.to if value is not None}
        return Selection.model_construct(**{**own, **changed})


def _quotient(value: float, other: float) -> float:
    """Return a ratio; something over nothing is unbounded, nothing over nothing is no number."""
    if other:
        return value / other
    return float("inf") if value else float("nan")


class Order(Measure):
    """Devices rank in this order; those of one rank are within `tie` of each other."""

    ranks: tuple[tuple[str, ...], ...]
    of: Literal["rate", "power", "traffic", "share"] = "rate"
    """Mean bytes/s, energy in W (both as in Table 1), an amount, or a share of the own IP traffic."""
    protocols: tuple[str, ...] = ("all",)
    when: When = "week"
    tie: float | None = Field(None, ge=0)
    """By how much devices of one rank may differ; null does not ask."""
    strict: bool = True
    """Whether equal values of different ranks are wrong."""

    def measure(self, evidence: Evidence) -> Finding:
        values = {name: self._value(evidence, name) for rank in self.ranks for name in rank}
        tied = self.tie is None or all(
            max(values[name] for name in rank) <= (1 + self.tie) * min(values[name] for name in rank)
            for rank in self.ranks
        )
        pairs = zip(self.ranks, self.ranks[1:], strict=False)
        falls = all(
            values[a] > values[b] if self.strict else values[a] >= values[b]
            for high, low in pairs
            for a in high
            for b in low
        )
        ranked = sorted(values, key=values.__getitem__, reverse=True)
        unit = {"rate": "B/s", "power": "W", "traffic": "bytes", "share": ""}[self.of]
        text = " > ".join(f"{short(name)} {number(values[name], unit)}" for name in ranked)
        return Finding(text, tied and falls)

    def accepts(self) -> str:
        sign = " > " if self.strict else " ≥ "
        text = sign.join(("each of " if len(r) > 1 else "") + ", ".join(map(short, r)) for r in self.ranks)
        return text + (f"; within a rank by {self.tie:.0%}" if self.tie is not None else "")

    def _value(self, evidence: Evidence, device: str) -> float:
        if self.of == "power":
            entries = {entry["name"]: entry["energy_w"] for entry in evidence.any.manifest["devices"]}
            return float(entries[device] or 0)
        amount = evidence.amount(device, self.protocols, self.when).bytes
        if self.of == "rate":
            return amount / evidence.findings(self.when).duration_s
        if self.of == "share":
            return _quotient(amount, evidence.amount(device, ("IP",), self.when).bytes)
        return amount


class TopShare(Measure):
    """The devices with the most of a protocol have this share of everybody's traffic."""

    count: int = Field(gt=0)
    protocols: tuple[str, ...]
    when: When = "week"
    least: float
    most: float

    def measure(self, evidence: Evidence) -> Finding:
        devices = evidence.devices("eight")
        amounts = {name: evidence.amount(name, self.protocols, self.when).bytes for name in devices}
        top = sorted(amounts, key=amounts.__getitem__, reverse=True)[: self.count]
        whole = sum(evidence.amount(name, ("all",), self.when).bytes for name in devices)
        share = _quotient(sum(amounts[name] for name in top), whole)
        return Finding(f"{100 * share:.3g} % ({listed(top)})", within(share, self.least, self.most))

    def accepts(self) -> str:
        return f"{100 * self.least:g} to {100 * self.most:g} %"


class Payload(Measure):
    """TCP segments with payload that a device sends, or their bytes, per day."""

    device: str
    protocol: str
    unit: Literal["packets", "bytes"]
    least: float
    most: float

    def measure(self, evidence: Evidence) -> Finding:
        findings = evidence.findings("week")
        found: Any = findings.payloads.get((self.device, self.protocol))
        value = getattr(found, self.unit) if found else 0.0
        value = value * 86_400 / findings.duration_s
        return Finding(f"{number(value, self.unit)} a day", within(value, self.least, self.most))

    def accepts(self) -> str:
        return f"{bounds(self.least, self.most, self.unit)} a day, of payload"


class Days(Measure):
    """The days of the month on which a device has traffic."""

    device: str
    protocols: tuple[str, ...] = ("all",)
    first: str
    last: str

    def measure(self, evidence: Evidence) -> Finding:
        totals = evidence.findings("month").totals
        days = [
            day
            for day in sorted(day for day in totals if day.startswith("2018-"))
            if any(totals[day].get((self.device, p, "sent")) for p in self._protocols())
        ]
        text = f"{days[0]} to {days[-1]}, {len(days)} days" if days else "none"
        return Finding(text, bool(days) and (days[0], days[-1]) == (self.first, self.last))

    def accepts(self) -> str:
        return f"{self.first} to {self.last}"

    def _protocols(self) -> tuple[str, ...]:
        from testbed.reproduction.evidence import BROAD

        return tuple(part for p in self.protocols for part in BROAD.get(p, (p,)))
