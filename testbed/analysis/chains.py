"""Finding schedules in event times: kernels that look for chains of equal steps.

A schedule of period P leaves events each of which has a successor P later, give or take its
jitter. The longest such chain is the evidence: among n events that come by chance, with q successors
expected in the tolerated time after each, n·qᴸ chains of L steps are expected, which bounds the
probability of one. Bursts, back-off and random traffic leave short chains only; trains that
interleave leave one chain each.
"""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.capture.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE = 1024
"""Events among which candidate periods are looked for."""
REACH, FEW_REACH, FEW = 6, 16, 200
"""How many events ahead lags are taken; further where there are few events."""
LEAST_STEPS = 5
"""Steps that a chain must have: five cycles."""
SHORTEST_S = 2.0
"""Periods below this are bursts to the analyser."""
ROUNDS = 3
"""Schedules looked for in one series, one after the other."""
TOLERANCES = (0.003, 0.01, 0.03, 0.1)
"""Jitter allowed for a step, as shares of the period."""
SHARP = 0.1
"""Jitter below this share of the tolerance is no mixture, nor a spread that fills the tolerance."""
MUCH = 0.4
NEARLY_ALL = 0.9
LEAST_CHANGE, FEWEST_CHANGES, ONE_WAY = 0.001, 10, 0.85
"""Most steps of a chain of at least so many differ by more than this share of the period from the one
before, and nearly all are longer (or nearly all shorter): a ramp, perhaps again and again."""
CLEAR_TREND = 6.0
"""t statistic from which on the steps of a chain have a trend."""
JOINED = 0.75
"""A half (or third) of a period is meant when its longest chain is more than this share of twice (thrice) as
long: nearly all of its beats are there."""
CANDIDATES = 3
"""Peaks in the distribution of lags that are tried for each tolerance."""

PERIOD, ERROR, JITTER, STEPS, LONGEST, MEMBERS, FIRST, LAST, LOG_P, TOLERANCE = range(10)
"""Columns of what is found; times in seconds, LOG_P the natural logarithm of the chance."""
COLUMNS = 10
BUCKETS = 4096
Work = Any
"""Arrays to work in: events left, lags, lags in order, small ones, buckets, and three with one number
for each event."""


@kernel
def link(times: NDArray[np.float64], period: float, tolerance: float, before: NDArray[np.int64]) -> None:
    """Find for each event the one that lies a period (else two periods) earlier, -1 for none."""
    n = len(times)
    low = 0
    lower = 0
    slack = tolerance * period
    for i in range(n):
        before[i] = -1
        target = times[i] - period
        while low < i and times[low] < target - slack:
            low += 1
        best = slack
        j = low
        while j < i and times[j] <= target + slack:
            if abs(times[j] - target) <= best:
                best = abs(times[j] - target)
                before[i] = j
            j += 1
        if before[i] < 0:
            target -= period
            while lower < i and times[lower] < target - slack:
                lower += 1
            best = slack
            j = lower
            while j < i and times[j] <= target + slack:
                if abs(times[j] - target) <= best:
                    best = abs(times[j] - target)
                    before[i] = j
                j += 1


@kernel
def near(
    times: NDArray[np.float64], others: NDArray[np.float64], lag: float, slack: float, out: NDArray[np.bool_]
) -> None:
    """Tell for each time whether one of the others lies a lag before it, within the slack; all sorted."""
    low = 0
    for i in range(len(times)):
        target = times[i] - lag
        while low < len(others) and others[low] < target - slack:
            low += 1
        out[i] = low < len(others) and others[low] <= target + slack


@kernel
def drifts(covariance: float, variance: float, spread: float, steps: int, span: float, period: float) -> bool:
    """Return whether the steps of a chain grow or shrink: waits that adapt have no period.

    The trend must be clear (a t statistic, which jitter does not reach) and more than 1 % in all.
    """
    change = abs(covariance) / variance * span
    if change < 0.01 * period or spread <= 0.0:
        return False
    explained = min(covariance * covariance / (variance * spread), 1.0)
    return explained * (steps - 2) > CLEAR_TREND**2 * (1.0 - explained)


