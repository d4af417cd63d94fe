"""What the analyser takes from a run's folder: who the devices are, and when the states were.

Nothing else of `run.json` is read: not the services, not the models, and no label. Places come
from the database `places.mmdb`, as they would for a real capture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from testbed.capture.frame import mac_number
from testbed.errors import UserError


@dataclass(frozen=True)
class KnownDevice:
    """A device that was named beforehand."""

    name: str
    mac: int | None
    """None for a device that acts through a hub or a phone."""
    title: str = ""
    group: str = ""
    """H (hub), S (sensor) or phone."""
    link: str = ""
    energy_w: float | None = None
    through: str = ""


@dataclass(frozen=True)
class State:
    """A span of time that is looked at by itself; `begin_ns` is in it, `end_ns` is not."""

    name: str
    begin_ns: int
    end_ns: int
    number: int | None = None
    """The paper's number (Table 2)."""
    device: str | None = None
    """The device that it concerns; None for all."""


@dataclass(frozen=True)
class Run:
    """A run's folder, as far as the analyser knows it."""

    folder: Path
    devices: tuple[KnownDevice, ...]
    states: tuple[State, ...]
    begin_ns: int | None
    end_ns: int | None
    router: KnownDevice | None
    lan: str | None

    @property
    def capture(self) -> Path:
        return self.folder / "capture.pcap"

    @property
    def places(self) -> Path | None:
        """The run's database of places, if it has one."""
        path = self.folder / "places.mmdb"
        return path if path.is_file() else None


def parse_time(text: str) -> int:
    """Return Unix nanoseconds of an ISO 8601 time; without a zone it is UTC. Raises ValueError."""
    fraction_ns = 0
    main, dot, rest = text.strip().partition(".")
    if dot:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        rest = rest[len(digits) :]
        fraction_ns = int(digits[:9].ljust(9, "0"))
        main += rest
    moment = datetime.fromisoformat(main)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + fraction_ns


def load_run(folder: str | Path) -> Run:
    """Read `run.json` of a run's folder; raises UserError naming the file and the key."""
    path = Path(folder) / "run.json"
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"'{folder}' is not a run's folder: there is no run.json in it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read '{path}': {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"'{path}': expected an object at the top")
    try:
        return Run(
            folder=Path(folder),
            devices=tuple(_device(entry) for entry in data["devices"]),
            states=tuple(_state(entry) for entry in data["states"]),
            begin_ns=parse_time(data["begin"]) if data.get("begin") else None,
            end_ns=parse_time(data["end"]) if data.get("end") else None,
            router=_device(data["router"]) if data.get("router") else None,
            lan=str(data["router"]["lan"]) if data.get("router", {}).get("lan") else None,
        )
    except KeyError as error:
        raise UserError(f"'{path}': the key {error} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"'{path}': {error}") from None


def _device(entry: dict[str, Any]) -> KnownDevice:
    mac = entry.get("mac")
    energy = entry.get("energy_w")
    return KnownDevice(
        name=str(entry["name"]),
        mac=None if mac is None else mac_number(mac),
        title=str(entry.get("title") or ""),
        group=str(entry.get("class") or ""),
        link=str(entry.get("link") or ""),
        energy_w=None if energy is None else float(energy),
        through=str(entry.get("through") or ""),
    )


def _state(entry: dict[str, Any]) -> State:
    number = entry.get("number")
    return State(
        name=str(entry["name"]),
        begin_ns=parse_time(entry["begin"]),
        end_ns=parse_time(entry["end"]),
        number=None if number is None else int(number),
        device=entry.get("device"),
    )


def load_states(path: str | Path) -> tuple[State, ...]:
    """Read a CSV of intervals: columns name, begin, end, and if wanted number, device.

    Times are ISO 8601 (UTC unless they name a zone) or Unix seconds. Raises UserError naming the line.
    """
    import csv

    states = []
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = {"name", "begin", "end"} - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"'{path}', line 1: missing column {', '.join(sorted(missing))}")
            for row in reader:
                try:
                    begin, end = _moment(row["begin"]), _moment(row["end"])
                    number = int(row["number"]) if row.get("number") else None
                except (ValueError, TypeError, OverflowError) as error:
                    raise UserError(f"'{path}', line {reader.line_num}: {error}") from None
                if end <= begin:
                    raise UserError(f"'{path}', line {reader.line_num}: the state ends before it begins")
                states.append(State(row["name"], begin, end, number, row.get("device") or None))
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"'{path}' is not a CSV file: {error}") from None
    if not states:
        raise UserError(f"'{path}' holds no state")
    return tuple(states)


def _moment(text: str) -> int:
    try:
        return round(float(text) * 1e9)
    except ValueError:
        return parse_time(text)
