"""Spectra of activity (Figure 4): the discrete Fourier transform of each (device, protocol).

The magnitude of a line is a share of all starts (1: all in phase). A line is significant when it
rises above its neighbours more than chance allows (Rayleigh test with the local level of the
spectrum as noise, Bonferroni over all lines), or, where a schedule was found in the event times, as
one of its harmonics: then only that one line is tested, not all.
"""

from __future__ import annotations

from itertools import repeat
from math import log
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.order import median
from testbed.analysis.rows import LineRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.events import Events
    from testbed.analysis.ledger import Ledger
    from testbed.analysis.rows import PeriodRow

WEEK_S = 604_800.0
WINDOW_S = 900.0
PARTS = 8
"""Parts of a window that events are laid into (linearly), so that fast schedules leave no alias."""
FALSE_ALARM = 0.01
"""Chance of a single false line in the whole analysis."""
FEWEST_EVENTS = 6
FEWEST_CYCLES = 5
MAX_LINES = 672
"""Lines that are kept of a spectrum: all of two weeks, of longer captures the strongest."""
NEIGHBOURS = 25


def spectra(
    ledger: Ledger, events: Events, duration_s: float, periods: list[PeriodRow]
) -> tuple[list[LineRow], dict[tuple[str, str], list[float]]]:
    """Return all lines, and the significant ones of each (device, protocol) in cycles per week.

    A line is significant by itself, or, where a period was found, as one of its harmonics: then only
    that one line is tested, not all.
    """
    fundamentals: dict[tuple[str, str], list[float]] = {}
    for row in periods:
        fundamentals.setdefault((row.device, row.protocol), []).append(row.cycles_per_week)
    windows = quick_length(int(duration_s // WINDOW_S))
    rows: list[LineRow] = []
    significant: dict[tuple[str, str], list[float]] = {}
    sizes = np.diff(events.starts)
    used = np.flatnonzero(sizes >= 2)
    if windows < 4 or not len(used):
        return rows, significant
    lines = windows // 2
    threshold, single = log(lines * len(used) / FALSE_ALARM), -log(FALSE_ALARM)
    resolution = WEEK_S / (windows * WINDOW_S)
    frequency = np.arange(1, lines + 1, dtype=np.float64) * resolution
    shown_frequency = np.round(frequency, 4)
    for s in used.tolist():
        magnitude, height = spectrum(events.series(s), windows)
        device, protocol = divmod(int(events.label[s]), len(PROTOCOLS))
        name, word = ledger.roles.name(device), PROTOCOLS[protocol]
        high = height > threshold
        for base in fundamentals.get((name, word), ()):
            high |= (height > single) & is_harmonic(frequency, base, resolution)
        peak = high & is_peak(magnitude) & (np.arange(1, lines + 1) >= FEWEST_CYCLES)
        if sizes[s] < FEWEST_EVENTS:
            peak[:] = False
        keep = np.arange(lines)
        if lines > MAX_LINES:
            strongest = np.zeros(lines, bool)
            strongest[np.argpartition(magnitude, -MAX_LINES)[-MAX_LINES:]] = True
            keep = np.flatnonzero(strongest | peak)
        significant[name, word] = frequency[peak].tolist()
        columns = (
            shown_frequency[keep].tolist(),
            np.round(magnitude[keep], 5).tolist(),
            peak[keep].tolist(),
            np.round(np.exp(-height[keep]), 6).tolist(),
        )
        rows += map(LineRow, repeat(name), repeat(word), *columns)
    return rows, significant


def quick_length(windows: int) -> int:
    """Return how many windows are transformed: all, or of many the most without a large prime factor.

    A transform of a prime length takes several times as long; what is left out is a few windows.
    """
    if windows <= 1000:
        return windows
    for length in range(windows, 0, -1):
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
    return windows


def spectrum(times: NDArray[np.float64], windows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (magnitude, height) of the lines 1 to windows/2 cycles per span.

    Events are shared linearly between two neighbouring parts of a window, which suppresses what
    schedules faster than the windows would leave in the spectrum. The height is the power over its
    expectation by chance: the larger of the Poisson level and the local median of the spectrum.
    """
    parts = windows * PARTS
    position = times[times < windows * WINDOW_S] * (PARTS / WINDOW_S)
    left = np.floor(position).astype(np.int64)
    share = position - left
    series = np.bincount(left % parts, 1 - share, parts) + np.bincount((left + 1) % parts, share, parts)
    power = np.abs(np.fft.rfft(series)[1 : windows // 2 + 1]) ** 2
    n = max(1.0, float(len(position)))
    level = np.maximum(n, local_median(power) / log(2))
    return np.sqrt(power) / n, power / level


def local_median(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each line's neighbourhood (blocks of lines, joined linearly)."""
    block = 2 * NEIGHBOURS + 1
    if len(power) <= block:
        return np.full(len(power), median(power))
    blocks = len(power) // block
    parts = power[: blocks * block].reshape(blocks, block)
    medians = np.partition(parts, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    centres = np.arange(blocks) * block + NEIGHBOURS
    return np.interp(np.arange(len(power)), centres, medians)


def is_peak(magnitude: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which lines are no lower than the two on either side: a broad peak is one line."""
    padded = np.pad(magnitude, 2, constant_values=-1.0)
    sides = [padded[shift : shift + len(magnitude)] for shift in (0, 1, 3, 4)]
    return np.asarray(np.all([magnitude >= side for side in sides], axis=0))


def is_harmonic(frequency: NDArray[np.float64], base: float, resolution: float) -> NDArray[np.bool_]:
    """Return which lines are a fundamental or its harmonics, within the spectrum's resolution."""
    order = np.round(frequency / base)
    return np.asarray(
        (order >= 1) & (np.abs(frequency - order * base) <= 0.6 * resolution) & (base >= 2 * resolution)
    )
