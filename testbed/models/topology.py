"""A topology: devices on a LAN, the router, the WAN, and the fake Internet behind it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

from pydantic import Field

from testbed.models.base import Model, Name, Sources
from testbed.models.units import Duration, Rate, Share, Size


class Impairment(Model):
    """What a link does to packets, per direction."""

    delay: Duration = 0
    """One-way delay added to every packet."""
    jitter: Duration = 0
    """Uniform extra delay per exchange, 0 to this."""
    loss: Share = 0.0
    """Share of packets that are lost, each by itself."""
    rate: Rate | None = None
    """Rate limit; null is unlimited."""
    burst: Size = "256kB"
    """Token bucket depth: traffic below it is not delayed by the rate limit."""
    queue: Duration = "1s"
    """Longest wait for tokens; what would wait longer is dropped."""


class DhcpServer(Model):
    """The router's DHCP server."""

    lease: Duration = "12h"
    """Duration of a lease."""
    first: int = Field(100, ge=2, le=65000)
    """Host number of the first address in the pool."""
    size: int = Field(150, ge=1, le=65000)
    """Addresses in the pool."""


class DnsForwarder(Model):
    """The router's DNS forwarder."""

    upstream: Name = "isp_resolver"
    """Service of the fake Internet that resolves for it."""


class IgmpQuerier(Model):
    """The router's IGMP querier on the LAN (RFC 2236 §8)."""

    version: Literal[2, 3] = 2
    """IGMP version of its queries."""
    interval: Duration = "125s"
    """Time between general queries."""
    max_response: Duration = "10s"
    """Within which members answer."""


class Router(Model):
    """The home router."""

    name: Name = "router"
    """Its name in labels and logs."""
    mac: str = Field("20:4e:7f:00:00:01", pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
    """Of its LAN side."""
    lan: IPv4Network = IPv4Network("192.168.1.0/24")
    """The home's network."""
    address: IPv4Address = IPv4Address("192.168.1.1")
    """Its own, on the LAN."""
    boot: Duration = "45s"
    """Time from power-on until the LAN is up."""
    wan_dhcp: Duration = "10s"
    """Time after the uplink returns until a router that booted without it has an upstream."""
    arp_reachable: Duration = "55s"
    """How long its neighbour entries stay fresh; 5 s after going stale they are probed."""
    arp_failure: Duration = "3s"
    """Time until an unanswered next hop makes it answer host unreachable (3 probes of 1 s)."""
    dhcp: DhcpServer = DhcpServer()
    """Its DHCP server."""
    dns: DnsForwarder = DnsForwarder()
    """Its DNS forwarder."""
    igmp: IgmpQuerier | None = IgmpQuerier()
    """Its IGMP querier; null for none."""
    sources: Sources = {}


class Place(Model):
    """Where servers stand."""

    name: Name
    """By which services name it."""
    country: str = Field(pattern=r"^[A-Z]{2}$")
    """ISO 3166-1 alpha-2."""
    state: str | None = Field(None, pattern=r"^[A-Z]{2}$")
    """US state, two letters."""
    city: str = ""
    """For people to read."""
    latitude: float = Field(ge=-90, le=90)
    """Degrees north."""
    longitude: float = Field(ge=-180, le=180)
    """Degrees east."""
    delay: Duration
    """One-way delay from the home's uplink to there."""


class InternetService(Model):
    """One kind of server of the fake Internet, at one or more addresses, under one or more names."""

    name: Name
    """By which scenarios name it."""
    service: Name
    """Kind of service, as `testbed.services` registers it (resolver, ntp, https, http, …)."""
    names: tuple[str, ...] = ()
    """DNS names that lead here."""
    cname: str | None = None
    """Canonical name the names are aliases of, as load balancers have."""
    place: Name | None = None
    """Physical place; servers at several places are given by `places` instead."""
    places: tuple[Name, ...] = ()
    """One address for each place."""
    registry: str | None = Field(None, pattern=r"^[A-Z]{2}(-[A-Z]{2})?$")
    """Country of the address block's registration where it differs from the place."""
    address: IPv4Address | None = None
    """A fixed address, for servers that devices know by number (8.8.8.8); null allots by name."""
    addresses: int = Field(1, ge=1, le=64)
    """How many addresses at each place."""
    answers: int = Field(4, ge=1, le=16)
    """How many addresses a DNS answer carries, rotated."""
    ports: tuple[int, ...] = Field(min_length=1)
    """TCP and UDP ports on which it answers."""
    ttl: Duration = "60s"
    """TTL of its DNS records."""
    options: dict[str, Any] = {}
    """Parameters of the service kind."""
    sources: Sources = {}


class HomeDevice(Model):
    """A device in the topology."""

    name: Name
    """In labels, logs and scenarios; its address and MAC follow from it."""
    model: Name
    """Name of its device model."""
    ip: IPv4Address | None = None
    """Fixed lease; null lets the DHCP server derive it from the name."""
    mac: str | None = Field(None, pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
    """Null derives it from the model's OUI and the name."""
    through: Name | None = None
    """For devices without IP: the device of this topology that speaks for it."""


class Program(Model):
    """A program that runs in a host of the emulation under the real clock; elsewhere it is left out."""

    host: Name
    """The router, a device with IP, or a service."""
    command: str = Field(min_length=1)
    """For the shell. ``$TESTBED_RUN`` is the run's folder, which also gets what the program prints."""
    stands_in: bool = True
    """In the host of a service: answer in place of it; otherwise beside it."""


class Topology(Model):
    """The whole network."""

    name: Name
    """By which scenarios name it; also the name of the file."""
    title: str
    """What it is, in a few words."""
    router: Router = Router()
    """The home router."""
    wan: Impairment = Impairment()
    """The uplink, in each direction."""
    open_wifi: bool = False
    """A second, open Wi-Fi within reach (not captured), as the paper's institution had."""
    devices: tuple[HomeDevice, ...]
    """The devices of the home."""
    internet: Name | None = None
    """Another topology whose places and services this one shares, instead of its own."""
    places: tuple[Place, ...] = ()
    """Where servers stand."""
    services: tuple[InternetService, ...] = ()
    """The servers of the fake Internet."""
    programs: tuple[Program, ...] = ()
    """Programs of others in the hosts, such as a broker in place of ours, or a sniffer on the router."""
