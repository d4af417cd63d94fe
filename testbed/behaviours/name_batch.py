"""Look up names on a schedule, for purposes of the firmware that cause no other traffic."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.resolver import NotResolved, resolve
from testbed.behaviours.schedule import Rounds
from testbed.host import LinkDown

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import NameBatch


async def name_batch(host: Host, p: NameBatch) -> None:
    """Look up the batch in every round."""
    rounds = Rounds(host, p)
    turn = 0
    while await rounds.next():
        await facts.ready(host, p.requires)
        names = p.names
        if p.walk:
            names = (p.names[turn % len(p.names)],)
            turn += 1
        for _ in range(p.passes):
            for name in names:
                if p.together:
                    host.spawn(name, partial(_look_up, p=p, name=name))
                else:
                    await _look_up(host, p, name)
                if p.spacing:
                    await host.sleep(p.spacing)


async def _look_up(host: Host, p: NameBatch, name: str) -> None:
    try:
        await resolve(host, name, p.thread)
    except (NotResolved, LinkDown):
        return
    if p.counts_as_online:
        facts.went_online(host, f"{p.name}: {name} was resolved")
