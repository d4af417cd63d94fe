"""The simulated world repeats itself, keeps devices apart, stops cleanly and labels every frame."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed.models.setup import Setup, load_setup
from testbed.simulation import run as simulation
from testbed.simulation import tape
from testbed.simulation.run import run_simulation
from tests.pcap import Packet, read_pcap
from tests.worlds.played import play

pytestmark = pytest.mark.slow
FILES = ("capture.pcap", "labels.parquet", "events.jsonl", "places.mmdb")


def by_device(run: Path) -> dict[str, list[Packet]]:
    """Return each device's frames, by their labels."""
    devices = pd.read_parquet(run / "labels.parquet", columns=["device"])["device"].tolist()
    packets = read_pcap(run / "capture.pcap")
    assert len(packets) == len(devices)
    result: dict[str, list[Packet]] = defaultdict(list)
    for device, packet in zip(devices, packets, strict=True):
        result[device].append(packet)
    return result


def read(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in FILES]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("all") / "run", "all-states", seed=7)


# --- the same again ---------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_files_and_another_seed_others(everything: Path, tmp_path: Path) -> None:
    assert read(play(tmp_path / "again", "all-states", seed=7)) == read(everything)
    other = read(play(tmp_path / "other", "all-states", seed=8, until_s=600))
    short = read(play(tmp_path / "short", "all-states", seed=7, until_s=600))
    assert all(one != another for one, another in zip(other[:3], short[:3], strict=True))
    assert other[3] == short[3], "the places of the fake Internet do not depend on chance"


def test_neither_batches_nor_dropped_scripts_show_in_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run in many small batches, forgetting scripts after each of them."""
    plain = play(tmp_path / "plain", "internet-outage", seed=5)
    monkeypatch.setattr(simulation, "BATCH_RECORDS", 500)
    monkeypatch.setattr(tape, "SCRIPT_ROWS", 100)
    batched = play(tmp_path / "batched", "internet-outage", seed=5)
    assert (batched / "capture.pcap").read_bytes() == (plain / "capture.pcap").read_bytes()
    assert sorted((batched / "events.jsonl").open()) == sorted((plain / "events.jsonl").open())
    one, other = (pd.read_parquet(run / "labels.parquet").astype(str) for run in (plain, batched))
    assert one.equals(other)


def test_a_run_that_ends_early_is_the_beginning_of_the_whole(everything: Path, tmp_path: Path) -> None:
    short = play(tmp_path / "short", "all-states", seed=7, until_s=4000)
    begin = (short / "capture.pcap").read_bytes()
    assert 0 < len(begin) < 0.4 * (everything / "capture.pcap").stat().st_size
    assert (everything / "capture.pcap").read_bytes().startswith(begin)
    manifest = json.loads((short / "run.json").read_text())
    assert [state["name"] for state in manifest["states"]] == ["steady", "internet-off"]
    assert manifest["states"][-1]["end"].startswith("2018-04-12T15:06:40")


# --- apart ------------------------------------------------------------------------------------

KINDS = (
    "hive_hub", "hs110_plug", "google_home_mini", "echo_dot", "arlo_base", "foobot", "nest_protect",
    "dlink_motion", "smartphone",
)  # fmt: skip


def with_more(setup: Setup, kinds: tuple[str, ...], **wan: Any) -> Setup:
    """Return the setup with further devices at the end, and perhaps another WAN."""
    more = [type(setup.topology.devices[0])(name=f"another_{kind}", model=kind) for kind in kinds]
    topology = setup.topology.model_copy(
        update={
            "devices": (*setup.topology.devices, *more),
            "wan": setup.topology.wan.model_copy(update=wan),
        }
    )
    return setup._replace(topology=topology)


def played(setup: Setup, folder: Path, seed: int) -> Path:
    folder.mkdir()
    run_simulation(*setup, seed=seed, out=folder)
    return folder


def test_a_ninth_device_changes_nobody_elses_frames(everything: Path, tmp_path: Path) -> None:
    setup = with_more(load_setup("all-states"), ("foobot",))
    before, after = by_device(everything), by_device(played(setup, tmp_path / "more", 7))
    assert set(after) - set(before) == {"another_foobot"} and after["another_foobot"]
    for device, frames in before.items():
        assert after[device] == frames, device


def test_another_of_every_kind_changes_nobody_elses_frames(tmp_path: Path) -> None:
    """On an uplink that nothing fills: the lab's is filled by two Google Homes at once."""
    setup = load_setup("all-states")
    before = by_device(played(with_more(setup, (), rate=None), tmp_path / "few", 11))
    after = by_device(played(with_more(setup, KINDS, rate=None), tmp_path / "many", 11))
    assert set(after) - set(before) == {f"another_{kind}" for kind in KINDS}
    for device, frames in before.items():
        assert after[device] == frames, device


