"""What every test shares: what needs the system is skipped with a reason, but never in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = dict(
    line.split()
    for line in (ROOT / "tools" / "system-packages.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
"""Commands that system tests use, and the Debian package of each."""


def lacking(reason: str) -> None:
    """Skip the running test with a reason; in CI, where everything must be there, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (in CI a skipped system test is a failure)", pytrace=False)
    pytest.skip(reason)


def need(*things: str) -> None:
    """Skip (in CI: fail) the running test unless each command is on the path; `root` is being root."""
    for thing in things:
        if thing == "root":
            if os.geteuid() != 0:
                lacking("needs root")
        elif shutil.which(thing) is None and not Path("/usr/sbin", thing).exists():
            lacking(f"needs {thing}; install it with: apt-get install {PACKAGES.get(thing, thing)}")


@pytest.fixture
def needs() -> Callable[..., None]:
    """Give `need`: ``needs("tshark", "root")`` in a test marked `system`."""
    return need


@pytest.fixture
def root_folder() -> Path:
    """Give the folder of the checkout."""
    return ROOT
