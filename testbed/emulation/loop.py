"""The loop that owns every socket, every carried link and the clock of an emulated run.

Rules of this file:
- Time is an integer number of nanoseconds since 1970 (UTC). Under the virtual clock it stands
  still while anything is ready and leaps to the next timer when nothing is.
- What happens at the same time happens in the order in which it was asked for, so that equal
  seeds give equal runs: timers by (time, order of creation), descriptors by number.
- Delivery through TAP devices and bridges is synchronous in the kernel: once a poll finds nothing
  twice, with a yield between, nothing more can come without the clock moving.
- A task that fails ends the run; it is never swallowed.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from asyncio import CancelledError
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

NS = 1_000_000_000
"""Nanoseconds in a second."""

_LONGEST_REAL_WAIT_S = 0.2
"""How long a real-clock poll may block before the loop looks whether it shall stop."""


class Timer:
    """A call that will be made at a time, unless cancelled."""

    __slots__ = ("callback", "when_ns")

    def __init__(self, when_ns: int, callback: Callable[[], None]) -> None:
        self.when_ns = when_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Make the call not happen."""
        self.callback = None


class Future:
    """A value that one task waits for; set at most once."""

    __slots__ = ("_error", "_task", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._task: Task | None = None

    def resolve(self, value: Any = None) -> None:
        """Give the value; a second call does nothing."""
        self._finish(value, None)

    def fail(self, error: BaseException) -> None:
        """Raise `error` where the value is awaited; does nothing once done."""
        self._finish(None, error)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        if self.done:
            return
        self.done, self._value, self._error = True, value, error
        if self._task is not None:
            self._task.resume(self)

    def __await__(self) -> Generator[Future, None, Any]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value

    def wait_by(self, task: Task) -> None:
        """Remember the task to resume once the value is there."""
        if self.done:
            task.resume(self)
        else:
            self._task = task


class Task:
    """A coroutine driven by the loop."""

    __slots__ = ("_coroutine", "_loop", "_on_end", "_waits_for", "done", "name")

    def __init__(
        self,
        loop: Loop,
        coroutine: Coroutine[Any, Any, None],
        name: str,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._on_end = on_end
        self._waits_for: Future | None = None
        self.name = name
        self.done = False
        loop.call_soon(self._first_step)

    def cancel(self) -> None:
        """End the task: `CancelledError` is raised where it waits; now, if it waits."""
        if self.done:
            return
        if self._waits_for is not None:
            self._waits_for = None
            self._step(CancelledError())
        elif not self._coroutine.cr_running:  # type: ignore[attr-defined]
            self._coroutine.close()
            self._end()
        else:  # a task that cancels itself: it ends where it next waits
            self._loop.call_soon(self.cancel)

    def resume(self, future: Future) -> None:
        """Go on with the task soon, unless it was cancelled meanwhile."""
        self._loop.call_soon(lambda: self._resume(future))

    def _resume(self, future: Future) -> None:
        if self._waits_for is future:
            self._waits_for = None
            self._step(None)

    def _first_step(self) -> None:
        if not self.done:
            self._step(None)

    def _step(self, error: BaseException | None) -> None:
        try:
            future = self._coroutine.throw(error) if error else self._coroutine.send(None)
        except (StopIteration, CancelledError):
            self._end()
            return
        except Exception as failure:
            self._end()
            self._loop.fail(failure)
            return
        if not isinstance(future, Future):
            raise TypeError(f"task {self.name} awaited {future!r}, which is not of this loop")
        self._waits_for = future
        future.wait_by(self)

    def _end(self) -> None:
        self.done = True
        if self._on_end is not None:
            self._on_end()


class Signal:
    """The `Wakeup` of testbed.host: one shot, any number of waiters."""

    __slots__ = ("_fired", "_loop", "_waiting")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._fired = False
        self._waiting: list[Future] = []

    def fire(self) -> None:
        """Wake whoever waits."""
        self._fired = True
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.resolve(True)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return True once fired, False when `timeout_s` passed first."""
        if self._fired:
            return True
        future = Future()
        self._waiting.append(future)
        try:
            return bool(await self._loop.within(future, timeout_s, False))
        finally:
            if future in self._waiting:
                self._waiting.remove(future)


class Loop:
    """Timers, descriptors and tasks under a virtual or a real clock."""

    def __init__(self, begin_ns: int, *, real: bool = False, speed: float = 1.0) -> None:
        self.real = real
        self._speed = speed
        self._now_ns = begin_ns
        self._origin_ns = begin_ns
        self._started_ns = time.monotonic_ns()
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = 0
        self._ready: deque[Callable[[], None]] = deque()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._failure: BaseException | None = None
        self._stopping = False

    def start(self) -> None:
        """Let the real clock begin now (building the network took time)."""
        self._started_ns = time.monotonic_ns()

    @property
    def now_ns(self) -> int:
        """The time, in nanoseconds since 1970."""
        return self._now_ns

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return self._now_ns / NS

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call at a time; a time gone by means now, after what is already due."""
        timer = Timer(when_ns, callback)
        self._order += 1
        heapq.heappush(self._timers, (when_ns, self._order, timer))
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call after `delay_s` seconds."""
        return self.call_at(self._now_ns + round(delay_s * NS), callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call at this same time, after what is already due."""
        self._ready.append(callback)

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        """Call whenever the descriptor has something to read."""
        self._readers[fd] = readable
        self._register(fd)

    def watch_writable(self, fd: int, writable: Callable[[], None] | None) -> None:
        """Call while the descriptor can be written to; None ends that."""
        if writable is None:
            self._writers.pop(fd, None)
        else:
            self._writers[fd] = writable
        self._register(fd)

    def forget(self, fd: int) -> None:
        """Watch the descriptor no longer; to be called before it is closed."""
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        self._register(fd)

    def _register(self, fd: int) -> None:
        mask = (select.EPOLLIN if fd in self._readers else 0) | (
            select.EPOLLOUT if fd in self._writers else 0
        )
        try:
            if mask:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.unregister(fd)
        except FileNotFoundError:
            if mask:
                self._epoll.register(fd, mask)

    def task(
        self,
        coroutine: Coroutine[Any, Any, None],
        name: str,
        on_end: Callable[[], None] | None = None,
    ) -> Task:
        """Run a coroutine beside the others; `on_end` is called however it ends."""
        return Task(self, coroutine, name, on_end)

    async def sleep_until_ns(self, when_ns: int) -> None:
        """Wait until a time; returns at the next turn when that is past."""
        future = Future()
        timer = self.call_at(when_ns, future.resolve)
        try:
            await future
        finally:
            timer.cancel()

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        await self.sleep_until_ns(self._now_ns + round(max(0.0, seconds) * NS))

    async def within(self, future: Future, timeout_s: float | None, otherwise: Any) -> Any:
        """Return the future's value, or `otherwise` when `timeout_s` passes first."""
        timer = None
        if timeout_s is not None and not future.done:
            timer = self.call_later(timeout_s, lambda: future.resolve(otherwise))
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()

    def fail(self, error: BaseException) -> None:
        """End the run with this error; the first one counts."""
        if self._failure is None:
            self._failure = error
        self._stopping = True

    def stop(self) -> None:
        """End the run at this moment of its clock."""
        self._stopping = True

    def run(self, until_ns: int, should_stop: Callable[[], bool] | None = None) -> None:
        """Run until the clock shows `until_ns`, or until stopped; raises what a task raised."""
        turns = 0
        while not self._stopping:
            turns += 1
            if should_stop is not None and (self.real or turns & 0x3F == 0) and should_stop():
                break
            if self._ready:
                self._ready.popleft()()
            elif not (self._poll_real(until_ns) if self.real else self._leap(until_ns)):
                break
        if self._failure is not None:
            raise self._failure

    def _leap(self, until_ns: int) -> bool:
        """Serve a descriptor, else move the clock to the next timer and make its call."""
        if self._poll(0):
            return True
        os.sched_yield()
        if self._poll(0):
            return True
        return self._due(until_ns)

    def _due(self, limit_ns: int) -> bool:
        """Make the next timer's call if it is not after `limit_ns`; else set the clock to that."""
        timers = self._timers
        while timers:
            if timers[0][0] > limit_ns:
                break
            when_ns, _, timer = heapq.heappop(timers)
            if timer.callback is None:
                continue
            self._now_ns = max(self._now_ns, when_ns)
            timer.callback()
            return True
        self._now_ns = max(self._now_ns, limit_ns)
        return False

    def _poll_real(self, until_ns: int) -> bool:
        elapsed_ns = round((time.monotonic_ns() - self._started_ns) * self._speed)
        wall_ns = self._origin_ns + elapsed_ns
        if self._poll(0):
            self._now_ns = max(self._now_ns, min(wall_ns, until_ns))
            return True
        if self._due(min(wall_ns, until_ns)):
            return True
        if wall_ns >= until_ns:
            return False
        next_ns = min(self._timers[0][0], until_ns) if self._timers else until_ns
        wait_s = max(0.0, (next_ns - wall_ns) / NS / self._speed)
        self._poll(min(wait_s, _LONGEST_REAL_WAIT_S))
        return True

    def _poll(self, timeout_s: float) -> bool:
        events = self._epoll.poll(timeout_s)
        if not events:
            return False
        if self.real:
            elapsed_ns = round((time.monotonic_ns() - self._started_ns) * self._speed)
            self._now_ns = max(self._now_ns, self._origin_ns + elapsed_ns)
        events.sort()
        for fd, mask in events:
            if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                reader = self._readers.get(fd)
                if reader is not None:
                    reader()
                elif mask & ~select.EPOLLOUT and fd not in self._writers:
                    self.forget(fd)
            if mask & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
                writer = self._writers.get(fd)
                if writer is not None:
                    writer()
        return True

    def close(self) -> None:
        """Give back the poll descriptor."""
        self._epoll.close()
