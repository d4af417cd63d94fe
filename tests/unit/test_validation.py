"""The validation says right of what is right, and wrong of what is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed import run, validate
from testbed.analysis import analyse
from testbed.analysis.rows import FoundStateRow, PeriodRow
from testbed.analysis.run import parse_time
from testbed.cli import main
from testbed.errors import UserError
from testbed.validation.outages import (
    INTERNET_OFF,
    NETWORK_OFF,
    check_boundaries,
    check_dependencies,
    true_outages,
)
from testbed.validation.periods import check_periods
from testbed.validation.planted import Planted, cycles, repeats
from testbed.validation.result import Check, f1, tally
from testbed.validation.truth import load_truth
from testbed.validation.wire import ipv4_text, read_wire

if TYPE_CHECKING:
    from testbed.validation import Validation
    from testbed.validation.truth import Truth

SMALL = Path(__file__).resolve().parents[1] / "data" / "small"


@pytest.fixture(scope="module")
def blink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of ten minutes of a lamp, two of them without the Internet."""
    return run("blink", out=tmp_path_factory.mktemp("runs") / "blink", models=[SMALL]).out


@pytest.fixture(scope="module")
def truth(blink: Path) -> Truth:
    return load_truth(blink, [SMALL])


@pytest.fixture
def copy(blink: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(blink, tmp_path / "run"))


def check(result: Validation, name: str) -> Check:
    return next(check for check in result.checks if check.name.startswith(name))


def relabel(folder: Path, column: str, change: dict[str, str], most: int) -> None:
    """Change the first labels of a run."""
    table = pq.read_table(folder / "labels.parquet")
    values = table.column(column).to_pylist()
    for i in [i for i, value in enumerate(values) if value in change][:most]:
        values[i] = change[values[i]]
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), folder / "labels.parquet")


def found_row(period_s: float, protocol: str = "NTP", count: int = 10) -> PeriodRow:
    return PeriodRow(
        "lamp", protocol, "", period_s, 0.01, count, 0.0, 100.0, 604_800 / period_s, "", "chain", 1e-9
    )


@pytest.mark.slow
def test_the_analyser_is_right_about_a_small_run(blink: Path) -> None:
    result = validate(blink, models=[SMALL])
    for name in ("protocol of", "device of", "direction of"):
        assert check(result, name).value == 100, name
    for name in ("protocols whose", "totals by", "dependencies", "false periods"):
        assert check(result, name).value == 0, name
    assert check(result, "service names").value == check(result, "places").value == 1


@pytest.mark.slow
def test_wrong_labels_are_wrong_answers(copy: Path) -> None:
    relabel(copy, "protocol", {"NTP": "DNS"}, 5)
    result = validate(copy, models=[SMALL])
    frames = result.confusions[0].total
    assert result.confusions[0].errors() == [("DNS", "NTP", 5)]
    assert check(result, "protocol of").value == pytest.approx(100 * (frames - 5) / frames)
    assert check(result, "protocols whose").value == 2  # DNS and NTP
    assert not result.passed and any("whole capture" in d.what for d in result.differences)


@pytest.mark.slow
def test_a_missing_service_and_a_wrong_device_are_noticed(copy: Path) -> None:
    relabel(copy, "service", {"time.example.org": "elsewhere.example.org"}, 10_000)
    relabel(copy, "device", {"lamp": "router"}, 3)
    result = validate(copy, models=[SMALL])
    assert (check(result, "service names").value or 0) < 0.99
    assert ("router", "lamp", 3) in result.confusions[1].errors()


@pytest.mark.slow
def test_without_the_models_the_rest_is_checked_and_it_is_said(copy: Path) -> None:
    result = validate(copy)  # blink is no scenario that is shipped
    assert "--models" in result.notes[0] and not result.periods
    assert check(result, "protocol of").passed


def test_planted_periods_are_found_missed_or_false(truth: Truth) -> None:
    checks, rows = check_periods(truth, [found_row(20.1), found_row(20.0, "DNS"), found_row(33.0)])
    fates = {(row["protocol"], row["true_s"] or row["found_s"]): row["fate"] for row in rows}
    assert fates == {("NTP", 20): "found", ("DNS", 20): "found", ("NTP", 33): "false"}
    assert [item.value for item in checks] == [100, 1]
    checks, _ = check_periods(truth, [found_row(20.3)])  # 1.5 % off, and not a rhythm of the labels
    assert [item.value for item in checks] == [0, 1]


