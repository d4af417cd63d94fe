"""Programs that run beside, in the hosts of a run under the real clock."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FOLDER = "TESTBED_RUN"
"""Environment variable that names the run's folder to the programs."""
_ENDS_WITHIN_S = 5.0


@dataclass(frozen=True)
class Beside:
    """A program that is to run in a host."""

    host: str
    command: str
    stands_in: bool = True
    """In the host of a service: answer in place of it."""


def resolve_at(address: str, folder: Path) -> None:
    """Let programs in the hosts ask the resolver at `address`, not this machine's.

    Covers ``/etc/resolv.conf`` in this process's mount namespace, which must be its own; where there
    is no such file, programs find no names anyway. `folder` is written to for a moment.
    """
    here = folder / "resolv.conf"
    here.write_text(f"nameserver {address}\n")
    subprocess.run(["mount", "--bind", here, "/etc/resolv.conf"], stderr=subprocess.DEVNULL, check=False)
    here.unlink()


class Programs:
    """The programs of a run."""

    def __init__(self, wanted: Sequence[Beside], pids: Mapping[str, int], folder: Path) -> None:
        """Start them; `pids` has a process in each host. UserError for an unknown host.

        What a program prints goes to ``program-N-HOST.log`` in `folder`.
        """
        self._running: list[tuple[Beside, subprocess.Popen[bytes], str]] = []
        for program in wanted:
            if program.host not in pids:
                raise UserError(
                    f"there is no host '{program.host}' to run a program in; {nearest(program.host, pids)}"
                )
        for number, program in enumerate(wanted, 1):
            log = folder / f"program-{number}-{program.host}.log"
            with log.open("wb") as output:
                child = subprocess.Popen(
                    ["mnexec", "-a", str(pids[program.host]), "sh", "-c", program.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, FOLDER: str(folder.absolute())},
                    start_new_session=True,
                )
            self._running.append((program, child, log.name))

    def end(self) -> list[str]:
        """End them in good order; return a warning for each that had failed before."""
        failed = [
            f"the program in {program.host} had ended with exit code {child.returncode}; see {log}"
            for program, child, log in self._running
            if child.poll()
        ]
        for _, child, _ in self._running:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        for _, child, _ in self._running:
            try:
                child.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
        return failed
