"""``testbed doctor``: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(as_json: bool) -> int:
    """Tell what this machine can do, and the command that mends each thing that is missing.

    Exit code 0 when the simulation and the analyser work, 1 when they do not; what only the emulation
    or the tests need is reported, but is no failure.
    """
    from testbed.cli.machine import NEEDS, examine

    checks = examine()
    can = {need: all(check.ok for check in checks if need in check.needed_for) for need in NEEDS}
    if as_json:
        import json

        found = [{**check._asdict(), "needed_for": list(check.needed_for)} for check in checks]
        click.echo(json.dumps({"can": can, "checks": found}, indent=2))
    else:
        for check in checks:
            click.echo(f"{'ok     ' if check.ok else 'missing'}  {check.name}: {check.found}")
            if not check.ok:
                click.echo(f"         needed for {', '.join(check.needed_for)}; mend it: {check.mend}")
        click.echo("")
        for need, able in can.items():
            click.echo(f"{'can    ' if able else 'cannot '}  {NEEDS[need]}")
    return 0 if can["simulation"] else 1
