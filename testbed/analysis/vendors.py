"""Vendors by the first three octets of a MAC."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from testbed.capture import kept

_COMMON = {
    "001788": "Philips Lighting BV",
    "001c2b": "Alertme.com Limited",
    "18742e": "Amazon Technologies Inc.",
    "18b430": "Nest Labs Inc.",
    "1cbdb9": "D-Link International",
    "1cd6be": "Wistron Neweb Corporation",
    "204e7f": "Netgear",
    "20dfb9": "Google, Inc.",
    "2cf432": "Espressif Inc.",
    "3c5ab4": "Google, Inc.",
    "3c71bf": "Espressif Inc.",
    "404e36": "HTC Corporation",
    "44650d": "Amazon Technologies Inc.",
    "50c7bf": "Tp-Link Technologies Co.,Ltd.",
    "5ccf7f": "Espressif Inc.",
    "641666": "Nest Labs Inc.",
    "6854fd": "Amazon Technologies Inc.",
    "68dbf5": "Amazon Technologies Inc.",
    "6c5ab0": "TP-Link Corporation Limited",
    "70ee50": "Netatmo",
    "84f3eb": "Espressif Inc.",
    "908d78": "D-Link International",
    "94103e": "Belkin International Inc.",
    "a42bb0": "Tp-Link Technologies Co.,Ltd.",
    "accf23": "Hi-flying electronics technology Co.,Ltd",
    "b07fb9": "Netgear",
    "b0be76": "Tp-Link Technologies Co.,Ltd.",
    "b0c554": "D-Link International",
    "b827eb": "Raspberry Pi Foundation",
    "c4411e": "Belkin International Inc.",
    "d03745": "Tp-Link Technologies Co.,Ltd.",
    "d8f15b": "Espressif Inc.",
    "dca632": "Raspberry Pi Trading Ltd",
    "e45f01": "Raspberry Pi Trading Ltd",
    "ec1a59": "Belkin International Inc.",
    "f0272d": "Amazon Technologies Inc.",
    "f4f5d8": "Google, Inc.",
    "fc65de": "Amazon Technologies Inc.",
}
"""Prefixes met in every other smart home, as the registry has them."""


def vendor(mac: int) -> str:
    """Return who was assigned the MAC's prefix; empty for a random, local or unknown one."""
    if mac >> 48 or mac >> 41 & 1:
        return ""
    prefix = f"{mac >> 24:06x}"
    return _COMMON.get(prefix) or _find(_registry(), prefix)


def _find(registry: bytes, prefix: str) -> str:
    """Return the name behind a prefix in sorted lines of prefix and name, empty if it is not there."""
    low, high = 0, len(registry)  # the line sought begins in this span
    wanted = prefix.encode()
    while low < high:
        begin = registry.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = registry.index(b"\n", begin)
        if registry[begin : begin + 6] == wanted:
            return registry[begin + 7 : end].decode()
        if registry[begin : begin + 6] < wanted:
            low = end + 1
        else:
            high = begin
    return ""


@cache
def _registry() -> bytes:
    """Return the IEEE's assignments as scapy carries them (prefixes of three octets only), as sorted lines.

    Scapy's form of them takes 0.2 s to unpack, so the lines are kept for the next process.
    """
    found = find_spec("scapy")
    if found is None or not found.submodule_search_locations:
        return b""
    about = (Path(found.submodule_search_locations[0]) / "libs" / "manuf.py").stat()
    name = f"vendors-{about.st_mtime_ns:x}-{about.st_size:x}.txt"
    lines = kept.look_up(name)
    if lines is None:
        lines = _unpacked()
        kept.keep(name, lines)
    return lines


def _unpacked() -> bytes:
    from scapy.libs.manuf import DATA

    names = {}
    for line in DATA.splitlines():
        parts = line.split("\t")
        if len(parts) >= 3 and len(parts[0].strip()) == 8:
            prefix = parts[0].strip().replace(":", "").lower()
            names[prefix] = parts[2].strip() or parts[1].strip()
    return "".join(f"{prefix} {name}\n" for prefix, name in sorted(names.items())).encode()
