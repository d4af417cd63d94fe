"""Programs that run beside, in the hosts of a run under the real clock."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from testbed.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def find_hosts(
    programs: Sequence[tuple[str, str]], hosts: Mapping[str, int], services: Mapping[str, int]
) -> list[tuple[int, str, str]]:
    """Return (process in the host, host, command) for each program; UserError for an unknown host."""
    found = []
    for name, command in programs:
        pid = hosts.get(name, services.get(name))
        if pid is None:
            raise UserError(
                f"there is no host '{name}' to run a program in; {nearest(name, {*hosts, *services})}"
            )
        found.append((pid, name, command))
    return found


def start(pid: int, name: str, command: str, log: Path) -> subprocess.Popen[bytes]:
    """Run a shell command in a host's namespace; what it prints goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["mnexec", "-a", str(pid), "sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
