"""Connect, exchange something, close: reports, updates, uploads, checks of the vendor's news."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.cloud_session import exchange
from testbed.behaviours.dial import ROUTINE, Dialler, Why
from testbed.behaviours.schedule import Rounds
from testbed.host import NetError

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import ShortSession


async def short_session(host: Host, p: ShortSession) -> None:
    """Have one session, or one for each endpoint, in every round."""
    diallers = [Dialler(host, endpoint, p.thread) for endpoint in p.endpoints]
    if p.on is not None and p.lasts is not None:
        await _for_a_while(host, p, diallers)
        return
    rounds = Rounds(host, p)
    turn = 0
    while await rounds.next():
        await facts.ready(host, p.requires)
        turn = await _round(host, p, diallers, turn)


async def _for_a_while(host: Host, p: ShortSession, diallers: list[Dialler]) -> None:
    """After each stimulus, have rounds for as long as the firmware does."""
    assert p.on is not None and p.lasts is not None
    turn = 0
    while True:
        await host.board.stimulus(host, p.on)
        end = host.now() + p.lasts
        while host.now() < end:
            await facts.ready(host, p.requires)
            turn = await _round(host, p, diallers, turn)
            if p.every is None:
                break
            await host.sleep(p.every * (1 + p.jitter * (2 * host.rng.random() - 1)))


async def _round(host: Host, p: ShortSession, diallers: list[Dialler], turn: int) -> int:
    """Have a round's sessions; return the number of the next round."""
    if p.walk:
        await _with_retries(host, p, diallers[turn % len(diallers)], turn)
    else:
        for index in range(len(diallers)):
            await _with_retries(host, p, diallers[index], index)
    return turn + 1


async def _with_retries(host: Host, p: ShortSession, dialler: Dialler, index: int) -> None:
    why = ROUTINE
    for attempt in range(1, p.attempts + 1):
        try:
            await _session(host, p, dialler, index, why)
            return
        except NetError as problem:
            if attempt == p.attempts:
                return
            why = Why(attempt, f"retry after {problem.outcome}")
            if await facts.rest(host, p.retry.wait_s(attempt, host.rng.random())):
                return


async def _session(host: Host, p: ShortSession, dialler: Dialler, index: int, why: Why) -> None:
    """Have one session; raises NetError when it fails."""
    name = p.endpoints[index % len(p.endpoints)].host
    stream = await dialler.open(why)
    try:
        await exchange(host, stream, p.burst, name, p.timeout, dialler.about, p.method, p.path)
    except NetError:
        stream.abort()
        raise
    await stream.close()
