"""Which end of a frame is a device: local stations, the gateway, and what lies beyond it.

Without a list, the capture itself tells: the MAC under which addresses of the Internet appear is
the gateway; the other stations are devices, and the addresses they use are the local ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.tables import ARP_ADDRESS, DHCP_ADDRESS, DHCP_NAME, DHCP_ROUTER, MDNS_NAME
from testbed.capture.frame import ARP, NON_IP, address_text, mac_text
from testbed.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from testbed.analysis.run import KnownDevice
    from testbed.analysis.tables import Tables

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
           "fe80::/10", "fc00::/7", "::1/128")  # fmt: skip
"""Addresses that are local unless something else is said. 198.18.0.0/15 is not among them: it
serves as the Internet of test networks."""

MAX_DEVICES = 1024
OTHERS = "others"
"""Name under which the stations beyond `MAX_DEVICES` are gathered."""
ROUTER = "router"
_BROADCAST = (1 << 48) - 1
_MULTICAST_BIT = 1 << 40
_PSEUDO = 1 << 48

Address = tuple[int, int]
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


class Nets:
    """A set of networks to ask addresses of."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.four: list[tuple[int, int]] = []
        self.six: list[tuple[int, int]] = []
        for text in texts:
            try:
                net = ip_network(text, strict=False)
            except ValueError:
                raise UserError(f"'{text}' is not a network; write it like 192.168.1.0/24") from None
            base, mask = int(net.network_address), int(net.netmask)
            (self.four if net.version == 4 else self.six).append((base, mask))

    def __contains__(self, address: Address) -> bool:
        hi, lo = address
        if hi == 0 and lo >> 32 == 0xFFFF:
            value = lo & 0xFFFFFFFF
            return any(value & mask == base for base, mask in self.four)
        value = (hi & 0xFFFFFFFFFFFFFFFF) << 64 | (lo & 0xFFFFFFFFFFFFFFFF)
        return any(value & mask == base for base, mask in self.six)

    def add_64(self, address: Address) -> None:
        """Add the /64 that an IPv6 address lies in."""
        self.six.append(((address[0] & 0xFFFFFFFFFFFFFFFF) << 64, ((1 << 64) - 1) << 64))


def is_unicast_mac(mac: int) -> bool:
    """Return whether a MAC can be a station's."""
    return mac != 0 and (mac >= _PSEUDO or not mac & _MULTICAST_BIT)


def is_unicast(address: Address) -> bool:
    """Return whether an address can be one host's."""
    hi, lo = address
    if hi == 0 and lo >> 32 == 0xFFFF:
        value = lo & 0xFFFFFFFF
        return value != 0 and value < 0xE0000000
    return (hi, lo) != (0, 0) and (hi >> 56) & 0xFF != 0xFF


def find_roles(
    tables: Tables,
    known: Sequence[KnownDevice] = (),
    router: KnownDevice | None = None,
    local: Sequence[str] = (),
) -> Roles:
    """Find devices and gateway; `known` and `router` come from a run, `local` from the user."""
    keys = tables.keys
    nets = Nets(local or PRIVATE)
    packets = np.zeros(len(keys), np.int64)
    np.add.at(packets, tables.cells["key"], tables.cells["packets"])
    sources = _sources(tables)
    known_macs = {device.mac for device in known if device.mac is not None}
    if router is not None and router.mac is not None:
        gateways = {router.mac}
    else:
        gateways = _gateways(sources, nets, known_macs, _weights(keys, packets), _spoken_to(keys))
    for mac, addresses in sources.items():
        if mac not in gateways:
            for address in addresses:
                if address[0] != 0 and is_unicast(address) and address not in nets:
                    nets.add_64(address)

    macs = [
        mac
        for mac in _stations(keys, packets, gateways)
        if mac < _PSEUDO or _pseudo_is_local(mac, sources, nets)
    ]
    devices = [Device(device.name, device.mac, device) for device in known]
    listed = {device.mac for device in devices}
    devices += [Device("", mac) for mac in macs[:MAX_DEVICES] if mac not in listed]
    index: Index = {device.mac: i for i, device in enumerate(devices) if device.mac is not None}
    if len(macs) > MAX_DEVICES:
        devices.append(Device(OTHERS, None))
        for mac in macs[MAX_DEVICES:]:
            index.setdefault(mac, len(devices) - 1)
    _one_station_for_its_address(index, sources, gateways, nets)
    _name(devices, tables)
    _note_addresses(devices, index, tables)

    router_index = len(devices)
    src, dst = _look_up(keys["src"], index), _look_up(keys["dst"], index)
    gateway_list = np.array(sorted(gateways), np.int64)
    from_gateway = np.isin(keys["src"], gateway_list)
    by_dst = keys["role"] == 2
    device = np.where(src >= 0, src, dst)
    both = (src >= 0) & (dst >= 0)
    device[both & by_dst] = dst[both & by_dst]
    device[(device < 0) & from_gateway] = router_index
    gateway_addresses = _gateway_addresses(tables, sources, gateways, nets)
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


