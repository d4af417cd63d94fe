"""The simulation's clock is SimPy's engine with a shorter loop: things happen in SimPy's order."""

from __future__ import annotations

from types import coroutine
from typing import TYPE_CHECKING, Any

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.host import CancelledError
from testbed.simulation.waiting import Clock, SimWakeup, Task, pause, until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

STEPS = st.one_of(
    st.tuples(st.just("pause"), st.integers(0, 4)),
    st.tuples(st.just("fire"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, 3)),
    st.tuples(st.just("interrupt"), st.integers(0, 4)),
    st.tuples(st.just("spawn"), st.integers(0, 4)),
)
SCRIPTS = st.lists(st.lists(STEPS, max_size=8), min_size=5, max_size=5)
Script = list[tuple[str, int]]


class Play:
    """Tasks that each follow a script, logging every step: the same on SimPy's engine and on ours."""

    def __init__(
        self, env: Any, scripts: list[Script], start: Callable[[Any], Any], sleep: Callable[[int], Any]
    ) -> None:
        self.env, self.scripts, self.start, self.sleep = env, scripts, start, sleep
        self.log: list[tuple[Any, ...]] = []
        self.events = [env.event() for _ in range(4)]
        self.tasks: list[Any] = []
        for which in range(len(scripts)):
            self.spawn(which)

    def spawn(self, which: int) -> None:
        number = len(self.tasks)
        self.tasks.append(None)
        self.tasks[number] = self.start(self.follow(number, self.scripts[which]))

    async def follow(self, number: int, script: Script) -> None:
        for kind, value in script:
            self.log.append((self.env.now, number, kind, value))
            try:
                if kind == "pause":
                    await self.sleep(value)
                elif kind == "wait":
                    await until(self.events[value])
                elif kind == "fire" and not self.events[value].triggered:
                    self.events[value].succeed(number)
                elif kind == "interrupt" and value != number and self.tasks[value].is_alive:
                    self.tasks[value].interrupt()
                elif kind == "spawn" and len(self.tasks) < 12:
                    self.spawn(value)
            except (simpy.Interrupt, CancelledError):
                self.log.append((self.env.now, number, "interrupted", value))
        self.log.append((self.env.now, number, "ends", 0))


def on_simpy(scripts: list[Script], moments: list[int]) -> list[tuple[Any, ...]]:
    env = simpy.Environment()

    @coroutine
    def sleep(delay: int) -> Generator[simpy.Event, Any, None]:
        yield env.timeout(delay)

    played = Play(env, scripts, env.process, sleep)
    for moment in moments:
        env.run(until=moment)
        played.log.append((env.now, "looked"))
    return played.log


def on_ours(scripts: list[Script], moments: list[int]) -> list[tuple[Any, ...]]:
    clock = Clock(0)
    played = Play(clock, scripts, clock.task, lambda delay: pause(clock, delay))
    for moment in moments:
        clock.run_until(moment)
        played.log.append((clock.now, "looked"))
    return played.log


@given(scripts=SCRIPTS, moments=st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True))
@settings(max_examples=300, deadline=None)
def test_events_happen_in_simpys_order(scripts: list[Script], moments: list[int]) -> None:
    assert on_ours(scripts, sorted(moments)) == on_simpy(scripts, sorted(moments))


def test_a_wait_that_was_broken_off_wakes_nobody_later() -> None:
    clock, log = Clock(0), []

    async def sleeper() -> None:
        try:
            await pause(clock, 100)
        except CancelledError:
            log.append(clock.now)
        await pause(clock, 500)
        log.append(clock.now)

    task = clock.task(sleeper())
    clock.run_until(50)
    task.interrupt()
    clock.run_until(1000)
    assert log == [50, 550]
    assert not task.is_alive


def test_what_a_task_raises_ends_the_run() -> None:
    clock = Clock(0)

    async def broken() -> None:
        await pause(clock, 5)
        raise LookupError("at five")

    clock.task(broken())
    with pytest.raises(LookupError, match="at five"):
        clock.run_until(10)
    assert clock.now == 5


def test_a_task_that_is_told_before_it_waits_goes_on_at_once() -> None:
    clock, log = Clock(0), []

    async def late() -> None:
        signal = SimWakeup(clock)
        signal.fire()
        log.append((await signal.wait(5), clock.now))
        done = clock.event().succeed("value")
        await pause(clock, 1)
        log.append((await until(done), clock.now))

    assert isinstance(clock.task(late()), Task)
    clock.run_until(10)
    assert log == [(True, 0), ("value", 1)]
