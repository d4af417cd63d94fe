"""Who used which protocol, how much: the whole capture and each state (Figures 2 and 7 to 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.analysis.ledger import BETWEEN, DIRECTIONS, PROTOCOLS
from testbed.analysis.order import group_rows, sums_at
from testbed.analysis.rows import ProtocolRow, StateRow
from testbed.capture import frame as f
from testbed.capture.frame import APPLICATIONS, EVIDENCE, SERVICES, TRANSPORTS, address_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from testbed.analysis.ledger import Ledger

LAYERS = ("application", "transport")
MAX_ENDPOINTS = 200


def protocol_rows(ledger: Ledger) -> list[ProtocolRow]:
    """Return traffic by device, layer, protocol and direction.

    The transport rows of a device add up to all its frames; application rows exist only for the ten
    application protocols.
    """
    packets, size = ledger.key_totals()
    return [ProtocolRow(*row) for row in _rows(ledger, packets, size)]


def state_rows(ledger: Ledger) -> list[StateRow]:
    """Return the same for each state, and for what lies `between` them."""
    if not ledger.states:
        return []
    out = []
    for state in ledger.states:
        packets, size = ledger.key_totals(ledger.cells[ledger.in_state(state)])
        out += [StateRow(state.name, state.number, *row) for row in _rows(ledger, packets, size)]
    packets, size = ledger.key_totals(ledger.cells[ledger.between()])
    out += [StateRow(BETWEEN, None, *row) for row in _rows(ledger, packets, size)]
    return out


def _rows(
    ledger: Ledger, packets: NDArray[np.int64], size: NDArray[np.int64]
) -> Iterator[tuple[str, str, str, str, int, int]]:
    tables = [
        ledger.by_device(packets, size, protocol, len(names)).tolist()
        for protocol, names in ((ledger.application, APPLICATIONS), (ledger.transport, TRANSPORTS))
    ]
    for device in range(len(ledger.roles.devices) + 1):
        for layer, names, table in zip(LAYERS, (APPLICATIONS, TRANSPORTS), tables, strict=True):
            for protocol, name in enumerate(names):
                for direction, word in enumerate(DIRECTIONS):
                    count, octets = table[device][protocol][direction]
                    if count:
                        yield ledger.roles.name(device), layer, name, word, count, octets


def whole_capture(ledger: Ledger) -> dict[str, Any]:
    """Return the totals of `analysis.json`: each frame counted once, by the port rule."""
    packets, size = ledger.key_totals()
    counts, sizes = (
        sums_at(ledger.keys["service"], amount, len(SERVICES)).tolist() for amount in (packets, size)
    )
    by_service = {
        name: {"packets": counts[code], "bytes": sizes[code]}
        for code, name in enumerate(SERVICES)
        if counts[code]
    }
    names = (*APPLICATIONS, "ICMP", "ICMPv6", "IGMP", "ARP", "TCP", "UDP", "other")
    return {
        "protocol_packets": _by_name(ledger, ledger.by_port, packets, names),
        "protocol_bytes": _by_name(ledger, ledger.by_port, size, names),
        "services_by_port": by_service,
        "payload_evidence": payload_evidence(ledger, packets, size),
    }


def _by_name(
    ledger: Ledger, application: NDArray[np.int64], amounts: NDArray[np.int64], names: tuple[str, ...]
) -> dict[str, int]:
    code = np.where(application >= 0, application, ledger.transport + len(APPLICATIONS))
    sums = sums_at(code, amounts, len(PROTOCOLS)).tolist()
    found = dict(zip(PROTOCOLS, sums, strict=True))
    return {name: found[name] for name in names}


def payload_evidence(ledger: Ledger, packets: NDArray[np.int64], size: NDArray[np.int64]) -> dict[str, Any]:
    """Return what payloads say: totals by that rule, protocols on foreign ports, and contradictions."""
    names = (*APPLICATIONS, "ICMP", "ICMPv6", "IGMP", "ARP", "TCP", "UDP", "other")
    seen = {}
    for i, text in enumerate(EVIDENCE):
        chosen = ledger.evidence == i
        if i and packets[chosen].sum():
            seen[text] = {"packets": int(packets[chosen].sum()), "bytes": int(size[chosen].sum())}
    elsewhere: list[dict[str, Any]] = []
    against: list[dict[str, Any]] = []
    differs = (ledger.evidence > 0) & (ledger.by_payload != ledger.by_port) & (packets > 0)
    if differs.any():
        keys = np.flatnonzero(differs)
        hi, lo, port, transport = (column[keys] for column in ledger.server_end())
        group, first = group_rows(hi, lo, port, transport)
        count = sums_at(group, packets[keys], len(first))
        for g in np.argsort(-count, kind="stable")[:MAX_ENDPOINTS].tolist():
            row = first[g]
            key = keys[row]
            entry = {
                "address": address_text(int(hi[row]), int(lo[row])),
                "port": int(port[row]),
                "transport": TRANSPORTS[transport[row]],
                "port_says": SERVICES[ledger.keys["service"][key]],
                "payload_says": EVIDENCE[ledger.evidence[key]],
                "packets": int(count[g]),
            }
            (elsewhere if ledger.by_port[key] < 0 else against).append(entry)
    return {
        "protocol_packets": _by_name(ledger, ledger.by_payload, packets, names),
        "protocol_bytes": _by_name(ledger, ledger.by_payload, size, names),
        "recognised": seen,
        "on_other_ports": elsewhere,
        "against_the_port": against,
    }


ENCRYPTED_SERVICES = (f.HTTPS, f.QUIC, f.MQTTS, f.GCM, f.WEAVE)
"""Ports whose protocols encrypt: TLS, QUIC, and Weave's own security."""
PLAINTEXT_SERVICES = (f.HTTP, f.MQTT, f.NTP, f.SSDP, f.MDNS, f.TPLINK, f.TUYA, f.COAP)
"""Application data in the clear; finding one's way (DHCP, DNS, ARP, ICMP, IGMP) is not counted."""
HOUSE_SERVICES = (f.TPLINK, f.TUYA)
"""What is spoken on these ports in the house only; of a server out there the port says nothing."""


def secrecy(ledger: Ledger) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return, per key, whether it carries encrypted and whether it carries plain application data.

    Payloads decide where they are recognised, else the port.
    """
    said = ledger.evidence
    service = ledger.keys["service"]
    encrypted_words = [EVIDENCE.index("TLS"), EVIDENCE.index("QUIC")]
    plain_words = [EVIDENCE.index(word) for word in ("HTTP", "MQTT", "NTP", "SSDP", "mDNS")]
    silent = said == 0
    encrypted = np.isin(said, encrypted_words) | (silent & np.isin(service, ENCRYPTED_SERVICES))
    unknown = ledger.roles.remote & np.isin(service, HOUSE_SERVICES)
    plain = np.isin(said, plain_words) | (silent & np.isin(service, PLAINTEXT_SERVICES) & ~unknown)
    return encrypted, plain
