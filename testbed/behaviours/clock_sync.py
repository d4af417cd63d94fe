"""Set the clock by SNTP: one server, or a list that is walked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.resolver import NotResolved, resolve
from testbed.host import About, LinkDown, NetError
from testbed.protocols import ntp

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import ClockSync

_DAY_S = 86400.0


async def clock_sync(host: Host, p: ClockSync) -> None:
    """Synchronise after power-on, then as the firmware schedules it."""
    if p.first_delay:
        await host.sleep(p.first_delay * host.rng.random())
    index = host.rng.randrange(len(p.servers)) if p.start == "random" else 0
    failures = 0
    due = host.now()
    while True:
        await facts.ready(host, p.requires)
        server = p.servers[index % len(p.servers)]
        problem = await _ask(host, p, server, failures)
        if problem:
            failures += 1
            index += 1
            await facts.rest(host, p.retry.wait_s(failures, host.rng.random()))
            continue
        failures = 0
        host.board.set(facts.CLOCK, True)
        if p.next_server == "always":
            index += 1
        if p.every is None and not p.at:
            return
        due = _next(host, p, due)
        await host.sleep_until(due)


def _next(host: Host, p: ClockSync, due: float) -> float:
    """Return when the clock is to be set again."""
    now = host.now()
    times = []
    if p.every is not None:
        every = p.every
        if p.jitter:
            every *= 1 + p.jitter * (2 * host.rng.random() - 1)
        times.append(due + every if due + every > now else now + every)
    midnight = now - now % _DAY_S
    times += [time for day in (0.0, _DAY_S) for at in p.at if (time := midnight + day + at) > now + 1]
    return min(times)


async def _ask(host: Host, p: ClockSync, server: str, failures: int) -> str:
    """Synchronise with one server; return what went wrong, empty if nothing did."""
    why = f"retry: wait {p.retry.wait_s(failures, 0.5):.0f} s after a server failed" if failures else ""
    try:
        address = (await resolve(host, server, p.thread, failures, why))[0]
    except (NotResolved, LinkDown) as problem:
        return problem.outcome
    port = p.port or host.rng.randrange(32768, 61000)
    outcome = "no-reply"
    samples = tries = 0
    while samples < p.samples and tries < p.requests + p.samples - 1:
        request = ntp.request(p.version, p.poll, host.now() if p.stamps else None)
        about = About("NTP", server, failures + tries - samples, why)
        tries += 1
        try:
            answer = await host.udp_request(address, ntp.PORT, request, p.timeout, about, port)
        except NetError as problem:
            outcome = problem.outcome
            if isinstance(problem, LinkDown):
                return outcome
            why = f"request {tries + 1} to one address after {p.timeout:.0f} s"
            continue
        flaw = ntp.flaw(answer, request)
        if flaw:
            return flaw
        samples += 1
    return "" if samples else outcome
