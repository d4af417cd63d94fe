"""The warm-up is before time zero, and nothing in it may wait for zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.played import events, frames, play, write_scenario


@pytest.mark.slow
def test_disturbed_connections_of_the_warm_up_leave_the_network_as_it_was(tmp_path: Path) -> None:
    """Each segment of a disturbed connection is followed by itself; the uplink's rate is shared."""
    slow = "action: impair, at: -50m, duration: 30m, device: foobot, link: {delay: 50ms}"
    used = "action: stimulus, at: 14m, device: foobot, kind: used"
    plain = play(tmp_path / "plain", write_scenario(tmp_path, "plain", 0.25, [used]))
    other = play(tmp_path / "other", write_scenario(tmp_path, "other", 0.25, [slow, used]))
    assert events(other, "belief") == [], "nobody finds the Internet back when the capture begins"
    sizes = [frames(run).groupby("device")["bytes"].sum() for run in (plain, other)]
    for device in ("hive_hub", "arlo_base", "google_home_mini"):
        assert sizes[1][device] == pytest.approx(sizes[0][device], rel=0.02), device
