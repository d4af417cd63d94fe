"""Play a scenario in simulation and leave the run's folder."""

from __future__ import annotations

import gc
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from testbed.scenario.internet import build_internet, write_places
from testbed.scenario.manifest import RunSummary, programs_left_out, state_spans, write_manifest
from testbed.scenario.timeline import compile_timeline
from testbed.simulation.journal import Journal
from testbed.simulation.output import Output
from testbed.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from testbed.models import DeviceModel, Scenario, Topology

BATCH_RECORDS = 40_000
"""Records that make a batch …"""
BATCH_BYTES = 48_000_000
"""… or payload bytes that do."""
SLICE_NS = 600_000_000_000
"""Virtual time between looks at the tape, the clock and the user's patience."""


def run_simulation(
    scenario: Scenario,
    topology: Topology,
    devices: Mapping[str, DeviceModel],
    *,
    seed: int,
    out: Path,
    until_s: float | None = None,
    progress: Callable[[float, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunSummary:
    """Play `scenario` and write the run's files into the folder `out`, which must exist.

    `devices` maps model names to models. `until_s` ends the capture early; `progress` is told
    (done, total) in seconds of virtual time; when `stop` returns True the run ends at that moment
    of virtual time with complete files, and says so in `run.json`.
    """
    # Millions of small objects come and go, nearly all without cycles: collecting them is for after the run.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _play(scenario, topology, devices, seed, out, until_s, progress, stop)
    finally:
        if collecting:
            gc.enable()


def _play(
    scenario: Scenario,
    topology: Topology,
    devices: Mapping[str, DeviceModel],
    seed: int,
    out: Path,
    until_s: float | None,
    progress: Callable[[float, float], None] | None,
    stop: Callable[[], bool] | None,
) -> RunSummary:
    began = time.monotonic()
    timeline = compile_timeline(scenario, topology, devices, seed, until_s)
    sites, zone = build_internet(topology)
    log = Journal()
    world = World(topology, devices, timeline, sites, zone, log, scenario.begin, seed)
    output = Output(out, scenario.begin, state_spans(scenario, timeline.end_ns / 1e9))
    tape, network, env = world.network.tape, world.network, world.env
    total_s = (timeline.end_ns - timeline.begin_ns) / 1e9
    complete = True
    try:
        world.start()
        while env.now < timeline.end_ns:
            env.run_until(min(timeline.end_ns, env.now + SLICE_NS))
            if len(tape) >= BATCH_RECORDS or len(tape.arena) >= BATCH_BYTES:
                output.put(tape.take(env.now - 1), network.labels, log.take())
            if progress is not None:
                progress((env.now - timeline.begin_ns) / 1e9, total_s)
            if stop is not None and stop() and env.now < timeline.end_ns:
                complete = False
                break
        output.put(tape.take(env.now - 1), network.labels, log.take())
        written = output.close()
    except BaseException:
        output.abandon()
        raise
    ended_s = max(0, env.now) / 1e9
    warnings = programs_left_out(topology)
    if not complete:
        warnings.append(f"stopped by the user after {timedelta(seconds=round(ended_s))} of virtual time")
    write_places(out / "places.mmdb", sites)
    write_manifest(
        out / "run.json",
        scenario=scenario,
        topology=topology,
        models=devices,
        macs=world.macs,
        addresses=world.addresses,
        sites=sites,
        seed=seed,
        world="simulation",
        clock="virtual",
        until_s=ended_s,
        complete=complete,
        frames=written.frames,
        warnings=warnings,
    )
    return RunSummary(
        out, written.frames, written.bytes, ended_s, time.monotonic() - began, complete,
        scenario.begin + timedelta(seconds=ended_s), warnings, written.per_device,
    )  # fmt: skip
