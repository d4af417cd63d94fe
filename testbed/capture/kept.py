"""What is made once on a machine and kept for later processes: compiled kernels, the list of vendors.

A kept file begins with its own length and checksum, so that one that was cut short or damaged is made
anew instead of used. It is written under another name and put in place in one step.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = struct.Struct("<8sQI")
_MAGIC = b"testbed1"


def folders() -> Iterator[Path]:
    """Yield where files may be kept: as asked for, beside the package, in the user's cache."""
    asked = os.environ.get("NUMBA_CACHE_DIR")
    if asked:
        yield Path(asked)
        return
    yield Path(__file__).parent / "__pycache__"
    try:
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iot-testbed"
    except RuntimeError:  # no home
        return


def look_up(name: str) -> bytes | None:
    """Return what is kept under a name, None if there is nothing whole."""
    for folder in folders():
        try:
            image = (folder / name).read_bytes()
        except OSError:
            continue
        content = image[_HEAD.size :]
        if len(image) >= _HEAD.size and _HEAD.unpack_from(image) == (_MAGIC, len(content), crc32(content)):
            return content
    return None


def keep(name: str, content: bytes) -> Path | None:
    """Keep something under a name; return the file, None if no folder can be written."""
    import tempfile

    for folder in folders():
        partial = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                partial = file.name
                file.write(_HEAD.pack(_MAGIC, len(content), crc32(content)) + content)
            os.chmod(partial, 0o644)
            os.replace(partial, folder / name)
        except OSError:
            if partial:
                Path(partial).unlink(missing_ok=True)
            continue
        return folder / name
    return None
