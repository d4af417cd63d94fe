"""What the testbed looks for on a machine. Looks only: nothing is changed or left behind."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

NEEDS = {
    "simulation": "play scenarios in simulation and analyse captures",
    "emulation": "have what the emulation needs: Mininet hosts, real kernel sockets",
    "device": "be one device on a real network (testbed device)",
    "tests": "run all tests, those that compare with other tools included",
}
"""What the checks are for, and how to say it."""

_ON_SOCKETS = ("emulation", "device", "tests")
_COMMANDS = {
    "mnexec": ("mininet", ("emulation", "tests")),
    "brctl": ("bridge-utils", ("emulation", "tests")),
    "ip": ("iproute2", ("emulation", "tests")),
    "bridge": ("iproute2", ("emulation", "tests")),
    "ifconfig": ("net-tools", ("emulation", "tests")),
    "nft": ("nftables", ("emulation", "tests")),
    "setpriv": ("util-linux", _ON_SOCKETS),
    "unshare": ("util-linux", _ON_SOCKETS),
    "tshark": ("tshark", ("tests",)),
    "mosquitto": ("mosquitto", ("tests",)),
    "tcpdump": ("tcpdump", ("tests",)),
    "dnsmasq": ("dnsmasq-base", ("tests",)),
    "nsenter": ("util-linux", ("tests",)),
    "ping": ("iputils-ping", ("tests",)),
    "chromium": ("chromium", ("tests",)),
    "argus": ("argus-server", ("tests",)),
    "ra": ("argus-client", ("tests",)),
    "nfpcapd": ("nfdump", ("tests",)),
}
"""Command -> (Debian package, what needs it)."""


class Check(NamedTuple):
    """One thing that was looked for."""

    name: str
    ok: bool
    found: str
    needed_for: tuple[str, ...]
    mend: str
    """Command, or words, that would mend it; empty when all is well."""


def examine() -> list[Check]:
    """Return all checks, in the order in which they should be mended."""
    commands = [_command(name, package, needs) for name, (package, needs) in _COMMANDS.items()]
    return [_python(), _packages(), _system(), _root(), _namespaces(), _tap(), *commands]


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check(
        "Python", ok, platform.python_version(), tuple(NEEDS), "" if ok else "install Python 3.11 or newer"
    )


def _packages() -> Check:
    """Compare the installed packages with what this one asks for."""
    try:
        wanted = metadata.requires("iot-testbed") or []
    except metadata.PackageNotFoundError:
        mend = f"{sys.executable} -m pip install -e ."
        return Check("Python packages", False, "testbed itself is not installed", tuple(NEEDS), mend)
    missing = []
    names = [re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in wanted if "extra ==" not in line]
    for name in names:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    found = f"without {', '.join(missing)}" if missing else f"all {len(names)} there"
    mend = f"{sys.executable} -m pip install {' '.join(missing)}" if missing else ""
    return Check("Python packages", not missing, found, tuple(NEEDS), mend)


def _system() -> Check:
    ok = platform.system() == "Linux"
    found = f"{platform.system()} {platform.release()}"
    return Check("operating system", ok, found, _ON_SOCKETS, "" if ok else "use a Linux machine")


def _root() -> Check:
    ok = hasattr(os, "geteuid") and os.geteuid() == 0
    mend = "" if ok else f"sudo {sys.executable} -m testbed …"
    return Check(
        "root", ok, "yes" if ok else "no (the simulation and the analyser need none)", _ON_SOCKETS, mend
    )


def _namespaces() -> Check:
    """Make a network, PID and mount namespace that vanish with the command."""
    words = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "true"]
    error = _failure(words)
    mend = "" if not error else "run as root, on a kernel (or in a container) that allows namespaces"
    return Check("network namespaces", not error, error or "can be made", _ON_SOCKETS, mend)


def _tap() -> Check:
    """Make a TAP device in a namespace of its own, which takes it away again."""
    if not Path("/dev/net/tun").exists():
        mend = "modprobe tun (in a container: give it /dev/net/tun)"
        return Check("TAP devices", False, "/dev/net/tun is not there", _ON_SOCKETS, mend)
    error = _failure(["unshare", "--net", "ip", "tuntap", "add", "dev", "doctor0", "mode", "tap"])
    mend = "" if not error else "run as root, with iproute2, on a kernel that allows TAP devices"
    return Check("TAP devices", not error, error or "can be made", _ON_SOCKETS, mend)


def _failure(words: list[str]) -> str:
    """Run a command; return the first line it complained with, nothing when it went well."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=10, check=False, env={**os.environ, "PATH": path}
        )
    except FileNotFoundError:
        return f"{words[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{words[0]}: {error}"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[0]


def _command(name: str, package: str, needs: tuple[str, ...]) -> Check:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    mend = "" if path else f"sudo apt-get install {package}"
    return Check(name, path is not None, path or "not installed", needs, mend)
