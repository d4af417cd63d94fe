"""`testbed device`: one device on a real interface, among programs of others, leaving no trace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from testbed.protocols import certs
from tests.conftest import need
from tests.lab import NETWORK, ROUTER, Lab, lab, until
from tests.machine import processes_with
from tests.pcap import read_pcap

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
MARK = "TESTBED_TEST_RUN"
QUICK = """
name: quick
title: A device that is there at once
vendor: Nobody
hub_or_sensor: S
oui: "02:00:5e"
boot: 100ms
link: {medium: ethernet, associate: 100ms, sources: {associate: "assumed: an example"}}
sources: {boot: "assumed: an example"}
habits:
  - {behaviour: dhcp_lease, name: dhcp, first_delay: 0, sources: {first_delay: "assumed: an example"}}
  - behaviour: short_session
    name: reports
    every: 500ms
    endpoints: [{host: reports.example.com}]
    burst: {up: 500B, down: 9kB}
    sources: {"every, endpoints, burst": "assumed: an example"}
"""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Lab]:
    need("root", "unshare", "setpriv", "ip", "nft", "dnsmasq", "nsenter")
    chain = certs.chain("reports.example.com", 4600)
    (tmp_path / "server.pem").write_bytes(chain.pem + chain.key_pem)
    (tmp_path / "quick.yaml").write_text(QUICK)
    with lab(tmp_path) as built:
        yield built


@contextmanager
def device(network: Lab, model: str, *words: Any) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a device on the machine; gives the process and the file of what it prints."""
    command = [sys.executable, "-m", "testbed", "device", model, "--interface", "eth9", *words]
    said = network.folder / f"said-{time.monotonic_ns()}.txt"
    with (
        said.open("wb") as output,
        subprocess.Popen(
            network.inside(network.machine, *command, "--models", network.folder),
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, MARK: str(network.folder), "PYTHONUNBUFFERED": "1"},
        ) as child,
    ):  # fmt: skip
        try:
            yield child, said
        finally:
            child.kill()


def promiscuity(network: Lab) -> int:
    found = re.search(r"promiscuity (\d+)", network.on_machine("ip", "-details", "link", "show", "eth9"))
    assert found is not None
    return int(found[1])


def test_a_plug_lives_on_a_real_network(network: Lab, tmp_path: Path) -> None:
    need("tcpdump", "tshark")
    log = network.start_services()
    seen = tmp_path / "seen.pcap"
    network.beside("tcpdump.log", "tcpdump", "-i", "lab0", "-U", "--immediate-mode", "-w", seen)
    before = network.machine_state()
    with device(network, "hs110_plug", "--out", tmp_path / "run") as (child, said):
        until(lambda: re.search(r"cloud +HTTPS devs.tplinkcloud.com ok", said.read_text()), 40)
        assert promiscuity(network) == 1
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0, said.read_text()
    assert network.machine_state() == before
    told = said.read_text()
    assert re.search(r"dhcp +DHCP dhcp ok", told)
    assert re.search(r"time +NTP \S+ ok", told)
    assert "warning" not in told
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    (entry,) = manifest["devices"]
    assert f"DHCPACK(lab0) {entry['ip']} {entry['mac']}" in log.read_text()
    assert re.search(rf"query\[A\] \S+ from {entry['ip']}", log.read_text())
    assert entry["ip"].startswith(f"{NETWORK}.") and entry["mac"].startswith("50:c7:bf:")
    assert (manifest["router"]["ip"], manifest["router"]["lan"]) == (ROUTER, f"{NETWORK}.0/24")
    assert manifest["router"]["mac"] in network.on_network("ip", "link", "show", "lab0")
    ours = read_pcap(tmp_path / "run" / "capture.pcap")
    mac = bytes.fromhex(entry["mac"].replace(":", ""))
    sent = [packet.frame for packet in ours if packet.frame[6:12] == mac]
    assert len(sent) > 15
    until(lambda: set(sent) <= {packet.frame for packet in read_pcap(seen)}, 10)  # tcpdump may be behind
    assert max(len(packet.frame) for packet in ours) <= 1514
    labels = pq.read_table(tmp_path / "run" / "labels.parquet").to_pandas()
    assert len(labels) == len(ours) == manifest["frames"]
    assert {"dhcp", "time", "cloud", "kernel"} == set(labels["behaviour"])
    assert set(labels["device"]) == {"hs110_plug"}
    bad = "_ws.malformed || ip.checksum.status==0 || udp.checksum.status==0 || tcp.checksum.status==0"
    checks = [f"-o{kind}.check_checksum:TRUE" for kind in ("ip", "tcp", "udp")]
    command = ["tshark", "-r", str(tmp_path / "run" / "capture.pcap"), *checks, "-Y", bad]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
    analyse = ["analyse", tmp_path / "run" / "capture.pcap", "--run", tmp_path / "run", "--no-figures"]
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *map(str, analyse), "--out", str(tmp_path / "analysis")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_killed_device_leaves_nothing(network: Lab) -> None:
    network.start_services()
    before = network.machine_state()
    for how in (signal.SIGKILL, signal.SIGTERM):
        with device(network, "quick") as (child, said):
            until(lambda said=said: "HTTPS reports.example.com ok" in said.read_text())
            assert promiscuity(network) == 1
            child.send_signal(how)
            child.wait(20)
        until(lambda: not processes_with(f"{MARK}={network.folder}"))
        until(lambda: promiscuity(network) == 0)
        assert network.machine_state() == before
    assert not list(Path("/tmp").glob("mn*"))


