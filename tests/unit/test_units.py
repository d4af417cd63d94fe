"""Quantities read as people write them, and are written as they were read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.models.base import Model
from testbed.models.units import (
    Duration,
    Rate,
    Share,
    Size,
    as_written,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
    spoken,
)


class Quantities(Model):
    duration: Duration | None = 0
    size: Size = 0
    rate: Rate | None = None
    share: Share = 0
    count: int = 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("90s", 90),
        ("1h30m", 5400),
        ("1d12h", 129_600),
        ("1w", 604_800),
        (" 5 min ", 300),
        (0, 0),
    ],
)
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["5", "-5s", "5 parsecs", "s", "", "5s x", "5s,3m", 5, 1.5, True, None, [], "1e3s"]
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"needs a unit|must not be negative|cannot read"):
        parse_duration(text)


def test_sizes_rates_and_shares() -> None:
    assert parse_size("1.5kB") == 1500
    assert parse_size("1MiB") == 1_048_576
    assert parse_rate("10Mbit/s") == 10e6
    assert parse_share("20%") == 0.2
    assert parse_share(0.2) == 0.2
    with pytest.raises(ValueError, match="cannot read '10MB'"):
        parse_rate("10MB")


@given(st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_a_spoken_duration_reads_back(seconds: float) -> None:
    exact = seconds if seconds < 60 else round(seconds)
    assert parse_duration(spoken(seconds)) == pytest.approx(exact, abs=1e-5)


@given(st.integers(0, 10**10))
def test_a_written_size_reads_back(count: int) -> None:
    assert parse_size(as_written(count, Quantities.model_fields["size"])) == count


def test_values_are_written_with_the_units_of_their_field() -> None:
    fields = Quantities.model_fields
    assert as_written(5400.0, fields["duration"]) == "1h30m"
    assert as_written(1500, fields["size"]) == "1.5kB"
    assert as_written(20e6, fields["rate"]) == "20Mbit/s"
    assert as_written(0.05, fields["share"]) == "5%"
    assert as_written(3, fields["count"]) == "3"
