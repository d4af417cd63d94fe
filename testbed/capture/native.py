"""Kernels as object code: written once by Numba, loaded by llvmlite alone.

A kernel's arguments are flattened to addresses, lengths and numbers (tuples become their parts), a
small wrapper turns them into arrays again, and Numba compiles wrapper and kernel to one function of
the C calling convention. Its object code is kept in a file whose name tells all it depends on: the
text of the kernels, the versions of Python and Numba, the processor. Kernels allocate nothing and
raise nothing, so of Numba's run-time library only the names are needed; they lead to abort().

Calls release the interpreter lock, as ctypes does for every foreign function.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from testbed.capture.kernel import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.capture.kernel import Kernel

MOST_RESULTS = 4
_NEVER_CALLED = (
    "NRT_Free", "NRT_MemInfo_call_dtor", "NRT_MemInfo_alloc_safe_aligned", "NRT_Allocate", "NRT_Reallocate",
    "numba_do_raise", "numba_gil_ensure", "numba_gil_release", "numba_unpickle",
    "numba_runtime_build_excinfo_struct",
)  # fmt: skip
_lock = threading.Lock()
_engines: list[Any] = []
"""Keeps loaded code alive."""


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
    with _lock:
        try:
            name = _file_name(kernel, spec)
            for folder in _folders():
                path = folder / name
                if path.is_file():
                    return _load(path.read_bytes(), spec)
            _tell_once()
            image = _compile(kernel, spec)
            for folder in _folders():
                if _keep(folder / name, image):
                    break
            return _load(image, spec)
        except Exception:  # a change inside Numba or llvmlite: what is lost is start-up time
            if os.environ.get("CI") == "true":
                raise
            return None


@cache
def _tell_once() -> None:
    """Say on a terminal why the first run on a machine takes longer."""
    if sys.stderr.isatty():
        print("compiling the analyser for this machine, once (about 15 s) ...", file=sys.stderr)


def _folders() -> Iterator[Path]:
    """Yield where compiled kernels may be kept: as asked for, beside the package, in the user's cache."""
    asked = os.environ.get("NUMBA_CACHE_DIR")
    if asked:
        yield Path(asked)
        return
    yield Path(__file__).parent / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iot-testbed"


def _file_name(kernel: Kernel, spec: tuple[Any, ...]) -> str:
    about = crc32(repr((_machine(), spec)).encode())
    return f"kernel-{sources()}-{kernel.__name__}-{about:08x}.o"


@cache
def _machine() -> tuple[Any, ...]:
    """Return what compiled code depends on beside its source."""
    import llvmlite.binding as llvm

    found = find_spec("numba")
    stamp: tuple[int, ...] = ()
    if found is not None and found.origin is not None:
        about = (Path(found.origin).parent / "_version.py").stat()
        stamp = (about.st_mtime_ns, about.st_size)
    features = str(llvm.get_host_cpu_features().flatten())
    return sys.version_info[:3], stamp, llvm.get_default_triple(), llvm.get_host_cpu_name(), features


def _keep(path: Path, image: bytes) -> bool:
    """Write a file in one step; return whether that was possible."""
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(image)
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
        if path.parent.name == "__pycache__":  # of this package alone: older sources are gone
            for other in path.parent.glob("kernel-*.o"):
                if not other.name.startswith(f"kernel-{sources()}-"):
                    other.unlink(missing_ok=True)
    except OSError:
        return False
    return True


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


@cache
def _prepare() -> None:
    """Prepare llvmlite, once."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _engine() -> Any:
    """Return an engine that holds no code yet; it owns the machine description it is made with."""
    import llvmlite.binding as llvm

    _prepare()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=0, codemodel="jitdefault")
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _resolve(code: bytes) -> None:
    """See that every name the code asks for leads somewhere; raise OSError otherwise.

    One missing name makes LLVM leave all of them at address zero, without a word. Numba knows its own
    names from when it first compiles, which may be never: until then they lead to abort().
    """
    import llvmlite.binding as llvm

    sections = {section.name(): section.data() for section in llvm.ObjectFileRef.from_data(code).sections()}
    names = sections[b".strtab"]
    for at, _, _, section, _, _ in struct.iter_unpack("<IBBHQQ", sections[b".symtab"]):
        name = names[at : names.index(b"\0", at)].decode()
        if section or not name or llvm.address_of_symbol(name):
            continue
        if name not in _NEVER_CALLED:
            raise OSError(f"compiled code needs '{name}', which nothing here offers")
        llvm.add_symbol(name, ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value)


def _load(image: bytes, spec: tuple[Any, ...]) -> Callable[..., Any]:
    """Load object code; return a function that takes the kernel's arguments."""
    import llvmlite.binding as llvm

    line, _, code = image.partition(b"\n")
    head = json.loads(line)
    engine = _engine()
    _resolve(code)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    results, many = head["results"], head["tuple"]
    kinds = [ctypes.c_void_p, *_c_types(spec)]
    function = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(head["symbol"]))
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
            out.append(value.__array_interface__["data"][0])
            out.extend(value.shape)
        elif type(value) is tuple:
            _flatten(value, out)
        else:
            out.append(value)
