"""How the compiled kernels are made: Numba without the interpreter lock, cached on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

F = TypeVar("F", bound="Callable[..., Any]")


def kernel(function: F) -> F:
    """Compile `function` on its first call; later processes load it from the cache.

    Kernels hold all numbers in int64 (Numba turns uint64 mixed with int64 into floats) and check
    every offset themselves; the tests run them with NUMBA_BOUNDSCHECK=1.
    """
    compiled: F = njit(cache=True, nogil=True)(function)
    return compiled


@kernel
def byte(buf: NDArray[np.uint8], at: int) -> int:
    """Return the byte at `at` as a signed 64-bit number (an unsigned one would become a float)."""
    return np.int64(buf[at])  # type: ignore[return-value]
