"""``testbed run``: play a scenario."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.cli.options import DurationType, models_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.scenario.manifest import RunSummary


@click.command()
@click.argument("scenario")
@click.option("--topology", metavar="T", help="Play on this topology instead of the scenario's own.")
@click.option(
    "--world",
    type=click.Choice(["simulation", "emulation"]),
    default="simulation",
    show_default=True,
    help="Where to play.",
)
@click.option(
    "--clock",
    type=click.Choice(["virtual", "real"]),
    default="virtual",
    show_default=True,
    help="Clock of the emulation.",
)
@click.option(
    "--speed",
    metavar="X",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    help="With the real clock: let X seconds of the devices' time pass in one.",
)
@click.option(
    "--exec",
    "programs",
    metavar="HOST COMMAND",
    type=(str, str),
    multiple=True,
    help="With the real clock: run a shell command in a host of the emulation. May be repeated.",
)
@click.option(
    "--attach",
    metavar="IF",
    multiple=True,
    help="With the real clock: join the network behind this real interface to the home's. May be repeated.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Same seed, same bytes; another seed draws all chances anew.",
)
@click.option(
    "--until", metavar="D", type=DurationType(), help="Stop this long after the start, such as 90m."
)
@click.option(
    "--out",
    metavar="RUN",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to make, with the capture, its labels and the event log.",
)
@click.option(
    "--force", is_flag=True, help="Replace RUN if it is a run folder, once the new one is complete."
)
@click.option("--quiet", is_flag=True, help="Say nothing unless something is wrong.")
@models_option
def command(
    scenario: str,
    topology: str | None,
    world: str,
    clock: str,
    speed: float,
    programs: tuple[tuple[str, str], ...],
    attach: tuple[str, ...],
    seed: int,
    until: float | None,
    out: Path,
    force: bool,
    quiet: bool,
    folders: tuple[Path, ...],
) -> int:
    """Play SCENARIO and leave a labelled capture in the folder RUN.

    SCENARIO is a name of `testbed list scenarios`, or the path of a YAML file. Ctrl-C ends the run at
    that moment of virtual time and keeps what there is, marked as cut short.
    """
    from testbed.api import run
    from testbed.cli.interrupt import stop_on_interrupt

    with stop_on_interrupt() as stop, _progress(shown=not quiet and sys.stderr.isatty()) as progress:
        summary = run(
            scenario,
            out=out,
            topology=topology,
            world=world,
            clock=clock,
            speed=speed,
            programs=programs,
            attach=attach,
            seed=seed,
            until_s=until,
            models=folders,
            force=force,
            progress=progress,
            stop=stop,
        )
    for warning in summary.warnings:
        click.echo(f"warning: {warning}", err=True)
    if not quiet:
        click.echo(_told(summary, scenario, out))
    if summary.complete:
        return 0
    click.echo(f"error: the run was cut short at {_at(summary)}; what there is is in {out}", err=True)
    return 1


def _told(summary: RunSummary, scenario: str, out: Path) -> str:
    """Return the few lines that say what the run was."""
    from testbed.cli.words import size, spoken, table

    rows = [
        (name, f"{frames:,}", size(count))
        for name, (frames, count) in sorted(summary.per_device.items(), key=lambda item: -item[1][1])
    ]
    rows.append(("all", f"{summary.frames:,}", size(summary.bytes)))
    speed = summary.virtual_s / summary.wall_s if summary.wall_s > 0 else 0.0
    return "\n".join(
        (
            table(("device", "frames", "bytes"), rows, right=("frames", "bytes")),
            "",
            f"{scenario}: {spoken(round(summary.virtual_s))} of virtual time in {summary.wall_s:.1f} s "
            f"({speed:,.0f} times as fast as real time)",
            f"run folder: {out}",
        )
    )


def _at(summary: RunSummary) -> str:
    return f"{summary.ended_at:%Y-%m-%d %H:%M:%S} UTC of virtual time"


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[float, float], None] | None]:
    """Show a progress bar on stderr, where a person is looking."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("playing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
