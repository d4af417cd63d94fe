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
from types import CodeType, ModuleType
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
u64 = cast("Callable[[Any], int]", np.uint64)
"""Makes an index that is never negative: it spares the question whether it counts from the end."""


def code_text(code: CodeType) -> str:
    """Return what a function does, the same in every process."""
    consts = [code_text(part) if isinstance(part, CodeType) else repr(part) for part in code.co_consts]
    return f"{code.co_code.hex()} {consts} {code.co_names} {code.co_varnames}"


class Kernel:
    """A function that runs compiled; kernels call each other by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self._native: dict[Any, Callable[..., Any] | None] = {}

    @cached_property
    def digest(self) -> int:
        """What the kernel does, as a checksum: its code, and all kernels and constants it names.

        It is taken from what this process has imported. The files may have changed since, and code
        compiled from others would see tables of another layout.
        """
        out = 0
        for part in sorted(self._parts({})):
            out = crc32(part.encode(), out)
        return out

    def _parts(self, seen: dict[str, None]) -> dict[str, None]:
        code = self.function.__code__
        own = f"{self.function.__module__}.{self.__name__}"
        if own in seen:
            return seen
        names = sorted({*code.co_names, *code.co_freevars})
        seen[own] = None
        seen[f"{own}: {code_text(code)}"] = None
        places = [self.function.__globals__]
        places += [vars(value) for name in names if isinstance(value := places[0].get(name), ModuleType)]
        for place in places:
            for name in names:
                value = place.get(name)
                if isinstance(value, Kernel):
                    value._parts(seen)
                elif isinstance(value, int | float | tuple | str):
                    seen[f"{place['__name__']}.{name} = {value!r}"] = None
        return seen

    @cached_property
    def dispatcher(self) -> Any:
        """The function as Numba compiles and caches it."""
        from numba import njit
        from numba.core.caching import FunctionCache

        digest = self.digest

        class Cache(FunctionCache):
            """Numba's cache, which by itself looks at a function's own file only."""

            def _index_key(self, sig: Any, codegen: Any) -> Any:
                key: tuple[Any, ...] = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
                return (*key, digest)

        compiled: Any = njit(nogil=True, error_model="numpy")(self.function)
        compiled._cache = Cache(self.function)  # type: ignore[no-untyped-call]
        return compiled

    @cached_property
    def inner(self) -> Any:
        """The function as other kernels call it: not for Python, which spares compiling."""
        from numba import njit

        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True}
        # Arrays come from the caller, so that nobody counts references to them; and a call would cost
        # more than most kernels take.
        options |= {"_nrt": False, "forceinline": True}
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
    return i64(buf[u64(at)])
