"""What devices depend on: names, addresses and places (Figures 5 and 6).

A remote address gets its name from what the device was told or said: the SNI of a TLS hello or the
Host of an HTTP request on that connection (or the nearest one to the same address, for a connection
that was lost before its hello), else the DNS answer that gave it the address, else (the flow began
before anything was seen) the nearest of these later on, else an answer that another device of the
house got. For DNS itself the name is the one that was asked for.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.roles import far_address
from testbed.analysis.rows import PlaceRow, ServiceRow
from testbed.analysis.tables import DNS_ANSWER, HOST, SNI
from testbed.capture.frame import APPLICATIONS, DNS, TCP, address_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.geography import Atlas
    from testbed.analysis.ledger import Ledger

_SOURCE = {SNI: "sni", HOST: "host", DNS_ANSWER: "dns"}
_DNS = APPLICATIONS.index("DNS")
MAX_DENSE = 1 << 24


class Services:
    """The services of a ledger: one group of keys for each (device, protocol, name, address, port)."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        roles, keys = ledger.roles, ledger.keys
        asks = (ledger.by_port == _DNS) & (keys["service"] == DNS) & (keys["name"] > 0)
        of_device = (roles.device >= 0) & (roles.device < roles.router_index)
        self.chosen = of_device & (roles.remote | asks)
        """Per key: whether it is with a service."""
        self.hi, self.lo = far_address(keys, roles)
        self.name, self.name_from = _names(ledger, self.chosen, self.hi, self.lo)
        columns = np.stack(
            [
                roles.device.astype(np.int64),
                ledger.protocol,
                self.name,
                self.hi,
                self.lo,
                roles.remote.astype(np.int64),
            ],
            axis=1,
        )[self.chosen]
        self.groups, first, inverse = np.unique(columns, axis=0, return_index=True, return_inverse=True)
        """Columns: device, protocol, fact of the name, address (two halves), remote."""
        self.group = np.full(len(keys), -1, np.int64)
        """Per key: its group, -1 for none."""
        self.group[self.chosen] = inverse.reshape(-1)
        self.sample = np.flatnonzero(self.chosen)[first]
        """Per group: one of its keys."""
        self.packets, self.bytes = (self._sum(amount) for amount in ledger.key_totals())

    def _sum(self, amount: NDArray[np.int64]) -> NDArray[np.int64]:
        out = np.zeros(len(self.groups), np.int64)
        np.add.at(out, self.group[self.chosen], amount[self.chosen])
        return out

    def active_pct(self, group_of_key: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Return the share of windows with traffic of each group of keys, in percent."""
        cells = self.ledger.cells
        group = group_of_key[cells["key"]]
        used = group >= 0
        group, window = group[used], cells["window"][used]
        if not len(group):
            return np.zeros(count)
        window = window - window.min()
        span = int(window.max()) + 1
        if count * span <= MAX_DENSE:
            seen = np.zeros((count, span), bool)
            seen[group, window] = True
            active = seen.sum(axis=1)
        else:
            active = np.bincount(np.unique(np.stack([group, window], axis=1), axis=0)[:, 0], minlength=count)
        return np.asarray(np.round(100.0 * active / self.ledger.windows, 3))


def _names(
    ledger: Ledger, chosen: NDArray[np.bool_], hi: NDArray[np.int64], lo: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str]]:
    """Return, per key, the fact that names its far end (0 for none), and where the name is from."""
    keys, roles, tables = ledger.keys, ledger.roles, ledger.tables
    facts = tables.facts
    own: dict[tuple[int, int, int], list[tuple[int, int, int]]] = defaultdict(list)
    said: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    anyone: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    origin: dict[tuple[int, int, int, int], int] = {}
    for kind in (DNS_ANSWER, HOST, SNI):  # the later ones weigh more
        for row in facts[facts["kind"] == kind].tolist():
            _, subject, high, low, first, _, count, name, *_ = row
            own[subject, high, low].append((kind, first, name))
            anyone[high, low].append((first, count, name))
            origin[subject, high, low, name] = kind
            if kind != DNS_ANSWER:
                said[subject, high, low].append((first, name))
    names = keys["name"].astype(np.int64)
    source = [""] * len(keys)
    device_mac = np.where(roles.src == roles.device, keys["src"], keys["dst"])
    first_seen = _first_seen(ledger)
    for i in np.flatnonzero(chosen).tolist():
        mac, high, low = int(device_mac[i]), int(hi[i]), int(lo[i])
        if keys["service"][i] == DNS and ledger.by_port[i] == _DNS:
            source[i] = "question" if names[i] else ""
        elif keys["transport"][i] == TCP and said[mac, high, low]:
            spoken = {name for _, name in said[mac, high, low]}
            if names[i] not in spoken:
                _, names[i] = min(said[mac, high, low], key=lambda fact: abs(fact[0] - first_seen[i]))
            source[i] = _SOURCE[origin[mac, high, low, int(names[i])]]
        elif names[i]:
            source[i] = _SOURCE.get(origin.get((mac, high, low, int(names[i])), DNS_ANSWER), "dns")
        elif (mac, high, low) in own:
            kind, _, name = min(own[mac, high, low], key=lambda fact: abs(fact[1] - first_seen[i]))
            names[i], source[i] = name, f"{_SOURCE[kind]}, seen later"
        elif (high, low) in anyone:
            _, _, name = min(anyone[high, low], key=lambda fact: abs(fact[0] - first_seen[i]))
            names[i], source[i] = name, "another device"
    return names, source


def _first_seen(ledger: Ledger) -> NDArray[np.int64]:
    first = np.full(len(ledger.keys), np.iinfo(np.int64).max // 2)
    np.minimum.at(first, ledger.cells["key"], ledger.cells["first_ns"])
    return first


def service_rows(services: Services, atlas: Atlas) -> list[ServiceRow]:
    """Return one row for each device, protocol, name and address, most bytes first."""
    ledger = services.ledger
    active = services.active_pct(services.group, len(services.groups)).tolist()
    rows = []
    order = np.lexsort((-services.bytes, services.groups[:, 1], services.groups[:, 0]))
    for g in order.tolist():
        device, protocol, name, hi, lo, remote = services.groups[g].tolist()
        key = int(services.sample[g])
        address = address_text(hi, lo)
        place = atlas.place(address if remote else "")
        rows.append(
            ServiceRow(
                device=ledger.roles.name(device),
                protocol=PROTOCOLS[protocol],
                name=ledger.tables.text(name),
                address=address,
                country=place.country,
                packets=int(services.packets[g]),
                bytes=int(services.bytes[g]),
                active_windows_pct=active[g],
                place=place.physical,
                registry=place.registry,
                latitude=place.latitude,
                longitude=place.longitude,
                name_from=services.name_from[key],
                port=int(ledger.keys["port"][key]),
            )
        )
    return rows


def place_rows(services: Services, atlas: Atlas) -> list[PlaceRow]:
    """Return one row for each device, protocol and country; only with a database of places."""
    if not atlas:
        return []
    ledger = services.ledger
    index: dict[tuple[int, int, str], int] = {}
    members: list[list[int]] = []
    of_group = np.full(len(services.groups), -1, np.int64)
    for g, (device, protocol, _, hi, lo, remote) in enumerate(services.groups.tolist()):
        country = atlas.place(address_text(hi, lo)).country if remote else ""
        if country:
            number = index.setdefault((device, protocol, country), len(index))
            if number == len(members):
                members.append([])
            members[number].append(g)
            of_group[g] = number
    group_of_key = np.where(services.group >= 0, of_group[services.group], -1)
    active = services.active_pct(group_of_key, len(index)).tolist()
    rows = []
    for (device, protocol, country), number in index.items():
        chosen = members[number]
        rows.append(
            PlaceRow(
                device=ledger.roles.name(device),
                protocol=PROTOCOLS[protocol],
                country=country,
                addresses=len({tuple(services.groups[g, 3:5].tolist()) for g in chosen}),
                packets=int(services.packets[chosen].sum()),
                bytes=int(services.bytes[chosen].sum()),
                active_windows_pct=active[number],
            )
        )
    return rows
