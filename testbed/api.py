"""The commands as functions, for notebooks and CI: the same work, typed results, no output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from testbed.errors import UserError, nearest
from testbed.models.setup import load_setup
from testbed.models.units import spoken
from testbed.output import new_folder, refuse_existing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.scenario.manifest import RunSummary

__all__ = ["CLOCKS", "WORLDS", "run"]

WORLDS = ("simulation", "emulation")
CLOCKS = ("virtual", "real")


def run(
    scenario: str | Path,
    *,
    out: str | Path,
    topology: str | Path | None = None,
    world: str = "simulation",
    clock: str = "virtual",
    seed: int = 1,
    until_s: float | None = None,
    speed: float = 1.0,
    programs: Sequence[tuple[str, str]] = (),
    attach: Sequence[str] = (),
    models: Sequence[str | Path] = (),
    force: bool = False,
    progress: Callable[[float, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunSummary:
    """Play a scenario into the folder `out`, as `testbed run` does, and return what it was.

    `scenario` and `topology` are names or paths, `models` the user's folders, `until_s` seconds after
    the start of the capture. `world` is ``simulation`` or ``emulation``; the latter's `clock` is
    ``virtual``, or ``real`` (divided by `speed`), beside which `programs` may run, as pairs (host,
    shell command), and which the networks behind the real interfaces `attach` may join.
    `progress(done_s, total_s)` is told how far the run is; once `stop()`
    is true the run ends, with valid files, and the summary is not `complete`. `out` is complete or
    absent; an existing one is replaced only with `force`. Raises UserError and WorldError.
    """
    _refuse_nonsense(world, clock, speed, bool(programs or attach))
    refuse_existing(Path(out), force=force, mark="run.json")  # before any work is done in vain
    from testbed.services.registry import KINDS

    setup = load_setup(scenario, topology, models, KINDS)
    if until_s is not None and not 0 < until_s <= setup.scenario.duration:
        end = spoken(setup.scenario.duration)
        raise UserError(f"--until {spoken(until_s)} is not within the scenario, which lasts {end}")
    with new_folder(out, force=force, mark="run.json", even_if_killed=True) as folder:
        if world == "emulation":
            from testbed.emulation.isolate import run_emulation

            kind: Literal["virtual", "real"] = "real" if clock == "real" else "virtual"
            summary = run_emulation(
                *setup,
                seed=seed,
                out=folder,
                clock=kind,
                speed=speed,
                until_s=until_s,
                progress=progress,
                stop=stop,
                exec_=programs,
                attach=attach,
            )
        else:
            from testbed.simulation.run import run_simulation

            summary = run_simulation(
                *setup, seed=seed, out=folder, until_s=until_s, progress=progress, stop=stop
            )
    return replace(summary, out=Path(out))


def _refuse_nonsense(world: str, clock: str, speed: float, real: bool) -> None:
    """Raise UserError for wishes that no world can fulfil; `real` is for what needs the real clock."""
    if world not in WORLDS:
        raise UserError(f"unknown world '{world}'; {nearest(world, WORLDS)}")
    if clock not in CLOCKS:
        raise UserError(f"unknown clock '{clock}'; {nearest(clock, CLOCKS)}")
    if clock == "real" and world == "simulation":
        raise UserError("--clock real needs --world emulation: the simulation has virtual time only")
    if clock == "virtual" and (speed != 1 or real):
        raise UserError("--speed, --exec and --attach need --world emulation --clock real")