def _sources(tables: Tables) -> dict[int, set[Address]]:
    """Return the unicast addresses that stand behind each station: those it sent from or was sent to."""
    keys = tables.keys
    keys = keys[(keys["service"] != ARP) & (keys["service"] != NON_IP)]
    sent = np.stack([keys["src"], keys["sip_hi"], keys["sip_lo"]], axis=1)
    received = np.stack([keys["dst"], keys["dip_hi"], keys["dip_lo"]], axis=1)
    sources: dict[int, set[Address]] = {}
    for mac, hi, lo in np.unique(np.concatenate([sent, received]), axis=0).tolist():
        if is_unicast_mac(mac) and is_unicast((hi, lo)):
            sources.setdefault(mac, set()).add((hi, lo))
    return sources


def _weights(keys: NDArray[np.void], packets: NDArray[np.int64]) -> dict[int, int]:
    macs, inverse = np.unique(keys["src"], return_inverse=True)
    return dict(zip(macs.tolist(), np.bincount(inverse, packets).astype(int).tolist(), strict=True))


def _gateways(
    sources: dict[int, set[Address]],
    nets: Nets,
    known: set[int],
    weights: dict[int, int],
    spoken_to: set[int],
) -> set[int]:
    """Return the stations under whose MAC remote addresses appear.

    A station with a single public address that only multicasts is a host with a public address.
    """
    remote: dict[int, int] = {}
    inside = False
    for mac, addresses in sources.items():
        if mac >= _PSEUDO or mac in known:
            inside = inside or mac in known
            continue
        four = sum(1 for address in addresses if address[0] == 0 and address not in nets)
        six = {address[0] for address in addresses if address[0] != 0 and address not in nets}
        own = any(address in nets for address in addresses)
        beyond = four + (len(six) if len(six) > 1 or not own else 0)
        if beyond > 1 or (beyond == 1 and (own or mac in spoken_to)):
            remote[mac] = beyond
        elif beyond == 0:
            inside = inside or own
    if inside or len(remote) < 2:
        return set(remote) if inside else {mac for mac in remote if remote[mac] > 1}
    # No private address at all: the one with the most addresses behind it, if there is one.
    most = max(remote, key=lambda mac: (remote[mac], weights.get(mac, 0)))
    return {most} if remote[most] > 1 else set()


def _spoken_to(keys: NDArray[np.void]) -> set[int]:
    """Return the stations that take part in unicast."""
    unicast = keys[(keys["dst"] >> 40 & 1 == 0) & (keys["dst"] != 0) & (keys["src"] != 0)]
    return set(np.unique(np.concatenate([unicast["src"], unicast["dst"]])).tolist())


def _stations(keys: NDArray[np.void], packets: NDArray[np.int64], gateways: set[int]) -> list[int]:
    """Return the MACs that sent something, the busiest first; the gateways left out."""
    macs, inverse = np.unique(keys["src"][1:], return_inverse=True)
    sent = np.bincount(inverse, packets[1:], len(macs)) if len(macs) else np.zeros(0)
    order = np.argsort(-sent, kind="stable")
    return [mac for mac in macs[order].tolist() if is_unicast_mac(mac) and mac not in gateways]


