"""Who has which address: allotted per name, so that an added device changes nobody else's.

LAN addresses come from the router's pool, the fake Internet's from 198.18.0.0/15 (RFC 2544
benchmarking range), except for the few that are part of a device's behaviour (8.8.8.8).
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from testbed.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.models import DeviceModel, Topology

INTERNET = IPv4Network("198.18.0.0/15")


def number(*names: str | int) -> int:
    """Return a 256-bit number that depends on the names alone (never `hash()`)."""
    return int.from_bytes(sha256("\0".join(str(name) for name in names).encode()).digest(), "big")


def fraction(*names: str | int) -> float:
    """Return a number from 0 to below 1 that depends on the names alone."""
    return (number(*names) >> 203) / (1 << 53)


def device_mac(topology: Topology, name: str, models: Mapping[str, DeviceModel]) -> str | None:
    """Return a device's MAC: the given one, or its model's OUI and three octets from its name."""
    device = next(device for device in topology.devices if device.name == name)
    if device.mac:
        return device.mac
    oui = models[device.model].oui
    if oui is None:
        return None
    low = number("mac", name) & 0xFFFFFF
    return f"{oui}:{low >> 16:02x}:{low >> 8 & 255:02x}:{low & 255:02x}"


def lan_addresses(topology: Topology, models: Mapping[str, DeviceModel]) -> dict[str, str]:
    """Return the address that the DHCP server keeps for each device with IP.

    Fixed ones first; the others by their name, stepping on where one is taken, in the order of
    the topology file, so that a device added at its end takes from nobody.
    """
    router = topology.router
    taken = {int(router.address)}
    given = {d.name: int(d.ip) for d in topology.devices if d.ip is not None}
    taken.update(given.values())
    base, size = int(router.lan.network_address) + router.dhcp.first, router.dhcp.size
    if base + size > int(router.lan.broadcast_address):
        raise UserError(
            f"topology '{topology.name}': the DHCP pool (first {router.dhcp.first}, size {size}) "
            f"does not fit into {router.lan}"
        )
    result: dict[str, str] = {}
    for device in topology.devices:
        if models[device.model].oui is None:
            continue
        if device.name in given:
            result[device.name] = str(IPv4Address(given[device.name]))
            continue
        offset = number("lan", device.name) % size
        for step in range(size):
            candidate = base + (offset + step) % size
            if candidate not in taken:
                break
        else:
            raise UserError(f"topology '{topology.name}': more devices than the DHCP pool of {size} holds")
        taken.add(candidate)
        result[device.name] = str(IPv4Address(candidate))
    return result


def internet_addresses(topology: Topology) -> dict[str, list[tuple[str, str]]]:
    """Return for each service of the fake Internet its addresses, each with its place."""
    taken: set[int] = set()
    result: dict[str, list[tuple[str, str]]] = {}
    for service in topology.services:
        places = service.places or ((service.place,) if service.place else ())
        if not places:
            raise UserError(
                f"topology '{topology.name}': service '{service.name}' has neither place nor places"
            )
        fixed = str(service.address) if service.address else None
        result[service.name] = []
        for place in places:
            for index in range(service.addresses):
                if fixed is not None:
                    result[service.name].append((fixed, place))
                    continue
                offset = number("internet", service.name, place, index) % (INTERNET.num_addresses - 512)
                while offset in taken:
                    offset = (offset + 1) % (INTERNET.num_addresses - 512)
                taken.add(offset)
                result[service.name].append((str(INTERNET.network_address + 256 + offset), place))
    return result
