"""The fake Internet of a topology: which service answers at which address, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from testbed.scenario.addresses import internet_addresses
from testbed.services import ServiceContext, Zone
from testbed.services.registry import build

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host import Service
    from testbed.models import Topology
    from testbed.models.topology import InternetService, Place

HOPS_BASE, HOP_S = 6, 0.005
"""A server is some hops away even next door, and one more for each 5 ms."""

ROUTER_ANSWERS_NS = 150_000
"""Time the home's router takes to answer by itself (DHCP, DNS, ARP, ICMP); assumed."""
BUILD_EPOCH = 1_522_540_800
"""1 April 2018: a constant, so that equal runs leave equal files."""


class _Writer(MMDBWriter):
    """Dates its database by `BUILD_EPOCH`, not by the clock on the wall."""

    def _build_meta(self) -> dict[str, Any]:
        return {**super()._build_meta(), "build_epoch": BUILD_EPOCH}


@dataclass(frozen=True, slots=True)
class Site:
    """One address of the fake Internet."""

    entry: InternetService
    address: str
    place: Place
    service: Service

    @property
    def ttl(self) -> int:
        """TTL of its packets when they reach the home."""
        return 64 - HOPS_BASE - min(24, round(self.place.delay / HOP_S))

    @property
    def registry(self) -> str:
        """Country that the address block is registered in (with the state, `US-XX`, if known)."""
        place = self.place
        return self.entry.registry or (f"{place.country}-{place.state}" if place.state else place.country)


def build_internet(topology: Topology) -> tuple[list[Site], Zone]:
    """Return every address of the fake Internet with its service, and the DNS zone of them all."""
    places = {place.name: place for place in topology.places}
    allotted = internet_addresses(topology)
    zone = Zone()
    sites: list[Site] = []
    for entry in topology.services:
        addresses = allotted[entry.name]
        chain = (entry.cname,) if entry.cname else ()
        if entry.names:
            zone.add(
                entry.names, [address for address, _ in addresses], round(entry.ttl), entry.answers, chain
            )
        for address, place in addresses:
            context = ServiceContext(entry.name, address, entry.names, zone)
            sites.append(Site(entry, address, places[place], build(entry.service, entry.options, context)))
    return sites, zone


def write_places(path: Path, sites: list[Site]) -> None:
    """Write where the addresses are, in MaxMind's format.

    `country` and `subdivisions` hold the place of registration, as a lookup of 2018 gave it;
    `physical` holds where the server stands.
    """
    writer = _Writer(4, "Testbed-Places", languages=["en"], description="Places of a fake Internet")
    for site in sites:
        place = site.place
        country, _, state = site.registry.partition("-")
        record = {
            "country": {"iso_code": country},
            "registered_country": {"iso_code": country},
            "location": {"latitude": place.latitude, "longitude": place.longitude},
            "city": {"names": {"en": place.city}},
            "physical": {"country": place.country, "state": place.state or "", "place": place.name},
        }
        if state:
            record["subdivisions"] = [{"iso_code": state}]
        writer.insert_network(IPSet([f"{site.address}/32"]), record)
    writer.to_db_file(str(path))
