"""How the compiled kernels are made: Numba without the interpreter lock, cached on disk.

Numba's own cache looks at the file of a function only. Kernels call each other across files and
share constants, so here every file with a kernel is part of what the cache goes by.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

F = TypeVar("F", bound="Callable[..., Any]")
Record = Any
"""A row of a structured array: its columns are attributes inside a kernel."""
Records = Any
"""A structured array."""
i64 = cast("Callable[[Any], int]", np.int64)
"""Makes a column of a row a signed 64-bit number."""


class _Cache(FunctionCache):
    """Numba's cache of compiled functions, which also goes by the text of all kernels."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        key: tuple[Any, ...] = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        return (*key, _sources())


@cache
def _sources() -> str:
    """Return a digest of all files that hold kernels or their constants."""
    digest = blake2b(digest_size=16)
    for folder in ("capture", "analysis"):
        for path in sorted((Path(__file__).parents[1] / folder).glob("*.py")):
            text = path.read_bytes()
            if b"@kernel" in text or path.name in ("frame.py", "tables.py"):
                digest.update(text)
    return digest.hexdigest()


def kernel(function: F) -> F:
    """Compile `function` on its first call; later processes load it from the cache.

    Kernels hold all numbers in int64 (Numba turns uint64 mixed with int64 into floats) and check
    every offset themselves; the tests run them with NUMBA_BOUNDSCHECK=1.
    """
    compiled: Any = njit(nogil=True)(function)
    compiled._cache = _Cache(function)  # type: ignore[no-untyped-call]
    return cast("F", compiled)


@kernel
def byte(buf: NDArray[np.uint8], at: int) -> int:
    """Return the byte at `at` as a signed 64-bit number (an unsigned one would become a float)."""
    return i64(buf[at])