def _pseudo_is_local(mac: int, sources: dict[int, set[Address]], nets: Nets) -> bool:
    return any(address in nets for address in sources.get(mac, ()))


def _one_station_for_its_address(
    index: Index, sources: dict[int, set[Address]], gateways: set[int], nets: Nets
) -> None:
    """Join an endpoint known by its address only with the station that sends from that address.

    Linux cooked captures name the sender's MAC only, so that a device appears as both.
    """
    owner = {
        address: mac
        for mac, addresses in sources.items()
        if mac < _PSEUDO and mac not in gateways and mac in index
        for address in addresses
        if address in nets
    }
    for (hi, lo), mac in owner.items():
        if hi == 0:
            index[_PSEUDO | lo & 0xFFFFFFFF] = index[mac]


def _name(devices: list[Device], tables: Tables) -> None:
    """Name the devices: as given, else by DHCP or mDNS, else by MAC; names are unique."""
    taken = {device.name for device in devices if device.name} | {ROUTER}
    facts = tables.facts
    hosts: dict[int, str] = {}
    for kind in (MDNS_NAME, DHCP_NAME):
        for row in facts[facts["kind"] == kind]:
            hosts[int(row["subject"])] = _tidy(tables.text(int(row["name"])))
    for device in devices:
        if device.mac is None:
            continue
        device.hostname = hosts.get(device.mac, "")
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


def _note_addresses(devices: list[Device], index: Index, tables: Tables) -> None:
    """Collect the addresses that each device used, with when."""
    keys, cells = tables.keys, tables.cells
    if len(cells):
        first = np.full(len(keys), np.iinfo(np.int64).max)
        last = np.full(len(keys), np.iinfo(np.int64).min)
        np.minimum.at(first, cells["key"], cells["first_ns"])
        np.maximum.at(last, cells["key"], cells["last_ns"])
        ip = (keys["service"] != NON_IP) & (keys["service"] != ARP)
        columns = np.stack([keys["src"], keys["sip_hi"], keys["sip_lo"]], axis=1)[ip]
        unique, inverse = np.unique(columns, axis=0, return_inverse=True)
        begin = np.full(len(unique), np.iinfo(np.int64).max)
        until = np.full(len(unique), np.iinfo(np.int64).min)
        np.minimum.at(begin, inverse, first[ip])
        np.maximum.at(until, inverse, last[ip])
        for (mac, hi, lo), when, then in zip(unique.tolist(), begin.tolist(), until.tolist(), strict=True):
            _note(devices, index, mac, (hi, lo), when, then)
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
    tables: Tables, sources: dict[int, set[Address]], gateways: set[int], nets: Nets
) -> set[Address]:
    """Return the gateway's own addresses on the local side."""
    addresses = {address for mac in gateways for address in sources.get(mac, ()) if address in nets}
    facts = tables.facts
    for row in facts[(facts["kind"] == ARP_ADDRESS) | (facts["kind"] == DHCP_ROUTER)]:
        if int(row["subject"]) in gateways:
            addresses.add((int(row["hi"]), int(row["lo"])))
    return addresses


def _remote(
    keys: NDArray[np.void],
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    nets: Nets,
    gateway_addresses: set[Address],
) -> NDArray[np.bool_]:
    """Return, per key, whether its far end (the one that is no device) is beyond the gateway."""
    far_is_dst = src >= 0
    hi = np.where(far_is_dst, keys["dip_hi"], keys["sip_hi"])
    lo = np.where(far_is_dst, keys["dip_lo"], keys["sip_lo"])
    out = np.zeros(len(keys), bool)
    candidates = ((src >= 0) ^ (dst >= 0)) & (keys["service"] != ARP) & (keys["service"] != NON_IP)
    verdicts: dict[Address, bool] = {}
    for i in np.flatnonzero(candidates).tolist():
        address = (int(hi[i]), int(lo[i]))
        verdict = verdicts.get(address)
        if verdict is None:
            verdict = is_unicast(address) and address not in nets and address not in gateway_addresses
            verdicts[address] = verdict
        out[i] = verdict
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
