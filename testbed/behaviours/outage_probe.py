"""While off-line, look for the Internet: names first, then echo requests and remembered addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.ping_cycle import ping
from testbed.behaviours.resolver import NotResolved, last_address, resolve
from testbed.host import About, LinkDown, NetError

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import OutageProbe

_HTTP = 80


async def outage_probe(host: Host, p: OutageProbe) -> None:
    """Probe from each loss of the Internet until a name resolves again."""
    while True:
        await facts.ready(host, (facts.OFFLINE, *p.requires))
        number = 0
        while host.board.get(facts.OFFLINE):
            number += 1
            if await host.board.change(host, facts.OFFLINE, p.wait.wait_s(number, host.rng.random())):
                break
            try:
                await _probe(host, p, number)
            except LinkDown:
                break


async def _probe(host: Host, p: OutageProbe, number: int) -> None:
    """Have one round; raises LinkDown."""
    name = p.names[(number - 1) % len(p.names)]
    why = f"off-line, round {number}"
    try:
        await resolve(host, name, p.thread, number - 1, why)
    except NotResolved:
        if number % p.pings_every == 0:
            for target in p.pings:
                await ping(host, target, why)
    else:
        facts.went_online(host, f"{p.name}: {name} was resolved")
        return
    for name in p.remembered:
        address = last_address(host, name)
        if address is None:
            continue
        about = About("HTTP", name, number - 1, f"{why}: remembered address, no DNS answer")
        try:
            stream = await host.open_stream(address, _HTTP, p.timeout, about)
        except LinkDown:
            raise
        except NetError:
            continue
        await stream.close()
        facts.went_online(host, f"{p.name}: {name} answered at its remembered address")
        return
