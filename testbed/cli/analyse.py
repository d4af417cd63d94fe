"""``testbed analyse``: turn captures into tables of what each device did."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.analysis import Analysis

DAMAGED = 3
"""Exit code when a capture could not be read to its end."""
_LONG_BYTES = 64 << 20
"""Captures from this size on get a progress bar."""


@click.command(name="analyse")
@click.argument("captures", metavar="CAPTURE...", nargs=-1)
@click.option(
    "--run",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="A run's folder: gives the devices' names, the states, and the capture if none is named.",
)
@click.option(
    "--baseline", metavar="RUN", help="A longer steady run (or a capture) that shows what is normal."
)
@click.option(
    "--states",
    metavar="FILE.csv",
    type=click.Path(path_type=Path),
    help="Intervals to look at: columns name, begin, end (ISO 8601 or Unix seconds), number, device.",
)
@click.option(
    "--geo",
    metavar="FILE.mmdb",
    type=click.Path(path_type=Path),
    help="Database of places (MaxMind's format).",
)
@click.option(
    "--local", metavar="NET", multiple=True, help="A local network, such as 10.1.0.0/16. May be repeated."
)
@click.option("--from", "begin", metavar="TIME", help="Look at what comes from this time on (ISO 8601).")
@click.option("--to", "end", metavar="TIME", help="Look at what comes before this time.")
@click.option(
    "--rule",
    type=click.Choice(["port", "payload"]),
    default="port",
    show_default=True,
    help="What names the application of a frame in the tables.",
)
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder to make, with the tables."
)
@click.option("--parquet", is_flag=True, help="Write the tables as Parquet too.")
@click.option("--no-figures", is_flag=True, help="Leave out the figures and the HTML report.")
@click.option("--force", is_flag=True, help="Replace DIR if it is the folder of an analysis.")
@click.option("--quiet", is_flag=True, help="Print no summary.")
def command(
    captures: tuple[str, ...],
    run: Path | None,
    baseline: str | None,
    states: Path | None,
    geo: Path | None,
    local: tuple[str, ...],
    begin: str | None,
    end: str | None,
    rule: str,
    out: Path | None,
    parquet: bool,
    no_figures: bool,
    force: bool,
    quiet: bool,
) -> int:
    """Analyse captures (pcap or pcapng, also compressed; - is standard input; several are one).

    Writes CSV files and analysis.json into DIR and prints a summary. The exit code is 3 if a capture
    is damaged: what came before the damage is analysed, and the message says where it is.
    """
    from testbed.analysis import analyse
    from testbed.cli.summary import summary

    gc.disable()  # tables of many rows hold no cycles, but would be searched for them again and again
    if not captures:
        if run is None:
            raise UserError("no capture given; name one, or a run's folder with --run")
        captures = (str(run / "capture.pcap"),)
    if out is not None:
        from testbed.output import refuse_existing

        refuse_existing(out, force=force, mark="analysis.json")
    overridden = any((states, begin, end, baseline, geo, local, rule != "port"))
    labelled = out is not None and not no_figures and not overridden and _has_labels(run, captures)
    with _progress(captures, quiet) as progress:
        result = analyse(
            captures,
            run=run,
            baseline=baseline,
            states=states,
            geo=geo,
            local=local,
            rule=rule,
            begin=begin,
            end=end,
            # Where there are labels, the report says how right the analysis is.
            keep_frames=labelled,
            progress=progress,
        )
    if out is not None:
        _write(result, out, run, parquet=parquet, figures=not no_figures, labelled=labelled, force=force)
    if not quiet:
        click.echo(summary(result))
        if out is not None:
            also = "" if no_figures else f"; the report is {out / 'report.html'}"
            click.echo(f"\nTables are in {out}{also}")
    for damage in result.damages:
        click.echo(f"warning: {damage}; what came before is kept", err=True)
    return DAMAGED if result.damaged else 0


def _has_labels(run: Path | None, captures: tuple[str, ...]) -> bool:
    """Tell whether what is analysed is a run's own capture, with its ground truth."""
    if run is None or not (run / "labels.parquet").is_file() or len(captures) != 1:
        return False
    own, given = run / "capture.pcap", Path(captures[0])
    return own.is_file() and given.is_file() and own.samefile(given)


def _write(
    result: Analysis,
    out: Path,
    run: Path | None,
    *,
    parquet: bool,
    figures: bool,
    labelled: bool,
    force: bool,
) -> None:
    from testbed.output import new_folder

    with new_folder(out, force=force, mark="analysis.json") as folder:
        result.write(folder, parquet=parquet)
        if not figures:
            return
        gc.enable()
        from testbed.report import draw_figures, write_report
        from testbed.validation import validate

        write_report(
            result,
            folder,
            title=_title(run),
            validation=validate(run, analysis=result) if labelled and run is not None else None,
            figures=draw_figures(result, folder),
        )


def _title(run: Path | None) -> str:
    """Return what the run is called, for the head of the report; empty without one."""
    import json

    if run is None:
        return ""
    try:
        return str(json.loads((run / "run.json").read_bytes())["scenario"]["title"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@contextmanager
def _progress(captures: tuple[str, ...], quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """Give a progress bar on a terminal for long captures, else nothing."""
    if quiet or not sys.stderr.isatty() or not _long(captures):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    parts = (
        TextColumn("reading"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _long(captures: tuple[str, ...]) -> bool:
    size = 0
    for name in captures:
        path = Path(name)
        if name == "-":
            return True
        if path.is_file():
            size += path.stat().st_size
    return size >= _LONG_BYTES
