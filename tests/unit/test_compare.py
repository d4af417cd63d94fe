"""`testbed compare` finds what differs between two runs, and says when nothing does."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from testbed.api import run
from testbed.cli.compare import command
from testbed.errors import UserError
from testbed.validation import compare as against
from testbed.validation.truth import load_truth
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.validation.truth import Truth

pytestmark = pytest.mark.slow
SMALL = ROOT / "tests" / "data" / "small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("compare") / "run"
    run("blink", out=made, models=[SMALL], seed=1)
    return made


def without(truth: Truth, keep: np.ndarray) -> Truth:
    labels, wire = truth.labels, truth.wire
    columns = {
        name: getattr(labels, name)._replace(codes=getattr(labels, name).codes[keep])
        for name in ("device", "direction", "behaviour", "protocol", "service", "state")
    }
    fewer = replace(labels, time_ns=labels.time_ns[keep], exchange=labels.exchange[keep], **columns)
    return replace(truth, labels=fewer, wire=replace(wire, length=wire.length[keep]))


def test_a_run_agrees_with_itself(folder: Path) -> None:
    truth = load_truth(folder, [SMALL])
    result = against.compare(truth, truth)
    assert result.within
    assert result.cells
    assert sum(cell.packets_a for cell in result.cells) == len(truth.labels)
    assert sum(cell.bytes_b for cell in result.cells) == truth.wire.length.sum()
    assert all(cell.gap_distance in (None, 0.0) for cell in result.cells)


def test_missing_exchanges_are_found_where_they_are_missing(folder: Path) -> None:
    truth = load_truth(folder, [SMALL])
    protocol, state = truth.labels.protocol, truth.labels.state
    last = state.names[state.codes[-1]]
    gone = protocol.mask("NTP") & state.mask(last)
    assert gone.sum() > 4
    result = against.compare(truth, without(truth, ~gone))
    assert not result.within
    apart = [(c.protocol, c.state) for c in result.cells if not (c.exchanges_agree and c.bytes_agree)]
    assert apart == [("NTP", last)]


def test_other_gaps_show_though_the_counts_are_equal(folder: Path) -> None:
    truth = load_truth(folder, [SMALL])
    squeezed = truth.labels.time_ns[0] + (truth.labels.time_ns - truth.labels.time_ns[0]) // 2
    result = against.compare(truth, replace(truth, labels=replace(truth.labels, time_ns=squeezed)))
    distances = [cell.gap_distance for cell in result.cells if cell.gap_distance is not None]
    assert distances
    assert max(distances) > 0.5


def test_runs_of_different_scenarios_are_refused(folder: Path) -> None:
    truth = load_truth(folder, [SMALL])
    other = replace(truth, run={**truth.run, "scenario": {"name": "other"}})
    with pytest.raises(UserError, match="scenario 'blink' there, 'other' here"):
        against.compare(truth, other)


def test_the_command_writes_every_cell_and_says_its_verdict(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "cells.csv"
    done = CliRunner().invoke(command, [str(folder), str(folder), "--out", str(out)], standalone_mode=False)
    assert done.return_value == 0, done.output
    assert "The runs agree." in done.output
    rows = list(csv.DictReader(out.open()))
    assert {row["protocol"] for row in rows} >= {"DNS", "NTP"}
    assert all(row["exchanges_a"] == row["exchanges_b"] for row in rows)
