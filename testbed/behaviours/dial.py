"""Open a connection as a device does: look the name up, connect, shake hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from testbed.behaviours.resolver import NotResolved, last_address, resolve
from testbed.host import About, NetError, TlsHello

if TYPE_CHECKING:
    from testbed.host import Host, Stream
    from testbed.models.habits.parts import Endpoint

_LABELS = {80: "HTTP", 443: "HTTPS", 1883: "MQTT", 8883: "MQTT", 5228: "GCM", 11095: "Weave"}
"""Application protocol of a TCP port; any other port's traffic is plain ``TCP``."""


class Why(NamedTuple):
    """Which try this is, and which rule caused it."""

    attempt: int = 0
    why: str = ""


ROUTINE = Why()


def label(endpoint: Endpoint) -> str:
    """Return the label of the traffic with an endpoint."""
    return endpoint.protocol or _LABELS.get(endpoint.port, "TCP")


class Dialler:
    """Connects to one endpoint, time and again; remembers what TLS and the address book keep."""

    def __init__(self, host: Host, endpoint: Endpoint, thread: str | None = None) -> None:
        self._host = host
        self._endpoint = endpoint
        self._thread = thread
        self._session = False
        self._failures = 0
        self.label = label(endpoint)
        self.about = About(self.label, endpoint.host)

    async def open(self, why: Why = ROUTINE, keepalive_s: float | None = None) -> Stream:
        """Return a new connection; raises the NetError that came in the way."""
        endpoint = self._endpoint
        address = await self._address(why)
        tls = endpoint.tls
        hello = None
        if tls is not None:
            hello = TlsHello(
                sni=endpoint.host if tls.sni else None,
                version=tls.version,
                hello_bytes=tls.hello,
                chain_bytes=tls.chain,
                resume=tls.resume and self._session,
            )
        about = About(self.label, endpoint.host, why.attempt, why.why)
        try:
            stream = await self._host.open_stream(
                address, endpoint.port, endpoint.timeout, about, hello, keepalive_s
            )
        except NetError:
            self._failures += 1
            raise
        self._failures = 0
        self._session = tls is not None
        return stream

    async def _address(self, why: Why) -> str:
        host, endpoint = self._host, self._endpoint
        known = last_address(host, endpoint.host) if endpoint.remembers else None
        if known is not None and self._failures < endpoint.lookup_after:
            return known
        try:
            return (await resolve(host, endpoint.host, self._thread, why.attempt, why.why))[0]
        except NotResolved:
            if known is None:
                raise
            return known
