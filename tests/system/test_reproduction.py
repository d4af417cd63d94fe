"""The table of claims: from captures alone, as tshark counts them, and as the docs have it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import testbed
from testbed.analysis.run import parse_time
from testbed.models import load
from testbed.reproduction import Claim, Evidence, judge, load_claims
from testbed.reproduction.evidence import BROAD, SETTLE_NS, look
from testbed.reproduction.measures.base import Selection
from testbed.reproduction.pages import plain
from testbed.reproduction.runs import Job, do
from tests.conftest import need

pytestmark = pytest.mark.slow

SPOT_CHECKS = (
    "P-4.2-02", "P-4.2-03", "P-4.2-04", "P-4.2-05", "P-4.2-06", "P-4.2-12", "P-4.2-15", "P-4.2-17",
    "P-4.3-04", "P-4.3-09", "P-4.3-10", "P-4.3-13", "P-4.3-17", "P-4.5-02", "P-4.5-03", "P-4.5-04",
    "P-4.5-06", "P-4.5-08", "P-4.6-03", "P-4.6-04", "P-4.6-05", "P-4.6-07", "P-4.7-01", "P-4.7-04",
)  # fmt: skip
"""Claims about amounts, of every state with traffic."""
PORTS = {"DNS": {53}, "HTTP": {80}, "HTTPS": {443}, "MQTT": {1883, 8883}, "DHCP": {67, 68}}
FIELDS = (
    "frame.time_epoch", "frame.len", "eth.src", "eth.dst", "frame.protocols",
    "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "dhcp.hw.mac_addr",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def seed_1(runs: Path) -> Evidence:
    done = do(Job(1, ("week", "states")), testbed.run, runs, keep=True)
    return Evidence(1, **done.findings)


def test_labels_and_models_play_no_part(
    seed_1: Evidence, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run gives the same table when its labels are empty and no device model can be had."""
    bare = tmp_path / "states-1"
    shutil.copytree(runs / "states-1", bare)
    labels = pq.read_table(bare / "labels.parquet")
    pq.write_table(labels.slice(0, 0), bare / "labels.parquet")
    manifest = json.loads((bare / "run.json").read_text())
    for entry in manifest["devices"]:
        entry["model"] = ""
    manifest["services"] = []
    (bare / "run.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(load, "read_device", None)
    again = Evidence(1, states=look(bare, runs / "week-1"), week=seed_1.week)
    before, after = (judge(load_claims(), [evidence]) for evidence in (seed_1, again))
    assert [(r.claim.id, r.verdict, r.measured) for r in after] == [
        (r.claim.id, r.verdict, r.measured) for r in before
    ]


def test_the_fidelity_page_is_current(seed_1: Evidence, root_folder: Path) -> None:
    """What the page says of all seeds is what seed 1 shows; the claims of the month are too dear here.

    If this fails: `testbed reproduce --out reproduction`, look at the changes, and put its
    `fidelity.md` into `docs/`.
    """
    page = (root_folder / "docs" / "fidelity.md").read_text()
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    said = {title.partition(" (")[0]: body for title, body in sections.items()}
    for result in judge(load_claims(), [seed_1]):
        claim = result.claim
        titles = [title for title, body in said.items() if f" {claim.id} " in body]
        assert len(titles) == 1, claim.id
        body = said[titles[0]]
        assert plain(claim.claim) in body, claim.id
        if "no month was played" in result.reason or not claim.judged:
            continue
        expected = {"holds": "Claims that hold", "fails": "Claims that fail"}
        if _unanimous(body, claim):
            assert titles[0] == expected.get(result.verdict, "Claims that cannot be checked"), claim.id


def _unanimous(body: str, claim: Claim) -> bool:
    """Return whether the page says that all seeds agree about a claim: in its row, or below its heading."""
    if claim.check is None:
        return True
    text = body[body.index(f" {claim.id} ") :]
    return "| 5/5 |" in text.split("\n", 1)[0] or "in 0/5 seeds" in text.split("\n### ", 1)[0]


@pytest.mark.system
def test_tshark_counts_what_the_analyser_counts(seed_1: Evidence, runs: Path) -> None:
    need("tshark")
    frames = _frames(runs / "states-1" / "capture.pcap")
    claims = {claim.id: claim for claim in load_claims()}
    compared, states = 0, set()
    for name in SPOT_CHECKS:
        check = claims[name].check
        assert check is not None
        for selection in (measure for measure in check.all() if isinstance(measure, Selection)):
            states.add(selection.when)
            for device in seed_1.devices(selection.devices, selection.without):
                found = seed_1.amount(
                    device, selection.protocols, selection.when, selection.way, settled=selection.settled
                )
                assert tuple(found) == _counted(frames, seed_1, device, selection), (name, device)
                compared += 1
    assert compared > 60 and states == {"S2", "S3", "S5", "S6", "S7"}


def _frames(capture: Path) -> pd.DataFrame:
    """Return the frames as tshark dissects them: time, length, ends, transport, ports."""
    command = ["tshark", "-n", "-r", str(capture), "-Tfields", *(f"-e{field}" for field in FIELDS)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    table = pd.DataFrame([line.split("\t") for line in out.splitlines()], columns=list(FIELDS))
    layers = table["frame.protocols"].str.split(":")
    # A DHCP answer that is broadcast (a NAK) is the client's that it names.
    answered = (table["eth.dst"] == "ff:ff:ff:ff:ff:ff") & (table["udp.srcport"] == "67")
    inner = layers.map(lambda names: names[3] if names[2] == "ip" else names[2])
    return pd.DataFrame(
        {
            "time": table["frame.time_epoch"].astype(float),
            "bytes": table["frame.len"].astype(int),
            "src": table["eth.src"],
            "dst": table["dhcp.hw.mac_addr"].where(answered, table["eth.dst"]),
            "transport": inner.str.upper(),
            "ports": [
                {int(port) for port in ports if port.isdigit()}
                for ports in table[["tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport"]].to_numpy()
            ],
        }
    )


def _counted(frames: pd.DataFrame, evidence: Evidence, device: str, selection: Selection) -> tuple[int, int]:
    findings = evidence.findings(selection.when)
    state = findings.state(int(selection.when[1:]), device)
    begin, end = parse_time(state["begin"]) / 1e9, parse_time(state["end"]) / 1e9
    begin += SETTLE_NS / 1e9 if selection.settled else 0
    mac = next(entry["mac"] for entry in findings.manifest["devices"] if entry["name"] == device)
    chosen = frames[(frames["time"] >= begin) & (frames["time"] < end)]
    ends = {"both": ("src", "dst"), "sent": ("src",), "received": ("dst",)}[selection.way]
    chosen = chosen[chosen[list(ends)].eq(mac).any(axis=1)]
    wanted = [part for name in selection.protocols for part in BROAD.get(name, (name,))]
    keep = chosen["transport"].isin(wanted)
    for name in wanted:
        if name in PORTS:
            rides = chosen["transport"].isin(["TCP", "UDP"])
            keep |= rides & chosen["ports"].map(lambda ports, own=PORTS[name]: bool(ports & own))
    return int(keep.sum()), int(chosen["bytes"][keep].sum())
