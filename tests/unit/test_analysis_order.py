"""Adding up and putting in order, held against NumPy and plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.analysis.order import by_number, distinct, group_rows, key_sums, median, quantiles, sums_at
from testbed.analysis.tables import CELL

ANY_TIME = settings(deadline=None)  # the first call may compile
NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60)
PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)), max_size=60)


@ANY_TIME
@given(PAIRS)
def test_rows_are_numbered_by_what_they_hold_in_order_of_appearance(rows: list[tuple[int, int]]) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 2)
    group, first = group_rows(columns[:, 0], columns[:, 1])
    seen = list(dict.fromkeys(rows))
    assert group.tolist() == [seen.index(row) for row in rows]
    assert first.tolist() == [rows.index(row) for row in seen]


@ANY_TIME
@given(NUMBERS)
def test_distinct_values_and_the_median_are_numpys(values: list[int]) -> None:
    array = np.array(values, np.int64)
    assert distinct(array).tolist() == np.unique(array).tolist()
    assert median(array.astype(np.float64)) == np.median(array.astype(np.float64))


@ANY_TIME
@given(NUMBERS, st.lists(st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0]), min_size=1))
def test_quantiles_are_numpys(values: list[int], shares: list[float]) -> None:
    array = np.array(values, np.float64)
    assert quantiles(array, shares) == np.quantile(array, shares).tolist()


@ANY_TIME
@given(st.lists(st.tuples(st.integers(-2, 5), st.integers(-(2**62), 2**62)), max_size=60))
def test_amounts_are_added_at_their_places_exactly(rows: list[tuple[int, int]]) -> None:
    place, amount = (np.array(column, np.int64) for column in ([r[0] for r in rows], [r[1] for r in rows]))
    wanted = [sum(value for at, value in rows if at == i) for i in range(6)]
    wrapped = [(value + 2**63) % 2**64 - 2**63 for value in wanted]
    assert sums_at(place, amount, 6).tolist() == wrapped


@ANY_TIME
@given(st.lists(st.integers(0, 4), max_size=60))
def test_sorting_by_number_is_stable(numbers: list[int]) -> None:
    order, starts = by_number(np.array(numbers, np.int64), 5)
    assert order.tolist() == sorted(range(len(numbers)), key=lambda i: numbers[i])
    assert starts.tolist() == [sum(number < i for number in numbers) for i in range(6)]


def test_cells_add_up_by_key() -> None:
    cells = np.zeros(4, CELL)
    cells["key"] = [2, 0, 2, 2]
    cells["packets"], cells["bytes"] = [1, 2, 3, 4], [10, 20, 30, 40]
    cells["first_ns"], cells["last_ns"] = [7, 1, 5, 6], [8, 2, 9, 6]
    sums = key_sums(cells[::2], 3)  # a view
    assert (sums.packets.tolist(), sums.bytes.tolist()) == ([0, 0, 4], [0, 0, 40])
    sums = key_sums(cells, 3)
    assert sums.packets.tolist() == [2, 0, 8]
    assert (sums.first_ns[2], sums.last_ns[2]) == (5, 9)
    assert sums.first_ns[1] > sums.last_ns[1]


@pytest.mark.parametrize("rows", [0, 1, 1000, 100_000])
def test_any_number_of_rows_fits_the_hash_table(rows: int) -> None:
    values = np.arange(rows, dtype=np.int64) * 2**40
    group, first = group_rows(values)
    assert (group == np.arange(rows)).all() and len(first) == rows