@kernel
def follow(
    times: NDArray[np.float64],
    period: float,
    tolerance: float,
    before: NDArray[np.int64],
    length: NDArray[np.int64],
    final: NDArray[np.int64],
    found: NDArray[np.float64],
) -> None:
    """Follow the chains of a period; fill `found`, and `final` with the length of each event's chain."""
    n = len(times)
    link(times, period, tolerance, before)
    longest, end = 0, 0
    for i in range(n):
        length[i] = length[before[i]] + 1 if before[i] >= 0 else 0
        final[i] = length[i]
        if length[i] > longest:
            longest, end = length[i], i
    for i in range(n - 1, -1, -1):
        if before[i] >= 0 and final[i] > final[before[i]]:
            final[before[i]] = final[i]
    found[LONGEST] = longest
    found[TOLERANCE] = tolerance
    steps, total, cycles, members = 0, 0.0, 0.0, 0
    first, last = -1.0, -1.0
    squares, along, along_squares, products = 0.0, 0.0, 0.0, 0.0
    longer, shorter = 0, 0
    for i in range(n):
        if final[i] < LEAST_STEPS:
            continue
        members += 1
        if first < 0:
            first = times[i]
        last = times[i]
        if before[i] >= 0:
            step = times[i] - times[before[i]]
            count = 2.0 if step > 1.5 * period else 1.0
            off, when = step / count - period, times[i] - first
            steps += 1
            cycles += count
            total += step
            squares += off * off
            along += when
            if before[before[i]] >= 0:
                earlier = times[before[i]] - times[before[before[i]]]
                change = step / count - earlier / (2.0 if earlier > 1.5 * period else 1.0)
                if abs(change) > LEAST_CHANGE * period:
                    longer += 1 if change > 0 else 0
                    shorter += 1 if change < 0 else 0
            along_squares += when * when
            products += off * when
    found[MEMBERS] = members
    found[STEPS] = steps
    found[LOG_P] = 0.0
    if steps < LEAST_STEPS:
        return
    mean = total / cycles
    spread = max(0.0, squares / steps - (mean - period) ** 2)
    found[PERIOD] = mean
    found[JITTER] = spread**0.5
    found[ERROR] = found[JITTER] / steps**0.5
    found[FIRST] = first
    found[LAST] = last
    middle = along / steps
    variance = max(along_squares / steps - middle * middle, 1e-9)
    covariance = products / steps - (mean - period) * middle
    changes = longer + shorter
    ramps = 2 * changes > steps > FEWEST_CHANGES and max(longer, shorter) > ONE_WAY * changes
    if ramps or drifts(covariance, variance, spread, steps, last - first, mean):
        return
    # The rate around the longest chain, its own events included.
    start = end
    while before[start] >= 0:
        start = before[start]
    rate = (end - start + 1) / max(times[end] - times[start], 1e-9)
    expected = rate * 4.0 * tolerance * period  # within the tolerance of one or two periods
    found[LOG_P] = log(n) + longest * log(expected)


