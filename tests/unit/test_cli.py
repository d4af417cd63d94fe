"""The commands: help for each, light to start, one message and the right exit code for a mistake."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.cli import VERBS, main

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests" / "data" / "small"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it wrote."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0
    assert out.startswith(f"Usage: testbed {verb}")
    summary = out.split("\n\n")[1].strip()
    assert summary[0].isupper()
    assert len(summary) > 20


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for verb, summary in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(summary)}$", out, re.MULTILINE)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from testbed.cli import main; main(['--help']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"numpy", "numba", "pandas", "pyarrow", "pydantic", "scapy", "simpy", "yaml", "rich", "dnslib"}
    assert heavy & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["run", "blink"], "Missing option '--out'"),
        (["run", "blnik", "--models", SMALL, "--out", "x"], "unknown scenario 'blnik'; did you mean 'blink'?"),
        (["run", "blink", "--models", "/nowhere", "--out", "x"], "/nowhere: no such folder of models"),
        (["run", "blink", "--models", SMALL, "--out", "x", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["run", "blink", "--models", SMALL, "--out", "x", "--until", "-5m"], "must not be negative (got '-5m')"),
        (["run", "blink", "--models", SMALL, "--out", "x", "--until", "5"], "cannot read '5'; write it like 90s or 6h"),
        (["run", "blink", "--models", SMALL, "--out", "x", "--until", "1h"], "not within the scenario, which lasts 10m"),
        (["run", "blink", "--models", SMALL, "--out", "x", "--clock", "real"], "--clock real needs --world emulation"),
        (["run", "blink", "--models", SMALL, "--out", "x", "--topology", "nok"],
         "unknown topology 'nok'; did you mean 'nook'?"),
        (["show", "device", "lmap", "--models", SMALL], "unknown device 'lmap'; did you mean 'lamp'?"),
        (["list", "gadgets"], "'gadgets' is not one of 'devices', 'topologies', 'scenarios'"),
        (["export", "/nowhere"], "/nowhere: is not a run folder: it has no capture.pcap"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_message_with_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_model_is_told_by_file_line_and_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (SMALL / "lamp.yaml").read_text().replace("every: 20s", "evry: 20s")
    (tmp_path / "lamp.yaml").write_text(text)
    code, _, err = call(capsys, "show", "device", tmp_path / "lamp.yaml")
    line = text.splitlines().index("    evry: 20s") + 1
    assert code == 2
    assert f"error: {tmp_path}/lamp.yaml:{line}: habits[1].evry: unknown key; did you mean 'every'?" in err


def test_lists_show_names_and_titles(capsys: pytest.CaptureFixture[str]) -> None:
    assert "lamp" in call(capsys, "list", "devices", "--models", SMALL)[1]
    assert re.search(
        r"nook +1 +2 +A nook with a lamp", call(capsys, "list", "topologies", "--models", SMALL)[1]
    )
    scenarios = call(capsys, "list", "scenarios", "--models", SMALL)[1]
    assert re.search(r"blink +2018-04-03 00:00 +10m +3 +The Internet blinks", scenarios)
    assert "internet-outage" in scenarios


def test_show_names_every_value_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "show", "device", "lamp", "--models", SMALL)
    assert code == 0
    assert "every: 20s  # assumed: an example" in out
    assert "delay: 1ms" in out  # a default
    code, out, _ = call(capsys, "show", "device", "lamp", "--models", SMALL, "--json")
    assert json.loads(out)["habits"][1]["every"] == 20.0


@pytest.mark.parametrize("kind", ["device", "topology", "scenario"])
def test_schemas_are_json(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    code, out, _ = call(capsys, "schema", kind)
    assert code == 0
    assert json.loads(out)["additionalProperties"] is False


@pytest.mark.slow
def test_a_run_leaves_its_folder_and_says_what_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, told, err = call(capsys, "run", "blink", "--models", SMALL, "--out", out)
    assert (code, err) == (0, "")
    assert re.search(r"^lamp +\d+ ", told, re.MULTILINE)
    assert "blink: 10m of virtual time" in told
    files = {"capture.pcap", "events.jsonl", "labels.parquet", "places.mmdb", "run.json"}
    assert {path.name for path in out.iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

    before = (out / "capture.pcap").read_bytes()
    code, _, err = call(capsys, "run", "blink", "--models", SMALL, "--out", out, "--seed", 2)
    assert code == 2
    assert "exists already" in err
    assert (out / "capture.pcap").read_bytes() == before
    assert call(capsys, "run", "blink", "--models", SMALL, "--out", out, "--force", "--quiet")[:2] == (0, "")
    assert (out / "capture.pcap").read_bytes() == before, "same seed, same bytes"
    assert call(capsys, "run", "blink", "--models", SMALL, "--out", out, "--force", "--seed", 2)[0] == 0
    assert (out / "capture.pcap").read_bytes() != before


@pytest.mark.slow
def test_until_ends_the_run_early(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, told, _ = call(
        capsys, "run", "blink", "--models", SMALL, "--out", tmp_path / "run", "--until", "5m"
    )
    assert code == 0
    assert "blink: 5m of virtual time" in told
    states = json.loads((tmp_path / "run" / "run.json").read_text())["states"]
    assert [state["name"] for state in states] == ["before", "gone"]


@pytest.mark.slow
def test_ctrl_c_keeps_what_there_is_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "scenarios").mkdir(parents=True)
    text = (SMALL / "scenarios" / "blink.yaml").read_text().replace("duration: 10m", "duration: 300w")
    (folder / "scenarios" / "blink.yaml").write_text(text)
    words = ["run", "blink", "--models", folder, "--models", SMALL, "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "testbed", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    partial = tmp_path / f".run.partial-{process.pid}" / "capture.pcap"
    for _ in range(400):
        if partial.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(
        r"error: the run was cut short at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC of virtual time", err
    )
    assert json.loads((tmp_path / "run" / "run.json").read_text())["complete"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "run"]


@pytest.mark.slow
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    words = ["run", "blink", "--models", SMALL, "--out", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*[Ff]ile too large.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_doctor_tells_what_is_missing_and_what_mends_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("testbed.cli.machine._COMMANDS", {"no-such": ("its-package", ("tests",))})
    code, out, _ = call(capsys, "doctor", "--json")
    found = json.loads(out)
    check = next(check for check in found["checks"] if check["name"] == "no-such")
    assert check == {
        "name": "no-such",
        "ok": False,
        "found": "not installed",
        "needed_for": ["tests"],
        "mend": "sudo apt-get install its-package",
    }
    assert found["can"]["tests"] is False
    assert code == (0 if found["can"]["simulation"] else 1)
    _, told, _ = call(capsys, "doctor")
    assert (
        "missing  no-such: not installed\n         needed for tests; mend it: sudo apt-get install its-package"
        in told
    )


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "schema", "device"],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    os.close(writing)
    assert b"Traceback" not in done.stderr


def test_doctor_knows_what_the_emulation_and_the_tests_use() -> None:
    from testbed.cli.machine import _COMMANDS
    from testbed.emulation.requirements import _PROGRAMS
    from tests.conftest import PACKAGES

    looked_for = {name: package for name, (package, _) in _COMMANDS.items()}
    assert looked_for == PACKAGES
    assert _PROGRAMS.items() <= looked_for.items()
    assert {name for name, (_, needs) in _COMMANDS.items() if "emulation" in needs} == set(_PROGRAMS)


def test_a_message_too_small_for_its_headers_is_the_models_mistake(tmp_path: Path) -> None:
    shipped = (ROOT / "device_models" / "nest_protect.yaml").read_text()
    models = tmp_path / "device_models"
    models.mkdir()
    (models / "nest_protect.yaml").write_text(shipped.replace("times: 2, up: 60B", "times: 2, up: 30B"))
    words = ["run", "all-states", "--until", "1h", "--models", str(tmp_path), "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "testbed", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "'nest_protect': habit 'weave': a Weave message has 58 to 65537 bytes, 30 were" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
