"""TP-Link's local control on port 9999: JSON under an autokey XOR, with a length before it on TCP.

Source: softScheck's reverse engineering of the HS110 (facts on the plug, local control).
"""

from __future__ import annotations

import json
from typing import Any

PORT = 9999
_FIRST_KEY = 171
_MOST_BYTES = 1 << 20

GET_SYSINFO: dict[str, Any] = {"system": {"get_sysinfo": {}}}
GET_REALTIME: dict[str, Any] = {"emeter": {"get_realtime": {}}}


def scramble(plain: bytes) -> bytes:
    """Return `plain` under the cipher (each byte's key is the cipher byte before it)."""
    key, out = _FIRST_KEY, bytearray()
    for byte in plain:
        key ^= byte
        out.append(key)
    return bytes(out)


def unscramble(secret: bytes) -> bytes:
    """Return what `scramble` made of it."""
    return bytes(a ^ b for a, b in zip(secret, bytes((_FIRST_KEY,)) + secret, strict=False))


def set_relay(on: bool) -> dict[str, Any]:
    """Return the command that switches the plug."""
    return {"system": {"set_relay_state": {"state": int(on)}}}


def datagram(command: dict[str, Any]) -> bytes:
    """Return a command or answer as UDP carries it."""
    return scramble(json.dumps(command, separators=(",", ":")).encode())


def message(command: dict[str, Any]) -> bytes:
    """Return a command or answer as TCP carries it."""
    secret = datagram(command)
    return len(secret).to_bytes(4, "big") + secret


def parse_datagram(data: bytes) -> dict[str, Any]:
    """Return the command or answer of a datagram; ValueError if it is none."""
    try:
        found = json.loads(unscramble(data))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not a command of TP-Link's local control")
    return found


def length(data: bytes) -> int | None:
    """Return the bytes of the first message in a TCP stream, None while it is not whole."""
    if len(data) < 4:
        return None
    total = 4 + int.from_bytes(data[:4], "big")
    if total > _MOST_BYTES:
        raise ValueError("not a message of TP-Link's local control")
    return total if total <= len(data) else None


def complete(data: bytes) -> bool:
    """Tell whether `data` begins with a whole message."""
    return length(data) is not None


def parse(data: bytes) -> dict[str, Any]:
    """Return the first command or answer of a TCP stream; ValueError if it is none or not whole."""
    total = length(data)
    if total is None:
        raise ValueError("a message of TP-Link's local control that is not whole")
    return parse_datagram(data[4:total])
