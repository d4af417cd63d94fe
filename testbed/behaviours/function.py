"""Tell the event log what the device's user would see: it works, works in part, or is off-line."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from testbed.behaviours.facts import LEASE

if TYPE_CHECKING:
    from testbed.host import Host

_SHOWN = "function"


async def watch_function(host: Host) -> None:
    """Note every change of the device's function until the power goes."""
    watched = (LEASE, *host.device.function.needs)
    _show(host)
    for fact in watched[1:]:
        host.spawn(f"function-{fact}", partial(_watch, fact=fact))
    await _watch(host, watched[0])


async def _watch(host: Host, fact: str) -> None:
    while True:
        await host.board.change(host, fact)
        _show(host)


def _show(host: Host) -> None:
    """Note what the device's facts amount to, if that is something new."""
    function, board = host.device.function, host.board
    missing = [fact for fact in function.needs if not board.get(fact)]
    if not board.get(LEASE):
        outcome, why = function.without_link, "no network"
    elif missing:
        outcome, why = function.without, "without " + ", ".join(missing)
    else:
        outcome, why = "works", ""
    if board.get(_SHOWN) != outcome:
        board.set(_SHOWN, outcome)
        host.note("function", outcome=outcome, why=why, local=function.local)
