"""How regularly devices speak (Figure 4): spectra, and the schedules behind them.

Two answers, kept apart:
- The *spectrum* of each (device, protocol): discrete Fourier transform of the starts of its
  activity, magnitude as a share of all starts (1: all in phase), against cycles per week. A line is
  significant when it rises above its neighbours more than chance allows (Rayleigh test with the
  local level of the spectrum as noise, Bonferroni over all lines).
- The *periods*: schedules in seconds, found as chains of equal steps in the event times
  (`testbed.analysis.chains`). A daily batch is one period here and a comb of lines there.

An event is the start of a burst that the device sent and began itself; what answers is not counted.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import exp, floor, inf, log
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis import chains as c
from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.order import by_number
from testbed.analysis.rows import LineRow, PeriodRow
from testbed.analysis.tables import BY_DST
from testbed.capture.frame import address_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger

WEEK_S = 604_800.0
WINDOW_S = 900.0
PARTS = 8
"""Parts of a window that events are laid into (linearly), so that fast schedules leave no alias."""
MERGE_S = 1.0
"""Starts of the same series closer than this are one."""
FALSE_ALARM = 0.01
"""Chance of a single false line, or a single false period, in the whole analysis."""
FEWEST_EVENTS = 6
FEWEST_CYCLES = 5
MAX_WINDOWS = 50_000
"""Longest stretch that gets a spectrum (about 520 days)."""
MAX_LINES = 2016
"""Lines that are kept of a spectrum: all of a capture of six weeks."""
NEIGHBOURS = 25
SAME = 0.01
"""Periods closer than this are the same."""
LEAST_PRESENCE = 0.25
"""Share of the time from its first to its last event that a schedule's steps must fill."""
EPISODE_PCT = 10.0
"""Below this share of the capture, what was found is an episode and no schedule of the device."""
ON_LATTICE = 0.7
"""Share of a flow's events with a step of another schedule before them, from which on it is timed by it."""


@dataclass
class Events:
    """Starts of activity as series: rows ``times[starts[s]:starts[s + 1]]`` belong to series s."""

    times: NDArray[np.float64]
    """Seconds since `Events.origin_ns`."""
    starts: NDArray[np.int64]
    label: NDArray[np.int64]
    """Per series: device index * len(PROTOCOLS) + protocol."""
    origin_ns: int

    def series(self, s: int) -> NDArray[np.float64]:
        """Return the times of one series."""
        return self.times[self.starts[s] : self.starts[s + 1]]


def own_events(ledger: Ledger) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (time in ns, key) of all starts of what devices sent by themselves, in order of time."""
    events = ledger.tables.events
    key = events["key"]
    roles = ledger.roles
    own = (roles.device >= 0) & (roles.src == roles.device) & (ledger.keys["role"] != BY_DST)
    chosen = (events["onward"] == 0) & own[key]
    return events["time_ns"][chosen], key[chosen].astype(np.int64)


def gather(
    time_ns: NDArray[np.int64],
    group: NDArray[np.int64],
    groups: int,
    label: NDArray[np.int64],
    origin_ns: int,
) -> Events:
    """Sort events into series by group; starts close together are merged."""
    order, starts = by_number(group, groups)
    times = (time_ns[order] - origin_ns) / 1e9
    keep = np.ones(len(times), bool)
    keep[1:] = np.diff(times) >= MERGE_S
    inner = starts[:-1]
    keep[inner[inner < len(times)]] = True
    shift = np.concatenate([[0], np.cumsum(keep)])
    return Events(times[keep], shift[starts], label, origin_ns)


def stretch(ledger: Ledger, time_ns: NDArray[np.int64]) -> tuple[int, int]:
    """Return the span that is transformed: the capture, or of a very long one its busiest stretch."""
    begin, end = ledger.begin_ns, ledger.end_ns
    width = int(WINDOW_S * 1e9)
    if (end - begin) // width <= MAX_WINDOWS or not len(time_ns):
        return begin, end
    breaks = np.flatnonzero(np.diff(time_ns) > 7 * 86_400 * 10**9)
    edges = np.concatenate([[0], breaks + 1, [len(time_ns)]])
    longest = int(np.argmax(np.diff(edges)))
    begin, end = int(time_ns[edges[longest]]), int(time_ns[edges[longest + 1] - 1]) + 1
    return begin, min(end, begin + MAX_WINDOWS * width)


def periodicity(ledger: Ledger) -> tuple[list[LineRow], list[PeriodRow]]:
    """Return the spectra and the schedules."""
    time_ns, key = own_events(ledger)
    begin, end = stretch(ledger, time_ns)
    inside = (time_ns >= begin) & (time_ns <= end)
    time_ns, key = time_ns[inside], key[inside]
    label = ledger.roles.device.astype(np.int64) * len(PROTOCOLS) + ledger.protocol
    groups = (len(ledger.roles.devices) + 1) * len(PROTOCOLS)
    whole = gather(time_ns, label[key], groups, np.arange(groups), begin)
    flow_of_key, flow_label, flow_text = _flows(ledger, label)
    flows = gather(time_ns, flow_of_key[key], len(flow_label), flow_label, begin)
    duration_s = (end - begin) / 1e9
    rows = _merge(ledger, _schedules(whole), _schedules(flows), whole, flows, flow_text, duration_s)
    lines, significant = _spectra(ledger, whole, duration_s, rows)
    resolution = WEEK_S / max(duration_s, WINDOW_S)
    return lines, [_with_lines(row, significant, resolution) for row in rows]


def _flows(
    ledger: Ledger, label: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Group keys into flows: same device, protocol, kind, port, and name (or far address without one)."""
    keys, roles = ledger.keys, ledger.roles
    far_is_dst = roles.src == roles.device
    unnamed = keys["name"] == 0
    hi = np.where(unnamed, np.where(far_is_dst, keys["dip_hi"], keys["sip_hi"]), 0)
    lo = np.where(unnamed, np.where(far_is_dst, keys["dip_lo"], keys["sip_lo"]), 0)
    columns = np.stack([label, keys["kind"], keys["port"], keys["name"], hi, lo], axis=1)
    unique, first, inverse = np.unique(columns, axis=0, return_index=True, return_inverse=True)
    texts = []
    for number in first.tolist():
        name = ledger.tables.text(int(keys["name"][number]))
        texts.append(name or address_text(int(hi[number]), int(lo[number])))
    return inverse.reshape(-1).astype(np.int64), unique[:, 0], texts


