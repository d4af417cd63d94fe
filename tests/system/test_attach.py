"""A firewall, a sniffer and a device under test, each a real program in an emulated home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need
from tests.pcap import read_pcap

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "data" / "bench"
NEEDED = ("root", "mnexec", "brctl", "nft", "ip", "bridge", "ifconfig", "setpriv", "unshare", "tcpdump")
CLIENT = """
import sys
import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda *told: print("connected:", told[3], flush=True)
client.connect(sys.argv[1], 1883, 10)
client.loop_forever()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen seconds of the bench, in real time, with the programs of the topology `guests`."""
    need(*NEEDED)
    place = tmp_path_factory.mktemp("guests")
    (place / "client.py").write_text(CLIENT)
    words = ["run", "blip", "--topology", "guests", "--models", BENCH, "--world", "emulation"]
    words += ["--clock", "real", "--until", "15s", "--out", place / "run"]
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "GUEST": f"{sys.executable} {place / 'client.py'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return place / "run"


def test_a_firewall_on_the_router_is_felt_by_the_device_it_names(folder: Path) -> None:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    plug = [e["outcome"] for e in events if e["device"] == "hs110_plug" and e.get("protocol") == "HTTPS"]
    assert plug and set(plug) == {"refused"}
    others = [e["outcome"] for e in events if e.get("protocol") in ("MQTT", "NTP")]
    assert len(others) > 5 and set(others) == {"ok"}


def test_a_device_under_test_uses_the_homes_names_and_servers(folder: Path) -> None:
    assert "connected: Success" in (folder / "program-3-guest.log").read_text()
    manifest = json.loads((folder / "run.json").read_text())
    mac = next(bytes.fromhex(d["mac"].replace(":", "")) for d in manifest["devices"] if d["name"] == "guest")
    said = [packet.frame for packet in read_pcap(folder / "capture.pcap") if packet.frame[6:12] == mac]
    assert any(frame[36:38] == b"\0\x35" for frame in said), "its queries are in the capture"
    assert any(frame[36:38] == (1883).to_bytes(2, "big") for frame in said)


def test_a_sniffer_on_the_router_sees_the_lan(folder: Path) -> None:
    seen = {packet.frame for packet in read_pcap(folder / "lan.pcap")}
    captured = [packet.frame for packet in read_pcap(folder / "capture.pcap")]
    assert len(captured) > 40
    assert sum(frame in seen for frame in captured) > 0.9 * len(captured)


def test_the_machines_own_resolver_stays(folder: Path) -> None:
    assert "192.168.1.1" not in Path("/etc/resolv.conf").read_text()
    assert not (folder / "resolv.conf").exists()
