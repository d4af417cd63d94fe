"""Wake, tell the Weave service that all is well, sleep again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.dial import ROUTINE, Dialler, Why
from testbed.behaviours.schedule import Rounds
from testbed.host import NetError
from testbed.protocols import weave

if TYPE_CHECKING:
    from testbed.host import Host, Stream
    from testbed.models.habits import WeaveCheckin
    from testbed.models.habits.parts import Burst

_RADIO = "weave radio"
_WAKE_TIMEOUT_S = 60.0
_SERVICE_NODE = 0x18B4300200000001
"""Weave's node identifier of the service."""


async def weave_checkin(host: Host, p: WeaveCheckin) -> None:
    """Check in at the times of the schedule, and when the Wi-Fi has come up."""
    device = _Device(host, p)
    if p.notices_link:
        host.spawn("link", device.after_link_up)
    rounds = Rounds(host, p)
    while await rounds.next():
        for attempt in range(p.attempts):
            why = Why(attempt, "the contact failed") if attempt else ROUTINE
            if await device.contact(host, why):
                break
            if attempt + 1 < p.attempts:
                await facts.rest(host, p.retry.wait_s(attempt + 1, host.rng.random()))


class _Device:
    """What the device keeps from contact to contact."""

    def __init__(self, host: Host, p: WeaveCheckin) -> None:
        self._p = p
        self._dialler = Dialler(host, p.endpoint, p.thread)
        self._message_id = host.rng.getrandbits(16)
        self._node = int(host.mac.replace(":", ""), 16) | 0x18B4 << 48
        self._registered_link: float | None = None

    async def after_link_up(self, host: Host) -> None:
        """Check in after every link-up, until it succeeds."""
        while True:
            await facts.ready(host, ())
            failures = 0
            while self._registered_link != host.board.get(facts.LINK_UP):
                why = Why(failures, "retry: not reached since the link came up") if failures else ROUTINE
                if await self.contact(host, why):
                    break
                failures += 1
                await facts.rest(host, self._p.retry.wait_s(failures, host.rng.random()))
            await host.board.change(host, facts.LINK_UP)

    async def contact(self, host: Host, why: Why) -> bool:
        """Have one contact; False if it failed."""
        board = host.board  # after power-off the device has another one
        await board.acquire(host, _RADIO)
        try:
            return await self._contact(host, why)
        finally:
            board.release(_RADIO)

    async def _contact(self, host: Host, why: Why) -> bool:
        p, board = self._p, host.board
        if host.lease is None:
            board.stimulate(facts.WAKE)
            if not await board.change(host, facts.LEASE, _WAKE_TIMEOUT_S) or host.lease is None:
                return False
        await host.sleep(p.think)
        link = board.get(facts.LINK_UP)
        try:
            stream = await self._dialler.open(why)
        except NetError as problem:
            facts.went_offline(host, f"{p.name}: {problem.outcome}")
            return False
        try:
            bursts = p.messages if self._registered_link == link else p.messages + p.registration
            for burst in bursts:
                await self._talk(host, stream, burst)
            await stream.close()
        except NetError as problem:
            stream.abort()
            facts.went_offline(host, f"{p.name}: {problem.outcome}")
            return False
        self._registered_link = link
        facts.went_online(host, f"{p.name}: the service answered")
        return True

    async def _talk(self, host: Host, stream: Stream, burst: Burst) -> None:
        exchange_id = host.rng.getrandbits(16)
        for number in range(burst.times):
            if number and burst.spacing:
                await host.sleep(burst.spacing)
            self._message_id = self._message_id + 1 & 0xFFFFFFFF
            data = weave.message(
                burst.up,
                source=self._node,
                destination=_SERVICE_NODE,
                message_id=self._message_id,
                exchange_id=exchange_id,
                answer_bytes=burst.down,
            )
            if burst.down:
                await stream.request(data, weave.complete, self._p.timeout, self._dialler.about)
            else:
                await stream.send(data, self._dialler.about)
