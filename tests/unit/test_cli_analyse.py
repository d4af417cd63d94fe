from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.cli import main
from tests.unit.captures import CLOUD, Home, save

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def capture(tmp_path: Path) -> str:
    home = Home()
    home.dhcp(0, "request")
    home.lookup(1, "cloud.example", CLOUD)
    home.session(2, CLOUD, "cloud.example")
    return home.save(tmp_path / "home.pcap")


def test_analyse_writes_a_folder_and_prints_a_summary(
    tmp_path: Path, capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["analyse", capture, "--out", str(out), "--no-figures"]) == 0
    printed = capsys.readouterr().out
    assert "10 frames" in printed and "plug" in printed and "HTTPS" in printed
    assert json.loads((out / "analysis.json").read_text())["frames"] == 10


@pytest.mark.parametrize("arguments", [["--no-figures"], ["--rule", "nonsense"]])
def test_whoever_calls_the_command_keeps_his_search_for_cycles(
    capture: str, tmp_path: Path, arguments: list[str]
) -> None:
    main(["analyse", capture, "--out", str(tmp_path / "out"), "--quiet", *arguments])
    assert gc.isenabled()


def test_an_existing_folder_is_refused_without_force(
    tmp_path: Path, capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["analyse", capture, "--out", out, "--quiet", "--no-figures"]) == 0
    assert main(["analyse", capture, "--out", out, "--quiet", "--no-figures"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["analyse", capture, "--out", out, "--quiet", "--no-figures", "--force"]) == 0


def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path: Path, capture: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert main(["analyse", capture, "--out", str(tmp_path / "mine"), "--force", "--no-figures"]) == 2
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_damaged_capture_is_kept_so_far_and_exits_with_3(
    tmp_path: Path, capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (tmp_path / "home.pcap").read_bytes()
    cut = save(tmp_path / "cut.pcap", data[:-20])
    assert main(["analyse", cut, "--out", str(tmp_path / "out"), "--no-figures"]) == 3
    shown = capsys.readouterr()
    assert "9 frames" in shown.out
    assert "stopped at byte" in shown.err and "record 10" in shown.err
    assert (tmp_path / "out" / "protocols.csv").is_file()


@pytest.mark.parametrize(
    "arguments", [["nowhere.pcap"], [], ["--run", "nowhere"], ["x.pcap", "--rule", "magic"]]
)
def test_mistakes_get_one_message_and_exit_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyse", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err and "Traceback" not in shown.err and not shown.out


@pytest.mark.slow
def test_a_capture_comes_through_a_pipe(tmp_path: Path, capture: str) -> None:
    with open(capture, "rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "testbed", "analyse", "-"],
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "10 frames" in done.stdout


@pytest.mark.slow
def test_starting_up_loads_no_heavy_library(capture: str) -> None:
    code = (
        "import sys; from testbed.cli import main; "
        f"code = main(['analyse', {capture!r}, '--quiet']); "
        "heavy = {'pandas', 'pyarrow', 'scapy', 'matplotlib', 'pydantic', 'simpy'} & set(sys.modules); "
        "sys.exit(f'{heavy} were loaded' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
