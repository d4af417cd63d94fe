"""An outage of the lab in both worlds: the same exchanges, the same bytes, and captures fit for analysis."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from testbed.api import run
from testbed.validation import compare, validate
from testbed.validation.truth import load_truth
from tests.conftest import need

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.slow]

NEEDED = ("root", "mnexec", "brctl", "nft", "ip", "bridge", "ifconfig", "setpriv", "unshare")
SEED = 7
FEW = 0.03
"""Cells that may differ, for the reasons in docs/emulation.md."""


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(*NEEDED)
    folder = tmp_path_factory.mktemp("emulated") / "run"
    run("internet-outage", out=folder, seed=SEED, world="emulation")
    return folder


def test_both_worlds_agree_on_an_outage_and_the_recovery_from_it(emulated: Path, tmp_path: Path) -> None:
    run("internet-outage", out=tmp_path / "run", seed=SEED)
    result = compare.compare(load_truth(tmp_path / "run"), load_truth(emulated))
    assert len(result.cells) > 100 and len(result.hours) > 20
    apart = [cell for cell in result.cells if not cell.exchanges_agree]
    assert not apart
    unlike = [cell for cell in result.cells if not cell.bytes_agree]
    assert len(unlike) <= FEW * len(result.cells), unlike
    assert result.hours_share >= compare.LEAST_HOURS_SHARE


def test_the_analyser_finds_in_an_emulated_capture_what_happened(emulated: Path) -> None:
    verdict = validate(emulated)
    assert verdict.passed, [check for check in verdict.checks if check.passed is False]


def test_tshark_finds_nothing_malformed(emulated: Path) -> None:
    need("tshark")
    checks = [f"-o{kind}.check_checksum:TRUE" for kind in ("ip", "tcp", "udp")]
    # Linux writes a TCP checksum of 0 as 0xffff (skb_checksum_help): the same sum, but not RFC 1624's way.
    bad = "_ws.malformed || ip.checksum.status==0 || udp.checksum.status==0"
    bad += " || (tcp.checksum.status==0 && tcp.checksum != 0xffff)"
    bad += " || icmp.checksum.status==0 || igmp.checksum.status==0"
    command = ["tshark", "-r", str(emulated / "capture.pcap"), *checks, "-Y", bad]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
