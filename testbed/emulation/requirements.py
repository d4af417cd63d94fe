"""What the emulation needs of the machine, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Iterable

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
OF_A_LONE_DEVICE = ("unshare", "setpriv")
"""The programs that a device alone on a real interface needs: no Mininet."""


_CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21}
"""What root may do outside of containers (linux/capability.h)."""


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("CapEff:")[1].split()[0], 16)


def missing(programs: Iterable[str] = _PROGRAMS, *, simulation_helps: bool = True) -> list[str]:
    """Return what this machine lacks, each with the command that mends it; empty when nothing."""
    found: list[str] = []
    if sys.platform != "linux":
        return [f"Linux (this is {sys.platform}): emulation uses its network namespaces"]
    if os.geteuid() != 0:
        helps = "; the simulation needs no root (--world simulation)" if simulation_helps else ""
        found.append(f"root: run it with sudo{helps}")
    elif taken := [name for name, number in _CAPABILITIES.items() if not _capabilities() >> number & 1]:
        give = " ".join(f"--cap-add {name}" for name in taken)
        found.append(f"{', '.join(taken)}, which this root may not: start the container with {give}")
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        packages = sorted({_PROGRAMS[name] for name in absent})
        found.append(f"{', '.join(absent)}: apt-get install {' '.join(packages)}")
    if not Path("/dev/net/tun").exists():
        found.append("TAP devices (/dev/net/tun): modprobe tun")
    if "mnexec" in programs and find_spec("mininet") is None:
        found.append("the Python package mininet: pip install mininet")
    return found


def require() -> None:
    """Raise WorldError naming everything that is missing for an emulation."""
    if lacks := missing():
        raise WorldError("emulation is not possible on this machine; it lacks\n  " + "\n  ".join(lacks))


def require_for_lone_device() -> None:
    """Raise WorldError naming everything that is missing for a device on a real interface."""
    if lacks := missing(OF_A_LONE_DEVICE, simulation_helps=False):
        raise WorldError("a device cannot be started on this machine; it lacks\n  " + "\n  ".join(lacks))