def test_two_devices_of_one_kind_do_not_move_in_step(tmp_path: Path) -> None:
    setup = with_more(load_setup("all-states"), ("foobot",))
    folder = tmp_path / "run"
    folder.mkdir()
    run_simulation(*setup, seed=1, out=folder, until_s=1800)
    frames = by_device(folder)
    times = [{packet.time_ns for packet in frames[name]} for name in ("foobot", "another_foobot")]
    assert len(times[0] & times[1]) < 0.01 * len(times[0])


# --- stopped ----------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [1, 12], ids=["in the warm-up", "in the capture"])
def test_a_run_that_is_stopped_leaves_whole_files_and_says_so(tmp_path: Path, looks: int) -> None:
    seen = 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen >= looks

    summary = run_simulation(*load_setup("internet-outage"), seed=5, out=tmp_path, stop=stop)
    manifest = json.loads((tmp_path / "run.json").read_text())
    labels = pd.read_parquet(tmp_path / "labels.parquet")
    packets = read_pcap(tmp_path / "capture.pcap")
    assert not summary.complete and manifest["complete"] is False
    assert len(packets) == len(labels) == summary.frames == manifest["frames"]
    assert (summary.frames > 0) == (looks > 1)
    assert summary.virtual_s == (max(0, looks * 600 - 5400))
    assert any("stopped" in warning for warning in manifest["warnings"])
    whole = play(tmp_path / "whole", "internet-outage", seed=5, until_s=2000)
    assert (whole / "capture.pcap").read_bytes().startswith((tmp_path / "capture.pcap").read_bytes())


# --- labels -----------------------------------------------------------------------------------


def test_every_frame_has_one_label_that_fits_it(everything: Path) -> None:
    labels = pd.read_parquet(everything / "labels.parquet")
    packets = read_pcap(everything / "capture.pcap")
    manifest = json.loads((everything / "run.json").read_text())
    assert labels["frame"].tolist() == list(range(1, len(packets) + 1))
    assert labels["time_ns"].tolist() == [packet.time_ns for packet in packets]
    assert labels["time_ns"].is_monotonic_increasing
    macs = {d["name"]: bytes.fromhex(d["mac"].replace(":", "")) for d in manifest["devices"] if d["mac"]}
    macs["router"] = bytes.fromhex(load_setup("all-states").topology.router.mac.replace(":", ""))
    assert set(labels["device"]) <= set(macs)
    for device, sent, packet in zip(
        labels["device"].tolist(), (labels["direction"] == "sent").tolist(), packets, strict=True
    ):
        source, destination = packet.frame[6:12], packet.frame[:6]
        if sent:
            assert source == macs[device]
        else:
            assert destination in (macs[device], b"\xff" * 6)
            assert source != macs[device]
    assert (labels["behaviour"] != "").all() and (labels["protocol"] != "").all()


def test_states_are_where_the_manifest_says(everything: Path) -> None:
    labels = pd.read_parquet(everything / "labels.parquet")
    manifest = json.loads((everything / "run.json").read_text())
    inside = pd.Series(False, index=labels.index)
    for state in manifest["states"]:
        begin, end = (pd.Timestamp(state[key]).value for key in ("begin", "end"))
        where = (labels["time_ns"] >= begin) & (labels["time_ns"] < end)
        if state["device"] is not None:
            where &= labels["device"] == state["device"]
        assert (labels["state"][where] == state["name"]).all(), state["name"]
        assert where.any() == (state["name"] != "router-off"), state["name"]
        inside |= where
    assert (labels["state"][~inside] == "between").all() and (~inside).any()


def test_nothing_passes_a_router_that_is_off_and_no_device_speaks_while_it_is(everything: Path) -> None:
    packets = by_device(everything)
    begin = pd.Timestamp("2018-04-12T14:00:00Z").value

    def heard(device: str, first_s: float, last_s: float) -> int:
        moments = ((packet.time_ns - begin) / 1e9 for packet in packets[device])
        return sum(first_s < moment < last_s for moment in moments)

    assert [heard(device, 3 * 3600, 3 * 3600 + 645) for device in packets] == [0] * len(packets)
    # #7: the Hive Hub is off for ten seconds from 5 h 10 min 45 s on.
    assert heard("hive_hub", 18_645, 18_655) == 0 < heard("hive_hub", 18_655, 18_955)


def test_exchanges_in_the_log_are_those_of_the_labels(everything: Path) -> None:
    """What went well was seen; the log names the rule behind each further attempt."""
    labels = pd.read_parquet(everything / "labels.parquet")
    seen = set(zip(labels["device"].astype(str), labels["exchange"], strict=True))
    good = retries = explained = 0
    for line in (everything / "events.jsonl").open():
        entry = json.loads(line)
        if entry["event"] != "exchange":
            continue
        if (
            entry["outcome"] in ("ok", "sent") and entry["device"] != "echo_dot"
        ):  # it was elsewhere for a while
            good += 1
            assert (entry["device"], entry["exchange"]) in seen, entry
        if entry["attempt"]:
            retries += 1
            explained += bool(entry.get("why"))
    assert good > 10_000 and retries > 500
    assert explained == retries, "an attempt without a rule"
