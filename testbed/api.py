"""The commands as functions, for notebooks and CI: the same work, typed results, no output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import UserError
from testbed.models.setup import load_setup
from testbed.models.units import spoken
from testbed.output import new_folder, refuse_existing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.scenario.manifest import RunSummary

__all__ = ["run"]


def run(
    scenario: str | Path,
    *,
    out: str | Path,
    topology: str | Path | None = None,
    world: str = "simulation",
    clock: str = "virtual",
    seed: int = 1,
    until_s: float | None = None,
    models: Sequence[str | Path] = (),
    force: bool = False,
    progress: Callable[[float, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunSummary:
    """Play a scenario into the folder `out`, as `testbed run` does, and return what it was.

    `scenario` and `topology` are names or paths, `models` the user's folders, `until_s` seconds after
    the start of the capture. `progress(done_s, total_s)` is told how far the run is; once `stop()`
    is true the run ends, with valid files, and the summary is not `complete`. `out` is complete or
    absent; an existing one is replaced only with `force`. Raises UserError and WorldError.
    """
    if world == "emulation":
        raise UserError("the emulation world is not available in this version; leave out --world emulation")
    if world != "simulation":
        raise UserError(f"unknown world '{world}'; valid: simulation")
    if clock != "virtual":
        raise UserError("the simulation has virtual time only; leave out --clock")
    refuse_existing(Path(out), force=force, mark="run.json")  # before any work is done in vain
    from testbed.services.registry import KINDS
    from testbed.simulation.run import run_simulation

    setup = load_setup(scenario, topology, models, KINDS)
    if until_s is not None and not 0 < until_s <= setup.scenario.duration:
        end = spoken(setup.scenario.duration)
        raise UserError(f"--until {spoken(until_s)} is not within the scenario, which lasts {end}")
    with new_folder(out, force=force, mark="run.json") as folder:
        summary = run_simulation(
            setup.scenario,
            setup.topology,
            setup.devices,
            seed=seed,
            out=folder,
            until_s=until_s,
            progress=progress,
            stop=stop,
        )
    return replace(summary, out=Path(out))
