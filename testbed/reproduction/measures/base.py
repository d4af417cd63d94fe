"""What measurements share: their parameters, their answer, and how both are put into words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator

from testbed.models.base import Model
from testbed.models.units import parse_size
from testbed.reproduction.evidence import When

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.reproduction.evidence import Amount, Evidence

Group = Literal["eight", "hubs", "sensors"]
Devices = Group | tuple[str, ...]
"""Device names, or a group of the paper's statistics."""
Way = Literal["both", "sent", "received"]

SHORT = {
    "hive_hub": "Hive", "hs110_plug": "Plug", "google_home_mini": "Google Home", "echo_dot": "Echo",
    "arlo_base": "Arlo", "foobot": "Foobot", "nest_protect": "Nest", "dlink_motion": "D-Link",
}  # fmt: skip
"""The paper's names of the eight, shortened, for tables."""


class Finding(NamedTuple):
    """What was measured, and whether it is as the claim has it."""

    measured: str
    holds: bool


class Measure(Model, ABC):
    """A named measurement: its fields are its parameters."""

    @abstractmethod
    def measure(self, evidence: Evidence) -> Finding:
        """Return what the evidence shows; raises NotMeasured where it is missing."""

    @abstractmethod
    def accepts(self) -> str:
        """Return in words what is accepted."""


def _quantity(value: Any) -> Any:
    return float(parse_size(value)) if isinstance(value, str) else value


Quantity = Annotated[float, BeforeValidator(_quantity)]
"""A number, or bytes with a unit."""


class Selection(Model):
    """Whose traffic is counted, which, and where."""

    devices: Devices
    without: tuple[str, ...] = ()
    """Devices of the group that are left out."""
    protocols: tuple[str, ...] = ("all",)
    """Application or transport protocols; `all` frames, or all `IP` packets."""
    when: When
    way: Way = "both"
    unit: Literal["bytes", "packets"] = "bytes"
    settled: bool = False
    """Leave out the state's first five minutes."""

    def each(self, evidence: Evidence) -> dict[str, float]:
        """Return the amount of each device."""
        return {
            device: self._value(
                evidence.amount(device, self.protocols, self.when, self.way, settled=self.settled)
            )
            for device in evidence.devices(self.devices, self.without)
        }

    def _value(self, amount: Amount) -> float:
        return amount.bytes if self.unit == "bytes" else amount.packets


def short(device: str) -> str:
    """Return a device's name as the paper's readers know it."""
    return SHORT.get(device, device)


def listed(names: Iterable[str]) -> str:
    """Return names as one writes a set; the empty one is `none`."""
    return ", ".join(short(name) for name in names) or "none"


def number(value: float, unit: str = "") -> str:
    """Return a number as a person reads it: 31.2 kB, 0.0204, 14."""
    if value != value or value in (float("inf"), float("-inf")):
        return "unbounded"
    if unit == "bytes":
        for size, word in ((1e6, "MB"), (1e3, "kB")):
            if abs(value) >= size:
                return f"{value / size:.3g} {word}"
        return f"{value:.3g} B"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{text} {unit}".rstrip()


def bounds(least: float | None, most: float | None, unit: str = "") -> str:
    """Return an interval in words."""
    if least is not None and most is not None:
        return number(least, unit) if least == most else f"{number(least, unit)} to {number(most, unit)}"
    if least is not None:
        return f"at least {number(least, unit)}"
    return f"at most {number(most, unit)}" if most is not None else "anything"


def within(value: float, least: float | None, most: float | None) -> bool:
    """Return whether a value lies in a closed interval."""
    return (least is None or value >= least) and (most is None or value <= most)


def worst_first(values: dict[str, float], good: dict[str, bool], unit: str) -> str:
    """Return values in words, those that fail first; of many good ones the extremes only."""
    bad = [name for name in values if not good[name]]
    if len(values) == 1:
        return number(next(iter(values.values())), unit)
    if bad:
        return ", ".join(f"{short(name)} {number(values[name], unit)}" for name in bad)
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[low] == values[high]:
        return f"{number(values[low], unit)} each"
    return f"{number(values[low], unit)} ({short(low)}) to {number(values[high], unit)} ({short(high)})"
