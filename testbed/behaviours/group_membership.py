"""Be a member of multicast groups: join, answer queries, leave (RFC 2236, RFC 3376).

Other members' reports are not heard, so none is suppressed: access points and switches that snoop
IGMP do not pass reports on to hosts (RFC 4541 §2.1.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.host import About
from testbed.protocols import igmp

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import GroupMembership


async def group_membership(host: Host, p: GroupMembership) -> None:
    """Be a member whenever what the groups serve is open."""
    while True:
        await facts.ready(host, p.requires)
        for group in p.groups:
            host.groups("join", group)

        async def answer(child: Host) -> None:
            await _join(child, p)
            while True:
                await _answer(child, p, await child.igmp_query())

        member = host.spawn("member", answer)
        await facts.holds(host, p.requires)
        member.cancel()
        for group in p.groups:
            host.groups("leave", group)
        if host.lease is not None:
            _leave(host, p)


async def _join(host: Host, p: GroupMembership) -> None:
    """Send the unsolicited reports (RFC 2236 §3, RFC 3376 §5.1)."""
    for number in range(p.robustness):
        if number:
            await host.sleep(p.repeat_within * host.rng.random())
        for group in p.groups:
            about = About("IGMP", group, number, "join")
            if p.join_version == 3:
                report = igmp.v3_report(((igmp.TO_EXCLUDE, group, ()),))
                host.igmp_send(igmp.V3_ROUTERS, report, about)
            else:
                host.igmp_send(group, igmp.v2_report(group), about)


async def _answer(host: Host, p: GroupMembership, query: bytes) -> None:
    """Report after a random delay, in the querier's version."""
    asked = igmp.parse(query)
    groups = [group for group in p.groups if asked.group in ("0.0.0.0", group)]
    if asked.version == 3:
        if groups:
            await host.sleep(asked.max_response_s * host.rng.random())
            report = igmp.v3_report(tuple((igmp.IS_EXCLUDE, group, ()) for group in groups))
            host.igmp_send(igmp.V3_ROUTERS, report, About("IGMP", igmp.V3_ROUTERS, 0, "query"))
        return
    began = host.now()
    for delay_s, group in sorted((asked.max_response_s * host.rng.random(), group) for group in groups):
        await host.sleep_until(began + delay_s)
        host.igmp_send(group, igmp.v2_report(group), About("IGMP", group, 0, "query"))


def _leave(host: Host, p: GroupMembership) -> None:
    for group in p.groups:
        about = About("IGMP", group, 0, "leave")
        if p.join_version == 3:
            host.igmp_send(igmp.V3_ROUTERS, igmp.v3_report(((igmp.TO_INCLUDE, group, ()),)), about)
        else:
            host.igmp_send(igmp.ALL_ROUTERS, igmp.leave(group), about)