@dataclass
class _Found:
    """A schedule of one series."""

    series: int
    label: int
    values: NDArray[np.float64]
    share: float
    """Of the series' events that are part of it."""
    of_protocol: bool = False
    """Found in the whole protocol, not in one flow of it."""


def _schedules(events: Events) -> list[_Found]:
    count = len(events.starts) - 1
    size = np.diff(events.starts)
    used = np.flatnonzero(size >= FEWEST_EVENTS)
    if not len(used):
        return []
    # Bonferroni: every series, tolerance and candidate is a trial.
    trials = len(used) * len(c.TOLERANCES) * c.CANDIDATES
    limit = log(FALSE_ALARM / trials)
    out = np.zeros((count, c.ROUNDS, c.COLUMNS))
    counts = np.zeros(count, np.int64)
    half = int(np.searchsorted(events.starts, len(events.times) // 2, side="right"))
    longest = int(size.max())

    failures: list[BaseException] = []

    def look(first: int, until: int) -> None:
        try:
            work = c.workspace(longest)
            c.find_schedules(events.times, events.starts, first, until, limit, out, counts, work)
        except BaseException as error:  # raised below, on the caller's thread
            failures.append(error)

    other = threading.Thread(target=look, args=(min(half, count), count))
    other.start()
    look(0, min(half, count))
    other.join()
    if failures:
        raise failures[0]
    return [
        _Found(s, int(events.label[s]), out[s, k], float(out[s, k, c.MEMBERS]) / int(size[s]))
        for s in used.tolist()
        for k in range(int(counts[s]))
    ]


def _merge(
    ledger: Ledger,
    whole: list[_Found],
    flows: list[_Found],
    whole_events: Events,
    flow_events: Events,
    texts: list[str],
    duration_s: float,
) -> list[PeriodRow]:
    """Join what was found in whole protocols and in single flows: each schedule once."""
    taken: dict[int, list[_Found]] = {}
    limit = log(FALSE_ALARM / max(1, (len(flow_events.starts) - 1) * len(c.TOLERANCES) * c.CANDIDATES))
    rows = []
    ranked = sorted(
        [(found, "") for found in whole] + [(found, texts[found.series]) for found in flows],
        key=lambda pair: (pair[0].label, pair[0].values[c.LOG_P]),
    )
    for found, text in ranked:
        known = taken.setdefault(found.label, [])
        if _presence(found) < LEAST_PRESENCE:  # short trains within bursts, again and again
            continue
        if any(_same(found, other) for other in known):
            continue
        times = (flow_events if text else whole_events).series(found.series)
        if any(
            _by_the_lattice(found, times, other, whole_events) > limit for other in known if other.of_protocol
        ):
            continue
        found.of_protocol = not text
        known.append(found)
        rows.append(_row(ledger, found, text, duration_s))
    return rows


def _presence(found: _Found) -> float:
    values = found.values
    return float(values[c.STEPS] * values[c.PERIOD] / max(values[c.LAST] - values[c.FIRST], values[c.PERIOD]))


def _same(found: _Found, other: _Found) -> bool:
    """Return whether two schedules are one: as near as their jitter, or a multiple of one that
    explains nearly all of the protocol's events.
    """
    period, base = float(found.values[c.PERIOD]), float(other.values[c.PERIOD])
    slack = max(SAME * base, float(found.values[c.JITTER]), float(other.values[c.JITTER]))
    multiple = round(period / base)
    if multiple <= 1:
        return abs(period - base) <= slack
    return other.of_protocol and other.share >= 0.8 and abs(period - multiple * base) <= SAME * period


def _by_the_lattice(found: _Found, times: NDArray[np.float64], other: _Found, events: Events) -> float:
    """Return the logarithm of the chance of a chain among events that another schedule times.

    Lookups that a device makes every 300 s, now for one name and now for another, put each name's
    events on a lattice of 300 s. There a multiple of 300 s comes by chance far more often than
    among events at any time: with r the share of the lattice's sites that are taken, and m sites
    within the tolerance, r * m successors are expected.
    """
    base = float(other.values[c.PERIOD])
    period = float(found.values[c.PERIOD])
    if period < 1.5 * base or len(times) < 2:
        return -inf
    parents = events.series(other.series)
    slack = max(float(other.values[c.TOLERANCE]) * base, 0.01)
    after = np.searchsorted(parents, times - base - slack)
    until = np.searchsorted(parents, times - base + slack, side="right")
    if np.mean(until > after) < ON_LATTICE:
        return -inf
    taken = min(1.0, len(times) * base / max(float(times[-1] - times[0]), base))
    sites = 2 * (floor(2 * float(found.values[c.TOLERANCE]) * period / base) + 1)
    return log(len(times)) + float(found.values[c.LONGEST]) * log(taken * sites)


def _row(ledger: Ledger, found: _Found, text: str, duration_s: float) -> PeriodRow:
    values = found.values
    period = float(values[c.PERIOD])
    active = float(values[c.LAST] - values[c.FIRST]) + period
    coverage = round(min(100.0, 100 * active / max(duration_s, active)), 2)
    device, protocol = divmod(found.label, len(PROTOCOLS))
    return PeriodRow(
        device=ledger.roles.name(device),
        protocol=PROTOCOLS[protocol],
        flow=text,
        period_s=round(period, 6),
        error_s=float(f"{max(float(values[c.ERROR]), 1e-6):.3g}"),
        cycles=int(values[c.STEPS]),
        jitter_s=float(f"{float(values[c.JITTER]):.3g}"),
        coverage_pct=coverage,
        cycles_per_week=round(WEEK_S / period, 4),
        lines="",
        kind="schedule" if coverage >= EPISODE_PCT else "episode",
        p_value=float(f"{exp(max(float(values[c.LOG_P]), -700.0)):.3g}"),
    )


def _spectra(
    ledger: Ledger, events: Events, duration_s: float, periods: list[PeriodRow]
) -> tuple[list[LineRow], dict[tuple[str, str], list[float]]]:
    """Return all lines, and the significant ones of each (device, protocol) in cycles per week.

    A line is significant by itself, or, where a period was found, as one of its harmonics: then only
    that one line is tested, not all.
    """
    fundamentals: dict[tuple[str, str], list[float]] = {}
    for row in periods:
        fundamentals.setdefault((row.device, row.protocol), []).append(row.cycles_per_week)
    windows = int(duration_s // WINDOW_S)
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
        chance = np.exp(-np.minimum(height, 700.0))
        rows += [
            LineRow(name, word, f, m, p, float(f"{h:.3g}"))
            for f, m, p, h in zip(
                shown_frequency[keep].tolist(),
                np.round(magnitude[keep], 5).tolist(),
                peak[keep].tolist(),
                chance[keep].tolist(),
                strict=True,
            )
        ]
    return rows, significant


def spectrum(times: NDArray[np.float64], windows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (magnitude, height) of the lines 1 to windows/2 cycles per span.

    Events are shared linearly between two neighbouring parts of a window, which suppresses what
    schedules faster than the windows would leave in the spectrum. The height is the power over its
    expectation by chance: the larger of the Poisson level and the local median of the spectrum.
    """
    parts = windows * PARTS
    position = times * (PARTS / WINDOW_S)
    left = np.floor(position).astype(np.int64)
    share = position - left
    series = np.bincount(left % parts, 1 - share, parts) + np.bincount((left + 1) % parts, share, parts)
    power = np.abs(np.fft.rfft(series)[1 : windows // 2 + 1]) ** 2
    n = float(len(times))
    level = np.maximum(n, local_median(power) / log(2))
    return np.sqrt(power) / n, power / level


def local_median(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each line's neighbourhood (blocks of lines, joined linearly)."""
    block = 2 * NEIGHBOURS + 1
    if len(power) <= block:
        return np.full(len(power), float(np.median(power)))
    blocks = len(power) // block
    medians = np.median(power[: blocks * block].reshape(blocks, block), axis=1)
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


def _with_lines(
    row: PeriodRow, significant: dict[tuple[str, str], list[float]], resolution: float
) -> PeriodRow:
    """Note which significant lines of the spectrum are the period's fundamental and harmonics."""
    lines = np.array(significant.get((row.device, row.protocol), ()), np.float64)
    chosen = lines[is_harmonic(lines, row.cycles_per_week, resolution)].tolist()
    return row._replace(lines=";".join(f"{line:g}" for line in chosen[:50]))
