"""What an analysis found, as typed rows, data frames and files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from testbed.analysis import rows as r
from testbed.analysis.ledger import PROTOCOLS
from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger
    from testbed.analysis.run import State
    from testbed.capture.read import Damage


class FrameTable(NamedTuple):
    """What each frame was put down to; one entry per frame, in the order of the capture."""

    devices: list[str]
    """Names by index; -1 is nobody."""
    protocols: tuple[str, ...]
    """Names by index: applications, then transports for what is none."""
    device: NDArray[np.int32]
    protocol: NDArray[np.int64]
    sent: NDArray[np.bool_]
    """Whether the device sent it (else it received it)."""


@dataclass
class Analysis:
    """Everything one analysis found. Each list is a CSV file of the same name."""

    captures: list[str]
    begin: str
    """First instant that is looked at, ISO 8601 in UTC; of the run where one is given."""
    end: str
    duration_s: float
    frames: int
    bytes: int
    rule: str
    """By which applications are named in the tables: ``port`` or ``payload``."""
    window_s: float
    """Length of the windows, 900 s but for captures of centuries."""
    protocol_packets: dict[str, int]
    protocol_bytes: dict[str, int]
    services_by_port: dict[str, dict[str, int]]
    payload_evidence: dict[str, Any]
    unplaced: dict[str, dict[str, int]]
    """Frames that could not be read (wholly), by reason."""
    damages: list[Damage]
    warnings: list[str]
    gateway: dict[str, Any]
    states_from: str
    """Where the states come from: run, file, capture or none."""
    devices: list[r.DeviceRow] = field(default_factory=list)
    protocols: list[r.ProtocolRow] = field(default_factory=list)
    bandwidth: list[r.BandwidthRow] = field(default_factory=list)
    spikes: list[r.SpikeRow] = field(default_factory=list)
    periodicity: list[r.LineRow] = field(default_factory=list)
    periods: list[r.PeriodRow] = field(default_factory=list)
    services: list[r.ServiceRow] = field(default_factory=list)
    places: list[r.PlaceRow] = field(default_factory=list)
    states: list[r.StateRow] = field(default_factory=list)
    state_services: list[r.StateServiceRow] = field(default_factory=list)
    dependencies: list[r.DependencyRow] = field(default_factory=list)
    found_states: list[r.FoundStateRow] = field(default_factory=list)
    state_spans: tuple[State, ...] = ()
    """The states that were looked at, with their times."""
    ledger: Ledger | None = field(default=None, repr=False)
    """The tables underneath, for further questions."""
    frame_keys: NDArray[np.int32] | None = field(default=None, repr=False)
    """Per frame, in the order in which they were read: its key in the ledger. Kept on request."""

    @property
    def damaged(self) -> bool:
        """Whether a capture could not be read to its end."""
        return bool(self.damages)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table as a data frame with the columns of its CSV file; KeyError if there is none."""
        import pandas as pd

        row = r.TABLES[name]
        return pd.DataFrame(getattr(self, name), columns=list(r.columns(row)))

    def frame_table(self) -> FrameTable:
        """Return device, direction and protocol of every frame; needs `keep_frames`.

        Between a station and the gateway the device is the station; of two stations it is the one
        that began the exchange; a multicast or broadcast is its sender's. Raises ValueError.
        """
        if self.frame_keys is None or self.ledger is None:
            raise ValueError("the frames were not kept; call analyse(..., keep_frames=True)")
        roles = self.ledger.roles
        names = [roles.name(i) for i in range(len(roles.devices) + 1)] + [""]
        device = roles.device[self.frame_keys]
        sent = self.ledger.sender()[self.frame_keys] == device
        return FrameTable(names, PROTOCOLS, device, self.ledger.protocol[self.frame_keys], sent)

    def summary(self) -> dict[str, Any]:
        """Return what `analysis.json` holds."""
        return {
            "captures": self.captures,
            "begin": self.begin,
            "end": self.end,
            "duration_s": self.duration_s,
            "frames": self.frames,
            "bytes": self.bytes,
            "rule": self.rule,
            "window_s": self.window_s,
            "protocol_packets": self.protocol_packets,
            "protocol_bytes": self.protocol_bytes,
            "services_by_port": self.services_by_port,
            "payload_evidence": self.payload_evidence,
            "unplaced": self.unplaced,
            "damages": [damage._asdict() for damage in self.damages],
            "warnings": self.warnings,
            "gateway": self.gateway,
            "states_from": self.states_from,
            "devices": [_plain(row) for row in self.devices],
            "periods": [_plain(row) for row in self.periods],
            "spikes": [_plain(row) for row in self.spikes],
            "places": [_plain(row) for row in self.places],
            "dependencies": [_plain(row) for row in self.dependencies],
            "found_states": [_plain(row) for row in self.found_states],
            "state_services": [_plain(row) for row in self.state_services],
        }

    def write(self, folder: str | Path, *, parquet: bool = False) -> list[Path]:
        """Write every table as CSV (and Parquet if wanted) and `analysis.json`; return the files."""
        folder = Path(folder)
        written = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, row in r.TABLES.items():
                path = folder / f"{name}.csv"
                path.write_text(csv_text(r.columns(row), getattr(self, name)), encoding="utf-8")
                written.append(path)
                if parquet:
                    written.append(self._parquet(folder, name))
            path = folder / "analysis.json"
            path.write_text(_json(self.summary()), encoding="utf-8")
            written.append(path)
        except OSError as error:
            raise WorldError(f"cannot write into '{folder}': {error.strerror or error}") from error
        return written

    def _parquet(self, folder: Path, name: str) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        row = r.TABLES[name]
        values = list(zip(*getattr(self, name), strict=True)) or [()] * len(r.columns(row))
        kinds = _arrow_types(row)
        columns = [pa.array(column, kind) for column, kind in zip(values, kinds, strict=True)]
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table(columns, names=list(r.columns(row))), path)
        return path


