"""Putting the tables in order fast: a counting sort by key, and the merging of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from testbed.capture.kernel import kernel

if TYPE_CHECKING:
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
