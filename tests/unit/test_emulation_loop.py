"""The emulation's loop: integer time, stable order, tasks that cannot fail in silence."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from testbed.emulation.loop import NS, Future, Loop, Signal
from testbed.host import CancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN = 1_523_000_000 * NS


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop(BEGIN)
    yield made
    made.close()


def test_time_leaps_over_what_is_idle(loop: Loop) -> None:
    seen: list[float] = []

    async def week() -> None:
        await loop.sleep(7 * 86400)
        seen.append(loop.now())

    loop.task(week(), "week")
    began = time.monotonic()
    loop.run(BEGIN + 8 * 86400 * NS)
    assert seen == [BEGIN / NS + 7 * 86400]
    assert loop.now_ns == BEGIN + 8 * 86400 * NS
    assert time.monotonic() - began < 1


def test_equal_times_keep_the_order_of_asking(loop: Loop) -> None:
    order: list[int] = []
    for number in range(50):
        loop.call_at(BEGIN + NS, lambda number=number: order.append(number))  # type: ignore[misc]
    loop.run(BEGIN + 2 * NS)
    assert order == list(range(50))


def test_a_descriptor_is_served_before_time_moves_on(loop: Loop) -> None:
    reader, writer = os.pipe()
    happened: list[str] = []

    def readable() -> None:
        os.read(reader, 1)
        happened.append(f"read at {(loop.now_ns - BEGIN) // NS}")

    def first() -> None:
        os.write(writer, b"x")
        happened.append("wrote at 1")

    loop.watch(reader, readable)
    loop.call_at(BEGIN + NS, first)
    loop.call_at(BEGIN + 2 * NS, lambda: happened.append("second timer"))
    loop.run(BEGIN + 3 * NS)
    loop.forget(reader)
    os.close(reader)
    os.close(writer)
    assert happened == ["wrote at 1", "read at 1", "second timer"]


def test_a_cancelled_task_hears_of_it_where_it_waits(loop: Loop) -> None:
    heard: list[str] = []

    async def sleeper() -> None:
        try:
            await loop.sleep(100)
        except CancelledError:
            heard.append(f"at {(loop.now_ns - BEGIN) // NS}")
            raise

    task = loop.task(sleeper(), "sleeper", lambda: heard.append("ended"))
    loop.call_at(BEGIN + 5 * NS, task.cancel)
    loop.run(BEGIN + 200 * NS)
    assert heard == ["at 5", "ended"]
    assert task.done


def test_a_task_that_was_never_begun_can_be_cancelled(loop: Loop) -> None:
    async def never() -> None:
        raise AssertionError("it ran")

    task = loop.task(never(), "never")
    task.cancel()
    loop.run(BEGIN + NS)
    assert task.done


def test_a_failing_task_ends_the_run(loop: Loop) -> None:
    async def broken() -> None:
        await loop.sleep(1)
        raise ZeroDivisionError("a bug")

    loop.task(broken(), "broken")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        loop.run(BEGIN + 10 * NS)


def test_a_foreign_awaitable_is_refused_by_name(loop: Loop) -> None:
    class Foreign:
        def __await__(self) -> Iterator[object]:
            yield object()

    async def lost() -> None:
        await Foreign()  # type: ignore[misc]

    loop.task(lost(), "lost")
    with pytest.raises(TypeError, match="task lost awaited"):
        loop.run(BEGIN + NS)


def test_a_signal_wakes_and_times_out(loop: Loop) -> None:
    results: list[tuple[str, bool, int]] = []

    async def wait(name: str, signal: Signal, timeout_s: float | None) -> None:
        results.append((name, await signal.wait(timeout_s), (loop.now_ns - BEGIN) // NS))

    fired, silent = Signal(loop), Signal(loop)
    loop.task(wait("fired", fired, None), "a")
    loop.task(wait("silent", silent, 3), "b")
    loop.call_at(BEGIN + 2 * NS, fired.fire)
    loop.run(BEGIN + 10 * NS)
    loop.task(wait("late", fired, 3), "c")
    loop.run(BEGIN + 20 * NS)
    assert results == [("fired", True, 2), ("silent", False, 3), ("late", True, 10)]


def test_a_future_keeps_its_first_value(loop: Loop) -> None:
    future = Future()
    future.resolve(1)
    future.resolve(2)
    future.fail(ValueError())
    seen: list[int] = []

    async def take() -> None:
        seen.append(await future)

    loop.task(take(), "take")
    loop.run(BEGIN + NS)
    assert seen == [1]


@pytest.mark.slow
def test_the_real_clock_takes_its_time_divided_by_the_speed() -> None:
    loop = Loop(BEGIN, real=True, speed=10)
    seen: list[float] = []

    async def sleeper() -> None:
        await loop.sleep(3)
        seen.append(loop.now() - BEGIN / NS)

    loop.task(sleeper(), "sleeper")
    loop.start()
    began = time.monotonic()
    loop.run(BEGIN + 4 * NS)
    loop.close()
    assert 0.39 < time.monotonic() - began < 1
    assert 3 <= seen[0] < 4
