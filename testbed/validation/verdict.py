"""Holds an analysis, or a file of another analyser's answers, against the labels of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.run import parse_time
from testbed.capture.frame import APPLICATIONS
from testbed.validation import frames, outages
from testbed.validation.periods import check_periods
from testbed.validation.places import check_services
from testbed.validation.predictions import read_predictions
from testbed.validation.result import Validation
from testbed.validation.truth import Column, load_truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.analysis import Analysis
    from testbed.validation.truth import Truth

ANALYSER = "testbed analyse"


def validate(
    run: str | Path,
    *,
    predictions: str | Path | None = None,
    models: Sequence[str | Path] = (),
    analysis: Analysis | None = None,
) -> Validation:
    """Score the analyser on a run's folder, or the `predictions` of another one (a CSV file).

    `models` are folders of the user's own models, `analysis` an analysis of this very run with its
    frames kept, which is made where none is given. Raises UserError.
    """
    truth = load_truth(run, models)
    if predictions is not None:
        return _score(truth, predictions)
    from testbed.analysis import analyse

    capture = truth.folder / "capture.pcap"
    if analysis is None or analysis.frame_keys is None:
        analysis = analyse(capture, run=truth.folder, keep_frames=True)
    out = Validation(str(run), ANALYSER)
    _frames(out, truth, analysis)
    checks, differences = frames.totals(truth, analysis)
    out.checks += checks
    out.differences += differences
    checks, differences = check_services(truth, analysis)
    out.checks += checks
    out.differences += differences
    if truth.setup is None:
        out.notes.append(f"Periods, outages and dependencies were not checked: {truth.why_no_setup}")
        return out
    checks, out.periods = check_periods(truth, analysis.periods)
    out.checks += checks
    span = parse_time(truth.run["begin"]), parse_time(truth.run["end"])
    true_outages = outages.true_outages(truth.setup.scenario, truth.setup.topology, *span)
    blind = analyse(capture)
    for checks, differences in (
        outages.check_boundaries(true_outages, blind.found_states),
        outages.check_dependencies(truth, analysis, true_outages),
    ):
        out.checks += checks
        out.differences += differences
    return out


def _frames(out: Validation, truth: Truth, analysis: Analysis) -> None:
    table = analysis.frame_table()
    labels = truth.labels
    answers = {
        "protocol": (labels.protocol, Column(list(table.protocols), table.protocol.astype(np.int32))),
        # The table's last name stands for nobody, which it writes as -1.
        "device": (labels.device, Column(table.devices, table.device.astype(np.int32) % len(table.devices))),
        "direction": (labels.direction, Column(["received", "sent"], table.sent.astype(np.int32))),
    }
    for what, (true, answer) in answers.items():
        out.confusions.append(frames.confusion(what, true, answer))
        out.checks.append(frames.accuracy(out.confusions[-1]))


def _score(truth: Truth, predictions: str | Path) -> Validation:
    labels = truth.labels
    known = {*APPLICATIONS, "TCP", "UDP", "ICMP", "ICMPv6", "IGMP", "ARP", "other", *labels.protocol.names}
    protocol, device = read_predictions(predictions, len(labels), truth.run, known)
    out = Validation(str(truth.folder), str(predictions))
    for what, true, answer in (("protocol", labels.protocol, protocol), ("device", labels.device, device)):
        out.confusions.append(frames.confusion(what, true, answer))
        out.checks.append(frames.accuracy(out.confusions[-1]))
    return out
