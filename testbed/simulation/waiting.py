"""Waiting in SimPy from coroutines: SimPy runs native coroutines, this gives them its events.

Rules of this file:
- Events happen in SimPy's order: by time, then urgent ones first, then as they were scheduled.
- Nearly every event of a run is one task's wait for the time alone, so that wait is lean: a task has
  one event for it, its `Nap`, which is scheduled again and again.
"""

from __future__ import annotations

from heapq import heappop, heappush
from types import coroutine
from typing import TYPE_CHECKING, Any, cast

from simpy import Environment, Event, Interrupt, Process
from simpy.events import NORMAL

from testbed.host import CancelledError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Clock(Environment):
    """SimPy's environment, counting whole nanoseconds from the start of the capture."""

    _now: int
    now: int = 0
    """The present moment, ns."""

    def __init__(self, initial_time: int) -> None:
        super().__init__(initial_time)
        self.now = initial_time

    def task(self, work: Coroutine[Any, Any, None]) -> Task:
        """Run a coroutine as a process."""
        return Task(self, work)

    def run_until(self, moment: int) -> None:
        """Let everything happen that is due before `moment`, and move on to it; raises what a task raised.

        This is `Environment.run` with `Environment.step`, and with `Process._resume` for naps, written
        into its loop.
        """
        queue: list[Any] = self._queue
        while queue:
            entry = heappop(queue)
            at, _, _, event = entry
            if at >= moment:
                heappush(queue, entry)
                break
            self._now = self.now = at
            if event.__class__ is Nap:
                if (task := event.task) is not None:
                    self._active_proc = task
                    send = event.send
                    try:
                        awaited = send(None)
                    except BaseException as problem:
                        task.end(problem)
                    else:
                        if awaited is not event:
                            task.wait_for(awaited)
                    self._active_proc = None
                continue
            callbacks, event.callbacks = event.callbacks, None
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:
                raise event._value
        self._now = self.now = moment


class Nap(Event):
    """A task's wait for the time alone."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.env)
        self._ok, self._value = True, None
        self.callbacks = [task._resume]  # for SimPy, which takes it away at an interrupt
        self.task: Task | None = task
        self.send = task.send
        self._me = (self,)

    def __await__(self) -> Generator[Nap, None, None]:
        return iter(self._me)  # type: ignore[return-value]  # yields itself, once


class _Passed:
    """A wait that is over."""

    def __await__(self) -> Generator[Nap, None, None]:
        return iter(())  # type: ignore[return-value]


PASSED = _Passed()


class Task(Process):
    """A coroutine that SimPy runs; an interrupt reaches it as `CancelledError`, not as an `Exception`."""

    def __init__(self, clock: Clock, work: Coroutine[Any, Any, None]) -> None:
        # SimPy needs nothing of a generator that a coroutine has not.
        super().__init__(clock, cast("Generator[Event, Any, None]", work))
        self.send = work.send
        self.nap = Nap(self)

    def _resume(self, event: Event) -> None:
        """Let the coroutine go on after `event` (see `Process._resume`)."""
        clock = self.env
        clock._active_proc = self
        try:
            if event._ok:
                awaited = self.send(event._value)
            else:
                event.defused = True
                self.nap.task = None  # it still stands in SimPy's queue
                self.nap = Nap(self)
                failure = event._value
                awaited = self._generator.throw(
                    CancelledError() if isinstance(failure, Interrupt) else failure
                )
        except BaseException as problem:
            self.end(problem)
        else:
            self.wait_for(awaited)
        clock._active_proc = None

    def wait_for(self, event: Event) -> None:
        """Go on when `event` happens."""
        self._target = event
        if event is self.nap:
            return
        if event.processed:
            self._resume(event)
        else:
            event.callbacks.append(self._resume)

    def end(self, problem: BaseException) -> None:
        """Be over: the coroutine returned (`StopIteration`) or failed."""
        self._ok = isinstance(problem, StopIteration)
        self._value = None if self._ok else problem
        self.env.schedule(self)


@coroutine
def until(event: Event) -> Generator[Event, Any, Any]:
    """Wait for a SimPy event, and return its value."""
    return (yield event)


def pause(clock: Clock, delay_ns: int) -> Nap:
    """Wait for a span of virtual time, in nanoseconds; to be awaited at once, by the present task."""
    nap: Nap = clock._active_proc.nap  # type: ignore[union-attr]
    heappush(clock._queue, (clock.now + delay_ns, NORMAL, next(clock._eid), nap))
    return nap


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
