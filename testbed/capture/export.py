"""A run's capture as pcapng whose packet comments carry the labels (draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING

from testbed.errors import UserError, WorldError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = {b"\xd4\xc3\xb2\xa1": 1000, b"\x4d\x3c\xb2\xa1": 1}
"""First bytes of a little-endian classic pcap: nanoseconds per unit of its fractions."""
_COLUMNS = ("device", "direction", "behaviour", "protocol", "exchange", "attempt", "service", "state")
_ETHERNET, _SNAPLEN = 1, 262_144
_OPT_COMMENT, _OPT_TSRESOL = 1, 9
_BATCH = 65_536


def export_labelled(run: Path, out: Path, *, force: bool = False) -> int:
    """Write `run`'s frames to `out` as pcapng with the labels as comments; return how many.

    Streams, so that its memory does not grow with the capture. Raises UserError when `run` is no run
    folder or `out` exists, WorldError when labels and capture do not fit together.
    """
    capture, labels = run / "capture.pcap", run / "labels.parquet"
    for path in (capture, labels):
        if not path.is_file():
            raise UserError(f"{run}: is not a run folder: it has no {path.name}")
    if out.exists() and not force:
        raise UserError(f"{out}: exists already; choose another name, or replace it with --force")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    frames = 0
    try:
        with capture.open("rb", buffering=1 << 20) as source, partial.open("wb", buffering=1 << 20) as target:
            target.write(_header())
            comments = _comments(labels)
            for time_ns, length, frame in _frames(source, capture):
                label = next(comments, None)
                if label is None or label[0] != time_ns:
                    raise WorldError(f"{labels}: does not fit the capture from frame {frames + 1} on")
                target.write(_packet(time_ns, length, frame, label[1]))
                frames += 1
            if next(comments, None) is not None:
                raise WorldError(f"{labels}: has more rows than the capture has frames ({frames:,})")
        partial.replace(out)
    except OSError as error:
        raise WorldError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return frames


def _frames(source: IO[bytes], path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield time (Unix ns), length on the wire and bytes of each frame of a classic pcap."""
    unit = _MAGIC.get(source.read(24)[:4])
    if unit is None:
        raise WorldError(f"{path}: is not a little-endian pcap, as a run's capture is")
    record = struct.Struct("<IIII")
    while head := source.read(16):
        if len(head) < 16:
            raise WorldError(f"{path}: ends within a record")
        seconds, fraction, kept, length = record.unpack(head)
        frame = source.read(kept)
        if len(frame) < kept:
            raise WorldError(f"{path}: ends within a frame")
        yield seconds * 1_000_000_000 + fraction * unit, length, frame


def _comments(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield time (Unix ns) and comment of each row of the labels."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(_BATCH, columns=["time_ns", *_COLUMNS]):
        times = batch.column(0).to_pylist()
        for time_ns, *values in zip(
            times, *(batch.column(name).to_pylist() for name in _COLUMNS), strict=True
        ):
            pairs = (f"{name}={value}" for name, value in zip(_COLUMNS, values, strict=True) if value != "")
            yield time_ns, " ".join(pairs).encode()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    total = len(body) + 12
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


def _header() -> bytes:
    """Return the section header and one Ethernet interface with nanosecond times."""
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    options = _option(_OPT_TSRESOL, b"\x09") + _option(0, b"")
    interface = struct.pack("<HHI", _ETHERNET, 0, _SNAPLEN) + options
    return _block(0x0A0D0D0A, section) + _block(1, interface)


def _packet(time_ns: int, length: int, frame: bytes, comment: bytes) -> bytes:
    high, low = divmod(time_ns, 1 << 32)
    body = struct.pack("<IIIII", 0, high, low, len(frame), length) + _padded(frame)
    return _block(6, body + _option(_OPT_COMMENT, comment) + _option(0, b""))
