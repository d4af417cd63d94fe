"""Compiled kernels are loaded only where they were compiled of the same code, whole, for the same types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest

from testbed.analysis import chains, tally
from testbed.capture import kept, native
from testbed.capture.kernel import Kernel, i64, kernel

WORK = """
import numpy as np
from testbed.analysis import chains as c
times = np.arange(100) * 10.0
found, counts = np.zeros((1, c.ROUNDS, c.COLUMNS)), np.zeros(1, np.int64)
starts = np.array([0, len(times)])
c.find_schedules(times, starts, 0, 1, -20.0, found, counts, c.workspace(len(times)))
print(counts[0], found[0, 0, c.PERIOD])
"""

FACTOR = 3


@kernel
def scaled(value: int) -> int:
    """Return three times a number."""
    return value * FACTOR


@kernel
def filled(out: np.ndarray) -> int:
    """Fill an array; return three times its length."""
    for i in range(len(out)):
        out[i] = i
    return scaled(i64(len(out)))


def with_globals(original: Kernel, **changed: object) -> Kernel:
    """The same kernel in a module where other things have its names."""
    function = original.function
    return Kernel(FunctionType(function.__code__, {**function.__globals__, **changed}))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def run_fresh(made: Kernel, size: int = 4) -> tuple[list[int], int]:
    """Load and run a kernel as another process would."""
    out = np.zeros(size, np.int64)
    run = native.find(Kernel(made.function), native.spec_of((out,)))
    assert run is not None
    result = run(out)
    return out.tolist(), result


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import numba", "import numba; numba.njit(lambda: 1)()"])
def test_a_kernel_that_needs_the_c_library_runs_from_its_file(before: str) -> None:
    # Numba that is imported but has compiled nothing offers none of its names yet.
    for _ in range(2):  # the first may compile it
        done = subprocess.run(
            [sys.executable, "-c", before + WORK], capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout.split()) == (0, ["1", "10.0"]), done.stderr


def test_the_digest_goes_by_what_was_imported_not_by_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    # Files that are edited under a running process say nothing about its tables and kernels.
    before = Kernel(tally.tally.function).digest
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"edited")
    monkeypatch.setattr(Path, "read_text", lambda *_: "edited")
    assert Kernel(tally.tally.function).digest == before


def test_the_digest_tells_constants_and_kernels_that_are_named() -> None:
    digests = {
        filled.digest,
        with_globals(filled, scaled=with_globals(scaled, FACTOR=4)).digest,
        with_globals(filled, scaled=Kernel(lambda value: value)).digest,
    }
    assert len(digests) == 3


def test_the_digest_tells_constants_of_modules() -> None:
    changed = ModuleType("testbed.capture.frame")
    frame = tally.tally.function.__globals__["f"]
    vars(changed).update({**vars(frame), "TCP": frame.TCP + 1})
    assert with_globals(tally.tally, f=changed).digest != tally.tally.digest


def test_kernels_of_one_name_in_two_modules_are_kept_apart() -> None:
    spec = native.spec_of((1,))
    other = with_globals(scaled)
    other.function.__module__ = "elsewhere"
    assert native._file_name(other, spec) != native._file_name(scaled, spec)
    assert native._file_name(scaled, native.spec_of((1.0,))) != native._file_name(scaled, spec)


@pytest.mark.parametrize("name", ["NUMBA_CPU_NAME", "NUMBA_OPT"])
def test_numbas_settings_are_part_of_the_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = native.spec_of((1,))
    before = native._file_name(scaled, spec)
    monkeypatch.setenv(name, "0")
    native._machine.cache_clear()
    try:
        assert native._file_name(scaled, spec) != before
    finally:
        native._machine.cache_clear()


@pytest.mark.slow
def test_damaged_files_are_compiled_anew(cache: Path) -> None:
    assert run_fresh(filled) == ([0, 1, 2, 3], 12)
    (path,) = cache.glob("kernel-*.o")
    good = path.read_bytes()
    middle = len(good) // 2
    for bad in (
        b"",
        good[:10],
        good[:middle],
        good[:middle] + b"\xcc" * 16 + good[middle + 16 :],
        good + b"x",
    ):
        path.write_bytes(bad)
        assert run_fresh(filled) == ([0, 1, 2, 3], 12)
        assert kept.look_up(path.name) is not None


@pytest.mark.slow
def test_a_file_is_used_and_where_nothing_can_be_written_the_kernel_still_runs(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_fresh(filled)[1] == 12
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    assert run_fresh(filled, 5)[1] == 15
    monkeypatch.undo()
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    assert run_fresh(filled)[1] == 12


def test_an_interrupted_write_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert kept.keep("x", b"content") is None
    assert list(cache.iterdir()) == []
    assert kept.look_up("x") is None


@pytest.mark.slow
def test_code_that_cannot_be_loaded_is_compiled_once_and_left_to_numba(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "false")
    monkeypatch.setattr(native, "_resolve", lambda _: 0)  # none of the names it needs
    spec = native.spec_of((np.zeros(4, np.int64),))
    assert native.find(Kernel(filled.function), spec) is None
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    assert native.find(Kernel(filled.function), spec) is None
    out = np.zeros(4, np.int64)
    assert Kernel(filled.function)(out) == 12


def test_on_other_platforms_kernels_are_numbas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert native.find(Kernel(filled.function), native.spec_of((np.zeros(1, np.int64),))) is None


def test_a_kernel_takes_contiguous_arrays_only() -> None:
    events = np.zeros(10)
    with pytest.raises(ValueError, match="contiguous"):
        chains.link(events[::2], 1.0, 0.1, np.zeros(5, np.int64))


@pytest.mark.slow
def test_the_simulation_plays_where_no_folder_can_keep_what_was_compiled() -> None:
    # A locator for notebooks alone finds no folder for our files, as if none could be written.
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "numba.core.caching._IPythonCacheLocator"}
    script = "from testbed.simulation import render; print(render._put.stats.cache_path)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
