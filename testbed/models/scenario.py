"""A scenario: when the network is disrupted, and which spans of time are the paper's states."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from testbed.models.base import Model, Name
from testbed.models.topology import Impairment
from testbed.models.units import Duration, Moment, Share, Size


def _in_utc(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


class Internet(Model):
    """The uplink is plugged or unplugged."""

    action: Literal["internet"]
    at: Moment
    """When."""
    state: Literal["on", "off"]
    """Plugged or not."""
    how: Literal["auto", "silent", "known"] = "auto"
    """How the router fails: `silent` forwards into the void, `known` answers that there is no
    upstream; `auto` follows from the router: silent if it was up when the cable was pulled,
    known after it booted without one."""


class RouterPower(Model):
    """The router is switched."""

    action: Literal["router"]
    at: Moment
    """When."""
    state: Literal["on", "off"]
    """Powered or not."""


class DevicePower(Model):
    """A device is switched on, off, or off and on again."""

    action: Literal["device"]
    at: Moment
    """When."""
    device: Name
    """Name in the topology."""
    state: Literal["on", "off", "restart"]
    """Powered, not, or off and on again."""
    off_for: Duration = "10s"
    """How long a restart leaves it without power."""


class ServiceDown(Model):
    """A service of the fake Internet, or a DNS name, stops answering for a while."""

    action: Literal["service_down"]
    at: Moment
    """When it begins."""
    duration: Duration = Field(gt=0)
    """How long it lasts."""
    service: Name | None = None
    """Name of a service in the topology, or `dns`/`ntp` for all of that kind."""
    name: str | None = None
    """A DNS name that stops resolving (the resolver answers SERVFAIL)."""
    how: Literal["silent", "refused"] = "silent"
    """`silent`: what is sent to it vanishes; `refused`: datagrams and new connections are refused,
    and open connections live on. A name that is down is always answered by SERVFAIL."""


class Impair(Model):
    """Delay, loss or a rate limit on the WAN, or on one device's access link, for a while."""

    action: Literal["impair"]
    at: Moment
    """When it begins."""
    duration: Duration = Field(gt=0)
    """How long it lasts."""
    device: Name | None = None
    """Null is the WAN."""
    link: Impairment
    """What the link does in addition."""


class Habits(Model):
    """The device's own failure: protocols that it stops using (the D-Link's two-stage death)."""

    action: Literal["fail"]
    at: Moment
    """When."""
    device: Name
    """Name in the topology."""
    habits: tuple[Name, ...] = ()
    """Names of the habits that stop; empty stops them all."""


class Stimulus(Model):
    """Something happens to a device from outside the network."""

    action: Literal["stimulus"]
    at: Moment
    """When, or when for the first time."""
    device: Name
    """Name in the topology."""
    kind: Literal["used", "motion", "firmware", "join"]
    """Someone uses it, it sees motion, its vendor releases a firmware, an operator joins it to
    the home's network again."""
    size: Size = 0
    """Of the firmware."""
    every: Duration | None = None
    """Repeat with this period."""
    times: int | None = Field(None, ge=1)
    """How often; null is until the end."""
    jitter: Share = 0.0
    """Each moment is drawn uniformly within ± this share of `every`."""


Event = Annotated[
    Internet | RouterPower | DevicePower | ServiceDown | Impair | Habits | Stimulus,
    Field(discriminator="action"),
]


class State(Model):
    """A named span of the scenario."""

    name: Name
    """As labels and tables have it."""
    number: int | None = Field(None, ge=1, le=7)
    """The paper's state number (Table 2)."""
    device: Name | None = None
    """The device it concerns, in state #7."""
    begin: Duration
    """From the start of the capture."""
    end: Duration
    """From the start of the capture; not included."""


class Scenario(Model):
    """What happens, and when. All times count from the start of the capture; events may lie before it."""

    name: Name
    """Also the name of the file."""
    title: str
    """What it is, in a few words."""
    topology: Name = "home"
    """On which it is played, unless another is given."""
    begin: Annotated[datetime, AfterValidator(_in_utc)]
    """Calendar time at which the capture starts; UTC where it names no zone."""
    duration: Duration = Field(gt=0)
    """Of the capture."""
    warm_up: Duration = "30m"
    """Time before the capture in which the devices already run."""
    start: Literal["power-on", "stationary"] = "power-on"
    """`power-on`: all devices are switched on together when the warm-up begins;
    `stationary`: at random times within it, so that periods have random phases."""
    states: tuple[State, ...] = ()
    """Spans by which labels and tables are cut."""
    events: tuple[Event, ...] = ()
    """What happens."""
