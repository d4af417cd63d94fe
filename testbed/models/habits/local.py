"""Parameters of the habits on the home's own network: discovery, local control, radio children."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from testbed.models.base import Model, Name
from testbed.models.device import Habit
from testbed.models.habits.parts import Scheduled
from testbed.models.units import Duration, Size


class DnsSdService(Model):
    """A service that a device announces by DNS-SD (RFC 6763)."""

    type: str
    """Such as ``_http._tcp.local``."""
    instance: str
    """``{mac}`` stands for the device's MAC without colons."""
    port: int = Field(ge=1, le=65535)
    """Port that its SRV record names."""
    text: tuple[str, ...] = ()
    """Strings of the TXT record; ``{mac}`` as above."""


class Mdns(Habit):
    """Multicast DNS: probe, announce, browse (RFC 6762)."""

    behaviour: Literal["mdns"]
    hostname: str
    """Without ``.local``; ``{mac}`` stands for the last three octets of the MAC."""
    services: tuple[DnsSdService, ...] = ()
    """What it announces."""
    probes: int = Field(3, ge=0)
    """Probes 250 ms apart, after 0 to 250 ms (RFC 6762 §8.1)."""
    announcements: tuple[Duration, ...] = ("0s", "1s")
    """When the records are announced, counted from the end of probing (RFC 6762 §8.3)."""
    again_every: Duration | None = Field(None, gt=0)
    """Announce once more with this period."""
    again_on: Name | None = None
    """Announce once more at this stimulus."""
    queries_itself: bool = False
    """Each announcement is followed by a query for the device's own first service."""
    browse: tuple[str, ...] = ()
    """Service types asked for."""
    browse_at: Annotated[tuple[Duration, ...], Field(min_length=1)] = ("0s", "1s", "3s")
    """When they are asked for first."""
    browse_factor: float = Field(2.0, ge=1)
    """Then each interval is so many times the one before (RFC 6762 §5.2) …"""
    browse_most: Duration = "60min"
    """… up to this."""
    browse_times: int | None = Field(None, ge=1)
    """Queries after each start; null goes on."""
    ttl: Duration = "75min"
    """TTL of the service records."""
    host_ttl: Duration = "120s"
    """TTL of the address record."""


class Ssdp(Scheduled):
    """Simple Service Discovery: M-SEARCH bursts, NOTIFY announcements (UPnP 1.1 §1)."""

    behaviour: Literal["ssdp"]
    search: tuple[str, ...] = ()
    """Search targets of an M-SEARCH burst."""
    repeat: int = Field(3, ge=1)
    """Messages for each target in a burst."""
    spacing: Duration = "100ms"
    """Time between two messages of a burst."""
    mx: int = Field(3, ge=1, le=5)
    """Longest answer delay asked for, seconds."""
    notify: tuple[str, ...] = ()
    """Notification types announced as alive."""
    location: str = "http://{address}:8008/ssdp/device-desc.xml"
    """``{address}`` stands for the device's own address."""
    server: str = "Linux UPnP/1.1"
    """SERVER header of announcements."""
    user_agent: str = ""
    """USER-AGENT header of searches; empty leaves it out."""


class LocalControl(Scheduled):
    """A phone's app polls a device over TCP 9999 while someone uses it."""

    behaviour: Literal["local_control"]
    peer: str
    """Name of the device in the home's own DNS zone, such as ``hs110_plug.lan``."""
    port: int = Field(9999, ge=1, le=65535)
    """TCP port."""
    poll_every: Duration = "2s"
    """Time between polls while the app is open."""
    lasts: Duration = "60s"
    """How long the app stays open."""
    timeout: Duration = "5s"
    """Wait for each answer."""


class RadioChild(Scheduled):
    """A device without IP reports to its hub or phone by radio."""

    behaviour: Literal["radio_child"]
    tells: Name
    """Stimulus that the hub or phone gets."""
    size: Size = "100B"
    """Bytes of the report on the radio; the event log has it."""
