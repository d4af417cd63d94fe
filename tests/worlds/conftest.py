"""The `world` fixture: a test that takes it runs in the simulation and in the emulation."""

from __future__ import annotations

import pytest

from tests.conftest import need

WORLDS = ("simulation", pytest.param("emulation", marks=pytest.mark.system))
EMULATION_NEEDS = ("root", "mnexec", "brctl", "nft", "ip", "bridge", "ifconfig", "setpriv", "unshare")


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest) -> str:
    """Give the name of the world; without root the emulation is skipped, in CI that is a failure."""
    if request.param == "emulation":
        need(*EMULATION_NEEDS)
    return str(request.param)
