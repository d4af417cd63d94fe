"""Download an update when its vendor has released one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.dial import ROUTINE, Dialler, Why
from testbed.host import NetError
from testbed.protocols import http

if TYPE_CHECKING:
    from testbed.host import About, Host, Stream
    from testbed.models.habits import FirmwareUpdate

_RELEASE = "firmware"
_REQUEST_BYTES = 300
_LEAST_CHUNK = 512


async def firmware_update(host: Host, p: FirmwareUpdate) -> None:
    """Wait for a release, download it in chunks over one or several connections, wait for the next."""
    while True:
        size = await host.board.stimulus(host, _RELEASE) or p.size
        await host.sleep(p.delay * host.rng.random())
        await facts.ready(host, p.requires)
        host.note("firmware", outcome="begins", size=size)
        image = _Image(host, p, size)
        for number in range(p.parallel):
            host.spawn(f"connection-{number}", image.download)
        await image.complete.wait()
        host.note("firmware", outcome="complete", size=size)


class _Image:
    """An image that several connections fetch together."""

    def __init__(self, host: Host, p: FirmwareUpdate, size: int) -> None:
        self.complete = host.wakeup()
        self._p = p
        self._left = size
        self._fetching = p.parallel

    async def download(self, host: Host) -> None:
        """Fetch chunk after chunk over one connection at a time, until nothing is left to fetch."""
        p = self._p
        dialler = Dialler(host, p.endpoint, p.thread)
        failures = 0
        why = ROUTINE
        while self._left > 0:
            await facts.ready(host, p.requires)
            left_before = self._left
            try:
                stream = await dialler.open(why)
                await self._fetch(stream, dialler.about)
            except NetError as problem:
                failures = 1 if self._left < left_before else failures + 1
                why = Why(failures, f"retry after {problem.outcome}")
                await facts.rest(host, p.retry.wait_s(failures, host.rng.random()))
        self._fetching -= 1
        if not self._fetching:
            self.complete.fire()

    async def _fetch(self, stream: Stream, about: About) -> None:
        """Fetch chunks over an open connection; raises NetError when it is lost."""
        p = self._p
        while self._left > 0:
            chunk = max(_LEAST_CHUNK, min(p.chunk, self._left))
            self._left -= chunk
            request = http.sized_request("GET", p.endpoint.host, p.path, _REQUEST_BYTES, chunk)
            try:
                await stream.request(request, http.complete_response, p.timeout, about)
            except NetError:
                self._left += chunk
                stream.abort()
                raise
        await stream.close()
