"""Mean rates of a day are those of Table 1; what is seldom or daily is there (sections 3.1 and 3.2)."""

from __future__ import annotations

import pandas as pd
import pytest

from testbed.models.load import load_device
from tests.worlds.played import EIGHT, frames, play

SEVEN = EIGHT[:7]
DAY_S = 86400
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    run = play(tmp_path_factory.mktemp("rates") / "run", "steady-week", until_s=DAY_S)
    return frames(run)


def test_mean_rates_are_those_of_table_1(day: pd.DataFrame) -> None:
    rates = day.groupby("device")["bytes"].sum() / DAY_S
    for device in SEVEN:
        expected = load_device(device).paper.mean_bytes_per_s
        if device == "nest_protect":
            assert 0.01 < rates[device] < 0.04
        else:
            assert rates[device] == pytest.approx(expected, rel=0.1), device


def test_hubs_speak_mostly_https_and_sensors_do_not(day: pd.DataFrame) -> None:
    bytes_ = day.groupby(["device", "protocol"])["bytes"].sum()
    share = bytes_ / bytes_.groupby(level=0).sum()
    hubs = [share[hub, "HTTPS"] for hub in SEVEN[:5]]
    assert min(hubs) > 0.5
    assert share["dlink_motion", "HTTPS"] < min(hubs)
    assert share["foobot", "MQTT"] > 0.5
    no_arp = bytes_.drop("ARP", level=1)
    for hub in ("hive_hub", "arlo_base"):
        assert no_arp[hub, "HTTPS"] / no_arp[hub].sum() > 0.99


def test_dns_is_a_tenth_of_everything(day: pd.DataFrame) -> None:
    """P-3.3-16: four devices' DNS is just under 12 % (9 to 15 %)."""
    eight = day[day["device"].isin([*SEVEN, "dlink_motion"])]
    dns = eight[eight["protocol"] == "DNS"].groupby("device")["bytes"].sum().nlargest(4)
    assert set(dns.index) == {"hs110_plug", "dlink_motion", "google_home_mini", "echo_dot"}
    assert 0.09 < dns.sum() / eight["bytes"].sum() < 0.15
