"""Echo requests to the gateway and to hosts beyond it, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.resolver import NotResolved, resolve
from testbed.host import About, LinkDown

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import PingCycle
    from testbed.models.habits.network import Pings


async def ping(host: Host, target: Pings, why: str = "") -> int:
    """Send a burst of echo requests to one target; return how many were answered."""
    lease = host.lease
    if lease is None:
        raise LinkDown
    if target.target == "gateway":
        address = lease.router
    elif target.target == "resolver":
        address = lease.resolvers[0] if lease.resolvers else lease.router
    else:
        address = target.target
    about = About("ICMP", target.target, 0, why)
    return await host.ping(address, target.count, target.interval, target.timeout, about)


async def ping_cycle(host: Host, p: PingCycle) -> None:
    """Ping every target in turn, then look the names up; by another period while off-line."""
    await host.sleep(p.first)
    while True:
        await facts.ready(host, p.requires)
        began = host.now()
        why = "off-line" if host.board.get(facts.OFFLINE) else ""
        try:
            for target in p.targets:
                await ping(host, target, why)
            for name in p.names:
                await resolve(host, name, p.thread, 0, why)
        except (NotResolved, LinkDown):
            pass
        await _until_next(host, p, began)


async def _until_next(host: Host, p: PingCycle, began: float) -> None:
    """Wait for the next cycle; the period changes as soon as the device's belief does."""
    while True:
        offline = host.board.get(facts.OFFLINE) and p.every_offline is not None
        period = p.every_offline if offline else p.every
        assert period is not None
        left = began + period - host.now()
        if left <= 0 or not await host.board.change(host, facts.OFFLINE, left):
            return
