"""Putting the tables in order and adding them up, fast: kernels over whole columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from testbed.capture.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from testbed.capture.kernel import Records


@kernel
def sort_by_number(numbers: NDArray[np.int64], starts: NDArray[np.int64], order: NDArray[np.int64]) -> None:
    """Fill `order` with a stable order of rows by number, `starts` (zeros) with where each begins."""
    count = len(starts) - 1
    for i in range(len(numbers)):
        starts[numbers[i] + 1] += 1
    for i in range(count):
        starts[i + 1] += starts[i]
    for i in range(len(numbers)):
        order[starts[numbers[i]]] = i
        starts[numbers[i]] += 1
    for i in range(count, 0, -1):  # each begin had moved to the next one's
        starts[i] = starts[i - 1]
    starts[0] = 0


def by_number(numbers: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (order, starts): a stable order of rows by their number below `count`, and where each
    number's rows begin in it (one more entry at the end).
    """
    starts = np.zeros(count + 1, np.int64)
    order = np.empty(len(numbers), np.int64)
    sort_by_number(np.ascontiguousarray(numbers, np.int64), starts, order)
    return order, starts


@kernel
def merge_cells(cells: Records, order: NDArray[np.int64], out: Records) -> tuple[int, bool]:
    """Copy cells in the given order, neighbours of the same key, segment and window as one.

    Returns how many there are, and whether they came out sorted (if not, time ran backwards and
    cells of the same window may stand apart).
    """
    count = 0
    is_sorted = True
    for i in range(len(order)):
        cell = cells[order[i]]
        if count > 0:
            last = out[count - 1]
            if last.key == cell.key:
                if last.segment == cell.segment and last.window == cell.window:
                    last.packets += cell.packets
                    last.bytes += cell.bytes
                    last.first_ns = min(last.first_ns, cell.first_ns)
                    last.last_ns = max(last.last_ns, cell.last_ns)
                    continue
                if cell.segment < last.segment or (
                    cell.segment == last.segment and cell.window < last.window
                ):
                    is_sorted = False
        new = out[count]
        new.key = cell.key
        new.segment = cell.segment
        new.window = cell.window
        new.packets = cell.packets
        new.bytes = cell.bytes
        new.first_ns = cell.first_ns
        new.last_ns = cell.last_ns
        count += 1
    return count, is_sorted


@kernel
def extent(cells: Records) -> tuple[int, int]:
    """Return the first and the last window that has a cell."""
    first, last = cells[0].window, cells[0].window
    for i in range(len(cells)):
        window = cells[i].window
        first, last = min(first, window), max(last, window)
    return first, last


@kernel
def sum_cells(
    cells: Records,
    packets: NDArray[np.int64],
    size: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> None:
    """Add cells to the totals of their keys, and widen the keys' spans of time."""
    for i in range(len(cells)):
        cell = cells[i]
        key = cell.key
        packets[key] += cell.packets
        size[key] += cell.bytes
        first[key] = min(first[key], cell.first_ns)
        last[key] = max(last[key], cell.last_ns)


class KeySums(NamedTuple):
    """What the cells of each key add up to."""

    packets: NDArray[np.int64]
    bytes: NDArray[np.int64]
    first_ns: NDArray[np.int64]
    """Of a key without frames the latest time there is; `last_ns` then is the earliest."""
    last_ns: NDArray[np.int64]


def key_sums(cells: NDArray[np.void], keys: int) -> KeySums:
    """Add up cells by key, for the keys below `keys`."""
    range_ns = np.iinfo(np.int64)
    sums = KeySums(
        np.zeros(keys, np.int64),
        np.zeros(keys, np.int64),
        np.full(keys, range_ns.max),
        np.full(keys, range_ns.min),
    )
    sum_cells(np.ascontiguousarray(cells), *sums)
    return sums


@kernel
def add_at(place: NDArray[np.int64], amount: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Add each amount at its place; a negative place is none."""
    for i in range(len(place)):
        if place[i] >= 0:
            out[place[i]] += amount[i]


def sums_at(place: NDArray[np.int64], amount: NDArray[Any], places: int) -> NDArray[np.int64]:
    """Return the sum of the amounts at each place below `places`; a negative place is none."""
    out = np.zeros(places, np.int64)
    add_at(np.ascontiguousarray(place, np.int64), np.ascontiguousarray(amount, np.int64), out)
    return out


@kernel
def number_rows(
    rows: NDArray[np.int64], index: NDArray[np.int32], group: NDArray[np.int64], first: NDArray[np.int64]
) -> int:
    """Give equal rows the same number; `index` is a hash table, zeros, of a power of two in size."""
    mask = len(index) - 1
    count = 0
    width = rows.shape[1]
    for i in range(len(rows)):
        digest = 1
        for column in range(width):
            digest = (digest ^ rows[i, column]) * -7046029254386353131
            digest ^= digest >> 29 & 0x7FFFFFFFF
        slot = digest & mask
        while index[slot] > 0:
            other = first[index[slot] - 1]
            same = True
            for column in range(width):
                if rows[other, column] != rows[i, column]:
                    same = False
                    break
            if same:
                break
            slot = (slot + 1) & mask
        if index[slot] == 0:
            first[count] = i
            count += 1
            index[slot] = count
        group[i] = index[slot] - 1
    return count


def group_rows(*columns: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number rows by what they hold, in order of appearance.

    Returns (group, first): the number of each row, and the first row of each number.
    """
    rows = np.ascontiguousarray(np.stack(columns, axis=1), np.int64)
    index = np.zeros(1 << max(4, (3 * len(rows) // 2).bit_length()), np.int32)
    group, first = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    count = number_rows(rows, index, group, first)
    return group, first[:count]


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct values in order.

    (NumPy's own function, and its median and quantiles, load its masked arrays: 7 ms.)
    """
    ordered = np.sort(values)
    keep = np.ones(len(ordered), bool)
    keep[1:] = ordered[1:] != ordered[:-1]
    return ordered[keep]


def quantiles(values: NDArray[Any], shares: Sequence[float]) -> list[float]:
    """Return the values below which the shares of all lie, interpolated as np.quantile does."""
    last = len(values) - 1
    below = [min(int(share * last), last) for share in shares]
    ordered = np.partition(values, sorted({*below, *(min(i + 1, last) for i in below)}))
    out = []
    for share, i in zip(shares, below, strict=True):
        low, high = float(ordered[i]), float(ordered[min(i + 1, last)])
        part = share * last - i
        out.append(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))
    return out


def median(values: NDArray[np.float64]) -> float:
    """Return the middle value, or the mean of the two."""
    middle = (len(values) - 1) // 2, len(values) // 2
    ordered = np.partition(values, middle)
    return float(ordered[list(middle)].mean())
