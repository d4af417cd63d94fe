"""Pieces that the parameters of several habits share: when, to whom, how much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from testbed.models.base import Backoff, Model, Name
from testbed.models.device import Habit
from testbed.models.units import Duration, Share, Size


def _seconds_of_day(text: object) -> float:
    """Return seconds after midnight UTC for ``03:10`` or ``03:10:30``."""
    parts = text.split(":") if isinstance(text, str) else []
    if len(parts) not in (2, 3) or not all(part.isdigit() for part in parts):
        raise ValueError(f"cannot read {text!r} as a time of day; write it like '03:10' (UTC)")
    hour, minute, second = (int(part) for part in [*parts, "0"][:3])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"there is no time of day {text!r}")
    return hour * 3600.0 + minute * 60 + second


TimeOfDay = Annotated[
    float,
    BeforeValidator(_seconds_of_day),
    Field(
        json_schema_extra={"type": "string", "pattern": r"^\d{1,2}:\d{2}(:\d{2})?$", "examples": ["03:10"]}
    ),
]
"""Seconds after midnight UTC; in YAML ``'03:10'``."""


class Scheduled(Habit):
    """Base of habits that have rounds: with a period, at times of the day, or when something happens.

    A habit with none of `every`, `at` and `on` has one round, when it starts.
    """

    every: Duration | None = Field(None, gt=0)
    """Period; the first round comes after `first`."""
    jitter: Share = 0.0
    """Each interval is drawn uniformly within ± this share of `every`."""
    first: Duration = "0s"
    """From the device's boot to the first round."""
    at: tuple[TimeOfDay, ...] = ()
    """Times of the day, UTC."""
    spread: Duration = "0s"
    """Each time of the day is put off by a uniform draw of 0 to this."""
    on: Name | None = None
    """A stimulus that causes a round at once: ``used``, ``motion``, ``renewed`` (the DHCP lease
    was), ``registered`` (the main session registered), ``resumed`` (a session replaced a lost one), or
    what another habit tells."""
    count: int | None = Field(None, ge=1)
    """Stop after this many rounds since the boot; null goes on."""


class Tls(Model):
    """How the device opens TLS: what shapes the size of the handshake."""

    version: Literal["1.0", "1.1", "1.2", "1.3"] = "1.2"
    """The version that is agreed on."""
    sni: bool = True
    """Name the host in the ClientHello."""
    hello: Size = "222B"
    """Bytes of the ClientHello record."""
    chain: Size = "3.2kB"
    """Bytes of the server's certificate chain."""
    resume: bool = False
    """Offer the session of an earlier connection: an abbreviated handshake."""


class Endpoint(Model):
    """Where a device connects to, and how."""

    host: str
    """DNS name, or a dotted address."""
    port: int = Field(443, ge=1, le=65535)
    """TCP port."""
    tls: Tls | None = Tls()
    """Null is plain TCP."""
    protocol: str | None = None
    """The label of its traffic; null goes by the port."""
    timeout: Duration = "30s"
    """How long the firmware waits for the connection."""
    remembers: bool = False
    """Connect to the last known address, without asking DNS, until that fails `lookup_after` times."""
    lookup_after: int = Field(1, ge=1)
    """Failed connects until it asks DNS again."""


class Exchange(Model):
    """A request and its answer inside a connection, repeated with a period."""

    every: Duration = Field(gt=0)
    """Period."""
    up: Size = Field(gt=0)
    """Bytes of the request, before TLS adds its own."""
    down: Size = Field(gt=0)
    """Bytes of the answer, before TLS adds its own."""


class Burst(Model):
    """Several exchanges one after the other."""

    times: int = Field(1, ge=1)
    """How many exchanges."""
    up: Size = Field(gt=0)
    """Bytes of each request, before TLS adds its own."""
    down: Size = Field(ge=0)
    """Bytes of each answer, before TLS adds its own; 0 (in Weave only) asks for none."""
    spacing: Duration = "0s"
    """Pause between an answer and the next request."""


class Retries(Model):
    """How a client comes back to its server: two policies, by what it knows of its link.

    *Unvalidated*: the server was not reached since the link came up. *Validated*: it was, and got
    lost.
    """

    unvalidated: Backoff
    """Waits while the server was not reached since the link came up."""
    validated: Backoff
    """Waits after it was reached and got lost."""
