"""A home as an ordinary Mininet network: a script builds it, `mn` builds it, everything is in reach."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.emulation import topo
from testbed.emulation.topo import HomeTopo
from testbed.errors import UserError
from testbed.scenario.addresses import internet_addresses
from tests.conftest import need

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "data" / "bench"
NEEDED = ("root", "mnexec", "brctl", "nft", "ip", "ifconfig", "unshare", "ping")
ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
KEEP_LIMITS = "; ".join(
    f"mount --bind {part} {part}; mount -o remount,ro,bind {part}"
    for part in ("/proc/sys/fs", "/proc/sys/kernel")
)
"""Mininet would raise limits of the whole machine."""


def alone(command: str) -> str:
    """Run a shell command in namespaces of its own, as if on a machine of its own."""
    path = f"PATH={Path(sys.executable).parent}:$PATH"
    script = f"ip link set lo up; {KEEP_LIMITS}; {path}; {command}; ip -o link"
    done = subprocess.run(
        [*ALONE, "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    said, _, links = done.stdout.rpartition("1: lo:")
    assert links.count("\n") == 1, "Mininet left interfaces"
    return said + done.stderr


def test_the_documented_script_reaches_router_servers_and_pages() -> None:
    need(*NEEDED)
    said = alone(f"{sys.executable} docs/examples/mininet_home.py")
    assert said.count("1 packets transmitted, 1 received") == 3, said
    assert "a page of the cloud: 200" in said


def test_mn_builds_it_from_the_file() -> None:
    need(*NEEDED)
    options = "--switch lxbr --controller none --test pingall"
    said = alone(f"mn --custom {topo.__file__} --topo home,bench,models={BENCH} {options}")
    assert re.search(r"Results: 0% dropped \((\d+)/\1 received\)", said), said


def test_it_has_the_addresses_of_a_run() -> None:
    home = HomeTopo("home")
    assert home.addresses["hs110_plug"] == ["192.168.1.102"]
    for service, found in internet_addresses(home.home).items():
        assert set(home.addresses[f"svc_{service}"]) == {address for address, _ in found}
    assert home.names["devs.tplinkcloud.com"] == home.addresses["svc_tplink_cloud"]
    assert {node for node in home.hosts() if not node.startswith("svc_")} == {
        "router", "hive_hub", "hs110_plug", "google_home_mini", "echo_dot", "arlo_base", "foobot",
        "nest_protect", "dlink_motion", "smartphone",
    }  # fmt: skip
    links = {frozenset((one, other)): info for one, other, info in home.links(withInfo=True)}
    assert links[frozenset(("hs110_plug", "lan"))]["delay"] == "2ms"


def test_a_home_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="unknown topology 'hom'; did you mean 'home'"):
        HomeTopo("hom")
