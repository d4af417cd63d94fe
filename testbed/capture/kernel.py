"""How the compiled kernels are made and called: Numba compiles them, later processes do without it.

Numba takes 0.3 s to import and to load its cache, which is a third of what a large capture takes.
So what it has compiled is kept as object code, which llvmlite alone loads in milliseconds
(`testbed.capture.native`). Where that is not possible, or Numba is asked to check bounds, a kernel
runs through Numba as usual.

Rules of a kernel:
- All numbers are int64 or float64 (Numba turns uint64 mixed with int64 into floats); bytes are read
  by `byte`.
- It checks every offset itself; the tests run with NUMBA_BOUNDSCHECK=1 too.
- It allocates nothing and raises nothing: arrays come from the caller.
"""

from __future__ import annotations

import os
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from zlib import crc32

import numpy as np

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


@cache
def sources() -> str:
    """Return a digest of all files that hold kernels or their constants: compiled code goes by it."""
    digest, size = 0, 0
    for folder in ("capture", "analysis"):
        for path in sorted((Path(__file__).parents[1] / folder).glob("*.py")):
            text = path.read_bytes()
            if b"@kernel" in text or path.name in ("frame.py", "tables.py", "native.py"):
                digest, size = crc32(text, digest), size + len(text)
    return f"{digest:08x}-{size:x}"


class Kernel:
    """A function that runs compiled; kernels call each other by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self._native: dict[Any, Callable[..., Any] | None] = {}

    @cached_property
    def dispatcher(self) -> Any:
        """The function as Numba compiles and caches it."""
        from numba import njit
        from numba.core.caching import FunctionCache

        class Cache(FunctionCache):
            """Numba's cache, which by itself looks at a function's own file only."""

            def _index_key(self, sig: Any, codegen: Any) -> Any:
                key: tuple[Any, ...] = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
                return (*key, sources())

        compiled: Any = njit(nogil=True, error_model="numpy")(self.function)
        compiled._cache = Cache(self.function)  # type: ignore[no-untyped-call]
        return compiled

    @cached_property
    def inner(self) -> Any:
        """The function as other kernels call it: not for Python, which spares compiling."""
        from numba import njit

        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True}
        return njit(**options)(self.function)

    @property
    def _numba_type_(self) -> Any:
        """What Numba takes a kernel for when another kernel calls it."""
        return self.inner._numba_type_

    def __call__(self, *args: Any) -> Any:
        """Run the kernel; loads or compiles it for the types of the arguments on the first call."""
        if _through_numba():
            return self.dispatcher(*args)
        from testbed.capture import native

        spec = native.spec_of(args)
        if spec not in self._native:
            self._native[spec] = native.find(self, spec)
        run = self._native[spec]
        return self.dispatcher(*args) if run is None else run(*args)


@cache
def _through_numba() -> bool:
    return any(os.environ.get(name, "0") != "0" for name in ("NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"))


def kernel(function: F) -> F:
    """Make a function a kernel."""
    return cast("F", Kernel(function))


@kernel
def byte(buf: NDArray[np.uint8], at: int) -> int:
    """Return the byte at `at` as a signed 64-bit number (an unsigned one would become a float)."""
    return i64(buf[at])
