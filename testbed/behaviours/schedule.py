"""When a habit has its rounds."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.host import Host
    from testbed.models.habits.parts import Scheduled

_DAY_S = 86400.0
_ROUNDING_S = 1e-3
"""Clocks count whole nanoseconds or microseconds; a round must not be had twice for that."""


class Rounds:
    """The rounds of a habit: with a period, at times of the day, or at a stimulus."""

    def __init__(self, host: Host, schedule: Scheduled) -> None:
        self._host = host
        self._schedule = schedule
        self._done = 0
        self._single = schedule.every is None and not schedule.at and schedule.on is None
        starts = self._single or schedule.every is not None
        self._next_periodic = host.now() + schedule.first if starts else inf
        self._next_daily = self._after(host.now())

    async def next(self) -> bool:
        """Wait for the next round; False when there will be none."""
        host, schedule = self._host, self._schedule
        if self._done and (self._single or self._done == schedule.count):
            return False
        due = min(self._next_periodic, self._next_daily)
        if schedule.on is None:
            await host.sleep_until(due)
        else:
            await host.board.stimulus(host, schedule.on, None if due == inf else max(0.0, due - host.now()))
        now = host.now()
        if now >= self._next_periodic - _ROUNDING_S:
            self._next_periodic = self._later(now)
        if now >= self._next_daily - _ROUNDING_S:
            self._next_daily = self._after(max(now, self._next_daily))
        self._done += 1
        return True

    def _later(self, now: float) -> float:
        """Return the next moment of the period; rounds that the device missed do not pile up."""
        every = self._schedule.every
        if every is None:
            return inf
        if self._schedule.jitter:
            every *= 1 + self._schedule.jitter * (2 * self._host.rng.random() - 1)
        due = self._next_periodic + every
        return due if due > now else now + every

    def _after(self, now: float) -> float:
        """Return the next time of the day."""
        if not self._schedule.at:
            return inf
        return next_time(now, self._schedule.at) + self._schedule.spread * self._host.rng.random()


def next_time(now: float, at: Sequence[float]) -> float:
    """Return the first of the given times of the day (seconds since midnight) after `now`."""
    midnight = now - now % _DAY_S
    return min(midnight + day + time for day in (0.0, _DAY_S) for time in at if midnight + day + time > now)
