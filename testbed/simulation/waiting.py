"""Waiting in SimPy from coroutines: SimPy runs native coroutines, this gives them its events."""

from __future__ import annotations

from types import coroutine
from typing import TYPE_CHECKING, Any, cast

from simpy import Environment, Event, Interrupt

from testbed.host import CancelledError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from simpy import Process


class Clock(Environment):
    """SimPy's environment, counting whole nanoseconds from the start of the capture."""

    _now: int

    @property
    def now(self) -> int:
        """The present moment, ns."""
        return self._now

    def task(self, work: Coroutine[Any, Any, None]) -> Process:
        """Run a coroutine as a process: SimPy needs nothing of a generator that it has not."""
        return self.process(cast("Generator[Event, Any, None]", work))


@coroutine
def until(event: Event) -> Generator[Event, Any, Any]:
    """Wait for a SimPy event; a power-off ends the wait as `CancelledError`, not as an `Exception`."""
    try:
        return (yield event)
    except Interrupt:
        raise CancelledError from None


@coroutine
def pause(env: Clock, delay_ns: int) -> Generator[Event, Any, None]:
    """Wait for a span of virtual time, in nanoseconds."""
    try:
        yield env.timeout(delay_ns)
    except Interrupt:
        raise CancelledError from None


class SimWakeup:
    """A one-shot signal (see `testbed.host.Wakeup`)."""

    __slots__ = ("_env", "_event", "fired")

    def __init__(self, env: Clock) -> None:
        self._env = env
        self._event: Event | None = None
        self.fired = False

    def fire(self) -> None:
        """Wake whoever waits."""
        if self.fired:
            return
        self.fired = True
        if self._event is not None and not self._event.triggered:
            self._event.succeed()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for `fire`; see `testbed.host.Wakeup.wait`."""
        if self.fired:
            return True
        event = self._event = self._env.event()
        if timeout_s is not None:
            timer = self._env.timeout(max(0, round(timeout_s * 1e9)))
            assert timer.callbacks is not None
            timer.callbacks.append(self._give_up)
        await until(event)
        return self.fired

    def _give_up(self, _: Event) -> None:
        if self._event is not None and not self._event.triggered:
            self._event.succeed()
