"""The rows of the result tables. Field names are the CSV columns; the first ones are the contract.

Bytes are whole frames on the wire (Ethernet frames without FCS), packets are frames, times are
ISO 8601 in UTC, lists in a field are separated by ``;``.
"""

from __future__ import annotations

from typing import NamedTuple


class DeviceRow(NamedTuple):
    """`devices.csv`: Table 1. One row for each device; shares in percent of the device's bytes."""

    device: str
    mac: str
    class_: str
    link: str
    protocols: str
    security: str
    energy_w: float | None
    mean_bytes_per_s: float
    applications: str
    vendor: str
    hostname: str
    addresses: str
    packets: int
    bytes: int
    encrypted_pct: float
    plaintext_pct: float


class ProtocolRow(NamedTuple):
    """`protocols.csv`: Figure 2. Traffic by device, protocol and direction."""

    device: str
    layer: str
    protocol: str
    direction: str
    packets: int
    bytes: int


class BandwidthRow(NamedTuple):
    """`bandwidth.csv`: Figure 3. Bytes in each 15-minute window with traffic."""

    device: str
    window_start: str
    sent_bytes: int
    received_bytes: int


class LineRow(NamedTuple):
    """`periodicity.csv`: Figure 4. One line of a spectrum."""

    device: str
    protocol: str
    cycles_per_week: float
    magnitude: float
    significant: bool
    p_value: float


class PeriodRow(NamedTuple):
    """`periods.csv`: what repeats in time; harmonics are not periods of their own.

    `kind` is schedule, or episode for what filled less than a tenth of the capture (retries, say);
    `flow` is empty where the whole protocol follows it.
    """

    device: str
    protocol: str
    flow: str
    period_s: float
    error_s: float
    cycles: int
    jitter_s: float
    coverage_pct: float
    cycles_per_week: float
    lines: str
    kind: str
    p_value: float


class ServiceRow(NamedTuple):
    """`services.csv`: Figures 5 and 6. What a device spoke to, by protocol, name and address."""

    device: str
    protocol: str
    name: str
    address: str
    country: str
    packets: int
    bytes: int
    active_windows_pct: float
    place: str
    registry: str
    latitude: float | None
    longitude: float | None
    name_from: str
    port: int


class PlaceRow(NamedTuple):
    """`places.csv`: Figure 5. Share of windows in which a device spoke to a place."""

    device: str
    protocol: str
    country: str
    addresses: int
    packets: int
    bytes: int
    active_windows_pct: float


class StateRow(NamedTuple):
    """`states.csv`: Figures 7 to 10. As `ProtocolRow`, for each state."""

    state: str
    number: int | None
    device: str
    layer: str
    protocol: str
    direction: str
    packets: int
    bytes: int


class DependencyRow(NamedTuple):
    """`dependencies.csv`: Table 3. Application protocols seen (continued) or not (disrupted) off-line."""

    device: str
    functionality: str
    continued: str
    disrupted: str
    answered: str
    states: str


class StateServiceRow(NamedTuple):
    """`state_services.csv`: what each device tried in a state, and what came of it."""

    state: str
    device: str
    protocol: str
    name: str
    attempts: int
    answers: int
    refusals: int
    outcome: str
    recovered_after_s: float | None
    retry: str
    retry_s: float | None
    retry_factor: float | None


class SpikeRow(NamedTuple):
    """`spikes.csv`: windows in which a device's traffic stands out, and what made it so."""

    device: str
    begin: str
    end: str
    direction: str
    bytes: int
    usual_bytes: float
    protocol: str
    name: str
    share_pct: float


class FoundStateRow(NamedTuple):
    """`found_states.csv`: disruptions that the capture itself shows."""

    name: str
    begin: str
    end: str
    kind: str
    why: str


TABLES: dict[str, type] = {
    "protocols": ProtocolRow,
    "bandwidth": BandwidthRow,
    "periodicity": LineRow,
    "services": ServiceRow,
    "states": StateRow,
    "dependencies": DependencyRow,
    "devices": DeviceRow,
    "periods": PeriodRow,
    "places": PlaceRow,
    "state_services": StateServiceRow,
    "spikes": SpikeRow,
    "found_states": FoundStateRow,
}
"""Name of each CSV file (and attribute of `Analysis`), and its row."""


def columns(row: type) -> tuple[str, ...]:
    """Return the column names of a row type."""
    fields: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
    return tuple(name.rstrip("_") for name in fields)
