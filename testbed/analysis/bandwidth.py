"""Bytes per 15-minute window, and the windows that stand out (Figure 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.rows import BandwidthRow, SpikeRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger

FEWEST_WINDOWS = 8
"""With fewer windows nothing is called unusual."""
SPIKE_FACTOR = 4.0
"""A spike has at least this many times the median window's bytes, a dip at most that part of it."""
SPIKE_MADS = 6.0
"""And lies this many (normalised) median absolute deviations away from it."""
MAX_DENSE = 1 << 22


def iso(ns: int) -> str:
    """Return a time as ISO 8601 in UTC, to the second or as fine as it is."""
    text = str(np.datetime64(int(ns), "ns"))
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def window_bytes(ledger: Ledger) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (device, window, [sent, received] bytes) of all windows with traffic, ordered."""
    cells = ledger.cells
    code, weight, way = [], [], []
    base = int(cells["window"].min()) if len(cells) else 0
    span = int(cells["window"].max()) - base + 1 if len(cells) else 1
    for direction, per_key in enumerate((ledger.sender(), ledger.roles.dst)):
        device = per_key[cells["key"]].astype(np.int64)
        chosen = device >= 0
        code.append(device[chosen] * span + cells["window"][chosen] - base)
        weight.append(cells["bytes"][chosen])
        way.append(direction)
    if span * (len(ledger.roles.devices) + 1) <= MAX_DENSE:
        size = span * (len(ledger.roles.devices) + 1)
        dense = np.stack([np.bincount(c, w, size) for c, w in zip(code, weight, strict=True)], axis=1)
        used = np.flatnonzero(dense.any(axis=1))
        values = dense[used].astype(np.int64)
    else:
        used = np.unique(np.concatenate(code))
        values = np.zeros((len(used), 2), np.int64)
        for direction, (c, w) in enumerate(zip(code, weight, strict=True)):
            np.add.at(values[:, direction], np.searchsorted(used, c), w)
    return used // span, used % span + base, values


def bandwidth_rows(ledger: Ledger) -> list[BandwidthRow]:
    """Return sent and received bytes of each device in each window; empty windows have no row."""
    device, window, values = window_bytes(ledger)
    names = [ledger.roles.name(i) for i in range(len(ledger.roles.devices) + 1)]
    starts, where = np.unique(window, return_inverse=True)
    texts = [iso(int(start) * ledger.tables.window_ns) for start in starts]
    return [
        BandwidthRow(names[d], texts[w], sent, received)
        for d, w, (sent, received) in zip(device.tolist(), where.tolist(), values.tolist(), strict=True)
    ]


def spike_rows(ledger: Ledger) -> list[SpikeRow]:
    """Return the windows whose traffic is far above (up) or below (down) the device's median window.

    Neighbouring windows are one spike. It is put down to the protocol and name with the most bytes
    beyond their usual share.
    """
    device, window, values = window_bytes(ledger)
    rows: list[SpikeRow] = []
    width = ledger.tables.window_ns
    if ledger.windows < FEWEST_WINDOWS:
        return rows
    first, last = ledger.begin_ns // width, (ledger.end_ns - 1) // width
    for i in range(len(ledger.roles.devices)):
        mine = device == i
        when, amount = window[mine], values[mine].sum(axis=1)
        idle = ledger.windows - len(when)
        median, deviation = _centre(amount, idle)
        if len(when) < FEWEST_WINDOWS or median <= 0:
            continue
        up = (amount > SPIKE_FACTOR * median) & (amount > median + SPIKE_MADS * deviation)
        whole = (when > first) & (when < last)  # the outer windows are cut by the capture
        down = (amount * SPIKE_FACTOR < median) & (amount < median - SPIKE_MADS * deviation) & whole
        if not up.any() and not down.any():
            continue
        shares = _Shares(ledger, i)
        for direction, chosen in (("up", up), ("down", down)):
            for begin, end in _runs(when[chosen]):
                inside = (when >= begin) & (when <= end)
                total = int(amount[inside].sum())
                usual = median * int(end - begin + 1)
                protocol, name, share = shares.reason(begin, end, direction == "up")
                rows.append(
                    SpikeRow(
                        ledger.roles.name(i), iso(begin * width), iso((end + 1) * width), direction,
                        total, round(usual, 1), protocol, name, share,
                    )  # fmt: skip
                )
    return rows


def _centre(amount: NDArray[np.int64], idle: int) -> tuple[float, float]:
    """Return median and normalised median absolute deviation, with `idle` empty windows."""
    everything = np.concatenate([amount, np.zeros(min(idle, len(amount) + 1), np.int64)])
    median = float(np.median(everything))
    return median, 1.4826 * float(np.median(np.abs(everything - median)))


def _runs(windows: NDArray[np.int64]) -> list[tuple[int, int]]:
    if not len(windows):
        return []
    breaks = np.flatnonzero(np.diff(windows) > 1)
    begins = windows[np.concatenate([[0], breaks + 1])]
    ends = windows[np.concatenate([breaks, [len(windows) - 1]])]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


class _Shares:
    """A device's traffic by protocol and name, to ask what made a window unusual."""

    def __init__(self, ledger: Ledger, device: int) -> None:
        mine = ledger.cells[ledger.roles.device[ledger.cells["key"]] == device]
        keys = mine["key"]
        self.ledger = ledger
        self.window = mine["window"]
        self.bytes = mine["bytes"]
        self.groups, self.group = np.unique(
            ledger.protocol[keys] << 32 | ledger.keys["name"][keys], return_inverse=True
        )
        self.totals = np.bincount(self.group, self.bytes, len(self.groups))

    def reason(self, begin: int, end: int, up: bool) -> tuple[str, str, float]:
        """Return (protocol, name, percent of the difference) of what differs most from its usual share."""
        inside = (self.window >= begin) & (self.window <= end)
        now = np.bincount(self.group[inside], self.bytes[inside], len(self.groups))
        usual = self.totals * ((end - begin + 1) / self.ledger.windows)
        change = now - usual if up else usual - now
        total = float(change[change > 0].sum())
        if total <= 0:
            return "", "", 0.0
        best = int(change.argmax())
        code = int(self.groups[best])
        name = self.ledger.tables.text(code & 0xFFFFFFFF)
        return PROTOCOLS[code >> 32], name, round(100 * float(change[best]) / total, 1)