def _arrow_types(row: type) -> list[Any]:
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    hints = get_type_hints(row).values()
    return [kinds[(get_args(hint) or (hint,))[0]] for hint in hints]  # of `int | None`, the int


def _plain(row: Any) -> dict[str, Any]:
    return dict(zip(r.columns(type(row)), row, strict=True))


def csv_text(heads: Sequence[str], table: Sequence[tuple[Any, ...]]) -> str:
    """Return a CSV file's text; None is an empty field, a flag true or false (RFC 4180 quoting)."""
    columns = [_texts(column) for column in zip(*table, strict=True)]
    return "\n".join([",".join(heads), *map(",".join, zip(*columns, strict=True)), ""])


def _texts(column: tuple[Any, ...]) -> list[str]:
    """Return a column's fields; tables may be long, so that each value is turned into text once."""
    kinds = set(map(type, column))
    if kinds == {str}:
        if not _SPECIAL & set("".join(set(column))):
            return list(column)
    elif kinds == {int} or kinds == {float}:
        distinct = set(column)
        if 4 * len(distinct) > len(column):
            return list(map(repr, column))
        return list(map({value: repr(value) for value in distinct}.__getitem__, column))
    elif kinds == {bool}:
        return list(map(_FLAGS.__getitem__, column))
    elif kinds == {type(None)}:
        return [""] * len(column)
    return [_field(value) for value in column]


_SPECIAL = set(',"\n\r')
_FLAGS = {False: "false", True: "true"}


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return _FLAGS[value]
    text = str(value)
    if not _SPECIAL & set(text):
        return text
    quoted = text.replace('"', '""')
    return f'"{quoted}"'


def _json(summary: dict[str, Any]) -> str:
    """Return JSON with a line for each key, and for each row of a table."""
    parts = []
    for key, value in summary.items():
        if isinstance(value, list) and len(value) > 1:
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
