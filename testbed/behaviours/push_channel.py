"""Keep the push channel of Google Cloud Messaging: log in, then a heartbeat now and again."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.comeback import Comeback
from testbed.behaviours.dial import Dialler
from testbed.host import About, NetError, StreamLost
from testbed.protocols import gcm

if TYPE_CHECKING:
    from testbed.host import Host, Stream
    from testbed.models.habits import PushChannel


async def push_channel(host: Host, p: PushChannel) -> None:
    """Be logged in whenever the prerequisites hold; drop the channel when they do not."""
    dialler = Dialler(host, p.endpoint, p.thread)
    comeback = Comeback(host, p.retries)
    device_id, token = host.rng.getrandbits(62), host.rng.getrandbits(62)
    login = gcm.login_request(device_id, token)
    while True:
        await facts.ready(host, p.requires)
        try:
            stream = await dialler.open(comeback.why())
        except NetError as problem:
            await comeback.wait(problem)
            continue
        try:
            await stream.request(login, partial(gcm.complete, first=True), p.timeout, dialler.about)
            comeback.reached()
            host.board.set(p.name, True)
            await _heartbeats(host, p, stream, dialler.about)
            await stream.close()
        except NetError as problem:
            stream.abort()
            host.board.set(p.name, False)
            await comeback.wait(problem)
        finally:
            host.board.set(p.name, False)


async def _heartbeats(host: Host, p: PushChannel, stream: Stream, about: About) -> None:
    """Exchange heartbeats until it is time to log in again; raises when the channel is to be dropped."""
    end = inf
    if p.login_again_every is not None:
        end = host.now() + p.login_again_every * (1 + p.login_jitter * (2 * host.rng.random() - 1))
    every = p.heartbeat_first or p.heartbeat_every
    received = 1  # the login's answer counts as the first stanza
    while host.now() < end - 1:
        if not await facts.holds(host, p.requires, min(every, end - host.now())):
            raise StreamLost
        if host.now() >= end - 1:
            return
        await stream.request(gcm.heartbeat_ping(received), gcm.complete, p.timeout, about)
        received += 1
        every = min(p.heartbeat_every, every * p.heartbeat_growth)