def test_servers_certificates_are_verified_if_asked(network: Lab, tmp_path: Path) -> None:
    network.start_services()
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(certs.root_pem())
    with device(network, "quick", "--ca", authorities) as (_, said):
        until(lambda: "HTTPS reports.example.com ok" in said.read_text())
    chain = certs.chain("someone.else.example", 4600)
    other = tmp_path / "other.pem"
    other.write_bytes(chain.pem)  # a server's certificate is no authority
    with device(network, "quick", "--ca", other) as (_, said):
        until(lambda: said.read_text().count("HTTPS reports.example.com lost") == 2)
        assert "HTTPS reports.example.com ok" not in said.read_text()


def test_the_cable_is_felt_and_an_interface_that_goes_away_ends_it(network: Lab, tmp_path: Path) -> None:
    network.start_services()
    with device(network, "quick", "--out", tmp_path / "run") as (child, said):
        until(lambda: "HTTPS reports.example.com ok" in said.read_text())
        network.on_network("ip", "link", "set", "lab0", "down")
        until(lambda: "link down" in said.read_text())
        network.on_network("ip", "link", "set", "lab0", "up")
        until(lambda: said.read_text().count("link up") == 2)
        until(lambda: "HTTPS reports.example.com ok" in said.read_text().rsplit("link up")[-1])
        network.on_machine("ip", "link", "delete", "eth9")
        assert child.wait(20) == 1
    assert "warning: the interface eth9 is gone" in said.read_text()
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not manifest["complete"]
    assert len(read_pcap(tmp_path / "run" / "capture.pcap")) == manifest["frames"] > 30


def test_without_a_dhcp_server_it_says_so(network: Lab) -> None:
    with device(network, "quick", "--for", "1500ms") as (child, said):
        assert child.wait(20) == 1
    assert "error: it got no lease: no DHCP server answers on eth9" in said.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quick", "--interface", "eht9"], "there is no interface 'eht9'; did you mean 'eth9'?"),
        (["quick", "--interface", "lo"], "lo is no Ethernet interface"),
        (["hive_motion", "--interface", "eth9"], "speaks through its hive_hub"),
        (["quik", "--interface", "eth9"], "unknown device 'quik'; did you mean 'quick'?"),
        (["quick", "--interface", "eth9", "--mac", "1234"], "--mac: cannot read '1234'"),
        (["quick", "--interface", "eth9", "--name", "My plug"], "--name: cannot be 'My plug'"),
    ],
)
def test_mistakes_are_told(network: Lab, words: list[str], told: str) -> None:
    command = [sys.executable, "-m", "testbed", "device", *words, "--models", str(network.folder)]
    done = subprocess.run(
        network.inside(network.machine, *command), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_a_device_on_a_cable_lives_in_an_emulated_home(network: Lab, tmp_path: Path) -> None:
    """The home on one end (`run --attach`), a lone device on the other: lease, names, broker, outage."""
    need("mnexec", "brctl", "bridge", "ifconfig")
    bench = ROOT / "tests" / "data" / "bench"
    before = network.machine_state()
    words = ["run", "blip", "--models", bench, "--world", "emulation", "--clock", "real", "--seed", "3"]
    words += ["--attach", "eth9", "--out", tmp_path / "home", "--quiet"]
    home = subprocess.Popen(
        network.inside(network.machine, sys.executable, "-m", "testbed", *words),
        cwd=ROOT, env={**os.environ, MARK: str(network.folder)},
    )  # fmt: skip
    guest = ["device", "foobot", "--name", "guest", "--interface", "lab0", "--out", tmp_path / "guest"]
    with home:
        until(lambda: promiscuity(network) == 1)
        done = subprocess.run(
            network.inside(network.network, sys.executable, "-m", "testbed", *guest, "--for", "38s"),
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert home.wait(60) == 0
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "guest" / "events.jsonl").read_text().splitlines()
    outcomes = [event["outcome"] for event in map(json.loads, lines) if event.get("protocol") == "MQTT"]
    assert outcomes.count("ok") > 5
    lost = next(at for at, outcome in enumerate(outcomes) if outcome != "ok")
    assert "ok" in outcomes[lost:], "it came back after the home's outage"
    labels = pq.read_table(tmp_path / "home" / "labels.parquet").to_pandas()
    assert (labels["device"] == "eth9").sum() > 40
    sent = {packet.frame for packet in read_pcap(tmp_path / "guest" / "capture.pcap")}
    seen = {packet.frame for packet in read_pcap(tmp_path / "home" / "capture.pcap")}
    assert len(sent & seen) > 0.9 * len(sent)
    assert network.machine_state() == before
