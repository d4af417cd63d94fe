"""``testbed show``: one device, topology or scenario, with all its parameters and their sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbed.cli.options import models_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.models.base import Model


@click.command()
@click.argument("kind", type=click.Choice(["device", "topology", "scenario"]))
@click.argument("name")
@click.option(
    "--json", "as_json", is_flag=True, help="Print it as JSON: seconds, bytes and bits/s as numbers."
)
@models_option
def command(kind: str, name: str, as_json: bool, folders: tuple[Path, ...]) -> None:
    """Show one device, topology or scenario: every parameter, defaults included, with its source.

    NAME is a name of `testbed list`, or the path of a YAML file.
    """
    from testbed.models.load import find, load_device, load_scenario, load_topology

    model: Model
    if kind == "device":
        model = load_device(name, folders)
    elif kind == "topology":
        model = load_topology(name, folders)
    else:
        model = load_scenario(name, folders)
    if as_json:
        click.echo(model.model_dump_json(indent=2))
        return
    click.echo(f"# {find(kind, name, folders)}")  # type: ignore[arg-type]  # Choice allows only kinds
    click.echo("\n".join(_lines(model)))


def _lines(model: Model, indent: str = "") -> Iterator[str]:
    """Yield YAML-like lines of a model; sources stand behind what they speak of."""
    from testbed.models.base import Model as Base

    sources = _by_name(getattr(model, "sources", {}))
    for name in type(model).model_fields:
        value = getattr(model, name)
        source = f"  # {sources[name]}" if name in sources else ""
        if name == "sources":
            continue
        if isinstance(value, Base):
            yield f"{indent}{name}:{source}"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, tuple) and value and isinstance(value[0], Base):
            yield f"{indent}{name}:{source}"
            for item in value:
                yield from _item(item, indent)
        else:
            yield f"{indent}{name}: {_shown(model, name, value)}{source}"


def _item(item: Model, indent: str) -> Iterator[str]:
    first, *rest = list(_lines(item, indent + "    "))
    yield f"{indent}  - {first.strip()}"
    yield from rest


def _by_name(sources: dict[str, str]) -> dict[str, str]:
    return {name.strip(): text for key, text in sources.items() for name in key.split(",")}


def _shown(model: Model, name: str, value: Any) -> str:
    """Return a value as one would write it in YAML."""
    from testbed.models.units import as_written

    field = type(model).model_fields[name]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(as_written(item, field) for item in value) + "]"
    return as_written(value, field)
