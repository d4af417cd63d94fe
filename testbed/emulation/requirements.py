"""What the emulation needs of the machine, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from testbed.errors import WorldError

_PROGRAMS = {
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "ip": "iproute2",
    "bridge": "iproute2",
    "ifconfig": "net-tools",
    "mnexec": "mininet",
    "brctl": "bridge-utils",
    "nft": "nftables",
}
"""Program -> the Debian package that has it."""


def missing() -> list[str]:
    """Return what this machine lacks, each with the command that mends it; empty when nothing."""
    found: list[str] = []
    if sys.platform != "linux":
        return [f"Linux (this is {sys.platform}): emulation uses its network namespaces"]
    if os.geteuid() != 0:
        found.append("root: run it with sudo; the simulation needs no root (--world simulation)")
    packages = sorted({package for name, package in _PROGRAMS.items() if shutil.which(name) is None})
    if packages:
        absent = ", ".join(name for name in _PROGRAMS if shutil.which(name) is None)
        found.append(f"{absent}: apt-get install {' '.join(packages)}")
    if not Path("/dev/net/tun").exists():
        found.append("TAP devices (/dev/net/tun): modprobe tun")
    if find_spec("mininet") is None:
        found.append("the Python package mininet: pip install mininet")
    return found


def require() -> None:
    """Raise WorldError naming everything that is missing."""
    if lacks := missing():
        raise WorldError("emulation is not possible on this machine; it lacks\n  " + "\n  ".join(lacks))
