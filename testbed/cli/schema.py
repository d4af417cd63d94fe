"""``testbed schema``: JSON schemas, for editors."""

from __future__ import annotations

import click


@click.command()
@click.argument("kind", type=click.Choice(["device", "topology", "scenario"]))
def command(kind: str) -> None:
    """Print the JSON schema of device models, topologies or scenarios.

    Editors with a YAML language server check a file as you type when its first line is
    '# yaml-language-server: $schema=FILE' and FILE holds this output.
    """
    import json

    from testbed.models.schema import json_schema

    click.echo(json.dumps(json_schema(kind), indent=2))  # type: ignore[arg-type]  # Choice allows only kinds
