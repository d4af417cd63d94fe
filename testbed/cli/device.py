"""``testbed device``: one device alone on a real network."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.cli.options import DurationType, models_option

if TYPE_CHECKING:
    from testbed.emulation.alone import Stay

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


@click.command()
@click.argument("model", metavar="NAME")
@click.option("--interface", metavar="IF", required=True, help="Ethernet interface to be on, such as eth1.")
@click.option(
    "--name", metavar="WORD", help="What to call this one; its MAC follows from it.  [default: NAME]"
)
@click.option("--mac", metavar="MAC", help="Its MAC, instead of one that follows from its name.")
@click.option(
    "--ca",
    "authorities",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Trust only servers whose certificates come from these authorities (PEM); without, any server.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Draws the chances.")
@click.option("--for", "for_s", metavar="D", type=DurationType(), help="End after this time, such as 90m.")
@click.option(
    "--out",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Folder to make, with the capture of its frames, their labels and the event log.",
)
@click.option("--force", is_flag=True, help="Replace RUN if it is a run folder.")
@click.option("--quiet", is_flag=True, help="Do not print what it does.")
@models_option
def command(
    model: str,
    interface: str,
    name: str | None,
    mac: str | None,
    authorities: Path | None,
    seed: int,
    for_s: float | None,
    out: Path | None,
    force: bool,
    quiet: bool,
    folders: tuple[Path, ...],
) -> int:
    """Be the device NAME on a real network, in real time, until Ctrl-C.

    NAME is a name of `testbed list devices`, or the path of a YAML file. The device gets its own MAC on the
    network behind IF, a lease from the DHCP server there, and asks its resolvers for the names that the real
    device asks for; what it sends to the servers they lead to has the sizes and times of the real device, not
    its contents. This machine's own configuration is not touched, and nothing is left when it ends. Needs
    root; see `testbed doctor`.
    """
    from testbed.cli.interrupt import stop_on_interrupt
    from testbed.emulation.alone import run_alone
    from testbed.errors import UserError
    from testbed.models.load import load_device
    from testbed.output import new_folder

    if mac is not None and not _MAC.fullmatch(mac := mac.lower()):
        raise UserError(f"--mac: cannot read '{mac}'; write it like 02:00:00:00:00:01")
    if name is not None and not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UserError(f"--name: cannot be '{name}'; write small letters, digits, _ and -")
    device = load_device(model, folders)
    trusted = _pem(authorities) if authorities is not None else None

    def show(lines: list[str]) -> None:
        for line in () if quiet else lines:
            click.echo(_told(json.loads(line)))

    folder = (
        new_folder(out, force=force, mark="run.json", even_if_killed=True)
        if out is not None
        else nullcontext(None)
    )
    with stop_on_interrupt() as stop, folder as where:
        stay = run_alone(
            device,
            interface,
            name=name,
            mac=mac,
            seed=seed,
            out=where,
            for_s=for_s,
            authorities=trusted,
            told=show,
            stop=stop,
        )
    return _end(stay, interface, out)


def _end(stay: Stay, interface: str, out: Path | None) -> int:
    from testbed.cli.words import size, spoken

    for warning in stay.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{stay.mac} on {interface} for {spoken(round(stay.duration_s))}: {stay.frames:,} frames, "
        f"{size(stay.bytes)}"
    )
    if out is not None:
        click.echo(f"run folder: {out}")
    if stay.complete and stay.leased:
        return 0
    problem = "it was cut short" if stay.leased else f"it got no lease: no DHCP server answers on {interface}"
    click.echo(f"error: {problem}", err=True)
    return 1


def _pem(path: Path) -> str:
    """Return a file of certificates; UserError when it holds none."""
    import ssl

    from testbed.errors import UserError

    try:
        text = path.read_text(encoding="ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ValueError, ssl.SSLError):
        raise UserError(f"{path}: holds no certificates in PEM") from None
    return text


def _told(event: dict[str, object]) -> str:
    """Return a line of the event log as a person reads it."""
    moment = str(event["time"])[11:23]
    about = [event.get(key) for key in ("protocol", "service", "outcome")]
    if event["event"] != "exchange":
        about.insert(0, event["event"])
    said = " ".join(str(part) for part in about if part)
    why = f"  ({event['why']})" if event.get("why") else ""
    return f"{moment}  {event['behaviour']:<12} {said}{why}"
