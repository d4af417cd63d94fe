"""Which end of a frame is a device: local stations, the gateway, and what lies beyond it.

Without a list, the capture itself tells: the MAC under which addresses of the Internet appear is
the gateway; the other stations are devices, and the addresses they use are the local ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.analysis.nets import PRIVATE, Address, Nets, are_unicast, is_unicast
from testbed.analysis.order import KeySums, distinct, group_rows, key_sums, sums_at
from testbed.analysis.tables import ARP_ADDRESS, DHCP_ADDRESS, DHCP_NAME, DHCP_ROUTER, MDNS_NAME
from testbed.capture.frame import ARP, NON_IP, address_text, mac_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from testbed.analysis.run import KnownDevice
    from testbed.analysis.tables import Tables

MAX_DEVICES = 1024
OTHERS = "others"
"""Name under which the stations beyond `MAX_DEVICES` are gathered."""
ROUTER = "router"
_BROADCAST = (1 << 48) - 1
_MULTICAST_BIT = 1 << 40
_PSEUDO = 1 << 48

Index = dict[int, int]
"""Device index by MAC."""


@dataclass
class Device:
    """A local station."""

    name: str
    mac: int | None
    known: KnownDevice | None = None
    hostname: str = ""
    """What it calls itself in DHCP, else in mDNS."""
    addresses: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Each address it used, with first and last time (Unix ns)."""


@dataclass
class Roles:
    """Who is who, for every key of the tables."""

    devices: list[Device]
    gateways: set[int]
    gateway_addresses: set[Address]
    src: NDArray[np.int32]
    """Per key: index of the device that sent it, -1 for none."""
    dst: NDArray[np.int32]
    device: NDArray[np.int32]
    """Per key: index of the device that the frame is put down to, `router_index` or -1."""
    router_index: int
    remote: NDArray[np.bool_]
    """Per key: whether the other end lies beyond the gateway."""
    router_name: str = ROUTER

    def name(self, index: int) -> str:
        """Return a device's name by its index; empty for -1."""
        if index == self.router_index:
            return self.router_name
        return self.devices[index].name if index >= 0 else ""


def is_unicast_mac(mac: int) -> bool:
    """Return whether a MAC can be a station's."""
    return mac != 0 and (mac >= _PSEUDO or not mac & _MULTICAST_BIT)


class Behind(NamedTuple):
    """The unicast addresses that stand behind stations: those they sent from or were sent to, each once."""

    mac: NDArray[np.int64]
    hi: NDArray[np.int64]
    lo: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, Address]]:
        """Give the chosen ones one by one."""
        columns = (self.mac[chosen].tolist(), self.hi[chosen].tolist(), self.lo[chosen].tolist())
        for mac, hi, lo in zip(*columns, strict=True):
            yield mac, (hi, lo)


def find_roles(
    tables: Tables,
    known: Sequence[KnownDevice] = (),
    router: KnownDevice | None = None,
    local: Sequence[str] = (),
) -> Roles:
    """Find devices and gateway; `known` and `router` come from a run, `local` from the user."""
    keys = tables.keys
    nets = Nets(local or PRIVATE)
    sums = key_sums(tables.cells, len(keys))
    weights = _weights(keys, sums.packets)
    behind = _behind(tables)
    known_macs = {device.mac for device in known if device.mac is not None}
    if router is not None and router.mac is not None:
        gateways = {router.mac}
    else:
        gateways = _gateways(behind, nets, known_macs, weights, _spoken_to(keys))
    gateway_list = np.array(sorted(gateways), np.int64)
    foreign = (behind.hi != 0) & ~np.isin(behind.mac, gateway_list) & ~nets.cover(behind.hi, behind.lo)
    nets.halves.update(behind.hi[foreign].tolist())
    inside = nets.cover(behind.hi, behind.lo)

    local_pseudo = set(behind.mac[inside & (behind.mac >= _PSEUDO)].tolist())
    macs = [mac for mac in _stations(weights, gateways) if mac < _PSEUDO or mac in local_pseudo]
    devices = [Device(device.name, device.mac, device) for device in known]
    listed = {device.mac for device in devices}
    devices += [Device("", mac) for mac in macs[:MAX_DEVICES] if mac not in listed]
    index: Index = {device.mac: i for i, device in enumerate(devices) if device.mac is not None}
    if len(macs) > MAX_DEVICES:
        devices.append(Device(OTHERS, None))
        for mac in macs[MAX_DEVICES:]:
            index.setdefault(mac, len(devices) - 1)
    _one_station_for_its_address(index, behind, inside, gateway_list)
    _name(devices, tables)

    router_index = len(devices)
    src, dst = _look_up(keys["src"], index), _look_up(keys["dst"], index)
    _note_addresses(devices, index, tables, sums, src)
    from_gateway = np.isin(keys["src"], gateway_list)
    by_dst = keys["role"] == 2
    device = np.where(src >= 0, src, dst)
    both = (src >= 0) & (dst >= 0)
    device[both & by_dst] = dst[both & by_dst]
    device[(device < 0) & from_gateway] = router_index
    gateway_addresses = _gateway_addresses(tables, behind, inside, gateway_list)
    return Roles(
        devices,
        gateways,
        gateway_addresses,
        src,
        dst,
        device.astype(np.int32),
        router_index,
        _remote(keys, src, dst, nets, gateway_addresses),
        router.name if router is not None else ROUTER,
    )


