"""Reading captures of any size in chunks: file bytes in, frame tables out.

A thread of its own reads ahead and dissects, while the caller works on the chunk before; both
release the interpreter lock. Memory is the ring of chunks, whatever the file's size.

Damage ends a file, never the reading: what came before it is kept, and `Capture.damages` says
where and why.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.capture import records
from testbed.capture.dissect import dissection_tables
from testbed.capture.frame import FRAME
from testbed.capture.source import PCAP_MAGICS, PCAPNG_MAGIC, Stream, open_capture
from testbed.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_WINDOW = 2 << 20
_ROWS = 24_576
_RING = 4
_MAX_PARTS = 10_000


class Damage(NamedTuple):
    """Where a file stopped being readable, and why."""

    file: str
    byte: int
    """Offset in the (decompressed) file."""
    record: int
    """1-based number of the record that could not be read."""
    why: str

    def __str__(self) -> str:
        return f"{self.file}: stopped at byte {self.byte:,} (record {self.record:,}): {self.why}"


class Chunk(NamedTuple):
    """Frames in the order of their file, and the bytes they lie in.

    Both belong to the reader again as soon as the next chunk is asked for.
    """

    bytes: NDArray[np.uint8]
    frames: NDArray[np.void]


@dataclass
class Capture:
    """One capture in one or more files, read once by `chunks`, in order of their first frames."""

    names: list[str]
    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is odd about the files, in words."""
    frames: int = 0
    bytes_read: int = 0
    """Of the files on disk."""
    bytes_total: int | None = None
    """Of the files on disk; None when a pipe is among them."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield the frames of all files; raises UserError before the first if one is no capture."""
        streams = _in_order([open_capture(name) for name in self.names])
        self.names = [stream.name for stream in streams]
        sizes = [stream.size for stream in streams]
        self.bytes_total = None if None in sizes else sum(size or 0 for size in sizes)
        return self._chunks(streams)

    def _chunks(self, streams: list[Stream]) -> Iterator[Chunk]:
        free: queue.Queue[_Slot] = queue.Queue()
        ready: queue.Queue[tuple[_Slot, int] | BaseException | None] = queue.Queue(_RING)
        stop = threading.Event()
        for _ in range(_RING):
            free.put(_Slot())
        worker = threading.Thread(target=self._work, args=(streams, free, ready, stop), daemon=True)
        worker.start()
        try:
            while True:
                item = ready.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                slot, count = item
                yield Chunk(slot.bytes, slot.rows[:count])
                self.frames += count
                free.put(slot)
        finally:
            stop.set()
            free.put(_Slot(0))  # wakes a worker that waits
            worker.join()
            for stream in streams:
                stream.close()

    def _work(
        self,
        streams: list[Stream],
        free: queue.Queue[_Slot],
        ready: queue.Queue[tuple[_Slot, int] | BaseException | None],
        stop: threading.Event,
    ) -> None:
        done = 0
        try:
            for stream in streams:
                for slot, count in _Reader(self, stream, free, stop).run():
                    self.bytes_read = done + stream.position()
                    ready.put((slot, count))
                if stop.is_set():
                    break
                done += stream.size or 0
                stream.close()
            ready.put(None)
        except BaseException as error:
            ready.put(error)


class _Slot:
    """A window of file bytes and the frame table made from it."""

    def __init__(self, window: int = _WINDOW) -> None:
        self.bytes = np.empty(window, np.uint8)
        self.rows = np.empty(_ROWS if window else 0, FRAME)


