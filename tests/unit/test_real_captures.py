"""Captures by third parties, beside the checkout: the counts that came with them, exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.analysis import analyse
from testbed.errors import TestbedError

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "captures"
INDEX: list[dict[str, Any]] = (
    json.loads((FOLDER / "index.json").read_text())["files"] if (FOLDER / "index.json").is_file() else []
)
HOSTILE = sorted(FOLDER.glob("hostile/*"))
RARP = "format-sll2.pcap"
"""Counts a reverse ARP frame (ethertype 0x8035) as ARP, as tshark's dissector does; the rule's
letter is ethertype 0x0806."""

pytestmark = pytest.mark.skipif(not INDEX, reason=f"no captures in {FOLDER}")


def entries() -> list[Any]:
    return [pytest.param(entry, id=entry["file"]) for entry in INDEX]


@pytest.mark.parametrize("entry", entries())
def test_packets_and_bytes_of_each_service_are_exact(entry: dict[str, Any]) -> None:
    result = analyse(FOLDER / entry["file"])
    expected = dict(entry["services_by_port"])
    if entry["file"] == RARP:
        expected["arp"] = {"packets": 1, "bytes": 48}
        expected["non-ip"] = {"packets": 1, "bytes": 48}
    assert result.services_by_port == expected
    assert (result.frames, result.bytes) == (entry["packets"], entry["bytes_on_wire"])
    assert not result.damaged


@pytest.mark.parametrize("entry", entries())
def test_bytes_of_each_window_are_exact(entry: dict[str, Any]) -> None:
    ledger = analyse(FOLDER / entry["file"]).ledger
    assert ledger is not None
    windows: dict[int, list[int]] = {}
    for cell in ledger.cells:
        amounts = windows.setdefault(int(cell["window"]) * 900, [0, 0])
        amounts[0] += int(cell["packets"])
        amounts[1] += int(cell["bytes"])
    assert {start: tuple(amounts) for start, amounts in windows.items()} == {
        start: (packets, size) for start, packets, size in entry["bins_900s_epoch"]
    }


@pytest.mark.parametrize(
    "entry", [entry for entry in INDEX if entry.get("linktype") == 1], ids=lambda entry: entry["file"]
)
def test_each_station_sent_what_was_counted(entry: dict[str, Any]) -> None:
    result = analyse(FOLDER / entry["file"])
    macs = {device.mac: device.device for device in result.devices}
    sent: dict[str, int] = {}
    for row in result.protocols:
        if row.layer == "transport" and row.direction == "sent":
            sent[row.device] = sent.get(row.device, 0) + row.packets
    for mac, counts in entry["devices_by_mac"].items():
        if mac in macs:
            assert sent.get(macs[mac], 0) == counts["tx_packets"], mac


@pytest.mark.parametrize("entry", entries())
def test_names_of_dns_answers_are_found(entry: dict[str, Any]) -> None:
    result = analyse(FOLDER / entry["file"])
    assert result.ledger is not None
    tables = result.ledger.tables
    texts = {tables.text(number).lower() for number in range(1, len(tables.facts))}
    missing = {
        answer["name"].lower() for answer in entry["dns_answers"] if answer["a"] or answer["aaaa"]
    } - texts
    assert not missing


@pytest.mark.parametrize(
    "entry", [entry for entry in INDEX if entry["periodic_events"]], ids=lambda entry: entry["file"]
)
def test_events_that_repeat_are_found(entry: dict[str, Any]) -> None:
    result = analyse(FOLDER / entry["file"])
    macs = {device.device: device.mac for device in result.devices}
    macs["router"] = next(iter(result.gateway["macs"]), None)
    found = [(macs.get(row.device, row.device), row.period_s) for row in result.periods]
    for event in entry["periodic_events"]:
        spread = (event["q3"] - event["q1"]) / event["median_interval_s"]
        if event["bursts"] < 8 or spread > 0.02 or event["median_interval_s"] < 5:
            continue  # listed by a laxer rule than ours: few and uneven
        assert any(
            mac == event["device"] and period == pytest.approx(event["median_interval_s"], rel=0.02)
            for mac, period in found
        ), event


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in HOSTILE])
def test_malformed_files_end_in_a_result_or_a_message(path: Path) -> None:
    try:
        result = analyse(path)
    except TestbedError as error:
        assert path.name in str(error)
        return
    assert sum(result.protocol_packets.values()) == result.frames
    for damage in result.damages:
        assert damage.why and damage.byte <= 10 * path.stat().st_size
