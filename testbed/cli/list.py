"""``testbed list``: the devices, topologies and scenarios that can be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.cli.options import models_option

if TYPE_CHECKING:
    from testbed.models.data import Kind

_KINDS: dict[str, Kind] = {"devices": "device", "topologies": "topology", "scenarios": "scenario"}


@click.command(name="list")
@click.argument("what", type=click.Choice(list(_KINDS)))
@models_option
def command(what: str, folders: tuple[Path, ...]) -> None:
    """List the devices, topologies or scenarios that can be used, with their titles."""
    from testbed.cli.words import spoken, table
    from testbed.models.load import catalogue, load_device, load_scenario, load_topology

    rows: list[tuple[str, ...]] = []
    files = catalogue(_KINDS[what], folders).values()
    if what == "devices":
        heads: tuple[str, ...] = ("name", "class", "link", "title")
        for device in map(load_device, files):
            through = f" through {device.link.through}" if device.link.through else ""
            rows.append((device.name, device.hub_or_sensor, device.link.medium + through, device.title))
    elif what == "topologies":
        heads = ("name", "devices", "services", "title")
        for topology in map(load_topology, files):
            rows.append(
                (topology.name, str(len(topology.devices)), str(len(topology.services)), topology.title)
            )
    else:
        heads = ("name", "begins", "lasts", "states", "title")
        for scenario in map(load_scenario, files):
            begin = f"{scenario.begin:%Y-%m-%d %H:%M}"
            rows.append(
                (scenario.name, begin, spoken(scenario.duration), str(len(scenario.states)), scenario.title)
            )
    click.echo(table(heads, rows))
