"""Mininet's command line beside a running network."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

from mininet.cli import CLI
from mininet.log import setLogLevel

if TYPE_CHECKING:
    from collections.abc import Callable

    from mininet.net import Mininet


def run_beside(run: Callable[[], None], stop: Callable[[], None], net: Mininet) -> None:
    """Run the network on a thread of its own while the command line has the terminal; raises what `run` did.

    The command line has the main thread, since Ctrl-C goes there and interrupts its command.
    """
    failure: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:  # handed to the main thread, which raises it
            failure.append(error)

    thread = Thread(target=work, name="network")
    thread.start()
    CLI.readlineInited = True  # it would leave a history file in the home folder
    setLogLevel("output")
    CLI(net)
    stop()
    thread.join()
    if failure:
        raise failure[0]
