"""The command ``testbed``: one module per verb, imported when it is called.

Exit codes: 0 done; 1 failed; 2 the user's mistake; 3 `analyse` stopped early in a damaged file.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from testbed.errors import TestbedError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

# Nothing here multiplies matrices. NumPy's BLAS starts a thread per processor when it is loaded, and
# they spin for a while, on processors that have other work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

VERBS = {
    "run": "Play a scenario and leave a labelled capture.",
    "analyse": "Turn captures into tables of what each device did.",
    "validate": "Hold the analyser, or another one, against the labels of a run.",
    "shell": "Give Mininet's command line in an emulated home.",
    "device": "Be one device on a real network, in real time.",
    "compare": "Hold two runs of the same scenario against each other.",
    "reproduce": "Measure the paper's claims one by one, on fresh runs.",
    "export": "Write a run's capture with its labels as packet comments.",
    "list": "List the devices, topologies or scenarios that can be used.",
    "show": "Show one device, topology or scenario.",
    "schema": "Print the JSON schema of a kind of file, for editors.",
    "doctor": "Tell what this machine can do, and what the rest needs.",
}
"""Each verb is the module of its name here, holding a click command of that name or called ``command``."""

_OF_THE_MACHINE = {
    *(
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EMFILE,
    )
}
"""The disk is full, or may not be written: no bug of ours, so no traceback."""


class _Verbs(click.Group):
    """A group that imports a verb's module only when that verb is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*VERBS]  # `list` is a module here, once that verb was called

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = import_module(f"testbed.cli.{name}")
        command: click.Command = getattr(module, "command", None) or getattr(module, name)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            context.fail(f"unknown command '{args[0]}'; {nearest(args[0], VERBS)}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*VERBS.items()])


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"testbed {version('iot-testbed')}")
        context.exit()


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
def cli() -> None:
    """A simulated IoT testbed: smart-home devices, disruptions, labelled captures, and an analyser."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; mistakes are told in one message on stderr."""
    collecting = gc.isenabled()
    try:
        result: Any = cli.main(arguments, prog_name="testbed", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TestbedError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("error: interrupted, nothing was kept", err=True)
        return 1
    except BrokenPipeError:
        # The reader went away (`testbed list devices | head`): end quietly, as other tools do.
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{os.strerror(error.errno).lower()}; nothing was kept", err=True)
        return 1
    finally:
        if arguments is None:  # the process ends: what is left need not be searched for cycles
            gc.freeze()
        elif collecting:  # a command may have switched it off
            gc.enable()