class _Reader:
    """Reads one file: cuts it into windows and finds the records."""

    def __init__(
        self, capture: Capture, stream: Stream, free: queue.Queue[_Slot], stop: threading.Event
    ) -> None:
        self.capture = capture
        self.stream = stream
        self.free = free
        self.stop = stop
        self.offset = 0
        """Bytes of the file before the current window."""
        self.record = 0
        self.ended = False
        self.state = np.zeros(8, np.int64)
        self.interfaces = np.zeros((records.MAX_INTERFACES, 5), np.int64)
        self.tables = dissection_tables()
        self.pcapng = stream.head == PCAPNG_MAGIC
        self.parts = 0
        """Sections, or captures glued behind each other."""

    def run(self) -> Iterator[tuple[_Slot, int]]:
        """Yield slots with their number of rows."""
        slot = self.free.get()
        end = self.fill(slot, 0)
        at = 0
        if not self.pcapng:
            if end < 24:
                self.damage(0, self.stream.broken or "the file ends inside its header")
                return
            at = self.pcap_header(slot, 0)
        while not self.stop.is_set():
            count, at, why = self.window(slot, at, end)
            over = why == records.DAMAGED
            if over:
                self.damage(at, records.DAMAGE_TEXT[int(self.state[records.DAMAGE])])
            elif why == records.WANT_BYTES and self.ended:
                over = True
                if self.stream.broken:
                    self.damage(at, self.stream.broken)
                elif at < end or (self.pcapng and self.state[records.SKIP] > 0):
                    self.damage(at, "the file ends inside it")
            if over:
                yield slot, count
                return
            rest = slot.bytes[at:end]
            following = self.free.get()
            if len(following.bytes) == 0:  # the consumer has gone
                return
            following.bytes[: len(rest)] = rest
            self.offset += at
            yield slot, count
            slot = following
            at, end = 0, self.fill(slot, len(rest))

    def window(self, slot: _Slot, at: int, end: int) -> tuple[int, int, int]:
        """Find the records of a window; return (rows, next byte, why stopped)."""
        total = 0
        while True:
            count, at, why = self.records(slot, total, at, end)
            total += count
            self.record += count
            if why == records.BLOCK:
                at, why = self.block(slot, at, end)
                if why == records.BLOCK:
                    continue
            elif why == records.DAMAGED and self.state[records.DAMAGE] == records.PCAP_HEADER:
                following = self.glued(slot, at, end)
                if following > at:
                    at = following
                    continue
            return total, at, why

    def records(self, slot: _Slot, first: int, at: int, end: int) -> tuple[int, int, int]:
        """Call the kernel of the file's format, filling the table from row `first`."""
        rows = slot.rows[first:]
        if self.pcapng:
            return records.pcapng_records(slot.bytes, at, end, self.state, self.interfaces, rows, self.tables)
        return records.pcap_records(slot.bytes, at, end, self.state, rows, self.tables)

    def fill(self, slot: _Slot, filled: int) -> int:
        """Read on behind the first `filled` bytes; return the end of what is there."""
        if self.ended:
            return filled
        got = self.stream.read_into(memoryview(slot.bytes)[filled:])  # type: ignore[arg-type]
        self.ended = filled + got < len(slot.bytes)
        return filled + got

    def damage(self, at: int, why: str) -> None:
        """Note where the file stopped, once."""
        if not any(damage.file == self.stream.name for damage in self.capture.damages):
            self.capture.damages.append(Damage(self.stream.name, self.offset + at, self.record + 1, why))

    def pcap_header(self, slot: _Slot, at: int) -> int:
        """Read a pcap file header; return the first byte after it."""
        big, tick_ns, header = PCAP_MAGICS[slot.bytes[at : at + 4].tobytes()]
        version = _number(slot, at + 4, 2, big), _number(slot, at + 6, 2, big)
        if version[0] != 2:
            raise UserError(
                f"'{self.stream.name}' is a pcap file of version {version[0]}.{version[1]}; "
                "versions 2.x are read"
            )
        self.state[records.BIG_ENDIAN] = big
        self.state[records.TO_NS] = tick_ns
        self.state[records.LINK] = _number(slot, at + 20, 4, big) & 0xFFFF  # above: FCS length
        self.state[records.HEADER_BYTES] = header
        return at + 24

    def glued(self, slot: _Slot, at: int, end: int) -> int:
        """Read the header of a second file glued behind the first; return the byte after it."""
        if end - at < 24 or slot.bytes[at : at + 4].tobytes() not in PCAP_MAGICS or self.parts == _MAX_PARTS:
            return at
        self.parts += 1
        self.capture.notes.append(
            f"{self.stream.name}: a second capture begins at byte {self.offset + at:,}; read on"
        )
        return self.pcap_header(slot, at)

    def block(self, slot: _Slot, at: int, end: int) -> tuple[int, int]:
        """Read a pcapng section or interface block; return (next byte, why to stop)."""
        section = slot.bytes[at : at + 4].tobytes() == PCAPNG_MAGIC
        big = int(self.state[records.BIG_ENDIAN])
        if section:
            magic = slot.bytes[at + 8 : at + 12].tobytes()
            if magic not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                return self.bad_block(at, records.BAD_BLOCK_LENGTH)
            big = int(magic == b"\x1a\x2b\x3c\x4d")
        total = _number(slot, at + 4, 4, big)
        if total < (28 if section else 20) or total & 3:
            return self.bad_block(at, records.BAD_BLOCK_LENGTH)
        if total > records.MAX_BLOCK:
            return self.bad_block(at, records.BLOCK_TOO_LONG)
        if at + total > end:
            return at, records.WANT_BYTES
        if _number(slot, at + total - 4, 4, big) != total:
            return self.bad_block(at, records.TRAILER_DIFFERS)
        if section:
            major = _number(slot, at + 12, 2, big)
            if major != 1:
                if self.record == 0 and self.offset + at == 0:
                    raise UserError(
                        f"'{self.stream.name}' is a pcapng file of version {major}; version 1 is read"
                    )
                return self.bad_block(at, records.BAD_BLOCK_LENGTH)
            self.state[records.BIG_ENDIAN] = big
            self.state[records.INTERFACES] = 0
            self.parts += 1
            if self.parts > _MAX_PARTS:
                return self.bad_block(at, records.TOO_MANY_PARTS)
        elif self.state[records.INTERFACES] == records.MAX_INTERFACES:
            return self.bad_block(at, records.TOO_MANY_PARTS)
        else:
            self.interface(slot.bytes[at : at + total].tobytes(), "big" if big else "little")
        return at + total, records.BLOCK

    def bad_block(self, at: int, damage: int) -> tuple[int, int]:
        self.state[records.DAMAGE] = damage
        return at, records.DAMAGED

    def interface(self, block: bytes, order: str) -> None:
        """Add an interface of the section: link type, snap length, unit and origin of its times."""

        def number(data: bytes) -> int:
            return int.from_bytes(data, "big" if order == "big" else "little")

        index = int(self.state[records.INTERFACES])
        row = self.interfaces[index]
        row[:] = (number(block[8:10]), 1_000_000, -1, 0, number(block[12:16]))
        at = 16
        while at + 4 <= len(block) - 4:
            code, size = number(block[at : at + 2]), number(block[at + 2 : at + 4])
            value = block[at + 4 : at + 4 + size]
            if code == 0 or at + 4 + size > len(block) - 4:
                break
            if code == 9 and size == 1:
                if value[0] & 0x80:
                    row[records.IF_POWER_OF_2] = value[0] & 0x7F
                else:
                    row[records.IF_PER_SECOND] = 10 ** min(value[0], 18)
            elif code == 14 and size == 8:
                row[records.IF_OFFSET_S] = int.from_bytes(
                    value, "big" if order == "big" else "little", signed=True
                )
            at += 4 + (size + 3) // 4 * 4
        self.state[records.INTERFACES] = index + 1


