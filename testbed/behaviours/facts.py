"""What the habits of one device tell each other: the facts on its board.

- ``associated``, ``lease``: the link and its address; the world and the DHCP habit set them.
- ``link_up``: Unix time at which the link last came up; another value means another link.
- ``online``/``offline``: what the device believes about the Internet; one of them is true while
  it has a lease.
- ``fresh``: the link came up and the Internet was not reached since. ``lost``: it was, and is gone.
- ``registered``: the cloud knows everything about the device since the link came up.
- ``clock``: the time is set.
- the name of a session: that session is up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.host import Host, Wakeup

ONLINE = "online"
OFFLINE = "offline"
FRESH = "fresh"
LOST = "lost"
REGISTERED = "registered"
CLOCK = "clock"
LEASE = "lease"
LINK_UP = "link_up"
RENEWED = "renewed"
RESUMED = "resumed"
WAKE = "wake"


def link_came_up(host: Host) -> None:
    """Begin anew: nothing is known yet of what lies behind the link."""
    board = host.board
    board.set(ONLINE, False)
    board.set(LOST, False)
    board.set(REGISTERED, False)
    board.set(FRESH, True)
    board.set(LINK_UP, host.now())
    board.set(OFFLINE, True)


def link_went_down(host: Host) -> None:
    """Forget what was known of the link."""
    board = host.board
    for fact in (ONLINE, OFFLINE, FRESH, LOST, REGISTERED):
        board.set(fact, False)


def went_online(host: Host, why: str) -> None:
    """The Internet answered."""
    board = host.board
    if board.get(ONLINE) or not board.get(LEASE):
        return
    board.set(OFFLINE, False)
    board.set(FRESH, False)
    board.set(LOST, False)
    board.set(ONLINE, True)
    host.note("belief", outcome=ONLINE, why=why)


def went_offline(host: Host, why: str) -> None:
    """The Internet no longer answers."""
    board = host.board
    if board.get(OFFLINE) or not board.get(LEASE):
        return
    board.set(ONLINE, False)
    board.set(REGISTERED, False)
    board.set(LOST, True)
    board.set(OFFLINE, True)
    host.note("belief", outcome=OFFLINE, why=why)


async def ready(host: Host, requires: tuple[str, ...]) -> None:
    """Wait until the device has an address and the habit's other prerequisites hold."""
    facts = host.board.facts
    for key in (LEASE, *requires):
        if not facts.get(key):
            await host.board.wait(host, LEASE, *requires)
            return


async def rest(host: Host, seconds: float) -> bool:
    """Wait before a retry; True if the link came up anew meanwhile, which ends the wait."""
    return await host.board.change(host, LINK_UP, seconds)


async def holds(host: Host, requires: tuple[str, ...], seconds: float | None = None) -> bool:
    """Wait while the device has an address and the facts are true; False once one is not.

    True when `seconds` passed first.
    """
    keys = (LEASE, *requires)
    board = host.board
    if not all(board.get(key) for key in keys):
        return False
    lost = host.wakeup()
    watchers = [host.spawn(f"holds-{key}", partial(_fire_when_false, key=key, lost=lost)) for key in keys]
    try:
        return not await lost.wait(seconds)
    finally:
        for watcher in watchers:
            watcher.cancel()


async def _fire_when_false(host: Host, key: str, lost: Wakeup) -> None:
    while host.board.get(key):
        await host.board.change(host, key)
    lost.fire()


async def turn(host: Host, thread: str | None) -> None:
    """Wait until the firmware thread is free, where the habit shares one."""
    if thread is not None:
        await host.board.acquire(host, thread)
        host.board.release(thread)