def _behind(tables: Tables) -> Behind:
    keys = tables.keys
    keys = keys[(keys["service"] != ARP) & (keys["service"] != NON_IP)]
    columns = [
        np.concatenate([keys[sent], keys[received]])
        for sent, received in (("src", "dst"), ("sip_hi", "dip_hi"), ("sip_lo", "dip_lo"))
    ]
    _, first = group_rows(*columns)
    mac, hi, lo = (column[first] for column in columns)
    station = (mac != 0) & ((mac >= _PSEUDO) | (mac & _MULTICAST_BIT == 0))
    chosen = station & are_unicast(hi, lo)
    return Behind(mac[chosen], hi[chosen], lo[chosen])


def _weights(keys: NDArray[np.void], packets: NDArray[np.int64]) -> dict[int, int]:
    """Return how many packets each station sent, in order of its first one."""
    group, first = group_rows(keys["src"][1:])
    sent = sums_at(group, packets[1:], len(first))
    return dict(zip(keys["src"][1:][first].tolist(), sent.tolist(), strict=True))


def _gateways(
    behind: Behind, nets: Nets, known: set[int], weights: dict[int, int], spoken_to: set[int]
) -> set[int]:
    """Return the stations under whose MAC remote addresses appear.

    A station with a single public address that only multicasts is a host with a public address.
    """
    station = behind.mac < _PSEUDO
    mac, hi = behind.mac[station], behind.hi[station]
    is_own = nets.cover(hi, behind.lo[station])
    group, first = group_rows(mac)
    macs = mac[first]
    owns = sums_at(group, is_own, len(macs)) > 0
    fours = sums_at(group, (hi == 0) & ~is_own, len(macs))
    foreign = (hi != 0) & ~is_own
    _, prefixes = group_rows(group[foreign], hi[foreign])
    sixes = np.bincount(group[foreign][prefixes], minlength=len(macs))
    remote: dict[int, int] = {}
    inside = False
    for address, own, four, six in zip(
        macs.tolist(), owns.tolist(), fours.tolist(), sixes.tolist(), strict=True
    ):
        if address in known:
            inside = True
            continue
        beyond = four + (six if six > 1 or not own else 0)
        if beyond > 1 or (beyond == 1 and (own or address in spoken_to)):
            remote[address] = beyond
        elif beyond == 0:
            inside = inside or own
    if inside or len(remote) < 2:
        return set(remote) if inside else {mac for mac in remote if remote[mac] > 1}
    # No private address at all: the one with the most addresses behind it, if there is one.
    most = max(remote, key=lambda mac: (remote[mac], weights.get(mac, 0)))
    return {most} if remote[most] > 1 else set()


def _spoken_to(keys: NDArray[np.void]) -> set[int]:
    """Return the stations that take part in unicast."""
    src, dst = keys["src"], keys["dst"]
    unicast = (dst >> 40 & 1 == 0) & (dst != 0) & (src != 0)
    return set(distinct(np.concatenate([src[unicast], dst[unicast]])).tolist())


def _stations(weights: dict[int, int], gateways: set[int]) -> list[int]:
    """Return the MACs that sent something, the busiest first; the gateways left out."""
    order = sorted(weights, key=lambda mac: (-weights[mac], mac))
    return [mac for mac in order if is_unicast_mac(mac) and mac not in gateways]


def _one_station_for_its_address(
    index: Index, behind: Behind, inside: NDArray[np.bool_], gateways: NDArray[np.int64]
) -> None:
    """Join an endpoint known by its address only with the station that sends from that address.

    Linux cooked captures name the sender's MAC only, so that a device appears as both.
    """
    chosen = inside & (behind.hi == 0) & (behind.mac < _PSEUDO) & ~np.isin(behind.mac, gateways)
    for mac, (_, lo) in behind.of(chosen):
        if mac in index:
            index[_PSEUDO | lo & 0xFFFFFFFF] = index[mac]


def _name(devices: list[Device], tables: Tables) -> None:
    """Name the devices: as given, else by DHCP or mDNS, else by MAC; names are unique."""
    taken = {device.name for device in devices if device.name} | {ROUTER}
    facts = tables.facts
    hosts: dict[int, int] = {}
    for kind in (MDNS_NAME, DHCP_NAME):
        named = facts["kind"] == kind
        hosts.update(zip(facts["subject"][named].tolist(), facts["name"][named].tolist(), strict=True))
    for device in devices:
        if device.mac is None:
            continue
        device.hostname = _tidy(tables.text(hosts.get(device.mac, 0)))
        if not device.name:
            name = device.hostname or mac_text(device.mac)
            if device.mac >= _PSEUDO and not device.hostname:
                name = _pseudo_text(device.mac)
            if name in taken:
                name = f"{name} {mac_text(device.mac)}"
            device.name = name
            taken.add(name)