def _number(slot: _Slot, at: int, size: int, big: int) -> int:
    return int.from_bytes(slot.bytes[at : at + size].tobytes(), "big" if big else "little")


def _in_order(streams: list[Stream]) -> list[Stream]:
    """Sort rotated captures by the time of their first frame; with a pipe among them they stay as given."""
    if len(streams) < 2 or any(stream.size is None for stream in streams):
        return streams
    firsts = [_first_time(stream.name) for stream in streams]
    order = sorted(range(len(streams)), key=lambda i: (firsts[i] is None, firsts[i] or 0, streams[i].name))
    return [streams[i] for i in order]


def _first_time(name: str) -> int | None:
    """Return the time of a file's first frame, None if it has none."""
    stream = open_capture(name)
    try:
        free: queue.Queue[_Slot] = queue.Queue()
        for _ in range(_RING):
            free.put(_Slot(1 << 20 | records.MAX_BLOCK))
        for slot, count in _Reader(Capture([name]), stream, free, threading.Event()).run():
            if count:
                return int(slot.rows[0]["time_ns"])
            free.put(slot)
        return None
    finally:
        stream.close()


def read(captures: Sequence[str], each: Callable[[Chunk], None]) -> Capture:
    """Call `each` on every chunk of the captures; return what was found about the files."""
    capture = Capture(list(captures))
    for chunk in capture.chunks():
        each(chunk)
    return capture
