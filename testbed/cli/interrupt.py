"""Ctrl-C as a wish to end in good order."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and the end of the terminal."""


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first such signal into a wish that the engine asks for; a second one interrupts at once.

    A signal that is ignored, as `nohup` has it, stays so.
    """
    wished = threading.Event()

    def on_signal(_signal: int, _frame: object) -> None:
        if wished.is_set():
            raise KeyboardInterrupt
        wished.set()
        click.echo("stopping: finishing the files (again to give up)", err=True)

    before = {
        each: signal.signal(each, on_signal)
        for each in _WISHES
        if signal.getsignal(each) is not signal.SIG_IGN
    }
    try:
        yield wished.is_set
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
