"""Write captures and their labels: classic pcap, and one Parquet row per frame."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

SNAPLEN = 262_144
LINKTYPE_ETHERNET = 1
BETWEEN = "between"
"""State of a frame that lies in none."""
DIRECTIONS = ("sent", "received")

LABEL_SCHEMA = pa.schema(
    [
        ("frame", pa.int64()),
        ("time_ns", pa.int64()),
        ("device", pa.dictionary(pa.int32(), pa.string())),
        ("direction", pa.dictionary(pa.int32(), pa.string())),
        ("behaviour", pa.dictionary(pa.int32(), pa.string())),
        ("protocol", pa.dictionary(pa.int32(), pa.string())),
        ("exchange", pa.int64()),
        ("attempt", pa.int32()),
        ("service", pa.dictionary(pa.int32(), pa.string())),
        ("state", pa.dictionary(pa.int32(), pa.string())),
    ]
)
"""Columns of `labels.parquet`: `time_ns` is Unix time, `frame` counts from 1."""


class Label(NamedTuple):
    """What the frames of an exchange have in common."""

    device: str
    behaviour: str
    protocol: str
    attempt: int
    service: str
    why: str = ""
    """The rule that caused the attempt (in the event log only)."""


class StateSpan(NamedTuple):
    """A state of the run; times are Unix nanoseconds, the end is excluded."""

    name: str
    begin_ns: int
    end_ns: int
    device: str | None


class PcapWriter:
    """A classic little-endian pcap of Ethernet frames with microsecond times."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=1 << 20)
        self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAPLEN, LINKTYPE_ETHERNET))

    def records(self, data: NDArray[np.uint8]) -> None:
        """Append ready-made pcap records."""
        self._file.write(data.data)

    def frame(self, time_us: int, frame: bytes) -> None:
        """Append one frame."""
        self._file.write(
            struct.pack("<IIII", time_us // 1_000_000, time_us % 1_000_000, len(frame), len(frame))
        )
        self._file.write(frame)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


class LabelWriter:
    """Streams `labels.parquet`."""

    def __init__(self, path: Path, states: Sequence[StateSpan]) -> None:
        self._writer = pq.ParquetWriter(path, LABEL_SCHEMA, compression="zstd", compression_level=1)
        self._frame = 1
        self._common = sorted((s for s in states if s.device is None), key=lambda s: s.begin_ns)
        self._own = [s for s in states if s.device is not None]
        self._state_names = [BETWEEN, *dict.fromkeys(s.name for s in states)]

    def add(
        self,
        labels: Sequence[Label],
        label: NDArray[np.int64],
        time_ns: NDArray[np.int64],
        exchange: NDArray[np.int64],
        received: NDArray[np.int64],
    ) -> None:
        """Append a row per frame; `label` indexes `labels`."""
        if not len(label):
            return
        columns: dict[str, pa.Array] = {
            "frame": pa.array(np.arange(self._frame, self._frame + len(label))),
            "time_ns": pa.array(time_ns),
            "direction": self._encode(received.astype(np.int32), list(DIRECTIONS)),
            "exchange": pa.array(exchange),
            "attempt": pa.array(np.array([item.attempt for item in labels], np.int32)[label]),
        }
        for field in ("device", "behaviour", "protocol", "service"):
            values = [str(getattr(item, field)) for item in labels]
            names = list(dict.fromkeys(values))
            place = {name: index for index, name in enumerate(names)}
            columns[field] = self._encode(
                np.array([place[value] for value in values], np.int32)[label], names
            )
        columns["state"] = self._encode(self._states(labels, label, time_ns), self._state_names)
        self._writer.write_table(
            pa.table([columns[name] for name in LABEL_SCHEMA.names], schema=LABEL_SCHEMA)
        )
        self._frame += len(label)

    @staticmethod
    def _encode(indices: NDArray[np.int32], names: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(names, pa.string()))

    def _states(
        self, labels: Sequence[Label], label: NDArray[np.int64], time_ns: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        state = np.zeros(len(label), np.int32)
        number = {name: index for index, name in enumerate(self._state_names)}
        for span in self._common:
            first, last = np.searchsorted(time_ns, [span.begin_ns, span.end_ns])
            state[first:last] = number[span.name]
        for span in self._own:
            first, last = np.searchsorted(time_ns, [span.begin_ns, span.end_ns])
            if first < last:
                theirs = np.array([item.device == span.device for item in labels])[label[first:last]]
                state[first:last][theirs] = number[span.name]
        return state

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def __enter__(self) -> LabelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()
