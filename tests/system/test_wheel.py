"""The wheel carries its data: installed in a fresh environment it plays a scenario from any folder."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, with the build tools of this environment."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(words, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_model_topology_and_scenario(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    for folder in ("device_models", "topologies"):
        files = [path for path in (ROOT / folder).rglob("*.yaml")]
        assert files
        for path in files:
            assert f"testbed/data/{path.relative_to(ROOT)}" in names
    assert "testbed/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


@pytest.mark.slow
def test_the_installed_wheel_plays_a_scenario_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    quiet = {"capture_output": True, "check": True, "cwd": elsewhere, "text": True}
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], **quiet
    )
    # The dependencies come from this environment, so that the test downloads nothing; the testbed does not.
    libraries = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], **quiet
    ).stdout.strip()
    Path(libraries, "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    environment = {"PATH": "/usr/bin:/bin"}
    where = subprocess.run(
        [python, "-c", "import testbed; print(testbed.__file__)"], **quiet, env=environment
    )
    assert Path(where.stdout.strip()).is_relative_to(home)
    command = [home / "bin" / "testbed", "run", "internet-outage", "--until", "10m", "--out", "run"]
    subprocess.run(command, **quiet, env=environment)
    manifest = json.loads((elsewhere / "run" / "run.json").read_text())
    assert manifest["scenario"]["name"] == "internet-outage"
    assert (elsewhere / "run" / "capture.pcap").stat().st_size > 24
    listed = subprocess.run([home / "bin" / "testbed", "list", "scenarios"], **quiet, env=environment).stdout
    shipped = {path.stem for path in (ROOT / "topologies" / "scenarios").glob("*.yaml")}
    assert shipped <= set(listed.split())
