"""``testbed validate``: how right the analyser is, by the labels of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.cli.options import models_option

if TYPE_CHECKING:
    from testbed.validation import Validation


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--predictions",
    metavar="FILE.csv",
    type=click.Path(path_type=Path),
    help="Score another analyser's answers instead: columns frame (from 1), protocol, device.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option(
    "--out", metavar="FILE.json", type=click.Path(path_type=Path), help="Write the JSON into a file too."
)
@models_option
def command(
    run: Path, predictions: Path | None, as_json: bool, out: Path | None, folders: tuple[Path, ...]
) -> int:
    """Hold the analyser against the labels of the folder RUN.

    The exit code is 1 if a check falls below its threshold.
    """
    import json

    from testbed.cli.words import table
    from testbed.errors import WorldError
    from testbed.validation import validate
    from testbed.validation.text import told

    result: Validation = validate(run, predictions=predictions, models=folders)
    document = json.dumps(result.as_json(), indent=1)
    if out is not None:
        try:
            out.write_text(document + "\n", encoding="utf-8")
        except OSError as error:
            raise WorldError(f"{out}: cannot be written: {error.strerror}") from None
    click.echo(document if as_json else told(result, table))
    return 0 if result.passed else 1
