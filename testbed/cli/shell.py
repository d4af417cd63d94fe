"""``testbed shell``: Mininet's command line in an emulated home."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from testbed.cli.options import models_option


@click.command()
@click.argument("topology", default="home")
@click.option(
    "--out",
    metavar="RUN",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for what is captured.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Draws the chances.")
@click.option("--force", is_flag=True, help="Replace RUN if it is a run folder.")
@models_option
def command(topology: str, out: Path, seed: int, force: bool, folders: tuple[Path, ...]) -> int:
    """Switch the devices of TOPOLOGY on in real time and give Mininet's command line.

    Nothing happens to the network but what you do: `foobot ping -c 1 192.168.1.1`, `router nft list
    ruleset`. `exit` ends the run and keeps what was captured. Needs root; see `testbed doctor`.
    """
    from datetime import UTC, datetime

    from testbed.emulation.isolate import run_emulation
    from testbed.models.scenario import Scenario
    from testbed.models.setup import load_home
    from testbed.output import new_folder
    from testbed.services.registry import KINDS

    home, devices = load_home(topology, folders, KINDS)
    scenario = Scenario.model_validate(
        {
            "name": "shell",
            "title": "At the command line",
            "topology": home.name,
            "begin": datetime.now(UTC).replace(microsecond=0),
            "duration": "1w",
            "warm_up": 0,
        }
    )
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the command line's
    try:
        with new_folder(out, force=force, mark="run.json", even_if_killed=True) as folder:
            summary = run_emulation(scenario, home, devices, seed=seed, out=folder, clock="real", shell=True)
    finally:
        signal.signal(signal.SIGINT, before)
    click.echo(f"{summary.frames:,} frames in {out}")
    return 0