def _pseudo_text(mac: int) -> str:
    if not mac >> 47 & 1:
        return address_text(0, 0xFFFF << 32 | mac & 0xFFFFFFFF)
    return mac_text(mac)


def _tidy(name: str) -> str:
    """Return a host name fit for a table: printable, no list or CSV signs, without `.local`."""
    name = name.removesuffix(".local")
    return "".join(c if c.isalnum() or c in "-_.()+ " else "?" for c in name).strip()[:64]


def _note_addresses(
    devices: list[Device], index: Index, tables: Tables, sums: KeySums, src: NDArray[np.int32]
) -> None:
    """Collect the addresses that each device used, with when."""
    keys = tables.keys
    chosen = np.flatnonzero(
        (src >= 0) & (sums.packets > 0) & (keys["service"] != NON_IP) & (keys["service"] != ARP)
    )
    mac, hi, lo = (keys[column][chosen] for column in ("src", "sip_hi", "sip_lo"))
    group, first = group_rows(mac, hi, lo)
    begin = np.full(len(first), np.iinfo(np.int64).max)
    until = np.full(len(first), np.iinfo(np.int64).min)
    np.minimum.at(begin, group, sums.first_ns[chosen])
    np.maximum.at(until, group, sums.last_ns[chosen])
    order = np.lexsort((lo[first], hi[first], mac[first]))
    columns = (mac[first], hi[first], lo[first], begin, until)
    for station, high, low, when, then in zip(*(c[order].tolist() for c in columns), strict=True):
        _note(devices, index, station, (high, low), when, then)
    facts = tables.facts
    for row in facts[(facts["kind"] == ARP_ADDRESS) | (facts["kind"] == DHCP_ADDRESS)]:
        address = (int(row["hi"]), int(row["lo"]))
        _note(devices, index, int(row["subject"]), address, int(row["first_ns"]), int(row["last_ns"]))


def _note(devices: list[Device], index: Index, mac: int, address: Address, first: int, last: int) -> None:
    if mac not in index or not is_unicast(address) or devices[index[mac]].name == OTHERS:
        return
    addresses = devices[index[mac]].addresses
    text = address_text(*address)
    if text in addresses:
        addresses[text] = min(addresses[text][0], first), max(addresses[text][1], last)
    elif len(addresses) < 256:
        addresses[text] = first, last


def _look_up(macs: NDArray[np.int64], index: Index) -> NDArray[np.int32]:
    """Return the device index of each MAC, -1 for none."""
    known = np.array(sorted(index), np.int64)
    if not len(known):
        return np.full(len(macs), -1, np.int32)
    values = np.array([index[int(mac)] for mac in known], np.int32)
    at = np.minimum(np.searchsorted(known, macs), len(known) - 1)
    return np.where(known[at] == macs, values[at], -1).astype(np.int32)


def _gateway_addresses(
    tables: Tables, behind: Behind, inside: NDArray[np.bool_], gateways: NDArray[np.int64]
) -> set[Address]:
    """Return the gateway's own addresses on the local side."""
    addresses = {address for _, address in behind.of(inside & np.isin(behind.mac, gateways))}
    facts = tables.facts
    tells = (facts["kind"] == ARP_ADDRESS) | (facts["kind"] == DHCP_ROUTER)
    tells &= np.isin(facts["subject"], gateways)
    addresses.update(zip(facts["hi"][tells].tolist(), facts["lo"][tells].tolist(), strict=True))
    return addresses


def _remote(
    keys: NDArray[np.void],
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    nets: Nets,
    gateway_addresses: set[Address],
) -> NDArray[np.bool_]:
    """Return, per key, whether its far end (the one that is no device) is beyond the gateway."""
    candidates = np.flatnonzero(
        ((src >= 0) ^ (dst >= 0)) & (keys["service"] != ARP) & (keys["service"] != NON_IP)
    )
    far_is_dst = src[candidates] >= 0
    hi = np.where(far_is_dst, keys["dip_hi"][candidates], keys["sip_hi"][candidates])
    lo = np.where(far_is_dst, keys["dip_lo"][candidates], keys["sip_lo"][candidates])
    beyond = are_unicast(hi, lo) & ~nets.cover(hi, lo)
    for i in np.flatnonzero(beyond & np.isin(lo, [lower for _, lower in gateway_addresses])).tolist():
        beyond[i] = (int(hi[i]), int(lo[i])) not in gateway_addresses
    out = np.zeros(len(keys), bool)
    out[candidates] = beyond
    return out


def far_address(keys: NDArray[np.void], roles: Roles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, per key, the address of the end that is not the device it is put down to."""
    device_is_src = roles.src == roles.device
    hi = np.where(device_is_src, keys["dip_hi"], keys["sip_hi"])
    lo = np.where(device_is_src, keys["dip_lo"], keys["sip_lo"])
    return hi, lo


def address_sort_key(text: str) -> tuple[int, int]:
    """Return what sorts addresses as numbers, IPv4 first."""
    if not text:
        return 0, 0
    address = ip_address(text)
    return address.version, int(address)
