"""A device may lose its power whatever it is doing: it ends quietly, and starts afresh."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.played import events, play, write_scenario


@pytest.mark.slow
def test_power_goes_in_the_middle_of_a_lookup_or_a_contact(tmp_path: Path) -> None:
    """The D-Link's one thread hangs in lookups without the Internet; Nest registers for ten seconds."""
    off = "action: internet, state: 'off', at: 10m"
    on = "action: internet, state: 'on', at: 30m"
    restarts = [
        f"action: device, device: {name}, state: restart, off_for: 3s, at: {minute}m{second}s"
        for name in ("dlink_motion", "nest_protect")
        for minute, second in ((5, 0), (5, 16), (12, 0), (12, 31), (13, 7), (14, 44), (40, 0), (40, 17))
    ]
    scenario = write_scenario(tmp_path, "power", 1, [off, on, *restarts], warm_up="10m")
    run = play(tmp_path / "run", scenario)
    last = {line["device"]: line["outcome"] for line in events(run, "function")}
    assert last["dlink_motion"] == last["nest_protect"] == "works"
