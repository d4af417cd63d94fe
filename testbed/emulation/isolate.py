"""Run an emulation in namespaces of its own, so that no exit of any kind leaves anything behind.

The run re-executes this program under ``unshare``: its own network, process and mount namespaces.
When the first process in there ends, by whatever cause, the kernel ends the others and takes every
interface, rule and setting away with the namespaces; and it ends when this process does.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from testbed.emulation.requirements import require
from testbed.errors import UserError, WorldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from testbed.emulation.run import Clock
    from testbed.models import DeviceModel, Scenario, Topology
    from testbed.scenario.manifest import RunSummary

_LOOK_S = 0.1
_ENDS_WITHIN_S = 60.0
_COMMAND = (
    "setpriv", "--pdeathsig", "KILL", "--",
    "unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child", "--",
)  # fmt: skip


class Work(Protocol):
    """What can be done in namespaces of its own; it travels there pickled."""

    def play(self, tell: Callable[[Any], None], stop: Callable[[], bool]) -> Any:
        """Do it, telling how it goes, and ending early once `stop()` is true; return what it came to."""


def run_emulation(
    scenario: Scenario,
    topology: Topology,
    devices: Mapping[str, DeviceModel],
    *,
    seed: int,
    out: Path,
    clock: Clock = "virtual",
    speed: float = 1.0,
    until_s: float | None = None,
    progress: Callable[[float, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
    exec_: Sequence[tuple[str, str]] = (),
    attach: Sequence[str] = (),
    shell: bool = False,
) -> RunSummary:
    """Play `scenario` over real sockets in Mininet hosts and write the run's files into `out`.

    `out` must exist. `devices` maps model names to models. Under the `virtual` clock time leaps over
    what is idle; under the `real` one an hour takes an hour, divided by `speed`, and programs may
    run beside: `exec_` holds pairs (host, shell command); a program in the host of a service stands
    in for that service. The networks behind the real interfaces `attach` are joined to the LAN. With
    `shell` the terminal gets Mininet's command line, whose end is the
    run's. `until_s` ends the capture early; `progress` is told (done, total) seconds
    of the run's time; when `stop` returns True the run ends at that moment with complete files.
    Raises WorldError when the machine lacks something, UserError for a request that cannot be.
    """
    from testbed.emulation.run import Plan
    from testbed.emulation.wire import Wire

    if clock not in ("virtual", "real"):
        raise UserError(f"there is no clock '{clock}'; valid: real, virtual")
    if clock == "virtual" and (exec_ or attach or shell):
        raise UserError("programs beside, and real networks, need real time: add --clock real")
    if clock == "virtual" and speed != 1.0:
        raise UserError("a speed applies to the real clock; the virtual one is as fast as it can be")
    if speed <= 0:
        raise UserError(f"the speed must be positive (got {speed:g})")
    require()
    wires = [Wire(interface) for interface in attach]
    joined = tuple((wire.interface, wire.fd) for wire in wires)
    plan = Plan(scenario, topology, devices, seed, out, clock, speed, until_s, tuple(exec_), shell, joined)

    def tell(at: tuple[float, float]) -> None:
        if progress is not None:
            progress(*at)

    try:
        summary: RunSummary = isolated(
            plan, tell, stop, terminal=shell, keep=[wire.fd for wire in wires]
        )  # fmt: skip
    finally:
        for wire in wires:
            wire.socket.close()
    return summary


def isolated(
    work: Work,
    told: Callable[[Any], None],
    stop: Callable[[], bool] | None = None,
    *,
    terminal: bool = False,
    keep: Sequence[int] = (),
) -> Any:
    """Do `work` in namespaces of its own and return what it came to.

    `told` hears what it tells meanwhile. With `terminal` it has this terminal; descriptors in `keep`
    are its own, too, under the same numbers. Raises what it raised, WorldError when it just ended.
    """
    ours, theirs = socket.socketpair()
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    command = [*_COMMAND, sys.executable, "-m", "testbed.emulation.inside", str(theirs.fileno())]
    with subprocess.Popen(
        command,
        pass_fds=(theirs.fileno(), *keep),
        env=environment,
        stdin=None if terminal else subprocess.DEVNULL,
        start_new_session=not terminal,  # the terminal's Ctrl-C is this process's to handle
    ) as child:
        theirs.close()
        try:
            with Connection(ours.detach()) as line:
                return _follow(line, work, told, stop)
        except (EOFError, ConnectionError):
            raise WorldError(f"the emulation ended unexpectedly (exit code {child.wait()})") from None
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait until the namespaces are gone; their first process ends when the line to it is closed."""
    try:
        child.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _follow(
    line: Connection, work: Work, told: Callable[[Any], None], stop: Callable[[], bool] | None
) -> Any:  # fmt: skip
    """Hand the work over and listen until it is over."""
    line.send_bytes(pickle.dumps(work))
    asked = False
    while True:
        if line.poll(_LOOK_S):
            kind, content = line.recv()
            if kind == "done":
                return content
            if kind == "failed":
                raise content
            if kind == "crashed":
                raise RuntimeError(f"the emulation crashed:\n{content}")
            told(content)
        if stop is not None and not asked and stop():
            asked = True
            line.send("stop")
