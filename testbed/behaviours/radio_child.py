"""A device without IP reports to its hub or phone by radio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours.schedule import Rounds

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import RadioChild


async def radio_child(host: Host, p: RadioChild) -> None:
    """Tell the hub or phone in every round; it does with it what its own model says."""
    rounds = Rounds(host, p)
    while await rounds.next():
        if host.parent is None:
            host.note("radio", outcome="no-parent", why="there is no hub or phone for this device")
            return
        host.note("radio", outcome="sent", why=p.tells, size=p.size)
        host.parent.stimulate(p.tells, p.size)
