"""`testbed export` writes every frame with its label, readable by other tools, or refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from testbed import run
from testbed.capture.export import export_labelled
from testbed.errors import UserError, WorldError

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = Path(__file__).resolve().parents[1] / "data" / "small"


@pytest.fixture(scope="module")
def blink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run's folder."""
    return run("blink", out=tmp_path_factory.mktemp("runs") / "blink", models=[SMALL]).out


@pytest.mark.slow
def test_every_frame_carries_its_label(blink: Path, tmp_path: Path) -> None:
    from scapy.utils import PcapNgReader, PcapReader

    count = export_labelled(blink, tmp_path / "out.pcapng")
    labels = pq.read_table(blink / "labels.parquet").to_pylist()
    with (
        PcapReader(str(blink / "capture.pcap")) as plain,
        PcapNgReader(str(tmp_path / "out.pcapng")) as labelled,
    ):
        before, after = list(plain), list(labelled)
    assert count == len(before) == len(after) == len(labels)
    for frame, copy, label in zip(before, after, labels, strict=True):
        assert bytes(copy) == bytes(frame)
        assert float(copy.time) == float(frame.time)
        comment = copy.comments[0].decode()
        for name in ("device", "direction", "protocol", "state"):
            assert f"{name}={label[name]}" in comment.split()


@pytest.mark.slow
@pytest.mark.system
def test_tshark_filters_by_label(blink: Path, tmp_path: Path, needs: Callable[..., None]) -> None:
    import subprocess

    needs("tshark")
    export_labelled(blink, tmp_path / "out.pcapng")
    words = ["tshark", "-r", tmp_path / "out.pcapng", "-Y", 'frame.comment contains "protocol=NTP"']
    done = subprocess.run(
        [*map(str, words), "-T", "fields", "-e", "udp.port"], capture_output=True, text=True, check=True
    )
    labels = pq.read_table(blink / "labels.parquet").to_pylist()
    lines = done.stdout.splitlines()
    assert len(lines) == sum(label["protocol"] == "NTP" for label in labels) > 0
    assert all("123" in line for line in lines if line)  # an empty line is an ICMP error about NTP


def test_an_existing_file_is_refused_without_force(blink: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    out.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_labelled(blink, out)
    assert out.read_text() == "mine"
    assert export_labelled(blink, out, force=True) > 0


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run folder: it has no capture\.pcap"):
        export_labelled(tmp_path, tmp_path / "out.pcapng")


@pytest.mark.parametrize("cut", [24, 30, 60])
def test_labels_that_do_not_fit_the_capture_are_not_glossed_over(
    blink: Path, tmp_path: Path, cut: int
) -> None:
    shutil.copytree(blink, tmp_path / "run")
    capture = tmp_path / "run" / "capture.pcap"
    capture.write_bytes(capture.read_bytes()[:cut])
    with pytest.raises(WorldError, match=r"has more rows than the capture|ends within a"):
        export_labelled(tmp_path / "run", tmp_path / "out.pcapng")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
