"""The run's event log: what devices and services did, one JSON object a line.

Keys: `time` (ISO 8601 UTC, microseconds), `device`, `behaviour`, `event` (`exchange` or what a
behaviour notes), and where they apply `protocol`, `service`, `exchange`, `attempt`, `outcome`,
`why` (the rule that caused it). Exchanges are logged when they end.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host import About

_encode = lru_cache(1 << 14)(json.dumps)


@lru_cache(1 << 14)
def _constant(
    device: str, behaviour: str, protocol: str, service: str, attempt: int, why: str
) -> tuple[str, str]:
    """Return the parts of an exchange's line that repeat."""
    head = (
        f'", "device": {_encode(device)}, "behaviour": {_encode(behaviour)}, "event": "exchange", '
        f'"protocol": {_encode(protocol)}, "service": {_encode(service)}, "exchange": '
    )
    tail = f', "attempt": {attempt}, "outcome": "'
    return head, tail + '%s"' + (f', "why": {_encode(why)}' if why else "") + "}\n"


@lru_cache(8)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


class EventLog:
    """Collects lines in memory; `flush` writes them. Times are nanoseconds from the capture's start."""

    def __init__(self, path: Path, begin: datetime) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._begin_s = int(begin.timestamp())
        self.lines: list[str] = []
        self._second = -1
        self._prefix = ""

    def _time(self, at_ns: int) -> str:
        second, rest = divmod(at_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            day, rest_s = divmod(self._begin_s + second, 86_400)
            minutes = rest_s // 60
            self._prefix = (
                f'{{"time": "{_date(day)}T{minutes // 60:02d}:{minutes % 60:02d}:{rest_s % 60:02d}.'
            )
        return f"{self._prefix}{rest // 1000:06d}Z"

    def exchange(
        self, at_ns: int, device: str, behaviour: str, about: About, exchange: int, outcome: str
    ) -> None:
        """Log an exchange that ended."""
        if at_ns >= 0:
            head, tail = _constant(device, behaviour, about.protocol, about.service, about.attempt, about.why)
            self.lines.append(f"{self._time(at_ns)}{head}{exchange}{tail % outcome}")

    def note(
        self,
        at_ns: int,
        device: str,
        behaviour: str,
        event: str,
        outcome: str = "",
        why: str = "",
        **details: Any,
    ) -> None:
        """Log anything else."""
        if at_ns < 0:
            return
        rest = {"device": device, "behaviour": behaviour, "event": event}
        rest |= {key: value for key, value in (("outcome", outcome), ("why", why)) if value}
        self.lines.append(f'{self._time(at_ns)}", {json.dumps(rest | details)[1:]}\n')

    def flush(self) -> None:
        """Write what was collected."""
        lines, self.lines = self.lines, []
        self._file.writelines(lines)

    def close(self) -> None:
        """Finish the file."""
        self.flush()
        self._file.close()