@kernel
def peaks(
    lags: NDArray[np.float64], width: float, best: NDArray[np.float64], scores: NDArray[np.float64]
) -> int:
    """Find the lags that stand out most in their neighbourhood; return how many.

    `lags` are sorted natural logarithms. A window of ±width is compared with the surrounding
    octave on either side.
    """
    n = len(lags)
    count = 0
    span = 2.0 * width
    high, left, right = 0, 0, 0
    for low in range(n):
        while high < n and lags[high] <= lags[low] + span:
            high += 1
        inside = high - low
        if inside < LEAST_STEPS - 1:
            continue
        middle = lags[low] + width
        while lags[left] < middle - 0.7:
            left += 1
        while right < n and lags[right] <= middle + 0.7:
            right += 1
        around = right - left - inside
        expected = (around + 1.0) * span / (1.4 - span)
        score = inside * log(inside / expected) if inside > expected else 0.0
        if score <= 0:
            continue
        centre = lags[low + inside // 2]
        slot = -1
        for k in range(count):
            if abs(best[k] - centre) < span:
                slot = k
                break
        if slot >= 0:
            if score > scores[slot]:
                scores[slot], best[slot] = score, centre
        elif count < CANDIDATES:
            scores[count], best[count] = score, centre
            count += 1
        else:
            weakest = 0
            for k in range(CANDIDATES):
                if scores[k] < scores[weakest]:
                    weakest = k
            if score > scores[weakest]:
                scores[weakest], best[weakest] = score, centre
    return count


@kernel
def sort_by_buckets(
    values: NDArray[np.float64], count: int, buckets: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Sort the first `count` values into `out`: by buckets of equal width, each by insertion."""
    low, high = values[0], values[0]
    for i in range(count):
        low, high = min(low, values[i]), max(high, values[i])
    last = min(count, len(buckets) - 2)
    scale = last / (high - low) if high > low else 0.0
    for k in range(last + 2):
        buckets[k] = 0
    for i in range(count):
        buckets[int((values[i] - low) * scale) + 1] += 1
    for k in range(last + 1):
        buckets[k + 1] += buckets[k]
    for i in range(count):
        k = int((values[i] - low) * scale)
        out[buckets[k]] = values[i]
        buckets[k] += 1
    for i in range(1, count):
        value = out[i]
        j = i - 1
        while j >= 0 and out[j] > value:
            out[j + 1] = out[j]
            j -= 1
        out[j + 1] = value


@kernel
def best_period(times: NDArray[np.float64], limit: float, found: NDArray[np.float64], work: Work) -> bool:
    """Fill `found` with the schedule that a sample of the events shows best; return whether there is one.

    That is the least likely chain of all tolerances. But where a wide tolerance mixes neighbouring
    periods, and one of them alone is sharp and carries much of it, that one is meant.
    """
    _, unsorted, lags, small, buckets, before, length, final = work
    n = len(times)
    first = max(0, n // 2 - SAMPLE // 2)
    sample = times[first : min(n, first + SAMPLE)]
    m = len(sample)
    reach = FEW_REACH if m <= FEW else REACH
    count = 0
    for i in range(m):
        for j in range(i + 1, min(m, i + 1 + reach)):
            lag = sample[j] - sample[i]
            if lag >= SHORTEST_S:
                unsorted[count] = log(lag)
                count += 1
    if count == 0:
        found[LOG_P] = 0.0
        return False
    sort_by_buckets(unsorted, count, buckets, lags)
    trial, best, scores, sharp = small[0], small[1], small[2], small[3]
    found[LOG_P], found[MEMBERS], found[STEPS], sharp[STEPS] = 0.0, 0.0, 0.0, 0.0
    for width in TOLERANCES:
        for k in range(peaks(lags[:count], width, best, scores)):
            follow(sample, exp(best[k]), width, before, length, final, trial)
            if trial[STEPS] < LEAST_STEPS or trial[LONGEST] < LEAST_STEPS or trial[LOG_P] > limit:
                continue
            if trial[LOG_P] < found[LOG_P]:
                for column in range(COLUMNS):
                    found[column] = trial[column]
            if trial[JITTER] < SHARP * width * trial[PERIOD] and trial[STEPS] > sharp[STEPS]:
                for column in range(COLUMNS):
                    sharp[column] = trial[column]
        if found[MEMBERS] >= NEARLY_ALL * m and found[STEPS] == sharp[STEPS]:
            break  # a clockwork: a wider tolerance will explain no more
    near = abs(sharp[PERIOD] - found[PERIOD]) <= found[TOLERANCE] * found[PERIOD]
    if near and sharp[STEPS] >= MUCH * found[STEPS] and sharp[TOLERANCE] < found[TOLERANCE]:
        for column in range(COLUMNS):
            found[column] = sharp[column]
    is_found: bool = found[LOG_P] < 0.0
    return is_found


@kernel
def find_finer(times: NDArray[np.float64], found: NDArray[np.float64], work: Work) -> None:
    """Give `found` a half or a third of its period where that joins its chains into a longer one.

    A sample in which something else prevails may show every second or third beat only.
    """
    _, _, _, small, _, before, length, final = work
    whole, part = small[5], small[6]
    follow(times, found[PERIOD], found[TOLERANCE], before, length, final, whole)
    for parts in (2, 3):
        if whole[PERIOD] < parts * SHORTEST_S:
            break
        follow(times, whole[PERIOD] / parts, found[TOLERANCE], before, length, final, part)
        sharp = part[JITTER] < SHARP * found[TOLERANCE] * part[PERIOD]  # else it mixes unequal steps
        if sharp and part[LONGEST] > JOINED * parts * whole[LONGEST] and part[LOG_P] < whole[LOG_P]:
            found[PERIOD] = part[PERIOD]
            break


@kernel
def find_schedules(
    times: NDArray[np.float64],
    starts: NDArray[np.int64],
    first: int,
    until: int,
    limit: float,
    out: NDArray[np.float64],
    counts: NDArray[np.int64],
    work: Work,
) -> None:
    """Look for schedules in the series `first` to `until`; series s is ``times[starts[s]:starts[s+1]]``.

    `out[s]` gets up to `ROUNDS` rows, `counts[s]` how many; only chains less likely than exp(limit)
    are kept. `work` is `workspace` of the longest series.
    """
    left, _, _, small, _, before, length, final = work
    trial = small[4]
    for s in range(first, until):
        n = starts[s + 1] - starts[s]
        for i in range(n):
            left[i] = times[starts[s] + i]
        counts[s] = 0
        for _ in range(ROUNDS):
            if n <= LEAST_STEPS:
                break
            if not best_period(left[:n], limit, trial, work):
                break
            find_finer(left[:n], trial, work)
            follow(left[:n], trial[PERIOD], trial[TOLERANCE], before, length, final, trial)
            if trial[STEPS] < LEAST_STEPS or trial[LONGEST] < LEAST_STEPS or trial[LOG_P] > limit:
                break
            for column in range(COLUMNS):
                out[s, counts[s], column] = trial[column]
            counts[s] += 1
            kept = 0
            for i in range(n):
                if final[i] < LEAST_STEPS:
                    left[kept] = left[i]
                    kept += 1
            n = kept


def workspace(longest: int) -> Work:
    """Return arrays for `find_schedules` on series of up to `longest` events, for one thread."""
    lags = max(SAMPLE * REACH, FEW * FEW_REACH)
    events = (np.empty(longest + 1, np.int64) for _ in range(3))
    small = np.zeros((7, COLUMNS))
    return np.empty(longest + 1), np.empty(lags), np.empty(lags), small, np.empty(BUCKETS, np.int64), *events
