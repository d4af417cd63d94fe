"""Options that several verbs share, and quantities on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

models_option: Callable[[Any], Any] = click.option(
    "--models",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of your own device models (and topologies/, scenarios/); searched first. May be repeated.",
)


class DurationType(click.ParamType[float]):
    """A duration with its unit, such as 90m; becomes seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """Return seconds; fails with what is valid."""
        from testbed.models.units import parse_duration

        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, context)
