"""Services that answer single datagrams: DNS resolver and time server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from testbed.host import Datagram
from testbed.models.base import Model
from testbed.models.units import Duration
from testbed.protocols import ntp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.services.context import ServiceContext


class DatagramsOnly:
    """Base of services that take no connections."""

    def session(self, peer: tuple[str, int], now: float) -> NoSession:
        """Open a connection that nobody serves."""
        return NoSession()


class NoSession:
    """A connection on which nothing is ever said."""

    def receive(self, data: bytes, now: float) -> None:
        """Take the bytes and say nothing."""


class ResolverOptions(Model):
    """A recursive resolver."""

    think: Duration = 0
    """Time until it answers."""


class Resolver(DatagramsOnly):
    """Answers DNS questions from the zone of the fake Internet."""

    def __init__(self, options: ResolverOptions, context: ServiceContext) -> None:
        self._zone = context.zone
        self._think_s = options.think

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Answer a query; what is no query gets silence."""
        try:
            return (Datagram(self._zone.respond(data, peer[0]), self._think_s),)
        except ValueError:
            return ()


class NtpOptions(Model):
    """A time server."""

    stratum: int = Field(2, ge=0, le=15)
    """1 is a server with a clock of its own, 0 answers every request by a kiss-o'-death."""
    ref_id: str | None = None
    """Name of its clock at stratum 1, kiss code at 0, address of its own server above; null is
    ``GPS``, ``RATE`` or a server of the benchmarking range."""
    precision: int = Field(-20, ge=-32, le=0)
    """Exponent of two of its clock's precision in seconds."""
    offset: Duration = 0
    """How far its clock runs ahead."""


_DEFAULT_REF_IDS = {0: "RATE", 1: "GPS"}


class Ntp(DatagramsOnly):
    """Tells the time of the world's clock."""

    def __init__(self, options: NtpOptions, context: ServiceContext) -> None:
        self._stratum = options.stratum
        self._ref_id = options.ref_id or _DEFAULT_REF_IDS.get(options.stratum, "198.18.0.1")
        self._precision = options.precision
        self._offset_s = options.offset

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Answer a client's request; anything else gets silence."""
        try:
            answer = ntp.reply(
                data, now + self._offset_s, self._stratum, self._ref_id, precision=self._precision
            )
        except ValueError:
            return ()
        return (Datagram(answer),)
