"""Compiled kernels load from their files whatever else the process has imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

WORK = """
import numpy as np
from testbed.analysis import chains as c
times = np.arange(100) * 10.0
found, counts = np.zeros((1, c.ROUNDS, c.COLUMNS)), np.zeros(1, np.int64)
starts = np.array([0, len(times)])
c.find_schedules(times, starts, 0, 1, -20.0, found, counts, c.workspace(len(times)))
print(counts[0], found[0, 0, c.PERIOD])
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import numba", "import numba; numba.njit(lambda: 1)()"])
def test_a_kernel_that_needs_the_c_library_runs_from_its_file(before: str) -> None:
    # Numba that is imported but has compiled nothing offers none of its names yet.
    for _ in range(2):  # the first may compile it
        done = subprocess.run(
            [sys.executable, "-c", before + WORK], capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout.split()) == (0, ["1", "10.0"]), done.stderr
