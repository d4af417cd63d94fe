"""Kernels as object code: written once by Numba, loaded by later processes without it.

A kernel's arguments are flattened to addresses, lengths and numbers (tuples become their parts), a
small wrapper turns them into arrays again, and Numba compiles wrapper and kernel to one function of
the C calling convention. Its object code is kept (`testbed.capture.kept`) under a name that tells all
it depends on: what the kernel does, the types of its arguments, the versions of Python, Numba and
llvmlite, Numba's settings, the processor. Kernels allocate nothing and raise nothing, so of Numba's
run-time library only the names are needed; they lead to abort().

Calls release the interpreter lock, as ctypes does for every foreign function. On other machines than
Linux on x86-64 kernels run through Numba.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from testbed.capture import elf, kept
from testbed.capture.kernel import Kernel, code_text

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_RESULTS = 4
_NEVER_CALLED = (
    "NRT_Free", "NRT_MemInfo_call_dtor", "NRT_MemInfo_alloc_safe_aligned", "NRT_Allocate", "NRT_Reallocate",
    "numba_do_raise", "numba_gil_ensure", "numba_gil_release", "numba_unpickle",
    "numba_runtime_build_excinfo_struct",
)  # fmt: skip
_CANNOT = b""
"""Kept in place of object code that cannot be loaded here."""
_lock = threading.Lock()


def spec_of(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the types of arguments: (dtype, dimensions) of arrays, int, float, or a tuple of them."""
    out: list[Any] = []
    for value in args:
        if type(value) is np.ndarray:
            out.append((value.dtype, value.ndim))
        elif type(value) is tuple:
            out.append(spec_of(value))
        else:
            out.append(float if isinstance(value, float) else int)
    return tuple(out)


def find(kernel: Kernel, spec: tuple[Any, ...]) -> Callable[..., Any] | None:
    """Return the compiled kernel for these types, from the cache or compiled now; None if neither works."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        return None
    with _lock:
        try:
            name = _file_name(kernel, spec)
            image = kept.look_up(name)
            if image is None:
                _tell_once()
                image = _compile(kernel, spec)
                _forget_others(kernel, kept.keep(name, image))
            if image == _CANNOT:
                return None
            try:
                return _load(image, spec)
            except OSError as error:
                if error.errno is None:  # not understood: every process would compile it, for nothing
                    kept.keep(name, _CANNOT)
                raise
        except Exception:  # a change inside Numba: what is lost is start-up time
            if os.environ.get("CI") == "true":
                raise
            return None


@cache
def _tell_once() -> None:
    """Say on a terminal why the first run on a machine takes longer."""
    if sys.stderr.isatty():
        print("compiling the analyser for this machine, once (about 15 s) ...", file=sys.stderr)


def _file_name(kernel: Kernel, spec: tuple[Any, ...]) -> str:
    about = crc32(repr((_machine(), spec)).encode())
    return f"{_stem(kernel)}{kernel.digest:08x}-{about:08x}.o"


def _stem(kernel: Kernel) -> str:
    return f"kernel-{kernel.function.__module__}.{kernel.__name__}-"


def _forget_others(kernel: Kernel, path: Path | None) -> None:
    """Delete what was compiled of earlier versions of a kernel, beside the package only."""
    if path is not None and path.parent == Path(__file__).parent / "__pycache__":
        for other in path.parent.glob(f"{_stem(kernel)}*.o"):
            if f"-{kernel.digest:08x}-" not in other.name:
                other.unlink(missing_ok=True)


@cache
def _machine() -> tuple[Any, ...]:
    """Return what compiled code depends on beside the kernels."""
    versions = []
    for package in ("numba", "llvmlite"):
        found = find_spec(package)
        if found is not None and found.origin is not None:
            versions.append((Path(found.origin).parent / "_version.py").read_bytes())
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_"))
    settings = [(name, value) for name, value in settings if name != "NUMBA_CACHE_DIR"]
    wrapping = [code_text(part.__code__) for part in (_compile, _wrapper, vars(Kernel)["inner"].func)]
    return sys.version_info[:3], versions, settings, _processor(), wrapping


def _processor() -> list[str]:
    """Return what tells processors apart that do not know the same instructions."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        first = file.read(1 << 14).partition("\n\n")[0]
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
    return [line for line in first.splitlines() if line.partition("\t")[0].strip() in wanted]


