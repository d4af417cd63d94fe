"""Bytes per 15-minute window, and the windows that stand out (Figure 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.order import distinct, extent, group_rows, quantiles, sums_at
from testbed.analysis.rows import BandwidthRow, SpikeRow
from testbed.capture.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger
    from testbed.capture.kernel import Records

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


class WindowBytes(NamedTuple):
    """Bytes of all windows with traffic, in order of device and window."""

    device: NDArray[np.int64]
    window: NDArray[np.int64]
    sent: NDArray[np.int64]
    received: NDArray[np.int64]


@kernel
def add_windows(
    cells: Records,
    sender: NDArray[np.int64],
    receiver: NDArray[np.int64],
    base: int,
    span: int,
    sent: NDArray[np.int64],
    received: NDArray[np.int64],
) -> None:
    """Add up bytes by device and window, `span` windows from `base` on for each device."""
    for i in range(len(cells)):
        cell = cells[i]
        window = cell.window - base
        if sender[cell.key] >= 0:
            sent[sender[cell.key] * span + window] += cell.bytes
        if receiver[cell.key] >= 0:
            received[receiver[cell.key] * span + window] += cell.bytes


def window_bytes(ledger: Ledger) -> WindowBytes:
    """Add up the bytes of each device in each window."""
    cells = ledger.cells
    if not len(cells):
        return WindowBytes(*(np.zeros(0, np.int64) for _ in range(4)))
    base, last = extent(cells)
    span = last - base + 1
    size = span * (len(ledger.roles.devices) + 1)
    per_key = [device.astype(np.int64) for device in (ledger.sender(), ledger.roles.dst)]
    if size <= MAX_DENSE:
        sent, received = np.zeros(size, np.int64), np.zeros(size, np.int64)
        add_windows(cells, per_key[0], per_key[1], base, span, sent, received)
        used = np.flatnonzero(sent | received)
        sent, received = sent[used], received[used]
    else:
        key, window = cells["key"], cells["window"]
        places = [np.where(device[key] >= 0, device[key] * span + (window - base), -1) for device in per_key]
        used = distinct(np.concatenate([place[place >= 0] for place in places]))
        found = [np.where(place >= 0, np.searchsorted(used, place), -1) for place in places]
        sent, received = (sums_at(place, cells["bytes"], len(used)) for place in found)
    return WindowBytes(used // span, used % span + base, sent, received)


def bandwidth_rows(ledger: Ledger, amounts: WindowBytes) -> list[BandwidthRow]:
    """Return sent and received bytes of each device in each window; empty windows have no row."""
    names = [ledger.roles.name(i) for i in range(len(ledger.roles.devices) + 1)]
    starts, where = np.unique(amounts.window, return_inverse=True)
    texts = _isos(starts * ledger.tables.window_ns)
    return list(
        map(
            BandwidthRow,
            map(names.__getitem__, amounts.device.tolist()),
            map(texts.__getitem__, where.tolist()),
            amounts.sent.tolist(),
            amounts.received.tolist(),
        )
    )


def _isos(times_ns: NDArray[np.int64]) -> list[str]:
    """Return many times as ISO 8601 in UTC."""
    if (times_ns % 10**9).any():
        return list(map(iso, times_ns.tolist()))
    seconds = (times_ns // 10**9).astype("datetime64[s]")
    return [f"{text}Z" for text in np.datetime_as_string(seconds).tolist()]


def spike_rows(ledger: Ledger, amounts: WindowBytes) -> list[SpikeRow]:
    """Return the windows with far more (up) or far fewer (down) bytes than nearly all of the device's.

    Neighbouring windows are one spike. It is put down to the protocol and name whose bytes differ
    most from their share of the whole capture.
    """
    rows: list[SpikeRow] = []
    width = ledger.tables.window_ns
    count = ledger.windows
    if not FEWEST_WINDOWS <= count <= MOST_WINDOWS:
        return rows
    first = ledger.first_window
    both = amounts.sent + amounts.received
    for i in range(len(ledger.roles.devices)):
        amount = np.zeros(count, np.int64)
        mine = slice(*np.searchsorted(amounts.device, [i, i + 1]).tolist())
        amount[amounts.window[mine] - first] = both[mine]
        low, middle, high = quantiles(amount, (1 - USUAL_SHARE, 0.5, USUAL_SHARE))
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
        keys = np.flatnonzero(ledger.roles.device == device)
        of_key = np.full(len(ledger.keys), -1, np.int64)
        of_key[keys], first = group_rows(ledger.protocol[keys], ledger.keys["name"][keys])
        self.sample = keys[first]
        """Per group of a protocol and name: one of its keys."""
        mine = ledger.cells[of_key[ledger.cells["key"]] >= 0]
        mine = mine[np.argsort(mine["window"], kind="stable")]
        self.ledger = ledger
        self.windows = ledger.windows
        self.window = np.ascontiguousarray(mine["window"])
        self.bytes = np.ascontiguousarray(mine["bytes"])
        self.group = of_key[mine["key"]]
        self.totals = np.bincount(self.group, self.bytes, len(first))

    def reason(self, begin: int, end: int, up: bool) -> tuple[str, str, float]:
        """Return (protocol, name, percent of the difference) of what differs most from its usual share."""
        inside = slice(*np.searchsorted(self.window, [begin, end + 1]).tolist())
        now = np.bincount(self.group[inside], self.bytes[inside], len(self.totals))
        usual = self.totals * ((end - begin + 1) / self.windows)
        change = now - usual if up else usual - now
        total = float(change[change > 0].sum())
        if total <= 0:
            return "", "", 0.0
        best = int(change.argmax())
        key = int(self.sample[best])
        name = self.ledger.tables.text(int(self.ledger.keys["name"][key]))
        return PROTOCOLS[self.ledger.protocol[key]], name, round(100 * float(change[best]) / total, 1)
