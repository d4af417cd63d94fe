"""Keep one connection to the vendor's cloud.

A device that had not reached its cloud since its link came up tells it everything on success
(registration); one that had, and lost it, only resumes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.comeback import Comeback
from testbed.behaviours.dial import Dialler
from testbed.host import About, NetError
from testbed.protocols import http

if TYPE_CHECKING:
    from testbed.host import Host, Stream
    from testbed.models.habits import CloudSession
    from testbed.models.habits.parts import Burst


async def cloud_session(host: Host, p: CloudSession) -> None:
    """Connect, register or resume, exchange heartbeats; come back whenever the connection is lost."""
    dialler = Dialler(host, p.endpoint, p.thread)
    comeback = Comeback(host, p.retries)
    while True:
        await facts.ready(host, p.requires)
        try:
            stream = await dialler.open(comeback.why(), p.keepalive)
        except NetError as problem:
            _offline(host, p, problem)
            await comeback.wait(problem)
            continue
        try:
            await _session(host, p, stream, comeback, dialler.about)
            await stream.close()
        except NetError as problem:
            stream.abort()
            host.board.set(p.name, False)
            _offline(host, p, problem)
            await comeback.wait(problem)
        finally:
            host.board.set(p.name, False)


def _offline(host: Host, p: CloudSession, problem: NetError) -> None:
    if p.main:
        facts.went_offline(host, f"{p.name}: {problem.outcome}")


async def _session(host: Host, p: CloudSession, stream: Stream, comeback: Comeback, about: About) -> None:
    """Live one connection; returns when its lifetime is over, raises when it is lost."""
    board = host.board
    first = not comeback.validated
    for burst in p.registration if first else p.resumption:
        await exchange(host, stream, burst, p.endpoint.host, p.timeout, about)
    comeback.reached()
    if not first:
        board.stimulate(facts.RESUMED)
    now = host.now()
    register_due = inf
    if p.main:
        facts.went_online(host, f"{p.name}: connected")
        if first or not p.registers_again_after:
            _registered(host)
        elif not board.get(facts.REGISTERED):
            register_due = now + p.registers_again_after
    board.set(p.name, True)
    heartbeat = http.sized_request("POST", p.endpoint.host, "/", p.heartbeat.up, p.heartbeat.down)
    every_s = p.heartbeat.every
    heartbeat_due = now + every_s
    telemetry, telemetry_every_s, telemetry_due = b"", inf, inf
    if p.telemetry is not None:
        telemetry = http.sized_request("POST", p.endpoint.host, "/data", p.telemetry.up, p.telemetry.down)
        telemetry_every_s = p.telemetry.every
        telemetry_due = now + telemetry_every_s
    end = now + p.lifetime if p.lifetime is not None else inf
    complete, timeout_s, keepalive_s = http.complete_response, p.timeout, p.keepalive
    board_facts = board.facts
    while True:
        due = min(heartbeat_due, telemetry_due, register_due, end)
        if keepalive_s is None:
            await host.sleep_until(due)
        else:
            await stream.idle(due - host.now(), about)
        if due == heartbeat_due:
            await stream.request(heartbeat, complete, timeout_s, about)
            heartbeat_due += every_s
            if (
                p.main
                and register_due == inf
                and board_facts[facts.ONLINE]
                and not board_facts[facts.REGISTERED]
            ):
                _registered(host)  # another habit had thought the Internet gone; this session outlived it
        elif due == telemetry_due:
            if board_facts.get(facts.REGISTERED):
                await stream.request(telemetry, complete, timeout_s, about)
            telemetry_due += telemetry_every_s
        elif due == register_due:
            for burst in p.registration:
                await exchange(host, stream, burst, p.endpoint.host, p.timeout, about)
            _registered(host)
            register_due = inf
        else:
            return


def _registered(host: Host) -> None:
    host.board.set(facts.REGISTERED, True)
    host.board.stimulate(facts.REGISTERED)


async def exchange(
    host: Host,
    stream: Stream,
    burst: Burst,
    name: str,
    timeout_s: float,
    about: About,
    method: str = "POST",
    path: str = "/",
) -> None:
    """Make the exchanges of a burst on an open connection."""
    request = http.sized_request(method, name, path, burst.up, burst.down)
    for number in range(burst.times):
        if number and burst.spacing:
            await host.sleep(burst.spacing)
        await stream.request(request, http.complete_response, timeout_s, about)