def test_steps_that_vary_need_not_be_found_but_may_be() -> None:
    strict = Planted("d", "NTP", 100, "h", "every")
    loose = Planted("d", "NTP", 100, "h", "every", drift=0.1)
    assert strict.strict and not loose.strict
    assert strict.matches(100.9, 50) and not strict.matches(102, 50)
    assert loose.matches(102, 50) and not loose.matches(106, 50)


def test_chains_and_repeating_rounds_are_counted() -> None:
    steady = np.arange(0, 200, 20.0)
    assert cycles(steady, 20, 0.1) == 9 and cycles(steady, 19, 0.1) == 0
    assert cycles(np.sort(np.concatenate([steady, steady + 3.3])), 20, 0.1) == 9
    dense = np.arange(0, 200, 5.0)
    assert cycles(dense, 20, 0.1) == 9 and cycles(dense, 20, 0.1, alone=True) == 0
    assert cycles(steady, 20, 0.1, alone=True) == 9
    rounds = np.sort(np.concatenate([steady, steady + 1, steady + 13]))
    assert repeats(rounds, 20) == 9 and repeats(rounds, 13) == 0
    skips = np.cumsum(np.tile([10.0, 10.0, 20.0], 8))
    assert repeats(skips, 10) == 15 and repeats(skips, 40) >= 5 and repeats(skips, 5) == 0
    assert repeats(np.cumsum(np.tile([10.0, 20.0, 20.0], 8)), 10) < 5  # most beats are left out
    loose = np.cumsum([12.0, 12.9, 12.4, 11.9, 12.6] * 4)
    assert repeats(loose, 12.36) < 5 and repeats(loose, 12.36, jitter_s=0.37) == 19
    chance = np.cumsum(np.random.default_rng(1).exponential(10, 2000))
    assert max(repeats(chance, period) for period in range(2, 60)) < 5


def test_outages_follow_from_the_scenario(truth: Truth) -> None:
    assert truth.setup is not None
    begin = parse_time(truth.run["begin"])
    outages = true_outages(truth.setup.scenario, truth.setup.topology, begin, begin + 600 * 10**9)
    assert [(o.kind, (o.begin_ns - begin) / 1e9, (o.end_ns - begin) / 1e9) for o in outages] == [
        (INTERNET_OFF, 240, 360)
    ]


def test_boundaries_that_are_off_missed_or_made_up_are_told() -> None:
    from testbed.models.setup import load_setup

    setup = load_setup("all-states")
    begin = round(setup.scenario.begin.timestamp()) * 10**9
    hour = 3600 * 10**9
    outages = true_outages(setup.scenario, setup.topology, begin, begin + 6 * hour)
    assert [o.kind for o in outages] == [INTERNET_OFF, NETWORK_OFF, INTERNET_OFF]
    assert (outages[1].end_ns - outages[1].begin_ns) / 1e9 == 645  # ten minutes and the router's boot

    def row(kind: str, begin_ns: int, end_ns: int) -> FoundStateRow:
        begin, end = (str(np.datetime64(ns, "ns")) for ns in (begin_ns, end_ns))
        return FoundStateRow("x", begin, end, kind, "")

    exact = [row(*outage) for outage in outages]
    assert [item.value for item in check_boundaries(outages, exact)[0]] == [0, 0]
    late = [*exact[:2], row(INTERNET_OFF, outages[2].begin_ns + 90 * 10**9, outages[2].end_ns)]
    checks, told = check_boundaries(outages, late)
    assert [item.value for item in checks] == [0, 90] and checks[1].passed is False and len(told) == 1
    assert check_boundaries(outages, exact[:2])[0][0].value == 1
    assert check_boundaries([], exact[:1])[0][0].value == 1


@pytest.mark.slow
def test_a_wrong_dependency_is_told(truth: Truth) -> None:
    analysis = analyse(truth.folder / "capture.pcap", run=truth.folder)
    begin = parse_time(truth.run["begin"])
    assert truth.setup is not None
    outages = true_outages(truth.setup.scenario, truth.setup.topology, begin, begin + 600 * 10**9)
    assert check_dependencies(truth, analysis, outages)[0][0].value == 0
    analysis.dependencies = [row._replace(continued="HTTPS") for row in analysis.dependencies]
    checks, told = check_dependencies(truth, analysis, outages)
    assert checks[0].value == 1 and "HTTPS" in told[0].answer


