"""Play a scenario in emulation and leave the run's folder (see `run_emulation`)."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from testbed.emulation.hands import Hands
from testbed.emulation.loop import NS, Loop
from testbed.emulation.programs import Beside, Programs, resolve_at
from testbed.emulation.recorder import Recorder
from testbed.emulation.shell import run_beside
from testbed.emulation.wire import Wire
from testbed.emulation.world import World
from testbed.scenario.events import EventLog
from testbed.scenario.internet import build_internet, write_places
from testbed.scenario.manifest import RunSummary, programs_left_out, state_spans, write_manifest
from testbed.scenario.timeline import compile_timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from testbed.models import DeviceModel, Scenario, Topology

_TELLS_EVERY_S = 0.2
Clock = Literal["virtual", "real"]


@dataclass(frozen=True)
class Plan:
    """What to play, and how."""

    scenario: Scenario
    topology: Topology
    devices: Mapping[str, DeviceModel]
    seed: int
    out: Path
    clock: Clock = "virtual"
    speed: float = 1.0
    until_s: float | None = None
    exec_: tuple[tuple[str, str], ...] = ()
    """Programs to run beside: (host, command)."""
    shell: bool = False
    """Give the terminal to Mininet's command line meanwhile."""
    attach: tuple[tuple[str, int], ...] = ()
    """Real interfaces that are joined to the LAN: name, descriptor of the socket on it."""

    def play(self, tell: Callable[[tuple[float, float]], None], stop: Callable[[], bool]) -> RunSummary:
        """Play in this process, which must be in namespaces of its own (`testbed.emulation.isolate`)."""
        return _play(self, tell, stop)


def _play(
    plan: Plan, tell: Callable[[tuple[float, float]], None], stop: Callable[[], bool]
) -> RunSummary:  # fmt: skip
    cpus = sorted(os.sched_getaffinity(0))
    chosen = cpus[time.monotonic_ns() // 1000 % len(cpus)]  # runs side by side should not meet on one
    os.sched_setaffinity(0, {chosen})  # what the kernel owes us is then done before we go on
    began = time.monotonic()
    scenario, topology, out = plan.scenario, plan.topology, plan.out
    timeline = compile_timeline(scenario, topology, plan.devices, plan.seed, plan.until_s)
    sites, zone = build_internet(topology)
    log = EventLog(out / "events.jsonl", scenario.begin)
    begin_ns = round(scenario.begin.timestamp()) * NS
    end_ns = begin_ns + timeline.end_ns
    recorder = Recorder(
        out / "capture.pcap",
        out / "labels.parquet",
        state_spans(scenario, timeline.end_ns / NS),
        begin_ns,
        end_ns,
        topology.router.name,
        topology.router.mac,
    )
    loop = Loop(begin_ns + timeline.begin_ns, real=plan.clock == "real", speed=plan.speed)
    programs = [Beside(host, command) for host, command in plan.exec_]
    if loop.real:
        programs[:0] = [Beside(p.host, p.command, p.stands_in) for p in topology.programs]
        resolve_at(str(topology.router.address), out)  # hosts keep what they see of files from now on
    replaced = {program.host for program in programs if program.stands_in}
    wires = [Wire(name, None, socket.socket(fileno=fd)) for name, fd in plan.attach]
    world = World(
        loop, topology, plan.devices, sites, zone, recorder, log, begin_ns, plan.seed, replaced, wires
    )  # fmt: skip
    world.check()
    if not loop.real:
        world.warnings += programs_left_out(topology)
    beside = Programs(programs, {**world.service_pids, **world.host_pids}, out)
    total_s = (timeline.end_ns - timeline.begin_ns) / NS
    told_s = began

    def should_stop() -> bool:
        nonlocal told_s
        if time.monotonic() - told_s > _TELLS_EVERY_S:
            told_s = time.monotonic()
            log.flush()
            tell(((loop.now_ns - begin_ns - timeline.begin_ns) / NS, total_s))
        return stop()

    try:
        hands = Hands(world, timeline, begin_ns)
        hands.start()
        loop.start()
        if plan.shell:
            run_beside(lambda: loop.run(end_ns, should_stop), world, hands)
        else:
            loop.run(end_ns, should_stop)
    finally:
        world.warnings += beside.end()
        recorder.close()
        log.close()
    complete = loop.now_ns >= end_ns
    ended_s = max(0, loop.now_ns - begin_ns) / NS
    warnings = list(world.warnings)
    if plan.shell and not complete:
        warnings.append(f"ended at the command line after {timedelta(seconds=round(ended_s))}")
    elif not complete:
        warnings.append(f"stopped by the user after {timedelta(seconds=round(ended_s))} of virtual time")
    write_places(out / "places.mmdb", sites)
    write_manifest(
        out / "run.json", scenario=scenario, topology=topology, models=plan.devices, macs=world.macs,
        addresses=world.addresses, sites=sites, seed=plan.seed, world="emulation", clock=plan.clock,
        until_s=ended_s, complete=complete, frames=recorder.frames, warnings=warnings,
    )  # fmt: skip
    return RunSummary(
        out, recorder.frames, recorder.bytes, ended_s, time.monotonic() - began, complete,
        scenario.begin + timedelta(seconds=ended_s), warnings, recorder.per_device,
    )  # fmt: skip
