"""Answers of any analyser as a CSV file: one row per frame with its protocol and its device.

Columns ``frame`` (1-based number in the capture), ``protocol`` and ``device``; further columns are
ignored. Protocols are named as in the labels (DHCP, DNS, mDNS, SSDP, NTP, HTTP, HTTPS, MQTT, Weave,
GCM, else ICMP, IGMP, ARP, TCP, UDP), in any case; devices as in ``run.json``, or by their MAC. An empty
field, and a frame without a row, is no answer, which counts as wrong.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.errors import UserError
from testbed.validation.truth import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_ANSWER = "(none)"
COLUMNS = ("frame", "protocol", "device")


def read_predictions(
    path: str | Path, frames: int, run: dict[str, Any], protocols: Iterable[str]
) -> tuple[Column, Column]:
    """Return protocol and device per frame; raises UserError naming the line."""
    known = {name.lower(): name for name in protocols}
    names = _devices(run)
    protocol, device = _Words(frames), _Words(frames)
    seen = np.zeros(frames, bool)
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path}:1: missing column {', '.join(missing)}; the columns are {', '.join(COLUMNS)}"
                )
            for row in reader:
                number = _number(row["frame"], frames, f"{path}:{reader.line_num}")
                if seen[number]:
                    raise UserError(f"{path}:{reader.line_num}: frame {number + 1} has a row already")
                seen[number] = True
                word = (row["protocol"] or "").strip()
                protocol.put(number, known.get(word.lower(), word))
                who = (row["device"] or "").strip()
                device.put(number, names.get(who.lower(), who))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is not a CSV file: {error}") from None
    return protocol.column(), device.column()


def _number(text: str | None, frames: int, where: str) -> int:
    try:
        number = int(text or "")
    except ValueError:
        raise UserError(f"{where}: {text!r} is not a frame number") from None
    if not 1 <= number <= frames:
        raise UserError(f"{where}: there is no frame {number}; the capture has {frames:,}")
    return number - 1


def _devices(run: dict[str, Any]) -> dict[str, str]:
    """Return every way to write a device, with its name."""
    out = {}
    for entry in [*run["devices"], run.get("router") or {}]:
        for word in (entry.get("name"), entry.get("mac")):
            if word:
                out[str(word).lower()] = str(entry["name"])
    return out


class _Words:
    """Collects a column of words."""

    def __init__(self, frames: int) -> None:
        self.index = {NO_ANSWER: 0}
        self.codes = np.zeros(frames, np.int32)

    def put(self, number: int, word: str) -> None:
        if word:
            self.codes[number] = self.index.setdefault(word, len(self.index))

    def column(self) -> Column:
        return Column([*self.index], self.codes)