def predictions(folder: Path, path: Path, **columns: str) -> Path:
    """Write the labels as predictions; `columns` replace one."""
    rows = pq.read_table(folder / "labels.parquet", columns=["frame", "protocol", "device"]).to_pylist()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["frame", "protocol", "device"])
        writer.writeheader()
        writer.writerows([row | columns for row in rows])
    return path


def test_predictions_of_the_truth_pass_whatever_their_case_or_order(
    blink: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = predictions(blink, tmp_path / "p.csv", device="LAMP")
    lines = path.read_text().lower().splitlines()
    path.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert validate(blink, predictions=path).confusions[0].right == len(lines) - 1
    mac = json.loads((blink / "run.json").read_text())["devices"][0]["mac"]
    predictions(blink, path, device=mac.upper())
    assert validate(blink, predictions=path).confusions[1].answers == ("lamp",)
    assert main(["validate", str(blink), "--predictions", str(predictions(blink, path))]) == 0
    assert "All thresholds are kept" in capsys.readouterr().out


def test_what_is_left_out_counts_as_wrong(
    blink: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = predictions(blink, tmp_path / "p.csv")
    path.write_text("\n".join(path.read_text().splitlines()[:-10]))
    result = validate(blink, predictions=path)
    assert sum(frames for _, answer, frames in result.confusions[0].errors() if answer == "(none)") == 10
    out = tmp_path / "validation.json"
    assert main(["validate", str(blink), "--predictions", str(path), "--json", "--out", str(out)]) == 1
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    assert json.loads(out.read_text())["passed"] is False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("frame,protocol\n1,DNS\n", ":1: missing column device"),
        ("frame,protocol,device\n0,DNS,lamp\n", ":2: there is no frame 0"),
        ("frame,protocol,device\n999999999,DNS,lamp\n", ":2: there is no frame 999999999"),
        ("frame,protocol,device\nfirst,DNS,lamp\n", ":2: 'first' is not a frame number"),
        ("frame,protocol,device\n1,DNS,lamp\n1,NTP,lamp\n", ":3: frame 1 has a row already"),
    ],
)
def test_mistakes_in_predictions_are_told_with_their_line(
    blink: Path, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        validate(blink, predictions=path)


def test_folders_without_a_ground_truth_are_refused(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(tmp_path / "nowhere")]) == 2
    (copy / "labels.parquet").write_bytes(b"not parquet")
    assert main(["validate", str(copy)]) == 2
    (copy / "labels.parquet").unlink()
    assert main(["validate", str(copy)]) == 2
    assert "labels.parquet" in capsys.readouterr().err


def test_a_capture_that_does_not_fit_its_labels_is_refused(copy: Path) -> None:
    data = (copy / "capture.pcap").read_bytes()
    (copy / "capture.pcap").write_bytes(data[:-1])
    with pytest.raises(UserError, match="ends in the middle"):
        load_truth(copy)
    (copy / "capture.pcap").write_bytes(data[:24])
    with pytest.raises(UserError, match="0 frames, but"):
        load_truth(copy)


def test_the_second_reading_agrees_with_scapy(blink: Path) -> None:
    from scapy.layers.inet import IP
    from scapy.utils import PcapReader

    wire = read_wire(blink / "capture.pcap")
    with PcapReader(str(blink / "capture.pcap")) as packets:
        for i, packet in enumerate(packets):
            assert len(packet) == wire.length[i]
            assert int(packet.src.replace(":", ""), 16) == wire.src[i]
            assert ipv4_text(int(wire.sip[i])) == (packet[IP].src if IP in packet else "0.0.0.0")
    assert i + 1 == len(wire)


def test_scores_are_what_their_names_say() -> None:
    confusion = tally("x", ["a", "b", "c"], ["a", "b"], np.array([[8, 2], [1, 9], [0, 0]]))
    assert (confusion.right, confusion.total, confusion.truths) == (17, 20, ("a", "b"))
    assert confusion.errors() == [("a", "b", 2), ("b", "a", 1)]
    assert confusion.per_truth()[0] == ("a", 10, 8, 0.8, 8 / 9)
    assert f1({1, 2, 3}, {2, 3, 4}) == pytest.approx(2 / 3) and f1(set(), set()) is None
    assert f1({1}, set()) == 0
    limits: Any = {"threshold": 99.9, "name": ""}
    assert Check(value=99.9, sense="least", **limits).passed
    assert Check(value=99.89, sense="least", **limits).passed is False
    assert Check(value=100, sense="most", **limits).passed is False
    assert Check(value=None, sense="most", **limits).passed is None