def _compile(kernel: Kernel, spec: tuple[Any, ...]) -> bytes:
    """Compile a kernel with its wrapper; return a line about it, and the object code."""
    import numba

    carray: Any = numba.carray  # type: ignore[attr-defined]
    cfunc: Any = numba.cfunc
    types: Any = numba.types

    parameters, arguments, kinds = _wrapper(spec, types)
    returned = kernel.function.__annotations__["return"]
    many = returned.startswith("tuple[")
    results = returned.count(",") + 1 if many else int(returned != "None")
    lines = [f"def entry(results, {', '.join(parameters)}):", f"    value = kernel({', '.join(arguments)})"]
    if results:
        lines.append(f"    out = carray(results, ({MOST_RESULTS},))")
    for i in range(results):
        lines.append(f"    out[{i}] = value{f'[{i}]' if many else ''}")
    names: dict[str, Any] = {"kernel": kernel, "carray": carray}
    exec("\n".join(lines), names)
    signature = types.void(types.CPointer(types.int64), *kinds)
    function = cfunc(signature, nopython=True, error_model="numpy")(names["entry"])
    library = function._library
    code: bytes = library._codegen._tm.emit_object(library._final_module)
    head = {"symbol": function._wrapper_name, "results": results, "tuple": many}
    return json.dumps(head).encode() + b"\n" + code


def _wrapper(spec: tuple[Any, ...], types: Any) -> tuple[list[str], list[str], list[Any]]:
    """Return the wrapper's parameters, the kernel's arguments made of them, and their types."""
    parameters: list[str] = []
    kinds: list[Any] = []

    def argument(part: Any) -> str:
        name = f"a{len(parameters)}"
        if part is int or part is float:
            parameters.append(name)
            kinds.append(types.int64 if part is int else types.float64)
            return name
        if isinstance(part[0], np.dtype):
            parameters.append(name)
            kinds.append(types.CPointer(_element(part[0])))
            sizes = [f"{name}_{axis}" for axis in range(part[1])]
            parameters.extend(sizes)
            kinds.extend([types.int64] * part[1])
            return f"carray({name}, ({', '.join(sizes)},))"
        return f"({', '.join(argument(inner) for inner in part)},)"

    arguments = [argument(part) for part in spec]
    return parameters, arguments, kinds


def _element(dtype: np.dtype[Any]) -> Any:
    from numba import from_dtype

    return from_dtype(dtype)


def _resolve(name: str) -> int:
    """Return the address of a name of the C library, or of what is never called; 0 for none."""
    library = ctypes.CDLL(None)
    found = getattr(library, "abort" if name in _NEVER_CALLED else name, None)
    return ctypes.cast(found, ctypes.c_void_p).value or 0 if found is not None else 0


def _load(image: bytes, spec: tuple[Any, ...]) -> Callable[..., Any]:
    """Load object code; return a function that takes the kernel's arguments."""
    line, _, code = image.partition(b"\n")
    head = json.loads(line)
    address = elf.load(code, head["symbol"], _resolve)
    results, many = head["results"], head["tuple"]
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *_c_types(spec))(address)
    place = ctypes.c_int64 * MOST_RESULTS

    def run(*args: Any) -> Any:
        out = place()
        flat: list[Any] = []
        _flatten(args, flat)
        function(ctypes.addressof(out), *flat)
        if many:
            return tuple(out[:results])
        return out[0] if results else None

    return run


def _c_types(spec: tuple[Any, ...]) -> list[Any]:
    out: list[Any] = []
    for part in spec:
        if part is int or part is float:
            out.append(ctypes.c_int64 if part is int else ctypes.c_double)
        elif isinstance(part[0], np.dtype):
            out += [ctypes.c_void_p, *[ctypes.c_int64] * part[1]]
        else:
            out += _c_types(part)
    return out


def _flatten(args: tuple[Any, ...], out: list[Any]) -> None:
    """Append addresses and lengths of arrays, and numbers; arrays must be contiguous."""
    for value in args:
        if type(value) is np.ndarray:
            if not value.flags.c_contiguous:
                raise ValueError("a kernel takes contiguous arrays only")
            out.append(value.ctypes.data)
            out.extend(value.shape)
        elif type(value) is tuple:
            _flatten(value, out)
        else:
            out.append(value)
