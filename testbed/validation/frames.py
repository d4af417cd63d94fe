"""Frame by frame: protocol, device and direction against the labels; and totals to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from testbed.capture.frame import APPLICATIONS, mac_number
from testbed.validation.result import Check, Confusion, Difference, tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis import Analysis
    from testbed.validation.truth import Column, Truth

RIGHT_PCT = 99.9
"""Least share of frames with the right protocol, and with the right device (the stated goal)."""

_OWN_ROWS = ("ICMP", "IGMP", "ARP")
"""Transports that a label names where there is no application."""
Cells = dict[tuple[str, str, str, str], tuple[int, int]]
"""(state, device, protocol, direction) -> (packets, bytes)."""


def confusion(what: str, truth: Column, answer: Column) -> Confusion:
    """Count which answers the frames of each true name got."""
    width = len(answer.names)
    pairs = np.bincount(
        truth.codes.astype(np.int64) * width + answer.codes, minlength=len(truth.names) * width
    )
    return tally(what, truth.names, answer.names, pairs.reshape(len(truth.names), width).astype(np.int64))


def accuracy(confusion: Confusion) -> Check:
    """Return the share of frames whose answer is right."""
    value = 100.0 * confusion.right / confusion.total if confusion.total else None
    wrong = confusion.total - confusion.right
    return Check(
        f"{confusion.what} of frames",
        value,
        RIGHT_PCT,
        "least",
        "%",
        f"{wrong:,} of {confusion.total:,} wrong",
    )


def totals(truth: Truth, analysis: Analysis) -> tuple[list[Check], list[Difference]]:
    """Compare packets and bytes of the whole capture by protocol, and of each state, device and direction."""
    wrong: list[Difference] = []
    names, codes = truth.labels.protocol
    packets = np.bincount(codes, minlength=len(names))
    octets = np.bincount(codes, truth.wire.length, len(names)).astype(np.int64)
    counted = dict(zip(names, zip(packets.tolist(), octets.tolist(), strict=True), strict=True))
    for name in sorted({*counted, *(name for name, n in analysis.protocol_packets.items() if n)}):
        answer = (analysis.protocol_packets.get(name, 0), analysis.protocol_bytes.get(name, 0))
        if answer != counted.get(name, (0, 0)):
            wrong.append(_difference(f"whole capture, {name}", counted.get(name, (0, 0)), answer))
    whole = Check("protocols whose total is off", float(len(wrong)), 0, "most", "", f"of {len(counted)}")
    if not truth.run["states"]:
        return [whole], wrong
    expected, answered = _true_cells(truth), _answered_cells(analysis)
    cells = sorted({*expected, *answered})
    off = [cell for cell in cells if expected.get(cell, (0, 0)) != answered.get(cell, (0, 0))]
    for cell in off:
        wrong.append(_difference(" ".join(cell), expected.get(cell, (0, 0)), answered.get(cell, (0, 0))))
    states = Check(
        "totals by state, device, protocol and direction that are off",
        float(len(off)),
        0,
        "most",
        "",
        f"of {len(cells)}",
    )
    return [whole, states], wrong


def _difference(what: str, truth: tuple[int, int], answer: tuple[int, int]) -> Difference:
    def text(value: tuple[int, int]) -> str:
        return f"{value[0]:,} packets, {value[1]:,} bytes"

    return Difference(what, text(truth), text(answer))


def _true_cells(truth: Truth) -> Cells:
    """Return the totals that labels and MACs give.

    A frame counts for the device whose label it has, and for the one at its other end, if any.
    """
    labels, wire = truth.labels, truth.wire
    names = [str(entry["name"]) for entry in truth.run["devices"]]
    router = str(truth.run["router"]["name"])
    macs = {mac_number(e["mac"]): i for i, e in enumerate(truth.run["devices"]) if e["mac"]}
    place = {name: i for i, name in enumerate([*names, router])}
    owner = np.array([place.get(name, -1) for name in labels.device.names])[labels.device.codes]
    out: Cells = {}
    for direction, mac in (("sent", wire.src), ("received", wire.dst)):
        who = np.where(labels.direction.mask(direction), owner, _look_up(mac, macs))
        chosen = who >= 0
        key = (labels.state.codes.astype(np.int64) * (len(names) + 1) + who) * len(
            labels.protocol.names
        ) + labels.protocol.codes
        used, inverse = np.unique(key[chosen], return_inverse=True)
        packets = np.bincount(inverse, minlength=len(used)).tolist()
        octets = np.bincount(inverse, wire.length[chosen], len(used)).astype(np.int64).tolist()
        for code, count, size in zip(used.tolist(), packets, octets, strict=True):
            rest, protocol = divmod(code, len(labels.protocol.names))
            state, device = divmod(rest, len(names) + 1)
            name = labels.protocol.names[protocol]
            if name in APPLICATIONS or name in _OWN_ROWS:
                out[labels.state.names[state], [*names, router][device], name, direction] = (count, size)
    return out


def _look_up(mac: NDArray[np.int64], index: dict[int, int]) -> NDArray[np.int64]:
    known = np.array(sorted(index), np.int64)
    values = np.array([index[number] for number in sorted(index)], np.int64)
    if not len(known):
        return np.full(len(mac), -1)
    place = np.minimum(np.searchsorted(known, mac), len(known) - 1)
    return np.where(known[place] == mac, values[place], -1)


def _answered_cells(analysis: Analysis) -> Cells:
    out: Cells = {}
    for row in analysis.states:
        if row.layer == "application" or row.protocol in _OWN_ROWS:
            out[row.state, row.device, row.protocol, row.direction] = (row.packets, row.bytes)
    return out
