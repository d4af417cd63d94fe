"""What devices depend on: names, addresses and places (Figures 5 and 6).

A remote address gets its name from what the device was told or said: the SNI of a TLS hello or the
Host of an HTTP request on that connection (or the nearest one to the same address, for a connection
that was lost before its hello), else the DNS answer that gave it the address, else (the flow began
before anything was seen) the nearest of these later on, else an answer that another device of the
house got. For DNS itself the name is the one that was asked for.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.analysis.ledger import PROTOCOLS
from testbed.analysis.order import group_rows, sums_at
from testbed.analysis.roles import far_address
from testbed.analysis.rows import PlaceRow, ServiceRow
from testbed.analysis.tables import DNS_ANSWER, HOST, SNI
from testbed.capture.frame import APPLICATIONS, DNS, TCP, address_text

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        group, first = group_rows(
            *(
                column[self.chosen]
                for column in (roles.device, ledger.protocol, self.name, self.hi, self.lo, roles.remote)
            )
        )
        self.sample = np.flatnonzero(self.chosen)[first]
        """Per group of a device, protocol, name, address and whether that is remote: one of its keys."""
        self.group = np.full(len(keys), -1, np.int64)
        """Per key: its group, -1 for none."""
        self.group[self.chosen] = group
        self.packets, self.bytes = (sums_at(self.group, amount, len(first)) for amount in ledger.key_totals())
        self.device, self.protocol = roles.device[self.sample], ledger.protocol[self.sample]

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
            seen = np.zeros(count * span, bool)
            seen[group * span + window] = True
            active = seen.reshape(count, span).sum(axis=1)
        else:
            _, first = group_rows(group, window)
            active = np.bincount(group[first], minlength=count)
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
    asks = (keys["service"] == DNS) & (ledger.by_port == _DNS)
    told = np.isin(facts["kind"], (DNS_ANSWER, HOST, SNI))
    # Of the others nothing is known.
    used = np.flatnonzero(chosen & ((names > 0) | np.isin(lo, facts["lo"][told])))
    columns = (device_mac, hi, lo, names, asks, keys["transport"] == TCP, ledger.sums.first_ns)
    for i, mac, high, low, name, ask, tcp, seen in zip(
        used.tolist(), *(column[used].tolist() for column in columns), strict=True
    ):
        if ask:
            source[i] = "question" if name else ""
        elif tcp and (mac, high, low) in said:
            spoken = said[mac, high, low]
            if not any(name == other for _, other in spoken):
                _, name = min(spoken, key=lambda fact: abs(fact[0] - seen))
            names[i], source[i] = name, _SOURCE[origin[mac, high, low, name]]
        elif name:
            source[i] = _SOURCE.get(origin.get((mac, high, low, name), DNS_ANSWER), "dns")
        elif (mac, high, low) in own:
            kind, _, names[i] = min(own[mac, high, low], key=lambda fact: abs(fact[1] - seen))
            source[i] = f"{_SOURCE[kind]}, seen later"
        elif (high, low) in anyone:
            _, _, names[i] = min(anyone[high, low], key=lambda fact: abs(fact[0] - seen))
            source[i] = "another device"
    return names, source


def service_rows(services: Services, atlas: Atlas) -> list[ServiceRow]:
    """Return one row for each device, protocol, name and address, most bytes first."""
    ledger = services.ledger
    active = services.active_pct(services.group, len(services.sample))
    order = np.lexsort((-services.bytes, services.protocol, services.device))
    keys = services.sample[order]
    hi, lo, remote = (column[keys] for column in (services.hi, services.lo, ledger.roles.remote))
    which, first = group_rows(hi, lo, remote)
    texts = list(map(address_text, hi[first].tolist(), lo[first].tolist()))
    places = [
        atlas.place(text if far else "") for text, far in zip(texts, remote[first].tolist(), strict=True)
    ]
    near = which.tolist()

    def of_place(part: str) -> Iterator[Any]:
        return map([getattr(place, part) for place in places].__getitem__, near)

    devices = [ledger.roles.name(i) for i in range(len(ledger.roles.devices) + 1)]
    return list(
        map(
            ServiceRow,
            map(devices.__getitem__, services.device[order].tolist()),
            map(PROTOCOLS.__getitem__, services.protocol[order].tolist()),
            map(ledger.tables.text, services.name[keys].tolist()),
            map(texts.__getitem__, near),
            of_place("country"),
            services.packets[order].tolist(),
            services.bytes[order].tolist(),
            active[order].tolist(),
            of_place("physical"),
            of_place("registry"),
            of_place("latitude"),
            of_place("longitude"),
            map(services.name_from.__getitem__, keys.tolist()),
            ledger.keys["port"][keys].tolist(),
        )
    )


def place_rows(services: Services, atlas: Atlas) -> list[PlaceRow]:
    """Return one row for each device, protocol and country; only with a database of places."""
    if not atlas:
        return []
    ledger = services.ledger
    index: dict[tuple[int, int, str], int] = {}
    members: list[list[int]] = []
    of_group = np.full(len(services.sample), -1, np.int64)
    sample = services.sample
    hi_of, lo_of = services.hi[sample], services.lo[sample]
    columns = (services.device, services.protocol, hi_of, lo_of, ledger.roles.remote[sample])
    for g, (device, protocol, hi, lo, remote) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
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
                addresses=len(set(zip(hi_of[chosen].tolist(), lo_of[chosen].tolist(), strict=True))),
                packets=int(services.packets[chosen].sum()),
                bytes=int(services.bytes[chosen].sum()),
                active_windows_pct=active[number],
            )
        )
    return rows
