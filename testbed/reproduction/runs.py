"""Playing what the claims need: per seed a steady week and the seven states, and the month once.

Each seed is a job in a process of its own, so that two cores are used. Captures are analysed and
thrown away (a week is half a gigabyte), unless they are to be kept.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from testbed.reproduction.evidence import Evidence, Findings, look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from testbed.scenario.manifest import RunSummary

    Player = Callable[..., RunSummary]
    """`testbed.api.run`."""

Part = Literal["states", "week", "month"]
PARTS: tuple[Part, ...] = ("states", "week", "month")
SCENARIOS: dict[Part, str] = {"states": "all-states", "week": "steady-week", "month": "month"}


class Job(NamedTuple):
    """Parts that one process plays, one after the other, with the same seed."""

    seed: int
    parts: tuple[Part, ...]


class Done(NamedTuple):
    """What a job found."""

    job: Job
    findings: dict[Part, Findings]
    wall_s: float


def plan(seeds: Sequence[int], parts: Iterable[Part]) -> list[Job]:
    """Return the jobs, the longest first: the month once, and for each seed its week and states."""
    chosen = set(parts)
    jobs = [Job(seeds[0], ("month",))] if "month" in chosen else []
    each: tuple[Part, ...] = tuple(part for part in ("week", "states") if part in chosen)
    return jobs + [Job(seed, each) for seed in seeds if each]


def play_all(
    jobs: Sequence[Job],
    player: Player,
    folder: Path,
    *,
    world: str = "simulation",
    processes: int = 2,
    keep: bool = False,
    told: Callable[[Done], None] | None = None,
) -> list[Evidence]:
    """Play and analyse all jobs below `folder` and return the evidence of each seed.

    Figures of the first job with a week or states are drawn into its subfolder `figures`. `told` hears
    of each job that is done. Raises what playing or analysing raises.
    """
    done: list[Done] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, max(1, len(jobs))), mp_context=context) as pool:
        drawn = next((job for job in jobs if job.parts != ("month",)), None)
        futures = [pool.submit(do, job, player, folder, world, keep, job == drawn) for job in jobs]
        try:
            for future in as_completed(futures):
                done.append(future.result())
                if told is not None:
                    told(done[-1])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return gather(done)


def gather(done: Iterable[Done]) -> list[Evidence]:
    """Return the evidence by seed."""
    by_seed: dict[int, dict[Part, Findings]] = {}
    for one in done:
        by_seed.setdefault(one.job.seed, {}).update(one.findings)
    return [Evidence(seed, **by_seed[seed]) for seed in sorted(by_seed)]


def do(
    job: Job,
    player: Player,
    folder: Path,
    world: str = "simulation",
    keep: bool = False,
    draw: bool = False,
) -> Done:
    """Play one job's parts and analyse them; the week is what is normal for the states."""
    begun = time.monotonic()
    findings: dict[Part, Findings] = {}
    folders = {part: folder / f"{part}-{job.seed}" for part in job.parts}
    for part, run in folders.items():
        player(SCENARIOS[part], out=run, world=world, seed=job.seed)
        baseline = folders.get("week") if part == "states" else None
        findings[part] = look(run, baseline, folder / "figures" / part if draw else None)
    if not keep:
        for run in folders.values():
            shutil.rmtree(run)
    return Done(job, findings, time.monotonic() - begun)


def look_again(folder: Path) -> list[Evidence]:
    """Analyse the runs that an earlier call kept below `folder`."""
    done = []
    for run in sorted(folder.iterdir()):
        part, _, seed = run.name.rpartition("-")
        if part not in PARTS or not seed.isdigit():
            continue
        week = folder / f"week-{seed}"
        baseline = week if part == "states" and week.is_dir() else None
        found: dict[Part, Findings] = {part: look(run, baseline)}
        done.append(Done(Job(int(seed), (part,)), found, 0.0))
    return gather(done)
