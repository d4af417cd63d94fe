"""A phone's app polls a device of the home over TCP 9999 while someone uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.resolver import NotResolved, resolve
from testbed.behaviours.schedule import Rounds
from testbed.host import About, NetError
from testbed.protocols import tplink

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import LocalControl


async def local_control(host: Host, p: LocalControl) -> None:
    """In every round: find the device, poll it for as long as the app is open."""
    rounds = Rounds(host, p)
    about = About("TCP", p.peer)
    while await rounds.next():
        await facts.ready(host, p.requires)
        try:
            address = (await resolve(host, p.peer, p.thread))[0]
            stream = await host.open_stream(address, p.port, p.timeout, about)
        except NotResolved as problem:
            host.note("local_control", outcome="unknown", why=str(problem))
            continue
        except NetError as problem:
            host.note("local_control", outcome=problem.outcome, why="the device does not answer")
            continue
        due = host.now()
        end = due + p.lasts
        poll = tplink.message({**tplink.GET_SYSINFO, **tplink.GET_REALTIME})
        try:
            while due < end:
                await stream.request(poll, tplink.complete, p.timeout, about)
                due += p.poll_every
                await host.sleep_until(due)
            await stream.close()
        except NetError as problem:
            stream.abort()
            host.note("local_control", outcome=problem.outcome, why="the device no longer answers")
