"""``testbed export``: the capture with its labels, for Wireshark."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE.pcapng",
    type=click.Path(path_type=Path),
    help="File to write; RUN/labelled.pcapng where none is given.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def command(run: Path, out: Path | None, force: bool) -> None:
    """Write RUN's capture as pcapng, each packet with its label as its comment.

    Wireshark shows the comments in the packet details, and filters by them: frame.comment contains "MQTT".
    """
    from testbed.capture.export import export_labelled

    target = out or run / "labelled.pcapng"
    frames = export_labelled(run, target, force=force)
    click.echo(f"{target}: {frames:,} labelled frames")
