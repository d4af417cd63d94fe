"""Opening captures: plain, gzip or zstd, from a path or standard input, pcap or pcapng."""

from __future__ import annotations

import io
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from testbed.errors import UserError, WorldError

if TYPE_CHECKING:
    from collections.abc import Callable

STDIN = "-"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAX_ZSTD_WINDOW = 1 << 27

PCAP_MAGICS = {
    # first four bytes: (big endian, nanoseconds per tick, bytes of a record header)
    b"\xd4\xc3\xb2\xa1": (0, 1000, 16),
    b"\xa1\xb2\xc3\xd4": (1, 1000, 16),
    b"\x4d\x3c\xb2\xa1": (0, 1, 16),
    b"\xa1\xb2\x3c\x4d": (1, 1, 16),
    b"\x34\xcd\xb2\xa1": (0, 1000, 24),  # Kuznetzov's variant, with the interface in each record
    b"\xa1\xb2\xcd\x34": (1, 1000, 24),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"


class Broken(Exception):
    """The compressed stream is damaged; what was read before is good."""


@dataclass
class Stream:
    """The decompressed bytes of one capture."""

    name: str
    file: BinaryIO
    head: bytes
    """The first four bytes, read ahead."""
    size: int | None
    """Bytes of the file on disk; None for standard input."""
    position: Callable[[], int]
    """How many of those bytes were read."""
    close: Callable[[], None]

    def read_into(self, window: memoryview) -> int:
        """Fill `window` from its start; fewer bytes than asked mean the end of the file.

        Raises Broken when the compressed data cannot be read on.
        """
        filled = 0
        if self.head:
            filled = min(len(self.head), len(window))
            window[:filled] = self.head[:filled]
            self.head = self.head[filled:]
        while filled < len(window):
            try:
                got = self.file.readinto(window[filled:])  # type: ignore[attr-defined]
            except (OSError, EOFError, zlib.error) as error:
                raise Broken(f"{error}".rstrip(".")) from error
            except Exception as error:  # zstandard's own error type, known only where it is installed
                if type(error).__name__ != "ZstdError":
                    raise
                raise Broken(f"{error}") from error
            if not got:
                break
            filled += got
        return filled


def open_capture(name: str) -> Stream:
    """Open a capture by path, or standard input for ``-``; raises UserError if it is none."""
    raw, size = _open(name)
    try:
        first = raw.peek(4)[:4] if isinstance(raw, io.BufferedReader) else raw.read(4)
    except OSError as error:
        raise UserError(f"cannot read '{name}': {error.strerror or error}") from error
    file: BinaryIO = raw
    if first[:2] == _GZIP:
        import gzip

        file = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
    elif first == _ZSTD:
        file = _zstd(name, raw)
    stream = Stream(name, file, b"", size, raw.tell if size is not None else int, raw.close)
    window = memoryview(bytearray(4))
    try:
        got = stream.read_into(window)
    except Broken as error:
        raw.close()
        raise UserError(
            f"'{name}' is not a capture: its compression is damaged at the start ({error})"
        ) from None
    stream.head = bytes(window[:got])
    if got == 0:
        raw.close()
        raise UserError(f"'{name}' is not a capture: it is empty")
    if stream.head not in PCAP_MAGICS and stream.head != PCAPNG_MAGIC:
        raw.close()
        raise UserError(
            f"'{name}' is not a capture: it begins with {stream.head.hex(' ')}; "
            "pcap and pcapng files are read, also compressed with gzip or zstd"
        )
    return stream


def _open(name: str) -> tuple[io.BufferedReader, int | None]:
    if name == STDIN:
        return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False)), None
    path = Path(name)
    try:
        if path.is_dir():
            raise UserError(
                f"'{name}' is a folder; give the capture files in it (for a run's folder: --run {name})"
            )
        raw = path.open("rb")
        return raw, path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"there is no file '{name}'") from None
    except OSError as error:
        raise UserError(f"cannot open '{name}': {error.strerror}") from error


def _zstd(name: str, raw: io.BufferedReader) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise WorldError(
            f"'{name}' is compressed with zstd; install the package 'zstandard' to read it"
        ) from None
    reader = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW).stream_reader(
        raw, read_across_frames=True
    )
    return reader
