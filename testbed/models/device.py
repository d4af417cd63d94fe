"""A device model: who the device is on the network, and its list of habits.

One YAML file in ``device_models/`` per device. Parameters of the habits are in
`testbed.models.habits`; each block names the source of its numbers under ``sources``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, StringConstraints

from testbed.models.base import Model, Name, Sources
from testbed.models.units import Duration

Oui = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}:){2}[0-9a-f]{2}$")]


class TcpStack(Model):
    """What the device's kernel does by itself on TCP."""

    window: int = Field(29200, ge=536, le=65535)
    """Receive window of the SYN, bytes."""
    window_scale: int | None = Field(7, ge=0, le=14)
    """Window scale option; null leaves it out."""
    timestamps: bool = True
    """Offer the timestamps option (RFC 7323)."""
    sack: bool = True
    """Offer selective acknowledgements (RFC 2018)."""
    mss: int = Field(1460, ge=536, le=1460)
    """Maximum segment size that the SYN names, bytes."""
    syn_timeout: Duration = "1s"
    """First SYN retransmission time; each further one doubles it (RFC 6298 §2.1)."""
    syn_retries: int = Field(6, ge=0, le=10)
    """SYN retransmissions before a connect fails."""
    min_rto: Duration = "200ms"
    """Least retransmission time."""
    max_rto: Duration = "120s"
    """Most that doubling makes of it."""
    data_retries: int = Field(15, ge=1, le=20)
    """Retransmissions of unacknowledged data before the connection is given up."""
    delayed_ack: Duration = "40ms"
    """How long an ACK waits for data to travel with."""
    initial_window: int = Field(10, ge=1, le=64)
    """Initial congestion window in segments."""
    sources: Sources = {}


class Link(Model):
    """How the device reaches the router."""

    medium: Literal["ethernet", "wifi", "zigbee", "bluetooth"]
    """What the device speaks to the router, its hub or phone."""
    through: Name | None = None
    """The device that speaks IP for this one (its hub or phone); null for IP devices."""
    delay: Duration = "1ms"
    """One-way delay between device and router."""
    arp_reachable: Duration = "55s"
    """How long the gateway's ARP entry stays fresh; 5 s after going stale it is probed."""
    associate: Duration = "2s"
    """Time from power-on (or from the network's return) to carrier or association."""
    open_wifi_after: Duration | None = None
    """After its own network was gone this long, join an open Wi-Fi if there is one; null never."""
    drops_after: Duration = "0s"
    """How long the network must be gone until the device takes its interface down."""
    sources: Sources = {}


class Dhcp(Model):
    """What the device's DHCP client says about itself."""

    hostname: str | None = None
    """Option 12."""
    vendor_class: str | None = None
    """Option 60."""
    parameters: tuple[int, ...] = (1, 3, 6, 15, 28)
    """Option 55, in order."""
    client_id: bool = True
    """Send option 61 (hardware type and MAC)."""
    max_size: int | None = None
    """Option 57."""
    pad_to: int = Field(300, ge=240, le=576)
    """Least length of the BOOTP message (RFC 1542 wants 300)."""
    sources: Sources = {}


class Resolver(Model):
    """The device's DNS stub resolver."""

    servers: tuple[str, ...] = ()
    """Fixed servers, asked instead of those the lease names; empty takes the lease's."""
    timeout: Duration = "5s"
    """Wait for an answer to each query."""
    timeout_factor: float = Field(1.0, ge=1)
    """Each further round through the servers waits so many times longer."""
    tries: int = Field(2, ge=1)
    """Rounds through the servers."""
    most_servers: int = Field(3, ge=1)
    """Servers asked, of those known."""
    rotate: bool = False
    """Begin each lookup with the next server."""
    together: bool = False
    """Ask every server at once; the first answer counts."""
    on_error: Literal["fail", "next"] = "next"
    """SERVFAIL, REFUSED or an unreachable server ends the lookup, or leads to the next server."""
    aaaa: tuple[str, ...] = ()
    """Names whose AAAA record is asked for too."""
    aaaa_first: bool = False
    """Ask for AAAA before A."""
    cache: bool = False
    """Keep answers for their TTL."""
    idents: Literal["random", "counter"] = "random"
    """Query identifiers: random, or counted up from 2 since the process began (uClibc)."""
    port: int | None = Field(None, ge=1, le=65535)
    """Source port; null takes a fresh one for each query."""
    failure_kept: Duration = "0s"
    """After a failed lookup the same name fails at once for this long."""
    sources: Sources = {}


class Function(Model):
    """When the device does its job, as its user sees it."""

    needs: tuple[Name, ...] = ()
    """Facts that must hold for the device to work fully (names of sessions, `online`, …)."""
    without: Literal["works", "partial", "off-line"] = "off-line"
    """What it is without them."""
    without_link: Literal["works", "partial", "off-line"] = "off-line"
    """What it is without a network at all."""
    local: str = ""
    """What still works on the spot, in words; empty when nothing does."""
    sources: Sources = {}


class Paper(Model):
    """The device's row of Table 1."""

    number: int | None = None
    """The device's number in Table 1."""
    security: Literal["S", "S,I"] | None = None
    """Table 1: secure (S), also insecure (S,I)."""
    protocols: tuple[str, ...] = ()
    """Network and transport protocols of Table 1."""
    mean_bytes_per_s: float | None = None
    """Table 1's average bandwidth; null where the paper has none."""
    in_statistics: bool = True
    """One of the eight devices of the paper's traffic statistics."""


class Habit(Model):
    """Base of the parameters of a habit; each subclass belongs to one behaviour."""

    behaviour: str
    """What it does: one of the behaviours."""
    name: Name
    """Names the task: its random stream and its label."""
    thread: Name | None = None
    """Firmware thread: habits on one thread wait for each other's lookups."""
    requires: tuple[Name, ...] = ()
    """Facts on the device's board that must be true before each round."""
    sources: Sources = {}


class Port(Model):
    """A port on which the device itself answers."""

    port: int = Field(ge=1, le=65535)
    """TCP and UDP port."""
    service: Name
    """Kind of service, as `testbed.services` registers it."""
    options: dict[str, Any] = {}
    """Parameters of the service kind."""


class DeviceModel(Model):
    """Everything the testbed knows of a device."""

    name: Name
    """By which topologies name it; also the name of the file."""
    title: str
    """What it is, in a few words."""
    vendor: str
    """Who makes it."""
    hub_or_sensor: Literal["H", "S", "phone"]
    """The paper's class: Hub finds and controls others, Sensor talks straight to the cloud."""
    oui: Oui | None = None
    """First three octets of its MAC; null for devices without IP."""
    energy_w: float | None = None
    """Mean power in watts; null where battery powered or not known."""
    link: Link
    """How it reaches the network."""
    ttl: int = Field(64, ge=1, le=255)
    """IP TTL of what it sends."""
    tcp: TcpStack = TcpStack()
    """Its kernel's TCP."""
    dhcp: Dhcp | None = Dhcp()
    """Its DHCP client; null for devices without IP."""
    resolver: Resolver = Resolver()
    """Its DNS stub resolver."""
    function: Function = Function()
    """When it does its job."""
    paper: Paper = Paper()
    """What Table 1 says of it."""
    boot: Duration = "5s"
    """Time from power-on until the habits start."""
    listens: tuple[Port, ...] = ()
    """Ports on which it answers."""
    habits: tuple[SerializeAsAny[Habit], ...] = ()
    """What it does, all at once, from boot to power-off."""
    limits: tuple[str, ...] = ()
    """What the model does not reproduce yet, in words."""
    sources: Sources = {}
