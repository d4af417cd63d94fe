"""``testbed compare``: two runs of the same scenario against each other."""

from __future__ import annotations

from pathlib import Path

import click

_SHOWN = 20


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option(
    "--out", metavar="FILE.csv", type=click.Path(path_type=Path), help="Write every cell as CSV, too."
)
@click.option("--all", "everything", is_flag=True, help="Show every difference, not just the largest.")
def command(run_a: Path, run_b: Path, out: Path | None, everything: bool) -> int:
    """Compare what happened in two runs: exchanges, bytes, gaps, per device, protocol and state.

    For the simulation against the emulation, one clock against another, or before a change against
    after it. The exit code is 1 if they differ by more than the stated tolerance.
    """
    from testbed.cli.words import table
    from testbed.errors import WorldError
    from testbed.validation import compare as against
    from testbed.validation.truth import load_truth

    result = against.compare(load_truth(run_a), load_truth(run_b))
    if out is not None:
        try:
            against.write_cells(out, result)
        except OSError as error:
            raise WorldError(f"{out}: cannot be written: {error.strerror}") from None
    apart = [cell for cell in result.cells if not (cell.exchanges_agree and cell.bytes_agree)]
    apart.sort(key=lambda cell: -abs(cell.bytes_a - cell.bytes_b))
    if apart:
        rows = [
            (
                cell.device, cell.state, cell.protocol, f"{cell.exchanges_a:,}", f"{cell.exchanges_b:,}",
                f"{cell.bytes_a:,}", f"{cell.bytes_b:,}",
                "" if cell.gap_distance is None else f"{cell.gap_distance:.2f}",
            )
            for cell in (apart if everything else apart[:_SHOWN])
        ]  # fmt: skip
        heads = ("device", "state", "protocol", "exchanges", "", "bytes", "", "gaps apart")
        click.echo(table(heads, rows))
        if len(rows) < len(apart):
            click.echo(f"… and {len(apart) - len(rows)} smaller ones (--all shows them)")
        click.echo("")
    exchanges = sum(cell.exchanges_agree for cell in result.cells)
    sizes = sum(cell.bytes_agree for cell in result.cells)
    hours = sum(hour.agree for hour in result.hours)
    click.echo(
        f"exchanges within {against.EXCHANGES_TOLERANCE:.0%}: {exchanges} of {len(result.cells)} cells\n"
        f"bytes within {against.BYTES_TOLERANCE:.0%}:     {sizes} of {len(result.cells)} cells\n"
        f"frames within {against.HOURS_TOLERANCE:.0%}:    {hours} of {len(result.hours)} hours of a protocol "
        f"({result.hours_share:.0%}; must be {against.LEAST_HOURS_SHARE:.0%})\n"
        + ("The runs agree." if result.within else "The runs do NOT agree within the tolerance.")
    )
    return 0 if result.within else 1
