"""Table 1: who the devices are and what they use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.protocols import secrecy
from testbed.analysis.roles import address_sort_key
from testbed.analysis.rows import DeviceRow
from testbed.analysis.vendors import vendor
from testbed.capture.frame import APPLICATIONS, TRANSPORTS, mac_text

if TYPE_CHECKING:
    from testbed.analysis.ledger import Ledger

SECURE_ONLY_BELOW_PCT = 0.1
"""Share of plain application data below which a device's traffic counts as secure only (S)."""


def device_rows(ledger: Ledger) -> list[DeviceRow]:
    """Return one row for each device, in the order of the run or by traffic."""
    packets, size = ledger.key_totals()
    application = ledger.by_device(packets, size, ledger.application, len(APPLICATIONS))
    transport = ledger.by_device(packets, size, ledger.transport, len(TRANSPORTS))
    nothing = np.zeros(len(ledger.keys), np.int64)
    encrypted, plain = (
        ledger.by_device(packets, size, np.where(mask, nothing, -1), 1)[:, 0, :, 1].sum(axis=1)
        for mask in secrecy(ledger)
    )
    rows = []
    for i, device in enumerate(ledger.roles.devices):
        total = transport[i].sum(axis=(0, 1)).tolist()
        used = [name for k, name in enumerate(TRANSPORTS[:5]) if transport[i, k, 0, 0]]
        known = device.known
        rows.append(
            DeviceRow(
                device=device.name,
                mac="" if device.mac is None else mac_text(device.mac),
                class_=known.group if known else "",
                link=known.link if known else "",
                protocols=";".join(used),
                security=_security(int(encrypted[i]), int(plain[i])),
                energy_w=known.energy_w if known else None,
                mean_bytes_per_s=round(total[1] / ledger.duration_s, 4) if ledger.duration_s else 0.0,
                applications=";".join(name for k, name in enumerate(APPLICATIONS) if application[i, k].any()),
                vendor="" if device.mac is None else vendor(device.mac),
                hostname=device.hostname,
                addresses=";".join(sorted(device.addresses, key=address_sort_key)),
                packets=total[0],
                bytes=total[1],
                encrypted_pct=_percent(int(encrypted[i]), total[1]),
                plaintext_pct=_percent(int(plain[i]), total[1]),
            )
        )
    return rows


def _security(encrypted: int, plain: int) -> str:
    """Return S (secure), I (insecure) or both, as Table 1 has them; empty without application data."""
    if encrypted + plain == 0:
        return ""
    if 100 * plain < SECURE_ONLY_BELOW_PCT * (encrypted + plain):
        return "S"
    return "S,I" if encrypted else "I"


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 3) if whole else 0.0
