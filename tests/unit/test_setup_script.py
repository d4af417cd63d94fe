"""`tools/setup.sh` mends what a machine lacks, or says how, and does nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """\
#!/bin/bash
# A Debian Python 3.12 without python3-venv, until the file `mended` appears.
case "$*" in
  *"< (3, 11)"*) exit 0 ;;
  *ensurepip*) [ -e "$FAKES/mended" ] ;;
  *%d.%d*) echo 3.12 ;;
  *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *sys.prefix*) realpath "$(dirname "$0")/.." ;;
  *"pip install"*) echo "pip $*" >>"$FAKES/log" ;;
esac
"""
APT = """\
#!/bin/bash
echo "apt-get $*" >>"$FAKES/log"
touch "$FAKES/mended"
"""


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """Give a checkout in `clone` and fake commands in `bin`; what they were asked is in `log`."""
    clone, folder = tmp_path / "clone", tmp_path / "bin"
    folder.mkdir()
    shutil.copytree(ROOT / "tools", clone / "tools")
    shutil.copy(ROOT / "pyproject.toml", clone)
    for name, text in (("python3", PYTHON), ("apt-get", APT)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (tmp_path / "log").touch()
    return tmp_path


def setup(fakes: Path, what: str, *, root: bool) -> subprocess.CompletedProcess[str]:
    (fakes / "bin" / "id").write_text(f"#!/bin/sh\necho {0 if root else 1000}\n")
    (fakes / "bin" / "id").chmod(0o755)
    environment = {"PATH": f"{fakes}/bin:{os.environ['PATH']}", "FAKES": str(fakes)}
    words = ["bash", "tools/setup.sh", what]
    return subprocess.run(words, cwd=fakes / "clone", env=environment, capture_output=True, text=True)


def test_without_venv_and_root_it_says_what_to_install(fakes: Path) -> None:
    done = setup(fakes, "run", root=False)
    assert done.returncode == 1
    assert "sudo apt-get install python3.12-venv" in done.stderr
    assert (fakes / "log").read_text() == ""


def test_without_venv_root_installs_it_and_goes_on(fakes: Path) -> None:
    done = setup(fakes, "run", root=True)
    assert done.returncode == 0, done.stderr
    assert "installing the Debian packages python3.12-venv" in done.stdout
    first, second = (fakes / "log").read_text().splitlines()
    assert first.startswith("apt-get install")
    assert first.endswith("python3.12-venv")
    assert second.startswith("pip") and second.endswith("--editable .")


def test_nothing_is_done_twice_unless_something_changed(fakes: Path) -> None:
    setup(fakes, "run", root=True)
    (fakes / "log").write_text("")
    done = setup(fakes, "run", root=True)
    assert (done.returncode, done.stdout, (fakes / "log").read_text()) == (0, "", "")
    with (fakes / "clone" / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    setup(fakes, "run", root=True)
    assert "--editable ." in (fakes / "log").read_text()


def test_a_moved_environment_is_made_anew(fakes: Path) -> None:
    setup(fakes, "run", root=True)
    (fakes / "clone" / ".venv" / "bin" / "python").write_text("#!/nowhere/python\n")
    assert "making .venv" in setup(fakes, "run", root=True).stdout


def test_missing_system_packages_are_named_to_who_may_not_install_them(fakes: Path) -> None:
    (fakes / "mended").touch()
    with (fakes / "clone" / "tools" / "system-packages.txt").open("a") as file:
        file.write("no-such-command its-package\n")
    done = setup(fakes, "test", root=False)
    assert done.returncode == 0
    assert "some tests will be skipped; for all of them run: sudo apt-get install" in done.stdout
    assert "its-package" in done.stdout
    assert "apt-get" not in (fakes / "log").read_text()


def test_only_what_is_missing_is_installed(fakes: Path) -> None:
    (fakes / "mended").touch()
    listed = "bash bash\nno-such-command its-package\n"
    (fakes / "clone" / "tools" / "system-packages.txt").write_text(listed)
    assert setup(fakes, "test", root=True).returncode == 0
    asked = (fakes / "log").read_text().splitlines()[0]
    assert asked.endswith("--no-install-recommends its-package")


def test_a_machine_without_python_is_told_so(fakes: Path) -> None:
    (fakes / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")
    for version in ("3.11", "3.12", "3.13", "3.14"):
        shutil.copy(fakes / "bin" / "python3", fakes / "bin" / f"python{version}")
    done = setup(fakes, "run", root=True)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
