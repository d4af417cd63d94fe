"""Services by name and by place: what devices were found to depend on, against what they used."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import numpy as np

from testbed.capture.frame import APPLICATIONS
from testbed.validation.result import Check, Difference, f1
from testbed.validation.wire import ipv4_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from testbed.analysis import Analysis
    from testbed.validation.truth import Column, Truth

F1_LEAST = 0.99
"""The stated goal, for names and for places."""
Entry = tuple[str, ...]
"""(device, protocol, name, address), or (device, protocol, country)."""
_MULTICAST = 0xE0000000
_CONNECTIONLESS = ("DNS", "NTP")


def check_services(truth: Truth, analysis: Analysis) -> tuple[list[Check], list[Difference]]:
    """Compare (device, protocol, name, address), and (device, protocol, country).

    The name of a connection that began before the capture may be shown by nothing in it; such names
    are left out, whether the analyser gives one or none. The country is the one of the address
    block's registration, as a lookup would give it.
    """
    used = list(_used(truth))
    devices = {str(entry["name"]) for entry in truth.run["devices"]}
    named: set[Entry] = {(device, protocol, name, address) for device, protocol, name, address, _ in used}
    older = named - _shown(truth, named)
    answered: set[Entry] = {
        (row.device, row.protocol, row.name, row.address)
        for row in analysis.services
        if row.device in devices and row.protocol in APPLICATIONS and row.packets
    }
    answered -= older | {(device, protocol, "", address) for device, protocol, _, address in older}
    where = _countries(truth)
    stood: set[Entry] = {(d, p, where[a]) for d, p, _, a, remote in used if remote and a in where}
    places: set[Entry] = {
        (row.device, row.protocol, row.country)
        for row in analysis.services
        if row.device in devices and row.protocol in APPLICATIONS and row.country
    }
    note = f", {len(older)} older than the capture" if older else ""
    checks = [_check("service names", named - older, answered, note), _check("places", stood, places)]
    return checks, [*_differences("service", named - older, answered), *_differences("place", stood, places)]


def _shown(truth: Truth, named: set[Entry]) -> set[Entry]:
    """Return the entries whose names the capture shows for certain.

    Without connections (DNS, NTP) it always does: a lookup or its answer stands before each use. With
    TCP it does if some connection to that address by that name began while it was recorded.
    """
    labels, wire = truth.labels, truth.wire
    begins = wire.accepts & labels.direction.mask("received")
    begun = {
        (names[0], ipv4_text(address))
        for names, address, _ in _distinct((labels.service,), wire.sip, begins, begins)
    }
    return {entry for entry in named if entry[1] in _CONNECTIONLESS or (entry[2], entry[3]) in begun}


def _check(what: str, truth: set[Entry], answer: set[Entry], note: str = "") -> Check:
    detail = f"{len(truth & answer)} right, {len(truth - answer)} missed, {len(answer - truth)} false{note}"
    return Check(f"{what}, F1", f1(set(truth), set(answer)), F1_LEAST, "least", "", detail)


def _differences(what: str, truth: set[Entry], answer: set[Entry]) -> Iterator[Difference]:
    for item in sorted(truth - answer):
        yield Difference(what, " ".join(item), "")
    for item in sorted(answer - truth):
        yield Difference(what, "", " ".join(item))


def _used(truth: Truth) -> Iterator[tuple[str, str, str, str, bool]]:
    """Yield (device, protocol, name, address, on the Internet) of every service that labels tell of."""
    labels, wire = truth.labels, truth.wire
    sent = labels.direction.mask("sent")
    far = np.where(sent, wire.dip, wire.sip)
    lan = ip_network(str(truth.run["router"]["lan"]), strict=False)
    first, last = int(lan.network_address), int(lan.broadcast_address)
    inside = ((far >= first) & (far <= last)) | (far >= _MULTICAST) | (far == 0)
    asked = labels.protocol.mask("DNS")
    chosen = (
        labels.protocol.mask(*APPLICATIONS)
        & (~inside | asked)
        & ~labels.device.mask(truth.run["router"]["name"])
    )
    for (device, protocol, service), address, remote in _distinct(
        (labels.device, labels.protocol, labels.service), far, ~inside, chosen
    ):
        yield device, protocol, service, ipv4_text(address), remote


def _distinct(
    columns: tuple[Column, ...],
    address: NDArray[np.int64],
    flag: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """Yield the distinct rows among those chosen: names, address, flag. One number stands for each row."""
    code = flag[chosen].astype(np.int64)
    for column in columns:
        code = code * len(column.names) + column.codes[chosen]
    for number in np.unique(code << 32 | address[chosen]).tolist():
        rest, names = number >> 32, []
        for column in reversed(columns):
            rest, place = divmod(rest, len(column.names))
            names.append(column.names[place])
        yield tuple(reversed(names)), number & 0xFFFFFFFF, bool(rest)


def _countries(truth: Truth) -> dict[str, str]:
    """Return where the addresses of the fake Internet are registered (ISO 3166, `US-XX`)."""
    return {
        str(entry["address"]): str(entry["registry"]) for entry in truth.run["services"] if entry["registry"]
    }
