"""Opening captures: plain, gzip or zstd, from a path or standard input, pcap or pcapng."""

from __future__ import annotations

import io
import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from testbed.errors import UserError, WorldError

if TYPE_CHECKING:
    from collections.abc import Callable

STDIN = "-"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAX_ZSTD_WINDOW = 1 << 27
_GZIP_PIECE = 1 << 16  # becomes 64 MiB at most
_ZSTD_PIECE = 1 << 11

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


class _Decompressed:
    """The bytes behind a compressed file of one or more members, a little at a time.

    Input goes in small pieces, so that a bomb cannot blow up memory.
    """

    def __init__(self, raw: BinaryIO, begin: bytes, new: Callable[[], Any], piece: int) -> None:
        self._raw = raw
        self._new = new
        self._piece = piece
        self._decoder: Any = None
        self._input = begin  # read already
        self._output = memoryview(b"")

    def readinto(self, window: memoryview) -> int:
        """Fill the begin of `window`; 0 is the end. Raises Broken at damage."""
        while not self._output:
            if not self._input:
                self._input = self._raw.read(self._piece)
                if not self._input:
                    if self._decoder is not None:
                        raise Broken("the compressed data end in the middle")
                    return 0
            if self._decoder is None:
                self._decoder = self._new()
            try:
                self._output = memoryview(self._decoder.decompress(self._input))
            except Exception as error:  # zlib's and zstandard's own types
                raise Broken(f"the compressed data are damaged: {error}") from error
            self._input = b""
            if self._decoder.eof:
                self._input = self._decoder.unused_data
                self._decoder = None
        count = min(len(window), len(self._output))
        window[:count] = self._output[:count]
        self._output = self._output[count:]
        return count


@dataclass
class Stream:
    """The decompressed bytes of one capture."""

    name: str
    file: Any
    """Has `readinto`."""
    head: bytes
    """The first four bytes, read ahead."""
    size: int | None
    """Bytes of the file on disk; None of what can be read only once."""
    position: Callable[[], int]
    """How many of those bytes were read."""
    close: Callable[[], None]
    broken: str = ""
    """Why it could not be read to its end."""

    def read_into(self, window: memoryview) -> int:
        """Fill `window` from its start; fewer bytes than asked mean the end, or that it is `broken`."""
        filled = min(len(self.head), len(window))
        window[:filled] = self.head[:filled]
        self.head = self.head[filled:]
        while filled < len(window) and not self.broken:
            try:
                got = self.file.readinto(window[filled:])
            except Broken as error:
                self.broken = str(error)
                break
            except OSError as error:
                self.broken = f"it cannot be read: {error.strerror or error}"
                break
            if not got:
                break
            filled += got
        return filled


def open_capture(name: str) -> Stream:
    """Open a capture by path, or standard input for ``-``; raises UserError if it is none."""
    raw, size = _open(name)
    try:
        first = raw.read(4)
    except OSError as error:
        raise UserError(f"cannot read '{name}': {error.strerror or error}") from error
    position = raw.tell if size is not None else int
    stream = Stream(name, raw, first, size, position, raw.close)
    if first[:2] == _GZIP or first == _ZSTD:
        if first == _ZSTD:
            stream.file = _zstd(name, raw, first)
        else:
            stream.file = _Decompressed(raw, first, lambda: zlib.decompressobj(wbits=31), _GZIP_PIECE)
        stream.head = b""
        window = memoryview(bytearray(4))
        got = stream.read_into(window)
        stream.head = bytes(window[:got])
    if stream.broken or (stream.head not in PCAP_MAGICS and stream.head != PCAPNG_MAGIC):
        raw.close()
        if stream.broken:
            raise UserError(f"'{name}' is not a capture: {stream.broken}")
        raise UserError(_no_capture(name, stream.head))
    return stream


def read_once(name: str) -> bool:
    """Tell whether a capture can be read only once: standard input, a pipe."""
    try:
        return name == STDIN or not S_ISREG(os.stat(name).st_mode)
    except OSError:
        return False


def copy_to(name: str, file: IO[bytes]) -> None:
    """Copy a capture that can be read only once into a file; raises UserError if it is none."""
    import shutil

    raw, _ = _open(name)
    with raw:
        begin = raw.read(4)
        if begin[:2] != _GZIP and begin != _ZSTD and begin not in PCAP_MAGICS and begin != PCAPNG_MAGIC:
            raise UserError(_no_capture(name, begin))
        file.write(begin)
        shutil.copyfileobj(raw, file, 1 << 20)
    file.flush()


def _no_capture(name: str, begin: bytes) -> str:
    """Say why something that begins so is no capture."""
    if len(begin) < 4:
        return f"'{name}' is not a capture: it is {'too short' if begin else 'empty'}"
    return (
        f"'{name}' is not a capture: it begins with {begin.hex(' ')}; "
        "pcap and pcapng files are read, also compressed with gzip or zstd"
    )


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
        about = os.fstat(raw.fileno())
        return raw, about.st_size if S_ISREG(about.st_mode) else None
    except FileNotFoundError:
        raise UserError(f"there is no file '{name}'") from None
    except OSError as error:
        raise UserError(f"cannot open '{name}': {error.strerror}") from error


def _zstd(name: str, raw: BinaryIO, begin: bytes) -> _Decompressed:
    try:
        import zstandard
    except ImportError:
        need = "install the package 'zstandard' to read it"
        raise WorldError(f"'{name}' is compressed with zstd; {need}") from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
    return _Decompressed(raw, begin, decompressor.decompressobj, _ZSTD_PIECE)
