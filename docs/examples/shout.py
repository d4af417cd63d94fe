"""A behaviour of one's own: say the same thing to everybody, again and again."""

from __future__ import annotations

from typing import Literal

from testbed.host import About, Host
from testbed.models.device import Habit
from testbed.models.units import Duration


class Shout(Habit):
    """Say the same thing to everybody."""

    behaviour: Literal["shout"]
    every: Duration
    """Period."""


async def shout(host: Host, params: Shout) -> None:
    """Broadcast a datagram with a period, whenever the device has an address."""
    due = host.now()
    while True:
        await host.board.wait(host, "lease")
        host.udp_send("255.255.255.255", 7777, b"hello", About("UDP", "neighbours"))
        due = max(due + params.every, host.now())
        await host.sleep_until(due)


SHOUT = (Shout, shout)
