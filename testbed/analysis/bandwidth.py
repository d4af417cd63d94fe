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
MOST_WINDOWS = 100_000
"""Nor with more (almost three years)."""
SPIKE_FACTOR = 2.0
"""A spike has more than this many times the bytes of 19 windows in 20, a dip less than that part."""
USUAL_SHARE = 0.95
MAX_DENSE = 1 << 20


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
    sent, received = values.T.tolist()
    return list(
        map(
            BandwidthRow,
            [names[d] for d in device.tolist()],
            [texts[w] for w in where.tolist()],
            sent,
            received,
        )
    )


def spike_rows(ledger: Ledger) -> list[SpikeRow]:
    """Return the windows with far more (up) or far fewer (down) bytes than nearly all of the device's.

    Neighbouring windows are one spike. It is put down to the protocol and name whose bytes differ
    most from their share of the whole capture.
    """
    rows: list[SpikeRow] = []
    width = ledger.tables.window_ns
    count = ledger.windows
    if not FEWEST_WINDOWS <= count <= MOST_WINDOWS:
        return rows
    device, window, values = window_bytes(ledger)
    first = ledger.first_window
    for i in range(len(ledger.roles.devices)):
        amount = np.zeros(count, np.int64)
        mine = device == i
        amount[window[mine] - first] = values[mine].sum(axis=1)
        low, middle, high = np.quantile(amount, [1 - USUAL_SHARE, 0.5, USUAL_SHARE]).tolist()
        up = amount > SPIKE_FACTOR * high
        down = amount * SPIKE_FACTOR < low
        down[[0, -1]] = False  # cut by the begin and end of the capture
        if not up.any() and not down.any():
            continue
        shares = _Shares(ledger, i)
        for direction, chosen in (("up", up), ("down", down)):
            for begin, end in _runs(np.flatnonzero(chosen)):
                protocol, name, share = shares.reason(begin + first, end + first, direction == "up")
                row = SpikeRow(
                    device=ledger.roles.name(i),
                    begin=iso((begin + first) * width),
                    end=iso((end + first + 1) * width),
                    direction=direction,
                    bytes=int(amount[begin : end + 1].sum()),
                    usual_bytes=round(middle * (end - begin + 1), 1),
                    protocol=protocol,
                    name=name,
                    share_pct=share,
                )
                rows.append(row)
    return rows


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
        self.windows = ledger.windows
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
        usual = self.totals * ((end - begin + 1) / self.windows)
        change = now - usual if up else usual - now
        total = float(change[change > 0].sum())
        if total <= 0:
            return "", "", 0.0
        best = int(change.argmax())
        code = int(self.groups[best])
        name = self.ledger.tables.text(code & 0xFFFFFFFF)
        return PROTOCOLS[code >> 32], name, round(100 * float(change[best]) / total, 1)
