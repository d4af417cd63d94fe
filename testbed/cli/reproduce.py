"""``testbed reproduce``: the paper's claims, measured."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from testbed.reproduction.runs import Done, Part
    from testbed.reproduction.verdict import Result


@click.command()
@click.option(
    "--world",
    type=click.Choice(["simulation", "emulation"]),
    default="simulation",
    show_default=True,
    help="Where to play.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    help="How many seeds vote [default: 5; in emulation 1].",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    help="Processes that play and analyse [default: the number of cores; in emulation 1].",
)
@click.option(
    "--parts",
    metavar="PART,…",
    help="What to play of states, week and month [default: all; in emulation the states].",
)
@click.option(
    "--keep", is_flag=True, help="Keep the runs, in OUT/runs: about a gigabyte a seed, three the month."
)
@click.option(
    "--runs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Play nothing: measure the runs that an earlier --keep left in this folder.",
)
@click.option(
    "--vary",
    metavar="DEVICE",
    help="Instead: halve and double each assumed number of a device's model; tell which claims change.",
)
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to make, with claims.csv, claims.html and fidelity.md.",
)
@click.option(
    "--force", is_flag=True, help="Replace OUT if it is such a folder, once the new one is complete."
)
@click.option("--quiet", is_flag=True, help="Print the tally only.")
def command(
    world: str,
    seeds: int | None,
    jobs: int | None,
    parts: str | None,
    keep: bool,
    runs: Path | None,
    vary: str | None,
    out: Path,
    force: bool,
    quiet: bool,
) -> int:
    """Play the paper's week, month and states, and measure its claims one by one.

    Everything is measured on captures, by the analyser. A claim holds if it does so in four seeds of
    five. Exit code 0 says that the table is there, whatever is in it.
    """
    from testbed.api import run
    from testbed.output import new_folder, refuse_existing
    from testbed.reproduction.claims import load_claims
    from testbed.reproduction.output import csv_text, summary
    from testbed.reproduction.pages import html, markdown
    from testbed.reproduction.runs import look_again, plan, play_all
    from testbed.reproduction.sides import sides
    from testbed.reproduction.verdict import judge

    if vary is not None:
        return _vary(vary, out, jobs or os.cpu_count() or 1, force)
    refuse_existing(out, force=force, mark="claims.csv")
    claims = load_claims()
    begun = time.monotonic()
    real = world == "simulation"
    count = seeds or (5 if real else 1)
    chosen = _parts(parts or ("states,week,month" if real else "states"))
    with new_folder(out, force=force, mark="claims.csv") as folder:
        if runs is not None:
            evidence = look_again(runs)
            if not evidence:
                raise click.UsageError(f"'{runs}' holds no runs such as states-1; make them with --keep")
        else:
            evidence = play_all(
                plan(range(1, count + 1), chosen),
                run,
                folder / "runs",
                world=world,
                processes=jobs or ((os.cpu_count() or 1) if real else 1),
                keep=keep,
                told=None if quiet else _told,
            )
        results = judge(claims, evidence)
        played = f"Played in {world} with {_several(len(evidence), 'seed')}."
        (folder / "claims.csv").write_text(csv_text(results), encoding="utf-8")
        page = html(results, played, sides(results, folder / "runs" / "figures"))
        (folder / "claims.html").write_text(page, encoding="utf-8")
        if not keep:
            shutil.rmtree(folder / "runs", ignore_errors=True)
        (folder / "fidelity.md").write_text(markdown(results, played), encoding="utf-8")
    if not quiet:
        click.echo(_table(results))
        runs_of = [run for one in evidence for run in (one.states, one.week, one.month) if run]
        for warning in sorted({text for run in runs_of for text in run.warnings}):
            click.echo(f"warning: {warning}", err=True)
    took = f"{_several(len(evidence), 'seed')} in {time.monotonic() - begun:.0f} s"
    click.echo(f"{summary(results)}.")
    click.echo(f"{took}; see {out / 'claims.html'}")
    return 0


def _vary(device: str, out: Path, jobs: int, force: bool) -> int:
    """Tell which claims about the states depend on a device's assumed numbers; writes `vary.csv`."""
    from testbed.api import run
    from testbed.cli.words import table
    from testbed.output import new_folder
    from testbed.reproduction.vary import COLUMNS, csv_text, vary

    with new_folder(out, force=force, mark="vary.csv") as folder:
        effects = vary(device, run, folder, jobs)
        (folder / "vary.csv").write_text(csv_text(effects), encoding="utf-8")
    rows = [tuple(_short(cell) for cell in effect.row()) for effect in effects if effect.matters]
    if rows:
        click.echo(table(COLUMNS, rows))
    click.echo(f"{len(rows)} of {len(effects)} variations change a claim; see {out / 'vary.csv'}")
    return 0


def _parts(text: str) -> list[Part]:
    from testbed.errors import UserError, nearest
    from testbed.reproduction.runs import PARTS

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise UserError(f"--parts: unknown part '{name}'; {nearest(name, PARTS)}")
    return [part for part in PARTS if part in names]


def _told(done: Done) -> None:
    click.echo(f"seed {done.job.seed}: {' and '.join(done.job.parts)} in {done.wall_s:.0f} s", err=True)


def _several(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _table(results: list[Result]) -> str:
    """Return the claims as text, what fails first and with its reason."""
    from testbed.cli.words import table
    from testbed.reproduction.output import by_verdict, share

    heads = ("id", "claim", "expected", "accepted", "measured", "seeds")
    parts = []
    for verdict, group in by_verdict(results):
        rows = [
            (r.claim.id, r.claim.claim, r.claim.expected, r.tolerance, r.measured or r.reason, share(r))
            for r in group
        ]
        parts.append(f"{verdict} ({len(group)})")
        parts += [table(heads, [tuple(_short(cell) for cell in row) for row in rows]), ""]
        if verdict == "fails":
            parts += [f"{r.claim.id}: {' '.join(r.reason.split())}" for r in group] + [""]
    return "\n".join(parts)


def _short(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
